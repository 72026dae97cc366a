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

use crate::domain::{FileId, Keep, Kind, Mark, Rank, Reason, RecordId, Usage};
use crate::epoch::Epoch;
use std::collections::BTreeMap;

/// A record of an identity, whole.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// When it arrived.
    pub(super) arrival: (Epoch, u64),
    /// What decides between it and the others.
    pub(super) mark: Mark,
    /// The record, without its mark.
    pub(super) usage: Usage,
    /// Tells its content from another.
    pub(super) content: u64,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the usage of its identity.
    Holds,
    /// It is not, for this reason, and because of that record.
    Outvoted(Reason, Option<RecordId>),
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
    fn same(&self, other: &Self) -> bool {
        match (self.mark.kind, other.mark.kind) {
            (Kind::Void, Kind::Void) => true,
            (Kind::Void, _) | (_, Kind::Void) => false,
            _ => self.content == other.content,
        }
    }

    fn record(&self) -> RecordId {
        self.usage.record
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
            Kind::Restate => self.restated == Some(version.record().file().0),
            Kind::Amend | Kind::Void => false,
        }
    }

    fn precedence(&self, version: &Version) -> Precedence {
        let original = self.is_original(version);
        let restates = version.mark.kind == Kind::Restate && !original;
        let position = version.record().0;
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
            file: version.record().file().0,
            states: !restates,
            rank: rank.filter(|_| restates),
            position: if restates { at } else { position },
        }
    }

    /// The order inside a group: the first of equal precedence holds.
    fn turn(&self, version: &Version) -> ((Epoch, u64), u64) {
        let arrives = self.keep == Keep::First && version.mark.kind == Kind::Usage;
        let arrival = if arrives { version.arrival } else { (0, 0) };
        (arrival, version.record().0)
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
    let has = |file: FileId| versions.iter().any(|v| v.record().file() == file);
    let is_there = |version: &&Version| has(newest(version.record().file(), replaced));
    let there: Vec<Version> = versions.iter().filter(is_there).cloned().collect();
    let mut standings = stand_all(&there).into_iter();
    let gone = Standing::Outvoted(Reason::Voided, None);
    let each = versions.iter();
    each.map(|version| match is_there(&version) {
        true => standings.next().unwrap_or(gone),
        false => gone,
    })
    .collect()
}

fn stand_all(versions: &[Version]) -> Vec<Standing> {
    let usage = versions.iter().any(|v| v.mark.kind == Kind::Usage);
    let restated = versions.iter().filter(|v| v.mark.kind == Kind::Restate);
    let restated = restated.map(|v| v.record().file().0).min();
    if !usage && restated.is_none() {
        let waits = Standing::Outvoted(Reason::OriginalMissing, None);
        return vec![waits; versions.len()];
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
    let lead = |group: &[(Precedence, usize)]| &versions[group[0].1];
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
    let contradicts = |at: usize| newest.iter().any(|(_, other)| *other == at);
    let standing = |at: usize| {
        let version = &versions[at];
        let because = Some(holds.record());
        let outvoted = |reason, because| Standing::Outvoted(reason, because);
        if version.record() == holds.record() {
            return match version.mark.kind {
                Kind::Void => outvoted(Reason::Void, Some(reported.record())),
                _ => Standing::Holds,
            };
        }
        if version.same(holds) {
            return outvoted(Reason::Duplicate, because);
        }
        if contradicts(at) {
            return outvoted(Reason::Conflict, because);
        }
        let original = court.is_original(version);
        let corrected = !court.is_original(holds);
        if original && corrected && version.record() == reported.record() {
            return match holds.mark.kind {
                Kind::Void => outvoted(Reason::Voided, because),
                _ => outvoted(Reason::Amended, because),
            };
        }
        if original && corrected && version.same(reported) {
            return outvoted(Reason::Duplicate, because);
        }
        // What came behind a correction, and is none, contradicts it.
        let late = court.keep == Keep::First && original && version.record() > holds.record();
        match late {
            true => outvoted(Reason::Conflict, because),
            false => outvoted(Reason::Superseded, because),
        }
    };
    (0..versions.len()).map(standing).collect()
}
