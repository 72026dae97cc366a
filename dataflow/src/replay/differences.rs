//! Lines billed beside lines rated again.

use crate::rerate::Rater;
use differential_dataflow::difference::{IsZero, Semigroup};
use millrace_connectors::archive::ArchivedLine;
use millrace_connectors::output::{AggregatedLine, Texts};
use millrace_operators::domain::{
    AggregateId, LineKey, LineSum, MoneyTotal, Period, Reason, Suspense,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// The archive.
    pub archive: String,
    /// The periods rated, `start end` each.
    pub periods: Vec<(String, String)>,
    /// Records rated.
    pub records: u64,
    /// Bills compared: accounts, in each of the periods.
    pub bills: usize,
    /// Records that were billed and cannot be rated now, by reason.
    pub suspended: Vec<SuspendedCount>,
    /// Accounts that are billed differently, by name.
    pub accounts: Vec<AccountDifference>,
    /// All accounts, by currency.
    pub totals: Vec<TotalDifference>,
}

/// Records that wait for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SuspendedCount {
    /// The reason's code.
    pub reason: &'static str,
    /// What to do about it.
    pub hint: &'static str,
    /// Records.
    pub records: u64,
}

/// Money billed, and as rated again; exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TotalDifference {
    /// The currency.
    pub currency: String,
    /// What was billed.
    pub billed: String,
    /// What it would be.
    pub rerated: String,
    /// The second less the first.
    pub difference: String,
}

/// An account that is billed differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountDifference {
    /// The account.
    pub account: String,
    /// What it comes to, lines that do not differ too.
    #[serde(flatten)]
    pub total: TotalDifference,
    /// The lines that differ.
    pub lines: Vec<LineDifference>,
}

/// A line that is billed differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineDifference {
    /// Start of the bill unit.
    pub bill_unit_start: String,
    /// End of the bill unit.
    pub bill_unit_end: String,
    /// What was used.
    pub item: String,
    /// The grouping attributes that the line has.
    pub grouped_by: BTreeMap<String, String>,
    /// Quantity billed.
    pub billed_quantity: String,
    /// Quantity now.
    pub rerated_quantity: String,
    /// What was billed.
    pub billed: String,
    /// What it would be.
    pub rerated: String,
    /// The second less the first.
    pub difference: String,
}

impl Replay {
    /// Whether everything would be billed as it was.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.accounts.is_empty()
    }
}

/// A line's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    account: String,
    currency: String,
    unit: Period,
    item: String,
    grouped_by: BTreeMap<String, String>,
}

/// Differences on their way.
#[derive(Debug, Default)]
pub(super) struct Differences {
    aggregate_by: Vec<String>,
    lines: BTreeMap<AggregateId, (Told, LineSum, LineSum)>,
    suspended: BTreeMap<Reason, u64>,
    records: u64,
    bills: usize,
    /// By account and currency.
    differing: BTreeMap<(String, String), (Sums, Vec<LineDifference>)>,
    totals: BTreeMap<String, Sums>,
}

/// Money billed, and as rated again.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    billed: MoneyTotal,
    rerated: MoneyTotal,
}

impl Sums {
    fn add(&mut self, billed: MoneyTotal, rerated: MoneyTotal) {
        self.billed = self.billed.plus(billed);
        self.rerated = self.rerated.plus(rerated);
    }

    fn told(self, currency: String) -> TotalDifference {
        TotalDifference {
            currency,
            billed: self.billed.to_string(),
            rerated: self.rerated.to_string(),
            difference: less(self.rerated, self.billed),
        }
    }
}

fn less(left: MoneyTotal, right: MoneyTotal) -> String {
    left.minus(right).to_string()
}

impl Differences {
    /// Lines of the next period, which differ by these attributes.
    pub(super) fn begin(&mut self, aggregate_by: Vec<String>) {
        self.aggregate_by = aggregate_by;
    }

    /// Takes in what was rated.
    pub(super) fn rated<'a>(
        &mut self,
        records: u64,
        bills: usize,
        suspense: impl Iterator<Item = &'a Suspense>,
    ) {
        self.records += records;
        self.bills += bills;
        for suspense in suspense {
            *self.suspended.entry(suspense.reason).or_default() += 1;
        }
    }

    /// Takes in the lines of accounts in a period: all that was billed to them, and all that they
    /// come to.
    pub(super) fn note<'a>(
        &mut self,
        billed: impl Iterator<Item = &'a ArchivedLine>,
        rerated: &[(&LineKey, &LineSum)],
        rater: &Rater,
    ) {
        let texts = Texts {
            names: Arc::clone(&rater.names),
            files: Arc::default(),
            lines: Arc::default(),
            dimensions: self
                .aggregate_by
                .iter()
                .cloned()
                .zip(rater.dimensions.iter().copied())
                .collect(),
        };
        let mut lines = std::mem::take(&mut self.lines);
        for line in billed {
            let (_, sum, _) = lines
                .entry(line.id)
                .or_insert_with(|| (self.archived(line), LineSum::default(), LineSum::default()));
            sum.plus_equals(&line.sum);
        }
        for (key, sum) in rerated {
            let fresh = || {
                (
                    self.fresh(key, &texts),
                    LineSum::default(),
                    LineSum::default(),
                )
            };
            let (.., held) = lines.entry(key.aggregate_id()).or_insert_with(fresh);
            held.plus_equals(sum);
        }
        for (told, billed, rerated) in lines.into_values() {
            self.compare(told, billed, rerated);
        }
    }

    fn archived(&self, line: &ArchivedLine) -> Told {
        let values = line.dimensions.iter();
        let grouped = self.aggregate_by.iter().zip(values);
        let grouped = grouped.filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        Told {
            account: line.account.clone(),
            currency: line.currency.clone(),
            unit: Period::new(line.unit_start, line.unit_end).unwrap_or(Period::ALWAYS),
            item: line.item.clone(),
            grouped_by: grouped.collect(),
        }
    }

    fn fresh(&self, key: &LineKey, texts: &Texts) -> Told {
        let names = &texts.names;
        let line = AggregatedLine {
            key: key.clone(),
            sum: LineSum::default(),
        };
        let grouped = self.aggregate_by.iter().enumerate();
        let grouped = grouped.filter_map(|(index, name)| {
            Some((name.clone(), line.dimension(index, texts)?.to_string()))
        });
        Told {
            account: names.account(key.account).to_string(),
            currency: names.text(key.currency).to_string(),
            unit: Period::new(key.unit_start, key.unit_end).unwrap_or(Period::ALWAYS),
            item: names.text(key.item).to_string(),
            grouped_by: grouped.collect(),
        }
    }

    fn compare(&mut self, told: Told, billed: LineSum, rerated: LineSum) {
        let currency = told.currency.clone();
        let total = self.totals.entry(currency.clone()).or_default();
        total.add(billed.amount, rerated.amount);
        let key = (told.account.clone(), currency);
        let (sums, lines) = self.differing.entry(key).or_default();
        sums.add(billed.amount, rerated.amount);
        if billed == rerated || (billed.is_zero() && rerated.is_zero()) {
            return;
        }
        lines.push(LineDifference {
            bill_unit_start: told.unit.start().to_string(),
            bill_unit_end: told.unit.end().to_string(),
            item: told.item,
            grouped_by: told.grouped_by,
            billed_quantity: billed.quantity.to_string(),
            rerated_quantity: rerated.quantity.to_string(),
            billed: billed.amount.to_string(),
            rerated: rerated.amount.to_string(),
            difference: less(rerated.amount, billed.amount),
        });
    }

    pub(super) fn finish(self, archive: &str, periods: &[Period]) -> Replay {
        let shown = |period: &Period| (period.start().to_string(), period.end().to_string());
        let count = |(reason, records): (Reason, u64)| SuspendedCount {
            reason: reason.code(),
            hint: reason.hint(),
            records,
        };
        let differing = self
            .differing
            .into_iter()
            .filter(|(_, (_, lines))| !lines.is_empty());
        let differing = differing.map(|((account, currency), (sums, mut lines))| {
            lines.sort_by(|a, b| {
                let order = |line: &LineDifference| {
                    let unit = (line.bill_unit_start.clone(), line.bill_unit_end.clone());
                    (unit, line.item.clone(), line.grouped_by.clone())
                };
                order(a).cmp(&order(b))
            });
            AccountDifference {
                account,
                total: sums.told(currency),
                lines,
            }
        });
        Replay {
            archive: archive.to_owned(),
            periods: periods.iter().map(shown).collect(),
            records: self.records,
            bills: self.bills,
            suspended: self.suspended.into_iter().map(count).collect(),
            accounts: differing.collect(),
            totals: self
                .totals
                .into_iter()
                .map(|(currency, sums)| sums.told(currency))
                .collect(),
        }
    }
}
