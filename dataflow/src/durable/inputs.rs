//! What records were mediated by, as content: rules, tables and layouts, each kept once as long as the ledger names
//! it by its digest.
//!
//! ```text
//!  inputs/<commit>-<generation>-<run>.inputs         all rules and layouts, and which tables are kept
//!  inputs/<commit>-<generation>-<run>-<digest>.table the rows of a table
//! ```
//!
//! - **When.** A commit writes them when something new is in force, or a rule is named no more; one that changes
//!   nothing writes none, and names what the one before did.
//! - **Cost.** Rules are some KiB each and are written again with each change. A table is written once, compressed,
//!   as far as rules ask its columns; of one of more than 16 MiB of text the digest alone is kept.
//! - Money does not depend on them: what a record came to is in the journal, and mediation is by what is in force.

use super::error::DurableError;
use super::manifest::Manifest;
use super::object::{Object, create, packed};
use millrace_connectors::lookup::LookupTable;
use millrace_connectors::store::Store;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const INPUTS: &str = "inputs";
/// The most text of a table that is kept.
const TABLE_BYTES_MAX: usize = 16 << 20;

/// A rule or layout, by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptText {
    /// What it says.
    pub content: String,
    /// Since when it is in force, for people.
    pub since: String,
    /// When it was changed, if it was.
    pub until: Option<String>,
}

/// A table, by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTable {
    /// Its rows.
    pub rows: u64,
    /// Where they are kept; nothing where they are too large.
    pub object: Option<Object>,
}

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptInputs {
    /// Rules and layouts.
    pub texts: BTreeMap<String, KeptText>,
    /// Tables.
    pub tables: BTreeMap<String, KeptTable>,
}

/// What is to be kept from a commit on.
#[derive(Clone, Debug, Default)]
pub struct WantedInputs {
    /// Rules and layouts.
    pub texts: BTreeMap<String, KeptText>,
    /// Tables; nothing of those that were kept before.
    pub tables: BTreeMap<String, Option<Arc<LookupTable>>>,
}

impl KeptInputs {
    /// What a manifest names.
    ///
    /// # Errors
    /// When the object is missing or damaged, or cannot be read.
    pub fn of(store: &Store, manifest: &Manifest) -> Result<Self, DurableError> {
        let object = manifest.inputs.as_ref();
        object.map_or_else(|| Ok(Self::default()), |object| object.read_packed(store))
    }

    /// The objects of tables.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.tables
            .values()
            .filter_map(|table| table.object.as_ref())
    }

    /// Writes what is wanted and not kept yet; `place` is what the names begin with. Returns the object that tells
    /// all of it.
    pub(super) fn change(
        &mut self,
        store: &Store,
        wanted: WantedInputs,
        place: &str,
    ) -> Result<Object, DurableError> {
        let mut tables = BTreeMap::new();
        for (digest, table) in wanted.tables {
            let kept = match (self.tables.remove(&digest), table) {
                (Some(kept), _) => kept,
                (None, Some(table)) => write(store, &table, &format!("{place}-{digest}"))?,
                // Nobody wants what was never there.
                (None, None) => continue,
            };
            tables.insert(digest, kept);
        }
        *self = Self {
            texts: wanted.texts,
            tables,
        };
        let content = packed(self);
        let object = Object::of(format!("{INPUTS}/{place}.inputs"), &content, 0);
        create(store, &object, &content)?;
        Ok(object)
    }
}

/// Rows of a table that was kept: in each the key, and what its columns say.
pub type TableRows = Vec<Vec<Option<String>>>;

impl KeptTable {
    /// The names of the columns behind the key, and the rows; nothing where the table was too large.
    ///
    /// # Errors
    /// When the object is missing or damaged, or cannot be read.
    pub fn read(&self, store: &Store) -> Result<Option<(Vec<String>, TableRows)>, DurableError> {
        let rows = self.object.as_ref();
        rows.map(|object| object.read_packed(store)).transpose()
    }
}

fn write(store: &Store, table: &LookupTable, place: &str) -> Result<KeptTable, DurableError> {
    let rows = u64::try_from(table.len()).unwrap_or(u64::MAX);
    if table.text_bytes() > TABLE_BYTES_MAX {
        return Ok(KeptTable { rows, object: None });
    }
    let columns: Vec<&str> = table.columns().collect();
    let content: Vec<Vec<Option<&str>>> = table.text_rows().collect();
    let content = packed(&(columns, content));
    let object = Object::of(format!("{INPUTS}/{place}.table"), &content, rows);
    create(store, &object, &content)?;
    let object = Some(object);
    Ok(KeptTable { rows, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Arc<LookupTable> {
        Arc::new(LookupTable::from_rows(
            &["region"],
            &[("near", &[Some(text)]), ("off", &[None])],
        ))
    }

    fn wanted(tables: [(&str, Option<Arc<LookupTable>>); 2]) -> WantedInputs {
        let tables = tables.map(|(digest, table)| (digest.to_owned(), table));
        WantedInputs {
            tables: tables.into(),
            ..WantedInputs::default()
        }
    }

    #[test]
    fn a_table_is_written_once_and_of_a_large_one_the_digest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let large = table(&"x".repeat(TABLE_BYTES_MAX));
        let mut kept = KeptInputs::default();
        let first = wanted([("small", Some(table("home"))), ("large", Some(large))]);
        let object = kept.change(&store, first, "1").unwrap();
        let manifest = Manifest {
            inputs: Some(object),
            ..Manifest::default()
        };
        assert_eq!(KeptInputs::of(&store, &manifest).unwrap(), kept);
        let rows = [["near", "home"].map(Some).to_vec(), vec![Some("off"), None]];
        let rows = rows.map(|row| row.into_iter().map(|v| v.map(str::to_owned)).collect());
        let told = (vec!["region".to_owned()], rows.to_vec());
        assert_eq!(kept.tables["small"].read(&store).unwrap(), Some(told));
        assert_eq!(kept.tables["large"].rows, 2);
        assert_eq!(kept.tables["large"].read(&store).unwrap(), None);
        let before = kept.clone();
        let again = wanted([("small", Some(table("home"))), ("large", None)]);
        kept.change(&store, again, "2").unwrap();
        assert_eq!(kept, before);
        let names = store.names(INPUTS).unwrap();
        assert_eq!(names, ["1-small.table", "1.inputs", "2.inputs"]);
        // Nothing of it may change.
        let object = kept.tables["small"].object.clone().unwrap();
        let mut torn = store.get(&object.name).unwrap().unwrap();
        torn[0] ^= 1;
        store.put(&object.name, &torn).unwrap();
        let read = kept.tables["small"].read(&store);
        assert!(
            matches!(read, Err(DurableError::Damaged { .. })),
            "{read:?}"
        );
    }
}
