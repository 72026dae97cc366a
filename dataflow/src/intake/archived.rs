//! Records of identities that the archive has: billed once, whatever their time.
//!
//! An identity is known in the graph while its bill unit is open. Of those that were archived the state has
//! 32 bits each, and archive and state folder the rest: a record whose identity is among them is compared
//! with the archived one.
//!
//! - **The first holds:** an equal copy is a duplicate, another content is in conflict with it. Both are told
//!   beside the graph.
//! - **Marks decide:** the archived records of the identity come back into the graph beside the new one.
//!   Which of them holds is found there, as ever, and what that changes in the closed bill unit is the next
//!   adjustment's. They leave again behind it.

use super::halt::Halt;
use crate::archive::known::UNNAMED;
use crate::bundle::Bundle;
use crate::bundle::count;
use crate::durable::{Closed, LeftVersion, versions};
use crate::job::Job;
use millrace_connectors::archive::{Archive, ArchiveError};
use millrace_connectors::mediate::Mediated;
use millrace_connectors::names::Names;
use millrace_connectors::store::Store;
use millrace_operators::domain::{
    Fate, FileId, Identity, Keep, Kind, Mark, Reason, RecordId, Suspense, Usage,
};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was archived, for whoever takes in records.
pub(super) struct Archived {
    pub(super) closed: Arc<Closed>,
    pub(super) names: Arc<Names>,
    pub(super) archive: Option<Archive>,
    /// Where the state is.
    pub(super) state: Arc<Store>,
    /// Records that were told beside the graph.
    pub(super) beside: RoaringTreemap,
    /// Archived records that came back since state was forgotten.
    pub(super) reopened: RoaringTreemap,
}

/// The archived records of an identity.
type Versions = Vec<LeftVersion>;

impl Archived {
    /// What `closed` has forgotten, and where it is.
    pub(super) fn of(
        job: &Job,
        closed: &Arc<Closed>,
        names: &Arc<Names>,
        state: &Arc<Store>,
    ) -> Result<Self, ArchiveError> {
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
            state: Arc::clone(state),
            beside: RoaringTreemap::new(),
            reopened: RoaringTreemap::new(),
        })
    }

    /// Whether a record was told beside the graph.
    pub(super) fn told(&self, record: RecordId) -> bool {
        self.beside.contains(record.0)
    }

    /// Whether archived records have come back, and what that changes waits for an adjustment.
    pub(super) fn corrects(&self) -> bool {
        !self.reopened.is_empty()
    }

    /// The archived records that have come back.
    pub(super) fn reopened(self) -> RoaringTreemap {
        self.reopened
    }

    /// Tells the records that archived ones hold against, and takes them out of `mediated`; where more than
    /// who came first decides, it brings the archived records back.
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
        let mut known = self.known(&asked)?;
        let mut corrected: BTreeSet<Identity> = BTreeSet::new();
        mediated.usage.retain_mut(|usage| {
            let Some(versions) = known.get(&usage.identity) else {
                return true;
            };
            if usage.is_passed_over() && is_plain(usage.mark.as_deref()) {
                // The first to report usage holds, whatever is passed over.
                return false;
            }
            let Some((reason, original)) = verdict(usage, versions) else {
                usage.mark.get_or_insert_default();
                corrected.insert(usage.identity);
                return true;
            };
            let record = usage.record;
            count(&mut bundle.fates, record.file(), Fate::of(reason), 1);
            self.beside.insert(record.0);
            let row = Suspense::of(usage, reason, Some(original));
            bundle.duplicates.push((row, 1));
            false
        });
        known.retain(|identity, _| corrected.contains(identity));
        known
            .into_values()
            .for_each(|versions| self.reopen(versions, bundle));
        Ok(())
    }

    /// Brings back the archived records of files, because others have come in the place of these.
    pub(super) fn reopen_files(
        &mut self,
        files: &BTreeSet<FileId>,
        bundle: &mut Bundle,
    ) -> Result<(), Halt> {
        if self.closed.identities.is_empty() {
            return Ok(());
        }
        let of_files = |usage: &Usage| files.contains(&usage.record.file());
        let kept = versions(&self.state, &self.closed.versions, of_files)?;
        let mut identities: BTreeSet<Identity> = kept.into_keys().collect();
        let archive = self.archive()?;
        let failed = |error: ArchiveError| Halt::Source(error.to_string());
        for period in archive.periods() {
            let period = archive.period(period).map_err(failed)?;
            for shard in period.shards() {
                let accounts = period.accounts(shard).map_err(failed)?;
                let accounts = accounts.keys().map(String::as_str);
                let rows = period.usage(accounts, &self.names).map_err(failed)?;
                let rows = rows.into_iter().filter(|row| of_files(&row.usage));
                identities.extend(rows.map(|row| row.usage.identity));
            }
        }
        for versions in self.known(&identities)?.into_values() {
            self.reopen(versions, bundle);
        }
        Ok(())
    }

    /// The records of an identity enter the graph, which says from now on what becomes of them.
    fn reopen(&mut self, versions: Versions, bundle: &mut Bundle) {
        let first = versions.iter().find(|version| is_first(version));
        let first = first.map(|version| version.usage.record);
        for version in versions {
            let record = version.usage.record;
            // Records of one epoch have come in the order of their positions.
            if is_plain(version.usage.mark.as_deref()) && first.is_some_and(|first| record < first)
            {
                continue;
            }
            count(&mut bundle.fates, record.file(), version.fate(), -1);
            match version.outvoted {
                Some(row) => {
                    self.beside.remove(record.0);
                    bundle.duplicates.push((row, -1));
                }
                None => bundle.archived.push((record, -1)),
            }
            self.reopened.insert(record.0);
            bundle.reopened.push(record);
            let mut usage = version.usage;
            usage.mark.get_or_insert_default();
            bundle.usage.push((usage, 1));
        }
        bundle.fates.retain(|_, diff| *diff != 0);
    }

    /// How many of these records the archive has under other identities, or with other contents.
    pub(super) fn otherwise(&self, records: &[Forgotten]) -> Result<u64, Halt> {
        let identities = records.iter().map(|(_, identity, _)| *identity);
        let known = match records.is_empty() {
            true => BTreeMap::new(),
            false => self.known(&identities.collect())?,
        };
        let differs = |(record, identity, content): &&Forgotten| {
            let Some(versions) = known.get(identity) else {
                return true;
            };
            // One that repeats another is archived as that.
            let mut own = versions.iter().map(|version| &version.usage);
            own.any(|own| own.record == *record && own.content() != *content)
        };
        Ok(u64::try_from(records.iter().filter(differs).count()).unwrap_or(u64::MAX))
    }

    fn archive(&self) -> Result<&Archive, Halt> {
        let unnamed = || Halt::Source(UNNAMED.to_owned());
        self.archive.as_ref().ok_or_else(unnamed)
    }

    /// The archived records of identities, but for those that are back in the graph.
    fn known(&self, identities: &BTreeSet<Identity>) -> Result<BTreeMap<Identity, Versions>, Halt> {
        let archive = self.archive()?;
        let is_back = |record: RecordId| {
            self.reopened.contains(record.0) || self.closed.reopened.contains(record.0)
        };
        let failed = |error: ArchiveError| Halt::Source(error.to_string());
        let mut known = versions(&self.state, &self.closed.versions, |usage| {
            identities.contains(&usage.identity) && !is_back(usage.record)
        })?;
        for period in archive.periods() {
            let period = archive.period(period).map_err(failed)?;
            let rows = period.usage_of(identities, &self.names).map_err(failed)?;
            for (identity, row) in rows {
                let usage = row.usage;
                let held = known.get(&identity).into_iter().flatten();
                let is_held = |held: &LeftVersion| held.usage.record == usage.record;
                if !is_back(usage.record) && !held.into_iter().any(is_held) {
                    let outvoted = None;
                    let versions = known.entry(identity).or_default();
                    versions.push(LeftVersion { usage, outvoted });
                }
            }
        }
        Ok(known)
    }
}

/// Whether nothing but who came first decides.
fn is_plain(mark: Option<&Mark>) -> bool {
    mark.is_none_or(|mark| mark.keep == Keep::First && mark.kind == Kind::Usage)
}

/// Whether a record came before all others that report the same usage.
fn is_first(version: &LeftVersion) -> bool {
    let gave_way = |row: Suspense| {
        matches!(row.reason, Reason::Amended | Reason::Voided) && row.original.is_some()
    };
    is_plain(version.usage.mark.as_deref()) && version.outvoted.is_none_or(gave_way)
}

/// What becomes of a record because of an archived one; nothing where the graph has to say.
fn verdict(usage: &Usage, versions: &Versions) -> Option<(Reason, RecordId)> {
    let marks = versions
        .iter()
        .map(|version| version.usage.mark.as_deref())
        .chain([usage.mark.as_deref()]);
    if !marks.into_iter().all(is_plain) {
        return None;
    }
    let first = versions.iter().find(|version| version.outvoted.is_none())?;
    let first = &first.usage;
    if usage.content() == first.content() {
        return Some((Reason::Duplicate, first.record));
    }
    // It may be corrected, and what it is told as then is the graph's to say, as far as it can tell which
    // of the two came first.
    let is_told = usage.mark.is_none() || usage.record < first.record;
    is_told.then_some((Reason::Conflict, first.record))
}

/// Usage of a record that the state has forgotten, as it is mediated now: the record, its identity and its
/// content.
pub(super) type Forgotten = (RecordId, Identity, u64);
