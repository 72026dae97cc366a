//! Jobs that end at any moment and go on, on folders and behind the S3 protocol.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod cluster;
mod discard;
mod disk_full;
mod durability;
mod object_store;
mod s3;
mod store_faults;

/// Runs the job that the environment asks for, where it asks for one.
#[test]
fn a_process_of_its_own() {
    millrace_tests::kills::run_if_asked();
}
