//! How a sweep writes a tree again: leaves that change are cut into new ones, and neighbours that
//! became small are merged.

use super::leaf::{LEAF_ROWS, Leaf, Position, Row};
use super::sweep::{RowChange, Summary, Sweep};
use super::tree::{Child, FAN_OUT, Node, Tree};
use crate::domain::EventTime;

impl Tree {
    /// Walks the tree with the changes of an epoch.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep<'_>, changes: &[RowChange]) {
        for change in changes {
            self.rows = self.rows.saturating_add_signed(change.diff);
        }
        self.settle();
        let mut children = match &mut self.root {
            Node::Leaf(leaf) => {
                let mut pieces = sweep_leaf(leaf, None, sweep, false);
                if let [piece] = &mut pieces[..]
                    && let Node::Leaf(leaf) = &mut piece.node
                {
                    self.last = leaf.last();
                    self.root = Node::Leaf(std::mem::replace(leaf, Leaf::new(0, 0)));
                    return;
                }
                self.bytes = pieces
                    .iter()
                    .fold(0, |sum, piece| usize::saturating_add(sum, piece.bytes()));
                pieces
            }
            Node::Inner(children) => {
                sweep_inner(children, None, sweep, &mut self.bytes);
                std::mem::take(children)
            }
        };
        while children.len() > FAN_OUT {
            children = cut(children);
            for child in &children {
                self.bytes = self.bytes.saturating_add(child.bytes());
            }
        }
        self.root = Node::Inner(children);
        self.collapse();
        self.last = last_of(&self.root);
    }

    /// A root of one child gives way to it; one of none is an empty leaf.
    fn collapse(&mut self) {
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            let only = children.pop();
            let gone = only.as_ref().map_or(0, Child::bytes);
            self.bytes = self.bytes.saturating_sub(gone);
            self.root = only.map_or_else(|| Node::Leaf(Leaf::new(1, 0)), |only| only.node);
        }
    }
}

fn last_of(node: &Node) -> Option<Position> {
    match node {
        Node::Leaf(leaf) => leaf.last(),
        Node::Inner(children) => last_of(&children.last()?.node),
    }
}

/// Cuts children into as few equal nodes as hold them.
fn cut(children: Vec<Child>) -> Vec<Child> {
    let nodes = children.len().div_ceil(FAN_OUT).max(1);
    let each = children.len().div_ceil(nodes).max(1);
    let mut children = children.into_iter().peekable();
    let mut cut = Vec::with_capacity(nodes);
    while children.peek().is_some() {
        cut.push(Child::of(children.by_ref().take(each).collect()));
    }
    cut
}

/// Sweeps the children of a node that ends before `upper`.
fn sweep_inner(
    children: &mut Vec<Child>,
    upper: Option<Position>,
    sweep: &mut Sweep<'_>,
    bytes: &mut usize,
) {
    let mut shape_changed = false;
    let mut at = 0_usize;
    while at < children.len() {
        let next = at.saturating_add(1);
        let upper = children.get(next).map(|next| next.first).or(upper);
        let child = &mut children[at];
        if sweep.finished(child.first) {
            break;
        }
        if sweep.skip(child.first, upper, child.summary.as_ref()) {
            at = next;
            continue;
        }
        *bytes = bytes.saturating_sub(child.bytes());
        let (fill, _) = child.fill();
        let pieces = match &mut child.node {
            Node::Leaf(leaf) => sweep_leaf(leaf, upper, sweep, true),
            Node::Inner(below) => {
                sweep_inner(below, upper, sweep, bytes);
                let below = std::mem::take(below);
                if below.is_empty() {
                    Vec::new()
                } else if below.len() <= FAN_OUT {
                    vec![Child::of(below)]
                } else {
                    cut(below)
                }
            }
        };
        for piece in &pieces {
            *bytes = bytes.saturating_add(piece.bytes());
        }
        shape_changed |= pieces.len() != 1 || pieces[0].fill().0 != fill;
        at = at.saturating_add(pieces.len());
        let from = at.saturating_sub(pieces.len());
        drop(children.splice(from..next, pieces));
    }
    if shape_changed {
        merge(children, bytes);
    }
}

/// Merges neighbours that together fill less than three quarters of one.
fn merge(children: &mut Vec<Child>, bytes: &mut usize) {
    let mut at = 0_usize;
    while let Some(next) = children.get(at.saturating_add(1)) {
        let (left, full) = children[at].fill();
        let (right, _) = next.fill();
        let enough = full.saturating_sub(full.checked_div(4).unwrap_or(0));
        if left.saturating_add(right) > enough {
            at = at.saturating_add(1);
            continue;
        }
        let next = children.remove(at.saturating_add(1));
        let child = &mut children[at];
        *bytes = bytes.saturating_sub(next.bytes().saturating_add(child.bytes()));
        child.merge(next);
        *bytes = bytes.saturating_add(child.bytes());
    }
}

/// The pieces that a leaf is cut into as its rows are written again.
struct Pieces {
    done: Vec<Child>,
    leaf: Leaf,
    summary: Summary,
    /// Rows of a piece.
    each: usize,
    width: usize,
    summarise: bool,
}

impl Pieces {
    fn push(&mut self, row: &Row<'_>) {
        if self.leaf.len() >= self.each {
            self.close();
        }
        self.leaf.push(row);
    }

    fn close(&mut self) {
        let next = Leaf::new(self.width, self.each);
        let leaf = std::mem::replace(&mut self.leaf, next);
        let summary = std::mem::take(&mut self.summary);
        if let Some(first) = leaf.first() {
            let summary = self.summarise.then_some(summary);
            self.done.push(Child::leaf(first, summary, leaf));
        }
    }
}

/// Sweeps a leaf that ends before `upper`; returns what takes its place.
fn sweep_leaf(
    leaf: &mut Leaf,
    upper: Option<Position>,
    sweep: &mut Sweep<'_>,
    below_node: bool,
) -> Vec<Child> {
    let changes = sweep.take_changes(upper);
    if changes.iter().all(|change| change.diff == 0) {
        let leaf = std::mem::replace(leaf, Leaf::new(0, 0));
        return visit_leaf(leaf, changes, sweep, below_node);
    }
    let rows = changes.iter().fold(leaf.len(), |rows, change| {
        rows.saturating_add_signed(change.diff)
    });
    let count = rows.div_ceil(LEAF_ROWS).max(1);
    // The last leaf of a tree is filled from the left: what comes next mostly comes after it.
    let each = if upper.is_none() {
        LEAF_ROWS
    } else {
        rows.div_ceil(count).max(1)
    };
    let widest = changes.iter().map(|change| change.quantities.len()).max();
    let width = widest.unwrap_or(0).max(leaf.quantities());
    let mut pieces = Pieces {
        done: Vec::with_capacity(count),
        leaf: Leaf::new(width, each.min(rows)),
        summary: Summary::default(),
        each,
        width,
        summarise: below_node || count > 1,
    };
    let mut held = leaf.iter().peekable();
    let mut changes = changes.iter().peekable();
    loop {
        let at = match (held.peek().map(Row::position), changes.peek()) {
            (Some(row), Some(change)) => row.min(change.position),
            (Some(row), None) => row,
            (None, Some(change)) => change.position,
            (None, None) => break,
        };
        let old = held.next_if(|row| row.position() == at);
        let (mut removed, mut inserted, mut touched) = (false, None, false);
        while let Some(change) = changes.next_if(|change| change.position == at) {
            touched = true;
            match change.diff {
                0 => {}
                1.. => inserted = Some(change),
                _ => removed = true,
            }
        }
        assert!(
            (!removed || old.is_some()) && (inserted.is_none() || removed || old.is_none()),
            "a row comes once and goes once: {at:?}"
        );
        let inserted = inserted.map(|change| Row {
            time: at.time,
            id: at.id,
            tag: change.tag,
            quantities: &change.quantities,
        });
        let new = inserted.or(old.filter(|_| !removed));
        if let Some(row) = &new {
            pieces.push(row);
        }
        let outcome = sweep.row(old.as_ref(), new.as_ref(), touched);
        if pieces.summarise && new.is_some() {
            pieces.summary.compose(&outcome.effect, outcome.turned);
        }
    }
    sweep.compare();
    pieces.close();
    if pieces.done.is_empty() && !below_node {
        // The empty root.
        let first = Position::before(EventTime::MIN);
        let empty = Leaf::new(width, 0);
        pieces.done.push(Child::leaf(first, None, empty));
    }
    pieces.done
}

/// Sweeps a leaf whose rows stay.
fn visit_leaf(
    leaf: Leaf,
    touched: &[RowChange],
    sweep: &mut Sweep<'_>,
    summarise: bool,
) -> Vec<Child> {
    let mut summary = Summary::default();
    let mut touched = touched.iter().peekable();
    for row in leaf.iter() {
        let at = row.position();
        let is_touched = touched.next_if(|change| change.position == at).is_some();
        while touched.next_if(|change| change.position == at).is_some() {}
        let outcome = sweep.row(Some(&row), Some(&row), is_touched);
        if summarise {
            summary.compose(&outcome.effect, outcome.turned);
        }
    }
    sweep.compare();
    let first = leaf.first();
    vec![Child::leaf(
        first.unwrap_or(Position::before(EventTime::MIN)),
        summarise.then_some(summary),
        leaf,
    )]
}
