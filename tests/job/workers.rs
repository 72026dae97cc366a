//! The number of workers is invisible: every file that a job writes is the same, byte by byte.

use crate::quiet::run_quietly;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Every file under `folder` by its relative path.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// What a run leaves: its files, and the reasons for which records were not monetised.
struct Left {
    files: BTreeMap<String, Vec<u8>>,
    reasons: BTreeSet<&'static str>,
}

fn left(job: &Path, workers: usize) -> Left {
    let out = tempfile::tempdir().unwrap();
    let summary = run_quietly(job, workers, out.path());
    let reasons = summary.reasons.iter().map(|count| count.reason).collect();
    Left {
        files: files(out.path()),
        reasons,
    }
}

/// What every job writes.
const ALWAYS: [&str; 6] = [
    "monetised",
    "suspense",
    "aggregated",
    "raw_status",
    "ledger",
    "raw",
];

fn check(job: &Path, reasons: &[&str]) {
    check_folders(job, reasons, &ALWAYS);
}

fn check_folders(job: &Path, reasons: &[&str], folders: &[&str]) {
    let Left {
        files: alone,
        reasons: found,
    } = left(job, 1);
    assert_eq!(
        found,
        reasons.iter().copied().collect(),
        "the job is not what the test is about"
    );
    for folder in folders {
        assert!(
            alone.keys().any(|name| name.starts_with(*folder)),
            "nothing under {folder}"
        );
    }
    for workers in [2, 3, 4] {
        let together = left(job, workers).files;
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&together), names(&alone), "with {workers} workers");
        let differing: Vec<&String> = alone
            .iter()
            .filter(|(name, bytes)| together[*name] != **bytes)
            .map(|(n, _)| n)
            .collect();
        assert!(
            differing.is_empty(),
            "{workers} workers write other bytes: {differing:?}"
        );
    }
}

fn example(job: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(job)
}

#[test]
fn the_main_job_writes_the_same_bytes_with_any_number_of_workers() {
    check(&example("llm/job.yaml"), &[]);
}

/// Half of its records end in suspense: they have the identity of others, and another content.
#[test]
fn suspense_has_the_same_bytes_with_any_number_of_workers() {
    check(&example("llm/double-recorded.yaml"), &["CONFLICT"]);
}

/// Files, epochs and reasons in numbers: three small files of calls, some without a price or a
/// subscription, some broken, copied from file to file, and an epoch for every hundred.
#[test]
fn many_epochs_and_reasons_give_the_same_bytes_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "job.yaml",
        "name: calls\ntime_zone: UTC\nepoch: { rows: 100 }\ncatalog: [catalog.yaml]\n\
         accounts: [accounts.yaml]\nbilling: { aggregate_by: [zone, service] }\n\
         sources:\n  - name: switch\n    platform: switch\n    service_type: voice\n    \
         path: calls\n    mediation: mediation.yaml\n",
    );
    write(
        "mediation.yaml",
        "columns: { seconds: bigint, at: timestamp }\nwhere: seconds > 0\nidentity: [id]\n\
         service: number\ntime: at\nattributes: { zone: zone }\n\
         charges: { seconds: seconds, calls: 1 }\n",
    );
    write(
        "catalog.yaml",
        "currency: EUR\nprices:\n  - { item: calls, price: 0.01 }\n  \
         - { item: seconds, when: { zone: home }, price: 0.0007 }\n  \
         - { item: seconds, when: { zone: far }, price: 0.05, per: 60 }\n",
    );
    let mut accounts = "accounts:\n".to_owned();
    let mut subscriptions = "subscriptions:\n".to_owned();
    for n in 0..20 {
        accounts += &format!("  - {{ id: a{n}, currency: EUR }}\n");
        subscriptions +=
            &format!("  - {{ id: s{n}, account: a{n}, service_type: voice, services: [n{n}] }}\n");
    }
    write("accounts.yaml", &format!("{accounts}{subscriptions}"));
    std::fs::create_dir(folder.path().join("calls")).unwrap();
    for file in 0..3_u32 {
        let mut text = "id,number,at,zone,seconds\n".to_owned();
        for row in 0..700_u32 {
            let id = (file * 600 + row) % 1700;
            let zone = ["home", "far", "mars"][(id % 13 % 3) as usize];
            let at = if id % 97 == 5 {
                "yesterday"
            } else {
                "2026-01-05T10:00:00Z"
            };
            text += &format!("{id},n{},{at},{zone},{}\n", id % 22, id * 7 % 300);
        }
        write(&format!("calls/{file}.csv"), &text);
    }
    check(
        &folder.path().join("job.yaml"),
        &[
            "DUPLICATE",
            "FIELD_UNPARSABLE",
            "PRICE_NOT_FOUND",
            "SERVICE_UNKNOWN",
        ],
    );
}

/// Balance groups in numbers, some shared: calls come out of order, epoch by epoch, so that draws,
/// counts and notices are taken back and told again. Some calls come before their subscription.
#[test]
fn plans_give_the_same_bytes_with_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "job.yaml",
        "name: calls\ntime_zone: Europe/Prague\nclock: 2026-03-10\nepoch: { rows: 50 }\n\
         catalog: [catalog.yaml]\naccounts: [accounts.yaml]\n\
         outputs: { impacts: { json: true }, balances: { json: true } }\n\
         sources:\n  - name: switch\n    platform: switch\n    service_type: voice\n    \
         path: calls.csv\n    mediation:\n      columns: { calls: bigint, at: timestamp }\n      \
         identity: [id]\n      service: number\n      time: at\n      charges: { calls: calls }\n",
    );
    write(
        "catalog.yaml",
        "currency: EUR\nplans:\n  - list: gold\n    allowances:\n      \
         - { id: minutes, units: 100, rollover_cycles: 2 }\n      \
         - { id: credit, money: 3, grant: once }\n    accumulators:\n      - { id: total }\n      \
         - { id: spent, counts: money, thresholds: [20] }\n    caps:\n      \
         - { id: most, limit: 40 }\n    commitments:\n      \
         - { id: least, accumulator: spent, counts: money, amount: 30 }\n    charges:\n      \
         - { item: fee, amount: 9.99, when: advance }\n      \
         - { item: setup, amount: 5, when: activation }\nprices:\n  \
         - { list: gold, item: calls, model: graduated, by: total,\n      \
         tiers: [{ price: 0.10 }, { from: 150, price: 0.033 }] }\n",
    );
    let mut accounts = "accounts:\n".to_owned();
    let mut subscriptions = "subscriptions:\n".to_owned();
    for n in 0..30 {
        accounts += &format!("  - {{ id: a{n}, currency: EUR }}\n");
        let group = if n < 9 { n % 3 } else { n };
        subscriptions += &format!(
            "  - {{ id: s{n}, account: a{n}, group: g{group}, service_type: voice, \
             price_lists: [gold], services: [n{n}], from: 2026-01-{:02} }}\n",
            1 + n % 28
        );
    }
    write("accounts.yaml", &format!("{accounts}{subscriptions}"));
    let mut calls = "id,number,at,calls\n".to_owned();
    for id in 0..900_u32 {
        let (month, day, hour) = (1 + id * 7 % 3, 1 + id * 11 % 28, id * 13 % 24);
        calls += &format!(
            "{id},n{},2026-{month:02}-{day:02}T{hour:02}:00:00Z,{}\n",
            id * 31 % 30,
            id * 17 % 40
        );
    }
    write("calls.csv", &calls);
    let of_plans = ["impacts", "balances", "activity", "notices"];
    let folders: Vec<&str> = ALWAYS.into_iter().chain(of_plans).collect();
    check_folders(
        &folder.path().join("job.yaml"),
        &["SERVICE_NOT_EFFECTIVE"],
        &folders,
    );
}
