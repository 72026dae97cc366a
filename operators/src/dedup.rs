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
mod outcome;
mod pack;
mod seen;
mod versions;

use crate::domain::{Identity, Mark, Reason, RecordId, Suspense, Usage};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, shard};
use crate::stats::NodeStats;
use differential_dataflow::AsCollection;
pub use outcome::Replacement;
use outcome::{Outcome, of_record, reason_of};
use seen::Seen;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast as _;
use versions::{Packed, Standing, Version, stand};

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

#[cfg(test)]
mod tests;
