//! Topics that are deleted and created anew under their names are others: their offsets, their documents and
//! what was published to them say nothing of those before. Each is refused, or told with exit code 1, and what
//! is advised then is followed to the letter. Partitions that are added, and messages that retention removed,
//! are of the same topic.

use super::exactly_once::{messages, standing, texts};
use super::feeds::{admin, wait};
use super::units::{
    ACCOUNTS, CATALOG, DURABLE, Watching, create_anew, desk, is, job, refused, remove, send,
};
use millrace::cli::Exit;
use millrace_connectors::kafka::{NewTopic, create_missing_topics};
use millrace_tests::broker::{Broker, Sent};
use millrace_tests::jobs::Desk;
use rdkafka::admin::{AdminOptions, NewPartitions};

const CREATED_ANEW: &str = "was deleted, and created anew under its name";

#[test]
fn a_topic_created_anew_is_refused_and_another_is_read_from_its_beginning() {
    let broker = Broker::shared();
    broker.create("born.usage", 1);
    send(broker, ("born.usage", 0), (0..500).map(|id| (id, 1)));
    for from in ["", ", from: latest"] {
        let kafka = |topic: &str| format!("topics: [{topic}]{from}");
        let desk = desk(&job(broker, &kafka("born.usage"), DURABLE));
        if from.is_empty() {
            is(&desk, "250 USD", Exit::Ok);
        } else {
            is(&desk, "", Exit::Ok);
            send(
                broker,
                ("born.usage", 0),
                (1..=500).map(|id| (id * 1_000_000, 1)),
            );
            is(&desk, "250 USD", Exit::Ok);
        }
        let read = if from.is_empty() { 500 } else { 1_100 };
        // More than were read.
        create_anew(broker, "born.usage", 1);
        let more = || (1_000..1_600).map(|id| (id, 1));
        send(broker, ("born.usage", 0), more());
        let says = format!("read up to offset {read} of born.usage/0: it {CREATED_ANEW}");
        for _ in 0..2 {
            refused(&desk, &[&says, "create it under another name"]);
        }
        let other = format!("born.again{read}");
        broker.create(&other, 1);
        send(broker, (&other, 0), more());
        desk.write("job.yaml", job(broker, &kafka(&other), DURABLE));
        is(&desk, "550 USD", Exit::Ok);
        is(&desk, "550 USD", Exit::Ok);
    }
}

/// What is read of the new topic before anybody notices is not kept.
#[test]
fn a_topic_created_anew_while_the_job_watches_ends_it() {
    let broker = Broker::shared();
    broker.create("ended.usage", 1);
    send(broker, ("ended.usage", 0), (0..20).map(|id| (id, 1)));
    let desk = desk(&job(broker, "topics: [ended.usage]", DURABLE));
    is(&desk, "10 USD", Exit::Ok);
    let watching = Watching::begin(&desk, 20);
    create_anew(broker, "ended.usage", 1);
    send(broker, ("ended.usage", 0), (100..150).map(|id| (id, 1)));
    let why = watching.fails();
    assert!(
        why.contains("ended.usage") && why.contains("start the job again"),
        "{why}"
    );
    refused(&desk, &["up to offset 20 of ended.usage/0", CREATED_ANEW]);
}

/// Nobody has asked for anything of a topic of which nothing was read.
#[test]
fn a_topic_of_which_nothing_was_read_may_be_another() {
    let broker = Broker::shared();
    broker.create("unread.usage", 1);
    let desk = desk(&job(broker, "topics: [unread.usage]", DURABLE));
    is(&desk, "", Exit::Ok);
    create_anew(broker, "unread.usage", 1);
    send(broker, ("unread.usage", 0), [(1, 4)]);
    is(&desk, "2 USD", Exit::Ok);
}

#[test]
fn partitions_added_while_the_job_stands_are_read_from_their_beginnings() {
    let broker = Broker::shared();
    broker.create("wider.usage", 1);
    send(broker, ("wider.usage", 0), [(1, 2)]);
    let desk = desk(&job(broker, "topics: [wider.usage]", DURABLE));
    is(&desk, "1 USD", Exit::Ok);
    let wider = [NewPartitions::new("wider.usage", 2)];
    let wider = wait(admin(broker).create_partitions(&wider, &AdminOptions::new()));
    assert!(wider.unwrap().iter().all(Result::is_ok));
    send(broker, ("wider.usage", 1), [(2, 2), (3, 2)]);
    is(&desk, "3 USD", Exit::Ok);
}

#[test]
fn messages_removed_before_they_were_read_are_passed_over_where_that_is_asked_for() {
    let broker = Broker::shared();
    broker.create("short.usage", 1);
    send(broker, ("short.usage", 0), [(0, 2), (1, 2)]);
    let desk = desk(&job(broker, "topics: [short.usage]", DURABLE));
    is(&desk, "2 USD", Exit::Ok);
    // What was read may go.
    remove(broker, ("short.usage", 0), 2);
    is(&desk, "2 USD", Exit::Ok);
    send(broker, ("short.usage", 0), [(2, 2), (3, 2), (4, 2)]);
    remove(broker, ("short.usage", 0), 4);
    let says = "short.usage/0 from offset 2: retention removed what lies before 4";
    refused(&desk, &[says, "write `removed: skip` at the topics"]);
    let skips = "topics: [short.usage], removed: skip";
    desk.write("job.yaml", job(broker, skips, DURABLE));
    let told = is(&desk, "3 USD", Exit::Findings);
    let says = "messages of short.usage/0 from offset 2 to 3 were removed before they were read";
    assert!(told.err.contains(says), "{}", told.err);
    is(&desk, "3 USD", Exit::Ok);
}

/// The prices of units, and of units abroad, in a topic.
fn prices(broker: &Broker, topic: &str, names: &[&str]) {
    let price = |name: &&str| {
        let row = match *name {
            "home" => r#"{"id": "home", "item": "units", "price": 0.5}"#,
            _ => r#"{"id": "abroad", "item": "units", "when": {"region": "home"}, "price": 2}"#,
        };
        format!(r#"{{"currency": "USD", "prices": [{row}]}}"#)
    };
    let prices: Vec<String> = names.iter().map(price).collect();
    let sent: Vec<Sent<'_>> = names
        .iter()
        .zip(&prices)
        .map(|(key, price)| Sent {
            key,
            payload: Some(price.as_bytes()),
            ..Sent::default()
        })
        .collect();
    broker.send(topic, &sent);
}

#[test]
fn a_topic_of_prices_created_anew_is_told() {
    let broker = Broker::shared();
    let address = broker.address();
    create_missing_topics(&broker.settings(), &[NewTopic::compacted("born.prices", 1)]).unwrap();
    prices(broker, "born.prices", &["home", "abroad"]);
    let job = format!(
        "name: units\ntime_zone: UTC\nclock: 2026-03-01\nsources:\n  - {{ name: switch, platform: pbx, \
         service_type: voice, path: usage, mediation: rule.yaml }}\n\
         catalog: [{{ kafka: {{ brokers: '{address}', topics: [born.prices] }} }}]\naccounts: [accounts.yaml]\n\
         outputs: {{ folder: out }}\n{DURABLE}"
    );
    let desk = desk(&job);
    desk.write(
        "usage/a.csv",
        "id,number,at,units,region\n1,n1,2026-02-10T00:00:00Z,5,home\n",
    );
    is(&desk, "10 USD", Exit::Ok);
    create_anew(broker, "born.prices", 1);
    prices(broker, "born.prices", &["home"]);
    let told = is(&desk, "2.5 USD", Exit::Findings);
    let says = format!("topic \"born.prices\" {CREATED_ANEW}");
    for says in [&says, "write to it again what it lacks"] {
        assert!(told.err.contains(says), "{says}: {}", told.err);
    }
    prices(broker, "born.prices", &["abroad"]);
    is(&desk, "10 USD", Exit::Ok);

    let watching = Watching::begin(&desk, 1);
    create_anew(broker, "born.prices", 1);
    prices(broker, "born.prices", &["home"]);
    let why = watching.fails();
    assert!(
        why.contains("born.prices") && why.contains("start the job again"),
        "{why}"
    );
    let told = desk.run();
    assert_eq!(told.exit, Exit::Findings, "{}", told.err);
    assert!(told.err.contains(&says), "{}", told.err);
}

#[test]
fn an_output_topic_created_anew_is_refused() {
    let broker = Broker::shared();
    let address = broker.address();
    broker.create("told.usage", 1);
    send(broker, ("told.usage", 0), (0..5).map(|id| (id, 2)));
    let publishing = |topics: &str, state: &str, progress: &str| {
        let kafka = format!(
            "outputs:\n  kafka: {{ brokers: '{address}', topics: {{ monetised: {topics}.charges, aggregated: {topics}.lines }}{progress} }}\n\
             durability: {{ folder: {state} }}\n"
        );
        job(broker, "topics: [told.usage]", "").replace("outputs: { folder: out }\n", &kafka)
    };
    let told = |topics: &str| {
        ["charges", "lines"].map(|topic| {
            let told = standing(&messages(broker, &format!("{topics}.{topic}")));
            texts(told.into_values())
        })
    };
    for topic in ["told.charges", "told.lines", "once.charges", "once.lines"] {
        broker.create(topic, 1);
    }
    let desk = Desk::new(&[
        ("job.yaml", &publishing("told", "state", "")),
        ("rule.yaml", super::units::RULE),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
    ]);
    is(&desk, "5 USD", Exit::Ok);
    is(&desk, "5 USD", Exit::Ok);
    let first = told("told");
    assert_eq!(first[0].len(), 5);

    create_anew(broker, "told.lines", 1);
    send(broker, ("told.usage", 0), [(5, 2)]);
    for _ in 0..2 {
        refused(
            &desk,
            &[
                &format!("topic \"told.lines\" {CREATED_ANEW}"),
                "`durability.folder` an empty folder",
            ],
        );
        assert_eq!(told("told"), [first[0].clone(), Vec::new()]);
    }
    let again = publishing("once", "other", ", progress: once.progress");
    desk.write("job.yaml", again);
    is(&desk, "6 USD", Exit::Ok);
    let [charges, lines] = told("once");
    assert_eq!((charges.len(), lines.len()), (6, 1));

    // What says which messages are published says it no more.
    create_anew(broker, "once.progress", 1);
    refused(&desk, &[&format!("topic \"once.progress\" {CREATED_ANEW}")]);
}
