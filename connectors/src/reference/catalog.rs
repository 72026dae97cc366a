//! The catalog file: price rows written out, and tables whose rows SQL maps to price rows.

use super::layout::{CsvLayout, FormatName};
use super::price::price_row;
use super::rows::{Origin, Placed, Rows, Setting};
use super::yaml::place_of;
use crate::decode::ColumnType;
use crate::diagnostic::Diagnostic;
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
}

/// Text, or a number that is taken by its text.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "describes to JSON Schema what a text field also accepts"
)]
pub(super) enum TextOrNumber {
    Text(String),
    Number(f64),
}

/// The fields of a price row; in a table each is an SQL expression over the table's columns.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceFields {
    /// Identifier; made from the other fields unless given.
    #[schemars(with = "Option<String>")]
    pub id: Option<Spanned<String>>,
    /// The price list; `standard` unless given.
    #[schemars(with = "Option<String>")]
    pub list: Option<Spanned<String>>,
    /// The one account that the row is for; such a row wins over every list.
    #[schemars(with = "Option<String>")]
    pub account: Option<Spanned<String>>,
    /// The item priced, as mediation calls it.
    #[schemars(with = "String")]
    pub item: Spanned<String>,
    /// Attributes and the values that they must have; the row with more of them wins.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, TextOrNumber>")]
    pub when: BTreeMap<String, Spanned<String>>,
    /// The price: an exact decimal, plain or scientific.
    #[schemars(with = "TextOrNumber")]
    pub price: Spanned<String>,
    /// Units that the price buys; 1 unless given.
    #[schemars(with = "Option<TextOrNumber>")]
    pub per: Option<Spanned<String>>,
    /// Units in a block, each started block costing the price.
    #[schemars(with = "Option<TextOrNumber>")]
    pub block: Option<Spanned<String>>,
    /// `per_unit`, `per_block` or `per_record`; follows from `per` and `block` unless given.
    #[schemars(with = "Option<String>")]
    pub model: Option<Spanned<String>>,
    /// First instant in force: a date (its midnight in the tenant's time zone) or RFC 3339.
    #[schemars(with = "Option<String>")]
    pub from: Option<Spanned<String>>,
    /// First instant no longer in force.
    #[schemars(with = "Option<String>")]
    pub to: Option<Spanned<String>>,
    /// Settles rows with equally many conditions: the higher wins; 0 unless given.
    #[schemars(with = "Option<TextOrNumber>")]
    pub priority: Option<Spanned<String>>,
    /// Currency of the price, if it is not the catalog's.
    #[schemars(with = "Option<String>")]
    pub currency: Option<Spanned<String>>,
}

impl PriceFields {
    /// Every field but the conditions, by name.
    pub(super) fn field(&self, name: &str) -> Option<&Spanned<String>> {
        match name {
            "id" => self.id.as_ref(),
            "list" => self.list.as_ref(),
            "account" => self.account.as_ref(),
            "item" => Some(&self.item),
            "price" => Some(&self.price),
            "per" => self.per.as_ref(),
            "block" => self.block.as_ref(),
            "model" => self.model.as_ref(),
            "from" => self.from.as_ref(),
            "to" => self.to.as_ref(),
            "priority" => self.priority.as_ref(),
            "currency" => self.currency.as_ref(),
            _ => None,
        }
    }

    /// The names that [`Self::field`] knows.
    pub(super) const FIELDS: &'static [&'static str] = &[
        "id", "list", "account", "item", "price", "per", "block", "model", "from", "to",
        "priority", "currency",
    ];
}

/// A table whose rows become price rows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// The file, relative to this one.
    #[schemars(with = "String")]
    pub file: Spanned<String>,
    /// Its format; as its name suggests unless given.
    pub format: Option<FormatName>,
    /// What varies between CSV files.
    #[serde(default)]
    pub csv: CsvLayout,
    /// Types of columns; the others are text.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub columns: BTreeMap<String, ColumnType>,
    /// SQL: the rows to take; all unless given.
    #[serde(rename = "where")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<Spanned<String>>,
    /// Price rows to make of each table row, their fields in SQL; none where the price is NULL.
    pub prices: Vec<PriceFields>,
}

/// The rows written out in the catalog.
pub(super) fn price_rows(
    file: &Arc<str>,
    catalog: &CatalogFile,
    setting: Setting<'_>,
    findings: &mut Vec<Diagnostic>,
) -> Rows {
    let mut rows = Rows::default();
    let currency = catalog.currency.value.as_str();
    if let Some((message, hint)) = super::field::currency_fault(currency) {
        let place = place_of(&catalog.currency);
        findings.push(Diagnostic::error(file, place, message).with_hint(hint));
    }
    for entry in &catalog.prices {
        let fields = &entry.value;
        let text = |name: &'static str| fields.field(name).map(|field| field.value.as_str());
        let when: Vec<(&str, &str)> = fields
            .when
            .iter()
            .map(|(name, value)| (name.as_str(), value.value.as_str()))
            .collect();
        let (line, column) = place_of(entry);
        match price_row(text, &when, currency, setting.zone, setting.names) {
            Ok(row) => {
                let origin = Origin {
                    file: Arc::clone(file),
                    line,
                    column,
                };
                rows.prices.push(Placed { row, origin });
            }
            Err(complaints) => findings.extend(complaints.into_iter().map(|complaint| {
                let place = fields
                    .field(complaint.field)
                    .map_or((line, column), place_of);
                Diagnostic::error(file, place, complaint.message).with_hint(complaint.hint)
            })),
        }
    }
    rows
}
