//! `millrace balance`: where the balances of accounts stand, now or at an instant.
//!
//! The job's dataflow is run without writing anything, and its balance groups are read: what each
//! bucket opened with, what was carried into it, what usage did, and its value. Beside them stands
//! what each account is charged. As of an instant, usage before it counts, and so does what began
//! with it: charges in advance, grants, what was carried over.
//!
//! As known at an epoch, nothing is run: see [`known`].

mod known;

use crate::board::ReasonCount;
use crate::error::RunError;
use crate::graph::Open;
use crate::job::Job;
use crate::listener::Listener;
use crate::outputs::{buckets_of, carry};
use crate::run::{Ended, read};
use millrace_connectors::diagnostic::{Diagnostic, did_you_mean};
use millrace_connectors::names::Names;
use millrace_connectors::output::{Balance, measure_name};
use millrace_connectors::reference::{Reference, moment};
use millrace_operators::charge::{EdgeCharged, Notice, Sink};
use millrace_operators::domain::{
    Account, AccountKey, Amount, Bucket, BucketKey, Charge, EventTime, GroupKey, Impact, Measure,
    MoneyTotal, Quantity, Suspense,
};
use millrace_operators::epoch::{Diff, Epoch};
use millrace_operators::rate::Rating;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct BalanceRequest {
    /// The account; all of them unless given.
    pub account: Option<String>,
    /// The instant: a date, which is its midnight in the tenant's time zone, or RFC 3339. After
    /// everything that is known unless given.
    pub at: Option<String>,
    /// The epoch of the job's last run, whose end is meant. What is known now unless given.
    pub epoch: Option<Epoch>,
    /// Worker threads; as many as there are processors unless given.
    pub workers: Option<usize>,
}

/// Balances of accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balances {
    /// The instant, where one was asked for.
    pub at: Option<String>,
    /// The epoch, where one was asked for.
    pub epoch: Option<Epoch>,
    /// The accounts, by name.
    pub accounts: Vec<AccountBalance>,
    /// Why records are not in them, where any should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<ReasonCount>,
}

/// Where an account stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountBalance {
    /// The account.
    pub account: String,
    /// The currency that it is billed in.
    pub currency: String,
    /// All that it is charged, exact.
    pub charged: String,
    /// Of it, for usage.
    pub usage: String,
    /// Of it, to subscriptions without usage.
    pub subscriptions: String,
    /// The balance groups of its subscriptions, by name.
    pub groups: Vec<GroupBalance>,
}

/// Where a balance group stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupBalance {
    /// The pool that its subscriptions name.
    pub balance_group: String,
    /// Its currency.
    pub currency: String,
    /// All accounts whose subscriptions share it.
    pub accounts: Vec<String>,
    /// Its buckets, by resource and time; as of an instant those of that instant.
    pub buckets: Vec<BucketBalance>,
}

/// Where a bucket stands; values in its measure, exact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BucketBalance {
    /// The allowance, accumulator or cap.
    pub resource: String,
    /// When it may be used: from here.
    pub valid_start: String,
    /// To here; none without end.
    pub valid_end: Option<String>,
    /// `allowance`, `accumulator` or `cap`.
    pub kind: &'static str,
    /// `units` or `money`.
    pub measure: &'static str,
    /// The items that it is for; none means any.
    pub items: Vec<String>,
    /// What it began with.
    pub opening: String,
    /// What the edges of periods carried into it, or out of it where below zero.
    pub carried: String,
    /// What usage drew from it or added to it.
    pub used: String,
    /// What is left of an allowance, or what any other has reached.
    pub value: String,
    /// The most that a cap may reach.
    pub limit: Option<String>,
}

/// Why there are no balances.
#[derive(Debug, thiserror::Error)]
pub enum BalanceError {
    /// The job does not hold, or the run came to no end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// What is asked for does not fit the job.
    #[error("{0}")]
    Request(String),
    /// What the last run wrote cannot be read.
    #[error("cannot read what the last run wrote: {0}")]
    Outputs(String),
}

impl From<Vec<Diagnostic>> for BalanceError {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::Run(RunError::Configuration(findings))
    }
}

/// Runs the job at `path` and tells where its balances stand.
///
/// # Errors
/// When the job cannot be run, or the account or the instant is not one.
pub fn balance(
    path: &Path,
    request: &BalanceRequest,
    listener: &Arc<dyn Listener>,
) -> Result<Balances, BalanceError> {
    let (job, _) = Job::load(path)?;
    let at = match &request.at {
        None => None,
        Some(text) => Some(moment(text, &job.zone).ok_or_else(|| {
            let hint = "write a date, 2026-03-31, or an instant, 2026-03-31T12:00:00Z";
            BalanceError::Request(format!("\"{text}\" is no instant; {hint}"))
        })?),
    };
    if let Some(epoch) = request.epoch {
        return known::balances(&job, request.account.as_deref(), at, epoch);
    }
    let wanted = request.account.as_deref().map(|id| AccountKey::of(&[id]));
    let ended = read(path, request.workers, listener, move |open| {
        Held::of(open, wanted, at)
    })?;
    if let Some(asked) = &request.account {
        exists(asked, &ended.reference.accounts, &ended.texts.names)?;
    }
    let (reference, names) = (&ended.reference, &ended.texts.names);
    let mut sums = Sums::default();
    archived(&ended, wanted, at, &mut sums)?;
    for part in ended.parts {
        for (account, amount) in part.usage {
            let usage = sums.usage.entry(account).or_default();
            *usage = usage.plus(amount);
        }
        sums.buckets.extend(part.groups);
    }
    let counts = ended.board.counts();
    for activity in ended.board.activity() {
        if at.is_none_or(|at| activity.billed_at() <= at) {
            let sum = sums.subscribed.entry(activity.account).or_default();
            add(sum, activity.amount);
        }
    }
    let accounts = accounts(&sums, reference, names, wanted);
    names.check().map_err(RunError::from)?;
    Ok(Balances {
        at: at.map(|at| at.to_string()),
        epoch: None,
        accounts,
        waiting: match counts.error + counts.suspended {
            0 => Vec::new(),
            _ => ended.board.reasons(),
        },
    })
}

/// Adds what accounts were charged for usage in closed bill units, of which lines are left.
fn archived<T>(
    ended: &Ended<T>,
    wanted: Option<AccountKey>,
    at: Option<EventTime>,
    sums: &mut Sums,
) -> Result<(), BalanceError> {
    let units = &ended.closed.units;
    let asked = |account: AccountKey| wanted.is_none_or(|wanted| wanted == account);
    let mut closed = units.0.iter().filter(|(account, _)| asked(**account));
    let before = closed.find(|(_, until)| at.is_some_and(|at| at < **until));
    if let Some((account, until)) = before {
        let account = ended.texts.names.account(*account);
        let message = format!(
            "the usage of \"{account}\" before {until} is archived; ask for that instant or a later \
             one, or let `millrace replay` rate the archive again"
        );
        return Err(BalanceError::Request(message));
    }
    for line in ended.board.lines() {
        let (account, end) = (line.key.account, line.key.unit_end);
        if units.until(account).is_some_and(|until| end <= until) {
            let usage = sums.usage.entry(account).or_default();
            *usage = usage.plus(line.sum.amount);
        }
    }
    for made in &ended.closed.activity {
        let usage = sums.usage.entry(made.account).or_default();
        *usage = usage.minus(made.amount.into());
    }
    Ok(())
}

/// Whether the job has the account.
fn exists(asked: &str, accounts: &[Account], names: &Names) -> Result<(), BalanceError> {
    let accounts = accounts.iter();
    let accounts: Vec<Arc<str>> = accounts.map(|row| names.account(row.key)).collect();
    if accounts.iter().any(|account| **account == *asked) {
        return Ok(());
    }
    let meant = did_you_mean(asked, accounts.iter().map(|account| &**account));
    let hint = match meant {
        Some(name) => format!("; did you mean \"{name}\"?"),
        None => String::new(),
    };
    let message = format!("the job has no account \"{asked}\"{hint}");
    Err(BalanceError::Request(message))
}

/// What a worker holds of balances.
#[derive(Default)]
struct Held {
    at: Option<EventTime>,
    wanted: Option<AccountKey>,
    usage: BTreeMap<AccountKey, MoneyTotal>,
    groups: BTreeMap<GroupKey, Vec<Balance>>,
    /// Of the group that is visited.
    buckets: BTreeMap<BucketKey, Bucket>,
    carried: BTreeMap<BucketKey, i128>,
}

impl Held {
    fn of(open: &Open, wanted: Option<AccountKey>, at: Option<EventTime>) -> Self {
        let mut held = Self {
            at,
            wanted,
            ..Self::default()
        };
        let visited = open.ratings.visit_settled(
            |_| true,
            |rating| {
                if let Rating::Charge(charge) = rating {
                    held.charge(charge);
                }
                Ok::<(), Infallible>(())
            },
        );
        match visited {
            Ok(()) => {}
            Err(never) => match never {},
        }
        for group in open.charges.groups() {
            held.buckets = buckets_of(open, group);
            held.buckets.retain(|_, bucket| !open.is_past(bucket));
            held.carried.clear();
            open.charges
                .with_group(group, |group| group.visit(&mut held));
            let values = open.charges.balances(group, at).unwrap_or_default();
            let balances = values.into_iter();
            let balances = balances.filter_map(|(key, value)| held.balance(key, value));
            let balances: Vec<Balance> = balances.collect();
            held.groups.insert(group, balances);
        }
        held
    }

    fn charge(&mut self, charge: &Charge) {
        let asked = self.wanted.is_none_or(|wanted| wanted == charge.account);
        if asked && self.at.is_none_or(|at| charge.time < at) {
            add(self.usage.entry(charge.account).or_default(), charge.amount);
        }
    }

    /// A bucket, if it is of the instant.
    fn balance(&self, key: BucketKey, value: i128) -> Option<Balance> {
        let bucket = self.buckets.get(&key)?;
        let of_instant = self.at.is_none_or(|at| bucket.valid.contains(at));
        of_instant.then(|| Balance {
            bucket: bucket.clone(),
            carried: self.carried.get(&key).copied().unwrap_or(0),
            value,
            accounts: Arc::default(),
        })
    }
}

impl Sink for Held {
    fn item(&mut self, charge: &Charge, _: &[Impact], _: Diff) {
        self.charge(charge);
    }

    fn suspense(&mut self, _: &Suspense, _: Diff) {}

    fn edge(&mut self, edge: &EdgeCharged, _: Diff) {
        if self.at.is_none_or(|at| edge.time <= at) {
            carry(edge, &self.buckets, &mut self.carried);
        }
    }

    fn notice(&mut self, _: &Notice, _: Diff) {}
}

fn add(sum: &mut MoneyTotal, amount: Amount) {
    *sum = sum.plus(amount.into());
}

/// What accounts and balance groups come to.
#[derive(Default)]
struct Sums {
    /// What accounts are charged for usage.
    usage: BTreeMap<AccountKey, MoneyTotal>,
    /// What they are charged without.
    subscribed: BTreeMap<AccountKey, MoneyTotal>,
    /// Where the buckets of groups stand.
    buckets: BTreeMap<GroupKey, Vec<Balance>>,
}

fn accounts(
    sums: &Sums,
    reference: &Reference,
    names: &Names,
    wanted: Option<AccountKey>,
) -> Vec<AccountBalance> {
    let groups = reference.groups();
    let mut owners: BTreeMap<GroupKey, BTreeSet<String>> = BTreeMap::new();
    for (account, groups) in &groups {
        for group in groups {
            let owners = owners.entry(*group).or_default();
            owners.insert(names.account(*account).to_string());
        }
    }
    let of_account = |row: &Account| {
        let of = |sums: &BTreeMap<AccountKey, MoneyTotal>| sums.get(&row.key).copied();
        let (usage, subscriptions) = (of(&sums.usage), of(&sums.subscribed));
        let charged = usage
            .unwrap_or_default()
            .plus(subscriptions.unwrap_or_default());
        let held = groups.get(&row.key).into_iter().flatten();
        let mut held: Vec<GroupBalance> = held
            .filter_map(|group| {
                let buckets = sums.buckets.get(group).filter(|held| !held.is_empty())?;
                Some(group_balance(*group, buckets, owners.get(group), names))
            })
            .collect();
        held.sort_by(|a, b| a.balance_group.cmp(&b.balance_group));
        let silent = usage.is_none() && subscriptions.is_none() && held.is_empty();
        (wanted.is_some() || !silent).then(|| AccountBalance {
            account: names.account(row.key).to_string(),
            currency: names.text(row.currency).to_string(),
            charged: charged.to_string(),
            usage: usage.unwrap_or_default().to_string(),
            subscriptions: subscriptions.unwrap_or_default().to_string(),
            groups: held,
        })
    };
    let asked = |row: &&Account| wanted.is_none_or(|wanted| wanted == row.key);
    let rows = reference.accounts.iter().filter(asked);
    let mut accounts: Vec<AccountBalance> = rows.filter_map(of_account).collect();
    accounts.sort_by(|a, b| a.account.cmp(&b.account));
    accounts
}

fn group_balance(
    group: GroupKey,
    buckets: &[Balance],
    owners: Option<&BTreeSet<String>>,
    names: &Names,
) -> GroupBalance {
    let (pool, currency) = names.group(group);
    let mut buckets: Vec<BucketBalance> = buckets
        .iter()
        .map(|balance| bucket_balance(balance, names))
        .collect();
    buckets.sort();
    GroupBalance {
        balance_group: pool.to_string(),
        currency: currency.to_string(),
        accounts: owners.into_iter().flatten().cloned().collect(),
        buckets,
    }
}

fn bucket_balance(balance: &Balance, names: &Names) -> BucketBalance {
    let bucket = &balance.bucket;
    let shown = |value: i128| match bucket.measure {
        Measure::Units => Quantity(value).to_string(),
        Measure::Money => Amount(value).to_string(),
    };
    let items = bucket
        .items
        .iter()
        .map(|item| names.text(*item).to_string());
    let mut items: Vec<String> = items.collect();
    items.sort();
    let end = bucket.valid.end();
    BucketBalance {
        resource: names.text(bucket.resource).to_string(),
        valid_start: bucket.valid.start().to_string(),
        valid_end: (end < EventTime::MAX).then(|| end.to_string()),
        kind: balance.kind(),
        measure: measure_name(bucket.measure),
        items,
        opening: shown(bucket.opening),
        carried: shown(balance.carried),
        used: shown(balance.used()),
        value: shown(balance.value),
        limit: balance.limit().map(|limit| limit.to_string()),
    }
}
