//! JSON: one value that holds all records.

use super::contract::{FileFormat, Found, Kept, Reading, TextFormat, text_of};
use crate::container::{ContainerError, Row, object};
use crate::decode::assemble::Assembler;
use crate::decode::chunk::Source;
use crate::decode::error::DecodeError;
use crate::decode::fields::{RECORDS, enter};
use crate::decode::json::JsonRecords;
use crate::decode::paths::{FieldPaths, KEY_COLUMN};
use crate::decode::request::{ColumnRequest, DecodeOptions};
use crate::decode::slices::Sliced;
use crate::decode::split::Elements;
use crate::decode::window::Window;
use crate::store::{FileMeta, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{self, Read};

/// A file of more bytes is not looked at whole.
const LOOKED_AT: u64 = 256 << 20;

/// One JSON array of objects, or an object whose entries are the records, each entry's name in
/// the column `key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Json {}

impl FileFormat for Json {
    const NAME: &'static str = "json";
    const TITLE: &'static str = "JSON";
    const ABOUT: &'static str =
        "an array of objects, or an object of objects whose names are the column `key`";
    const ENDINGS: &'static [&'static str] = &["json"];

    type Options = Self;

    fn of(_: &Self, _: &str) -> Self {
        Self {}
    }

    fn example() -> Self {
        Self {}
    }

    fn reading(&self) -> Reading<'_> {
        Reading::Frames(self)
    }

    fn begins_with(byte: u8) -> bool {
        byte == b'['
    }

    fn fields(self, store: &Store, file: &FileMeta) -> Result<Found<Self>, DecodeError> {
        let failed = |source| DecodeError::Read {
            file: file.name.clone(),
            source,
        };
        let mut bytes = Vec::new();
        let read = text_of(store, file)?
            .take(LOOKED_AT + 1)
            .read_to_end(&mut bytes);
        if u64::try_from(read.map_err(failed)?).unwrap_or(u64::MAX) > LOOKED_AT {
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
        Ok(Found::of_text(self, names))
    }

    fn containers(&self, input: impl Read) -> Result<Vec<Row>, ContainerError> {
        let rows: Vec<Box<RawValue>> = serde_json::from_reader(input)
            .map_err(|error| ContainerError::whole(error.to_string()))?;
        let rows = (1..).zip(rows);
        Ok(rows.map(|(row, text)| object(row, text.get())).collect())
    }
}

impl TextFormat for Json {
    fn open(
        &self,
        window: Window,
        _: &str,
        assembler: Assembler,
        options: &DecodeOptions,
    ) -> Result<Box<dyn Source>, DecodeError> {
        let (splitter, records) = (Elements::new(), JsonRecords::new(assembler.names()));
        // The names of records in an object stand outside of the records.
        let kept = [KEY_COLUMN.to_owned()];
        let source = Sliced::new(window, splitter, records, assembler, options, &kept);
        Ok(Box::new(source))
    }

    fn kept(
        &self,
        _: &str,
        _: Option<&[String]>,
        columns: &[ColumnRequest],
    ) -> Result<Kept, DecodeError> {
        Ok(named(columns))
    }
}

/// How JSON records are read again.
pub(super) fn named(columns: &[ColumnRequest]) -> Kept {
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    Kept::Named(FieldPaths::new(&names))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Format;
    use super::super::conformance::{Conforms, Record, Sample, TEXT};
    use super::*;
    use crate::decode::formats::tests::fields;

    /// Records as objects.
    pub(in crate::decode::formats) fn objects(records: &[Record]) -> Vec<Vec<u8>> {
        let text = serde_json::to_vec(TEXT).unwrap();
        let object = |[a, b, note]: &Record| {
            let parts: [&[u8]; 9] = [
                b"{\"a\":\"",
                a,
                b"\",",
                &text,
                b":\"",
                b,
                b"\",\"note\":\"",
                note,
                b"\"}",
            ];
            parts.concat()
        };
        records.iter().map(object).collect()
    }

    impl Conforms for Json {
        fn samples() -> Vec<Sample> {
            vec![Sample {
                name: "a.json",
                format: Format::Json(Self {}),
                write: |records| {
                    let parts: [&[u8]; 3] = [b"[", &objects(records).join(&b",\n"[..]), b"]\n"];
                    parts.concat()
                },
                lines: Some((1, 1)),
                damage: Some(b",\n{\"a\":}"),
                has_end: true,
            }]
        }
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
