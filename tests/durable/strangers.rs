//! Strangers on the network, and a network that fails: neither harms a job that forms or runs, and what a
//! process is lost by does not decide how the others end.

use crate::cluster::{LOST, PATIENCE, Processes, arguments, commits, hostfile, secretive};
use crate::durability::{FEW, compare, desk, few, received};
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace};
use millrace_tests::kills::command;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Strangers at each door.
const MANY: usize = 40;

/// A secret as people make it.
const SECRET: &str = "9d5f0e7a41c64b0c8a53e2f1b7d8c6a0";

/// Connects, as soon as somebody listens.
#[track_caller]
fn connect(address: &str) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Where the processes of a hostfile listen.
pub(crate) fn addresses(hosts: &str) -> Vec<String> {
    let text = std::fs::read_to_string(hosts).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// A hostfile with these addresses.
pub(crate) fn hosts_of(desk: &Desk, name: &str, addresses: &[String]) -> String {
    desk.write(name, format!("{}\n", addresses.join("\n")));
    desk.at(name).display().to_string()
}

/// The command of a process of a job that goes without a secret.
fn process(desk: &Desk, hosts: &str, processes: usize, n: usize, more: &[&str]) -> Command {
    secretive_process(
        desk,
        hosts,
        processes,
        n,
        &[&["--no-secret"], more].concat(),
    )
}

/// The command of a process of a job that has a secret.
pub(crate) fn secretive_process(
    desk: &Desk,
    hosts: &str,
    processes: usize,
    n: usize,
    more: &[&str],
) -> Command {
    let job = desk.at("job.yaml").display().to_string();
    let mut words = secretive(&job, hosts, (processes, 1), n);
    words.extend(more.iter().map(|word| (*word).to_owned()));
    command(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whatever a connection through a proxy brings.
#[derive(Default)]
pub(crate) struct Overheard {
    /// What those who connected first said.
    first: Mutex<Vec<u8>>,
    /// What all said and were told.
    pub(crate) all: Mutex<Vec<u8>>,
    /// Nothing goes through any more, and nothing is closed.
    swallows: AtomicBool,
}

/// Somebody on the way to `to`, who may close a connection when so many bytes come back at once. Returns
/// where.
pub(crate) fn proxy(to: String, closes_behind: usize, overheard: &Arc<Overheard>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let overheard = Arc::clone(overheard);
    std::thread::spawn(move || {
        let through = |inside| Some((inside, TcpStream::connect(&to).ok()?));
        let through = listener.incoming().flatten().filter_map(through);
        for (number, (inside, outside)) in through.enumerate() {
            let ends = [
                (inside.try_clone().unwrap(), outside.try_clone().unwrap()),
                (outside, inside),
            ];
            for (way, (mut from, mut to)) in ends.into_iter().enumerate() {
                let overheard = Arc::clone(&overheard);
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                        while overheard.swallows.load(Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        let bytes = &buffer[..bytes];
                        overheard.all.lock().unwrap().extend_from_slice(bytes);
                        if way == 0 && number == 0 {
                            overheard.first.lock().unwrap().extend_from_slice(bytes);
                        }
                        if way == 1 && bytes.len() > closes_behind {
                            from.shutdown(Shutdown::Both).ok();
                            to.shutdown(Shutdown::Both).ok();
                        }
                        if to.write_all(bytes).is_err() {
                            break;
                        }
                    }
                    to.shutdown(Shutdown::Write).ok();
                });
            }
        }
    });
    address
}

#[test]
fn strangers_keep_no_cluster_from_forming() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    let hosts = hostfile(&desk, 3);
    let doors = &addresses(&hosts)[..2];
    let start = |n| process(&desk, &hosts, 3, n, &[]).spawn().unwrap();
    let mut cluster = Processes((0..2).map(start).collect());
    // Some say nothing, some are slow, and one at each door never ends.
    let mut strangers = Vec::new();
    for door in doors {
        strangers.extend((0..MANY).map(|_| connect(door)));
        let mut slow = connect(door);
        std::thread::spawn(move || {
            let said = b"millrace\x03".iter().chain(std::iter::repeat(&0));
            for byte in said {
                if slow.write_all(&[*byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let mut loud = connect(door);
        std::thread::spawn(move || while loud.write_all(b"GET / HTTP/1.1\r\n").is_ok() {});
    }
    cluster.0.push(start(2));
    for (status, said) in cluster.end("among strangers") {
        assert!(status.success(), "{said}");
    }
    drop(strangers);
    compare(&desk, 0);
}

#[test]
fn what_was_overheard_takes_no_place() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    let hosts = hostfile(&desk, 2);
    let real = addresses(&hosts);
    let overheard = Arc::<Overheard>::default();
    let door = proxy(real[0].clone(), usize::MAX, &overheard);
    let watched = hosts_of(&desk, "watched", &[door, real[1].clone()]);
    let once = Processes(vec![
        process(&desk, &hosts, 2, 0, &[]).spawn().unwrap(),
        process(&desk, &watched, 2, 1, &[]).spawn().unwrap(),
    ]);
    for (status, said) in once.end("overheard") {
        assert!(status.success(), "{said}");
    }
    let said = overheard.first.lock().unwrap().clone();
    assert!(!said.is_empty());
    desk.write("usage/more.csv", few(1));
    let host = process(&desk, &hosts, 2, 0, &[]).spawn().unwrap();
    let mut cluster = Processes(vec![host]);
    let mut stranger = connect(&real[0]);
    stranger.write_all(&said).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    cluster
        .0
        .push(process(&desk, &hosts, 2, 1, &[]).spawn().unwrap());
    for (status, said) in cluster.end("again") {
        assert!(status.success(), "{said}");
    }
    drop(stranger);
    compare(&desk, 0);
}

#[test]
fn processes_that_share_a_secret_work_together() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    desk.write("secret", format!("{SECRET}\n"));
    let file = desk.at("secret").display().to_string();
    let hosts = hostfile(&desk, 3);
    let plain = |n, more: &[&str]| secretive_process(&desk, &hosts, 3, n, more);
    let cluster = [
        plain(0, &["--secret-file", &file]).spawn(),
        plain(1, &[]).env("MILLRACE_CLUSTER_SECRET", SECRET).spawn(),
        plain(2, &[])
            .env("MILLRACE_CLUSTER_SECRET_FILE", &file)
            .spawn(),
    ];
    let cluster = Processes(cluster.map(Result::unwrap).into());
    for (status, said) in cluster.end("with a secret") {
        assert!(status.success(), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    compare(&desk, 0);
}

/// Runs process 0 of two and another beside it, with these files of secrets, in this process.
fn with_secrets(desk: &Desk, ours: Option<&str>, theirs: Option<&str>) -> [Ended; 2] {
    let job = desk.at("job.yaml").display().to_string();
    let hosts = hostfile(desk, 2);
    [ours, theirs]
        .into_iter()
        .enumerate()
        .map(|(n, secret)| {
            let mut words = match secret {
                Some(_) => secretive(&job, &hosts, (2, 1), n),
                None => arguments(&job, &hosts, (2, 1), n),
            };
            // The other gives up while process 0 still waits.
            let patience = if n == 0 { "15" } else { "5" };
            words.extend(["--patience".to_owned(), patience.to_owned()]);
            let secret = secret.map(|name| desk.at(name).display().to_string());
            words.extend(
                secret
                    .into_iter()
                    .flat_map(|file| ["--secret-file".to_owned(), file]),
            );
            std::thread::spawn(move || {
                millrace(&words.iter().map(String::as_str).collect::<Vec<_>>())
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|run| run.join().unwrap())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[test]
fn processes_that_share_no_secret_do_not() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    desk.write("one", SECRET);
    desk.write("other", SECRET.replace('9', "8"));
    for (ours, theirs) in [
        (Some("one"), Some("other")),
        (Some("one"), None),
        (None, Some("one")),
    ] {
        let [ours, theirs] = with_secrets(&desk, ours, theirs);
        assert_eq!((ours.exit, theirs.exit), (Exit::Unusable, Exit::Unusable));
        let says = "does not prove to have the secret of this cluster";
        assert!(ours.err.contains(says), "{}", ours.err);
        let says = "it does not prove that it has the same secret";
        assert!(theirs.err.contains(says), "{}", theirs.err);
        for said in [ours.err, theirs.err] {
            assert!(!said.contains(&SECRET[1..]), "{said}");
        }
    }
    assert!(!desk.at("state/manifest").exists());
}

#[test]
fn processes_have_a_secret_or_say_that_they_have_none() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    desk.write("secret", SECRET);
    desk.write("short", "guess me");
    let far = ["127.0.0.1:1".to_owned(), "192.0.2.1:2101".to_owned()];
    let hosts = hosts_of(&desk, "far", &far);
    let job = desk.at("job.yaml").display().to_string();
    let near = hostfile(&desk, 2);
    let start = |hosts: &str, more: &[&str]| {
        let mut words = secretive(&job, hosts, (2, 1), 1);
        words.extend(["--patience".to_owned(), "0".to_owned()]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let ended = millrace(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ended.exit, Exit::Unusable, "{}", ended.err);
        ended.err
    };
    let run = |secret: &str| {
        let file = desk.at(secret).display().to_string();
        start(&hosts, &["--secret-file", &file])
    };
    for more in [&[][..], &["--no-secret"]] {
        let said = start(&hosts, more);
        assert!(said.contains("192.0.2.1:2101 is not on"), "{said}");
        assert!(said.contains("MILLRACE_CLUSTER_SECRET"), "{said}");
    }
    let said = start(&near, &[]);
    assert!(said.contains("whoever is on this machine"), "{said}");
    assert!(said.contains("or say --no-secret"), "{said}");
    let file = desk.at("secret").display().to_string();
    let said = start(&near, &["--no-secret", "--secret-file", &file]);
    assert!(
        said.contains("--no-secret says that there is none"),
        "{said}"
    );
    let said = start(&near, &["--no-secret"]);
    assert!(said.contains("process 0 is not there"), "{said}");
    assert!(run("short").contains("fewer than 16 bytes"));
    assert!(run("none").contains("cannot read the secret"));
    // What the first says works: now it is the name that is not known.
    let said = run("secret");
    assert!(said.contains("cannot listen on 192.0.2.1:2101"), "{said}");
}

#[test]
fn idle_connections_do_not_end_a_job() {
    let desk = desk();
    desk.write("usage/calls-0.csv", few(0));
    let metrics = addresses(&hostfile(&desk, 1)).remove(0);
    let job = desk.at("job.yaml").display().to_string();
    let words = [
        "run",
        &job,
        "--watch",
        "--workers",
        "1",
        "--metrics",
        &metrics,
    ];
    let whole = command(&words);
    let mut few_files = Command::new("/bin/sh");
    few_files
        .args(["-c", "ulimit -n 160; exec \"$0\" \"$@\""])
        .arg(whole.get_program())
        .args(whole.get_args())
        .envs(
            whole
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let run = Processes(vec![few_files.spawn().unwrap()]);
    received(&desk, FEW);
    let idle: Vec<TcpStream> = (0..300).map(|_| connect(&metrics)).collect();
    desk.write("usage/calls-1.csv", few(1));
    received(&desk, 2 * FEW);
    let mut monitor = connect(&metrics);
    write!(
        monitor,
        "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    monitor.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    run.signal(0, "-TERM");
    let (status, said) = run.end("among idle connections").remove(0);
    assert!(status.success(), "{said}");
    drop(idle);
    compare(&desk, 0);
}

#[test]
fn a_cut_between_two_others_is_noticed() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    let hosts = hostfile(&desk, 3);
    let real = addresses(&hosts);
    let way = Arc::<Overheard>::default();
    let between = proxy(real[1].clone(), usize::MAX, &way);
    let through = [real[0].clone(), between, real[2].clone()];
    let through = hosts_of(&desk, "through", &through);
    let start = |n, hosts: &str| process(&desk, hosts, 3, n, &["--watch"]).spawn().unwrap();
    let cluster = Processes(vec![start(0, &hosts), start(1, &hosts), start(2, &through)]);
    let begun = Instant::now();
    while commits(&desk) < 2 {
        assert!(begun.elapsed() < PATIENCE, "nothing is committed");
        std::thread::sleep(Duration::from_millis(10));
    }
    way.swallows.store(true, Ordering::Relaxed);
    let mut heard = Vec::new();
    for (status, said) in cluster.end("cut") {
        assert_eq!(status.code(), Some(LOST), "{said}");
        heard.push(said);
    }
    // Whoever is first to miss the other ends, and all with it.
    let misses = |said: &String, other: usize| {
        said.contains(&format!("lost process {other}: it was silent"))
    };
    assert!(misses(&heard[1], 2) || misses(&heard[2], 1), "{heard:?}");
    way.swallows.store(false, Ordering::Relaxed);
    let again = Processes(
        (0..3)
            .map(|n| process(&desk, &hosts, 3, n, &[]).spawn().unwrap())
            .collect(),
    );
    for (status, said) in again.end("again") {
        assert!(status.success(), "{said}");
    }
    compare(&desk, 0);
}

#[test]
fn a_process_that_is_lost_before_the_run_begins_ends_the_others_alike() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    let hosts = hostfile(&desk, 2);
    let real = addresses(&hosts);
    // What process 0 says of the run is the first that is so long: with that the way is closed.
    let door = proxy(real[0].clone(), 80, &Arc::default());
    let through = hosts_of(&desk, "through", &[door, real[1].clone()]);
    let mut cluster = Processes(vec![
        process(&desk, &hosts, 2, 0, &[]).spawn().unwrap(),
        process(&desk, &through, 2, 1, &[]).spawn().unwrap(),
    ]);
    let begun = Instant::now();
    while cluster.0[0].try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "nobody is lost");
        std::thread::sleep(Duration::from_millis(10));
    }
    cluster.0[1].kill().unwrap();
    let (status, said) = cluster.end("lost early").remove(0);
    assert_eq!(status.code(), Some(LOST), "{said}");
    assert!(said.contains("lost process 1"), "{said}");
    assert!(!said.contains("bug"), "{said}");
    let hosts = hostfile(&desk, 2);
    let again = Processes(
        (0..2)
            .map(|n| process(&desk, &hosts, 2, n, &[]).spawn().unwrap())
            .collect(),
    );
    for (status, said) in again.end("again") {
        assert!(status.success(), "{said}");
    }
    compare(&desk, 0);
}

#[test]
fn a_process_that_comes_and_goes_is_lost_too() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    let hosts = hostfile(&desk, 3);
    let patience = ["--patience", "8"];
    let start = |n| process(&desk, &hosts, 3, n, &patience).spawn().unwrap();
    // Process 2 never comes. Either of the two that meet may go.
    for (goes, stays) in [(1, 0), (0, 1)] {
        let mut cluster = Processes((0..2).map(start).collect());
        let begun = Instant::now();
        std::thread::sleep(Duration::from_secs(4));
        assert!(cluster.0[stays].try_wait().unwrap().is_none());
        cluster.0[goes].kill().unwrap();
        let (status, said) = cluster.end("gone").remove(stays);
        assert_eq!(status.code(), Some(LOST), "{:?}: {said}", begun.elapsed());
        let says = format!("lost process {goes}: ");
        assert!(
            said.contains(&says) && said.contains("not come again"),
            "{said}"
        );
    }
}
