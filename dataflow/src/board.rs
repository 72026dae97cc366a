//! The board: what stands after the last complete epoch, kept by the publisher from the changes that
//! leave the dataflow. It answers "how much, for whom, from which files, and what is stuck".
//!
//! Conservation is checked here at every epoch: each record received from a file has exactly one
//! fate. A difference stops the job, because a bill that does not tie out is worse than none.

mod outvoted;
mod subjects;
mod told;

pub use subjects::SubjectCount;
pub use told::{
    ConservationError, LineOutOfRange, Money, Movement, NoticeCount, Origin, ReasonCount,
    RecordCounts, Share, Unsettled,
};

use crate::currency::decimals;
use crate::publish::EpochChanges;
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use hashbrown::HashMap;
use millrace_connectors::output::{
    AggregatedLine, SuspendedUsage, Texts, activity_kind, blended_rate,
};
use millrace_operators::charge::Notice;
use millrace_operators::domain::{
    AccountKey, Activity, AggregateId, EventTime, Fate, Fault, FileId, LineKey, LineSum,
    MoneyTotal, Name, Reason, RecordId, Stage, Suspense,
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

    /// All billing lines, in the order of their keys.
    #[must_use]
    pub fn lines(&self) -> Vec<AggregatedLine> {
        let line = |line: &Line| AggregatedLine {
            key: line.key.clone(),
            sum: line.sum,
        };
        let lines = self.lines.values();
        let mut lines: Vec<AggregatedLine> = lines.map(|held| line(held)).collect();
        lines.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        lines
    }

    /// What stands in each bill unit, per currency: by time.
    #[must_use]
    pub fn bill_units(&self) -> Vec<(EventTime, EventTime, usize, Money)> {
        let mut sums: BTreeMap<(EventTime, EventTime, Name), (usize, MoneyTotal)> = BTreeMap::new();
        // In the order of nothing: only sums are made.
        for line in self.lines.values() {
            let key = &line.key;
            let unit = (key.unit_start, key.unit_end, key.currency);
            let (lines, sum) = sums.entry(unit).or_default();
            *lines += 1;
            *sum = sum.plus(line.sum.amount);
        }
        let unit = |((start, end, currency), (lines, amount))| {
            (start, end, lines, self.money(currency, amount))
        };
        sums.into_iter().map(unit).collect()
    }

    /// How many billing lines there are.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Records stopped before rating, in record order.
    pub fn stopped(&self) -> impl Iterator<Item = SuspendedUsage> {
        let faults = self.faults.values().cloned().map(SuspendedUsage::Fault);
        let outvoted = self.outvoted.all().map(SuspendedUsage::Suspense);
        in_order(faults, outvoted, SuspendedUsage::record)
    }

    /// The record that holds instead of this one, and why; nothing where none does.
    #[must_use]
    pub fn outvoted(&self, record: RecordId) -> Option<Suspense> {
        self.outvoted.get(record)
    }

    /// Totals per currency.
    #[must_use]
    pub fn totals(&self) -> Vec<Money> {
        self.totals
            .iter()
            .map(|(currency, sum)| self.money(*currency, sum.amount))
            .collect()
    }

    /// Charges of subscriptions without usage: by account, subscription, time and item.
    #[must_use]
    pub fn activity(&self) -> Vec<Activity> {
        let mut activity: Vec<Activity> = self.activity.keys().map(|a| (**a).clone()).collect();
        activity.sort_by_key(|a| (a.account, a.subscription, a.billed_at(), a.item, a.key));
        activity
    }

    /// Charges of subscriptions whose amount cannot be computed, in the order of [`Self::activity`].
    #[must_use]
    pub fn unsettled(&self) -> Vec<Unsettled> {
        let names = &self.texts.names;
        let unsettled = |activity: &Activity| {
            let reason = activity.reason?;
            Some(Unsettled {
                item: names.text(activity.item).to_string(),
                kind: activity_kind(&activity.kind),
                account: names.account(activity.account).to_string(),
                subscription: names.subscription(activity.subscription).to_string(),
                cycle_start: activity.cycle.start().to_string(),
                cycle_end: activity.cycle.end().to_string(),
                reason: reason.code(),
                hint: reason.hint(),
            })
        };
        self.activity().iter().filter_map(unsettled).collect()
    }

    /// Lines that the columns of the outputs do not hold, in the order of their keys.
    #[must_use]
    pub fn out_of_range(&self) -> Vec<LineOutOfRange> {
        let names = &self.texts.names;
        let mut lines: Vec<(&AggregateId, &Line)> = self
            .beyond
            .iter()
            .filter_map(|id| Some((id, &**self.lines.get(id)?)))
            .collect();
        lines.sort_unstable_by(|a, b| a.1.key.cmp(&b.1.key));
        let told = |(id, line): (&AggregateId, &Line)| {
            let Line { key, sum, .. } = line;
            LineOutOfRange {
                aggregate_id: id.to_string(),
                account: names.account(key.account).to_string(),
                bill_unit_start: key.unit_start.to_string(),
                bill_unit_end: key.unit_end.to_string(),
                item: names.text(key.item).to_string(),
                quantity: sum.quantity.to_string(),
                amount: sum.amount.to_string(),
                currency: names.text(key.currency).to_string(),
                reason: Reason::AmountOutOfRange.code(),
                hint: "look for records of this line whose quantity cannot be real, in the output \
                   monetised, and have the source correct them; otherwise bill in a larger unit of \
                   currency",
            }
        };
        lines.into_iter().map(told).collect()
    }

    /// Thresholds crossed: by group, resource and time.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices: Vec<Notice> = self.notices.keys().map(|n| **n).collect();
        notices.sort_by_key(|n| (n.group, n.resource, n.time, n.bucket, n.threshold));
        notices
    }

    /// How many thresholds were crossed, by the percent that they are of; none where they are levels.
    #[must_use]
    pub fn notice_counts(&self) -> Vec<NoticeCount> {
        let mut counts: BTreeMap<Option<u8>, u64> = BTreeMap::new();
        for notice in self.notices.keys() {
            *counts.entry(notice.threshold.percent).or_default() += 1;
        }
        let count = |(percent, notices)| NoticeCount { percent, notices };
        counts.into_iter().map(count).collect()
    }

    /// The totals per currency, as what usage and what subscriptions alone are charged. Empty where
    /// nothing is charged without usage.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        let charged = self.subscribed.iter();
        let charged = charged.filter(|(_, amount)| **amount != MoneyTotal::ZERO);
        let origin = |(currency, amount): (&Name, &MoneyTotal)| {
            let total = self.totals.get(currency).copied().unwrap_or_default();
            let usage = total.amount.minus(*amount);
            Origin {
                currency: self.texts.names.text(*currency).to_string(),
                usage: self.money(*currency, usage),
                subscriptions: self.money(*currency, *amount),
            }
        };
        charged.map(origin).collect()
    }

    /// An amount in a currency.
    #[must_use]
    pub fn money(&self, currency: Name, amount: MoneyTotal) -> Money {
        let currency = self.texts.names.text(currency).to_string();
        Money {
            amount: amount.to_string(),
            rounded: amount.rounded(decimals(&currency)),
            currency,
        }
    }

    /// What an account is billed in a currency.
    #[must_use]
    pub fn account(&self, account: AccountKey, currency: Name) -> MoneyTotal {
        let sum = self.accounts.get(&(account, currency));
        sum.map_or(MoneyTotal::ZERO, |sum| sum.amount)
    }

    /// Accounts, the one with the highest amount first.
    #[must_use]
    pub fn accounts(&self) -> Vec<Share> {
        let name = |account: &AccountKey| self.texts.names.account(*account).to_string();
        let accounts = self.accounts.iter().filter(|(_, sum)| !sum.is_zero());
        self.shares(accounts, name, false)
    }

    /// Items, the one with the highest amount first.
    #[must_use]
    pub fn items(&self) -> Vec<Share> {
        self.shares(
            self.items.iter(),
            |item| self.texts.names.text(*item).to_string(),
            true,
        )
    }

    fn shares<'s, K: 's>(
        &self,
        sums: impl Iterator<Item = (&'s (K, Name), &'s LineSum)>,
        name: impl Fn(&K) -> String,
        rated: bool,
    ) -> Vec<Share> {
        let mut shares: Vec<_> = sums.map(|((key, c), sum)| (name(key), *c, sum)).collect();
        shares.sort_by(|a, b| (b.2.amount, &a.0, a.1).cmp(&(a.2.amount, &b.0, b.1)));
        let share = |(name, currency, sum): (String, Name, &LineSum)| Share {
            name,
            charges: sum.charges,
            quantity: sum.quantity.to_string(),
            rate: rated
                .then(|| blended_rate(sum))
                .flatten()
                .map(|rate| rate.to_string()),
            money: self.money(currency, sum.amount),
        };
        shares.into_iter().map(share).collect()
    }

    /// Why records are not monetised, the most frequent reason first.
    #[must_use]
    pub fn reasons(&self) -> Vec<ReasonCount> {
        let mut records: BTreeMap<Reason, u64> = BTreeMap::new();
        for (fate, count) in self.counts.values().flatten() {
            let reason = match fate {
                Fate::Error(reason) | Fate::Suspended(reason) | Fate::Superseded(reason) => *reason,
                Fate::Duplicate => Reason::Duplicate,
                Fate::Conflict => Reason::Conflict,
                Fate::Discarded => Reason::Discarded,
                Fate::Ignored | Fate::Monetised => continue,
            };
            *records.entry(reason).or_default() += count;
        }
        // A file that breaks off is a fault without a record.
        let broken = self
            .faults
            .values()
            .filter(|f| f.reason == Reason::FileUnreadable)
            .count();
        if broken > 0 {
            records.insert(
                Reason::FileUnreadable,
                u64::try_from(broken).unwrap_or(u64::MAX),
            );
        }
        let mut reasons: Vec<_> = records
            .into_iter()
            .filter(|(_, records)| *records > 0)
            .collect();
        reasons.sort_by_key(|(reason, records)| (std::cmp::Reverse(*records), *reason));
        reasons
            .into_iter()
            .map(|(reason, records)| self.reason(reason, records))
            .collect()
    }

    fn reason(&self, reason: Reason, records: u64) -> ReasonCount {
        let record = self.examples.get(&reason).and_then(BTreeSet::first);
        let fault = record.and_then(|record| self.faults.get(record));
        let place = |record: RecordId| match self.faults.get(&record) {
            Some(fault) if fault.line > 0 => {
                let file = self.texts.told_file(record.file());
                format!("{file} line {}", fault.line)
            }
            _ => self.texts.place(record),
        };
        let example = record.map(|record| place(*record));
        let detail = fault.map(|fault| match fault.field.as_str() {
            "" => fault.detail.clone(),
            field => format!("{field}: {}", fault.detail),
        });
        let outvoted = record.and_then(|record| self.outvoted.get(*record));
        let detail = detail.or_else(|| {
            let holds = outvoted?.original?;
            let holds = self.texts.place(holds);
            Some(format!("of its identity {holds} holds"))
        });
        ReasonCount {
            reason: reason.code(),
            stage: reason.stage().name(),
            records,
            hint: reason.hint(),
            example,
            detail,
            subjects: self.subjects.of(reason, &self.texts, place),
        }
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
