//! Usage containers: rows that say themselves what was used, when, and how much, and need no
//! mediation. One row is one charge line.
//!
//! `item` and `quantity` are required; `time`, `account`, `price_list` and `service_type` may be
//! given; every other column is an attribute that prices may depend on, absent where it is empty.

use crate::decode::{BYTE_ORDER_MARK, Format};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Read};

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

type Row = Result<Container, ContainerError>;

/// Reads all rows of a text format; a bad row is an error of its own.
///
/// # Errors
/// When the input is not of the format at all.
pub fn read(input: impl Read, format: &Format) -> Result<Vec<Row>, ContainerError> {
    let whole = |message: String| ContainerError { row: 0, message };
    let input = unmarked(input).map_err(|error| whole(error.to_string()))?;
    match format {
        Format::Csv { delimiter, header } => {
            let delimiter = u8::try_from(*delimiter)
                .map_err(|_| whole(format!("the delimiter {delimiter:?} is not a single byte")))?;
            csv_rows(input, delimiter, header.as_deref()).map_err(|e| whole(e.to_string()))
        }
        Format::JsonLines => json_lines(input).map_err(|e| whole(e.to_string())),
        Format::Json => {
            let rows: Vec<Box<RawValue>> =
                serde_json::from_reader(input).map_err(|e| whole(e.to_string()))?;
            Ok((1..)
                .zip(rows)
                .map(|(row, text)| object(row, text.get()))
                .collect())
        }
        Format::Parquet => Err(whole(
            "Parquet is not read here; write CSV or JSON".to_owned(),
        )),
    }
}

/// The input without a byte order mark before it.
fn unmarked(mut input: impl Read) -> std::io::Result<impl Read> {
    let mut beginning = Vec::new();
    input.by_ref().take(3).read_to_end(&mut beginning)?;
    if beginning == BYTE_ORDER_MARK {
        beginning.clear();
    }
    Ok(Cursor::new(beginning).chain(input))
}

fn csv_rows(
    input: impl Read,
    delimiter: u8,
    header: Option<&[String]>,
) -> Result<Vec<Row>, csv::Error> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(header.is_none())
        .from_reader(input);
    let names: Vec<String> = match header {
        Some(names) => names.to_vec(),
        None => reader
            .headers()?
            .iter()
            .map(|name| name.trim().to_owned())
            .collect(),
    };
    let mut rows = Vec::new();
    for (row, record) in (1..).zip(reader.records()) {
        rows.push(match record {
            Ok(record) => {
                let given = names.iter().cloned().zip(record.iter().map(str::trim));
                let given = given.filter(|(_, value)| !value.is_empty());
                let fields = given
                    .map(|(name, value)| (name, value.to_owned()))
                    .collect();
                Ok(Container { row, fields })
            }
            Err(error) => Err(ContainerError {
                row,
                message: error.to_string(),
            }),
        });
    }
    Ok(rows)
}

fn json_lines(input: impl Read) -> std::io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (row, line) in (1..).zip(BufReader::new(input).split(b'\n')) {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        rows.push(match std::str::from_utf8(&line) {
            Ok(text) => object(row, text),
            Err(error) => Err(ContainerError {
                row,
                message: error.to_string(),
            }),
        });
    }
    Ok(rows)
}

fn object(row: u64, text: &str) -> Row {
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
        let csv = Format::Csv {
            delimiter: ',',
            header: None,
        };
        for (format, input) in [
            (Format::JsonLines, format!("{json}\n\n")),
            (Format::Json, format!("[{json}]")),
            (csv, "item,quantity,model\ntokens,3e-07,\n".to_owned()),
        ] {
            for mark in ["", "\u{feff}"] {
                let input = format!("{mark}{input}");
                let rows = read(input.as_bytes(), &format).unwrap();
                assert_eq!(texts(rows), [expected], "{format:?}");
            }
        }
    }

    #[test]
    fn a_bad_row_leaves_its_neighbours_alone() {
        let input = "{\"item\":\"a\"}\n{\"item\":\n{\"item\":\"c\"}\n";
        let rows = texts(read(input.as_bytes(), &Format::JsonLines).unwrap());
        assert_eq!(rows[0], r#"{"item": "a"}"#);
        assert!(rows[1].starts_with("row 2: "), "{}", rows[1]);
        assert_eq!(rows[2], r#"{"item": "c"}"#);
    }
}
