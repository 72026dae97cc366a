//! Which records are suspended, as far as epochs are complete: kept by the publisher, asked by the intake
//! when operators name records by their reason or their file.

use crate::publish::EpochChanges;
use millrace_operators::domain::{
    Discard, Fate, Fault, Reason, RecordId, Stage, Suspense, UsagePlace,
};
use millrace_operators::epoch::{Diff, Epoch};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// See the module. Kept only where epochs are made durable: nobody else hears commands.
#[derive(Clone, Debug, Default)]
pub struct Suspended(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// The first epoch that is not complete.
    before: Epoch,
    records: BTreeMap<RecordId, (Reason, Option<UsagePlace>)>,
}

impl Suspended {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().expect("what is suspended is not poisoned")
    }

    /// Takes in the changes of a complete epoch, one for each row that changed.
    pub fn apply(&self, changes: &EpochChanges) {
        let mut waiting = self.lock();
        let faults = changes.faults.iter().filter_map(of_fault);
        for (record, why, diff) in faults.chain(changes.suspense.iter().filter_map(of_suspense)) {
            if diff > 0 {
                waiting.records.insert(record, why);
            } else if waiting.records.get(&record) == Some(&why) {
                waiting.records.remove(&record);
            }
        }
    }

    /// Epochs before this one are complete.
    pub fn complete(&self, before: Epoch) {
        self.lock().before = before;
    }

    /// Whether every epoch before this one is complete.
    pub(super) fn knows(&self, epoch: Epoch) -> bool {
        self.lock().before >= epoch
    }

    /// All suspended records, with the reason of each.
    #[must_use]
    pub fn all(&self) -> BTreeMap<RecordId, Reason> {
        let waiting = self.lock();
        let records = waiting.records.iter();
        records
            .map(|(record, (reason, _))| (*record, *reason))
            .collect()
    }

    /// Whether a record is suspended for this reason.
    pub(super) fn has(&self, reason: Reason) -> bool {
        self.lock().records.values().any(|(of, _)| *of == reason)
    }

    /// The suspended records that are wanted, in their order, as they would be discarded.
    pub(super) fn select(&self, wanted: impl Fn(RecordId, Reason) -> bool) -> Vec<Discard> {
        let waiting = self.lock();
        let records = waiting.records.iter();
        // A correction that waits for its original is nowhere that it could be taken out of.
        let records = records.filter(|(_, (reason, _))| reason.stage() != Stage::Dedup);
        let records = records.filter(|(record, (reason, _))| wanted(**record, *reason));
        let discard = |(record, why): (&RecordId, &(Reason, Option<UsagePlace>))| Discard {
            record: *record,
            reason: why.0,
            place: why.1,
        };
        records.map(discard).collect()
    }
}

type Row = (RecordId, (Reason, Option<UsagePlace>), Diff);

fn of_suspense((suspense, diff): &(Suspense, Diff)) -> Option<Row> {
    let place = UsagePlace {
        service: suspense.service,
        class: suspense.class,
        time: suspense.time,
    };
    let suspended = matches!(Fate::of(suspense.reason), Fate::Suspended(_));
    suspended.then_some((suspense.record, (suspense.reason, Some(place)), *diff))
}

fn of_fault((fault, diff): &(Fault, Diff)) -> Option<Row> {
    let stopped = matches!(Fate::of(fault.reason), Fate::Error(_)) && !fault.reason.is_of_file();
    stopped.then_some((fault.record, (fault.reason, None), *diff))
}
