//! Whose usage must be rated together, and what is loaded for it.
//!
//! The usage of an account may depend on that of others: those that share a balance group, and those
//! that a service of its usage goes to at some time. A [`Scope`] grows from the accounts asked for
//! until nobody is missing.

use crate::archive::{Closing, members};
use crate::graph::{Opening, Stand};
use millrace_connectors::archive::{
    ArchiveError, ArchivedLine, ArchivedPeriod, BilledUsage, BucketEntry, Found, GroupEntry, Moved,
};
use millrace_connectors::names::Names;
use millrace_connectors::reference::Reference;
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{
    AccountKey, BucketKey, EventTime, GroupKey, LineKey, Period, ServiceKey, ServiceUse,
    Subscription, SubscriptionKey,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What had moved the buckets of a group.
pub(crate) type Movement = BTreeMap<BucketKey, i128>;

/// Reference data, found by account and by service.
pub(crate) struct Links<'r> {
    reference: &'r Reference,
    services: HashMap<ServiceKey, Vec<&'r ServiceUse>>,
    subscriptions: HashMap<SubscriptionKey, Vec<&'r Subscription>>,
    of_account: HashMap<AccountKey, Vec<SubscriptionKey>>,
    of_subscription: HashMap<SubscriptionKey, Vec<ServiceKey>>,
    groups: BTreeMap<GroupKey, BTreeSet<AccountKey>>,
    of_member: HashMap<AccountKey, Vec<GroupKey>>,
}

impl<'r> Links<'r> {
    pub(crate) fn of(reference: &'r Reference) -> Self {
        let mut links = Self {
            reference,
            services: HashMap::new(),
            subscriptions: HashMap::new(),
            of_account: HashMap::new(),
            of_subscription: HashMap::new(),
            groups: members(reference),
            of_member: HashMap::new(),
        };
        for row in &reference.services {
            links.services.entry(row.service).or_default().push(row);
            links
                .of_subscription
                .entry(row.subscription)
                .or_default()
                .push(row.service);
        }
        for row in &reference.subscriptions {
            links.subscriptions.entry(row.key).or_default().push(row);
            links
                .of_account
                .entry(row.account)
                .or_default()
                .push(row.key);
        }
        for (group, accounts) in &links.groups {
            for account in accounts {
                links.of_member.entry(*account).or_default().push(*group);
            }
        }
        links
    }

    /// The reference data.
    pub(crate) fn reference(&self) -> &'r Reference {
        self.reference
    }

    /// The services, in order.
    pub(super) fn services(&self) -> BTreeSet<ServiceKey> {
        self.reference
            .services
            .iter()
            .map(|row| row.service)
            .collect()
    }

    /// Whose a service is when, within a period.
    pub(super) fn held(
        &self,
        service: ServiceKey,
        within: Period,
    ) -> BTreeSet<(Period, AccountKey)> {
        let mut held = BTreeSet::new();
        for row in self.services.get(&service).into_iter().flatten() {
            let subscriptions = self.subscriptions.get(&row.subscription);
            for subscription in subscriptions.into_iter().flatten() {
                let both = row.valid.intersect(subscription.valid);
                let stretch = both.and_then(|both| both.intersect(within));
                held.extend(stretch.map(|stretch| (stretch, subscription.account)));
            }
        }
        held
    }

    /// The accounts that usage of a service goes to at some time.
    pub(crate) fn payers(&self, service: ServiceKey) -> impl Iterator<Item = AccountKey> {
        let rows = self.services.get(&service).into_iter().flatten();
        let rows = rows.flat_map(|row| self.subscriptions.get(&row.subscription));
        rows.flatten().map(|row| row.account)
    }

    /// The accounts that usage of a service goes to at an instant.
    pub(crate) fn payers_at(
        &self,
        service: ServiceKey,
        time: EventTime,
    ) -> impl Iterator<Item = AccountKey> {
        let rows = self.services.get(&service).into_iter().flatten();
        let rows = rows.filter(move |row| row.valid.contains(time));
        let rows = rows
            .flat_map(|row| self.subscriptions.get(&row.subscription))
            .flatten();
        rows.filter(move |row| row.valid.contains(time))
            .map(|row| row.account)
    }

    fn services_of(&self, account: AccountKey) -> impl Iterator<Item = ServiceKey> {
        let subscriptions = self.of_account.get(&account).into_iter().flatten();
        let services = subscriptions.flat_map(|key| self.of_subscription.get(key));
        services.flatten().copied()
    }

    /// The accounts that share a balance group with an account.
    pub(crate) fn sharers(&self, account: AccountKey) -> impl Iterator<Item = AccountKey> {
        let groups = self.of_member.get(&account).into_iter().flatten();
        groups
            .filter_map(|group| self.groups.get(group))
            .flatten()
            .copied()
    }

    /// The balance groups of an account.
    pub(crate) fn groups_of(&self, account: AccountKey) -> impl Iterator<Item = GroupKey> {
        self.of_member.get(&account).into_iter().flatten().copied()
    }

    /// The accounts of a balance group.
    pub(crate) fn members(&self, group: GroupKey) -> impl Iterator<Item = AccountKey> {
        self.groups.get(&group).into_iter().flatten().copied()
    }

    /// What the accounts and the services need of the reference data.
    fn part(&self, accounts: &BTreeSet<AccountKey>, services: &HashSet<ServiceKey>) -> Reference {
        let own = accounts
            .iter()
            .flat_map(|account| self.services_of(*account));
        let services: BTreeSet<ServiceKey> = own.chain(services.iter().copied()).collect();
        let mut part = Reference {
            prices: self.reference.prices.clone(),
            plans: self.reference.plans.clone(),
            ..Reference::default()
        };
        let rows = services
            .iter()
            .filter_map(|service| self.services.get(service));
        part.services = rows.flatten().copied().copied().collect();
        let mut subscriptions: BTreeSet<SubscriptionKey> =
            part.services.iter().map(|row| row.subscription).collect();
        let own = accounts
            .iter()
            .filter_map(|account| self.of_account.get(account));
        subscriptions.extend(own.flatten());
        let rows = subscriptions
            .iter()
            .filter_map(|key| self.subscriptions.get(key));
        part.subscriptions = rows.flatten().copied().cloned().collect();
        let mut wanted = accounts.clone();
        wanted.extend(part.subscriptions.iter().map(|row| row.account));
        let rows = self
            .reference
            .accounts
            .iter()
            .filter(|row| wanted.contains(&row.key));
        part.accounts = rows.cloned().collect();
        part.services.sort_unstable();
        part.subscriptions.sort_unstable();
        part
    }
}

/// What is rated together in a period.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// The accounts.
    pub(crate) accounts: BTreeSet<AccountKey>,
    /// Their usage.
    pub(crate) usage: Vec<BilledUsage>,
    /// Their balance groups, as archived.
    pub(crate) groups: BTreeMap<GroupKey, GroupEntry>,
    /// Services of usage.
    services: HashSet<ServiceKey>,
}

impl Scope {
    /// Loads accounts of a period, and everybody whose usage theirs depends on. `services` are those
    /// of usage that is to be rated with theirs.
    pub(crate) fn load(
        period: &ArchivedPeriod,
        links: &Links<'_>,
        names: &Names,
        accounts: BTreeSet<AccountKey>,
        services: impl IntoIterator<Item = ServiceKey>,
    ) -> Result<Self, ArchiveError> {
        let mut scope = Self {
            services: services.into_iter().collect(),
            ..Self::default()
        };
        let mut next = accounts;
        let given: Vec<ServiceKey> = scope.services.iter().copied().collect();
        next.extend(given.into_iter().flat_map(|service| links.payers(service)));
        while !next.is_empty() {
            let fresh: Vec<String> = next
                .iter()
                .map(|account| names.account(*account).to_string())
                .collect();
            scope.accounts.append(&mut next);
            let first = scope.usage.len();
            let mut rows = period.usage(fresh.iter().map(String::as_str), names)?;
            scope.usage.append(&mut rows);
            let mut linked: BTreeSet<AccountKey> = BTreeSet::new();
            for row in scope.usage.iter().skip(first) {
                if scope.services.insert(row.usage.service) {
                    linked.extend(links.payers(row.usage.service));
                }
            }
            for account in &fresh {
                let key = AccountKey::of(&[account]);
                linked.extend(links.sharers(key));
                let services = links.services_of(key);
                linked.extend(services.flat_map(|service| links.payers(service)));
                if let Some(found) = period.find(account)? {
                    scope.enter_groups(&found, names, &mut linked);
                }
            }
            next = linked.difference(&scope.accounts).copied().collect();
        }
        Ok(scope)
    }

    fn enter_groups(&mut self, found: &Found, names: &Names, linked: &mut BTreeSet<AccountKey>) {
        for group in &found.groups {
            let key = names.enter_group(&group.pool, &group.currency);
            linked.extend(group.accounts.iter().map(|name| names.enter_account(name)));
            self.groups.insert(key, group.clone());
        }
    }

    /// The accounts that are billed by the period: those that it has, and those whose bill unit it is.
    /// Others are in a scope only because usage may go to them.
    pub(crate) fn own(
        &self,
        period: &ArchivedPeriod,
        closing: &mut Closing,
        names: &Names,
    ) -> Result<BTreeSet<AccountKey>, ArchiveError> {
        let mut own = BTreeSet::new();
        for account in &self.accounts {
            if is_billed_by(*account, period, closing, names)? {
                own.insert(*account);
            }
        }
        Ok(own)
    }

    /// What the scope needs of the reference data.
    pub(crate) fn reference(&self, links: &Links<'_>) -> Reference {
        links.part(&self.accounts, &self.services)
    }

    /// Where the groups stood when the period began: as `carried` from a period before, or else as
    /// archived. Between that period and this one there was no usage, only edges.
    pub(crate) fn opening(&self, carried: &BTreeMap<GroupKey, Stand>, at: EventTime) -> Opening {
        let archived = self.groups.iter().filter_map(|(group, entry)| {
            let moved = movement(entry.opening.as_ref()?);
            Some((*group, Stand { at, moved }))
        });
        let mut opening: BTreeMap<GroupKey, Stand> = archived.collect();
        let carried = carried.iter().filter(|(_, stand)| stand.at <= at);
        opening.extend(carried.map(|(group, stand)| (*group, stand.clone())));
        Opening(opening)
    }

    /// What was billed to the accounts.
    pub(crate) fn billed(
        &self,
        period: &ArchivedPeriod,
    ) -> Result<Vec<ArchivedLine>, ArchiveError> {
        let shards = self
            .accounts
            .iter()
            .map(|account| millrace_operators::epoch::shard(account.0));
        let shards: BTreeSet<u64> = shards.collect();
        let mut lines = Vec::new();
        for shard in shards {
            let of_shard = period.lines(shard)?.into_iter();
            let own =
                |line: &ArchivedLine| self.accounts.contains(&AccountKey::of(&[&line.account]));
            lines.extend(of_shard.filter(own));
        }
        Ok(lines)
    }
}

/// Whether an account is billed by a period.
pub(crate) fn is_billed_by(
    account: AccountKey,
    period: &ArchivedPeriod,
    closing: &mut Closing,
    names: &Names,
) -> Result<bool, ArchiveError> {
    let bounds = period.period();
    if closing.period_at(account, bounds.start()) == Some(bounds) {
        return Ok(true);
    }
    Ok(period.find(&names.account(account))?.is_some())
}

/// What an archive says moved the buckets of a group.
pub(crate) fn movement(buckets: &[BucketEntry]) -> Movement {
    let entry = |bucket: &BucketEntry| {
        let key = u64::from_str_radix(&bucket.bucket, 16).ok()?;
        Some((BucketKey(key), bucket.moved.parse().ok()?))
    };
    buckets.iter().filter_map(entry).collect()
}

/// Whether a line is of a bill unit of the period.
pub(crate) fn in_period(key: &LineKey, period: Period) -> bool {
    period.start() <= key.unit_start && key.unit_end <= period.end()
}

/// What moved groups, as where they stand at an instant.
pub(crate) fn stands(
    moved: &BTreeMap<GroupKey, Vec<Moved>>,
    at: EventTime,
) -> BTreeMap<GroupKey, Stand> {
    let stand = |(group, moved): (&GroupKey, &Vec<Moved>)| {
        let moved = moved.iter().map(|moved| (moved.bucket, moved.by)).collect();
        (*group, Stand { at, moved })
    };
    moved.iter().map(stand).collect()
}

/// What an archive says moved the groups of a scope by the end of the period.
pub(crate) fn archived_closing(scope: &Scope) -> BTreeMap<GroupKey, Movement> {
    let groups = scope.groups.iter();
    groups
        .map(|(group, entry)| (*group, movement(&entry.closing)))
        .collect()
}

/// What separates billing lines, as a job names it.
pub(crate) fn dimensions(aggregate_by: &[String], names: &Names) -> Vec<Dimension> {
    aggregate_by
        .iter()
        .map(|name| crate::job::dimension(name, names))
        .collect()
}
