//! Amounts that can be held and sums that cannot: nothing stops, every digit is told, and whoever
//! reads the outputs learns where they are empty.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace, rows, standing, text};
use serde_json::Value;
use std::collections::BTreeMap;

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

/// Amounts that a column holds, and whose sums none does: of one line, or of the lines of two accounts.
#[test]
fn a_sum_of_two_large_amounts_is_told_exactly() {
    const LARGEST: i64 = 999_999_999_999_999_999;
    let cheap = PRICE.replace("price: 1", "price: 0.0001");
    for (numbers, out_of_range) in [(["a", "a"], 1), (["a", "b"], 0)] {
        for per_file in [1, 2] {
            let desk = desk(&cheap);
            calls(&desk, &numbers.map(|number| (number, LARGEST)), per_file);
            let ended = desk.run();
            let expected = [Exit::Ok, Exit::Findings][out_of_range];
            assert_eq!(ended.exit, expected, "{ended:?}");
            assert_eq!(ended.totals(), ["199999999999999.9998 IRR"]);
            let told = &ended.summary()["out_of_range"];
            assert_eq!(told.as_array().unwrap().len(), out_of_range);
            for row in told.as_array().unwrap() {
                assert_eq!(text(row, "amount"), "199999999999999.9998");
            }
            let job = desk.at("job.yaml").display().to_string();
            for more in [&["bill", &job][..], &["balance", &job, "acme"]] {
                let told = millrace(more);
                assert_ne!(told.exit, Exit::Bug, "{told:?}");
            }
        }
    }
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

/// The powers of ten that an amount may be of.
const POWERS: std::ops::RangeInclusive<i32> = -24..=13;

/// An integer in units of the 24th decimal, without zeros behind the last digit: by hand, from its digits.
fn by_hand(units: u128) -> String {
    let digits = format!("{units:025}");
    let (whole, fraction) = digits.split_at(digits.len() - 24);
    let text = format!("{whole}.{fraction}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn ten_to(power: i32) -> u128 {
    10_u128.pow(u32::try_from(power + 24).unwrap())
}

/// An account for each power of ten: it uses one unit for it and one for the smallest amount, pays a fee of
/// it, and has what it used added up.
fn desk_of_powers() -> Desk {
    let (mut prices, mut plans) = (String::new(), String::new());
    let (mut accounts, mut subscriptions) = (String::new(), String::new());
    let mut usage = "id,number,at,units,size\n".to_owned();
    for power in POWERS {
        let (amount, least) = (by_hand(ten_to(power)), by_hand(1));
        let list = format!("list: \"p{power}\"");
        prices += &format!(
            "  - {{ item: units, {list}, when: {{ size: big }}, price: {amount} }}\n  \
               - {{ item: units, {list}, when: {{ size: least }}, price: {least} }}\n"
        );
        plans += &format!(
            "  - {list}\n    accumulators: [{{ id: spent, counts: money }}]\n    \
                 charges: [{{ item: fee, amount: {amount}, when: advance }}]\n"
        );
        accounts += &format!("  - {{ id: \"a{power}\", currency: IRR }}\n");
        subscriptions += &format!(
            "  - {{ id: \"s{power}\", account: \"a{power}\", price_lists: [\"p{power}\"], \
             service_type: voice, services: [\"n{power}\"], from: 2026-03-01 }}\n"
        );
        for size in ["big", "least"] {
            usage += &format!("{power}{size},n{power},2026-03-10T00:00:00Z,1,{size}\n");
        }
    }
    let forms = ["monetised", "aggregated", "activity", "balances"];
    let forms = forms.map(|output| format!("{output}: {{ json: true }}"));
    let job = JOB
        .replace("clock: 2026-03-01", "clock: 2026-03-20")
        .replace("charges: {", "attributes: { size: size }\n      charges: {")
        .replace(
            "outputs: { aggregated: { json: true } }",
            &format!("outputs: {{ csv: true, {} }}", forms.join(", ")),
        );
    Desk::new(&[
        ("job.yaml", &job),
        (
            "catalog.yaml",
            &format!("currency: IRR\nplans:\n{plans}prices:\n{prices}"),
        ),
        (
            "accounts.yaml",
            &format!("accounts:\n{accounts}subscriptions:\n{subscriptions}"),
        ),
        ("calls/0.csv", &usage),
    ])
}

/// Without the zeros behind the last digit.
fn plain(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// The cells of a line of CSV.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    cells
}

type Amounts = BTreeMap<String, Vec<String>>;

/// The amounts of an output by what a column says, in each form in which it is told.
fn amounts(desk: &Desk, output: &str, by: &str) -> Vec<(&'static str, Amounts)> {
    let gathered = |rows: Vec<Value>| {
        let mut found = Amounts::new();
        for row in rows {
            let amounts = found.entry(text(&row, by).to_owned()).or_default();
            amounts.push(plain(text(&row, "amount")));
        }
        found.values_mut().for_each(|amounts| amounts.sort());
        found
    };
    let read = |form: &str| {
        std::fs::read_to_string(desk.at(&format!("out/{output}/snapshot.{form}"))).unwrap()
    };
    let parsed = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
    let (json, csv) = (read("jsonl"), read("csv"));
    let mut lines = csv.lines().map(cells);
    let names = lines.next().unwrap();
    let place = |name: &str| names.iter().position(|column| *column == name).unwrap();
    let row = |cells: Vec<String>| serde_json::json!({ by: cells[place(by)], "amount": cells[place("amount")] });
    let csv: Vec<Value> = lines.map(row).collect();
    let mut forms = vec![
        ("Parquet", gathered(desk.snapshot(output))),
        ("JSON lines", gathered(json.lines().map(parsed).collect())),
        ("CSV", gathered(csv)),
    ];
    let changes = standing(rows(&desk.at(&format!("out/{output}/changes"))));
    if !changes.is_empty() {
        let changes = changes.keys().map(|row| parsed(row));
        forms.push(("changes", gathered(changes.collect())));
    }
    forms
}

#[test]
fn an_amount_of_every_power_of_ten_is_the_same_wherever_it_is_told() {
    let desk = desk_of_powers();
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    let of = |prefix: &str, amounts: fn(i32) -> Vec<u128>| -> BTreeMap<String, Vec<String>> {
        let of = |power| {
            let mut amounts: Vec<String> = amounts(power).into_iter().map(by_hand).collect();
            amounts.sort();
            (format!("{prefix}{power}"), amounts)
        };
        POWERS.map(of).collect()
    };
    let used = of("a", |power| vec![ten_to(power), 1]);
    let lines = of("a", |power| vec![ten_to(power), ten_to(power) + 1]);
    let fees = of("a", |power| vec![ten_to(power)]);
    // The next month has begun with nothing.
    let spent = of("s", |power| vec![0, ten_to(power) + 1]);
    for (output, key, expected) in [
        ("monetised", "account", &used),
        ("aggregated", "account", &lines),
        ("activity", "account", &fees),
        ("balances", "balance_group", &spent),
    ] {
        for (form, told) in amounts(&desk, output, key) {
            assert_eq!(told, *expected, "{output} as {form}");
        }
    }

    let job = desk.at("job.yaml").display().to_string();
    let json = |arguments: &[&str]| {
        let ended = millrace(&[arguments, &["--output", "json"]].concat());
        assert_eq!(ended.exit, Exit::Ok, "{arguments:?}: {}", ended.err);
        ended.summary()
    };
    let summary = ended.summary();
    let (bills, balances) = (json(&["bill", &job]), json(&["balance", &job]));
    let bill_text = millrace(&["bill", &job]).out;
    let bill_csv = millrace(&["bill", &job, "--output", "csv"]).out;
    let balance_text = millrace(&["balance", &job]).out;
    let mut all = 0;
    for (at, power) in POWERS.enumerate() {
        let account = format!("a{power}");
        let of = |rows: &Value| line_of(rows.as_array().unwrap(), &account).clone();
        let (fee, usage, both) = (ten_to(power), ten_to(power) + 1, 2 * ten_to(power) + 1);
        all += both;
        let mut shares = summary["accounts"].as_array().unwrap().iter();
        let share = shares.find(|share| text(share, "name") == account);
        assert_eq!(text(share.unwrap(), "amount"), by_hand(both));
        let bill = of(&bills["bills"]);
        assert_eq!(text(&bill["lines"][0], "amount"), by_hand(usage));
        assert_eq!(text(&bill["activity"][0], "amount"), by_hand(fee));
        assert_eq!(text(&bill, "exact"), by_hand(both));
        let balance = of(&balances["accounts"]);
        assert_eq!(text(&balance, "charged"), by_hand(both));
        assert_eq!(
            text(&balance["groups"][0]["buckets"][0], "value"),
            by_hand(usage)
        );
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| c.is_whitespace() || c == ',');
            words.map(str::to_owned).collect()
        };
        for (told, amount) in [
            (&bill_text, usage),
            (&bill_text, both),
            (&bill_csv, usage),
            (&bill_csv, fee),
            (&balance_text, both),
        ] {
            let amount = by_hand(amount);
            assert!(words(told).contains(&amount), "{amount}: {told}");
        }
        let record = format!("0.csv:{}", 2 + 2 * at);
        let explained = json(&["explain", &job, &record]);
        let charged = text(&explained["charges"][0], "amount");
        assert_eq!(plain(charged), by_hand(fee));
        let explained = millrace(&["explain", &job, &record]).out;
        assert!(explained.contains(&by_hand(fee)), "{power}: {explained}");
    }
    assert_eq!(ended.totals(), [format!("{} IRR", by_hand(all))]);
    assert_eq!(text(&bills["totals"][0], "exact"), by_hand(all));
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
