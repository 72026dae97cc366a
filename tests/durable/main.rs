//! Jobs that end at any moment and go on, on folders and behind the S3 protocol.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod by_hand;
mod cluster;
mod commands;
mod crashes;
mod damage;
mod discard;
mod disk_full;
mod durability;
mod histories;
mod kubernetes;
mod moves;
mod object_store;
mod remote_reference;
mod rules;
mod s3;
mod sources;
mod stops;
mod store_faults;
mod store_gone;
mod strangers;
mod stuck;
mod tls;

/// Runs the job that the environment asks for, where it asks for one.
#[test]
fn a_process_of_its_own() {
    millrace_tests::kills::run_if_asked();
}
