//! One price row, from the text of its fields.

use super::field::{Complaint, Fields};
use super::price_fields::LIST_DEFAULT;
use super::rows::Setting;
use super::tiers::Tiered;
use millrace_operators::domain::{Condition, Price, PriceModel, PriceRow, TierReference};
use std::sync::Arc;

/// Stands for any value of an attribute, and for any account.
pub(super) const ANY: &str = "*";

/// What a row's price may be per.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    Unit,
    Block,
    Record,
    Graduated,
    Volume,
    Package,
}

pub(super) const MODELS: &[(&str, Model)] = &[
    ("per_unit", Model::Unit),
    ("per_block", Model::Block),
    ("per_record", Model::Record),
    ("graduated", Model::Graduated),
    ("volume", Model::Volume),
    ("package", Model::Package),
];

/// A price row from the text of its fields and of its conditions, or everything wrong with it. Only a
/// row written out can be `tiered`; a table gives flat prices.
pub(super) fn price_row<'a>(
    text: impl Fn(&'static str) -> Option<&'a str>,
    when: &[(&str, &str)],
    tiered: Option<&Tiered>,
    currency: &'a str,
    setting: Setting<'_>,
) -> Result<PriceRow, Vec<Complaint>> {
    let names = setting.names;
    let mut fields = Fields::new(setting.zone, text);
    let item = fields.required("item");
    let list = fields.optional("list").unwrap_or(LIST_DEFAULT);
    let account = fields.optional("account").filter(|account| *account != ANY);
    for (attribute, _) in when.iter().filter(|(_, value)| value.trim().is_empty()) {
        let message = format!("`when` gives \"{attribute}\" no value");
        let hint = "write the value, or `*` where the price is for any";
        fields.complain(Complaint::new("when", message).with_hint(hint));
    }
    let when: Vec<(&str, &str)> = when.iter().copied().filter(|(_, v)| *v != ANY).collect();
    let valid = fields.period();
    let priority = fields.number("priority", i32::MIN).unwrap_or(0);
    let currency = fields.currency("currency").unwrap_or(currency);
    let model = price_model(&mut fields, tiered);
    let (Some(model), []) = (model, fields.complaints.as_slice()) else {
        return Err(fields.complaints);
    };
    let id = fields.optional("id").map_or_else(
        || {
            let owner = account.map_or_else(|| list.to_owned(), |a| format!("account {a}"));
            default_id(&owner, item, &when, fields.optional("from"), priority)
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

fn price_model<'a, F>(fields: &mut Fields<'a, F>, tiered: Option<&Tiered>) -> Option<PriceModel>
where
    F: Fn(&'static str) -> Option<&'a str>,
{
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
        // What else is wrong with the price is told at once.
        exact_price(fields);
        return None;
    }
    let model = model.unwrap_or(by_default);
    let name = MODELS.iter().find(|(_, known)| *known == model);
    let name = name.map_or("", |(name, _)| *name);
    let takes = match model {
        Model::Unit => Some("per"),
        Model::Block | Model::Package => Some("block"),
        Model::Record | Model::Graduated | Model::Volume => None,
    };
    for field in ["per", "block"] {
        if given(fields, field) && Some(field) != takes {
            let message = format!("\"{field}\" does not go with a price {name}");
            let hint = match takes {
                Some(takes) => format!("a price {name} takes \"{takes}\"; leave \"{field}\" out"),
                None => "leave it out".to_owned(),
            };
            fields.complain(Complaint::new(field, message).with_hint(hint));
        }
    }
    if matches!(model, Model::Block | Model::Package) && !given(fields, "block") {
        let message = format!("a price {name} needs \"block\", the units in a block");
        fields.complain(Complaint::new("model", message).for_want_of(&["block"]));
    }
    if matches!(model, Model::Graduated | Model::Volume) {
        return tiered_model(fields, model, name, tiered);
    }
    let by = tiered.and_then(|tiered| tiered.by);
    if tiered.is_some_and(|tiered| !tiered.tiers.is_empty()) {
        // With such a model, neither a missing price nor `by` would be wrong.
        let message = format!("\"tiers\" do not go with a price {name}");
        let hint = "write `model: graduated` or `model: volume`";
        fields.complain(Complaint::new("model", message).with_hint(hint));
        return None;
    }
    let price = exact_price(fields);
    let price = match (model, by) {
        (Model::Package, _) => price,
        (_, None) => price,
        (_, Some(_)) => {
            let message = format!("\"by\" does not go with a price {name}");
            let hint = "leave it out; or write `model: graduated` or `model: volume` with `tiers`, or \
                        `model: package` with `block`, which are by an accumulator";
            fields.complain(Complaint::new("by", message).with_hint(hint));
            None
        }
    }?;
    Some(match model {
        Model::Block => PriceModel::PerBlock {
            price,
            block: block.unwrap_or(1),
        },
        Model::Record => PriceModel::PerRecord { price },
        Model::Package => {
            let Some(TierReference::Accumulator(accumulator)) = by else {
                fields.complain(no_accumulator(name));
                return None;
            };
            PriceModel::Package {
                price,
                block: block.unwrap_or(1),
                accumulator,
            }
        }
        Model::Unit | Model::Graduated | Model::Volume => PriceModel::PerUnit {
            price,
            per: per.unwrap_or(1),
        },
    })
}

fn tiered_model<'a, F>(
    fields: &mut Fields<'a, F>,
    model: Model,
    name: &str,
    tiered: Option<&Tiered>,
) -> Option<PriceModel>
where
    F: Fn(&'static str) -> Option<&'a str>,
{
    if fields.optional("price").is_some() {
        let message = format!("\"price\" does not go with a price {name}");
        let hint = "write the price of each tier, under `tiers`";
        fields.complain(Complaint::new("price", message).with_hint(hint));
        return None;
    }
    let Some(tiered) = tiered.filter(|tiered| !tiered.tiers.is_empty()) else {
        let message = format!("a price {name} needs \"tiers\"");
        let hint = "write `tiers: [{ price: 0.10 }, { from: 100, price: 0.08 }]` in the catalog; \
                    a table gives flat prices";
        let complaint = Complaint::new("model", message).with_hint(hint);
        fields.complain(complaint.for_want_of(&["tiers"]));
        return None;
    };
    let tiers = Arc::clone(&tiered.tiers);
    match (model, tiered.by) {
        (Model::Graduated, by) => Some(PriceModel::Graduated {
            tiers,
            by: by.unwrap_or(TierReference::Record),
        }),
        (_, Some(TierReference::Accumulator(accumulator))) => {
            Some(PriceModel::Volume { tiers, accumulator })
        }
        _ => {
            fields.complain(no_accumulator(name));
            None
        }
    }
}

fn no_accumulator(model: &str) -> Complaint {
    let message = format!("a price {model} needs \"by\", the accumulator of this period's total");
    let hint = "name an accumulator of the price list, without `previous`";
    let complaint = Complaint::new("by", message).with_hint(hint);
    complaint.for_want_of(&["by"])
}

fn exact_price<'a, F>(fields: &mut Fields<'a, F>) -> Option<Price>
where
    F: Fn(&'static str) -> Option<&'a str>,
{
    if !fields.is_given("price") {
        let complaint = Complaint::new("price", "the key \"price\" is missing");
        fields.complain(complaint.for_want_of(&["price", "tiers", "model"]));
        return None;
    }
    let text = fields.required("price");
    if text.is_empty() {
        return None;
    }
    exact_price_of(text)
        .map_err(|complaint| fields.complain(complaint))
        .ok()
}

/// A price from its text: exact, and at least 0.
pub(super) fn exact_price_of(text: &str) -> Result<Price, Complaint> {
    match Price::parse(text) {
        Ok(price) if price.is_negative() => {
            let message = format!("a price cannot be negative: {text}");
            let hint = "write 0 or more; a credit towards usage is an allowance of money of the price list (`allowances: [{ id: credit, money: 10 }]`), and usage that was billed in error is taken back by a correction of its record";
            Err(Complaint::new("price", message).with_hint(hint))
        }
        Ok(price) => Ok(price),
        Err(error) => {
            let hint = "write digits with a point, like 0.0025 or 2.5e-3";
            Err(Complaint::new("price", error.to_string()).with_hint(hint))
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
    use crate::names::Names;
    use jiff::tz::TimeZone;

    fn row(fields: &[(&'static str, &'static str)]) -> Result<(PriceRow, String), Vec<Complaint>> {
        let names = Names::default();
        let text = |field| {
            fields
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(_, text)| *text)
        };
        let when = [("model", "gpt-4o"), ("context", "long")];
        let zone = TimeZone::UTC;
        let setting = Setting {
            zone: &zone,
            names: &names,
        };
        let row = price_row(text, &when, None, "USD", setting)?;
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
