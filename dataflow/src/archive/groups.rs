//! Balance groups: who shares them, and where they stand at the edges of periods.

use super::{Closing, moved};
use crate::graph::{Open, Opening, Stand};
use crate::job::Job;
use millrace_connectors::archive::{GroupStanding, Moved};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::names::Names;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{AccountKey, ClosedUnits, EventTime, GroupKey, Name, Period};
use std::collections::{BTreeMap, BTreeSet};

/// Accounts that a warning names; more are counted.
const ACCOUNTS_NAMED: usize = 3;

/// A group's opening and closing, by period.
pub(super) type Standings = BTreeMap<Period, (Option<Vec<Moved>>, Vec<Moved>)>;

/// The accounts of each balance group; none where there are no plans.
pub(crate) fn members(reference: &Reference) -> BTreeMap<GroupKey, BTreeSet<AccountKey>> {
    let mut members: BTreeMap<GroupKey, BTreeSet<AccountKey>> = BTreeMap::new();
    if reference.plans.is_empty() {
        return members;
    }
    for (account, groups) in reference.groups() {
        for group in groups {
            members.entry(group).or_default().insert(account);
        }
    }
    members
}

/// The groups that have balances: those with a subscription that a plan gives something.
pub(super) fn with_balances(
    reference: &Reference,
    mut groups: BTreeMap<GroupKey, BTreeSet<AccountKey>>,
) -> BTreeMap<GroupKey, BTreeSet<AccountKey>> {
    let planned: BTreeSet<Name> = reference.plans.iter().map(|row| row.list).collect();
    let subscriptions = reference.subscriptions.iter();
    let has_plan = subscriptions.filter(|row| row.price_lists.iter().any(|l| planned.contains(l)));
    let accounts: BTreeSet<AccountKey> = has_plan.map(|row| row.account).collect();
    groups.retain(|_, members| !members.is_disjoint(&accounts));
    groups
}

/// Says which accounts of a job with an archive have bill units that never close.
pub(crate) fn never_archived(
    job: &Job,
    reference: &Reference,
    names: &Names,
) -> Option<Diagnostic> {
    let plan = job.archive.as_ref()?;
    let now = job.clock.unwrap_or(EventTime(0));
    let mut closing = Closing::new(reference, job.zone.clone(), plan.after, now);
    let never = closing.never();
    let named: Vec<String> = never
        .iter()
        .take(ACCOUNTS_NAMED)
        .map(|account| format!("\"{}\"", names.account(*account)))
        .collect();
    let more = match never.len().checked_sub(named.len())? {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "the bill units of {}{more} are never archived: these accounts share balances, and their \
         billing cycles never begin on the same day",
        named.join(", ")
    );
    let hint = "give accounts that share a group cycles that meet, or groups of their own";
    let finding = Diagnostic::advice(&job.path.display().to_string(), plan.place, message);
    (!never.is_empty()).then(|| finding.with_hint(hint))
}

/// Where the groups of this worker stand at the edges of the periods of their accounts.
pub(super) fn standings(
    open: &Open,
    groups: &BTreeMap<GroupKey, BTreeSet<AccountKey>>,
    periods: &BTreeMap<AccountKey, BTreeSet<Period>>,
    begun: &BTreeMap<GroupKey, EventTime>,
    opening: &Opening,
) -> BTreeMap<GroupKey, Standings> {
    let mut standings: BTreeMap<GroupKey, Standings> = BTreeMap::new();
    for group in open.charges.groups() {
        let accounts = groups.get(&group).into_iter().flatten();
        let periods: BTreeSet<Period> = accounts
            .filter_map(|account| periods.get(account))
            .flatten()
            .copied()
            .collect();
        for period in periods {
            let began = begun.get(&group);
            let before = opening.0.contains_key(&group)
                || began.is_some_and(|first| *first < period.start());
            let opened = before.then(|| moved(open, group, period.start(), opening));
            let closing = moved(open, group, period.end(), opening);
            standings
                .entry(group)
                .or_default()
                .insert(period, (opened, closing));
        }
    }
    standings
}

/// Where the groups of this worker stand when the last closed period of their accounts ends.
pub(super) fn stands(
    open: &Open,
    groups: &BTreeMap<GroupKey, BTreeSet<AccountKey>>,
    units: &ClosedUnits,
    opening: &Opening,
) -> BTreeMap<GroupKey, Stand> {
    let mut stands = BTreeMap::new();
    for group in open.charges.groups() {
        let accounts = groups.get(&group).into_iter().flatten();
        // They all share periods.
        let Some(at) = accounts.filter_map(|account| units.until(*account)).max() else {
            continue;
        };
        let moved = moved(open, group, at, opening).into_iter();
        let moved = moved.map(|moved| (moved.bucket, moved.by)).collect();
        stands.insert(group, Stand { at, moved });
    }
    stands
}

/// The groups of accounts, as they stood in a period.
pub(super) fn of_shard(
    period: Period,
    accounts: &BTreeSet<AccountKey>,
    groups: &BTreeMap<GroupKey, BTreeSet<AccountKey>>,
    mut standings: BTreeMap<GroupKey, Standings>,
) -> Vec<GroupStanding> {
    let standing = |(group, members): (&GroupKey, &BTreeSet<AccountKey>)| {
        if members.is_disjoint(accounts) {
            return None;
        }
        let (opening, closing) = standings.get_mut(group)?.remove(&period)?;
        Some(GroupStanding {
            group: *group,
            accounts: members.clone(),
            opening,
            closing,
        })
    };
    groups.iter().filter_map(standing).collect()
}
