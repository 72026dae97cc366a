//! `millrace replay`: what archived usage would be billed, by the catalog and the accounts that the
//! archive keeps or by others, beside what it was billed.
//!
//! ```text
//!  archive ─► sidecars ─► accounts asked for ─► their rows ─► the graph ─► lines ─┐
//!                              ▲                   ▲                              ├─► differences
//!            catalog, accounts ┴───────────────────┘       billed lines ──────────┘
//! ```
//!
//! Periods are rated one after the other, each whole: a bill is of a period. Where balance groups
//! stand at its end is where they stand at the beginning of the next, so a change of an allowance is
//! felt as long as it matters. Accounts that do not depend on each other are rated in batches, which
//! bounds memory. Only rows of accounts that are asked for are read, and of those that theirs depend
//! on.
//!
//! Usage that was not billed is not in the archive: a price that was missing then brings nothing here.
//! An accounts file that moves accounts or usage to other periods is refused: there would be nothing to
//! compare.

mod cycles;
mod differences;
mod request;
pub(crate) mod scope;

pub use differences::{AccountDifference, LineDifference, Replay, SuspendedCount, TotalDifference};
pub use request::{ReplayError, ReplayRequest};

use crate::archive::Closing;
use crate::graph::Stand;
use crate::rerate::{Portion, Rater};
use cycles::refuse_other_periods;
use differences::Differences;
use jiff::Span;
use jiff::tz::TimeZone;
use millrace_connectors::archive::{Archive, ArchiveError, ArchivedPeriod};
use millrace_connectors::names::Names;
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    AccountKey, BillCalendar, EventTime, GroupKey, LineKey, LineSum, Period,
};
use millrace_operators::epoch::{SHARDS, shard};
use request::{Given, asked, periods, workers};
use scope::{Links, Scope, dimensions, in_period, stands};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Records that are rated at once, about.
const BATCH_RECORDS: u64 = 1_000_000;

/// Hears how far a replay is: records done, and records in all.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// Replays.
///
/// # Errors
/// When the archive is missing or damaged, the configuration does not hold, or what is asked for is
/// not in the archive.
pub fn replay(request: &ReplayRequest, progress: Progress<'_>) -> Result<Replay, ReplayError> {
    let archive = Archive::open(&request.archive, Path::new(""))?;
    replay_archive(&archive, request, progress)
}

/// As [`replay`], of an archive that is open.
///
/// # Errors
/// As [`replay`].
pub fn replay_archive(
    archive: &Archive,
    request: &ReplayRequest,
    progress: Progress<'_>,
) -> Result<Replay, ReplayError> {
    let newest = archive
        .periods()
        .next_back()
        .map(|period| archive.period(period));
    let newest = newest.transpose()?;
    let zone = newest
        .as_ref()
        .map(|newest| newest.manifest().time_zone.as_str());
    let zone = zone
        .and_then(|name| TimeZone::get(name).ok())
        .unwrap_or(TimeZone::UTC);
    let names = Arc::new(Names::default());
    let given = Given::load(request, &zone, &names)?;
    let periods = periods(request, archive, &zone)?;
    let asked = asked(request, &periods)?;
    let mut desk = Desk {
        rater: Rater {
            names: Arc::clone(&names),
            zone,
            dimensions: Vec::new(),
            workers: workers(request.workers)?,
        },
        given,
        asked,
        carried: BTreeMap::new(),
        differences: Differences::default(),
        done: 0,
        total: 0,
        progress,
    };
    desk.total = desk.records(&periods)?;
    (desk.progress)(0, desk.total);
    for period in &periods {
        desk.period(period)?;
    }
    names.check().map_err(|unknown| ArchiveError::Damaged {
        location: request.archive.clone(),
        detail: format!("is not whole: {unknown}"),
    })?;
    let shown: Vec<Period> = periods.iter().map(ArchivedPeriod::period).collect();
    Ok(desk.differences.finish(&request.archive, &shown))
}

/// A replay on its way.
struct Desk<'a> {
    rater: Rater,
    given: Given,
    /// The accounts that are asked for; nothing for all.
    asked: Option<BTreeSet<String>>,
    /// Where balance groups stood when their last period ended.
    carried: BTreeMap<GroupKey, Stand>,
    differences: Differences,
    done: u64,
    total: u64,
    progress: Progress<'a>,
}

impl Desk<'_> {
    /// Records that are to be rated, as far as is known before.
    fn records(&self, periods: &[ArchivedPeriod]) -> Result<u64, ArchiveError> {
        let mut records = 0;
        for period in periods {
            match &self.asked {
                None => records += period.records(),
                Some(accounts) => {
                    for account in accounts {
                        let found = period.find(account)?;
                        records += found.map_or(0, |found| found.entry.rows);
                    }
                }
            }
        }
        Ok(records)
    }

    fn period(&mut self, period: &ArchivedPeriod) -> Result<(), ReplayError> {
        let names = Arc::clone(&self.rater.names);
        self.rater.dimensions = dimensions(&period.manifest().aggregate_by, &names);
        self.differences
            .begin(period.manifest().aggregate_by.clone());
        let Some(asked) = self.asked.clone() else {
            let reference = self.given.over(period, None, &names)?;
            self.refuse_others(period, &reference)?;
            return self.all(period, &reference);
        };
        let mut keys: BTreeSet<AccountKey> = BTreeSet::new();
        for account in &asked {
            if period.find(account)?.is_some() {
                keys.insert(names.enter_account(account));
            }
        }
        let mut shards: BTreeSet<u64> = keys.iter().map(|key| shard(key.0)).collect();
        loop {
            let reference = self.given.over(period, Some(&shards), &names)?;
            let links = Links::of(&reference);
            let scope = Scope::load(period, &links, &names, keys.clone(), [])?;
            let needed: BTreeSet<u64> = scope.accounts.iter().map(|key| shard(key.0)).collect();
            if needed.is_subset(&shards) {
                self.refuse_others(period, &reference)?;
                return self.rate(period, &links, scope, Some(&keys));
            }
            // Whoever it depends on brings accounts of their own.
            shards.extend(needed);
        }
    }

    fn refuse_others(&self, period: &ArchivedPeriod, given: &Reference) -> Result<(), ReplayError> {
        if self.given.accounts.is_none() {
            return Ok(());
        }
        let (asked, zone) = (self.asked.as_ref(), &self.rater.zone);
        refuse_other_periods(period, given, asked, zone, &self.rater.names)
    }

    /// All accounts of a period, batch by batch.
    fn all(&mut self, period: &ArchivedPeriod, reference: &Reference) -> Result<(), ReplayError> {
        let names = Arc::clone(&self.rater.names);
        let links = Links::of(reference);
        let mut unarchived = self.unarchived(period, reference);
        let mut rated: BTreeSet<AccountKey> = BTreeSet::new();
        let mut batch: BTreeSet<AccountKey> = BTreeSet::new();
        let mut records = 0;
        // Other accounts may bring usage of several accounts together, so that none can be rated
        // before the last is read.
        let most = match self.given.accounts {
            Some(_) => u64::MAX,
            None => BATCH_RECORDS,
        };
        for shard in 0..SHARDS {
            for (account, rows) in period.accounts(shard)? {
                let key = names.enter_account(&account);
                if !rated.contains(&key) {
                    batch.insert(key);
                    records += rows;
                }
            }
            batch.extend(unarchived.remove(&shard).unwrap_or_default());
            if records < most && shard + 1 < SHARDS {
                continue;
            }
            let accounts = std::mem::take(&mut batch);
            records = 0;
            if !accounts.is_empty() {
                let scope = Scope::load(period, &links, &names, accounts, [])?;
                rated.extend(&scope.accounts);
                self.rate(period, &links, scope, None)?;
            }
        }
        Ok(())
    }

    /// Accounts that the archive does not have and that are charged in the period if they are charged
    /// at all, by shard.
    fn unarchived(
        &self,
        period: &ArchivedPeriod,
        reference: &Reference,
    ) -> BTreeMap<u64, Vec<AccountKey>> {
        let mut calendar = BillCalendar::new(self.rater.zone.clone());
        let mut found: BTreeMap<u64, Vec<AccountKey>> = BTreeMap::new();
        if self.given.catalog.is_none() && self.given.accounts.is_none() {
            return found;
        }
        for account in &reference.accounts {
            if calendar.unit(&account.profile, period.period().start()) == period.period() {
                found
                    .entry(shard(account.key.0))
                    .or_default()
                    .push(account.key);
            }
        }
        found
    }

    /// Rates a scope and notes the differences: of the accounts in `told`, or of all.
    fn rate(
        &mut self,
        period: &ArchivedPeriod,
        links: &Links<'_>,
        scope: Scope,
        told: Option<&BTreeSet<AccountKey>>,
    ) -> Result<(), ReplayError> {
        let bounds = period.period();
        let billed = scope.billed(period)?;
        let zone = self.rater.zone.clone();
        let names = Arc::clone(&self.rater.names);
        let mut closing = Closing::new(links.reference(), zone, Span::new(), EventTime::LATEST);
        let own = scope.own(period, &mut closing, &names)?;
        let opening = scope.opening(&self.carried, bounds.start());
        let portion = Portion {
            reference: scope.reference(links),
            late: Vec::new(),
            clock: period.clock().max(bounds.end()),
            opening,
            usage: scope.usage.into_iter().map(|row| row.usage).collect(),
        };
        let records = u64::try_from(portion.usage.len()).unwrap_or(u64::MAX);
        let rated = self.rater.rate(bounds, portion);
        let of_own = |group: &GroupKey| links.members(*group).any(|member| own.contains(&member));
        let mut closing = stands(&rated.closing, bounds.end());
        closing.retain(|group, _| of_own(group));
        self.carried.extend(closing);
        let accounts = told.unwrap_or(&own);
        let lines = rated.lines.iter().filter(|(key, _)| in_period(key, bounds));
        let lines = lines.filter(|(key, _)| accounts.contains(&key.account));
        let lines: Vec<(&LineKey, &LineSum)> = lines.collect();
        let own = |account: &str| accounts.contains(&AccountKey::of(&[account]));
        let billed = billed.iter().filter(|line| own(&line.account));
        self.differences.note(billed, &lines, &self.rater);
        self.differences
            .rated(records, accounts.len(), rated.suspense.values());
        self.done += records;
        (self.progress)(self.done, self.total);
        Ok(())
    }
}
