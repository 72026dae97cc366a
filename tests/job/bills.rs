//! `millrace bill`: what each account is billed, and that it is what the run says.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace, text};
use serde_json::Value;

const JOB: &str = "\
name: calls
time_zone: Europe/Prague
clock: 2026-03-20
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls.csv
    mediation:
      columns: { seconds: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      attributes: { zone: zone }
      charges: { seconds: seconds }
catalog: [catalog.yaml, yen.yaml]
accounts: [accounts.yaml]
billing: { aggregate_by: [zone] }
";

const CATALOG: &str = "\
currency: EUR
plans:
  - list: standard
    charges:
      - { item: fee, amount: 9.999, when: advance }
prices:
  - { item: seconds, price: 0.0033 }
";

const YEN: &str = "\
currency: JPY
plans:
  - list: yen
    charges:
      - { item: fee, amount: 100.4, when: advance }
prices:
  - { item: seconds, list: yen, price: 0.3 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: \"=acme\", currency: EUR }
  - { id: tokyo, currency: JPY }
  - { id: silent, currency: EUR }
subscriptions:
  - { id: acme-voice, account: \"=acme\", price_lists: [standard], from: 2026-01-15, service_type: voice, services: [\"+420\"] }
  - { id: tokyo-voice, account: tokyo, price_lists: [yen], from: 2026-02-01, service_type: voice, services: [\"+81\"] }
";

const CALLS: &str = "\
id,number,at,zone,seconds
1,+420,2026-01-20T10:00:00Z,home,7
2,+420,2026-02-10T11:00:00Z,far,61
3,+420,2026-02-28T23:30:00Z,home,1
4,+81,2026-02-10T11:00:00Z,-1+2,5
";

fn desk(calls: &str, more: &str) -> Desk {
    let job = format!("{JOB}{more}");
    Desk::new(&[
        ("job.yaml", &job),
        ("catalog.yaml", CATALOG),
        ("yen.yaml", YEN),
        ("accounts.yaml", ACCOUNTS),
        ("calls.csv", calls),
    ])
}

fn bills(desk: &Desk, more: &[&str]) -> Value {
    let job = desk.at("job.yaml").display().to_string();
    let arguments = ["bill", &job, "--output", "json"];
    let arguments: Vec<&str> = arguments.into_iter().chain(more.iter().copied()).collect();
    let ended = millrace(&arguments);
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.err);
    serde_json::from_str(&ended.out).unwrap()
}

/// `account from exact rounding total` of each bill.
fn told(bills: &Value) -> Vec<String> {
    let bills = bills["bills"].as_array().unwrap().iter();
    let told = |bill: &Value| {
        ["account", "from", "exact", "rounding", "total"]
            .map(|key| text(bill, key))
            .join(" ")
    };
    bills.map(told).collect()
}

#[test]
fn bills_are_the_lines_of_each_account_and_month_and_rounded_once() {
    let desk = desk(CALLS, "");
    let run = desk.run();
    assert_eq!(run.exit, Exit::Ok, "{}", run.err);
    let all = bills(&desk, &[]);
    // A call at half past midnight of March in Prague is of March; fees are of half a January.
    assert_eq!(
        told(&all),
        [
            "=acme 2026-01-01 5.506422580645161290322581 0.003577419354838709677419 5.51",
            "=acme 2026-02-01 10.2003 -0.0003 10.20",
            "=acme 2026-03-01 10.0023 -0.0023 10.00",
            "tokyo 2026-02-01 101.9 0.1 102",
            "tokyo 2026-03-01 100.4 -0.4 100",
        ]
    );
    let february = &all["bills"][1];
    assert_eq!(text(&february["lines"][0], "item"), "seconds");
    assert_eq!(
        february["lines"][0]["grouped_by"],
        serde_json::json!(["far"])
    );
    assert_eq!(text(&february["lines"][0], "quantity"), "61");
    assert_eq!(text(&february["lines"][0], "rate"), "0.0033");
    assert_eq!(text(&february["lines"][0], "amount"), "0.2013");
    assert_eq!(text(&february["activity"][0], "kind"), "forward_recurring");
    assert_eq!(text(&february["activity"][0], "amount"), "9.999");
    assert_eq!(text(&february["activity"][0], "from"), "2026-02-01");
    assert_eq!(february["currency"], "EUR");
    // The same money as the summary of the run, and as its months.
    assert_eq!(all["summary"], run.summary()["totals"]);
    let summary = run.summary();
    let months = summary["bill_units"].as_array().unwrap().iter();
    let months = months.map(|month| format!("{} {}", text(month, "from"), text(month, "amount")));
    let expected = [
        "2026-01-01 5.506422580645161290322581",
        "2026-02-01 10.2003",
        "2026-02-01 101.9",
        "2026-03-01 10.0023",
        "2026-03-01 100.4",
    ];
    let mut months: Vec<String> = months.collect();
    months.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(months, expected);
}

#[test]
fn an_account_and_a_period_choose_bills() {
    let desk = desk(CALLS, "");
    assert_eq!(
        told(&bills(&desk, &["=acme", "--period", "2026-02"])).len(),
        1
    );
    assert_eq!(told(&bills(&desk, &["--period", "2026-02"])).len(), 2);
    assert_eq!(told(&bills(&desk, &["--period", "2026-01-15"])).len(), 1);
    assert_eq!(told(&bills(&desk, &["--period", "2026"])).len(), 5);
    assert_eq!(told(&bills(&desk, &["silent"])).len(), 0);
    let job = desk.at("job.yaml").display().to_string();
    let none = millrace(&["bill", &job, "tokyo", "--period", "2026-01"]);
    assert_eq!(none.exit, Exit::Ok, "{}", none.err);
    assert!(
        none.out
            .contains("no bill unit of that period; there are 2 from 2026-02-01 to 2026-03-01"),
        "{}",
        none.out
    );
    for (more, expected) in [
        (
            &["tokio"][..],
            "the job has no account \"tokio\"; did you mean \"tokyo\"?",
        ),
        (
            &["--period", "march"],
            "\"march\" is no period; write a month, 2026-03",
        ),
    ] {
        let arguments: Vec<&str> = ["bill", &job]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        let ended = millrace(&arguments);
        assert_eq!((ended.exit, &*ended.out), (Exit::Unusable, ""), "{more:?}");
        assert!(ended.err.contains(expected), "{}", ended.err);
    }
}

#[test]
fn text_says_that_it_ties_out_and_where_it_is_from() {
    let desk = desk(CALLS, "");
    let job = desk.at("job.yaml").display().to_string();
    let ended = millrace(&["bill", &job]);
    for expected in [
        "calls: from the job's files, read and priced now",
        "=acme, 2026-02-01 – 2026-03-01, EUR",
        "exact 10.2003, rounding -0.0003, total 10.20 EUR",
        "the summary of the run says 25.709022580645161290322581 EUR: ties out ✓",
        "2 bills in JPY: exact 202.3, rounding -0.3, total 202 JPY",
    ] {
        assert!(
            ended.out.contains(expected),
            "{expected} is not in\n{}",
            ended.out
        );
    }
}

#[test]
fn a_durable_job_is_asked_for_what_it_has_committed() {
    let desk = desk(CALLS, "durability: { folder: state }\n");
    assert_eq!(desk.run().exit, Exit::Ok);
    // What came since is not committed yet.
    desk.write(
        "calls.csv",
        format!("{CALLS}5,+420,2026-02-11T11:00:00Z,far,1000\n"),
    );
    let all = bills(&desk, &["=acme", "--period", "2026-02"]);
    assert_eq!(told(&all), ["=acme 2026-02-01 10.2003 -0.0003 10.20"]);
    assert!(text(&all, "source").starts_with("commit "), "{all}");
}

#[test]
fn records_on_no_bill_are_told_and_end_with_1() {
    let desk = desk(
        &format!("{CALLS}5,+999,2026-02-11T11:00:00Z,far,1000\n"),
        "",
    );
    let job = desk.at("job.yaml").display().to_string();
    let ended = millrace(&["bill", &job]);
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    assert!(
        ended.out.contains("on no bill: 1 × SERVICE_UNKNOWN"),
        "{}",
        ended.out
    );
}

/// The rows of CSV text.
fn cells(csv: &str) -> Vec<Vec<String>> {
    let row = |line: &str| line.split(',').map(str::to_owned).collect();
    csv.lines().map(row).collect()
}

#[test]
fn csv_adds_up_to_what_is_paid_and_holds_no_formula() {
    let desk = desk(CALLS, "outputs: { csv: true, ledger: { csv: false } }\n");
    let job = desk.at("job.yaml").display().to_string();
    let csv = millrace(&["bill", &job, "--output", "csv"]).out;
    let rows = cells(&csv);
    assert_eq!(
        rows[0].join(","),
        "account,bill_unit_start,bill_unit_end,kind,item,zone,aggregate_id,charges,quantity,rate,amount,currency"
    );
    let sum = |account: &str, start: &str| {
        let rows = rows
            .iter()
            .filter(|row| row[0] == account && row[1] == start);
        // The amounts of a test are short enough for that.
        rows.map(|row| row[10].parse::<f64>().unwrap()).sum::<f64>()
    };
    assert!(
        (sum("'=acme", "2026-02-01T00:00:00+01:00") - 10.20).abs() < 1e-9,
        "{csv}"
    );
    assert!(
        (sum("tokyo", "2026-02-01T00:00:00+01:00") - 102.0).abs() < 1e-9,
        "{csv}"
    );
    // Where clocks are set forward, the offset is that of the end.
    assert!(
        csv.contains(",2026-03-01T00:00:00+01:00,2026-04-01T00:00:00+02:00,"),
        "{csv}"
    );
    assert!(
        csv.contains("\n'=acme,") && csv.contains(",'-1+2,"),
        "{csv}"
    );

    assert_eq!(desk.run().exit, Exit::Ok);
    let read = |name: &str| std::fs::read_to_string(desk.at(&format!("out/{name}/snapshot.csv")));
    let lines = read("aggregated").unwrap();
    assert_eq!(
        lines.lines().next().unwrap(),
        "aggregate_id,account,bill_unit_start,bill_unit_end,item,zone,charges,quantity,rate,amount,currency"
    );
    assert!(
        lines.contains(
            ",'=acme,2026-01-31T23:00:00Z,2026-02-28T23:00:00Z,seconds,far,1,61,0.0033,0.2013,EUR"
        ),
        "{lines}"
    );
    for name in ["monetised", "suspense", "activity", "raw_status"] {
        assert!(read(name).unwrap().lines().count() > 0, "{name}");
    }
    assert_eq!(read("monetised").unwrap().lines().count(), 5);
    assert!(read("ledger").is_err(), "this one is told not to");
    // What is not asked for any more is not left behind.
    desk.write("job.yaml", JOB);
    assert_eq!(desk.run().exit, Exit::Ok);
    assert!(read("aggregated").is_err());
}

#[test]
fn every_command_says_what_it_ends_with() {
    for command in [
        &["--help"][..],
        &["init", "--help"],
        &["run", "--help"],
        &["bill", "--help"],
        &["cluster", "run", "--help"],
        &["quote", "--help"],
        &["explain", "--help"],
        &["balance", "--help"],
        &["replay", "--help"],
        &["status", "--help"],
        &["discard", "--help"],
        &["check", "--help"],
        &["query", "--help"],
    ] {
        let ended = millrace(command);
        assert_eq!(ended.exit, Exit::Ok);
        for code in [
            "Exit codes:",
            "\n  0 ",
            "\n  1 ",
            "\n  2 ",
            "\n  3 ",
            "\n  101 ",
            "\n  130 ",
        ] {
            assert!(
                ended.out.contains(code),
                "{command:?}: {code:?}\n{}",
                ended.out
            );
        }
    }
}
