//! The journal: what each epoch brought to the graph, as bytes.
//!
//! ```text
//!  object = facts; for each epoch: head, usage of lane 0, of lane 1, …; billing lines that moved
//!  block  = kind, lane, epoch, rows, length; then the content, compressed but for usage
//! ```
//!
//! Usage is cut into lanes by the shard of its identity, so that several readers can each take their
//! lanes, and all records of one identity stay in their order. A journal object is a list of blocks:
//! several objects one after the other are one object, which is how old ones are merged. The rows of a
//! lane are in [`rows`].

mod rows;

use super::applied::Applied;
use super::manifest::Position;
use super::object::decode;
use crate::board::MovedLine;
use crate::bundle::{Bundle, EpochHead};
use crate::present::Witness;
use millrace_connectors::ledger::{Inputs, LedgerEntry};
use millrace_connectors::names::Entered;
use millrace_connectors::reference::HeldMessage;
use millrace_connectors::store::FileMeta;
use millrace_operators::domain::{Fate, FileId, LineKey, LineSum, Suspense, Usage};
use millrace_operators::epoch::{Diff, Epoch, shard};
use roaring::RoaringTreemap;
use rows::RowWriter;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use zstd::bulk::Compressor;

/// Lanes that usage is cut into.
const LANES: u64 = 16;
/// Fast, and still a third of the bytes. Usage is written as it is: most of a row is hashes, and the rest
/// is in few bytes already.
const LEVEL: i32 = -4;

const FACTS: u8 = 1;
const HEAD: u8 = 2;
const USAGE: u8 = 3;
const LINES: u8 = 4;

/// A file or partition that the job has met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its entry in the ledger.
    pub entry: LedgerEntry,
    /// The name of its source.
    pub source: String,
    /// What its source reads from.
    pub root: String,
    /// Where it is.
    pub meta: FileMeta,
}

/// What is new since the commit before, besides what entered the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Texts behind keys.
    pub names: Vec<Entered>,
    /// Files and partitions whose entries are new or changed.
    pub files: Vec<FileRecord>,
    /// How far each file or partition that is being read is read; all of them.
    pub positions: BTreeMap<FileId, Position>,
    /// Sources that operators have paused; all of them.
    pub paused: BTreeSet<String>,
    /// Sources of which records say what decides between them and others; all that ever did.
    pub marked: BTreeSet<String>,
    /// The commands that were applied.
    pub commands: Applied,
    /// Messages of reference data that are held back; all of them.
    pub held: Vec<HeldMessage>,
    /// How often state was forgotten, and what followed from it has been fed.
    pub forgotten: u64,
    /// The digests of raw records that were taken in.
    pub raw: BTreeMap<FileId, String>,
    /// What bears witness to the present.
    pub witness: Witness,
    /// Records that stay as something before made them, which is in force no more for others of their files; by
    /// nothing those that were mediated again after all.
    pub stays: Vec<(Inputs, RoaringTreemap)>,
}

/// The journal of the epochs since the last commit; packed by whoever writes it down.
#[derive(Default)]
pub struct Journal {
    entered: Vec<Unpacked>,
    rows: u64,
}

struct Unpacked {
    kind: u8,
    lane: u8,
    epoch: Epoch,
    rows: u32,
    content: Vec<u8>,
}

impl Unpacked {
    fn of<T: Serialize>(kind: u8, epoch: Epoch, value: &T) -> Self {
        Self {
            kind,
            lane: 0,
            epoch,
            rows: 0,
            content: bincode::serialize(value).expect("memory takes all bytes"),
        }
    }

    /// Nothing of a lane without rows.
    fn of_lane(epoch: Epoch, lane: u8, rows: RowWriter) -> Option<Self> {
        let (rows, content) = rows.finish();
        let block = Self {
            kind: USAGE,
            lane,
            epoch,
            rows,
            content,
        };
        (rows > 0).then_some(block)
    }

    fn pack(&self, object: &mut Vec<u8>) {
        Packer::default().pack(self, object);
    }
}

/// Compresses blocks one after the other, in the same memory.
#[derive(Default)]
struct Packer {
    zstd: Compressor<'static>,
    packed: Vec<u8>,
}

impl Packer {
    fn pack(&mut self, block: &Unpacked, object: &mut Vec<u8>) {
        let content = match block.kind {
            USAGE => &block.content,
            _ => self.compress(&block.content),
        };
        let length = u32::try_from(content.len()).expect("an epoch is far below 4 GiB");
        object.extend_from_slice(&[block.kind, block.lane]);
        object.extend_from_slice(&block.epoch.to_le_bytes());
        object.extend_from_slice(&block.rows.to_le_bytes());
        object.extend_from_slice(&length.to_le_bytes());
        object.extend_from_slice(content);
    }

    fn compress(&mut self, content: &[u8]) -> &Vec<u8> {
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(content.len()));
        let set = self.zstd.set_compression_level(LEVEL);
        set.and_then(|()| self.zstd.compress_to_buffer(content, &mut self.packed))
            .expect("there is room for all bytes");
        &self.packed
    }
}

impl Journal {
    /// Whether nothing was entered since the last commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entered.is_empty()
    }

    /// Enters what an epoch brings.
    ///
    /// # Panics
    /// Never: memory takes all bytes.
    pub fn enter(&mut self, epoch: Epoch, bundle: &Bundle) {
        self.entered.push(Unpacked::of(HEAD, epoch, &bundle.head()));
        let usage = bundle.usage();
        let lanes = usize::try_from(LANES).unwrap_or(1);
        let mut cut: Vec<RowWriter> = Vec::new();
        cut.resize_with(lanes, || RowWriter::with_capacity(usage.len() / lanes));
        for (usage, diff) in usage {
            let lane = usize::try_from(lane_of(usage)).unwrap_or(0);
            cut[lane].push(usage, *diff);
        }
        for (lane, rows) in (0..).zip(cut) {
            let block = Unpacked::of_lane(epoch, lane, rows);
            self.rows += block.as_ref().map_or(0, |block| u64::from(block.rows));
            self.entered.extend(block);
        }
    }

    /// The object of everything entered, with the facts in front, as far as it is known before the
    /// epochs are complete: [`close`] puts the rest behind. And how many usage rows it has.
    ///
    /// # Panics
    /// When what an epoch brings packs into 4 GiB, far beyond the rows that an epoch may have.
    #[must_use]
    pub fn pack(&self, facts: &Facts) -> (Vec<u8>, u64) {
        let bytes: usize = self.entered.iter().map(|block| block.content.len()).sum();
        let (mut object, mut packer) = (Vec::with_capacity(bytes), Packer::default());
        packer.pack(&Unpacked::of(FACTS, 0, facts), &mut object);
        for block in &self.entered {
            packer.pack(block, &mut object);
        }
        (object, self.rows)
    }
}

/// What a record that leaves the state was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Charged.
    Monetised,
    /// A duplicate of one that was charged.
    Duplicate(Suspense),
}

/// An object without the records that leave, whose fates are told in their places; nothing if it holds
/// none. With how many usage rows are left.
pub(super) fn without(
    object: &[u8],
    mut left: impl FnMut(&Usage, Diff) -> Option<Left>,
) -> Result<Option<(Vec<u8>, u64)>, String> {
    let (mut kept, mut rows, mut gone) = (Vec::new(), 0, 0_u64);
    for item in Epochs::of(object) {
        match item? {
            Item::Facts(facts) => Unpacked::of(FACTS, 0, &facts).pack(&mut kept),
            Item::Lines(lines) => Unpacked::of(LINES, 0, &lines).pack(&mut kept),
            Item::Epoch(entry) => {
                let mut entry = *entry;
                let mut fates: BTreeMap<(FileId, Fate), Diff> = BTreeMap::new();
                for (_, lane) in &mut entry.lanes {
                    lane.retain(|(usage, diff)| {
                        let Some(left) = left(usage, *diff) else {
                            return true;
                        };
                        gone += 1;
                        let fate = match left {
                            Left::Monetised => Fate::Monetised,
                            Left::Duplicate(row) => {
                                entry.head.duplicates.push((row, *diff));
                                Fate::of(row.reason)
                            }
                        };
                        *fates.entry((usage.record.file(), fate)).or_default() += *diff;
                        false
                    });
                }
                entry.head.fates.extend(fates);
                Unpacked::of(HEAD, entry.epoch, &entry.head).pack(&mut kept);
                for (lane, usage) in &entry.lanes {
                    let mut writer = RowWriter::with_capacity(usage.len());
                    usage
                        .iter()
                        .for_each(|(usage, diff)| writer.push(usage, *diff));
                    if let Some(block) = Unpacked::of_lane(entry.epoch, *lane, writer) {
                        rows += u64::from(block.rows);
                        block.pack(&mut kept);
                    }
                }
            }
        }
    }
    Ok((gone > 0).then_some((kept, rows)))
}

/// A billing line that moved, and what it stands at, if it stands.
pub(super) type Line = (LineKey, Option<LineSum>);

/// Puts the billing lines that the epochs of an object moved behind it.
pub(super) fn close(object: &mut Vec<u8>, moved: &[MovedLine]) {
    let line = |moved: &MovedLine| -> Line {
        let sum = (!moved.gone).then_some(moved.line.sum);
        (moved.line.key.clone(), sum)
    };
    let lines: Vec<Line> = moved.iter().map(line).collect();
    Unpacked::of(LINES, 0, &lines).pack(object);
}

fn lane_of(usage: &Usage) -> u64 {
    shard(usage.identity.0[0]) % LANES
}

/// A block as it lies in an object.
struct Block<'a> {
    kind: u8,
    lane: u8,
    epoch: Epoch,
    rows: u32,
    packed: &'a [u8],
}

struct Blocks<'a>(&'a [u8]);

impl<'a> Blocks<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn next(&mut self) -> Option<Block<'a>> {
        let [kind, lane] = self.take()?;
        let epoch = Epoch::from_le_bytes(self.take()?);
        let rows = u32::from_le_bytes(self.take()?);
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        let (packed, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Block {
            kind,
            lane,
            epoch,
            rows,
            packed,
        })
    }
}

/// The epochs of a journal object, in order.
pub(super) struct Epochs<'a> {
    blocks: Blocks<'a>,
    next: Option<Block<'a>>,
}

/// What an epoch brought.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Which.
    pub epoch: Epoch,
    /// Everything but usage.
    pub head: EpochHead,
    /// Usage, per lane.
    pub lanes: Vec<(u8, Vec<(Usage, Diff)>)>,
}

/// Something in a journal object.
#[derive(Debug)]
pub(super) enum Item {
    /// Facts of a commit, before its epochs.
    Facts(Box<Facts>),
    /// An epoch.
    Epoch(Box<Entry>),
    /// The billing lines that the epochs of a commit moved, behind them.
    Lines(Vec<Line>),
}

impl<'a> Epochs<'a> {
    /// Reads an object.
    #[must_use]
    pub(super) fn of(object: &'a [u8]) -> Self {
        let mut blocks = Blocks(object);
        let next = blocks.next();
        Self { blocks, next }
    }

    fn advance(&mut self) -> Option<Block<'a>> {
        let next = self.blocks.next();
        std::mem::replace(&mut self.next, next)
    }

    fn entry(&mut self, head: &Block<'a>) -> Result<Entry, String> {
        let mut entry = Entry {
            epoch: head.epoch,
            head: decode(head.packed)?,
            lanes: Vec::new(),
        };
        while let Some(block) = &self.next
            && block.kind == USAGE
        {
            let rows = rows::read(block.packed, block.rows)?;
            entry.lanes.push((block.lane, rows));
            self.advance();
        }
        Ok(entry)
    }
}

impl Iterator for Epochs<'_> {
    type Item = Result<Item, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(block) = self.advance() else {
            let rest = self.blocks.0.len();
            self.blocks.0 = &[];
            return (rest > 0).then(|| Err(format!("ends with {rest} bytes of no block")));
        };
        Some(match block.kind {
            FACTS => decode(block.packed).map(Box::new).map(Item::Facts),
            HEAD => self.entry(&block).map(|entry| Item::Epoch(Box::new(entry))),
            LINES => decode(block.packed).map(Item::Lines),
            kind => Err(format!("holds a block of unknown kind {kind}")),
        })
    }
}

/// The facts of a journal object alone.
pub(super) fn facts_of(object: &[u8]) -> Result<Vec<Facts>, String> {
    let (mut blocks, mut facts) = (Blocks(object), Vec::new());
    while let Some(block) = blocks.next() {
        if block.kind == FACTS {
            facts.push(decode(block.packed)?);
        }
    }
    Ok(facts)
}
