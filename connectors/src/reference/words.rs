//! The words that fields of reference data take, for schemas.

use super::account::{CYCLES, STATUSES};
use super::plan::{GRANTS, MEASURES, PRORATIONS, WHENS};
use super::price::MODELS;

/// A field that takes one of a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordField {
    /// The definition that it is of, as schemas call it.
    pub of: &'static str,
    /// The field.
    pub field: &'static str,
    /// The words.
    pub words: Vec<&'static str>,
    /// Whether it may be something else instead: an SQL expression in a table, or a date.
    pub or_text: bool,
}

/// Every field of catalogs and accounts files that takes one of a few words.
#[must_use]
pub fn word_fields() -> Vec<WordField> {
    fn of<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
        words.iter().map(|(word, _)| *word).collect()
    }
    let field = |of, field, words| WordField {
        of,
        field,
        words,
        or_text: of == "PriceFields" || field == "anchor",
    };
    let anchors = || vec!["subscription", "account"];
    vec![
        field("BillingEntry", "cycle", of(CYCLES)),
        field("SubscriptionEntry", "status", of(STATUSES)),
        field("PriceFields", "model", of(MODELS)),
        field("AllowanceEntry", "grant", of(GRANTS)),
        field("AllowanceEntry", "cycle", of(CYCLES)),
        field("AllowanceEntry", "anchor", anchors()),
        field("AllowanceEntry", "proration", of(PRORATIONS)),
        field("AccumulatorEntry", "counts", of(MEASURES)),
        field("AccumulatorEntry", "cycle", of(CYCLES)),
        field("AccumulatorEntry", "anchor", anchors()),
        field("CapEntry", "cycle", of(CYCLES)),
        field("CapEntry", "anchor", anchors()),
        field("CommitmentEntry", "proration", of(PRORATIONS)),
        field("CommitmentEntry", "cycle", of(CYCLES)),
        field("CommitmentEntry", "anchor", anchors()),
        field("ChargeEntry", "when", of(WHENS)),
        field("ChargeEntry", "cycle", of(CYCLES)),
        field("ChargeEntry", "anchor", anchors()),
        field("ChargeEntry", "proration", of(PRORATIONS)),
    ]
}
