//! From a real Kafka to a real Kafka under kills: a job is killed at any moment while messages arrive,
//! and the broker with it now and then. What readers of committed messages have in the end is the bill
//! of an undisturbed run over the same calls, each row once.
//!
//! `MILLRACE_KILLS` asks for more kills than the few of the short form, `MILLRACE_SEED` for another
//! history.

use millrace::cli::Exit;
use millrace_connectors::kafka::{Consumer, Start};
use millrace_tests::broker::{Broker, Sent};
use millrace_tests::jobs::{Desk, instant, millrace, rows};
use millrace_tests::kills::{CATALOG, Dice, MEDIATION, accounts, start, variable};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

const KILLS: u32 = 8;
const BATCHES: u64 = 10;
const BATCH: u64 = 400;

fn job(source: &str, rest: &str) -> String {
    format!(
        "name: calls\ntime_zone: UTC\nclock: 2026-03-10\nsources:\n  - name: switch\n    platform: switch\n    \
         service_type: voice\n    {source}\n    mediation: mediation.yaml\ncatalog: [catalog.yaml]\n\
         accounts: [accounts.yaml]\nepoch: {{ rows: 200 }}\n{rest}"
    )
}

/// A batch of calls: some late, some sent before, some of numbers that nobody has, some no calls.
fn calls(batch: u64, dice: &mut Dice) -> Vec<(String, String)> {
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
        let at = instant(1_767_225_600 + (id * 500).saturating_sub(late));
        let (line, seconds) = (of_call.roll(9), of_call.roll(60));
        let call = match dice.roll(100) {
            0 => "no call".to_owned(),
            _ => format!(
                r#"{{"id": "c{id}", "number": "+{line}", "at": "{at}", "seconds": {seconds}}}"#
            ),
        };
        (format!("c{id}"), call)
    };
    (0..BATCH).map(|row| call(row, dice)).collect()
}

/// All committed messages of a topic, in the order of each partition.
fn messages(broker: &Broker, topic: &str) -> Vec<(String, Option<Value>)> {
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
            let value = message
                .payload()
                .map(|value| serde_json::from_slice(value).unwrap());
            read.push((key, value));
        };
        let count = consumer.poll(1_000, Duration::from_millis(500), &mut each);
        quiet = count.unwrap() == 0;
    }
    read
}

/// What stands after all messages.
fn standing(messages: &[(String, Option<Value>)]) -> BTreeMap<String, Value> {
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
fn texts(rows: impl IntoIterator<Item = Value>) -> Vec<String> {
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
fn compare(what: &str, told: &[String], stands: &[String]) {
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
    let (mut killed, mut restarts, mut batch) = (0, 0, 0);
    let mut sent = String::new();
    while batch < BATCHES || killed < kills {
        if batch < BATCHES {
            let calls = calls(batch, &mut dice);
            let message = |(key, call): &(String, String)| {
                sent.push_str(call);
                sent.push('\n');
                (key.clone(), call.clone())
            };
            let calls: Vec<_> = calls.iter().map(message).collect();
            let messages: Vec<Sent<'_>> = calls
                .iter()
                .map(|(key, call)| Sent {
                    partition: Some(i32::try_from(dice.roll(3)).unwrap()),
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
    let what = |topic: &str| format!("seed {seed}, {topic}");
    let lines = standing(&messages(&broker, "lines"));
    compare(&what("lines"), &texts(lines.into_values()), &expected);

    // What was published is what stands.
    let outputs = [
        ("charges", "monetised"),
        ("suspense", "suspense"),
        ("notices", "notices"),
    ];
    for (topic, output) in outputs {
        let told = standing(&messages(&broker, topic));
        let stands = rows(&desk.at(&format!("out/{output}/snapshot")));
        assert!(!stands.is_empty(), "{output} has rows");
        compare(&what(topic), &texts(told.into_values()), &texts(stands));
    }
    // Who shares a bucket is not told with every change of it.
    let alone = |mut row: Value| {
        row["accounts"] = Value::Null;
        row
    };
    let told = standing(&messages(&broker, "balances")).into_values();
    let stands = rows(&desk.at("out/balances/snapshot")).into_iter();
    let (told, stands) = (told.map(alone), stands.map(alone));
    compare(&what("balances"), &texts(told), &texts(stands));

    // A charge at a plain price never changes: it was published once.
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for (key, value) in messages(&broker, "charges") {
        let of_flat =
            |value: &Value| ["a1", "a3", "a5", "a7"].contains(&value["account"].as_str().unwrap());
        if value.as_ref().is_some_and(of_flat) {
            *times.entry(key).or_default() += 1;
        }
    }
    assert!(times.len() > 100, "{} plain charges", times.len());
    for (key, times) in times {
        assert_eq!(times, 1, "seed {seed}: {key} was published {times} times");
    }
    println!("{killed} kills, {restarts} restarts of the broker, {batch} batches, seed {seed}");
}
