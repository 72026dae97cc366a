//! Outputs: rows of domain types as Parquet, for people and for the next system.
//!
//! Keys become text again here. Money is `Decimal128(38, 24)`, quantities `Decimal128(38, 12)`,
//! times are UTC microseconds; columns of few values are dictionaries. Rows of *changes* carry two
//! more columns, the epoch and +1 or -1.

mod activity;
mod aggregated;
mod balances;
mod buckets;
pub(crate) mod columns;
mod csv;
mod file;
mod impacts;
mod ledger;
mod monetised;
mod notices;
mod raw_status;
mod suspense;

pub use activity::{SubscriptionActivity, activity_kind};
pub use aggregated::{AggregatedLine, blended_rate};
pub use balances::{Balance, kind_name, measure_name};
pub use csv::{CsvFile, spreadsheet_text};
pub use file::{JsonFile, OutputError, ParquetFile, decimals_as_text};
pub use impacts::{ImpactCause, ResourceImpact, impact_kind};
pub use ledger::LedgerRow;
pub use monetised::MonetisedUsage;
pub use raw_status::{RawStatus, status_of};
pub use suspense::SuspendedUsage;

use crate::lines::FileLines;
use crate::names::Names;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{FileId, RecordId};
use std::sync::{Arc, RwLock};

/// What encoders need besides the rows: the text behind keys.
#[derive(Clone, Debug)]
pub struct Texts {
    /// The name book.
    pub names: Arc<Names>,
    /// Names of the source files, by their number.
    pub files: Arc<RwLock<Vec<Arc<str>>>>,
    /// The lines that their records stand on.
    pub lines: FileLines,
    /// The grouping attributes of billing lines, as the job names them.
    pub dimensions: Arc<[(String, Dimension)]>,
}

impl Texts {
    /// The line that a record begins on, in a format with lines.
    ///
    /// # Panics
    /// After a panic while the lines were written to, which ends the process anyway.
    #[must_use]
    pub fn line(&self, record: RecordId) -> Option<u64> {
        let lines = self.lines.read();
        let lines = lines.expect("the lines of files are not poisoned");
        lines.get(&record.file())?.line(record.row())
    }

    /// Where a record stands, as people read it: its file and line, or its row where there are no lines.
    #[must_use]
    pub fn place(&self, record: RecordId) -> String {
        let file = self.told_file(record.file());
        match self.line(record) {
            Some(line) => format!("{file} line {line}"),
            None => format!("{file} row {}", record.row()),
        }
    }

    /// A record as people name it: by its file and line, by its file and row where the format has no lines,
    /// and after a hash sign where its line tells it not.
    ///
    /// # Panics
    /// As [`Self::line`].
    #[must_use]
    pub fn record(&self, record: RecordId) -> String {
        let (file, row) = (self.told_file(record.file()), record.row());
        let lines = self.lines.read();
        let lines = lines.expect("the lines of files are not poisoned");
        let Some(lines) = lines.get(&record.file()) else {
            return format!("{file}:{row}");
        };
        match lines.line(row) {
            Some(line) if lines.row(line) == Some(row) => format!("{file}:{line}"),
            _ => format!("{file}#{row}"),
        }
    }

    /// The name of a file; of one that nobody has met as [`Names::text`] of a key.
    ///
    /// # Panics
    /// After a panic while the list was written to, which ends the process anyway.
    #[must_use]
    pub fn file(&self, id: FileId) -> Arc<str> {
        let name = self.known_file(id);
        name.unwrap_or_else(|| self.names.miss("a file", u64::from(id.0)))
    }

    /// The name of a file for people, who may be told of a record while the state is loaded before the file
    /// of another is met: its number then.
    ///
    /// # Panics
    /// As [`Self::file`].
    #[must_use]
    pub fn told_file(&self, id: FileId) -> Arc<str> {
        let name = self.known_file(id);
        name.unwrap_or_else(|| Arc::from(format!("#{}", id.0)))
    }

    fn known_file(&self, id: FileId) -> Option<Arc<str>> {
        let files = self
            .files
            .read()
            .expect("the list of files is not poisoned");
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        files.get(index).map(Arc::clone)
    }
}

/// Rows of one output table.
pub trait OutputRow: Sized {
    /// The table's columns.
    fn fields(texts: &Texts) -> Vec<Field>;

    /// The rows as columns, in the order of [`Self::fields`].
    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef>;
}

/// The schema of a table.
#[must_use]
pub fn schema<T: OutputRow>(texts: &Texts) -> SchemaRef {
    Arc::new(Schema::new(T::fields(texts)))
}

/// The schema of a table's changes.
#[must_use]
pub fn change_schema<T: OutputRow>(texts: &Texts) -> SchemaRef {
    let mut fields = vec![
        Field::new("epoch", DataType::UInt64, false),
        Field::new("diff", DataType::Int64, false),
    ];
    fields.extend(T::fields(texts));
    Arc::new(Schema::new(fields))
}

/// Rows as a batch of their table.
///
/// # Errors
/// When nobody knows the text behind a key of them, or the columns do not fit the schema, which would be
/// a defect of the encoder.
pub fn encode<T: OutputRow>(rows: &[T], texts: &Texts) -> Result<RecordBatch, ArrowError> {
    RecordBatch::try_new(schema::<T>(texts), columns_of(rows, texts)?)
}

fn columns_of<T: OutputRow>(rows: &[T], texts: &Texts) -> Result<Vec<ArrayRef>, ArrowError> {
    let columns = T::encode(rows, texts);
    let known = texts.names.check();
    known.map_err(|unknown| ArrowError::ExternalError(Box::new(unknown)))?;
    Ok(columns)
}

/// Changes of one epoch as a batch of the table's changes.
///
/// # Errors
/// As [`encode`].
pub fn encode_changes<T: OutputRow>(
    epoch: u64,
    rows: &[T],
    diffs: Vec<i64>,
    texts: &Texts,
) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from(vec![epoch; rows.len()])),
        Arc::new(Int64Array::from(diffs)),
    ];
    columns.extend(columns_of(rows, texts)?);
    RecordBatch::try_new(change_schema::<T>(texts), columns)
}
