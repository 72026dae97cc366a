//! The fields of a price, as they are written.

use super::yaml::place_of;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

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
    /// The one account that the row is for, `*` for all; a row for an account wins over every list.
    #[schemars(with = "Option<String>")]
    pub account: Option<Spanned<String>>,
    /// The item priced, as mediation calls it.
    #[schemars(with = "String")]
    pub item: Spanned<String>,
    /// Attributes and the values that they must have, `*` for any; the row with more of them wins.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, TextOrNumber>")]
    pub when: BTreeMap<String, Spanned<String>>,
    /// The price: an exact decimal, plain or scientific. Graduated and volume prices have tiers
    /// instead.
    #[schemars(with = "Option<TextOrNumber>")]
    pub price: Option<Spanned<String>>,
    /// Units that the price buys; 1 unless given.
    #[schemars(with = "Option<TextOrNumber>")]
    pub per: Option<Spanned<String>>,
    /// Units in a block, each started block costing the price.
    #[schemars(with = "Option<TextOrNumber>")]
    pub block: Option<Spanned<String>>,
    /// `per_unit`, `per_block`, `per_record`, `graduated`, `volume` or `package`; follows from `per`
    /// and `block` unless given.
    #[schemars(with = "Option<String>")]
    pub model: Option<Spanned<String>>,
    /// The tiers of a graduated or volume price.
    #[serde(default)]
    #[schemars(with = "Vec<TierEntry>")]
    pub tiers: Vec<Spanned<TierEntry>>,
    /// What decides the tier: `record`, the record's own quantity (of a graduated price, unless
    /// given), or an accumulator of the price list.
    #[schemars(with = "Option<String>")]
    pub by: Option<Spanned<String>>,
    /// `true`: what the accumulator reached in the period before decides one tier for all of this.
    #[schemars(with = "Option<bool>")]
    pub previous: Option<Spanned<bool>>,
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
            "price" => self.price.as_ref(),
            "per" => self.per.as_ref(),
            "block" => self.block.as_ref(),
            "model" => self.model.as_ref(),
            "by" => self.by.as_ref(),
            "from" => self.from.as_ref(),
            "to" => self.to.as_ref(),
            "priority" => self.priority.as_ref(),
            "currency" => self.currency.as_ref(),
            _ => None,
        }
    }

    /// The keys given that are for rows written out only, and where they stand.
    pub(super) fn beyond_tables(&self) -> Vec<(&'static str, (u64, u64))> {
        let tiers = self.tiers.first().map(|tier| ("tiers", place_of(tier)));
        let by = self.by.as_ref().map(|by| ("by", place_of(by)));
        let previous = self.previous.as_ref().map(|p| ("previous", place_of(p)));
        [tiers, by, previous].into_iter().flatten().collect()
    }

    /// The names of [`Self::field`] that a table may give.
    pub(super) const FIELDS: &'static [&'static str] = &[
        "id", "list", "account", "item", "price", "per", "block", "model", "from", "to",
        "priority", "currency",
    ];
}

/// A tier: from where on, and its price.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TierEntry {
    /// Where it begins: an exact decimal, inclusive, in what the accumulator counts; 0 for the first
    /// unless given.
    #[schemars(with = "Option<TextOrNumber>")]
    pub from: Option<Spanned<String>>,
    /// The price: an exact decimal, plain or scientific.
    #[schemars(with = "TextOrNumber")]
    pub price: Spanned<String>,
    /// Units that the price buys; 1 unless given.
    #[schemars(with = "Option<TextOrNumber>")]
    pub per: Option<Spanned<String>>,
}

/// The price list of rows and subscriptions that name none.
pub(super) const LIST_DEFAULT: &str = "standard";
