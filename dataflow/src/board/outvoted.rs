//! Records of which another of their identity holds, as rows of the output `suspense`: nobody looks at one
//! before the end of a run, and there may be as many as records, so they lie in compressed blocks.
//!
//! ```text
//!  changes of an epoch ─► recent rows ─ when they are many ─► blocks of 4,096, in the order of records
//! ```
//!
//! Rows beside each other have most in common: a copy stands beside the copy of what stands beside its
//! original, and copies of few records say the same again and again.

use crate::publish::consolidate;
use millrace_operators::domain::{
    ClassKey, EventTime, Name, Reason, RecordId, ServiceKey, Suspense,
};
use millrace_operators::epoch::Diff;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Rows of a block.
const BLOCK: usize = 4096;
/// What zstd does in the least time.
const LEVEL: i32 = 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outvoted {
    recent: BTreeMap<RecordId, Suspense>,
    /// By the first record of each.
    blocks: BTreeMap<RecordId, Block>,
    /// Rows in blocks.
    packed: usize,
}

#[derive(Debug)]
struct Block {
    rows: usize,
    bytes: Box<[u8]>,
}

impl Outvoted {
    /// Takes in the changes of an epoch.
    pub(super) fn apply(&mut self, changes: Vec<(Suspense, Diff)>) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (row, diff) in consolidate(changes) {
            match diff > 0 {
                true => come.push(row),
                false => gone.push(row),
            }
        }
        // What goes was recent, or is in a block.
        gone.retain(|row| match self.recent.get(&row.record) == Some(row) {
            true => {
                self.recent.remove(&row.record);
                false
            }
            false => true,
        });
        self.remove(&gone);
        self.recent
            .extend(come.into_iter().map(|row| (row.record, row)));
        // The more there are, the more are put among them at once: a block is packed again for few rows, but
        // seldom.
        if self.recent.len() > BLOCK.max(self.packed / 64) {
            self.pack();
        }
    }

    /// The row of a record.
    pub(super) fn get(&self, record: RecordId) -> Option<Suspense> {
        if let Some(row) = self.recent.get(&record) {
            return Some(*row);
        }
        let (_, block) = self.blocks.range(..=record).next_back()?;
        let rows = block.rows();
        let at = rows.binary_search_by_key(&record, |row| row.record).ok()?;
        rows.get(at).copied()
    }

    /// All rows, in the order of their records.
    pub(super) fn all(&self) -> impl Iterator<Item = Suspense> {
        let packed = self.blocks.values().flat_map(Block::rows);
        let recent = self.recent.values().copied();
        in_order(packed, recent, |row| row.record)
    }

    /// Takes sorted rows out of their blocks, where they are there.
    fn remove(&mut self, rows: &[Suspense]) {
        let mut rest = rows;
        while let Some(row) = rest.first() {
            let found = self.blocks.range(..=row.record).next_back();
            let Some(first) = found.map(|(first, _)| *first) else {
                rest = &rest[1..];
                continue;
            };
            let (ours, others) = rest.split_at(self.reach(first, rest));
            let ours: BTreeSet<&Suspense> = ours.iter().collect();
            let mut held = self.unpack(first);
            held.retain(|row| !ours.contains(row));
            self.insert(&held);
            rest = others;
        }
    }

    /// Puts what is recent into blocks.
    fn pack(&mut self) {
        let recent: Vec<Suspense> = std::mem::take(&mut self.recent).into_values().collect();
        let mut rest = recent.as_slice();
        while let Some(row) = rest.first() {
            let found = self.blocks.range(..=row.record).next_back();
            let found = found.or_else(|| self.blocks.first_key_value());
            let Some(first) = found.map(|(first, _)| *first) else {
                return self.insert(rest);
            };
            let (ours, others) = rest.split_at(self.reach(first, rest));
            let mut held = self.unpack(first);
            held.extend_from_slice(ours);
            held.sort_unstable_by_key(|row| row.record);
            self.insert(&held);
            rest = others;
        }
    }

    /// How many of sorted rows stand before the block behind this one.
    fn reach(&self, first: RecordId, rows: &[Suspense]) -> usize {
        let behind = (Bound::Excluded(first), Bound::Unbounded);
        match self.blocks.range(behind).next() {
            Some((next, _)) => rows.partition_point(|row| row.record < *next),
            None => rows.len(),
        }
    }

    fn unpack(&mut self, first: RecordId) -> Vec<Suspense> {
        let block = self.blocks.remove(&first);
        let rows = block.map(|block| block.rows()).unwrap_or_default();
        self.packed -= rows.len();
        rows
    }

    fn insert(&mut self, rows: &[Suspense]) {
        self.packed += rows.len();
        let blocks = rows.chunks(BLOCK).filter_map(|rows| {
            let first = rows.first()?.record;
            Some((first, Block::of(rows)))
        });
        self.blocks.extend(blocks);
    }
}

/// Rows of two lists, each in the order of its records, in that order; of one record those of the first come first.
pub(crate) fn in_order<T>(
    first: impl Iterator<Item = T>,
    other: impl Iterator<Item = T>,
    record: impl Fn(&T) -> RecordId,
) -> impl Iterator<Item = T> {
    let (mut first, mut other) = (first.peekable(), other.peekable());
    std::iter::from_fn(move || match (first.peek(), other.peek()) {
        (Some(a), Some(b)) if record(b) < record(a) => other.next(),
        (Some(_), _) => first.next(),
        (None, _) => other.next(),
    })
}

/// The columns of a block: of positions and times what they differ by from those of the row before.
#[derive(Default, Serialize, Deserialize)]
struct Columns {
    records: Vec<u64>,
    originals: Vec<Option<u64>>,
    reasons: Vec<Reason>,
    services: Vec<ServiceKey>,
    classes: Vec<ClassKey>,
    times: Vec<i64>,
    items: Vec<Option<Name>>,
}

impl Block {
    fn of(rows: &[Suspense]) -> Self {
        let mut columns = Columns::default();
        let (mut record, mut original, mut time) = (0_u64, 0_u64, 0_i64);
        for row in rows {
            columns.records.push(row.record.0.wrapping_sub(record));
            let step = row.original.map(|of| of.0.wrapping_sub(original));
            columns.originals.push(step);
            columns.reasons.push(row.reason);
            columns.services.push(row.service);
            columns.classes.push(row.class);
            columns.times.push(row.time.0.wrapping_sub(time));
            columns.items.push(row.item);
            (record, time) = (row.record.0, row.time.0);
            original = row.original.map_or(original, |of| of.0);
        }
        let bytes = bincode::serialize(&columns).expect("memory takes all bytes");
        let bytes = zstd::bulk::compress(&bytes, LEVEL).expect("memory takes all bytes");
        Self {
            rows: rows.len(),
            bytes: bytes.into_boxed_slice(),
        }
    }

    fn rows(&self) -> Vec<Suspense> {
        let bytes = zstd::stream::decode_all(&*self.bytes).expect("memory keeps what it is given");
        let columns: Columns = bincode::deserialize(&bytes).expect("memory keeps what it is given");
        let (mut record, mut original, mut time) = (0_u64, 0_u64, 0_i64);
        let row = |at: usize| {
            record = record.wrapping_add(columns.records[at]);
            time = time.wrapping_add(columns.times[at]);
            let of = columns.originals[at].map(|step| original.wrapping_add(step));
            original = of.unwrap_or(original);
            Suspense {
                record: RecordId(record),
                reason: columns.reasons[at],
                service: columns.services[at],
                class: columns.classes[at],
                time: EventTime(time),
                item: columns.items[at],
                original: of.map(RecordId),
            }
        };
        (0..self.rows).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(record: u64, of: u64, time: i64) -> Suspense {
        let reasons = [Reason::Duplicate, Reason::Conflict, Reason::OriginalMissing];
        Suspense {
            record: RecordId(record),
            reason: reasons[usize::try_from(of % 3).unwrap()],
            service: ServiceKey(of.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            class: ClassKey(3),
            time: EventTime(time),
            item: None,
            original: (of % 3 < 2).then_some(RecordId(of)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        /// Rows come, change and go in any order, many of them and few at once.
        #[test]
        fn rows_are_had_again(
            steps in prop::collection::vec((0_u64..30_000, 1_u64..6_000, 1_u64..7, any::<bool>(), 0_u64..4), 1..16),
        ) {
            let (mut held, mut model) = (Outvoted::default(), BTreeMap::new());
            for (from, count, stride, goes, of) in steps {
                let mut changes = Vec::new();
                for record in (0..count).map(|n| from + n * stride) {
                    let old: Option<Suspense> = model.remove(&record);
                    let new = (!goes).then(|| row(record, of + record % 5, 1_000 - record.cast_signed()));
                    // What comes may be told before what goes.
                    changes.extend(new.map(|new| (new, 1)));
                    changes.extend(old.map(|old| (old, -1)));
                    model.extend(new.map(|new| (record, new)));
                }
                held.apply(changes);
                prop_assert!(held.all().eq(model.values().copied()));
                for record in (0..36_000).step_by(3_001) {
                    prop_assert_eq!(held.get(RecordId(record)), model.get(&record).copied());
                }
            }
            held.apply(model.into_values().map(|row| (row, -1)).collect());
            prop_assert_eq!(held.all().count(), 0);
            prop_assert_eq!((held.blocks.len(), held.packed), (0, 0));
        }
    }

    #[test]
    fn a_copy_takes_a_few_bytes() {
        const FILE: u64 = 1 << 40;
        const ROWS: u64 = 200_000;
        let mixed = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        // Which record each is a copy of, and where it stands.
        let few = |n| (20 + n, mixed(n) % 20);
        let twice = |n| (FILE + n, n);
        type Copied<'c> = &'c dyn Fn(u64) -> (u64, u64);
        let cases: [(&str, Copied<'_>, usize); 2] = [
            ("few records again and again", &few, 5),
            ("a file that came twice", &twice, 16),
        ];
        for (name, case, most) in cases {
            let mut held = Outvoted::default();
            let copy = |n| {
                let (record, of) = case(n);
                let row = row(record, 3 * of, mixed(of).cast_signed() % 1_000_000_000);
                let service = ServiceKey(mixed(of % 1_000));
                (Suspense { service, ..row }, 1)
            };
            for epoch in 0..20 {
                let rows = epoch * ROWS / 20..(epoch + 1) * ROWS / 20;
                held.apply(rows.map(copy).collect());
            }
            held.pack();
            let bytes: usize = held.blocks.values().map(|block| block.bytes.len()).sum();
            assert!(bytes <= most * 200_000, "{name}: {bytes} bytes");
        }
    }
}
