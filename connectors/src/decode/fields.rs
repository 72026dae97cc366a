//! The fields of a JSON record by their paths, as rules name them.

use serde_json::Value;

/// Records of a file whose fields are looked at.
pub(super) const RECORDS: usize = 10_000;

/// How deep objects in objects are looked into.
const DEPTH: usize = 4;

/// Adds the fields of a record to `names`, which has `most` at most.
pub(super) fn enter(record: &Value, most: usize, names: &mut Vec<String>) {
    enter_below(record, "", DEPTH, most, names);
}

fn enter_below(record: &Value, path: &str, depth: usize, most: usize, names: &mut Vec<String>) {
    let Value::Object(fields) = record else {
        return;
    };
    for (name, value) in fields {
        let name = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        match value {
            Value::Object(_) if depth > 0 => enter_below(value, &name, depth - 1, most, names),
            Value::Object(_) | Value::Array(_) => {}
            _ if names.len() >= most || names.contains(&name) => {}
            _ => names.push(name),
        }
    }
}
