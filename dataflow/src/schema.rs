//! JSON Schemas of the files that people write, for editors and for `millrace schema`.

use crate::job::RECORD_TYPE;
use crate::job::file::JobFile;
use millrace_connectors::mediate::MediationRule;
use millrace_connectors::reference::accounts::AccountsFile;
use millrace_connectors::reference::catalog::CatalogFile;
use millrace_connectors::reference::{WordField, word_fields};
use schemars::{Schema, schema_for};
use serde_json::{Value, json};

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
    let mut schema = match kind {
        FileKind::Job => schema_for!(JobFile),
        FileKind::Catalog => schema_for!(CatalogFile),
        FileKind::Accounts => schema_for!(AccountsFile),
        FileKind::Mediation => schema_for!(MediationRule),
    };
    for field in word_fields().iter().chain(&job_words()) {
        let property = format!("/$defs/{}/properties/{}", field.of, field.field);
        if let Some(property) = schema.pointer_mut(&property) {
            *property = with_words(property, field);
        }
    }
    schema
}

/// The fields of a job that take one of a few words and are read as text.
fn job_words() -> [WordField; 1] {
    [WordField {
        of: "SourceEntry",
        field: "record_type",
        words: vec![RECORD_TYPE],
        or_sql: false,
    }]
}

/// The schema of a property that takes words, described as before.
fn with_words(property: &Value, field: &WordField) -> Value {
    let words = json!({ "type": "string", "enum": field.words });
    let mut schema = match field.or_sql {
        true => json!({ "anyOf": [words, { "type": "string" }] }),
        false => words,
    };
    schema["description"] = property["description"].clone();
    schema
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

    /// Every property of a schema with the definition that it is of.
    fn properties(schema: &Value) -> Vec<(String, String, Value)> {
        let definitions = schema["$defs"].as_object().into_iter().flatten();
        let definitions = definitions.map(|(name, definition)| (name.clone(), definition));
        let mut found = Vec::new();
        for (of, definition) in definitions.chain([("the file".to_owned(), schema)]) {
            for (name, property) in definition["properties"].as_object().into_iter().flatten() {
                found.push((of.clone(), name.clone(), property.clone()));
            }
        }
        found
    }

    /// Runs of words in back quotes, like "`a`, `b` or `c`".
    fn words_of(description: &str) -> Vec<Vec<String>> {
        let mut runs: Vec<Vec<String>> = vec![Vec::new()];
        for (at, part) in description.split('`').enumerate() {
            let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
            let last = runs.last_mut().unwrap();
            if at % 2 == 1 && !part.is_empty() && part.chars().all(is_word) {
                last.push(part.to_owned());
            } else if at % 2 == 1 || !matches!(part, ", " | " or " | ", or ") {
                runs.push(Vec::new());
            }
        }
        runs.retain(|run| run.len() > 1);
        runs
    }

    #[test]
    fn every_property_is_described_and_its_words_are_listed() {
        for kind in FileKind::ALL {
            let schema = schema(*kind).to_value();
            for (of, name, property) in properties(&schema) {
                let place = format!("{name} of {of} in {}", kind.name());
                // The tag of a format is what the format is described by.
                let described =
                    property["description"].is_string() || property["const"].is_string();
                assert!(described, "{place} has no description");
                let description = property["description"].as_str().unwrap_or_default();
                // The fields of tables are SQL, and lists of names, and types with digits, go beyond their words.
                let open = of.ends_with("Columns") || ["aggregate_by", "columns"].contains(&&*name);
                for words in words_of(description).into_iter().filter(|_| !open) {
                    let reached = match property.pointer("/anyOf/0/$ref").or(property.get("$ref")) {
                        Some(reference) => {
                            let path = reference.as_str().unwrap().trim_start_matches('#');
                            schema.pointer(path).unwrap().to_string()
                        }
                        None => property.to_string(),
                    };
                    for word in words {
                        let listed = reached.contains(&format!("\"{word}\""));
                        assert!(
                            listed,
                            "{place} takes \"{word}\" and does not list it: {reached}"
                        );
                    }
                }
            }
        }
    }
}
