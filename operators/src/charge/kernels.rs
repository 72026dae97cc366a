//! The pricing models, one file each, and the order in which a record meets them: per item its price,
//! tier by tier; after each tier the allowances, at that tier's price; then caps on what is left; then
//! accumulators, with all of it.

mod accumulator;
mod allowance;
mod cap;
mod flat;
mod graduated;
mod package;
mod rollover;
mod true_up;
mod volume;

use super::plan::{Held, Plan};
use super::step::{Kernel, Outcome, Part, Parts, Step};
use crate::domain::{
    Amount, BucketKey, BucketKind, Edge, EdgeAction, ImpactKind, Measure, Name, PriceModel,
    Quantity, Reason, Terms, TermsItem, TierReference,
};
use accumulator::Accumulator;
use allowance::Allowance;
use cap::Cap;
use flat::Flat;
use graduated::{ByAccumulator, ByPreviousPeriod, ByRecord};
use package::Package;
use rollover::Rollover;
use true_up::TrueUp;
use volume::VolumeEdge;

/// Charges a record of `quantities` under `terms`, given the buckets that hold its time.
pub(super) fn charge_usage(
    plan: &Plan,
    live: &[u32],
    (terms, quantities): (&Terms, &[i64]),
    state: &mut [i128],
    outcome: &mut Outcome,
) {
    outcome.clear();
    let mut step = Step::new(state, outcome);
    for (item, mantissa) in terms.items.iter().zip(quantities) {
        let usage = ItemUsage {
            plan,
            live,
            item,
            mantissa: *mantissa,
        };
        if let Err(reason) = usage.charge(&mut step) {
            return step.fail(reason, Some(item.name));
        }
    }
}

/// Charges the edge of a period.
pub(super) fn charge_edge(plan: &Plan, edge: &Edge, state: &mut [i128], outcome: &mut Outcome) {
    outcome.clear();
    let mut step = Step::new(state, outcome);
    let charged = edge_parts(plan, edge, &mut step);
    if let Err(reason) = charged.and_then(|(bucket, parts)| {
        let mut sum = Amount::ZERO;
        for part in parts {
            step.impact(
                ImpactKind::Price,
                part.tier,
                bucket,
                part.units,
                part.amount,
            );
            sum = sum
                .checked_add(part.amount)
                .ok_or(Reason::AmountOutOfRange)?;
        }
        step.end_item(sum);
        Ok(())
    }) {
        step.fail(reason, None);
    }
}

fn edge_parts(
    plan: &Plan,
    edge: &Edge,
    step: &mut Step<'_>,
) -> Result<(Option<BucketKey>, Parts), Reason> {
    let slot = |key| plan.slot(key).ok_or(Reason::BucketMissing);
    match &edge.action {
        EdgeAction::Rollover { from, to, cap } => {
            let measure = plan.get(slot(*from)?).map(|held| held.rule.measure);
            let rollover = Rollover {
                from: (slot(*from)?, *from),
                to: (slot(*to)?, *to),
                measure: measure.ok_or(Reason::BucketMissing)?,
                cap: *cap,
            };
            rollover.charge(step)?;
            Ok((None, Parts::new()))
        }
        EdgeAction::TrueUp {
            accumulator,
            commitment,
        } => {
            let true_up = TrueUp {
                accumulator: slot(*accumulator)?,
                commitment: *commitment,
            };
            Ok((Some(*accumulator), true_up.charge(step)?))
        }
        EdgeAction::Volume {
            accumulator,
            elsewhere,
            tiers,
        } => {
            let volume = VolumeEdge {
                accumulator: slot(*accumulator)?,
                elsewhere: slot(*elsewhere)?,
                tiers,
            };
            Ok((Some(*accumulator), volume.charge(step)?))
        }
    }
}

/// One item of a record, and the buckets that hold its time.
struct ItemUsage<'a> {
    plan: &'a Plan,
    live: &'a [u32],
    item: &'a TermsItem,
    mantissa: i64,
}

impl<'a> ItemUsage<'a> {
    /// The live allowances, which come first, and the other live buckets.
    fn parted(&self) -> (&'a [u32], &'a [u32]) {
        let is_allowance = |slot: &u32| {
            let held = self.plan.get(*slot);
            held.is_some_and(|held| matches!(held.rule.kind, BucketKind::Allowance { .. }))
        };
        self.live.split_at(self.live.partition_point(is_allowance))
    }

    /// Those of some buckets that are for the item, in the order in which it meets them.
    fn eligible(&self, slots: &'a [u32]) -> impl Iterator<Item = (u32, Held<'a>)> {
        let (plan, name) = (self.plan, self.item.name);
        slots.iter().filter_map(move |slot| {
            let held = plan.get(*slot)?;
            let items = &held.rule.items;
            (items.is_empty() || items.contains(&name)).then_some((*slot, held))
        })
    }

    /// The bucket of an accumulator that holds the record's time, whatever items it counts.
    fn reference(&self, resource: Name) -> Result<(u32, Held<'a>), Reason> {
        let held = self
            .live
            .iter()
            .filter_map(|slot| Some((*slot, self.plan.get(*slot)?)));
        held.filter(|(_, held)| held.rule.resource == resource)
            .find(|(_, held)| matches!(held.rule.kind, BucketKind::Accumulator { .. }))
            .ok_or(Reason::TierReferenceMissing)
    }

    /// Whether the price by the total of an accumulator, of this list, charges the item.
    fn is_charged_by(&self, total: Name, list: Name) -> bool {
        let by_total = match &self.item.model {
            PriceModel::Volume { accumulator, .. } | PriceModel::Package { accumulator, .. } => {
                *accumulator == total
            }
            _ => false,
        };
        by_total && self.item.list == list
    }

    /// The bucket of what an accumulator counts and the item's price by its total does not charge.
    fn elsewhere(&self, total: Name) -> Option<u32> {
        let list = self.item.list;
        let mut found = self.eligible(self.parted().1).filter(|(_, held)| {
            held.rule.resource == total && held.rule.kind == BucketKind::Elsewhere { list }
        });
        found.next().map(|(slot, _)| slot)
    }

    fn charge(&self, step: &mut Step<'_>) -> Result<(), Reason> {
        let units =
            Quantity::new(self.mantissa, self.item.scale).ok_or(Reason::AmountOutOfRange)?;
        let parts = self.price(units.0, step)?;
        let drawable = !matches!(self.item.model, PriceModel::Volume { .. });
        let (allowances, others) = self.parted();
        let allowances = if drawable { allowances } else { &[] };
        let (mut gross, mut net) = (Amount::ZERO, Amount::ZERO);
        let mut paid = Amount::ZERO;
        for part in parts {
            gross = gross
                .checked_add(part.amount)
                .ok_or(Reason::AmountOutOfRange)?;
            step.impact(ImpactKind::Price, part.tier, None, part.units, part.amount);
            let mut left = part;
            for (slot, held) in self.eligible(allowances) {
                // Of nothing nothing is drawn, however many allowances there are.
                if left.units <= 0 && left.amount <= Amount::ZERO {
                    break;
                }
                let (key, measure) = (held.key, held.rule.measure);
                let before = left.amount;
                left = Allowance {
                    slot,
                    key,
                    measure,
                    part,
                    left,
                }
                .charge(step)?;
                if measure == Measure::Money {
                    let drawn = before.checked_sub(left.amount);
                    paid = drawn
                        .and_then(|drawn| paid.checked_add(drawn))
                        .ok_or(Reason::AmountOutOfRange)?;
                }
            }
            net = net
                .checked_add(left.amount)
                .ok_or(Reason::AmountOutOfRange)?;
        }
        for (slot, held) in self.eligible(others) {
            let key = held.key;
            match held.rule.kind {
                BucketKind::Allowance { .. } => {}
                BucketKind::Cap { limit } => {
                    net = Cap {
                        slot,
                        key,
                        limit,
                        net,
                    }
                    .charge(step)?
                }
                BucketKind::Spend => {
                    let spent = net.checked_add(paid).ok_or(Reason::AmountOutOfRange)?;
                    Accumulator {
                        slot,
                        key,
                        measure: Measure::Money,
                        share: (1, 1),
                        whole: (0, spent),
                    }
                    .charge(step)?;
                }
                BucketKind::Elsewhere { list } => {
                    if !self.is_charged_by(held.rule.resource, list) {
                        step.add(slot, units.0)?;
                    }
                }
                BucketKind::Accumulator {
                    numerator,
                    denominator,
                } => {
                    let share = (numerator, denominator);
                    let measure = held.rule.measure;
                    let whole = (units.0, gross);
                    Accumulator {
                        slot,
                        key,
                        measure,
                        share,
                        whole,
                    }
                    .charge(step)?;
                }
            }
        }
        step.end_item(net);
        Ok(())
    }

    /// What the item's price asks, tier by tier.
    fn price(&self, units: i128, step: &mut Step<'_>) -> Result<Parts, Reason> {
        match &self.item.model {
            model @ (PriceModel::PerUnit { .. }
            | PriceModel::PerBlock { .. }
            | PriceModel::PerRecord { .. }) => {
                let (mantissa, scale) = (self.mantissa, self.item.scale);
                Flat {
                    model,
                    mantissa,
                    scale,
                    units,
                }
                .charge(step)
            }
            PriceModel::Graduated { tiers, by } => match by {
                TierReference::Record => ByRecord { tiers, units }.charge(step),
                TierReference::Accumulator(name) => {
                    let (slot, held) = self.reference(*name)?;
                    let measure = held.rule.measure;
                    ByAccumulator {
                        tiers,
                        units,
                        slot,
                        measure,
                    }
                    .charge(step)
                }
                TierReference::PreviousPeriod(name) => {
                    let slot = self.reference(*name)?.1.rule.previous;
                    ByPreviousPeriod { tiers, units, slot }.charge(step)
                }
            },
            PriceModel::Volume { accumulator, .. } => {
                self.reference(*accumulator)?;
                Ok(Parts::from_iter([Part {
                    tier: 0,
                    units,
                    amount: Amount::ZERO,
                }]))
            }
            PriceModel::Package {
                price,
                block,
                accumulator,
            } => {
                let (slot, _) = self.reference(*accumulator)?;
                let elsewhere = self.elsewhere(*accumulator);
                let elsewhere = elsewhere.map_or(0, |slot| step.read(slot));
                let (price, block) = (*price, *block);
                Package {
                    price,
                    block,
                    units,
                    slot,
                    elsewhere,
                }
                .charge(step)
            }
        }
    }
}
