//! Documents by the keys of compacted topics: reference data that somebody else keeps.
//!
//! - **Latest** is by offset within a partition. Between partitions, which hold one key when some were added
//!   later, it is by the time of the message: the order in which partitions are read decides nothing. With
//!   a version field, a document with a lower version than one seen before is late and changes nothing. A
//!   tombstone removes the document but not the memory of its time and version, so a late repeat does not
//!   bring it back.
//! - **Repeats** change nothing.
//! - A document that is not JSON, or lacks its version, is a fault; what its key had stays in force.
//! - Compaction keeps what was written last: a producer that writes versions out of order to a
//!   compacted topic loses the newest one at the broker, where no reader can help.

use super::error::KafkaError;
use super::message::Message;
use super::settings::KafkaSettings;
use super::{Consumer, Start, TopicPartition};
use crate::decode::scalar;
use crate::times::{TimeReader, TimeReading};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POLL_MESSAGES: usize = 10_000;
/// Decimals of a version that is a number.
const VERSION_SCALE: u8 = 9;

/// What a key has from a message on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedChange {
    /// The partition of the message.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since 1970, where it has a time.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Vec<u8>,
    /// The JSON document; nothing when it was removed.
    pub document: Option<Vec<u8>>,
}

/// A message that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedFault {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset there.
    pub offset: i64,
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// What is wrong with it.
    pub detail: String,
}

/// Follows compacted topics.
#[derive(Debug)]
pub struct UpsertFeed {
    consumer: Consumer,
    latest: Latest,
}

#[derive(Debug, Default)]
struct Latest {
    version_field: Option<String>,
    keys: BTreeMap<(Arc<str>, Vec<u8>), Kept>,
    changes: Vec<FeedChange>,
    faults: Vec<FeedFault>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The last message that counted; nothing before the first.
    order: Option<Order>,
    version: Option<i128>,
    /// The digest of the document; nothing where there is none.
    document: Option<blake3::Hash>,
}

/// When and where a message was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    timestamp: Option<i64>,
    partition: i32,
    offset: i64,
}

impl Order {
    /// Within a partition producers' clocks do not matter: compaction keeps the last message.
    fn follows(&self, other: &Self) -> bool {
        match self.partition == other.partition {
            true => self.offset >= other.offset,
            false => self > other,
        }
    }
}

impl UpsertFeed {
    /// Follows `topics` from their first message; `version_field` is a dotted path to a number or a
    /// time in each document.
    ///
    /// # Errors
    /// As [`Consumer::open`].
    pub fn open(
        settings: &KafkaSettings,
        topics: &[String],
        version_field: Option<&str>,
    ) -> Result<Self, KafkaError> {
        let mut consumer = Consumer::open(settings, topics)?;
        let starts: Vec<_> = consumer
            .partitions()
            .iter()
            .map(|partition| (partition.clone(), Start::Earliest))
            .collect();
        consumer.assign(&starts)?;
        let latest = Latest {
            version_field: version_field.map(str::to_owned),
            ..Latest::default()
        };
        Ok(Self { consumer, latest })
    }

    /// Reads everything that is in the topics now.
    ///
    /// # Errors
    /// When it takes longer than `timeout`, or reading fails.
    pub fn read_to_end(&mut self, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + timeout;
        let marks = self.consumer.watermarks()?;
        let ends: Vec<_> = marks
            .into_iter()
            .map(|(partition, marks)| (partition, marks.high))
            .collect();
        while !self.consumer.reached(&ends)? {
            if Instant::now() >= deadline {
                let detail = self.consumer.complaint();
                return Err(KafkaError::other(
                    "read the reference data from Kafka to its end",
                    detail.unwrap_or_else(|| format!("it takes longer than {timeout:?}")),
                ));
            }
            self.poll(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Reads what came since, waiting up to `timeout` for the first message; gives how many
    /// messages there were. Partitions that were added are found once in a while by
    /// [`Self::refresh`].
    ///
    /// # Errors
    /// When reading fails.
    pub fn poll(&mut self, timeout: Duration) -> Result<usize, KafkaError> {
        let latest = &mut self.latest;
        self.consumer
            .poll(POLL_MESSAGES, timeout, &mut |message| latest.take(&message))
    }

    /// Follows partitions that were added.
    ///
    /// # Errors
    /// As [`Consumer::refresh`].
    pub fn refresh(&mut self) -> Result<(), KafkaError> {
        let new = self.consumer.refresh()?;
        if new.is_empty() {
            return Ok(());
        }
        let position = self.consumer.position()?.into_iter();
        let followed = position.map(|(partition, next)| (partition, Start::At(next)));
        let new = new
            .into_iter()
            .map(|partition| (partition, Start::Earliest));
        self.consumer
            .assign(&followed.chain(new).collect::<Vec<_>>())
    }

    /// What changed since the last call: in the order of each partition, every change of a key.
    pub fn take_changes(&mut self) -> Vec<FeedChange> {
        std::mem::take(&mut self.latest.changes)
    }

    /// The messages that could not be used since the last call.
    pub fn take_faults(&mut self) -> Vec<FeedFault> {
        std::mem::take(&mut self.latest.faults)
    }

    /// What the topics are known by, see [`Consumer::ids`].
    #[must_use]
    pub fn ids(&self) -> &BTreeMap<String, String> {
        self.consumer.ids()
    }

    /// What the client complained about last, though it goes on by itself.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        self.consumer.complaint()
    }
}

impl Latest {
    fn take(&mut self, message: &Message<'_>) {
        if let Err(detail) = self.upsert(message) {
            if let (Some(key), Some(payload)) = (message.key(), message.payload()) {
                let place = (Arc::clone(&message.partition.topic), key.to_vec());
                // What was good before is news again when it comes back.
                self.keys.entry(place).or_default().document = Some(blake3::hash(payload));
            }
            self.faults.push(FeedFault {
                partition: message.partition.clone(),
                offset: message.offset,
                key: message.key().map(<[u8]>::to_vec),
                detail,
            });
        }
    }

    fn upsert(&mut self, message: &Message<'_>) -> Result<(), String> {
        let key = message.key().ok_or("it has no key")?.to_vec();
        let order = Order {
            timestamp: message.timestamp(),
            partition: message.partition.partition,
            offset: message.offset,
        };
        let version = match message.payload() {
            Some(document) => self.version(document),
            None => Ok(None),
        };
        let place = (Arc::clone(&message.partition.topic), key);
        let kept = self.keys.entry(place).or_default();
        let follows = kept.order.is_none_or(|last| order.follows(&last));
        let counts = match (&version, kept.version) {
            (Ok(Some(version)), Some(seen)) if *version != seen => *version > seen,
            (Ok(Some(_)), Some(_)) => follows && kept.document.is_some(),
            _ => follows,
        };
        if !counts {
            return Ok(());
        }
        let version = version?;
        kept.order = Some(order);
        kept.version = version.or(kept.version);
        let document = message.payload().map(blake3::hash);
        if document != kept.document {
            kept.document = document;
            self.changes.push(FeedChange {
                partition: message.partition.clone(),
                offset: message.offset,
                timestamp: message.timestamp(),
                key: message.key().unwrap_or_default().to_vec(),
                document: message.payload().map(<[u8]>::to_vec),
            });
        }
        Ok(())
    }

    /// The version of a document, which is JSON.
    fn version(&self, document: &[u8]) -> Result<Option<i128>, String> {
        let value: Value =
            serde_json::from_slice(document).map_err(|error| format!("it is not JSON: {error}"))?;
        if !value.is_object() {
            return Err("it is JSON, but not an object".to_owned());
        }
        let Some(field) = &self.version_field else {
            return Ok(None);
        };
        let found = field
            .split('.')
            .try_fold(&value, |value, name| value.get(name));
        let version = match found {
            Some(Value::Number(number)) => scalar::decimal(&number.to_string(), 38, VERSION_SCALE),
            Some(Value::String(text)) => {
                scalar::decimal(text, 38, VERSION_SCALE).or_else(|| version_time(text))
            }
            _ => None,
        };
        version
            .map(Some)
            .ok_or_else(|| format!("its version {field:?} is neither a number nor a time"))
    }
}

/// The version that a time is: nanoseconds since 1970. Only times without an offset are compared with
/// each other, so that it does not matter whose they are.
fn version_time(text: &str) -> Option<i128> {
    let mut reader = TimeReader::new(TimeReading::default());
    reader.instant(text).ok().map(i128::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::KeptMessage;

    fn latest(version_field: Option<&str>) -> Latest {
        Latest {
            version_field: version_field.map(str::to_owned),
            ..Latest::default()
        }
    }

    fn put(
        latest: &mut Latest,
        key: &str,
        document: Option<&str>,
    ) -> Vec<(String, Option<String>)> {
        put_at(latest, (0, 7, None), key, document)
    }

    /// Takes a message of a partition, an offset and a time.
    fn put_at(
        latest: &mut Latest,
        (partition, offset, timestamp): (i32, i64, Option<i64>),
        key: &str,
        document: Option<&str>,
    ) -> Vec<(String, Option<String>)> {
        let message = KeptMessage {
            key: Some(key.as_bytes().to_vec()),
            payload: document.map(|document| document.as_bytes().to_vec()),
            timestamp,
            ..KeptMessage::default()
        };
        let partition = TopicPartition::new("accounts", partition);
        latest.take(&Message::of_kept(&partition, offset, &message));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let changes = std::mem::take(&mut latest.changes).into_iter();
        changes
            .map(|change| (text(change.key), change.document.map(text)))
            .collect()
    }

    fn is(key: &str, document: Option<&str>) -> Vec<(String, Option<String>)> {
        vec![(key.to_owned(), document.map(str::to_owned))]
    }

    #[test]
    fn repeats_change_nothing_and_tombstones_remove() {
        let mut latest = latest(None);
        assert_eq!(put(&mut latest, "a", Some("{}")), is("a", Some("{}")));
        assert_eq!(put(&mut latest, "a", Some("{}")), []);
        assert_eq!(put(&mut latest, "b", None), []);
        assert_eq!(put(&mut latest, "a", None), is("a", None));
        assert_eq!(put(&mut latest, "a", Some("{}")), is("a", Some("{}")));
    }

    #[test]
    fn a_stale_copy_in_another_partition_is_late() {
        let (old, new) = (Some(r#"{"n":1}"#), Some(r#"{"n":2}"#));
        let (stale, fresh) = ((0, 90, Some(5)), (4, 3, Some(20)));
        let mut latest = latest(None);
        assert_eq!(put_at(&mut latest, fresh, "a", new), is("a", new));
        assert_eq!(put_at(&mut latest, stale, "a", old), []);
        assert_eq!(put_at(&mut latest, stale, "a", Some("[]")), []);
        assert_eq!(put_at(&mut latest, stale, "a", None), []);
        assert!(latest.faults.is_empty(), "{:?}", latest.faults);
        // The other way around, both count.
        assert_eq!(put_at(&mut latest, stale, "b", old), is("b", old));
        assert_eq!(put_at(&mut latest, fresh, "b", new), is("b", new));
        // What was removed stays so.
        assert_eq!(
            put_at(&mut latest, (4, 4, Some(21)), "a", None),
            is("a", None)
        );
        assert_eq!(put_at(&mut latest, stale, "a", old), []);
        // Of messages of one time that of the higher partition counts.
        assert_eq!(put_at(&mut latest, (4, 9, Some(5)), "c", new), is("c", new));
        assert_eq!(put_at(&mut latest, (0, 91, Some(5)), "c", old), []);
        // Within a partition a clock that goes back is nobody's business.
        assert_eq!(
            put_at(&mut latest, (4, 10, Some(1)), "c", old),
            is("c", old)
        );
    }

    #[test]
    fn a_version_goes_before_the_time_and_the_time_before_a_tombstone() {
        let (one, two) = (Some(r#"{"v":1}"#), Some(r#"{"v":2}"#));
        let mut latest = latest(Some("v"));
        assert_eq!(
            put_at(&mut latest, (4, 3, Some(20)), "a", one),
            is("a", one)
        );
        assert_eq!(put_at(&mut latest, (0, 9, Some(5)), "a", None), []);
        assert_eq!(
            put_at(&mut latest, (0, 10, Some(6)), "a", two),
            is("a", two)
        );
        assert_eq!(put_at(&mut latest, (4, 4, Some(30)), "a", one), []);
        assert_eq!(
            put_at(&mut latest, (4, 5, Some(31)), "a", None),
            is("a", None)
        );
    }

    #[test]
    fn a_lower_version_is_late() {
        let mut latest = latest(Some("meta.v"));
        let (one, two) = (Some(r#"{"meta":{"v":9}}"#), Some(r#"{"meta":{"v":"10"}}"#));
        assert_eq!(put(&mut latest, "a", two), is("a", two));
        assert_eq!(put(&mut latest, "a", one), []);
        assert_eq!(put(&mut latest, "a", None), is("a", None));
        assert_eq!(
            put(&mut latest, "a", two),
            [],
            "a repeat does not bring it back"
        );
        let three = Some(r#"{"meta":{"v":10.5}}"#);
        assert_eq!(put(&mut latest, "a", three), is("a", three));
        let (old, new) = (
            Some(r#"{"meta":{"v":"2026-01-01T00:00:00Z"}}"#),
            Some(r#"{"meta":{"v":"2026-01-01T00:00:01Z"}}"#),
        );
        assert_eq!(put(&mut latest, "b", new), is("b", new));
        assert_eq!(put(&mut latest, "b", old), []);
    }

    #[test]
    fn a_bad_document_leaves_the_good_one_in_force() {
        let mut latest = latest(Some("v"));
        let good = Some(r#"{"v":1}"#);
        assert_eq!(put(&mut latest, "a", good), is("a", good));
        for (bad, why) in [
            ("{", "not JSON"),
            ("[]", "not an object"),
            ("{}", "neither a number nor a time"),
        ] {
            assert_eq!(put(&mut latest, "a", Some(bad)), []);
            let fault = latest.faults.pop().unwrap();
            assert!(fault.detail.contains(why) && fault.offset == 7, "{fault:?}");
            assert_eq!(fault.key.as_deref(), Some(&b"a"[..]));
            // Sent again, the good one takes the place of the bad one.
            assert_eq!(put(&mut latest, "a", good), is("a", good));
        }
    }
}
