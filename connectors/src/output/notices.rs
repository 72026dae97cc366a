//! Notices: one row per threshold that a bucket has crossed, with the record that crossed it.

use super::balances::measure_name;
use super::columns::{
    Labels, decimals, fitting, hexadecimal, label, money, number, quantity, time, times,
};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::Field;
use millrace_operators::charge::Notice;
use millrace_operators::domain::{Amount, Measure, Quantity};
use std::sync::Arc;

impl OutputRow for Notice {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![
            label("balance_group"),
            label("currency"),
            label("bucket"),
            label("resource"),
            label("measure"),
            time("valid_start"),
            time("valid_end"),
            number("percent"),
            quantity("level_units"),
            money("level_amount"),
            time("event_time"),
            label("file"),
            number("row"),
        ]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut group, mut currency, mut bucket) = (column(), column(), column());
        let (mut resource, mut measure, mut file) = (column(), column(), column());
        for row in rows {
            group.push(row.group.0, || names.group(row.group).0);
            currency.push(row.group.0, || names.group(row.group).1);
            bucket.push(row.bucket.0, || hexadecimal(row.bucket.0));
            resource.push(row.resource.0, || names.text(row.resource));
            measure.push_word(measure_name(row.measure));
            match row.record {
                Some(record) => file.push(record.file().0, || texts.file(record.file())),
                None => file.push_null(),
            }
        }
        let percent = rows.iter().map(|row| row.threshold.percent.map(u64::from));
        let level = |wanted: Measure, scale: u8| {
            let of = |row: &Self| (row.measure == wanted).then_some(row.threshold.level);
            decimals(rows.iter().map(|row| of(row).and_then(fitting)), scale)
        };
        let record = rows.iter().map(|row| row.record.map(|record| record.row()));
        vec![
            group.finish(),
            currency.finish(),
            bucket.finish(),
            resource.finish(),
            measure.finish(),
            times(rows.iter().map(|row| Some(row.valid.start()))),
            times(rows.iter().map(|row| Some(row.valid.end()))),
            Arc::new(percent.collect::<UInt64Array>()),
            level(Measure::Units, Quantity::SCALE),
            level(Measure::Money, Amount::SCALE),
            times(rows.iter().map(|row| Some(row.time))),
            file.finish(),
            Arc::new(record.collect::<UInt64Array>()),
        ]
    }
}
