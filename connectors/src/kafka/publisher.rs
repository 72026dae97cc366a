//! Publishes rows in short transactions, each with the progress that it makes.
//!
//! ```text
//!   open:     init_transactions (fences the older) ─► mark ─► read progress up to the mark
//!   publish:  begin ─► rows ─► progress record ─► commit
//! ```
//!
//! - **The progress record is part of the transaction**, so rows and progress are seen together or
//!   not at all. Whatever the end of a transaction looked like from here, the next publisher of the
//!   same id reads which transactions there were.
//! - **The mark.** Just after a broker has restarted, the end of a partition that it tells may lie before
//!   what was committed. So whoever opens commits a mark behind everything, and reads until it is seen.
//! - **A partition of the progress topic for each publisher.** The progress of one is then never
//!   hidden behind the open transaction of another.
//! - **One error and out.** After any error the publisher refuses to go on: an end that is still
//!   under way could hit the next transaction.

use super::client::{Asking, Heard, is_forbidden, not_created};
use super::error::{KafkaError, PublishError};
use super::settings::KafkaSettings;
use super::topics::{NewTopic, create_missing_topics};
use super::{Consumer, OPEN_TIMEOUT, Start, TopicPartition};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Defaults that a user's settings may replace.
const DEFAULTS: &[(&str, &str)] = &[
    ("compression.type", "lz4"),
    ("linger.ms", "5"),
    ("batch.size", "1000000"),
    // How long the broker keeps a transaction open whose publisher is gone; until then readers of
    // committed messages wait.
    ("transaction.timeout.ms", "60000"),
    ("reconnect.backoff.max.ms", "1000"),
    // Rows to a topic that is gone fail after this time; by default after the transaction's own.
    ("topic.metadata.propagation.max.ms", "5000"),
];

/// How long handing the rows of a transaction over may take, while the client is full.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a transaction may take to end.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);
/// How often to look whether all rows of a transaction are delivered.
const DELIVERIES: Duration = Duration::from_millis(1);
/// How much longer we wait for the client to keep its own time.
const COMMIT_GRACE: Duration = Duration::from_secs(10);
/// How many offsets from the end the last progress is looked for first.
const TAIL: i64 = 64;

/// What a publisher is called, and where it keeps its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherSlot {
    /// The id under which Kafka lets one publisher live at a time.
    pub transactional_id: String,
    /// The compacted topic of the progress of all publishers; created where it is missing.
    pub progress_topic: String,
    /// Which publisher this is, counted from 0: its partition of the progress topic.
    pub number: i32,
    /// How many publishers there are: the partitions of a progress topic that is created.
    pub of: i32,
}

/// How far a publisher has come, as its last transaction says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch whose rows were published.
    pub epoch: u64,
    /// The generation that published them.
    pub generation: u64,
    /// The last part of the epoch that was published.
    pub part: u64,
}

/// A row to publish.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    /// The topic.
    pub topic: &'r str,
    /// The key, which also chooses the partition.
    pub key: &'r [u8],
    /// The content; nothing takes the key's row back.
    pub value: Option<&'r [u8]>,
    /// Headers.
    pub headers: &'r [(&'r str, &'r [u8])],
}

/// Publishes rows in transactions.
pub struct Publisher {
    client: ThreadedProducer<Heard>,
    heard: Heard,
    brokers: String,
    slot: PublisherSlot,
    /// What ended this publisher.
    ended: Option<PublishError>,
}

impl Publisher {
    /// Fences older publishers of the same id, and reads what the last of them published; nothing
    /// when none ever did.
    ///
    /// # Errors
    /// When no broker answers, it does not accept the credentials, or the progress topic cannot be
    /// created or read.
    pub fn open(
        settings: &KafkaSettings,
        slot: PublisherSlot,
    ) -> Result<(Self, Option<Progress>), KafkaError> {
        let decided = [
            ("transactional.id", slot.transactional_id.as_str()),
            ("enable.idempotence", "true"),
            // A topic that is asked for and missing is not to be created by asking.
            ("allow.auto.create.topics", "false"),
        ];
        let heard = Heard::default();
        let client: ThreadedProducer<Heard> = ThreadedProducer::from_config_and_context(
            &settings.config(DEFAULTS, &decided)?,
            heard.clone(),
        )
        .map_err(|error| not_created(&error))?;
        let publisher = Self {
            client,
            heard,
            brokers: settings.brokers.clone(),
            slot,
            ended: None,
        };
        publisher.find_progress_topic(settings)?;
        publisher.fence()?;
        let mark = publisher.mark()?;
        let progress = read_progress(settings, &publisher.slot, &mark)?;
        Ok((publisher, progress))
    }

    fn ask<T>(&self, question: impl FnOnce(Asking<'_, Heard>) -> T) -> T {
        question(Asking {
            client: self.client.client(),
            heard: &self.heard,
            brokers: &self.brokers,
            serve: &|| {},
        })
    }

    /// Checks that every topic exists, so that a missing one is found before rows depend on it.
    ///
    /// # Errors
    /// When one does not, or no broker answers.
    pub fn check_topics<'t>(
        &self,
        topics: impl IntoIterator<Item = &'t str>,
    ) -> Result<(), KafkaError> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        for topic in topics {
            self.ask(|asking| asking.partitions(topic, deadline))?;
        }
        Ok(())
    }

    /// What these topics, and that of progress, are known by, by name. None of a broker that has none to tell.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn ids<'t>(
        &self,
        topics: impl IntoIterator<Item = &'t str>,
    ) -> Result<BTreeMap<String, String>, KafkaError> {
        let topics = topics.into_iter().map(str::to_owned);
        let topics: BTreeSet<String> = topics.chain([self.slot.progress_topic.clone()]).collect();
        let topics: Vec<String> = topics.into_iter().collect();
        let deadline = Instant::now() + OPEN_TIMEOUT;
        self.ask(|asking| asking.ids(&topics, deadline))
    }

    fn find_progress_topic(&self, settings: &KafkaSettings) -> Result<(), KafkaError> {
        let (name, number) = (&self.slot.progress_topic, self.slot.number);
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let partitions = match self.ask(|asking| asking.partitions(name, deadline)) {
            Err(KafkaError::TopicMissing { .. }) => {
                // Only closed segments are compacted: small ones, closed often.
                let topic = NewTopic::compacted(name, self.slot.of)
                    .with("segment.ms", "600000")
                    .with("segment.bytes", "16777216")
                    .with("min.cleanable.dirty.ratio", "0.1");
                create_missing_topics(settings, &[topic])?;
                self.ask(|asking| asking.partitions(name, deadline))?
            }
            found => found?,
        };
        if partitions.contains(&number) {
            return Ok(());
        }
        let found = partitions.len();
        let detail =
            format!("it has {found} partitions, and publisher {number} needs one of its own");
        Err(KafkaError::other(
            format!("use the progress topic {name:?}"),
            detail,
        ))
    }

    fn fence(&self) -> Result<(), KafkaError> {
        let attempt = format!("open publisher {:?}", self.slot.transactional_id);
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        self.ask(|asking| {
            // librdkafka wants the call repeated after a time-out, with any time.
            asking.until(&attempt, deadline, |timeout| {
                self.client.init_transactions(timeout)
            })
        })
        .map_err(|error| match error {
            KafkaError::Unreachable { brokers, detail } => KafkaError::Unreachable {
                brokers,
                detail: format!(
                    "{detail} (a single broker can keep transactions only with \
                     transaction.state.log.replication.factor=1)"
                ),
            },
            error => error,
        })
    }

    /// Commits a mark behind whatever the progress topic holds of this publisher; returns its content,
    /// which no other mark has.
    fn mark(&self) -> Result<String, KafkaError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mark = format!(
            "{}-{}",
            std::process::id(),
            since.map_or(0, |t| t.as_nanos())
        );
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        let marked = || -> Result<(), PublishError> {
            self.client
                .begin_transaction()
                .map_err(|error| self.failed(&error))?;
            let key = mark_key(&self.slot);
            let record = BaseRecord::<[u8], [u8]>::to(&self.slot.progress_topic)
                .partition(self.slot.number)
                .key(key.as_bytes())
                .payload(mark.as_bytes());
            self.send(record, deadline)?;
            self.commit()
        };
        match marked() {
            Ok(()) => Ok(mark),
            Err(error @ PublishError::Unknown { .. }) => Err(KafkaError::Unreachable {
                brokers: self.brokers.clone(),
                detail: error.to_string(),
            }),
            Err(error) => {
                let attempt = format!("open publisher {:?}", self.slot.transactional_id);
                Err(KafkaError::other(attempt, error))
            }
        }
    }

    /// Publishes `rows` and `progress` in one transaction.
    ///
    /// # Errors
    /// Each says whether anything was published and what to do. After one the publisher is done
    /// for, and every further call fails too.
    pub fn publish<'r>(
        &mut self,
        progress: &Progress,
        rows: impl IntoIterator<Item = Row<'r>>,
    ) -> Result<(), PublishError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let published = self.transaction(progress, rows);
        self.ended = published.as_ref().err().cloned();
        published
    }

    fn transaction<'r>(
        &self,
        progress: &Progress,
        rows: impl IntoIterator<Item = Row<'r>>,
    ) -> Result<(), PublishError> {
        let deadline = Instant::now() + SEND_TIMEOUT;
        self.client
            .begin_transaction()
            .map_err(|error| self.failed(&error))?;
        for row in rows {
            let mut record = BaseRecord::<[u8], [u8]>::to(row.topic).key(row.key);
            record.payload = row.value;
            if !row.headers.is_empty() {
                record.headers = Some(headers(row.headers));
            }
            self.send(record, deadline)?;
        }
        let content = serde_json::to_vec(progress).map_err(|error| PublishError::Unknown {
            detail: error.to_string(),
        })?;
        let record = BaseRecord::<[u8], [u8]>::to(&self.slot.progress_topic)
            .partition(self.slot.number)
            .key(self.slot.transactional_id.as_bytes())
            .payload(&content);
        self.send(record, deadline)?;
        self.commit()
    }

    /// Hands a record to the client; waits while the client is full.
    fn send(
        &self,
        record: BaseRecord<'_, [u8], [u8]>,
        deadline: Instant,
    ) -> Result<(), PublishError> {
        let mut record = record;
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((ClientError::MessageProduction(Code::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, back)) => {
                    return Err(match error.rdkafka_error_code() {
                        Some(code) if is_refusal(code) => PublishError::Refused {
                            topic: back.topic.to_owned(),
                            detail: code.to_string(),
                        },
                        // The transaction failed before, at a record that was sent.
                        _ => self.failed(&error),
                    });
                }
            }
        }
    }

    /// Commits with a deadline of our own: librdkafka can retry past its own.
    fn commit(&self) -> Result<(), PublishError> {
        let (told, outcome) = mpsc::channel();
        let client = self.client.clone();
        let commit = move || {
            // The wrapper's own wait for deliveries is never shorter than 100 ms.
            let deadline = Instant::now() + COMMIT_TIMEOUT;
            while client.in_flight_count() > 0 && Instant::now() < deadline {
                std::thread::sleep(DELIVERIES);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = client.commit_transaction(left.max(DELIVERIES));
            drop(client);
            match told.send(outcome) {
                // Nobody waits any more once the deadline has passed.
                Ok(()) | Err(_) => {}
            }
        };
        let spawned = std::thread::Builder::new()
            .name("kafka-commit".to_owned())
            .spawn(commit);
        spawned.map_err(|error| PublishError::Unknown {
            detail: error.to_string(),
        })?;
        let wait = COMMIT_TIMEOUT + COMMIT_GRACE;
        match outcome.recv_timeout(wait) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(PublishError::Stuck {
                seconds: wait.as_secs(),
            }),
        }
    }

    fn failed(&self, error: &ClientError) -> PublishError {
        let code = error.rdkafka_error_code();
        let fatal = self.client.client().fatal_error().map(|(code, _)| code);
        if code.is_some_and(is_fenced) || fatal.is_some_and(is_fenced) {
            return self.fenced();
        }
        let undelivered = self.heard.take_undelivered();
        if let Some((_, code)) = &undelivered
            && is_fenced(*code)
        {
            return self.fenced();
        }
        match undelivered {
            // Only a transaction all of whose records were delivered is committed, and a record
            // that the broker refuses it will refuse again.
            Some((topic, code)) if is_refusal(code) => PublishError::Refused {
                topic,
                detail: code.to_string(),
            },
            undelivered => {
                let detail = match undelivered {
                    Some((topic, code)) => format!("{error}; topic {topic:?}: {code}"),
                    None => error.to_string(),
                };
                PublishError::Unknown { detail }
            }
        }
    }

    fn fenced(&self) -> PublishError {
        PublishError::Fenced {
            transactional_id: self.slot.transactional_id.clone(),
        }
    }
}

fn headers(headers: &[(&str, &[u8])]) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(empty, |all, (key, value)| {
        all.insert(Header {
            key,
            value: Some(*value),
        })
    })
}

fn is_fenced(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch
    )
}

fn is_refusal(code: Code) -> bool {
    is_forbidden(code)
        || matches!(
            code,
            Code::MessageSizeTooLarge
                | Code::InvalidMessage
                | Code::InvalidRecord
                | Code::InvalidTopic
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::PolicyViolation
        )
}

/// The key of marks, beside that of progress.
fn mark_key(slot: &PublisherSlot) -> String {
    format!("{}/opened", slot.transactional_id)
}

/// The last progress that a publisher of this id committed before `mark`.
fn read_progress(
    settings: &KafkaSettings,
    slot: &PublisherSlot,
    mark: &str,
) -> Result<Option<Progress>, KafkaError> {
    let mut consumer = Consumer::open(settings, std::slice::from_ref(&slot.progress_topic))?;
    let partition = TopicPartition::new(&slot.progress_topic, slot.number);
    let attempt = || {
        format!(
            "read the progress of {:?} in {partition}",
            slot.transactional_id
        )
    };
    let marks = consumer.watermarks()?;
    let marks = *marks
        .get(&partition)
        .ok_or_else(|| KafkaError::PartitionMissing(partition.clone()))?;
    let mut tail = TAIL;
    loop {
        let start = marks.low.max(marks.high.saturating_sub(tail));
        consumer.assign(&[(partition.clone(), Start::At(start))])?;
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let (mut found, mut marked) = (None, false);
        while !marked {
            consumer.poll(usize::MAX, Duration::from_millis(100), &mut |message| {
                if message.key() == Some(mark_key(slot).as_bytes()) {
                    marked |= message.payload() == Some(mark.as_bytes());
                }
                if message.key() == Some(slot.transactional_id.as_bytes()) {
                    found = message.payload().map(serde_json::from_slice::<Progress>);
                }
            })?;
            if !marked && Instant::now() >= deadline {
                let detail = consumer.complaint();
                let detail = detail.unwrap_or_else(|| {
                    format!("a transaction before offset {} does not end", marks.high)
                });
                return Err(KafkaError::other(attempt(), detail));
            }
        }
        match found {
            Some(progress) => {
                return progress
                    .map(Some)
                    .map_err(|error| KafkaError::other(attempt(), error));
            }
            None if start == marks.low => return Ok(None),
            None => tail = tail.saturating_mul(16),
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("slot", &self.slot)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
