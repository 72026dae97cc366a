//! The parts that the subscriptions of a balance group share: accumulators with the commitments and
//! prices by their totals that refer to them, and caps.
//!
//! An accumulator counts what the group uses, whichever list charges it. So beside it stands, for each
//! list with a price by its total, a bucket of what that list does not charge.

use super::cycles::{Phase, Step};
use super::holding::{Holding, Stretches, clip, hull, scale, union};
use super::outcome::{Outcome, key};
use crate::domain::{
    Accumulator, Activity, ActivityKey, ActivityKind, Amount, BillingProfile, Bucket, BucketKey,
    BucketKind, ChargeWhen, Commitment, Counts, DatedCharge, Edge, EdgeAction, EdgeKey, EventTime,
    GroupKey, Measure, Name, Period, PlanPart, PlanRow, Reason, Scale, Term, Threshold, Volume,
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An accumulator or a cap of a group. Rows that agree on what is counted, and when, are versions of
/// one counter, whichever lists they belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Pool {
    pub(super) group: GroupKey,
    /// Identifies the counter in its group.
    identity: u64,
    /// The cycle of its term, for the account of the first member that it counts.
    pub(super) cycle: BillingProfile,
    /// Its versions, the latest last.
    versions: Vec<Arc<PlanRow>>,
    /// The commitments to it.
    commitments: Vec<Arc<PlanRow>>,
    /// The volume prices of it.
    volumes: Vec<Arc<PlanRow>>,
    /// Everybody with a list that one of the rows belongs to, the longest active first.
    members: Vec<Arc<Holding>>,
}

/// What tells counters of a group apart: all but the sizes.
fn identity(part: &PlanPart) -> Option<(u64, Term)> {
    let (kind, resource, items, ratio, term) = match part {
        PlanPart::Accumulator(a) => {
            let kind = match a.measure {
                Measure::Units => 1,
                Measure::Money => 2,
            };
            (
                kind,
                a.resource,
                &a.items,
                (a.numerator, a.denominator),
                a.term,
            )
        }
        PlanPart::Cap(cap) => (3, cap.resource, &cap.items, (1, 1), cap.term),
        PlanPart::Commitment(c) => {
            let kind = match c.counts {
                Counts::Accumulated(_) => return None,
                Counts::Spend => 4,
                Counts::Money => 5,
                Counts::Nothing => 6,
            };
            (kind, c.resource, &c.items, (1, 1), c.term)
        }
        PlanPart::Allowance(_) | PlanPart::Volume(_) | PlanPart::Charge(_) => return None,
    };
    let [every, cycle, anchored, date] = term.identity();
    let mut parts = vec![
        kind,
        resource.0,
        u64::from(ratio.0),
        u64::from(ratio.1),
        every,
        cycle,
    ];
    if anchored != 0 {
        parts.extend([u64::MAX, date]);
    }
    parts.extend(items.iter().map(|item| item.0));
    Some((key(BUCKET, &parts), term))
}

/// The counters of a group: the kernel of the reduction.
pub(super) fn pools(
    group: GroupKey,
    granted: &[&(Arc<PlanRow>, Arc<Holding>)],
    zone: &TimeZone,
) -> Vec<Pool> {
    let mut versions: BTreeMap<u64, Vec<&Arc<PlanRow>>> = BTreeMap::new();
    for (row, _) in granted {
        if let Some((identity, _)) = identity(&row.part) {
            versions.entry(identity).or_default().push(row);
        }
    }
    let found = versions.into_iter().filter_map(|(identity, versions)| {
        let versions = distinct(versions);
        let counter = &versions.first()?.part;
        let of_it = |part: &PlanPart| match part {
            PlanPart::Commitment(commitment) => match counter {
                PlanPart::Commitment(_) => self::identity(part).map(|own| own.0) == Some(identity),
                _ => commits_to(commitment, counter),
            },
            PlanPart::Volume(volume) => prices(volume, counter),
            _ => false,
        };
        let mut commitments = Vec::new();
        let mut volumes = Vec::new();
        for (row, _) in granted.iter().filter(|(row, _)| of_it(&row.part)) {
            match row.part {
                PlanPart::Commitment(_) => commitments.push(row),
                _ => volumes.push(row),
            }
        }
        let (commitments, volumes) = (distinct(commitments), distinct(volumes));
        let listed = |list: Name| {
            let rows = versions.iter().chain(&commitments).chain(&volumes);
            rows.clone().any(|row| row.list == list)
        };
        let mut members: Vec<Arc<Holding>> = granted
            .iter()
            .filter(|(_, holding)| listed(holding.list))
            .map(|(_, holding)| Arc::clone(holding))
            .collect();
        members.sort_by(|a, b| {
            let since =
                |member: &Arc<Holding>| (member.stretches.first().copied(), member.subscription);
            since(a).cmp(&since(b)).then_with(|| a.cmp(b))
        });
        members.dedup();
        let (_, term) = self::identity(counter)?;
        let counts = |member: &&Arc<Holding>| {
            let mut rows = versions.iter().filter(|row| row.list == member.list);
            rows.any(|row| member.gets(row))
        };
        let counted = members.iter().find(counts)?;
        Some(Pool {
            group,
            identity,
            cycle: term.profile(&counted.profile, counted.began(), zone),
            versions,
            commitments,
            volumes,
            members,
        })
    });
    found.collect()
}

/// The rows without repetition, those in force latest last.
fn distinct(mut rows: Vec<&Arc<PlanRow>>) -> Vec<Arc<PlanRow>> {
    rows.sort_by_key(|row| (row.valid.start(), row.key, row.list));
    rows.dedup();
    rows.into_iter().cloned().collect()
}

fn commits_to(commitment: &Commitment, counter: &PlanPart) -> bool {
    matches!(counter, PlanPart::Accumulator(a) if commitment.counts == Counts::Accumulated(a.resource)
        && a.measure == Measure::Money
        && a.term == commitment.term)
}

fn prices(volume: &Volume, counter: &PlanPart) -> bool {
    matches!(counter, PlanPart::Accumulator(a) if a.resource == volume.accumulator
        && a.measure == Measure::Units)
}

impl Pool {
    /// The first instant that it applies to.
    pub(super) fn start(&self) -> EventTime {
        let first = |row: &Arc<PlanRow>| Some(self.applied(row, Period::ALWAYS).first()?.start());
        let starts = self.versions.iter().filter_map(first);
        starts.min().unwrap_or(EventTime::MAX)
    }

    /// What it makes of a cycle that reaches a phase.
    pub(super) fn at(&self, step: &Step, zone: &TimeZone) -> Vec<Outcome> {
        let Some(bucket) = self.bucket(step.cycle) else {
            return Vec::new();
        };
        match step.phase {
            Phase::Known => {
                let priced = self.priced(&bucket).into_iter();
                let elsewhere =
                    priced.map(|(row, volume, _)| self.elsewhere(&bucket, row.list, volume.item));
                let made: Vec<Bucket> = elsewhere.collect();
                let made = made.into_iter().chain([bucket]);
                made.map(Outcome::Bucket).collect()
            }
            Phase::Begun => Vec::new(),
            Phase::Ended => {
                let mut made = self.true_ups(&bucket, step.cycle, zone);
                let priced = self.priced(&bucket).into_iter();
                let due = priced.filter_map(|priced| self.volume(&bucket, priced, step.cycle));
                made.extend(due.flatten());
                made
            }
        }
    }

    fn members_of(&self, list: Name) -> impl Iterator<Item = &Holding> {
        self.members
            .iter()
            .map(|member| &**member)
            .filter(move |member| member.list == list)
    }

    /// When the group had the row, within `period`.
    fn applied(&self, row: &PlanRow, period: Period) -> Stretches {
        let Some(period) = period.intersect(row.valid) else {
            return Stretches::new();
        };
        let members = self.members_of(row.list);
        union(members.flat_map(|member| clip(&member.stretches, period)))
    }

    /// The bucket of a cycle, as the version says that somebody has latest in that cycle.
    fn bucket(&self, cycle: Period) -> Option<Bucket> {
        let in_force: Vec<(&PlanRow, Stretches)> = self
            .versions
            .iter()
            .map(|row| (&**row, self.applied(row, cycle)))
            .filter(|(_, applied)| !applied.is_empty())
            .collect();
        let since = |applied: &Stretches| applied.last().map(|stretch| stretch.start());
        let latest = in_force.iter().max_by_key(|(_, applied)| since(applied));
        let (row, _) = latest?;
        let applied = union(in_force.iter().flat_map(|(_, applied)| applied.clone()));
        let start = cycle.start().0.cast_unsigned();
        let mut bucket = Bucket {
            group: self.group,
            key: BucketKey(key(BUCKET, &[self.identity, self.group.0, start])),
            resource: Name::default(),
            kind: BucketKind::Cap {
                limit: Amount::ZERO,
            },
            measure: Measure::Money,
            items: SmallVec::new(),
            valid: hull(&applied)?,
            opening: 0,
            thresholds: SmallVec::new(),
        };
        match &row.part {
            PlanPart::Accumulator(accumulator) => {
                bucket.resource = accumulator.resource;
                bucket.kind = BucketKind::Accumulator {
                    numerator: accumulator.numerator,
                    denominator: accumulator.denominator.max(1),
                };
                bucket.measure = accumulator.measure;
                bucket.items = accumulator.items.clone();
                bucket.opening = self.opening(accumulator, cycle);
                let level = |level: &i128| Threshold {
                    level: *level,
                    percent: None,
                };
                bucket.thresholds = accumulator.thresholds.iter().map(level).collect();
            }
            PlanPart::Cap(cap) => {
                bucket.resource = cap.resource;
                bucket.kind = BucketKind::Cap { limit: cap.limit };
                bucket.items = cap.items.clone();
                let level = |percent: &u8| {
                    Some(Threshold {
                        level: Scale::new(u64::from(*percent), 100).of(cap.limit.0)?,
                        percent: Some(*percent),
                    })
                };
                bucket.thresholds = cap.thresholds.iter().filter_map(level).collect();
            }
            PlanPart::Commitment(commitment) => {
                let share = |numerator| BucketKind::Accumulator {
                    numerator,
                    denominator: 1,
                };
                bucket.resource = commitment.resource;
                bucket.kind = match commitment.counts {
                    Counts::Spend => BucketKind::Spend,
                    Counts::Money => share(1),
                    Counts::Nothing | Counts::Accumulated(_) => share(0),
                };
                bucket.items = commitment.items.clone();
            }
            _ => return None,
        }
        Some(bucket)
    }

    /// What the members add to a bucket without any usage; a subscription counts once, however many
    /// of its lists have the accumulator.
    fn opening(&self, accumulator: &Accumulator, cycle: Period) -> i128 {
        let counts = |member: &&Arc<Holding>| {
            let mut versions = self.versions.iter().filter(|row| row.list == member.list);
            versions.any(|row| !clip(&clip(&member.stretches, cycle), row.valid).is_empty())
        };
        let mut members: BTreeMap<_, bool> = BTreeMap::new();
        for member in self.members.iter().filter(counts) {
            let activated = member.activation.is_some_and(|at| cycle.contains(at));
            *members.entry(member.subscription).or_default() |= activated;
        }
        let adds = |activated: bool| match activated {
            true => accumulator.recurring.saturating_add(accumulator.activation),
            false => accumulator.recurring,
        };
        let added = members.into_values().map(adds);
        // A counter that is full when it opens takes nothing more: what would add to it is suspended.
        added.fold(0, i128::saturating_add).min(Amount::MAX.0)
    }

    /// The commitments to the accumulator: those of one name are one, added up over its versions
    /// and over the members.
    fn true_ups(&self, bucket: &Bucket, cycle: Period, zone: &TimeZone) -> Vec<Outcome> {
        let mut due: BTreeMap<Name, Vec<(&PlanRow, &Commitment)>> = BTreeMap::new();
        for row in self.commitments.iter().map(|row| &**row) {
            if let PlanPart::Commitment(commitment) = &row.part {
                let versions = due.entry(commitment.resource).or_default();
                versions.push((row, commitment));
            }
        }
        let due = due.into_iter();
        due.filter_map(|(item, versions)| self.true_up(bucket, item, &versions, cycle, zone))
            .flatten()
            .collect()
    }

    fn true_up(
        &self,
        bucket: &Bucket,
        item: Name,
        versions: &[(&PlanRow, &Commitment)],
        cycle: Period,
        zone: &TimeZone,
    ) -> Option<Vec<Outcome>> {
        // No sums, where they leave the range of amounts.
        let mut total = Some(0_i128);
        let mut recurring = Some(Amount::ZERO);
        let mut holders: Vec<&Holding> = Vec::new();
        let mut stretches: Vec<Period> = Vec::new();
        for (row, commitment) in versions {
            for member in self.members_of(row.list) {
                let applied = clip(&clip(&member.stretches, cycle), row.valid);
                if applied.is_empty() {
                    continue;
                }
                let scale = scale(&applied, cycle, commitment.proration, zone);
                let added = scale.of(commitment.amount.0);
                total = total
                    .zip(added)
                    .and_then(|(sum, one)| Some(Amount(sum).checked_add(Amount(one))?.0));
                for dated in &commitment.recurring {
                    let due = recurring_due(member, dated, cycle, zone);
                    recurring = recurring
                        .zip(due)
                        .and_then(|(sum, due)| sum.checked_add(due));
                }
                holders.push(member);
                stretches.extend(applied);
            }
        }
        let (row, commitment) = versions.last()?;
        let longest = longest(holders.into_iter())?;
        let applied = hull(&union(stretches))?;
        if total == Some(0) {
            return None;
        }
        // Out of range, it is no amount, and the reason says so.
        let committed = Amount(total.unwrap_or(i128::MAX));
        let identifier = key(EDGE, &[bucket.key.0, item.0]);
        let activity = Activity {
            key: ActivityKey(identifier),
            kind: ActivityKind::TrueUp {
                commitment: committed,
            },
            group: self.group,
            subscription: longest.subscription,
            account: longest.account,
            profile: longest.profile,
            plan: row.key,
            item,
            currency: commitment.currency,
            cycle,
            applied_start: applied.start(),
            applied_end: applied.end(),
            scale: scale(&[applied], cycle, commitment.proration, zone),
            amount: Amount::ZERO,
            valid: applied,
            reason: total
                .and(recurring)
                .is_none()
                .then_some(Reason::AmountOutOfRange),
        };
        if activity.reason.is_some() {
            return Some(vec![Outcome::Activity(activity)]);
        }
        let edge = Edge {
            group: self.group,
            key: EdgeKey(identifier),
            time: cycle.end(),
            action: EdgeAction::TrueUp {
                accumulator: bucket.key,
                // What recurring charges have come to need not be spent.
                commitment: recurring
                    .and_then(|due| committed.checked_sub(due))
                    .unwrap_or_default()
                    .max(Amount::ZERO),
            },
        };
        Some(vec![Outcome::Edge(edge), Outcome::Activity(activity)])
    }

    /// The row by which each list prices an item by the total of a bucket: the one in force last, as a
    /// rule at the bucket's last instant, of those that somebody had.
    fn priced(&self, bucket: &Bucket) -> Vec<(&PlanRow, &Volume, Period)> {
        let mut last: BTreeMap<(Name, Name), (&PlanRow, &Volume, Period)> = BTreeMap::new();
        for row in self.volumes.iter().map(|row| &**row) {
            let (PlanPart::Volume(volume), Some(applied)) =
                (&row.part, hull(&self.applied(row, bucket.valid)))
            else {
                continue;
            };
            let found = (row, volume, applied);
            let held = last.entry((row.list, volume.item)).or_insert(found);
            let order =
                |(row, _, applied): &(&PlanRow, &Volume, Period)| (applied.end(), Reverse(row.key));
            if order(&found) > order(held) {
                *held = found;
            }
        }
        last.into_values().collect()
    }

    /// The bucket of what the accumulator counts of an item, and the price of a list by its total does
    /// not charge.
    fn elsewhere(&self, bucket: &Bucket, list: Name, item: Name) -> Bucket {
        Bucket {
            key: BucketKey(key(ELSEWHERE, &[bucket.key.0, list.0, item.0])),
            kind: BucketKind::Elsewhere { list },
            items: SmallVec::from_iter([item]),
            opening: 0,
            thresholds: SmallVec::new(),
            ..bucket.clone()
        }
    }

    /// The edge that prices a list's volume in a bucket, and the activity that it is charged as: to the
    /// member that has held the list longest.
    fn volume(
        &self,
        bucket: &Bucket,
        (row, volume, applied): (&PlanRow, &Volume, Period),
        cycle: Period,
    ) -> Option<[Outcome; 2]> {
        let has_it =
            |member: &&Holding| !clip(&clip(&member.stretches, bucket.valid), row.valid).is_empty();
        let longest = longest(self.members_of(row.list).filter(has_it))?;
        let item = volume.item;
        if volume.tiers.is_empty() {
            return None;
        }
        let identifier = key(VOLUME, &[bucket.key.0, item.0, row.list.0]);
        let activity = Activity {
            key: ActivityKey(identifier),
            kind: ActivityKind::Volume,
            group: self.group,
            subscription: longest.subscription,
            account: longest.account,
            profile: longest.profile,
            plan: row.key,
            item,
            currency: volume.currency,
            cycle,
            applied_start: applied.start(),
            applied_end: applied.end(),
            scale: Scale::ONE,
            amount: Amount::ZERO,
            valid: applied,
            reason: None,
        };
        let edge = Edge {
            group: self.group,
            key: EdgeKey(identifier),
            time: cycle.end(),
            action: EdgeAction::Volume {
                accumulator: bucket.key,
                elsewhere: self.elsewhere(bucket, row.list, item).key,
                tiers: Arc::clone(&volume.tiers),
            },
        };
        Some([Outcome::Edge(edge), Outcome::Activity(activity)])
    }
}

/// What a recurring charge of a member comes to in a cycle: of its own cycles those that are billed in
/// it. Nothing when it leaves the range of amounts.
fn recurring_due(
    member: &Holding,
    dated: &DatedCharge,
    within: Period,
    zone: &TimeZone,
) -> Option<Amount> {
    let charge = &dated.charge;
    let profile = charge.term.profile(&member.profile, member.began(), zone);
    let mut sum = Amount::ZERO;
    let mut next = profile.cycle_at(within.start(), zone);
    while let Some(cycle) = next.filter(|cycle| cycle.start() < within.end()) {
        let applied = clip(&clip(&member.stretches, cycle), dated.valid);
        if let Some(valid) = hull(&applied) {
            let billed = match charge.when {
                ChargeWhen::Activation | ChargeWhen::Advance => valid.start(),
                ChargeWhen::Arrears => EventTime(cycle.end().0.saturating_sub(1)),
            };
            if within.contains(billed) {
                let scale = scale(&applied, cycle, charge.proration, zone);
                sum = sum.checked_add(Amount(scale.of(charge.amount.0)?))?;
            }
        }
        next = profile.cycle_at(cycle.end(), zone);
    }
    Some(sum)
}

/// The member that has held its list longest.
fn longest<'a>(members: impl Iterator<Item = &'a Holding>) -> Option<&'a Holding> {
    members.min_by_key(|member| (member.stretches.first().copied(), member.subscription))
}

// Seeds that keep the kinds of keys apart.
const BUCKET: u64 = 12;
const EDGE: u64 = 13;
const VOLUME: u64 = 14;
const ELSEWHERE: u64 = 15;
