//! Late usage and changed reference data for closed periods: what is billed more or less than was.
//!
//! ```text
//!  late usage ─► known by identity? ─► whose, which period ─┐
//!  reference ──► differs from the archived? ─► whose ───────┼─► their rows ─► the graph ─► lines
//!  period before ─► balances moved? ─► whose ───────────────┘                               │
//!                                     overlay: usage, lines less what was billed ◄──────────┘
//! ```
//!
//! Only accounts that something touches are loaded, with those whose usage theirs depends on. What
//! they come to less what the archive has of them are the adjustments: lines with the next sequence
//! number of the period. They are written with the accounts' usage, late records among it, so that
//! the next adjustment begins where this one ended. If balance groups now end the period elsewhere,
//! the next period of their accounts is rated too, and so on, until a period ends as it did or is not
//! closed: then the groups and where they stand are handed back, for whoever holds the open usage.
//!
//! - **Withdrawn:** an archived record that does not hold any more, because a correction of it has come, is
//!   given up by its period; what holds instead is late usage.
//! - **Duplicates:** a late record whose identity the archive has, in any period, is not billed.
//! - **Suspense:** late records that cannot be rated are handed back and are not archived. So are archived
//!   records that cannot be rated any more: the period gives them up, and they wait as late ones do.
//! - **Moved:** usage that goes to an account with another billing cycle now is taken back here and
//!   billed by the period of that account, or handed back if that is not closed or cannot rate it.
//! - **Repeated:** an overlay is written before its manifest. Cut off in between, the adjustment never
//!   happened, and doing it again writes the same. Cut off between two periods, the first has its late
//!   records and the second does not begin where the first ends: what adjustments that are not known
//!   to have ended moved is carried on once more, and what they took back is given with the late records.

mod late;
mod numbers;
mod overlay;
mod touched;

use crate::archive::{Closing, LineKeys};
use crate::graph::Stand;
use crate::replay::scope::{
    Links, Scope, archived_closing, dimensions, in_period, is_billed_by, movement, stands,
};
use crate::rerate::{Portion, Rated, Rater};
use differential_dataflow::difference::{Abelian, IsZero, Semigroup};
use jiff::Span;
use jiff::tz::TimeZone;
pub use late::{AdjustError, LateUsage};
use millrace_connectors::archive::{
    Archive, ArchiveError, ArchivedPeriod, Place, StateMark, Terms, write_manifest,
    write_reference, write_shard,
};
use millrace_connectors::names::Names;
use millrace_connectors::output::{AggregatedLine, Texts};
use millrace_connectors::reference::Reference;
use millrace_operators::domain::{
    AccountKey, AggregateId, EventTime, GroupKey, Identity, LineKey, LineSum, Period, RecordId,
    Suspense, Usage,
};
use numbers::number_files;
use overlay::Overlay;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

/// What is to be adjusted.
pub struct Adjustment<'a> {
    /// The archive.
    pub archive: &'a Archive,
    /// The name book of the late usage and the reference data.
    pub names: Arc<Names>,
    /// Records that came late; those of periods that are not closed are handed back.
    pub late: Vec<LateUsage>,
    /// The periods with adjustments that may have been cut off, by the number of the last that was not.
    pub ahead: BTreeMap<Period, u32>,
    /// Archived records that do not hold any more: the periods that have them give them up.
    pub withdrawn: &'a [Usage],
    /// Archived records that those took back, and that no period has now.
    pub taken_back: Vec<LateUsage>,
    /// Whether a record that a period gives up is billed here. Others are billed by the state, which
    /// has them still.
    pub is_billed_here: &'a dyn Fn(RecordId) -> bool,
    /// The reference data in force now.
    pub reference: &'a Reference,
    /// The present.
    pub clock: EventTime,
    /// Worker threads.
    pub workers: usize,
    /// Who adjusts: of two that do so at once each has a number of its own.
    pub generation: u64,
    /// How far the state has come that is adjusted from, where the job has any.
    pub state: Option<StateMark>,
}

/// What an adjustment came to.
#[derive(Clone, Debug, Default)]
pub struct Adjusted {
    /// What is billed more or less, by period, in the order of the lines' keys.
    pub lines: Vec<AdjustmentLine>,
    /// Late records that are duplicates, each with the record that it repeats.
    pub duplicates: Vec<(RecordId, RecordId)>,
    /// Those of them that have another content.
    pub conflicts: BTreeSet<RecordId>,
    /// Records of closed periods, late or taken back, that could not be rated.
    pub suspended: Vec<Suspense>,
    /// Records, late or taken back, of periods that are not closed, or that nobody is known to pay for.
    pub open: Vec<LateUsage>,
    /// Those of both that were taken back: no period has them any more.
    pub returned: Vec<Usage>,
    /// Balance groups that ended their last closed period elsewhere than they did, and where.
    pub carried: BTreeMap<GroupKey, Stand>,
    /// The periods that were rated, with the accounts of each.
    pub rated: Vec<(Period, usize)>,
    /// The adjustments written: the period, its number and how many lines it has.
    pub written: Vec<(Period, u32, usize)>,
}

/// What is billed more, or less, on a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustmentLine {
    /// The line.
    pub key: LineKey,
    /// What is added to it.
    pub sum: LineSum,
    /// The number of the adjustment in its period, from 1.
    pub sequence: u32,
}

/// Adjusts closed periods; see the module.
///
/// # Errors
/// When the archive cannot be read or written, or a late record has the number of an archived one.
pub fn adjust(adjustment: Adjustment<'_>) -> Result<Adjusted, AdjustError> {
    let Adjustment {
        archive,
        names,
        late,
        ahead,
        withdrawn,
        taken_back,
        is_billed_here,
        reference,
        clock,
        workers,
        generation,
        state,
    } = adjustment;
    let Some(newest) = archive.periods().next_back() else {
        return Ok(Adjusted {
            open: late,
            ..Adjusted::default()
        });
    };
    let newest = archive.period(newest)?;
    let zone = TimeZone::get(&newest.manifest().time_zone).unwrap_or(TimeZone::UTC);
    let mut desk = Desk {
        archive: Archive::of(Arc::clone(archive.store()))?,
        links: Links::of(reference),
        reference,
        closing: Closing::new(reference, zone.clone(), Span::new(), clock),
        rater: Rater {
            names,
            zone,
            dimensions: Vec::new(),
            workers,
        },
        clock,
        generation,
        state,
        late: BTreeMap::new(),
        withdrawn: withdrawn.iter().map(|usage| usage.record).collect(),
        gives_up: BTreeMap::new(),
        taken_back: BTreeMap::new(),
        is_billed_here,
        carried: BTreeMap::new(),
        adjusted: Adjusted::default(),
    };
    desk.find_withdrawn(withdrawn)?;
    let fresh = desk.without_duplicates(late, &taken_back)?;
    desk.sort(fresh);
    desk.take_back(taken_back);
    // Usage that moves to an account with another cycle may belong to a period that has been.
    loop {
        for period in archive.periods() {
            desk.period(period)?;
            if let Some(known) = ahead.get(&period) {
                desk.carry_on(period, *known)?;
            }
        }
        if desk.late.is_empty() {
            break;
        }
        // With what was written just now.
        desk.archive = Archive::of(Arc::clone(archive.store()))?;
    }
    Ok(desk.adjusted())
}

/// An adjustment on its way.
struct Desk<'a> {
    archive: Archive,
    reference: &'a Reference,
    links: Links<'a>,
    closing: Closing,
    rater: Rater,
    clock: EventTime,
    generation: u64,
    state: Option<StateMark>,
    late: BTreeMap<Period, Vec<LateUsage>>,
    /// Archived records that do not hold any more.
    withdrawn: BTreeSet<RecordId>,
    /// Whom they were billed to.
    gives_up: BTreeMap<Period, BTreeSet<AccountKey>>,
    /// Archived records that left their periods.
    taken_back: BTreeMap<RecordId, Usage>,
    is_billed_here: &'a dyn Fn(RecordId) -> bool,
    /// Groups that ended their last period elsewhere than they did.
    carried: BTreeMap<GroupKey, Stand>,
    adjusted: Adjusted,
}

impl Desk<'_> {
    /// Finds the periods that have records which do not hold any more.
    fn find_withdrawn(&mut self, withdrawn: &[Usage]) -> Result<(), ArchiveError> {
        let identities: BTreeSet<Identity> = withdrawn.iter().map(|usage| usage.identity).collect();
        if identities.is_empty() {
            return Ok(());
        }
        for bounds in self.archive.periods() {
            let period = self.archive.period(bounds)?;
            let rows = period.usage_of(&identities, &self.rater.names)?;
            let gone = rows.into_values();
            let gone = gone.filter(|row| self.withdrawn.contains(&row.usage.record));
            for row in gone {
                let accounts = self.gives_up.entry(bounds).or_default();
                accounts.insert(row.account);
            }
        }
        Ok(())
    }

    /// The late records that repeat neither an archived record nor each other.
    fn without_duplicates(
        &mut self,
        mut late: Vec<LateUsage>,
        taken_back: &[LateUsage],
    ) -> Result<Vec<LateUsage>, ArchiveError> {
        late.sort_by_key(|late| late.usage.record);
        let identities: BTreeSet<Identity> = late.iter().map(|late| late.usage.identity).collect();
        let taken_back = taken_back.iter().map(|taken| &taken.usage);
        let known_as = |usage: &Usage| (usage.identity, (usage.record, usage.content()));
        let mut known: BTreeMap<Identity, (RecordId, u64)> = taken_back.map(known_as).collect();
        if !identities.is_empty() {
            for period in self.archive.periods() {
                let period = self.archive.period(period)?;
                let rows = period.usage_of(&identities, &self.rater.names)?;
                let rows = rows.values().map(|row| &row.usage);
                let stays = rows.filter(|usage| !self.withdrawn.contains(&usage.record));
                known.extend(stays.map(known_as));
            }
        }
        let mut fresh = Vec::new();
        for late in late {
            let usage = &late.usage;
            match known.get(&usage.identity) {
                Some((first, content)) => {
                    self.adjusted.duplicates.push((usage.record, *first));
                    if *content != usage.content() && *first != usage.record {
                        self.adjusted.conflicts.insert(usage.record);
                    }
                }
                None => {
                    known.extend([known_as(usage)]);
                    fresh.push(late);
                }
            }
        }
        Ok(fresh)
    }

    /// Records by the closed period of whoever pays for them.
    fn sort(&mut self, late: Vec<LateUsage>) {
        let archived: BTreeSet<Period> = self.archive.periods().collect();
        for late in late {
            let time = late.usage.time;
            let mut payers = self.links.payers_at(late.usage.service, time);
            let period = payers.find_map(|payer| self.closing.period_at(payer, time));
            match period.filter(|period| archived.contains(period)) {
                Some(period) => self.late.entry(period).or_default().push(late),
                None => self.adjusted.open.push(late),
            }
        }
    }

    /// Takes back archived records, which are billed where they belong now.
    fn take_back(&mut self, records: Vec<LateUsage>) {
        let usage = records.iter().map(|taken| taken.usage.clone());
        self.taken_back
            .extend(usage.map(|usage| (usage.record, usage)));
        self.sort(records);
    }

    /// Hands back what was archived and cannot be rated any more; whether there is any.
    fn give_back(&mut self, scope: &Scope, rated: &Rated) -> bool {
        let mut leaves = false;
        for usage in scope.usage.iter().map(|row| &row.usage) {
            let Some(suspense) = rated.suspense.get(&usage.record) else {
                continue;
            };
            leaves = true;
            if (self.is_billed_here)(usage.record) {
                self.taken_back.insert(usage.record, usage.clone());
                self.adjusted.suspended.push(*suspense);
            }
        }
        leaves
    }

    /// What it came to.
    fn adjusted(self) -> Adjusted {
        let (mut adjusted, taken) = (self.adjusted, self.taken_back);
        let suspended = adjusted.suspended.iter().map(|suspense| suspense.record);
        let open = adjusted.open.iter().map(|late| late.usage.record);
        let returned: BTreeMap<RecordId, Usage> = suspended
            .chain(open)
            .filter_map(|record| Some((record, taken.get(&record)?.clone())))
            .collect();
        adjusted.returned = returned.into_values().collect();
        adjusted.carried = self.carried;
        adjusted
    }

    fn period(&mut self, bounds: Period) -> Result<(), AdjustError> {
        let names = Arc::clone(&self.rater.names);
        let period = self.archive.period(bounds)?;
        let late = self.late.remove(&bounds).unwrap_or_default();
        let services: BTreeSet<_> = late.iter().map(|late| late.usage.service).collect();
        let gives_up = self.gives_up.remove(&bounds).unwrap_or_default();
        let mut accounts = gives_up.clone();
        for account in touched::touched(&period, self.reference, &self.links, &names)? {
            if is_billed_by(account, &period, &mut self.closing, &names)? {
                accounts.insert(account);
            }
        }
        let carried = self.carried_into(bounds);
        accounts.extend(carried.keys().flat_map(|group| self.links.members(*group)));
        if accounts.is_empty() && services.is_empty() {
            return Ok(());
        }
        self.rater.dimensions = dimensions(&period.manifest().aggregate_by, &names);
        let mut scope = Scope::load(&period, &self.links, &names, accounts, services)?;
        if !gives_up.is_empty() {
            let withdrawn = &self.withdrawn;
            scope
                .usage
                .retain(|row| !withdrawn.contains(&row.usage.record));
        }
        let files = number_files(&period, &scope, &late)?;
        let mut stood = self.stood_before(bounds, &scope, &carried)?;
        stood.extend(carried.clone());
        let opening = scope.opening(&stood, bounds.start());
        let portion = Portion {
            usage: scope.usage.iter().map(|row| row.usage.clone()).collect(),
            late: late.iter().map(|late| late.usage.clone()).collect(),
            reference: scope.reference(&self.links),
            opening: opening.clone(),
            clock: period.clock().max(bounds.end()),
        };
        let mut rated = self.rater.rate(bounds, portion);
        scope.accounts = scope.own(&period, &mut self.closing, &names)?;
        let (own, links) = (&scope.accounts, &self.links);
        let of_own = |group: &GroupKey| links.members(*group).any(|member| own.contains(&member));
        rated.closing.retain(|group, _| of_own(group));
        let mut leaving = overlay::leaving(&scope, &late, &rated, &files);
        leaving.retain(|left| (self.is_billed_here)(left.usage.record));
        let leaves = self.give_back(&scope, &rated) || !leaving.is_empty();
        self.take_back(leaving);
        self.adjusted.rated.push((bounds, scope.accounts.len()));
        let suspended = late
            .iter()
            .filter_map(|late| rated.suspense.get(&late.usage.record));
        self.adjusted.suspended.extend(suspended);
        let lines = self.differences(&period, &scope, &rated)?;
        let archived = archived_closing(&scope);
        let moved: BTreeMap<GroupKey, Stand> = stands(&rated.closing, bounds.end())
            .into_iter()
            .filter(|(group, stand)| match archived.get(group) {
                Some(was) => *was != stand.moved,
                // Where it stood here nobody has noted: a period behind this has.
                None => !stand.moved.is_empty() || carried.contains_key(group),
            })
            .collect();
        let billed = late
            .iter()
            .any(|late| !rated.suspense.contains_key(&late.usage.record));
        self.carried.extend(moved.clone());
        // Archived without being billed; now it is.
        let unbilled = period.manifest().accounts.is_empty();
        let stays = lines.is_empty() && moved.is_empty() && !billed && !leaves;
        if stays && gives_up.is_empty() && !unbilled {
            return Ok(());
        }
        let sequence = period.manifest().sequence + 1;
        let overlay = Overlay {
            scope,
            late,
            rated,
            opening,
            lines: &lines,
        };
        self.write(&period, sequence, overlay, files)?;
        self.adjusted.written.push((bounds, sequence, lines.len()));
        let lines = lines.into_iter().map(|line| AdjustmentLine {
            key: line.key,
            sum: line.sum,
            sequence,
        });
        self.adjusted.lines.extend(lines);
        Ok(())
    }

    /// What adjustments behind this number moved is carried into the next period, as if now.
    fn carry_on(&mut self, bounds: Period, known: u32) -> Result<(), ArchiveError> {
        // With what was written just now.
        let archive = Archive::of(Arc::clone(self.archive.store()))?;
        for group in archive.period(bounds)?.groups_since(known)? {
            let key = self.rater.names.enter_group(&group.pool, &group.currency);
            let (at, moved) = (bounds.end(), movement(&group.closing));
            self.carried.insert(key, Stand { at, moved });
        }
        Ok(())
    }

    /// Where groups stood last that used nothing in this period, and that nothing carries into it: it has
    /// nothing of them, and only edges are between.
    fn stood_before(
        &self,
        bounds: Period,
        scope: &Scope,
        carried: &BTreeMap<GroupKey, Stand>,
    ) -> Result<BTreeMap<GroupKey, Stand>, ArchiveError> {
        let names = &self.rater.names;
        let groups = scope.accounts.iter();
        let groups = groups.flat_map(|account| self.links.groups_of(*account));
        let mut missing: BTreeSet<GroupKey> = groups
            .filter(|group| !scope.groups.contains_key(group) && !carried.contains_key(group))
            .collect();
        let mut stood = BTreeMap::new();
        let before = self.archive.periods().rev();
        for before in before.filter(|before| before.end() <= bounds.start()) {
            if missing.is_empty() {
                break;
            }
            let period = self.archive.period(before)?;
            let mut found = BTreeMap::new();
            for account in missing.iter().flat_map(|group| self.links.members(*group)) {
                let entry = period.find(&names.account(account))?;
                for group in entry.into_iter().flat_map(|entry| entry.groups) {
                    let key = names.enter_group(&group.pool, &group.currency);
                    let moved = movement(&group.closing);
                    found.insert(
                        key,
                        Stand {
                            at: before.end(),
                            moved,
                        },
                    );
                }
            }
            found.retain(|group, _| missing.remove(group));
            stood.extend(found);
        }
        Ok(stood)
    }

    /// Takes the groups that may begin this period elsewhere than archived: those whose accounts are
    /// billed by this period.
    fn carried_into(&mut self, bounds: Period) -> BTreeMap<GroupKey, Stand> {
        let waiting = std::mem::take(&mut self.carried);
        let (ours, others) = waiting.into_iter().partition(|(group, stand)| {
            let mut members = self.links.members(*group);
            let own = members.find_map(|account| self.closing.period_at(account, bounds.start()));
            stand.at <= bounds.start() && own.is_none_or(|own| own == bounds)
        });
        self.carried = others;
        ours
    }

    /// What the accounts come to less what they were billed.
    fn differences(
        &self,
        period: &ArchivedPeriod,
        scope: &Scope,
        rated: &Rated,
    ) -> Result<Vec<AggregatedLine>, ArchiveError> {
        let names = &self.rater.names;
        let mut sums: BTreeMap<AggregateId, (LineKey, LineSum)> = BTreeMap::new();
        let own = |key: &LineKey| {
            in_period(key, period.period()) && scope.accounts.contains(&key.account)
        };
        for (key, sum) in rated.lines.iter().filter(|(key, _)| own(key)) {
            sums.insert(key.aggregate_id(), (key.clone(), *sum));
        }
        let services = scope.usage.iter().map(|row| row.usage.service);
        let keys = LineKeys::of(services, &self.rater.dimensions, names);
        for line in scope.billed(period)? {
            let mut billed = line.sum;
            billed.negate();
            let (_, sum) = match sums.entry(line.id) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(slot) => slot.insert((keys.key(&line)?, LineSum::default())),
            };
            sum.plus_equals(&billed);
        }
        let mut lines: Vec<AggregatedLine> = sums
            .into_values()
            .filter(|(_, sum)| !sum.is_zero())
            .map(|(key, sum)| AggregatedLine { key, sum })
            .collect();
        lines.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(lines)
    }

    fn write(
        &self,
        period: &ArchivedPeriod,
        sequence: u32,
        overlay: Overlay<'_>,
        files: Vec<Arc<str>>,
    ) -> Result<(), ArchiveError> {
        let bounds = period.period();
        let manifest = period.manifest();
        let names = &self.rater.names;
        let dimensions = manifest.aggregate_by.iter().cloned();
        let texts = Texts {
            names: Arc::clone(names),
            files: Arc::new(RwLock::new(files)),
            lines: Arc::default(),
            dimensions: dimensions
                .zip(self.rater.dimensions.iter().copied())
                .collect(),
        };
        let store = self.archive.store();
        let mut shards = BTreeMap::new();
        for (shard, content) in overlay.content(&self.links) {
            let place = Place {
                period: bounds,
                sequence,
                generation: self.generation,
                shard,
            };
            shards.insert(shard, write_shard(store, place, content, &texts)?);
        }
        let copy = write_reference(store, self.reference, names)?;
        let terms = Terms {
            job: manifest.job.clone(),
            period: bounds,
            sequence,
            clock: self.clock.max(period.clock()),
            state: self.state.clone(),
            time_zone: manifest.time_zone.clone(),
            aggregate_by: manifest.aggregate_by.clone(),
        };
        write_manifest(store, terms, &copy, shards)
    }
}
