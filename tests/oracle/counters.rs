//! What the subscriptions of a balance group share: accumulators and caps, and what falls due at the
//! ends of their cycles.

use super::World;
use super::calendar::Zone;
use super::identity;
use super::plans::{Cycle, Holding, Lasts, Made, cycles, part_of, term};
use super::times::{Times, joined, of, period, scale, share, whole, within};
use millrace_operators::domain::{
    Accumulator, Activity, ActivityKey, ActivityKind, Amount, Bucket, BucketKey, BucketKind,
    Commitment, Counts, Edge, EdgeAction, EdgeKey, EventTime, GroupKey, Measure, Name, PlanPart,
    PlanRow, Proration, SubscriptionKey, Term, Threshold, Volume,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One accumulator or cap of a group.
struct Counter<'a> {
    world: &'a World,
    zone: Zone,
    group: GroupKey,
    identity: u64,
    /// Its versions, by the time from which they hold.
    versions: Vec<&'a PlanRow>,
    /// The group's subscriptions, the one that is active longest first.
    members: Vec<&'a Holding<'a>>,
    /// The group's last usage.
    last: i64,
}

/// Counts for every group.
pub(super) fn count(
    world: &World,
    zone: Zone,
    holdings: &[Holding<'_>],
    (lasts, made): (&Lasts, &mut Made),
) {
    let groups: BTreeSet<GroupKey> = holdings.iter().map(|held| held.group).collect();
    for group in groups {
        let mut members: Vec<&Holding<'_>> =
            holdings.iter().filter(|held| held.group == group).collect();
        members.sort_by_key(|held| {
            let since = (held.times[0], held.subscription);
            (since, held.list, held.account.key)
        });
        let had = |row: &&PlanRow| members.iter().any(|held| !held.times_of(row).is_empty());
        let mut versions: BTreeMap<u64, Vec<&PlanRow>> = BTreeMap::new();
        for row in world.plans.iter().filter(had) {
            if let Some(identity) = identity::counter(&row.part) {
                versions.entry(identity).or_default().push(row);
            }
        }
        for (identity, mut versions) in versions {
            versions.sort_by_key(|row| (row.valid.start(), row.key, row.list));
            let counter = Counter {
                world,
                zone,
                group,
                identity,
                versions,
                members: members.clone(),
                last: lasts.get(&group).copied().unwrap_or(i64::MIN),
            };
            counter.count(made);
        }
    }
}

/// A price by a total, with the plan row that asks for it and the time that it holds for.
type Counted<'a> = (&'a PlanRow, &'a Volume, (i64, i64));

impl<'a> Counter<'a> {
    fn count(&self, made: &mut Made) {
        let counted = |held: &&&Holding<'_>| {
            let mut rows = self.versions.iter();
            rows.any(|row| !held.times_of(row).is_empty())
        };
        let Some(first) = self.members.iter().find(counted) else {
            return;
        };
        let own_term = match &self.versions[0].part {
            PlanPart::Accumulator(accumulator) => accumulator.term,
            PlanPart::Cap(cap) => cap.term,
            PlanPart::Commitment(commitment) => commitment.term,
            _ => return,
        };
        let profile = term(
            own_term,
            &first.account.profile,
            (self.zone, first.times[0].0),
        );
        let begin = self.versions.iter().flat_map(|row| self.times(row));
        let Some(begin) = begin.map(|(start, _)| start).min() else {
            return;
        };
        for cycle in cycles(self.world, self.zone, &profile, (begin, self.last)) {
            let Some(bucket) = self.bucket(cycle) else {
                continue;
            };
            if let PlanPart::Accumulator(counted) = &self.versions[0].part
                && counted.measure == Measure::Units
            {
                self.volumes(counted, cycle, &bucket, made);
            }
            if cycle.ended {
                match &self.versions[0].part {
                    PlanPart::Accumulator(counted) if counted.measure == Measure::Money => {
                        let rows = self.commitments_to(counted, own_term);
                        self.true_up(rows, cycle, &bucket, made);
                    }
                    PlanPart::Commitment(_) => {
                        let rows = self.versions.iter().copied();
                        self.true_up(rows.collect(), cycle, &bucket, made);
                    }
                    _ => {}
                }
            }
            made.buckets.push(bucket);
        }
    }

    /// When any member has a row.
    fn times(&self, row: &PlanRow) -> Times {
        joined(self.members.iter().flat_map(|held| held.times_of(row)))
    }

    fn bucket(&self, cycle: Cycle) -> Option<Bucket> {
        let here = |row: &PlanRow| within(&self.times(row), cycle.stretch());
        // Of those that somebody has in the cycle, the one that was got latest.
        let since = |row: &PlanRow| here(row).last().map(|(start, _)| *start);
        let in_force = self.versions.iter().filter(|row| !here(row).is_empty());
        let row = in_force.max_by_key(|row| since(row))?;
        let times = joined(self.versions.iter().flat_map(|row| here(row)));
        let (resource, kind, measure, items, opening, thresholds) = match &row.part {
            PlanPart::Accumulator(a) => {
                let kind = BucketKind::Accumulator {
                    numerator: a.numerator,
                    denominator: a.denominator,
                };
                let level = |level: &i128| Threshold {
                    level: *level,
                    percent: None,
                };
                let levels = a.thresholds.iter().map(level).collect();
                let opening = self.opening(a, cycle);
                (a.resource, kind, a.measure, &a.items, opening, levels)
            }
            PlanPart::Cap(cap) => {
                let kind = BucketKind::Cap { limit: cap.limit };
                let level = |percent: &u8| Threshold {
                    level: part_of(cap.limit.0, (u64::from(*percent), 100)),
                    percent: Some(*percent),
                };
                let levels = cap.thresholds.iter().map(level).collect();
                (cap.resource, kind, Measure::Money, &cap.items, 0, levels)
            }
            PlanPart::Commitment(c) => {
                let share = |numerator| BucketKind::Accumulator {
                    numerator,
                    denominator: 1,
                };
                let kind = match c.counts {
                    Counts::Spend => BucketKind::Spend,
                    Counts::Money => share(1),
                    _ => share(0),
                };
                let none = Default::default();
                (c.resource, kind, Measure::Money, &c.items, 0, none)
            }
            _ => return None,
        };
        Some(Bucket {
            group: self.group,
            key: BucketKey(identity::counted(self.identity, self.group, cycle.start)),
            resource,
            kind,
            measure,
            items: items.clone(),
            valid: period(whole(&times)),
            opening,
            thresholds,
        })
    }

    /// What subscriptions add by being there: each once, whichever of its lists has the accumulator.
    fn opening(&self, accumulator: &Accumulator, cycle: Cycle) -> i128 {
        let mut activated: BTreeMap<SubscriptionKey, bool> = BTreeMap::new();
        for held in &self.members {
            let mut rows = self.versions.iter();
            if rows.any(|row| !within(&held.times_of(row), cycle.stretch()).is_empty()) {
                let now = held.activation.is_some_and(|at| cycle.holds(at));
                *activated.entry(held.subscription).or_insert(false) |= now;
            }
        }
        let each = activated.values().map(|activated| match activated {
            true => accumulator.recurring + accumulator.activation,
            false => accumulator.recurring,
        });
        each.sum()
    }

    fn commitments_to(&self, counted: &Accumulator, own_term: Term) -> Vec<&'a PlanRow> {
        let to_it = |row: &&PlanRow| {
            matches!(&row.part, PlanPart::Commitment(c)
                if c.counts == Counts::Accumulated(counted.resource) && c.term == own_term)
        };
        let rows = self.world.plans.iter().filter(to_it);
        rows.filter(|row| !self.times(row).is_empty()).collect()
    }

    fn true_up(&self, rows: Vec<&PlanRow>, cycle: Cycle, bucket: &Bucket, made: &mut Made) {
        let mut named: BTreeMap<Name, Vec<(&PlanRow, &Commitment)>> = BTreeMap::new();
        for row in rows {
            if let PlanPart::Commitment(commitment) = &row.part {
                let rows = named.entry(commitment.resource).or_default();
                rows.push((row, commitment));
            }
        }
        for (item, mut rows) in named {
            rows.sort_by_key(|(row, _)| (row.valid.start(), row.key, row.list));
            let mut total = Some(0_i128);
            let mut applied = Times::new();
            let mut committed: Vec<&Holding<'_>> = Vec::new();
            for (row, commitment) in &rows {
                for held in &self.members {
                    let here = within(&held.times_of(row), cycle.stretch());
                    if !here.is_empty() {
                        let worth = share(&here, cycle.stretch(), commitment.proration, self.zone);
                        let part = part_of(commitment.amount.0, worth);
                        total =
                            total.and_then(|sum| Some(Amount(sum).checked_add(Amount(part))?.0));
                        applied.extend(here);
                        committed.push(held);
                    }
                }
            }
            if total == Some(0) {
                continue;
            }
            let committed_to = Amount(total.unwrap_or(i128::MAX));
            let longest = committed
                .into_iter()
                .min_by_key(|held| (held.times[0], held.subscription));
            let (row, commitment) = rows[rows.len() - 1];
            let kind = ActivityKind::TrueUp {
                commitment: committed_to,
            };
            let key = identity::true_up(bucket.key.0, item);
            let activity = Activity {
                item,
                currency: commitment.currency,
                ..self.due(
                    (key, kind, row),
                    longest.expect("somebody committed"),
                    whole(&joined(applied)),
                    (cycle, commitment.proration),
                )
            };
            made.activity.push(activity);
            if total.is_none() {
                continue;
            }
            made.edges.push(Edge {
                group: self.group,
                key: EdgeKey(key),
                time: EventTime(cycle.end),
                action: EdgeAction::TrueUp {
                    accumulator: bucket.key,
                    commitment: committed_to,
                },
            });
        }
    }

    /// What falls due at the end of a cycle, and is decided there.
    fn due(
        &self,
        (key, kind, row): (u64, ActivityKind, &PlanRow),
        longest: &Holding<'_>,
        applied: (i64, i64),
        (cycle, proration): (Cycle, Proration),
    ) -> Activity {
        Activity {
            key: ActivityKey(key),
            kind,
            group: self.group,
            subscription: longest.subscription,
            account: longest.account.key,
            profile: longest.account.profile,
            plan: row.key,
            item: Name::default(),
            currency: Name::default(),
            cycle: period(cycle.stretch()),
            applied_start: EventTime(applied.0),
            applied_end: EventTime(applied.1),
            scale: scale(share(&[applied], cycle.stretch(), proration, self.zone)),
            amount: Amount(0),
            valid: period(applied),
            reason: None,
        }
    }

    /// Per list and item, the row by a counter's total that somebody had last in a bucket, with when it
    /// applied.
    fn by_total(
        &self,
        counted: &Accumulator,
        bucket: &Bucket,
    ) -> BTreeMap<(Name, Name), Counted<'a>> {
        let mut last = BTreeMap::new();
        for row in &self.world.plans {
            let PlanPart::Volume(volume) = &row.part else {
                continue;
            };
            let applied = within(&self.times(row), of(bucket.valid));
            if volume.accumulator != counted.resource || applied.is_empty() {
                continue;
            }
            let applied = whole(&applied);
            let place = (row.list, volume.item);
            let later = |(other, _, when): &(&PlanRow, &Volume, (i64, i64))| {
                (applied.1, Reverse(row.key)) > (when.1, Reverse(other.key))
            };
            if last.get(&place).is_none_or(later) {
                last.insert(place, (row, volume, applied));
            }
        }
        last
    }

    /// What each list charges of a counter by its total, and the buckets of what it does not.
    fn volumes(&self, counted: &Accumulator, cycle: Cycle, bucket: &Bucket, made: &mut Made) {
        for ((list, item), (row, volume, applied)) in self.by_total(counted, bucket) {
            let elsewhere = BucketKey(identity::elsewhere(bucket.key.0, item, list));
            made.buckets.push(Bucket {
                key: elsewhere,
                kind: BucketKind::Elsewhere { list },
                items: [item].into_iter().collect(),
                opening: 0,
                thresholds: Default::default(),
                ..bucket.clone()
            });
            if !cycle.ended || volume.tiers.is_empty() {
                continue;
            }
            let members = self.members.iter().copied();
            let longest = members
                .filter(|held| !within(&held.times_of(row), of(bucket.valid)).is_empty())
                .min_by_key(|held| (held.times[0], held.subscription));
            let key = identity::volume(bucket.key.0, item, list);
            let due = (cycle, Proration::FullCharge);
            made.activity.push(Activity {
                item,
                currency: volume.currency,
                ..self.due(
                    (key, ActivityKind::Volume, row),
                    longest.expect("somebody had it"),
                    applied,
                    due,
                )
            });
            made.edges.push(Edge {
                group: self.group,
                key: EdgeKey(key),
                time: EventTime(cycle.end),
                action: EdgeAction::Volume {
                    accumulator: bucket.key,
                    elsewhere,
                    tiers: std::sync::Arc::clone(&volume.tiers),
                },
            });
        }
    }
}
