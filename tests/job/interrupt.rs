//! A real SIGINT: what is said, what the process ends with, and what is left behind.
//!
//! The job runs as a process of its own, which is this binary again.

use millrace::cli::{Exit, main_with};
use millrace::console::{Console, Surroundings, Talk};
use millrace_tests::jobs::Desk;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{Read as _, stderr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ARGUMENTS: &str = "MILLRACE_INTERRUPTED_ARGUMENTS";
const DEADLINE: Duration = Duration::from_secs(120);
const ROWS: usize = 400_000;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-20
epoch: { rows: 2000 }
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

const CATALOG: &str = "currency: EUR\nprices:\n  - { item: seconds, price: 0.01 }\n";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: EUR }
subscriptions:
  - { id: acme-voice, account: acme, price_lists: [standard], from: 2026-01-01, service_type: voice, services: [\"+420\"] }
";

fn desk(more: &str) -> Desk {
    let mut calls = "id,number,at,seconds\n".to_owned();
    for id in 0..ROWS {
        writeln!(calls, "{id},+420,2026-01-05T10:00:00Z,1").unwrap();
    }
    Desk::new(&[
        ("job.yaml", &format!("{JOB}{more}")),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("usage/calls.csv", &calls),
    ])
}

#[test]
fn a_process_of_its_own() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let words = ["millrace"].into_iter().chain(arguments.split('\n'));
    let surroundings = Surroundings {
        own_process: true,
        ..Surroundings::default()
    };
    let mut out = Vec::new();
    let mut console = Console::new(&mut out, Talk::on(stderr()), surroundings);
    let exit = main_with(words.map(OsString::from), &mut console);
    drop(console);
    // What the test binary itself prints is in the way elsewhere.
    eprintln!("{}", String::from_utf8_lossy(&out));
    std::process::exit(match exit {
        Exit::Ok => 0,
        Exit::Findings => 1,
        _ => 2,
    });
}

pub(crate) fn start(desk: &Desk, more: &[&str]) -> Child {
    let job = desk.at("job.yaml").display().to_string();
    let words: Vec<&str> = ["run", &job, "--workers", "1"]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "interrupt::a_process_of_its_own", "--nocapture"])
        .env(ARGUMENTS, words.join("\n"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn interrupt(process: &Child) {
    let id = process.id().to_string();
    let told = Command::new("kill").args(["-INT", &id]).status().unwrap();
    assert!(told.success());
}

/// Files below a folder whose names end so.
fn ending(folder: &Path, end: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(ending(&entry.path(), end));
        } else if entry.file_name().to_string_lossy().ends_with(end) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

fn until(what: &str, process: &mut Child, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < DEADLINE, "not in time: {what}");
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "ended before: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What it ended with, and what it said.
fn end(mut process: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    (process.wait().unwrap().code(), said)
}

#[test]
fn a_job_that_keeps_nothing_ends_at_once_and_leaves_nothing_half_written() {
    let desk = desk("");
    let folder = desk.at("");
    let mut process = start(&desk, &[]);
    until("a file is being written", &mut process, || {
        !ending(&folder, ".tmp").is_empty()
    });
    interrupt(&process);
    let (code, said) = end(process);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("ended at once; run the job again"), "{said}");
    assert_eq!(ending(&folder, ".tmp"), Vec::<String>::new());
}

#[test]
fn a_durable_job_ends_behind_its_commit_and_is_gone_on_with() {
    let desk = desk("durability: { folder: state, interval: 20ms }\n");
    let folder = desk.at("");
    let mut process = start(&desk, &[]);
    until("something is committed", &mut process, || {
        ending(&desk.at("state/manifest"), ".json").len() > 3
    });
    interrupt(&process);
    let (code, said) = end(process);
    assert!(
        said.contains("ending after the commit that is under way"),
        "{said}"
    );
    assert!(said.contains("ended before everything was read"), "{said}");
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(ending(&folder, ".tmp"), Vec::<String>::new());
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.err);
    assert_eq!(ended.totals(), [format!("{} EUR", ROWS / 100)]);
}

#[test]
fn the_second_interrupt_ends_at_once() {
    let desk = desk("durability: { folder: state, interval: 20ms }\n");
    let folder = desk.at("");
    let mut process = start(&desk, &["--watch"]);
    until("something is committed", &mut process, || {
        ending(&desk.at("state/manifest"), ".json").len() > 3
    });
    interrupt(&process);
    // Signals that come together are one.
    std::thread::sleep(Duration::from_millis(20));
    interrupt(&process);
    let (code, said) = end(process);
    assert!(said.contains("Ctrl-C again ends at once"), "{said}");
    // Whichever was sooner: the end in good order, or the second interrupt.
    assert!(matches!(code, Some(130 | 1 | 0)), "{code:?} {said}");
    assert_eq!(ending(&folder, ".tmp"), Vec::<String>::new());
    let ended = desk.run();
    assert_eq!(
        ended.totals(),
        [format!("{} EUR", ROWS / 100)],
        "{}",
        ended.err
    );
}
