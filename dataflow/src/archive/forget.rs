//! What a run with durable state does behind its end: adjusts closed bill units, and forgets them.
//!
//! ```text
//!  records suspended as PERIOD_CLOSED ─┐
//!  archived records that do not hold ──┤
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
//!   suspense are taken back where they were told. The records of their identities leave with them, so
//!   that none steps forward.

use super::closing::{Closing, members};
use super::committed::{Leaving, adjustment};
use super::corrections::Corrections;
use super::due::differences;
use super::known;
use super::setting::ArchiveSetting;
use crate::adjust::{AdjustError, Adjusted, Adjustment, LateUsage, adjust};
use crate::board::Board;
use crate::bundle::Due;
use crate::durable::{Closed, Forgetting, KnownPeriod, LeftVersion, versions};
use crate::error::RunError;
use crate::graph::Stand;
use crate::replay::scope::{Links, in_period, movement};
use differential_dataflow::difference::{Abelian as _, IsZero as _, Semigroup as _};
use millrace_connectors::archive::{
    Archive, ArchiveError, BilledUsage, write_manifest, write_reference,
};
use millrace_connectors::output::{AggregatedLine, SuspendedUsage};
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    AccountKey, ClosedUnits, EventTime, GroupKey, Identity, LineKey, LineSum, Name, Period,
    PlanPart, Reason, RecordId, Suspense, Usage,
};
use millrace_operators::epoch::shard;
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
    /// Records that operators have taken out of suspense.
    pub discarded: RoaringTreemap,
    /// Archived records that came back since state was forgotten, because of others of their identities.
    pub reopened: RoaringTreemap,
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
    let setting = &ArchiveSetting {
        closed: Arc::new(setting.closed.with_reopened(&left.reopened)),
        state: Some(forgetting.generation.manifest.mark()),
        ..setting.clone()
    };
    let before = &*setting.closed;
    // The run may have lasted.
    let archive = Archive::of(Arc::clone(&setting.store))?;
    known::check(&archive, before, &forgetting.generation.manifest)?;
    let waiting = Waiting::find(before, forgetting, &left)?;
    let archive = with_periods(setting, archive, &waiting.late, &left)?;
    let mut adjusted = Adjusted::default();
    let was_closed = !before.units.0.is_empty() && archive.periods().next().is_some();
    if !waiting.late.is_empty() || was_closed {
        adjusted = bill(
            setting,
            forgetting.generation.number,
            &archive,
            &waiting,
            &left,
        )?;
        // What is open in the state needs nobody to bring it back.
        let forgotten = before.forgotten();
        let returned = &mut adjusted.returned;
        returned.retain(|usage| forgotten.contains(usage.record.0));
    }
    let archive = Archive::of(Arc::clone(&setting.store))?;
    let mut due = due(setting, &archive, &waiting, &adjusted, &left)?;
    come_back(&mut due, &adjusted.returned, before, forgetting)?;

    let mut gone = left.leaving.records;
    // What is archived and still suspended has no fate to leave behind.
    left.suspended.keys().for_each(|record| {
        gone.remove(record.0);
    });
    let repeated = left.board.stopped().filter_map(|stopped| match stopped {
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
    for (group, stand) in left.leaving.stands {
        // Behind a clock that has gone back the graph has no buckets, and what stands there stays.
        if stands.get(&group).is_none_or(|held| held.at < stand.at) {
            stands.insert(group, stand);
        }
    }
    moved.retain(|group, stand| stands.get(group) != Some(stand));
    let mut reopened = &before.reopened - &leaving;
    reopened.extend(due.reopened.iter().map(|usage| usage.record.0));
    let is_closed = |account, time| units.holds(account, time);
    let mut activity = left.board.activity();
    activity.retain(|made| is_closed(made.account, made.billed_at()));
    let periods = archive.periods().map(|bounds| {
        let period = archive.period(bounds)?;
        let sequence = period.manifest().sequence;
        let digest = period.digest(sequence);
        Ok((bounds, KnownPeriod { sequence, digest }))
    });
    let periods = periods.collect::<Result<_, ArchiveError>>()?;
    let closed = Closed {
        number: before.number + u64::from(again),
        activity,
        stands,
        moved,
        since: forgetting.generation.manifest.live,
        periods,
        records: &before.records | &leaving,
        reopened,
        identities: before.identities.clone(),
        versions: before.versions.clone(),
        units,
        due,
        names: setting.texts.names.entered(),
    };
    // Late records that were adjusted before have come and gone since.
    let gone = gone | (before.forgotten() - &closed.reopened);
    forgetting.forget(&closed, &gone, &duplicates, &before.forgotten())?;
    let adjusted = adjusted.written.iter();
    Ok(Settled {
        again,
        told: adjusted
            .map(|(period, sequence, lines)| adjustment(*period, *sequence, *lines))
            .collect(),
    })
}

/// What waits for an adjustment.
struct Waiting {
    corrections: Corrections,
    /// Usage of closed bill units.
    late: Vec<Usage>,
    /// Archived records that do not hold any more.
    withdrawn: Vec<Usage>,
    /// Records of identities of which none holds any more.
    taken_out: Vec<Usage>,
    /// Records that gave way to late ones.
    behind: BTreeMap<RecordId, Usage>,
}

impl Waiting {
    fn find(
        closed: &Closed,
        forgetting: &Forgetting<'_>,
        left: &Left<'_>,
    ) -> Result<Self, RunError> {
        let corrections = Corrections::of(closed, left.board, &left.discarded);
        let late = left.suspended.iter();
        let late = late.filter(|(_, reason)| **reason == Reason::PeriodClosed);
        let late: BTreeSet<RecordId> = late.map(|(record, _)| *record).collect();
        let behind: BTreeSet<RecordId> = corrections
            .behind(late.iter().copied())
            .into_iter()
            .collect();
        let deciding = forgetting.usage(&corrections.deciding())?;
        let passed_over = deciding.values().filter(|usage| usage.is_passed_over());
        let passed_over = passed_over.map(|usage| usage.record).collect();
        let taken_out = corrections.taken_out(&passed_over);
        let all = [&late, &behind, &taken_out, &corrections.withdrawn];
        let usage = forgetting.usage(&all.into_iter().flatten().copied().collect())?;
        let of = |records: &BTreeSet<RecordId>| {
            let held = records.iter().filter_map(|record| usage.get(record));
            held.cloned().collect::<Vec<Usage>>()
        };
        let behind = of(&behind).into_iter();
        Ok(Self {
            late: of(&late),
            withdrawn: of(&corrections.withdrawn),
            taken_out: of(&taken_out),
            behind: behind.map(|usage| (usage.record, usage)).collect(),
            corrections,
        })
    }

    /// A late record leaves because it is billed, and those that gave way to it with it.
    fn leave(&self, billed: &Usage, due: &mut Due) {
        due.leave(LeftVersion {
            usage: billed.clone(),
            outvoted: None,
        });
        for record in self.corrections.behind([billed.record]) {
            if let Some(usage) = self.behind.get(&record) {
                due.leave(self.corrections.version(usage.clone()));
            }
        }
    }
}

/// Brings the archive up to date with late records and reference data.
fn bill(
    setting: &ArchiveSetting,
    generation: u64,
    archive: &Archive,
    waiting: &Waiting,
    left: &Left<'_>,
) -> Result<Adjusted, RunError> {
    let late = waiting.late.as_slice();
    // Which record of an identity holds has been found.
    let file = |usage: &Usage| LateUsage {
        usage: Usage {
            mark: None,
            ..usage.clone()
        },
        file: setting.texts.file(usage.record.file()),
    };
    let forgotten = setting.closed.forgotten();
    let waits: BTreeSet<RecordId> = late.iter().map(|late| late.record).collect();
    let adjusted = adjust(Adjustment {
        archive,
        names: Arc::clone(&setting.texts.names),
        late: late.iter().map(file).collect(),
        ahead: ahead(setting, archive).collect(),
        withdrawn: &waiting.withdrawn,
        taken_back: taken_back(setting, archive)?,
        is_billed_here: &|record| forgotten.contains(record.0) || waits.contains(&record),
        reference: left.reference,
        clock: setting.present.at,
        workers: left.workers,
        generation,
        state: setting.state.clone(),
    });
    adjusted.map_err(|error| match error {
        AdjustError::Archive(error) => RunError::Archive(error),
        AdjustError::Numbered { .. } => RunError::Source(error.to_string()),
    })
}

/// Late records, fees and commitments may be of bill units in which nothing was billed: such a period is
/// archived empty, and adjusted.
fn with_periods(
    setting: &ArchiveSetting,
    archive: Archive,
    late: &[Usage],
    left: &Left<'_>,
) -> Result<Archive, ArchiveError> {
    let links = Links::of(left.reference);
    let mut closing = setting.closing(left.reference, &archive);
    // Whether something may have been billed in it since it closed.
    let mut missing: BTreeMap<Period, bool> = BTreeMap::new();
    for usage in late {
        let payer = links.payers_at(usage.service, usage.time).next();
        let payer = payer.and_then(|payer| Some((payer, closing.profile(payer)?)));
        let period = payer.and_then(|(payer, profile)| closing.period(payer, &profile, usage.time));
        missing.extend(period.map(|period| (period, false)));
    }
    let before = &setting.closed.units;
    for (period, account) in billed_by_the_clock(left.reference, &mut closing, before) {
        let until = before.until(account);
        *missing.entry(period).or_default() |= until.is_some_and(|until| period.end() <= until);
    }
    missing.retain(|period, _| archive.sequence(*period).is_none());
    if missing.is_empty() {
        return Ok(archive);
    }
    let names = &setting.texts.names;
    let now = write_reference(&setting.store, left.reference, names)?;
    // Nobody knows by what a period came to nothing that was closed without being archived.
    let unknown = match missing.values().any(|was_closed| *was_closed) {
        true => write_reference(&setting.store, &Reference::default(), names)?,
        false => now.clone(),
    };
    for (period, was_closed) in missing {
        let copy = if was_closed { &unknown } else { &now };
        let terms = setting.terms(period, 0);
        write_manifest(&setting.store, terms, copy, BTreeMap::new())?;
    }
    Archive::of(Arc::clone(&setting.store))
}

/// The closed periods that plans may bill something in without usage, each with an account.
fn billed_by_the_clock(
    reference: &Reference,
    closing: &mut Closing,
    before: &ClosedUnits,
) -> BTreeSet<(Period, AccountKey)> {
    let mut first: BTreeMap<Name, EventTime> = BTreeMap::new();
    let bills = |part: &PlanPart| match part {
        PlanPart::Charge(_) | PlanPart::Commitment(_) | PlanPart::Volume(_) => true,
        PlanPart::Allowance(_) | PlanPart::Accumulator(_) | PlanPart::Cap(_) => false,
    };
    for row in reference.plans.iter().filter(|row| bills(&row.part)) {
        let start = first.entry(row.list).or_insert(row.valid.start());
        *start = (*start).min(row.valid.start());
    }
    let mut periods = BTreeSet::new();
    if first.is_empty() {
        return periods;
    }
    let units = closing.units();
    // Whose cycles, and between which instants: most accounts are like others.
    let mut seen = BTreeSet::new();
    for row in &reference.subscriptions {
        let starts = row.price_lists.iter().filter_map(|list| first.get(list));
        // A subscription without a first day has no cycles.
        let dated = row.valid.start() != EventTime::MIN;
        let start = starts.min().filter(|_| dated);
        let (Some(start), Some(until)) = (start, units.until(row.account)) else {
            continue;
        };
        let start = row.valid.start().max(*start).max(EventTime::EARLIEST);
        let closed = (until, before.until(row.account));
        let like = (
            closing.cycles_of(row.account),
            start,
            row.valid.end(),
            closed,
        );
        if !seen.insert(like) {
            continue;
        }
        let mut next = closing.period_at(row.account, start);
        while let Some(period) =
            next.filter(|period| period.end() <= until && period.start() <= row.valid.end())
        {
            periods.insert((period, row.account));
            next = closing.period_at(row.account, period.end());
        }
    }
    periods
}

/// The periods whose archive is ahead of what the state knows.
fn ahead<'a>(
    setting: &'a ArchiveSetting,
    archive: &'a Archive,
) -> impl Iterator<Item = (Period, u32)> {
    archive.periods().filter_map(|period| {
        // The bill of a period that the state does not know yet is known as it was archived first.
        let known = setting.closed.periods.get(&period);
        let known = known.map_or(0, |known| known.sequence);
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

/// The records that leave, now that the archive is adjusted.
fn leaving(waiting: &Waiting, adjusted: &Adjusted) -> Due {
    let repeats: BTreeMap<RecordId, RecordId> = adjusted.duplicates.iter().copied().collect();
    let stays: BTreeSet<RecordId> = {
        let suspended = adjusted.suspended.iter().map(|suspense| suspense.record);
        let open = adjusted.open.iter().map(|late| late.usage.record);
        suspended.chain(open).collect()
    };
    let mut due = Due::default();
    let late = waiting.late.iter();
    for usage in late.filter(|late| !stays.contains(&late.record)) {
        let record = usage.record;
        // A record that repeats itself was adjusted by a run that ended before it could tell.
        let original = repeats
            .get(&record)
            .copied()
            .filter(|first| *first != record);
        let Some(original) = original else {
            waiting.leave(usage, &mut due);
            continue;
        };
        let reason = match adjusted.conflicts.contains(&record) {
            true => Reason::Conflict,
            false => Reason::Duplicate,
        };
        let row = Suspense::of(usage, reason, Some(original));
        due.leave(LeftVersion {
            usage: usage.clone(),
            outvoted: Some(row),
        });
    }
    for usage in &waiting.taken_out {
        due.leave(waiting.corrections.version(usage.clone()));
    }
    due
}

/// Archived records that belong to open bill units come back, each with the others of its identity.
fn come_back(
    due: &mut Due,
    returned: &[Usage],
    closed: &Closed,
    forgetting: &Forgetting<'_>,
) -> Result<(), RunError> {
    if returned.is_empty() {
        return Ok(());
    }
    let identities: BTreeSet<Identity> = returned.iter().map(|usage| usage.identity).collect();
    let known = versions(forgetting.store, &closed.versions, |usage| {
        identities.contains(&usage.identity) && !closed.reopened.contains(usage.record.0)
    })?;
    let known = known.into_values().flatten();
    let mut known: BTreeMap<RecordId, LeftVersion> = known
        .map(|version| (version.usage.record, version))
        .collect();
    for usage in returned {
        known.entry(usage.record).or_insert_with(|| LeftVersion {
            usage: usage.clone(),
            outvoted: None,
        });
    }
    known
        .into_values()
        .for_each(|version| due.come_back(version));
    Ok(())
}

/// What the next run tells of the adjustments.
fn due(
    setting: &ArchiveSetting,
    archive: &Archive,
    waiting: &Waiting,
    adjusted: &Adjusted,
    left: &Left<'_>,
) -> Result<Due, ArchiveError> {
    let mut due = leaving(waiting, adjusted);
    let rated: BTreeSet<Period> = adjusted.rated.iter().map(|(period, _)| *period).collect();
    let known = ahead(setting, archive).map(|(period, _)| period);
    let mut closing = setting.closing(left.reference, archive);
    let changed = known.chain(rated).map(|period| (period, Vec::new()));
    let mut changed: BTreeMap<Period, Vec<&AggregatedLine>> = changed.collect();
    let lines = match changed.is_empty() {
        true => Vec::new(),
        false => left.board.lines(),
    };
    let mut sums: BTreeMap<LineKey, LineSum> = BTreeMap::new();
    // Accounts may be billed by other periods now than those that their lines were archived with.
    let mut others: Vec<&AggregatedLine> = Vec::new();
    for line in &lines {
        let period = closing.period_of_line(&line.key);
        match period.and_then(|period| changed.get_mut(&period)) {
            Some(lines) => lines.push(line),
            None => others.push(line),
        }
    }
    for (period, lines) in changed {
        let opened = archive.period(period)?;
        let within = |line: &&&AggregatedLine| in_period(&line.key, period);
        let others: Vec<&AggregatedLine> = others.iter().filter(within).copied().collect();
        let differences = differences(&opened, &lines, &others, |_| true, setting)?;
        for line in differences {
            let mut sum: LineSum = line.sum;
            sum.negate();
            sums.entry(line.key).or_default().plus_equals(&sum);
        }
    }
    // What one period gives up and another takes moves no line.
    sums.retain(|_, sum| !sum.is_zero());
    due.lines = sums.into_iter().collect();
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
