//! Evaluation over a batch, so that exactly the rows that fail fail.
//!
//! DataFusion fails a whole batch for one bad row. A batch that fails is cut in halves until the bad
//! rows stand alone: a batch without bad rows costs one evaluation, each bad row about 2·log₂(rows)
//! more. The halves are copies: a slice shares its bytes with its neighbours, and a conversion that
//! looks at all bytes of an array (bytes to text) would find the neighbour's fault in it.

use super::{Expression, LookupMissing, TimeUnread};
use crate::shield::shielded;
use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
    new_null_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, exec_err};
use millrace_operators::domain::Reason;
use std::sync::Arc;

/// The longest text that an expression gives, unless it only takes a longer one from its record: what texts
/// grow to would fill all memory otherwise, the sooner where one part of `let` uses the other.
pub(super) const TEXT_BYTES_MAX: i64 = 65_536;

/// The values of an expression, and the rows that have none because they failed.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// One value per row; NULL where the row failed.
    pub values: ArrayRef,
    /// The rows that failed, ascending.
    pub failures: Vec<RowFailure>,
}

/// A row for which an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFailure {
    /// Index in the batch.
    pub row: usize,
    /// Whether a reference table lacks the key, a time means no instant, or something else went wrong.
    pub reason: Reason,
    /// What went wrong.
    pub detail: String,
}

impl Expression {
    /// Evaluates the expression for every row of the batch.
    ///
    /// # Panics
    /// When the batch is not of the schema that the expression was planned for.
    #[must_use]
    pub fn evaluate(&self, batch: &RecordBatch) -> Evaluated {
        let evaluated = self.evaluate_within(batch, usize::MAX);
        evaluated.expect("no values have more bytes than there are")
    }

    /// As [`Self::evaluate`]; nothing when the values have more than `bytes_max` bytes together, which is
    /// found before all of them are made.
    ///
    /// # Panics
    /// When the batch is not of the schema that the expression was planned for.
    #[must_use]
    pub fn evaluate_within(&self, batch: &RecordBatch, bytes_max: usize) -> Option<Evaluated> {
        let error = match self.whole(batch) {
            Ok(values) => {
                let failures = Vec::new();
                return (bytes(&values) <= bytes_max).then_some(Evaluated { values, failures });
            }
            Err(error) => error,
        };
        let mut pieces = Pieces {
            values: Vec::new(),
            failures: Vec::new(),
            bytes_left: bytes_max,
        };
        self.bisect(batch, 0, error, &mut pieces)?;
        let values: Vec<&dyn Array> = pieces.values.iter().map(AsRef::as_ref).collect();
        let values = concat(&values).expect("all pieces have the type of the expression");
        Some(Evaluated {
            values,
            failures: pieces.failures,
        })
    }

    fn whole(&self, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        let evaluate = || {
            let values = self.physical.evaluate(batch)?;
            values.into_array(batch.num_rows())
        };
        let values = shielded(evaluate)
            .unwrap_or_else(|panicked| exec_err!("a function gave up: {}", panicked.message))?;
        // Functions may disagree with their own signature about which kind of text they give.
        let values = match values.data_type() == &self.data_type {
            true => values,
            false => arrow::compute::cast(&values, &self.data_type)?,
        };
        if let Some(texts) = values.as_string_opt::<i32>() {
            check_lengths(texts, batch)?;
        }
        Ok(values)
    }

    fn bisect(
        &self,
        batch: &RecordBatch,
        offset: usize,
        error: DataFusionError,
        pieces: &mut Pieces,
    ) -> Option<()> {
        let rows = batch.num_rows();
        if rows <= 1 {
            pieces.values.push(new_null_array(&self.data_type, rows));
            if rows == 1 {
                pieces.failures.push(failure(offset, &error));
            }
            return Some(());
        }
        let half = rows / 2;
        for (start, length) in [(0, half), (half, rows - half)] {
            let part = copied(batch, start, length);
            match self.whole(&part) {
                Ok(values) => {
                    pieces.bytes_left = pieces.bytes_left.checked_sub(bytes(&values))?;
                    pieces.values.push(values);
                }
                Err(error) => self.bisect(&part, offset + start, error, pieces)?,
            }
        }
        Some(())
    }
}

/// What the parts of a batch come to.
struct Pieces {
    values: Vec<ArrayRef>,
    failures: Vec<RowFailure>,
    bytes_left: usize,
}

fn bytes(values: &ArrayRef) -> usize {
    values.to_data().get_slice_memory_size().unwrap_or(0)
}

/// Refuses texts that are too long, and longer than any of their record.
fn check_lengths(texts: &StringArray, batch: &RecordBatch) -> Result<(), DataFusionError> {
    let is_long = |length: usize| i64::try_from(length).unwrap_or(i64::MAX) > TEXT_BYTES_MAX;
    let together = texts
        .to_data()
        .get_slice_memory_size()
        .unwrap_or(usize::MAX);
    if !is_long(together) {
        return Ok(());
    }
    for (row, text) in texts.iter().enumerate() {
        let length = text.map_or(0, str::len);
        let given = |column: &ArrayRef| match column.as_string_opt::<i32>() {
            Some(given) if given.is_valid(row) => given.value(row).len(),
            _ => 0,
        };
        if is_long(length) && batch.columns().iter().all(|column| given(column) < length) {
            return exec_err!("a text of {length} bytes, and {TEXT_BYTES_MAX} are the most");
        }
    }
    Ok(())
}

/// Rows of a batch in arrays of their own.
fn copied(batch: &RecordBatch, start: usize, length: usize) -> RecordBatch {
    let slice = batch.slice(start, length);
    let rows = UInt32Array::from_iter_values((0_u32..).take(length));
    let column = |column: &ArrayRef| {
        let kind = column.data_type();
        let whole = match kind {
            // A dictionary keeps the values that no row of the slice has.
            DataType::Dictionary(_, value) => arrow::compute::cast(column, value)
                .and_then(|plain| arrow::compute::cast(&plain, kind))
                .unwrap_or_else(|_| Arc::clone(column)),
            _ => Arc::clone(column),
        };
        take(&whole, &rows, None).expect("the rows are those of the slice")
    };
    let columns = slice.columns().iter().map(column).collect();
    let count = RecordBatchOptions::new().with_row_count(Some(length));
    RecordBatch::try_new_with_options(slice.schema(), columns, &count)
        .expect("the columns keep their types")
}

fn failure(row: usize, error: &DataFusionError) -> RowFailure {
    let root = error.find_root();
    if let DataFusionError::External(external) = root
        && let Some(missing) = external.downcast_ref::<LookupMissing>()
    {
        return RowFailure {
            row,
            reason: Reason::LookupMissing,
            detail: missing.to_string(),
        };
    }
    if let DataFusionError::External(external) = root
        && let Some(unread) = external.downcast_ref::<TimeUnread>()
    {
        return RowFailure {
            row,
            reason: unread.reason,
            detail: unread.detail.clone(),
        };
    }
    let text = root.strip_backtrace();
    let text = ["Execution error: ", "Arrow error: ", "External error: "]
        .iter()
        .fold(text.as_str(), |text, prefix| {
            text.strip_prefix(prefix).unwrap_or(text)
        });
    let detail = text.chars().take(200).collect();
    RowFailure {
        row,
        reason: Reason::RuleFailed,
        detail,
    }
}
