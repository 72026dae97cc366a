//! Suspended records that operators discard and put back: counted, told, kept by commits, and the same
//! after every restart.

use crate::durability::{calls, compare, desk, job};
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace, rows, standing};
use millrace_tests::kills::{accounts, start, variable};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

const KILLS: u32 = 6;

fn told(desk: &Desk, arguments: &[&str]) -> Ended {
    let path = desk.at("job.yaml").display().to_string();
    let (command, rest) = arguments.split_first().unwrap();
    let all: Vec<&str> = [*command, &path]
        .into_iter()
        .chain(rest.iter().copied())
        .collect();
    millrace(&all)
}

#[track_caller]
fn tell(desk: &Desk, arguments: &[&str]) {
    let ended = told(desk, arguments);
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.err);
}

/// Runs the job and gives what became of its records, by fate.
#[track_caller]
fn fates(desk: &Desk) -> (BTreeMap<String, u64>, Ended) {
    let ended = desk.run();
    assert!(
        matches!(ended.exit, Exit::Ok | Exit::Findings),
        "{}",
        ended.err
    );
    let summary = ended.summary();
    assert_eq!(summary["ties_out"], true);
    let counts = summary["records"].as_object().unwrap().iter();
    let counts = counts.map(|(fate, count)| (fate.clone(), count.as_u64().unwrap()));
    (counts.collect(), ended)
}

/// How many records have each code in `raw_status`.
fn codes(desk: &Desk, form: &str) -> BTreeMap<String, i64> {
    let mut codes = BTreeMap::new();
    for (row, count) in standing(rows(&desk.at(&format!("out/raw_status/{form}")))) {
        let row: Value = serde_json::from_str(&row).unwrap();
        *codes
            .entry(row["code"].as_str().unwrap().to_owned())
            .or_default() += count;
    }
    codes
}

/// The first rows of `raw_status` with this code, as `file#row`.
fn records(desk: &Desk, code: &str) -> Vec<String> {
    let rows = desk.snapshot("raw_status").into_iter();
    let rows = rows.filter(|row| row["code"] == code);
    rows.map(|row| format!("{}#{}", row["file"].as_str().unwrap(), row["row"]))
        .collect()
}

#[test]
fn what_is_discarded_stays_so_until_it_is_put_back() {
    let desk = desk();
    desk.write("usage/a.csv", calls(0, &mut Dice(3)));
    let (first, _) = fates(&desk);
    let (suspended, errors) = (first["suspended"], first["error"]);
    assert!(suspended > 50 && errors > 3, "{first:?}");
    let unreadable = records(&desk, "FIELD_UNPARSABLE")[0].clone();
    let duplicate = records(&desk, "CONFLICT")[0].clone();

    tell(
        &desk,
        &["discard", "--reason", "service_unknown", "--file", "a.csv"],
    );
    tell(&desk, &["discard", "--record", &unreadable, &duplicate]);
    // What comes later is not meant: the file is read behind the commands.
    desk.write("usage/b.csv", calls(1, &mut Dice(4)));
    let (second, ended) = fates(&desk);
    assert_eq!(second["discarded"], suspended + 1, "{}", ended.err);
    assert!(
        second["suspended"] > 50 && second["error"] >= errors - 1,
        "{second:?}"
    );
    let says = format!("command 2: 1 record is discarded; {duplicate} is not suspended");
    assert!(ended.err.contains(&says), "{says}: {}", ended.err);
    let discarded = i64::try_from(suspended + 1).unwrap();
    for form in ["snapshot", "changes"] {
        assert_eq!(codes(&desk, form)["DISCARDED"], discarded, "{form}");
    }
    let ledger = desk.snapshot("ledger");
    assert_eq!(ledger[0]["discarded"], discarded, "{ledger:?}");
    let suspense = desk.snapshot("suspense").into_iter();
    let suspense: Vec<Value> = suspense
        .filter(|row| row["reason"] == "DISCARDED")
        .collect();
    assert_eq!(i64::try_from(suspense.len()).unwrap(), discarded);
    let report = told(&desk, &["run"]);
    assert!(report.out.contains("+ discarded"), "{}", report.out);

    // A restart repeats what the commits say, and no command twice.
    assert_eq!(fates(&desk).0, second);

    // The cause of the others is corrected.
    let more = accounts()
        + "  - { id: s8, account: a0, price_lists: [flat], from: 2026-01-01, service_type: voice, services: [\"+8\"] }\n";
    desk.write("accounts.yaml", &more);
    let (third, _) = fates(&desk);
    assert_eq!((third["suspended"], third["discarded"]), (0, suspended + 1));
    let unknown = records(&desk, "DISCARDED");
    let unknown = unknown
        .iter()
        .find(|record| **record != unreadable)
        .unwrap();
    for record in [&unreadable, unknown] {
        let explained = told(&desk, &["explain", record]);
        assert!(explained.out.contains("DISCARDED"), "{}", explained.out);
        assert!(
            explained.out.contains("millrace retry"),
            "{}",
            explained.out
        );
    }
    let explained = told(&desk, &["explain", &unreadable]);
    assert!(
        explained.out.contains("FIELD_UNPARSABLE"),
        "{}",
        explained.out
    );

    // One record is put back, and one that needs it not.
    tell(&desk, &["retry", "--record", unknown, &duplicate]);
    let (fourth, ended) = fates(&desk);
    assert_eq!(fourth["monetised"], third["monetised"] + 1, "{}", ended.err);
    let says = format!("1 record is put back; {duplicate} is not discarded");
    assert!(ended.err.contains(&says), "{says}: {}", ended.err);

    // And all of them: the job stands where one stands that never discarded anything.
    tell(&desk, &["retry", "--file", "a.csv"]);
    let (last, _) = fates(&desk);
    assert_eq!((last["discarded"], last["suspended"]), (0, 0));
    compare(&desk, 3);
}

#[test]
fn commands_that_cannot_be_are_refused() {
    let desk = desk();
    let refused = |arguments: &[&str], says: &str| {
        let ended = told(&desk, arguments);
        assert_eq!(ended.exit, Exit::Unusable, "{arguments:?}");
        assert!(ended.err.contains(says), "{arguments:?}: {}", ended.err);
    };
    desk.write("usage/a.csv", calls(0, &mut Dice(3)));
    refused(&["discard"], "--record");
    refused(
        &["retry", "--record", "a.csv:3", "--file", "a.csv"],
        "cannot be used with",
    );
    refused(&["discard", "--record", "a.csv"], "write <file>:<line>");
    refused(
        &["discard", "--reason", "SERVICE_UNKNWON"],
        "did you mean SERVICE_UNKNOWN?",
    );
    refused(
        &["discard", "--reason", "DUPLICATE"],
        "no record is suspended for",
    );
    desk.write("job.yaml", job(""));
    refused(&["discard", "--file", "a.csv"], "keeps no state");
    // What there is not is said by the job that looks.
    desk.write("job.yaml", job("durability: { folder: state }\n"));
    assert!(matches!(desk.run().exit, Exit::Findings));
    tell(&desk, &["discard", "--file", "b.csv"]);
    let (counts, ended) = fates(&desk);
    assert_eq!(counts["discarded"], 0);
    assert!(
        ended.err.contains("the job has no file \"b.csv\""),
        "{}",
        ended.err
    );
}

#[test]
fn kills_neither_forget_nor_repeat_commands() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let desk = desk();
    let path = desk.at("job.yaml").display().to_string();
    for killed in 0..kills {
        desk.write(
            &format!("usage/calls-{killed:04}.csv"),
            calls(killed, &mut dice),
        );
        let workers = (1 + dice.roll(3)).to_string();
        let mut process = start(&["run", &path, "--watch", "--workers", &workers]);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(dice.roll(700)));
            let file = format!("calls-{:04}.csv", dice.roll(u64::from(killed) + 1));
            let record = format!("{file}:{}", dice.roll(2_000));
            match dice.roll(5) {
                0 => tell(&desk, &["discard", "--reason", "SERVICE_UNKNOWN"]),
                1 => tell(&desk, &["discard", "--file", &file]),
                2 => tell(&desk, &["discard", "--record", &record]),
                3 => tell(&desk, &["retry", "--file", &file]),
                _ => tell(&desk, &["retry", "--reason", "FIELD_UNPARSABLE"]),
            }
        }
        std::thread::sleep(Duration::from_millis(dice.roll(1_200)));
        process.kill().unwrap();
        let ended = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.signal().is_some(), "seed {seed}: {said}");
    }
    tell(&desk, &["discard", "--file", "calls-0000.csv"]);
    let (counts, _) = fates(&desk);
    assert!(counts["discarded"] > 0, "{counts:?}");
    assert_eq!(
        codes(&desk, "snapshot"),
        codes(&desk, "changes"),
        "seed {seed}"
    );
    // Every restart stands where this run stands.
    let snapshots = || ["raw_status", "suspense", "monetised"].map(|output| desk.snapshot(output));
    let stands = snapshots();
    for workers in ["1", "3"] {
        let again = millrace(&["run", &path, "--workers", workers]);
        assert_eq!(again.exit, Exit::Findings, "{}", again.err);
        assert!(snapshots() == stands, "seed {seed}: {workers} workers");
    }
    for file in 0..kills {
        tell(&desk, &["retry", "--file", &format!("calls-{file:04}.csv")]);
    }
    let (counts, _) = fates(&desk);
    assert_eq!(counts["discarded"], 0);
    compare(&desk, seed);
}
