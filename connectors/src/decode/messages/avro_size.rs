//! Whether messages of an Avro schema can claim more values than they have bytes.
//!
//! A list says how many items follow. Items that take no bytes follow in any number, and a reader that
//! believes it works for hours on a message of ten bytes. So a schema with a list of such items is not read.

use serde_json::Value;
use std::collections::BTreeMap;

/// Schemas by their names, with what their values take at least; one that is not finished takes something.
type Known = BTreeMap<String, bool>;

/// The items without bytes that a list of the schema has, by their type.
pub(super) fn items_without_bytes(schema: &str) -> Option<String> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let mut found = None;
    takes_bytes(&schema, &mut Known::new(), &mut found);
    found
}

/// Whether each value of the schema takes a byte or more.
fn takes_bytes(schema: &Value, known: &mut Known, found: &mut Option<String>) -> bool {
    match schema {
        Value::String(name) if name == "null" => false,
        Value::String(name) => known.get(short(name)).copied().unwrap_or(true),
        Value::Array(branches) => {
            for branch in branches {
                takes_bytes(branch, known, found);
            }
            true // the number of the branch
        }
        Value::Object(fields) => {
            let part = |name: &str| fields.get(name).unwrap_or(&Value::Null);
            let name = part("name").as_str().map(|name| short(name).to_owned());
            let takes = match part("type").as_str() {
                Some("array") => {
                    if !takes_bytes(part("items"), known, found) {
                        found.get_or_insert_with(|| part("items").to_string());
                    }
                    true
                }
                Some("map") => {
                    takes_bytes(part("values"), known, found);
                    true
                }
                Some("fixed") => part("size").as_u64() != Some(0),
                Some("record" | "error") => {
                    if let Some(name) = &name {
                        known.insert(name.clone(), true);
                    }
                    let mut any = false;
                    for field in part("fields").as_array().into_iter().flatten() {
                        let kind = field.get("type").unwrap_or(&Value::Null);
                        any |= takes_bytes(kind, known, found);
                    }
                    any
                }
                _ => takes_bytes(part("type"), known, found),
            };
            if let Some(name) = name {
                known.insert(name, takes);
            }
            takes
        }
        _ => true,
    }
}

/// A name without its namespace.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_items_without_bytes_are_found() {
        for items in [
            r#""null""#,
            r#"{"type":"record","name":"E","fields":[]}"#,
            r#"{"type":"fixed","name":"F","size":0}"#,
            r#"{"type":"record","name":"E","fields":[{"name":"a","type":"null"}]}"#,
        ] {
            for schema in [
                format!(r#"{{"type":"array","items":{items}}}"#),
                format!(r#"["null",{{"type":"map","values":{{"type":"array","items":{items}}}}}]"#),
                format!(
                    r#"{{"type":"record","name":"R","fields":[
                        {{"name":"x","type":{{"type":"array","items":{items}}}}}]}}"#
                ),
            ] {
                assert!(items_without_bytes(&schema).is_some(), "{schema}");
            }
        }
        for schema in [
            r#"{"type":"array","items":"long"}"#,
            r#"{"type":"array","items":["null","long"]}"#,
            r#"{"type":"array","items":{"type":"map","values":"null"}}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"null"},
                {"name":"x","type":{"type":"array","items":"R"}}]}"#,
        ] {
            assert_eq!(items_without_bytes(schema), None, "{schema}");
        }
    }
}
