//! What an epoch changes of identities, and what it comes to.

use super::versions::{Standing, Version, Versions, stand};
use crate::domain::{FileId, Reason, RecordId, Suspense, Usage};
use crate::epoch::Diff;
use std::collections::BTreeMap;

/// A file, and the one that came in its place: records of the first whose identities the second has no
/// more are taken out.
pub type Replacement = (FileId, FileId);

pub(super) enum Outcome {
    Unique(Usage),
    Outvoted(Suspense),
}

/// Why a record does not hold, where its content differs from that of the one that does or not.
pub(super) fn reason_of(differs: Option<u64>) -> Reason {
    match differs {
        None => Reason::Duplicate,
        Some(_) => Reason::Conflict,
    }
}

/// What another record of the same identity and content is.
pub(super) fn of_record(usage: &Usage, record: RecordId) -> Usage {
    Usage {
        record,
        ..usage.clone()
    }
}

/// What an epoch takes back and brings of one identity.
#[derive(Default)]
pub(super) struct Change {
    pub(super) removed: Vec<Usage>,
    pub(super) added: Vec<Usage>,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Drops what is passed over.
    pub(super) fn drop_passed_over(&mut self) {
        self.removed.retain(|usage| !usage.is_passed_over());
        self.added.retain(|usage| !usage.is_passed_over());
    }

    /// Takes out what has a mark.
    pub(super) fn split_off_marked(&mut self) -> Self {
        let split = |usages: &mut Vec<Usage>| {
            let all = std::mem::take(usages).into_iter();
            let (marked, plain) = all.partition(|usage| usage.mark.is_some());
            *usages = plain;
            marked
        };
        Self {
            removed: split(&mut self.removed),
            added: split(&mut self.added),
        }
    }

    pub(super) fn unmark(&mut self) {
        let all = self.removed.iter_mut().chain(&mut self.added);
        all.for_each(|usage| usage.mark = None);
    }
}

/// Why a record does not hold, and because of which.
pub(super) type WhyNot = (Reason, Option<RecordId>);

/// What becomes of the records of one identity, each with its content, in the order of the records; of those
/// that are passed over nothing does.
pub(super) struct Outcomes(pub(super) Vec<(RecordId, usize, Option<WhyNot>)>);

impl Outcomes {
    pub(super) fn of(versions: &Versions, replaced: &BTreeMap<FileId, FileId>) -> Self {
        let standings = stand(&versions.all, replaced).into_iter();
        let outcome = |(version, standing): (&Version, Standing)| {
            let outvoted = match standing {
                Standing::Holds => None,
                Standing::Outvoted(reason, holds) => Some((reason, holds)),
                Standing::PassedOver => return None,
            };
            Some((version.record, version.content, outvoted))
        };
        let all = versions.all.iter().zip(standings);
        let mut outcomes: Vec<_> = all.filter_map(outcome).collect();
        outcomes.sort_unstable_by_key(|(record, ..)| *record);
        Self(outcomes)
    }

    /// Tells what is other than it was.
    pub(super) fn give_way(
        self,
        after: &Self,
        versions: &Versions,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        let outcome = |(record, content, outvoted)| {
            let usage = versions.usage(record, content);
            match outvoted {
                None => Outcome::Unique(usage),
                Some((reason, holds)) => Outcome::Outvoted(Suspense::of(&usage, reason, holds)),
            }
        };
        let (mut was, mut is) = (self.0.as_slice(), after.0.as_slice());
        let mut come = Vec::new();
        loop {
            let before = match (was.first(), is.first()) {
                (None, None) => break,
                (Some(old), Some(new)) if old == new => {
                    (was, is) = (&was[1..], &is[1..]);
                    continue;
                }
                (Some((old, ..)), Some((new, ..))) => old <= new,
                (Some(_), None) => true,
                (None, Some(_)) => false,
            };
            match before {
                true => {
                    emit(outcome(was[0]), -1);
                    was = &was[1..];
                }
                false => {
                    come.push(is[0]);
                    is = &is[1..];
                }
            }
        }
        // What goes is told before what comes.
        come.into_iter().for_each(|new| emit(outcome(new), 1));
    }
}

/// The record that an identity keeps, and what tells its content from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) record: RecordId,
    pub(super) content: u64,
}

impl Kept {
    pub(super) fn of(usage: &Usage) -> Self {
        Self {
            record: usage.record,
            content: usage.content(),
        }
    }
}
