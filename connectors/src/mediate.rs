//! Mediation: raw records of a stream become usage, by a rule of SQL expressions.
//!
//! ```text
//!   RawChunk ─► let ─► where ─► let ─► identity, service, time, attributes, charges ─► Usage
//!                        │                        │
//!                        └► ignored               └► Fault (first guard that applies)
//! ```
//!
//! - Every record received is exactly one of: usage, fault, ignored. A fault of the whole file is
//!   reported apart; it is not a record.
//! - The guards ask in the order of [`Reason`]; a record is filed under the first that applies.
//! - An expression that hangs on a field that is empty or cannot be read, without a word in the rule that
//!   this is intended, fails for that record, see [`Decision`]. A charge or an attribute that is a mere
//!   column is absent when its column is.
//! - Values that `where` needs are computed first, and a record that `where` excludes is ignored
//!   whatever else is wrong with it. Where marks decide and its identity can be told, it is a version of that
//!   beside: one that the rule excludes now is no reason to bill what came before it.
//! - A mediator belongs to one worker; the name book behind it is shared. The same records give the
//!   same usage in every worker and on every run.

mod cache;
mod guard;
pub mod lookups;
mod marks;
mod plan;
mod rule;
mod text;

pub use plan::{ColumnContent, ExpressionContent, MediationPlan, RuleContent, Treatment};
pub use rule::{IdentityRule, MediationRule, NamedSql, Sql};

use crate::decode::{OddTime, RawChunk, quoted};
use crate::expression::{Decision, RowFailure, UndecidedRows, hanging};
use crate::names::Names;
use crate::stream::StreamId;
use crate::times::TimeRules;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema};
use cache::{ClassCache, ServiceCache};
use marks::Marking;
use millrace_operators::domain::{
    ClassKey, Fault, FileId, IdentityBuilder, Item, Kind, Reason, RecordId, Usage, UsageClass,
};
use plan::Planned;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use text::canonical;

/// Bytes of values that are made of records at a time, but of one record: a text that expressions make has 64
/// KiB at most, and a chunk thousands of records.
const MADE_BYTES_MAX: usize = 256 << 20;

/// What mediation made of records.
#[derive(Clone, Debug, Default)]
pub struct Mediated {
    /// Records that are usage, in the order of their file; where marks decide, those that the rule excludes
    /// are among them, too, without quantities, see [`Usage::is_passed_over`].
    pub usage: Vec<Usage>,
    /// Records that are not, and why; those that the decoder refused included.
    pub faults: Vec<Fault>,
    /// What broke the file, if anything did.
    pub file_fault: Option<Fault>,
    /// Records that the rule excludes.
    pub ignored: Vec<RecordId>,
    /// Usage classes that this mediator meets for the first time.
    pub classes: Vec<(ClassKey, UsageClass)>,
    /// Records received: the sum of the three, each counted once.
    pub received: u64,
}

impl Mediated {
    /// Empties it for the next chunk and keeps the memory.
    pub fn clear(&mut self) {
        self.usage.clear();
        self.faults.clear();
        self.file_fault = None;
        self.ignored.clear();
        self.classes.clear();
        self.received = 0;
    }

    /// Whether there is any record that the rule does not exclude.
    #[must_use]
    pub fn chooses(&self) -> bool {
        !self.usage.is_empty() || !self.faults.is_empty()
    }

    /// Forgets all records but these.
    pub fn keep(&mut self, wanted: impl Fn(RecordId) -> bool) {
        self.usage.retain(|usage| wanted(usage.record));
        self.faults.retain(|fault| wanted(fault.record));
        self.ignored.retain(|record| wanted(*record));
        self.file_fault = None;
    }

    /// Forgets the records before row `row`, which were taken in before; `received` records are left.
    pub fn skip_to(&mut self, row: u64, received: u64) {
        self.usage.retain(|usage| usage.record.row() >= row);
        self.faults.retain(|fault| fault.record.row() >= row);
        self.ignored.retain(|record| record.row() >= row);
        self.received = received;
    }
}

/// The planned expressions of a rule, in the order of evaluation.
#[derive(Clone, Debug)]
struct Steps {
    lets: Vec<Planned>,
    lets_before_filter: usize,
    filter: Option<Planned>,
    /// `None` when the position is the identity.
    identity: Option<Vec<Planned>>,
    /// `None` in streams that keep the first and know no corrections.
    marking: Option<Marking>,
    service: Planned,
    time: Planned,
    /// The raw columns that the event time is made of.
    time_columns: Vec<String>,
    attributes: Vec<Planned>,
    charges: Vec<(Planned, u8)>,
}

/// A rule ready to mediate records of one schema.
#[derive(Debug)]
pub struct Mediator {
    stream: StreamId,
    /// The stream's names as the first field of every identity, and the source's if identities are its own.
    stream_field: Vec<u8>,
    names: Arc<Names>,
    steps: Steps,
    services: ServiceCache,
    classes: ClassCache,
    identity: IdentityBuilder,
    times: TimeRules,
}

impl Mediator {
    fn new(plan: &MediationPlan, steps: Steps) -> Self {
        let names = Arc::clone(&plan.names);
        let stream = plan.stream.clone();
        let attributes = steps
            .attributes
            .iter()
            .map(|planned| names.enter(&planned.name));
        let item = |(planned, scale): &(Planned, u8)| Item {
            name: names.enter(&planned.name),
            scale: *scale,
        };
        let classes = ClassCache::new(
            names.enter(&stream.service_type),
            attributes.collect(),
            steps.charges.iter().map(item).collect(),
        );
        let stream_names = [&*stream.platform, &stream.service_type, &stream.record_type];
        let source = plan.treatment.source.as_deref();
        let stream_field = stream_names.into_iter().chain(source);
        let stream_field = stream_field.collect::<Vec<_>>().join("\u{1f}");
        Self {
            stream_field: stream_field.into_bytes(),
            stream,
            steps,
            classes,
            services: ServiceCache::new(),
            identity: IdentityBuilder::default(),
            times: plan.times.clone(),
            names,
        }
    }

    /// From now on records are rows of a file that was sent again, unless they say otherwise.
    pub fn restate(&mut self) {
        if let Some(marking) = &mut self.steps.marking {
            marking.unless_told = Kind::Restate;
        }
    }

    /// Mediates the records of a chunk and adds the outcome to `out`. The chunk has the columns that
    /// the mediator was planned for.
    ///
    /// # Panics
    /// When two names of the job have the same 64-bit key, see [`Names`].
    pub fn mediate(&mut self, chunk: &RawChunk, file: FileId, out: &mut Mediated) {
        out.received += chunk.received;
        for fault in &chunk.faults {
            if fault.reason.is_of_file() {
                out.file_fault = Some(fault.clone());
            } else {
                out.faults.push(fault.clone());
            }
        }
        let mut parts = Vec::new();
        parts.push(0..chunk.rows.len());
        while let Some(part) = parts.pop() {
            let (faults, ignored) = (out.faults.len(), out.ignored.len());
            if !self.mediate_rows(Rows::of(chunk, part.clone(), file), out) {
                out.faults.truncate(faults);
                out.ignored.truncate(ignored);
                let middle = part.start + part.len() / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            }
        }
    }

    /// Mediates records unless their values come to too much at a time, and says whether it did.
    fn mediate_rows(&mut self, mut rows: Rows, out: &mut Mediated) -> bool {
        let (before, after) = self.steps.lets.split_at(self.steps.lets_before_filter);
        before.iter().for_each(|planned| rows.name(planned));
        let mut passed_over = None;
        if let Some(filter) = &self.steps.filter {
            // Where marks decide, a record that is passed over decides, too.
            passed_over = rows.retain(filter, self.steps.marking.is_some(), out);
        }
        after.iter().for_each(|planned| rows.name(planned));
        let mut without_usage = Vec::new();
        if let Some(mut passed_over) = passed_over {
            after.iter().for_each(|planned| passed_over.name(planned));
            match self.passed_over(passed_over, &mut out.classes) {
                Some(versions) => without_usage = versions,
                None => return false,
            }
        }
        let before = out.usage.len();
        if rows.is_too_much || !self.finish(rows, out) {
            return false;
        }
        if !without_usage.is_empty() {
            out.usage.append(&mut without_usage);
            out.usage[before..].sort_by_key(|usage| usage.record);
        }
        true
    }
}

/// Records on their way through the steps.
struct Rows {
    batch: RecordBatch,
    records: Vec<RecordId>,
    lines: Vec<u64>,
    odd_times: Vec<OddTime>,
    failed: BTreeMap<usize, Failure>,
    /// Bytes that values may still have.
    bytes_left: usize,
    /// They have more: whatever else is said of these records does not hold.
    is_too_much: bool,
}

struct Failure {
    reason: Reason,
    field: String,
    detail: String,
}

impl Rows {
    fn of(chunk: &RawChunk, part: Range<usize>, file: FileId) -> Self {
        let numbers = chunk.rows[part.clone()].iter();
        Self {
            batch: chunk.batch.slice(part.start, part.len()),
            records: numbers.map(|row| RecordId::new(file, *row)).collect(),
            lines: chunk.lines.get(part.clone()).unwrap_or_default().to_vec(),
            odd_times: chunk.odd_times.clone(),
            failed: BTreeMap::new(),
            bytes_left: match part.len() {
                0 | 1 => usize::MAX,
                _ => MADE_BYTES_MAX,
            },
            is_too_much: false,
        }
    }

    fn line(&self, row: usize) -> u64 {
        self.lines.get(row).copied().unwrap_or(0)
    }

    fn fault(&self, row: usize, failure: Failure) -> Fault {
        let Failure {
            reason,
            field,
            detail,
        } = failure;
        Fault {
            record: self.records[row],
            line: self.line(row),
            reason,
            field,
            detail,
        }
    }

    /// The values of an expression.
    fn values(&mut self, planned: &Planned) -> ArrayRef {
        let expression = &planned.expression;
        let within = match self.is_too_much {
            true => None,
            false => expression.evaluate_within(&self.batch, self.bytes_left),
        };
        let Some(evaluated) = within else {
            self.is_too_much = true;
            return new_null_array(expression.data_type(), self.batch.num_rows());
        };
        let made = evaluated.values.to_data().get_slice_memory_size();
        self.bytes_left = self.bytes_left.saturating_sub(made.unwrap_or(0));
        self.fail(planned, evaluated.failures);
        evaluated.values
    }

    /// The values of an expression; the rows for which it hangs on what is NULL fail with `reason`.
    fn decided(&mut self, planned: &Planned, reason: Reason) -> ArrayRef {
        self.told(planned, reason, Decision::undecided)
    }

    /// The same, but for a mere column, or a conversion of one: that is absent when the column is.
    fn decided_or_absent(&mut self, planned: &Planned, reason: Reason) -> ArrayRef {
        self.told(planned, reason, Decision::undecided_or_unread)
    }

    fn told(
        &mut self,
        planned: &Planned,
        reason: Reason,
        undecided: fn(&Decision, &RecordBatch) -> UndecidedRows,
    ) -> ArrayRef {
        let values = self.values(planned);
        let undecided = undecided(&planned.decision, &self.batch);
        let sql = planned.expression.sql();
        let told = undecided.rows.into_iter().map(|(row, lacking)| RowFailure {
            row,
            reason,
            detail: hanging(sql, &lacking),
        });
        self.fail(planned, told.chain(undecided.failures));
        values
    }

    /// A row with several failures keeps the one that the guards ask for first.
    fn fail(&mut self, planned: &Planned, failures: impl IntoIterator<Item = RowFailure>) {
        for found in failures {
            let RowFailure {
                row,
                reason,
                detail,
            } = found;
            let held = self.failed.get(&row);
            if held.is_none_or(|held| reason < held.reason) {
                let field = planned.field.clone();
                self.failed.insert(
                    row,
                    Failure {
                        reason,
                        field,
                        detail,
                    },
                );
            }
        }
    }

    /// Which of these columns are empty in a row.
    fn empty<'n>(&self, row: usize, columns: impl Iterator<Item = &'n String>) -> Vec<&'n str> {
        let is_empty = |name: &&String| {
            let column = self.batch.column_by_name(name);
            let nulls = column.and_then(|column| column.logical_nulls());
            nulls.is_some_and(|nulls| nulls.is_null(row))
        };
        let empty: BTreeSet<&str> = columns.filter(is_empty).map(String::as_str).collect();
        empty.into_iter().collect()
    }

    /// A value of a raw column as its file says it, as far as that is still known.
    fn shown(&self, column: &str, row: usize) -> String {
        let number = self.records[row].row();
        let first = self.odd_times.partition_point(|odd| odd.row < number);
        let mut odd = self.odd_times[first..].iter();
        let mut odd = odd.by_ref().take_while(|odd| odd.row == number);
        if let Some(odd) = odd.find(|odd| *odd.column == *column) {
            return quoted(&odd.text);
        }
        let Some(values) = self.batch.column_by_name(column) else {
            return String::new();
        };
        let text = canonical(&values.slice(row, 1));
        match text.is_valid(0) {
            true => quoted(text.value(0)),
            false => "empty".to_owned(),
        }
    }

    /// Makes the values of an expression a column.
    fn name(&mut self, planned: &Planned) {
        let values = self.values(planned);
        let mut fields: Vec<_> = self
            .batch
            .schema()
            .fields()
            .iter()
            .map(Arc::clone)
            .collect();
        fields.push(Arc::new(Field::new(
            &planned.name,
            values.data_type().clone(),
            true,
        )));
        let mut columns = self.batch.columns().to_vec();
        columns.push(values);
        let count = RecordBatchOptions::new().with_row_count(Some(self.batch.num_rows()));
        let schema = Arc::new(Schema::new(fields));
        self.batch = RecordBatch::try_new_with_options(schema, columns, &count)
            .expect("an expression has one value per row, of its own type");
    }

    /// Keeps the rows for which the filter is true. Rows that failed so far are faults, the others
    /// are ignored, and returned if they are wanted.
    fn retain(&mut self, filter: &Planned, wanted: bool, out: &mut Mediated) -> Option<Self> {
        let values = self.decided(filter, Reason::FilterUndecided);
        let keep: BooleanArray = match values.as_boolean_opt() {
            Some(values) => values
                .iter()
                .map(|value| Some(value == Some(true)))
                .collect(),
            None => (0..values.len()).map(|_| Some(false)).collect(),
        };
        if self.failed.is_empty() && keep.true_count() == keep.len() {
            return None;
        }
        let mut failed = std::mem::take(&mut self.failed);
        let mut kept = vec![false; keep.len()];
        let mut ignored = vec![false; keep.len()];
        for row in 0..keep.len() {
            match failed.remove(&row) {
                Some(failure) => out.faults.push(self.fault(row, failure)),
                None if keep.value(row) => kept[row] = true,
                None => {
                    ignored[row] = true;
                    out.ignored.push(self.records[row]);
                }
            }
        }
        let passed_over = (wanted && ignored.contains(&true)).then(|| self.only(ignored));
        *self = self.only(kept);
        passed_over
    }

    /// The rows of a mask.
    fn only(&self, kept: Vec<bool>) -> Self {
        let among = |row: usize| kept.get(row).copied().unwrap_or(false);
        let records = self.records.iter().enumerate();
        let lines = self.lines.iter().enumerate();
        Self {
            records: records
                .filter_map(|(row, record)| among(row).then_some(*record))
                .collect(),
            lines: lines
                .filter_map(|(row, line)| among(row).then_some(*line))
                .collect(),
            batch: filter_record_batch(&self.batch, &BooleanArray::from(kept))
                .expect("the mask has one entry per row"),
            odd_times: self.odd_times.clone(),
            failed: BTreeMap::new(),
            bytes_left: self.bytes_left,
            is_too_much: self.is_too_much,
        }
    }
}

#[cfg(test)]
mod empties;
#[cfg(test)]
mod tests;
