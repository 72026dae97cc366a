//! Turns plans, subscriptions and the clock into the buckets and edges of balance groups, and into
//! subscription activity.
//!
//! ```text
//!  subscriptions with accounts ─► listings ─► holdings ─┬─► own parts ───┐
//!                                         plans ────────┴─► pools ───────┼─► buckets, edges, activity
//!  clock ────────────────────────────────────────────────► cycles ───────┘
//! ```
//!
//! - **In:** `subscriptions: (Subscription, Account)`, those that have an account; `plans: PlanRow`,
//!   `clock: EventTime` (one value, moved by a retraction and an insertion), `ahead: (GroupKey,
//!   EventTime)` (days with usage, of which those ahead of the clock count), the tenant's time zone
//! - **Out:** `buckets: Bucket`, `edges: Edge`, `activity: Activity`
//! - **Key:** `(subscription, list)` for what a subscription holds, `GroupKey` for what a group
//!   shares, `(cycle, shard)` where they meet the clock. Everybody may have one list and one cycle,
//!   so both are looked up under the shard of the subscription, and cycles under that of the group
//! - **Time:** cycles are of event time. A cycle is known from the one before on, so that usage
//!   finds its bucket at midnight, and as far as there is usage; it is charged in advance once it begins, and at its end once the
//!   clock has passed it
//! - **Cost per change:** subscription row O(its rows + its parts · cycles); plan row O(subscriptions
//!   of the list · cycles); a row of a group O(members · shared parts · cycles); clock O(distinct
//!   billing cycles), and where a cycle ends O(cycles so far) plus one cycle of its subscriptions
//! - **State:** rows, holdings, pools and cycles; shrinks as rows are retracted, never by time:
//!   forgetting closed periods is the matter of whoever holds their usage
//! - **Invariants:** keys of buckets and activities are functions of what they are for, so a row
//!   that changes something else replaces nothing; a subscription has no first cycle, and gets
//!   nothing, before it has a first day

mod ahead;
mod cycles;
mod holding;
mod outcome;
mod own;
mod pool;
mod settle;
#[cfg(test)]
mod tests;

use crate::domain::{
    Account, Activity, Bucket, Edge, EventTime, GroupKey, PlanPart, PlanRow, Subscription,
};
use crate::epoch::{Collection, SHARDS, shard};
use ahead::cycles_ahead;
pub use ahead::days_ahead;
use cycles::{CycleKey, Cycles, Phase, Step, cycles};
use holding::{Holding, Listing, holdings};
use jiff::tz::TimeZone;
use outcome::Outcome;
use own::Own;
use pool::pools;
pub use settle::settle;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the operator reads.
pub struct ActivityInputs<'scope> {
    /// Subscriptions with their accounts.
    pub subscriptions: Collection<'scope, (Arc<Subscription>, Account)>,
    /// The plans of their price lists.
    pub plans: Collection<'scope, PlanRow>,
    /// The present: one instant.
    pub clock: Collection<'scope, EventTime>,
    /// Days that usage of balance groups falls on, those ahead of the clock at least.
    pub ahead: Collection<'scope, (GroupKey, EventTime)>,
}

/// What the operator makes.
pub struct Activities<'scope> {
    /// Buckets of balance groups.
    pub buckets: Collection<'scope, Bucket>,
    /// Edges of their periods.
    pub edges: Collection<'scope, Edge>,
    /// Charges that need no usage.
    pub activity: Collection<'scope, Activity>,
}

/// Makes buckets, edges and subscription activity; see the module. Cycles begin at 00:00 in `zone`.
pub fn activity<'scope>(inputs: ActivityInputs<'scope>, zone: &TimeZone) -> Activities<'scope> {
    let plans = inputs.plans;
    let held = held(inputs.subscriptions, plans.clone());
    let by_list = held.map(|holding| ((holding.list, shard(holding.subscription.0)), holding));
    // Every holding has the row of its list, and all of them the same one.
    let spread = plans.flat_map(|row| {
        let row = Arc::new(row);
        (0..SHARDS).map(move |n| ((row.list, n), Arc::clone(&row)))
    });
    let granted = by_list
        .join_map(spread, |_, holding, row| {
            let gets = holding.gets(row);
            gets.then(|| (Arc::clone(row), Arc::clone(holding)))
        })
        .flat_map(|granted| granted);

    let (term_zone, pooled_zone) = (zone.clone(), zone.clone());
    let is_own = |part: &PlanPart| matches!(part, PlanPart::Allowance(_) | PlanPart::Charge(_));
    let own = granted
        .clone()
        .filter(move |(row, _)| is_own(&row.part))
        .flat_map(move |(row, holding)| Own::new(row, holding, &term_zone));
    let own = own.map(|own| {
        let shard = shard(own.holding.group.0);
        let profile = own.cycle;
        (CycleKey { profile, shard }, own)
    });
    let pools = granted
        .filter(move |(row, _)| !is_own(&row.part))
        .map(|(row, holding)| (holding.group, (row, holding)))
        .reduce_named("pools", move |group, granted, made| {
            let granted: Vec<_> = granted.iter().map(|(granted, _)| *granted).collect();
            let pools = pools(*group, &granted, &pooled_zone);
            made.extend(pools.into_iter().map(|pool| (pool, 1)));
        })
        .map(|(group, pool)| {
            let (shard, profile) = (shard(group.0), pool.cycle);
            (CycleKey { profile, shard }, pool)
        });

    let own_starts = own.clone().map(|(key, own)| (key, own.start()));
    let pool_starts = pools.clone().map(|(key, pool)| (key, pool.start()));
    let cycles = cycles(own_starts.concat(pool_starts), inputs.clock, zone);
    let Cycles {
        steps,
        keys,
        present,
    } = cycles;
    let ahead = cycles_ahead(inputs.ahead, keys, present, zone);
    let steps = steps
        .map(|(key, step)| (key, (None, step)))
        .concat(ahead.map(|(key, (group, cycle))| {
            let phase = Phase::Known;
            (key, (Some(group), Step { cycle, phase }))
        }));
    let own_zone = zone.clone();
    let of_own = own.join_map(steps.clone(), move |_, own, (group, step)| {
        let its = group.is_none_or(|group| group == own.holding.group);
        its.then(|| own.at(step, &own_zone))
    });
    let pool_zone = zone.clone();
    let of_pools = pools.join_map(steps, move |_, pool, (group, step)| {
        let its = group.is_none_or(|group| group == pool.group);
        its.then(|| pool.at(step, &pool_zone))
    });
    let made = of_own
        .concat(of_pools)
        .flat_map(Option::into_iter)
        .flat_map(|outcomes| outcomes);
    Activities {
        buckets: made.clone().flat_map(|outcome| match outcome {
            Outcome::Bucket(bucket) => Some(bucket),
            Outcome::Edge(_) | Outcome::Activity(_) => None,
        }),
        edges: made.clone().flat_map(|outcome| match outcome {
            Outcome::Edge(edge) => Some(edge),
            Outcome::Bucket(_) | Outcome::Activity(_) => None,
        }),
        activity: made.flat_map(|outcome| match outcome {
            Outcome::Activity(activity) => Some(activity),
            Outcome::Bucket(_) | Outcome::Edge(_) => None,
        }),
    }
}

/// What subscriptions hold of the lists that have a plan.
fn held<'scope>(
    subscriptions: Collection<'scope, (Arc<Subscription>, Account)>,
    plans: Collection<'scope, PlanRow>,
) -> Collection<'scope, Arc<Holding>> {
    let planned = plans
        .map(|row| row.list)
        .distinct()
        .flat_map(|list| (0..SHARDS).map(move |shard| (list, shard)));
    // Of a row only what it shares with others is held: listings are made of it when they are looked at.
    subscriptions
        .flat_map(|(subscription, account)| {
            let shard = shard(subscription.key.0);
            let lists = subscription.price_lists.clone().into_iter();
            lists.map(move |list| {
                let row = (Arc::clone(&subscription), account.clone());
                ((list, shard), row)
            })
        })
        .semijoin(planned)
        .map(|((list, _), row)| ((row.0.key, list), row))
        .reduce_named("holdings", |(subscription, list), rows, held| {
            let listings = rows.iter().map(|(row, _)| Listing::of(&row.0, &row.1));
            let listings: BTreeSet<Listing> = listings.collect();
            let listings: Vec<&Listing> = listings.iter().collect();
            let found = holdings(*subscription, *list, &listings);
            // Shared by all that is made of it: each part of its plan holds it again.
            held.extend(found.into_iter().map(|holding| (Arc::new(holding), 1)));
        })
        .map(|(_, holding)| holding)
}
