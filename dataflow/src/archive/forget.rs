//! What a run with durable state does behind its end: adjusts closed bill units, and forgets them.
//!
//! ```text
//!  records suspended as PERIOD_CLOSED ─┐
//!  reference data ─────────────────────┼─► adjust: the archive's next sequences
//!                                      │      │
//!  rated records of closed bill units ─┼──────┼─► leave the state
//!                                      └──────┴─► due: what the next run tells of it
//! ```
//!
//! - **Once.** An adjustment is there when its manifest is, and what follows from it for the bill is read
//!   from the archive, not remembered: a run that is killed in between is completed by the next, which
//!   finds the archive ahead of what its state knows.
//! - **Archived records** that belong to bill units which are not closed, because a service is somebody
//!   else's now, are open again: the next run feeds them. Where one was sent once more meanwhile, the
//!   record that is there stays, and the other is its duplicate.
//! - **Late records** that were adjusted leave by a retraction that the next run feeds, so their rows of
//!   suspense are taken back where they were told.

use super::due::differences;
use super::{ArchiveSetting, Leaving, adjustment, members};
use crate::adjust::{AdjustError, Adjusted, Adjustment, LateUsage, adjust};
use crate::board::Board;
use crate::durable::{Closed, Due, Forgetting};
use crate::graph::Stand;
use crate::replay::scope::{Links, movement};
use crate::run::RunError;
use differential_dataflow::difference::Abelian as _;
use millrace_connectors::archive::{
    Archive, ArchiveError, BilledUsage, write_manifest, write_reference,
};
use millrace_connectors::output::{AggregatedLine, SuspendedUsage};
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    Fate, GroupKey, LineSum, Period, Reason, RecordId, Suspense, Usage,
};
use millrace_operators::epoch::{Diff, shard};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a run leaves to be settled.
pub struct Left<'a> {
    /// What was archived.
    pub leaving: Leaving,
    /// What left the dataflow.
    pub board: &'a Board,
    /// Suspended records, with the reason of each.
    pub suspended: BTreeMap<RecordId, Reason>,
    /// The reference data in force.
    pub reference: &'a Reference,
    /// Worker threads.
    pub workers: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Settled {
    /// Whether the job goes on from other state than it ended with.
    pub again: bool,
    /// What a person should hear of it.
    pub told: Vec<String>,
}

/// Adjusts what is archived and forgets what was archived; see the module.
///
/// # Errors
/// When archive or state cannot be read or written, or another run has taken over.
pub fn forget(
    setting: &ArchiveSetting,
    forgetting: &mut Forgetting<'_>,
    left: Left<'_>,
) -> Result<Settled, RunError> {
    let before = &*setting.closed;
    let late = late(forgetting, &left)?;
    let mut adjusted = Adjusted::default();
    if !late.is_empty() || !before.periods.is_empty() {
        adjusted = bill(setting, forgetting.generation.number, &late, &left)?;
        // What is open in the state needs nobody to bring it back.
        let forgotten = before.forgotten();
        let returned = &mut adjusted.returned;
        returned.retain(|usage| forgotten.contains(usage.record.0));
    }
    let archive = Archive::of(Arc::clone(&setting.store))?;
    let due = due(setting, &archive, &late, &adjusted, &left)?;

    let mut gone = left.leaving.records;
    // What is archived and still suspended has no fate to leave behind.
    left.suspended.keys().for_each(|record| {
        gone.remove(record.0);
    });
    let stopped = left.board.stopped().into_iter();
    let repeated = stopped.filter_map(|stopped| match stopped {
        SuspendedUsage::Suspense(duplicate) => Some(duplicate),
        SuspendedUsage::Fault(_) => None,
    });
    let originals = repeated.filter(|duplicate| {
        let original = duplicate.original;
        original.is_some_and(|original| gone.contains(original.0))
    });
    let duplicates: BTreeMap<RecordId, Suspense> = originals
        .map(|duplicate| (duplicate.record, duplicate))
        .collect();
    let late_now = due.usage.iter().map(|usage| &usage.record);
    let leaving: RoaringTreemap = duplicates.keys().chain(late_now).map(|r| r.0).collect();
    let leaving = leaving | &gone;
    let mut units = before.units.clone();
    units.extend(left.leaving.units);
    let mut moved = moved(setting, &archive, left.reference)?;
    let again = !gone.is_empty() || !due.is_empty() || !moved.is_empty();
    if !again && units == before.units {
        return Ok(Settled::default());
    }
    // The lines that stand are what the graph's own groups came to.
    let mut stands = before.opening().0;
    stands.extend(left.leaving.stands);
    moved.retain(|group, stand| stands.get(group) != Some(stand));
    let mut reopened = &before.reopened - &leaving;
    reopened.extend(due.reopened.iter().map(|usage| usage.record.0));
    let is_closed = |account, time| units.holds(account, time);
    let mut activity = left.board.activity();
    activity.retain(|made| is_closed(made.account, made.billed_at()));
    let periods = archive.periods();
    let closed = Closed {
        number: before.number + u64::from(again),
        activity,
        stands,
        moved,
        since: forgetting.generation.manifest.live,
        periods: periods
            .filter_map(|period| Some((period, archive.sequence(period)?)))
            .collect(),
        records: &before.records | &leaving,
        reopened,
        identities: before.identities.clone(),
        units,
        due,
    };
    // Late records that were adjusted before have come and gone since.
    let gone = gone | (before.forgotten() - &closed.reopened);
    forgetting.forget(&closed, &gone, &duplicates)?;
    let adjusted = adjusted.written.iter();
    Ok(Settled {
        again,
        told: adjusted
            .map(|(period, sequence, lines)| adjustment(*period, *sequence, *lines))
            .collect(),
    })
}

/// The records that wait for an adjustment.
fn late(forgetting: &Forgetting<'_>, left: &Left<'_>) -> Result<Vec<Usage>, RunError> {
    let waiting = left.suspended.iter();
    let waiting = waiting.filter(|(_, reason)| **reason == Reason::PeriodClosed);
    let records: BTreeSet<RecordId> = waiting.map(|(record, _)| *record).collect();
    Ok(forgetting.usage(&records)?.into_values().collect())
}

/// Brings the archive up to date with late records and reference data.
fn bill(
    setting: &ArchiveSetting,
    generation: u64,
    late: &[Usage],
    left: &Left<'_>,
) -> Result<Adjusted, RunError> {
    let archive = Archive::of(Arc::clone(&setting.store))?;
    let archive = with_periods(setting, archive, late, left)?;
    let file = |usage: &Usage| LateUsage {
        usage: usage.clone(),
        file: setting.texts.file(usage.record.file()),
    };
    let forgotten = setting.closed.forgotten();
    let waits: BTreeSet<RecordId> = late.iter().map(|late| late.record).collect();
    let adjusted = adjust(Adjustment {
        archive: &archive,
        names: Arc::clone(&setting.texts.names),
        late: late.iter().map(file).collect(),
        ahead: ahead(setting, &archive).collect(),
        taken_back: taken_back(setting, &archive)?,
        is_billed_here: &|record| forgotten.contains(record.0) || waits.contains(&record),
        reference: left.reference,
        clock: setting.now,
        workers: left.workers,
        generation,
    });
    adjusted.map_err(|error| match error {
        AdjustError::Archive(error) => RunError::Archive(error),
        AdjustError::Numbered { .. } => RunError::Source(error.to_string()),
    })
}

/// Late records may be of bill units in which nobody used anything: such a period is archived empty,
/// and adjusted.
fn with_periods(
    setting: &ArchiveSetting,
    archive: Archive,
    late: &[Usage],
    left: &Left<'_>,
) -> Result<Archive, ArchiveError> {
    let links = Links::of(left.reference);
    let mut closing = setting.closing(left.reference);
    let mut missing: BTreeSet<Period> = BTreeSet::new();
    for usage in late {
        let payer = links.payers_at(usage.service, usage.time).next();
        let payer = payer.and_then(|payer| Some((payer, closing.profile(payer)?)));
        let period = payer.and_then(|(payer, profile)| closing.period(payer, &profile, usage.time));
        missing.extend(period.filter(|period| archive.sequence(*period).is_none()));
    }
    if missing.is_empty() {
        return Ok(archive);
    }
    let copy = write_reference(&setting.store, left.reference, &setting.texts.names)?;
    for period in missing {
        let terms = setting.terms(period, 0);
        write_manifest(&setting.store, terms, &copy, BTreeMap::new())?;
    }
    Archive::of(Arc::clone(&setting.store))
}

/// The periods whose archive is ahead of what the state knows.
fn ahead<'a>(
    setting: &'a ArchiveSetting,
    archive: &'a Archive,
) -> impl Iterator<Item = (Period, u32)> {
    archive.periods().filter_map(|period| {
        // The bill of a period that the state does not know yet is known as it was archived first.
        let known = setting.closed.periods.get(&period).copied();
        let known = known.unwrap_or_default();
        (archive.sequence(period)? > known).then_some((period, known))
    })
}

/// The records that adjustments which the state does not know of took from a period, and that no
/// period has.
fn taken_back(setting: &ArchiveSetting, archive: &Archive) -> Result<Vec<LateUsage>, ArchiveError> {
    let names = &setting.texts.names;
    let forgotten = setting.closed.forgotten();
    let mut taken: BTreeMap<RecordId, LateUsage> = BTreeMap::new();
    let mut held: BTreeSet<RecordId> = BTreeSet::new();
    for (period, known) in ahead(setting, archive) {
        let now = archive.period(period)?;
        let accounts = now.accounts_since(known)?;
        let accounts = || accounts.iter().map(String::as_str);
        held.extend(
            now.usage(accounts(), names)?
                .iter()
                .map(|row| row.usage.record),
        );
        let before = now.until(known);
        for BilledUsage { usage, account, .. } in before.usage(accounts(), names)? {
            if forgotten.contains(usage.record.0) {
                let files = before.files(shard(account.0))?;
                let file = files.get(&usage.record.file());
                let file = file.map_or_else(|| "".into(), |file| file.as_str().into());
                taken.insert(usage.record, LateUsage { usage, file });
            }
        }
    }
    taken.retain(|record, _| !held.contains(record));
    Ok(taken.into_values().collect())
}

/// What the next run tells of the adjustments.
fn due(
    setting: &ArchiveSetting,
    archive: &Archive,
    late: &[Usage],
    adjusted: &Adjusted,
    left: &Left<'_>,
) -> Result<Due, ArchiveError> {
    let repeats: BTreeMap<RecordId, RecordId> = adjusted.duplicates.iter().copied().collect();
    let waits: BTreeSet<RecordId> = {
        let suspended = adjusted.suspended.iter().map(|suspense| suspense.record);
        let open = adjusted.open.iter().map(|late| late.usage.record);
        suspended.chain(open).collect()
    };
    let mut due = Due::default();
    for usage in late.iter().filter(|late| !waits.contains(&late.record)) {
        let record = usage.record;
        // A record that repeats itself was adjusted by a run that ended before it could tell.
        let original = repeats
            .get(&record)
            .copied()
            .filter(|first| *first != record);
        let reason = match adjusted.conflicts.contains(&record) {
            true => Reason::Conflict,
            false => Reason::Duplicate,
        };
        let fate = match original {
            None => Fate::Monetised,
            Some(_) => {
                due.duplicates.push(Suspense {
                    record,
                    reason,
                    service: usage.service,
                    class: usage.class,
                    time: usage.time,
                    item: None,
                    original,
                });
                Fate::of(reason)
            }
        };
        let count: &mut Diff = due.fates.entry((record.file(), fate)).or_default();
        *count += 1;
        due.usage.push(usage.clone());
    }
    for usage in &adjusted.returned {
        let file = usage.record.file();
        *due.fates.entry((file, Fate::Monetised)).or_default() -= 1;
        due.reopened.push(usage.clone());
    }
    let rated: BTreeSet<Period> = adjusted.rated.iter().map(|(period, _)| *period).collect();
    let known = ahead(setting, archive).map(|(period, _)| period);
    let mut closing = setting.closing(left.reference);
    let changed = known.chain(rated).map(|period| (period, Vec::new()));
    let mut changed: BTreeMap<Period, Vec<&AggregatedLine>> = changed.collect();
    let lines = match changed.is_empty() {
        true => Vec::new(),
        false => left.board.lines(),
    };
    for line in &lines {
        let period = closing.period_of_line(&line.key);
        let lines = period.and_then(|period| changed.get_mut(&period));
        lines.into_iter().for_each(|lines| lines.push(line));
    }
    for (period, lines) in changed {
        let opened = archive.period(period)?;
        let differences = differences(&opened, &lines, |_| true, setting)?;
        due.lines.extend(differences.into_iter().map(|line| {
            let mut sum: LineSum = line.sum;
            sum.negate();
            (line.key, sum)
        }));
    }
    Ok(due)
}

/// Where balance groups stand that adjustments may have moved: where the last archived period that has
/// them says.
fn moved(
    setting: &ArchiveSetting,
    archive: &Archive,
    reference: &Reference,
) -> Result<BTreeMap<GroupKey, Stand>, ArchiveError> {
    let names = &setting.texts.names;
    let mut touched: BTreeMap<GroupKey, BTreeSet<String>> = BTreeMap::new();
    for (period, known) in ahead(setting, archive) {
        for group in archive.period(period)?.groups_since(known)? {
            let key = names.enter_group(&group.pool, &group.currency);
            touched.entry(key).or_default().extend(group.accounts);
        }
    }
    let members = members(reference);
    let mut stands = BTreeMap::new();
    for period in archive.periods().rev() {
        if touched.is_empty() {
            break;
        }
        let opened = archive.period(period)?;
        let mut found = Vec::new();
        for (key, accounts) in &touched {
            let now = members.get(key).into_iter().flatten();
            let now = now.map(|account| names.account(*account).to_string());
            for account in now.chain(accounts.iter().cloned()) {
                let entry = opened.find(&account)?;
                let groups = entry.into_iter().flat_map(|entry| entry.groups);
                let mut own =
                    groups.filter(|group| names.enter_group(&group.pool, &group.currency) == *key);
                if let Some(group) = own.next() {
                    let (at, moved) = (period.end(), movement(&group.closing));
                    found.push((*key, Stand { at, moved }));
                    break;
                }
            }
        }
        for (key, stand) in found {
            touched.remove(&key);
            stands.insert(key, stand);
        }
    }
    Ok(stands)
}
