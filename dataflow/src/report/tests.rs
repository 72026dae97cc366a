//! Summaries of runs.

use super::*;
use crate::table::Style;

pub(crate) fn example() -> Summary {
    let money = |amount: &str, rounded: &str| Money {
        currency: "USD".to_owned(),
        amount: amount.to_owned(),
        rounded: rounded.to_owned(),
    };
    let share = |name: &str| Share {
        name: name.to_owned(),
        charges: 30_593,
        quantity: "1234567".to_owned(),
        rate: Some("0.666666666666666666666667".to_owned()),
        money: money("2897.0761824", "2897.08"),
    };
    let file = LedgerRow {
        file: "requests.csv.gz".to_owned(),
        state: "loaded".to_owned(),
        received: 3,
        suspended: 1,
        monetised: 2,
        ..LedgerRow::default()
    };
    Summary {
        job: "llm".to_owned(),
        totals: vec![money("2897.0761824", "2897.08")],
        origins: vec![Origin {
            currency: "USD".to_owned(),
            usage: money("2887.0761824", "2887.08"),
            subscriptions: money("10", "10.00"),
        }],
        notices: vec![NoticeCount {
            percent: Some(80),
            notices: 3,
        }],
        records: RecordCounts {
            received: 3,
            suspended: 1,
            monetised: 2,
            ..RecordCounts::default()
        },
        ties_out: true,
        lines: 1,
        bill_units: vec![BillUnitShare {
            from: "2026-01-01".to_owned(),
            to: "2026-02-01".to_owned(),
            bill_unit_start: "2026-01-01T00:00:00Z".to_owned(),
            bill_unit_end: "2026-02-01T00:00:00Z".to_owned(),
            lines: 1,
            money: money("2897.0761824", "2897.08"),
        }],
        accounts: (0..12).map(|n| share(&format!("team-{n}"))).collect(),
        items: vec![share("input_tokens")],
        grouped_by: vec!["model".to_owned()],
        groups: vec![share("gpt-5 / input_tokens")],
        files: vec![file],
        unread: Vec::new(),
        reasons: vec![ReasonCount {
            reason: "PRICE_NOT_FOUND",
            stage: "rate",
            records: 1,
            hint: "add a price row",
            example: Some("requests.csv.gz line 7".to_owned()),
            detail: None,
            subjects: Vec::new(),
        }],
        unsettled: vec![Unsettled {
            item: "least".to_owned(),
            kind: "true_up",
            account: "acme".to_owned(),
            subscription: "s1".to_owned(),
            cycle_start: "2026-01-01T00:00:00Z".to_owned(),
            cycle_end: "2026-02-01T00:00:00Z".to_owned(),
            reason: "AMOUNT_OUT_OF_RANGE",
            hint: "check the price",
        }],
        out_of_range: Vec::new(),
        held: Vec::new(),
        warnings: Vec::new(),
        outputs: Some("out".to_owned()),
        elapsed_ms: 1200,
        busy_ms: 1200,
        records_per_second: 2,
    }
}

#[test]
fn the_exact_total_stands_beside_the_rounded_one() {
    let text = example().tables(Style::default());
    let total = text.lines().find(|line| line.contains("│ USD")).unwrap();
    assert!(
        total.contains("2,897.08") && total.contains("2897.0761824"),
        "{total}"
    );
    assert!(
        text.contains("… and 2 more") && !text.contains("team-10"),
        "{text}"
    );
    assert!(text.contains("requests.csv.gz line 7") && text.contains("add a price row"));
    assert!(!text.contains('\u{1b}'), "no colour unless asked for");
    let coloured = example().tables(Style {
        colour: true,
        ..Style::default()
    });
    assert!(coloured.contains('\u{1b}'));
}

#[test]
fn subscriptions_stand_apart_from_usage_and_thresholds_are_counted() {
    let mut summary = example();
    let text = summary.tables(Style::default());
    let of = |text: &str, what: &str| {
        let line = text.lines().find(|line| line.contains(what));
        line.map(str::to_owned).unwrap_or_default()
    };
    assert!(of(&text, "┆ usage").contains("2,887.08"), "{text}");
    assert!(of(&text, "┆ subscriptions").contains("10.00"), "{text}");
    assert!(text.contains("3 thresholds crossed: 3 at 80 %"), "{text}");
    (summary.origins, summary.notices) = (vec![], vec![]);
    let text = summary.tables(Style::default());
    assert!(
        !text.contains("By origin") && !text.contains("thresholds"),
        "{text}"
    );
}

#[test]
fn files_are_marked_when_they_tie_out() {
    let mut summary = example();
    assert!(summary.tables(Style::default()).contains('✓'));
    summary.files[0].monetised = 1;
    let text = summary.tables(Style::default());
    assert!(text.contains('✗'), "{text}");
}

#[test]
fn json_keeps_money_as_text() {
    let json: serde_json::Value = serde_json::from_str(&example().json().unwrap()).unwrap();
    assert_eq!(json["totals"][0]["amount"], "2897.0761824");
    assert_eq!(json["records"]["monetised"], 2);
    assert_eq!(json["accounts"][0]["currency"], "USD");
    assert_eq!(json["files"][0]["state"], "loaded");
}

#[test]
fn suspense_and_files_not_taken_whole_are_findings() {
    let mut summary = example();
    assert!(summary.has_findings());
    summary.records.suspended = 0;
    summary.unsettled.clear();
    assert!(!summary.has_findings());
    summary.files[0].state = "followed".to_owned();
    assert!(!summary.has_findings());
    summary.files[0].state = "incomplete".to_owned();
    assert!(summary.has_findings());
}

#[test]
fn rates_are_records_over_time() {
    assert_eq!(per_second(30_593, Duration::from_millis(500)), 61_186);
    assert_eq!(per_second(0, Duration::ZERO), 0);
}
