//! Price rows: what an item costs, for whom, under which conditions, and when.

use super::amount::{Amount, Price};
use super::key::{AccountKey, Name, PriceKey};
use super::time::Period;
use super::usage::UsageClass;
use serde::{Deserialize, Serialize};

/// A usage attribute that must have a value for the price row to apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Condition {
    /// The attribute's name.
    pub attribute: Name,
    /// The value it must have.
    pub value: Name,
}

/// How a quantity becomes an amount. Each model is a pure function of one record; models that look
/// at what came before belong to the ordered charging stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
}

impl PriceModel {
    /// The amount for a quantity of `mantissa · 10^-scale`; `None` when it leaves the range of
    /// [`Amount`].
    #[must_use]
    pub fn amount(&self, mantissa: i64, scale: u8) -> Option<Amount> {
        let scale = u32::from(scale);
        match *self {
            Self::PerUnit { price, per } => {
                let decimals = price.scale().checked_add(scale)?;
                let quantity = i128::from(mantissa);
                Amount::from_product(quantity, price.mantissa(), decimals, i128::from(per))
            }
            Self::PerBlock { price, block } => {
                let block = i128::from(block).checked_mul(10_i128.checked_pow(scale)?)?;
                let mantissa = i128::from(mantissa);
                let whole = mantissa.checked_div_euclid(block)?;
                let started = i128::from(mantissa.checked_rem_euclid(block)? != 0);
                let blocks = whole.checked_add(started)?;
                Amount::from_product(blocks, price.mantissa(), price.scale(), 1)
            }
            Self::PerRecord { price } => Amount::from_ratio(price.mantissa(), price.scale(), 1),
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
    fn leaving_the_range_is_no_amount() {
        let model = PriceModel::PerUnit {
            price: price("1000000000"),
            per: 1,
        };
        assert_eq!(model.amount(i64::MAX, 0), None);
    }
}
