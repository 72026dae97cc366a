//! millrace: usage in, exact money out, kept exact while everything changes.
//!
//! Reading order: [`graph`] (the dataflow), [`worker`] (who turns it), [`publish`] (how results
//! leave it).

#![forbid(unsafe_code)]

pub mod board;
pub mod graph;
pub mod publish;
pub mod worker;
