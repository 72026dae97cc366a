//! The board: what stands after the last complete epoch, kept by the publisher from the changes that
//! leave the dataflow. It answers "how much, for whom, from which files, and what is stuck".
//!
//! Conservation is checked here at every epoch: each record received from a file has exactly one
//! fate. A difference stops the job, because a bill that does not tie out is worse than none.

mod outvoted;
mod read;
mod subjects;
mod told;

pub use subjects::SubjectCount;
pub use told::{
    ConservationError, LineOutOfRange, Money, Movement, NoticeCount, Origin, ReasonCount,
    RecordCounts, Share, Unsettled,
};

use crate::publish::EpochChanges;
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use hashbrown::HashMap;
use millrace_connectors::output::{AggregatedLine, Texts};
use millrace_operators::charge::Notice;
use millrace_operators::domain::{
    AccountKey, Activity, AggregateId, Fate, Fault, FileId, LineKey, LineSum, MoneyTotal, Name,
    Reason, RecordId, Stage,
};
use millrace_operators::epoch::Diff;
use outvoted::Outvoted;
pub(crate) use outvoted::in_order;
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet};
use subjects::Subjects;

/// Examples kept per reason.
const EXAMPLES_KEPT: usize = 64;

/// See the module.
pub struct Board {
    texts: Texts,
    /// Apart from the table, which is up to half empty.
    lines: HashMap<AggregateId, Box<Line>>,
    /// The lines that moved, where that is asked for.
    moved: Option<Moved>,
    totals: BTreeMap<Name, LineSum>,
    accounts: HashMap<(AccountKey, Name), LineSum>,
    items: BTreeMap<(Name, Name), LineSum>,
    /// Apart from the nodes of the tree, which are half empty where rows come in order.
    activity: BTreeMap<Box<Activity>, Diff>,
    /// What subscriptions are charged without usage, by currency.
    subscribed: BTreeMap<Name, MoneyTotal>,
    /// The lines that the columns of the outputs do not hold.
    beyond: BTreeSet<AggregateId>,
    notices: BTreeMap<Box<Notice>, Diff>,
    received: BTreeMap<FileId, u64>,
    /// Records that a mediation rule excluded, where an output wants each.
    ignored: RoaringTreemap,
    counts: BTreeMap<FileId, BTreeMap<Fate, u64>>,
    faults: BTreeMap<RecordId, Fault>,
    /// Records of which another with the same identity holds.
    outvoted: Outvoted,
    examples: BTreeMap<Reason, BTreeSet<RecordId>>,
    subjects: Subjects,
}

/// A billing line that stands.
struct Line {
    key: LineKey,
    sum: LineSum,
    /// Its place among the lines that moved, where that is noted.
    moved: Option<usize>,
}

/// The lines that moved: each once, with what it stood at before, and which of them are gone.
#[derive(Default)]
struct Moved {
    lines: Vec<(AggregateId, LineSum)>,
    gone: HashMap<AggregateId, (LineKey, Option<usize>)>,
}

/// A billing line that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedLine {
    /// Its identifier.
    pub id: AggregateId,
    /// What it stands at, or what it stood at when it is gone.
    pub line: AggregatedLine,
    /// Whether it is gone.
    pub gone: bool,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(texts: Texts) -> Self {
        Self {
            texts,
            lines: HashMap::new(),
            moved: None,
            totals: BTreeMap::new(),
            accounts: HashMap::new(),
            items: BTreeMap::new(),
            activity: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            beyond: BTreeSet::new(),
            notices: BTreeMap::new(),
            received: BTreeMap::new(),
            ignored: RoaringTreemap::new(),
            counts: BTreeMap::new(),
            faults: BTreeMap::new(),
            outvoted: Outvoted::default(),
            examples: BTreeMap::new(),
            subjects: Subjects::default(),
        }
    }

    /// Takes in the changes of one epoch and checks conservation in the files that they touch.
    ///
    /// # Errors
    /// When a file's records do not tie out.
    ///
    /// # Panics
    /// When a row comes more often than 64 bits count.
    pub fn apply(&mut self, changes: &EpochChanges) -> Result<Movement, ConservationError> {
        let mut movement = Movement::default();
        let before = self.totals.clone();
        let mut lines = changes.lines.iter().peekable();
        while let Some(((key, sum), diff)) = lines.next() {
            // A line that moves tells what it was and what it is, one after the other.
            let mut moved = signed(sum, *diff);
            while let Some(((_, sum), diff)) = lines.next_if(|((next, _), _)| next == key) {
                moved.plus_equals(&signed(sum, *diff));
            }
            add(&mut self.totals, key.currency, &moved);
            let account = self.accounts.entry((key.account, key.currency));
            account.or_default().plus_equals(&moved);
            add(&mut self.items, (key.item, key.currency), &moved);
            let id = key.aggregate_id();
            let line = self.lines.entry(id).or_insert_with(|| {
                Box::new(Line {
                    key: key.clone(),
                    sum: LineSum::default(),
                    // It may have been there before.
                    moved: self.moved.as_mut().and_then(|moved| {
                        let (_, place) = moved.gone.remove(&id)?;
                        place
                    }),
                })
            });
            if let (Some(noted), None) = (&mut self.moved, line.moved) {
                line.moved = Some(noted.lines.len());
                noted.lines.push((id, line.sum));
            }
            line.sum.plus_equals(&moved);
            if !line.sum.fits() {
                self.beyond.insert(id);
            } else if !self.beyond.is_empty() {
                self.beyond.remove(&id);
            }
            if line.sum.is_zero() {
                let gone = self.lines.remove(&id);
                if let (Some(noted), Some(gone)) = (&mut self.moved, gone) {
                    noted.gone.insert(id, (gone.key, gone.moved));
                }
            }
        }
        for currency in before.keys().chain(self.totals.keys()) {
            let amount = |totals: &BTreeMap<Name, LineSum>| {
                totals.get(currency).copied().unwrap_or_default().amount
            };
            movement
                .totals
                .insert(*currency, (amount(&before), amount(&self.totals)));
        }
        for (activity, diff) in &changes.activity {
            let sum = self.subscribed.entry(activity.currency).or_default();
            let moved = MoneyTotal::from(activity.amount);
            *sum = sum.plus(moved.times(i64::try_from(*diff).expect("a difference fits 64 bits")));
            stand(&mut self.activity, activity, *diff);
        }
        for (notice, diff) in &changes.notices {
            stand(&mut self.notices, notice, *diff);
        }
        let outvoted = changes.suspense.iter();
        let outvoted = outvoted.filter(|(row, _)| row.reason.stage() == Stage::Dedup);
        self.outvoted.apply(outvoted.copied().collect());
        for (suspense, diff) in &changes.suspense {
            self.example(suspense.reason, suspense.record, *diff);
            self.subjects.change(suspense, *diff);
        }
        for (fault, diff) in &changes.faults {
            change(&mut self.faults, fault.record, fault, *diff);
            self.example(fault.reason, fault.record, *diff);
        }
        self.count(changes)?;
        Ok(movement)
    }

    /// From now on notes which billing lines move, for [`Self::moved`].
    pub fn follow_lines(&mut self) {
        self.moved.get_or_insert_default();
    }

    /// The billing lines that moved since the last call, by their identifiers.
    pub fn moved(&mut self) -> Vec<MovedLine> {
        let noted = self.moved.as_mut().map(std::mem::take).unwrap_or_default();
        let Moved { lines, mut gone } = noted;
        let moved = lines.into_iter().filter_map(|(id, before)| {
            let Some(line) = self.lines.get_mut(&id) else {
                let (key, _) = gone.remove(&id)?;
                let line = AggregatedLine { key, sum: before };
                // What came and went meanwhile was nowhere.
                let (moved, gone) = (!before.is_zero(), true);
                return moved.then_some(MovedLine { id, line, gone });
            };
            line.moved = None;
            let sum = line.sum;
            (sum != before).then(|| MovedLine {
                id,
                line: AggregatedLine {
                    key: line.key.clone(),
                    sum,
                },
                gone: false,
            })
        });
        let mut moved: Vec<MovedLine> = moved.collect();
        moved.sort_unstable_by_key(|moved| moved.id);
        moved
    }

    fn count(&mut self, changes: &EpochChanges) -> Result<(), ConservationError> {
        let mut touched = BTreeSet::new();
        for (file, records) in &changes.received {
            *self.received.entry(*file).or_default() += records;
            touched.insert(*file);
        }
        for (record, diff) in &changes.ignored {
            if *diff > 0 {
                self.ignored.insert(record.0);
            } else {
                self.ignored.remove(record.0);
            }
        }
        for (((file, fate), count), diff) in &changes.counts {
            let counts = self.counts.entry(*file).or_default();
            if *diff > 0 {
                counts.insert(*fate, u64::try_from(*count).unwrap_or(0));
            } else if counts.get(fate).copied() == u64::try_from(*count).ok() {
                // Retractions sort before the count that replaces them only by chance.
                counts.remove(fate);
            }
            touched.insert(*file);
        }
        for file in touched {
            let counts = self.file_counts(file);
            if !counts.ties_out() {
                let file = self.texts.file(file).to_string();
                return Err(ConservationError {
                    epoch: changes.epoch,
                    file,
                    counts,
                });
            }
        }
        Ok(())
    }

    fn example(&mut self, reason: Reason, record: RecordId, diff: isize) {
        let examples = self.examples.entry(reason).or_default();
        if diff > 0 {
            examples.insert(record);
            if examples.len() > EXAMPLES_KEPT {
                examples.pop_last();
            }
        } else {
            examples.remove(&record);
        }
    }

    /// What became of the records of a file.
    #[must_use]
    pub fn file_counts(&self, file: FileId) -> RecordCounts {
        let received = self.received.get(&file).copied().unwrap_or(0);
        let mut counts = RecordCounts {
            received,
            ..RecordCounts::default()
        };
        for (fate, count) in self.counts.get(&file).into_iter().flatten() {
            counts.add(*fate, *count);
        }
        counts
    }

    /// Records read, per file.
    pub fn received(&self) -> impl Iterator<Item = (FileId, u64)> {
        self.received
            .iter()
            .map(|(file, records)| (*file, *records))
    }

    /// Records that a mediation rule excluded, where an output wants each.
    pub fn ignored(&self) -> impl Iterator<Item = RecordId> {
        self.ignored.iter().map(RecordId)
    }

    /// What became of all records.
    #[must_use]
    pub fn counts(&self) -> RecordCounts {
        self.received
            .keys()
            .map(|file| self.file_counts(*file))
            .fold(RecordCounts::default(), RecordCounts::plus)
    }
}

fn signed(sum: &LineSum, diff: isize) -> LineSum {
    let mut sum = *sum;
    if diff < 0 {
        sum.negate();
    }
    sum
}

fn add<K: Ord>(sums: &mut BTreeMap<K, LineSum>, key: K, sum: &LineSum) {
    match sums.entry(key) {
        std::collections::btree_map::Entry::Vacant(slot) => {
            slot.insert(*sum);
        }
        std::collections::btree_map::Entry::Occupied(mut held) => {
            held.get_mut().plus_equals(sum);
            if held.get().is_zero() {
                held.remove();
            }
        }
    }
}

/// Counts a row that comes or goes; what stands, stands once.
fn stand<T: Ord + Clone>(held: &mut BTreeMap<Box<T>, Diff>, row: &T, diff: Diff) {
    let Some(count) = held.get_mut(row) else {
        held.insert(Box::new(row.clone()), diff);
        return;
    };
    *count += diff;
    if *count == 0 {
        held.remove(row);
    }
}

/// Replaces or removes; a retraction that comes after its replacement leaves it alone.
fn change<T: Clone + PartialEq>(
    held: &mut BTreeMap<RecordId, T>,
    record: RecordId,
    value: &T,
    diff: isize,
) {
    if diff > 0 {
        held.insert(record, value.clone());
    } else if held.get(&record) == Some(value) {
        held.remove(&record);
    }
}

#[cfg(test)]
mod tests;
