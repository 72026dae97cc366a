//! What the intake asks of what was archived.

use super::Intake;
use super::archived::{Archived, Forgotten};
use super::halt::Halt;
use millrace_connectors::store::Store;
use millrace_operators::domain::{FileId, RecordId};
use millrace_operators::epoch::Epoch;
use roaring::RoaringTreemap;
use std::ops::Range;
use std::sync::Arc;

impl Intake {
    /// Opens what was archived, before anything is read; `state` is where versions are.
    pub(super) fn open_archived(
        &mut self,
        state: &Arc<Store>,
        beside: RoaringTreemap,
        reopened: Vec<(Epoch, RecordId)>,
    ) -> Result<(), Halt> {
        let super::Setting {
            job, closed, names, ..
        } = &self.setting;
        let archived = Archived::of(job, closed, names, state);
        let archived = archived.map_err(|error| Halt::Source(error.to_string()))?;
        // What came back before that has stayed, or left again.
        let since = reopened.into_iter();
        let since = since.filter(|(epoch, _)| *epoch >= closed.since);
        self.archived = Some(Archived {
            beside,
            reopened: since.map(|(_, record)| record.0).collect(),
            ..archived
        });
        Ok(())
    }

    /// The records within these rows of a file that are in the archive, or told beside what is.
    pub(super) fn archived_of(&self, id: FileId, rows: &Range<u64>) -> RoaringTreemap {
        let none = RoaringTreemap::new();
        let beside = self.archived.as_ref().map_or(&none, |held| &held.beside);
        self.files
            .among(id, rows, [&self.setting.closed.records, beside])
    }

    /// How many of these archived records are otherwise in the archive.
    pub(super) fn archived_otherwise(&self, records: &[Forgotten]) -> Result<u64, Halt> {
        let archived = self.archived.as_ref();
        archived.map_or(Ok(0), |archived| archived.otherwise(records))
    }

    /// Whether a record is in the archive, or told beside what is.
    pub(super) fn is_archived(&self, record: RecordId) -> bool {
        let beside = self.archived.as_ref().is_some_and(|a| a.told(record));
        beside || self.setting.closed.has(record)
    }
}
