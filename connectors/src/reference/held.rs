//! Which price lists balance groups have, and when.

use super::rows::Rows;
use millrace_operators::domain::{Name, Period, PlanRow, SubscriptionStatus};
use std::collections::BTreeMap;

/// When balance groups have price lists.
pub(super) struct Held(BTreeMap<Name, BTreeMap<Name, Vec<Period>>>);

impl Held {
    pub(super) fn of(rows: &Rows) -> Self {
        let mut held: BTreeMap<Name, BTreeMap<Name, Vec<Period>>> = BTreeMap::new();
        let active = rows.subscriptions.iter().map(|placed| &placed.row);
        for row in active.filter(|row| row.status == SubscriptionStatus::Active) {
            let lists = held.entry(row.group).or_default();
            for list in &row.price_lists {
                lists.entry(*list).or_default().push(row.valid);
            }
        }
        Self(held)
    }

    /// Whether a group has both rows at once; two rows of one list, whether anybody may.
    pub(super) fn at_once(&self, first: &PlanRow, other: &PlanRow) -> bool {
        if !first.valid.overlaps(other.valid) {
            return false;
        }
        first.list == other.list
            || self.0.values().any(|lists| {
                let when = |row: &PlanRow| -> Vec<Period> {
                    let held = lists.get(&row.list).into_iter().flatten();
                    held.filter_map(|held| held.intersect(row.valid)).collect()
                };
                let (first, other) = (when(first), when(other));
                first
                    .iter()
                    .any(|one| other.iter().any(|two| one.overlaps(*two)))
            })
    }
}
