//! What charging must come to, worked out from the first record to the last by the most naive means.
//! It shares the domain's records with the operator, and nothing that decides.

use super::Out;
use crate::charge::{EdgeCharged, Notice};
use crate::domain::*;
use std::collections::BTreeMap;

/// All that is known of one group.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) usage: Vec<PricedUsage>,
    pub(super) buckets: Vec<Bucket>,
    pub(super) edges: Vec<Edge>,
}

/// What it comes to.
#[derive(Default)]
pub(super) struct Bill {
    pub(super) told: BTreeMap<Out, isize>,
    /// Values after each event, with the event's time and whether it is usage, in order.
    pub(super) values: Vec<((EventTime, bool), BTreeMap<BucketKey, i128>)>,
    pub(super) opening: BTreeMap<BucketKey, i128>,
}

impl Bill {
    pub(super) fn balances(&self, at: Option<EventTime>) -> Vec<(BucketKey, i128)> {
        let before = self.values.iter().rev();
        let mut before = before.filter(|(time, _)| at.is_none_or(|at| *time < (at, true)));
        let values = before.next().map_or(&self.opening, |(_, values)| values);
        values.iter().map(|(key, value)| (*key, *value)).collect()
    }
}

/// Tier, units, cost.
type PricedPart = (usize, i128, i128);
type Values = BTreeMap<BucketKey, i128>;

fn half_even(number: i128, divisor: i128) -> i128 {
    let (floor, rest) = (number.div_euclid(divisor), number.rem_euclid(divisor));
    let up = 2 * rest > divisor || (2 * rest == divisor && floor.rem_euclid(2) == 1);
    floor + i128::from(up)
}

fn ten(power: u32) -> i128 {
    10_i128.pow(power)
}

fn cost(price: Price, units: i128, per: u64) -> i128 {
    half_even(
        units * price.mantissa() * ten(12 - price.scale()),
        i128::from(per),
    )
}

fn tier_of(tiers: &[Tier], position: i128) -> usize {
    let mut found = 0;
    for (at, tier) in tiers.iter().enumerate() {
        if tier.from <= position {
            found = at;
        }
    }
    found
}

/// Allowances of units before those of money, whatever their priorities.
fn draw_order(bucket: &&Bucket) -> (bool, i32, EventTime, EventTime, BucketKey) {
    let priority = match bucket.kind {
        BucketKind::Allowance { priority } => priority,
        _ => 0,
    };
    (
        matches!(bucket.kind, BucketKind::Allowance { .. }) && bucket.measure == Measure::Money,
        priority,
        bucket.valid.end(),
        bucket.valid.start(),
        bucket.key,
    )
}

impl World {
    pub(super) fn bill(&self) -> Bill {
        let mut bill = Bill::default();
        for bucket in &self.buckets {
            bill.opening.insert(bucket.key, bucket.opening);
        }
        let mut events: Vec<(EventTime, u8, u64, usize)> = Vec::new();
        for (at, edge) in self.edges.iter().enumerate() {
            events.push((edge.time, 0, edge.key.0, at));
        }
        for (at, usage) in self.usage.iter().enumerate() {
            events.push((usage.time, 1, usage.record.0, at));
        }
        events.sort_unstable();
        let mut values = bill.opening.clone();
        let mut noticed: BTreeMap<(BucketKey, Threshold), ()> = BTreeMap::new();
        for (time, kind, id, at) in events {
            let before = values.clone();
            if kind == 0 {
                self.edge(&self.edges[at], &mut values, &mut bill);
            } else {
                self.record(&self.usage[at], &mut values, &mut bill);
            }
            for bucket in &self.buckets {
                let falling = matches!(bucket.kind, BucketKind::Allowance { .. });
                for threshold in &bucket.thresholds {
                    let across = |value: i128| match falling {
                        true => value <= threshold.level,
                        false => value >= threshold.level,
                    };
                    let crossed = !across(before[&bucket.key]) && across(values[&bucket.key]);
                    if crossed && noticed.insert((bucket.key, *threshold), ()).is_none() {
                        let notice = Notice {
                            group: bucket.group,
                            bucket: bucket.key,
                            resource: bucket.resource,
                            measure: bucket.measure,
                            valid: bucket.valid,
                            threshold: *threshold,
                            time,
                            record: (kind == 1).then_some(RecordId(id)),
                        };
                        bill.told.insert(Out::Notice(notice), 1);
                    }
                }
            }
            bill.values.push(((time, kind == 1), values.clone()));
        }
        bill
    }

    fn record(&self, usage: &PricedUsage, values: &mut Values, bill: &mut Bill) {
        let before = values.clone();
        let terms = &usage.terms;
        let mut told = Vec::new();
        for (at, (item, quantity)) in terms.items.iter().zip(&usage.quantities).enumerate() {
            match self.item(usage.time, item, *quantity, values) {
                Ok((amount, impacts)) => {
                    let charge = Charge {
                        record: usage.record,
                        item: u8::try_from(at).unwrap(),
                        time: usage.time,
                        service: terms.service,
                        class: terms.class,
                        subscription: terms.subscription,
                        account: terms.account,
                        profile: terms.profile,
                        price: item.price,
                        currency: terms.currency,
                        quantity: *quantity,
                        amount: Amount(amount),
                    };
                    told.push(Out::Item(charge, impacts));
                }
                Err(reason) => {
                    *values = before;
                    let suspense = Suspense {
                        record: usage.record,
                        reason,
                        service: terms.service,
                        class: terms.class,
                        time: usage.time,
                        item: Some(item.name),
                        original: None,
                    };
                    bill.told.insert(Out::Suspense(suspense), 1);
                    return;
                }
            }
        }
        bill.told.extend(told.into_iter().map(|out| (out, 1)));
    }

    fn accumulator(&self, name: Name, time: EventTime) -> Result<&Bucket, Reason> {
        let mut found: Vec<&Bucket> = self.buckets.iter().collect();
        found.retain(|bucket| {
            bucket.resource == name
                && bucket.valid.contains(time)
                && matches!(bucket.kind, BucketKind::Accumulator { .. })
        });
        found.sort_by_key(draw_order);
        found.first().copied().ok_or(Reason::TierReferenceMissing)
    }

    fn previous(&self, bucket: &Bucket) -> Option<&Bucket> {
        let same = self.buckets.iter().filter(|other| {
            other.resource == bucket.resource
                && !matches!(other.kind, BucketKind::Elsewhere { .. })
                && other.valid.end() <= bucket.valid.start()
        });
        same.max_by_key(|other| (other.valid.end(), other.valid.start(), other.key))
    }

    /// Tier, units and cost of each part, and whether allowances may be drawn.
    fn price(
        &self,
        time: EventTime,
        item: &TermsItem,
        quantity: i64,
        values: &Values,
    ) -> Result<(Vec<PricedPart>, bool), Reason> {
        let units = i128::from(quantity) * ten(12 - u32::from(item.scale));
        let whole = |tiers: &[Tier], at: usize| {
            vec![(at, units, cost(tiers[at].price, units, tiers[at].per))]
        };
        let walk = |tiers: &[Tier], mut position: i128| {
            let mut left = units;
            let mut parts = Vec::new();
            loop {
                let at = tier_of(tiers, position);
                let room = tiers.get(at + 1).map_or(left, |next| next.from - position);
                let here = left.min(room);
                parts.push((at, here, cost(tiers[at].price, here, tiers[at].per)));
                left -= here;
                position += here;
                if left <= 0 {
                    return parts;
                }
            }
        };
        let parts = match &item.model {
            PriceModel::PerUnit { price, per } => vec![(0, units, cost(*price, units, *per))],
            PriceModel::PerRecord { price } => vec![(0, units, cost(*price, ten(12), 1))],
            PriceModel::PerBlock { price, block } => {
                let block = i128::from(*block) * ten(12);
                let started = units.div_euclid(block) + i128::from(units.rem_euclid(block) > 0);
                vec![(0, units, cost(*price, started * ten(12), 1))]
            }
            PriceModel::Graduated { tiers, by } => match by {
                TierReference::Record => walk(tiers, 0),
                TierReference::Accumulator(name) => {
                    let bucket = self.accumulator(*name, time)?;
                    let position = values[&bucket.key];
                    if bucket.measure == Measure::Money {
                        whole(tiers, tier_of(tiers, position))
                    } else {
                        walk(tiers, position)
                    }
                }
                TierReference::PreviousPeriod(name) => {
                    let bucket = self.accumulator(*name, time)?;
                    let reached = self
                        .previous(bucket)
                        .map_or(0, |before| values[&before.key]);
                    whole(tiers, tier_of(tiers, reached))
                }
            },
            PriceModel::Volume { accumulator, .. } => {
                self.accumulator(*accumulator, time)?;
                return Ok((vec![(0, units, 0)], false));
            }
            PriceModel::Package {
                price,
                block,
                accumulator,
            } => {
                let bucket = self.accumulator(*accumulator, time)?;
                let mut others: Vec<&Bucket> = self.buckets.iter().collect();
                others.retain(|bucket| {
                    let of_item = bucket.items.is_empty() || bucket.items.contains(&item.name);
                    bucket.kind == BucketKind::Elsewhere { list: item.list }
                        && bucket.resource == *accumulator
                        && bucket.valid.contains(time)
                        && of_item
                });
                others.sort_by_key(draw_order);
                let others = others.first().map_or(0, |bucket| values[&bucket.key]);
                let own = values[&bucket.key] - others;
                let block = i128::from(*block) * ten(12);
                let mut paid = 0;
                while paid * block < own {
                    paid += 1;
                }
                let mut due = paid;
                while due * block < own + units {
                    due += 1;
                }
                vec![(0, units, cost(*price, (due - paid) * ten(12), 1))]
            }
        };
        Ok((parts, true))
    }

    fn item(
        &self,
        time: EventTime,
        item: &TermsItem,
        quantity: i64,
        values: &mut Values,
    ) -> Result<(i128, Vec<Impact>), Reason> {
        let (parts, drawable) = self.price(time, item, quantity, values)?;
        let mut live: Vec<&Bucket> = self.buckets.iter().collect();
        live.retain(|bucket| {
            bucket.valid.contains(time)
                && (bucket.items.is_empty() || bucket.items.contains(&item.name))
        });
        live.sort_by_key(draw_order);
        let mut impacts = Vec::new();
        let mut note = |kind, tier: usize, bucket, units, amount| {
            impacts.push(Impact {
                kind,
                tier: u16::try_from(tier).unwrap(),
                bucket,
                units,
                amount: Amount(amount),
            });
        };
        let (mut gross, mut net) = (0, 0);
        for (tier, units, amount) in parts {
            gross += amount;
            note(ImpactKind::Price, tier, None, units, amount);
            let (mut units_left, mut amount_left) = (units, amount);
            for bucket in &live {
                if !drawable || !matches!(bucket.kind, BucketKind::Allowance { .. }) {
                    continue;
                }
                let value = values.get_mut(&bucket.key).unwrap();
                let key = Some(bucket.key);
                if bucket.measure == Measure::Units {
                    let drawn = units_left.min((*value).max(0));
                    if drawn <= 0 {
                        continue;
                    }
                    *value -= drawn;
                    units_left -= drawn;
                    // amount · drawn / units, in parts that stay small.
                    let share = half_even(amount * (drawn / ten(11)), units / ten(11));
                    let offset = if units_left == 0 {
                        amount_left
                    } else {
                        share.min(amount_left)
                    };
                    amount_left -= offset;
                    note(ImpactKind::Allowance, tier, key, -drawn, 0);
                    note(ImpactKind::Offset, tier, key, 0, -offset);
                } else {
                    let drawn = amount_left.min((*value).max(0));
                    if drawn <= 0 {
                        continue;
                    }
                    *value -= drawn;
                    amount_left -= drawn;
                    if amount_left == 0 {
                        units_left = 0;
                    }
                    note(ImpactKind::Allowance, tier, key, 0, -drawn);
                    note(ImpactKind::Offset, tier, key, 0, -drawn);
                }
            }
            net += amount_left;
        }
        for bucket in &live {
            if let BucketKind::Cap { limit } = bucket.kind {
                if net <= 0 {
                    continue;
                }
                let value = values.get_mut(&bucket.key).unwrap();
                let fits = net.min((limit.0 - *value).max(0));
                if fits < net {
                    note(ImpactKind::CapOffset, 0, Some(bucket.key), 0, fits - net);
                }
                if fits > 0 {
                    note(ImpactKind::Accumulator, 0, Some(bucket.key), 0, fits);
                }
                *value += fits;
                net = fits;
            }
        }
        let units = i128::from(quantity) * ten(12 - u32::from(item.scale));
        let by_total = match &item.model {
            PriceModel::Volume { accumulator, .. } | PriceModel::Package { accumulator, .. } => {
                Some(*accumulator)
            }
            _ => None,
        };
        for bucket in &live {
            if let BucketKind::Elsewhere { list } = bucket.kind
                && (by_total != Some(bucket.resource) || list != item.list)
            {
                *values.get_mut(&bucket.key).unwrap() += units;
            }
        }
        for bucket in &live {
            if let BucketKind::Accumulator {
                numerator,
                denominator,
            } = bucket.kind
            {
                let share = |all: i128| half_even(all * i128::from(numerator), denominator.into());
                let (units, amount) = match bucket.measure {
                    Measure::Units => (share(units), 0),
                    Measure::Money => (0, share(gross)),
                };
                *values.get_mut(&bucket.key).unwrap() += units + amount;
                if units + amount != 0 {
                    note(ImpactKind::Accumulator, 0, Some(bucket.key), units, amount);
                }
            }
        }
        Ok((net, impacts))
    }

    fn edge(&self, edge: &Edge, values: &mut Values, bill: &mut Bill) {
        let price = |tier: usize, bucket, units, amount| Impact {
            kind: ImpactKind::Price,
            tier: u16::try_from(tier).unwrap(),
            bucket: Some(bucket),
            units,
            amount: Amount(amount),
        };
        let mut impacts = Vec::new();
        let mut reason = None;
        match &edge.action {
            EdgeAction::Rollover { from, to, cap } => {
                let measure = self.buckets.iter().find(|bucket| bucket.key == *from);
                match (measure, values.contains_key(to)) {
                    (Some(bucket), true) => {
                        let left = values[from].max(0);
                        let carried = cap.map_or(left, |cap| left.min(cap));
                        if carried > 0 {
                            *values.get_mut(from).unwrap() -= carried;
                            *values.get_mut(to).unwrap() += carried;
                            for (key, value) in [(*from, -carried), (*to, carried)] {
                                let money = bucket.measure == Measure::Money;
                                impacts.push(Impact {
                                    kind: ImpactKind::Allowance,
                                    tier: 0,
                                    bucket: Some(key),
                                    units: if money { 0 } else { value },
                                    amount: Amount(if money { value } else { 0 }),
                                });
                            }
                        }
                    }
                    _ => reason = Some(Reason::BucketMissing),
                }
            }
            EdgeAction::TrueUp {
                accumulator,
                commitment,
            } => match values.get(accumulator) {
                Some(reached) if *reached < commitment.0 => {
                    impacts.push(price(0, *accumulator, 0, commitment.0 - reached));
                }
                Some(_) => {}
                None => reason = Some(Reason::BucketMissing),
            },
            EdgeAction::Volume {
                accumulator,
                elsewhere,
                tiers,
            } => match (values.get(accumulator), values.get(elsewhere)) {
                (Some(total), Some(other)) => {
                    let at = tier_of(tiers, *total);
                    let own = total - other;
                    let amount = cost(tiers[at].price, own, tiers[at].per);
                    impacts.push(price(at, *accumulator, own, amount));
                }
                _ => reason = Some(Reason::BucketMissing),
            },
        }
        let charged = EdgeCharged {
            group: edge.group,
            edge: edge.key,
            time: edge.time,
            impacts: impacts.into_iter().collect(),
            reason,
        };
        bill.told.insert(Out::Edge(charged), 1);
    }
}
