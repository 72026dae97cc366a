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
mod pack;
mod versions;

use crate::domain::{FileId, Identity, Mark, Reason, RecordId, Suspense, Usage};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, shard};
use crate::keymap::WideMap;
use crate::stats::NodeStats;
use copies::{Copies, Copy as Outvoted};
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

/// The records of an identity that keeps the first, while changes of it are settled.
struct Court {
    identity: Identity,
    kept: Option<Kept>,
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
    fn open(seen: &mut Seen, identity: Identity) -> Self {
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
    fn settle(&mut self, change: Change, emit: &mut impl FnMut(Outcome, Diff)) {
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
    fn close(mut self, seen: &mut Seen) {
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
mod tests {
    use super::*;
    use crate::domain::{ClassKey, EventTime, Keep, Kind, Rank, ServiceKey};
    use proptest::prelude::*;

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

    /// All records of an identity, plainly: in the order of arrival where the first holds, and with when
    /// each arrived.
    #[derive(Clone, Default)]
    struct Model {
        whole: bool,
        records: Vec<(Usage, Arrival)>,
    }

    impl Model {
        fn change(&mut self, epoch: Epoch, removed: &[Usage], added: &[Usage]) {
            for old in removed {
                let mut held = self.records.iter();
                let at = held
                    .position(|(held, _)| held.record == old.record)
                    .unwrap();
                match added.iter().find(|usage| usage.record == old.record) {
                    Some(new) => self.records[at].0 = new.clone(),
                    None => drop(self.records.remove(at)),
                }
            }
            for usage in added {
                if !removed.iter().any(|old| old.record == usage.record) {
                    self.records.push((usage.clone(), (epoch, usage.record.0)));
                }
            }
        }

        fn rows(&self) -> Vec<(Usage, Option<Suspense>)> {
            let plain = |usage: &Usage| Usage {
                mark: None,
                ..usage.clone()
            };
            let Some((first, _)) = self.records.first() else {
                return Vec::new();
            };
            if !self.whole {
                let row = |(usage, _): &(Usage, Arrival)| {
                    let same = |a: &Usage, b: &Usage| {
                        (a.time, a.service, &a.quantities) == (b.time, b.service, &b.quantities)
                    };
                    let reason = match same(usage, first) {
                        true => Reason::Duplicate,
                        false => Reason::Conflict,
                    };
                    let row = Suspense::of(usage, reason, Some(first.record));
                    let holds = usage.record == first.record;
                    (plain(usage), (!holds).then_some(row))
                };
                return self.records.iter().map(row).collect();
            }
            let version = |(usage, arrival): &(Usage, Arrival)| Version {
                arrival: *arrival,
                mark: usage.mark.as_deref().copied().unwrap_or_default(),
                record: usage.record,
                content: usize::try_from(usage.time.0).unwrap(),
                passed_over: usage.is_passed_over(),
            };
            let versions: Vec<Version> = self.records.iter().map(version).collect();
            let standings = stand(&versions, &BTreeMap::new());
            let row = |((usage, _), standing): (&(Usage, Arrival), Standing)| match standing {
                Standing::Holds => (plain(usage), None),
                Standing::PassedOver => unreachable!("all records have quantities"),
                Standing::Outvoted(reason, holds) => {
                    (plain(usage), Some(Suspense::of(usage, reason, holds)))
                }
            };
            self.records.iter().zip(standings).map(row).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many copies of few identities come, some with another content, some with marks.
        Come {
            file: u32,
            copies: usize,
            seed: u64,
            marked: bool,
        },
        /// A file goes.
        Withdraw(u32),
        /// A rule changes what the records of a file say, their identities or marks.
        Amend { file: u32, seed: u64, marked: bool },
        /// The records that hold go one by one.
        Unseat(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u32..4, 1_usize..400, any::<u64>(), prop::bool::weighted(0.3)).prop_map(
                |(file, copies, seed, marked)| Step::Come { file, copies, seed, marked }
            ),
            1 => (0_u32..4).prop_map(Step::Withdraw),
            2 => (0_u32..4, any::<u64>(), prop::bool::weighted(0.3))
                .prop_map(|(file, seed, marked)| Step::Amend { file, seed, marked }),
            1 => (0_u64..5).prop_map(Step::Unseat),
        ]
    }

    /// A record of a few identities and contents, nearly always the same.
    fn drawn(record: RecordId, seed: u64, marked: bool) -> Usage {
        let bits = (record.0 ^ seed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let keeps = [Keep::First, Keep::Last, Keep::Greatest];
        let mark = Mark {
            keep: keeps[usize::try_from(bits >> 8 & 0xff).unwrap() % 3],
            kind: if bits >> 16 & 0x3f == 0 {
                Kind::Void
            } else {
                Kind::Usage
            },
            rank: Some(Rank::Number(i128::from(bits >> 24 & 3))),
        };
        let content = if bits >> 32 & 0xf == 0 {
            bits >> 36 & 3
        } else {
            0
        };
        Usage {
            identity: Identity([(bits % 5) << 60, bits % 5]),
            service: ServiceKey(content),
            ..usage(record.0, content.cast_signed(), marked.then_some(mark))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// However many copies there are, whoever of them goes and whatever they say later: each identity has
        /// what a plain list of its records has.
        #[test]
        fn copies_cost_nothing_that_is_needed(steps in prop::collection::vec(step(), 1..14)) {
            let mut seen = Seen::new(0);
            let mut model: BTreeMap<Identity, Model> = BTreeMap::new();
            let mut open: BTreeMap<RecordId, Usage> = BTreeMap::new();
            let mut rows: [u64; 4] = [0; 4];
            let mut told: BTreeMap<(Usage, Option<Suspense>), Diff> = BTreeMap::new();
            for (epoch, step) in (1..).zip(steps) {
                let mut changes: Vec<(Usage, Diff)> = Vec::new();
                let of = |file: u32| {
                    let all = RecordId::new(FileId(file), 0)..RecordId::new(FileId(file + 1), 0);
                    open.range(all).map(|(_, usage)| usage.clone()).collect::<Vec<_>>()
                };
                match step {
                    Step::Come { file, copies, seed, marked } => {
                        for _ in 0..copies {
                            let row = &mut rows[usize::try_from(file).unwrap()];
                            changes.push((drawn(RecordId::new(FileId(file), *row), seed, marked), 1));
                            *row += 1;
                        }
                    }
                    Step::Withdraw(file) => {
                        changes.extend(of(file).into_iter().map(|usage| (usage, -1)));
                    }
                    Step::Amend { file, seed, marked } => {
                        for old in of(file) {
                            let new = drawn(old.record, seed, marked);
                            if old != new {
                                changes.extend([(old, -1), (new, 1)]);
                            }
                        }
                    }
                    Step::Unseat(which) => {
                        let identity = Identity([which << 60, which]);
                        let held = seen.kept.get(identity).map(|kept| kept.record);
                        let held = held.and_then(|record| open.get(&record));
                        changes.extend(held.map(|usage| (usage.clone(), -1)));
                    }
                }
                for (usage, diff) in &changes {
                    if *diff < 0 {
                        open.remove(&usage.record);
                    }
                }
                let come = changes.iter().filter(|(_, diff)| *diff > 0);
                open.extend(come.map(|(usage, _)| (usage.record, usage.clone())));
                for (identity, mut change) in seen.by_identity(epoch, changes.clone()) {
                    let model = model.entry(identity).or_default();
                    if !model.whole {
                        let marked = change.split_off_marked();
                        model.change(epoch, &change.removed, &change.added);
                        change = marked;
                        model.whole = model.records.is_empty() && !change.is_empty();
                    }
                    model.change(epoch, &change.removed, &change.added);
                    model.whole &= !model.records.is_empty();
                }
                seen.apply(epoch, changes, Vec::new(), &mut |outcome, diff| {
                    let row = match outcome {
                        Outcome::Unique(usage) => (usage, None),
                        Outcome::Outvoted(row) => {
                            // Of what does not hold only the row is told.
                            let told = Usage { record: row.record, ..usage(0, 0, None) };
                            (told, Some(row))
                        }
                    };
                    *told.entry(row).or_default() += diff;
                });
                told.retain(|_, count| *count != 0);
                let expected = model.values().flat_map(Model::rows).map(|(held, row)| match row {
                    Some(row) => (Usage { record: row.record, ..usage(0, 0, None) }, Some(row)),
                    None => (held, None),
                });
                let expected: BTreeMap<_, _> = expected.map(|row| (row, 1)).collect();
                prop_assert_eq!(&told, &expected);
            }
            let all: Vec<_> = open.into_values().map(|usage| (usage, -1)).collect();
            seen.apply(99, all, Vec::new(), &mut |_, _| ());
            prop_assert_eq!((seen.kept.len(), seen.whole.len(), seen.contents.len()), (0, 0, 0));
            prop_assert_eq!((seen.copies.bytes(), seen.whole_bytes), (0, 0));
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
