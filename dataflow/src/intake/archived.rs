//! Records of identities that the archive has: told, and not billed again.
//!
//! An identity is known in the graph while its bill unit is open. Of those that were archived the state has
//! 32 bits each, and the archive the rest: a record whose identity is among them is compared with the
//! archived one. An equal copy is a duplicate, another content is in conflict with it, and a correction of
//! it waits, because a closed bill unit is adjusted by late usage and changed prices alone.

use super::bundle::Bundle;
use super::{Halt, Intake, count};
use crate::durable::Closed;
use crate::job::Job;
use millrace_connectors::archive::{Archive, ArchiveError};
use millrace_connectors::mediate::Mediated;
use millrace_connectors::names::Names;
use millrace_connectors::store::Store;
use millrace_operators::domain::{Fate, Identity, Kind, Reason, RecordId, Suspense, Usage};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was archived, for whoever takes in records.
pub(super) struct Archived {
    closed: Arc<Closed>,
    names: Arc<Names>,
    archive: Option<Archive>,
    /// Records that were told beside the graph.
    beside: RoaringTreemap,
}

impl Archived {
    /// What `closed` has forgotten, and where it is.
    fn of(job: &Job, closed: &Arc<Closed>, names: &Arc<Names>) -> Result<Self, ArchiveError> {
        let plan = job
            .archive
            .as_ref()
            .filter(|_| !closed.identities.is_empty());
        let archive = match plan {
            None => None,
            Some(plan) => {
                let store = Store::open(&plan.folder, &job.folder)?;
                Some(Archive::of(Arc::new(store))?)
            }
        };
        Ok(Self {
            closed: Arc::clone(closed),
            names: Arc::clone(names),
            archive,
            beside: RoaringTreemap::new(),
        })
    }

    /// Whether a record was told beside the graph.
    pub(super) fn told(&self, record: RecordId) -> bool {
        self.beside.contains(record.0)
    }

    /// Tells the records whose identities the archive has, and takes them out of `mediated`.
    pub(super) fn tell(
        &mut self,
        mediated: &mut Mediated,
        bundle: &mut Bundle,
    ) -> Result<(), Halt> {
        if self.closed.identities.is_empty() {
            return Ok(());
        }
        let identities = mediated.usage.iter().map(|usage| usage.identity);
        let asked: BTreeSet<Identity> = identities
            .filter(|identity| self.closed.may_know(*identity))
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let known = self.known(&asked)?;
        mediated.usage.retain(|usage| {
            let Some(original) = known.get(&usage.identity) else {
                return true;
            };
            let reason = reason(usage, original);
            let record = usage.record;
            count(&mut bundle.fates, record.file(), Fate::of(reason), 1);
            self.beside.insert(record.0);
            let row = Suspense {
                record,
                reason,
                service: usage.service,
                class: usage.class,
                time: usage.time,
                item: None,
                original: Some(original.record),
            };
            bundle.duplicates.push((row, 1));
            false
        });
        Ok(())
    }

    fn known(&self, identities: &BTreeSet<Identity>) -> Result<BTreeMap<Identity, Usage>, Halt> {
        let Some(archive) = &self.archive else {
            let message = "the state has forgotten closed bill units, and the job does not say any more where \
                           they are archived; write `archive: { folder: … }` as it was";
            return Err(Halt::Source(message.to_owned()));
        };
        let failed = |error: ArchiveError| Halt::Source(error.to_string());
        let mut known = BTreeMap::new();
        for period in archive.periods() {
            let period = archive.period(period).map_err(failed)?;
            known.extend(period.usage_of(identities, &self.names).map_err(failed)?);
        }
        // What adjustments gave back is known in the graph.
        known.retain(|_, usage: &mut Usage| !self.closed.reopened.contains(usage.record.0));
        Ok(known)
    }
}

/// What becomes of a record of an identity that the archive has.
fn reason(usage: &Usage, original: &Usage) -> Reason {
    let kind = usage.mark.as_deref().map(|mark| mark.kind);
    let same = usage.content() == original.content();
    match kind.unwrap_or_default() {
        Kind::Void => Reason::OriginalClosed,
        _ if same => Reason::Duplicate,
        Kind::Usage => Reason::Conflict,
        Kind::Amend | Kind::Restate => Reason::OriginalClosed,
    }
}

impl Intake {
    /// Opens what was archived, before anything is read.
    pub(super) fn open_archived(&mut self, beside: RoaringTreemap) -> Result<(), Halt> {
        let super::Setting {
            job, closed, names, ..
        } = &self.setting;
        let archived = Archived::of(job, closed, names);
        let archived = archived.map_err(|error| Halt::Source(error.to_string()))?;
        self.archived = Some(Archived { beside, ..archived });
        Ok(())
    }

    /// Whether a record is in the archive, or told beside what is.
    pub(super) fn is_archived(&self, record: RecordId) -> bool {
        let beside = self.archived.as_ref().is_some_and(|a| a.told(record));
        beside || self.setting.closed.has(record)
    }
}
