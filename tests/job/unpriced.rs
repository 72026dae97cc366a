//! Nothing of an item that has no price costs nothing; anything of it waits.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace, text};
use serde_json::Value;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-12-01
sources:
  - name: gateway
    platform: gateway
    service_type: llm
    path: usage.csv
    mediation:
      columns: { input: bigint, written: bigint, at: timestamp }
      identity: [id]
      service: team
      time: at
      attributes: { model: model }
      charges: { written: written, input: input }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const CATALOG: &str = "\
currency: USD
prices:
  - { item: input, when: { model: plain }, price: 0.5 }
  - { item: written, when: { model: other }, price: 2, to: 2026-02-01 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: red-sub, account: acme, service_type: llm, services: [red] }
";

/// What is charged for a call, or the item that it waits for and why.
type Outcome = Result<&'static str, (&'static str, &'static str)>;

/// Model, instant and quantities, and what comes of them.
const CALLS: &[(&str, Outcome)] = &[
    ("plain,2026-01-05T10:00:00Z,10,0", Ok("5")),
    (
        "plain,2026-01-05T10:00:00Z,10,1",
        Err(("written", "PRICE_NOT_FOUND")),
    ),
    ("plain,2026-01-05T10:00:00Z,0,0", Ok("0")),
    ("other,2026-01-05T10:00:00Z,0,3", Ok("6")),
    (
        "other,2026-01-05T10:00:00Z,4,3",
        Err(("input", "PRICE_NOT_FOUND")),
    ),
    // Out of two items without a price the one that there is something of is told.
    (
        "other,2026-03-05T10:00:00Z,4,0",
        Err(("input", "PRICE_NOT_FOUND")),
    ),
    (
        "other,2026-03-05T10:00:00Z,0,1",
        Err(("written", "PRICE_NOT_EFFECTIVE")),
    ),
    ("other,2026-03-05T10:00:00Z,0,0", Ok("0")),
];

fn desk(catalog: &str) -> Desk {
    let mut usage = "id,team,model,at,input,written\n".to_owned();
    for (number, (call, _)) in CALLS.iter().enumerate() {
        usage.push_str(&format!("{number},red,{call}\n"));
    }
    Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", catalog),
        ("accounts.yaml", ACCOUNTS),
        ("usage.csv", &usage),
    ])
}

fn check(desk: &Desk) {
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    assert_eq!(ended.totals(), ["11 USD"], "{ended:?}");
    assert_eq!(ended.summary()["ties_out"], true, "{ended:?}");
    // The summary names what has no price, how often, and where.
    let reasons = &ended.summary()["reasons"];
    let told = |at: usize, field: &str| reasons[0]["subjects"][at][field].clone();
    assert_eq!(reasons[0]["reason"], "PRICE_NOT_FOUND", "{reasons}");
    assert_eq!(told(0, "item"), "input", "{reasons}");
    assert_eq!(told(0, "attributes")["model"], "other", "{reasons}");
    assert_eq!(told(0, "records"), 2, "{reasons}");
    assert_eq!(told(1, "item"), "written", "{reasons}");
    let example = told(1, "example");
    assert!(
        example.as_str().unwrap().starts_with("usage.csv "),
        "{example}"
    );
    let (charges, suspense) = (desk.snapshot("monetised"), desk.snapshot("suspense"));
    for (row, (call, expected)) in CALLS.iter().enumerate() {
        let of_row = |found: &&Value| found["row"].as_u64() == u64::try_from(row).ok();
        let charges: Vec<&Value> = charges.iter().filter(of_row).collect();
        let waits: Vec<&Value> = suspense.iter().filter(of_row).collect();
        match expected {
            Ok(amount) => {
                let amount_of = |charge: &&Value| text(charge, "amount").parse::<f64>().unwrap();
                let total: f64 = charges.iter().map(amount_of).sum();
                assert_eq!(total.to_string(), *amount, "{call}: {charges:?}");
                assert_eq!((charges.len(), waits.len()), (2, 0), "{call}");
            }
            Err((item, reason)) => {
                assert_eq!((charges.len(), waits.len()), (0, 1), "{call}");
                let told = (text(waits[0], "item"), text(waits[0], "reason"));
                assert_eq!(told, (*item, *reason), "{call}");
            }
        }
    }
}

#[test]
fn nothing_of_an_unpriced_item_costs_nothing_and_something_waits() {
    check(&desk(CATALOG));
}

#[test]
fn it_is_so_where_usage_is_charged_in_order() {
    let plan =
        "plans:\n  - accumulators: [{ id: spent, counts: money, items: [input, written] }]\n";
    let desk = desk(&format!("{CATALOG}{plan}"));
    desk.write(
        "accounts.yaml",
        ACCOUNTS.replace("account: acme,", "account: acme, from: 2026-01-01,"),
    );
    check(&desk);
}

#[test]
fn a_quote_and_an_explanation_agree() {
    let desk = desk(CATALOG);
    let at = |name: &str| desk.at(name).display().to_string();
    let (job, usage) = (at("job.yaml"), at("usage.csv"));
    let quoted = millrace(&["quote", "--job", &job, "--output", "json", &usage]);
    let quoted = quoted.summary();
    assert_eq!(quoted["totals"]["USD"], "11", "{quoted}");
    let lines = quoted["lines"].as_array().unwrap();
    let refused = lines.iter().filter(|line| !line["reason"].is_null());
    assert_eq!(refused.count(), 4, "{quoted}");
    let free = lines
        .iter()
        .find(|line| line["row"] == 1 && line["item"] == "written");
    assert_eq!(free.unwrap()["price"], Value::Null, "{quoted}");

    let told = millrace(&["explain", &job, "0:0"]);
    assert_eq!(told.exit, Exit::Ok, "{told:?}");
    assert!(
        told.out.contains("there is nothing of the item"),
        "{told:?}"
    );
    let told = millrace(&["explain", &job, "0:1", "--output", "json"]);
    let prices = &told.summary()["prices"];
    assert_eq!(prices[0]["reason"], "PRICE_NOT_FOUND", "{prices}");
}
