//! The buckets that impacts are of: one row per bucket, with when it may be used and what it begins
//! with. Changes only: what stands at the end, with the values reached, is `balances`.
//!
//! A bucket's value as known at an epoch is its opening and the impacts on it, both up to that epoch.

use super::balances::{kind_name, measure_name};
use super::columns::{
    Labels, decimals, fitting, hexadecimal, label, money, quantity, text, time, times,
};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::Field;
use millrace_operators::domain::{Amount, Bucket, BucketKind, Measure, Quantity};
use std::sync::Arc;

impl OutputRow for Bucket {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![
            label("balance_group"),
            label("currency"),
            label("bucket"),
            label("resource"),
            label("kind"),
            label("measure"),
            text("items"),
            time("valid_start"),
            time("valid_end"),
            quantity("opening_units"),
            money("opening_amount"),
            money("limit"),
        ]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut group, mut currency, mut bucket) = (column(), column(), column());
        let (mut resource, mut kind, mut measure) = (column(), column(), column());
        for row in rows {
            group.push(row.group.0, || names.group(row.group).0);
            currency.push(row.group.0, || names.group(row.group).1);
            bucket.push(row.key.0, || hexadecimal(row.key.0));
            resource.push(row.resource.0, || names.text(row.resource));
            kind.push_word(kind_name(row.kind));
            measure.push_word(measure_name(row.measure));
        }
        let items = rows.iter().map(|row| {
            let items = row.items.iter().map(|item| names.text(*item).to_string());
            let mut items: Vec<String> = items.collect();
            items.sort();
            (!items.is_empty()).then(|| items.join(", "))
        });
        let opening = |wanted: Measure, scale: u8| {
            let of = |row: &Self| (row.measure == wanted).then_some(row.opening);
            decimals(rows.iter().map(|row| of(row).and_then(fitting)), scale)
        };
        let limits = rows.iter().map(|row| match row.kind {
            BucketKind::Cap { limit } => Some(limit.0),
            BucketKind::Allowance { .. }
            | BucketKind::Accumulator { .. }
            | BucketKind::Spend
            | BucketKind::Elsewhere { .. } => None,
        });
        vec![
            group.finish(),
            currency.finish(),
            bucket.finish(),
            resource.finish(),
            kind.finish(),
            measure.finish(),
            Arc::new(items.collect::<StringArray>()),
            times(rows.iter().map(|row| Some(row.valid.start()))),
            times(rows.iter().map(|row| Some(row.valid.end()))),
            opening(Measure::Units, Quantity::SCALE),
            opening(Measure::Money, Amount::SCALE),
            decimals(limits, Amount::SCALE),
        ]
    }
}
