//! Which fields the records of a file have: for whoever has no rule for it yet.

use super::error::{DecodeError, opening};
use super::fields::enter;
use super::format::Format;
use super::members::{Remark, decompress};
use super::parquet;
use super::paths::KEY_COLUMN;
use super::window::BYTE_ORDER_MARK;
use crate::store::{FileMeta, Store};
use arrow::datatypes::DataType;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read};

/// Records of a JSON file whose fields are looked at.
const RECORDS: usize = 10_000;
/// A file of one JSON value that is larger is not looked at whole.
const VALUE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of records that are looked at, where each has a line.
const LINES_BYTES_MAX: u64 = 64 << 20;

/// The fields of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// The format, with the delimiter that the first line suggests.
    pub format: Format,
    /// Names, as a rule writes them; a dotted path into JSON.
    pub names: Vec<String>,
    /// Those of them that are binary floats.
    pub floats: Vec<String>,
}

/// Looks at the fields of a file.
///
/// # Errors
/// When it cannot be read, or its beginning is not of the format.
pub fn fields_of(store: &Store, file: &FileMeta, format: Format) -> Result<Fields, DecodeError> {
    opening(&file.name, || found(store, file, format))
}

fn found(store: &Store, file: &FileMeta, format: Format) -> Result<Fields, DecodeError> {
    let failed = |source| DecodeError::Read {
        file: file.name.clone(),
        source,
    };
    let text = || {
        // What is to be told of the file is told when it is read.
        let input = decompress(store.read(file)?, &file.name, &Remark::default());
        Ok::<_, DecodeError>(BufReader::new(input))
    };
    match format {
        Format::Csv { header, .. } => {
            let (delimiter, names) = header_line(text()?).map_err(failed)?;
            Ok(Fields {
                format: Format::Csv { delimiter, header },
                names,
                floats: Vec::new(),
            })
        }
        Format::JsonLines => {
            let mut names = Vec::new();
            for line in text()?.take(LINES_BYTES_MAX).split(b'\n').take(RECORDS) {
                let line = line.map_err(failed)?;
                let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line);
                // What is no record is a fault of its own when it is read.
                if let Ok(record) = serde_json::from_slice(line) {
                    enter(&record, usize::MAX, &mut names);
                }
            }
            Ok(json(Format::JsonLines, names))
        }
        Format::Json => {
            let mut bytes = Vec::new();
            let read = text()?.take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes);
            if u64::try_from(read.map_err(failed)?).unwrap_or(u64::MAX) > VALUE_BYTES_MAX {
                let message = "one JSON value of more than 256 MiB; write a record a line (.jsonl)";
                return Err(failed(io::Error::other(message)));
            }
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
            let value: Value = serde_json::from_slice(bytes)
                .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
            let mut names = Vec::new();
            let records: Vec<&Value> = match &value {
                Value::Array(records) => records.iter().collect(),
                Value::Object(records) if records.values().all(Value::is_object) => {
                    names.push(KEY_COLUMN.to_owned());
                    records.values().collect()
                }
                other => vec![other],
            };
            for record in records.into_iter().take(RECORDS) {
                enter(record, usize::MAX, &mut names);
            }
            Ok(json(Format::Json, names))
        }
        Format::Parquet => {
            let opened = parquet::footer(&store.random(file)?, &file.name)?;
            let fields = opened.schema().fields().iter();
            let fields = fields.filter(|field| !field.data_type().is_nested());
            let is_float = |kind: &DataType| kind.is_floating();
            let (mut names, mut floats) = (Vec::new(), Vec::new());
            for field in fields {
                names.push(field.name().clone());
                if is_float(field.data_type()) {
                    floats.push(field.name().clone());
                }
            }
            Ok(Fields {
                format: Format::Parquet,
                names,
                floats,
            })
        }
    }
}

fn json(format: Format, names: Vec<String>) -> Fields {
    Fields {
        format,
        names,
        floats: Vec::new(),
    }
}

/// The delimiter and the names of the first line.
fn header_line(mut text: impl BufRead) -> io::Result<(char, Vec<String>)> {
    let mut line = String::new();
    text.by_ref().take(1 << 20).read_line(&mut line)?;
    let line = line
        .trim_start_matches('\u{feff}')
        .trim_end_matches(['\r', '\n']);
    let count = |delimiter: char| line.matches(delimiter).count();
    // Of delimiters that stand as often the first is meant.
    let delimiter = [',', ';', '\t', '|']
        .into_iter()
        .rev()
        .max_by_key(|d| count(*d));
    let delimiter = delimiter.unwrap_or(',');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(u8::try_from(delimiter).unwrap_or(b','))
        .from_reader(line.as_bytes());
    let names = match reader.records().next() {
        Some(record) => record?.iter().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    Ok((delimiter, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn fields(name: &str, content: &str) -> Fields {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
        let store = Store::open(&folder.path().display().to_string(), Path::new("")).unwrap();
        let file = store.find(name).unwrap();
        fields_of(&store, &file, Format::of_name(name).unwrap()).unwrap()
    }

    #[test]
    fn the_first_line_of_csv_names_its_fields_and_shows_its_delimiter() {
        let csv = fields("a.csv", "\u{feff}id;\"at; UTC\";n\r\n1;2;3\r\n");
        assert_eq!(csv.names, ["id", "at; UTC", "n"]);
        let semicolon = Format::Csv {
            delimiter: ';',
            header: None,
        };
        assert_eq!(csv.format, semicolon);
        assert_eq!(fields("a.csv", "only\n1\n").names, ["only"]);
    }

    #[test]
    fn json_has_the_fields_of_all_its_records_by_their_paths() {
        let lines = "{\"a\": 1, \"u\": {\"in\": 2}}\nno record\n{\"b\": null, \"list\": [1]}\n";
        assert_eq!(fields("a.jsonl", lines).names, ["a", "u.in", "b"]);
        assert_eq!(
            fields("a.json", "[{\"a\": 1}, {\"c\": \"x\"}]").names,
            ["a", "c"]
        );
        assert_eq!(
            fields("a.json", "{\"x\": {\"a\": 1}, \"y\": {\"a\": 2}}").names,
            ["key", "a"]
        );
    }
}
