//! What was closed stays closed, whatever clock and grace say later; and a machine's clock alone closes
//! nothing.
//!
//! `MILLRACE_SEED` gives another history, `MILLRACE_CLOCKS` the number of its runs.

use super::forget::{is_the_twins, lines};
use super::world::{self, calls};
use crate::cluster::commits;
use jiff::{Timestamp, ToSpan as _};
use millrace::cli::Exit;
use millrace_connectors::archive::Archive;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, rows, text};
use millrace_tests::kills::{start, variable};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a small job may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Runs of the history.
const RUNS: u32 = 16;

const MEDIATION: &str = "\
columns: { seconds: bigint, at: timestamp }
identity: [id]
service: number
time: at
charges: { seconds: seconds }
";

/// Two price lists: usage alone, and a fee beside it.
fn catalog(price: &str) -> String {
    format!(
        "currency: EUR\n\
         plans:\n  - {{ list: standard, from: 2024-01-01, charges: [{{ item: fee, amount: 10, when: advance }}] }}\n\
         prices:\n  - {{ item: seconds, price: {price} }}\n"
    )
}

fn job(clock: &str, after: &str, more: &str) -> String {
    let clock = match clock {
        "" => String::new(),
        clock => format!("clock: {clock}\n"),
    };
    format!(
        "name: calls\ntime_zone: UTC\n{clock}\
         sources:\n  - {{ name: switch, platform: switch, service_type: voice, path: calls, mediation: mediation.yaml }}\n\
         catalog: [catalog.yaml]\naccounts: [accounts.yaml]\n\
         archive: {{ folder: closed, after: {after} }}\noutputs: {{ folder: out }}\n{more}"
    )
}

const STATE: &str = "durability: { folder: state, interval: 20ms }\n";

/// One account with a fee in advance, from a day on.
fn desk(from: &str, cycle: &str, usage: &str) -> Desk {
    let accounts = format!(
        "accounts: [{{ id: acme, currency: EUR, billing: {{ cycle: {cycle} }} }}]\n\
         subscriptions:\n  - {{ id: voice, account: acme, from: {from}, service_type: voice, services: [\"+1\"] }}\n"
    );
    Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", &catalog("0.5")),
        ("accounts.yaml", &accounts),
        ("calls/a.csv", &format!("id,number,at,seconds\n{usage}")),
    ])
}

/// Runs the job in a process of its own, which must end by itself.
fn ends(desk: &Desk) {
    let path = desk.at("job.yaml").display().to_string();
    let mut process = start(&["run", &path, "--workers", "2"]);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            process.kill().unwrap();
            process.wait().unwrap();
            panic!("the run does not end, after {} commits", commits(desk));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
}

/// The archived periods, each with the number of its last adjustment.
fn archived(desk: &Desk) -> BTreeMap<String, u32> {
    let Ok(archive) = Archive::open("closed", &desk.at("")) else {
        return BTreeMap::new();
    };
    let periods = archive.periods();
    periods
        .map(|period| (period.to_string(), archive.sequence(period).unwrap()))
        .collect()
}

#[test]
fn settling_twice_is_settling_once_when_less_is_due_than_was() {
    for (clock, after, total) in [
        ("2026-03-20", "60d", "90 EUR"),
        // March has not begun by this clock; February is closed, and stays so.
        ("2026-02-05", "10d", "80 EUR"),
    ] {
        let desk = desk("2026-01-01", "month", "1,+1,2026-01-12T00:00:00Z,100\n");
        desk.write("job.yaml", job("2026-03-20", "10d", STATE));
        let first = desk.run();
        assert_eq!(
            (first.exit, first.totals()),
            (Exit::Ok, vec!["80 EUR".into()])
        );
        let closed = archived(&desk);
        assert_eq!(closed.len(), 2, "{closed:?}");
        let before = commits(&desk);
        desk.write("catalog.yaml", catalog("0.6"));
        desk.write("job.yaml", job(clock, after, STATE));
        ends(&desk);
        let made = commits(&desk) - before;
        assert!(made < 16, "{made} commits");
        let again = desk.run();
        assert_eq!(
            (again.exit, again.totals()),
            (Exit::Ok, vec![total.to_owned()]),
            "{}",
            again.err
        );
        assert!(!again.err.contains("adjust"), "{}", again.err);
        let now = archived(&desk);
        assert_eq!(
            now.keys().collect::<Vec<_>>(),
            closed.keys().collect::<Vec<_>>()
        );
        assert_eq!(now.values().copied().collect::<Vec<_>>(), [1, 0]);
        // And forward again: March is closed, with nothing but its fee.
        desk.write("job.yaml", job("2026-04-20", "10d", STATE));
        let forward = desk.run();
        assert_eq!(
            (forward.exit, forward.totals()),
            (Exit::Ok, vec!["100 EUR".into()]),
            "{}",
            forward.err
        );
        assert_eq!(archived(&desk).len(), 3);
    }
}

/// The hint that was told of the clock.
fn advised(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("if it is right, write `")?;
    Some(rest.split_once('`')?.0)
}

#[test]
fn a_machine_whose_clock_leaps_closes_nothing_and_says_so() {
    let desk = desk(
        "2024-01-01",
        "month",
        "1,+1,2024-01-12T00:00:00Z,100\n2,+1,2024-03-19T00:00:00Z,100\n",
    );
    desk.write("job.yaml", job("2024-03-20", "10d", STATE));
    let right = desk.run();
    assert_eq!(
        (right.exit, right.totals()),
        (Exit::Ok, vec!["130 EUR".into()])
    );
    let (closed, bill) = (archived(&desk), lines(&desk, "out"));
    assert_eq!(closed.len(), 2, "{closed:?}");
    // The machine is years ahead of usage and commits, however often it says so.
    desk.write("job.yaml", job("", "10d", STATE));
    for _ in 0..2 {
        let leap = desk.run();
        assert_eq!(leap.exit, Exit::Findings, "{}", leap.err);
        let told = "which is more than 31 days ahead of what is known (the newest usage is of 2024-03-19, the \
                    last commit is of 2024-03-20)";
        assert!(leap.err.contains(told), "{}", leap.err);
        let warned = leap.summary()["warnings"].to_string();
        assert!(warned.contains("no bill unit closes by it"), "{warned}");
        assert_eq!(archived(&desk), closed);
    }
    // It was right before, and nothing has moved for good.
    desk.write("job.yaml", job("2024-03-20", "10d", STATE));
    let back = desk.run();
    assert_eq!(
        (back.exit, back.totals()),
        (Exit::Ok, vec!["130 EUR".into()])
    );
    assert_eq!(
        (archived(&desk), lines(&desk, "out")),
        (closed.clone(), bill)
    );
    // Where the machine is right, the hint says what to do.
    desk.write("job.yaml", job("", "10d", STATE));
    let leap = desk.run();
    let hint = advised(&leap.err).unwrap_or_else(|| panic!("{}", leap.err));
    let clock = hint.strip_prefix("clock: ").unwrap();
    desk.write("job.yaml", job(clock, "10d", STATE));
    let followed = desk.run();
    assert_eq!(followed.exit, Exit::Ok, "{}", followed.err);
    assert!(archived(&desk).len() > closed.len() + 5);
    desk.write("job.yaml", job("", "10d", STATE));
    let quiet = desk.run();
    assert_eq!(quiet.exit, Exit::Ok, "{}", quiet.err);
    assert_eq!(quiet.totals(), followed.totals());
}

#[test]
fn nothing_closes_that_the_newest_usage_has_not_passed() {
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let end = today - 2.days();
    let from = (end - 5.days()).to_string();
    let before = format!("1,+1,{}T23:00:00Z,100\n", end - 1.days());
    for more in [STATE, ""] {
        let desk = desk(&from, "day", &before);
        desk.write("job.yaml", job("", "0d", more));
        let waits = desk.run();
        assert_eq!(waits.exit, Exit::Ok, "{}", waits.err);
        let of_yesterday = format!("{}T00:00:00Z)", end);
        let closed = || {
            archived(&desk)
                .into_keys()
                .any(|p| p.ends_with(&of_yesterday))
        };
        assert!(!closed(), "{:?}", archived(&desk));
        desk.write(
            "calls/b.csv",
            format!("id,number,at,seconds\n2,+1,{end}T01:00:00Z,100\n"),
        );
        let closes = desk.run();
        assert_eq!(closes.exit, Exit::Ok, "{}", closes.err);
        assert!(closed(), "{:?}", archived(&desk));
        // Neither the day of that usage nor any behind it.
        let last = archived(&desk).into_keys().next_back().unwrap();
        assert!(last.ends_with(&of_yesterday), "{last}");
    }
}

/// What each archived period is billed, of all that the last run billed.
fn billed(desk: &Desk, periods: &BTreeSet<String>) -> BTreeMap<String, BTreeMap<String, Value>> {
    let mut billed: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for line in rows(&desk.at("out/aggregated/snapshot")) {
        let [start, end] = ["bill_unit_start", "bill_unit_end"].map(|name| {
            let at: Timestamp = text(&line, name).parse().unwrap();
            at.to_string()
        });
        let period = format!("[{start}, {end})");
        if periods.contains(&period) {
            let id = text(&line, "aggregate_id").to_owned();
            let sum = serde_json::json!([line["charges"], line["amount"]]);
            billed.entry(period).or_default().insert(id, sum);
        }
    }
    billed
}

/// The world's job as of a day, or by the machine's clock; and its twin.
fn as_of(desk: &Desk, day: &str, after: &str) {
    let clock = |job: String| match day {
        "" => job.replace("clock: \n", ""),
        _ => job,
    };
    let kept = world::job(day, "closed", "out") + STATE;
    desk.write(
        "job.yaml",
        clock(kept.replace("after: 10d", &format!("after: {after}"))),
    );
    let twin = world::job(day, "closed", "twin");
    let twin: Vec<&str> = twin
        .lines()
        .filter(|line| !line.starts_with("archive:"))
        .collect();
    desk.write("twin.yaml", clock(twin.join("\n") + "\n"));
}

/// Whether the last run names an adjustment of a period.
fn names(ran: &Ended, period: &str) -> bool {
    let named = format!("of archived {period}");
    let mut told = ran.err.lines();
    told.any(|line| line.contains("adjustment") && line.contains(&named))
}

#[test]
fn no_history_of_clocks_graces_and_prices_moves_a_closed_bill_but_by_adjustments() {
    const DAYS: [&str; 5] = [
        "2026-02-05",
        "2026-02-20",
        "2026-03-05",
        "2026-03-20",
        "2026-04-20",
    ];
    let (runs, seed) = (
        variable("MILLRACE_CLOCKS", RUNS),
        u64::from(variable("MILLRACE_SEED", 1)),
    );
    let mut dice = Dice(seed);
    let desk = world::desk();
    let year = world::CATALOG.replace("id: total,", "id: total, cycle: year,");
    // A machine that stands before the end of the world's usage is right or behind.
    let leaps = Timestamp::now() > "2026-06-01T00:00:00Z".parse().unwrap();
    let (mut latest, mut moved, mut back, mut next) = ("", 0, 0, 600);
    for run in 0..=runs {
        let last = run == runs;
        let by_machine = leaps && !last && dice.one_in(5);
        let day = match (last, by_machine) {
            (true, _) => "2026-04-20",
            (_, true) => "",
            _ => *dice.pick(&DAYS),
        };
        let after = if last {
            "10d"
        } else {
            *dice.pick(&["0d", "10d", "60d"])
        };
        as_of(&desk, day, after);
        let price = ["price: 0.05", "price: 0.06", "price: 0.07"];
        let free = ["units: 300", "units: 350"];
        let (price, free) = (dice.pick(&price), dice.pick(&free));
        let catalog = year.replace("price: 0.05", price);
        desk.write("catalog.yaml", catalog.replace("units: 300", free));
        if dice.one_in(2) {
            desk.write(&format!("calls/late-{run:02}.csv"), calls(next..next + 20));
            next += 15;
        }
        let closed: BTreeSet<String> = archived(&desk).into_keys().collect();
        let before = billed(&desk, &closed);
        let what = format!("seed {seed}, run {run}: {day:?} after {after}");
        let made = commits(&desk);
        let ran = desk.run();
        let made = commits(&desk) - made;
        assert!(made < 40, "{what}: {made} commits: {}", ran.err);
        assert!(
            matches!(ran.exit, Exit::Ok | Exit::Findings),
            "{what}: {}",
            ran.err
        );
        let leap = ran.err.contains("the clock of this machine says");
        assert_eq!(leap, by_machine, "{what}: {}", ran.err);
        let now = billed(&desk, &closed);
        for period in &closed {
            if before.get(period) != now.get(period) {
                moved += 1;
                assert!(
                    names(&ran, period),
                    "{what}: {period} has moved: {}",
                    ran.err
                );
            }
        }
        let still: BTreeSet<String> = archived(&desk).into_keys().collect();
        assert!(still.is_superset(&closed), "{what}");
        assert!(!by_machine || still == closed, "{what}: {still:?}");
        if by_machine {
            continue;
        }
        if day < latest {
            back += 1;
            continue;
        }
        latest = day;
        is_the_twins(&desk, &ran);
        let quiet = desk.run();
        assert!(!quiet.err.contains("adjust"), "{what}: {}", quiet.err);
        is_the_twins(&desk, &quiet);
    }
    assert!(
        moved > 0 && back > 0,
        "{moved} moved, {back} back, seed {seed}"
    );
}
