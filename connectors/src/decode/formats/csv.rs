//! CSV: text with a delimiter.
//!
//! A field may be quoted: its first byte is a quote, and so is its last, in front of a delimiter or a line
//! end; a quote inside is written twice, and delimiters and line ends inside are data. Any other quote
//! means that the quotes of the record do not pair: it was cut inside of quotes, or written by something
//! that does not quote. What it says cannot be believed, even where it has the right number of fields.
//!
//! The window keeps a record's bytes until it is accepted. So when a record's quotes do not pair, or it
//! gets too long, or has the wrong number of fields, only its first line is the fault and reading goes on
//! behind that line: a quote that nobody closed costs no line but its own.

use super::contract::{
    FileFormat, Found, Kept, KeptRecords, Reading, TextFormat, ending, positions, text_of,
};
use crate::container::{Container, ContainerError, Row};
use crate::decode::assemble::Assembler;
use crate::decode::chunk::{RawChunk, Source};
use crate::decode::content::Content;
use crate::decode::csv_split::Splitter;
use crate::decode::error::DecodeError;
use crate::decode::request::{ColumnRequest, DecodeOptions};
use crate::decode::scalar::quoted;
use crate::decode::window::{RECORD_BYTES_MAX, Window, breaks_off};
use crate::store::{FileMeta, Store};
use schemars::JsonSchema;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, BufRead, Read};

/// Text with a delimiter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Csv {
    /// One byte between fields; a comma unless given.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Names of the columns of a file that has no header line.
    #[serde(default)]
    pub header: Option<Vec<String>>,
}

fn comma() -> char {
    ','
}

/// What varies between CSV files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvLayout {
    /// The character between fields; by default a comma, for `.tsv` a tab.
    pub delimiter: Option<char>,
    /// `true` (the default) when the first line names the columns; otherwise their names.
    #[serde(default)]
    pub header: Header,
}

/// Where the names of CSV columns come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Header {
    /// From the first line.
    #[default]
    #[schemars(with = "bool")]
    FirstLine,
    /// From here; the first line is a record already.
    Names(Vec<String>),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, or the list of column names")
            }

            fn visit_bool<E: de::Error>(self, first_line: bool) -> Result<Header, E> {
                if first_line {
                    return Ok(Header::FirstLine);
                }
                Err(E::custom(
                    "a file without a header line needs its column names as a list here",
                ))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Header, A::Error> {
                let mut header = Vec::new();
                while let Some(name) = names.next_element()? {
                    header.push(name);
                }
                Ok(Header::Names(header))
            }
        }

        deserializer.deserialize_any(HeaderVisitor)
    }
}

impl FileFormat for Csv {
    const NAME: &'static str = "csv";
    const TITLE: &'static str = "CSV";
    const ABOUT: &'static str = "text with a delimiter, its fields quoted where need be";
    const ENDINGS: &'static [&'static str] = &["csv", "txt", "tsv"];

    type Options = CsvLayout;

    fn of(options: &CsvLayout, file: &str) -> Self {
        let suggested = match ending(file).as_deref() {
            Some("tsv") => '\t',
            _ => comma(),
        };
        Self {
            delimiter: options.delimiter.unwrap_or(suggested),
            header: match &options.header {
                Header::FirstLine => None,
                Header::Names(names) => Some(names.clone()),
            },
        }
    }

    fn example() -> Self {
        Self::of(&CsvLayout::default(), "")
    }

    fn reading(&self) -> Reading<'_> {
        Reading::Lines(self)
    }

    fn described(&self) -> String {
        format!("csv, fields end at {:?}", self.delimiter)
    }

    fn written(&self, place: &str) -> Option<String> {
        let delimiter = serde_json::Value::from(self.delimiter.to_string());
        let says = self.delimiter != comma() && !place.contains(".tsv");
        says.then(|| format!("csv: {{ delimiter: {delimiter} }}"))
    }

    fn fields(self, store: &Store, file: &FileMeta) -> Result<Found<Self>, DecodeError> {
        let header = header_line(text_of(store, file)?);
        let (delimiter, names) = header.map_err(|source| DecodeError::Read {
            file: file.name.clone(),
            source,
        })?;
        let names = self.header.clone().unwrap_or(names);
        Ok(Found::of_text(Self { delimiter, ..self }, names))
    }

    fn containers(&self, input: impl Read) -> Result<Vec<Row>, ContainerError> {
        let delimiter = u8::try_from(self.delimiter).map_err(|_| {
            ContainerError::whole(format!(
                "the delimiter {:?} is not a single byte",
                self.delimiter
            ))
        })?;
        rows(input, delimiter, self.header.as_deref())
            .map_err(|error| ContainerError::whole(error.to_string()))
    }
}

impl TextFormat for Csv {
    fn open(
        &self,
        window: Window,
        file: &str,
        assembler: Assembler,
        options: &DecodeOptions,
    ) -> Result<Box<dyn Source>, DecodeError> {
        let delimiter = u8::try_from(self.delimiter)
            .ok()
            .filter(|byte| byte.is_ascii() && !b"\"\r\n".contains(byte))
            .ok_or(DecodeError::Delimiter {
                delimiter: self.delimiter,
            })?;
        let splitter = Splitter::new(window, delimiter);
        let header = self.header.as_deref();
        let source = CsvSource::open(splitter, file, header, assembler, options)?;
        Ok(Box::new(source))
    }

    fn has_header(&self) -> bool {
        self.header.is_none()
    }

    fn kept(
        &self,
        file: &str,
        header: Option<&[String]>,
        columns: &[ColumnRequest],
    ) -> Result<Kept, DecodeError> {
        Ok(match header {
            Some(header) => Kept::Bytes(Box::new(KeptRows {
                positions: positions(file, header, columns)?,
                delimiter: u8::try_from(self.delimiter).unwrap_or(b','),
            })),
            None => Kept::Columns,
        })
    }
}

/// Columns of a file, at most: each costs memory in every row that is kept.
const COLUMNS_MAX: usize = 16_384;
/// Columns of rows that are kept field by field, at most; wider rows are kept as their bytes, since each
/// column costs a writer time and memory of its own.
const KEPT_COLUMNS_MAX: usize = 1_000;

struct CsvSource {
    splitter: Splitter,
    assembler: Assembler,
    /// Where each requested column stands in the file; `None` for one that may be absent, and is.
    positions: Vec<Option<usize>>,
    width: usize,
    /// Whether rows are kept as their bytes.
    keeps_bytes: bool,
    chunk_rows: u64,
    done: bool,
}

impl CsvSource {
    fn open(
        mut splitter: Splitter,
        file: &str,
        header: Option<&[String]>,
        mut assembler: Assembler,
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        let header = match header {
            Some(header) => Some(header.to_vec()),
            None => read_header(&mut splitter, file)?,
        };
        let done = header.is_none();
        let header = header.unwrap_or_else(|| assembler.names().to_vec());
        let positions = positions(file, &header, assembler.columns())?;
        let keeps_bytes = header.len() > KEPT_COLUMNS_MAX;
        match options.keep_originals {
            true if keeps_bytes => assembler.keep_wide_originals(&header),
            true => assembler.keep_originals(&header),
            false => {}
        }
        let chunk_rows = u64::try_from(options.chunk_rows.max(1)).unwrap_or(u64::MAX);
        Ok(Self {
            splitter,
            assembler,
            positions,
            width: header.len(),
            keeps_bytes,
            chunk_rows,
            done,
        })
    }

    fn accept(&mut self, line: u64) {
        let Self {
            splitter,
            assembler,
            positions,
            keeps_bytes,
            ..
        } = self;
        let text = &splitter.fields[..splitter.fields_length()];
        if text.contains(&0) {
            assembler.original_bytes(line, None, splitter.record());
            return assembler.reject(line, format!("{} holds a NUL byte", quoted(&lossy(text))));
        }
        let is_damaged = splitter.is_damaged();
        if assembler.keeps_originals() && *keeps_bytes {
            assembler.original_bytes(line, None, splitter.record());
        } else if assembler.keeps_originals() && is_damaged {
            let texts = (0..splitter.count).map(|i| splitter.field_bytes(i).unwrap_or_default());
            let texts: Vec<String> = texts.map(lossy).collect();
            let texts = texts.iter().map(String::as_str);
            assembler.original_fields(line, texts, Some(splitter.record()));
        } else if assembler.keeps_originals() {
            let fields = (0..splitter.count).map(|i| splitter.field(i).unwrap_or_default());
            assembler.original_fields(line, fields, None);
        }
        assembler.begin_row(line);
        match is_damaged {
            true => fill_damaged(splitter, positions, assembler),
            false => fill(splitter, positions, assembler),
        }
        assembler.end_row();
    }

    fn reject(&mut self, line: u64, detail: String) {
        self.assembler
            .original_bytes(line, None, self.splitter.record());
        self.assembler.reject(line, detail);
    }
}

/// Hands the fields of a record over that are asked for.
fn fill(splitter: &Splitter, positions: &[Option<usize>], assembler: &mut Assembler) {
    for (column, &position) in positions.iter().enumerate() {
        let text = position.and_then(|position| splitter.field(position));
        // An empty field is NULL: CSV has no other way to say it.
        assembler.value(column, text.filter(|text| !text.is_empty()));
    }
}

/// The same of a record with fields that are no text: they cost it only where somebody wants them.
fn fill_damaged(splitter: &Splitter, positions: &[Option<usize>], assembler: &mut Assembler) {
    for (column, &position) in positions.iter().enumerate() {
        let bytes = position.and_then(|position| splitter.field_bytes(position));
        let text = bytes.filter(|bytes| !bytes.is_empty()).map(lossy);
        assembler.damaged_value(column, text.as_deref());
    }
}

/// Rows of a file that were kept as their bytes.
struct KeptRows {
    positions: Vec<Option<usize>>,
    delimiter: u8,
}

impl KeptRecords for KeptRows {
    fn record(&self, bytes: &[u8], line: u64, assembler: &mut Assembler) {
        let window = Window::new(Box::new(io::Cursor::new(bytes.to_vec())));
        let mut splitter = Splitter::new(window, self.delimiter);
        if !matches!(splitter.next(), Ok(Some(_))) {
            return assembler.reject(line, "the row was kept and is none".to_owned());
        }
        assembler.begin_row(line);
        match splitter.is_damaged() {
            true => fill_damaged(&splitter, &self.positions, assembler),
            false => fill(&splitter, &self.positions, assembler),
        }
        assembler.end_row();
    }
}

impl Source for CsvSource {
    fn next_chunk(&mut self) -> Option<RawChunk> {
        while !self.done && !self.assembler.is_chunk(self.chunk_rows) {
            let line = match self.splitter.next() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.done = true;
                    break;
                }
                Err(error) => {
                    let line = self.splitter.line;
                    self.assembler.file_fault(line, breaks_off(&error));
                    self.done = true;
                    break;
                }
            };
            if self.assembler.is_full() {
                self.assembler
                    .file_fault(line, "the file has more than 2^40 rows".to_owned());
                self.done = true;
                break;
            }
            if self.splitter.oversized {
                self.splitter.keep_first_line_only();
                let kept = quoted(&lossy(
                    &self.splitter.record()[..self.splitter.record_length.min(400)],
                ));
                self.reject(
                    line,
                    format!("a record of more than {RECORD_BYTES_MAX} bytes: {kept}"),
                );
            } else if let Some(damage) = self.splitter.damage() {
                self.splitter.keep_first_line_only();
                let kept = quoted(lossy(self.splitter.record()).trim_end());
                self.reject(line, format!("{damage}: {kept}"));
            } else if self.splitter.count != self.width {
                self.splitter.keep_first_line_only();
                let kept = quoted(lossy(self.splitter.record()).trim_end());
                let (found, expected) = (self.splitter.count, self.width);
                self.reject(
                    line,
                    format!("{found} fields instead of {expected}: {kept}"),
                );
            } else {
                self.accept(line);
            }
            self.splitter.release();
            if !self.splitter.at_end {
                self.splitter.window.settle(self.assembler.next_row());
            }
        }
        self.assembler.finish()
    }

    fn content(&mut self) -> Option<Content> {
        self.splitter.window.content()
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read_header(splitter: &mut Splitter, file: &str) -> Result<Option<Vec<String>>, DecodeError> {
    let header_error = |detail: &str| DecodeError::Header {
        file: file.to_owned(),
        detail: detail.to_owned(),
    };
    let found = splitter.next().map_err(|source| DecodeError::Read {
        file: file.to_owned(),
        source,
    })?;
    if found.is_none() {
        return Ok(None);
    }
    if splitter.oversized {
        return Err(header_error("it is longer than 8 MiB; is the file CSV?"));
    }
    if let Some(damage) = splitter.damage() {
        return Err(header_error(&format!("{damage}; is the file CSV?")));
    }
    let names = (0..splitter.count).map(|i| {
        splitter
            .field(i)
            .filter(|name| !name.contains('\0'))
            .map(|name| name.trim().to_owned())
            .ok_or_else(|| header_error("it is not UTF-8; is the file CSV, and uncompressed?"))
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.len() > COLUMNS_MAX {
        return Err(header_error(&format!(
            "it has {} columns, and {COLUMNS_MAX} are the most; is the delimiter right?",
            names.len()
        )));
    }
    splitter.release();
    Ok(Some(names))
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

/// The rows of a usage container.
fn rows(
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

#[cfg(test)]
mod tests {
    use super::super::conformance::{Conforms, Record, Sample, TEXT};
    use super::*;
    use crate::decode::formats::tests::fields;
    use crate::decode::{Format, format_of};
    use crate::reference::yaml::read;

    #[test]
    fn the_first_line_of_csv_names_its_fields_and_shows_its_delimiter() {
        let csv = fields("a.csv", "\u{feff}id;\"at; UTC\";n\r\n1;2;3\r\n");
        assert_eq!(csv.names, ["id", "at; UTC", "n"]);
        let semicolon = Format::Csv(Csv {
            delimiter: ';',
            header: None,
        });
        assert_eq!(csv.format, semicolon);
        assert_eq!(fields("a.csv", "only\n1\n").names, ["only"]);
    }

    #[test]
    fn a_header_is_true_or_names() {
        let csv = read::<CsvLayout>("x", "delimiter: ;\nheader: [a, b]")
            .value
            .unwrap();
        let header = Some(vec!["a".to_owned(), "b".to_owned()]);
        let expected = Format::Csv(Csv {
            delimiter: ';',
            header,
        });
        assert_eq!(format_of("a.csv", None, &csv), Some(expected));
        let refused = read::<CsvLayout>("x", "header: false").findings;
        assert!(refused[0].message.contains("column names"), "{refused:?}");
    }

    fn lines(header: &str, records: &[Record], (between, quote): (&[u8], &[u8])) -> Vec<u8> {
        let mut bytes = header.as_bytes().to_vec();
        for record in records {
            let fields = record.map(|field| [quote, field, quote].concat());
            bytes.extend_from_slice(&fields.join(between));
            bytes.extend_from_slice(b"\n");
        }
        bytes
    }

    impl Conforms for Csv {
        fn samples() -> Vec<Sample> {
            const HEADER: &str = "a,\"the \"\"b\"\", 2\",note\n";
            let names = ["a", TEXT, "note"].map(str::to_owned).to_vec();
            let plain = |write: fn(&[Record]) -> Vec<u8>| Sample {
                name: "a.csv",
                format: Format::Csv(Csv::example()),
                write,
                lines: Some((2, 1)),
                damage: Some(b"20,two\n"),
                has_end: false,
            };
            let quoted = plain(|records| lines(HEADER, records, (b",", b"\"")));
            let nameless = Csv {
                delimiter: ';',
                header: Some(names),
            };
            let nameless = Sample {
                format: Format::Csv(nameless),
                lines: Some((1, 1)),
                ..plain(|records| lines("", records, (b";", b"")))
            };
            vec![
                plain(|records| lines(HEADER, records, (b",", b""))),
                quoted,
                nameless,
            ]
        }
    }
}
