//! Amounts that can be held and sums that cannot: nothing stops, every digit is told, and whoever
//! reads the outputs learns where they are empty.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace, text};
use serde_json::Value;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
outputs: { aggregated: { json: true } }
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls
    mediation:
      columns: { units: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      charges: { units: units }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: IRR }
  - { id: bolt, currency: IRR }
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [a], from: 2026-01-01 }
  - { id: s2, account: bolt, service_type: voice, services: [b], from: 2026-01-01 }
";

const PRICE: &str = "currency: IRR\nprices: [{ item: units, price: 1 }]\n";

fn desk(catalog: &str) -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", catalog),
        ("accounts.yaml", ACCOUNTS),
    ])
}

/// Calls of the two numbers, cut into files.
fn calls(desk: &Desk, calls: &[(&str, i64)], per_file: usize) {
    for (file, part) in calls.chunks(per_file).enumerate() {
        let rows = part.iter().enumerate().map(|(row, (number, units))| {
            let id = file * per_file + row;
            format!(
                "{id},{number},2026-01-{:02}T00:00:00Z,{units}\n",
                id % 28 + 1
            )
        });
        let text = format!("id,number,at,units\n{}", rows.collect::<String>());
        desk.write(&format!("calls/{file}.csv"), text);
    }
}

fn line_of<'v>(rows: &'v [Value], account: &str) -> &'v Value {
    rows.iter()
        .find(|row| text(row, "account") == account)
        .unwrap()
}

const MUCH: i64 = 90_000_000_000_000;

#[test]
fn a_sum_that_no_column_holds_is_told_exactly_and_stops_nobody() {
    let all = [("a", 5), ("a", MUCH), ("a", MUCH), ("b", 7), ("a", MUCH)];
    let mut outputs = Vec::new();
    for per_file in [1, 2, 5] {
        let desk = desk(PRICE);
        calls(&desk, &all, per_file);
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
        assert_eq!(ended.totals(), ["270000000000012 IRR"]);
        let summary = ended.summary();
        let told = &summary["out_of_range"][0];
        assert_eq!(text(told, "account"), "acme");
        assert_eq!(text(told, "item"), "units");
        assert_eq!(text(told, "amount"), "270000000000005");
        assert_eq!(text(told, "reason"), "AMOUNT_OUT_OF_RANGE");
        assert_eq!(summary["out_of_range"].as_array().unwrap().len(), 1);
        let accounts = summary["accounts"].as_array().unwrap();
        assert_eq!(text(&accounts[0], "amount"), "270000000000005");
        let lines = desk.snapshot("aggregated");
        assert!(line_of(&lines, "acme")["amount"].is_null(), "{lines:?}");
        assert_eq!(
            text(line_of(&lines, "bolt"), "amount"),
            "7.000000000000000000000000"
        );
        outputs.push(lines);
    }
    assert!(outputs.iter().all(|lines| *lines == outputs[0]));
}

#[test]
fn a_record_past_the_range_waits_with_its_row_and_others_are_billed() {
    let desk = desk(PRICE);
    let garbage = 100_000_000_000_000;
    calls(
        &desk,
        &[("a", 5), ("a", garbage), ("a", garbage), ("b", 7)],
        4,
    );
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    assert_eq!(ended.totals(), ["12 IRR"]);
    let summary = ended.summary();
    let reason = &summary["reasons"][0];
    assert_eq!(text(reason, "reason"), "AMOUNT_OUT_OF_RANGE");
    assert_eq!(reason["records"], 2);
    assert_eq!(text(reason, "example"), "0.csv line 3");
    // The advice, followed: the source corrects the quantities.
    calls(&desk, &[("a", 5), ("a", 6), ("a", 7), ("b", 7)], 4);
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert_eq!(ended.totals(), ["25 IRR"]);
}

#[test]
fn a_counter_that_is_full_suspends_what_would_pass_it() {
    let catalog = "\
currency: IRR
plans:
  - accumulators: [{ id: spent, counts: money }]
prices: [{ item: units, price: 1 }]
";
    for per_file in [1, 4] {
        let desk = desk(catalog);
        calls(
            &desk,
            &[("a", 5), ("a", MUCH), ("a", MUCH), ("a", 7)],
            per_file,
        );
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
        // The third by event time does not fit, the fourth does.
        assert_eq!(ended.totals(), [format!("{} IRR", MUCH + 12)]);
        assert_eq!(ended.summary()["records"]["suspended"], 1);
    }
}

#[test]
fn every_power_of_ten_keeps_its_digits_in_every_output() {
    for power in 0..14_u32 {
        let units = 10_i64.pow(power);
        for (units, price) in [
            (units, "1"),
            (units, "0.000000000000000000000001"),
            (1, "1"),
        ] {
            let catalog = PRICE.replace("price: 1", &format!("price: {price}"));
            let desk = desk(&catalog);
            calls(&desk, &[("a", units)], 1);
            let ended = desk.run();
            assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
            let exact = match price {
                "1" => format!("{units}.{}", "0".repeat(24)),
                _ => format!("0.{units:024}"),
            };
            let lines = desk.snapshot("aggregated");
            assert_eq!(text(&lines[0], "amount"), exact);
            let file = std::fs::read_to_string(desk.at("out/aggregated/snapshot.jsonl"));
            let row: Value = file
                .map(|text| serde_json::from_str(text.lines().next().unwrap()).unwrap())
                .unwrap();
            assert_eq!(text(&row, "amount"), exact);
        }
    }
}

#[test]
fn what_a_quotient_loses_is_named_and_never_tips_what_is_displayed() {
    let catalog = "currency: IRR\nprices: [{ item: units, price: 1, per: 12 }]\n";
    let desk = desk(catalog);
    calls(&desk, &[("a", 1); 12], 12);
    let ended = desk.run();
    let summary = ended.summary();
    assert_eq!(ended.totals(), ["0.999999999999999999999996 IRR"]);
    assert_eq!(text(&summary["totals"][0], "rounded"), "1.00");
    let (job, record) = (desk.at("job.yaml"), "0.csv:2");
    let job = job.display().to_string();
    let explained = millrace(&["explain", &job, record]);
    let note = "held half even at the 24th decimal";
    assert!(explained.out.contains(note), "{explained:?}");
    // A twelfth of 18 has an end.
    calls(&desk, &[("a", 18)], 1);
    let explained = millrace(&["explain", &job, record]);
    assert!(!explained.out.contains(note), "{explained:?}");
}
