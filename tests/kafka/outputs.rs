//! What outputs say of messages: offsets have gaps, and two sources may name their files alike.

use millrace::cli::Exit;
use millrace_connectors::kafka::{
    Consumer, NewTopic, Progress, Publisher, PublisherSlot, Row, Start, create_missing_topics,
};
use millrace_tests::broker::Broker;
use millrace_tests::jobs::{Desk, millrace, rows, text};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn source(name: &str, place: &str) -> String {
    format!(
        "  - name: {name}\n    platform: {name}\n    service_type: voice\n    {place}\n    mediation: mediation.yaml\n"
    )
}

fn desk(sources: &str, rest: &str) -> Desk {
    let job = format!(
        "name: outputs\ntime_zone: UTC\nclock: 2026-01-10\nsources:\n{sources}\
         catalog: [catalog.yaml]\naccounts: [accounts.yaml]\n{rest}"
    );
    Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", &accounts()),
        ("job.yaml", &job),
    ])
}

fn call(id: &str, number: &str, seconds: u32) -> String {
    format!(
        r#"{{"id": "{id}", "number": "{number}", "at": "2026-01-02T00:00:00Z", "seconds": {seconds}}}"#
    )
}

#[test]
fn the_status_of_a_message_is_at_its_offset() {
    let broker = Broker::shared();
    let address = broker.address();
    broker.create("status.usage", 1);
    // Each transaction ends with a mark that takes an offset.
    let slot = PublisherSlot {
        transactional_id: "status".to_owned(),
        progress_topic: "status.progress".to_owned(),
        number: 0,
        of: 1,
    };
    let (mut publisher, _) = Publisher::open(&broker.settings(), slot).unwrap();
    let transactions = [
        vec![call("a", "+1", 60), call("b", "+1", 13)],
        vec!["no call".to_owned()],
        vec![
            call("a", "+1", 60),
            call("c", "nobody", 60),
            call("d", "+3", 60),
        ],
    ];
    for (part, calls) in (1..).zip(&transactions) {
        let progress = Progress {
            part,
            ..Progress::default()
        };
        let rows = calls.iter().map(|call| Row {
            topic: "status.usage",
            key: b"k",
            value: Some(call.as_bytes()),
            headers: &[],
        });
        publisher.publish(&progress, rows).unwrap();
    }
    let kafka = format!("kafka: {{ brokers: '{address}', topics: [status.usage] }}");
    let desk = desk(
        &source("switch", &kafka),
        "durability: { folder: state }\noutputs: { folder: out }\n",
    );
    for again in [false, true] {
        let ended = desk.run();
        assert!(matches!(ended.exit, Exit::Findings), "{}", ended.err);
        let told = rows(&desk.at("out/raw_status/snapshot"));
        let told: Vec<(String, u64, String)> = told
            .iter()
            .map(|row| {
                let code = row["code"].as_str().unwrap_or_default();
                let status = format!("{} {code}", text(row, "status"));
                (
                    text(row, "file").to_owned(),
                    row["row"].as_u64().unwrap(),
                    status,
                )
            })
            .collect();
        let at = |offset, status: &str| ("status.usage/0".to_owned(), offset, status.to_owned());
        let expected = [
            at(0, "processed MONETISED"),
            at(1, "processed IGNORED"),
            at(3, "failed ROW_UNREADABLE"),
            at(5, "failed DUPLICATE"),
            at(6, "pending SERVICE_UNKNOWN"),
            at(7, "processed MONETISED"),
        ];
        assert_eq!(told, expected, "again: {again}");
    }
}

#[test]
fn files_of_one_name_have_messages_of_their_own() {
    let broker = Broker::shared();
    let address = broker.address();
    let topics = ["same.charges", "same.suspense"].map(|topic| NewTopic::compacted(topic, 1));
    create_missing_topics(&broker.settings(), &topics).unwrap();
    let desk = desk(
        &(source("east", "path: east") + &source("west", "path: west")),
        &format!(
            "durability: {{ folder: state }}\noutputs:\n  kafka:\n    brokers: '{address}'\n    \
             topics: {{ monetised: same.charges, suspense: same.suspense }}\n"
        ),
    );
    for (folder, number) in [("east", 1), ("west", 3)] {
        let calls = format!(
            "id,number,at,seconds\n{folder}-1,+{number},2026-01-02T00:00:00Z,60\n{folder}-2,nobody,2026-01-02T00:00:00Z,60\n"
        );
        desk.write(&format!("{folder}/calls.csv"), calls);
    }
    let ended = millrace(&["run", &desk.at("job.yaml").display().to_string()]);
    assert!(matches!(ended.exit, Exit::Findings), "{}", ended.err);
    for topic in ["same.charges", "same.suspense"] {
        let told = standing(broker, topic);
        assert_eq!(told.len(), 2, "{topic}: {told:?}");
    }
}

/// The newest message of each key of a topic.
fn standing(broker: &Broker, topic: &str) -> BTreeMap<String, Vec<u8>> {
    let mut consumer = Consumer::open(&broker.settings(), &[topic.to_owned()]).unwrap();
    let marks = consumer.watermarks().unwrap();
    let ends: Vec<_> = marks
        .iter()
        .map(|(at, marks)| (at.clone(), marks.high))
        .collect();
    let starts: Vec<_> = marks.into_keys().map(|at| (at, Start::Earliest)).collect();
    consumer.assign(&starts).unwrap();
    let (mut standing, begun) = (BTreeMap::new(), Instant::now());
    while !consumer.reached(&ends).unwrap() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{topic} does not end"
        );
        let mut each = |message: millrace_connectors::kafka::Message<'_>| {
            let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            match message.payload() {
                Some(row) => standing.insert(key, row.to_vec()),
                None => standing.remove(&key),
            };
        };
        consumer
            .poll(1_000, Duration::from_millis(100), &mut each)
            .unwrap();
    }
    standing
}
