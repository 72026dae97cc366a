//! What the board tells: counts of records, money, shares of it, and what waits.

use super::subjects::SubjectCount;
use millrace_operators::domain::{Fate, MoneyTotal, Name};
use millrace_operators::epoch::Epoch;
use serde::Serialize;
use std::collections::BTreeMap;

/// The records of a file, or of all files, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordCounts {
    /// Read from the source.
    pub received: u64,
    /// Excluded by a mediation rule.
    pub ignored: u64,
    /// Copies of an earlier record.
    pub duplicate: u64,
    /// Records of a known identity with another content than the one that holds.
    pub conflict: u64,
    /// Records that gave way to another version of theirs, and corrections that take one out.
    pub superseded: u64,
    /// Stopped by the source or by mediation.
    pub error: u64,
    /// Waiting for reference data.
    pub suspended: u64,
    /// Taken out of suspense by operators.
    pub discarded: u64,
    /// Charged.
    pub monetised: u64,
}

impl RecordCounts {
    /// Whether every record received is accounted for exactly once.
    #[must_use]
    pub fn ties_out(&self) -> bool {
        let settled = [
            self.ignored,
            self.duplicate,
            self.conflict,
            self.superseded,
            self.error,
            self.suspended,
            self.discarded,
            self.monetised,
        ];
        settled.iter().sum::<u64>() == self.received
    }

    pub(super) fn add(&mut self, fate: Fate, count: u64) {
        match fate {
            Fate::Ignored => self.ignored += count,
            Fate::Duplicate => self.duplicate += count,
            Fate::Conflict => self.conflict += count,
            Fate::Superseded(_) => self.superseded += count,
            Fate::Error(_) => self.error += count,
            Fate::Suspended(_) => self.suspended += count,
            Fate::Discarded => self.discarded += count,
            Fate::Monetised => self.monetised += count,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            ignored: self.ignored + other.ignored,
            duplicate: self.duplicate + other.duplicate,
            conflict: self.conflict + other.conflict,
            superseded: self.superseded + other.superseded,
            error: self.error + other.error,
            suspended: self.suspended + other.suspended,
            discarded: self.discarded + other.discarded,
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
    /// Rounded half away from zero to the decimals of the currency.
    pub rounded: String,
}

/// Where the money of a currency comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Currency.
    pub currency: String,
    /// Charged for usage.
    pub usage: Money,
    /// Charged to subscriptions without usage.
    pub subscriptions: Money,
}

/// Thresholds crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NoticeCount {
    /// What part of the whole is used, in percent; none for levels that are not given so.
    pub percent: Option<u8>,
    /// How many buckets have crossed it.
    pub notices: u64,
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
    /// What suspended records wait for, the most frequent first; the others are only counted.
    pub subjects: Vec<SubjectCount>,
}

/// A charge of a subscription whose amount cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unsettled {
    /// What should be charged.
    pub item: String,
    /// Its kind, as in the output `activity`.
    pub kind: &'static str,
    /// The account.
    pub account: String,
    /// The subscription.
    pub subscription: String,
    /// The cycle that it is for: from here.
    pub cycle_start: String,
    /// To here.
    pub cycle_end: String,
    /// The stable code.
    pub reason: &'static str,
    /// What to do.
    pub hint: &'static str,
}

/// A billing line whose quantity or amount has more digits than the columns of the outputs: they are
/// empty there, and exact here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineOutOfRange {
    /// Its identifier.
    pub aggregate_id: String,
    /// Who is billed.
    pub account: String,
    /// Start of the bill unit.
    pub bill_unit_start: String,
    /// End of the bill unit.
    pub bill_unit_end: String,
    /// What was used.
    pub item: String,
    /// Exact, as decimal text.
    pub quantity: String,
    /// Exact, as decimal text.
    pub amount: String,
    /// Currency of the amount.
    pub currency: String,
    /// The stable code.
    pub reason: &'static str,
    /// What to do.
    pub hint: &'static str,
}

/// How much money an epoch moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// Per currency: before, after.
    pub totals: BTreeMap<Name, (MoneyTotal, MoneyTotal)>,
}

/// A file whose records do not tie out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "conservation broken at epoch {epoch} in {file}: {counts:?}; this is a bug, and the bill must \
     not be used"
)]
pub struct ConservationError {
    pub(super) epoch: Epoch,
    pub(super) file: String,
    pub(super) counts: RecordCounts,
}
