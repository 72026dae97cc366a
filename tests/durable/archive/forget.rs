//! What is archived leaves the state, and the bill stays what it would be if nothing had left.

use super::world::{self, calls, job};
use millrace::cli::Exit;
use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::run::RunOptions;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace, rows, standing, totals};
use millrace_tests::kills::{start, variable};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const KILLS: u32 = 10;
/// How long a watching job may take.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const DAYS: [&str; 4] = ["2026-02-05", "2026-02-20", "2026-03-20", "2026-04-20"];

/// The world's catalog, with tiers of the pool by the total of a year: each month begins where the one
/// before it ended.
pub(super) fn catalog() -> String {
    let more = world::CATALOG.replace("id: total,", "id: total, cycle: year,");
    more.replace("from: 500, price", "from: 8000, price")
}

/// The world's job as of a day, with durable state; beside it the same without state and archive.
pub(crate) fn as_of(desk: &Desk, day: &str) {
    let kept = job(day, "closed", "out") + "durability: { folder: state, interval: 20ms }\n";
    desk.write("job.yaml", kept);
    let plain = job(day, "closed", "twin");
    let plain: String = plain
        .lines()
        .filter(|line| !line.starts_with("archive:"))
        .map(|line| format!("{line}\n"))
        .collect();
    desk.write("twin.yaml", plain);
}

pub(crate) fn desk() -> Desk {
    let desk = world::desk();
    desk.write("catalog.yaml", catalog());
    as_of(&desk, DAYS[0]);
    desk
}

/// The job as of February, which adjusts what is closed every second while it watches.
pub(super) fn adjusting() -> Desk {
    let desk = desk();
    as_of(&desk, DAYS[1]);
    let kept = job(DAYS[1], "closed", "out").replace("after: 10d", "after: 10d, adjust: 1s");
    desk.write(
        "job.yaml",
        kept + "durability: { folder: state, interval: 20ms }\n",
    );
    desk
}

/// Waits until January has this in the archive; `look` looks after whoever is to write it.
pub(super) fn january_has(desk: &Desk, name: &str, mut look: impl FnMut()) {
    let january = desk.at("closed/periods/20260101T000000Z-20260201T000000Z");
    let begun = Instant::now();
    while !january.join(name).exists() {
        assert!(begun.elapsed() < PATIENCE, "{name}");
        look();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A job that has closed and forgotten January.
pub(crate) fn desk_that_forgot() -> Desk {
    let desk = desk();
    as_of(&desk, DAYS[1]);
    is_the_twins(&desk, &run(&desk));
    desk
}

/// What is archived stays as it was mediated, whatever rules come, and is told with the rule that made it.
#[test]
fn an_archived_record_is_explained_by_the_rule_that_made_it() {
    let desk = desk_that_forgot();
    let told = |record: &str| {
        let job = desk.at("job.yaml").display().to_string();
        let told = millrace(&["explain", &job, record, "--output", "json"]);
        let told: Value =
            serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{e}: {told:?}"));
        let parts = told["rule"]["content"]["expressions"].as_array().unwrap();
        let charge = parts.last().unwrap()["sql"].as_str().unwrap().to_owned();
        let changed = told["rule"]["until"].is_string();
        (
            charge,
            told["rule"]["in_force"] == true,
            changed,
            told["archived"].is_string(),
        )
    };
    let is = |charge: &str, now: bool, archived: bool| (charge.to_owned(), now, !now, archived);
    // Of 1 January and of 12 March.
    let (closed, open) = ("a.csv:2", "a.csv:12");
    assert_eq!(told(closed), is("seconds", true, true));
    assert_eq!(told(open), is("seconds", true, false));
    for charge in ["seconds + 1", "seconds + 2"] {
        let other =
            world::MEDIATION.replace("seconds: seconds }", &format!("seconds: {charge} }}"));
        desk.write("mediation.yaml", other);
        run(&desk);
        assert_eq!(told(closed), is("seconds", false, true));
        assert_eq!(told(open), is(charge, true, false));
    }
    // March closes by the last rule, and stays so.
    as_of(&desk, DAYS[3]);
    run(&desk);
    desk.write("mediation.yaml", world::MEDIATION);
    run(&desk);
    assert_eq!(told(closed), is("seconds", true, true));
    assert_eq!(told(open), is("seconds + 2", false, true));
}

/// Billing lines, by account, bill unit, item and zone.
pub(crate) fn lines(desk: &Desk, folder: &str) -> BTreeMap<String, (Value, Value)> {
    let lines = rows(&desk.at(&format!("{folder}/aggregated/snapshot"))).into_iter();
    lines
        .map(|line| {
            let id = line["aggregate_id"].as_str().unwrap().to_owned();
            (id, (line["charges"].clone(), line["amount"].clone()))
        })
        .collect()
}

/// What buckets stand at, by group, resource and validity.
fn balances(desk: &Desk, folder: &str) -> BTreeMap<String, [Value; 2]> {
    let rows = rows(&desk.at(&format!("{folder}/balances/snapshot"))).into_iter();
    let bucket = |row: &Value| {
        ["balance_group", "resource", "valid_start", "valid_end"]
            .map(|name| row[name].to_string())
            .join(" ")
    };
    let value = |row: &Value| [row["units"].clone(), row["amount"].clone()];
    rows.map(|row| (bucket(&row), value(&row))).collect()
}

/// The job's last run and the twin's come to the same, file by file.
pub(crate) fn is_the_twins(desk: &Desk, ran: &Ended) {
    let twin = bills_as_the_twin(desk, ran);
    assert_eq!(ran.summary()["files"], twin["files"]);
}

/// The job's last run and the twin's come to the same bill, and changes add up to what stands. Returns
/// what the twin came to.
fn bills_as_the_twin(desk: &Desk, ran: &Ended) -> Value {
    assert!(matches!(ran.exit, Exit::Ok | Exit::Findings), "{}", ran.err);
    let twin = desk.at("twin.yaml").display().to_string();
    let twin = millrace(&["run", &twin, "--output", "json"]);
    assert!(lines(desk, "twin").len() > 5, "{}", twin.err);
    assert_eq!(lines(desk, "out"), lines(desk, "twin"));
    let (told, twin) = (ran.summary(), twin.summary());
    assert_eq!(totals(&told), totals(&twin));
    assert_eq!(told["records"], twin["records"]);
    let (ours, theirs) = (balances(desk, "out"), balances(desk, "twin"));
    assert!(!ours.is_empty());
    for (bucket, value) in &ours {
        assert_eq!(Some(value), theirs.get(bucket), "{bucket}");
    }
    for output in ["aggregated", "suspense", "raw_status"] {
        let there = |kind: &str| standing(rows(&desk.at(&format!("out/{output}/{kind}"))));
        assert_eq!(there("changes"), there("snapshot"), "{output}");
    }
    twin
}

/// Usage rows in the state.
pub(crate) fn open(desk: &Desk) -> u64 {
    let job = desk.at("job.yaml").display().to_string();
    let status = millrace(&["status", &job, "--output", "json"]).summary();
    status["state"]["rows"].as_u64().unwrap()
}

fn run(desk: &Desk) -> Ended {
    desk.run()
}

#[test]
fn the_bill_is_the_same_as_if_nothing_was_forgotten() {
    let desk = desk();
    is_the_twins(&desk, &run(&desk));
    assert_eq!(open(&desk), 600);
    // January closes, with everything that was late meanwhile.
    as_of(&desk, DAYS[1]);
    desk.write("calls/c.csv", calls(590..640));
    is_the_twins(&desk, &run(&desk));
    let held = open(&desk);
    assert!(held < 500, "{held}");
    // Late records of January and open ones, some for the second time.
    desk.write("calls/d.csv", calls(630..700));
    let late = run(&desk);
    assert!(
        late.err.contains("adjustment 1 of archived [2026-01-01"),
        "{}",
        late.err
    );
    is_the_twins(&desk, &late);
    // February closes; a late record moves what January carries into it, and February into March.
    as_of(&desk, DAYS[2]);
    desk.write("calls/e.csv", calls(700..800));
    is_the_twins(&desk, &run(&desk));
    // What is asked of closed bill units is answered, or refused.
    let job = desk.at("job.yaml").display().to_string();
    let gone = millrace(&["explain", &job, "a.csv:2"]);
    assert!(
        gone.out.contains("MONETISED") && gone.out.contains("closed"),
        "{gone:?}"
    );
    let twin = desk.at("twin.yaml").display().to_string();
    let balance = |path: &str| {
        let told = millrace(&["balance", path, "--output", "json"]).summary();
        let accounts = told["accounts"].as_array().unwrap().iter();
        let sums = |account: &Value| {
            ["account", "charged", "usage", "subscriptions"].map(|name| account[name].clone())
        };
        accounts.map(sums).collect::<Vec<_>>()
    };
    assert_eq!(balance(&job), balance(&twin));
    let past = millrace(&["balance", &job, "carl", "--at", "2026-01-15"]);
    assert!(past.err.contains("\"carl\" before 2026-03-01"), "{past:?}");
    // Prices of the past change, and what is given each month.
    let other = catalog().replace("price: 0.05", "price: 0.06");
    desk.write("catalog.yaml", other.replace("units: 300", "units: 350"));
    is_the_twins(&desk, &run(&desk));
    // And back, together with more that is late.
    desk.write("calls/f.csv", calls(800..820));
    desk.write("catalog.yaml", catalog());
    is_the_twins(&desk, &run(&desk));
    as_of(&desk, DAYS[3]);
    is_the_twins(&desk, &run(&desk));
    let held = open(&desk);
    assert_eq!(held, 0, "everything is closed");
    assert_eq!(balance(&job), balance(&twin));
    // A fee that was charged in a closed quarter is another.
    desk.write(
        "catalog.yaml",
        catalog().replace("amount: 3,", "amount: 4,"),
    );
    is_the_twins(&desk, &run(&desk));
    let quiet = run(&desk);
    assert!(
        !quiet.err.contains("adjust") && !quiet.err.contains("archived"),
        "{}",
        quiet.err
    );
    is_the_twins(&desk, &quiet);
}

/// The accounts with a number that is not acme's any more: bulk has it, who is billed by the quarter.
fn moved() -> String {
    world::ACCOUNTS
        .replace("[\"+1\", \"+2\"]", "[\"+2\"]")
        .replace("[\"+5\"]", "[\"+5\", \"+1\"]")
}

#[test]
fn usage_of_a_closed_bill_unit_can_move_to_an_open_one() {
    let desk = desk();
    as_of(&desk, DAYS[1]);
    is_the_twins(&desk, &run(&desk));
    // January is closed.
    desk.write("accounts.yaml", moved());
    is_the_twins(&desk, &run(&desk));
    desk.write("calls/c.csv", calls(590..640));
    is_the_twins(&desk, &run(&desk));
    // And back, into January.
    desk.write("accounts.yaml", world::ACCOUNTS);
    is_the_twins(&desk, &run(&desk));
    desk.write("accounts.yaml", moved());
    is_the_twins(&desk, &run(&desk));
    as_of(&desk, DAYS[3]);
    is_the_twins(&desk, &run(&desk));
    assert_eq!(open(&desk), 0, "everything is closed");
}

#[test]
fn archived_usage_that_cannot_be_rated_any_more_waits_beside_late_records() {
    let desk = desk_that_forgot();
    let held = open(&desk);
    // Nobody has the number of January's usage any more.
    let nobodys = world::ACCOUNTS.replace("[\"+1\", \"+2\"]", "[\"+2\"]");
    desk.write("accounts.yaml", nobodys);
    is_the_twins(&desk, &run(&desk));
    assert!(open(&desk) > held, "it is open, and suspended");
    desk.write("calls/c.csv", calls(590..640));
    is_the_twins(&desk, &run(&desk));
    desk.write("accounts.yaml", world::ACCOUNTS);
    is_the_twins(&desk, &run(&desk));
    as_of(&desk, DAYS[3]);
    is_the_twins(&desk, &run(&desk));
    assert_eq!(open(&desk), 0, "everything is closed");
}

#[test]
fn a_watching_job_closes_and_adjusts_by_itself() {
    let desk = adjusting();
    let path = desk.at("job.yaml").display().to_string();
    let mut process = start(&["run", &path, "--watch"]);
    let there = |name: &str| january_has(&desk, name, || ());
    there("manifest-0000.json");
    desk.write("calls/c.csv", calls(600..640));
    there("manifest-0001.json");
    desk.write(
        "catalog.yaml",
        catalog().replace("price: 0.05", "price: 0.06"),
    );
    there("manifest-0002.json");
    process.kill().unwrap();
    process.wait().unwrap();
    let last = run(&desk);
    assert!(!last.err.contains("adjustment"), "{}", last.err);
    is_the_twins(&desk, &last);
}

/// Breaks the catalog while the job ends to begin again, and mends it once that is told.
struct Saver {
    catalog: PathBuf,
    tell: Mutex<Sender<String>>,
}

impl Saver {
    fn tell(&self, text: &str) {
        // A test that has failed listens no more.
        self.tell.lock().unwrap().send(text.to_owned()).ok();
    }
}

impl Listener for Saver {
    fn message(&self, text: &str) {
        if text.contains("adjustment 1 of archived [2026-01-01") {
            std::fs::write(&self.catalog, "currency: EUR\nprices: [").unwrap();
        }
        self.tell(text);
    }
    fn warned(&self, _: &[Diagnostic]) {}
    fn rejected(&self, findings: &[Diagnostic]) {
        assert!(findings.iter().any(Diagnostic::is_error));
        self.tell("rejected");
        let mended = catalog().replace("price: 0.05", "price: 0.06");
        std::fs::write(&self.catalog, mended).unwrap();
    }
    fn changed(&self, _: &ChangeReport) {}
    fn settled(&self) {}
}

#[test]
fn a_watching_job_that_begins_again_waits_for_a_catalog_that_is_half_saved() {
    let desk = desk();
    let kept = job(DAYS[1], "closed", "out").replace("after: 10d", "after: 10d, adjust: 1s");
    desk.write(
        "job.yaml",
        kept + "durability: { folder: state, interval: 20ms }\n",
    );
    let (tell, heard) = channel();
    let saver = Saver {
        catalog: desk.at("catalog.yaml"),
        tell: Mutex::new(tell),
    };
    let (path, stop) = (desk.at("job.yaml"), Stop::default());
    let ended = Stop::clone(&stop);
    let job = std::thread::spawn(move || {
        let options = RunOptions {
            workers: Some(1),
            watch: true,
            ..RunOptions::default()
        };
        let listener: Arc<dyn Listener> = Arc::new(saver);
        millrace::run::run(&path, &options, &Metrics::new(), &listener, &ended)
    });
    let until = |expected: &str| {
        let begun = Instant::now();
        while !heard
            .recv_timeout(PATIENCE.saturating_sub(begun.elapsed()))
            .unwrap_or_else(|_| panic!("the job has not told {expected:?}"))
            .contains(expected)
        {}
    };
    until("archived [2026-01-01");
    desk.write("calls/c.csv", calls(600..640));
    until("rejected");
    // Archived bill units are adjusted by the price that came while nothing was watched.
    until("adjustment 2 of archived [2026-01-01");
    let tell = stop.lock().unwrap().take().unwrap();
    tell.send(BTreeSet::new()).unwrap();
    job.join().unwrap().unwrap();
    is_the_twins(&desk, &run(&desk));
}

#[test]
fn kills_while_forgetting_change_nothing() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    let (mut killed, mut ended, mut first) = (0, 0, 600);
    for turn in 0.. {
        if killed >= kills && turn >= 8 {
            break;
        }
        if dice.roll(2) == 0 {
            let again = first - dice.roll(40);
            let last = first + 1 + dice.roll(60);
            desk.write(&format!("calls/late-{turn:04}.csv"), calls(again..last));
            first = last;
        }
        match dice.roll(8) {
            0 => desk.write("accounts.yaml", moved()),
            1 => desk.write("accounts.yaml", world::ACCOUNTS),
            _ => {}
        }
        as_of(
            &desk,
            DAYS[usize::try_from(u64::from(killed) * 4 / u64::from(kills).max(1))
                .unwrap()
                .min(3)],
        );
        let mut process = start(&["run", &job, "--workers", &(1 + dice.roll(2)).to_string()]);
        std::thread::sleep(Duration::from_millis(20 + dice.roll(900)));
        match process.try_wait().unwrap() {
            Some(status) => {
                let said = process.wait_with_output().unwrap().stderr;
                let said = String::from_utf8_lossy(&said);
                assert!(status.success(), "seed {seed}: {said}");
                ended += 1;
            }
            None => {
                process.kill().unwrap();
                process.wait().unwrap();
                killed += 1;
            }
        }
    }
    as_of(&desk, DAYS[3]);
    let last = run(&desk);
    println!(
        "{killed} kills, {ended} runs to the end, {} records, seed {seed}",
        first
    );
    // Usage that moves to and fro may change places with what repeats it.
    bills_as_the_twin(&desk, &last);
}
