//! Whatever mediation depends on is part of the state: rules, tables and layouts that change while the job
//! stands, or while it runs, come to the bill that they would have come to from the beginning.

use millrace::cli::Exit;
use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::run::RunOptions;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_tests::jobs::{Desk, Ended, millrace, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a watching job may take.
const PATIENCE: Duration = Duration::from_secs(60);

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
lookups: { zones: { file: zones.csv, key: zone } }
sources:
  - { name: calls, platform: pbx, service_type: voice, path: usage, mediation: rule.yaml }
outputs: { folder: out }
";

const RULE: &str = "\
columns: { units: bigint, at: timestamp }
where: units <> 99
identity: [id]
service: number
time: at
attributes: { region: \"lookup('zones', 'region', zone)\" }
charges: { units: units }
";

const CATALOG: &str = "\
currency: USD
prices:
  - { item: units, price: 0.5 }
  - { item: units, when: { region: abroad }, price: 2 }
";

const ACCOUNTS: &str = "\
accounts: [{ id: acme, currency: USD }]
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-01-01 }
";

const ZONES: &str = "zone,region\nfar,abroad\nnear,home\n";
/// Two units and three, at home.
const TWO: &str =
    "id,number,at,units,zone\n1,n1,2026-02-10T00:00:00Z,2,near\n2,n1,2026-02-10T00:00:00Z,3,near\n";

fn desk(durable: bool, usage: &str) -> Desk {
    let keeps = if durable {
        "durability: { folder: state, interval: 20ms }\n"
    } else {
        ""
    };
    Desk::new(&[
        ("job.yaml", &format!("{JOB}{keeps}")),
        ("rule.yaml", RULE),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("zones.csv", ZONES),
        ("usage/000.csv", usage),
    ])
}

#[track_caller]
fn is(desk: &Desk, total: &str, exit: Exit) -> Ended {
    let ended = desk.run();
    assert_eq!(
        (ended.totals(), ended.exit),
        (vec![total.to_owned()], exit),
        "{}",
        ended.err
    );
    assert_eq!(ended.summary()["ties_out"], true);
    ended
}

fn rule(from: &str, to: &str) -> String {
    assert!(RULE.contains(from), "{from}");
    RULE.replace(from, to)
}

/// Sends how money moved in one currency, whenever something that was saved has been applied; keeps what was
/// warned of.
struct Heard(Mutex<Sender<String>>, Mutex<Vec<String>>);

impl Listener for Heard {
    fn message(&self, _: &str) {}
    fn warned(&self, findings: &[Diagnostic]) {
        let findings = findings.iter().map(|finding| finding.message.clone());
        self.1.lock().unwrap().extend(findings);
    }
    fn rejected(&self, _: &[Diagnostic]) {}
    fn settled(&self) {}
    fn changed(&self, report: &ChangeReport) {
        let moved = report.money.iter();
        let moved: Vec<String> = moved.map(|(_, after)| format!("{after:?}")).collect();
        self.0.lock().unwrap().send(moved.join(", ")).ok();
    }
}

/// Saves files one after the other while the job watches, each when the one before is applied. What was warned
/// of.
fn watching(desk: &Desk, saved: &[(&str, &str)]) -> Vec<String> {
    let (tell, heard) = channel();
    let (path, stop) = (desk.at("job.yaml"), Stop::default());
    let ended = Stop::clone(&stop);
    let metrics = Metrics::new();
    let shared = Arc::clone(&metrics);
    let ear = Arc::new(Heard(Mutex::new(tell), Mutex::default()));
    let listener: Arc<dyn Listener> = Arc::<Heard>::clone(&ear);
    let job = std::thread::spawn(move || {
        let options = RunOptions {
            workers: Some(2),
            watch: true,
            ..RunOptions::default()
        };
        millrace::run::run(&path, &options, &shared, &listener, &ended)
    });
    let begun = std::time::Instant::now();
    while !metrics.is_all_read() || stop.lock().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "the job does not watch");
        std::thread::sleep(Duration::from_millis(5));
    }
    for (name, content) in saved {
        desk.write(name, content);
        heard
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{name} was not applied"));
    }
    let tell = stop.lock().unwrap().take().unwrap();
    tell.send(BTreeSet::new()).unwrap();
    job.join().unwrap().unwrap();
    let warned = ear.1.lock().unwrap();
    warned.clone()
}

#[test]
fn rules_saved_while_the_job_stands_and_while_it_runs_hold_for_all_records() {
    let desk = desk(true, TWO);
    is(&desk, "2.5 USD", Exit::Ok);
    desk.write("rule.yaml", rule("units: units", "units: units * 10"));
    let told = is(&desk, "25 USD", Exit::Ok);
    assert!(
        told.err.contains("2 records were mediated again"),
        "{}",
        told.err
    );
    watching(
        &desk,
        &[("rule.yaml", &rule("units: units", "units: units * 100"))],
    );
    let told = is(&desk, "250 USD", Exit::Ok);
    assert!(!told.err.contains("mediated again"), "once: {}", told.err);
    // Who is charged may change, and whether, and what is one record.
    desk.write("rule.yaml", rule("units <> 99", "units <> 2"));
    is(&desk, "1.5 USD", Exit::Ok);
    watching(&desk, &[("rule.yaml", &rule("units <> 99", "units <> 3"))]);
    is(&desk, "1 USD", Exit::Ok);
    desk.write("rule.yaml", rule("[id]", "[at]"));
    is(&desk, "1 USD", Exit::Findings);
    desk.write("rule.yaml", RULE);
    is(&desk, "2.5 USD", Exit::Ok);
}

#[test]
fn a_table_saved_while_the_job_stands_holds_for_all_records() {
    let desk = desk(true, TWO);
    is(&desk, "2.5 USD", Exit::Ok);
    desk.write("zones.csv", ZONES.replace("home", "abroad"));
    is(&desk, "10 USD", Exit::Ok);
    watching(&desk, &[("zones.csv", ZONES)]);
    is(&desk, "2.5 USD", Exit::Ok);
}

/// Rows under another layout are other rows: what was read stays, and is told until the layout is back.
#[test]
fn a_layout_changed_while_the_job_stands_is_told() {
    let desk = desk(true, TWO);
    is(&desk, "2.5 USD", Exit::Ok);
    let job = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
    let changed = "path: usage, csv: { header: [number, id, at, units, zone] }, mediation";
    desk.write("job.yaml", job.replace("path: usage, mediation", changed));
    for _ in 0..2 {
        let told = is(&desk, "2.5 USD", Exit::Findings);
        let expected = "\"000.csv\" was read in another format or layout; its 2 records stay";
        assert!(told.err.contains(expected), "{}", told.err);
    }
    desk.write("job.yaml", job);
    is(&desk, "2.5 USD", Exit::Ok);
}

/// The same is told when the job starts and when a rule is saved, and files of the new layout follow the rule.
#[test]
fn a_layout_changed_while_the_job_stands_is_told_when_a_rule_is_saved() {
    let desk = desk(true, TWO);
    is(&desk, "2.5 USD", Exit::Ok);
    let job = std::fs::read_to_string(desk.at("job.yaml")).unwrap();
    let changed = "path: usage, csv: { header: [number, id, at, units, zone] }, mediation";
    desk.write("job.yaml", job.replace("path: usage, mediation", changed));
    desk.write("usage/001.csv", "n1,3,2026-02-10T00:00:00Z,4,near\n");
    is(&desk, "4.5 USD", Exit::Findings);
    let warned = watching(
        &desk,
        &[("rule.yaml", &rule("units: units", "units: units * 10"))],
    );
    let expected = "\"000.csv\" was read in another format or layout; its 2 records stay as the rule before made them";
    assert_eq!(warned, [expected, expected]);
    is(&desk, "22.5 USD", Exit::Findings);
    // Back, all of it is mediated by what is in force, but for what is of the other layout now.
    desk.write("job.yaml", job);
    let told = is(&desk, "45 USD", Exit::Findings);
    assert!(
        told.err.contains("\"001.csv\" was read in another format"),
        "{}",
        told.err
    );
}

/// Raw records that are not kept are in their files alone.
#[test]
fn a_file_that_is_gone_keeps_its_records_and_is_told_until_it_is_back() {
    let desk = desk(true, TWO);
    let job = format!("{JOB}durability: {{ folder: state }}\nraw: {{ keep: false }}\n");
    desk.write("job.yaml", &job);
    is(&desk, "2.5 USD", Exit::Ok);
    std::fs::remove_file(desk.at("usage/000.csv")).unwrap();
    is(&desk, "2.5 USD", Exit::Ok);
    desk.write("rule.yaml", rule("units: units", "units: units * 10"));
    for _ in 0..2 {
        let told = is(&desk, "2.5 USD", Exit::Findings);
        assert!(
            told.err
                .contains("its 2 records stay as the rule before made them"),
            "{}",
            told.err
        );
        assert!(
            told.err.contains("put the file back as it was"),
            "{}",
            told.err
        );
    }
    desk.write("usage/000.csv", TWO);
    is(&desk, "25 USD", Exit::Ok);
}

/// What is archived stays as it is, and whoever changes a rule hears what it would change of it: once, and
/// nothing where it changes nothing. The rule as it was finds all as it is.
#[test]
fn records_of_closed_bill_units_that_a_rule_would_change_are_told() {
    for (from, to, told) in [
        ("units <> 99", "units <> 3", Some(1)),
        ("units <> 99", "units > 3", Some(2)),
        ("units: units", "units: units * 10", Some(2)),
        ("[id]", "[id, zone]", Some(2)),
        ("time: at", "time: \"CAST(number AS timestamp)\"", Some(2)),
        ("units <> 99", "units <> 98", None),
    ] {
        let desk = desk(true, TWO);
        let job = JOB.replace("2026-03-01", "2026-03-10");
        let kept = "durability: { folder: state }\narchive: { folder: closed, after: 1d }\n";
        desk.write("job.yaml", job + kept);
        is(&desk, "2.5 USD", Exit::Ok);
        desk.write("rule.yaml", rule(from, to));
        let ended = is_billed(&desk);
        let says = |records: u64| {
            format!("{records} records of closed bill units would be mediated otherwise")
        };
        match told {
            Some(records) => {
                assert!(ended.err.contains(&says(records)), "{to}: {}", ended.err);
                assert!(
                    ended.err.contains("amend or void those records"),
                    "{to}: {}",
                    ended.err
                );
                assert_eq!(ended.exit, Exit::Findings, "{to}");
                is(&desk, "2.5 USD", Exit::Ok);
                desk.write("rule.yaml", RULE);
            }
            None => assert_eq!(ended.exit, Exit::Ok, "{to}: {}", ended.err),
        }
        is(&desk, "2.5 USD", Exit::Ok);
    }
}

/// A run that leaves the bill as it is.
fn is_billed(desk: &Desk) -> Ended {
    let ended = desk.run();
    assert_eq!(ended.totals(), ["2.5 USD"], "{}", ended.err);
    ended
}

/// What `millrace explain` says of a record, as JSON and as text.
#[track_caller]
fn explained(desk: &Desk, record: &str) -> (Value, String) {
    let job = desk.at("job.yaml").display().to_string();
    let told = millrace(&["explain", &job, record, "--output", "json"]);
    let read = serde_json::from_str(&told.out);
    let read = read.unwrap_or_else(|error| panic!("{error}: {told:?}"));
    (read, millrace(&["explain", &job, record]).out)
}

/// The quantity that a record came to, and what the rule charged that made it.
#[track_caller]
fn made(desk: &Desk, record: &str) -> (String, String, bool) {
    let (told, _) = explained(desk, record);
    let parts = told["rule"]["content"]["expressions"].as_array();
    let mut parts = parts.unwrap_or_else(|| panic!("{told}")).iter();
    let charge = parts.rfind(|part| part["field"] == "charges");
    (
        told["usage"]["items"][0][1]
            .as_str()
            .unwrap_or("-")
            .to_owned(),
        text(charge.unwrap(), "sql").to_owned(),
        told["rule"]["in_force"] == true,
    )
}

fn by(quantity: &str, charge: &str, in_force: bool) -> (String, String, bool) {
    (quantity.to_owned(), charge.to_owned(), in_force)
}

/// The objects that keep what records were mediated by: rules, and tables.
fn kept_inputs(desk: &Desk) -> [Vec<String>; 2] {
    let entries = std::fs::read_dir(desk.at("state/inputs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let (tables, rules) = names.into_iter().partition(|name| name.ends_with(".table"));
    [rules, tables]
}

/// A record stays as a rule made it that is in force no more, and is told with that rule and its table, as long as
/// it does; what names neither any more keeps neither.
#[test]
fn a_record_is_explained_by_the_rule_that_made_it() {
    let desk = desk(true, TWO);
    let job = format!("{JOB}durability: {{ folder: state }}\nraw: {{ keep: false }}\n");
    desk.write("job.yaml", &job);
    is(&desk, "2.5 USD", Exit::Ok);
    assert_eq!(made(&desk, "000.csv:2"), by("2", "units", true));
    std::fs::remove_file(desk.at("usage/000.csv")).unwrap();
    desk.write("rule.yaml", rule("units: units", "units: units * 10"));
    desk.write("zones.csv", ZONES.replace("home", "abroad"));
    is(&desk, "2.5 USD", Exit::Findings);
    desk.write(
        "usage/001.csv",
        TWO.replace("\n1,", "\n3,").replace("\n2,", "\n4,"),
    );
    is(&desk, "102.5 USD", Exit::Findings);
    let (told, shown) = explained(&desk, "000.csv:2");
    assert_eq!(made(&desk, "000.csv:2"), by("2", "units", false));
    assert!(told["raw"]["fields"].is_null(), "{told}");
    assert_eq!(told["charges"][0]["amount"], "1.000000000000000000000000");
    let table = &told["rule"]["tables"][0];
    let rows = serde_json::json!([["far", "abroad"], ["near", "home"]]);
    assert_eq!(
        (&table["name"], &table["content"]),
        (&"zones".into(), &rows)
    );
    for said in [
        "not the one in force: in force from 2",
        "charges: { \"units\": \"units\" }",
        "table zones: 2 rows",
        "not kept: ",
    ] {
        assert!(shown.contains(said), "{said:?} is not in {shown}");
    }
    // The number of the other stays, though the first file is gone from its folder.
    assert_eq!(made(&desk, "001.csv:2"), by("20", "units * 10", true));
    let (told, _) = explained(&desk, "001.csv:2");
    assert_eq!(told["raw"]["fields"]["id"], "3");
    assert_eq!(kept_inputs(&desk).map(|names| names.len()), [1, 2]);
    // Back, all of it is by one rule, and nothing names the other.
    desk.write("usage/000.csv", TWO);
    is(&desk, "200 USD", Exit::Ok);
    assert_eq!(made(&desk, "000.csv:2"), by("20", "units * 10", true));
    assert_eq!(kept_inputs(&desk).map(|names| names.len()), [1, 1]);
}

/// Raw records that are kept are mediated again and told, whatever became of their files; a rule that is saved
/// while the job watches is no other than one saved while it stands.
#[test]
fn a_record_is_explained_when_its_file_is_gone() {
    let desk = desk(true, TWO);
    desk.write(
        "usage/001.csv",
        TWO.replace("\n1,", "\n3,").replace("\n2,", "\n4,"),
    );
    is(&desk, "5 USD", Exit::Ok);
    std::fs::remove_file(desk.at("usage/000.csv")).unwrap();
    for (turn, times) in [10, 100].into_iter().enumerate() {
        let charge = format!("units * {times}");
        let other = rule("units: units", &format!("units: {charge}"));
        match turn {
            0 => desk.write("rule.yaml", &other),
            _ => drop(watching(&desk, &[("rule.yaml", &other)])),
        }
        is(&desk, &format!("{} USD", 5 * times), Exit::Ok);
        for (record, id, units) in [("000.csv:2", "1", 2), ("001.csv:3", "4", 3)] {
            let quantity = (units * times).to_string();
            assert_eq!(made(&desk, record), by(&quantity, &charge, true));
            let (told, _) = explained(&desk, record);
            assert_eq!(told["raw"]["fields"]["id"], id, "{told}");
        }
        assert_eq!(kept_inputs(&desk).map(|names| names.len()), [1, 1]);
    }
}

/// Commits that change nothing of it write nothing of it.
#[test]
fn what_does_not_change_is_kept_once() {
    let desk = desk(true, TWO);
    is(&desk, "2.5 USD", Exit::Ok);
    let kept = kept_inputs(&desk);
    assert_eq!(kept.each_ref().map(Vec::len), [1, 1]);
    for file in 1..6_usize {
        let more = TWO.replace("\n1,", &format!("\n{file}1,"));
        desk.write(
            &format!("usage/{file:03}.csv"),
            more.replace("\n2,", &format!("\n{file}2,")),
        );
        let total = ["5", "7.5", "10", "12.5", "15"][file - 1];
        is(&desk, &format!("{total} USD"), Exit::Ok);
        assert_eq!(kept_inputs(&desk), kept);
    }
    // Of several commits of one run that which changes it.
    let dearer = CATALOG.replace("price: 2 ", "price: 3 ");
    let other = rule("units: units", "units: units * 10");
    watching(
        &desk,
        &[
            ("rule.yaml", &other),
            ("catalog.yaml", &dearer),
            ("catalog.yaml", CATALOG),
        ],
    );
    let [rules, tables] = kept_inputs(&desk);
    assert_eq!((rules.len(), &tables), (1, &kept[1]));
    assert_ne!(rules, kept[0]);
    let manifests = std::fs::read_dir(desk.at("state/manifest")).unwrap();
    let names = manifests.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let number = |name: &str| name[..20].parse::<u64>().unwrap();
    let newest = names.map(|name| number(&name)).max().unwrap();
    assert!(number(&rules[0]) + 2 < newest, "{rules:?}, {newest}");
}
