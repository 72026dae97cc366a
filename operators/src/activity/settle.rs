//! Gives activities that an edge decides (commitments, volume prices) the amount that it came to, or
//! the reason why it came to none.
//!
//! - **In:** `activity: Activity`, `edges: EdgeCharged`
//! - **Out:** `settled: Activity`, each with its amount, or with the reason why it has none
//! - **Key:** `ActivityKey`, which is the key of the edge; only activities that an edge decides are
//!   arranged
//! - **Cost per change:** O(activities of the edge), which is one
//! - **State:** activities that an edge decides, and their edges; shrinks as they are retracted
//! - **Invariants:** an activity goes through once: with its own amount, or with its edge's

use crate::charge::EdgeCharged;
use crate::domain::{Activity, ActivityKey, Amount, ImpactKind, Reason};
use crate::epoch::Collection;

/// Settles activities; see the module.
pub fn settle<'scope>(
    activity: Collection<'scope, Activity>,
    edges: Collection<'scope, EdgeCharged>,
) -> Collection<'scope, Activity> {
    let decided = activity
        .clone()
        .filter(Activity::awaits_its_edge)
        .map(|activity| (activity.key, activity));
    let came_to = edges.map(|charged| (ActivityKey(charged.edge.0), came_to(&charged)));
    let settled = decided.join_map(came_to, |_, activity, (amount, reason)| Activity {
        amount: *amount,
        reason: *reason,
        ..activity.clone()
    });
    activity
        .filter(|activity| !activity.awaits_its_edge())
        .concat(settled)
}

/// What an edge charges, or why it charges nothing.
fn came_to(edge: &EdgeCharged) -> (Amount, Option<Reason>) {
    let prices = edge.impacts.iter();
    let prices = prices.filter(|impact| impact.kind == ImpactKind::Price);
    // An edge has one price, and a sum out of range has become its reason instead.
    let amount = prices.fold(Amount::ZERO, |sum, impact| {
        sum.checked_add(impact.amount).unwrap_or(sum)
    });
    (amount, edge.reason)
}
