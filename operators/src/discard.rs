//! Takes discarded records out of those that were stopped before they became usage.
//!
//! - **In:** `faults: Fault`, `discards: Discard`, each record at most once
//! - **Out:** `faults: Fault`, those of discarded records with reason `DISCARDED`, the old one in the
//!   detail; `fates: (FileId, Fate)`, what that changes in the fates of records
//! - **Key:** `RecordId`
//! - **Time:** as its inputs; a fault that is mended later is a fault no more, discarded or not
//! - **Cost per change:** O(log faults)
//! - **State:** faults and discarded records, by record; freed by retraction
//! - **Invariants:** a discarded record is a fault once, under one reason
//!
//! Records that did become usage are taken out where usage is open: in [`rate`](crate::rate).

use crate::domain::{Discard, Fate, Fault, FileId, Reason};
use crate::epoch::Collection;

/// What [`discard_faults`] makes of faults.
pub struct Stopped<'scope> {
    /// All faults.
    pub faults: Collection<'scope, Fault>,
    /// What discarding changes in the fates of records.
    pub fates: Collection<'scope, (FileId, Fate)>,
}

/// Marks the faults of discarded records; see the module.
pub fn discard_faults<'scope>(
    faults: Collection<'scope, Fault>,
    discards: Collection<'scope, Discard>,
) -> Stopped<'scope> {
    let records = discards.map(|discard| discard.record);
    let of_records = faults.clone().filter(|fault| !fault.reason.is_of_file());
    let gone = of_records
        .map(|fault| (fault.record, fault))
        .semijoin(records)
        .map(|(_, fault)| fault);
    let fate = gone
        .clone()
        .map(|fault| (fault.record.file(), Fate::of(fault.reason)));
    let discarded = gone.clone().map(discarded);
    let is = discarded
        .clone()
        .map(|fault| (fault.record.file(), Fate::Discarded));
    Stopped {
        faults: faults.concatenate([gone.negate(), discarded]),
        fates: fate.negate().concat(is),
    }
}

fn discarded(fault: Fault) -> Fault {
    Fault {
        reason: Reason::Discarded,
        detail: format!("{}: {}", fault.reason.code(), fault.detail),
        ..fault
    }
}
