//! Price rows that are never used: at every instant that they hold, another with the same conditions has
//! a higher priority.

use super::rows::Placed;
use millrace_operators::domain::{EventTime, Period, PriceRow};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Of rows that differ by time and priority alone, those that the ones above leave no instant, each with
/// the first of these that holds when it begins. From the highest priority to the lowest, with what those
/// above hold at hand.
pub(super) fn outranked(
    mut rows: Vec<&Placed<PriceRow>>,
) -> Vec<(&Placed<PriceRow>, &Placed<PriceRow>)> {
    rows.sort_by_key(|placed| (placed.row.valid, &placed.origin));
    let priority = |at: &usize| Reverse(rows[*at].row.priority);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(priority);
    let mut above = Above::of(rows.len());
    let mut found = Vec::new();
    for level in order.chunk_by(|one, other| priority(one) == priority(other)) {
        for placed in level.iter().map(|at| rows[*at]) {
            if above.cover(placed.row.valid) {
                let rival = above.first_at(placed.row.valid.start());
                found.extend(rival.map(|rival| (placed, rows[rival])));
            }
        }
        for at in level {
            above.add(*at, rows[*at].row.valid);
        }
    }
    found
}

/// What the rows above hold.
struct Above {
    /// The stretches of time that they cover, by their starts, and their ends.
    covered: BTreeMap<EventTime, EventTime>,
    /// A tree over all rows in order: the latest end of those above, node by node; the children of node
    /// `n` are `2n` and `2n + 1`.
    ends: Vec<EventTime>,
}

impl Above {
    /// Of so many rows none.
    fn of(rows: usize) -> Self {
        Self {
            covered: BTreeMap::new(),
            ends: vec![EventTime::MIN; 2 * rows.next_power_of_two()],
        }
    }

    fn add(&mut self, at: usize, valid: Period) {
        let mut node = at + self.ends.len() / 2;
        while node > 0 {
            self.ends[node] = self.ends[node].max(valid.end());
            node /= 2;
        }
        let (mut start, mut end) = (valid.start(), valid.end());
        let before = self.covered.range(..start).next_back();
        if let Some((from, to)) = before.filter(|(_, to)| **to >= start) {
            (start, end) = (*from, end.max(*to));
        }
        while let Some((from, to)) = self.covered.range(start..=end).next() {
            let (from, to) = (*from, *to);
            self.covered.remove(&from);
            end = end.max(to);
        }
        self.covered.insert(start, end);
    }

    /// Whether they hold at every instant of a period.
    fn cover(&self, period: Period) -> bool {
        let before = self.covered.range(..=period.start()).next_back();
        before.is_some_and(|(_, end)| *end >= period.end())
    }

    /// The first that holds at an instant that is covered.
    fn first_at(&self, time: EventTime) -> Option<usize> {
        let rows = self.ends.len() / 2;
        let mut node = 1;
        if self.ends[node] <= time {
            return None;
        }
        while node < rows {
            node *= 2;
            if self.ends[node] <= time {
                node += 1;
            }
        }
        Some(node - rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::rows::Origin;
    use millrace_operators::domain::{Name, Price, PriceKey, PriceModel};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn placed((line, (start, length, priority)): (u64, (i64, i64, i32))) -> Placed<PriceRow> {
        let row = PriceRow {
            key: PriceKey::of(&[&line.to_string()]),
            list: Name(1),
            account: None,
            item: Name(1),
            conditions: Vec::new(),
            priority,
            valid: Period::new(EventTime(start), EventTime(start + length)).unwrap(),
            model: PriceModel::PerUnit {
                price: Price::default(),
                per: 1,
            },
            currency: Name(1),
        };
        let origin = Origin {
            file: Arc::from("catalog.yaml"),
            line,
            column: 0,
        };
        Placed { row, origin }
    }

    /// Instant by instant.
    fn expected(rows: &[Placed<PriceRow>]) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for lower in rows {
            let above = |time: i64| {
                let holds = |row: &&Placed<PriceRow>| {
                    row.row.priority > lower.row.priority && row.row.valid.contains(EventTime(time))
                };
                let first = rows.iter().filter(holds);
                first.min_by_key(|row| (row.row.valid, &row.origin))
            };
            let (start, end) = (lower.row.valid.start().0, lower.row.valid.end().0);
            if let Some(first) = above(start)
                && (start..end).all(|time| above(time).is_some())
            {
                found.push((lower.origin.line, first.origin.line));
            }
        }
        found.sort_unstable();
        found
    }

    proptest! {
        #[test]
        fn a_row_is_outranked_where_every_instant_is(
            rows in prop::collection::vec((0_i64..20, 1_i64..12, 0_i32..4), 0..14),
        ) {
            let rows: Vec<Placed<PriceRow>> = (0..).zip(rows).map(placed).collect();
            let found = outranked(rows.iter().collect()).into_iter();
            let mut found: Vec<(u64, u64)> = found
                .map(|(lower, rival)| (lower.origin.line, rival.origin.line))
                .collect();
            found.sort_unstable();
            prop_assert_eq!(found, expected(&rows));
        }
    }
}
