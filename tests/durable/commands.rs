//! Commands to a job: each accepted one is applied once, in the order in which it was told, by the job that it
//! was told to, whatever a listing misses and whatever lies beside it.

use crate::durability::{calls, compare, desk, job};
use async_trait::async_trait;
use futures::stream::BoxStream;
use millrace::cli::Exit;
use millrace::durable::{
    AT_ONCE, Applied, Generation, Manifest, OperatorCommand, Plan, open, place, tell, waiting,
};
use millrace_connectors::store::Store;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn told(desk: &Desk, job: &str, arguments: &[&str]) -> Ended {
    let path = desk.at(job).display().to_string();
    let mut all = arguments.to_vec();
    all.insert(1, &path);
    millrace(&all)
}

#[track_caller]
fn accepted(desk: &Desk, job: &str, arguments: &[&str]) {
    let ended = told(desk, job, arguments);
    assert_eq!(ended.exit, Exit::Ok, "{}", ended.err);
}

/// Runs the job; gives how many of its records are discarded, and what was said.
#[track_caller]
fn discarded(desk: &Desk) -> (u64, Ended) {
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    let discarded = ended.summary()["records"]["discarded"].as_u64();
    (discarded.unwrap(), ended)
}

/// The commands that lie in the state folder, in their order.
fn lying(desk: &Desk) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(desk.at("state/commands"))
        .into_iter()
        .flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn desk_with_calls() -> Desk {
    let desk = desk();
    desk.write("usage/a.csv", calls(0, &mut Dice(3)));
    let other = job("durability: { folder: state, interval: 10ms }\n");
    desk.write("other.yaml", other.replace("name: calls", "name: energy"));
    desk
}

#[test]
fn a_job_of_another_name_is_refused_whatever_it_asks_of_the_state() {
    let desk = desk_with_calls();
    assert_eq!(discarded(&desk).0, 0);
    for arguments in [
        &["discard", "--reason", "SERVICE_UNKNOWN"][..],
        &["retry", "--file", "a.csv"],
        &["pause", "switch"],
        &["resume", "switch"],
        &["status"],
        &["run"],
        &["bill"],
        &["balance"],
        &["explain", "a.csv:3"],
    ] {
        let refused = told(&desk, "other.yaml", arguments);
        assert_eq!(
            refused.exit,
            Exit::Unusable,
            "{arguments:?}: {}",
            refused.out
        );
        let says = "it is of job \"calls\", not \"energy\"";
        assert!(refused.err.contains(says), "{arguments:?}: {}", refused.err);
    }
    assert_eq!(lying(&desk), Vec::<PathBuf>::new());
    assert_eq!(discarded(&desk).0, 0);
    compare(&desk, 3);
}

#[test]
fn a_command_that_was_told_to_another_job_before_there_was_state_is_told_and_gone() {
    let desk = desk_with_calls();
    accepted(&desk, "other.yaml", &["discard", "--file", "a.csv"]);
    let (none, ended) = discarded(&desk);
    assert_eq!(none, 0, "{}", ended.err);
    let says = "this command was told to job \"energy\"";
    assert!(ended.err.contains(says), "{}", ended.err);
    let warnings = ended.summary()["warnings"].to_string();
    assert!(warnings.contains("energy"), "{warnings}");
    assert_eq!(lying(&desk), Vec::<PathBuf>::new());
    let (_, again) = discarded(&desk);
    assert!(!again.err.contains(says), "{}", again.err);
    compare(&desk, 3);
}

#[test]
fn a_command_that_is_seen_behind_a_later_one_is_applied() {
    let desk = desk_with_calls();
    assert_eq!(discarded(&desk).0, 0);
    accepted(&desk, "job.yaml", &["discard", "--file", "a.csv"]);
    let [missed]: [PathBuf; 1] = lying(&desk).try_into().unwrap();
    accepted(&desk, "job.yaml", &["pause", "switch"]);
    let hidden = desk.at("hidden");
    std::fs::rename(&missed, &hidden).unwrap();
    let (none, ended) = discarded(&desk);
    assert_eq!(none, 0);
    assert!(ended.err.contains("\"switch\" is paused"), "{}", ended.err);
    std::fs::rename(&hidden, &missed).unwrap();
    let (some, ended) = discarded(&desk);
    assert!(some > 0, "{}", ended.err);
    // And no more than once, by whomever it is made again.
    assert_eq!(lying(&desk), Vec::<PathBuf>::new());
    accepted(&desk, "job.yaml", &["resume", "switch"]);
    accepted(&desk, "job.yaml", &["retry", "--file", "a.csv"]);
    assert_eq!(discarded(&desk).0, 0);
    compare(&desk, 3);
}

#[test]
fn an_applied_command_that_comes_back_is_not_applied_again() {
    let desk = desk_with_calls();
    discarded(&desk);
    accepted(&desk, "job.yaml", &["discard", "--file", "a.csv"]);
    let [name]: [PathBuf; 1] = lying(&desk).try_into().unwrap();
    let content = std::fs::read(&name).unwrap();
    assert!(discarded(&desk).0 > 0);
    accepted(&desk, "job.yaml", &["retry", "--file", "a.csv"]);
    assert_eq!(discarded(&desk).0, 0);
    // A store carries out a request when nobody waits for it any more.
    std::fs::write(&name, content).unwrap();
    let (none, ended) = discarded(&desk);
    assert_eq!(none, 0, "{}", ended.err);
    assert_eq!(lying(&desk), Vec::<PathBuf>::new());
    compare(&desk, 3);
}

#[test]
fn a_damaged_command_is_told_and_keeps_nobody_from_the_others() {
    let desk = desk_with_calls();
    discarded(&desk);
    accepted(&desk, "job.yaml", &["discard", "--file", "a.csv"]);
    let [torn]: [PathBuf; 1] = lying(&desk).try_into().unwrap();
    accepted(&desk, "job.yaml", &["pause", "switch"]);
    let whole = std::fs::read(&torn).unwrap();
    for left in [0, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&torn, &whole[..left]).unwrap();
        let (none, ended) = discarded(&desk);
        assert_eq!(none, 0, "{}", ended.err);
        for says in [
            torn.file_name().unwrap().to_str().unwrap(),
            "this is no whole command",
            "take the object away, and give the command again",
        ] {
            assert!(ended.err.contains(says), "{says}: {}", ended.err);
        }
        let warnings = ended.summary()["warnings"].to_string();
        assert!(warnings.contains("no whole command"), "{warnings}");
        // What can hurt is not advised.
        assert!(!ended.err.contains("empty folder"), "{}", ended.err);
        let status = told(&desk, "job.yaml", &["status"]);
        assert!(status.out.contains("paused: switch"), "{}", status.out);
        assert_eq!(lying(&desk), std::slice::from_ref(&torn));
    }
    // The advice, followed.
    std::fs::remove_file(&torn).unwrap();
    accepted(&desk, "job.yaml", &["discard", "--file", "a.csv"]);
    let (some, ended) = discarded(&desk);
    assert!(some > 0, "{}", ended.err);
    assert!(!ended.err.contains("no whole command"), "{}", ended.err);
    accepted(&desk, "job.yaml", &["resume", "switch"]);
    accepted(&desk, "job.yaml", &["retry", "--file", "a.csv"]);
    assert_eq!(discarded(&desk).0, 0);
    compare(&desk, 3);
}

#[test]
fn many_commands_are_applied_in_their_order_and_taken_away() {
    let desk = desk_with_calls();
    discarded(&desk);
    let state = Store::open("state", &desk.at("")).unwrap();
    let plan = Manifest::newest(&state).unwrap().unwrap().plan;
    let source = || "switch".to_owned();
    for _ in 0..2 * AT_ONCE {
        tell(&state, &plan, &OperatorCommand::Pause { source: source() }).unwrap();
        tell(&state, &plan, &OperatorCommand::Resume { source: source() }).unwrap();
    }
    assert_eq!(lying(&desk).len(), 4 * AT_ONCE);
    discarded(&desk);
    assert_eq!(lying(&desk), Vec::<PathBuf>::new());
    let status = told(&desk, "job.yaml", &["status"]);
    assert!(!status.out.contains("paused"), "{}", status.out);
    compare(&desk, 3);
}

/// Objects whose listing takes its time, page by page: what is made meanwhile is in it if its name stands
/// behind what was listed already.
#[derive(Debug)]
struct Paged(InMemory);

impl fmt::Display for Paged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Paged")
    }
}

#[async_trait]
impl ObjectStore for Paged {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut all = self.0.list_with_delimiter(prefix).await?;
        all.objects.sort_by(|a, b| a.location.cmp(&b.location));
        all.objects.truncate(all.objects.len().div_ceil(2));
        std::thread::sleep(Duration::from_millis(1));
        let behind = self.0.list_with_delimiter(prefix).await?.objects;
        let last = all.objects.last().map(|last| last.location.clone());
        let rest = behind.into_iter();
        let rest = rest.filter(|object| last.as_ref().is_none_or(|last| object.location > *last));
        all.objects.extend(rest);
        Ok(all)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[test]
fn a_slow_listing_of_a_bucket_passes_no_command_over() {
    const TELLERS: usize = 4;
    const COMMANDS: usize = 60;
    let objects: Arc<dyn ObjectStore> = Arc::new(Paged(InMemory::new()));
    let store = Arc::new(Store::over("memory", objects));
    let plan = Plan {
        job: "calls".to_owned(),
        ..Plan::default()
    };
    let (mut run, _) = Generation::begin(&store, &plan).unwrap();
    let tellers = (0..TELLERS).map(|teller| {
        let (store, plan) = (Arc::clone(&store), plan.clone());
        std::thread::spawn(move || {
            for number in 0..COMMANDS {
                let source = format!("{teller} {number}");
                tell(&store, &plan, &OperatorCommand::Pause { source }).unwrap();
            }
        })
    });
    let tellers: Vec<_> = tellers.collect();
    let mut applied = Applied::default();
    let mut done: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let begun = Instant::now();
    while done.values().map(Vec::len).sum::<usize>() < TELLERS * COMMANDS {
        assert!(begun.elapsed() < Duration::from_secs(60), "{done:?}");
        let names = waiting(&store, &applied).unwrap();
        for name in names.iter().take(AT_ONCE) {
            let command = open(&store, "calls", &applied, name).unwrap();
            let Some(OperatorCommand::Pause { source }) = command else {
                panic!("{command:?}");
            };
            let (teller, number) = source.split_once(' ').unwrap();
            let of_teller = done.entry(teller.to_owned()).or_default();
            of_teller.push(number.to_owned());
            applied.add(name);
        }
        let next = Manifest {
            commands: applied.clone(),
            ..run.manifest.clone()
        };
        run.commit(&store, next).unwrap();
        for name in names.iter().take(AT_ONCE) {
            store.remove(&place(name)).unwrap();
        }
    }
    tellers
        .into_iter()
        .for_each(|teller| teller.join().unwrap());
    assert_eq!(waiting(&store, &applied).unwrap(), Vec::<String>::new());
    assert_eq!(done.len(), TELLERS);
    for numbers in done.values() {
        let expected: Vec<String> = (0..COMMANDS).map(|number| number.to_string()).collect();
        assert_eq!(*numbers, expected);
    }
}
