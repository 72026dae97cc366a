//! The kernel: which record each identity keeps.

use super::copies::{Copies, Copy as Outvoted};
use super::court::Court;
use super::outcome::{Change, Kept, Outcome, Outcomes, Replacement, reason_of};
use super::versions::{Packed, Version, newest};
use crate::domain::{FileId, Identity, RecordId, Suspense, Usage};
use crate::epoch::{Diff, Epoch};
use crate::keymap::WideMap;
use std::collections::{BTreeMap, BTreeSet};

/// The kernel: which record each identity keeps.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) live: Epoch,
    pub(super) kept: WideMap<Identity, Kept>,
    /// The others, in order of arrival.
    pub(super) copies: Copies,
    /// Those of this epoch.
    pub(super) fresh: Vec<Outvoted>,
    /// Contents that others have and the kept record has not, by their digests: a record of each.
    pub(super) contents: BTreeMap<(Identity, u64), Usage>,
    /// Records met before `live` of identities of which all are held.
    pub(super) loaded: u64,
    /// All records of identities where more than the order of arrival decides.
    pub(super) whole: WideMap<Identity, Packed>,
    /// What they take outside of the table.
    pub(super) whole_bytes: usize,
    /// The file that came in place of each, where what it has no more is taken out.
    pub(super) replaced: BTreeMap<FileId, FileId>,
}

/// When a record arrived: its epoch, and its place in it.
pub(super) type Arrival = (Epoch, u64);

impl Seen {
    pub(super) fn new(live: Epoch) -> Self {
        Self {
            live,
            ..Self::default()
        }
    }

    /// Applies the changes of one epoch.
    pub(super) fn apply(
        &mut self,
        epoch: Epoch,
        changes: Vec<(Usage, Diff)>,
        files: Vec<(Replacement, Diff)>,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        let look = Look::at(&changes);
        let marked = match look.retracts {
            true => self.settle(epoch, changes, emit),
            false => self.insert_all(epoch, changes, look, emit),
        };
        self.apply_whole(marked, epoch, files, emit);
        if !self.fresh.is_empty() {
            self.copies.extend(std::mem::take(&mut self.fresh));
        }
    }

    /// Applies the changes of an epoch that takes nothing back, and hands out those of identities of which all
    /// records are held.
    pub(super) fn insert_all(
        &mut self,
        epoch: Epoch,
        mut changes: Vec<(Usage, Diff)>,
        look: Look,
        emit: &mut impl FnMut(Outcome, Diff),
    ) -> BTreeMap<Identity, Change> {
        let mut marked = Vec::new();
        if self.whole.len() > 0 || look.marked {
            let whole = |(usage, _): &(Usage, Diff)| {
                usage.mark.is_some() || self.whole.get(usage.identity).is_some()
            };
            (marked, changes) = changes.into_iter().partition(whole);
        }
        self.insert_plain(epoch, changes, look.sorted, emit);
        // Where the first was kept without its content, it stays, and another is told.
        let plain = |(usage, _): &(Usage, Diff)| self.kept.get(usage.identity).is_some();
        let (mut plain, marked): (Vec<_>, Vec<_>) = marked.into_iter().partition(plain);
        plain.retain(|(usage, _)| !usage.is_passed_over());
        plain.iter_mut().for_each(|(usage, _)| usage.mark = None);
        self.insert_plain(epoch, plain, look.sorted, emit);
        self.by_identity(epoch, marked)
    }

    /// Applies records of identities that keep the first.
    pub(super) fn insert_plain(
        &mut self,
        epoch: Epoch,
        mut changes: Vec<(Usage, Diff)>,
        sorted: bool,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        // Arrival order is position order, so this is usually sorted already.
        if epoch >= self.live && !sorted {
            changes.sort_by_cached_key(|(usage, _)| usage.record);
        }
        // Digests beforehand: the shorter the way from one look at the table to the next, the more of them
        // wait for memory at once.
        let contents: Vec<u64> = changes.iter().map(|(usage, _)| usage.content()).collect();
        for ((usage, _), content) in changes.into_iter().zip(contents) {
            self.insert(usage, content, emit);
        }
    }

    /// Applies the changes of an epoch that takes something back, and hands out those of identities of which
    /// all records are held. All changes of one identity are settled together: a record that is taken away and
    /// put back amended keeps its place in the order of arrival.
    pub(super) fn settle(
        &mut self,
        epoch: Epoch,
        changes: Vec<(Usage, Diff)>,
        emit: &mut impl FnMut(Outcome, Diff),
    ) -> BTreeMap<Identity, Change> {
        let mut whole = BTreeMap::new();
        for (identity, mut change) in self.by_identity(epoch, changes) {
            if self.whole.get(identity).is_some() {
                whole.insert(identity, change);
                continue;
            }
            let mut marked = change.split_off_marked();
            if change.removed.is_empty() && marked.is_empty() {
                for usage in change.added {
                    let content = usage.content();
                    self.insert(usage, content, emit);
                }
                continue;
            }
            let mut court = Court::open(self, identity);
            if !change.is_empty() {
                court.settle(change, emit);
            }
            // Where the first was kept without its content, it stays, and another is told.
            if !marked.is_empty() {
                match court.kept {
                    Some(_) => {
                        marked.drop_passed_over();
                        marked.unmark();
                        court.settle(marked, emit);
                    }
                    None => drop(whole.insert(identity, marked)),
                }
            }
            court.close(self);
        }
        whole
    }

    /// Applies the changes of identities of which all records are held.
    pub(super) fn apply_whole(
        &mut self,
        mut changes: BTreeMap<Identity, Change>,
        epoch: Epoch,
        mut files: Vec<(Replacement, Diff)>,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        let replaced = self.replaced.clone();
        // What is taken back goes before what comes in its place.
        files.sort_by_key(|(_, diff)| *diff > 0);
        for ((old, new), diff) in files {
            match diff > 0 {
                true => self.replaced.insert(old, new),
                false => self.replaced.remove(&old),
            };
        }
        if replaced != self.replaced {
            self.touch(&replaced, &mut changes);
        }
        for (identity, Change { removed, added }) in changes {
            let packed = self.whole.remove(identity).unwrap_or_default();
            self.whole_bytes = self.whole_bytes.saturating_sub(packed.bytes());
            let mut versions = packed.open();
            let before = Outcomes::of(&versions, &replaced);
            let mut places = BTreeMap::new();
            if !removed.is_empty() {
                let going: BTreeSet<RecordId> = removed.iter().map(|usage| usage.record).collect();
                versions.all.retain(|version| {
                    let goes = going.contains(&version.record);
                    if goes {
                        places.insert(version.record, version.arrival);
                    }
                    !goes
                });
                // What was passed over before its stream could be corrected never came.
                let came =
                    |usage: &&Usage| places.contains_key(&usage.record) || usage.is_passed_over();
                assert!(
                    removed.iter().all(|usage| came(&usage)),
                    "a retracted record was inserted before"
                );
            }
            let known = versions.contents.iter().map(Usage::content);
            let mut numbers: BTreeMap<u64, usize> = known.zip(0..).collect();
            for mut usage in added {
                let record = usage.record;
                let arrival = match places.get(&record) {
                    Some(arrival) => *arrival,
                    None => self.arrival(epoch, record),
                };
                let passed_over = usage.is_passed_over();
                let mark = usage.mark.take().map(|mark| *mark).unwrap_or_default();
                let content = *numbers.entry(usage.content()).or_insert_with(|| {
                    versions.contents.push(usage);
                    versions.contents.len().saturating_sub(1)
                });
                versions.all.push(Version {
                    arrival,
                    mark,
                    record,
                    content,
                    passed_over,
                });
            }
            before.give_way(&Outcomes::of(&versions, &self.replaced), &versions, emit);
            if !versions.all.is_empty() {
                let packed = versions.pack();
                self.whole_bytes = self.whole_bytes.saturating_add(packed.bytes());
                self.whole.insert(identity, packed);
            }
        }
    }

    /// The identities that have a record of a file change with what has come in its place at last. A file
    /// that comes again is rare enough to look at all of them.
    pub(super) fn touch(
        &self,
        before: &BTreeMap<FileId, FileId>,
        changes: &mut BTreeMap<Identity, Change>,
    ) {
        for identity in self.whole.sorted_keys() {
            let mut versions = self.whole.get(identity).into_iter().flat_map(Packed::all);
            let changed = |file| newest(file, before) != newest(file, &self.replaced);
            if versions.any(|version| changed(version.record.file())) {
                changes.entry(identity).or_default();
            }
        }
    }

    /// Changes by identity, each in the order of arrival: that of records, where an epoch is as it was bound.
    pub(super) fn by_identity(
        &self,
        epoch: Epoch,
        mut changes: Vec<(Usage, Diff)>,
    ) -> BTreeMap<Identity, Change> {
        if epoch >= self.live {
            changes.sort_by_key(|(usage, _)| usage.record);
        }
        let mut identities: BTreeMap<Identity, Change> = BTreeMap::new();
        for (usage, diff) in changes {
            let change = identities.entry(usage.identity).or_default();
            match diff {
                0.. => change.added.push(usage),
                _ => change.removed.push(usage),
            }
        }
        identities
    }

    /// When a record arrives.
    pub(super) fn arrival(&mut self, epoch: Epoch, record: RecordId) -> Arrival {
        if epoch < self.live {
            self.loaded = self.loaded.saturating_add(1);
            (epoch, self.loaded)
        } else {
            (epoch, record.0)
        }
    }

    /// Puts a record of this content behind those of its identity; the first is kept.
    pub(super) fn insert(
        &mut self,
        usage: Usage,
        content: u64,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        let record = usage.record;
        match self
            .kept
            .insert_new(usage.identity, Kept { record, content })
        {
            None => emit(Outcome::Unique(usage), 1),
            Some(&kept) => {
                assert_ne!(kept.record, usage.record, "a record was inserted twice");
                let differs = (content != kept.content).then_some(content);
                if let Some(content) = differs {
                    let content = self.contents.entry((usage.identity, content));
                    content.or_insert_with(|| usage.clone());
                }
                self.fresh.push(Outvoted {
                    kept: kept.record,
                    record,
                    differs,
                });
                let row = Suspense::of(&usage, reason_of(differs), Some(kept.record));
                emit(Outcome::Outvoted(row), 1);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let content = size_of::<((Identity, u64), Usage)>();
        self.kept
            .bytes()
            .saturating_add(self.whole.bytes())
            .saturating_add(self.whole_bytes)
            .saturating_add(self.copies.bytes())
            .saturating_add(self.contents.len().saturating_mul(content))
    }
}

/// What is among the changes of an epoch, found in one walk through them.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// A record with a mark.
    marked: bool,
    /// A record that is taken back.
    retracts: bool,
    /// Nothing that stands before a record with a smaller position.
    sorted: bool,
}

impl Look {
    pub(super) fn at(changes: &[(Usage, Diff)]) -> Self {
        let (mut marked, mut retracts, mut sorted) = (false, false, true);
        let mut last = RecordId::default();
        for (usage, diff) in changes {
            marked |= usage.mark.is_some();
            retracts |= *diff <= 0;
            sorted &= last <= usage.record;
            last = usage.record;
        }
        Self {
            marked,
            retracts,
            sorted,
        }
    }
}
