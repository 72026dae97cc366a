//! Messages of reference data: what holds, what is held back and why, and what a restart makes of it.

use super::*;
use crate::kafka::TopicPartition;
use crate::names::Names;
use crate::reference::{Loaded, Reference, ReferenceChanges, ReferenceFiles};
use jiff::tz::TimeZone;

/// Reference data of messages alone, and the offsets of its topics.
struct Topics {
    names: Arc<Names>,
    files: ReferenceFiles,
    sent: i64,
}

impl Topics {
    fn new() -> Self {
        let names = Arc::new(Names::default());
        let files = ReferenceFiles::new(Vec::new(), Vec::new(), TimeZone::UTC, Arc::clone(&names));
        Self {
            names,
            files: files.with_messages(),
            sent: 0,
        }
    }

    fn take(&mut self, section: Section, offset: i64, key: &str, document: Option<&str>) {
        let topic = match section {
            Section::Catalog => "prices",
            Section::Accounts => "customers",
        };
        let change = FeedChange {
            partition: TopicPartition::new(topic, 0),
            offset,
            timestamp: Some(offset),
            key: key.as_bytes().to_vec(),
            document: document.map(|text| text.as_bytes().to_vec()),
        };
        self.files.take(section, change, Some("v.n"));
    }

    fn send(&mut self, section: Section, key: &str, document: Option<&str>) -> Loaded {
        self.take(section, self.sent, key, document);
        self.sent += 1;
        self.files.settle().unwrap()
    }

    fn price(&mut self, key: &str, document: &str) -> Loaded {
        self.send(Section::Catalog, key, Some(document))
    }

    fn account(&mut self, key: &str, document: &str) -> Loaded {
        self.send(Section::Accounts, key, Some(document))
    }

    /// Prices by item, in the order of items.
    fn prices(&self, loaded: &Loaded) -> Vec<String> {
        let told = ReferenceChanges::between(&Reference::default(), &loaded.reference);
        let mut told: Vec<String> = told
            .price_changes(&self.names)
            .iter()
            .map(ToString::to_string)
            .collect();
        told.sort();
        told
    }
}

fn price(item: &str, price: &str) -> String {
    format!(
        r#"{{"currency": "USD", "v": {{"n": 1}}, "prices": [{{"id": "{item}", "item": "{item}", "price": {price}}}]}}"#
    )
}

fn held(loaded: &Loaded) -> String {
    let held = loaded.held.iter().map(|finding| format!("{finding}\n"));
    held.collect()
}

#[test]
fn a_message_is_a_small_file_that_the_next_of_its_key_replaces() {
    let mut topics = Topics::new();
    let first = topics.price("a", &price("calls", "0.10000000000000000000001"));
    assert_eq!(
        topics.prices(&first),
        ["calls: no price -> 0.10000000000000000000001 USD"]
    );
    let both = topics.price("b", &price("data", "2e-3"));
    assert_eq!(both.reference.prices.len(), 2);
    let replaced = topics.price("a", &price("calls", "0.20"));
    assert_eq!(
        topics.prices(&replaced),
        ["calls: no price -> 0.2 USD", "data: no price -> 0.002 USD"]
    );
    let gone = topics.send(Section::Catalog, "a", None);
    assert_eq!(topics.prices(&gone), ["data: no price -> 0.002 USD"]);
    assert_eq!(held(&gone), "");
}

#[test]
fn a_bad_message_is_told_and_what_its_key_had_stays() {
    let mut topics = Topics::new();
    topics.price("a", &price("calls", "0.1"));
    let cases = [
        (price("calls", "\"cheap\""), "cheap"),
        (price("calls", "1").replace("item", "itme"), "itme"),
        (
            price("calls", "1").replace("\"prices\"", "\"currency\": \"EUR\", \"prices\""),
            "\"currency\" is given twice",
        ),
        ("[1]".to_owned(), "no JSON object"),
        (
            r#"{"currency": "USD", "tables": [{"file": "x.csv", "prices": []}]}"#.to_owned(),
            "no `tables`",
        ),
        (
            format!(r#"{{"currency": {}1{}}}"#, "[".repeat(60), "]".repeat(60)),
            "deep",
        ),
    ];
    for (bad, why) in cases {
        let at = topics.sent;
        let loaded = topics.price("a", &bad);
        assert_eq!(
            topics.prices(&loaded),
            ["calls: no price -> 0.1 USD"],
            "{bad}"
        );
        let told = held(&loaded);
        assert!(
            told.contains(&format!("prices/0 offset {at}: ")) && told.contains(why),
            "{bad}: {told}"
        );
    }
    let neighbour = topics.price("b", &price("data", "1"));
    assert_eq!(neighbour.reference.prices.len(), 2);
    let mended = topics.price("a", &price("calls", "0.3"));
    assert_eq!(
        (mended.reference.prices.len(), held(&mended).as_str()),
        (2, "")
    );
}

#[test]
fn of_two_that_contradict_each_other_the_later_waits() {
    let mut topics = Topics::new();
    topics.price("a", &price("calls", "0.1"));
    let other = price("calls", "0.2").replace("\"id\": \"calls\"", "\"id\": \"dear\"");
    let loaded = topics.price("b", &other);
    assert_eq!(topics.prices(&loaded), ["calls: no price -> 0.1 USD"]);
    let told = held(&loaded);
    assert!(
        told.contains("prices/0 offset 1: ") && told.contains("overlaps"),
        "{told}"
    );
    // Others do not wait for it.
    let loaded = topics.price("c", &price("data", "1"));
    assert_eq!(loaded.reference.prices.len(), 2);
    assert_eq!(held(&loaded), told);
    // What it contradicts is gone.
    let loaded = topics.send(Section::Catalog, "a", None);
    assert_eq!(
        topics.prices(&loaded),
        ["data: no price -> 1 USD", "dear: no price -> 0.2 USD"]
    );
    assert_eq!(held(&loaded), "");
}

#[test]
fn a_child_waits_for_its_parent_and_a_parent_for_its_children() {
    let mut topics = Topics::new();
    let account = r#"{"accounts": [{"id": "acme", "currency": "USD"}]}"#;
    topics.account("acme", account);
    let child = r#"{"subscriptions": [{"id": "child", "account": "acme", "parent": "root"}]}"#;
    let loaded = topics.account("child", child);
    assert_eq!(loaded.reference.subscriptions.len(), 0);
    assert!(held(&loaded).contains("unknown"), "{}", held(&loaded));
    let root = r#"{"subscriptions": [{"id": "root", "account": "acme"}]}"#;
    let loaded = topics.account("root", root);
    assert_eq!(loaded.reference.subscriptions.len(), 2);
    assert_eq!(held(&loaded), "");
    let loaded = topics.send(Section::Accounts, "root", None);
    assert_eq!(loaded.reference.subscriptions.len(), 2);
    assert!(held(&loaded).contains("take away"), "{}", held(&loaded));
    let loaded = topics.send(Section::Accounts, "child", None);
    assert_eq!(loaded.reference.subscriptions.len(), 0);
}

#[test]
fn the_order_in_which_topics_are_read_does_not_decide() {
    let documents = [
        ("z", price("calls", "0.1")),
        (
            "y",
            price("calls", "0.2").replace("\"id\": \"calls\"", "\"id\": \"dear\""),
        ),
        ("x", price("data", "1")),
        (
            "w",
            price("data", "2").replace("\"id\": \"data\"", "\"id\": \"more\""),
        ),
    ];
    let read = |order: &[usize]| {
        let mut topics = Topics::new();
        for at in order {
            let (key, document) = &documents[*at];
            let offset = i64::try_from(*at).unwrap();
            topics.take(Section::Catalog, offset, key, Some(document));
        }
        let loaded = topics.files.settle().unwrap();
        (topics.prices(&loaded), loaded.held)
    };
    let expected = read(&[0, 1, 2, 3]);
    assert_eq!(
        expected.0,
        ["calls: no price -> 0.1 USD", "data: no price -> 1 USD"]
    );
    for order in [[3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
        assert_eq!(read(&order), expected, "{order:?}");
    }
}

#[test]
fn a_restart_holds_the_same_back() {
    let mut topics = Topics::new();
    let dear = price("calls", "0.2").replace("\"id\": \"calls\"", "\"id\": \"dear\"");
    topics.price("a", &price("calls", "0.1"));
    topics.price("b", &dear);
    topics.price("bad", &price("data", "1"));
    let bad = price("data", "\"x\"");
    topics.price("bad", &bad);
    // Sent again, the first is the later one now; and the broker has compacted away what was good.
    topics.price("a", "{}");
    let before = topics.price("a", &price("calls", "0.1"));
    assert_eq!(
        topics.prices(&before),
        ["calls: no price -> 0.1 USD", "data: no price -> 1 USD"]
    );
    let kept = topics.files.held();
    assert_eq!(kept.len(), 2);

    let mut again = Topics::new();
    again.take(Section::Catalog, 1, "b", Some(&dear));
    again.take(Section::Catalog, 3, "bad", Some(&bad));
    again.take(Section::Catalog, 5, "a", Some(&price("calls", "0.1")));
    again.files.restore(kept.clone());
    let after = again.files.settle().unwrap();
    assert_eq!(after.reference, before.reference);
    assert_eq!(after.held, before.held);
    assert_eq!(again.files.held(), kept);

    // A key that is gone from the topic is gone.
    let mut again = Topics::new();
    again.take(Section::Catalog, 5, "a", Some(&price("calls", "0.1")));
    again.files.restore(kept);
    let after = again.files.settle().unwrap();
    assert_eq!(after.reference.prices.len(), 1);
}

#[test]
fn any_json_is_read() {
    let mut topics = Topics::new();
    let account =
        "{\t\"accounts\"\n:[{\"id\":\"a\\ud83d\\ude00\\u0041\\/\",\t\"currency\":\"USD\"}]}";
    let loaded = topics.account("x", account);
    assert_eq!(held(&loaded), "");
    let key = loaded.reference.accounts[0].key;
    assert_eq!(&*topics.names.account(key), "a😀A/");
}
