//! Changes of complete epochs as messages: an upsert changelog per output, keyed.
//!
//! The newest row of a key is its latest message; a key whose row is gone gets a tombstone. The rows of
//! an epoch are in the order of their keys' domain rows, billing lines stand behind all epochs of their
//! commit by their identifiers, and parts are cut by the number of rows alone: the same commit gives the same parts, wherever
//! and whenever they are made again. That is why rows need not be kept before they are published: a
//! restart makes them again.

use super::folder::Outputs;
use super::rows::{monetise, place};
use crate::board::MovedLine;
use crate::durable::{MessageOutput, Part};
use crate::job::MessageTopics;
use crate::publish::EpochChanges;
use arrow::array::RecordBatch;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use millrace_connectors::output::{
    Balance, ImpactCause, OutputError, OutputRow, SuspendedUsage, Texts, decimals_as_text, encode,
};
use millrace_operators::aggregate::LineFinder;
use millrace_operators::charge::Notice;
use millrace_operators::domain::{Bucket, BucketKey, RecordId, Total};
use millrace_operators::epoch::Diff;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Rows turned into text at a time.
const BATCH_ROWS: usize = 8_192;
/// What a row takes as text, about.
const ROW_BYTES: usize = 512;

/// Makes messages of the changes of complete epochs.
pub struct MessageWriter {
    topics: MessageTopics,
    texts: Texts,
    finder: LineFinder,
    buckets: BTreeMap<BucketKey, Bucket>,
    /// What usage has moved each bucket by, and what the edges of periods have.
    moved: BTreeMap<BucketKey, (Total<0>, Total<0>)>,
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

    /// Makes the messages of an epoch, whose changes are settled; those of billing lines are made of a
    /// whole commit, see [`Self::write_lines`].
    ///
    /// # Errors
    /// When a row cannot be encoded, which would be a defect of the encoder.
    pub fn write(&mut self, changes: &EpochChanges) -> Result<(), OutputError> {
        use MessageOutput::{Activity, Balances, Monetised, Notices, Suspense};
        let wants = |output| self.topics.of(output).is_some();
        // By number: two sources may have files of one name.
        let record = |record: RecordId| format!("{}:{}", record.file().0, record.row());
        let wanted = [Monetised, Suspense, Activity, Balances, Notices].map(wants);
        let [monetised, suspense, activity, balances, notices] = wanted;
        if monetised {
            let rows = changes.charges.iter();
            let rows = rows.map(|(c, diff)| (monetise(c, &mut self.finder), *diff));
            let rows = rows.collect();
            let key = |row: &millrace_connectors::output::MonetisedUsage| {
                format!("{}:{}", record(row.charge.record), row.charge.item)
            };
            self.tell(Monetised, rows, key)?;
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
                let key = format!("{:016x}", key.0);
                self.part().add(Balances, &key, None);
            }
        }
        if notices {
            let rows = changes.notices.clone();
            let key = |row: &Notice| format!("{:016x}:{}", row.bucket.0, row.threshold.level);
            self.tell(Notices, rows, key)?;
        }
        Ok(())
    }

    /// Makes the messages of billing lines, from what all epochs of a commit changed in them: nobody
    /// can read them before, and most lines move in most epochs.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_lines(&mut self, moved: &[MovedLine]) -> Result<(), OutputError> {
        if self.topics.of(MessageOutput::Aggregated).is_none() {
            return Ok(());
        }
        let change = |moved: &MovedLine| {
            let diff = if moved.gone { -1 } else { 1 };
            (moved.id, diff, moved.line.clone())
        };
        let keyed = moved.iter().map(change).collect();
        self.tell_keyed(MessageOutput::Aggregated, keyed)
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
            let bucket = impact.bucket.filter(|_| impact.moves_its_bucket());
            let Some(bucket) = bucket.and_then(|key| self.buckets.get(&key)) else {
                continue;
            };
            let by = Total::from_i128(impact.moved(bucket.measure));
            let (used, carried) = self.moved.entry(bucket.key).or_default();
            let sum = match cause {
                ImpactCause::Usage(_) => used,
                ImpactCause::Edge { .. } => carried,
            };
            *sum = if diff > 0 {
                sum.plus(by)
            } else {
                sum.minus(by)
            };
            touched.insert(bucket.key);
        }
        touched
    }

    fn standing(&self, key: BucketKey) -> Option<(Balance, Diff)> {
        let bucket = self.buckets.get(&key)?.clone();
        let (used, carried) = self.moved.get(&key).copied().unwrap_or_default();
        let value = Total::from_i128(bucket.opening).plus(used).plus(carried);
        let within = |total: Total<0>| total.to_i128().expect("a bucket stays within its range");
        let balance = Balance {
            value: within(value),
            bucket,
            carried: within(carried),
            accounts: Arc::from([]),
        };
        Some((balance, 1))
    }

    fn part(&mut self) -> &mut Part {
        if self.parts.last().is_none_or(|part| part.room() == 0) {
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
        let rows = rows.into_iter();
        let mut keyed: Vec<(String, Diff, T)> =
            rows.map(|(row, diff)| (key(&row), diff, row)).collect();
        if keyed.iter().any(|(_, diff, _)| *diff < 0) {
            keyed.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1)));
            keyed.dedup_by(|later, first| later.0 == first.0);
        }
        self.tell_keyed(output, keyed)
    }

    /// The same of rows whose keys differ.
    fn tell_keyed<K: fmt::Display, T: OutputRow>(
        &mut self,
        output: MessageOutput,
        keyed: Vec<(K, Diff, T)>,
    ) -> Result<(), OutputError> {
        let texts = self.texts.clone();
        let (mut keys, mut comes) = (Vec::with_capacity(keyed.len()), Vec::new());
        comes.reserve(keyed.len());
        let mut ends = Vec::new();
        for (key, diff, row) in keyed {
            if diff > 0 {
                keys.push(key);
                comes.push(row);
            } else {
                ends.push(key);
            }
        }
        let (mut keys, mut comes) = (keys.as_slice(), comes.as_slice());
        while !comes.is_empty() {
            let part = self.part();
            let count = part.room().min(BATCH_ROWS).min(comes.len());
            let (rows, rest) = comes.split_at(count);
            let (keys_of, rest_of_keys) = keys.split_at(count);
            part.add_lines(output, keys_of, lines(&encode(rows, &texts)?)?);
            (keys, comes) = (rest_of_keys, rest);
        }
        for key in ends {
            self.part().add(output, &key, None);
        }
        Ok(())
    }
}

/// Rows as JSON lines, decimals as text.
fn lines(batch: &RecordBatch) -> Result<Vec<u8>, OutputError> {
    let room = batch.num_rows().saturating_mul(ROW_BYTES);
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(Vec::with_capacity(room));
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

#[cfg(test)]
mod tests;
