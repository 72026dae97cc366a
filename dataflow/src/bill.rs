//! `millrace bill`: what accounts are billed, by bill unit, line by line.
//!
//! The same numbers as the run's outputs, from the same dataflow: a job with durable state is asked
//! for what it has committed, any other is read and priced as by `run`, without writing anything.
//!
//! ```text
//!  billing line ── what subscriptions are charged on it ──► usage lines
//!                                                      └──► activity
//!  usage lines + activity = exact, + rounding = total of the bill
//! ```
//!
//! A bill is rounded once, to the decimals of its currency, and the rounding is named, so that nothing
//! appears or goes between the exact sum and what is asked for.

mod period;
mod text;

use crate::board::{Money, ReasonCount, Unsettled};
use crate::currency::decimals;
use crate::error::RunError;
use crate::job::Job;
use crate::listener::Listener;
use crate::report::{RunFacts, Summary, day};
use crate::run::{finder, read, texts};
use differential_dataflow::difference::{Abelian as _, Semigroup as _};
use jiff::tz::TimeZone;
use millrace_connectors::diagnostic::{Diagnostic, did_you_mean};
use millrace_connectors::output::{AggregatedLine, Texts, activity_kind, blended_rate};
use millrace_operators::aggregate::LineFinder;
use millrace_operators::domain::{
    AccountKey, Activity, ActivityKind, AggregateId, Amount, EventTime, LineKey, LineSum,
    MoneyTotal, Name,
};
use period::Asked;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct BillRequest {
    /// The account; all of them unless given.
    pub account: Option<String>,
    /// A month, a year or a day: the bill units that begin in it, or hold the day. All unless given.
    pub period: Option<String>,
    /// Worker threads; as many as there are processors unless given.
    pub workers: Option<usize>,
}

/// Bills of accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bills {
    /// The job.
    pub job: String,
    /// Where the numbers are from: the state of a durable job, or its files, read now.
    pub source: String,
    /// What lines are grouped by, as the job names it.
    pub grouped_by: Vec<String>,
    /// The bills, by account and time.
    pub bills: Vec<Bill>,
    /// What the bills come to, per currency.
    pub totals: Vec<BillTotal>,
    /// What the job's summary says in total, where all bills were asked for: the same sums.
    pub summary: Option<Vec<Money>>,
    /// Why records are on no bill.
    pub waiting: Vec<ReasonCount>,
    /// Charges of subscriptions that are on no bill, because their amount cannot be computed.
    pub unsettled: Vec<Unsettled>,
    /// Whether the job's summary has something that somebody should look at.
    pub findings: bool,
    /// Bill units that there are, where none is of the period asked for.
    #[serde(skip)]
    pub others: Vec<String>,
    /// The job's time zone.
    #[serde(skip)]
    pub zone: TimeZone,
}

/// What an account is billed for a bill unit, in a currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// The account.
    pub account: String,
    /// Its first day, or first instant, in the job's time zone.
    pub from: String,
    /// The day, or the instant, that it ends before.
    pub to: String,
    /// Its first instant.
    pub bill_unit_start: String,
    /// The first instant behind it.
    pub bill_unit_end: String,
    /// The currency.
    pub currency: String,
    /// Usage.
    pub lines: Vec<BillLine>,
    /// Charges of subscriptions without usage.
    pub activity: Vec<BillActivity>,
    /// All lines and activity, exact.
    #[serde(flatten)]
    pub sum: BillTotal,
}

/// What is paid, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BillTotal {
    /// The currency.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// Exact.
    pub exact: String,
    /// What rounding adds or takes away.
    pub rounding: String,
    /// Rounded to the decimals of the currency.
    pub total: String,
}

/// Usage of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BillLine {
    /// The billing line, as in the outputs.
    pub aggregate_id: String,
    /// The item.
    pub item: String,
    /// What the job groups lines by, in its order; none where a record has none.
    pub grouped_by: Vec<Option<String>>,
    /// Charges added up.
    pub charges: i64,
    /// Quantity.
    pub quantity: String,
    /// Amount per unit, exact or to the 24th decimal.
    pub rate: Option<String>,
    /// Amount, exact.
    pub amount: String,
    /// Amount to the decimals of the currency.
    pub rounded: String,
}

/// A charge of a subscription without usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BillActivity {
    /// The billing line that it is on.
    pub aggregate_id: String,
    /// The item.
    pub item: String,
    /// Its kind, as in the output `activity`.
    pub kind: &'static str,
    /// The subscription.
    pub subscription: String,
    /// The first day, or instant, charged for.
    pub from: String,
    /// The day, or the instant, that it is charged to.
    pub to: String,
    /// Amount, exact.
    pub amount: String,
    /// Amount to the decimals of the currency.
    pub rounded: String,
}

/// Why there are no bills.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// The job does not hold, or the run came to no end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What is asked for does not fit the job.
    #[error("{0}")]
    Request(String),
    /// The bills do not add up to the summary.
    #[error("the bills add up to {bills:?}, the summary to {summary:?}; none of them must be used")]
    Untied {
        /// What the bills come to.
        bills: Vec<String>,
        /// What the summary says.
        summary: Vec<String>,
    },
}

impl From<Vec<Diagnostic>> for BillError {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::Run(RunError::Configuration(findings))
    }
}

/// The bills of the job at `path`.
///
/// # Errors
/// When the job cannot be run, or the account or the period is not one.
pub fn bill(
    path: &Path,
    request: &BillRequest,
    listener: &Arc<dyn Listener>,
) -> Result<Bills, BillError> {
    let (job, _) = Job::load(path)?;
    let asked = request.period.as_deref().map(Asked::parse).transpose();
    let asked = asked.map_err(BillError::Request)?;
    let wanted = request.account.as_deref().map(|id| AccountKey::of(&[id]));
    let ended = read(path, request.workers, listener, |_| ())?;
    if let Some(asked) = &request.account {
        let names = &ended.texts.names;
        let known = ended
            .reference
            .accounts
            .iter()
            .map(|row| names.account(row.key));
        let known: Vec<Arc<str>> = known.collect();
        exists(asked, &known)?;
    }
    let source = match ended.commit {
        Some(commit) => format!("commit {commit} of the durable state"),
        None => "the job's files, read and priced now".to_owned(),
    };
    let facts = RunFacts {
        job: job.name.clone(),
        files: ended.files,
        unread: ended.unread,
        held: texts(&ended.held),
        warnings: texts(&ended.warned.about_money()),
        zone: job.zone.clone(),
        ..RunFacts::default()
    };
    let summary = Summary::of(&ended.board, &ended.texts, facts);
    let mut units = Units::of(ended.board.lines());
    units.part_activity(ended.board.activity(), finder(&job, &ended.texts)());
    let everything = units.exact(|_| true);
    tied(&everything, &summary, &ended.texts)?;
    let of_account = |key: &UnitKey| wanted.is_none_or(|wanted| wanted == key.account);
    let is_asked = |key: &UnitKey| {
        asked
            .as_ref()
            .is_none_or(|asked| asked.holds(key.start, key.end, &job.zone))
    };
    let writer = Writer {
        texts: &ended.texts,
        zone: &job.zone,
    };
    let chosen = |key: &UnitKey| of_account(key) && is_asked(key);
    let bills = units.0.iter().filter(|(key, _)| chosen(key));
    let mut bills: Vec<Bill> = bills.map(|(key, unit)| writer.bill(*key, unit)).collect();
    let by = |bill: &Bill| {
        let Bill {
            account,
            bill_unit_start,
            currency,
            ..
        } = bill;
        (account.clone(), bill_unit_start.clone(), currency.clone())
    };
    bills.sort_by_cached_key(by);
    let mut others = Vec::new();
    if bills.is_empty() {
        let there = units.0.keys().filter(|key| of_account(key));
        others = there.map(|key| writer.day(key.start)).collect();
        others.sort();
        others.dedup();
    }
    let totals = units.exact(chosen).into_iter();
    let totals = totals.map(|(currency, exact)| BillTotal {
        of: writer.name(currency),
        ..writer.total(
            currency,
            exact,
            bills_rounded(&bills, &writer.name(currency)),
        )
    });
    let totals: Vec<BillTotal> = totals.collect();
    ended.texts.names.check().map_err(RunError::from)?;
    Ok(Bills {
        job: job.name.clone(),
        source,
        grouped_by: summary.grouped_by.clone(),
        totals,
        summary: (wanted.is_none() && asked.is_none()).then(|| summary.totals.clone()),
        findings: summary.has_findings(),
        waiting: summary.reasons,
        unsettled: summary.unsettled,
        bills,
        others,
        zone: job.zone,
    })
}

/// Whether the job has the account.
fn exists(asked: &str, accounts: &[Arc<str>]) -> Result<(), BillError> {
    if accounts.iter().any(|account| **account == *asked) {
        return Ok(());
    }
    let meant = did_you_mean(asked, accounts.iter().map(|account| &**account));
    let hint = match meant {
        Some(name) => format!("; did you mean \"{name}\"?"),
        None => String::new(),
    };
    let message = format!("the job has no account \"{asked}\"{hint}");
    Err(BillError::Request(message))
}

/// Bills and summary are made from the same lines in two ways; a difference must not leave the house.
fn tied(
    bills: &BTreeMap<Name, MoneyTotal>,
    summary: &Summary,
    texts: &Texts,
) -> Result<(), BillError> {
    let bills = bills
        .iter()
        .filter(|(_, amount)| **amount != MoneyTotal::ZERO);
    let bills = bills.map(|(currency, amount)| format!("{amount} {}", texts.names.text(*currency)));
    let said = summary.totals.iter().filter(|money| money.amount != "0");
    let said = said.map(|money| format!("{} {}", money.amount, money.currency));
    let (mut bills, mut said): (Vec<String>, Vec<String>) = (bills.collect(), said.collect());
    bills.sort();
    said.sort();
    match bills == said {
        true => Ok(()),
        false => Err(BillError::Untied {
            bills,
            summary: said,
        }),
    }
}

/// What makes a bill one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnitKey {
    account: AccountKey,
    start: EventTime,
    end: EventTime,
    currency: Name,
}

/// What is on a bill.
#[derive(Default)]
struct Unit {
    lines: BTreeMap<LineKey, LineSum>,
    activity: Vec<(AggregateId, Activity)>,
}

impl Unit {
    fn exact(&self) -> MoneyTotal {
        let lines = self.lines.values().map(|sum| sum.amount);
        let activity = self
            .activity
            .iter()
            .map(|(_, activity)| activity.amount.into());
        lines
            .chain(activity)
            .fold(MoneyTotal::ZERO, MoneyTotal::plus)
    }
}

struct Units(BTreeMap<UnitKey, Unit>);

impl Units {
    fn of(lines: Vec<AggregatedLine>) -> Self {
        let mut units: BTreeMap<UnitKey, Unit> = BTreeMap::new();
        for AggregatedLine { key, sum } in lines {
            units
                .entry(unit_of(&key))
                .or_default()
                .lines
                .insert(key, sum);
        }
        Self(units)
    }

    /// Takes what subscriptions are charged out of the lines that it is on.
    fn part_activity(&mut self, activity: Vec<Activity>, mut finder: LineFinder) {
        // The records of a volume price have brought its quantity: its amount stays beside it.
        let parted = activity.into_iter().filter(|activity| {
            activity.amount != Amount::ZERO && activity.kind != ActivityKind::Volume
        });
        for activity in parted {
            let key = finder.activity_line(&activity);
            let Some(unit) = self.0.get_mut(&unit_of(&key)) else {
                continue;
            };
            let Some(sum) = unit.lines.get_mut(&key) else {
                continue;
            };
            let mut charged = LineSum::of(activity.quantity(), activity.amount, 1);
            charged.negate();
            sum.plus_equals(&charged);
            let is_empty = *sum == LineSum::default();
            let id = key.aggregate_id();
            if is_empty {
                unit.lines.remove(&key);
            }
            unit.activity.push((id, activity));
        }
    }

    /// Exact sums per currency of the bills that are `chosen`.
    fn exact(&self, chosen: impl Fn(&UnitKey) -> bool) -> BTreeMap<Name, MoneyTotal> {
        let mut sums: BTreeMap<Name, MoneyTotal> = BTreeMap::new();
        for (key, unit) in self.0.iter().filter(|(key, _)| chosen(key)) {
            let sum = sums.entry(key.currency).or_default();
            *sum = sum.plus(unit.exact());
        }
        sums
    }
}

fn unit_of(key: &LineKey) -> UnitKey {
    UnitKey {
        account: key.account,
        start: key.unit_start,
        end: key.unit_end,
        currency: key.currency,
    }
}

/// The rounded totals of bills in a currency, added up.
fn bills_rounded(bills: &[Bill], currency: &str) -> MoneyTotal {
    let bills = bills.iter().filter(|bill| bill.currency == currency);
    bills.fold(MoneyTotal::ZERO, |sum, bill| {
        sum.plus(amount_of(&bill.sum.total))
    })
}

/// An amount that was written with the decimals of a currency.
fn amount_of(text: &str) -> MoneyTotal {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = usize::from(Amount::SCALE);
    let digits = whole
        .bytes()
        .chain(format!("{fraction:0<scale$}").into_bytes());
    let digits = digits.filter(u8::is_ascii_digit);
    let amount = digits.fold(MoneyTotal::ZERO, |sum, digit| {
        sum.times(10)
            .plus(MoneyTotal::from_i128(i128::from(digit - b'0')))
    });
    match text.starts_with('-') {
        true => amount.negated(),
        false => amount,
    }
}

/// Keys as text.
struct Writer<'a> {
    texts: &'a Texts,
    zone: &'a TimeZone,
}

impl Writer<'_> {
    fn name(&self, name: Name) -> String {
        self.texts.names.text(name).to_string()
    }

    fn day(&self, time: EventTime) -> String {
        day(time, self.zone)
    }

    fn total(&self, currency: Name, exact: MoneyTotal, total: MoneyTotal) -> BillTotal {
        let rounding = total.minus(exact);
        BillTotal {
            of: String::new(),
            exact: exact.to_string(),
            rounding: rounding.to_string(),
            total: total.rounded(decimals(&self.name(currency))),
        }
    }

    fn bill(&self, key: UnitKey, unit: &Unit) -> Bill {
        let names = &self.texts.names;
        let currency = self.name(key.currency);
        let digits = decimals(&currency);
        let line = |(line, sum): (&LineKey, &LineSum)| {
            let aggregated = AggregatedLine {
                key: line.clone(),
                sum: *sum,
            };
            let dimensions = 0..self.texts.dimensions.len();
            let dimension = |index| Some(aggregated.dimension(index, self.texts)?.to_string());
            BillLine {
                aggregate_id: line.aggregate_id().to_string(),
                item: self.name(line.item),
                grouped_by: dimensions.map(dimension).collect(),
                charges: sum.charges,
                quantity: sum.quantity.to_string(),
                rate: blended_rate(sum).map(|rate| rate.to_string()),
                amount: sum.amount.to_string(),
                rounded: sum.amount.rounded(digits),
            }
        };
        let activity = |(id, activity): &(AggregateId, Activity)| BillActivity {
            aggregate_id: id.to_string(),
            item: self.name(activity.item),
            kind: activity_kind(&activity.kind),
            subscription: names.subscription(activity.subscription).to_string(),
            from: self.day(activity.applied_start),
            to: self.day(activity.applied_end),
            amount: activity.amount.to_string(),
            rounded: activity.amount.rounded(digits),
        };
        let mut lines: Vec<BillLine> = unit.lines.iter().map(line).collect();
        lines.sort_by(|a, b| (&a.item, &a.grouped_by).cmp(&(&b.item, &b.grouped_by)));
        let exact = unit.exact();
        Bill {
            account: names.account(key.account).to_string(),
            from: self.day(key.start),
            to: self.day(key.end),
            bill_unit_start: key.start.to_string(),
            bill_unit_end: key.end.to_string(),
            lines,
            activity: unit.activity.iter().map(activity).collect(),
            sum: self.total(key.currency, exact, amount_of(&exact.rounded(digits))),
            currency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rounded_is_an_amount_again() {
        for (text, exact) in [
            ("0.00", "0"),
            ("-12.30", "-12.3"),
            ("100", "100"),
            ("1.234", "1.234"),
            (
                "123456789012345678901234567890.05",
                "123456789012345678901234567890.05",
            ),
        ] {
            assert_eq!(amount_of(text).to_string(), exact);
        }
    }
}
