//! From a real Kafka to a real Kafka under kills: a job is killed at any moment while messages arrive,
//! and the broker with it now and then. What readers of committed messages have in the end is the bill
//! of an undisturbed run over the same calls, each row once. One process in ten is stopped for a while
//! before it is killed, as a machine may be.
//!
//! `MILLRACE_KILLS` asks for more kills than the few of the short form, `MILLRACE_SEED` for another
//! history.

use millrace::cli::Exit;
use millrace_connectors::kafka::{Consumer, Progress, Start};
use millrace_tests::broker::{Broker, Sent};
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, instant, millrace, rows, text};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts, start, variable};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

const KILLS: u32 = 8;
const BATCHES: u64 = 10;
const BATCH: u64 = 400;
/// Seconds that calls are spread over, however many: all before the clock.
const SPREAD: u64 = 60 * 86_400;
/// What is sent instead of a call now and then.
const POISON: &str = "no call";

pub(crate) fn job(source: &str, rest: &str) -> String {
    format!(
        "name: calls\ntime_zone: UTC\nclock: 2026-03-10\nsources:\n  - name: switch\n    platform: switch\n    \
         service_type: voice\n    {source}\n    mediation: mediation.yaml\ncatalog: [catalog.yaml]\n\
         accounts: [accounts.yaml]\nepoch: {{ rows: 200 }}\n{rest}"
    )
}

/// A batch of calls: some late, some sent before, some of numbers that nobody has, some no calls.
pub(crate) fn calls(batch: u64, dice: &mut Dice) -> Vec<(String, String)> {
    let call = |row: u64, dice: &mut Dice| {
        let number = batch * BATCH + row;
        let id = match dice.roll(12) {
            0 => dice.roll(number + 1),
            _ => number,
        };
        // What is sent again is the same call: everything else follows from its id.
        let mut of_call = Dice(id);
        let late = if of_call.roll(10) == 0 {
            of_call.roll(300_000)
        } else {
            0
        };
        let at = instant(1_767_225_600 + (id * 500 % SPREAD).saturating_sub(late));
        let (line, seconds) = (of_call.roll(9), of_call.roll(60));
        let call = match dice.roll(100) {
            0 => POISON.to_owned(),
            _ => format!(
                r#"{{"id": "c{id}", "number": "+{line}", "at": "{at}", "seconds": {seconds}}}"#
            ),
        };
        (format!("c{id}"), call)
    };
    (0..BATCH).map(|row| call(row, dice)).collect()
}

/// All committed messages of a topic with JSON in them, in the order of each partition.
pub(crate) fn messages(broker: &Broker, topic: &str) -> Vec<(String, Option<Value>)> {
    let json = |content: Vec<u8>| serde_json::from_slice(&content).unwrap();
    let messages = contents(broker, topic).into_iter();
    messages
        .map(|(key, content)| (key, content.map(json)))
        .collect()
}

/// All committed messages of a topic, in the order of each partition.
fn contents(broker: &Broker, topic: &str) -> Vec<(String, Option<Vec<u8>>)> {
    let mut consumer = Consumer::open(&broker.settings(), &[topic.to_owned()]).unwrap();
    let partitions = consumer.partitions().to_vec();
    let ends: Vec<_> = consumer.watermarks().unwrap().into_iter().collect();
    let ends: Vec<_> = ends
        .into_iter()
        .map(|(at, marks)| (at, marks.high))
        .collect();
    let starts: Vec<_> = partitions
        .into_iter()
        .map(|at| (at, Start::Earliest))
        .collect();
    consumer.assign(&starts).unwrap();
    let mut read = Vec::new();
    let begun = Instant::now();
    // A broker that has just restarted may tell an end that is not yet the end.
    let mut quiet = false;
    while !quiet || !consumer.reached(&ends).unwrap() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{topic} does not end"
        );
        let mut each = |message: millrace_connectors::kafka::Message<'_>| {
            let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            read.push((key, message.payload().map(<[u8]>::to_vec)));
        };
        let count = consumer.poll(1_000, Duration::from_millis(500), &mut each);
        quiet = count.unwrap() == 0;
    }
    read
}

/// What stands after all messages.
pub(crate) fn standing(messages: &[(String, Option<Value>)]) -> BTreeMap<String, Value> {
    let mut standing = BTreeMap::new();
    for (key, value) in messages {
        match value {
            Some(value) => standing.insert(key.clone(), value.clone()),
            None => standing.remove(key),
        };
    }
    standing
}

/// Rows as sorted text; a field without a value is like none.
pub(crate) fn texts(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
    let text = |mut row: Value| {
        row.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        row.to_string()
    };
    let mut texts: Vec<String> = rows.into_iter().map(text).collect();
    texts.sort();
    texts
}

/// Says which rows only one side has.
#[track_caller]
pub(crate) fn compare(what: &str, told: &[String], stands: &[String]) {
    let missing = |rows: &[String], of: &[String]| {
        let rows = rows.iter().filter(|row| !of.contains(row));
        rows.take(5).cloned().collect::<Vec<_>>().join("\n")
    };
    assert!(
        told == stands,
        "{what}: {} rows were told, {} stand\nonly told:\n{}\nonly standing:\n{}",
        told.len(),
        stands.len(),
        missing(told, stands),
        missing(stands, told)
    );
}

#[test]
fn kills_neither_lose_nor_double_messages() {
    let kills = variable("MILLRACE_KILLS", KILLS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let mut broker = Broker::start();
    broker.create("usage", 3);
    for topic in ["charges", "lines", "suspense", "balances", "notices"] {
        broker.create(topic, 2);
    }
    let address = broker.address();
    let desk = Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", &accounts()),
        (
            "job.yaml",
            &job(
                &format!("kafka: {{ brokers: '{address}', topics: [usage] }}"),
                &format!(
                    "durability: {{ folder: state, interval: 20ms }}\noutputs:\n  kafka:\n    brokers: '{address}'\n    \
                     topics: {{ monetised: charges, aggregated: lines, suspense: suspense, balances: balances, notices: notices }}\n"
                ),
            ),
        ),
    ]);
    let path = desk.at("job.yaml").display().to_string();
    let (mut killed, mut restarts, mut stops, mut batch) = (0, 0, 0, 0);
    let mut sent = String::new();
    // The next offset of each partition, and where there is something that is no call.
    let (mut offsets, mut poisoned) = ([0; 3], BTreeSet::new());
    while batch < BATCHES || killed < kills {
        // Traffic goes on, so that no kill meets an idle job only.
        if batch < BATCHES || dice.roll(3) == 0 {
            let calls = calls(batch, &mut dice);
            let message = |(key, call): &'_ (String, String)| {
                sent.push_str(call);
                sent.push('\n');
                let partition = dice.roll(3);
                let offset: &mut u64 = &mut offsets[usize::try_from(partition).unwrap()];
                if call == POISON {
                    poisoned.insert((format!("usage/{partition}"), *offset));
                }
                *offset += 1;
                (i32::try_from(partition).unwrap(), key.clone(), call.clone())
            };
            let calls: Vec<_> = calls.iter().map(message).collect();
            let messages: Vec<Sent<'_>> = calls
                .iter()
                .map(|(partition, key, call)| Sent {
                    partition: Some(*partition),
                    key,
                    payload: Some(call.as_bytes()),
                    ..Sent::default()
                })
                .collect();
            broker.send("usage", &messages);
            batch += 1;
        }
        let workers = (1 + dice.roll(3)).to_string();
        let mut process = start(&["run", &path, "--watch", "--workers", &workers]);
        let patience = Duration::from_millis(100 + dice.roll(4_000));
        let begun = Instant::now();
        if dice.roll(4) == 0 {
            std::thread::sleep(patience / 2);
            broker.kill();
            broker.restart();
            restarts += 1;
        }
        while begun.elapsed() < patience && process.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(3));
        }
        if dice.roll(10) == 0 && process.try_wait().unwrap().is_none() {
            let signal = |signal: &str| {
                let id = process.id().to_string();
                let told = Command::new("kill").args([signal, &id]).status();
                assert!(told.unwrap().success());
            };
            signal("-STOP");
            std::thread::sleep(Duration::from_millis(dice.roll(1_000)));
            signal("-CONT");
            // What it does next is what it was stopped before.
            std::thread::sleep(Duration::from_millis(dice.roll(50)));
            stops += 1;
        }
        process.kill().unwrap();
        let ended = process.wait_with_output().unwrap();
        if ended.status.signal().is_some() {
            killed += 1;
        } else {
            // It began while there was no broker, and said so.
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(said.contains("error: cannot "), "seed {seed}: {said}");
        }
    }
    let last = millrace(&["run", &path, "--workers", "2"]);
    assert!(matches!(last.exit, Exit::Findings), "{}", last.err);

    is_read_to_the_end(&broker, &path, offsets.iter().sum());
    progress_rises(&broker, "millrace-progress-calls");
    let suspended = rows(&desk.at("out/suspense/snapshot"));
    let unreadable = suspended
        .iter()
        .filter(|row| text(row, "reason") == "ROW_UNREADABLE");
    let unreadable: BTreeSet<(String, u64)> = unreadable
        .map(|row| (text(row, "file").to_owned(), row["row"].as_u64().unwrap()))
        .collect();
    assert!(!poisoned.is_empty());
    assert_eq!(unreadable, poisoned, "seed {seed}");

    is_the_bill(&broker, &desk, &sent, "", &format!("seed {seed}"));
    println!(
        "{killed} kills, {stops} behind a stop, {restarts} restarts of the broker, {batch} batches, seed {seed}"
    );
    assert!(kills < 20 || restarts > 0);
}

/// What was published, to topics whose names begin with `prefix`, is what stands, and the bill of these
/// calls when nobody disturbs the job; what never changes was published once.
pub(crate) fn is_the_bill(broker: &Broker, desk: &Desk, sent: &str, prefix: &str, history: &str) {
    // The same calls from a file, undisturbed.
    desk.write("usage.jsonl", sent);
    desk.write(
        "plain.yaml",
        job("path: usage.jsonl", "outputs: { folder: plain }\n"),
    );
    let plain = desk.at("plain.yaml").display().to_string();
    let undisturbed = millrace(&["run", &plain, "--workers", "2"]);
    assert!(
        matches!(undisturbed.exit, Exit::Findings),
        "{}",
        undisturbed.err
    );
    let expected = texts(rows(&desk.at("plain/aggregated/snapshot")));
    let topic = |name: &str| format!("{prefix}{name}");
    let what = |name: &str| format!("{history}, {name}");
    let lines = standing(&messages(broker, &topic("lines")));
    compare(&what("lines"), &texts(lines.into_values()), &expected);

    // What was published is what stands.
    let outputs = [
        ("charges", "monetised"),
        ("suspense", "suspense"),
        ("notices", "notices"),
    ];
    for (name, output) in outputs {
        let told = standing(&messages(broker, &topic(name)));
        let stands = rows(&desk.at(&format!("out/{output}/snapshot")));
        assert!(!stands.is_empty(), "{output} has rows");
        compare(&what(name), &texts(told.into_values()), &texts(stands));
    }
    // Who shares a bucket is not told with every change of it.
    let alone = |mut row: Value| {
        row["accounts"] = Value::Null;
        row
    };
    let told = standing(&messages(broker, &topic("balances"))).into_values();
    let stands = rows(&desk.at("out/balances/snapshot")).into_iter();
    let (told, stands) = (told.map(alone), stands.map(alone));
    compare(&what("balances"), &texts(told), &texts(stands));

    // A charge at a plain price never changes: it was published once.
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for (key, value) in messages(broker, &topic("charges")) {
        let of_flat =
            |value: &Value| ["a1", "a3", "a5", "a7"].contains(&value["account"].as_str().unwrap());
        if value.as_ref().is_some_and(of_flat) {
            *times.entry(key).or_default() += 1;
        }
    }
    assert!(times.len() > 100, "{} plain charges", times.len());
    for (key, times) in times {
        assert_eq!(times, 1, "{history}: {key} was published {times} times");
    }
}

/// All that was sent is committed as read, and the job says so.
fn is_read_to_the_end(broker: &Broker, job: &str, sent: u64) {
    let status = millrace(&["status", job, "--output", "json"]);
    assert_eq!(status.err, "");
    let status = status.summary();
    let positions = status["positions"].as_array().unwrap();
    assert_eq!(positions.len(), 3, "{status}");
    let next: u64 = positions
        .iter()
        .map(|position| position["next"].as_u64().unwrap())
        .sum();
    // Nobody sends within transactions, so every offset is a message.
    let consumer = Consumer::open(&broker.settings(), &["usage".to_owned()]).unwrap();
    let marks = consumer.watermarks().unwrap();
    let low: i64 = marks.values().map(|marks| marks.low).sum();
    assert_eq!(next - u64::try_from(low).unwrap(), sent, "{status}");
    for position in positions {
        assert_eq!(position["lag"], 0, "{status}");
    }
}

/// No part of a commit is published twice, and none before an earlier one.
pub(crate) fn progress_rises(broker: &Broker, topic: &str) {
    let mut last = None;
    for (key, content) in contents(broker, topic) {
        // What a publisher marks the end with when it opens.
        if key.ends_with("/opened") {
            continue;
        }
        let done: Progress = serde_json::from_slice(&content.unwrap()).unwrap();
        let done = (done.epoch, done.part);
        assert!(last < Some(done), "{done:?} is published behind {last:?}");
        last = Some(done);
    }
    assert!(last.is_some(), "nothing is published");
}
