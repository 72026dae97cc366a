//! Plans from end to end: what a small job with an allowance, tiers, a commitment and a fee writes,
//! and where its balances stand, against numbers worked out by hand.
//!
//! ```text
//!  gold: 100 calls a month, up to 30 carried over once; 0.10 each, 0.05 past 150 in the month;
//!        20 USD a month at least, before allowances; 10 USD a month in advance
//!
//!  January   80 + 50 calls   8 + 5 = 13 gross    100 of the allowance   pays 3, lacks 7
//!  February  60 calls        6 gross             60 of the allowance    pays 0, lacks 14, carries 30
//!  March     10 calls        1 gross             10 of the 30 carried   pays 0
//!           160 calls        140 · 0.10 + 20 · 0.05 = 15 gross          20 + 100 covered, pays 3
//! ```

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, rows, standing, text};
use serde_json::Value;
use std::collections::BTreeMap;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
epoch: { rows: 1 }
outputs: { balances: { json: true }, notices: { json: true } }
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
    commitments:
      - { id: least, accumulator: spent, counts: money, amount: 20 }
    charges:
      - { item: fee, amount: 10, when: advance }
prices:
  - { id: call, list: gold, item: calls, model: graduated, by: total,
      tiers: [{ price: 0.10 }, { from: 150, price: 0.05 }] }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
  - { id: idle, currency: USD }
subscriptions:
  - { id: s1, account: acme, service_type: voice, price_lists: [gold], services: [n1],
      from: 2026-01-01 }
";

/// February's call comes first, so that January's are late and change what was told of it.
const CALLS: &str = "\
id,number,at,calls
2,n1,2026-02-03T00:00:00Z,60
1,n1,2026-01-20T08:00:00Z,50
0,n1,2026-01-05T00:00:00Z,80
3,n1,2026-03-01T12:00:00Z,10
4,n1,2026-03-02T00:00:00Z,160
";

fn desk() -> Desk {
    let files = [
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("calls.csv", CALLS),
    ];
    Desk::new(&files)
}

/// A decimal without the zeros at its end.
fn exact(row: &Value, key: &str) -> String {
    match row[key].as_str() {
        Some(text) if text.contains('.') => {
            let text = text.trim_end_matches('0').trim_end_matches('.');
            text.to_owned()
        }
        Some(text) => text.to_owned(),
        None => row[key].to_string(),
    }
}

/// A decimal as a number of its last digits.
fn digits(row: &Value, key: &str) -> i128 {
    text(row, key).replace('.', "").parse().unwrap()
}

/// Some columns of each row, sorted.
fn columns(rows: &[Value], names: &[&str]) -> Vec<String> {
    let line = |row: &Value| {
        let cells: Vec<String> = names.iter().map(|name| exact(row, name)).collect();
        cells.join(" ").replace("T00:00:00Z", "")
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn subscription_activity_has_its_cycle_its_scale_and_its_line() {
    let desk = desk();
    let ended = desk.run();
    assert_eq!(ended.totals(), ["57 USD"], "{ended:?}");
    let activity = desk.snapshot("activity");
    let names = [
        "kind",
        "item",
        "subscription",
        "account",
        "cycle_start",
        "cycle_end",
        "scale",
        "commitment",
        "amount",
        "currency",
    ];
    assert_eq!(
        columns(&activity, &names),
        [
            "forward_recurring fee s1 acme 2026-01-01 2026-02-01 1/1 null 10 USD",
            "forward_recurring fee s1 acme 2026-02-01 2026-03-01 1/1 null 10 USD",
            "forward_recurring fee s1 acme 2026-03-01 2026-04-01 1/1 null 10 USD",
            "true_up least s1 acme 2026-01-01 2026-02-01 1/1 20 7 USD",
            "true_up least s1 acme 2026-02-01 2026-03-01 1/1 20 14 USD",
        ]
    );
    let lines: BTreeMap<String, Value> = desk
        .snapshot("aggregated")
        .into_iter()
        .map(|line| (text(&line, "aggregate_id").to_owned(), line))
        .collect();
    for row in &activity {
        let line = &lines[text(row, "aggregate_id")];
        for column in ["item", "account", "amount", "bill_unit_start"] {
            assert_eq!(line[column], row[column], "{column}");
        }
    }
}

#[test]
fn impacts_tell_every_step_and_add_up_to_balances() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let impacts = desk.snapshot("impacts");
    let march = impacts.iter().filter(|row| row["row"] == 4);
    let march: Vec<Value> = march.cloned().collect();
    let names = [
        "index", "kind", "tier", "resource", "units", "amount", "account", "item",
    ];
    assert_eq!(
        columns(&march, &names),
        [
            "0 price 0 null 140 14 acme calls",
            "1 allowance 0 minutes -20 0 acme calls",
            "2 offset 0 minutes 0 -2 acme calls",
            "3 allowance 0 minutes -100 0 acme calls",
            "4 offset 0 minutes 0 -10 acme calls",
            "5 price 1 null 20 1 acme calls",
            "6 accumulator 0 total 160 0 acme calls",
            "7 accumulator 0 spent 0 15 acme calls",
        ]
    );
    let edges: Vec<Value> = impacts
        .iter()
        .filter(|row| !row["edge"].is_null())
        .cloned()
        .collect();
    let names = ["event_time", "kind", "resource", "units", "row", "account"];
    assert_eq!(
        columns(&edges, &names),
        [
            "2026-03-01 allowance minutes -30 null null",
            "2026-03-01 allowance minutes 30 null null",
        ]
    );
    // Opening and impacts are the value, bucket by bucket.
    let mut moved: BTreeMap<&str, (i128, i128)> = BTreeMap::new();
    for row in impacts
        .iter()
        .filter(|row| !row["bucket"].is_null() && row["kind"] != "offset")
    {
        let sum = moved.entry(text(row, "bucket")).or_default();
        sum.0 += digits(row, "units");
        sum.1 += digits(row, "amount");
    }
    let balances = desk.snapshot("balances");
    for row in &balances {
        let (units, amount) = moved.get(text(row, "bucket")).copied().unwrap_or_default();
        let (by, opening, value) = match text(row, "measure") {
            "units" => (units, "opening_units", "units"),
            _ => (amount, "opening_amount", "amount"),
        };
        assert_eq!(digits(row, value), digits(row, opening) + by, "{row}");
    }
    assert!(moved.len() >= 9, "{moved:?}");
}

#[test]
fn balances_tell_what_each_bucket_opened_with_and_where_it_is() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let balances = desk.snapshot("balances");
    let minutes: Vec<Value> = balances
        .iter()
        .filter(|row| row["resource"] == "minutes")
        .cloned()
        .collect();
    let names = [
        "valid_start",
        "valid_end",
        "opening_units",
        "carried_units",
        "used_units",
        "units",
        "opening_amount",
    ];
    assert_eq!(
        columns(&minutes, &names),
        [
            "2026-01-01 2026-02-01 100 0 100 0 null",
            "2026-02-01 2026-03-01 0 0 0 0 null",
            "2026-02-01 2026-03-01 100 -30 60 10 null",
            "2026-03-01 2026-04-01 0 30 30 0 null",
            "2026-03-01 2026-04-01 100 0 100 0 null",
            "2026-04-01 2026-05-01 0 0 0 0 null",
            "2026-04-01 2026-05-01 100 0 0 100 null",
        ]
    );
    let spent: Vec<Value> = balances
        .iter()
        .filter(|row| row["resource"] == "spent" && row["amount"] != "0.000000000000000000000000")
        .cloned()
        .collect();
    let names = [
        "valid_start",
        "balance_group",
        "accounts",
        "currency",
        "kind",
        "measure",
        "used_amount",
        "amount",
        "units",
    ];
    assert_eq!(
        columns(&spent, &names),
        [
            "2026-01-01 s1 acme USD accumulator money 13 13 null",
            "2026-02-01 s1 acme USD accumulator money 6 6 null",
            "2026-03-01 s1 acme USD accumulator money 16 16 null",
        ]
    );
    let lines = std::fs::read_to_string(desk.at("out/balances/snapshot.jsonl")).unwrap();
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let columns = row.as_object_mut().unwrap();
        // Parquet rows are read back without columns that are null.
        columns.retain(|_, value| !value.is_null());
        row
    };
    let lines: Vec<Value> = lines.lines().map(line).collect();
    assert_eq!(lines, balances);
    assert!(
        lines.iter().any(|line| line["units"].is_string()),
        "digits, not floats"
    );
    assert!(!desk.at("out/balances/changes").exists());
}

#[test]
fn notices_name_the_bucket_the_percent_and_who_crossed_it() {
    let desk = desk();
    let ended = desk.run();
    let notices = desk.snapshot("notices");
    let names = [
        "event_time",
        "percent",
        "level_units",
        "row",
        "resource",
        "balance_group",
        "valid_end",
    ];
    assert_eq!(
        columns(&notices, &names),
        [
            "2026-01-05 50 50 2 minutes s1 2026-02-01",
            "2026-01-05 80 20 2 minutes s1 2026-02-01",
            "2026-01-20T08:00:00Z 100 0 1 minutes s1 2026-02-01",
            "2026-02-03 50 50 0 minutes s1 2026-03-01",
            // What is carried out of a bucket leaves it as low as usage would.
            "2026-03-01 80 20 null minutes s1 2026-03-01",
            "2026-03-02 100 0 4 minutes s1 2026-04-01",
            "2026-03-02 50 50 4 minutes s1 2026-04-01",
            "2026-03-02 80 20 4 minutes s1 2026-04-01",
        ]
    );
    let counts: Value = serde_json::json!([
        { "percent": 50, "notices": 3 },
        { "percent": 80, "notices": 3 },
        { "percent": 100, "notices": 2 },
    ]);
    assert_eq!(ended.summary()["notices"], counts);
    let origin = &ended.summary()["origins"][0];
    let parts = (
        text(&origin["usage"], "amount"),
        text(&origin["subscriptions"], "amount"),
    );
    assert_eq!(parts, ("6", "51"));
}

/// Late calls took back what was told first: what is left of the changes is the snapshot.
#[test]
fn changes_come_to_the_snapshot() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    for output in ["impacts", "activity", "notices", "monetised", "aggregated"] {
        let changes = rows(&desk.at(&format!("out/{output}/changes")));
        let taken_back = changes.iter().filter(|row| row["diff"] == -1).count();
        assert!(output == "activity" || taken_back > 0, "{output}");
        assert_eq!(
            standing(changes),
            standing(desk.snapshot(output)),
            "{output}"
        );
    }
}

#[test]
fn a_job_without_plans_has_no_files_of_plans() {
    let desk = desk();
    desk.write(
        "catalog.yaml",
        "currency: USD\nprices: [{ list: gold, item: calls, price: 0.10 }]\n",
    );
    assert_eq!(desk.run().totals(), ["36 USD"]);
    for output in ["impacts", "buckets", "balances", "activity", "notices"] {
        assert!(!desk.at(&format!("out/{output}")).exists(), "{output}");
    }
    assert_eq!(desk.snapshot("monetised").len(), 5);
}

#[test]
fn balances_have_no_changes_to_ask_for() {
    let desk = desk();
    desk.write(
        "job.yaml",
        JOB.replace("balances: { json: true }", "balances: { changes: true }"),
    );
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Unusable);
    assert!(
        ended.err.contains("changes") && ended.err.contains("snapshot"),
        "{}",
        ended.err
    );
}

fn balance(desk: &Desk, more: &[&str]) -> Ended {
    let job = desk.at("job.yaml").display().to_string();
    let arguments: Vec<&str> = ["balance", &job]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    millrace(&arguments)
}

/// What an account is charged, and its buckets, of an answer in JSON.
fn told(ended: &Ended) -> (Vec<String>, Vec<String>) {
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    let answer = ended.summary();
    let accounts = answer["accounts"].as_array().unwrap();
    let charged = ["account", "charged", "usage", "subscriptions", "currency"];
    let buckets = accounts
        .iter()
        .flat_map(|account| account["groups"].as_array().unwrap());
    let buckets = buckets.flat_map(|group| group["buckets"].as_array().unwrap().clone());
    let buckets: Vec<Value> = buckets.collect();
    let names = [
        "resource",
        "valid_start",
        "opening",
        "carried",
        "used",
        "value",
        "measure",
    ];
    (columns(accounts, &charged), columns(&buckets, &names))
}

#[test]
fn balances_as_of_an_instant_are_those_of_that_instant() {
    let desk = desk();
    let of = |more: &[&str]| {
        let json: Vec<&str> = more.iter().copied().chain(["--output", "json"]).collect();
        told(&balance(&desk, &json))
    };
    let (charged, buckets) = of(&["acme", "--at", "2026-01-20"]);
    assert_eq!(charged, ["acme 10 0 10 USD"]);
    assert_eq!(
        buckets,
        [
            "minutes 2026-01-01 100 0 80 20 units",
            "spent 2026-01-01 0 0 8 8 money",
            "total 2026-01-01 0 0 80 80 units",
        ]
    );
    // What begins with the instant has begun: the fee, the grant, what was carried over.
    let (charged, buckets) = of(&["acme", "--at", "2026-03-01"]);
    assert_eq!(charged, ["acme 54 3 51 USD"]);
    assert_eq!(
        buckets,
        [
            "minutes 2026-03-01 0 30 0 30 units",
            "minutes 2026-03-01 100 0 0 100 units",
            "spent 2026-03-01 0 0 0 0 money",
            "total 2026-03-01 0 0 0 0 units",
        ]
    );
    // Usage of the instant itself has not happened yet; a moment later it has.
    let (charged, buckets) = of(&["--at", "2026-03-02T00:00:00Z", "--workers", "3"]);
    assert_eq!(charged, ["acme 54 3 51 USD"]);
    assert_eq!(buckets[0], "minutes 2026-03-01 0 30 10 20 units");
    let (charged, buckets) = of(&["--at", "2026-03-02T00:00:01Z"]);
    assert_eq!(charged, ["acme 57 6 51 USD"]);
    assert_eq!(buckets[0], "minutes 2026-03-01 0 30 30 0 units");
    let (charged, buckets) = of(&[]);
    assert_eq!(charged, ["acme 57 6 51 USD"]);
    assert_eq!(buckets.len(), 15);
    assert!(!desk.at("out").exists(), "nothing is written");
}

#[test]
fn balances_are_read_as_a_table_and_unknown_accounts_are_guessed() {
    let desk = desk();
    let shown = balance(&desk, &["acme", "--at", "2026-03-01"]);
    assert_eq!(shown.exit, Exit::Ok);
    assert!(
        shown.out.starts_with(
            "as of 2026-03-01T00:00:00Z\n\nacme is charged 54 USD: 3 for usage, 51 to subscriptions\n\n\
             balance group s1\n"
        ),
        "{}",
        shown.out
    );
    let idle = balance(&desk, &["idle"]);
    assert_eq!(
        idle.out,
        "idle is charged 0 USD: 0 for usage, 0 to subscriptions\n"
    );
    let unknown = balance(&desk, &["akme"]);
    assert_eq!(unknown.exit, Exit::Unusable);
    assert_eq!(
        unknown.err,
        "error: the job has no account \"akme\"; did you mean \"acme\"?\n"
    );
    let undated = balance(&desk, &["acme", "--at", "yesterday"]);
    assert_eq!(undated.exit, Exit::Unusable);
    assert!(
        undated.err.contains("\"yesterday\" is no instant"),
        "{}",
        undated.err
    );
}
