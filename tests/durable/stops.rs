//! A run that is stopped, and goes on when a younger one has done its work: it harms nothing.
//!
//! Each try stops a run at a moment: when it takes over, when it commits, when its snapshots appear, or
//! anywhere. A younger run takes in one file more and ends. Then the older goes on, must be told that
//! another has taken over if it has not done all before, and a last run compares what is there with what
//! an undisturbed job writes. On folders and behind the S3 protocol.
//!
//! `MILLRACE_STOPS` asks for more than the few stops of the short form, `MILLRACE_SEED` for others.

use crate::durability::{few, job};
use crate::s3::{KEY, SECRET, serve};
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, millrace, rows, standing};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts, command, variable};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Stops of the short form.
const STOPS: u32 = 4;
const STOPS_OF_BUCKETS: u32 = 2;
/// Tries after which a job begins anew: much of what may be harmed is harmed at the very beginning.
const TRIES_OF_A_JOB: u32 = 3;
/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// When a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// When it has taken over.
    Manifest,
    /// When it has written what it took in.
    Journal,
    /// When something of its snapshots is written.
    Snapshot,
    /// At any time.
    Any,
}

const MOMENTS: [Moment; 4] = [
    Moment::Manifest,
    Moment::Snapshot,
    Moment::Journal,
    Moment::Any,
];

/// Tells processes to stop and to go on, at once: a process that is started for it would be late.
struct Signals {
    shell: Child,
    orders: ChildStdin,
    done: BufReader<ChildStdout>,
}

impl Signals {
    fn new() -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", "while read s p; do kill -$s $p; echo; done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            orders: shell.stdin.take().unwrap(),
            done: BufReader::new(shell.stdout.take().unwrap()),
            shell,
        }
    }

    fn tell(&mut self, signal: &str, process: &Child) {
        writeln!(self.orders, "{signal} {}", process.id()).unwrap();
        self.done.read_line(&mut String::new()).unwrap();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}

/// A job and where it writes.
struct World {
    desk: Desk,
    /// Below the desk, where usage lies for the job, its state and its outputs.
    root: &'static str,
    server: Option<String>,
    files: u32,
}

/// The job with its durable state, in small commits.
fn durable(usage: &str, out: &str, durability: &str) -> String {
    let lines: String = OUTPUTS
        .iter()
        .map(|output| format!(", {output}: {{ json: true }}"))
        .collect();
    let outputs = format!("{durability}outputs: {{ folder: '{out}', csv: true{lines} }}\n");
    let job = job(&outputs).replace("path: usage", &format!("path: '{usage}'"));
    job.replace("rows: 300", "rows: 25")
}

impl World {
    fn new(is_bucket: bool) -> Self {
        let at = |name: &str| match is_bucket {
            true => format!("s3://stops/{name}"),
            false => name.to_owned(),
        };
        let durability = format!(
            "durability: {{ folder: '{}', interval: 10ms }}\n",
            at("state")
        );
        let desk = Desk::new(&[
            ("mediation.yaml", MEDIATION),
            ("catalog.yaml", CATALOG),
            ("accounts.yaml", &accounts()),
            ("job.yaml", &durable(&at("usage"), &at("out"), &durability)),
        ]);
        std::fs::create_dir_all(desk.at("buckets/stops")).unwrap();
        let server = is_bucket.then(|| serve(&desk.at("buckets")).to_string());
        Self {
            desk,
            root: if is_bucket { "buckets/stops/" } else { "" },
            server,
            files: 0,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.desk.at(&format!("{}{name}", self.root))
    }

    fn add_file(&mut self) {
        let name = format!("{}usage/calls-{:04}.csv", self.root, self.files);
        self.desk.write(&name, few(self.files));
        self.files += 1;
    }

    fn start(&self) -> Child {
        let job = self.desk.at("job.yaml").display().to_string();
        let mut command = command(&["run", &job, "--workers", "2"]);
        if let Some(server) = &self.server {
            command
                .env("AWS_ENDPOINT_URL", format!("http://{server}"))
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", KEY)
                .env("AWS_SECRET_ACCESS_KEY", SECRET);
        }
        command.spawn().unwrap()
    }

    /// Runs the job to its end.
    #[track_caller]
    fn run(&self, told: &str) {
        let ended = self.start().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{told}: {said}");
    }

    /// What is there that tells of a moment.
    fn seen(&self, moment: Moment) -> BTreeSet<String> {
        let (folder, is_of): (&str, fn(&str) -> bool) = match moment {
            Moment::Manifest => ("state/manifest", |name| name.ends_with(".json")),
            Moment::Journal => ("state/journal", |name| name.ends_with(".journal")),
            Moment::Snapshot => ("out", |name| name.contains("snapshot")),
            Moment::Any => return BTreeSet::new(),
        };
        let mut names = within(&self.at(folder));
        names.retain(|name| is_of(name));
        names
    }

    fn newest_manifest(&self) -> Option<String> {
        self.seen(Moment::Manifest).pop_last()
    }

    fn committed(&self) -> Value {
        let text = self
            .newest_manifest()
            .and_then(|newest| std::fs::read_to_string(newest).ok());
        let line = text.as_deref().and_then(|text| text.lines().next());
        line.map_or(Value::Null, |line| serde_json::from_str(line).unwrap())
    }

    /// The generation of the run that committed last.
    fn generation(&self) -> Option<u64> {
        self.committed()["generation"].as_u64()
    }

    /// Whether the run that committed last has committed its snapshots.
    fn is_concluded(&self) -> bool {
        let manifest = self.committed();
        let run = manifest["run"].as_str().unwrap_or_default();
        let outputs = manifest["outputs"].as_array().into_iter().flatten();
        let mut names = outputs.filter_map(|output| output["staged"].as_str());
        names.any(|name| name.contains(run) && name.contains("snapshot"))
    }

    /// Compares what is there with what a job writes that nobody disturbs.
    #[track_caller]
    fn compare(&self, told: &str) {
        let usage = format!("{}usage", self.root);
        self.desk.write("plain.yaml", durable(&usage, "plain", ""));
        let plain = self.desk.at("plain.yaml").display().to_string();
        let ended = millrace(&["run", &plain, "--workers", "2"]);
        assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
        for output in OUTPUTS {
            let ours = |form: &str| self.at(&format!("out/{output}/{form}"));
            let theirs = |form: &str| self.desk.at(&format!("plain/{output}/{form}"));
            let expected = standing(of_content(rows(&theirs("snapshot"))));
            assert!(!expected.is_empty(), "{told}: {output}");
            let found = standing(of_content(rows(&ours("snapshot"))));
            same(&found, &expected, &format!("{told}: snapshot of {output}"));
            let found = standing(of_content(lines(&ours("snapshot.jsonl"))));
            let text = standing(of_content(lines(&theirs("snapshot.jsonl"))));
            same(&found, &text, &format!("{told}: lines of {output}"));
            if output != "balances" {
                let found = standing(of_content(rows(&ours("changes"))));
                same(&found, &expected, &format!("{told}: changes of {output}"));
            }
            if output != "ledger" {
                let csv = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
                let (found, text) = (csv(ours("snapshot.csv")), csv(theirs("snapshot.csv")));
                assert!(found == text, "{told}: CSV of {output}");
            }
        }
        let raw = |folder: &Path| standing(rows(&folder.join("switch/voice/postpaid")));
        let (found, kept) = (raw(&self.at("out/raw")), raw(&self.desk.at("plain/raw")));
        same(&found, &kept, &format!("{told}: raw records"));
    }
}

const OUTPUTS: [&str; 9] = [
    "monetised",
    "impacts",
    "balances",
    "activity",
    "notices",
    "suspense",
    "aggregated",
    "raw_status",
    "ledger",
];

fn same(found: &BTreeMap<String, i64>, expected: &BTreeMap<String, i64>, what: &str) {
    let only = |rows: &BTreeMap<String, i64>, others: &BTreeMap<String, i64>| {
        let only = rows.iter().filter(|(row, n)| others.get(*row) != Some(n));
        let only = only.take(4).map(|(row, n)| format!("{n} of {row}"));
        only.collect::<Vec<_>>().join("\n")
    };
    assert!(
        found == expected,
        "{what} differ; ours:\n{}\ntheirs:\n{}",
        only(found, expected),
        only(expected, found)
    );
}

/// The rows of a file of JSON lines.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(line).collect()
}

/// Rows without what says where a file lies: folders and buckets tell it by other words.
fn of_content(rows: Vec<Value>) -> Vec<Value> {
    let mut rows = rows;
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.remove("location");
        row.remove("checksum");
    }
    rows
}

/// The files below a folder; those of a moment that passes may be missed.
fn within(folder: &Path) -> BTreeSet<String> {
    let (mut names, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => drop(names.insert(entry.path().display().to_string())),
            }
        }
    }
    names
}

/// Waits for a moment; says whether the run came to it.
fn comes(world: &World, moment: Moment, run: &mut Child) -> bool {
    let begun = Instant::now();
    let mut seen = world.seen(moment);
    while run.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "{moment:?} never comes");
        let now = world.seen(moment);
        if now.difference(&seen).next().is_some() {
            return true;
        }
        seen = now;
    }
    false
}

/// Stops the run at a moment; says whether it was still there to be stopped.
fn stop_at(
    world: &World,
    moment: Moment,
    dice: &mut Dice,
    older: &mut Child,
    signals: &mut Signals,
) -> bool {
    if moment != Moment::Any && !comes(world, moment, older) {
        return false;
    }
    let pause = match moment {
        Moment::Any => dice.roll(700_000),
        // At once, and a little later.
        _ => dice.roll(3) * dice.roll(15_000),
    };
    std::thread::sleep(Duration::from_micros(pause));
    signals.tell("STOP", older);
    older.try_wait().unwrap().is_none()
}

/// How often a run was stopped at each moment, and was told that another had taken over.
type Told = BTreeMap<Moment, (u32, u32)>;

fn stops(is_bucket: bool, wanted: u32) -> Told {
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let (mut dice, mut signals) = (Dice(seed), Signals::new());
    let mut world = World::new(is_bucket);
    let mut told = Told::new();
    for number in 0..wanted {
        if number % TRIES_OF_A_JOB == 0 {
            world = World::new(is_bucket);
        }
        let at = usize::try_from(number).unwrap();
        let moment = MOMENTS[at % MOMENTS.len()];
        let what = format!("seed {seed}, stop {number} at {moment:?}");
        world.add_file();
        let before = world.newest_manifest();
        let mut older = world.start();
        let stopped = stop_at(&world, moment, &mut dice, &mut older, &mut signals);
        // One that has not taken over yet is the younger when it goes on.
        let is_older = stopped && world.newest_manifest() != before;
        let may_end = !is_older || world.is_concluded();
        world.add_file();
        world.run(&format!("{what}: the younger run"));
        let younger = world.generation();
        if stopped {
            signals.tell("CONT", &older);
        }
        let ended = older.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        let is_told = said.contains("another run of this job has taken over");
        // One that had committed everything may have nothing to be told, and one that was still about to
        // take over has done so after the younger.
        let may_end = may_end || world.generation() > younger;
        assert!(!ended.status.success() || may_end, "{what}: {said}");
        // Requests that were under way when it was stopped may fail for that.
        assert!(
            ended.status.success() != is_told || is_bucket,
            "{what}: {said}"
        );
        let (stops, tells) = told.entry(moment).or_default();
        *stops += u32::from(stopped);
        *tells += u32::from(is_told);
        // What is there now is the younger's work, and what the next makes of it.
        world.compare(&format!("{what}, before the last run"));
        world.run(&format!("{what}: the last run"));
        world.compare(&what);
    }
    assert!(told.values().any(|(_, told)| *told > 0), "{told:?}");
    told
}

#[test]
fn a_run_that_stood_still_harms_no_younger_one() {
    let told = stops(false, variable("MILLRACE_STOPS", STOPS));
    println!("stops, and how many of them were told: {told:?}");
}

#[test]
fn a_run_that_stood_still_harms_no_younger_one_in_a_bucket() {
    let told = stops(true, variable("MILLRACE_STOPS", STOPS_OF_BUCKETS));
    println!("stops, and how many of them were told: {told:?}");
}
