//! What an adjustment writes: the usage and the standing of the accounts that it touched.

use super::late::LateUsage;
use crate::graph::Opening;
use crate::replay::scope::{Links, Scope};
use crate::rerate::Rated;
use millrace_connectors::archive::{BilledUsage, GroupStanding, ShardContent};
use millrace_connectors::output::AggregatedLine;
use millrace_operators::domain::{AccountKey, Identity, PriceKey, RecordId};
use millrace_operators::epoch::shard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is written in the place of what was archived of some accounts.
pub(super) struct Overlay<'a> {
    pub(super) scope: Scope,
    pub(super) late: Vec<LateUsage>,
    pub(super) rated: Rated,
    pub(super) opening: Opening,
    pub(super) lines: &'a [AggregatedLine],
}

impl Overlay<'_> {
    /// What each shard of the overlay holds.
    pub(super) fn content(self, links: &Links<'_>) -> BTreeMap<u64, ShardContent> {
        let mut content: BTreeMap<u64, ShardContent> = BTreeMap::new();
        for account in &self.scope.accounts {
            let content = content.entry(shard(account.0)).or_default();
            content.accounts.insert(*account);
        }
        for line in self.lines {
            let content = content.entry(shard(line.key.account.0)).or_default();
            content.accounts.insert(line.key.account);
            content.lines.push(line.clone());
        }
        for row in self.usage() {
            let content = content.entry(shard(row.account.0)).or_default();
            content.accounts.insert(row.account);
            content.usage.push(row);
        }
        for ((_, shard), prices) in &self.rated.collected.prices {
            let content = content.entry(*shard).or_default();
            let prices = prices.iter().copied();
            let own: Vec<(PriceKey, AccountKey)> = prices
                .filter(|(_, account)| content.accounts.contains(account))
                .collect();
            content.prices.extend(own);
        }
        for (group, closing) in &self.rated.closing {
            let group = *group;
            let members: BTreeSet<AccountKey> = links.members(group).collect();
            // Without usage before, what moved follows from the plans alone.
            let began = self.opening.0.contains_key(&group);
            let opening = self.rated.opening.get(&group).filter(|_| began).cloned();
            for content in content.values_mut() {
                if !content.accounts.is_disjoint(&members) {
                    content.groups.push(GroupStanding {
                        group,
                        accounts: members.clone(),
                        opening: opening.clone(),
                        closing: closing.clone(),
                    });
                }
            }
        }
        content
    }

    /// The usage of the accounts, as rated now.
    fn usage(&self) -> Vec<BilledUsage> {
        let mut rows: BTreeMap<RecordId, BilledUsage> = BTreeMap::new();
        for row in &self.scope.usage {
            rows.insert(row.usage.record, row.clone());
        }
        for row in identified(&self.scope, &self.late, &self.rated) {
            match self.scope.accounts.contains(&row.account) {
                true => rows.insert(row.usage.record, row),
                false => rows.remove(&row.usage.record),
            };
        }
        // What is priced may still be such that it cannot be charged in order.
        rows.retain(|record, _| !self.rated.suspense.contains_key(record));
        rows.into_values().collect()
    }
}

/// Usage as rated now, with its identities.
fn identified<'a>(
    scope: &'a Scope,
    late: &'a [LateUsage],
    rated: &'a Rated,
) -> impl Iterator<Item = BilledUsage> + 'a {
    let late = late.iter().map(|late| &late.usage);
    let known = scope.usage.iter().map(|row| &row.usage).chain(late);
    let identities: BTreeMap<RecordId, Identity> =
        known.map(|usage| (usage.record, usage.identity)).collect();
    let rows = rated.collected.usage.values().flatten();
    rows.map(move |row| {
        let mut row = row.clone();
        row.usage.identity = identities
            .get(&row.usage.record)
            .copied()
            .unwrap_or_default();
        row
    })
}

/// Rated usage that goes to accounts which the period does not bill; `files` are named by number.
pub(super) fn leaving(
    scope: &Scope,
    late: &[LateUsage],
    rated: &Rated,
    files: &[Arc<str>],
) -> Vec<LateUsage> {
    let away = |row: &BilledUsage| {
        let suspended = rated.suspense.contains_key(&row.usage.record);
        !suspended && !scope.accounts.contains(&row.account)
    };
    let rows = identified(scope, late, rated).filter(away);
    let named = rows.map(|row| {
        let file = usize::try_from(row.usage.record.file().0).unwrap_or(usize::MAX);
        let file = files.get(file).map_or_else(|| Arc::from(""), Arc::clone);
        LateUsage {
            usage: row.usage,
            file,
        }
    });
    named.collect()
}
