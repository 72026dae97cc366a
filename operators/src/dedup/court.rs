//! The records of one identity that keeps the first, while changes of it are settled: who steps forward, and what is
//! told of the others.

use super::copies::Copy as Outvoted;
use super::outcome::{Change, Kept, Outcome, of_record, reason_of};
use super::seen::Seen;
use crate::domain::{Identity, RecordId, Suspense, Usage};
use crate::epoch::Diff;
use std::collections::{BTreeMap, BTreeSet};

/// The records of an identity that keeps the first, while changes of it are settled.
pub(super) struct Court {
    identity: Identity,
    pub(super) kept: Option<Kept>,
    /// The others, in order of arrival.
    others: Vec<Other>,
    /// A record of each content, by its digest: of that of the kept record, as soon as one is brought.
    contents: BTreeMap<u64, Usage>,
}

/// A record that is not kept, with the digests of what it says.
#[derive(Clone, Copy)]
struct Other {
    record: RecordId,
    /// Before the changes; nothing where it was not there, or was kept.
    was: Option<u64>,
    /// Behind them.
    is: Option<u64>,
}

impl Court {
    pub(super) fn open(seen: &mut Seen, identity: Identity) -> Self {
        let kept = seen.kept.get(identity).copied();
        let held = seen.contents.range((identity, 0)..=(identity, u64::MAX));
        let held: Vec<_> = held.map(|(key, _)| *key).collect();
        let held = held.into_iter().filter_map(|key| {
            let usage = seen.contents.remove(&key)?;
            Some((key.1, usage))
        });
        let contents = held.collect();
        let others = kept.into_iter().flat_map(|kept| {
            let others = seen.copies.take(kept.record).into_iter();
            others.map(move |other| {
                let content = Some(other.differs.unwrap_or(kept.content));
                Other {
                    record: other.record,
                    was: content,
                    is: content,
                }
            })
        });
        Self {
            identity,
            kept,
            others: others.collect(),
            contents,
        }
    }

    /// The digest of what a record says, which is known from now on.
    fn learn(&mut self, usage: &Usage) -> u64 {
        let content = usage.content();
        let known = self.contents.entry(content);
        known.or_insert_with(|| usage.clone());
        content
    }

    /// A record as it is known by what an equal one says.
    fn usage(&self, record: RecordId, content: u64) -> Usage {
        let known = self.contents.get(&content);
        let known = known.expect("the kept record is brought by what takes it back");
        of_record(known, record)
    }

    /// Settles changes: what the identity came to before goes, what it comes to now comes.
    pub(super) fn settle(&mut self, change: Change, emit: &mut impl FnMut(Outcome, Diff)) {
        let before = self.kept;
        let gone: BTreeSet<RecordId> = change.removed.iter().map(|usage| usage.record).collect();
        let (again, added): (Vec<_>, Vec<_>) = change
            .added
            .into_iter()
            .partition(|usage| gone.contains(&usage.record));
        let again = again.into_iter().map(|usage| (usage.record, usage));
        let mut again: BTreeMap<RecordId, Usage> = again.collect();
        let places = self.others.iter().map(|other| other.record).zip(0_usize..);
        let mut places: Vec<(RecordId, usize)> = places.collect();
        places.sort_unstable();
        let mut steps_forward = false;
        for usage in change.removed {
            self.learn(&usage);
            let again = again.remove(&usage.record);
            if before.is_some_and(|kept| kept.record == usage.record) {
                self.kept = again.as_ref().map(Kept::of);
                steps_forward = again.is_none();
                emit(Outcome::Unique(usage), -1);
                if let Some(usage) = again {
                    self.learn(&usage);
                    emit(Outcome::Unique(usage), 1);
                }
                continue;
            }
            // One that has lost its mark is there twice until the other goes, which came first.
            let first = places.partition_point(|(record, _)| *record < usage.record);
            let mut found = places[first..].iter();
            let found = found.find(|(_, at)| self.others[*at].is.is_some());
            let found = found.filter(|(record, _)| *record == usage.record);
            let (_, at) = found.expect("a retracted record was inserted before");
            self.others[*at].is = again.map(|usage| self.learn(&usage));
        }
        if steps_forward && let Some(next) = self.others.iter_mut().find(|o| o.is.is_some()) {
            let (record, content) = (next.record, next.is.take().unwrap_or_default());
            let next = self.usage(record, content);
            self.kept = Some(Kept { record, content });
            emit(Outcome::Unique(next), 1);
        }
        for usage in added {
            let (record, content) = (usage.record, self.learn(&usage));
            if self.kept.is_none() {
                self.kept = Some(Kept { record, content });
                emit(Outcome::Unique(usage), 1);
                continue;
            }
            self.others.push(Other {
                record,
                was: None,
                is: Some(content),
            });
        }
        let stays = before == self.kept;
        for other in &self.others {
            if stays && other.was == other.is {
                continue;
            }
            let row = |kept: Option<Kept>, content: Option<u64>| {
                let (kept, content) = (kept?, content?);
                let reason = reason_of((content != kept.content).then_some(content));
                let usage = self.usage(other.record, content);
                Some(Suspense::of(&usage, reason, Some(kept.record)))
            };
            let (was, is) = (row(before, other.was), row(self.kept, other.is));
            if was != is {
                let was = was.into_iter();
                was.for_each(|row| emit(Outcome::Outvoted(row), -1));
                let is = is.into_iter();
                is.for_each(|row| emit(Outcome::Outvoted(row), 1));
            }
        }
        self.others.retain(|other| other.is.is_some());
        let others = self.others.iter_mut();
        others.for_each(|other| other.was = other.is);
    }

    /// Puts the records back. Contents that none has any more go, and so does that of the kept record.
    pub(super) fn close(mut self, seen: &mut Seen) {
        let Some(kept) = self.kept else {
            seen.kept.remove(self.identity);
            return;
        };
        seen.kept.insert(self.identity, kept);
        for other in self.others {
            let differs = other.is.filter(|content| *content != kept.content);
            if let Some(content) = differs
                && let Some(usage) = self.contents.remove(&content)
            {
                seen.contents.insert((self.identity, content), usage);
            }
            seen.fresh.push(Outvoted {
                kept: kept.record,
                record: other.record,
                differs,
            });
        }
    }
}
