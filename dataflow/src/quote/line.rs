//! What a quote says of a piece of usage, and why there is none.

use millrace_connectors::diagnostic::Diagnostic;
use serde::Serialize;

/// A priced line, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuoteLine {
    /// Row in the input, counted from 1.
    pub row: u64,
    /// The item.
    pub item: String,
    /// The quantity.
    pub quantity: String,
    /// The price row used.
    pub price: Option<String>,
    /// The exact amount; none for a record whose price is found at the end of a period, with all of it:
    /// that has a line of its own.
    pub amount: Option<String>,
    /// Its currency.
    pub currency: Option<String>,
    /// The code of the reason why the row is not priced.
    pub reason: Option<&'static str>,
    /// What was found, and what to do about it.
    pub message: Option<String>,
}

/// Why there is no quote.
#[derive(Debug, thiserror::Error)]
pub enum QuoteError {
    /// The catalog or the job does not hold.
    #[error("the configuration has {} errors", .0.iter().filter(|finding| finding.is_error()).count())]
    Configuration(Vec<Diagnostic>),
    /// The usage cannot be read, or the request does not fit the job.
    #[error("{0}")]
    Request(String),
}
