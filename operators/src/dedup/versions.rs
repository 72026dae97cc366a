//! Which of all records of an identity holds, and what becomes of the others: a function of the set of
//! records alone, so that it is the same in whatever order they come.
//!
//! ```text
//!  groups in the order of precedence; the records of one group contradict each other unless equal
//!
//!  first:     [ originals ]                            │ corrections and files sent again,
//!  last:      [1] [2] [3]  by position                 │ by position
//!  greatest:  [rank 1] [rank 2] [rank 3]               │
//!  version:   [version 1] [version 2], corrections among them
//! ```
//!
//! The first record of the last group holds, or what is equal to it right before. Corrections wait until
//! there is something to correct.
//!
//! A record that its rule's `where` passes over is a version like the others, without usage: where it holds,
//! the identity has none. The first to report *usage* holds, so with `first` it gives way to all originals;
//! among equally great ones it holds if it is the last to come.

use super::outcome::of_record;
use super::pack::{put, step, stepped, take, unzigzag, zigzag};
use crate::domain::{FileId, Keep, Kind, Mark, Rank, Reason, RecordId, Usage};
use crate::epoch::Epoch;
use std::collections::{BTreeMap, BTreeSet};

/// A record of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// When it arrived.
    pub(super) arrival: (Epoch, u64),
    /// What decides between it and the others.
    pub(super) mark: Mark,
    /// Which it is.
    pub(super) record: RecordId,
    /// The number of its content.
    pub(super) content: usize,
    /// Whether its rule's `where` passes it over, see [`Usage::is_passed_over`].
    pub(super) passed_over: bool,
}

/// All records of an identity, and each of their contents once.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// A record of each content, without its mark.
    pub(super) contents: Vec<Usage>,
    /// The records.
    pub(super) all: Vec<Version>,
}

/// The same in few bytes: what a record has in common with the one before it is not said again.
#[derive(Debug, Default)]
pub(super) struct Packed {
    contents: Box<[Usage]>,
    records: Box<[u8]>,
}

const MARK: u128 = 1;
const EPOCH: u128 = 1 << 1;
const PLACE: u128 = 1 << 2;
const CONTENT: u128 = 1 << 3;
const FLAGS: u32 = 4;

impl Packed {
    /// Bytes that it takes elsewhere.
    pub(super) fn bytes(&self) -> usize {
        let contents = self.contents.len().saturating_mul(size_of::<Usage>());
        contents.saturating_add(self.records.len())
    }

    /// The records, one after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = Version> {
        let mut bytes = &*self.records;
        let mut last = Version::none();
        std::iter::from_fn(move || {
            let word = take(&mut bytes)?;
            last.record = RecordId(stepped(last.record.0, unzigzag(word >> FLAGS)));
            if word & MARK != 0 {
                last.mark = take_mark(&mut bytes)?;
            }
            if word & EPOCH != 0 {
                last.arrival.0 = stepped(last.arrival.0, unzigzag(take(&mut bytes)?));
            }
            last.arrival.1 = match word & PLACE {
                0 => last.record.0,
                _ => u64::try_from(take(&mut bytes)?).ok()?,
            };
            if word & CONTENT != 0 {
                last.content = usize::try_from(take(&mut bytes)?).ok()?;
            }
            let quantities = &self.contents.get(last.content)?.quantities;
            last.passed_over = last.mark.passes_over(quantities);
            Some(last)
        })
    }

    pub(super) fn open(self) -> Versions {
        Versions {
            all: self.all().collect(),
            contents: self.contents.into_vec(),
        }
    }

    /// A record whole, without its mark.
    pub(super) fn usage(&self, version: &Version) -> Usage {
        of_record(&self.contents[version.content], version.record)
    }
}

impl Versions {
    /// Contents that no record has any more go.
    pub(super) fn pack(self) -> Packed {
        let (mut numbers, mut contents) = (BTreeMap::new(), Vec::new());
        let (mut bytes, mut last) = (Vec::new(), Version::none());
        for version in self.all {
            let content = *numbers.entry(version.content).or_insert_with(|| {
                contents.push(self.contents[version.content].clone());
                contents.len().saturating_sub(1)
            });
            let says = |flag: u128, says: bool| if says { flag } else { 0 };
            let (marked, dated) = (
                version.mark != last.mark,
                version.arrival.0 != last.arrival.0,
            );
            let (placed, new) = (
                version.arrival.1 != version.record.0,
                content != last.content,
            );
            let flags = says(MARK, marked) | says(EPOCH, dated);
            let flags = flags | says(PLACE, placed) | says(CONTENT, new);
            let step_on = zigzag(step(last.record.0, version.record.0));
            put(&mut bytes, step_on << FLAGS | flags);
            if marked {
                put_mark(&mut bytes, version.mark);
            }
            if dated {
                put(&mut bytes, zigzag(step(last.arrival.0, version.arrival.0)));
            }
            if placed {
                put(&mut bytes, u128::from(version.arrival.1));
            }
            if new {
                put(&mut bytes, content as u128);
            }
            last = Version { content, ..version };
        }
        Packed {
            contents: contents.into_boxed_slice(),
            records: bytes.into_boxed_slice(),
        }
    }

    /// A record whole, without its mark.
    pub(super) fn usage(&self, record: RecordId, content: usize) -> Usage {
        of_record(&self.contents[content], record)
    }
}

fn put_mark(bytes: &mut Vec<u8>, mark: Mark) {
    let keep: u128 = match mark.keep {
        Keep::First => 0,
        Keep::Last => 1,
        Keep::Greatest => 2,
        Keep::Version => 3,
    };
    let kind: u128 = match mark.kind {
        Kind::Usage => 0,
        Kind::Restate => 1,
        Kind::Amend => 2,
        Kind::Void => 3,
    };
    let (rank, number): (u128, _) = match mark.rank {
        None => (0, None),
        Some(Rank::Number(number)) => (1, Some(number)),
        Some(Rank::Time(number)) => (2, Some(number)),
    };
    put(bytes, keep | kind << 2 | rank << 4);
    if let Some(number) = number {
        put(bytes, zigzag(number));
    }
}

fn take_mark(bytes: &mut &[u8]) -> Option<Mark> {
    let word = take(bytes)?;
    let keep = match word & 3 {
        0 => Keep::First,
        1 => Keep::Last,
        2 => Keep::Greatest,
        _ => Keep::Version,
    };
    let kind = match word >> 2 & 3 {
        0 => Kind::Usage,
        1 => Kind::Restate,
        2 => Kind::Amend,
        _ => Kind::Void,
    };
    let rank = match word >> 4 {
        0 => None,
        1 => Some(Rank::Number(unzigzag(take(bytes)?))),
        _ => Some(Rank::Time(unzigzag(take(bytes)?))),
    };
    Some(Mark { keep, kind, rank })
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the usage of its identity.
    Holds,
    /// It is not, for this reason, and because of that record.
    Outvoted(Reason, Option<RecordId>),
    /// It is passed over, and told as that alone.
    PassedOver,
}

/// Greater keys go before smaller ones; equal keys contradict each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence {
    corrects: bool,
    file: u32,
    states: bool,
    rank: Option<Rank>,
    position: u64,
}

impl Version {
    /// What the first record differs from.
    fn none() -> Self {
        Self {
            arrival: (0, 0),
            mark: Mark::default(),
            record: RecordId(0),
            content: 0,
            passed_over: false,
        }
    }

    fn same(&self, other: &Self) -> bool {
        if self.passed_over || other.passed_over {
            return self.passed_over && other.passed_over;
        }
        match (self.mark.kind, other.mark.kind) {
            (Kind::Void, Kind::Void) => true,
            (Kind::Void, _) | (_, Kind::Void) => false,
            _ => self.content == other.content,
        }
    }
}

/// The records of an identity in the order of precedence.
struct Court<'v> {
    versions: &'v [Version],
    keep: Keep,
    /// The file whose rows are the originals, where nothing else is.
    restated: Option<u32>,
}

impl Court<'_> {
    fn is_original(&self, version: &Version) -> bool {
        match version.mark.kind {
            Kind::Usage => true,
            Kind::Restate => self.restated == Some(version.record.file().0),
            Kind::Amend | Kind::Void => false,
        }
    }

    fn precedence(&self, version: &Version) -> Precedence {
        let original = self.is_original(version);
        let restates = version.mark.kind == Kind::Restate && !original;
        let position = version.record.0;
        let (rank, at) = match self.keep {
            Keep::First => (None, 0),
            Keep::Last => (None, position),
            Keep::Greatest | Keep::Version => (version.mark.rank, 0),
        };
        if original || self.keep == Keep::Version {
            return Precedence {
                corrects: false,
                file: 0,
                states: false,
                rank,
                position: at,
            };
        }
        Precedence {
            corrects: true,
            file: version.record.file().0,
            states: !restates,
            rank: rank.filter(|_| restates),
            position: if restates { at } else { position },
        }
    }

    /// The order inside a group: the first of equal precedence holds, of those that are usage.
    fn turn(&self, version: &Version) -> (bool, (Epoch, u64), u64) {
        let arrives = self.keep == Keep::First && version.mark.kind == Kind::Usage;
        let arrival = if arrives { version.arrival } else { (0, 0) };
        (version.passed_over, arrival, version.record.0)
    }

    /// The one of a group, in its order, that holds against the others.
    fn lead(&self, group: &[(Precedence, usize)]) -> &Version {
        let of = |at: usize| &self.versions[group[at].1];
        let (first, last) = (of(0), of(group.len() - 1));
        let newest = || {
            let mut others = (0..group.len()).map(of);
            others.all(|other| other.passed_over || other.record < last.record)
        };
        match self.keep != Keep::First && last.passed_over && newest() {
            true => last,
            false => first,
        }
    }
}

/// The file that has come in the place of another at last.
pub(super) fn newest(mut file: FileId, replaced: &BTreeMap<FileId, FileId>) -> FileId {
    while let Some(newer) = replaced.get(&file) {
        file = *newer;
    }
    file
}

/// What becomes of each record of an identity, where files have come in place of others and what they have
/// no more is taken out.
pub(super) fn stand(versions: &[Version], replaced: &BTreeMap<FileId, FileId>) -> Vec<Standing> {
    if replaced.is_empty() {
        return stand_all(versions);
    }
    let files: BTreeSet<FileId> = versions.iter().map(|v| v.record.file()).collect();
    let is_there = |version: &&Version| files.contains(&newest(version.record.file(), replaced));
    let there: Vec<Version> = versions.iter().filter(is_there).copied().collect();
    let mut standings = stand_all(&there).into_iter();
    let gone = Standing::Outvoted(Reason::Voided, None);
    let each = versions.iter();
    each.map(|version| match is_there(&version) {
        true => standings.next().unwrap_or(gone),
        false if version.passed_over => Standing::PassedOver,
        false => gone,
    })
    .collect()
}

fn stand_all(versions: &[Version]) -> Vec<Standing> {
    let usage = versions.iter().any(|v| v.mark.kind == Kind::Usage);
    let restated = versions.iter().filter(|v| v.mark.kind == Kind::Restate);
    let restated = restated.map(|v| v.record.file().0).min();
    if !usage && restated.is_none() {
        let waits = |version: &Version| match version.passed_over {
            true => Standing::PassedOver,
            false => Standing::Outvoted(Reason::OriginalMissing, None),
        };
        return versions.iter().map(waits).collect();
    }
    let keep = versions.iter().map(|v| v.mark.keep).max();
    let court = Court {
        versions,
        keep: keep.unwrap_or_default(),
        restated: restated.filter(|_| !usage),
    };
    let mut order: Vec<(Precedence, usize)> = court
        .versions
        .iter()
        .enumerate()
        .map(|(at, v)| (court.precedence(v), at))
        .collect();
    order.sort_by_key(|(precedence, at)| (*precedence, court.turn(&versions[*at])));
    let groups: Vec<&[(Precedence, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    let lead = |group: &[(Precedence, usize)]| court.lead(group);
    let newest = groups[groups.len().saturating_sub(1)];
    let mut holds = lead(newest);
    for group in groups.iter().rev().skip(1) {
        match lead(group).same(holds) {
            true => holds = lead(group),
            false => break,
        }
    }
    // What was reported: the best of the originals.
    let reported = groups
        .iter()
        .rev()
        .find(|group| court.is_original(lead(group)));
    let reported = reported.map_or(holds, |group| lead(group));
    let contradicts = |version: &Version| court.precedence(version) == newest[0].0;
    let standing = |at: usize| {
        let version = &versions[at];
        let because = Some(holds.record);
        let outvoted = |reason, because| Standing::Outvoted(reason, because);
        if version.passed_over {
            return Standing::PassedOver;
        }
        if version.record == holds.record {
            return match version.mark.kind {
                Kind::Void => outvoted(Reason::Void, Some(reported.record)),
                _ => Standing::Holds,
            };
        }
        if version.same(holds) {
            return outvoted(Reason::Duplicate, because);
        }
        if contradicts(version) && !holds.passed_over {
            return outvoted(Reason::Conflict, because);
        }
        let original = court.is_original(version);
        let corrected = !court.is_original(holds);
        if original && corrected && version.record == reported.record {
            return match holds.mark.kind {
                Kind::Void => outvoted(Reason::Voided, because),
                _ => outvoted(Reason::Amended, because),
            };
        }
        if original && corrected && version.same(reported) {
            return outvoted(Reason::Duplicate, because);
        }
        // What came behind a correction, and is none, contradicts it.
        let late = court.keep == Keep::First && original && version.record > holds.record;
        match late {
            true => outvoted(Reason::Conflict, because),
            false => outvoted(Reason::Superseded, because),
        }
    };
    (0..versions.len()).map(standing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClassKey, EventTime, Identity, ServiceKey};
    use proptest::prelude::*;

    fn mark() -> impl Strategy<Value = Mark> {
        let keep =
            prop::sample::select(vec![Keep::First, Keep::Last, Keep::Greatest, Keep::Version]);
        let kind = prop::sample::select(vec![Kind::Usage, Kind::Restate, Kind::Amend, Kind::Void]);
        let number = prop_oneof![any::<i128>(), -3_i128..3];
        let rank = prop::option::of((any::<bool>(), number).prop_map(
            |(time, number)| match time {
                true => Rank::Time(number),
                false => Rank::Number(number),
            },
        ));
        (keep, kind, rank).prop_map(|(keep, kind, rank)| Mark { keep, kind, rank })
    }

    proptest! {
        #[test]
        fn packed_records_are_had_again(
            rows in prop::collection::vec((any::<u64>(), 0_u64..9, any::<u64>(), mark(), 0_usize..4, any::<bool>()), 0..40),
        ) {
            let content = |time: usize| Usage {
                record: RecordId(77),
                identity: Identity([1, 2]),
                service: ServiceKey(1),
                class: ClassKey(1),
                time: EventTime(i64::try_from(time).unwrap()),
                quantities: [1].into_iter().collect(),
                mark: None,
            };
            let version = |(record, epoch, place, mark, content, live)| Version {
                arrival: (epoch, if live { record } else { place }),
                mark,
                record: RecordId(record),
                content,
                passed_over: false,
            };
            let all: Vec<Version> = rows.into_iter().map(version).collect();
            let versions = Versions { contents: (0..4).map(content).collect(), all: all.clone() };
            let packed = versions.pack();
            let again: Vec<Version> = packed.all().collect();
            prop_assert_eq!(again.len(), all.len());
            for (again, was) in again.iter().zip(&all) {
                prop_assert_eq!(Version { content: was.content, ..*again }, *was);
                prop_assert_eq!(packed.usage(again), crate::dedup::outcome::of_record(&content(was.content), was.record));
            }
            let used: BTreeSet<usize> = all.iter().map(|version| version.content).collect();
            prop_assert_eq!(packed.contents.len(), used.len());
        }
    }
}
