//! Rows of the tree in flat arrays of integers: `[time, id, tag, quantity…]`.
//!
//! The tag of usage is the place of its terms in the group's [book](super::book); the tag of an edge
//! is below zero. A leaf is as wide as its widest row, so a record of one item costs 32 bytes.

use crate::domain::{EventTime, RecordId};

/// Rows in a full leaf: a late record replays about two leaves, and each costs its node 300 bytes.
/// Few in tests, so that short histories make deep trees.
pub(super) const LEAF_ROWS: usize = if cfg!(test) { 5 } else { 16 };

/// Where a row stands: event time, edges before usage, id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) time: EventTime,
    pub(super) usage: bool,
    pub(super) id: u64,
}

impl Position {
    /// Before everything that happens at `time`.
    pub(super) fn before(time: EventTime) -> Self {
        Self {
            time,
            usage: false,
            id: 0,
        }
    }

    /// Where a record stands.
    pub(super) fn of(time: EventTime, record: RecordId) -> Self {
        Self {
            time,
            usage: true,
            id: record.0,
        }
    }
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) time: EventTime,
    pub(super) id: u64,
    pub(super) tag: i64,
    /// May end in zeros that the terms have no item for.
    pub(super) quantities: &'a [i64],
}

impl<'a> Row<'a> {
    fn read(row: &'a [i64]) -> Self {
        Self {
            time: EventTime(row[0]),
            id: row[1].cast_unsigned(),
            tag: row[2],
            quantities: &row[3..],
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            time: self.time,
            usage: self.tag >= 0,
            id: self.id,
        }
    }
}

/// Rows in order.
#[derive(Debug)]
pub(super) struct Leaf {
    width: usize,
    rows: Vec<i64>,
}

impl Leaf {
    /// A leaf for rows of up to `quantities`, with room for `rows` of them.
    pub(super) fn new(quantities: usize, rows: usize) -> Self {
        let width = quantities.saturating_add(3);
        Self {
            width,
            rows: Vec::with_capacity(width.saturating_mul(rows)),
        }
    }

    pub(super) fn quantities(&self) -> usize {
        self.width.saturating_sub(3)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len().checked_div(self.width).unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.width.saturating_mul(LEAF_ROWS)
    }

    /// Gives back what is held for more rows.
    pub(super) fn trim(&mut self) {
        self.rows.shrink_to_fit();
    }

    /// Bytes outside of the value itself.
    pub(super) fn bytes(&self) -> usize {
        self.rows.capacity().saturating_mul(size_of::<i64>())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> + Clone {
        self.rows.chunks_exact(self.width).map(Row::read)
    }

    pub(super) fn first(&self) -> Option<Position> {
        self.iter().next().map(|row| row.position())
    }

    pub(super) fn last(&self) -> Option<Position> {
        let last = self.rows.len().checked_sub(self.width)?;
        Some(Row::read(&self.rows[last..]).position())
    }

    /// Adds a row after all others, making the leaf as wide as it needs.
    pub(super) fn push(&mut self, row: &Row<'_>) {
        if row.quantities.len() > self.quantities() {
            self.widen(row.quantities.len());
        }
        self.grow();
        self.rows
            .extend([row.time.0, row.id.cast_signed(), row.tag]);
        self.rows.extend_from_slice(row.quantities);
        let filled = self.rows.len().next_multiple_of(self.width);
        self.rows.resize(filled, 0);
    }

    fn widen(&mut self, quantities: usize) {
        let mut wide = Self::new(quantities, self.len().saturating_add(1));
        self.iter().for_each(|row| wide.push(&row));
        *self = wide;
    }

    /// Room for one more row, growing by four instead of doubling: there are very many leaves.
    fn grow(&mut self) {
        if self.rows.capacity().saturating_sub(self.rows.len()) < self.width {
            let rows = self.len();
            let most = LEAF_ROWS.saturating_sub(rows).max(1);
            self.rows
                .reserve_exact(most.min(4).saturating_mul(self.width));
        }
    }

    /// All rows of two neighbours.
    pub(super) fn merged(left: &Self, right: &Self) -> Self {
        let width = left.quantities().max(right.quantities());
        let mut both = Self::new(width, left.len().saturating_add(right.len()));
        left.iter()
            .chain(right.iter())
            .for_each(|row| both.push(&row));
        both
    }
}
