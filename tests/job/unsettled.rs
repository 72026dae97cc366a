//! A commitment and a volume price whose amounts cannot be computed: nothing is charged, and whoever
//! reads the summary or the outputs sees what, when, why and what to do.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace, standing, text};
use serde_json::{Value, json};

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls.csv
    mediation:
      columns: { calls: bigint, at: timestamp, minutes: { type: bigint, may_be: absent } }
      identity: [id]
      service: number
      time: at
      charges: { calls: calls, minutes: minutes }
";

/// Three members commit to 180 trillion together, and three calls cost as much: amounts end before.
const CATALOG: &str = "\
currency: USD
plans:
  - list: gold
    from: 2026-01-01
    to: 2026-02-01
    accumulators:
      - { id: total, items: [calls] }
      - { id: spent, counts: money, items: [minutes] }
    commitments:
      - { id: least, accumulator: spent, counts: money, amount: 60000000000000 }
prices:
  - { id: call, list: gold, item: calls, model: volume, by: total,
      tiers: [{ price: 60000000000000 }] }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: s1, account: acme, service_type: voice, price_lists: [gold], services: [n1],
      from: 2026-01-01, group: family }
  - { id: s2, account: acme, service_type: voice, price_lists: [gold], services: [n2],
      from: 2026-01-01, group: family }
  - { id: s3, account: acme, service_type: voice, price_lists: [gold], services: [n3],
      from: 2026-01-01, group: family }
";

const CALLS: &str = "id,number,at,calls\n1,n1,2026-01-05T00:00:00Z,3\n";

fn desk() -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("calls.csv", CALLS),
    ])
}

#[test]
fn what_cannot_be_charged_is_told_in_summary_and_outputs() {
    let desk = desk();
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    let hint = "correct the quantity at the source, or the price; amounts end at 100 trillion";
    let waits = |item: &str, kind: &str| {
        json!({
            "item": item,
            "kind": kind,
            "account": "acme",
            "subscription": text(&ended.summary()["unsettled"][0], "subscription"),
            "cycle_start": "2026-01-01T00:00:00Z",
            "cycle_end": "2026-02-01T00:00:00Z",
            "reason": "AMOUNT_OUT_OF_RANGE",
            "hint": hint,
        })
    };
    let mut told = ended.summary()["unsettled"].as_array().unwrap().clone();
    told.sort_by_key(|row| text(row, "item").to_owned());
    assert_eq!(told, [waits("calls", "volume"), waits("least", "true_up")]);

    let job = desk.at("job.yaml").display().to_string();
    let shown = millrace(&["run", &job]).out;
    let table = shown.split("Not charged\n").nth(1).unwrap_or_default();
    for expected in ["least", "true_up", "AMOUNT_OUT_OF_RANGE", hint] {
        assert!(table.contains(expected), "{expected} is not in\n{shown}");
    }

    let activity = desk.snapshot("activity");
    let mut why: Vec<String> = activity
        .iter()
        .map(|row| {
            format!(
                "{} {} {}",
                text(row, "kind"),
                text(row, "reason"),
                text(row, "hint")
            )
        })
        .collect();
    why.sort();
    let expected = ["true_up", "volume"].map(|kind| format!("{kind} AMOUNT_OUT_OF_RANGE {hint}"));
    assert_eq!(why, expected);
    assert_eq!(
        standing(millrace_tests::jobs::rows(&desk.at("out/activity/changes"))),
        standing(activity)
    );
}

#[test]
fn what_is_corrected_is_charged() {
    let desk = desk();
    desk.write("catalog.yaml", CATALOG.replace("60000000000000", "10"));
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert_eq!(ended.totals(), ["60 USD"]);
    assert_eq!(ended.summary()["unsettled"], Value::Array(Vec::new()));
    assert!(
        desk.snapshot("activity")
            .iter()
            .all(|row| row["reason"].is_null())
    );
}
