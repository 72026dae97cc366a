//! What the changes of an epoch do to a group's buckets and edges, and which rows they move.

use super::group::Group;
use super::guarded::State;
use super::leaf::Position;
use super::plan::{Plan, SharedRules, Slots, same_rules, windows_touched};
use super::sweep::RowChange;
use crate::domain::{Bucket, BucketKey, Edge, Period, PricedUsage, Quantities, TermsKey};
use crate::epoch::Diff;
use differential_dataflow::consolidation::consolidate;
use std::collections::{BTreeMap, BTreeSet};

/// What the changes come to for the tree.
#[derive(Default)]
pub(super) struct Moves {
    pub(super) rows: Vec<RowChange>,
    /// The rules before, where they changed.
    pub(super) old_plan: Option<Plan>,
    pub(super) windows: Vec<Period>,
    /// The states before all rows, as it was and as it is.
    pub(super) opening: Option<(State, State)>,
    /// What is forgotten once the old rows are told.
    pub(super) terms_left: Vec<TermsKey>,
    pub(super) edges_left: Vec<usize>,
}

impl Group {
    pub(super) fn change_buckets(
        &mut self,
        mut buckets: Vec<(Bucket, Diff)>,
        shared: &mut SharedRules,
        moves: &mut Moves,
    ) {
        consolidate(&mut buckets);
        if buckets.is_empty() {
            return;
        }
        let mut changed: BTreeMap<BucketKey, (Option<Bucket>, Option<Bucket>)> = BTreeMap::new();
        for (bucket, diff) in buckets {
            let pair = changed.entry(bucket.key).or_default();
            if diff > 0 {
                pair.1 = Some(bucket);
            } else {
                pair.0 = Some(bucket);
            }
        }
        let rules_change = |pair: &(Option<Bucket>, Option<Bucket>)| match pair {
            (Some(old), Some(new)) => !same_rules(old, new),
            _ => true,
        };
        let rules_changed: BTreeSet<BucketKey> = changed
            .iter()
            .filter(|(_, pair)| rules_change(pair))
            .map(|(key, _)| *key)
            .collect();
        let old_plan = self.plan.clone();
        let mut slots = Slots::of(&self.plan, changed.len());
        for (_, new) in changed.values() {
            if let Some(new) = new {
                self.plan.put(new.clone(), &mut slots);
            }
        }
        for (key, (_, new)) in &changed {
            if new.is_none() {
                self.plan.take(*key, &mut slots);
            }
        }
        self.plan.trim();
        self.plan.arrange();
        shared.share(&mut self.plan);
        let buckets: Vec<&Bucket> = rules_changed
            .iter()
            .flat_map(|key| [&changed[key].0, &changed[key].1])
            .flatten()
            .collect();
        moves.windows = windows_touched([&old_plan, &self.plan], &buckets);
        for edge in self.book.edges_of(&rules_changed) {
            moves.rows.push(RowChange {
                position: edge_position(edge),
                tag: 0,
                quantities: Quantities::new(),
                diff: 0,
            });
        }
        let (mut old, mut new) = (old_plan.opening(), self.plan.opening());
        let len = old.len().max(new.len());
        old.resize(len, 0);
        new.resize(len, 0);
        self.closing.resize(len, 0);
        for slot in 0..len {
            let at = u32::try_from(slot).unwrap_or(u32::MAX);
            match (old_plan.get(at), self.plan.get(at)) {
                // A bucket that only one side knows: the other leaves its value alone.
                (None, Some(_)) => {
                    old[slot] = new[slot];
                    self.closing[slot] = new[slot];
                }
                (Some(_), None) => new[slot] = old[slot],
                _ => {}
            }
        }
        if old != new || !rules_changed.is_empty() {
            moves.opening = Some((old, new));
        }
        moves.old_plan = (!rules_changed.is_empty()).then_some(old_plan);
    }

    pub(super) fn change_edges(&mut self, mut edges: Vec<(Edge, Diff)>, moves: &mut Moves) {
        consolidate(&mut edges);
        // Those that go first: one that takes the place of another is entered after it is found.
        edges.sort_by_key(|(_, diff)| *diff);
        for (edge, diff) in edges {
            let position = edge_position(&edge);
            let tag = if diff > 0 {
                self.book.enter_edge(edge)
            } else {
                moves.edges_left.extend(self.book.edge_place(&edge));
                0
            };
            moves.rows.push(RowChange {
                position,
                tag,
                quantities: Quantities::new(),
                diff: diff.signum(),
            });
        }
    }

    pub(super) fn change_usage(&mut self, usage: &mut Vec<(PricedUsage, Diff)>, moves: &mut Moves) {
        if usage.len() > 1 {
            consolidate(usage);
        }
        for (usage, diff) in usage.drain(..) {
            let tag = if diff > 0 {
                self.book.enter(&usage.terms)
            } else {
                moves.terms_left.push(usage.terms.key);
                0
            };
            moves.rows.push(RowChange {
                position: Position::of(usage.time, usage.record),
                tag,
                quantities: usage.quantities,
                diff: diff.signum(),
            });
        }
    }
}

fn edge_position(edge: &Edge) -> Position {
    Position {
        time: edge.time,
        usage: false,
        id: edge.key.0,
    }
}
