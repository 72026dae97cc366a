//! Runs that crash again and again while they read one file: it is passed over, told and put back, and the
//! other files are billed.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace, text};
use millrace_tests::kills::start;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const ROWS: usize = 60_000;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-20
epoch: { rows: 1000 }
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: usage
    mediation:
      columns: { seconds: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      charges: { seconds: seconds }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const CATALOG: &str = "currency: EUR\nprices:\n  - { item: seconds, price: 1 }\n";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
subscriptions:
  - { id: s1, account: acme, from: 2026-01-01, service_type: voice, services: [\"+1\"] }
";

fn calls(ids: std::ops::Range<usize>) -> String {
    let mut calls = "id,number,at,seconds\n".to_owned();
    for id in ids {
        writeln!(calls, "{id},+1,2026-01-05T10:00:00Z,1").unwrap();
    }
    calls
}

fn desk(interval: &str) -> Desk {
    let durability = format!("durability: {{ folder: state, interval: {interval} }}\n");
    Desk::new(&[
        ("job.yaml", &format!("{JOB}{durability}")),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage/a.csv", &calls(0..7)),
        ("usage/b.csv", &calls(100..100 + ROWS)),
        ("usage/c.csv", &calls(10..15)),
    ])
}

/// What runs have told of themselves.
fn told(desk: &Desk) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(desk.at("state/crashes")).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Runs the job as a process, and ends it by a signal while it reads `b.csv`.
fn end_by(desk: &Desk, signal: &str, number: i32) {
    let job = desk.at("job.yaml").display().to_string();
    let before = told(desk);
    let mut process = start(&["run", &job, "--workers", "2"]);
    let begun = Instant::now();
    let reads = || {
        let of_this_run = told(desk)
            .into_iter()
            .filter(|place| !before.contains(place));
        let mut texts = of_this_run.map(|place| fs::read_to_string(place).unwrap_or_default());
        texts.any(|text| text.contains("\"b.csv\""))
    };
    while !reads() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it reads nothing"
        );
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    let killed = Command::new("kill")
        .args([signal, &process.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(process.wait().unwrap().signal(), Some(number));
}

fn file<'s>(summary: &'s Value, name: &str) -> &'s Value {
    let mut files = summary["files"].as_array().unwrap().iter();
    files.find(|file| text(file, "file") == name).unwrap()
}

#[track_caller]
fn is_passed_over(desk: &Desk, state: Option<&str>) -> Ended {
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{ended:?}");
    let summary = ended.summary();
    assert_eq!(summary["ties_out"], true);
    assert!(
        ended
            .err
            .contains("\"b.csv\" is passed over: three runs in a row crashed"),
        "{}",
        ended.err
    );
    if let Some(state) = state {
        assert_eq!(text(file(&summary, "b.csv"), "state"), state);
        assert_eq!(ended.totals(), ["12 EUR"]);
    }
    assert_eq!(text(file(&summary, "c.csv"), "state"), "loaded");
    ended
}

#[test]
fn a_file_at_which_three_runs_crashed_is_passed_over_until_it_is_put_back() {
    for (interval, state) in [("1h", Some("failed")), ("10ms", None)] {
        let desk = desk(interval);
        for _ in 0..2 {
            end_by(&desk, "-ABRT", 6);
            end_by(&desk, "-KILL", 9);
        }
        end_by(&desk, "-ABRT", 6);
        is_passed_over(&desk, state);
        // And so by every run to come.
        is_passed_over(&desk, state);
        let job = desk.at("job.yaml").display().to_string();
        let put_back = millrace(&["retry", &job, "--file", "b.csv"]);
        assert_eq!(put_back.exit, Exit::Ok, "{}", put_back.err);
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
        assert!(
            ended.err.contains("\"b.csv\" is read again"),
            "{}",
            ended.err
        );
        assert_eq!(ended.totals(), [format!("{} EUR", 12 + ROWS)]);
        assert!(told(&desk).is_empty());
    }
}

#[test]
fn kills_blame_no_file() {
    let desk = desk("1h");
    for _ in 0..4 {
        end_by(&desk, "-KILL", 9);
    }
    for _ in 0..2 {
        end_by(&desk, "-ABRT", 6);
    }
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    assert_eq!(ended.totals(), [format!("{} EUR", 12 + ROWS)]);
}

/// What a run that stood still finds wrong may be another's doing: that it has taken over is all that is said.
#[test]
fn a_run_that_stood_still_says_so_and_gives_no_advice() {
    let desk = desk("10ms");
    desk.write("usage/b.csv", calls(20..25));
    let job = desk.at("job.yaml").display().to_string();
    let process = start(&["run", &job, "--workers", "2", "--watch"]);
    let id = process.id().to_string();
    let tell = |signal: &str| {
        let told = Command::new("kill").args([signal, &id]).status();
        assert!(told.unwrap().success());
    };
    let begun = Instant::now();
    let commits = || fs::read_dir(desk.at("state/manifest")).map_or(0, Iterator::count);
    while commits() < 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it commits nothing"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    tell("-STOP");
    let younger = desk.run();
    assert_eq!(younger.exit, Exit::Ok, "{younger:?}");
    desk.write("usage/bad.csv", "nothing,of,this\n1,2,3\n");
    tell("-CONT");
    let ended = process.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert!(
        told.contains("another run of this job has taken over"),
        "{told}"
    );
    assert!(!told.contains("bad.csv"), "{told}");
}
