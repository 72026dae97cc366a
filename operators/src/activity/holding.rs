//! What a subscription holds of a price list: when it was active with it, and who pays.

use crate::domain::{
    Account, AccountKey, BillingProfile, EventTime, GroupKey, Name, Period, PlanRow, Proration,
    Scale, Subscription, SubscriptionKey, SubscriptionStatus,
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Stretches of time in order, apart from each other.
pub(super) type Stretches = SmallVec<[Period; 1]>;

/// One row of a subscription, for one of its price lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listing {
    pub(super) valid: Period,
    pub(super) active: bool,
    pub(super) group: GroupKey,
    pub(super) account: AccountKey,
    pub(super) currency: Name,
    pub(super) profile: BillingProfile,
}

impl Listing {
    pub(super) fn of(subscription: &Subscription, account: &Account) -> Self {
        Self {
            valid: subscription.valid,
            active: subscription.status == SubscriptionStatus::Active,
            group: GroupKey::of_pool(subscription.group, account.currency),
            account: account.key,
            currency: account.currency,
            profile: account.profile,
        }
    }
}

/// What a subscription holds of a price list for one account and in one balance group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Holding {
    pub(super) subscription: SubscriptionKey,
    pub(super) list: Name,
    pub(super) group: GroupKey,
    pub(super) account: AccountKey,
    pub(super) currency: Name,
    pub(super) profile: BillingProfile,
    /// When it was active; never empty.
    pub(super) stretches: Stretches,
    /// The first instant that the subscription was ever active with the list, if it falls here: a
    /// subscription that resumes, or moves to another account, is not activated again.
    pub(super) activation: Option<EventTime>,
}

impl Holding {
    /// The first instant that it was active.
    pub(super) fn began(&self) -> EventTime {
        let first = self.stretches.first();
        first.map_or(EventTime::MIN, |first| first.start())
    }

    /// Whether it gets a row of the list's plan.
    pub(super) fn gets(&self, row: &PlanRow) -> bool {
        let billed = row.part.currency().is_none_or(|c| c == self.currency);
        billed && !clip(&self.stretches, row.valid).is_empty()
    }
}

/// The holdings that the rows of a subscription come to.
pub(super) fn holdings(
    subscription: SubscriptionKey,
    list: Name,
    listings: &[&Listing],
) -> Vec<Holding> {
    // Without a first day there is no first cycle.
    let dated = |listing: &&&Listing| listing.active && listing.valid.start() != EventTime::MIN;
    let mut active: Vec<&Listing> = listings.iter().filter(dated).copied().collect();
    active.sort_by_key(|listing| listing.valid);
    let activation = active.first().map(|listing| listing.valid.start());
    let mut held: Vec<Holding> = Vec::new();
    let mut places: BTreeMap<(GroupKey, AccountKey, BillingProfile), usize> = BTreeMap::new();
    for listing in active {
        let owner = (listing.group, listing.account, listing.profile);
        let place = *places.entry(owner).or_insert(held.len());
        match held.get_mut(place) {
            Some(held) => {
                held.stretches.push(listing.valid);
            }
            None => held.push(Holding {
                subscription,
                list,
                group: listing.group,
                account: listing.account,
                currency: listing.currency,
                profile: listing.profile,
                stretches: SmallVec::from_iter([listing.valid]),
                activation: activation.filter(|start| *start == listing.valid.start()),
            }),
        }
    }
    for holding in &mut held {
        holding.stretches = union(std::mem::take(&mut holding.stretches));
    }
    held
}

/// The stretches in order, those that meet joined.
pub(super) fn union(stretches: impl IntoIterator<Item = Period>) -> Stretches {
    let mut sorted: Vec<Period> = stretches.into_iter().collect();
    sorted.sort_unstable();
    let mut joined = Stretches::new();
    for next in sorted {
        match joined.last_mut() {
            Some(last) if next.start() <= last.end() => {
                let end = last.end().max(next.end());
                *last = Period::new(last.start(), end).unwrap_or(*last);
            }
            _ => joined.push(next),
        }
    }
    joined
}

/// The parts within `period` of stretches that are in order and apart from each other: no other is
/// looked at.
pub(super) fn clip(stretches: &[Period], period: Period) -> Stretches {
    let first = stretches.partition_point(|part| part.end() <= period.start());
    let from_first = stretches.iter().skip(first);
    let meeting = from_first.take_while(|part| part.start() < period.end());
    meeting.filter_map(|part| part.intersect(period)).collect()
}

/// From the first to the last instant of the stretches.
pub(super) fn hull(stretches: &[Period]) -> Option<Period> {
    let (first, last) = (stretches.first()?, stretches.last()?);
    Period::new(first.start(), last.end())
}

/// What the applied part of a cycle counts for.
pub(super) fn scale(
    applied: &[Period],
    cycle: Period,
    proration: Proration,
    zone: &TimeZone,
) -> Scale {
    if applied == [cycle] {
        return Scale::ONE;
    }
    match proration {
        Proration::NoCharge => Scale::ZERO,
        Proration::FullCharge => Scale::ONE,
        Proration::Prorate => {
            let parts = applied.iter().map(|part| wall_clock(*part, zone));
            let applied = parts.fold(0_u64, u64::saturating_add);
            Scale::new(applied, wall_clock(cycle, zone))
        }
    }
}

/// The length of a period as clocks on walls show it, in microseconds: every day has 24 hours, so
/// that 16 days of 31 are 16/31 in a month whose clocks change, too.
fn wall_clock(period: Period, zone: &TimeZone) -> u64 {
    let shown = |time: EventTime| {
        let shown = zone.to_datetime(time.timestamp()?);
        let instant = TimeZone::UTC.to_timestamp(shown).ok()?;
        Some(instant.as_microsecond())
    };
    let length = || shown(period.end())?.checked_sub(shown(period.start())?);
    // An hour that is shown twice can end before it began.
    length()
        .and_then(|length| u64::try_from(length).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn period((start, length): (i64, i64)) -> Period {
        Period::new(EventTime(start), EventTime(start + length)).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_clipped_are_the_parts_within(
            stretches in prop::collection::vec((0_i64..60, 1_i64..8), 0..12),
            within in (0_i64..60, 1_i64..20),
        ) {
            let stretches = union(stretches.into_iter().map(period));
            let within = period(within);
            let parts = stretches.iter().filter_map(|part| part.intersect(within));
            prop_assert_eq!(clip(&stretches, within).to_vec(), parts.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_subscription_may_have_had_many_accounts() {
        const ACCOUNTS: u64 = 30_000;
        let listings: Vec<Listing> = (0..ACCOUNTS * 2)
            .map(|n| Listing {
                valid: period((i64::try_from(n).unwrap() * 10, 5)),
                active: true,
                group: GroupKey(1),
                account: AccountKey(n % ACCOUNTS),
                currency: Name(1),
                profile: BillingProfile::default(),
            })
            .collect();
        let listings: Vec<&Listing> = listings.iter().collect();
        let held = holdings(SubscriptionKey(1), Name(1), &listings);
        assert!(held.iter().map(|holding| holding.account.0).eq(0..ACCOUNTS));
        assert!(held.iter().all(|holding| holding.stretches.len() == 2));
        let activated = held.iter().filter(|holding| holding.activation.is_some());
        assert_eq!(activated.count(), 1);
    }
}
