//! Balances as they were known at an epoch of the last run, against those of a job that has read no
//! more than what had been read by then.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, rows};
use serde_json::Value;
use std::collections::BTreeMap;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
epoch: { rows: 1 }
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls.csv
    mediation:
      columns: { calls: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      charges: { calls: calls }
";

const CATALOG: &str = "\
currency: USD
plans:
  - list: gold
    from: 2026-01-01
    allowances:
      - { id: minutes, items: [calls], units: 100, rollover_cycles: 1, rollover_cap: 30 }
    accumulators:
      - { id: total, items: [calls] }
      - { id: spent, counts: money }
    caps:
      - { id: most, limit: 9, cycle: month }
    commitments:
      - { id: least, accumulator: spent, counts: money, amount: 9 }
    charges:
      - { item: fee, amount: 10, when: advance }
prices:
  - { id: call, list: gold, item: calls, model: graduated, by: total,
      tiers: [{ price: 0.10 }, { from: 150, price: 0.05 }] }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
  - { id: mill, currency: USD }
subscriptions:
  - { id: s1, account: acme, service_type: voice, price_lists: [gold], services: [n1],
      from: 2026-01-01 }
  - { id: s2, account: mill, service_type: voice, price_lists: [gold], services: [n2],
      from: 2026-01-01 }
";

/// Late calls change what had been told of later ones.
const CALLS: &str = "\
id,number,at,calls
2,n1,2026-02-03T00:00:00Z,60
1,n1,2026-01-20T08:00:00Z,50
5,n2,2026-01-21T08:00:00Z,150
0,n1,2026-01-05T00:00:00Z,80
3,n1,2026-03-01T12:00:00Z,10
4,n1,2026-03-02T00:00:00Z,160
";

fn desk() -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("calls.csv", CALLS),
    ])
}

fn balance(desk: &Desk, more: &[&str]) -> Ended {
    let job = desk.at("job.yaml").display().to_string();
    let words = ["balance", &job, "--output", "json"];
    let words: Vec<&str> = words.into_iter().chain(more.iter().copied()).collect();
    millrace(&words)
}

fn accounts(desk: &Desk, more: &[&str]) -> Value {
    let ended = balance(desk, more);
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    ended.summary()["accounts"].clone()
}

#[test]
fn what_was_known_at_an_epoch_is_what_the_calls_read_until_then_come_to() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    // The epoch in which each call was charged first.
    let mut charged: BTreeMap<u64, u64> = BTreeMap::new();
    for row in rows(&desk.at("out/monetised/changes")) {
        let (call, epoch) = (row["row"].as_u64().unwrap(), row["epoch"].as_u64().unwrap());
        let first = charged.entry(call).or_insert(epoch);
        *first = epoch.min(*first);
    }
    let epochs: Vec<u64> = charged.values().copied().collect();
    assert!(epochs.len() == 6 && epochs.is_sorted(), "{charged:?}");
    assert!(epochs[0] < epochs[5], "{charged:?}");
    for epoch in &epochs {
        let calls = epochs.iter().filter(|first| *first <= epoch).count();
        let read: Vec<&str> = CALLS.lines().take(1 + calls).collect();
        let then = self::desk();
        then.write("calls.csv", read.join("\n") + "\n");
        let epoch = epoch.to_string();
        for at in [&[][..], &["--at", "2026-01-21"], &["--at", "2026-03-01"]] {
            for account in [&[][..], &["acme"], &["mill"]] {
                let asked: Vec<&str> = account.iter().chain(at).copied().collect();
                let known: Vec<&str> = asked.iter().copied().chain(["--epoch", &epoch]).collect();
                let (known, then) = (accounts(&desk, &known), accounts(&then, &asked));
                assert_eq!(known, then, "epoch {epoch}, {asked:?}");
            }
        }
    }
    let last = accounts(&desk, &["--epoch", "1000000"]);
    assert_eq!(last, accounts(&desk, &[]), "all that is known");
}

#[test]
fn the_epoch_stands_above_the_table() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let job = desk.at("job.yaml").display().to_string();
    let shown = millrace(&[
        "balance",
        &job,
        "acme",
        "--at",
        "2026-01-21",
        "--epoch",
        "9",
    ]);
    let first = "as of 2026-01-21T00:00:00Z, as known at epoch 9\n";
    assert!(shown.out.starts_with(first), "{shown:?}");
}

#[test]
fn without_the_changes_of_a_run_nothing_is_known() {
    let desk = desk();
    let ended = balance(&desk, &["--epoch", "1"]);
    assert_eq!(ended.exit, Exit::Unusable);
    assert!(ended.err.contains("run the job first"), "{}", ended.err);
    desk.write(
        "job.yaml",
        format!("{JOB}outputs: {{ impacts: {{ changes: false }} }}\n"),
    );
    assert_eq!(desk.run().exit, Exit::Ok);
    assert!(!desk.at("out/buckets").exists());
    let ended = balance(&desk, &["--epoch", "1"]);
    assert_eq!(ended.exit, Exit::Unusable);
    assert!(
        ended.err.contains("no changes of \"impacts\""),
        "{}",
        ended.err
    );
}
