//! Usage containers: rows that say themselves what was used, when, and how much, and need no
//! mediation. One row is one charge line.
//!
//! `item` and `quantity` are required; `time`, `account`, `price_list` and `service_type` may be
//! given; every other column is an attribute that prices may depend on, absent where it is empty.

use crate::decode::BYTE_ORDER_MARK;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};

/// A row, as named texts; numbers keep the text that they were written with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Row in the input, counted from 1.
    pub row: u64,
    /// Its fields that are not empty.
    pub fields: BTreeMap<String, String>,
}

/// Why a row, or the whole input, is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {message}")]
pub struct ContainerError {
    /// Row in the input, counted from 1; 0 for the whole input.
    pub row: u64,
    /// What is wrong with it.
    pub message: String,
}

impl ContainerError {
    /// What is wrong with the whole input.
    pub(crate) fn whole(message: String) -> Self {
        Self { row: 0, message }
    }
}

/// A row, or why it is none.
pub type Row = Result<Container, ContainerError>;

/// The input without a byte order mark before it.
pub(crate) fn unmarked(mut input: impl Read) -> std::io::Result<impl Read> {
    let mut beginning = Vec::new();
    input.by_ref().take(3).read_to_end(&mut beginning)?;
    if beginning == BYTE_ORDER_MARK {
        beginning.clear();
    }
    Ok(Cursor::new(beginning).chain(input))
}

/// The row that a JSON object is.
pub(crate) fn object(row: u64, text: &str) -> Row {
    let failed = |message: String| ContainerError { row, message };
    let values: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(text).map_err(|error| failed(error.to_string()))?;
    let mut fields = BTreeMap::new();
    for (name, value) in values {
        let raw = value.get();
        let text = if raw.starts_with('"') {
            serde_json::from_str(raw).map_err(|error| failed(error.to_string()))?
        } else if raw == "null" {
            continue;
        } else {
            raw.to_owned()
        };
        fields.insert(name, text);
    }
    Ok(Container { row, fields })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Csv, Format, Json, JsonLines};

    fn texts(rows: Vec<Row>) -> Vec<String> {
        let show = |row: Row| match row {
            Ok(container) => format!("{:?}", container.fields),
            Err(error) => error.to_string(),
        };
        rows.into_iter().map(show).collect()
    }

    #[test]
    fn numbers_keep_their_text_in_every_format() {
        let expected = r#"{"item": "tokens", "quantity": "3e-07"}"#;
        let json = r#"{"item":"tokens","quantity":3e-07,"model":null}"#;
        let csv = Format::Csv(Csv {
            delimiter: ',',
            header: None,
        });
        for (format, input) in [
            (Format::JsonLines(JsonLines {}), format!("{json}\n\n")),
            (Format::Json(Json {}), format!("[{json}]")),
            (csv, "item,quantity,model\ntokens,3e-07,\n".to_owned()),
        ] {
            for mark in ["", "\u{feff}"] {
                let input = format!("{mark}{input}");
                let rows = format.containers(input.as_bytes()).unwrap();
                assert_eq!(texts(rows), [expected], "{format:?}");
            }
        }
    }

    #[test]
    fn a_bad_row_leaves_its_neighbours_alone() {
        let input = "{\"item\":\"a\"}\n{\"item\":\n{\"item\":\"c\"}\n";
        let rows = texts(
            Format::JsonLines(JsonLines {})
                .containers(input.as_bytes())
                .unwrap(),
        );
        assert_eq!(rows[0], r#"{"item": "a"}"#);
        assert!(rows[1].starts_with("row 2: "), "{}", rows[1]);
        assert_eq!(rows[2], r#"{"item": "c"}"#);
    }
}
