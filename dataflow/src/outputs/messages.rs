//! Changes of complete epochs as messages: an upsert changelog per output, keyed.
//!
//! The newest row of a key is its latest message; a key whose row is gone gets a tombstone. The rows of
//! an epoch are in the order of their keys' domain rows, and are cut into parts by their number alone:
//! the same epochs give the same parts, wherever and whenever they are made again. That is why rows
//! need not be kept before they are published: a restart makes them again.

use super::{Outputs, monetise, place};
use crate::job::MessageTopics;
use crate::publish::EpochChanges;
use arrow::array::RecordBatch;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use millrace_connectors::output::{
    AggregatedLine, Balance, ImpactCause, OutputError, OutputRow, SuspendedUsage, Texts,
    decimals_as_text, encode,
};
use millrace_operators::aggregate::LineFinder;
use millrace_operators::charge::Notice;
use millrace_operators::domain::{Bucket, BucketKey, ImpactKind, Measure, RecordId};
use millrace_operators::epoch::Diff;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Rows of a part: one transaction.
const PART_ROWS: usize = 100_000;
/// Rows turned into text at a time.
const BATCH_ROWS: usize = 8_192;

/// The outputs that messages are made of, in the order in which an epoch's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageOutput {
    /// Charges.
    Monetised,
    /// Billing lines.
    Aggregated,
    /// Records that wait or were refused.
    Suspense,
    /// Charges of subscriptions without usage.
    Activity,
    /// Where each bucket stands.
    Balances,
    /// Thresholds crossed.
    Notices,
}

#[derive(Debug)]
struct Message {
    output: MessageOutput,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

/// Rows of one transaction.
#[derive(Debug, Default)]
pub struct Part {
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

impl Part {
    /// The rows: the output, the key, and the content, or nothing where the key's row is gone.
    pub fn rows(&self) -> impl Iterator<Item = (MessageOutput, &[u8], Option<&[u8]>)> {
        self.messages.iter().map(|message| {
            let value = message.value.clone().map(|value| &self.bytes[value]);
            (message.output, &self.bytes[message.key.clone()], value)
        })
    }

    fn add(&mut self, output: MessageOutput, key: &str, value: Option<&[u8]>) {
        let mut put = |bytes: &[u8]| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(bytes);
            start..self.bytes.len()
        };
        let (key, value) = (put(key.as_bytes()), value.map(&mut put));
        self.messages.push(Message { output, key, value });
    }
}

/// Makes messages of the changes of complete epochs.
pub struct MessageWriter {
    topics: MessageTopics,
    texts: Texts,
    finder: LineFinder,
    buckets: BTreeMap<BucketKey, Bucket>,
    /// What usage has moved each bucket by, and what the edges of periods have.
    moved: BTreeMap<BucketKey, (i128, i128)>,
    parts: Vec<Part>,
}

impl Outputs {
    /// The writer of messages, where the job has them.
    #[must_use]
    pub fn messages(&self, finder: LineFinder) -> Option<MessageWriter> {
        let messages = self.plan.messages.as_ref()?;
        Some(MessageWriter {
            topics: messages.topics.clone(),
            texts: self.texts.clone(),
            finder,
            buckets: BTreeMap::new(),
            moved: BTreeMap::new(),
            parts: Vec::new(),
        })
    }
}

impl MessageWriter {
    /// The parts made since the last call.
    pub fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts)
    }

    /// Learns of an epoch that was published before.
    pub fn learn(&mut self, changes: &EpochChanges) {
        self.balance(changes);
    }

    /// Makes the messages of an epoch, whose changes are settled.
    ///
    /// # Errors
    /// When a row cannot be encoded, which would be a defect of the encoder.
    pub fn write(&mut self, changes: &EpochChanges) -> Result<(), OutputError> {
        use MessageOutput::{Activity, Aggregated, Balances, Monetised, Notices, Suspense};
        let texts = self.texts.clone();
        let wants = |output| self.topics.of(output).is_some();
        let record = |record: RecordId| format!("{}:{}", texts.file(record.file()), record.row());
        let wanted = [Monetised, Aggregated, Suspense, Activity, Balances, Notices].map(wants);
        let [monetised, aggregated, suspense, activity, balances, notices] = wanted;
        if monetised {
            let rows = changes.charges.iter();
            let rows = rows.map(|(c, diff)| (monetise(c, &mut self.finder), *diff));
            let rows = rows.collect();
            let key = |row: &millrace_connectors::output::MonetisedUsage| {
                format!("{}:{}", record(row.charge.record), row.charge.item)
            };
            self.tell(Monetised, rows, key)?;
        }
        if aggregated {
            let rows = changes.lines.iter().map(|((key, sum), diff)| {
                let (key, sum) = (key.clone(), *sum);
                (AggregatedLine { key, sum }, *diff)
            });
            let key = |row: &AggregatedLine| row.key.aggregate_id().to_string();
            self.tell(Aggregated, rows.collect(), key)?;
        }
        if suspense {
            let faults = changes.faults.iter();
            let faults = faults.map(|(fault, diff)| (SuspendedUsage::Fault(fault.clone()), *diff));
            let rest = changes.suspense.iter();
            let rest = rest.map(|(row, diff)| (SuspendedUsage::Suspense(*row), *diff));
            let key = |row: &SuspendedUsage| record(row.record());
            self.tell(Suspense, faults.chain(rest).collect(), key)?;
        }
        if activity {
            let rows = changes.activity.iter();
            let rows = rows.map(|(a, diff)| (place(a.clone(), &mut self.finder), *diff));
            let rows = rows.collect();
            let key = |row: &millrace_connectors::output::SubscriptionActivity| {
                format!("{:016x}", row.activity.key.0)
            };
            self.tell(Activity, rows, key)?;
        }
        let touched = self.balance(changes);
        if balances {
            let row = |key: BucketKey| self.standing(key);
            let rows: Vec<(Balance, Diff)> = touched.iter().filter_map(|key| row(*key)).collect();
            let key = |row: &Balance| format!("{:016x}", row.bucket.key.0);
            self.tell(Balances, rows, key)?;
            let gone = |key: &BucketKey| !self.buckets.contains_key(key);
            let gone: Vec<BucketKey> = touched.into_iter().filter(gone).collect();
            for key in gone {
                self.part().add(Balances, &format!("{:016x}", key.0), None);
            }
        }
        if notices {
            let rows = changes.notices.clone();
            let key = |row: &Notice| format!("{:016x}:{}", row.bucket.0, row.threshold.level);
            self.tell(Notices, rows, key)?;
        }
        Ok(())
    }

    /// Moves the buckets that the epoch touches, and tells which.
    fn balance(&mut self, changes: &EpochChanges) -> BTreeSet<BucketKey> {
        let mut touched = BTreeSet::new();
        // What goes is told before what comes in its place.
        let mut buckets: Vec<_> = changes.buckets.iter().collect();
        buckets.sort_by_key(|(bucket, diff)| (bucket.key, *diff));
        for (bucket, diff) in buckets {
            if *diff > 0 {
                self.buckets.insert(bucket.key, bucket.clone());
            } else {
                self.buckets.remove(&bucket.key);
            }
            touched.insert(bucket.key);
        }
        let usage = changes.impacts.iter();
        let usage = usage.map(|(impact, diff)| (ImpactCause::Usage(*impact), *diff));
        let edges = changes.edges.iter();
        let edges = edges.flat_map(|(edge, diff)| ImpactCause::of_edge(edge).map(|e| (e, *diff)));
        for (cause, diff) in usage.chain(edges) {
            let impact = cause.impact();
            let moves = !matches!(impact.kind, ImpactKind::Price | ImpactKind::Offset);
            let bucket = impact.bucket.filter(|_| moves);
            let Some(bucket) = bucket.and_then(|key| self.buckets.get(&key)) else {
                continue;
            };
            let by = match bucket.measure {
                Measure::Units => impact.units,
                Measure::Money => impact.amount.0,
            };
            let by = if diff > 0 { by } else { by.saturating_neg() };
            let (used, carried) = self.moved.entry(bucket.key).or_default();
            let sum = match cause {
                ImpactCause::Usage(_) => used,
                ImpactCause::Edge { .. } => carried,
            };
            *sum = sum.saturating_add(by);
            touched.insert(bucket.key);
        }
        touched
    }

    fn standing(&self, key: BucketKey) -> Option<(Balance, Diff)> {
        let bucket = self.buckets.get(&key)?.clone();
        let (used, carried) = self.moved.get(&key).copied().unwrap_or_default();
        let moved = used.saturating_add(carried);
        let balance = Balance {
            value: bucket.opening.saturating_add(moved),
            bucket,
            carried,
            accounts: Arc::from([]),
        };
        Some((balance, 1))
    }

    fn part(&mut self) -> &mut Part {
        if self
            .parts
            .last()
            .is_none_or(|p| p.messages.len() >= PART_ROWS)
        {
            self.parts.push(Part::default());
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    /// Adds the messages of one output: of each key the row that comes, or else a tombstone.
    fn tell<T: OutputRow>(
        &mut self,
        output: MessageOutput,
        rows: Vec<(T, Diff)>,
        key: impl Fn(&T) -> String,
    ) -> Result<(), OutputError> {
        let mut keyed: Vec<(String, Diff, T)> = rows
            .into_iter()
            .map(|(row, diff)| (key(&row), diff, row))
            .collect();
        if keyed.iter().any(|(_, diff, _)| *diff < 0) {
            keyed.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1)));
            keyed.dedup_by(|later, first| later.0 == first.0);
        }
        let (texts, mut keys, mut comes) = (self.texts.clone(), Vec::new(), Vec::new());
        let mut ends = Vec::new();
        for (key, diff, row) in keyed {
            if diff > 0 {
                keys.push(key);
                comes.push(row);
            } else {
                ends.push(key);
            }
        }
        for (keys, rows) in keys.chunks(BATCH_ROWS).zip(comes.chunks(BATCH_ROWS)) {
            let lines = lines(&encode(rows, &texts)?)?;
            for (key, line) in keys.iter().zip(lines.split(|byte| *byte == b'\n')) {
                self.part().add(output, key, Some(line));
            }
        }
        for key in ends {
            self.part().add(output, &key, None);
        }
        Ok(())
    }
}

/// Rows as JSON lines, decimals as text.
fn lines(batch: &RecordBatch) -> Result<Vec<u8>, OutputError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::new());
    writer.write(&decimals_as_text(batch)?)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

impl MessageTopics {
    /// The topic of an output, where it has one.
    #[must_use]
    pub fn of(&self, output: MessageOutput) -> Option<&str> {
        match output {
            MessageOutput::Monetised => self.monetised.as_deref(),
            MessageOutput::Aggregated => self.aggregated.as_deref(),
            MessageOutput::Suspense => self.suspense.as_deref(),
            MessageOutput::Activity => self.activity.as_deref(),
            MessageOutput::Balances => self.balances.as_deref(),
            MessageOutput::Notices => self.notices.as_deref(),
        }
    }
}
