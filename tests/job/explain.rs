//! The life of a record as `millrace explain` tells it: what it met, who lost and why, and what it
//! costs. Golden texts are reviewed as a person would read them.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace};
use serde_json::Value;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-01
sources:
  - { name: switch, platform: switch, service_type: voice, path: usage, mediation: mediation.yaml }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const MEDIATION: &str = "\
columns: { calls: bigint, at: timestamp }
where: calls > 0
identity: [id]
service: number
time: at
attributes: { zone: zone }
charges: { calls: calls }
";

const CATALOG: &str = "\
currency: USD
prices:
  - { item: calls, price: 0.10 }
  - { item: calls, when: { zone: far }, price: 0.20, to: 2026-02-01 }
  - { item: calls, when: { zone: far }, price: 0.25, from: 2026-02-01 }
  - { item: calls, when: { zone: home }, price: 0.05 }
  - { item: calls, list: partners, price: 0.01 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: old, account: acme, status: closed, services: [{ type: voice, id: \"+1\" }] }
  - { id: new, account: acme, services: [{ type: voice, id: \"+1\" }] }
";

const CALLS: &str = "\
id,number,at,zone,calls
1,+1,2026-01-05T10:00:00Z,far,3
2,+1,2026-02-05T10:00:00Z,far,3
2,+1,2026-02-05T10:00:00Z,far,3
3,+2,2026-02-05T10:00:00Z,far,3
4,+1,2026-02-05T10:00:00Z,far,0
5,+1,2026-02-05T10:00:00Z,far,many
";

/// The worked example of ALLEGRO 2.3: 100 calls, 40 at 1 and the rest at 0.50, 90 included.
const PLAN: &str = "\
currency: USD
plans:
  - allowances: [{ id: included, units: 90, items: [calls] }]
    accumulators: [{ id: total, items: [calls] }]
prices:
  - { item: calls, model: graduated, by: total, tiers: [{ price: 1 }, { from: 40, price: 0.5 }] }
";

const PLAN_ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: phone, account: acme, from: 2026-01-01, services: [{ type: voice, id: \"+1\" }] }
";

fn desk(catalog: &str, accounts: &str, calls: &str) -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", catalog),
        ("accounts.yaml", accounts),
        ("usage/calls.csv", calls),
    ])
}

fn calls() -> Desk {
    desk(CATALOG, ACCOUNTS, CALLS)
}

fn explain(desk: &Desk, record: &str, more: &[&str]) -> Ended {
    let job = desk.at("job.yaml").display().to_string();
    let words = ["explain", &job, record, "--workers", "2"];
    let words: Vec<&str> = words.iter().chain(more).copied().collect();
    millrace(&words)
}

fn json(desk: &Desk, record: &str) -> Value {
    let ended = explain(desk, record, &["--output", "json"]);
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn golden(name: &str, ended: &Ended, exit: Exit) {
    assert_eq!(ended.exit, exit, "{ended:?}");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(format!("explain_{name}"), ended.out);
    });
}

/// The verdict on each candidate, by name.
fn verdicts(candidates: &Value, name: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let candidates = candidates.as_array().unwrap().iter();
    candidates
        .map(|candidate| (text(&candidate[name]), text(&candidate["verdict"])))
        .collect()
}

#[test]
fn a_job_of_another_zone_is_told_in_utc_and_says_so() {
    let desk = calls();
    let said = |desk: &Desk| explain(desk, "calls.csv:2", &[]).out;
    let told =
        "instants are in UTC; days, months and bill units begin at midnight in Europe/Prague";
    assert!(!said(&desk).contains("instants are in"));
    desk.write("job.yaml", JOB.replace("UTC", "Europe/Prague"));
    assert!(said(&desk).contains(told), "{}", said(&desk));
}

#[test]
fn a_model_call_of_the_example() {
    let job = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/llm/job.yaml");
    let ended = millrace(&["explain", job, "requests.csv.gz:3", "--workers", "2"]);
    golden("model_call", &ended, Exit::Ok);
}

#[test]
fn a_record_charged_in_order_meets_its_allowance_and_tiers() {
    let calls = "id,number,at,zone,calls\n1,+1,2026-01-05T10:00:00Z,home,100\n";
    let desk = desk(PLAN, PLAN_ACCOUNTS, calls);
    golden("plan", &explain(&desk, "calls.csv:2", &[]), Exit::Ok);
    let told = json(&desk, "0:0");
    assert_eq!(told["charges"][0]["amount"], "5.000000000000000000000000");
    let balances = &told["balances"];
    let moved = |at: usize| {
        (
            balances[at]["before"].clone(),
            balances[at]["after"].clone(),
        )
    };
    assert_eq!(moved(0), ("90".into(), "0".into()), "the allowance");
    assert_eq!(moved(1), ("0".into(), "100".into()), "the accumulator");
}

#[test]
fn a_later_record_meets_what_the_earlier_ones_left() {
    let calls = "id,number,at,zone,calls\n\
        2,+1,2026-01-06T10:00:00Z,home,10\n\
        1,+1,2026-01-05T10:00:00Z,home,85\n";
    let told = json(&desk(PLAN, PLAN_ACCOUNTS, calls), "calls.csv:2");
    // 5 of 90 are left, and the record is all in the second tier.
    assert_eq!(told["balances"][0]["before"], "5");
    assert_eq!(told["charges"][0]["displayed"], "2.50");
    let tiers: Vec<&Value> = told["charges"][0]["impacts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|impact| impact["kind"] == "price")
        .map(|impact| &impact["tier"]["tier"])
        .collect();
    assert_eq!(tiers, [2]);
}

#[test]
fn losers_have_their_reasons() {
    let desk = calls();
    let told = json(&desk, "calls.csv:3");
    let expected = [
        ("new", "chosen: in force and active"),
        ("old", "SUBSCRIPTION_NOT_ACTIVE"),
    ];
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        pairs.iter().map(owned).collect()
    };
    let guide = &told["guide"]["candidates"];
    assert_eq!(verdicts(guide, "subscription"), owned(&expected));
    let prices = verdicts(&told["prices"][0]["candidates"], "valid");
    let verdicts: Vec<&str> = prices.iter().map(|(_, verdict)| verdict.as_str()).collect();
    let expected = [
        "chosen: most conditions",
        "fewer conditions",
        "not in force at the time",
        "the record has zone = far",
        "list not of the subscription",
    ];
    assert_eq!(verdicts, expected);
    assert_eq!(prices[0].0, "from 2026-02-01T00:00:00Z");
    assert_eq!(told["charges"][0]["displayed"], "0.75");
    // An earlier record has the other version.
    assert_eq!(
        json(&desk, "calls.csv:2")["charges"][0]["displayed"],
        "0.60"
    );
}

#[test]
fn a_suspended_record_says_why_and_what_to_do() {
    let desk = calls();
    golden(
        "suspended",
        &explain(&desk, "calls.csv:5", &[]),
        Exit::Findings,
    );
    // With a service but without a price.
    let prices = "currency: USD\nprices:\n  - { item: calls, when: { zone: home }, price: 1 }\n";
    desk.write("catalog.yaml", prices);
    let told = json(&desk, "calls.csv:3");
    assert_eq!(told["status"], "pending");
    assert_eq!(told["reason"]["code"], "PRICE_NOT_FOUND");
    assert_eq!(told["reason"]["item"], "calls");
    assert_eq!(
        told["prices"][0]["candidates"][0]["verdict"],
        "the record has zone = far"
    );
    assert_eq!(told["charges"], Value::Array(Vec::new()));
}

#[test]
fn a_duplicate_names_the_record_that_came_first() {
    let desk = calls();
    golden(
        "duplicate",
        &explain(&desk, "calls.csv:4", &[]),
        Exit::Findings,
    );
    assert_eq!(json(&desk, "calls.csv:4")["duplicate_of"], "calls.csv:3");
    assert_eq!(json(&desk, "calls.csv:3")["duplicate_of"], Value::Null);
}

#[test]
fn records_that_mediation_stops_or_leaves_out_are_told_too() {
    let desk = calls();
    let ended = explain(&desk, "calls.csv:6", &[]);
    assert_eq!(ended.exit, Exit::Ok);
    assert!(
        ended.out.contains("calls.csv:6 is IGNORED"),
        "{}",
        ended.out
    );
    let told = json(&desk, "calls.csv:7");
    assert_eq!(told["code"], "FIELD_UNPARSABLE");
    assert_eq!(told["reason"]["field"], "calls");
    assert_eq!(told["raw"]["fields"]["calls"], "many");
    assert_eq!(told["raw"]["line"], 7);
}

#[test]
fn the_line_is_the_one_of_the_outputs_and_nothing_is_written() {
    let desk = calls();
    let told = json(&desk, "calls.csv:3");
    assert!(!desk.at("out").exists());
    assert_eq!(desk.run().exit, Exit::Findings);
    let line = &told["charges"][0]["line"];
    let lines = desk.snapshot("aggregated");
    let same = lines
        .iter()
        .find(|row| row["aggregate_id"] == line["aggregate_id"]);
    assert_eq!(same.unwrap()["charges"], line["charges"]);
    let charges = desk.snapshot("monetised");
    let same = charges.iter().find(|row| row["row"] == 1).unwrap();
    assert_eq!(same["aggregate_id"], line["aggregate_id"]);
    // What a run has written stays.
    let before = desk.snapshot("monetised");
    json(&desk, "calls.csv:3");
    assert_eq!(desk.snapshot("monetised"), before);
}

#[test]
fn json_records_keep_their_digits() {
    let desk = calls();
    let number = "0.12345678901234567890123456789";
    let record = format!(
        "{{\"id\": 9, \"number\": \"+1\", \"at\": \"2026-02-05T10:00:00Z\", \"zone\": \"far\", \
        \"calls\": 1, \"cost\": {number}}}\n"
    );
    desk.write("usage/more.jsonl", record);
    let ended = explain(&desk, "more.jsonl:1", &["--output", "json"]);
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert!(ended.out.contains(number), "{}", ended.out);
}

#[test]
fn an_unknown_record_is_refused_with_the_nearest_name() {
    let desk = calls();
    for (record, expected) in [
        ("call.csv:3", "did you mean \"calls.csv\"?"),
        ("calls.csv:8", "did you mean calls.csv:7, the last?"),
        ("7:1", "the job has one file, \"calls.csv\""),
        ("calls.csv", "write <file>:<line>"),
        ("calls.csv:x", "does not end with a line or row"),
    ] {
        let ended = explain(&desk, record, &[]);
        assert_eq!(ended.exit, Exit::Unusable, "{record}");
        assert!(ended.err.contains(expected), "{record}: {}", ended.err);
        assert_eq!(ended.out, "", "{record}");
    }
}

#[test]
fn rows_far_from_the_price_are_counted_unless_all_are_asked_for() {
    let more: String = (0..9)
        .map(|zone| format!("  - {{ item: calls, when: {{ zone: z{zone} }}, price: 1 }}\n"))
        .collect();
    let desk = desk(&format!("{CATALOG}{more}"), ACCOUNTS, CALLS);
    let prices = &json(&desk, "calls.csv:3")["prices"][0];
    assert_eq!(prices["more_with_other_conditions"], 7);
    let all = explain(&desk, "calls.csv:3", &["--all"]);
    for zone in 0..9 {
        assert!(all.out.contains(&format!("zone = z{zone}")), "{}", all.out);
    }
}

#[test]
fn colours_are_for_terminals() {
    let desk = calls();
    assert!(!explain(&desk, "calls.csv:3", &[]).out.contains('\u{1b}'));
    let coloured = explain(&desk, "calls.csv:3", &["--color", "always"]);
    assert!(
        coloured.out.contains("\u{1b}[1mSubscription"),
        "{}",
        coloured.out
    );
}
