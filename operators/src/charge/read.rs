//! Reading a tree: the state before a position, every row in order, and where values cross levels.

use super::guarded::index;
use super::leaf::{Leaf, Position, Row};
use super::plan::Rule;
use super::tree::{Child, Node, Tree};
use crate::domain::BucketKind;

/// A level whose first crossing is looked for.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) slot: u32,
    /// The place of the threshold among those of its bucket.
    pub(super) place: usize,
    level: i128,
    /// Whether it is crossed falling to it or below, or else rising to it or above.
    falling: bool,
    pub(super) crossed_at: Option<Position>,
}

impl Watch {
    /// A threshold of a bucket.
    pub(super) fn of(slot: u32, rule: &Rule, place: usize) -> Self {
        Self {
            slot,
            place,
            level: rule.thresholds[place].level,
            falling: matches!(rule.kind, BucketKind::Allowance { .. }),
            crossed_at: None,
        }
    }

    /// Whether a value is across.
    pub(super) fn across(&self, value: i128) -> bool {
        if self.falling {
            value <= self.level
        } else {
            value >= self.level
        }
    }

    /// Whether one change of the value crosses.
    pub(super) fn crosses(&self, before: i128, after: i128) -> bool {
        !self.across(before) && self.across(after)
    }
}

/// Charges a row and moves the state on.
pub(super) trait Charger {
    fn state(&mut self) -> &mut [i128];
    fn charge(&mut self, row: &Row<'_>);
}

impl Tree {
    /// Moves the charger's state to just before `limit`, going past whole subtrees.
    pub(super) fn move_before(&self, limit: Position, charger: &mut dyn Charger) {
        move_before(&self.root, limit, charger);
        charge_before(&self.tail, limit, charger);
    }

    /// The leaf that holds a position, or would.
    pub(super) fn leaf_at(&self, position: Position) -> &Leaf {
        match self.tail.first() {
            Some(first) if first <= position => &self.tail,
            _ => leaf_at(&self.root, position),
        }
    }

    /// Visits every row in order.
    pub(super) fn visit(&self, visit_row: &mut dyn FnMut(&Row<'_>)) {
        visit(&self.root, visit_row);
        self.tail.iter().for_each(|row| visit_row(&row));
    }

    /// Finds the first crossing of each watch that has none. A subtree is gone past where values move
    /// in one direction only and no watch is crossed between its ends.
    pub(super) fn find_crossings(&self, watches: &mut [Watch], charger: &mut dyn Charger) {
        find_crossings(&self.root, watches, charger);
        if watches.iter().any(|watch| watch.crossed_at.is_none()) {
            find_crossings_in(&self.tail, watches, charger);
        }
    }
}

fn move_before(node: &Node, limit: Position, charger: &mut dyn Charger) {
    match node {
        Node::Leaf(leaf) => charge_before(leaf, limit, charger),
        Node::Inner(children) => {
            for (at, child) in children.iter().enumerate() {
                if child.first >= limit {
                    break;
                }
                let next = children.get(at.saturating_add(1));
                match &child.summary {
                    Some(summary) if next.is_some_and(|next| next.first <= limit) => {
                        summary.effect.apply(charger.state());
                    }
                    _ => move_before(&child.node, limit, charger),
                }
            }
        }
    }
}

fn charge_before(leaf: &Leaf, limit: Position, charger: &mut dyn Charger) {
    for row in leaf.iter().take_while(|row| row.position() < limit) {
        charger.charge(&row);
    }
}

fn leaf_at(node: &Node, position: Position) -> &Leaf {
    match node {
        Node::Leaf(leaf) => leaf,
        Node::Inner(children) => {
            let after = children.partition_point(|child| child.first <= position);
            leaf_at(&children[after.saturating_sub(1)].node, position)
        }
    }
}

fn visit(node: &Node, visit_row: &mut dyn FnMut(&Row<'_>)) {
    match node {
        Node::Leaf(leaf) => leaf.iter().for_each(|row| visit_row(&row)),
        Node::Inner(children) => {
            for child in children {
                visit(&child.node, visit_row);
            }
        }
    }
}

fn find_crossings(node: &Node, watches: &mut [Watch], charger: &mut dyn Charger) {
    match node {
        Node::Leaf(leaf) => find_crossings_in(leaf, watches, charger),
        Node::Inner(children) => {
            for child in children {
                if watches.iter().all(|watch| watch.crossed_at.is_some()) {
                    return;
                }
                find_below(child, watches, charger);
            }
        }
    }
}

fn find_crossings_in(leaf: &Leaf, watches: &mut [Watch], charger: &mut dyn Charger) {
    for row in leaf.iter() {
        let state = charger.state();
        let before: Vec<i128> = watches
            .iter()
            .map(|watch| state[index(watch.slot)])
            .collect();
        charger.charge(&row);
        let state = charger.state();
        for (watch, before) in watches.iter_mut().zip(before) {
            let after = state[index(watch.slot)];
            if watch.crossed_at.is_none() && watch.crosses(before, after) {
                watch.crossed_at = Some(row.position());
            }
        }
    }
}

fn find_below(child: &Child, watches: &mut [Watch], charger: &mut dyn Charger) {
    if let Some(summary) = &child.summary
        && !summary.turned
    {
        let state = charger.state();
        let crossed = watches.iter().any(|watch| {
            let before = state[index(watch.slot)];
            let after = before.saturating_add(summary.effect.delta(watch.slot));
            watch.crossed_at.is_none() && watch.crosses(before, after)
        });
        if !crossed {
            return summary.effect.apply(state);
        }
    }
    find_crossings(&child.node, watches, charger);
}
