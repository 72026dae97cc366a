//! What a file is read into: chunks of typed columns, and what is told beside them.

use super::content::Content;
use super::unmet::Unmet;
use arrow::array::{BinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use millrace_operators::domain::{Fault, FileId, Reason, RecordId};
use std::sync::Arc;

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
