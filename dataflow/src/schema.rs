//! JSON Schemas of the files that people write, for editors and for `millrace schema`.

use crate::job::file::JobFile;
use millrace_connectors::mediate::MediationRule;
use millrace_connectors::reference::accounts::AccountsFile;
use millrace_connectors::reference::catalog::CatalogFile;
use schemars::{Schema, schema_for};

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The job file.
    Job,
    /// A catalog file.
    Catalog,
    /// An accounts file.
    Accounts,
    /// A mediation file.
    Mediation,
}

impl FileKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Job, Self::Catalog, Self::Accounts, Self::Mediation];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Catalog => "catalog",
            Self::Accounts => "accounts",
            Self::Mediation => "mediation",
        }
    }
}

/// The JSON Schema of a kind of file.
#[must_use]
pub fn schema(kind: FileKind) -> Schema {
    match kind {
        FileKind::Job => schema_for!(JobFile),
        FileKind::Catalog => schema_for!(CatalogFile),
        FileKind::Accounts => schema_for!(AccountsFile),
        FileKind::Mediation => schema_for!(MediationRule),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_describes_its_keys_and_no_others() {
        for (kind, key) in [
            (FileKind::Job, "aggregate_by"),
            (FileKind::Catalog, "per"),
            (FileKind::Catalog, "tiers"),
            (FileKind::Catalog, "rollover_cycles"),
            (FileKind::Accounts, "anniversary"),
            (FileKind::Accounts, "parent"),
            (FileKind::Mediation, "charges"),
        ] {
            let text = serde_json::to_string(&schema(kind)).unwrap();
            assert!(
                text.contains(&format!("\"{key}\"")),
                "{} lacks {key}",
                kind.name()
            );
            assert!(
                text.contains("\"additionalProperties\":false"),
                "{}",
                kind.name()
            );
        }
    }
}
