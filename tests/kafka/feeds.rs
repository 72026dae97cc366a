//! The Kafka connector against a real broker: what is published is read, once; what is aborted is
//! not; what cannot be known is found out; what is gone is said.

use millrace_connectors::decode::{ColumnRequest, MessageDecoder, MessageFormat};
use millrace_connectors::kafka::{
    Consumer, KafkaError, KafkaSettings, Message, NewTopic, Progress, PublishError, Publisher,
    PublisherSlot, Row, Start, TopicPartition, UpsertFeed, create_missing_topics,
};
use millrace_operators::domain::{FileId, Reason, RecordId};
use millrace_tests::broker::{Broker, PATIENCE, Sent, send};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::Producer as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant, UNIX_EPOCH};

fn slot(id: &str) -> PublisherSlot {
    PublisherSlot {
        transactional_id: id.to_owned(),
        progress_topic: format!("{id}-progress"),
        number: 0,
        of: 2,
    }
}

fn epoch(epoch: u64) -> Progress {
    Progress {
        epoch,
        generation: 1,
        part: 0,
    }
}

fn row<'r>(topic: &'r str, key: &'r str, value: &'r str) -> Row<'r> {
    Row {
        topic,
        key: key.as_bytes(),
        value: Some(value.as_bytes()),
        headers: &[],
    }
}

/// Everything that readers of committed messages see of a topic: key and value, sorted.
fn committed(settings: &KafkaSettings, topic: &str) -> Vec<(String, Option<String>)> {
    let mut consumer = Consumer::open(settings, &[topic.to_owned()]).unwrap();
    read_all(&mut consumer)
}

fn starts(consumer: &Consumer, start: Start) -> Vec<(TopicPartition, Start)> {
    let partitions = consumer.partitions().iter();
    partitions
        .map(|partition| (partition.clone(), start))
        .collect()
}

/// The ends of the partitions once nothing is open in them any more: markers are written after the
/// end of a transaction is acknowledged.
fn settled_ends(consumer: &Consumer) -> Vec<(TopicPartition, i64)> {
    let ends = || -> Vec<(TopicPartition, i64)> {
        let marks = consumer.watermarks().unwrap().into_iter();
        marks
            .map(|(partition, marks)| (partition, marks.high))
            .collect()
    };
    let mut last = ends();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let next = ends();
        if next == last {
            return next;
        }
        last = next;
    }
}

fn read_all(consumer: &mut Consumer) -> Vec<(String, Option<String>)> {
    let ends = settled_ends(consumer);
    consumer.assign(&starts(consumer, Start::Earliest)).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut rows = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !consumer.reached(&ends).unwrap() {
        assert!(
            Instant::now() < deadline,
            "{:?} of {ends:?}",
            consumer.position()
        );
        let mut keep = |message: Message<'_>| {
            rows.push((text(message.key().unwrap()), message.payload().map(text)));
        };
        consumer
            .poll(1000, Duration::from_millis(100), &mut keep)
            .unwrap();
    }
    rows.sort();
    rows
}

pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(future)
}

pub(crate) fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .create()
        .unwrap()
}

#[test]
fn rows_published_are_rows_read_each_once() {
    let broker = Broker::shared();
    broker.create("once", 3);
    let settings = broker.settings();
    let mut publishers: Vec<Publisher> = (0..2)
        .map(|number| {
            let slot = PublisherSlot {
                transactional_id: format!("once-{number}"),
                number,
                ..slot("once")
            };
            let (publisher, progress) = Publisher::open(&settings, slot).unwrap();
            assert_eq!(progress, None);
            publisher
        })
        .collect();
    let mut expected = Vec::new();
    for turn in 1..=20 {
        for (number, publisher) in publishers.iter_mut().enumerate() {
            // A transaction may be empty, and a key may be taken back.
            let rows: Vec<(String, Option<String>)> = (0..turn * 7 % 60)
                .map(|row| {
                    let key = format!("{number}-{}", row % 11);
                    (key, (row % 5 != 0).then(|| format!("{turn}.{row}")))
                })
                .collect();
            let headers: &[(&str, &[u8])] = &[("epoch", b"1")];
            let rows_of = rows.iter().map(|(key, value)| Row {
                topic: "once",
                key: key.as_bytes(),
                value: value.as_deref().map(str::as_bytes),
                headers,
            });
            publisher.publish(&epoch(turn), rows_of).unwrap();
            expected.extend(rows);
        }
        if turn % 7 == 0 {
            // Somebody else gives up.
            let other = broker.producer(&[("transactional.id", "once-other")]);
            other.init_transactions(PATIENCE).unwrap();
            other.begin_transaction().unwrap();
            let given_up = Sent {
                key: "0-1",
                payload: Some(b"never"),
                ..Sent::default()
            };
            send(&other, "once", &[given_up; 5]);
            other.flush(PATIENCE).unwrap();
            other.abort_transaction(PATIENCE).unwrap();
        }
    }
    expected.sort();
    assert_eq!(committed(&settings, "once"), expected);
    drop(publishers);
    for number in 0..2 {
        let slot = PublisherSlot {
            transactional_id: format!("once-{number}"),
            number,
            ..slot("once")
        };
        assert_eq!(Publisher::open(&settings, slot).unwrap().1, Some(epoch(20)));
    }
}

#[test]
fn open_and_aborted_transactions_are_not_read_but_passed() {
    let broker = Broker::shared();
    broker.create("aborted", 1);
    let message = |payload: &'static str| Sent {
        key: "k",
        payload: Some(payload.as_bytes()),
        ..Sent::default()
    };
    broker.send("aborted", &[message("before")]);
    let other = broker.producer(&[("transactional.id", "aborted-other")]);
    other.init_transactions(PATIENCE).unwrap();
    other.begin_transaction().unwrap();
    send(&other, "aborted", &[message("open")]);
    other.flush(PATIENCE).unwrap();
    broker.send("aborted", &[message("after")]);

    let mut consumer = Consumer::open(&broker.settings(), &["aborted".to_owned()]).unwrap();
    let partition = TopicPartition::new("aborted", 0);
    let high = |consumer: &Consumer| consumer.watermarks().unwrap()[&partition].high;
    assert_eq!(high(&consumer), 1, "readable up to the open transaction");
    let is = |payload: &str| ("k".to_owned(), Some(payload.to_owned()));
    assert_eq!(read_all(&mut consumer), [is("before")]);

    other.abort_transaction(PATIENCE).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while high(&consumer) < 4 {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(read_all(&mut consumer), [is("after"), is("before")]);
    // Four offsets, two messages: what nobody sees is passed all the same.
    assert_eq!(consumer.position().unwrap(), [(partition, 4)]);
}

#[test]
fn a_row_is_read_with_its_key_headers_and_time() {
    let broker = Broker::shared();
    broker.create("whole", 1);
    let (mut publisher, _) = Publisher::open(&broker.settings(), slot("whole")).unwrap();
    let headers: &[(&str, &[u8])] = &[("a", b"1"), ("b", b""), ("a", b"2")];
    let rows = [Some(&b"value"[..]), Some(b""), None].map(|value| Row {
        topic: "whole",
        key: b"key",
        value,
        headers,
    });
    publisher.publish(&epoch(1), rows).unwrap();
    let mut consumer = Consumer::open(&broker.settings(), &["whole".to_owned()]).unwrap();
    settled_ends(&consumer);
    consumer
        .assign(&starts(&consumer, Start::Earliest))
        .unwrap();
    let mut read = Vec::new();
    while read.len() < 3 {
        let mut keep = |message: Message<'_>| {
            assert_eq!(message.header("a"), Some(&b"2"[..]));
            read.push((message.offset, message.keep()));
        };
        consumer.poll(1, PATIENCE, &mut keep).unwrap();
    }
    let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    for ((expected, row), (offset, message)) in (0..).zip(rows).zip(read) {
        assert_eq!(offset, expected);
        assert_eq!(message.key.as_deref(), Some(row.key));
        assert_eq!(message.payload.as_deref(), row.value);
        let found = message.headers.iter();
        let found: Vec<_> = found
            .map(|(name, value)| (name.as_str(), value.as_deref().unwrap()))
            .collect();
        assert_eq!(found, headers);
        assert!((now - message.timestamp.unwrap()).abs() < 600_000);
    }
}

#[test]
fn a_later_publisher_fences_the_earlier() {
    let broker = Broker::shared();
    broker.create("fenced", 1);
    let settings = broker.settings();
    let (mut older, _) = Publisher::open(&settings, slot("fenced")).unwrap();
    older.publish(&epoch(1), [row("fenced", "a", "1")]).unwrap();
    let (mut newer, progress) = Publisher::open(&settings, slot("fenced")).unwrap();
    assert_eq!(progress, Some(epoch(1)));
    let fenced = PublishError::Fenced {
        transactional_id: "fenced".to_owned(),
    };
    assert_eq!(
        older.publish(&epoch(2), [row("fenced", "a", "old")]),
        Err(fenced.clone())
    );
    assert_eq!(older.publish(&epoch(3), []), Err(fenced), "it stays so");
    newer
        .publish(&epoch(2), [row("fenced", "a", "new")])
        .unwrap();
    let is = |value: &str| ("a".to_owned(), Some(value.to_owned()));
    assert_eq!(committed(&settings, "fenced"), [is("1"), is("new")]);
}

#[test]
fn a_refused_row_keeps_its_transaction_from_being_published() {
    let broker = Broker::shared();
    broker.create("refused", 1);
    let settings = broker.settings();
    let huge = "x".repeat(2_000_000);
    let mut known = None;
    for (bad, topic) in [
        (row("refused-missing", "b", "2"), "refused-missing"),
        (row("refused", "b", &huge), "refused"),
    ] {
        let (mut publisher, progress) = Publisher::open(&settings, slot("refused")).unwrap();
        assert_eq!(progress, known);
        let next = epoch(known.map_or(1, |progress| progress.epoch + 1));
        publisher
            .publish(&next, [row("refused", "a", "1")])
            .unwrap();
        known = Some(next);
        let refused = publisher.publish(&epoch(99), [row("refused", "a", "9"), bad]);
        assert!(
            matches!(&refused, Err(PublishError::Refused { topic: told, .. }) if told == topic),
            "{refused:?}"
        );
        let missing = publisher.check_topics(["refused-missing"]);
        assert!(
            matches!(missing, Err(KafkaError::TopicMissing { .. })),
            "{missing:?}"
        );
        publisher.check_topics(["refused"]).unwrap();
    }
    assert_eq!(
        Publisher::open(&settings, slot("refused")).unwrap().1,
        known
    );
    let one = ("a".to_owned(), Some("1".to_owned()));
    assert_eq!(committed(&settings, "refused"), [one.clone(), one]);
}

#[test]
fn a_broker_killed_inside_of_a_transaction_leaves_all_or_nothing() {
    let mut broker = Broker::start();
    broker.create("killed", 2);
    let settings = broker.settings();
    let rows_of = |epoch: u64| -> Vec<(String, Option<String>)> {
        (0..2_000)
            .map(|row| (format!("{:03}", row % 500), Some(format!("{epoch}.{row}"))))
            .collect()
    };
    let mut expected = Vec::new();
    for delay_ms in [0, 70] {
        let (mut publisher, before) = Publisher::open(&settings, slot("killed")).unwrap();
        let begun = before.map_or(0, |progress| progress.epoch);
        // Epochs go on until the broker does not.
        let publishing = std::thread::spawn(move || {
            let mut last = begun;
            loop {
                let rows = rows_of(last + 1);
                let rows = rows.iter().map(|(key, value)| Row {
                    topic: "killed",
                    key: key.as_bytes(),
                    value: value.as_deref().map(str::as_bytes),
                    headers: &[],
                });
                match publisher.publish(&epoch(last + 1), rows) {
                    Ok(()) => last += 1,
                    Err(error) => return (last, error),
                }
                if last == begun + 200 {
                    return (
                        last,
                        publisher.publish(&epoch(0), [row("", "", "")]).unwrap_err(),
                    );
                }
            }
        });
        std::thread::sleep(Duration::from_millis(300 + delay_ms));
        broker.kill();
        broker.restart();
        let (last, error) = publishing.join().unwrap();
        let (publisher, after) = Publisher::open(&settings, slot("killed")).unwrap();
        let after = after.map_or(0, |progress| progress.epoch);
        assert!(
            after == last || after == last + 1,
            "{last} then {after}: {error}"
        );
        drop(publisher);
        (begun + 1..=after).for_each(|epoch| expected.extend(rows_of(epoch)));
        expected.sort();
        let found = committed(&settings, "killed");
        assert!(
            found == expected,
            "{} rows of {}",
            found.len(),
            expected.len()
        );
    }
}

#[test]
fn what_retention_removed_is_an_error_and_no_jump() {
    let broker = Broker::shared();
    broker.create("removed", 1);
    let big = vec![b'x'; 100_000];
    let message = Sent {
        key: "k",
        payload: Some(&big),
        ..Sent::default()
    };
    broker.send("removed", &[message; 60]);
    let partition = TopicPartition::new("removed", 0);
    let mut settings = broker.settings();
    // It fetches little ahead, so that there is something left to be removed.
    for (key, value) in [
        ("fetch.message.max.bytes", "100000"),
        ("queued.max.messages.kbytes", "100"),
        ("queued.min.messages", "1"),
    ] {
        settings.settings.insert(key.to_owned(), value.to_owned());
    }
    let mut consumer = Consumer::open(&settings, &["removed".to_owned()]).unwrap();
    consumer
        .assign(&[(partition.clone(), Start::At(0))])
        .unwrap();
    let mut read = 0;
    while read == 0 {
        read += consumer.poll(1, PATIENCE, &mut |_| {}).unwrap();
    }
    let mut before = TopicPartitionList::new();
    before
        .add_partition_offset("removed", 0, Offset::Offset(50))
        .unwrap();
    wait(admin(broker).delete_records(&before, &AdminOptions::new())).unwrap();

    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        assert!(Instant::now() < deadline);
        match consumer.poll(1, Duration::from_millis(100), &mut |message| {
            assert!(message.offset < 50, "it jumped to {}", message.offset);
        }) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, KafkaError::Removed { wanted, first: 50, .. } if *wanted < 50),
        "{error}"
    );
    let removed = |wanted, first| KafkaError::Removed {
        partition: partition.clone(),
        wanted,
        first,
    };
    let at = |offset| [(partition.clone(), Start::At(offset))];
    assert_eq!(consumer.assign(&at(7)), Err(removed(7, 50)));
    let shorter = KafkaError::Shorter {
        partition: partition.clone(),
        wanted: 61,
        end: 60,
    };
    assert_eq!(consumer.assign(&at(61)), Err(shorter));
    consumer.assign(&at(60)).unwrap();
    // A broker that has just restarted may tell an end before its own: what comes is waited for.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            broker.send("removed", &[message]);
        });
        consumer.assign(&at(61)).unwrap();
    });
}

#[test]
fn added_partitions_are_found() {
    let broker = Broker::shared();
    broker.create("grown", 1);
    let mut consumer = Consumer::open(&broker.settings(), &["grown".to_owned()]).unwrap();
    assert_eq!(consumer.refresh().unwrap(), []);
    let grown = [NewPartitions::new("grown", 3)];
    let grown = wait(admin(broker).create_partitions(&grown, &AdminOptions::new()));
    assert!(grown.unwrap().iter().all(Result::is_ok));
    let deadline = Instant::now() + PATIENCE;
    let new = loop {
        let new = consumer.refresh().unwrap();
        if !new.is_empty() {
            break new;
        }
        assert!(Instant::now() < deadline);
    };
    let at = |partition| TopicPartition::new("grown", partition);
    assert_eq!(new, [at(1), at(2)]);
    assert_eq!(consumer.partitions(), [at(0), at(1), at(2)]);
}

#[test]
fn what_is_missing_is_said() {
    let broker = Broker::shared();
    let open = |settings: &KafkaSettings, topic: &str| {
        let opened = Consumer::open(settings, &[topic.to_owned()]);
        opened.unwrap_err().to_string()
    };
    broker.create("said", 1);
    let told = open(&broker.settings(), "siad");
    assert!(
        told.contains("cannot find topic \"siad\"") && told.contains("did you mean"),
        "{told}"
    );
    let mut unknown = broker.settings();
    unknown
        .settings
        .insert("no.such".to_owned(), "x".to_owned());
    let told = open(&unknown, "said");
    assert!(told.contains("\"no.such\""), "{told}");
    let begun = Instant::now();
    let told = open(&KafkaSettings::new("127.0.0.1:1"), "said");
    assert!(
        told.contains("127.0.0.1:1") && told.contains("check that the broker runs"),
        "{told}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn wrong_credentials_are_said_and_not_shown() {
    let broker = Broker::start_with(
        "listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{controller}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT,SASL_PLAINTEXT:PLAINTEXT\n\
         inter.broker.listener.name=SASL_PLAINTEXT\n\
         sasl.enabled.mechanisms=PLAIN\n\
         listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_meter=\"right\";",
    );
    let mut settings = broker.settings();
    let mut set =
        |key: &str, value: &str| settings.settings.insert(key.to_owned(), value.to_owned());
    set("security.protocol", "sasl_plaintext");
    set("sasl.mechanism", "PLAIN");
    set("sasl.username", "meter");
    set("sasl.password", "right");
    let right = settings.clone();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = create_missing_topics(&right, &[NewTopic::new("ready", 1)]) {
        assert!(Instant::now() < deadline, "{error}");
    }
    Consumer::open(&right, &["ready".to_owned()]).unwrap();
    settings
        .settings
        .insert("sasl.password".to_owned(), "a wrong one".to_owned());
    let begun = Instant::now();
    let error = Consumer::open(&settings, &["ready".to_owned()]).unwrap_err();
    assert!(matches!(error, KafkaError::Denied { .. }), "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let error = Publisher::open(&settings, slot("denied")).unwrap_err();
    assert!(matches!(error, KafkaError::Denied { .. }), "{error}");
    assert!(!error.to_string().contains("a wrong one"));
}

#[test]
fn a_feed_keeps_the_latest_of_each_key() {
    let broker = Broker::shared();
    create_missing_topics(&broker.settings(), &[NewTopic::compacted("accounts", 2)]).unwrap();
    let document = |key: &'static str, payload: Option<&'static str>| Sent {
        key,
        payload: payload.map(str::as_bytes),
        ..Sent::default()
    };
    let (one, two) = (r#"{"id":"a","version":1}"#, r#"{"id":"a","version":2}"#);
    broker.send(
        "accounts",
        &[
            document("a", Some(two)),
            document("a", Some(one)),
            document("b", Some(one)),
            document("c", Some("{")),
            document("b", None),
        ],
    );
    let topics = ["accounts".to_owned()];
    let mut feed = UpsertFeed::open(&broker.settings(), &topics, Some("version")).unwrap();
    feed.read_to_end(PATIENCE).unwrap();
    let changes = |feed: &mut UpsertFeed| -> BTreeMap<String, Option<String>> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let changes = feed.take_changes().into_iter();
        changes
            .map(|change| (text(change.key), change.document.map(text)))
            .collect()
    };
    let is = |key: &str, document: Option<&str>| {
        BTreeMap::from([(key.to_owned(), document.map(str::to_owned))])
    };
    // In order, the last of a key last.
    let mut expected = is("a", Some(two));
    expected.extend(is("b", None));
    assert_eq!(changes(&mut feed), expected);
    let faults = feed.take_faults();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].detail.contains("not JSON"), "{faults:?}");

    broker.send(
        "accounts",
        &[document("b", Some(two)), document("a", Some(two))],
    );
    feed.read_to_end(PATIENCE).unwrap();
    assert_eq!(changes(&mut feed), is("b", Some(two)));
    broker.send("accounts", &[document("a", None)]);
    feed.read_to_end(PATIENCE).unwrap();
    assert_eq!(changes(&mut feed), is("a", None));
}

#[test]
fn a_poison_message_leaves_its_neighbours() {
    let broker = Broker::shared();
    broker.create("poison", 2);
    let event = r#"{"specversion":"1.0","id":"s","source":"x","type":"t","data":{"tokens":2}}"#;
    let binary = [
        ("ce_specversion", "1.0"),
        ("ce_id", "b"),
        ("ce_source", "x"),
        ("ce_type", "t"),
    ];
    let sent = |partition, payload: &'static str| Sent {
        partition: Some(partition),
        key: "k",
        payload: Some(payload.as_bytes()),
        ..Sent::default()
    };
    let messages = [
        sent(0, event),
        sent(0, "poison"),
        Sent {
            headers: &binary,
            ..sent(0, r#"{"tokens":1}"#)
        },
        Sent {
            payload: None,
            ..sent(1, "")
        },
        sent(1, event),
    ];
    broker.send("poison", &messages);
    let column = |name: &str| ColumnRequest::new(name, None);
    let columns = [column("id"), column("tokens"), column("_key")];
    let mut consumer = Consumer::open(&broker.settings(), &["poison".to_owned()]).unwrap();
    let mut decoders: Vec<MessageDecoder> = (7..)
        .zip(consumer.partitions())
        .map(|(number, partition)| {
            let format = MessageFormat::CloudEvents;
            MessageDecoder::open(FileId(number), partition, &format, None, &columns).unwrap()
        })
        .collect();
    consumer
        .assign(&starts(&consumer, Start::Earliest))
        .unwrap();
    let mut read = 0;
    while read < messages.len() {
        let mut push = |message: Message<'_>| {
            decoders[message.slot].push(&message).unwrap();
        };
        read += consumer.poll(1000, PATIENCE, &mut push).unwrap();
    }
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    for decoder in &mut decoders {
        let chunk = decoder.finish().unwrap();
        let text = |column: usize, row: usize| {
            let column = chunk.batch.column(column);
            arrow::util::display::array_value_to_string(column, row).unwrap()
        };
        for (row, offset) in chunk.rows.iter().enumerate() {
            rows.push((*offset, text(0, row), text(1, row), text(2, row)));
        }
        faults.extend(
            chunk
                .faults
                .into_iter()
                .map(|fault| (fault.record, fault.reason)),
        );
    }
    let is = |offset: u64, id: &str, tokens: &str| {
        (offset, id.to_owned(), tokens.to_owned(), "k".to_owned())
    };
    assert_eq!(rows, [is(0, "s", "2"), is(2, "b", "1"), is(1, "s", "2")]);
    let at = |file, offset| RecordId::new(FileId(file), offset);
    assert_eq!(
        faults,
        [
            (at(7, 1), Reason::RowUnreadable),
            (at(8, 0), Reason::Tombstone)
        ]
    );
}
