//! What a run archives at its end: the bill units that have ended, with a grace.
//!
//! ```text
//!  board ──► due: lines of closed periods, or what they differ by ┐
//!  worker 0 ─ identities, groups ─┐                ┌─ shard 0, 2 … ┤
//!  worker 1 ─ identities, groups ─┼─► shared ──────┼─ shard 1, 3 … ┼─► files ─► manifest
//!     every worker's usage ───────┘  pass by pass  └───────────────┘
//! ```
//!
//! Workers hold usage by service and balance groups by group; the archive has it by account. So the
//! workers lay what they hold on a table, some shards at a time to bound memory, and each then writes
//! the shards that are its own. The manifests are written last, by [`Archiver::commit`].
//!
//! - **Once:** a period is archived by the run that creates its first manifest. A run that ends before
//!   leaves nothing that counts; the next archives the period from the same state, to the same bytes.
//! - **With durable state** this comes after the last commit: what is archived is committed, and is then
//!   forgotten by [`forget`]. Where a run ended between the two, and the period comes to other lines now,
//!   the accounts whose lines differ, and those that share balance groups with them, are written once
//!   more with what is billed more or less, as the next sequence. So are accounts that are new to an
//!   archived period. The archive then always adds up to the bill.
//! - **Without** it files are numbered anew by every run, and usage of two runs cannot be told apart: a
//!   period stays as it was billed, and the run says that it comes to other lines.

mod closing;
mod collect;
mod committed;
mod corrections;
mod due;
mod errand;
mod forget;
mod groups;
mod keys;
pub(crate) mod known;
mod setting;
mod together;

pub use closing::Closing;
pub(crate) use closing::members;
pub use collect::{Collected, collect, moved};
pub use committed::{Archived, Committed, Leaving};
pub use forget::{Left, forget};
pub(crate) use groups::never_archived;
pub(crate) use keys::LineKeys;
pub use setting::ArchiveSetting;
pub use together::{Others, lend};

use crate::graph::Open;
use crate::present::Present;
use crate::worker::Seat;
use due::Due;
use errand::{Errand, passes};
use groups::{Standings, WantedGroups, of_shard};
use millrace_connectors::archive::{
    Archive, ArchiveError, Place, ShardContent, ShardEntry, StateMark, write_manifest,
    write_reference, write_shard,
};
use millrace_connectors::output::AggregatedLine;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    AccountKey, ClosedUnits, EventTime, GroupKey, Identity, Period, RecordId,
};
use millrace_operators::epoch::shard;
use setting::Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, OnceLock};
use together::Found;

type Identities = Arc<Vec<(RecordId, Identity)>>;

/// Archives together with the other workers.
pub struct Archiver {
    setting: ArchiveSetting,
    /// Periods that are archived already.
    archive: Archive,
    /// The present, where it is known only when everything is read.
    present: OnceLock<Present>,
    /// What is to be done, found by the first worker.
    task: OnceLock<Result<Task, ArchiveError>>,
    met: OnceLock<Barrier>,
    table: Mutex<Table>,
}

/// What the workers share.
#[derive(Default)]
struct Table {
    identities: Vec<Identities>,
    /// The first usage of each balance group.
    begun: BTreeMap<GroupKey, EventTime>,
    standings: BTreeMap<GroupKey, Standings>,
    /// Of the pass.
    collected: Collected,
    written: BTreeMap<Period, BTreeMap<u64, ShardEntry>>,
    leaving: Leaving,
    failure: Option<ArchiveError>,
}

/// What is to be done.
struct Task {
    due: Due,
    /// The accounts of each balance group.
    groups: BTreeMap<GroupKey, BTreeSet<AccountKey>>,
    /// Until when bill units are closed.
    units: ClosedUnits,
    errand: Errand,
}

impl Task {
    fn find(
        archive: &Archive,
        setting: &ArchiveSetting,
        lines: &[AggregatedLine],
        reference: &Reference,
    ) -> Result<Self, ArchiveError> {
        let mut due = Due::find(archive, setting, lines, reference)?;
        let (groups, units) = (members(reference), due.closing.units());
        let errand = Errand {
            groups: WantedGroups::of(&groups, due.periods(), &units),
            writes: due.slots().next().is_some(),
            forgets: setting.generation.is_some(),
        };
        Ok(Self {
            due,
            groups,
            units,
            errand,
        })
    }
}

impl Archiver {
    /// An archiver of one run.
    ///
    /// # Errors
    /// When the archive cannot be read, or is another job's.
    pub fn new(setting: ArchiveSetting) -> Result<Self, ArchiveError> {
        let archive = Archive::of(Arc::clone(&setting.store))?;
        if let Some(newest) = archive.periods().next_back() {
            setting.refuse_others(archive.period(newest)?.manifest())?;
        }
        Ok(Self {
            archive,
            setting,
            present: OnceLock::new(),
            task: OnceLock::new(),
            met: OnceLock::new(),
            table: Mutex::default(),
        })
    }

    /// The same, of state that has come this far.
    #[must_use]
    pub fn of_state(mut self, state: Option<StateMark>) -> Self {
        self.setting.state = state;
        self
    }

    /// Bill units close by this present.
    pub fn at(&self, present: Present) {
        self.present.get_or_init(|| present);
    }

    fn setting(&self) -> ArchiveSetting {
        let present = self.present.get().copied();
        ArchiveSetting {
            present: present.unwrap_or(self.setting.present),
            ..self.setting.clone()
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no archiving worker has failed")
    }

    /// Waits until every worker of this process is here.
    fn meet(&self, workers: u64) {
        let workers = usize::try_from(workers).unwrap_or(1);
        self.met.get_or_init(|| Barrier::new(workers)).wait();
    }

    /// Archives what this worker holds of closed periods, together with the others of this process:
    /// every worker of the run must call this. `lines` are all that is billed. A failure is told by
    /// [`Self::commit`].
    pub fn work(&self, open: &Open, seat: Seat, lines: &[AggregatedLine], reference: &Reference) {
        self.work_with(None, open, seat, Some((lines, reference)));
    }

    /// The same, together with the workers of other processes, where there are some. They must be told
    /// of a run that has failed, too.
    pub fn work_with(
        &self,
        mut others: Option<Others<'_>>,
        open: &Open,
        seat: Seat,
        settled: Option<(&[AggregatedLine], &Reference)>,
    ) {
        let task = settled.and_then(|(lines, reference)| {
            let find = || Task::find(&self.archive, &self.setting(), lines, reference);
            self.task.get_or_init(find).as_ref().ok()
        });
        if let Some(others) = &mut others {
            others.tell(task.map(|task| (&task.due.closing, &task.errand)));
        }
        let Some(task) = task else {
            return;
        };
        let writers = others.as_ref().map_or(seat.peers, Others::writers);
        let (due, errand) = (&task.due, &task.errand);
        let mut closing = due.closing.clone();
        self.lay(Found::of(open, &mut closing, errand));
        let found = others.as_mut().map(Others::found);
        found
            .into_iter()
            .flatten()
            .for_each(|found| self.lay(found));
        self.meet(writers);
        if errand.forgets {
            self.table().leaving.units = task.units.clone();
        }
        if !errand.writes {
            return;
        }
        let identities = self.table().identities.clone();
        for shards in passes(seat) {
            let collected = collect(open, |account, profile, time| {
                let of_pass = shards.contains(&shard(account.0));
                let period = of_pass.then(|| closing.period(account, profile, time))?;
                period.filter(|period| due.wants(*period, account))
            });
            self.table().collected.append(collected);
            for mut collected in others.as_mut().map(Others::collected).into_iter().flatten() {
                // They do not know of which accounts something is written.
                collected.retain(|(period, _), account| due.wants(period, account));
                self.table().collected.append(collected);
            }
            self.meet(writers);
            for slot in due.slots().filter(|(_, shard)| shards.contains(shard)) {
                if slot.1 % writers == seat.worker {
                    self.write(slot, task, &identities);
                }
            }
            self.meet(writers);
        }
    }

    fn lay(&self, found: Found) {
        let mut table = self.table();
        for (group, time) in found.begun {
            let first = table.begun.entry(group).or_insert(time);
            *first = (*first).min(time);
        }
        table.standings.extend(found.standings);
        table.leaving.stands.extend(found.stands);
        table.leaving.records |= found.records;
        table.identities.push(Arc::new(found.identities));
    }

    /// Writes a shard of a period from what lies on the table.
    fn write(&self, slot: Slot, Task { due, groups, .. }: &Task, identities: &[Identities]) {
        let (mut content, standings, begun) = {
            let mut table = self.table();
            if table.failure.is_some() {
                return;
            }
            let content = table.collected.take(slot);
            (content, table.standings.clone(), table.begun.clone())
        };
        let (period, shard) = slot;
        let stood = &self.setting.closed;
        let began = |group: GroupKey| {
            let before = begun.get(&group).is_some_and(|time| *time < period.start());
            before || stood.stands.contains_key(&group) || stood.moved.contains_key(&group)
        };
        content.lines = due.lines(slot).to_vec();
        content.accounts = due.accounts(slot);
        content
            .accounts
            .extend(content.usage.iter().map(|row| row.account));
        for row in &mut content.usage {
            let record = row.usage.record;
            let found = identities.iter().find_map(|list| {
                let place = list
                    .binary_search_by_key(&record, |(record, _)| *record)
                    .ok()?;
                list.get(place)
            });
            // A rated record was unique, and every unique record has its identity.
            row.usage.identity = found.expect("a billed record has an identity").1;
        }
        content.groups = of_shard(period, &content.accounts, groups, standings, began);
        let place = Place {
            period,
            sequence: due.sequence(period),
            generation: self.setting.generation.unwrap_or(0),
            shard,
        };
        let written = write_shard(&self.setting.store, place, content, &self.setting.texts);
        let mut table = self.table();
        match written {
            Ok(entry) => {
                table
                    .written
                    .entry(period)
                    .or_default()
                    .insert(shard, entry);
            }
            Err(error) => {
                table.failure.get_or_insert(error);
            }
        }
    }

    /// Makes what the workers wrote be there.
    ///
    /// # Errors
    /// When a worker or this could not write, the archive cannot be read, or another run has archived
    /// the same meanwhile.
    ///
    /// # Panics
    /// After a panic of a worker, which ends the process anyway.
    pub fn commit(self, reference: &Reference) -> Result<Committed, ArchiveError> {
        let setting = self.setting();
        let table = self.table.into_inner();
        let mut table = table.expect("no archiving worker has failed");
        if let Some(failure) = table.failure {
            return Err(failure);
        }
        let Some(Task { due, .. }) = self.task.into_inner().transpose()? else {
            return Ok(Committed::default());
        };
        let mut committed = Committed {
            differ: due.differ.clone(),
            leaving: table.leaving,
            ..Committed::default()
        };
        if table.written.is_empty() {
            return Ok(committed);
        }
        let ArchiveSetting { store, texts, .. } = &setting;
        let copy = write_reference(store, reference, &texts.names)?;
        // The last first: an adjustment tells where the periods behind it begin, and is found to be
        // due as long as it is not written itself.
        while let Some((period, shards)) = table.written.pop_last() {
            let sequence = due.sequence(period);
            if sequence == 0 {
                committed.archived.push(Archived {
                    period,
                    accounts: shards.values().map(|shard| shard.accounts).sum(),
                    records: shards.values().map(|shard| shard.records).sum(),
                });
            } else {
                let lines = due.count(period);
                committed.adjusted.push((period, sequence, lines));
            }
            write_manifest(store, setting.terms(period, sequence), &copy, shards)?;
        }
        committed.archived.reverse();
        committed.adjusted.reverse();
        Ok(committed)
    }
}

/// Content that is empty but for what was collected.
impl Collected {
    fn take(&mut self, slot: Slot) -> ShardContent {
        ShardContent {
            usage: self.usage.remove(&slot).unwrap_or_default(),
            prices: self.prices.remove(&slot).unwrap_or_default(),
            ..ShardContent::default()
        }
    }
}

#[cfg(test)]
mod tests;
