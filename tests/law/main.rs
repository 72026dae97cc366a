//! The law: a bill is that of a reader who knows what is meant, or somebody is told.
//!
//! Files of many formats are generated and mutated: fields removed, emptied, retyped and repeated,
//! records sent again with the same and with other content, lines swapped, bytes lost, ends cut. A
//! reader that shares nothing with the engine ([`reader`]) says what a file comes to, or that nobody can
//! say. The engine must come to the same, or tell of the file by its name and end with findings; to end
//! well with another bill is never right.
//!
//! `MILLRACE_LAW=100000 cargo test -p millrace-tests --test law -- --nocapture` tries so many files; a
//! failure prints the file, and the number of its job, at which `MILLRACE_LAW_FROM` begins.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod parquet_files;
mod reader;

use files::{Sent, send};
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, text};
use reader::Verdict;
use std::collections::BTreeMap;

/// Files of a run.
const FILES: u64 = 24;
/// Mutated files unless `MILLRACE_LAW` says how many.
const TRIED: u64 = 480;

const JOB: &str = "\
name: law
time_zone: UTC
sources:
  - { name: switch, platform: switch, service_type: voice, path: usage, mediation: mediation.yaml }
  - name: mainframe
    platform: mainframe
    service_type: voice
    path: fixed
    format:
      type: fixed
      length: 153
      fields:
        id: { start: 1, length: 24 }
        number: { start: 25, length: 24 }
        at: { start: 49, length: 24 }
        zone: { start: 73, length: 24 }
        n: { start: 97, length: 24 }
        m: { start: 121, length: 24 }
    mediation: mediation.yaml
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const MEDIATION: &str = "\
columns: { n: \"decimal(18,4)\", m: bigint, at: timestamp }
identity: IDENTITY
service: number
time: at
attributes: { zone: zone }
charges: { n: n, m: m }
";

const CATALOG: &str = "\
currency: EUR
prices:
  - { item: n, when: { zone: home }, price: 0.25 }
  - { item: n, when: { zone: far }, price: 0.0003 }
  - { item: m, price: 2 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
  - { id: bolt, currency: EUR }
subscriptions:
  - { id: one, account: acme, price_lists: [standard], service_type: voice, services: [\"+4201\", \"+4202\"] }
  - { id: two, account: bolt, price_lists: [standard], service_type: voice, services: [\"+4203\"] }
";

/// What makes a record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    Id,
    IdAndZone,
    Position,
}

#[test]
fn a_bill_is_right_or_somebody_is_told() {
    let number = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let jobs = number("MILLRACE_LAW").unwrap_or(TRIED).div_ceil(FILES);
    let from = number("MILLRACE_LAW_FROM").unwrap_or(0);
    let (mut told, mut silent, mut broken) = (0, 0, Vec::new());
    for job in from..jobs {
        let (more_told, more_silent) = run(job, &mut broken);
        (told, silent) = (told + more_told, silent + more_silent);
        if jobs > 200 && job % 100 == 0 {
            eprintln!(
                "job {job} of {jobs}: {told} files told, {silent} billed, {} wrong",
                broken.len()
            );
        }
        assert!(broken.len() < 20, "{}", broken.join("\n\n"));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    // A law that everything is told would be kept by telling everything.
    assert!(
        from > 0 || silent * 4 > told,
        "{told} files told, {silent} billed"
    );
}

/// Runs a job of many files; gives how many of them were told and how many were not.
fn run(job: u64, broken: &mut Vec<String>) -> (u64, u64) {
    let mut random = Dice(job.wrapping_mul(0x5DEE_CE66).wrapping_add(11));
    let identity = *random.pick(&[
        Identity::Id,
        Identity::Id,
        Identity::IdAndZone,
        Identity::Position,
    ]);
    let written = match identity {
        Identity::Id => "[id]",
        Identity::IdAndZone => "[id, zone]",
        Identity::Position => "position",
    };
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("mediation.yaml", &MEDIATION.replace("IDENTITY", written)),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("fixed/.none", ""),
    ]);
    let files: BTreeMap<String, Sent> = (0..FILES)
        .map(|file| send(&mut random, file, identity))
        .collect();
    for (name, sent) in &files {
        let folder = match name.contains(".dat") {
            true => "fixed",
            false => "usage",
        };
        desk.write(&format!("{folder}/{name}"), &sent.bytes);
    }
    let ended = desk.run();
    assert!(
        matches!(ended.exit, Exit::Ok | Exit::Findings),
        "job {job}: {ended:?}"
    );
    assert_eq!(ended.summary()["ties_out"], true, "job {job}: {ended:?}");
    let mut bills: BTreeMap<String, i128> = BTreeMap::new();
    for row in desk.snapshot("monetised") {
        let amount =
            reader::scaled(text(&row, "amount")).expect("an amount of at most 12 decimals");
        *bills.entry(text(&row, "file").to_owned()).or_default() += amount;
    }
    let (mut told, mut silent) = (0, 0);
    let ledger = desk.snapshot("ledger");
    assert_eq!(
        ledger.len(),
        files.len(),
        "job {job}: a file is missing in the ledger"
    );
    for row in ledger {
        let name = text(&row, "file");
        let count = |key: &str| row[key].as_u64().unwrap_or(0);
        let is_told = text(&row, "state") != "loaded"
            || !text(&row, "message").is_empty()
            || count("error") + count("suspended") + count("conflict") > 0;
        (told, silent) = (told + u64::from(is_told), silent + u64::from(!is_told));
        let sent = &files[name];
        let bill = bills.get(name).copied().unwrap_or(0);
        let is_right = sent.verdict == Verdict::Bill(bill) || sent.verdict == Verdict::Either;
        if !is_told && !is_right {
            let (verdict, shown) = (&sent.verdict, String::from_utf8_lossy(&sent.bytes));
            broken.push(format!(
                "job {job}, identity {written}, {name} ({}): {verdict:?} is billed as {bill} without a \
                 word:\n{shown}\n{row}",
                sent.done
            ));
        }
    }
    assert!(
        told == 0 || ended.exit == Exit::Findings,
        "job {job}: told, and ended well"
    );
    (told, silent)
}
