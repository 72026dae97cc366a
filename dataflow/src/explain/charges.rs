//! What a record is charged: buckets before and after, impacts, and the billing line of each charge.

use super::choices::{measure_of, value_text};
use super::usage::{Found, stretch};
use crate::board::Board;
use crate::job::Job;
use millrace_connectors::output::{AggregatedLine, Texts, blended_rate};
use millrace_connectors::reference::Reference;
use millrace_operators::aggregate::LineFinder;
use millrace_operators::domain::{
    AggregateId, Amount, BillCalendar, Bucket, BucketKey, BucketKind, Charge, Impact, ImpactKind,
    Measure, PriceModel, PriceRow, Quantity, TierReference, Usage, UsageClass,
};
use millrace_operators::rate::{PricedPart, parts};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Decimals that an amount is displayed with.
const DECIMALS_SHOWN: u8 = 2;

/// A bucket of the balance group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BalanceTold {
    /// What it is a bucket of.
    pub resource: String,
    /// `allowance`, `accumulator`, `spend` or `cap`.
    pub kind: &'static str,
    /// `units` or `money`.
    pub measure: &'static str,
    /// When usage may touch it.
    pub valid: String,
    /// Its value just before the record.
    pub before: String,
    /// Its value just after.
    pub after: String,
    /// What a cap holds.
    pub limit: Option<String>,
}

/// An item's charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChargeTold {
    /// The item.
    pub item: String,
    /// How much of it.
    pub quantity: String,
    /// The price row.
    pub price: String,
    /// What was done, in order.
    pub impacts: Vec<ImpactTold>,
    /// The amount as it is held, with all 24 decimals.
    pub amount: String,
    /// The amount as it is displayed: rounded half away from zero.
    pub displayed: String,
    /// Currency.
    pub currency: String,
    /// What the amount does not show: a rounding, or that it is found elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    /// The billing line.
    pub line: LineTold,
}

/// What a charge did to a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImpactTold {
    /// `price`, `allowance`, `offset`, `cap_offset` or `accumulator`.
    pub kind: &'static str,
    /// The tier, where the price has tiers.
    pub tier: Option<TierTold>,
    /// The bucket, where it is one.
    pub bucket: Option<String>,
    /// Units.
    pub units: String,
    /// Money.
    pub amount: String,
}

/// A tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierTold {
    /// Counted from 1.
    pub tier: u32,
    /// Where it begins.
    pub from: String,
    /// Where the next begins.
    pub to: Option<String>,
    /// The price of `per` units.
    pub price: String,
    /// Units that the price buys.
    pub per: u64,
}

/// A billing line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineTold {
    /// Its id.
    pub aggregate_id: String,
    /// Who is billed.
    pub account: String,
    /// Start of the bill unit.
    pub bill_unit_start: String,
    /// End of the bill unit.
    pub bill_unit_end: String,
    /// What it is for.
    pub item: String,
    /// The job's grouping attributes.
    pub grouped_by: BTreeMap<String, Option<String>>,
    /// Charges on it.
    pub charges: i64,
    /// Their quantity.
    pub quantity: String,
    /// Amount per unit.
    pub rate: Option<String>,
    /// Their amount.
    pub amount: String,
    /// Their amount as it is displayed.
    pub displayed: String,
    /// Currency.
    pub currency: String,
}

/// See the module.
pub(super) struct Charged<'a> {
    texts: &'a Texts,
    reference: &'a Reference,
    lines: BTreeMap<AggregateId, AggregatedLine>,
    finder: LineFinder,
}

impl<'a> Charged<'a> {
    pub(super) fn new(
        texts: &'a Texts,
        reference: &'a Reference,
        board: &Board,
        job: &Job,
    ) -> Self {
        let lines = board.lines().into_iter();
        let dimensions = texts.dimensions.iter().map(|(_, dimension)| *dimension);
        let names = Arc::clone(&texts.names);
        let calendar = BillCalendar::new(job.zone.clone());
        let classes = Arc::new(move |key| names.class(key));
        Self {
            texts,
            reference,
            lines: lines.map(|line| (line.key.aggregate_id(), line)).collect(),
            finder: LineFinder::new(dimensions.collect(), calendar, classes),
        }
    }

    /// The buckets that hold the time of usage; nothing where usage is not charged in order.
    pub(super) fn balances(&self, found: &Found, usage: &Usage) -> Option<Vec<BalanceTold>> {
        let (explained, buckets) = found.in_order.as_ref()?;
        let values: BTreeMap<BucketKey, i128> = explained.before.iter().copied().collect();
        let impacts = || explained.items.iter().flat_map(|(_, impacts)| impacts);
        let balance = |bucket: &Bucket| {
            let before = values.get(&bucket.key).copied().unwrap_or(bucket.opening);
            let moved = impacts().filter(|impact| impact.bucket == Some(bucket.key));
            let moved = moved.filter(|impact| impact.moves_its_bucket());
            let moved = moved.map(|impact| impact.moved(bucket.measure));
            // A bucket stays within 38 digits, and so does what moved it.
            let after = moved.fold(before, i128::saturating_add);
            let (kind, limit) = match bucket.kind {
                BucketKind::Allowance { .. } => ("allowance", None),
                BucketKind::Accumulator { .. } => ("accumulator", None),
                BucketKind::Spend => ("spend", None),
                BucketKind::Elsewhere { .. } => ("elsewhere", None),
                BucketKind::Cap { limit } => ("cap", Some(limit.to_string())),
            };
            BalanceTold {
                resource: self.texts.names.text(bucket.resource).to_string(),
                kind,
                measure: match bucket.measure {
                    Measure::Units => "units",
                    Measure::Money => "money",
                },
                valid: stretch(bucket.valid),
                before: value_text(bucket.measure, before),
                after: value_text(bucket.measure, after),
                limit,
            }
        };
        let held = buckets
            .iter()
            .filter(|bucket| bucket.valid.contains(usage.time));
        let mut balances: Vec<BalanceTold> = held.map(balance).collect();
        // As a record meets them.
        let place = |kind: &str| {
            ["allowance", "cap", "accumulator", "spend"]
                .iter()
                .position(|k| *k == kind)
        };
        balances.sort_by(|a, b| {
            let order = |told: &BalanceTold| (place(told.kind), told.resource.clone());
            (order(a), &a.valid).cmp(&(order(b), &b.valid))
        });
        Some(balances)
    }

    /// The charges, item by item.
    pub(super) fn charges(&mut self, found: &Found, class: &UsageClass) -> Vec<ChargeTold> {
        let mut charges: Vec<&Charge> = found.charges.iter().collect();
        charges.sort_by_key(|charge| charge.item);
        charges
            .into_iter()
            .map(|charge| self.charge(found, class, charge))
            .collect()
    }

    fn charge(&mut self, found: &Found, class: &UsageClass, charge: &Charge) -> ChargeTold {
        let line = self.line(charge);
        let names = &self.texts.names;
        let item = class.items[usize::from(charge.item)];
        let quantity = Quantity::new(charge.quantity, item.scale).unwrap_or_default();
        let model = self.model(found, charge);
        let in_order = found.in_order.as_ref();
        let impacts = match (in_order, &model) {
            (Some((explained, buckets)), _) => {
                let of_item = |(held, _): &&(Charge, Vec<Impact>)| held.item == charge.item;
                let items = explained.items.iter().filter(of_item);
                let impacts = items.flat_map(|(_, impacts)| impacts);
                impacts
                    .map(|impact| self.impact(impact, model.as_ref(), buckets))
                    .collect()
            }
            (None, Some(model)) => {
                let parts = parts(model, charge.quantity, item.scale).into_iter();
                let price = |part: PricedPart| {
                    let impact = Impact {
                        kind: ImpactKind::Price,
                        tier: part.tier,
                        bucket: None,
                        units: part.units.0,
                        amount: part.amount,
                    };
                    self.impact(&impact, Some(model), &[])
                };
                parts.map(price).collect()
            }
            (None, None) => Vec::new(),
        };
        ChargeTold {
            item: names.text(item.name).to_string(),
            quantity: quantity.to_string(),
            price: names.price(charge.price).to_string(),
            impacts,
            amount: charge.amount.rounded(Amount::SCALE),
            displayed: charge.amount.rounded(DECIMALS_SHOWN),
            currency: names.text(charge.currency).to_string(),
            note: model.and_then(|model| note(&model, charge)),
            line,
        }
    }

    /// The price model of a charge, as it was rated.
    fn model(&self, found: &Found, charge: &Charge) -> Option<PriceModel> {
        if let Some(priced) = &found.priced {
            let item = priced.terms.items.get(usize::from(charge.item));
            return item.map(|item| item.model.clone());
        }
        let of_charge =
            |row: &&PriceRow| row.key == charge.price && row.valid.contains(charge.time);
        let row = self.reference.prices.iter().find(of_charge);
        row.map(|row| row.model.clone())
    }

    fn impact(
        &self,
        impact: &Impact,
        model: Option<&PriceModel>,
        buckets: &[Bucket],
    ) -> ImpactTold {
        let bucket = buckets
            .iter()
            .find(|bucket| Some(bucket.key) == impact.bucket);
        ImpactTold {
            kind: match impact.kind {
                ImpactKind::Price => "price",
                ImpactKind::Allowance => "allowance",
                ImpactKind::Offset => "offset",
                ImpactKind::CapOffset => "cap_offset",
                ImpactKind::Accumulator => "accumulator",
            },
            tier: model
                .filter(|_| impact.kind != ImpactKind::Accumulator)
                .and_then(|model| self.tier(model, impact.tier)),
            bucket: bucket.map(|bucket| self.texts.names.text(bucket.resource).to_string()),
            units: Quantity(impact.units).to_string(),
            amount: impact.amount.to_string(),
        }
    }

    fn tier(&self, model: &PriceModel, index: u16) -> Option<TierTold> {
        let (tiers, by) = match model {
            PriceModel::Graduated { tiers, by } => (tiers, *by),
            PriceModel::Volume { tiers, accumulator } => {
                (tiers, TierReference::Accumulator(*accumulator))
            }
            _ => return None,
        };
        let measure = measure_of(by, self.reference);
        let tier = tiers.get(usize::from(index))?;
        let next = tiers.get(usize::from(index).saturating_add(1));
        Some(TierTold {
            tier: u32::from(index).saturating_add(1),
            from: value_text(measure, tier.from),
            to: next.map(|next| value_text(measure, next.from)),
            price: tier.price.to_string(),
            per: tier.per,
        })
    }

    fn line(&mut self, charge: &Charge) -> LineTold {
        let (key, _) = self.finder.line(charge);
        let id = key.aggregate_id();
        let names = &self.texts.names;
        let sum = self.lines.get(&id).map(|line| line.sum).unwrap_or_default();
        let line = AggregatedLine { key, sum };
        let dimension = |(index, (name, _)): (usize, &(String, _))| {
            let value = line.dimension(index, self.texts);
            (name.clone(), value.map(|value| value.to_string()))
        };
        let dimensions = self.texts.dimensions.iter().enumerate();
        LineTold {
            aggregate_id: id.to_string(),
            account: names.account(line.key.account).to_string(),
            bill_unit_start: line.key.unit_start.to_string(),
            bill_unit_end: line.key.unit_end.to_string(),
            item: names.text(line.key.item).to_string(),
            grouped_by: dimensions.map(dimension).collect(),
            charges: sum.charges,
            quantity: sum.quantity.to_string(),
            rate: blended_rate(&sum).map(|rate| rate.to_string()),
            amount: sum.amount.to_string(),
            displayed: sum.amount.rounded(DECIMALS_SHOWN),
            currency: names.text(line.key.currency).to_string(),
        }
    }
}

/// What an amount does not show of its price.
fn note(model: &PriceModel, charge: &Charge) -> Option<&'static str> {
    match model {
        PriceModel::Volume { .. } => Some(
            "a volume price: the total of its period is charged when that ends, and nothing for the \
             record alone",
        ),
        PriceModel::PerUnit { price, per } => {
            // What is left of the divisor when all that a decimal can divide by is out of it.
            let dividends = [i128::from(charge.quantity), price.mantissa()];
            let mut divisor = i128::from(*per);
            for dividend in dividends {
                divisor /= common(divisor, dividend);
            }
            for finite in [2, 5] {
                while divisor % finite == 0 {
                    divisor /= finite;
                }
            }
            (divisor != 1).then_some(
                "the quotient has no end: it is held half even at the 24th decimal, and so is off by \
                 at most half a unit there",
            )
        }
        PriceModel::PerBlock { .. }
        | PriceModel::PerRecord { .. }
        | PriceModel::Graduated { .. }
        | PriceModel::Package { .. } => None,
    }
}

/// The greatest common divisor, at least 1; all of the first for nothing.
fn common(first: i128, second: i128) -> i128 {
    let (mut divisor, mut rest) = (first, second.abs());
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    divisor.max(1)
}
