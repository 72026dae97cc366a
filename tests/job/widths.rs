//! Tables on terminals of the usual widths: long names and large numbers, whatever the command.

use millrace::cli::{Exit, main_with};
use millrace::console::{Console, Surroundings, Talk};
use millrace_tests::jobs::{Desk, Ended, millrace};
use std::ffi::OsString;

const WIDTHS: [usize; 3] = [60, 80, 120];

const JOB: &str = "\
name: wide
time_zone: Europe/Prague
clock: 2026-03-20
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls-of-a-switch-with-a-very-long-name-in-a-far-country.csv
    mediation:
      columns: { seconds: \"decimal(20,6)\", at: timestamp }
      identity: [id]
      service: number
      time: at
      attributes: { zone: zone }
      charges: { seconds_of_calls_to_numbers_abroad: seconds }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
billing: { aggregate_by: [zone, subscription] }
";

const CATALOG: &str = "\
currency: EUR
plans:
  - list: standard
    allowances:
      - { id: seconds-that-are-free-of-charge-in-every-month, units: 123456789.123456, items: [seconds_of_calls_to_numbers_abroad] }
    charges:
      - { item: fee-of-the-subscription, amount: 1234567.891234, when: advance }
prices:
  - { item: seconds_of_calls_to_numbers_abroad, when: { zone: home }, price: 0.000000000000000000001 }
  - { item: seconds_of_calls_to_numbers_abroad, when: { zone: a-zone-with-a-name-that-is-longer-than-others }, price: 77.05 }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: \"the-account-of-a-department-with-a-very-long-name-0123456789\", currency: EUR }
subscriptions:
  - { id: a-subscription-with-a-long-name-0000000001, account: \"the-account-of-a-department-with-a-very-long-name-0123456789\", price_lists: [standard], from: 2026-01-01, service_type: voice, services: [\"+420123456789\"] }
";

const CALLS: &str = "\
id,number,at,zone,seconds
1,+420123456789,2026-01-05T10:00:00Z,home,123456789012.345678
2,+420123456789,2026-02-05T11:00:00Z,a-zone-with-a-name-that-is-longer-than-others,9876543210.123456
3,+420123456789,2026-02-05T12:00:00Z,mars,60
4,+421,2026-02-05T12:00:00Z,home,60
5,+420123456789,2026-02-05T12:00:00Z,\"h\u{1b}[31mo\u{202e}me\",60
";

const FILE: &str = "calls-of-a-switch-with-a-very-long-name-in-a-far-country.csv";

fn desk() -> Desk {
    Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        (FILE, CALLS),
    ])
}

/// What a command prints on a terminal of a width; any where there is none.
fn printed(arguments: &[&str], width: Option<usize>) -> String {
    let mut out = Vec::new();
    let surroundings = Surroundings {
        width,
        ..Surroundings::default()
    };
    let words = ["millrace"].iter().chain(arguments).map(OsString::from);
    let (talk, kept) = Talk::kept();
    main_with(words, &mut Console::new(&mut out, talk, surroundings));
    let said = String::from_utf8(kept.lock().unwrap().clone()).unwrap();
    assert!(!out.is_empty(), "{arguments:?}: {said}");
    String::from_utf8(out).unwrap()
}

/// Digits with what joins them, of four digits and more: parts of longer ones would be found.
fn numbers(text: &str) -> Vec<&str> {
    let joined = |c: char| !(c.is_ascii_digit() || matches!(c, '.' | ','));
    let found = text
        .split(joined)
        .map(|number| number.trim_matches(['.', ',']));
    found.filter(|number| number.len() >= 4).collect()
}

#[test]
fn no_number_is_broken_and_nothing_is_wider_than_the_terminal() {
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    let record = format!("{FILE}:3");
    let usage = desk.at("usage.csv").display().to_string();
    let rows = "item,quantity,zone\nseconds_of_calls_to_numbers_abroad,9876543210.123456,a-zone-with-a-name-that-is-longer-than-others\nseconds_of_calls_to_numbers_abroad,1,mars\n";
    desk.write("usage.csv", rows);
    let catalog = desk.at("catalog.yaml").display().to_string();
    let commands: [&[&str]; 6] = [
        &["run", &job],
        &["bill", &job],
        &["balance", &job],
        &["explain", &job, &record],
        &["quote", &usage, "--catalog", &catalog],
        &[
            "query",
            &job,
            "SELECT account, quantity, amount FROM aggregated",
        ],
    ];
    for arguments in commands {
        // Columns may go and texts be wrapped, but what is a number there is one here.
        let free = printed(arguments, None);
        let whole = numbers(&free);
        for width in WIDTHS {
            let text = printed(arguments, Some(width));
            for line in text.lines() {
                let wide = line.chars().count();
                assert!(wide <= width, "{wide} of {width}: {line}\n{text}");
            }
            let time_taken = |line: &&str| line.contains(" records/s");
            let lines = text.lines().filter(|line| !time_taken(line));
            for number in lines.flat_map(numbers) {
                let is_whole = whole.contains(&number);
                assert!(
                    is_whole,
                    "{number} of {arguments:?} at {width}:\n{text}\n{free}"
                );
            }
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{7f}']), "{text:?}");
        }
    }
}

#[test]
fn the_main_amounts_are_there_at_every_width() {
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    let bills = printed(&["bill", &job, "--output", "json"], None);
    let bills: serde_json::Value = serde_json::from_str(&bills).unwrap();
    for width in WIDTHS {
        let text = printed(&["bill", &job], Some(width));
        for bill in bills["bills"].as_array().unwrap() {
            let lines = bill["lines"].as_array().unwrap().iter();
            let activity = bill["activity"].as_array().unwrap().iter();
            for row in lines.chain(activity) {
                let amount = row["amount"].as_str().unwrap();
                assert!(text.contains(amount), "{amount} at {width}:\n{text}");
            }
            let exact = bill["exact"].as_str().unwrap();
            assert!(text.contains(exact), "{exact} at {width}:\n{text}");
        }
    }
}

#[test]
fn json_on_a_terminal_says_what_files_say_without_giving_it_orders() {
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    let record = format!("{FILE}:6");
    let text = printed(&["explain", &job, &record, "--output", "json"], Some(80));
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(told.to_string().contains('\u{202e}'), "{told}");
}

/// Whatever a command prints, of results, findings and complaints: what others wrote gives no orders in it.
#[test]
fn no_foreign_text_gives_a_terminal_orders() {
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    let catalog = desk.at("catalog.yaml").display().to_string();
    let usage = desk.at("usage.csv").display().to_string();
    let foreign = "h\u{1b}[31mo\u{202e}m\u{9b}2Je";
    let item = "seconds_of_calls_to_numbers_abroad";
    desk.write(
        "usage.csv",
        format!("item,quantity,zone\n{item},1,{foreign}\n\"a{foreign}\",1,home\n"),
    );
    let missing = desk.at(&format!("{foreign}.yaml")).display().to_string();
    desk.write(
        "bad.yaml",
        format!("name: x\n\"{foreign}\": 1\n")
            .replace('\u{1b}', "\\e")
            .replace('\u{9b}', "\\x9b"),
    );
    let bad = desk.at("bad.yaml").display().to_string();
    let rows = "SELECT attributes, attributes AS \"h\u{1b}[31m\" FROM suspense";
    assert_eq!(millrace(&["run", &job]).exit, Exit::Findings);
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["run", &job],
        vec!["run", &missing],
        vec!["check", &bad],
        vec!["explain", &job, foreign],
        vec!["bill", &job, "--account", foreign],
        vec!["query", &job, foreign],
        vec!["quote", &missing, "--catalog", &catalog],
        vec!["run", &job, "--workers", foreign],
        vec![foreign],
    ];
    for output in ["table", "json", "csv"] {
        commands.push(vec!["query", &job, rows, "--output", output]);
        commands.push(vec![
            "quote",
            &usage,
            "--catalog",
            &catalog,
            "--output",
            output,
        ]);
    }
    for output in ["text", "json", "csv"] {
        commands.push(vec!["bill", &job, "--output", output]);
    }
    for command in commands {
        let Ended { out, err, .. } = millrace(&command);
        let told = out + &err;
        let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!told.contains(obeyed), "{command:?}: {told:?}");
        if command.contains(&"--output") && command[0] != "bill" {
            assert!(told.contains("31m"), "{command:?}: {told}");
        }
    }
    let told = millrace(&["query", &job, rows, "--output", "json"]);
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert!(told.to_string().contains('\u{202e}'), "{told}");
}
