//! The catalog file: price rows written out, and tables whose rows SQL maps to price rows.

use super::field::empty_values;
use super::plans::{PlanEntry, PlanRows, plan_rows};
use super::price::price_row;
use super::price_fields::PriceFields;
use super::rows::{Origin, Placed, Rows, Setting};
use super::tiers::{tiered, volume_fault};
use super::yaml::{Refused, place_of};
use crate::decode::{ColumnType, CsvLayout, FormatEntry};
use crate::diagnostic::Diagnostic;
use millrace_operators::domain::{PlanPart, PlanRow, PriceModel, PriceRow, Volume};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A catalog: what things cost.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "millrace catalog")]
pub struct CatalogFile {
    /// Currency of every price that names none: a code like `USD`, or a unit of one's own.
    #[schemars(with = "String")]
    pub currency: Spanned<String>,
    /// Price rows.
    #[serde(default)]
    #[schemars(with = "Vec<PriceFields>")]
    pub prices: Vec<Spanned<PriceFields>>,
    /// Tables of prices.
    #[serde(default)]
    pub tables: Vec<PriceTable>,
    /// What price lists give and charge beside prices: allowances, accumulators, caps, commitments,
    /// recurring charges.
    #[serde(default)]
    #[schemars(with = "Vec<PlanEntry>")]
    pub plans: Vec<Spanned<PlanEntry>>,
}

/// A table whose rows become price rows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// The file, relative to this one, or `s3://bucket/file`.
    #[schemars(with = "String")]
    pub file: Spanned<String>,
    /// Its format; as its name suggests unless given.
    pub format: Option<FormatEntry>,
    /// What varies between CSV files.
    #[serde(default)]
    pub csv: CsvLayout,
    /// Types of columns; the others are text.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ColumnType>")]
    pub columns: BTreeMap<String, Spanned<ColumnType>>,
    /// SQL: the rows to take; all unless given.
    #[serde(rename = "where")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<Spanned<String>>,
    /// Price rows to make of each table row, their fields in SQL; none where the price is NULL. A cell of
    /// a condition, a list or an account that is empty is refused: `*` stands for any value or account.
    pub prices: Vec<PriceFields>,
}

/// The rows written out in the catalog.
pub(super) fn price_rows(
    file: &Arc<str>,
    catalog: &CatalogFile,
    refused: &Refused,
    setting: Setting<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Rows {
    let mut rows = Rows::default();
    let currency = catalog.currency.value.as_str();
    if let Some((message, hint)) = super::field::currency_fault(currency) {
        let place = place_of(&catalog.currency);
        findings.push(Diagnostic::error(file, place, message).with_hint(hint));
    }
    let plans = plan_rows(file, &catalog.plans, refused, currency, setting, findings);
    let mut by_total = Vec::new();
    for entry in &catalog.prices {
        let fields = &entry.value;
        // Tiers would be judged without those that were refused.
        if refused.has(place_of(entry), "tiers") {
            continue;
        }
        let is_whole = !refused.is_within(place_of(entry));
        let Some(tiered) = tiered(file, fields, &plans, refused, setting, findings) else {
            continue;
        };
        let text = |name: &'static str| fields.field(name).map(|field| field.value.as_str());
        let when: Vec<(&str, &str)> = fields
            .when
            .iter()
            .map(|(name, value)| (name.as_str(), value.value.as_str()))
            .collect();
        let (line, column) = place_of(entry);
        match price_row(text, &when, Some(&tiered), currency, setting) {
            Ok(row) => {
                let given = PriceFields::FIELDS.iter().chain(&["by"]);
                let given = given.filter_map(|name| Some((*name, fields.field(name)?)));
                findings.extend(empty_values(file, given));
                if !is_whole {
                    continue;
                }
                let origin = Origin {
                    file: Arc::clone(file),
                    line,
                    column,
                };
                let placed = Placed { row, origin };
                let fault = |(message, hint): (&str, &str)| {
                    let by = fields.by.as_ref().map_or((line, column), place_of);
                    Diagnostic::error(file, by, message).with_hint(hint)
                };
                match plan_by_total(&placed, &plans, setting) {
                    Ok(plan) => by_total.extend(plan),
                    Err(told) => findings.push(fault(told)),
                }
                rows.prices.push(placed);
            }
            Err(mut complaints) => {
                complaints.retain(|complaint| !complaint.follows(refused, (line, column)));
                findings.extend(complaints.into_iter().map(|complaint| {
                    let empty = || {
                        let mut values = fields.when.values().filter(|_| complaint.field == "when");
                        values.find(|value| value.value.trim().is_empty())
                    };
                    let place = fields.field(complaint.field).or_else(empty);
                    let place = place.map_or((line, column), place_of);
                    Diagnostic::error(file, place, complaint.message).with_hint(complaint.hint)
                }));
            }
        }
    }
    rows.plans = plans.rows;
    rows.plans.append(&mut by_total);
    rows
}

/// The plan row of a price row that charges by the total of an accumulator: it tells what other prices
/// charge of that, and charges a volume at the end of its term.
fn plan_by_total(
    placed: &Placed<PriceRow>,
    plans: &PlanRows,
    setting: Setting<'_>,
) -> Result<Option<Placed<PlanRow>>, (&'static str, &'static str)> {
    let price = &placed.row;
    let no_tiers = || Arc::from([]);
    let (kind, tiers, accumulator) = match &price.model {
        PriceModel::Volume { tiers, accumulator } => ("volume", Arc::clone(tiers), accumulator),
        PriceModel::Package { accumulator, .. } => ("package", no_tiers(), accumulator),
        _ => return Ok(None),
    };
    if kind == "volume" {
        if price.account.is_some() || !price.conditions.is_empty() || price.priority != 0 {
            let hint = "leave out `account`, `when` and `priority`; give what is priced otherwise an \
                        item of its own";
            let message = "a volume price is for all usage of an item by a price list";
            return Err((message, hint));
        }
        let of_list = plans.accumulators(Some(price.list));
        let counted = of_list
            .into_iter()
            .find(|counted| counted.resource == *accumulator);
        if let Some(fault) = counted.and_then(|counted| volume_fault(counted, price.item)) {
            return Err(fault);
        }
    }
    let id = format!("{kind} {}", setting.names.price(price.key));
    let row = PlanRow {
        key: setting.names.enter_plan(&id),
        list: price.list,
        valid: price.valid,
        part: PlanPart::Volume(Volume {
            item: price.item,
            accumulator: *accumulator,
            tiers,
            currency: price.currency,
        }),
    };
    let origin = placed.origin.clone();
    Ok(Some(Placed { row, origin }))
}
