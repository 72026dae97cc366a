//! What usage of a balance group comes to, from its first record to its last, one after the other.

use super::money::times as multiply;
use super::rating::{Priced, amount, holds};
use super::suspense;
use millrace_operators::charge::{ItemImpact, Notice};
use millrace_operators::domain::{
    Amount, Bucket, BucketKey, BucketKind, Charge, Edge, EdgeAction, EdgeKey, EventTime, Impact,
    ImpactKind, Item, Measure, Name, PriceModel, PriceRow, Reason, RecordId, Suspense, Threshold,
    Tier, TierReference,
};
use std::collections::{BTreeMap, BTreeSet};

const UNIT: i128 = 1_000_000_000_000;

/// What each bucket holds.
pub type Values = BTreeMap<BucketKey, i128>;

/// What buckets hold, before all and after each record and edge, in order.
#[derive(Clone, Debug, Default)]
pub struct Course(Vec<(EventTime, bool, Values)>);

impl Course {
    /// The values in the end, or at an instant: before its usage, after its edges.
    #[must_use]
    pub fn at(&self, at: Option<EventTime>) -> Vec<(BucketKey, i128)> {
        let before = |(time, is_edge, _): &&(EventTime, bool, Values)| {
            at.is_none_or(|at| *time < at || (*time == at && *is_edge))
        };
        let values = self.0.iter().rfind(before).map(|(.., values)| values);
        values
            .into_iter()
            .flatten()
            .map(|(key, value)| (*key, *value))
            .collect()
    }
}

/// What a group's usage comes to.
#[derive(Default)]
pub(super) struct Told {
    pub(super) charges: Vec<Charge>,
    pub(super) impacts: Vec<ItemImpact>,
    pub(super) suspense: Vec<Suspense>,
    pub(super) notices: Vec<Notice>,
    /// What edges charge; nothing where that leaves the range of amounts.
    pub(super) edges: BTreeMap<EdgeKey, Option<Amount>>,
    pub(super) course: Course,
}

/// A part of a quantity in one tier.
#[derive(Clone, Copy)]
pub(super) struct Part {
    tier: u16,
    units: i128,
    pub(super) amount: i128,
}

fn tier_of(tiers: &[Tier], value: i128) -> usize {
    let reached = tiers.iter().filter(|tier| tier.from <= value).count();
    reached.max(1) - 1
}

fn part_at(tiers: &[Tier], tier: usize, units: i128) -> Option<Part> {
    let Tier { price, per, .. } = tiers[tier];
    let price = (price.mantissa(), price.scale());
    Some(Part {
        tier: u16::try_from(tier).ok()?,
        units,
        amount: multiply(price, (units, 12), per.into())?.0,
    })
}

/// The units from `position` on, cut where tiers begin.
pub(super) fn parts_of_tiers(tiers: &[Tier], position: i128, units: i128) -> Option<Vec<Part>> {
    if units == 0 {
        return Some(vec![part_at(tiers, tier_of(tiers, position), 0)?]);
    }
    let mut parts = Vec::new();
    for tier in 0..tiers.len() {
        let low = match tier {
            0 => position,
            _ => tiers[tier].from.max(position),
        };
        let end = position + units;
        let high = tiers.get(tier + 1).map_or(end, |next| next.from.min(end));
        if low < high {
            parts.push(part_at(tiers, tier, high - low)?);
        }
    }
    Some(parts)
}

/// The order in which buckets are met: allowances of units before those of money, whatever their priorities.
fn meets(bucket: &&Bucket) -> (bool, i32, EventTime, EventTime, BucketKey) {
    let priority = match bucket.kind {
        BucketKind::Allowance { priority } => priority,
        _ => 0,
    };
    let valid = bucket.valid;
    let is_allowance = matches!(bucket.kind, BucketKind::Allowance { .. });
    let is_money = is_allowance && bucket.measure == Measure::Money;
    (is_money, priority, valid.end(), valid.start(), bucket.key)
}

fn is_accumulator(bucket: &Bucket) -> bool {
    matches!(bucket.kind, BucketKind::Accumulator { .. })
}

/// Something that happens.
enum Event<'a> {
    Edge(&'a Edge),
    Record(&'a Priced<'a>),
}

/// Charges a group.
pub(super) fn charge(buckets: &[Bucket], edges: &[Edge], usage: &[Priced<'_>]) -> Told {
    let mut events: Vec<(EventTime, u8, u64, Event<'_>)> = Vec::new();
    events.extend(edges.iter().map(|e| (e.time, 0, e.key.0, Event::Edge(e))));
    for record in usage {
        let (time, id) = (record.usage.time, record.usage.record.0);
        events.push((time, 1, id, Event::Record(record)));
    }
    events.sort_by_key(|(time, kind, id, _)| (*time, *kind, *id));
    let mut values: Values = buckets.iter().map(|b| (b.key, b.opening)).collect();
    let mut told = Told::default();
    told.course.0.push((EventTime::MIN, true, values.clone()));
    let mut noticed: BTreeSet<(BucketKey, Threshold)> = BTreeSet::new();
    for (time, _, id, event) in events {
        let before = values.clone();
        let mut work = Work {
            buckets,
            values: &mut values,
            told: &mut told,
        };
        let record = match event {
            Event::Edge(edge) => {
                work.edge(edge);
                None
            }
            Event::Record(priced) => {
                work.record(priced);
                Some(RecordId(id))
            }
        };
        for bucket in buckets {
            for threshold in &bucket.thresholds {
                let across = |value: i128| match bucket.kind {
                    BucketKind::Allowance { .. } => value <= threshold.level,
                    _ => value >= threshold.level,
                };
                let crossed = !across(before[&bucket.key]) && across(values[&bucket.key]);
                if crossed && noticed.insert((bucket.key, *threshold)) {
                    told.notices.push(Notice {
                        group: bucket.group,
                        bucket: bucket.key,
                        resource: bucket.resource,
                        measure: bucket.measure,
                        valid: bucket.valid,
                        threshold: *threshold,
                        time,
                        record,
                    });
                }
            }
        }
        told.course.0.push((time, record.is_none(), values.clone()));
    }
    told
}

/// One event at work.
struct Work<'a> {
    buckets: &'a [Bucket],
    values: &'a mut Values,
    told: &'a mut Told,
}

impl<'a> Work<'a> {
    fn add(&mut self, key: BucketKey, value: i128) -> Option<()> {
        let held = self.values.get_mut(&key)?;
        *held = Amount(*held).checked_add(Amount(value))?.0;
        Some(())
    }

    fn record(&mut self, priced: &Priced<'_>) {
        let before = self.values.clone();
        let (mut charges, mut impacts) = (Vec::new(), Vec::new());
        for (index, (item, row)) in priced.rows.iter().enumerate() {
            match self.item(priced, index, *item, row) {
                Ok((amount, of_item)) => {
                    let charge = priced.charge(index, amount);
                    charges.push(charge);
                    impacts.extend(ItemImpact::of(&charge, &of_item));
                }
                Err(reason) => {
                    *self.values = before;
                    let fault = suspense(priced.usage, reason, Some(*item), None);
                    self.told.suspense.push(fault);
                    return;
                }
            }
        }
        self.told.charges.extend(charges);
        self.told.impacts.extend(impacts);
    }

    /// The accumulator that a price names, at the time of usage.
    fn named(&self, name: Name, time: EventTime) -> Result<&'a Bucket, Reason> {
        let fits = |bucket: &&Bucket| {
            bucket.resource == name && is_accumulator(bucket) && holds(bucket.valid, time)
        };
        let found = self.buckets.iter().filter(fits).min_by_key(meets);
        found.ok_or(Reason::TierReferenceMissing)
    }

    fn before(&self, bucket: &Bucket) -> Option<&'a Bucket> {
        let ended = |other: &&Bucket| {
            let same = other.resource == bucket.resource && !other.kind.is_inner();
            same && other.valid.end() <= bucket.valid.start()
        };
        let ended = self.buckets.iter().filter(ended);
        ended.max_by_key(|other| (other.valid.end(), other.valid.start(), other.key))
    }

    fn priced(
        &self,
        row: &PriceRow,
        quantity: i64,
        units: i128,
        item: Item,
        time: EventTime,
    ) -> Result<Vec<Part>, Reason> {
        let whole = |amount: Option<Amount>| {
            let amount = amount?.0;
            Some(vec![Part {
                tier: 0,
                units,
                amount,
            }])
        };
        let parts = match &row.model {
            PriceModel::Graduated { tiers, by } => match by {
                TierReference::Record => parts_of_tiers(tiers, 0, units),
                TierReference::Accumulator(name) => {
                    let bucket = self.named(*name, time)?;
                    let value = self.values[&bucket.key];
                    match bucket.measure {
                        Measure::Units => parts_of_tiers(tiers, value, units),
                        Measure::Money => {
                            part_at(tiers, tier_of(tiers, value), units).map(|part| vec![part])
                        }
                    }
                }
                TierReference::PreviousPeriod(name) => {
                    let before = self.before(self.named(*name, time)?);
                    let tier = before.map_or(0, |before| tier_of(tiers, self.values[&before.key]));
                    part_at(tiers, tier, units).map(|part| vec![part])
                }
            },
            PriceModel::Volume { accumulator, .. } => {
                self.named(*accumulator, time)?;
                whole(Some(Amount(0)))
            }
            PriceModel::Package {
                price,
                block,
                accumulator,
            } => {
                let total = self.values[&self.named(*accumulator, time)?.key];
                let elsewhere = BucketKind::Elsewhere { list: row.list };
                let others = self.buckets.iter().filter(|bucket| {
                    bucket.kind == elsewhere
                        && bucket.resource == *accumulator
                        && bucket.items.contains(&item.name)
                        && holds(bucket.valid, time)
                });
                let others = others.min_by_key(meets);
                let value = total - others.map_or(0, |bucket| self.values[&bucket.key]);
                let block = i128::from(*block) * UNIT;
                let started = |total: i128| (total.max(0) + block - 1).div_euclid(block);
                let due = started(value + units) - started(value);
                whole(multiply((price.mantissa(), price.scale()), (due, 0), 1))
            }
            flat => whole(amount(flat, quantity, item.scale)),
        };
        parts.ok_or(Reason::AmountOutOfRange)
    }

    fn item(
        &mut self,
        priced: &Priced<'_>,
        index: usize,
        item: Item,
        row: &PriceRow,
    ) -> Result<(Amount, Vec<Impact>), Reason> {
        let (time, quantity) = (priced.usage.time, priced.usage.quantities[index]);
        let units = i128::from(quantity) * 10_i128.pow(12 - u32::from(item.scale));
        let parts = self.priced(row, quantity, units, item, time)?;
        let mut met: Vec<&Bucket> = self
            .buckets
            .iter()
            .filter(|bucket| holds(bucket.valid, time))
            .filter(|bucket| bucket.items.is_empty() || bucket.items.contains(&item.name))
            .collect();
        met.sort_by_key(meets);
        let mut impacts = Vec::new();
        let (mut gross, mut net) = (0_i128, 0_i128);
        let too_much = Reason::AmountOutOfRange;
        for part in parts {
            gross = gross.checked_add(part.amount).ok_or(too_much)?;
            impacts.push(Impact {
                kind: ImpactKind::Price,
                tier: part.tier,
                bucket: None,
                units: part.units,
                amount: Amount(part.amount),
            });
            let free = !matches!(row.model, PriceModel::Volume { .. });
            let left = if free {
                self.draw(part, &met, &mut impacts).ok_or(too_much)?
            } else {
                part.amount
            };
            net = net.checked_add(left).ok_or(too_much)?;
        }
        net = self.limit(net, &met, &mut impacts).ok_or(too_much)?;
        // What an allowance of money has paid is spent, too.
        let paid = impacts.iter().filter(|i| i.kind == ImpactKind::Allowance);
        let paid: i128 = paid.map(|impact| -impact.amount.0).sum();
        self.count(units, (gross, net + paid), &met, &mut impacts)
            .ok_or(too_much)?;
        let by_total = match &row.model {
            PriceModel::Volume { accumulator, .. } | PriceModel::Package { accumulator, .. } => {
                Some(*accumulator)
            }
            _ => None,
        };
        for bucket in &met {
            let own = by_total == Some(bucket.resource);
            if let BucketKind::Elsewhere { list } = bucket.kind
                && !(own && list == row.list)
            {
                self.add(bucket.key, units).ok_or(too_much)?;
            }
        }
        Ok((Amount(net), impacts))
    }

    /// Draws allowances for a part; what is left of its amount.
    fn draw(&mut self, part: Part, met: &[&Bucket], impacts: &mut Vec<Impact>) -> Option<i128> {
        let (mut units, mut amount) = (part.units, part.amount);
        let allowances = met
            .iter()
            .filter(|bucket| matches!(bucket.kind, BucketKind::Allowance { .. }));
        for bucket in allowances {
            let there = self.values[&bucket.key];
            let wanted = match bucket.measure {
                Measure::Units => units,
                Measure::Money => amount,
            };
            let drawn = wanted.min(there);
            if drawn <= 0 {
                continue;
            }
            self.add(bucket.key, -drawn)?;
            let back = match bucket.measure {
                Measure::Money => {
                    if drawn == amount {
                        units = 0;
                    }
                    drawn
                }
                Measure::Units => {
                    units -= drawn;
                    let worth = || {
                        let whole = u128::try_from(part.units).ok()?;
                        Some(multiply((part.amount, 24), (drawn, 0), whole)?.0)
                    };
                    match (units, part.amount < 0) {
                        (0, _) => amount,
                        (_, true) => worth()?.max(amount),
                        (_, false) => worth()?.min(amount),
                    }
                }
            };
            amount -= back;
            let (drawn_units, drawn_money) = match bucket.measure {
                Measure::Units => (drawn, 0),
                Measure::Money => (0, drawn),
            };
            for (kind, units, amount) in [
                (ImpactKind::Allowance, -drawn_units, -drawn_money),
                (ImpactKind::Offset, 0, -back),
            ] {
                impacts.push(Impact {
                    kind,
                    tier: part.tier,
                    bucket: Some(bucket.key),
                    units,
                    amount: Amount(amount),
                });
            }
        }
        Some(amount)
    }

    /// What caps let through.
    fn limit(&mut self, mut net: i128, met: &[&Bucket], impacts: &mut Vec<Impact>) -> Option<i128> {
        for bucket in met {
            let BucketKind::Cap { limit } = bucket.kind else {
                continue;
            };
            if net <= 0 {
                break;
            }
            let through = net.min((limit.0 - self.values[&bucket.key]).max(0));
            self.add(bucket.key, through)?;
            for (kind, amount) in [
                (ImpactKind::CapOffset, through - net),
                (ImpactKind::Accumulator, through),
            ] {
                if amount != 0 {
                    impacts.push(Impact {
                        kind,
                        tier: 0,
                        bucket: Some(bucket.key),
                        units: 0,
                        amount: Amount(amount),
                    });
                }
            }
            net = through;
        }
        Some(net)
    }

    fn count(
        &mut self,
        units: i128,
        (gross, spent): (i128, i128),
        met: &[&Bucket],
        impacts: &mut Vec<Impact>,
    ) -> Option<()> {
        for bucket in met {
            let (numerator, denominator, money) = match bucket.kind {
                BucketKind::Accumulator {
                    numerator,
                    denominator,
                } => (numerator, denominator, gross),
                BucketKind::Spend => (1, 1, spent),
                _ => continue,
            };
            let whole = match bucket.measure {
                Measure::Units => units,
                Measure::Money => money,
            };
            let counted = multiply((whole, 24), (numerator.into(), 0), denominator.into())?.0;
            if counted == 0 {
                continue;
            }
            self.add(bucket.key, counted)?;
            let (units, amount) = match bucket.measure {
                Measure::Units => (counted, 0),
                Measure::Money => (0, counted),
            };
            impacts.push(Impact {
                kind: ImpactKind::Accumulator,
                tier: 0,
                bucket: Some(bucket.key),
                units,
                amount: Amount(amount),
            });
        }
        Some(())
    }

    fn edge(&mut self, edge: &Edge) {
        match &edge.action {
            EdgeAction::Rollover { from, to, cap } => {
                let (Some(left), true) = (self.values.get(from), self.values.contains_key(to))
                else {
                    return;
                };
                let carried = cap.map_or(*left, |cap| cap.min(*left)).max(0);
                self.add(*from, -carried);
                self.add(*to, carried);
            }
            EdgeAction::TrueUp {
                accumulator,
                commitment,
            } => {
                if let Some(reached) = self.values.get(accumulator) {
                    let lacking = (commitment.0 - reached).max(0);
                    self.told.edges.insert(edge.key, Some(Amount(lacking)));
                }
            }
            EdgeAction::Volume {
                accumulator,
                elsewhere,
                tiers,
            } => {
                if let Some(total) = self.values.get(accumulator) {
                    let own = total - self.values[elsewhere];
                    let part = part_at(tiers, tier_of(tiers, *total), own);
                    let amount = part.map(|part| Amount(part.amount));
                    self.told.edges.insert(edge.key, amount);
                }
            }
        }
    }
}
