//! Balance groups: who shares them, and where they stand at the edges of periods.

use super::{Closing, moved};
use crate::graph::{Open, Stand};
use crate::job::Job;
use millrace_connectors::archive::{GroupStanding, Moved};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::names::Names;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{AccountKey, ClosedUnits, EventTime, GroupKey, Name, Period};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Accounts that a warning names; more are counted.
const ACCOUNTS_NAMED: usize = 3;

/// What moved a group when a period began, and when it ended, by period.
pub(super) type Standings = BTreeMap<Period, (Vec<Moved>, Vec<Moved>)>;

/// What is to be known of balance groups.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct WantedGroups {
    /// The periods that are written of each.
    periods: BTreeMap<GroupKey, BTreeSet<Period>>,
    /// When the last closed period of each ends, where state is to be forgotten.
    ends: BTreeMap<GroupKey, EventTime>,
}

impl WantedGroups {
    /// What is wanted where accounts are written by these periods, and closed until these ends.
    pub(super) fn of(
        groups: &BTreeMap<GroupKey, BTreeSet<AccountKey>>,
        periods: &BTreeMap<AccountKey, BTreeSet<Period>>,
        units: &ClosedUnits,
    ) -> Self {
        let mut wanted = Self::default();
        for (group, accounts) in groups {
            let of_accounts = accounts.iter().filter_map(|account| periods.get(account));
            let of_accounts: BTreeSet<Period> = of_accounts.flatten().copied().collect();
            if !of_accounts.is_empty() {
                wanted.periods.insert(*group, of_accounts);
            }
            // They all share periods.
            let end = accounts.iter().filter_map(|account| units.until(*account));
            wanted.ends.extend(end.max().map(|end| (*group, end)));
        }
        wanted
    }
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
pub(super) fn standings(open: &Open, wanted: &WantedGroups) -> BTreeMap<GroupKey, Standings> {
    let mut standings: BTreeMap<GroupKey, Standings> = BTreeMap::new();
    for group in open.charges.groups() {
        for period in wanted.periods.get(&group).into_iter().flatten() {
            let at = |at| moved(open, group, at, &open.opening);
            let edges = (at(period.start()), at(period.end()));
            standings.entry(group).or_default().insert(*period, edges);
        }
    }
    standings
}

/// Where the groups of this worker stand when the last closed period of their accounts ends.
pub(super) fn stands(open: &Open, wanted: &WantedGroups) -> BTreeMap<GroupKey, Stand> {
    let mut stands = BTreeMap::new();
    for group in open.charges.groups() {
        let Some(at) = wanted.ends.get(&group).copied() else {
            continue;
        };
        let moved = moved(open, group, at, &open.opening).into_iter();
        let moved = moved.map(|moved| (moved.bucket, moved.by)).collect();
        stands.insert(group, Stand { at, moved });
    }
    stands
}

/// The groups of accounts, as they stood in a period; of those that had `began` before it, where they
/// stood when it began.
pub(super) fn of_shard(
    period: Period,
    accounts: &BTreeSet<AccountKey>,
    groups: &BTreeMap<GroupKey, BTreeSet<AccountKey>>,
    mut standings: BTreeMap<GroupKey, Standings>,
    began: impl Fn(GroupKey) -> bool,
) -> Vec<GroupStanding> {
    let standing = |(group, members): (&GroupKey, &BTreeSet<AccountKey>)| {
        if members.is_disjoint(accounts) {
            return None;
        }
        let (opening, closing) = standings.get_mut(group)?.remove(&period)?;
        Some(GroupStanding {
            group: *group,
            accounts: members.clone(),
            opening: began(*group).then_some(opening),
            closing,
        })
    };
    groups.iter().filter_map(standing).collect()
}
