//! What a worker holds open, as rows of the archive.

use crate::graph::{Open, Opening};
use crate::outputs::all_buckets_of;
use millrace_connectors::archive::{BilledUsage, Moved};
use millrace_operators::domain::{
    AccountKey, BillingProfile, Bucket, BucketKey, EventTime, GroupKey, Identity, Name, Period,
    PriceKey, Usage,
};
use millrace_operators::epoch::shard;
use millrace_operators::rate::Rating;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

/// Usage of closed periods, by period and shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Usage; identities are not known here.
    pub usage: BTreeMap<(Period, u64), Vec<BilledUsage>>,
    /// The price rows used, by account.
    pub prices: BTreeMap<(Period, u64), BTreeSet<(PriceKey, AccountKey)>>,
}

impl Collected {
    /// Adds what another worker collected.
    pub fn append(&mut self, other: Self) {
        for (place, mut usage) in other.usage {
            self.usage.entry(place).or_default().append(&mut usage);
        }
        for (place, mut prices) in other.prices {
            self.prices.entry(place).or_default().append(&mut prices);
        }
    }

    /// Keeps what is of these places and accounts.
    pub(super) fn retain(&mut self, keeps: impl Fn((Period, u64), AccountKey) -> bool) {
        self.usage.retain(|place, rows| {
            rows.retain(|row| keeps(*place, row.account));
            !rows.is_empty()
        });
        self.prices.retain(|place, used| {
            used.retain(|(_, account)| keeps(*place, *account));
            !used.is_empty()
        });
    }

    fn price(&mut self, place: (Period, u64), used: (PriceKey, AccountKey)) {
        self.prices.entry(place).or_default().insert(used);
    }
}

/// Collects the rated usage of a worker; `period` says where usage of an account goes, if it is
/// wanted.
pub fn collect(
    open: &Open,
    mut period: impl FnMut(AccountKey, &BillingProfile, EventTime) -> Option<Period>,
) -> Collected {
    let mut collected = Collected::default();
    let mut at: Option<(Period, u64)> = None;
    let mut last: Option<((Period, u64), (PriceKey, AccountKey))> = None;
    let mut place = |account: AccountKey, profile: &BillingProfile, time| {
        let period = period(account, profile, time)?;
        Some((period, shard(account.0)))
    };
    let visited = open.ratings.visit(
        |_| true,
        |rating| {
            match rating {
                Rating::Charge(charge) => {
                    if charge.item == 0 {
                        at = place(charge.account, &charge.profile, charge.time);
                        if let Some(at) = at {
                            let row = BilledUsage {
                                usage: Usage {
                                    record: charge.record,
                                    identity: Identity::default(),
                                    service: charge.service,
                                    class: charge.class,
                                    time: charge.time,
                                    quantities: [charge.quantity].into_iter().collect(),
                                    mark: None,
                                },
                                account: charge.account,
                                subscription: charge.subscription,
                            };
                            collected.usage.entry(at).or_default().push(row);
                        }
                    } else if let Some(at) = at
                        && let Some(row) = collected
                            .usage
                            .get_mut(&at)
                            .and_then(|rows| rows.last_mut())
                    {
                        row.usage.quantities.push(charge.quantity);
                    }
                    let used = at.map(|at| (at, (charge.price, charge.account)));
                    if let Some((at, used)) = used.filter(|used| last != Some(*used)) {
                        collected.price(at, used);
                        last = Some((at, used));
                    }
                }
                Rating::Priced(usage) => {
                    let terms = &usage.terms;
                    at = place(terms.account, &terms.profile, usage.time);
                    if let Some(at) = at {
                        let row = BilledUsage {
                            usage: Usage {
                                record: usage.record,
                                identity: Identity::default(),
                                service: terms.service,
                                class: terms.class,
                                time: usage.time,
                                quantities: usage.quantities.clone(),
                                mark: None,
                            },
                            account: terms.account,
                            subscription: terms.subscription,
                        };
                        collected.usage.entry(at).or_default().push(row);
                        for item in &terms.items {
                            collected.price(at, (item.price, terms.account));
                        }
                    }
                }
                Rating::Suspense(_) => at = None,
            }
            Ok::<(), Infallible>(())
        },
    );
    match visited {
        Ok(()) => collected,
        Err(never) => match never {},
    }
}

/// The rated records of a worker whose account and time are wanted.
pub(super) fn records(
    open: &Open,
    mut wanted: impl FnMut(AccountKey, &BillingProfile, EventTime) -> bool,
) -> RoaringTreemap {
    let mut records = RoaringTreemap::new();
    let visited = open.ratings.visit(
        |_| true,
        |rating| {
            let wanted = match rating {
                Rating::Charge(charge) => {
                    charge.item == 0 && wanted(charge.account, &charge.profile, charge.time)
                }
                Rating::Priced(usage) => {
                    wanted(usage.terms.account, &usage.terms.profile, usage.time)
                }
                Rating::Suspense(_) => false,
            };
            if wanted {
                records.insert(rating.record().0);
            }
            Ok::<(), Infallible>(())
        },
    );
    match visited {
        Ok(()) => records,
        Err(never) => match never {},
    }
}

/// Tells the event times of usage that is charged in order, by balance group.
pub(super) fn begun(open: &Open, mut tell: impl FnMut(GroupKey, EventTime)) {
    let mut first: BTreeMap<GroupKey, EventTime> = BTreeMap::new();
    let visited = open.ratings.visit(
        |_| true,
        |rating| {
            if let Rating::Priced(usage) = rating {
                let held = first.entry(usage.terms.group).or_insert(usage.time);
                *held = (*held).min(usage.time);
            }
            Ok::<(), Infallible>(())
        },
    );
    match visited {
        Ok(()) => first
            .into_iter()
            .for_each(|(group, time)| tell(group, time)),
        Err(never) => match never {},
    }
}

/// What had moved the buckets of a group just before the usage of an instant. Only buckets that may
/// still matter then: those that are not over, and those whose end such a bucket looks back at.
/// `opening` is what the graph was told had moved them before its first record.
#[must_use]
pub fn moved(open: &Open, group: GroupKey, at: EventTime, opening: &Opening) -> Vec<Moved> {
    let buckets = all_buckets_of(open, group);
    let values = open.charges.balances(group, Some(at)).unwrap_or_default();
    let looked_back_at = looked_back_at(&buckets, at);
    let before = opening.0.get(&group);
    let moved = values.into_iter().filter_map(|(key, value)| {
        let bucket = buckets.get(&key)?;
        let matters = bucket.valid.end() > at || looked_back_at.contains(&key);
        // The opening that the graph knows has what came before in it.
        let before = before.and_then(|stand| stand.moved.get(&key)).copied();
        let opening = bucket.opening.saturating_sub(before.unwrap_or(0));
        let by = value.saturating_sub(opening);
        (matters && by != 0).then_some(Moved {
            bucket: key,
            resource: bucket.resource,
            by,
        })
    });
    moved.collect()
}

/// The buckets that are over at an instant and that one that is not follows upon.
fn looked_back_at(buckets: &BTreeMap<BucketKey, Bucket>, at: EventTime) -> BTreeSet<BucketKey> {
    let mut ends: BTreeMap<Name, Vec<(EventTime, EventTime, BucketKey)>> = BTreeMap::new();
    let buckets = buckets.values().filter(|bucket| !bucket.kind.is_inner());
    for bucket in buckets.clone().filter(|bucket| bucket.valid.end() <= at) {
        let valid = bucket.valid;
        let ended = ends.entry(bucket.resource).or_default();
        ended.push((valid.end(), valid.start(), bucket.key));
    }
    ends.values_mut().for_each(|ends| ends.sort_unstable());
    let live = buckets.filter(|bucket| bucket.valid.end() > at);
    let before = live.filter_map(|bucket| {
        let ends = ends.get(&bucket.resource)?;
        let start = bucket.valid.start();
        let after = ends.partition_point(|(end, ..)| *end <= start);
        Some(ends.get(after.checked_sub(1)?)?.2)
    });
    before.collect()
}
