//! State that knows of less than was published: it is refused, and says what to do.

use super::exactly_once::{calls, compare, messages, standing, texts};
use millrace::cli::Exit;
use millrace_tests::broker::{Broker, Sent};
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, millrace};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The job, publishing to topics that begin with `topics`.
fn job(address: &str, topics: &str, progress: &str) -> String {
    format!(
        "name: anew\ntime_zone: UTC\nclock: 2026-03-10\nsources:\n  - name: switch\n    platform: switch\n    \
         service_type: voice\n    kafka: {{ brokers: '{address}', topics: [anew.usage] }}\n    \
         mediation: mediation.yaml\ncatalog: [catalog.yaml]\naccounts: [accounts.yaml]\n\
         durability: {{ folder: state }}\noutputs:\n  kafka:\n    brokers: '{address}'\n    \
         topics: {{ monetised: {topics}.charges, aggregated: {topics}.lines }}\n{progress}"
    )
}

/// The files of a folder, and what is in them.
fn written(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(written(&path));
        } else {
            files.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn state_begun_anew_behind_published_messages_is_refused() {
    let broker = Broker::shared();
    let address = broker.address();
    broker.create("anew.usage", 1);
    for topic in ["anew.charges", "anew.lines", "again.charges", "again.lines"] {
        broker.create(topic, 2);
    }
    let calls = calls(0, &mut Dice(1));
    let sent: Vec<Sent<'_>> = calls
        .iter()
        .map(|(key, call)| Sent {
            key,
            payload: Some(call.as_bytes()),
            ..Sent::default()
        })
        .collect();
    broker.send("anew.usage", &sent);
    let desk = Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", &accounts()),
        ("job.yaml", &job(&address, "anew", "")),
    ]);
    let path = desk.at("job.yaml").display().to_string();
    let run = || millrace(&["run", &path, "--workers", "2"]);
    let runs = || {
        let ended = run();
        assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    };
    // Partitions are read side by side; the messages of a key stay in their order.
    let told = |topics: &str| {
        ["charges", "lines"].map(|topic| {
            let mut told = messages(broker, &format!("{topics}.{topic}"));
            told.sort_by(|(one, _), (other, _)| one.cmp(other));
            told
        })
    };
    runs();
    let first = told("anew");
    assert!(first.iter().all(|told| !told.is_empty()));

    let written = written(&desk.at("out"));
    assert!(!written.is_empty());
    std::fs::rename(desk.at("state"), desk.at("aside")).unwrap();
    // Not once and not the second time, when the run that was refused has left a state.
    for _ in 0..2 {
        let refused = run();
        assert_eq!(ExitCode::from(refused.exit), ExitCode::from(2));
        for says in [
            "durable state",
            "topic \"millrace-progress-anew\"",
            "Nothing was started",
            "`outputs.kafka.progress`",
        ] {
            assert!(refused.err.contains(says), "{says}: {}", refused.err);
        }
        assert_eq!(told("anew"), first);
        assert!(
            written == self::written(&desk.at("out")),
            "outputs were touched"
        );
    }

    // The state put back, the job goes on.
    std::fs::remove_dir_all(desk.at("state")).unwrap();
    std::fs::rename(desk.at("aside"), desk.at("state")).unwrap();
    runs();
    assert_eq!(told("anew"), first);

    // Begun anew, it publishes everything once more, to others.
    std::fs::remove_dir_all(desk.at("state")).unwrap();
    desk.write(
        "job.yaml",
        job(&address, "again", "    progress: again-progress\n"),
    );
    runs();
    for (topic, (again, first)) in ["charges", "lines"]
        .into_iter()
        .zip(told("again").iter().zip(&first))
    {
        let rows = |told| texts(standing(told).into_values());
        compare(topic, &rows(again), &rows(first));
    }
}
