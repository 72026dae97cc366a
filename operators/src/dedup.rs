//! Drops exact duplicates: of all records with one identity, the first to arrive is kept.
//!
//! - **In:** `usage: Usage`
//! - **Out:** `unique: Usage`, `duplicates: Suspense` (reason `DUPLICATE`, naming the first)
//! - **Key:** `Identity`, exchanged; 128 bits, so a chance collision is not a concern at any volume
//! - **Time:** first means smallest (arrival epoch, source position); records arrive in the order of
//!   their positions, so the choice does not depend on how the input is cut into epochs. Event time
//!   plays no part: a changed timestamp does not hide a duplicate. Epochs before `live` hold what an
//!   earlier run took in, of many epochs, in the order of arrival
//! - **Cost per change:** O(1); a retraction of a kept record O(log of its duplicates)
//! - **State:** identity and position of each kept record (24 bytes), and duplicates whole, so that
//!   the next can step forward when the kept one is retracted; freed by retraction
//! - **Invariants:** each identity that is present has exactly one record in `unique`
//!
//! A custom operator and not `reduce`: that would hold every record twice, in and out.

use crate::domain::{Identity, Reason, RecordId, Suspense, Usage};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, shard};
use crate::keymap::WideMap;
use crate::stats::NodeStats;
use differential_dataflow::AsCollection;
use std::cell::RefCell;
use std::collections::BTreeMap;
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
    pub duplicates: Collection<'scope, Suspense>,
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
            if let Some(record) = seen.kept.get(identity) {
                visit(identity, *record);
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
    let (duplicate_output, duplicates) = builder.new_output();
    let mut unique_output = OutputBuilder::from(unique_output);
    let mut duplicate_output = OutputBuilder::from(duplicate_output);

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
            let mut duplicate_output = duplicate_output.activate();
            while let Some(epoch) = pending.first().filter(|epoch| complete(frontiers, *epoch)) {
                let changes = pending.take(epoch);
                let received = changes.len();
                let (unique_right, duplicate_right) = (rights.at(0, epoch), rights.at(1, epoch));
                let mut unique = unique_output.session(&unique_right);
                let mut duplicates = duplicate_output.session(&duplicate_right);
                let (mut kept, mut dropped) = (0, 0);
                let mut seen = state.borrow_mut();
                seen.apply(epoch, changes, &mut |outcome, diff| match outcome {
                    Outcome::Unique(usage) => {
                        kept += 1;
                        unique.give((usage, epoch, diff));
                    }
                    Outcome::Duplicate(suspense) => {
                        dropped += 1;
                        duplicates.give((suspense, epoch, diff));
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
        duplicates: duplicates.as_collection(),
        open,
    }
}

enum Outcome {
    Unique(Usage),
    Duplicate(Suspense),
}

/// The kernel: which record each identity keeps.
#[derive(Default)]
struct Seen {
    live: Epoch,
    kept: WideMap<Identity, RecordId>,
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
        match self.kept.insert_new(usage.identity, usage.record) {
            None => emit(Outcome::Unique(usage), 1),
            Some(&first) => {
                assert_ne!(first, usage.record, "a record was inserted twice");
                emit(Outcome::Duplicate(duplicate(&usage, first)), 1);
                let place = if epoch < self.live {
                    self.loaded = self.loaded.saturating_add(1);
                    self.loaded
                } else {
                    usage.record.0
                };
                let waiting = self.waiting.entry(usage.identity).or_default();
                waiting.insert((epoch, place), usage);
            }
        }
    }

    fn amend(
        &mut self,
        epoch: Epoch,
        identity: Identity,
        mut removed: Vec<Usage>,
        mut added: Vec<Usage>,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        // Duplicates go before the record that hides them: what steps forward then stays.
        let first = self.kept.get(identity).copied();
        removed.sort_by_key(|usage| first == Some(usage.record));
        for usage in removed {
            let first = *self
                .kept
                .get(identity)
                .expect("a retracted record was inserted before");
            let again = added.iter().position(|new| new.record == usage.record);
            let again = again.map(|at| added.remove(at));
            if first != usage.record {
                let waiting = self.waiting.get_mut(&identity).expect("it was a duplicate");
                let mut places = waiting.iter();
                let place = places.find(|(_, held)| held.record == usage.record);
                let place = *place
                    .map(|(place, _)| place)
                    .expect("a retracted duplicate was inserted before");
                waiting.remove(&place);
                emit(Outcome::Duplicate(duplicate(&usage, first)), -1);
                if let Some(usage) = again {
                    emit(Outcome::Duplicate(duplicate(&usage, first)), 1);
                    waiting.insert(place, usage);
                } else if waiting.is_empty() {
                    self.waiting.remove(&identity);
                }
            } else if let Some(amended) = again {
                emit(Outcome::Unique(usage), -1);
                emit(Outcome::Unique(amended), 1);
            } else {
                emit(Outcome::Unique(usage), -1);
                self.promote(identity, first, emit);
            }
        }
        for usage in added {
            self.insert(epoch, usage, emit);
        }
    }

    /// The first of `identity` is gone: the next in order of arrival takes its place.
    fn promote(
        &mut self,
        identity: Identity,
        gone: RecordId,
        emit: &mut impl FnMut(Outcome, Diff),
    ) {
        self.kept.remove(identity);
        let Some(mut waiting) = self.waiting.remove(&identity) else {
            return;
        };
        let Some((_, next)) = waiting.pop_first() else {
            return;
        };
        let first = next.record;
        emit(Outcome::Duplicate(duplicate(&next, gone)), -1);
        emit(Outcome::Unique(next), 1);
        self.kept.insert(identity, first);
        for usage in waiting.values() {
            emit(Outcome::Duplicate(duplicate(usage, gone)), -1);
            emit(Outcome::Duplicate(duplicate(usage, first)), 1);
        }
        if !waiting.is_empty() {
            self.waiting.insert(identity, waiting);
        }
    }

    fn bytes(&self) -> usize {
        let duplicate = size_of::<(Arrival, Usage)>();
        self.kept
            .bytes()
            .saturating_add(self.waiting.len().saturating_mul(duplicate))
    }
}

fn duplicate(usage: &Usage, first: RecordId) -> Suspense {
    Suspense {
        record: usage.record,
        reason: Reason::Duplicate,
        service: usage.service,
        class: usage.class,
        time: usage.time,
        item: None,
        original: Some(first),
    }
}
