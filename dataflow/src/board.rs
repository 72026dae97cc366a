//! The board: what stands after the last complete epoch, kept by the publisher from the changes that
//! leave the dataflow. It answers "how much, for whom, from which files, and what is stuck".
//!
//! Conservation is checked here at every epoch: each record received from a file has exactly one
//! fate. A difference stops the job, because a bill that does not tie out is worse than none.

use crate::publish::EpochChanges;
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use millrace_connectors::output::{AggregatedLine, SuspendedUsage, Texts, blended_rate};
use millrace_operators::domain::{
    AccountKey, AggregateId, Amount, Fate, Fault, FileId, LineKey, LineSum, Name, Reason, RecordId,
    Suspense,
};
use millrace_operators::epoch::Epoch;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Examples kept per reason.
const EXAMPLES_KEPT: usize = 64;

/// See the module.
pub struct Board {
    texts: Texts,
    lines: HashMap<AggregateId, (LineKey, LineSum)>,
    totals: BTreeMap<Name, LineSum>,
    accounts: BTreeMap<(AccountKey, Name), LineSum>,
    items: BTreeMap<(Name, Name), LineSum>,
    received: BTreeMap<FileId, u64>,
    counts: BTreeMap<FileId, BTreeMap<Fate, u64>>,
    faults: BTreeMap<RecordId, Fault>,
    duplicates: BTreeMap<RecordId, Suspense>,
    examples: BTreeMap<Reason, BTreeSet<RecordId>>,
}

/// The records of a file, or of all files, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordCounts {
    /// Read from the source.
    pub received: u64,
    /// Excluded by a mediation rule.
    pub ignored: u64,
    /// Copies of an earlier record.
    pub duplicate: u64,
    /// Stopped by the source or by mediation.
    pub error: u64,
    /// Waiting for reference data.
    pub suspended: u64,
    /// Charged.
    pub monetised: u64,
}

impl RecordCounts {
    /// Whether every record received is accounted for exactly once.
    #[must_use]
    pub fn ties_out(&self) -> bool {
        let settled = self.ignored + self.duplicate + self.error + self.suspended + self.monetised;
        settled == self.received
    }

    fn add(&mut self, fate: Fate, count: u64) {
        match fate {
            Fate::Ignored => self.ignored += count,
            Fate::Duplicate => self.duplicate += count,
            Fate::Error(_) => self.error += count,
            Fate::Suspended(_) => self.suspended += count,
            Fate::Monetised => self.monetised += count,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            ignored: self.ignored + other.ignored,
            duplicate: self.duplicate + other.duplicate,
            error: self.error + other.error,
            suspended: self.suspended + other.suspended,
            monetised: self.monetised + other.monetised,
        }
    }
}

/// An amount as people and programs read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Money {
    /// Currency.
    pub currency: String,
    /// Exact, as decimal text.
    pub amount: String,
    /// Rounded half away from zero to two decimals.
    pub rounded: String,
}

/// The charges of an account, or of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The account or the item.
    pub name: String,
    /// Charge lines.
    pub charges: i64,
    /// Quantity; only meaningful where one item is summed.
    pub quantity: String,
    /// Amount per unit.
    pub rate: Option<String>,
    /// Money.
    #[serde(flatten)]
    pub money: Money,
}

/// Records that are not monetised for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// The stable code.
    pub reason: &'static str,
    /// Where it was found.
    pub stage: &'static str,
    /// Records.
    pub records: u64,
    /// What to do.
    pub hint: &'static str,
    /// One of them, as `file row N` or `file line N`.
    pub example: Option<String>,
    /// What was found there.
    pub detail: Option<String>,
}

/// How much money an epoch moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// Per currency: before, after.
    pub totals: BTreeMap<Name, (Amount, Amount)>,
}

/// A file whose records do not tie out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "conservation broken at epoch {epoch} in {file}: {counts:?}; this is a bug, and the bill must \
     not be used"
)]
pub struct ConservationError {
    epoch: Epoch,
    file: String,
    counts: RecordCounts,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(texts: Texts) -> Self {
        Self {
            texts,
            lines: HashMap::new(),
            totals: BTreeMap::new(),
            accounts: BTreeMap::new(),
            items: BTreeMap::new(),
            received: BTreeMap::new(),
            counts: BTreeMap::new(),
            faults: BTreeMap::new(),
            duplicates: BTreeMap::new(),
            examples: BTreeMap::new(),
        }
    }

    /// Takes in the changes of one epoch and checks conservation in the files that they touch.
    ///
    /// # Errors
    /// When a file's records do not tie out.
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
            add(&mut self.accounts, (key.account, key.currency), &moved);
            add(&mut self.items, (key.item, key.currency), &moved);
            let id = key.aggregate_id();
            let line = self.lines.entry(id);
            let (_, held) = line.or_insert_with(|| (key.clone(), LineSum::default()));
            held.plus_equals(&moved);
            if held.is_zero() {
                self.lines.remove(&id);
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
        for (suspense, diff) in &changes.suspense {
            if suspense.reason == Reason::Duplicate {
                change(&mut self.duplicates, suspense.record, suspense, *diff);
            }
            self.example(suspense.reason, suspense.record, *diff);
        }
        for (fault, diff) in &changes.faults {
            change(&mut self.faults, fault.record, fault, *diff);
            self.example(fault.reason, fault.record, *diff);
        }
        self.count(changes)?;
        Ok(movement)
    }

    fn count(&mut self, changes: &EpochChanges) -> Result<(), ConservationError> {
        let mut touched = BTreeSet::new();
        for (file, records) in &changes.received {
            *self.received.entry(*file).or_default() += records;
            touched.insert(*file);
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
        let line = |(key, sum): &(LineKey, LineSum)| AggregatedLine {
            key: key.clone(),
            sum: *sum,
        };
        let mut lines: Vec<AggregatedLine> = self.lines.values().map(line).collect();
        lines.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        lines
    }

    /// How many billing lines there are.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Records stopped before rating, in record order.
    #[must_use]
    pub fn stopped(&self) -> Vec<SuspendedUsage> {
        let faults = self.faults.values().cloned().map(SuspendedUsage::Fault);
        let duplicates = self
            .duplicates
            .values()
            .copied()
            .map(SuspendedUsage::Suspense);
        let mut stopped: Vec<_> = faults.chain(duplicates).collect();
        stopped.sort_by_key(SuspendedUsage::record);
        stopped
    }

    /// Totals per currency.
    #[must_use]
    pub fn totals(&self) -> Vec<Money> {
        self.totals
            .iter()
            .map(|(currency, sum)| self.money(*currency, sum.amount))
            .collect()
    }

    /// An amount in a currency.
    #[must_use]
    pub fn money(&self, currency: Name, amount: Amount) -> Money {
        Money {
            currency: self.texts.names.text(currency).to_string(),
            amount: amount.to_string(),
            rounded: amount.rounded(2),
        }
    }

    /// Accounts, the one with the highest amount first.
    #[must_use]
    pub fn accounts(&self) -> Vec<Share> {
        let name = |account: &AccountKey| self.texts.names.account(*account).to_string();
        self.shares(&self.accounts, name, false)
    }

    /// Items, the one with the highest amount first.
    #[must_use]
    pub fn items(&self) -> Vec<Share> {
        self.shares(
            &self.items,
            |item| self.texts.names.text(*item).to_string(),
            true,
        )
    }

    fn shares<K>(
        &self,
        sums: &BTreeMap<(K, Name), LineSum>,
        name: impl Fn(&K) -> String,
        rated: bool,
    ) -> Vec<Share> {
        let mut shares: Vec<_> = sums
            .iter()
            .map(|((key, c), sum)| (name(key), *c, sum))
            .collect();
        shares.sort_by(|a, b| (b.2.amount, &a.0).cmp(&(a.2.amount, &b.0)));
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
                Fate::Error(reason) | Fate::Suspended(reason) => *reason,
                Fate::Duplicate => Reason::Duplicate,
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
        let place = |record: &RecordId| match fault {
            Some(fault) if fault.line > 0 => format!("line {}", fault.line),
            _ => format!("row {}", record.row()),
        };
        let example = record.map(|r| format!("{} {}", self.texts.file(r.file()), place(r)));
        let detail = fault.map(|fault| match fault.field.as_str() {
            "" => fault.detail.clone(),
            field => format!("{field}: {}", fault.detail),
        });
        ReasonCount {
            reason: reason.code(),
            stage: reason.stage().name(),
            records,
            hint: reason.hint(),
            example,
            detail,
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
