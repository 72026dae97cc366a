//! A job as several processes: the same bytes as one process writes, whatever is killed or stopped.
//!
//! Each process is this binary again, see `kills`. `MILLRACE_CLUSTER_KILLS` asks for more kills than the
//! few of the short form, `MILLRACE_SEED` for another history.

use crate::durability::{bytes, calls, compare, desk, job};
use millrace::cli::Exit;
use millrace::cluster::{
    ClusterPlan, Guest, Host, Place, Secret, Supervisor, SupervisorError, Terms,
};
use millrace::listener::{ChangeReport, Listener};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace};
use millrace_tests::kills::{command, start, variable};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Disturbances of the short form.
const KILLS: u32 = 10;
/// How long processes may take to end by themselves: a silent one is missed after ten seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where processes are: free ports of this machine.
pub(crate) fn hostfile(desk: &Desk, processes: usize) -> String {
    let listeners: Vec<TcpListener> = (0..processes)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let lines = listeners
        .iter()
        .map(|l| format!("{}\n", l.local_addr().unwrap()));
    let name = format!("hosts-{}", listeners[0].local_addr().unwrap().port());
    desk.write(&name, lines.collect::<String>());
    desk.at(&name).display().to_string()
}

/// The arguments of a process of a job that goes without a secret.
pub(crate) fn arguments(
    job: &str,
    hosts: &str,
    processes: (usize, usize),
    n: usize,
) -> Vec<String> {
    let mut arguments = secretive(job, hosts, processes, n);
    arguments.push("--no-secret".to_owned());
    arguments
}

/// The arguments of a process of a job that has a secret, but for the secret.
pub(crate) fn secretive(
    job: &str,
    hosts: &str,
    (processes, workers): (usize, usize),
    n: usize,
) -> Vec<String> {
    let (processes, workers, n) = (processes.to_string(), workers.to_string(), n.to_string());
    let arguments = [
        "run",
        job,
        "--processes",
        &processes,
        "--workers",
        &workers,
        "--hostfile",
        hosts,
        "--process",
        &n,
    ];
    arguments.map(str::to_owned).to_vec()
}

/// Processes of a job; killed with their owner.
pub(crate) struct Processes(pub(crate) Vec<Child>);

impl Processes {
    pub(crate) fn start(desk: &Desk, job: &str, processes: usize, more: &[&str]) -> Self {
        let hosts = hostfile(desk, processes);
        let process = |n| {
            let mut arguments = arguments(job, &hosts, (processes, 1), n);
            arguments.extend(more.iter().map(|word| (*word).to_owned()));
            start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        };
        Self((0..processes).map(process).collect())
    }

    pub(crate) fn signal(&self, process: usize, signal: &str) {
        let process = self.0[process].id().to_string();
        let told = Command::new("kill").args([signal, &process]).status();
        assert!(told.unwrap().success());
    }

    /// Whether all have ended.
    pub(crate) fn is_over(&mut self) -> bool {
        let mut processes = self.0.iter_mut();
        processes.all(|process| process.try_wait().unwrap().is_some())
    }

    /// Waits until all have ended by themselves: how, and what they said.
    pub(crate) fn end(mut self, what: &str) -> Vec<(ExitStatus, String)> {
        let begun = Instant::now();
        while !self.is_over() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let is_over = self.is_over();
        for process in self.0.iter_mut().filter(|_| !is_over) {
            process.kill().ok();
        }
        let processes = std::mem::take(&mut self.0).into_iter();
        let ended = processes.map(|process| {
            let ended = process.wait_with_output().unwrap();
            (
                ended.status,
                String::from_utf8_lossy(&ended.stderr).into_owned(),
            )
        });
        let ended = ended.collect();
        assert!(is_over, "{what}: processes go on: {ended:#?}");
        ended
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.0 {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// Every file below a folder, by its name there.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let start = folder.display().to_string();
    let files = crate::durability::bytes(folder).into_iter();
    files
        .map(|(name, bytes)| (name.replacen(&start, "", 1), bytes))
        .collect()
}

#[test]
fn any_number_of_processes_writes_the_same_bytes() {
    let desk = desk();
    let plain = job(
        "outputs: { impacts: { json: true }, raw_status: { json: true } }\n\
                     billing: { aggregate_by: [service] }\n",
    );
    desk.write("plain.yaml", plain);
    for file in 0..3 {
        desk.write(
            &format!("usage/calls-{file}.csv"),
            calls(file, &mut Dice(7)),
        );
    }
    let job = desk.at("plain.yaml").display().to_string();
    let out = |name: &str| desk.at(name).display().to_string();
    let alone = millrace(&["run", &job, "--workers", "2", "--out", &out("1x2")]);
    assert_eq!(alone.exit, Exit::Findings, "{}", alone.err);
    let alone = files(&desk.at("1x2"));
    assert!(alone.len() > 20, "{:?}", alone.keys());
    for processes in [2, 3] {
        let name = format!("{processes}x1");
        let ended = Processes::start(&desk, &job, processes, &["--out", &out(&name)]).end(&name);
        for (status, said) in ended {
            assert!(status.success(), "{name}: {said}");
        }
        let together = files(&desk.at(&name));
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&together), names(&alone), "{name}");
        let differ = together
            .iter()
            .filter(|(name, bytes)| alone[*name] != **bytes);
        let differ: Vec<&String> = differ.map(|(name, _)| name).collect();
        assert!(differ.is_empty(), "{name} writes other bytes: {differ:?}");
    }
}

/// Runs process 0 of two and another process beside it, in this process: both come to no run.
fn refused(desk: &Desk, theirs: impl FnOnce(&mut Vec<String>)) -> (Ended, Ended) {
    let job = desk.at("job.yaml").display().to_string();
    let hosts = hostfile(desk, 2);
    let mut ours = arguments(&job, &hosts, (2, 1), 0);
    ours.extend(["--patience".to_owned(), "3".to_owned()]);
    let mut other = arguments(&job, &hosts, (2, 1), 1);
    other.extend(["--patience".to_owned(), "3".to_owned()]);
    theirs(&mut other);
    let run = |arguments: Vec<String>| {
        std::thread::spawn(move || {
            millrace(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
    };
    let (ours, other) = (run(ours), run(other));
    (ours.join().unwrap(), other.join().unwrap())
}

#[test]
fn processes_that_differ_refuse_each_other() {
    let desk = desk();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    let check = |theirs: &dyn Fn(&mut Vec<String>), says: &str| {
        let (ours, other) = refused(&desk, theirs);
        assert_eq!((ours.exit, other.exit), (Exit::Unusable, Exit::Unusable));
        assert!(
            other.err.contains("process 0 refuses process"),
            "{}",
            other.err
        );
        assert!(other.err.contains(says), "{}", other.err);
        assert!(
            ours.err.contains("have not come within 3 s: 1 ("),
            "{}",
            ours.err
        );
        assert!(ours.err.contains(says), "{}", ours.err);
    };
    let position = |words: &[String], word: &str| words.iter().position(|w| w == word).unwrap();
    let set = |words: &mut Vec<String>, word: &str, value: &str| {
        let at = position(words, word);
        words[at + 1] = value.to_owned();
    };
    desk.write("other.yaml", job("outputs: { folder: other }\n"));
    let other = desk.at("other.yaml").display().to_string();
    check(
        &|words| words[1].clone_from(&other),
        "its job file has other content",
    );
    check(
        &|words| set(words, "--workers", "2"),
        "it has 2 workers, process 0 has 1",
    );
    let three = hostfile(&desk, 3);
    let first = std::fs::read_to_string(&three).unwrap();
    check(
        &|words| {
            let at = position(words, "--hostfile");
            let hosts = std::fs::read_to_string(&words[at + 1]).unwrap();
            let last = first.lines().last().unwrap();
            desk.write("hosts-of-three", format!("{hosts}{last}\n"));
            words[at + 1] = desk.at("hosts-of-three").display().to_string();
            set(words, "--processes", "3");
        },
        "it is of 3 processes, process 0 of 2",
    );
    // Nothing was taken over for a run that did not begin.
    assert!(!desk.at("state/manifest").exists());
}

#[test]
fn a_folder_that_is_not_shared_is_noticed() {
    let desk = desk();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    let elsewhere = desk.at("elsewhere").display().to_string();
    let (ours, other) = refused(&desk, |words| {
        words.extend(["--out".to_owned(), elsewhere.clone()]);
    });
    assert_eq!((ours.exit, other.exit), (Exit::Unusable, Exit::Unusable));
    for said in [ours.err, other.err] {
        assert!(
            said.contains("process 1 does not see the folder of the outputs"),
            "{said}"
        );
        assert!(said.contains(&elsewhere), "{said}");
    }
    assert!(bytes(&desk.at("out/_cluster")).is_empty());
}

/// The number of the newest commit; 0 before the first.
pub(crate) fn commits(desk: &Desk) -> usize {
    let names = std::fs::read_dir(desk.at("state/manifest")).into_iter();
    let names = names.flatten().flatten();
    let names = names.filter_map(|name| name.file_name().into_string().ok());
    let numbers = names.filter_map(|name| name.strip_suffix(".json")?.parse::<usize>().ok());
    numbers.max().unwrap_or(0)
}

/// Starts a job that watches, and waits until it has committed: a run under way.
fn under_way(desk: &Desk, processes: usize, more: &[&str]) -> Processes {
    let job = desk.at("job.yaml").display().to_string();
    let before = commits(desk);
    let cluster = Processes::start(desk, &job, processes, &[&["--watch"], more].concat());
    let begun = Instant::now();
    // The first commit takes the job over.
    while commits(desk) < before + 2 {
        assert!(begun.elapsed() < PATIENCE, "nothing is committed");
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster
}

pub(crate) const LOST: i32 = 3;

#[test]
fn the_end_of_one_process_is_the_end_of_all() {
    let desk = desk();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    for (killed, others) in [(1, [0, 2]), (0, [1, 2])] {
        let cluster = under_way(&desk, 3, &[]);
        cluster.signal(killed, "-KILL");
        let ended = cluster.end("killed");
        for other in others {
            let (status, said) = &ended[other];
            assert_eq!(status.code(), Some(LOST), "{other}: {said}");
            assert!(said.contains("lost process"), "{other}: {said}");
        }
    }
    // Stopped for a moment, nobody minds. Stopped for long, a process is missed; when it goes on, it
    // finds that the others are gone.
    let mut cluster = under_way(&desk, 2, &[]);
    cluster.signal(1, "-STOP");
    cluster.signal(1, "-CONT");
    assert!(!cluster.is_over());
    cluster.signal(1, "-STOP");
    let begun = Instant::now();
    while cluster.0[0].try_wait().unwrap().is_none() {
        assert!(
            begun.elapsed() < PATIENCE,
            "a stopped process is not missed"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.signal(1, "-CONT");
    for (status, said) in cluster.end("stopped") {
        assert_eq!(status.code(), Some(LOST), "{said}");
        assert!(said.contains("lost process"), "{said}");
    }
    // Any of them can be asked for the end, and all end in good order.
    let cluster = under_way(&desk, 3, &[]);
    cluster.signal(2, "-TERM");
    for (status, said) in cluster.end("asked") {
        assert!(status.success(), "{status} {said}");
    }
    compare(&desk, 3);
}

#[test]
fn a_worker_that_hangs_is_noticed() {
    let desk = desk();
    desk.write("usage/calls.csv", calls(0, &mut Dice(3)));
    // On a machine under load the process may be missed before the epoch is bound: then once more.
    let noticed = (1..6).any(|file| {
        let mut cluster = under_way(&desk, 2, &["--stuck-after", "2"]);
        // Stopped for less than it takes to be missed: what hangs meanwhile is the epoch.
        cluster.signal(1, "-STOP");
        let more = format!("usage/more-{file}.csv");
        desk.write(&more, calls(file, &mut Dice(4)));
        let begun = Instant::now();
        while cluster.0[0].try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "nobody notices");
            std::thread::sleep(Duration::from_millis(10));
        }
        cluster.signal(1, "-CONT");
        let ended = cluster.end("hung");
        let (status, said) = &ended[0];
        assert_eq!(status.code(), Some(LOST), "{said}");
        said.contains("has not completed for")
    });
    assert!(noticed);
    let job = desk.at("job.yaml").display().to_string();
    let again = Processes::start(&desk, &job, 2, &[]).end("again");
    assert!(
        again.iter().all(|(status, _)| status.success()),
        "{again:?}"
    );
    compare(&desk, 3);
}

#[test]
fn kills_of_processes_neither_lose_nor_double() {
    const FILES: u32 = 6;
    let kills = variable("MILLRACE_CLUSTER_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let desk = desk();
    let job = desk.at("job.yaml").display().to_string();
    let (mut disturbed, mut ended, mut file) = (BTreeMap::new(), 0, 0);
    // 1, 3, 2 processes and so on, under traffic.
    for round in 0.. {
        let count: u32 = disturbed.values().sum();
        if file >= FILES && count >= kills {
            break;
        }
        if file < FILES || dice.roll(3) == 0 {
            desk.write(
                &format!("usage/calls-{file:04}.csv"),
                calls(file, &mut dice),
            );
            file += 1;
        }
        let processes = [1, 3, 2][round % 3];
        let mut cluster = Processes::start(&desk, &job, processes, &[]);
        let until = Instant::now() + Duration::from_millis(50 + dice.roll(1500));
        while !cluster.is_over() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(3));
        }
        let one = usize::try_from(dice.roll(3)).unwrap() % processes;
        let lives = |cluster: &mut Processes, n: usize| cluster.0[n].try_wait().unwrap().is_none();
        let what = match dice.roll(4) {
            _ if cluster.is_over() || !lives(&mut cluster, one) => "none",
            0 => {
                cluster
                    .0
                    .iter_mut()
                    .for_each(|process| process.kill().unwrap());
                "all killed"
            }
            1 => {
                cluster.signal(one, "-STOP");
                std::thread::sleep(Duration::from_millis(100 + dice.roll(1500)));
                cluster.signal(one, "-CONT");
                "one stopped"
            }
            _ => {
                cluster.signal(one, "-KILL");
                // Those that were still waiting for each other wait on; here nobody comes again.
                let until = Instant::now() + Duration::from_secs(2);
                while !cluster.is_over() && Instant::now() < until {
                    std::thread::sleep(Duration::from_millis(3));
                }
                cluster
                    .0
                    .iter_mut()
                    .for_each(|process| process.kill().unwrap());
                "one killed"
            }
        };
        let outcome = cluster.end(what);
        if matches!(what, "none" | "one stopped") {
            for (status, said) in outcome {
                assert!(status.success(), "seed {seed}, {what}: {said}");
            }
            ended += 1;
        }
        if what != "none" {
            *disturbed.entry(what).or_default() += 1;
        }
    }
    let last = millrace(&["run", &job, "--workers", "2"]);
    assert!(matches!(last.exit, Exit::Findings), "{}", last.err);
    compare(&desk, seed);
    println!("{disturbed:?}, {ended} runs to the end, {file} files, seed {seed}");
}

#[test]
fn a_supervisor_keeps_a_job_running() {
    let desk = desk();
    for file in 0..3 {
        desk.write(
            &format!("usage/calls-{file}.csv"),
            calls(file, &mut Dice(5)),
        );
    }
    let job = desk.at("job.yaml").display().to_string();
    let started = AtomicUsize::new(0);
    let process = |process: usize, hosts: &Path| {
        let hosts = hosts.display().to_string();
        let words = arguments(&job, &hosts, (2, 1), process);
        let whole = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if started.fetch_add(1, Ordering::Relaxed) != 1 {
            return whole;
        }
        // The first process 1 is killed after a while.
        let mut killed = Command::new("/bin/sh");
        let script = "\"$0\" \"$@\" & sleep 0.7; kill -9 $!; kill -9 $$";
        killed
            .args(["-c", script])
            .arg(whole.get_program())
            .args(whole.get_args());
        killed.envs(
            whole
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        killed
    };
    let said = Mutex::new(String::new());
    let talk = |text: &str| said.lock().unwrap().push_str(text);
    let supervisor = Supervisor {
        processes: 2,
        attempts: 4,
        command: &process,
        talk: &talk,
        asked: &AtomicU8::new(0),
        ends_when_asked: false,
    };
    let code: Result<i32, SupervisorError> = supervisor.run();
    let said = said.lock().unwrap().clone();
    assert_eq!(code.expect(&said), 0);
    assert!(
        said.contains("process 1 ended badly") || said.contains("process 0 ended badly"),
        "{said}"
    );
    assert!(said.contains("all processes are started again"), "{said}");
    assert_eq!(started.load(Ordering::Relaxed), 4);
    compare(&desk, 5);
}

/// Whether a process says that it waits.
struct Waits(Mutex<Sender<()>>);

impl Listener for Waits {
    fn message(&self, _: &str) {
        // Nobody may be waiting for it any more.
        self.0.lock().unwrap().send(()).ok();
    }
    fn warned(&self, _: &[Diagnostic]) {}
    fn rejected(&self, _: &[Diagnostic]) {}
    fn changed(&self, _: &ChangeReport) {}
    fn settled(&self) {}
}

#[test]
fn a_process_that_has_lost_process_0_ends_when_another_run_has_taken_over() {
    let desk = desk();
    let (job, hosts) = (desk.at("job.yaml"), PathBuf::from(hostfile(&desk, 2)));
    let plan = |process| {
        let place = Place::of(Some(2), Some(process), Some(&hosts)).unwrap();
        let secret = Secret::of(None, None).unwrap();
        ClusterPlan::of(place.unwrap(), PATIENCE, secret, true, None).unwrap()
    };
    let (first, other, terms) = (plan(0), plan(1), Terms::of(&job, 1));
    let newest = Arc::new(AtomicU64::new(4));
    let (seen, theirs) = (Arc::clone(&newest), terms.clone());
    let (waits, waiting) = channel();
    let process = std::thread::spawn(move || {
        let newest = || Some(seen.load(Ordering::Relaxed));
        Guest::report(&other, theirs, &Waits(Mutex::new(waits)), &newest)
    });
    let unheard = Waits(Mutex::new(channel().0));
    drop(Host::gather(&first, terms, &unheard).unwrap());
    // That was its own process 0, which may come again.
    newest.store(5, Ordering::Relaxed);
    waiting.recv_timeout(PATIENCE).unwrap();
    assert!(!process.is_finished());
    newest.store(6, Ordering::Relaxed);
    let Err(ended) = process.join().unwrap() else {
        panic!("nobody told it to go");
    };
    let told = "another run of this job has taken over (generation 6, this is 5)";
    assert!(ended.to_string().starts_with(told), "{ended}");
}
