//! Of all records with one identity, the first to arrive is kept: equal copies of it are duplicates,
//! another content is told.
//!
//! - **In:** `usage: Usage`
//! - **Out:** `unique: Usage`, `outvoted: Suspense` (reason `DUPLICATE` or `CONFLICT`, naming the first)
//! - **Key:** `Identity`, exchanged; 128 bits, so a chance collision is not a concern at any volume
//! - **Time:** first means smallest (arrival epoch, source position); records arrive in the order of
//!   their positions, so the choice does not depend on how the input is cut into epochs. Event time
//!   plays no part: a changed timestamp does not hide a duplicate. Epochs before `live` hold what an
//!   earlier run took in, of many epochs, in the order of arrival
//! - **Cost per change:** O(1); a retraction O(the other records of its identity)
//! - **State:** identity, position and digest of the content of each kept record (32 bytes, 8 of them
//!   for the digest), and the others whole, so that the next can step forward when the kept one is
//!   retracted; freed by retraction
//! - **Invariants:** each identity that is present has exactly one record in `unique`
//!
//! A custom operator and not `reduce`: that would hold every record twice, in and out.

use crate::domain::{Identity, Reason, RecordId, Suspense, Usage};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, shard};
use crate::keymap::WideMap;
use crate::stats::NodeStats;
use differential_dataflow::AsCollection;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// What [`dedup`] makes of usage.
pub struct Deduplicated<'scope> {
    /// The first record of each identity.
    pub unique: Collection<'scope, Usage>,
    /// The others.
    pub outvoted: Collection<'scope, Suspense>,
    /// The identities of this worker, for whoever reads between steps.
    pub open: OpenIdentities,
}

/// Reads the identities of one worker, as of the last complete epoch.
#[derive(Clone)]
pub struct OpenIdentities(Rc<RefCell<Seen>>);

impl OpenIdentities {
    /// Visits the kept record of each identity, in the order of identities.
    pub fn visit(&self, mut visit: impl FnMut(Identity, RecordId)) {
        let seen = self.0.borrow();
        for identity in seen.kept.sorted_keys() {
            if let Some(kept) = seen.kept.get(identity) {
                visit(identity, kept.record);
            }
        }
    }
}

/// Keeps the first record of each identity; see the module.
pub fn dedup<'scope>(
    usage: Collection<'scope, Usage>,
    live: Epoch,
    stats: Arc<NodeStats>,
) -> Deduplicated<'scope> {
    let mut builder = OperatorBuilder::new("dedup".to_owned(), usage.scope());
    let route = Exchange::new(|(usage, _, _): &(Usage, Epoch, Diff)| shard(usage.identity.0[0]));
    let mut input = builder.new_input(usage.inner, route);
    let (unique_output, unique) = builder.new_output();
    let (outvoted_output, outvoted) = builder.new_output();
    let mut unique_output = OutputBuilder::from(unique_output);
    let mut outvoted_output = OutputBuilder::from(outvoted_output);

    let state = Rc::new(RefCell::new(Seen::new(live)));
    let open = OpenIdentities(Rc::clone(&state));
    builder.build(move |_| {
        let mut rights = Rights::default();
        let mut pending = Pending::default();
        move |frontiers| {
            input.for_each(|capability, updates| {
                rights.keep(&capability, 2);
                pending.stash(updates);
            });
            let mut unique_output = unique_output.activate();
            let mut outvoted_output = outvoted_output.activate();
            while let Some(epoch) = pending.first().filter(|epoch| complete(frontiers, *epoch)) {
                let changes = pending.take(epoch);
                let received = changes.len();
                let (unique_right, outvoted_right) = (rights.at(0, epoch), rights.at(1, epoch));
                let mut unique = unique_output.session(&unique_right);
                let mut outvoted = outvoted_output.session(&outvoted_right);
                let (mut kept, mut dropped) = (0, 0);
                let mut seen = state.borrow_mut();
                seen.apply(epoch, changes, &mut |outcome, diff| match outcome {
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
                stats.set_state(seen.kept.len(), seen.bytes());
            }
            rights.advance(pending.first());
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
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        if changes.iter().all(|(_, diff)| *diff > 0) {
            // Arrival order is position order, so this is usually sorted already.
            if epoch >= self.live && !changes.is_sorted_by_key(|(usage, _)| usage.record) {
                changes.sort_by_cached_key(|(usage, _)| usage.record);
            }
            for (usage, _) in changes {
                self.insert(epoch, usage, emit);
            }
            return;
        }
        // With retractions, all changes of one identity are settled together: a record that is
        // taken away and put back amended keeps its place in the order of arrival.
        changes.sort_by_key(|(usage, diff)| (usage.identity, *diff > 0, usage.record));
        let mut changes = changes.into_iter().peekable();
        while let Some((first, diff)) = changes.next() {
            let identity = first.identity;
            let (mut removed, mut added) = (Vec::new(), Vec::new());
            let mut sort = |usage: Usage, diff| match diff {
                0.. => added.push(usage),
                _ => removed.push(usage),
            };
            sort(first, diff);
            while let Some((usage, diff)) = changes.next_if(|(u, _)| u.identity == identity) {
                sort(usage, diff);
            }
            self.amend(epoch, identity, removed, added, emit);
        }
    }

    fn insert(&mut self, epoch: Epoch, usage: Usage, emit: &mut impl FnMut(Outcome, Diff)) {
        match self.kept.insert_new(usage.identity, Kept::of(&usage)) {
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
        let place = if epoch < self.live {
            self.loaded = self.loaded.saturating_add(1);
            self.loaded
        } else {
            usage.record.0
        };
        let waiting = self.waiting.entry(usage.identity).or_default();
        waiting.insert((epoch, place), usage);
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
        self.kept
            .bytes()
            .saturating_add(self.waiting.len().saturating_mul(duplicate))
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
        outvoted(usage, reason, Some(self.record))
    }
}

fn outvoted(usage: &Usage, reason: Reason, holds: Option<RecordId>) -> Suspense {
    Suspense {
        record: usage.record,
        reason,
        service: usage.service,
        class: usage.class,
        time: usage.time,
        item: None,
        original: holds,
    }
}
