//! What a run archives, and what `millrace replay` makes of it.

use super::world::{CATALOG, desk, job, replay, replayed};
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace, rows, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const JANUARY: &str = "20260101T000000Z-20260201T000000Z";
const QUARTER: &str = "20260101T000000Z-20260401T000000Z";

/// All files below a folder, by name.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn archived(desk: &Desk) -> Vec<String> {
    let entries = std::fs::read_dir(desk.at("closed/periods")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Money in units of 10⁻⁴, of text that needs no more decimals.
fn units(text: &str) -> i64 {
    let (digits, sign) = text
        .strip_prefix('-')
        .map_or((text, 1), |digits| (digits, -1));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = decimals.trim_end_matches('0');
    assert!(decimals.len() <= 4, "{text}");
    sign * format!("{whole}{decimals:0<4}").parse::<i64>().unwrap()
}

/// The money of an account's lines as the job wrote them, in units of 10⁻⁴.
fn billed(desk: &Desk, account: &str) -> i64 {
    let lines = desk.snapshot("aggregated");
    let own = lines.iter().filter(|line| text(line, "account") == account);
    own.map(|line| units(text(line, "amount"))).sum()
}

#[test]
fn bill_units_that_ended_are_archived_and_rate_the_same_again() {
    let desk = desk();
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert!(
        ended
            .err
            .contains("archived [2026-01-01T00:00:00Z, 2026-02-01T00:00:00Z)"),
        "{}",
        ended.err
    );
    let months = [
        "20260201T000000Z-20260301T000000Z",
        "20260301T000000Z-20260401T000000Z",
    ];
    assert_eq!(archived(&desk), [JANUARY, QUARTER, months[0], months[1]]);
    let all = replayed(&replay(&desk, &[]), Exit::Ok);
    assert_eq!(
        (&all["records"], &all["accounts"]),
        (&600.into(), &Value::Array(vec![])),
        "{all}"
    );
    let lines = desk.snapshot("aggregated");
    assert!(lines.len() > 10);
    let total: i64 = ["acme", "carl", "dana", "bulk"]
        .iter()
        .map(|account| billed(&desk, account))
        .sum();
    // April has begun: its fees are billed and not archived.
    let april = 3 * 10_000;
    let of_archive = text(&all["totals"][0], "billed").to_owned();
    let shown = format!(
        "{}.{:04}",
        (total - april) / 10_000,
        (total - april) % 10_000
    );
    assert_eq!(
        of_archive,
        shown.trim_end_matches('0').trim_end_matches('.')
    );
    // The second month alone begins where the first ended.
    let one = replayed(
        &replay(
            &desk,
            &[
                "--from",
                "2026-02-01",
                "--to",
                "2026-03-01",
                "--account",
                "dana",
            ],
        ),
        Exit::Ok,
    );
    assert_eq!(one["accounts"], Value::Array(vec![]));
    assert!(one["records"].as_u64().unwrap() > 50);
    let text = millrace(&["replay", &desk.at("closed").display().to_string()]);
    assert_eq!(text.exit, Exit::Ok);
    assert!(
        text.out.contains("nothing differs from what was billed"),
        "{}",
        text.out
    );
}

#[test]
fn the_archive_does_not_depend_on_the_number_of_workers() {
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    let mut seen = Vec::new();
    for workers in ["1", "2", "3"] {
        let ended = millrace(&["run", &job, "--workers", workers, "--output", "json"]);
        assert_eq!(ended.exit, Exit::Ok);
        seen.push(files(&desk.at("closed")));
        std::fs::remove_dir_all(desk.at("closed")).unwrap();
    }
    assert!(seen[0].len() > 12, "{:?}", seen[0].keys());
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
}

#[test]
fn a_grace_keeps_a_bill_unit_open() {
    let desk = desk();
    for (clock, periods) in [
        ("2026-03-10", 1),
        ("2026-03-11", 2),
        ("2026-04-10", 2),
        ("2026-04-11", 4),
    ] {
        desk.write("job.yaml", job(clock, "closed", "out"));
        assert_eq!(desk.run().exit, Exit::Ok);
        assert_eq!(archived(&desk).len(), periods, "{clock}");
    }
    // Periods that were archived by runs of their own hang together.
    replayed(&replay(&desk, &[]), Exit::Ok);
}

#[test]
fn another_catalog_shows_its_differences_and_no_others() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    // Far calls of acme: each 0.05 becomes 0.06.
    desk.write("other.yaml", CATALOG.replace("price: 0.05", "price: 0.06"));
    let other = desk.at("other.yaml").display().to_string();
    let found = replayed(&replay(&desk, &["--catalog", &other]), Exit::Findings);
    let accounts = found["accounts"].as_array().unwrap();
    assert_eq!(accounts.len(), 1, "{found}");
    assert_eq!(text(&accounts[0], "account"), "acme");
    let seconds: u64 = (0..600_u64)
        .filter(|n| n.is_multiple_of(3) && n % 5 < 2)
        .map(|n| n * 13 % 97 + 1)
        .sum();
    let more = format!("{}.{:02}", seconds / 100, seconds % 100);
    let more = more.trim_end_matches('0').trim_end_matches('.');
    assert_eq!(text(&accounts[0], "difference"), more);
    assert_eq!(text(&found["totals"][0], "difference"), more);
    let lines = accounts[0]["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["grouped_by"]["zone"] == "far"));
    // The same by the account alone, and nothing for another.
    let alone = replayed(
        &replay(&desk, &["--catalog", &other, "--account", "acme"]),
        Exit::Findings,
    );
    assert_eq!(alone["accounts"], found["accounts"]);
    replayed(
        &replay(
            &desk,
            &[
                "--catalog",
                &other,
                "--account",
                "carl",
                "--account",
                "bulk",
            ],
        ),
        Exit::Ok,
    );
    // The job's own catalog, given as a file, is what the archive keeps.
    let own = desk.at("catalog.yaml").display().to_string();
    let accounts = desk.at("accounts.yaml").display().to_string();
    replayed(
        &replay(&desk, &["--catalog", &own, "--accounts-file", &accounts]),
        Exit::Ok,
    );
    let shown = millrace(&[
        "replay",
        &desk.at("closed").display().to_string(),
        "--catalog",
        &other,
    ]);
    assert_eq!(shown.exit, Exit::Findings);
    assert!(
        shown.out.contains(&format!("difference {more} EUR")),
        "{}",
        shown.out
    );
    assert!(shown.out.contains("1 account differs"), "{}", shown.out);
}

/// What a run by another catalog bills, and what a replay by it says: the same money.
#[test]
fn a_replay_by_another_plan_comes_to_what_a_run_by_it_does() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let other = CATALOG
        .replace("units: 300", "units: 500")
        .replace("rollover_cap: 60", "rollover_cap: 200")
        .replace("from: 1000, price: 0.01", "from: 400, price: 0.02")
        .replace("amount: 40", "amount: 55");
    let before: BTreeMap<&str, i64> = ["carl", "dana", "bulk", "acme"]
        .into_iter()
        .map(|account| (account, billed(&desk, account)))
        .collect();
    desk.write("other.yaml", &other);
    let path = desk.at("other.yaml").display().to_string();
    let found = replayed(
        &replay(&desk, &["--catalog", &path, "--workers", "2"]),
        Exit::Findings,
    );
    desk.write("catalog.yaml", &other);
    std::fs::rename(desk.at("closed"), desk.at("before")).unwrap();
    assert_eq!(desk.run().exit, Exit::Ok);
    for (account, before) in before {
        let told = found["accounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|told| text(told, "account") == account);
        let told = told.map_or("0", |told| text(told, "difference"));
        let really = billed(&desk, account) - before;
        assert_eq!(units(told), really, "{account}");
        assert_eq!(really == 0, account == "acme");
    }
    assert!(!rows(&desk.at("out/aggregated/snapshot")).is_empty());
}

#[test]
fn prices_that_are_gone_suspend_what_was_billed() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let without: String = CATALOG
        .lines()
        .filter(|line| !line.contains("id: far"))
        .map(|line| format!("{line}\n"))
        .collect();
    desk.write("without.yaml", without);
    let path = desk.at("without.yaml").display().to_string();
    let found = replayed(&replay(&desk, &["--catalog", &path]), Exit::Findings);
    assert_eq!(
        found["suspended"][0]["reason"], "PRICE_NOT_FOUND",
        "{found}"
    );
    let far = (0..600_u64)
        .filter(|n| n.is_multiple_of(3) && n % 5 < 2)
        .count();
    assert_eq!(found["suspended"][0]["records"], far);
}

#[test]
fn a_run_does_not_change_what_was_billed() {
    let desk = desk();
    assert_eq!(desk.run().exit, Exit::Ok);
    let before = files(&desk.at("closed"));
    let again = desk.run();
    assert!(!again.err.contains("would be others"), "{}", again.err);
    desk.write(
        "catalog.yaml",
        CATALOG.replace("price: 0.05", "price: 0.06"),
    );
    let other = desk.run();
    assert_eq!(files(&desk.at("closed")), before);
    assert!(
        other
            .err
            .contains("is archived as it was billed, and 1 of its lines"),
        "{}",
        other.err
    );
}
