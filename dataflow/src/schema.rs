//! JSON Schemas of the files that people write, for editors and for `millrace schema`.

use crate::job::file::JobFile;
use crate::job::{DIMENSIONS, RECORD_TYPE};
use millrace_connectors::mediate::MediationRule;
use millrace_connectors::reference::accounts::AccountsFile;
use millrace_connectors::reference::catalog::CatalogFile;
use millrace_connectors::reference::{WordField, WordForm, word_fields};
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
fn job_words() -> [WordField; 2] {
    [
        WordField {
            of: "SourceEntry",
            field: "record_type",
            words: vec![RECORD_TYPE],
            form: WordForm::Word,
        },
        WordField {
            of: "BillingEntry",
            field: "aggregate_by",
            words: DIMENSIONS.to_vec(),
            form: WordForm::WordsAndTexts,
        },
    ]
}

/// The schema of a property that takes words, described as before.
fn with_words(property: &Value, field: &WordField) -> Value {
    let words = json!({ "type": "string", "enum": field.words });
    let mut schema = match field.form {
        WordForm::Word => words,
        WordForm::WordOrText => json!({ "anyOf": [words, { "type": "string" }] }),
        WordForm::WordsAndTexts => {
            let each = json!({ "anyOf": [words, { "type": "string" }] });
            json!({ "type": "array", "items": each })
        }
        WordForm::WordOrList => json!({ "anyOf": [words, { "type": "array", "items": words }] }),
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

    #[test]
    fn every_property_is_described() {
        for kind in FileKind::ALL {
            for (of, name, property) in properties(&schema(*kind).to_value()) {
                // The tag of a format is what the format is described by.
                let described =
                    property["description"].is_string() || property["const"].is_string();
                assert!(
                    described,
                    "{name} of {of} in {} has no description",
                    kind.name()
                );
            }
        }
    }

    #[test]
    fn every_field_of_words_lists_them() {
        let schemas: Vec<Value> = FileKind::ALL
            .iter()
            .map(|kind| schema(*kind).to_value())
            .collect();
        for field in word_fields().iter().chain(&job_words()) {
            let place = format!("{} of {}", field.field, field.of);
            let all = schemas.iter().flat_map(properties);
            let mut found = all.filter(|(of, name, _)| of == field.of && name == field.field);
            let (.., property) = found
                .next()
                .unwrap_or_else(|| panic!("there is no {place}"));
            let listed = property.get("enum");
            let listed = listed.or(property.pointer("/anyOf/0/enum"));
            let listed = listed.or(property.pointer("/items/anyOf/0/enum"));
            assert_eq!(listed, Some(&json!(field.words)), "{place}");
            // What a person reads and what an editor offers is the same.
            let description = property["description"].as_str().unwrap();
            for word in &field.words {
                assert!(
                    description.contains(&format!("`{word}`")),
                    "{place} lacks {word}"
                );
            }
        }
    }
}
