//! Archived records that came back because others of their identities have come: which of them do not hold
//! any more, and who may leave the state again with them.
//!
//! ```text
//!  archive: a ── a correction c comes ─► graph: a, c ─┬─ a holds: as archived, both leave
//!                                                     ├─ c holds: a is withdrawn, c is late usage
//!                                                     └─ none holds: a is withdrawn, both leave
//! ```

use crate::board::Board;
use crate::durable::{Closed, LeftVersion};
use millrace_connectors::output::SuspendedUsage;
use millrace_operators::domain::{Reason, RecordId, Suspense, Usage};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
pub(super) struct Corrections {
    /// Records that do not hold, and why.
    outvoted: BTreeMap<RecordId, Suspense>,
    /// The same, by the record because of which.
    because: BTreeMap<RecordId, Vec<RecordId>>,
    /// Records that came back, and do not hold any more.
    pub(super) withdrawn: BTreeSet<RecordId>,
}

impl Corrections {
    /// Of records that operators have `discarded`, too.
    pub(super) fn of(closed: &Closed, board: &Board, discarded: &RoaringTreemap) -> Self {
        let mut outvoted: BTreeMap<RecordId, Suspense> = BTreeMap::new();
        let mut because: BTreeMap<RecordId, Vec<RecordId>> = BTreeMap::new();
        for stopped in board.stopped() {
            let SuspendedUsage::Suspense(row) = stopped else {
                continue;
            };
            outvoted.insert(row.record, row);
            if let Some(original) = row.original {
                because.entry(original).or_default().push(row.record);
            }
        }
        let back = closed.reopened.iter().map(RecordId);
        let gives_way =
            |record: &RecordId| outvoted.contains_key(record) || discarded.contains(record.0);
        let withdrawn = back.filter(gives_way).collect();
        Self {
            outvoted,
            because,
            withdrawn,
        }
    }

    /// The records that gave way to these.
    pub(super) fn behind(&self, records: impl IntoIterator<Item = RecordId>) -> Vec<RecordId> {
        let behind = records
            .into_iter()
            .filter_map(|record| self.because.get(&record));
        behind.flatten().copied().collect()
    }

    /// The records because of which archived ones do not hold any more.
    pub(super) fn deciding(&self) -> BTreeSet<RecordId> {
        let rows = self.withdrawn.iter();
        let rows = rows.filter_map(|record| self.outvoted.get(record));
        rows.filter_map(|row| row.original).collect()
    }

    /// The records of identities that are taken out, with those that take them out; `passed_over` are those
    /// that a rule excludes, which stay in the graph and are told nowhere.
    pub(super) fn taken_out(&self, passed_over: &BTreeSet<RecordId>) -> BTreeSet<RecordId> {
        let is_void = |record: &RecordId| {
            let row = self.outvoted.get(record);
            row.is_some_and(|row| row.reason == Reason::Void)
        };
        let mut gone = BTreeSet::new();
        for record in &self.withdrawn {
            let Some(row) = self.outvoted.get(record) else {
                continue;
            };
            let mut void = [Some(*record), row.original].into_iter().flatten();
            match void.find(is_void) {
                Some(void) => {
                    gone.insert(void);
                    gone.extend(self.behind([void]));
                }
                // Its file came again without it.
                None if row.original.is_none() && row.reason == Reason::Voided => {
                    gone.insert(*record);
                }
                None => {
                    let original = row.original.filter(|record| passed_over.contains(record));
                    gone.extend(original.map(|_| *record));
                }
            }
        }
        gone
    }

    /// A record as it leaves.
    pub(super) fn version(&self, usage: Usage) -> LeftVersion {
        let outvoted = self.outvoted.get(&usage.record).copied();
        LeftVersion { usage, outvoted }
    }
}
