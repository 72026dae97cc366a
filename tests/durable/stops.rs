//! A run that is stopped, and goes on when a younger one has done its work: it harms nothing.
//!
//! Each try stops a run at a moment: when it takes over, when it commits, when its snapshots appear, or
//! anywhere. A younger run takes in one file more and ends. Then the older goes on, must be told that
//! another has taken over if it has not done all before, and a last run compares what is there with what
//! an undisturbed job writes. On folders, behind the S3 protocol, and of several processes, of which one is
//! stopped.
//!
//! `MILLRACE_STOPS` asks for more than the few stops of the short form, `MILLRACE_SEED` for others.

use crate::cluster::{LOST, Processes, arguments, hostfile};
use crate::durability::{few, job};
use crate::s3::{self, KEY, SECRET, serve};
use hyper::body::Incoming;
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, millrace, rows, same_rows, standing};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts, command, variable};
use millrace_tests::stops::{Moment, PATIENCE, Signals, Told, wanted, within};
use s3s::service::S3Service;
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Stops of the short form.
const STOPS: u32 = 4;
const STOPS_OF_BUCKETS: u32 = 2;
const STOPS_OF_MOVES: u32 = 2;
const STOPS_OF_CLUSTERS: u32 = 2;
/// For how long a process of a cluster stands still at least: the others have left one that is as silent.
const SILENCE: Duration = Duration::from_secs(11);
/// Tries after which a job begins anew: much of what may be harmed is harmed at the very beginning.
const TRIES_OF_A_JOB: u32 = 3;

const MOMENTS: [Moment; 4] = [
    Moment::Manifest,
    Moment::Journal,
    Moment::Snapshot,
    Moment::Any,
];
const MOMENTS_OF_MOVES: [Moment; 2] = [Moment::Moving, Moment::Any];

/// What kind of job is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    /// Its files are moved away when they are read.
    Moving,
    Bucket,
    /// Two processes, in folders.
    Cluster,
}

/// A job and where it writes.
struct World {
    kind: Kind,
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
    fn new(kind: Kind) -> Self {
        Self::behind(kind, serve)
    }

    /// One whose buckets are served so.
    fn behind(kind: Kind, serve: impl FnOnce(&Path) -> SocketAddr) -> Self {
        let is_bucket = kind == Kind::Bucket;
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
        ]);
        let (usage, moves) = match kind {
            Kind::Moving => ("in/input".to_owned(), "', after: 'move"),
            _ => (at("usage"), ""),
        };
        let job = durable(&format!("{usage}{moves}"), &at("out"), &durability);
        desk.write("job.yaml", job);
        std::fs::create_dir_all(desk.at("buckets/stops")).unwrap();
        let server = is_bucket.then(|| serve(&desk.at("buckets")).to_string());
        Self {
            kind,
            desk,
            root: if is_bucket { "buckets/stops/" } else { "" },
            server,
            files: 0,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.desk.at(&format!("{}{name}", self.root))
    }

    /// Where files are sent to, and where they are when they are read.
    fn places(&self) -> [String; 2] {
        match self.kind {
            Kind::Moving => ["in/input".to_owned(), "in/processed".to_owned()],
            _ => [(); 2].map(|()| format!("{}usage", self.root)),
        }
    }

    fn add_file(&mut self) {
        let [folder, _] = self.places();
        let name = format!("{folder}/calls-{:04}.csv", self.files);
        self.desk.write(&name, few(self.files));
        self.files += 1;
    }

    /// Starts a run: process 0 first.
    fn start(&self) -> Processes {
        let job = self.desk.at("job.yaml").display().to_string();
        let mut commands = match self.kind {
            Kind::Cluster => {
                let hosts = hostfile(&self.desk, 2);
                let words = [0, 1].map(|n| arguments(&job, &hosts, (2, 1), n));
                let process = |words: &Vec<String>| {
                    command(&words.iter().map(String::as_str).collect::<Vec<_>>())
                };
                words.iter().map(process).collect()
            }
            _ => vec![command(&["run", &job, "--workers", "2"])],
        };
        if let Some(server) = &self.server {
            commands[0]
                .env("AWS_ENDPOINT_URL", format!("http://{server}"))
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", KEY)
                .env("AWS_SECRET_ACCESS_KEY", SECRET);
        }
        let started = commands.iter_mut();
        Processes(started.map(|command| command.spawn().unwrap()).collect())
    }

    /// Runs the job to its end.
    #[track_caller]
    fn run(&self, told: &str) {
        for (status, said) in self.start().end(told) {
            assert!(status.success(), "{told}: {said}");
        }
    }

    /// What is there that tells of a moment.
    fn seen(&self, moment: Moment) -> BTreeSet<String> {
        let (folder, is_of): (&str, fn(&str) -> bool) = match moment {
            Moment::Manifest => ("state/manifest", |name| name.ends_with(".json")),
            Moment::Journal => ("state/journal", |name| name.ends_with(".journal")),
            Moment::Snapshot => ("out", |name| name.contains("snapshot")),
            Moment::Moving => ("in/processed", |name| name.ends_with(".csv")),
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
        let [_, usage] = self.places();
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
            same_rows(&found, &expected, &format!("{told}: snapshot of {output}"));
            let found = standing(of_content(lines(&ours("snapshot.jsonl"))));
            let text = standing(of_content(lines(&theirs("snapshot.jsonl"))));
            same_rows(&found, &text, &format!("{told}: lines of {output}"));
            if output != "balances" {
                let found = standing(of_content(rows(&ours("changes"))));
                same_rows(&found, &expected, &format!("{told}: changes of {output}"));
            }
            if output != "ledger" {
                let csv = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
                let (found, text) = (csv(ours("snapshot.csv")), csv(theirs("snapshot.csv")));
                assert!(found == text, "{told}: CSV of {output}");
            }
        }
        let raw = |folder: &Path| standing(rows(&folder.join("switch/voice/postpaid")));
        let (found, kept) = (raw(&self.at("out/raw")), raw(&self.desk.at("plain/raw")));
        same_rows(&found, &kept, &format!("{told}: raw records"));
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

fn stops(kind: Kind, wanted: u32) -> Told {
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let (mut dice, mut signals) = (Dice(seed), Signals::default());
    let mut world = World::new(kind);
    let mut told = Told::new();
    for number in 0..wanted {
        if number % TRIES_OF_A_JOB == 0 {
            world = World::new(kind);
        }
        let at = usize::try_from(number).unwrap();
        let moment = match kind {
            Kind::Moving => MOMENTS_OF_MOVES[at % MOMENTS_OF_MOVES.len()],
            _ => MOMENTS[at % MOMENTS.len()],
        };
        // Of one file, nothing of the moves is left when it is seen.
        (0..if kind == Kind::Moving { 8 } else { 1 }).for_each(|_| world.add_file());
        let before = world.newest_manifest();
        let mut older = world.start();
        // Process 0 and another in turn, and at the next turn at the other moments.
        let one = (at + at / MOMENTS.len()) % older.0.len();
        let what = format!("seed {seed}, stop {number} of process {one} at {moment:?}");
        let seen = || world.seen(moment);
        let stopped = signals.stop_at(moment, &mut dice, &mut older.0[one], seen);
        let since = Instant::now();
        // One that has not taken over yet is the younger when it goes on.
        let is_older = stopped && world.newest_manifest() != before;
        let may_end = !is_older || world.is_concluded();
        world.add_file();
        world.run(&format!("{what}: the younger run"));
        let younger = world.generation();
        if stopped {
            if kind == Kind::Cluster {
                std::thread::sleep(SILENCE.saturating_sub(since.elapsed()));
            }
            signals.tell("CONT", &older.0[one]);
        }
        let mut ended = older.end(&what).into_iter();
        let (status, said) = ended.next().unwrap();
        let tells = |said: &str| said.contains("another run of this job has taken over");
        let is_told = tells(&said);
        // One that had committed everything may have nothing to be told, and one that was still about to
        // take over has done so after the younger. Where another process is stopped, process 0 goes on.
        let may_end = may_end || world.generation() > younger || one > 0;
        assert!(!status.success() || may_end, "{what}: {said}");
        // Requests that were under way when it was stopped may fail for that, and those who wait for a
        // process that stands still leave it.
        let may_fail = match kind {
            Kind::Folder | Kind::Moving => false,
            Kind::Bucket => true,
            Kind::Cluster => status.code() == Some(LOST) && said.contains("lost process"),
        };
        assert!(status.success() != is_told || may_fail, "{what}: {said}");
        for (status, said) in ended {
            let is_good = status.success() || status.code() == Some(LOST) || tells(&said);
            assert!(is_good, "{what}: another process: {status} {said}");
        }
        let (stops, count) = told.entry(moment).or_default();
        *stops += u32::from(stopped);
        *count += u32::from(is_told);
        // What is there now is the younger's work, and what the next makes of it.
        world.compare(&format!("{what}, before the last run"));
        world.run(&format!("{what}: the last run"));
        world.compare(&what);
    }
    eprintln!("stops, and how many of them were told: {told:?}");
    told
}

fn some_were_told(told: &Told) {
    assert!(told.values().any(|(_, told)| *told > 0), "{told:?}");
}

#[test]
fn a_run_that_stood_still_harms_no_younger_one() {
    some_were_told(&stops(Kind::Folder, wanted(STOPS)));
}

#[test]
fn a_run_that_stood_still_while_it_moved_files_harms_no_younger_one() {
    let told = stops(Kind::Moving, wanted(STOPS_OF_MOVES));
    assert!(told.values().any(|(stopped, _)| *stopped > 0), "{told:?}");
}

#[test]
fn a_run_that_stood_still_harms_no_younger_one_in_a_bucket() {
    some_were_told(&stops(Kind::Bucket, wanted(STOPS_OF_BUCKETS)));
}

#[test]
fn a_cluster_of_which_a_process_stood_still_harms_no_younger_one() {
    let told = stops(Kind::Cluster, wanted(STOPS_OF_CLUSTERS));
    assert!(told.values().any(|(stopped, _)| *stopped > 0), "{told:?}");
}

/// A request that a bucket ends when nobody waits for it any more.
enum Late {
    /// A copy that had begun: these bytes are still to be put in this place.
    Copy(Vec<u8>, PathBuf),
    /// One that comes late.
    Request(Box<HttpRequest>),
}

/// A server that holds the first request back that gives an object of a certain name its place.
#[derive(Clone)]
struct Holding {
    store: S3Service,
    buckets: PathBuf,
    /// What the name has in it, while one is to be held back.
    name: Arc<Mutex<Option<&'static str>>>,
    held: Arc<Mutex<Option<Late>>>,
}

impl Holding {
    fn new(buckets: &Path, name: &'static str) -> Self {
        Self {
            store: s3::store(buckets),
            buckets: buckets.to_owned(),
            name: Arc::new(Mutex::new(Some(name))),
            held: Arc::default(),
        }
    }

    /// What is to be ended late, if this request is the one.
    fn late(&self, request: HttpRequest) -> Result<Late, Box<HttpRequest>> {
        let uri = request.uri();
        let path = uri.path().trim_start_matches('/').to_owned();
        let completes = request.method() == hyper::Method::POST
            && uri.query().is_some_and(|query| query.contains("uploadId="));
        let origin = request.headers().get("x-amz-copy-source");
        let origin =
            origin.map(|origin| origin.to_str().unwrap().trim_start_matches('/').to_owned());
        let is_placed = !path.contains("/_staged/") && (completes || origin.is_some());
        let is_it = |name: &str| is_placed && path.contains(name);
        if self
            .name
            .lock()
            .unwrap()
            .take_if(|name| is_it(name))
            .is_none()
        {
            return Err(Box::new(request));
        }
        Ok(match origin {
            Some(origin) => {
                let bytes = std::fs::read(self.buckets.join(origin)).unwrap();
                Late::Copy(bytes, self.buckets.join(path))
            }
            None => Late::Request(Box::new(request)),
        })
    }

    async fn answer(self, request: HttpRequest<Incoming>) -> Result<HttpResponse, HttpError> {
        let mut request = request.map(Body::from);
        let body = request.body_mut().store_all_limited(1 << 30).await;
        *request.body_mut() = Body::from(body.map_err(HttpError::new)?);
        match self.late(request) {
            Ok(late) => {
                *self.held.lock().unwrap() = Some(late);
                std::future::pending().await
            }
            Err(request) => self.store.call(*request).await,
        }
    }

    /// Ends what was held back.
    fn end(&self) {
        let late = self.held.lock().unwrap().take().unwrap();
        match late {
            Late::Copy(bytes, place) => {
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                std::fs::write(place, bytes).unwrap();
            }
            Late::Request(request) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(self.store.call(*request)).ok();
            }
        }
    }
}

#[test]
fn what_a_bucket_ends_late_changes_nothing() {
    for name in [
        "/aggregated/snapshot.csv",
        "/suspense/snapshot.jsonl",
        "/monetised/snapshot/",
        "/ledger/changes/",
    ] {
        let holding = std::cell::OnceCell::new();
        let mut world = World::behind(Kind::Bucket, |buckets| {
            let server = holding.get_or_init(|| Holding::new(buckets, name)).clone();
            s3::serve_with(move |request| server.clone().answer(request))
        });
        let holding = holding.get().unwrap();
        world.add_file();
        let mut older = world.start();
        let begun = Instant::now();
        while holding.held.lock().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "{name} takes no place");
            assert!(
                !older.is_over(),
                "{name} took no place: {:?}",
                older.end(name)
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        drop(older);
        world.add_file();
        world.run(name);
        holding.end();
        world.compare(name);
    }
}
