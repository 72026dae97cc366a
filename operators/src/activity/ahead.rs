//! Cycles that usage is in before the clock is: usage that is dated ahead finds the buckets of its
//! period, like any other.
//!
//! - **In:** `ahead: (GroupKey, EventTime)`, days that usage of a group falls on; those that the clock
//!   knows make nothing
//! - **Out:** cycles of a group from the one behind the clock's known ones to that of its last usage,
//!   all of them: tiers look at the period before, and what is left of one goes on into the next
//! - **Cost per change:** O(days ahead); as a rule none is
//! - **Invariants:** with the cycles that the clock knows, a cycle is made once; which ones are is a
//!   function of the clock and the usage

use super::cycles::CycleKey;
use crate::domain::{
    BillCalendar, BillingProfile, Cycle, EventTime, GroupKey, Period, PricedUsage,
};
use crate::epoch::{Collection, shard};
use jiff::tz::TimeZone;

/// The days on which priced usage falls that is not before `from`, by balance group.
pub fn days_ahead<'scope>(
    priced: Collection<'scope, PricedUsage>,
    from: EventTime,
    zone: &TimeZone,
) -> Collection<'scope, (GroupKey, EventTime)> {
    // Cycles begin where days do. Usage asks for the same few days again and again.
    let mut days = BillCalendar::new(zone.clone());
    let daily = BillingProfile {
        cycle: Cycle::Day,
        ..BillingProfile::default()
    };
    priced.flat_map(move |usage| {
        let ahead = usage.time >= from;
        ahead.then(|| (usage.terms.group, days.unit(&daily, usage.time).start()))
    })
}

/// The cycles ahead of the clock that groups have usage in or before; see the module. `keys` are the
/// cycles in use, and `present` is where the clock stands in each.
pub(super) fn cycles_ahead<'scope>(
    ahead: Collection<'scope, (GroupKey, EventTime)>,
    keys: Collection<'scope, CycleKey>,
    present: Collection<'scope, (BillingProfile, Period)>,
    zone: &TimeZone,
) -> Collection<'scope, (CycleKey, (GroupKey, Period))> {
    let last = ahead
        .reduce_named("last usage", |_, days, last| {
            last.extend(days.last().map(|(day, _)| (**day, 1)));
        })
        .map(|(group, day)| (shard(group.0), (group, day)));
    let keyed = keys.map(|key| (key.shard, key.profile));
    let zone = zone.clone();
    last.join_map(keyed, |shard, (group, day), profile| {
        let key = CycleKey {
            profile: *profile,
            shard: *shard,
        };
        (*profile, (key, *group, *day))
    })
    .join_map(present, move |profile, (key, group, day), present| {
        // The cycle after the present one is the last that the clock knows.
        let known = profile.cycle_at(present.end(), &zone);
        let mut next = known.and_then(|known| profile.cycle_at(known.end(), &zone));
        let mut made = Vec::new();
        while let Some(cycle) = next.filter(|cycle| cycle.start() <= *day) {
            made.push((*key, (*group, cycle)));
            next = profile.cycle_at(cycle.end(), &zone);
        }
        made
    })
    .flat_map(|made| made)
}
