//! Records that gave way to the first of their identity, in a few bytes each.
//!
//! ```text
//!  (kept, copy), sorted ─► blocks of up to 128, each: (step of kept, step of copy), …
//! ```
//!
//! What a copy is but its place, an equal one shares with the record that is kept, and whoever takes that back
//! brings it. Copies of one file in another follow each other as their originals do, and copies of few
//! records have the same original, so both steps are short: two to six bytes. A block is unpacked whole.

use super::pack::{put, step, stepped, take, unzigzag, zigzag};
use crate::domain::RecordId;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Copies of a block: so many are unpacked for one that is put in between.
const BLOCK: usize = 128;

/// A record that gave way, and to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The record that is kept.
    pub(super) kept: RecordId,
    /// The record that is not.
    pub(super) record: RecordId,
    /// The digest of its content, where that is not the content of the record that is kept.
    pub(super) differs: Option<u64>,
}

/// The record that the first copy of a block gave way to, and a number that tells blocks of one record apart.
type Key = (RecordId, i64);

#[derive(Debug, Default)]
struct Block {
    /// The record that its last copy gave way to.
    last: RecordId,
    bytes: Box<[u8]>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Copies {
    blocks: BTreeMap<Key, Block>,
    bytes: usize,
}

impl Copies {
    /// Adds copies, each behind those that gave way to the same record before.
    pub(super) fn extend(&mut self, mut copies: Vec<Copy>) {
        // Stable: the order of arrival.
        copies.sort_by_key(|copy| copy.kept);
        let mut rest = copies.as_slice();
        while let Some(first) = rest.first() {
            let own = self.blocks.range(..=(first.kept, i64::MAX)).next_back();
            let own = own.map(|(key, _)| *key);
            let next = match own {
                Some(key) => self.behind(key),
                None => self.blocks.first_key_value().map(|(key, _)| *key),
            };
            let ours = next.map_or(rest.len(), |(next, _)| {
                rest.partition_point(|copy| copy.kept < next)
            });
            let (ours, others) = rest.split_at(ours);
            let mut block = match (own, next) {
                (Some(key), _) => self.remove(key),
                (None, Some(key)) if self.has_room(key, ours.len()) => self.remove(key),
                _ => Vec::new(),
            };
            block.extend_from_slice(ours);
            block.sort_by_key(|copy| copy.kept);
            self.insert(&block, own, next.is_none());
            rest = others;
        }
    }

    /// Takes out all copies that gave way to a record, in the order in which they came.
    pub(super) fn take(&mut self, kept: RecordId) -> Vec<Copy> {
        let mut taken = Vec::new();
        for key in self.keys(kept) {
            let has = unpack(key.0, &self.blocks[&key].bytes).any(|copy| copy.kept == kept);
            if !has {
                continue;
            }
            let block = self.remove(key);
            let (ours, others): (Vec<_>, Vec<_>) = block.into_iter().partition(|c| c.kept == kept);
            taken.extend(ours);
            self.insert(&others, Some(key), false);
        }
        taken
    }

    /// All copies that gave way to a record, in the order in which they came.
    pub(super) fn of(&self, kept: RecordId) -> impl Iterator<Item = Copy> {
        let blocks = self.keys(kept).into_iter();
        let copies = blocks.flat_map(|key| unpack(key.0, &self.blocks[&key].bytes));
        copies.filter(move |copy| copy.kept == kept)
    }

    /// Bytes that they take, with the room of the map.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<(Key, Block)>();
        self.bytes
            .saturating_add(self.blocks.len().saturating_mul(entry))
    }

    /// The blocks that may have copies of a record: the one before its own may end with them.
    fn keys(&self, kept: RecordId) -> Vec<Key> {
        let before = self.blocks.range(..(kept, i64::MIN)).next_back();
        let before = before.filter(|(_, block)| block.last >= kept);
        let own = self.blocks.range((kept, i64::MIN)..=(kept, i64::MAX));
        before.into_iter().chain(own).map(|(key, _)| *key).collect()
    }

    fn behind(&self, key: Key) -> Option<Key> {
        let behind = (Bound::Excluded(key), Bound::Unbounded);
        let (key, _) = self.blocks.range(behind).next()?;
        Some(*key)
    }

    fn has_room(&self, key: Key, more: usize) -> bool {
        let held = self.blocks.get(&key).into_iter();
        let held = held.flat_map(|block| unpack(key.0, &block.bytes)).count();
        held.saturating_add(more) <= BLOCK
    }

    fn remove(&mut self, key: Key) -> Vec<Copy> {
        let block = self.blocks.remove(&key).unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(block.bytes.len());
        unpack(key.0, &block.bytes).collect()
    }

    /// Puts sorted copies in where a block was, in front of all others of records that it did not begin
    /// with. The last of all blocks are filled, since most copies come behind all others; in others room is
    /// left.
    fn insert(&mut self, copies: &[Copy], own: Option<Key>, last: bool) {
        let size = match last {
            true => BLOCK,
            false => copies.len().div_ceil(copies.len().div_ceil(BLOCK).max(1)),
        };
        let chunks: Vec<&[Copy]> = copies.chunks(size.max(1)).collect();
        for same in chunks.chunk_by(|a, b| a[0].kept == b[0].kept) {
            let kept = same[0][0].kept;
            let count = i64::try_from(same.len()).unwrap_or(i64::MAX);
            let mut others = self.blocks.range((kept, i64::MIN)..=(kept, i64::MAX));
            let mut number = match own.filter(|own| own.0 == kept) {
                Some((_, number)) => number,
                None => others
                    .next()
                    .map_or(0, |((_, first), _)| first.saturating_sub(count)),
            };
            for chunk in same {
                let (last, bytes) = (chunk.last().map_or(kept, |copy| copy.kept), pack(chunk));
                self.bytes = self.bytes.saturating_add(bytes.len());
                self.blocks.insert((kept, number), Block { last, bytes });
                number = number.saturating_add(1);
            }
        }
    }
}

fn pack(copies: &[Copy]) -> Box<[u8]> {
    let mut bytes = Vec::new();
    let first = copies.first().map(|copy| copy.kept).unwrap_or_default();
    let (mut kept, mut record) = (first, first);
    for copy in copies {
        let moves = copy.kept != kept;
        let flags = u128::from(moves) | u128::from(copy.differs.is_some()) << 1;
        put(
            &mut bytes,
            zigzag(step(record.0, copy.record.0)) << 2 | flags,
        );
        if moves {
            put(&mut bytes, zigzag(step(kept.0, copy.kept.0)));
        }
        if let Some(content) = copy.differs {
            put(&mut bytes, u128::from(content));
        }
        (kept, record) = (copy.kept, copy.record);
    }
    bytes.into_boxed_slice()
}

fn unpack(first: RecordId, mut bytes: &[u8]) -> impl Iterator<Item = Copy> {
    let (mut kept, mut record) = (first, first);
    std::iter::from_fn(move || {
        let word = take(&mut bytes)?;
        record = RecordId(stepped(record.0, unzigzag(word >> 2)));
        if word & 1 != 0 {
            kept = RecordId(stepped(kept.0, unzigzag(take(&mut bytes)?)));
        }
        let differs = match word & 2 {
            0 => None,
            _ => u64::try_from(take(&mut bytes)?).ok(),
        };
        Some(Copy {
            kept,
            record,
            differs,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few records with very many copies, and many with few, in batches of any size.
        #[test]
        fn copies_are_had_again_in_the_order_of_their_arrival(
            steps in prop::collection::vec(
                (prop::collection::vec((0_u64..40, 1_usize..200), 0..12), 0_u64..40, any::<bool>()),
                1..12,
            ),
        ) {
            let (mut copies, mut model) = (Copies::default(), BTreeMap::<u64, Vec<Copy>>::new());
            let mut next = 1 << 40;
            for (batch, gone, goes) in steps {
                let mut come = Vec::new();
                for (kept, count) in batch {
                    for _ in 0..count {
                        // Neither in order nor of one content.
                        next = (next ^ kept.wrapping_mul(0x9e37)).wrapping_add(13);
                        let (kept, record) = (RecordId(kept), RecordId(next));
                        let differs = (next % 7 > 4).then_some(next);
                        let copy = Copy { kept, record, differs };
                        model.entry(kept.0).or_default().push(copy);
                        come.push(copy);
                    }
                }
                copies.extend(come);
                if goes {
                    let expected = model.remove(&gone).unwrap_or_default();
                    prop_assert_eq!(copies.take(RecordId(gone)), expected);
                }
                for kept in 0..40 {
                    let expected = model.get(&kept).cloned().unwrap_or_default();
                    prop_assert_eq!(copies.of(RecordId(kept)).collect::<Vec<_>>(), expected);
                }
            }
            for kept in 0..40 {
                copies.take(RecordId(kept));
            }
            prop_assert_eq!((copies.blocks.len(), copies.bytes()), (0, 0));
        }
    }

    #[test]
    fn a_copy_takes_a_few_bytes() {
        const FILE: u64 = 1 << 40;
        const COPIES: u64 = 200_000;
        let mix = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        type Copied = fn(u64, u64) -> (u64, u64);
        let cases: [(&str, Copied, usize); 4] = [
            // Which record each is a copy of, and where it stands.
            (
                "few records again and again",
                |n, mixed| (mixed % 20, 20 + n),
                4,
            ),
            ("a file that came twice", |n, _| (n, FILE + n), 4),
            (
                "a file that came twice, as one of two workers sees it",
                |n, mixed| (2 * n + mixed % 2, FILE + 2 * n + mixed % 2),
                4,
            ),
            (
                "a file that came in another order",
                |n, mixed| (mixed % COPIES, FILE + n),
                8,
            ),
        ];
        for (name, case, most) in cases {
            let mut copies = Copies::default();
            for epoch in 0..20 {
                let numbers = epoch * COPIES / 20..(epoch + 1) * COPIES / 20;
                let copy = |n| {
                    let (kept, record) = case(n, mix(n));
                    let (kept, record) = (RecordId(kept), RecordId(record));
                    Copy {
                        kept,
                        record,
                        differs: None,
                    }
                };
                copies.extend(numbers.map(copy).collect());
            }
            let bytes = copies.bytes();
            assert!(bytes <= most * 200_000, "{name}: {bytes} bytes");
            println!("{name}: {bytes}");
        }
    }
}
