//! Connectors: sources, formats, mediation and sinks. Bytes become domain values here and domain
//! values become bytes; nothing here knows the graph.
//!
//! Reading order: [`store`] (where bytes live), [`decode`] (bytes to columns of raw records),
//! [`expression`] (SQL over columns, fenced for money), [`mediate`] (raw records to usage),
//! [`reference`] (catalog, accounts, lookup tables), [`names`] (the text behind the keys).

#![forbid(unsafe_code)]

pub mod decode;
pub mod diagnostic;
pub mod expression;
pub mod ledger;
pub mod lookup;
pub mod mediate;
pub mod names;
pub mod output;
pub mod raw;
pub mod reference;
pub mod store;
pub mod stream;
