//! Gives activities that an edge decides (commitments, volume prices) the amount that it came to.
//!
//! - **In:** `activity: Activity`, `edges: EdgeCharged`
//! - **Out:** `settled: Activity`, each with its amount
//! - **Key:** `ActivityKey`, which is the key of the edge; only activities that an edge decides are
//!   arranged
//! - **Cost per change:** O(activities of the edge), which is one
//! - **State:** activities that an edge decides, and their edges; shrinks as they are retracted
//! - **Invariants:** an activity goes through once: with its own amount, or with its edge's

use crate::charge::EdgeCharged;
use crate::domain::{Activity, ActivityKey, Amount, ImpactKind};
use crate::epoch::Collection;

/// Settles activities; see the module.
pub fn settle<'scope>(
    activity: Collection<'scope, Activity>,
    edges: Collection<'scope, EdgeCharged>,
) -> Collection<'scope, Activity> {
    let decided = activity
        .clone()
        .filter(|activity| activity.kind.is_decided_by_an_edge())
        .map(|activity| (activity.key, activity));
    let amounts = edges.map(|charged| (ActivityKey(charged.edge.0), price_of(&charged)));
    let settled = decided.join_map(amounts, |_, activity, amount| Activity {
        amount: *amount,
        ..activity.clone()
    });
    activity
        .filter(|activity| !activity.kind.is_decided_by_an_edge())
        .concat(settled)
}

/// What an edge charges.
fn price_of(edge: &EdgeCharged) -> Amount {
    let prices = edge.impacts.iter();
    let prices = prices.filter(|impact| impact.kind == ImpactKind::Price);
    // An edge has one price, and a sum out of range has become its reason instead.
    prices.fold(Amount::ZERO, |sum, impact| {
        sum.checked_add(impact.amount).unwrap_or(sum)
    })
}
