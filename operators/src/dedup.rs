//! Of all records with one identity one holds: the first to arrive, unless marks say otherwise. Equal
//! copies of it are duplicates, another content is told.
//!
//! - **In:** `usage: Usage`, `replaced: Replacement`, on every worker
//! - **Out:** `unique: Usage`, `outvoted: Suspense` (of the reasons of the dedup stage, naming the record
//!   that holds)
//! - **Key:** `Identity`, exchanged; 128 bits, so a chance collision is not a concern at any volume
//! - **Time:** first means smallest (arrival epoch, source position); records arrive in the order of
//!   their positions, so the choice does not depend on how the input is cut into epochs. Event time
//!   plays no part: a changed timestamp does not hide a duplicate. Epochs before `live` hold what an
//!   earlier run took in, of many epochs, in the order of arrival
//! - **Cost per change:** O(1); of a retraction, or where marks decide, O(the records of its identity)
//! - **State:** identity, position and digest of the content of each kept record (32 bytes, 8 of them
//!   for the digest), and the others whole, so that the next can step forward when the kept one is
//!   retracted. Where marks decide, every record whole, about 200 bytes each. Freed by retraction
//! - **Invariants:** each identity that is present has exactly one record in `unique`
//!
//! A custom operator and not `reduce`: that would hold every record twice, in and out.

mod versions;

use crate::domain::{FileId, Identity, Mark, Reason, RecordId, Suspense, Usage};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, shard};
use crate::keymap::WideMap;
use crate::stats::NodeStats;
use differential_dataflow::AsCollection;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast as _;
use versions::{Standing, Version, newest, stand};

/// A file, and the one that came in its place: records of the first whose identities the second has no
/// more are taken out.
pub type Replacement = (FileId, FileId);

/// What [`dedup`] makes of usage.
pub struct Deduplicated<'scope> {
    /// The first record of each identity.
    pub unique: Collection<'scope, Usage>,
    /// The others.
    pub outvoted: Collection<'scope, Suspense>,
    /// The identities of this worker, for whoever reads between steps.
    pub open: OpenIdentities,
}

/// A record of an identity, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVersion {
    /// The record.
    pub record: RecordId,
    /// What decides between it and the others, where that is more than who came first.
    pub mark: Option<Mark>,
    /// Why it does not hold, and because of which record; nothing if it does.
    pub outvoted: Option<(Reason, Option<RecordId>)>,
    /// The record itself, where it is held.
    pub usage: Option<Usage>,
}

/// Reads the identities of one worker, as of the last complete epoch.
#[derive(Clone)]
pub struct OpenIdentities(Rc<RefCell<Seen>>);

impl OpenIdentities {
    /// All records of an identity that this worker has.
    #[must_use]
    pub fn versions(&self, identity: Identity) -> Vec<KnownVersion> {
        let seen = self.0.borrow();
        let kept = seen.kept.get(identity).copied();
        let first = kept.map(|kept| KnownVersion {
            record: kept.record,
            mark: None,
            outvoted: None,
            usage: None,
        });
        let waiting = seen.waiting.get(&identity).into_iter();
        let waiting = waiting.flat_map(BTreeMap::values).filter_map(|usage| {
            let row = kept?.outvotes(usage);
            Some(KnownVersion {
                record: usage.record,
                mark: None,
                outvoted: Some((row.reason, row.original)),
                usage: Some(usage.clone()),
            })
        });
        let whole = seen.whole.get(identity).map_or(&[][..], Vec::as_slice);
        let standings = whole.iter().zip(stand(whole, &seen.replaced));
        let whole = standings.map(|(version, standing)| KnownVersion {
            record: version.usage.record,
            mark: Some(version.mark),
            outvoted: match standing {
                Standing::Holds => None,
                Standing::Outvoted(reason, holds) => Some((reason, holds)),
            },
            usage: Some(version.usage.clone()),
        });
        first.into_iter().chain(waiting).chain(whole).collect()
    }

    /// Visits the record of each identity that holds: in the order of identities those of streams that
    /// keep the first, and then the others.
    pub fn visit(&self, mut visit: impl FnMut(Identity, RecordId)) {
        let seen = self.0.borrow();
        for identity in seen.kept.sorted_keys() {
            if let Some(kept) = seen.kept.get(identity) {
                visit(identity, kept.record);
            }
        }
        for identity in seen.whole.sorted_keys() {
            let versions = seen.whole.get(identity).map_or(&[][..], Vec::as_slice);
            if let Some(held) = Outcomes::of(versions, &seen.replaced).holds {
                visit(identity, held.record);
            }
        }
    }
}

/// Keeps the first record of each identity; see the module.
pub fn dedup<'scope>(
    usage: Collection<'scope, Usage>,
    replaced: Collection<'scope, Replacement>,
    live: Epoch,
    stats: Arc<NodeStats>,
) -> Deduplicated<'scope> {
    let mut builder = OperatorBuilder::new("dedup".to_owned(), usage.scope());
    let route = Exchange::new(|(usage, _, _): &(Usage, Epoch, Diff)| shard(usage.identity.0[0]));
    let mut input = builder.new_input(usage.inner, route);
    let mut replaced_input = builder.new_input(replaced.inner.broadcast(), Pipeline);
    let (unique_output, unique) = builder.new_output();
    let (outvoted_output, outvoted) = builder.new_output();
    let mut unique_output = OutputBuilder::from(unique_output);
    let mut outvoted_output = OutputBuilder::from(outvoted_output);

    let state = Rc::new(RefCell::new(Seen::new(live)));
    let open = OpenIdentities(Rc::clone(&state));
    builder.build(move |_| {
        let mut rights = Rights::default();
        let mut pending = Pending::default();
        let mut pending_files: Pending<Replacement> = Pending::default();
        move |frontiers| {
            input.for_each(|capability, updates| {
                rights.keep(&capability, 2);
                pending.stash(updates);
            });
            replaced_input.for_each(|capability, updates| {
                rights.keep(&capability, 2);
                pending_files.stash(updates);
            });
            let mut unique_output = unique_output.activate();
            let mut outvoted_output = outvoted_output.activate();
            let first = |pending: &Pending<Usage>, files: &Pending<Replacement>| {
                let epochs = [pending.first(), files.first()];
                epochs.into_iter().flatten().min()
            };
            while let Some(epoch) =
                first(&pending, &pending_files).filter(|epoch| complete(frontiers, *epoch))
            {
                let changes = pending.take(epoch);
                let files = pending_files.take(epoch);
                let received = changes.len();
                let (unique_right, outvoted_right) = (rights.at(0, epoch), rights.at(1, epoch));
                let mut unique = unique_output.session(&unique_right);
                let mut outvoted = outvoted_output.session(&outvoted_right);
                let (mut kept, mut dropped) = (0, 0);
                let mut seen = state.borrow_mut();
                seen.apply(epoch, changes, files, &mut |outcome, diff| match outcome {
                    Outcome::Unique(usage) => {
                        kept += 1;
                        unique.give((usage, epoch, diff));
                    }
                    Outcome::Outvoted(suspense) => {
                        dropped += 1;
                        outvoted.give((suspense, epoch, diff));
                    }
                });
                stats.count(received, kept, dropped);
                let identities = seen.kept.len().saturating_add(seen.whole.len());
                stats.set_state(identities, seen.bytes());
            }
            rights.advance(first(&pending, &pending_files));
        }
    });
    Deduplicated {
        unique: unique.as_collection(),
        outvoted: outvoted.as_collection(),
        open,
    }
}

enum Outcome {
    Unique(Usage),
    Outvoted(Suspense),
}

/// The kernel: which record each identity keeps.
#[derive(Default)]
struct Seen {
    live: Epoch,
    kept: WideMap<Identity, Kept>,
    /// Duplicates in order of arrival; identities without duplicates have no entry.
    waiting: BTreeMap<Identity, BTreeMap<Arrival, Usage>>,
    /// Duplicates met before `live`.
    loaded: u64,
    /// All records of identities where more than the order of arrival decides.
    whole: WideMap<Identity, Vec<Version>>,
    /// The file that came in place of each, where what it has no more is taken out.
    replaced: BTreeMap<FileId, FileId>,
}

/// When a record arrived: its epoch, and its place in it.
type Arrival = (Epoch, u64);

impl Seen {
    fn new(live: Epoch) -> Self {
        Self {
            live,
            ..Self::default()
        }
    }

    /// Applies the changes of one epoch.
    fn apply(
        &mut self,
        epoch: Epoch,
        mut changes: Vec<(Usage, Diff)>,
        files: Vec<(Replacement, Diff)>,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        let mut look = Look::at(&changes);
        let mut marked = Vec::new();
        if self.whole.len() > 0 || look.marked {
            let whole = |(usage, _): &(Usage, Diff)| {
                usage.mark.is_some() || self.whole.get(usage.identity).is_some()
            };
            (marked, changes) = changes.into_iter().partition(whole);
            look = Look::at(&changes);
        }
        self.apply_plain(epoch, changes, look, emit);
        // Where the first was kept without its content, it stays, and another is told.
        let plain = |(usage, _): &(Usage, Diff)| self.kept.get(usage.identity).is_some();
        let (mut plain, marked): (Vec<_>, Vec<_>) = marked.into_iter().partition(plain);
        plain.iter_mut().for_each(|(usage, _)| usage.mark = None);
        let look = Look::at(&plain);
        self.apply_plain(epoch, plain, look, emit);
        self.apply_whole(epoch, marked, files, emit);
    }

    /// Applies the changes of identities that keep the first.
    fn apply_plain(
        &mut self,
        epoch: Epoch,
        mut changes: Vec<(Usage, Diff)>,
        look: Look,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        if look.retracts {
            // With retractions, all changes of one identity are settled together: a record that is
            // taken away and put back amended keeps its place in the order of arrival.
            for (identity, Change { removed, added }) in self.by_identity(epoch, changes) {
                self.amend(epoch, identity, removed, added, emit);
            }
            return;
        }
        // Arrival order is position order, so this is usually sorted already.
        if epoch >= self.live && !look.sorted {
            changes.sort_by_cached_key(|(usage, _)| usage.record);
        }
        // Digests beforehand: the shorter the way from one look at the table to the next, the more of them
        // wait for memory at once.
        let contents: Vec<u64> = changes.iter().map(|(usage, _)| usage.content()).collect();
        for ((usage, _), content) in changes.into_iter().zip(contents) {
            self.insert(epoch, usage, content, emit);
        }
    }

    /// Applies the changes of identities of which all records are held.
    fn apply_whole(
        &mut self,
        epoch: Epoch,
        changes: Vec<(Usage, Diff)>,
        mut files: Vec<(Replacement, Diff)>,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        let mut changes = self.by_identity(epoch, changes);
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
            let mut versions = self.whole.remove(identity).unwrap_or_default();
            let before = Outcomes::of(&versions, &replaced);
            let mut places = Vec::new();
            for usage in removed {
                let at = versions.iter().position(|v| v.usage.record == usage.record);
                let at = at.expect("a retracted record was inserted before");
                let gone = versions.remove(at);
                places.push((usage.record, gone.arrival));
            }
            for mut usage in added {
                let place = places.iter().find(|(record, _)| *record == usage.record);
                let arrival = match place {
                    Some((_, arrival)) => *arrival,
                    None => self.arrival(epoch, usage.record),
                };
                let mark = usage.mark.take().map(|mark| *mark).unwrap_or_default();
                versions.push(Version {
                    arrival,
                    mark,
                    content: usage.content(),
                    usage,
                });
            }
            before.give_way(&Outcomes::of(&versions, &self.replaced), emit);
            if !versions.is_empty() {
                versions.shrink_to_fit();
                self.whole.insert(identity, versions);
            }
        }
    }

    /// The identities that have a record of a file change with what has come in its place at last. A file
    /// that comes again is rare enough to look at all of them.
    fn touch(&self, before: &BTreeMap<FileId, FileId>, changes: &mut BTreeMap<Identity, Change>) {
        for identity in self.whole.sorted_keys() {
            let mut versions = self.whole.get(identity).into_iter().flatten();
            let changed = |file| newest(file, before) != newest(file, &self.replaced);
            if versions.any(|version| changed(version.usage.record.file())) {
                changes.entry(identity).or_default();
            }
        }
    }

    /// Changes by identity, each in the order of arrival: that of records, where an epoch is as it was bound.
    fn by_identity(
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
    fn arrival(&mut self, epoch: Epoch, record: RecordId) -> Arrival {
        if epoch < self.live {
            self.loaded = self.loaded.saturating_add(1);
            (epoch, self.loaded)
        } else {
            (epoch, record.0)
        }
    }

    /// Puts a record of this content behind those of its identity; the first is kept.
    fn insert(
        &mut self,
        epoch: Epoch,
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
                emit(Outcome::Outvoted(kept.outvotes(&usage)), 1);
                self.wait(epoch, usage);
            }
        }
    }

    /// Puts a record behind those of its identity that came before.
    fn wait(&mut self, epoch: Epoch, usage: Usage) {
        let arrival = self.arrival(epoch, usage.record);
        let waiting = self.waiting.entry(usage.identity).or_default();
        waiting.insert(arrival, usage);
    }

    /// Settles the changes of one identity: what it came to before goes, what it comes to now comes.
    fn amend(
        &mut self,
        epoch: Epoch,
        identity: Identity,
        removed: Vec<Usage>,
        mut added: Vec<Usage>,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        let before = self.outvoted(identity);
        let kept = self.kept.get(identity).copied();
        let mut waiting = self.waiting.remove(&identity).unwrap_or_default();
        let mut steps_forward = false;
        for usage in removed {
            let again = added.iter().position(|new| new.record == usage.record);
            let again = again.map(|at| added.remove(at));
            if kept.is_some_and(|kept| kept.record == usage.record) {
                emit(Outcome::Unique(usage), -1);
                if let Some(amended) = again {
                    self.kept.insert(identity, Kept::of(&amended));
                    emit(Outcome::Unique(amended), 1);
                } else {
                    self.kept.remove(identity);
                    steps_forward = true;
                }
                continue;
            }
            let mut places = waiting.iter();
            let place = places.find(|(_, held)| held.record == usage.record);
            let place = *place
                .map(|(place, _)| place)
                .expect("a retracted record was inserted before");
            match again {
                Some(amended) => waiting.insert(place, amended),
                None => waiting.remove(&place),
            };
        }
        if steps_forward && let Some((_, next)) = waiting.pop_first() {
            self.kept.insert(identity, Kept::of(&next));
            emit(Outcome::Unique(next), 1);
        }
        if !waiting.is_empty() {
            self.waiting.insert(identity, waiting);
        }
        for usage in added {
            match self.kept.insert_new(identity, Kept::of(&usage)) {
                None => emit(Outcome::Unique(usage), 1),
                Some(_) => self.wait(epoch, usage),
            }
        }
        let after = self.outvoted(identity);
        for row in before.difference(&after) {
            emit(Outcome::Outvoted(*row), -1);
        }
        for row in after.difference(&before) {
            emit(Outcome::Outvoted(*row), 1);
        }
    }

    /// The records of an identity that do not hold, each with the one that does.
    fn outvoted(&self, identity: Identity) -> BTreeSet<Suspense> {
        let (Some(kept), Some(waiting)) = (self.kept.get(identity), self.waiting.get(&identity))
        else {
            return BTreeSet::new();
        };
        waiting.values().map(|usage| kept.outvotes(usage)).collect()
    }

    fn bytes(&self) -> usize {
        let duplicate = size_of::<(Arrival, Usage)>();
        let versions = self.whole.len().saturating_mul(size_of::<Version>());
        self.kept
            .bytes()
            .saturating_add(self.whole.bytes())
            .saturating_add(versions)
            .saturating_add(self.waiting.len().saturating_mul(duplicate))
    }
}

/// What is among the changes of an epoch, found in one walk through them.
#[derive(Clone, Copy)]
struct Look {
    /// A record with a mark.
    marked: bool,
    /// A record that is taken back.
    retracts: bool,
    /// Nothing that stands before a record with a smaller position.
    sorted: bool,
}

impl Look {
    fn at(changes: &[(Usage, Diff)]) -> Self {
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

/// What an epoch takes back and brings of one identity.
#[derive(Default)]
struct Change {
    removed: Vec<Usage>,
    added: Vec<Usage>,
}

/// What the records of one identity come to.
#[derive(Default)]
struct Outcomes {
    holds: Option<Usage>,
    outvoted: BTreeSet<Suspense>,
}

impl Outcomes {
    fn of(versions: &[Version], replaced: &BTreeMap<FileId, FileId>) -> Self {
        let mut outcomes = Self::default();
        for (version, standing) in versions.iter().zip(stand(versions, replaced)) {
            match standing {
                Standing::Holds => outcomes.holds = Some(version.usage.clone()),
                Standing::Outvoted(reason, holds) => {
                    let row = Suspense::of(&version.usage, reason, holds);
                    outcomes.outvoted.insert(row);
                }
            }
        }
        outcomes
    }

    /// Tells what is other than it was.
    fn give_way(self, after: &Self, emit: &mut impl FnMut(Outcome, Diff)) {
        for row in self.outvoted.difference(&after.outvoted) {
            emit(Outcome::Outvoted(*row), -1);
        }
        for row in after.outvoted.difference(&self.outvoted) {
            emit(Outcome::Outvoted(*row), 1);
        }
        if self.holds != after.holds {
            let gone = self.holds.into_iter();
            gone.for_each(|usage| emit(Outcome::Unique(usage), -1));
            let come = after.holds.iter().cloned();
            come.for_each(|usage| emit(Outcome::Unique(usage), 1));
        }
    }
}

/// The record that an identity keeps, and what tells its content from another.
#[derive(Clone, Copy, Debug)]
struct Kept {
    record: RecordId,
    content: u64,
}

impl Kept {
    fn of(usage: &Usage) -> Self {
        Self {
            record: usage.record,
            content: usage.content(),
        }
    }

    /// What becomes of another record of the identity.
    fn outvotes(self, usage: &Usage) -> Suspense {
        let reason = match usage.content() == self.content {
            true => Reason::Duplicate,
            false => Reason::Conflict,
        };
        Suspense::of(usage, reason, Some(self.record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClassKey, EventTime, ServiceKey};

    fn usage(record: u64, time: i64, mark: Option<Mark>) -> Usage {
        Usage {
            record: RecordId(record),
            identity: Identity([7, 7]),
            service: ServiceKey(1),
            class: ClassKey(1),
            time: EventTime(time),
            quantities: [1].into_iter().collect(),
            mark: mark.map(Box::new),
        }
    }

    /// Partitions are read side by side, so the first to arrive need not have the smallest position.
    #[test]
    fn what_is_loaded_keeps_the_order_of_arrival() {
        for mark in [None, Some(Mark::default())] {
            let mut seen = Seen::new(5);
            let changes = vec![(usage(9, 1, mark), 1), (usage(2, 2, mark), 1)];
            let mut holds = Vec::new();
            seen.apply(3, changes, Vec::new(), &mut |outcome, diff| {
                if let Outcome::Unique(usage) = outcome {
                    holds.push((usage.record.0, diff));
                }
            });
            assert_eq!(holds, [(9, 1)], "{mark:?}");
        }
    }
}
