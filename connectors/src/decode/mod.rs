//! Decoding: a file becomes chunks of typed columns, row by row accountable.
//!
//! ```text
//!   bytes ─► decompress ─► split into records ─► requested fields ─► typed columns ─► RawChunk
//!               │                 │                     │
//!               └ cut short:      └ not a record:       └ not of its type:
//!                 FILE_UNREADABLE   ROW_UNREADABLE        FIELD_UNPARSABLE
//! ```
//!
//! - Every record of the file is either a row of a chunk's batch or one fault; neighbours of a bad
//!   record go on. After a fault of the file itself no chunk follows.
//! - A row's number counts records from 0, faulty ones too, so it names the same record whenever the
//!   file is read again, whichever columns are asked for.
//! - A library that panics on the bytes of a file has found a fault of that file and nothing else.
//! - Memory is bounded by the rows of a chunk, by [`CHUNK_BYTES_MAX`] for their values, and by
//!   [`RECORD_BYTES_MAX`] for a record. No size that a file declares is believed before it is compared with
//!   the file's bytes.

mod assemble;
mod columns;
mod content;
mod convert;
mod csv;
mod declared;
mod error;
mod fields;
mod json;
mod members;
mod messages;
mod names;
mod nested;
mod parquet;
mod parquet_layout;
mod parquet_pages;
pub(crate) mod scalar;
mod shape;
mod split;
mod unmet;
mod window;

pub use assemble::CHUNK_BYTES_MAX;
pub use columns::ColumnType;
pub use content::{Content, is_cut_of};
pub use declared::{ColumnDeclaration, MayBe};
pub use error::DecodeError;
pub use messages::{MessageDecoder, MessageFormat, Registry, RegistryUrl};
pub use names::{Fields, fields_of};
pub use parquet::{RowGroup, row_groups};
pub use unmet::Unmet;
pub use window::RECORD_BYTES_MAX;

pub(crate) use assemble::quoted;
pub(crate) use csv::KeptRows;
pub(crate) use json::{FieldPaths, KEY_COLUMN};
pub(crate) use parquet::batch_rows;
pub(crate) use window::BYTE_ORDER_MARK;

use members::{Compression, Members, Remark};

use crate::shield::shielded;
use crate::store::{FileMeta, Store};
use crate::times::{TimeRange, TimeReading};
use arrow::array::{BinaryArray, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use millrace_operators::domain::{Fault, FileId, Reason, RecordId};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use assemble::Assembler;

/// How the bytes of a file are laid out. `.gz` and `.zst` behind the name are taken off first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Format {
    /// Text with a delimiter.
    Csv {
        /// One byte between fields; a comma unless given.
        #[serde(default = "comma")]
        delimiter: char,
        /// Names of the columns of a file that has no header line.
        #[serde(default)]
        header: Option<Vec<String>>,
    },
    /// One JSON object per line.
    JsonLines,
    /// One JSON array of objects, or an object whose entries are the records, each entry's name in
    /// the column `key`.
    Json,
    /// Parquet.
    Parquet,
}

fn comma() -> char {
    ','
}

impl Format {
    /// The format that a file's name suggests.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let plain = lower
            .strip_suffix(".gz")
            .or(lower.strip_suffix(".zst"))
            .unwrap_or(&lower);
        match plain.rsplit_once('.')?.1 {
            "csv" | "txt" => Some(Self::Csv {
                delimiter: ',',
                header: None,
            }),
            "tsv" => Some(Self::Csv {
                delimiter: '\t',
                header: None,
            }),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Whether columns have the types of the file instead of declared ones.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        matches!(self, Self::Parquet)
    }
}

/// A raw column that somebody wants, by its name in the file: a header's name, a dotted path into
/// JSON, a Parquet column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRequest {
    /// The name in the file.
    pub name: String,
    /// The declared type; text, or for Parquet the type of the file, unless given.
    pub kind: Option<ColumnType>,
    /// Which absence of it is intended.
    pub may_be: MayBe,
    /// How its times are read that name no offset.
    pub times: TimeReading,
    /// Whether the zone in `times` was declared for this column.
    pub names_zone: bool,
    /// Times that are nothing special; of others the text is kept beside the chunk.
    pub range: TimeRange,
    /// Whether records are told apart by it: without it, different ones are taken for one.
    pub identifies: bool,
}

impl ColumnRequest {
    /// A column that every file must have, whose times are read as UTC unless they name an offset.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: Option<ColumnType>) -> Self {
        Self {
            name: name.into(),
            kind,
            may_be: MayBe::default(),
            times: TimeReading::default(),
            names_zone: false,
            range: TimeRange::default(),
            identifies: false,
        }
    }

    /// The declaration by which files may lack the column, as it can be pasted; nothing where they may not.
    pub(crate) fn declaration(&self) -> Option<String> {
        if self.identifies || self.name.is_empty() {
            return None;
        }
        let kind = match self.kind.unwrap_or(ColumnType::Text) {
            kind @ ColumnType::Decimal { .. } => format!("\"{kind}\""),
            kind => kind.to_string(),
        };
        let name = &self.name;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
        let name = match name.bytes().all(is_plain) {
            true => name.clone(),
            false => format!("{name:?}"),
        };
        Some(format!("{name}: {{ type: {kind}, may_be: absent }}"))
    }
}

/// The arrow schema of requested columns of a text format, known without any file.
#[must_use]
pub fn text_schema(columns: &[ColumnRequest]) -> SchemaRef {
    let field = |column: &ColumnRequest| {
        Field::new(
            &column.name,
            column
                .kind
                .unwrap_or(ColumnType::Text)
                .data_type(&column.times),
            true,
        )
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// How to read a file.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// Rows of a chunk, at most.
    pub chunk_rows: usize,
    /// Whether chunks carry the records as they stood, for the raw store. Parquet sources are
    /// archives themselves and never do.
    pub keep_originals: bool,
    /// Row groups to read of a Parquet file; all unless given. Ignored by the text formats, which
    /// have none.
    pub row_groups: Option<Range<usize>>,
    /// Whether the decoder can tell afterwards what it read, as [`Content`].
    pub remember: bool,
    /// Bytes of the content to read, for the text formats; all unless given.
    pub bytes: Option<u64>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            chunk_rows: 16_384,
            keep_originals: false,
            row_groups: None,
            remember: false,
            bytes: None,
        }
    }
}

/// Records of a file, decoded.
#[derive(Clone, Debug)]
pub struct RawChunk {
    /// Row number of each row of the batch.
    pub rows: Vec<u64>,
    /// Line of each row of the batch, counted from 1; empty where the format has no lines.
    pub lines: Vec<u64>,
    /// The requested columns, in the order of the request.
    pub batch: RecordBatch,
    /// Records that did not become rows, and at the end of a broken file what broke it.
    pub faults: Vec<Fault>,
    /// Texts of the rows' times that are not taken for real, so that they can be told as they stood;
    /// in the order of rows.
    pub odd_times: Vec<OddTime>,
    /// Records met, faulty ones too; a fault of the file is not a record.
    pub received: u64,
    /// The records as they stood, when asked for.
    pub originals: Option<Originals>,
}

/// A time that is too early or too far ahead, as it stands in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddTime {
    /// The row's number.
    pub row: u64,
    /// The column.
    pub column: Arc<str>,
    /// The text.
    pub text: String,
}

/// Records as they stood in the file, faulty ones too.
#[derive(Clone, Debug)]
pub struct Originals {
    /// Row number of each record.
    pub rows: Vec<u64>,
    /// Line of each record.
    pub lines: Vec<u64>,
    /// All columns of a CSV file as text, unless they are too many, NULL throughout for a record that is no row, and with U+FFFD for
    /// what is no text; for an object of JSON records their names, in the column `key`.
    pub columns: RecordBatch,
    /// The bytes of the record, where columns do not hold it.
    pub raw: BinaryArray,
    /// The names of the columns of a CSV file whose rows are kept as bytes, because they are many.
    pub header: Option<Arc<[String]>>,
}

/// One kind of file being read.
pub(crate) trait Source: Send {
    /// The next records; `None` after the last.
    fn next_chunk(&mut self) -> Option<RawChunk>;

    /// What has been read so far, where that is remembered.
    fn content(&mut self) -> Option<Content> {
        None
    }

    /// The fields asked for that no record read so far has, where no header tells.
    fn unmet(&self) -> Vec<Unmet> {
        Vec::new()
    }
}

impl RawChunk {
    /// No records, and what broke the file behind its first `rows` records.
    pub(crate) fn broken(schema: &SchemaRef, file: FileId, rows: u64, detail: String) -> Self {
        let fault = Fault {
            record: RecordId::new(file, rows.min(RecordId::ROWS_MAX - 1)),
            line: 0,
            reason: Reason::FileUnreadable,
            field: String::new(),
            detail,
        };
        Self {
            rows: Vec::new(),
            lines: Vec::new(),
            batch: RecordBatch::new_empty(Arc::clone(schema)),
            faults: vec![fault],
            odd_times: Vec::new(),
            received: 0,
            originals: None,
        }
    }
}

/// A file being decoded.
pub struct Decoder {
    file: FileId,
    schema: SchemaRef,
    /// Nothing when it panicked: it may be half changed.
    source: Option<Box<dyn Source>>,
    remark: Remark,
    /// Records handed out.
    received: u64,
}

impl Decoder {
    /// Opens `file` of `store` and checks that it has the columns asked for.
    ///
    /// # Errors
    /// When the file cannot be opened, is not of the format from its first bytes, or lacks a column.
    pub fn open(
        store: &Store,
        file: &FileMeta,
        id: FileId,
        format: &Format,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        if matches!(format, Format::Parquet) {
            let access = store.random(file)?;
            return opening(&file.name, || {
                let (schema, source) = parquet::open(&access, &file.name, id, columns, options)?;
                Ok(Self::from_source(id, schema, Box::new(source)))
            });
        }
        Self::from_reader(store.read(file)?, &file.name, id, format, columns, options)
    }

    /// Decodes a stream of bytes (standard input, a buffer) in a text format; `name` is for messages
    /// and for its `.gz` or `.zst`.
    ///
    /// # Errors
    /// As [`Self::open`]; and for Parquet, which is read from its end and so cannot be a stream.
    pub fn from_reader(
        input: Box<dyn Read + Send>,
        name: &str,
        id: FileId,
        format: &Format,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        opening(name, || {
            Self::of_text(input, name, id, format, columns, options)
        })
    }

    fn of_text(
        input: Box<dyn Read + Send>,
        name: &str,
        id: FileId,
        format: &Format,
        columns: &[ColumnRequest],
        options: &DecodeOptions,
    ) -> Result<Self, DecodeError> {
        let remark = Remark::default();
        let mut input = decompress(input, name, &remark);
        if let Some(bytes) = options.bytes {
            input = Box::new(input.take(bytes));
        }
        let mut window = window::Window::new(input);
        if options.remember {
            window.remember();
        }
        window.begin().map_err(|encoding| DecodeError::Encoding {
            file: name.to_owned(),
            encoding,
        })?;
        let assembler = Assembler::new(id, columns);
        let source: Box<dyn Source> = match format {
            Format::Csv { delimiter, header } => {
                let delimiter = u8::try_from(*delimiter)
                    .ok()
                    .filter(|byte| byte.is_ascii() && !b"\"\r\n".contains(byte))
                    .ok_or(DecodeError::Delimiter {
                        delimiter: *delimiter,
                    })?;
                let layout = csv::Layout {
                    delimiter,
                    header: header.as_deref(),
                };
                Box::new(csv::CsvSource::open(
                    window, name, &layout, assembler, options,
                )?)
            }
            Format::JsonLines => Box::new(json::JsonSource::lines(window, assembler, options)),
            Format::Json => Box::new(json::JsonSource::elements(window, assembler, options)),
            Format::Parquet => {
                return Err(DecodeError::NotAStream {
                    file: name.to_owned(),
                });
            }
        };
        Ok(Self {
            remark,
            ..Self::from_source(id, text_schema(columns), source)
        })
    }

    pub(crate) fn from_source(file: FileId, schema: SchemaRef, source: Box<dyn Source>) -> Self {
        Self {
            file,
            schema,
            source: Some(source),
            remark: Remark::default(),
            received: 0,
        }
    }

    /// The schema of every chunk's batch.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next records of the file; `None` after the last.
    pub fn next_chunk(&mut self) -> Option<RawChunk> {
        let source = self.source.as_mut()?;
        match shielded(|| source.next_chunk()) {
            Ok(chunk) => {
                self.received += chunk.as_ref().map_or(0, |chunk| chunk.received);
                chunk
            }
            Err(panicked) => {
                self.source = None;
                let detail = format!("the file is damaged: {panicked}");
                let (schema, file) = (&self.schema, self.file);
                Some(RawChunk::broken(schema, file, self.received, detail))
            }
        }
    }

    /// What has been read so far; nothing of formats that are no text, or unless it is to be remembered.
    pub fn content(&mut self) -> Option<Content> {
        let source = self.source.as_mut()?;
        shielded(|| source.content()).ok().flatten()
    }

    /// The fields asked for that no record read so far has, unless they may be absent. Of formats with a
    /// header it is none: a file without such a column is not opened.
    #[must_use]
    pub fn unmet(&self) -> Vec<Unmet> {
        let source = self.source.as_ref();
        source.map_or_else(Vec::new, |source| source.unmet())
    }

    /// What a person should look at in a file that was read to its end.
    #[must_use]
    pub fn remark(&self) -> Option<&str> {
        self.remark.get().map(String::as_str)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// Opens a file behind the shield.
pub(crate) fn opening<T>(
    file: &str,
    open: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    shielded(open).unwrap_or_else(|panicked| {
        Err(DecodeError::Panicked {
            file: file.to_owned(),
            detail: panicked.to_string(),
        })
    })
}

fn decompress(input: Box<dyn Read + Send>, name: &str, remark: &Remark) -> Box<dyn Read + Send> {
    match Compression::of_name(name) {
        Some(compression) => Box::new(Members::new(input, compression, Arc::clone(remark))),
        None => input,
    }
}

#[cfg(test)]
mod tests;
