//! Monetised usage: one row per charge line, with the way to its raw record and to its billing line.

use super::columns::{Labels, decimals, label, money, number, quantity, time, times};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::Field;
use millrace_operators::domain::{
    AggregateId, Amount, BillUnit, Charge, ClassKey, PriceKey, Quantity, UsageClass,
};
use std::collections::HashMap;
use std::sync::Arc;

/// A charge with the billing line that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonetisedUsage {
    /// The charge.
    pub charge: Charge,
    /// Its billing line.
    pub line: AggregateId,
    /// Its bill unit.
    pub unit: BillUnit,
}

impl OutputRow for MonetisedUsage {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![
            label("file"),
            number("row"),
            label("item"),
            label("account"),
            label("subscription"),
            label("service_type"),
            label("service"),
            label("attributes"),
            time("event_time"),
            quantity("quantity"),
            label("price"),
            money("amount"),
            label("currency"),
            time("bill_unit_start"),
            time("bill_unit_end"),
            label("aggregate_id"),
        ]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut file, mut item, mut account, mut subscription) =
            (column(), column(), column(), column());
        let (mut service_type, mut service, mut attributes) = (column(), column(), column());
        let (mut price, mut currency, mut line) = (column(), column(), column());
        let mut classes: HashMap<ClassKey, Arc<UsageClass>> = HashMap::new();
        let mut quantities = Vec::with_capacity(rows.len());
        for MonetisedUsage {
            charge, line: id, ..
        } in rows
        {
            let class = classes.entry(charge.class).or_insert_with(|| {
                names
                    .class(charge.class)
                    .expect("the class of a charge was entered before it")
            });
            let charged = class.items[usize::from(charge.item)];
            file.push(charge.record.file().0, || texts.file(charge.record.file()));
            item.push(charged.name.0, || names.text(charged.name));
            account.push(charge.account.0, || names.account(charge.account));
            subscription.push(charge.subscription.0, || {
                names.subscription(charge.subscription)
            });
            service_type.push(class.service_type.0, || names.text(class.service_type));
            service.push(charge.service.0, || names.service(charge.service).1);
            attributes.push(charge.class.0, || attributes_text(class, texts));
            match charge.price {
                PriceKey::NONE => price.push_null(),
                key => price.push(key.0, || names.price(key)),
            }
            currency.push(charge.currency.0, || names.text(charge.currency));
            line.push(id.0, || Arc::from(id.to_string()));
            quantities.push(Quantity::new(charge.quantity, charged.scale).map(|q| q.0));
        }
        let record = rows.iter().map(|row| row.charge.record.row());
        vec![
            file.finish(),
            Arc::new(UInt64Array::from_iter_values(record)),
            item.finish(),
            account.finish(),
            subscription.finish(),
            service_type.finish(),
            service.finish(),
            attributes.finish(),
            times(rows.iter().map(|row| Some(row.charge.time))),
            decimals(quantities.into_iter(), Quantity::SCALE),
            price.finish(),
            decimals(
                rows.iter().map(|row| Some(row.charge.amount.0)),
                Amount::SCALE,
            ),
            currency.finish(),
            times(rows.iter().map(|row| Some(row.unit.start()))),
            times(rows.iter().map(|row| Some(row.unit.end()))),
            line.finish(),
        ]
    }
}

/// The attributes as a JSON object, sorted by name.
pub(super) fn attributes_text(class: &UsageClass, texts: &Texts) -> Arc<str> {
    let text = |name| texts.names.text(name).to_string();
    let attributes: std::collections::BTreeMap<String, String> = class
        .attributes
        .iter()
        .map(|(name, value)| (text(*name), text(*value)))
        .collect();
    Arc::from(serde_json::to_string(&attributes).unwrap_or_default())
}
