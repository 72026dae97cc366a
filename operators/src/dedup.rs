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
//!   for the digest); the position of every other, two to six bytes, so that the next can step forward
//!   when the kept one is retracted; and one of the others whole for each content that is not the kept
//!   record's. What an equal copy says is what whoever retracts the kept record brings. Where marks
//!   decide, each content of an identity whole, and a few bytes of each record. Freed by retraction
//! - **Invariants:** each identity that is present has at most one record in `unique`, and exactly one where
//!   nothing is taken out or passed over
//!
//! A custom operator and not `reduce`: that would hold every record twice, in and out.

mod copies;
mod court;
mod pack;
mod versions;

use crate::domain::{FileId, Identity, Mark, Reason, RecordId, Suspense, Usage};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, shard};
use crate::keymap::WideMap;
use crate::stats::NodeStats;
use copies::{Copies, Copy as Outvoted};
use court::Court;
use differential_dataflow::AsCollection;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast as _;
use versions::{Packed, Standing, Version, Versions, newest, stand};

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
        let others = kept
            .into_iter()
            .flat_map(|kept| seen.copies.of(kept.record));
        let others = others.map(|other| {
            let content = other.differs.map(|content| (identity, content));
            let usage = content.and_then(|content| seen.contents.get(&content));
            KnownVersion {
                record: other.record,
                mark: None,
                outvoted: Some((reason_of(other.differs), Some(other.kept))),
                usage: usage.map(|usage| of_record(usage, other.record)),
            }
        });
        let whole = seen.whole.get(identity).into_iter();
        let whole = whole.flat_map(|packed| {
            let all: Vec<Version> = packed.all().collect();
            let standings = stand(&all, &seen.replaced);
            let told = move |(version, standing): (Version, Standing)| KnownVersion {
                record: version.record,
                mark: Some(version.mark),
                outvoted: match standing {
                    Standing::Holds | Standing::PassedOver => None,
                    Standing::Outvoted(reason, holds) => Some((reason, holds)),
                },
                usage: Some(packed.usage(&version)),
            };
            all.into_iter().zip(standings).map(told)
        });
        first.into_iter().chain(others).chain(whole).collect()
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
            let all = seen.whole.get(identity).into_iter().flat_map(Packed::all);
            let all: Vec<Version> = all.collect();
            let mut standings = all.iter().zip(stand(&all, &seen.replaced));
            if let Some((held, _)) = standings.find(|(_, stands)| *stands == Standing::Holds) {
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
    /// The others, in order of arrival.
    copies: Copies,
    /// Those of this epoch.
    fresh: Vec<Outvoted>,
    /// Contents that others have and the kept record has not, by their digests: a record of each.
    contents: BTreeMap<(Identity, u64), Usage>,
    /// Records met before `live` of identities of which all are held.
    loaded: u64,
    /// All records of identities where more than the order of arrival decides.
    whole: WideMap<Identity, Packed>,
    /// What they take outside of the table.
    whole_bytes: usize,
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
    fn insert_all(
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
    fn insert_plain(
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
    fn settle(
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
    fn apply_whole(
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
    fn touch(&self, before: &BTreeMap<FileId, FileId>, changes: &mut BTreeMap<Identity, Change>) {
        for identity in self.whole.sorted_keys() {
            let mut versions = self.whole.get(identity).into_iter().flat_map(Packed::all);
            let changed = |file| newest(file, before) != newest(file, &self.replaced);
            if versions.any(|version| changed(version.record.file())) {
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
    fn insert(&mut self, usage: Usage, content: u64, emit: &mut impl FnMut(Outcome, Diff)) {
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

    fn bytes(&self) -> usize {
        let content = size_of::<((Identity, u64), Usage)>();
        self.kept
            .bytes()
            .saturating_add(self.whole.bytes())
            .saturating_add(self.whole_bytes)
            .saturating_add(self.copies.bytes())
            .saturating_add(self.contents.len().saturating_mul(content))
    }
}

/// Why a record does not hold, where its content differs from that of the one that does or not.
fn reason_of(differs: Option<u64>) -> Reason {
    match differs {
        None => Reason::Duplicate,
        Some(_) => Reason::Conflict,
    }
}

/// What another record of the same identity and content is.
fn of_record(usage: &Usage, record: RecordId) -> Usage {
    Usage {
        record,
        ..usage.clone()
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

impl Change {
    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Drops what is passed over.
    fn drop_passed_over(&mut self) {
        self.removed.retain(|usage| !usage.is_passed_over());
        self.added.retain(|usage| !usage.is_passed_over());
    }

    /// Takes out what has a mark.
    fn split_off_marked(&mut self) -> Self {
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

    fn unmark(&mut self) {
        let all = self.removed.iter_mut().chain(&mut self.added);
        all.for_each(|usage| usage.mark = None);
    }
}

/// Why a record does not hold, and because of which.
type WhyNot = (Reason, Option<RecordId>);

/// What becomes of the records of one identity, each with its content, in the order of the records; of those
/// that are passed over nothing does.
struct Outcomes(Vec<(RecordId, usize, Option<WhyNot>)>);

impl Outcomes {
    fn of(versions: &Versions, replaced: &BTreeMap<FileId, FileId>) -> Self {
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
    fn give_way(self, after: &Self, versions: &Versions, emit: &mut impl FnMut(Outcome, Diff)) {
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
}

#[cfg(test)]
mod tests;
