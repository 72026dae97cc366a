//! Corrections of what is archived: the bill is what it would be if nothing had been archived, and every
//! record is told as it would be then.

use super::forget::{DAYS, as_of, desk, is_the_twins, lines, open};
use super::world::{self, MEDIATION};
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace};
use millrace_tests::kills::{start, variable};
use std::time::{Duration, Instant};

const KILLS: u32 = 4;
const HISTORIES: u32 = 1;
/// How long a watching job may take.
const PATIENCE: Duration = Duration::from_secs(60);
const HEAD: &str = "id,number,at,zone,seconds,kind,rank\n";

/// What decides between records of an identity, as the rule says.
const RULES: [&str; 5] = [
    "kind: kind\n",
    "kind: kind\nversion: rank\n",
    "kind: kind\nkeep: last\n",
    "keep: greatest(rank)\n",
    "kind: kind\nkeep: greatest(rank)\n",
];

/// A record of call `n`: with another time, number and quantity than first, where `content` is not 0.
fn row(n: u64, content: u64, kind: &str, rank: u64) -> String {
    let call = match content {
        0 => world::call(n),
        _ => {
            let (service, day) = ((n + content) % 5 + 1, (n * 7 + content * 29) % 90);
            let date = jiff::civil::date(2026, 1, 1);
            let date = date + jiff::Span::new().days(i64::try_from(day).unwrap());
            let seconds = n * 13 % 97 + 1 + content;
            format!("{n},+{service},{date}T12:00:00Z,home,{seconds}\n")
        }
    };
    format!("{},{kind},{rank}\n", call.trim_end())
}

/// Calls as they come first.
fn calls(range: std::ops::Range<u64>) -> String {
    let rows = range.map(|n| row(n, 0, "", 5));
    HEAD.to_owned() + &rows.collect::<String>()
}

/// A job with this rule that has closed and forgotten January.
fn forgot(rule: &str) -> Desk {
    let desk = desk();
    desk.write("mediation.yaml", mediation(rule));
    desk.write("calls/a.csv", calls(0..400));
    desk.write("calls/b.csv", calls(400..600));
    as_of(&desk, DAYS[1]);
    is_the_twins(&desk, &desk.run());
    desk
}

fn mediation(rule: &str) -> String {
    MEDIATION.replace("at: timestamp", "at: timestamp, rank: bigint") + rule
}

/// Runs the job with another file of these rows; it comes to what its twin does.
fn with(desk: &Desk, file: &str, rows: &[String]) -> Ended {
    desk.write(
        &format!("calls/{file}.csv"),
        HEAD.to_owned() + &rows.concat(),
    );
    let ran = desk.run();
    is_the_twins(desk, &ran);
    ran
}

fn amend(n: u64, content: u64) -> String {
    row(n, content, "amend", 6)
}

fn void(n: u64) -> String {
    row(n, 0, "void", 7)
}

#[test]
fn what_is_archived_is_amended_and_taken_out() {
    let desk = forgot(RULES[0]);
    // 0 is of 1 January, 1 of the 8th, and so on; 13 days on, or 29, or in February.
    let ran = with(&desk, "c", &[amend(0, 1), amend(1, 2), amend(2, 3)]);
    assert!(
        ran.err.contains("adjustment 1 of archived [2026-01-01"),
        "{}",
        ran.err
    );
    let ran = with(&desk, "d", &[void(3), amend(15, 2)]);
    assert!(
        ran.err.contains("adjustment 2 of archived [2026-01-01"),
        "{}",
        ran.err
    );
    // Once more, and corrections of corrections: of what is archived, open and taken out.
    with(&desk, "e", &[void(3), amend(0, 4), amend(1, 0), void(2)]);
    with(
        &desk,
        "f",
        &[amend(3, 1), void(0), row(1, 2, "", 5), row(4, 0, "", 5)],
    );
    // Late records, and others that are corrected in the same file, or before they come.
    with(
        &desk,
        "g",
        &[row(600, 0, "", 5), amend(600, 1), amend(601, 2), void(602)],
    );
    with(
        &desk,
        "h",
        &[row(601, 0, "", 5), row(602, 0, "", 5), amend(600, 3)],
    );
    // February closes, with corrections in it.
    as_of(&desk, DAYS[2]);
    with(&desk, "i", &[amend(2, 1), void(5), amend(5, 3)]);
    as_of(&desk, DAYS[3]);
    with(&desk, "j", &[amend(2, 2), void(1), amend(7, 1)]);
    let quiet = desk.run();
    assert!(!quiet.err.contains("adjust"), "{}", quiet.err);
    is_the_twins(&desk, &quiet);
    // What came and went at last, and what waits for its original.
    assert!(open(&desk) < 30, "{}", open(&desk));
}

/// Corrections may come from a source that was not there when the bill unit closed.
#[test]
fn corrections_of_a_source_that_came_later_hold() {
    let desk = desk();
    as_of(&desk, DAYS[1]);
    is_the_twins(&desk, &desk.run());
    let corrects = |name: &str| {
        let job = std::fs::read_to_string(desk.at(name)).unwrap();
        let more = "  - { name: amends, platform: switch, service_type: voice, path: amends, \
                    identity: shared, corrections: true, mediation: amends.yaml }\ncatalog:";
        let job = job.replace("path: calls,", "path: calls, identity: shared,");
        desk.write(name, job.replace("catalog:", more));
    };
    desk.write("amends.yaml", mediation(RULES[0]));
    let rows = [amend(0, 1), void(1), row(2, 2, "", 5), amend(15, 3)];
    desk.write("amends/a.csv", HEAD.to_owned() + &rows.concat());
    for name in ["job.yaml", "twin.yaml"] {
        corrects(name);
    }
    is_the_twins(&desk, &desk.run());
    let rows = [amend(0, 0), amend(1, 2), void(2), row(2, 2, "", 5)];
    desk.write("amends/b.csv", HEAD.to_owned() + &rows.concat());
    is_the_twins(&desk, &desk.run());
}

#[test]
fn the_last_the_greatest_and_versions_hold_against_what_is_archived() {
    for rule in &RULES[1..] {
        let kind = |kind: &'static str| if rule.contains("kind") { kind } else { "" };
        let desk = forgot(rule);
        let usage = |n, content, rank| row(n, content, "", rank);
        with(
            &desk,
            "c",
            &[
                usage(0, 1, 6),
                usage(1, 2, 4),
                usage(2, 0, 9),
                usage(15, 3, 5),
            ],
        );
        let more = [
            usage(0, 2, 5),
            usage(2, 1, 7),
            row(1, 3, kind("amend"), 8),
            row(15, 3, kind("void"), 8),
        ];
        with(&desk, "d", &more);
        let more = [
            usage(1, 1, 9),
            row(15, 1, kind("amend"), 7),
            row(2, 2, kind("amend"), 8),
            row(0, 0, kind("amend"), 9),
        ];
        with(&desk, "e", &more);
        as_of(&desk, DAYS[3]);
        with(
            &desk,
            "f",
            &[usage(0, 3, 1), row(1, 0, kind("void"), 2), usage(15, 2, 20)],
        );
    }
}

/// A file that comes again with other rows, behind the close.
#[test]
fn a_file_that_changes_amends_what_is_archived() {
    let desk = desk();
    desk.write("mediation.yaml", mediation(""));
    desk.write("calls/a.csv", calls(0..400));
    desk.write("calls/b.csv", calls(400..600));
    let again = |rows: &str| {
        desk.write("calls/a.csv", rows);
        let ran = desk.run();
        let twin = millrace(&[
            "run",
            &desk.at("twin.yaml").display().to_string(),
            "--output",
            "json",
        ]);
        assert_eq!(
            lines(&desk, "out"),
            lines(&desk, "twin"),
            "{} {}",
            ran.err,
            twin.err
        );
    };
    let amends = |day: &str| {
        as_of(&desk, day);
        let job = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
        let amends = "path: calls, on_change: amend, missing: void,";
        desk.write("job.yaml", job.replace("path: calls,", amends));
    };
    amends(DAYS[1]);
    is_the_twins(&desk, &desk.run());
    // Other contents, and rows that are there no more.
    let other: String = (5..400).map(|n| row(n, u64::from(n < 9), "", 5)).collect();
    again(&(HEAD.to_owned() + &other));
    // Again as it was, and without others.
    again(&calls(0..400));
    again(&calls(7..390));
    amends(DAYS[3]);
    again(&calls(3..395));
    again(&calls(0..400));
}

/// Nothing of a record that is taken out waits as a late one does.
#[test]
fn a_watching_job_takes_out_by_itself() {
    let desk = forgot(RULES[0]);
    let job = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
    desk.write(
        "job.yaml",
        job.replace("after: 10d", "after: 10d, adjust: 1s"),
    );
    let path = desk.at("job.yaml").display().to_string();
    let mut process = start(&["run", &path, "--watch"]);
    desk.write("calls/c.csv", HEAD.to_owned() + &void(0));
    let january = desk.at("closed/periods/20260101T000000Z-20260201T000000Z");
    let begun = Instant::now();
    while !january.join("manifest-0001.json").exists() {
        assert!(begun.elapsed() < PATIENCE, "nothing was adjusted");
        std::thread::sleep(Duration::from_millis(20));
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let last = desk.run();
    assert!(!last.err.contains("adjustment"), "{}", last.err);
    is_the_twins(&desk, &last);
}

#[test]
fn any_history_with_kills_comes_to_what_its_twin_does() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let first = u64::from(variable("MILLRACE_SEED", 1));
    for seed in first..first + u64::from(variable("MILLRACE_HISTORIES", HISTORIES)) {
        for rule in RULES {
            history(rule, seed, kills);
        }
    }
}

/// Some rows: new calls, some for the second time, and corrections of any of them.
fn some(dice: &mut Dice, next: &mut u64) -> String {
    let mut rows = HEAD.to_owned();
    for _ in 0..1 + dice.roll(12) {
        let n = dice.roll(*next + 5);
        let (content, rank) = (dice.roll(4), dice.roll(10));
        rows += &match dice.roll(6) {
            0 => row(n, 0, "void", rank),
            1 | 2 => row(n, content, "amend", rank),
            3 => row(n, content, "", rank),
            4 => row(n, 0, "", 5),
            _ => {
                *next += 1;
                row(*next - 1, 0, "", 5)
            }
        };
    }
    rows
}

fn history(rule: &str, seed: u64, kills: u32) {
    let mut dice = Dice(seed);
    let desk = forgot(rule);
    let job = desk.at("job.yaml").display().to_string();
    let (mut killed, mut next) = (0, 600);
    for turn in 0.. {
        if killed >= kills && turn >= 6 {
            break;
        }
        if dice.roll(4) > 0 {
            desk.write(&format!("calls/z{turn:04}.csv"), some(&mut dice, &mut next));
        }
        if dice.roll(3) == 0 {
            as_of(&desk, DAYS[usize::try_from((1 + turn / 2).min(3)).unwrap()]);
        }
        let workers = (1 + dice.roll(3)).to_string();
        let mut process = start(&["run", &job, "--workers", &workers]);
        std::thread::sleep(Duration::from_millis(20 + dice.roll(900)));
        if process.try_wait().unwrap().is_none() {
            process.kill().unwrap();
            killed += 1;
        }
        process.wait().unwrap();
    }
    let ran = desk.run();
    is_the_twins(&desk, &ran);
    as_of(&desk, DAYS[3]);
    is_the_twins(&desk, &desk.run());
}
