//! Whole jobs, from their files to what they print and write.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod advice;
mod bad_input;
mod balances;
mod bill;
mod bills;
mod by_hand;
mod cli;
mod explain;
mod findings;
mod foreign;
mod frames;
mod hints;
mod house;
mod identity;
mod init;
mod interrupt;
mod known;
mod live;
mod mixed;
mod pricing;
mod quiet;
mod quote;
mod reference_pages;
mod resting;
mod schemas;
mod sums;
mod two_sources;
mod unmet;
mod unpriced;
mod unsettled;
mod warned;
mod watching;
mod widths;
mod words;
mod workers;
