//! The rows of a balance group in order, in a B-tree whose nodes know what the rows below them do.
//!
//! ```text
//!            ┌ first │ what all below do ┐ …           a child: 16 to a node
//!   ┌────────┘                           └──────┐
//!   ┌ first │ what all below do ┐ …             …
//!   └─ [time id tag q…][time id tag q…] …              a leaf: 16 rows
//!                                        [time id …    the tail: rows after all others
//! ```
//!
//! A group of one leaf has no nodes and no summaries. An append adds to the tail, which lies beside
//! the tree so that no node is on the way; full, it becomes a leaf, and the summaries above it are
//! unknown until a sweep needs them. A sweep begins by making it a leaf too.

use super::guarded::Guarded;
use super::leaf::{LEAF_ROWS, Leaf, Position, Row};
use super::sweep::Summary;
use crate::domain::Quantities;

/// Children of a full node; few in tests.
pub(super) const FAN_OUT: usize = if cfg!(test) { 4 } else { 16 };

/// A subtree, as its parent knows it.
#[derive(Debug)]
pub(super) struct Child {
    /// Not after its first row, and after every row before it.
    pub(super) first: Position,
    /// What its rows do, where that is known.
    pub(super) summary: Option<Summary>,
    pub(super) node: Node,
}

#[derive(Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Vec<Child>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Node,
    pub(super) tail: Leaf,
    /// What the rows of the tail do; nothing is known of it before the root has rows, which those of most
    /// groups never have. Apart, and kept once it is there: it is as large as the rest of the tree.
    tail_summary: Option<Box<Summary>>,
    pub(super) last: Option<Position>,
    pub(super) rows: usize,
    /// Bytes of the root's children, and all below.
    pub(super) bytes: usize,
}

impl Child {
    pub(super) fn of(children: Vec<Self>) -> Self {
        Self {
            first: children[0].first,
            summary: summary_of(&children),
            node: Node::Inner(children),
        }
    }

    /// Bytes that it adds to its parent, without those of its own children.
    pub(super) fn bytes(&self) -> usize {
        let summary = self
            .summary
            .as_ref()
            .map(|summary| summary.effect.heap_bytes());
        let rows = match &self.node {
            Node::Leaf(leaf) => leaf.bytes(),
            Node::Inner(_) => 0,
        };
        size_of::<Self>()
            .saturating_add(summary.unwrap_or(0))
            .saturating_add(rows)
    }

    /// How full it is, in its own measure, and what is full.
    pub(super) fn fill(&self) -> (usize, usize) {
        match &self.node {
            Node::Leaf(leaf) => (leaf.len(), LEAF_ROWS),
            Node::Inner(children) => (children.len(), FAN_OUT),
        }
    }

    pub(super) fn leaf(first: Position, summary: Option<Summary>, leaf: Leaf) -> Self {
        let node = Node::Leaf(leaf);
        Self {
            first,
            summary,
            node,
        }
    }

    fn has_room_for(&self, next: &Self) -> bool {
        let (fill, full) = self.fill();
        fill.saturating_add(next.fill().0) <= full
    }

    /// Takes in its right neighbour.
    pub(super) fn merge(&mut self, next: Self) {
        match (&mut self.node, next.node) {
            (Node::Leaf(left), Node::Leaf(right)) => *left = Leaf::merged(left, &right),
            (Node::Inner(left), Node::Inner(right)) => left.extend(right),
            _ => unreachable!("all leaves are at one depth"),
        }
        self.summary = match (self.summary.take(), next.summary) {
            (Some(mut left), Some(right)) => {
                left.compose(&right.effect, right.turned);
                Some(left)
            }
            _ => None,
        };
    }
}

fn summary_of(children: &[Child]) -> Option<Summary> {
    let mut all = Summary::default();
    for child in children {
        let summary = child.summary.as_ref()?;
        all.compose(&summary.effect, summary.turned);
    }
    Some(all)
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Node::Leaf(Leaf::new(1, 0)),
            tail: Leaf::new(1, 0),
            tail_summary: None,
            last: None,
            rows: 0,
            bytes: 0,
        }
    }
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// The position of the last row.
    pub(super) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Bytes outside of the value itself.
    pub(super) fn bytes(&self) -> usize {
        let root = match &self.root {
            Node::Leaf(leaf) => leaf.bytes(),
            Node::Inner(_) => self.bytes,
        };
        let tail = self.tail_summary.as_ref().map_or(0, |summary| {
            size_of::<Summary>().saturating_add(summary.effect.heap_bytes())
        });
        root.saturating_add(self.tail.bytes()).saturating_add(tail)
    }

    /// Reads a little of what an append needs and lies in the tree itself.
    pub(super) fn touch(&self) -> i64 {
        i64::from(self.last.is_some() && self.tail.is_empty())
    }

    /// The same of what lies apart: the last row, beside which the next will lie, and what the tail does.
    pub(super) fn touch_tail(&self) -> i64 {
        let last = self.tail.last().map_or(0, |last| last.time.0);
        let summary = self.tail_summary.as_ref();
        last.wrapping_add(summary.map_or(0, |summary| summary.effect.touch()))
    }

    fn root_is_empty(&self) -> bool {
        matches!(&self.root, Node::Leaf(leaf) if leaf.is_empty())
    }

    /// Adds a row after all others, which does `effect`.
    pub(super) fn append(&mut self, row: &Row<'_>, effect: &Guarded, turned: bool) {
        if self.tail.is_full() {
            self.settle();
        }
        if !self.root_is_empty() {
            if self.tail.is_empty() {
                // Many more will come: it need not grow step by step.
                self.tail = Leaf::new(self.tail.quantities(), LEAF_ROWS);
            }
            let summary = self.tail_summary.get_or_insert_default();
            summary.compose(effect, turned);
        }
        self.tail.push(row);
        self.rows = self.rows.saturating_add(1);
        self.last = Some(row.position());
    }

    /// Makes the tail a leaf of the tree.
    pub(super) fn settle(&mut self) {
        let Some(first) = self.tail.first() else {
            return;
        };
        let empty = Leaf::new(self.tail.quantities(), 0);
        let mut tail = std::mem::replace(&mut self.tail, empty);
        tail.trim();
        let summary = self.tail_summary.as_deref_mut();
        let summary = summary.map(std::mem::take).unwrap_or_default();
        match &mut self.root {
            Node::Leaf(leaf) if leaf.is_empty() => self.root = Node::Leaf(tail),
            Node::Leaf(leaf) if leaf.len().saturating_add(tail.len()) <= LEAF_ROWS => {
                *leaf = Leaf::merged(leaf, &tail);
            }
            Node::Leaf(leaf) => {
                let root = std::mem::replace(leaf, Leaf::new(0, 0));
                let left = Child::leaf(root.first().unwrap_or(first), None, root);
                let right = Child::leaf(first, Some(summary), tail);
                self.bytes = left.bytes().saturating_add(right.bytes());
                self.root = Node::Inner(vec![left, right]);
            }
            Node::Inner(children) => {
                let tail = Child::leaf(first, Some(summary), tail);
                if let Some(right) = push_leaf(children, tail, &mut self.bytes) {
                    let left = Child::of(std::mem::take(children));
                    self.bytes = [left.bytes(), right.bytes()]
                        .into_iter()
                        .fold(self.bytes, usize::saturating_add);
                    *children = vec![left, right];
                }
            }
        }
    }
}

/// Puts a leaf after all others; returns a new neighbour if the node is full. The neighbour's own
/// bytes are counted by whoever takes it in.
fn push_leaf(children: &mut Vec<Child>, leaf: Child, bytes: &mut usize) -> Option<Child> {
    let last = children.last_mut()?;
    *bytes = bytes.saturating_sub(last.bytes());
    let beside = if let Node::Inner(below) = &mut last.node {
        last.summary = None;
        push_leaf(below, leaf, bytes)
    } else if last.has_room_for(&leaf) {
        last.merge(leaf);
        None
    } else {
        Some(leaf)
    };
    *bytes = bytes.saturating_add(last.bytes());
    let beside = beside?;
    *bytes = bytes.saturating_add(beside.bytes());
    if children.len() < FAN_OUT {
        children.push(beside);
        return None;
    }
    // The full node stays full: groups in order waste nothing.
    Some(Child::of(vec![beside]))
}

/// The row of a change.
pub(super) fn row_of<'a>(position: Position, tag: i64, quantities: &'a Quantities) -> Row<'a> {
    Row {
        time: position.time,
        id: position.id,
        tag,
        quantities,
    }
}
