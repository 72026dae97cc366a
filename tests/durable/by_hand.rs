//! The bill of the calls of `durability`, by hand: nothing of the program is used, and no operator's order.
//!
//! An allowance of 5,000 seconds is used up within the first tier, and in every month but the last whole.
//! So nothing is carried over, and what an account pays follows from how long it has called in a month.

use millrace_tests::jobs::{Desk, rows, text};
use std::collections::{BTreeMap, BTreeSet};

/// Seconds or fees, and hundredths of a euro, by account, month and item.
type Bill = BTreeMap<(String, String, &'static str), (i128, i128)>;

/// Months that have buckets: up to the one behind the clock's.
const LAST: &str = "2026-04";
const FREE: i128 = 5_000;

fn with_plan(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// Hundredths that a month of the plan costs.
fn graduated(seconds: i128) -> i128 {
    let between = |from: i128, to: i128| (seconds.min(to) - from).max(0);
    3 * between(FREE, 15_000) + 2 * between(15_000, 40_000) + between(40_000, i128::MAX)
}

fn bill(files: impl Iterator<Item = String>) -> Bill {
    let mut met = BTreeSet::new();
    let mut used: BTreeMap<(usize, String), i128> = BTreeMap::new();
    for file in files {
        for call in file.lines().skip(1) {
            let fields: Vec<&str> = call.split(',').collect();
            let [id, number, at, seconds] = fields[..] else {
                panic!("{call:?} is no call");
            };
            // What is no call has no identity; of the others the first is the call.
            let Some(seconds) = seconds.parse::<i128>().ok().filter(|held| *held != 13) else {
                continue;
            };
            let number: usize = number.strip_prefix('+').unwrap().parse().unwrap();
            if met.insert(id.to_owned()) && number < 8 {
                *used.entry((number, at[..7].to_owned())).or_default() += seconds;
            }
        }
    }
    let mut bill = Bill::new();
    for ((number, month), seconds) in &used {
        let plan = with_plan(*number);
        if plan && month.as_str() > LAST {
            continue;
        }
        let later = used
            .keys()
            .any(|(other, later)| other == number && later > month);
        assert!(
            !plan || !later || *seconds >= FREE,
            "+{number} carries something over from {month}"
        );
        let cost = if plan {
            graduated(*seconds)
        } else {
            5 * seconds
        };
        let line = (format!("a{number}"), month.clone(), "seconds");
        bill.insert(line, (*seconds, cost));
    }
    // Fees of the months that have begun by the clock's.
    for number in (0..8).filter(|number| with_plan(*number)) {
        for month in ["2026-01", "2026-02", "2026-03"] {
            bill.insert((format!("a{number}"), month.to_owned(), "fee"), (1, 300));
        }
    }
    bill
}

/// A decimal text in hundredths.
fn hundredths(decimal: &str) -> i128 {
    let (whole, part) = decimal.split_once('.').unwrap_or((decimal, ""));
    let digits = format!("{part:0<2}");
    let (part, rest) = digits.split_at(2);
    assert!(rest.bytes().all(|digit| digit == b'0'), "{decimal}");
    format!("{whole}{part}").parse().unwrap()
}

/// Compares the billing lines of the job with those by hand.
pub(crate) fn compare(desk: &Desk, seed: u64) {
    let files = crate::durability::bytes(&desk.at("usage")).into_values();
    let by_hand = bill(files.map(|file| String::from_utf8(file).unwrap()));
    let lines = rows(&desk.at("out/aggregated/snapshot"));
    let line = |row: &serde_json::Value| {
        let item = match text(row, "item") {
            "seconds" => "seconds",
            "fee" => "fee",
            other => panic!("nobody is billed {other:?}"),
        };
        let month = text(row, "bill_unit_start")[..7].to_owned();
        let quantity = hundredths(text(row, "quantity"));
        assert_eq!(quantity % 100, 0, "{row}");
        let value = (quantity / 100, hundredths(text(row, "amount")));
        ((text(row, "account").to_owned(), month, item), value)
    };
    let billed: Bill = lines.iter().map(line).collect();
    assert_eq!(
        billed.len(),
        lines.len(),
        "seed {seed}: a line is there twice"
    );
    assert_eq!(billed, by_hand, "seed {seed}");
}
