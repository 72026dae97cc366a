//! Files as they really arrive: in buckets, which tell nobody, half copied, broken and sent again, and
//! replaced while the job stood still.

use crate::durability::{bytes, calls, compare, desk, job};
use crate::object_store;
use crate::s3::{KEY, SECRET, serve};
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace, rows, text};
use millrace_tests::kills::command;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// Records of a file.
const ROWS: u64 = 2_000;

/// A job that watches, as long as its test looks.
struct Watching(Child);

impl Watching {
    fn start(desk: &Desk, set: impl FnOnce(&mut Command)) -> Self {
        let job = desk.at("job.yaml").display().to_string();
        let mut command = command(&["run", &job, "--watch", "--workers", "1"]);
        set(&mut command);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Records received, as far as they are committed.
fn received(desk: &Desk) -> u64 {
    let job = desk.at("job.yaml").display().to_string();
    let status = millrace(&["status", &job, "--output", "json"]);
    match status.exit {
        Exit::Ok => status.summary()["received"].as_u64().unwrap(),
        _ => 0,
    }
}

/// The files of a name as the ledger has them.
fn entered(ended: &Ended, name: &str) -> Vec<Value> {
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    let mut files = ended.summary()["files"].as_array().unwrap().clone();
    files.retain(|file| text(file, "file") == name);
    files
}

#[test]
fn a_watching_job_sees_new_objects() {
    let desk = object_store::desk();
    let input = "month/switch/voice/postpaid/input";
    desk.write(
        "job.yaml",
        format!(
            "name: calls\ntime_zone: UTC\nsources:\n  - {{ name: switch, path: 's3://usage/{input}', mediation: mediation.yaml }}\n\
             catalog: [catalog.yaml]\naccounts: [accounts.yaml]\noutputs: {{ folder: out }}\n\
             durability: {{ folder: state, interval: 20ms }}\n"
        ),
    );
    let server = serve(&desk.at("buckets"));
    let _watching = Watching::start(&desk, |command| {
        command
            .env("AWS_ENDPOINT_URL", format!("http://{server}"))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
    });
    let told = || rows(&desk.at("out/raw_status/changes")).len();
    until("what is there is read", || told() > 0);
    // Both objects are read, perhaps in several commits.
    until("both objects", || told() >= 8_001);
    let before = told();
    desk.write(
        &format!("buckets/usage/{input}/c.csv"),
        "id,number,at,zone,seconds\nnew,+1,2026-02-03T10:00:00Z,home,1\n",
    );
    until("the new object is read", || told() > before);
}

/// Nothing but its place tells a record of these objects from others. The whole of one that was cut is read on
/// behind what was billed, under its own name and under another, also where that is closed and forgotten.
#[test]
fn an_object_that_was_cut_is_read_on_when_it_comes_whole() {
    let desk = object_store::desk();
    let server = serve(&desk.at("buckets"));
    let row = |n: usize| format!("{n},+1,2026-01-{n:02}T10:00:00Z,home,{n}\n");
    let first = |count: usize| {
        (1..=count).fold("id,number,at,zone,seconds\n".to_owned(), |all, n| {
            all + &row(n)
        })
    };
    desk.write(
        "mediation.yaml",
        object_store::MEDIATION.replace("[id]", "position"),
    );
    for (name, closed) in [("a", true), ("b", true), ("a", false), ("b", false)] {
        let place = format!("{name}-{closed}");
        let archive = match closed {
            true => format!("archive: {{ folder: 's3://usage/{place}/closed', after: 10d }}\n"),
            false => String::new(),
        };
        desk.write(
            "job.yaml",
            format!(
                "name: calls\ntime_zone: UTC\nclock: 2026-02-20\nsources:\n  \
                 - {{ name: switch, platform: switch, service_type: voice, path: 's3://usage/{place}/in', mediation: mediation.yaml }}\n\
                 catalog: [catalog.yaml]\naccounts: [accounts.yaml]\noutputs: {{ folder: 's3://usage/{place}/out' }}\n\
                 durability: {{ folder: 's3://usage/{place}/state' }}\n{archive}"
            ),
        );
        let send = |name: &str, content: String| {
            desk.write(&format!("buckets/usage/{place}/in/{name}.csv"), content);
            object_store::run(&desk, "job.yaml", server, SECRET)
        };
        let part = send("a", first(4));
        assert_eq!(part.totals(), ["0.1 EUR"], "{place}: {part:?}");
        assert_eq!(
            desk.at(&format!("buckets/usage/{place}/closed")).exists(),
            closed
        );
        for _ in 0..2 {
            let whole = send(name, first(10));
            assert_eq!(whole.totals(), ["0.55 EUR"], "{place}: {whole:?}");
            assert_eq!(whole.exit, Exit::Ok, "{place}: {whole:?}");
            assert_eq!(whole.summary()["records"]["monetised"], 10, "{place}");
        }
    }
}

#[test]
fn what_failed_and_what_was_sent_for_it_keep_their_places() {
    let desk = desk();
    let moving = job("durability: { folder: state, interval: 10ms }\n")
        .replace("path: usage", "path: in/input, after: move");
    desk.write("job.yaml", moving);
    let good = calls(0, &mut Dice(3));
    let wrong = good.replacen("seconds", "secnds", 1);
    let other = calls(1, &mut Dice(4));
    let send = |content: &str| {
        desk.write("in/input/a.csv", content);
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
        ended
    };
    let stands = |expected: &[(&str, &str)]| {
        let start = desk.at("in/").display().to_string();
        let found: Vec<(String, Vec<u8>)> = bytes(&desk.at("in"))
            .into_iter()
            .map(|(name, content)| (name.replacen(&start, "", 1), content))
            .collect();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let wanted: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, wanted);
        for ((name, content), (_, wanted)) in found.iter().zip(expected) {
            assert!(content == wanted.as_bytes(), "{name} is another file");
        }
    };
    send(&wrong);
    stands(&[("failed/a.csv", &wrong)]);
    let fixed = send(&good);
    assert_eq!(fixed.summary()["records"]["received"], ROWS);
    let both = [("failed/a.csv", wrong.as_str()), ("processed/a.csv", &good)];
    stands(&both);
    // A start without anything new moves nothing.
    assert_eq!(desk.run().totals(), fixed.totals());
    stands(&both);
    // What is loaded is not replaced, and what is refused takes nobody's place.
    assert_eq!(send(&other).totals(), fixed.totals());
    let all = [
        ("failed/a.2.csv", other.as_str()),
        ("failed/a.csv", &wrong),
        ("processed/a.csv", &good),
    ];
    stands(&all);
    for again in [&good, &other, &wrong] {
        assert_eq!(send(again).totals(), fixed.totals());
        stands(&all);
    }
}

#[test]
fn a_file_that_is_still_copied_is_read_whole() {
    let desk = desk();
    desk.write("usage/a.csv", calls(0, &mut Dice(3)));
    let watching = Watching::start(&desk, |_| ());
    until("what is there is read", || received(&desk) == ROWS);
    let whole = calls(1, &mut Dice(4));
    let mut copy = File::create(desk.at("usage/b.csv")).unwrap();
    for part in whole.as_bytes().chunks(whole.len() / 6) {
        copy.write_all(part).unwrap();
        // A copy takes its time; this is the whole point.
        std::thread::sleep(Duration::from_millis(40));
    }
    drop(copy);
    until("the whole file is read", || received(&desk) == 2 * ROWS);
    drop(watching);
    let copied = entered(&desk.run(), "b.csv");
    assert_eq!(copied.len(), 1, "{copied:?}");
    assert_eq!(copied[0]["state"], "loaded");
    compare(&desk, 3);
}

#[test]
fn a_failed_file_that_stays_is_entered_once() {
    let desk = desk();
    desk.write("usage/a.csv", calls(0, &mut Dice(3)));
    desk.write("usage/broken.parquet", "no Parquet");
    let watching = Watching::start(&desk, |_| ());
    let mut dice = Dice(4);
    for file in 1..4 {
        // Each makes the job look at the folder again.
        until("the files are read", || {
            received(&desk) == u64::from(file) * ROWS
        });
        desk.write(&format!("usage/a-{file}.csv"), calls(file, &mut dice));
    }
    until("the files are read", || received(&desk) == 4 * ROWS);
    drop(watching);
    for _ in 0..2 {
        let broken = entered(&desk.run(), "broken.parquet");
        assert_eq!(broken.len(), 1, "{broken:?}");
        assert_eq!(broken[0]["state"], "failed");
    }
    // Other content is another try.
    desk.write("usage/broken.parquet", "no Parquet either");
    assert_eq!(entered(&desk.run(), "broken.parquet").len(), 2);
}

#[test]
fn a_file_that_was_replaced_is_not_read_on() {
    let desk = desk();
    let mut dice = Dice(3);
    desk.write("usage/a.csv", calls(0, &mut dice));
    let mut long = OpenOptions::new();
    let mut long = long.append(true).open(desk.at("usage/a.csv")).unwrap();
    for file in 1..150 {
        let more = calls(file, &mut dice);
        let (_, records) = more.split_once('\n').unwrap();
        long.write_all(records.as_bytes()).unwrap();
    }
    let watching = Watching::start(&desk, |_| ());
    until("some of it is read", || received(&desk) > 0);
    drop(watching);
    let before = received(&desk);
    assert!(before < 150 * ROWS, "all of it was read at once");
    desk.write("usage/a.csv", calls(200, &mut Dice(5)));
    desk.write("usage/b.csv", calls(201, &mut Dice(6)));
    let ended = desk.run();
    let files = entered(&ended, "a.csv");
    let states: Vec<&str> = files.iter().map(|file| text(file, "state")).collect();
    assert_eq!(states, ["incomplete", "refused"]);
    assert_eq!(files[0]["received"], before);
    let said = text(&files[0], "message");
    assert!(said.contains("has changed since"), "{said}");
    assert!(ended.err.contains("has changed since"), "{}", ended.err);
    let neighbour = entered(&ended, "b.csv");
    assert_eq!(neighbour[0]["state"], "loaded");
    assert_eq!(neighbour[0]["received"], ROWS);
    // It stays so.
    let again = desk.run();
    assert_eq!(again.totals(), ended.totals());
    assert_eq!(entered(&again, "a.csv"), files);
}
