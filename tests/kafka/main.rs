//! A real Kafka: what the connector promises, and jobs between topics under kills.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod begun_anew;
mod created_anew;
mod exactly_once;
mod feeds;
mod outputs;
mod reference;
mod renamed;
mod rules;
mod stops;
mod units;

/// Runs the job that the environment asks for, where it asks for one.
#[test]
fn a_process_of_its_own() {
    millrace_tests::kills::run_if_asked();
}
