//! What stands on the board, read.

use super::outvoted::in_order;
use super::told::{LineOutOfRange, Money, NoticeCount, Origin, ReasonCount, Share, Unsettled};
use super::{Board, Line};
use crate::currency::decimals;
use differential_dataflow::difference::IsZero;
use millrace_connectors::output::{AggregatedLine, SuspendedUsage, activity_kind, blended_rate};
use millrace_operators::charge::Notice;
use millrace_operators::domain::{
    AccountKey, Activity, AggregateId, EventTime, Fate, LineSum, MoneyTotal, Name, Reason,
    RecordId, Suspense,
};
use std::collections::{BTreeMap, BTreeSet};

impl Board {
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

    pub(super) fn shares<'s, K: 's>(
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

    pub(super) fn reason(&self, reason: Reason, records: u64) -> ReasonCount {
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
