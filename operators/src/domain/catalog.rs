//! Price rows: what an item costs, for whom, under which conditions, and when.

use super::amount::{Amount, Price, Quantity};
use super::key::{AccountKey, Name, PriceKey};
use super::tier::{self, Tier, TierReference};
use super::time::Period;
use super::usage::UsageClass;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A usage attribute that must have a value for the price row to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// The attribute's name.
    pub attribute: Name,
    /// The value it must have.
    pub value: Name,
}

/// How a quantity becomes an amount. The flat models, and tiers of a record's own quantity, are pure
/// functions of one record ([`Self::amount`]); the others look at what came before and belong to the
/// [ordered charging stage](crate::charge).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PriceModel {
    /// `quantity · price / per`: 3 USD per 1,000,000 tokens.
    PerUnit {
        /// Price of `per` units.
        price: Price,
        /// Units that the price buys, at least 1.
        per: u64,
    },
    /// `ceil(quantity / block) · price`: 0.12 per started minute of 60 seconds.
    PerBlock {
        /// Price of a started block.
        price: Price,
        /// Units in a block, at least 1.
        block: u64,
    },
    /// The price, whatever the quantity.
    PerRecord {
        /// Price of the record.
        price: Price,
    },
    /// Units move through tiers, each with its price.
    Graduated {
        /// The tiers, in order; the first begins at 0.
        tiers: Arc<[Tier]>,
        /// What decides where a record begins.
        by: TierReference,
    },
    /// All units of a period at the price of the tier that their total reaches. A record costs
    /// nothing when it happens; an [edge](super::EdgeAction::Volume) at the period's end charges the
    /// total.
    Volume {
        /// The tiers, in order; the first begins at 0.
        tiers: Arc<[Tier]>,
        /// The accumulator that holds the total.
        accumulator: Name,
    },
    /// The price per started block of an accumulated total: blocks are shared by records.
    Package {
        /// Price of a started block.
        price: Price,
        /// Units in a block, at least 1.
        block: u64,
        /// The accumulator that holds the total.
        accumulator: Name,
    },
}

impl PriceModel {
    /// Whether what came before decides the amount, so that only ordered charging can tell it.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        match self {
            Self::PerUnit { .. } | Self::PerBlock { .. } | Self::PerRecord { .. } => false,
            Self::Graduated { by, .. } => *by != TierReference::Record,
            Self::Volume { .. } | Self::Package { .. } => true,
        }
    }

    /// The amount for a quantity of `mantissa · 10^-scale`; `None` when it leaves the range of
    /// [`Amount`], and for models that [are ordered](Self::is_ordered).
    #[must_use]
    pub fn amount(&self, mantissa: i64, scale: u8) -> Option<Amount> {
        let decimals = u32::from(scale);
        match self {
            Self::PerUnit { price, per } => {
                let decimals = price.scale().checked_add(decimals)?;
                let quantity = i128::from(mantissa);
                Amount::from_product(quantity, price.mantissa(), decimals, i128::from(*per))
            }
            Self::PerBlock { price, block } => {
                let block = i128::from(*block).checked_mul(10_i128.checked_pow(decimals)?)?;
                let mantissa = i128::from(mantissa);
                let whole = mantissa.checked_div_euclid(block)?;
                let started = i128::from(mantissa.checked_rem_euclid(block)? != 0);
                let blocks = whole.checked_add(started)?;
                Amount::from_product(blocks, price.mantissa(), price.scale(), 1)
            }
            Self::PerRecord { price } => Amount::from_ratio(price.mantissa(), price.scale(), 1),
            Self::Graduated { tiers, by } if *by == TierReference::Record => {
                let units = Quantity::new(mantissa, scale)?;
                tier::split(tiers, 0, units.0)
                    .try_fold(Amount::ZERO, |sum, part| sum.checked_add(part.amount?))
            }
            Self::Graduated { .. } | Self::Volume { .. } | Self::Package { .. } => None,
        }
    }
}

/// One row of a price list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PriceRow {
    /// Identifier in the catalog.
    pub key: PriceKey,
    /// The price list it belongs to.
    pub list: Name,
    /// The one account that it is for; such a row wins over every list.
    pub account: Option<AccountKey>,
    /// The item that it prices.
    pub item: Name,
    /// All must hold; the row with more of them is the more specific, and wins.
    pub conditions: Vec<Condition>,
    /// Settles rows that are equally specific: the higher wins.
    pub priority: i32,
    /// Event times that it is in force for.
    pub valid: Period,
    /// How the amount is found.
    pub model: PriceModel,
    /// Currency of the amount.
    pub currency: Name,
}

impl PriceRow {
    /// Whether the row prices `item` of records of `class`, at the times it is in force.
    #[must_use]
    pub fn matches(&self, class: &UsageClass, item: Name) -> bool {
        self.item == item
            && self
                .conditions
                .iter()
                .all(|c| class.attribute(c.attribute) == Some(c.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> Price {
        Price::parse(text).unwrap()
    }

    #[test]
    fn per_unit_is_exact() {
        let model = PriceModel::PerUnit {
            price: price("3"),
            per: 1_000_000,
        };
        assert_eq!(model.amount(71_175, 0).unwrap().to_string(), "0.213525");
        // A quantity with decimals: 12.345 kWh at 0.2871.
        let model = PriceModel::PerUnit {
            price: price("0.2871"),
            per: 1,
        };
        assert_eq!(model.amount(12_345, 3).unwrap().to_string(), "3.5442495");
    }

    #[test]
    fn blocks_are_charged_when_started() {
        let model = PriceModel::PerBlock {
            price: price("0.12"),
            block: 60,
        };
        for (seconds, amount) in [(0, "0"), (1, "0.12"), (60, "0.12"), (61, "0.24")] {
            assert_eq!(
                model.amount(seconds, 0).unwrap().to_string(),
                amount,
                "{seconds}"
            );
        }
        assert_eq!(model.amount(60_001, 3).unwrap().to_string(), "0.24");
    }

    #[test]
    fn a_record_price_ignores_the_quantity() {
        let model = PriceModel::PerRecord {
            price: price("0.03"),
        };
        assert_eq!(model.amount(0, 0), model.amount(1_000_000, 3));
    }

    #[test]
    fn a_long_price_and_a_large_quantity_leave_no_range_on_the_way() {
        let model = PriceModel::PerUnit {
            price: price("0.1234567890123456789012345678"),
            per: 1_000_000,
        };
        // 4e17 units: the product has 45 digits, the amount 11 before the point.
        let amount = model.amount(400_000_000_000_000_000, 0).unwrap();
        assert_eq!(amount.to_string(), "49382715604.93827156049382712");
    }

    #[test]
    fn units_move_through_the_tiers_of_their_record() {
        let whole = |units: i64| Quantity::new(units, 0).unwrap().0;
        let tier = |from, text| Tier {
            from: whole(from),
            price: price(text),
            per: 1,
        };
        let tiers: Arc<[Tier]> = [tier(0, "1"), tier(40, "0.5")].into();
        let by = |by| PriceModel::Graduated {
            tiers: Arc::clone(&tiers),
            by,
        };
        let model = by(TierReference::Record);
        for (quantity, amount) in [(0, "0"), (40, "40"), (41, "40.5"), (100, "70")] {
            assert_eq!(model.amount(quantity, 0).unwrap().to_string(), amount);
        }
        assert!(!model.is_ordered());
        let ordered = by(TierReference::Accumulator(Name::new("units")));
        assert!(ordered.is_ordered());
        assert_eq!(ordered.amount(1, 0), None);
    }

    #[test]
    fn leaving_the_range_is_no_amount() {
        let model = PriceModel::PerUnit {
            price: price("1000000000"),
            per: 1,
        };
        assert_eq!(model.amount(i64::MAX, 0), None);
    }
}
