//! The words that fields of reference data take, for schemas.

use super::account::{CYCLES, STATUSES};
use super::commitment::COUNTS;
use super::plan::{GRANTS, MEASURES, PRORATIONS, WHENS};
use super::price::MODELS;
use super::tiers::BY_RECORD;

/// A field that takes one of a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordField {
    /// The definition that it is of, as schemas call it.
    pub of: &'static str,
    /// The field.
    pub field: &'static str,
    /// The words.
    pub words: Vec<&'static str>,
    /// What else it may be.
    pub form: WordForm,
}

/// What a field that takes a word may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordForm {
    /// One of the words.
    Word,
    /// One of the words or something else: an SQL expression in a table, a name, or a date.
    WordOrText,
    /// One of the words or a list of them.
    WordOrList,
    /// A list of the words and of something else: names.
    WordsAndTexts,
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
        form: match (of, field) {
            ("PriceFields", _) | (_, "anchor") => WordForm::WordOrText,
            ("CommitmentEntry", "counts") => WordForm::WordOrList,
            _ => WordForm::Word,
        },
    };
    let anchors = || vec!["subscription", "account"];
    vec![
        field("BillingEntry", "cycle", of(CYCLES)),
        field("SubscriptionEntry", "status", of(STATUSES)),
        field("PriceFields", "model", of(MODELS)),
        field("PriceFields", "by", vec![BY_RECORD]),
        field("AllowanceEntry", "grant", of(GRANTS)),
        field("AllowanceEntry", "cycle", of(CYCLES)),
        field("AllowanceEntry", "anchor", anchors()),
        field("AllowanceEntry", "proration", of(PRORATIONS)),
        field("AccumulatorEntry", "counts", of(MEASURES)),
        field("AccumulatorEntry", "cycle", of(CYCLES)),
        field("AccumulatorEntry", "anchor", anchors()),
        field("CapEntry", "cycle", of(CYCLES)),
        field("CapEntry", "anchor", anchors()),
        field("CommitmentEntry", "counts", COUNTS.to_vec()),
        field("CommitmentEntry", "proration", of(PRORATIONS)),
        field("CommitmentEntry", "cycle", of(CYCLES)),
        field("CommitmentEntry", "anchor", anchors()),
        field("ChargeEntry", "when", of(WHENS)),
        field("ChargeEntry", "cycle", of(CYCLES)),
        field("ChargeEntry", "anchor", anchors()),
        field("ChargeEntry", "proration", of(PRORATIONS)),
    ]
}
