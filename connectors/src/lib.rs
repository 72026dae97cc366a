//! Connectors: sources, formats, mediation and sinks. Bytes become domain values here and domain
//! values become bytes; nothing here knows the graph.
//!
//! Reading order: [`store`] (where bytes live), [`ledger`] (which files were met), [`decode`] (bytes
//! to columns of raw records), [`times`] (texts to instants), [`expression`] (SQL over columns, fenced for money), [`lookup`] (tables
//! that it looks into), [`mediate`] (raw records of a [`stream`] to usage), [`raw`] (the records as
//! they stood), [`reference`] (catalog and accounts), [`names`] (the text behind the keys),
//! [`output`] (domain values to files), [`archive`] (closed periods, and back), [`kafka`] (messages
//! in, rows out in transactions), [`shield`] (what holds when a library that reads for us panics), [`redact`] (what nobody is shown of a
//! URL).

#![deny(unsafe_code)]

pub mod archive;
pub mod container;
pub mod decode;
pub mod diagnostic;
pub mod digest;
pub mod expression;
pub mod kafka;
pub mod ledger;
pub mod lines;
pub mod lookup;
pub mod mediate;
pub mod names;
pub mod output;
pub mod raw;
pub mod redact;
pub mod reference;
pub mod shield;
pub mod store;
pub mod stream;
pub mod times;
