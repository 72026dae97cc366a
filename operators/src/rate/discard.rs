//! Usage that operators have taken out: held beside what is open, and put back from here.
//!
//! Whatever else happens to a discarded record in the epoch, or later: it is amended, withdrawn or comes
//! back here, and none of that is seen by the rating.

use super::changes::Changes;
use crate::domain::{Identity, Quantities, Reason, RecordId, Suspense, Usage, UsagePlace};
use crate::epoch::Diff;
use std::collections::{BTreeMap, BTreeSet};

/// The discarded records of a job, and the usage of those of this worker.
#[derive(Default)]
pub(super) struct Discarded {
    records: BTreeSet<RecordId>,
    usage: BTreeMap<RecordId, Usage>,
}

impl Discarded {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes what concerns discarded records out of the changes of an epoch, and adds what discarding
    /// itself takes from the open usage and puts back into it. `open` finds the quantities of usage.
    pub(super) fn divert(
        &mut self,
        changes: &mut Changes,
        open: &impl Fn(RecordId, &UsagePlace) -> Option<Quantities>,
        emit: &mut impl FnMut(Suspense, Diff),
    ) {
        let usage = std::mem::take(&mut changes.usage);
        // An amendment takes away before it puts.
        let (gone, come): (Vec<_>, Vec<_>) = usage.into_iter().partition(|(_, diff)| *diff < 0);
        for (usage, diff) in gone {
            if self.records.contains(&usage.record) && self.usage.remove(&usage.record).is_some() {
                emit(discarded(&usage), -1);
            } else {
                changes.usage.push((usage, diff));
            }
        }
        let withdrawn: BTreeSet<RecordId> = changes.usage.iter().map(|(u, _)| u.record).collect();
        let (back, out): (Vec<_>, Vec<_>) = std::mem::take(&mut changes.discards)
            .into_iter()
            .partition(|(_, diff)| *diff < 0);
        let out_again: BTreeSet<RecordId> = out.iter().map(|(d, _)| d.record).collect();
        for (discard, _) in back {
            if out_again.contains(&discard.record) {
                continue;
            }
            self.records.remove(&discard.record);
            if let Some(usage) = self.usage.remove(&discard.record) {
                emit(discarded(&usage), -1);
                changes.usage.push((usage, 1));
            }
        }
        for (discard, _) in out {
            let record = discard.record;
            self.records.insert(record);
            let place = discard.place.filter(|_| !withdrawn.contains(&record));
            if let Some(place) = place
                && let Some(quantities) = open(record, &place)
            {
                let usage = Usage {
                    record,
                    // Nobody asks for it behind dedup.
                    identity: Identity::default(),
                    service: place.service,
                    class: place.class,
                    time: place.time,
                    quantities,
                    mark: None,
                };
                changes.usage.push((usage.clone(), -1));
                self.hold(usage, emit);
            }
        }
        for (usage, diff) in come {
            if self.records.contains(&usage.record) {
                self.hold(usage, emit);
            } else {
                changes.usage.push((usage, diff));
            }
        }
    }

    fn hold(&mut self, usage: Usage, emit: &mut impl FnMut(Suspense, Diff)) {
        emit(discarded(&usage), 1);
        self.usage.insert(usage.record, usage);
    }

    /// The discarded usage of this worker, in the order of records.
    pub(super) fn suspense(&self) -> impl Iterator<Item = Suspense> {
        self.usage.values().map(discarded)
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        let record = 12; // a B-tree set of 8-byte keys is about two thirds full
        let usage = size_of::<(RecordId, Usage)>();
        let usage = self.usage.len().saturating_mul(usage);
        self.records
            .len()
            .saturating_mul(record)
            .saturating_add(usage)
    }
}

fn discarded(usage: &Usage) -> Suspense {
    Suspense::of(usage, Reason::Discarded, None)
}
