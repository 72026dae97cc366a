//! Aggregated usage: one row per billing line.

use super::columns::{Labels, decimals, label, money, quantity, text, time, times};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, i256};
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{
    Amount, LineKey, LineSum, Name, PriceKey, Quantity, ServiceKey, SubscriptionKey,
};
use std::sync::Arc;

/// A billing line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregatedLine {
    /// What its charges have in common.
    pub key: LineKey,
    /// What they add up to.
    pub sum: LineSum,
}

impl AggregatedLine {
    /// The text of one of the configured grouping attributes.
    #[must_use]
    pub fn dimension(&self, index: usize, texts: &Texts) -> Option<Arc<str>> {
        let key = *self.key.dimensions.get(index)?;
        let (_, dimension) = texts.dimensions.get(index)?;
        (key != 0).then(|| match dimension {
            Dimension::Service => texts.names.service(ServiceKey(key)).1,
            Dimension::Subscription => texts.names.subscription(SubscriptionKey(key)),
            Dimension::Price => texts.names.price(PriceKey(key)),
            Dimension::ServiceType | Dimension::Attribute(_) => texts.names.text(Name(key)),
        })
    }
}

/// Amount per unit, rounded half away from zero at 24 decimals; nothing without quantity, or where 38
/// digits do not hold it.
#[must_use]
pub fn blended_rate(sum: &LineSum) -> Option<Amount> {
    // Amount and quantity have 24 and 12 decimals: 12 more are needed before the division.
    let wide = |(high, low)| i256::from_parts(low, high);
    let quantity = wide(sum.quantity.parts());
    let scaled = wide(sum.amount.parts()).checked_mul(i256::from_i128(1_000_000_000_000))?;
    let quotient = scaled.checked_div(quantity)?;
    let twice = scaled
        .checked_rem(quantity)?
        .checked_mul(i256::from_i128(2))?;
    let up = twice.wrapping_abs() >= quantity.wrapping_abs();
    let away = if scaled.is_negative() == quantity.is_negative() {
        1
    } else {
        -1
    };
    let rounded = if up {
        quotient.checked_add(i256::from_i128(away))?
    } else {
        quotient
    };
    rounded.to_i128().and_then(Amount::within)
}

impl OutputRow for AggregatedLine {
    fn fields(texts: &Texts) -> Vec<Field> {
        let mut fields = vec![
            text("aggregate_id"),
            label("account"),
            time("bill_unit_start"),
            time("bill_unit_end"),
            label("item"),
        ];
        fields.extend(texts.dimensions.iter().map(|(name, _)| text(name)));
        fields.extend([
            Field::new("charges", DataType::Int64, false),
            quantity("quantity"),
            money("rate"),
            money("amount"),
            label("currency"),
        ]);
        fields
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut account, mut item, mut currency) = (column(), column(), column());
        for AggregatedLine { key, .. } in rows {
            account.push(key.account.0, || names.account(key.account));
            item.push(key.item.0, || names.text(key.item));
            currency.push(key.currency.0, || names.text(key.currency));
        }
        let ids = rows.iter().map(|row| row.key.aggregate_id().to_string());
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            account.finish(),
            times(rows.iter().map(|row| Some(row.key.unit_start))),
            times(rows.iter().map(|row| Some(row.key.unit_end))),
            item.finish(),
        ];
        for index in 0..texts.dimensions.len() {
            let values = rows.iter().map(|row| row.dimension(index, texts));
            columns.push(Arc::new(values.collect::<StringArray>()));
        }
        let sums = || rows.iter().map(|row| &row.sum);
        let rates = rows
            .iter()
            .map(|row| blended_rate(&row.sum).map(|rate| rate.0));
        columns.extend([
            Arc::new(Int64Array::from_iter_values(sums().map(|sum| sum.charges))) as ArrayRef,
            // Sums that 38 digits do not hold are empty here, and told by the summary.
            decimals(sums().map(|sum| sum.quantity.fitting()), Quantity::SCALE),
            decimals(rates, Amount::SCALE),
            decimals(sums().map(|sum| sum.amount.fitting()), Amount::SCALE),
            currency.finish(),
        ]);
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_blended_rate_is_amount_over_quantity() {
        let line = |amount: &str, units: i64| {
            let price = millrace_operators::domain::Price::parse(amount).unwrap();
            let amount = Amount::from_ratio(price.mantissa(), price.scale(), 1).unwrap();
            let sum = LineSum::of(Quantity::new(units, 0).unwrap(), amount, 1);
            blended_rate(&sum).map(|rate| rate.to_string())
        };
        assert_eq!(line("1.25", 10).as_deref(), Some("0.125"));
        assert_eq!(line("2", 3).as_deref(), Some("0.666666666666666666666667"));
        assert_eq!(line("1", 0), None);
        // A sum that no amount can be: 90 trillion, 300 times.
        let amount = Amount(90 * 10_i128.pow(36));
        let sum = LineSum::of(Quantity::new(3, 0).unwrap(), amount, 300);
        assert_eq!(blended_rate(&sum).unwrap().to_string(), "30000000000000");
    }
}
