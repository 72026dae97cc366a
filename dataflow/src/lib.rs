//! millrace: usage in, exact money out, kept exact while everything changes.
//!
//! Reading order: [`graph`] (the dataflow), [`worker`] (who turns it), [`publish`] (how results
//! leave it).

#![deny(unsafe_code)]

pub mod adjust;
pub mod allocator;
pub mod archive;
pub mod balance;
pub mod bill;
pub mod board;
pub mod bundle;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod console;
pub mod crash;
pub mod currency;
pub mod durable;
pub mod error;
pub mod explain;
pub mod graph;
pub mod init;
pub mod intake;
pub mod interrupt;
pub mod job;
pub mod listener;
pub mod metrics;
pub mod outputs;
pub mod present;
pub mod print;
pub mod progress;
pub mod publish;
pub mod query;
pub mod quote;
pub mod render;
pub mod replay;
pub mod report;
pub mod rerate;
pub mod run;
pub mod schema;
pub mod serve;
pub mod shown;
pub mod status;
pub mod table;
pub mod terminal;
pub mod watch;
pub mod worker;
