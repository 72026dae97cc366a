//! JSON lines: an object per line.

use super::contract::{FileFormat, Found, Kept, Reading, TextFormat, text_of};
use super::json::named;
use crate::container::{ContainerError, Row, object};
use crate::decode::assemble::Assembler;
use crate::decode::chunk::Source;
use crate::decode::error::DecodeError;
use crate::decode::fields::{RECORDS, enter};
use crate::decode::json::JsonRecords;
use crate::decode::request::{ColumnRequest, DecodeOptions};
use crate::decode::slices::Sliced;
use crate::decode::split::Lines;
use crate::decode::window::{BYTE_ORDER_MARK, Window};
use crate::store::{FileMeta, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};

/// Bytes of records whose fields are looked at.
const LOOKED_AT: u64 = 64 << 20;

/// One JSON object per line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonLines {}

impl FileFormat for JsonLines {
    const NAME: &'static str = "jsonl";
    const TITLE: &'static str = "JSON lines";
    const ABOUT: &'static str = "one JSON object per line";
    const ENDINGS: &'static [&'static str] = &["jsonl", "ndjson"];

    type Options = Self;

    fn of(_: &Self, _: &str) -> Self {
        Self {}
    }

    fn example() -> Self {
        Self {}
    }

    fn reading(&self) -> Reading<'_> {
        Reading::Lines(self)
    }

    fn begins_with(byte: u8) -> bool {
        byte == b'{'
    }

    fn fields(self, store: &Store, file: &FileMeta) -> Result<Found<Self>, DecodeError> {
        let mut names = Vec::new();
        let lines = text_of(store, file)?.take(LOOKED_AT).split(b'\n');
        for line in lines.take(RECORDS) {
            let line = line.map_err(|source| DecodeError::Read {
                file: file.name.clone(),
                source,
            })?;
            let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line);
            // What is no record is a fault of its own when it is read.
            if let Ok(record) = serde_json::from_slice(line) {
                enter(&record, usize::MAX, &mut names);
            }
        }
        Ok(Found::of_text(self, names))
    }

    fn containers(&self, input: impl Read) -> Result<Vec<Row>, ContainerError> {
        let mut rows = Vec::new();
        for (row, line) in (1..).zip(BufReader::new(input).split(b'\n')) {
            let line = line.map_err(|error| ContainerError::whole(error.to_string()))?;
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
}

impl TextFormat for JsonLines {
    fn open(
        &self,
        window: Window,
        _: &str,
        assembler: Assembler,
        options: &DecodeOptions,
    ) -> Result<Box<dyn Source>, DecodeError> {
        let (splitter, records) = (Lines::default(), JsonRecords::new(assembler.names()));
        let source = Sliced::new(window, splitter, records, assembler, options, &[]);
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

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::conformance::{Conforms, Sample};
    use super::super::json::tests::objects;
    use super::*;

    impl Conforms for JsonLines {
        fn samples() -> Vec<Sample> {
            vec![Sample {
                name: "a.jsonl",
                format: Format::JsonLines(Self {}),
                write: |records| {
                    let lines = objects(records).into_iter();
                    let lines = lines.map(|object| [&object[..], b"\n"].concat());
                    lines.collect::<Vec<_>>().concat()
                },
                lines: Some((1, 1)),
                damage: Some(b"{\"a\":\n"),
                has_end: false,
            }]
        }
    }
}
