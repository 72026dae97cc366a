//! Rules and tables hold for all messages, also for those that were read before them: they are read again from the
//! broker. What it has no more is told with exit code 1.
//!
//! `MILLRACE_TURNS` asks for a longer history, `MILLRACE_SEED` for another.

use super::units::{DURABLE, RULE, Watching, create_anew, desk, is, job, remove, rule, send};
use millrace::cli::Exit;
use millrace_connectors::kafka::{Consumer, NewTopic, Start, create_missing_topics};
use millrace_tests::broker::{Broker, PATIENCE};
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{millrace, rows, standing};
use millrace_tests::kills::variable;
use std::time::{Duration, Instant};

const TURNS: u32 = 6;

fn times(factor: u32) -> String {
    rule("units: units }", &format!("units: units * {factor} }}"))
}

#[test]
fn rules_saved_while_the_job_stands_and_while_it_watches_hold_for_messages_read_before() {
    let broker = Broker::shared();
    broker.create("ruled.usage", 1);
    send(broker, ("ruled.usage", 0), [(1, 2), (2, 3)]);
    let desk = desk(&job(broker, "topics: [ruled.usage]", DURABLE));
    is(&desk, "2.5 USD", Exit::Ok);
    desk.write("rule.yaml", times(10));
    let told = is(&desk, "25 USD", Exit::Ok);
    let says = "2 records were mediated again";
    assert!(told.err.contains(says), "{}", told.err);
    let told = is(&desk, "25 USD", Exit::Ok);
    assert!(!told.err.contains("mediated again"), "once: {}", told.err);
    let watching = Watching::begin(&desk, 2);
    desk.write("rule.yaml", times(100));
    assert_eq!(watching.changed(), "250");
    // What comes is mediated by it too, and by the next one with all the others.
    send(broker, ("ruled.usage", 0), [(3, 1)]);
    watching.until(3);
    desk.write("rule.yaml", times(1_000));
    assert_eq!(watching.changed(), "3000");
    let summary = watching.end();
    assert!(summary.warnings.is_empty(), "{:?}", summary.warnings);
    let told = is(&desk, "3000 USD", Exit::Ok);
    assert!(!told.err.contains("mediated again"), "{}", told.err);
    // Who is charged may change, and whether, and what is one record.
    desk.write("rule.yaml", rule("units <> 99", "units <> 2"));
    is(&desk, "2 USD", Exit::Ok);
    desk.write("rule.yaml", rule("[id]", "[region]"));
    is(&desk, "1 USD", Exit::Findings);
    desk.write("rule.yaml", RULE);
    is(&desk, "3 USD", Exit::Ok);
    // Changes come to what stands.
    let changes = standing(rows(&desk.at("out/aggregated/changes")));
    assert_eq!(changes, standing(desk.snapshot("aggregated")));
}

#[test]
fn a_job_that_keeps_no_state_reads_messages_again_while_it_watches() {
    let broker = Broker::shared();
    broker.create("loose.usage", 2);
    send(broker, ("loose.usage", 0), [(1, 2)]);
    send(broker, ("loose.usage", 1), [(2, 3)]);
    let desk = desk(&job(broker, "topics: [loose.usage]", ""));
    let watching = Watching::begin(&desk, 2);
    desk.write("rule.yaml", times(10));
    assert_eq!(watching.changed(), "25");
    send(broker, ("loose.usage", 0), [(3, 1)]);
    watching.until(3);
    // One that does not suit is not in force.
    desk.write("rule.yaml", rule("service: number", "service: nobody +"));
    let deadline = Instant::now() + PATIENCE;
    while watching.warned().is_empty() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    desk.write("rule.yaml", RULE);
    assert_eq!(watching.changed(), "3");
    watching.end();
}

/// What was never asked for is not read for the sake of a rule.
#[test]
fn messages_before_the_first_that_was_read_stay_unread() {
    let broker = Broker::shared();
    broker.create("late.usage", 1);
    send(broker, ("late.usage", 0), [(1, 7), (2, 7)]);
    let desk = desk(&job(broker, "topics: [late.usage], from: latest", DURABLE));
    is(&desk, "", Exit::Ok);
    send(broker, ("late.usage", 0), [(3, 2), (4, 3)]);
    is(&desk, "2.5 USD", Exit::Ok);
    desk.write("rule.yaml", times(10));
    let told = is(&desk, "25 USD", Exit::Ok);
    let says = "2 records were mediated again";
    assert!(told.err.contains(says), "{}", told.err);
    let watching = Watching::begin(&desk, 2);
    desk.write("rule.yaml", RULE);
    assert_eq!(watching.changed(), "2.5");
    watching.end();
    is(&desk, "2.5 USD", Exit::Ok);
}

#[test]
fn messages_that_retention_removed_stay_and_are_told() {
    let broker = Broker::shared();
    broker.create("aged.usage", 1);
    send(broker, ("aged.usage", 0), (0..4).map(|id| (id, 2)));
    let desk = desk(&job(broker, "topics: [aged.usage]", DURABLE));
    is(&desk, "4 USD", Exit::Ok);
    remove(broker, ("aged.usage", 0), 3);
    desk.write("rule.yaml", times(10));
    let told = is(&desk, "13 USD", Exit::Findings);
    for says in [
        "\"aged.usage/0\" cannot all be mediated again: the broker has 1 of the messages that were read",
        "3 messages of offsets 0 to 3 stay as the rule before made them",
        "put the rule, and the tables that it asks, back as they were",
    ] {
        assert!(told.err.contains(says), "{says}: {}", told.err);
    }
    is(&desk, "13 USD", Exit::Ok);
    // Each is told with the rule that made it.
    let explained = |offset: u32| {
        let record = format!("aged.usage/0#{offset}");
        let job = desk.at("job.yaml").display().to_string();
        let told = millrace(&["explain", &job, &record, "--output", "json"]);
        let read = serde_json::from_str(&told.out);
        let told: serde_json::Value = read.unwrap_or_else(|error| panic!("{error}: {told:?}"));
        let parts = told["rule"]["content"]["expressions"].as_array();
        let charge = parts.unwrap().last().unwrap()["sql"].clone();
        (
            charge,
            told["usage"]["items"][0][1].clone(),
            told["rule"]["in_force"] == true,
        )
    };
    for offset in 0..3 {
        assert_eq!(explained(offset), ("units".into(), "2".into(), false));
    }
    assert_eq!(explained(3), ("units * 10".into(), "20".into(), true));
    // As is advised: all are of one rule.
    desk.write("rule.yaml", RULE);
    is(&desk, "4 USD", Exit::Ok);
    let watching = Watching::begin(&desk, 4);
    desk.write("rule.yaml", times(100));
    assert_eq!(watching.changed(), "103");
    let summary = watching.end();
    let says = "3 messages of offsets 0 to 3 stay";
    assert!(
        summary.warnings.iter().any(|told| told.contains(says)),
        "{:?}",
        summary.warnings
    );
    // None is left.
    remove(broker, ("aged.usage", 0), 4);
    desk.write("rule.yaml", RULE);
    let told = is(&desk, "103 USD", Exit::Findings);
    let says = "4 messages of offsets 0 to 3 stay";
    assert!(told.err.contains(says), "{}", told.err);
    is(&desk, "103 USD", Exit::Ok);
}

/// A gap is where a message was.
#[test]
fn messages_that_were_compacted_away_stay_and_are_told() {
    let broker = Broker::start_with("log.cleaner.backoff.ms=50\n");
    broker.wait_until_ready();
    let topic = NewTopic::compacted("compact", 1)
        .with("segment.ms", "100")
        .with("min.cleanable.dirty.ratio", "0.01")
        .with("max.compaction.lag.ms", "100");
    create_missing_topics(&broker.settings(), &[topic]).unwrap();
    // A key is the identity of its record.
    send(&broker, ("compact", 0), [(1, 2), (2, 3)]);
    let desk = desk(&job(&broker, "topics: [compact]", DURABLE));
    is(&desk, "2.5 USD", Exit::Ok);
    let deadline = Instant::now() + PATIENCE;
    while offsets(&broker, "compact").first() == Some(&0) {
        assert!(Instant::now() < deadline, "nothing is compacted away");
        std::thread::sleep(Duration::from_millis(300));
        // The same key, so that the first message goes; ignored, so that nothing else changes.
        send(&broker, ("compact", 0), [(1, 99)]);
    }
    desk.write("rule.yaml", times(10));
    let told = is(&desk, "16 USD", Exit::Findings);
    let says = "1 messages of offsets 0 to 1 stay as the rule before made them";
    assert!(told.err.contains(says), "{}", told.err);
    desk.write("rule.yaml", RULE);
    let back = desk.run();
    assert_eq!(back.totals(), ["2.5 USD"], "{}", back.err);
}

/// The offsets of the messages that a topic of one partition has.
fn offsets(broker: &Broker, topic: &str) -> Vec<i64> {
    let mut consumer = Consumer::open(&broker.settings(), &[topic.to_owned()]).unwrap();
    let partition = consumer.partitions()[0].clone();
    let end = consumer.watermarks().unwrap()[&partition].high;
    consumer
        .assign(&[(partition.clone(), Start::Earliest)])
        .unwrap();
    let mut offsets = Vec::new();
    while !consumer.reached(&[(partition.clone(), end)]).unwrap() {
        let mut each = |message: millrace_connectors::kafka::Message<'_>| {
            offsets.push(message.offset);
        };
        consumer
            .poll(1_000, Duration::from_millis(100), &mut each)
            .unwrap();
    }
    offsets
}

/// A topic that the source has left behind is asked as well.
#[test]
fn messages_of_a_topic_that_was_read_before_are_read_again_while_it_is_there() {
    let broker = Broker::shared();
    broker.create("former.usage", 1);
    broker.create("latter.usage", 1);
    send(broker, ("former.usage", 0), [(1, 2)]);
    send(broker, ("latter.usage", 0), [(2, 3)]);
    let desk = desk(&job(broker, "topics: [former.usage]", DURABLE));
    is(&desk, "1 USD", Exit::Ok);
    desk.write("job.yaml", job(broker, "topics: [latter.usage]", DURABLE));
    is(&desk, "2.5 USD", Exit::Ok);
    desk.write("rule.yaml", times(10));
    is(&desk, "25 USD", Exit::Ok);
    create_anew(broker, "former.usage", 1);
    send(broker, ("former.usage", 0), [(3, 4), (4, 4)]);
    desk.write("rule.yaml", times(100));
    let told = is(&desk, "160 USD", Exit::Findings);
    for says in [
        "\"former.usage/0\" cannot be mediated again: topic \"former.usage\" was deleted",
        "1 messages of offsets 0 to 0 stay as the rule before made them",
    ] {
        assert!(told.err.contains(says), "{says}: {}", told.err);
    }
    desk.write("rule.yaml", times(10));
    is(&desk, "25 USD", Exit::Ok);
}

/// Messages are no other messages under another format, but were written in one.
#[test]
fn another_format_is_told_until_it_is_back() {
    let broker = Broker::shared();
    broker.create("formed.usage", 1);
    send(broker, ("formed.usage", 0), [(1, 2), (2, 3)]);
    let formed = |format: &str| job(broker, &format!("topics: [formed.usage]{format}"), DURABLE);
    let desk = desk(&formed(""));
    is(&desk, "2.5 USD", Exit::Ok);
    desk.write("job.yaml", formed(", format: { type: cloudevents }"));
    let says = "\"formed.usage/0\" was read in another format or layout; its 2 records stay";
    for _ in 0..2 {
        let told = is(&desk, "2.5 USD", Exit::Findings);
        assert!(told.err.contains(says), "{}", told.err);
        assert!(told.err.contains("put `format` of the topics back"));
    }
    let watching = Watching::begin(&desk, 2);
    desk.write("rule.yaml", times(10));
    let deadline = Instant::now() + PATIENCE;
    while watching.warned().matches(says).count() < 2 {
        assert!(Instant::now() < deadline, "{}", watching.warned());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!watching.warned().contains("a rule that is gone"));
    watching.end();
    // What came meanwhile was read in the other.
    send(broker, ("formed.usage", 0), [(3, 4)]);
    let unread = desk.run();
    assert_eq!(unread.totals(), ["2.5 USD"], "{}", unread.err);
    desk.write("job.yaml", formed(""));
    is(&desk, "45 USD", Exit::Ok);
}

/// Rules, tables and messages change at random, while the job stands and while it watches: the bill is that of a
/// job that begins with all of it.
#[test]
fn any_history_of_rules_and_messages_comes_to_the_bill_from_scratch() {
    let turns = variable("MILLRACE_TURNS", TURNS);
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let mut dice = Dice(seed);
    let broker = Broker::shared();
    broker.create("history.usage", 3);
    let kafka = "topics: [history.usage]";
    let rules = [
        RULE.to_owned(),
        times(3),
        rule("units <> 99", "units < 40"),
        rule("units <> 99", "units % 7 <> 1"),
        rule("[id]", "[id, region]"),
        rule(
            "service: number",
            "service: \"case when units % 5 = 0 then 'n2' else number end\"",
        ),
        rule("time: at", "time: \"at + interval '1 month'\""),
    ];
    let kept = desk(&job(broker, kafka, DURABLE));
    let mut id = 0;
    let mut sends = |dice: &mut Dice| {
        for partition in 0..3 {
            let records: Vec<(u64, u64)> = (0..dice.roll(40))
                .map(|_| {
                    id += 1;
                    (id, dice.roll(100))
                })
                .collect();
            send(broker, ("history.usage", partition), records);
        }
        id
    };
    for turn in 0..turns {
        sends(&mut dice);
        let chosen = rules[dice.below(rules.len())].clone();
        let same = std::fs::read_to_string(kept.at("rule.yaml")).unwrap() == chosen;
        if dice.roll(2) == 0 && !same {
            let watching = Watching::begin(&kept, 0);
            kept.write("rule.yaml", &chosen);
            // Some before the rule, some behind it.
            let sent = sends(&mut dice);
            watching.until(sent);
            let deadline = Instant::now() + PATIENCE;
            while watching.metrics.read().reference_changes == 0 {
                assert!(Instant::now() < deadline, "the rule is not applied");
                std::thread::sleep(Duration::from_millis(10));
            }
            watching.end();
        } else {
            kept.write("rule.yaml", &chosen);
        }
        let fresh = desk(&job(broker, kafka, ""));
        fresh.write("rule.yaml", &chosen);
        let (kept_ended, fresh_ended) = (kept.run(), fresh.run());
        let said = format!("seed {seed}, turn {turn}: {}", kept_ended.err);
        assert_eq!(kept_ended.totals(), fresh_ended.totals(), "{said}");
        assert_eq!(
            kept_ended.summary()["records"],
            fresh_ended.summary()["records"],
            "{said}"
        );
        assert!(!kept_ended.err.contains("cannot"), "{said}");
        for output in ["aggregated", "suspense"] {
            let changes = standing(rows(&kept.at(&format!("out/{output}/changes"))));
            let snapshot = standing(kept.snapshot(output));
            assert_eq!(changes, snapshot, "{said}: changes of {output}");
        }
    }
}
