//! The open usage of one service and class: records in the order of (event time, record), in leaves
//! of plain integers.
//!
//! A leaf is one flat array of rows `[time, record, quantity…]`, so a record of one quantity costs
//! 24 bytes and small groups cost one allocation. In-order records append; a late one moves at most
//! one leaf's worth of bytes, whatever the size of the group.

use crate::domain::{EventTime, Period, RecordId};

/// Rows in a leaf before it splits.
const LEAF_ROWS: usize = 512;

#[derive(Debug)]
pub(super) struct OpenUsage {
    /// Integers per row: time, record, and one quantity per item.
    width: usize,
    records: usize,
    leaves: Vec<Vec<i64>>,
}

/// One record of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenRecord<'a> {
    pub(super) time: EventTime,
    pub(super) record: RecordId,
    pub(super) quantities: &'a [i64],
}

impl<'a> OpenRecord<'a> {
    fn read(row: &'a [i64]) -> Self {
        Self {
            time: EventTime(row[0]),
            record: RecordId(row[1].cast_unsigned()),
            quantities: &row[2..],
        }
    }
}

fn position(row: &[i64]) -> (i64, u64) {
    (row[0], row[1].cast_unsigned())
}

impl OpenUsage {
    pub(super) fn new(items: usize) -> Self {
        Self {
            width: items.saturating_add(2),
            records: 0,
            leaves: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records
    }

    /// Bytes held, allocation slack included.
    pub(super) fn bytes(&self) -> usize {
        let leaves = self.leaves.capacity().saturating_mul(size_of::<Vec<i64>>());
        let rows: usize = self.leaves.iter().map(Vec::capacity).sum();
        leaves.saturating_add(rows.saturating_mul(size_of::<i64>()))
    }

    /// The leaf that holds `wanted`, or would.
    fn leaf_of(&self, wanted: (i64, u64)) -> usize {
        let after = self.leaves.partition_point(|leaf| position(leaf) <= wanted);
        after.saturating_sub(1)
    }

    /// The first row at or after `wanted` in a leaf.
    fn row_of(&self, leaf: &[i64], wanted: (i64, u64)) -> usize {
        let (mut low, mut high) = (0, leaf.len().checked_div(self.width).unwrap_or(0));
        while low < high {
            let middle = low.midpoint(high);
            if position(&leaf[middle.saturating_mul(self.width)..]) < wanted {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }

    pub(super) fn insert(&mut self, time: EventTime, record: RecordId, quantities: &[i64]) {
        let full = LEAF_ROWS.saturating_mul(self.width);
        let wanted = (time.0, record.0);
        self.records = self.records.saturating_add(1);
        let appends = self
            .leaves
            .last()
            .is_none_or(|leaf| position(&leaf[leaf.len().saturating_sub(self.width)..]) < wanted);
        if appends && self.leaves.last().is_none_or(|leaf| leaf.len() >= full) {
            // A full last leaf stays full: in-order groups waste nothing.
            self.leaves.push(Vec::new());
        }
        let at = if appends {
            self.leaves.len().saturating_sub(1)
        } else {
            self.leaf_of(wanted)
        };
        let row = self.row_of(&self.leaves[at], wanted);
        let offset = row.saturating_mul(self.width);
        let leaf = &mut self.leaves[at];
        grow(leaf, self.width, full);
        let values = [time.0, record.0.cast_signed()]
            .into_iter()
            .chain(quantities.iter().copied());
        leaf.splice(offset..offset, values);
        if leaf.len() > full {
            let half = LEAF_ROWS.saturating_div(2).saturating_mul(self.width);
            let tail = leaf.split_off(half);
            self.leaves.insert(at.saturating_add(1), tail);
        }
    }

    /// Takes a record out; false if it is not there.
    pub(super) fn remove(&mut self, time: EventTime, record: RecordId) -> bool {
        let wanted = (time.0, record.0);
        let at = self.leaf_of(wanted);
        let Some(leaf) = self.leaves.get(at) else {
            return false;
        };
        let offset = self.row_of(leaf, wanted).saturating_mul(self.width);
        if leaf
            .get(offset..)
            .is_none_or(|rest| rest.is_empty() || position(rest) != wanted)
        {
            return false;
        }
        let leaf = &mut self.leaves[at];
        leaf.drain(offset..offset.saturating_add(self.width));
        if leaf.is_empty() {
            self.leaves.remove(at);
        }
        self.records = self.records.saturating_sub(1);
        true
    }

    /// The quantities of a record, if it is here.
    pub(super) fn get(&self, time: EventTime, record: RecordId) -> Option<&[i64]> {
        let wanted = (time.0, record.0);
        let leaf = self.leaves.get(self.leaf_of(wanted))?;
        let offset = self.row_of(leaf, wanted).saturating_mul(self.width);
        let row = leaf.get(offset..offset.saturating_add(self.width))?;
        (position(row) == wanted).then(|| OpenRecord::read(row).quantities)
    }

    /// The records of a period, in order, found without looking at the others.
    pub(super) fn within(&self, period: Period) -> impl Iterator<Item = OpenRecord<'_>> {
        let first = (period.start().0, 0);
        let at = self.leaf_of(first);
        self.leaves
            .iter()
            .enumerate()
            .skip(at)
            .flat_map(move |(index, leaf)| {
                let skip = if index == at {
                    self.row_of(leaf, first)
                } else {
                    0
                };
                leaf.chunks_exact(self.width).skip(skip)
            })
            .map(OpenRecord::read)
            .take_while(move |record| record.time < period.end())
    }

    /// All records, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = OpenRecord<'_>> {
        self.leaves
            .iter()
            .flat_map(|leaf| leaf.chunks_exact(self.width))
            .map(OpenRecord::read)
    }
}

/// Room for one more row, growing by a quarter instead of doubling: there are very many leaves.
fn grow(leaf: &mut Vec<i64>, width: usize, full: usize) {
    if leaf.capacity().saturating_sub(leaf.len()) < width {
        let quarter = leaf
            .len()
            .saturating_div(4)
            .saturating_div(width)
            .saturating_mul(width);
        let room = full.saturating_add(width).saturating_sub(leaf.len());
        leaf.reserve_exact(quarter.max(width).min(room.max(width)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_sorted_map(
            ops in prop::collection::vec((any::<bool>(), 0_i64..200, 0_u64..40), 0..3000),
            from in 0_i64..200,
            length in 1_i64..100,
        ) {
            let mut open = OpenUsage::new(1);
            let mut oracle = BTreeMap::new();
            for (n, (insert, time, record)) in ops.into_iter().enumerate() {
                let key = (time, record);
                if insert && !oracle.contains_key(&key) {
                    oracle.insert(key, n);
                    open.insert(EventTime(time), RecordId(record), &[i64::try_from(n).unwrap()]);
                } else if !insert {
                    let removed = open.remove(EventTime(time), RecordId(record));
                    prop_assert_eq!(removed, oracle.remove(&key).is_some());
                }
            }
            let read = |record: OpenRecord<'_>| {
                ((record.time.0, record.record.0), usize::try_from(record.quantities[0]).unwrap())
            };
            prop_assert_eq!(open.len(), oracle.len());
            let all: Vec<_> = open.iter().map(read).collect();
            let expected: Vec<_> = oracle.iter().map(|(key, n)| (*key, *n)).collect();
            prop_assert_eq!(all, expected);
            let period = Period::new(EventTime(from), EventTime(from + length)).unwrap();
            let within: Vec<_> = open.within(period).map(read).collect();
            let expected: Vec<_> = oracle
                .range((from, 0)..(from + length, 0))
                .map(|(key, n)| (*key, *n))
                .collect();
            prop_assert_eq!(within, expected);
        }
    }

    #[test]
    fn leaves_split_and_stay_full() {
        let mut open = OpenUsage::new(2);
        for n in 0..10_000 {
            open.insert(EventTime(n), RecordId(0), &[n, -n]);
        }
        assert_eq!(open.leaves.len(), 10_000_usize.div_ceil(LEAF_ROWS));
        for n in 0..10_000 {
            open.insert(EventTime(5_000), RecordId(n + 1), &[0, 0]);
        }
        assert_eq!(open.iter().count(), 20_000);
        assert!(open.leaves.iter().all(|leaf| leaf.len() <= LEAF_ROWS * 4));
    }
}
