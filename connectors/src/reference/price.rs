//! One price row, from the text of its fields.

use super::field::{Complaint, Fields};
use crate::names::Names;
use jiff::tz::TimeZone;
use millrace_operators::domain::{Condition, Price, PriceModel, PriceRow};

/// The price list of rows and subscriptions that name none.
pub(super) const LIST_DEFAULT: &str = "standard";

/// What a row's price may be per.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Model {
    Unit,
    Block,
    Record,
}

const MODELS: &[(&str, Model)] = &[
    ("per_unit", Model::Unit),
    ("per_block", Model::Block),
    ("per_record", Model::Record),
];

/// A price row from the text of its fields and of its conditions, or everything wrong with it.
pub(super) fn price_row<'a>(
    text: impl Fn(&'static str) -> Option<&'a str>,
    when: &[(&str, &str)],
    currency: &'a str,
    zone: &TimeZone,
    names: &Names,
) -> Result<PriceRow, Vec<Complaint>> {
    let mut fields = Fields::new(zone, text);
    let item = fields.required("item");
    let list = fields.optional("list").unwrap_or(LIST_DEFAULT);
    let account = fields.optional("account");
    let valid = fields.period();
    let priority = fields.number("priority", i32::MIN).unwrap_or(0);
    let currency = fields.currency("currency").unwrap_or(currency);
    let model = price_model(&mut fields);
    let (Some(model), []) = (model, fields.complaints.as_slice()) else {
        return Err(fields.complaints);
    };
    let id = fields.optional("id").map_or_else(
        || {
            let owner = account.map_or_else(|| list.to_owned(), |a| format!("account {a}"));
            default_id(&owner, item, when, fields.optional("from"), priority)
        },
        str::to_owned,
    );
    let condition = |(attribute, value): &(&str, &str)| Condition {
        attribute: names.enter(attribute),
        value: names.enter(value),
    };
    let mut conditions: Vec<Condition> = when.iter().map(condition).collect();
    conditions.sort_unstable();
    Ok(PriceRow {
        key: names.enter_price(&id),
        list: names.enter(list),
        account: account.map(|account| names.enter_account(account)),
        item: names.enter(item),
        conditions,
        priority,
        valid,
        model,
        currency: names.enter(currency),
    })
}

fn price_model<'a, F>(fields: &mut Fields<'a, F>) -> Option<PriceModel>
where
    F: Fn(&'static str) -> Option<&'a str>,
{
    let price = exact_price(fields);
    let given = |fields: &Fields<'a, F>, field| fields.optional(field).is_some();
    let by_default = if given(fields, "block") {
        Model::Block
    } else {
        Model::Unit
    };
    let per = fields.number("per", 1_u64);
    let block = fields.number("block", 1_u64);
    let named = given(fields, "model");
    let model = fields.word("model", MODELS);
    if named && model.is_none() {
        return None;
    }
    let model = model.unwrap_or(by_default);
    let misplaced = match model {
        Model::Unit => given(fields, "block").then_some(("block", "per_unit", "per")),
        Model::Block => given(fields, "per").then_some(("per", "per_block", "block")),
        Model::Record if given(fields, "block") => Some(("block", "per_record", "neither")),
        Model::Record => given(fields, "per").then_some(("per", "per_record", "neither")),
    };
    if let Some((field, model, takes)) = misplaced {
        let message = format!("\"{field}\" does not go with a price {model}");
        let hint = format!("a price {model} takes {takes}; write either \"per\" or \"block\"");
        fields.complain(Complaint::new(field, message).with_hint(hint));
    }
    if model == Model::Block && !given(fields, "block") {
        let message = "a price per_block needs \"block\", the units in a block";
        fields.complain(Complaint::new("model", message));
    }
    let price = price?;
    Some(match model {
        Model::Unit => PriceModel::PerUnit {
            price,
            per: per.unwrap_or(1),
        },
        Model::Block => PriceModel::PerBlock {
            price,
            block: block.unwrap_or(1),
        },
        Model::Record => PriceModel::PerRecord { price },
    })
}

fn exact_price<'a, F>(fields: &mut Fields<'a, F>) -> Option<Price>
where
    F: Fn(&'static str) -> Option<&'a str>,
{
    let text = fields.required("price");
    if text.is_empty() {
        return None;
    }
    match Price::parse(text) {
        Ok(price) if price.is_negative() => {
            let message = format!("a price cannot be negative: {text}");
            let hint = "send a credit as an adjustment of the record that it refers to";
            fields.complain(Complaint::new("price", message).with_hint(hint));
            None
        }
        Ok(price) => Some(price),
        Err(error) => {
            let hint = "write digits with a point, like 0.0025 or 2.5e-3";
            fields.complain(Complaint::new("price", error.to_string()).with_hint(hint));
            None
        }
    }
}

/// The identifier of a row that is given none: what it prices, readable, and the same on every load.
fn default_id(
    owner: &str,
    item: &str,
    when: &[(&str, &str)],
    from: Option<&str>,
    priority: i32,
) -> String {
    let mut when: Vec<String> = when
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    when.sort_unstable();
    let mut id = format!("{owner}/{item}");
    if !when.is_empty() {
        id.push_str(&format!(" [{}]", when.join(", ")));
    }
    if let Some(from) = from {
        id.push_str(&format!(" from {from}"));
    }
    if priority != 0 {
        id.push_str(&format!(" priority {priority}"));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[(&'static str, &'static str)]) -> Result<(PriceRow, String), Vec<Complaint>> {
        let names = Names::default();
        let text = |field| {
            fields
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(_, text)| *text)
        };
        let when = [("model", "gpt-4o"), ("context", "long")];
        let row = price_row(text, &when, "USD", &TimeZone::UTC, &names)?;
        let id = names.price(row.key).to_string();
        Ok((row, id))
    }

    fn complaints(fields: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        row(fields).map_or_else(|c| c.iter().map(|c| c.field).collect(), |_| Vec::new())
    }

    #[test]
    fn a_row_without_an_id_is_named_after_what_it_prices() {
        let (_, id) = row(&[("item", "tokens"), ("price", "1")]).unwrap();
        assert_eq!(id, "standard/tokens [context=long, model=gpt-4o]");
        let fields = [
            ("item", "t"),
            ("price", "1"),
            ("account", "acme"),
            ("from", "2026-01-01"),
        ];
        assert_eq!(
            row(&fields).unwrap().1,
            "account acme/t [context=long, model=gpt-4o] from 2026-01-01"
        );
        assert_eq!(
            row(&[("item", "t"), ("price", "1"), ("id", "mine")])
                .unwrap()
                .1,
            "mine"
        );
    }

    #[test]
    fn the_model_follows_from_per_and_block() {
        let model = |fields: &[(&'static str, &'static str)]| {
            let fields = [&[("item", "t"), ("price", "3e-07")], fields].concat();
            row(&fields).unwrap().0.model
        };
        let price = Price::parse("0.0000003").unwrap();
        assert_eq!(model(&[]), PriceModel::PerUnit { price, per: 1 });
        assert_eq!(
            model(&[("per", "1000")]),
            PriceModel::PerUnit { price, per: 1000 }
        );
        assert_eq!(
            model(&[("block", "60")]),
            PriceModel::PerBlock { price, block: 60 }
        );
        assert_eq!(
            model(&[("model", "per_record")]),
            PriceModel::PerRecord { price }
        );
    }

    #[test]
    fn a_price_is_exact_or_refused() {
        for bad in [
            "-0.01",
            "a lot",
            "1,5",
            "NaN",
            "0.12345678901234567890123456789",
            "",
        ] {
            assert_eq!(
                complaints(&[("item", "t"), ("price", bad)]),
                ["price"],
                "{bad}"
            );
        }
        assert!(row(&[("item", "t"), ("price", "0")]).is_ok());
    }

    #[test]
    fn fields_that_do_not_go_together_are_refused() {
        let with = |more: &[(&'static str, &'static str)]| {
            complaints(&[&[("item", "t"), ("price", "1")], more].concat())
        };
        assert_eq!(with(&[("per", "5"), ("block", "5")]), ["per"]);
        assert_eq!(with(&[("model", "per_unit"), ("block", "5")]), ["block"]);
        assert_eq!(with(&[("model", "per_record"), ("per", "5")]), ["per"]);
        assert_eq!(with(&[("model", "per_block")]), ["model"]);
        assert_eq!(with(&[("model", "tiered"), ("per", "0")]), ["per", "model"]);
    }
}
