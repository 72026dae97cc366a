//! Whatever bytes come in: nothing panics, ends the process or goes on for ever, every record is a row
//! or told, and the same bytes are the same rows however they are cut.
//!
//! Inputs are small valid files (`corpus/`, a folder for each target, together with what once was read
//! wrongly), mutated by a seed that is the number of the input. `MILLRACE_FUZZ=1000000 cargo test -p
//! millrace-tests --test fuzz -- --nocapture` tries a million of each; a failure prints the number, and
//! `MILLRACE_FUZZ_FROM` begins there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bombs;
mod expressions;
mod files;
mod harness;
mod messages;
mod parquet_bombs;
mod parquet_files;
mod reference;
