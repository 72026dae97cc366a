//! Forgetting: state without the usage of bill units that are closed and archived.
//!
//! ```text
//!  journal ─► without the records that leave, their fates in their places ─► journal'
//!  closed: until when, where balance groups stood, which records ──────────► closed/N
//!                                                  both named by one manifest ─┘
//! ```
//!
//! A run that begins with such state holds open usage alone. What usage of closed bill units came to is
//! kept: billing lines, what subscriptions were charged without usage, the counts of files. Nothing is
//! forgotten while a run lasts: what a graph holds is what its journal says, and a run that forgets ends
//! and begins again.

use super::error::DurableError;
use super::generation::Generation;
use super::journal::{Epochs, Item, Left, without};
use super::manifest::Manifest;
use super::names::{JOURNAL, rank};
use super::object::{Object, create, packed};
use super::versions::{LeftVersion, write};
use crate::bundle::Due;
use crate::graph::{Opening, Resume, Shift, Stand};
use millrace_connectors::names::Entered;
use millrace_connectors::store::Store;
use millrace_operators::domain::{
    Activity, ClosedUnits, GroupKey, Identity, Period, Reason, RecordId, Suspense, Usage,
};
use millrace_operators::epoch::{Diff, Epoch};
use roaring::{RoaringBitmap, RoaringTreemap};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const CLOSED: &str = "closed";

/// An archived period that the bill knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeriod {
    /// The number of the last adjustment.
    pub sequence: u32,
    /// The digest of the period up to there: what was archived in its place would be another.
    pub digest: String,
}

/// What is closed, and what is left of it in the state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// How often something was forgotten.
    pub number: u64,
    /// Until when the bill units of accounts are closed.
    pub units: ClosedUnits,
    /// Where balance groups stood then.
    pub stands: BTreeMap<GroupKey, Stand>,
    /// Where adjustments have moved some of them, from an epoch on.
    pub moved: BTreeMap<GroupKey, Stand>,
    /// The epoch.
    pub since: Epoch,
    /// What subscriptions were charged without usage, as it was billed first.
    pub activity: Vec<Activity>,
    /// The archived periods, as the bill knows them.
    pub periods: BTreeMap<Period, KnownPeriod>,
    /// The records that were archived.
    pub records: RoaringTreemap,
    /// Those of them that are open again, because they belong to other bill units now, or others of their
    /// identities have come that may hold.
    pub reopened: RoaringTreemap,
    /// Their identities, 32 bits of each: about two bytes a record. Whoever finds one here asks the archive.
    pub identities: RoaringBitmap,
    /// What decides between them and records of their identities that come later.
    pub versions: Vec<Object>,
    /// What the next run begins with.
    pub due: Due,
    /// Texts behind keys of it that no commit has made durable: of what the archive alone knows.
    pub names: Vec<Entered>,
}

impl Due {
    /// Whether nothing follows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.usage.is_empty() && self.reopened.is_empty() && self.lines.is_empty()
    }

    /// A record leaves the graph, and is told beside it.
    pub fn leave(&mut self, version: LeftVersion) {
        self.count(&version, 1);
        self.usage.push(version.usage);
    }

    /// A record that has left comes back.
    pub fn come_back(&mut self, version: LeftVersion) {
        self.count(&version, -1);
        self.reopened.push(version.usage);
    }

    fn count(&mut self, version: &LeftVersion, diff: Diff) {
        let file = version.usage.record.file();
        *self.fates.entry((file, version.fate())).or_default() += diff;
        let row = version.outvoted.into_iter();
        self.duplicates.extend(row.map(|row| (row, diff)));
    }

    /// Those of the records that are charged, and so told by no row of suspense.
    pub fn monetised(&self) -> impl Iterator<Item = (RecordId, Diff)> {
        let told = self.duplicates.iter();
        let told: BTreeSet<(RecordId, Diff)> =
            told.map(|(row, diff)| (row.record, *diff)).collect();
        let leave = self.usage.iter().map(|usage| (usage.record, 1));
        let come_back = self.reopened.iter().map(|usage| (usage.record, -1));
        let all = leave.chain(come_back);
        all.filter(move |record| !told.contains(record))
    }

    /// What leaves of it, as it will be known.
    fn versions(&self) -> impl Iterator<Item = LeftVersion> {
        let told = self.duplicates.iter().filter(|(_, diff)| *diff > 0);
        let told: BTreeMap<RecordId, Suspense> = told.map(|(row, _)| (row.record, *row)).collect();
        self.usage.iter().map(move |usage| LeftVersion {
            usage: usage.clone(),
            outvoted: told.get(&usage.record).copied(),
        })
    }
}

/// Whether the archive alone does not say what becomes of a record when another of its identity comes.
fn is_kept(version: &LeftVersion) -> bool {
    let reason = version.outvoted.map(|row| row.reason);
    let plain = reason.is_none_or(|reason| matches!(reason, Reason::Duplicate | Reason::Conflict));
    !plain || version.usage.mark.is_some()
}

/// What is kept of an identity that was archived.
fn mark_of(identity: Identity) -> u32 {
    u32::try_from(identity.0[1] >> 32).unwrap_or(0)
}

impl Closed {
    /// Whether the archive may have a record of this identity.
    #[must_use]
    pub fn may_know(&self, identity: Identity) -> bool {
        self.identities.contains(mark_of(identity))
    }

    /// What a manifest says; nothing is closed where it says nothing.
    ///
    /// # Errors
    /// When the object is missing or damaged, or cannot be read.
    pub fn of(store: &Store, manifest: &Manifest) -> Result<Self, DurableError> {
        let Some(object) = &manifest.closed else {
            return Ok(Self::default());
        };
        object.read_packed(store)
    }

    /// Where balance groups stand, adjustments and all.
    #[must_use]
    pub fn opening(&self) -> Opening {
        let mut stands = self.stands.clone();
        stands.extend(self.moved.clone());
        Opening(stands)
    }

    /// What a graph of open usage begins with.
    #[must_use]
    pub fn resume(&self, live: Epoch, told: Epoch) -> Resume {
        let shift = (!self.moved.is_empty()).then(|| Shift {
            at: self.since,
            opening: Arc::new(self.opening()),
        });
        Resume {
            live,
            told,
            opening: Arc::new(Opening(self.stands.clone())),
            shift,
            closed: Arc::new(self.units.clone()),
            activity: Arc::new(self.activity.clone()),
            ..Resume::default()
        }
    }

    /// The records that are not in the journal any more.
    #[must_use]
    pub fn forgotten(&self) -> RoaringTreemap {
        &self.records - &self.reopened
    }

    /// The same, where these records are open again, too.
    #[must_use]
    pub fn with_reopened(&self, reopened: &RoaringTreemap) -> Self {
        Self {
            reopened: &self.reopened | reopened,
            ..self.clone()
        }
    }

    /// Whether a record was archived once.
    #[must_use]
    pub fn has(&self, record: RecordId) -> bool {
        self.records.contains(record.0)
    }
}

/// Forgets, between two runs of a job.
pub struct Forgetting<'a> {
    /// Where the state is.
    pub store: &'a Store,
    /// The run that may commit.
    pub generation: &'a mut Generation,
}

impl Forgetting<'_> {
    /// The usage of records, as it stands in the journal.
    ///
    /// # Errors
    /// When an object is missing or damaged, or cannot be read.
    pub fn usage(
        &self,
        records: &BTreeSet<RecordId>,
    ) -> Result<BTreeMap<RecordId, Usage>, DurableError> {
        let mut found: BTreeMap<RecordId, Usage> = BTreeMap::new();
        if records.is_empty() {
            return Ok(found);
        }
        for object in &self.generation.manifest.journal {
            let content = object.read(self.store)?;
            for item in Epochs::of(&content) {
                let item = item.map_err(|problem| object.damaged(self.store, problem))?;
                let Item::Epoch(entry) = item else {
                    continue;
                };
                let rows = entry.lanes.into_iter().flat_map(|(_, rows)| rows);
                // What goes is told before what comes.
                for (usage, diff) in rows.filter(|(usage, _)| records.contains(&usage.record)) {
                    if diff > 0 {
                        found.insert(usage.record, usage);
                    } else if found.get(&usage.record) == Some(&usage) {
                        found.remove(&usage.record);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Commits state that does not have the usage of `gone` any more, nor duplicates of it, which are
    /// told by their rows. Records that are `known` have left before.
    ///
    /// # Errors
    /// When another run has taken over, or the state cannot be read or written.
    ///
    /// # Panics
    /// Never: memory takes all bytes.
    pub fn forget(
        &mut self,
        closed: &Closed,
        gone: &RoaringTreemap,
        duplicates: &BTreeMap<RecordId, Suspense>,
        known: &RoaringTreemap,
    ) -> Result<(), DurableError> {
        let before = self.generation.manifest.clone();
        let (commit, tag) = (before.commit + 1, self.generation.tag());
        let mut closed = closed.clone();
        let late = closed.due.usage.iter().map(|usage| mark_of(usage.identity));
        closed.identities.extend(late);
        let versions = closed.due.versions().filter(is_kept);
        let mut versions: BTreeMap<RecordId, LeftVersion> = versions
            .map(|version| (version.usage.record, version))
            .collect();
        let mut left = |usage: &Usage, diff: Diff| {
            let record = usage.record;
            let of_gone = || gone.contains(record.0).then_some(Left::Monetised);
            let duplicate = duplicates.get(&record).copied().map(Left::Duplicate);
            let left = duplicate.or_else(of_gone)?;
            closed.identities.insert(mark_of(usage.identity));
            let version = LeftVersion {
                usage: usage.clone(),
                outvoted: match left {
                    Left::Monetised => None,
                    Left::Duplicate(row) => Some(row),
                },
            };
            if !known.contains(record.0) && is_kept(&version) {
                if diff > 0 {
                    versions.insert(record, version);
                } else if versions.get(&record) == Some(&version) {
                    versions.remove(&record);
                }
            }
            Some(left)
        };
        let mut journal = Vec::with_capacity(before.journal.len());
        for (index, object) in before.journal.iter().enumerate() {
            let content = object.read(self.store)?;
            let less = without(&content, &mut left)
                .map_err(|problem| object.damaged(self.store, problem))?;
            journal.push(match less {
                None => object.clone(),
                Some((content, rows)) => {
                    let mark = "+".repeat(rank(object));
                    let name = format!("{JOURNAL}/{commit:020}-{tag}-{index}{mark}.journal");
                    self.write(name, &content, rows)?
                }
            });
        }
        let place = format!("{commit:020}-{tag}");
        closed.versions = write(self.store, &closed.versions, versions, &place)?;
        let content = packed(&closed);
        let name = format!("{CLOSED}/{place}.closed");
        let next = Manifest {
            // Everything is published, and the lines that stand have all charges in them.
            from: before.live,
            closed: Some(self.write(name, &content, 0)?),
            journal,
            outputs: Vec::new(),
            ..before.clone()
        };
        self.generation.commit(self.store, next)?;
        let kept = &self.generation.manifest.journal;
        let old = before.journal.iter().filter(|old| !kept.contains(old));
        for object in old.chain(&before.closed) {
            self.store.remove(&object.name)?;
        }
        Ok(())
    }

    fn write(&self, name: String, content: &[u8], rows: u64) -> Result<Object, DurableError> {
        let object = Object::of(name, content, rows);
        create(self.store, &object, content)?;
        Ok(object)
    }
}
