//! Reads partitions from offsets that the caller keeps.
//!
//! - **Offsets are ours.** Partitions are assigned, never subscribed to; nothing is committed to the
//!   broker. An offset that the broker no longer has is an error.
//! - **A topic is known by its id.** What is created anew under an old name is found by [`Consumer::is_same`], and
//!   by whoever compares [`Consumer::ids`] with those of an earlier run.
//! - **Only committed messages.** What a transaction aborted is never seen. Markers of transactions
//!   take offsets, so offsets do not count messages.
//! - **A client is assigned partitions once.** librdkafka 2.12 aborts the process when an assignment
//!   is replaced and the new one removed before the old has stopped (librdkafka issue 5573), so
//!   another assignment is another client.
//! - **A queue per partition.** Messages come partition by partition, in order inside each; every
//!   poll begins with another partition, so that none starves.

use super::client::{Asking, Heard, is_forbidden, is_passing, not_created};
use super::error::KafkaError;
use super::message::Message;
use super::settings::KafkaSettings;
use super::{OPEN_TIMEOUT, TopicPartition};
use crate::decode::CHUNK_BYTES_MAX;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Defaults that a user's settings may replace.
const DEFAULTS: &[(&str, &str)] = &[
    // Needed to make a consumer at all; no group is joined.
    ("group.id", "millrace"),
    // With a full queue librdkafka waits this long before it fetches again; its default of 1 s
    // would leave a fast reader idle.
    ("fetch.queue.backoff.ms", "10"),
    ("max.partition.fetch.bytes", "4194304"),
    // Few large answers instead of many small ones: both sides' processors are spared, and what
    // comes waits no longer than an epoch does.
    ("fetch.min.bytes", "1048576"),
    ("fetch.wait.max.ms", "50"),
    // The 100 ms between 10 tries of an unreachable broker grow to 10 s by default.
    ("reconnect.backoff.max.ms", "1000"),
];

const DECIDED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("isolation.level", "read_committed"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
];

/// How long a broker may take to tell whether topics are still the same.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a wait for messages lasts before the client's own events are looked at again.
const SERVE_EVERY: Duration = Duration::from_millis(100);

/// Where to begin with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first message that is left.
    Earliest,
    /// Behind the last message that is committed.
    Latest,
    /// At this offset, the next to be read.
    At(i64),
}

/// The offsets between which messages can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is left.
    pub low: i64,
    /// The offset behind the last message.
    pub high: i64,
}

/// Reads partitions of topics.
pub struct Consumer {
    config: ClientConfig,
    client: Arc<BaseConsumer<Heard>>,
    is_assigned: bool,
    heard: Heard,
    brokers: String,
    topics: Vec<String>,
    /// What each topic is known by, as far as the broker tells.
    ids: BTreeMap<String, String>,
    partitions: Vec<TopicPartition>,
    lanes: Vec<Lane>,
    first_lane: usize,
    wake: Receiver<()>,
    waker: SyncSender<()>,
}

/// An assigned partition.
struct Lane {
    partition: TopicPartition,
    queue: PartitionQueue<Heard>,
    /// The offset behind the last message handed out.
    next: i64,
}

impl Consumer {
    /// Connects, and checks that a broker answers and that every topic exists.
    ///
    /// # Errors
    /// When no broker answers within [`OPEN_TIMEOUT`], it does not accept the credentials, a topic
    /// is missing or a setting cannot be used.
    pub fn open(settings: &KafkaSettings, topics: &[String]) -> Result<Self, KafkaError> {
        let config = settings.config(DEFAULTS, DECIDED)?;
        let heard = Heard::default();
        let client = new_client(&config, &heard)?;
        // One wake-up is enough, however many queues got messages.
        let (waker, wake) = sync_channel(1);
        let mut consumer = Self {
            config,
            client,
            is_assigned: false,
            heard,
            brokers: settings.brokers.clone(),
            topics: topics.to_vec(),
            ids: BTreeMap::new(),
            partitions: Vec::new(),
            lanes: Vec::new(),
            first_lane: 0,
            wake,
            waker,
        };
        consumer.topics.sort();
        consumer.topics.dedup();
        consumer.partitions = consumer.look_up()?;
        consumer.ids = consumer.ids_within(OPEN_TIMEOUT)?;
        Ok(consumer)
    }

    /// What topics are known by, by their names: one that is deleted and created anew has another id. None of
    /// a broker that has none to tell.
    #[must_use]
    pub fn ids(&self) -> &BTreeMap<String, String> {
        &self.ids
    }

    fn ids_within(&self, time: Duration) -> Result<BTreeMap<String, String>, KafkaError> {
        let deadline = Instant::now() + time;
        self.ask(|asking| asking.ids(&self.topics, deadline))
    }

    /// Checks that the topics are those that were opened, and none was created anew under its name since: all
    /// that was read before was theirs. What a broker does not tell in time is known the next time.
    ///
    /// # Errors
    /// When one is another.
    pub fn is_same(&self) -> Result<(), KafkaError> {
        let Ok(now) = self.ids_within(CHECK_TIMEOUT) else {
            return Ok(());
        };
        let other = |topic: &&String| {
            let ids = self.ids.get(*topic).zip(now.get(*topic));
            ids.is_some_and(|(opened, now)| opened != now)
        };
        match self.topics.iter().find(other) {
            None => Ok(()),
            Some(topic) => Err(KafkaError::Anew {
                topic: topic.clone(),
            }),
        }
    }

    /// The partitions of the topics, as of the last [`Self::open`] or [`Self::refresh`]; sorted.
    #[must_use]
    pub fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// Looks for partitions that were added; gives those that are new.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::is_same`].
    pub fn refresh(&mut self) -> Result<Vec<TopicPartition>, KafkaError> {
        self.is_same()?;
        let found = self.look_up()?;
        let is_new = |partition: &&TopicPartition| !self.partitions.contains(partition);
        let new = found.iter().filter(is_new).cloned().collect();
        self.partitions = found;
        Ok(new)
    }

    fn look_up(&self) -> Result<Vec<TopicPartition>, KafkaError> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let mut partitions = Vec::new();
        for topic in &self.topics {
            let name: Arc<str> = Arc::from(topic.as_str());
            let found = self.ask(|asking| asking.partitions(topic, deadline))?;
            partitions.extend(found.into_iter().map(|partition| TopicPartition {
                topic: Arc::clone(&name),
                partition,
            }));
        }
        Ok(partitions)
    }

    fn ask<T>(&self, question: impl FnOnce(Asking<'_, Heard>) -> T) -> T {
        let serve = || while self.client.poll(Duration::ZERO).is_some() {};
        question(Asking {
            client: self.client.client(),
            heard: &self.heard,
            brokers: &self.brokers,
            serve: &serve,
        })
    }

    /// The offsets between which each partition can be read now. The upper one lies before the
    /// first message of a transaction that is still open.
    ///
    /// # Errors
    /// When a broker does not answer within [`OPEN_TIMEOUT`], or a partition is gone.
    pub fn watermarks(&self) -> Result<BTreeMap<TopicPartition, Watermarks>, KafkaError> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let marks = |partition: &TopicPartition| {
            Ok((partition.clone(), self.watermarks_of(partition, deadline)?))
        };
        self.partitions.iter().map(marks).collect()
    }

    /// As [`Self::watermarks`], of one partition.
    ///
    /// # Errors
    /// As [`Self::watermarks`].
    pub fn watermarks_in(&self, partition: &TopicPartition) -> Result<Watermarks, KafkaError> {
        match self.partitions.contains(partition) {
            true => self.watermarks_of(partition, Instant::now() + OPEN_TIMEOUT),
            false => Err(KafkaError::PartitionMissing(partition.clone())),
        }
    }

    fn watermarks_of(
        &self,
        partition: &TopicPartition,
        deadline: Instant,
    ) -> Result<Watermarks, KafkaError> {
        let attempt = format!("look the offsets of {partition} up");
        let marks = self.ask(|asking| {
            asking.until(&attempt, deadline, |timeout| {
                let client = self.client.client();
                client.fetch_watermarks(&partition.topic, partition.partition, timeout)
            })
        });
        let (low, high) = marks.map_err(|error| match error {
            KafkaError::Other { detail, .. } if detail.contains("Unknown") => {
                KafkaError::PartitionMissing(partition.clone())
            }
            error => error,
        })?;
        Ok(Watermarks { low, high })
    }

    /// Reads these partitions from now on, and no others.
    ///
    /// # Errors
    /// When a partition does not exist, or does not have the offset asked for; one that it does not
    /// have yet is waited for up to [`OPEN_TIMEOUT`].
    pub fn assign(&mut self, starts: &[(TopicPartition, Start)]) -> Result<(), KafkaError> {
        let failed = |error: ClientError| KafkaError::other("assign partitions", error);
        let deadline = Instant::now() + OPEN_TIMEOUT;
        self.lanes.clear();
        self.first_lane = 0;
        if std::mem::replace(&mut self.is_assigned, false) {
            self.client = new_client(&self.config, &self.heard)?;
        }
        let mut assignment = TopicPartitionList::with_capacity(starts.len());
        for (partition, start) in starts {
            if !self.partitions.contains(partition) {
                return Err(KafkaError::PartitionMissing(partition.clone()));
            }
            let next = self.first_offset_of(partition, *start, deadline)?;
            let (topic, number) = (&*partition.topic, partition.partition);
            // The queue is split off before anything is fetched into the common one.
            let queue = self.client.split_partition_queue(topic, number);
            let mut queue = queue.ok_or_else(|| KafkaError::PartitionMissing(partition.clone()))?;
            let waker = self.waker.clone();
            queue.set_nonempty_callback(move || {
                match waker.try_send(()) {
                    // Full means that a wake-up is on its way.
                    Ok(()) | Err(_) => {}
                }
            });
            assignment
                .add_partition_offset(topic, number, Offset::Offset(next))
                .map_err(failed)?;
            self.lanes.push(Lane {
                partition: partition.clone(),
                queue,
                next,
            });
        }
        self.is_assigned = true;
        self.client.assign(&assignment).map_err(failed)
    }

    /// Where to begin. Just after a broker has restarted, the end that it tells of a partition may
    /// lie before what was read of it, so a partition is short only when it stays so.
    fn first_offset_of(
        &self,
        partition: &TopicPartition,
        start: Start,
        deadline: Instant,
    ) -> Result<i64, KafkaError> {
        loop {
            let marks = self.watermarks_of(partition, deadline)?;
            match first_offset(partition, start, marks) {
                Err(KafkaError::Shorter { .. }) if Instant::now() + SERVE_EVERY < deadline => {
                    std::thread::sleep(SERVE_EVERY);
                }
                found => return found,
            }
        }
    }

    /// Hands up to `count_max` messages to `each`, those of one partition one after another; waits
    /// up to `timeout` for the first. Gives how many there were. While the connection is lost there
    /// are none; [`Self::complaint`] tells.
    ///
    /// # Errors
    /// When messages were removed before they were read, a topic is gone or may not be read any
    /// more.
    pub fn poll(
        &mut self,
        count_max: usize,
        timeout: Duration,
        each: &mut impl FnMut(Message<'_>),
    ) -> Result<usize, KafkaError> {
        let deadline = Instant::now() + timeout;
        loop {
            self.serve()?;
            let count = self.drain(count_max, each)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if count > 0 || left.is_zero() {
                return Ok(count);
            }
            // A queue that was not empty when it was last looked at sends no wake-up, but then
            // `drain` found its messages.
            match self.wake.recv_timeout(left.min(SERVE_EVERY)) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Lets the client tell its events.
    fn serve(&self) -> Result<(), KafkaError> {
        while let Some(event) = self.client.poll(Duration::ZERO) {
            let Err(error) = event else { continue };
            match error.rdkafka_error_code() {
                Some(code) if is_forbidden(code) => {
                    return Err(self.forbidden(code));
                }
                // The rest is kept as a complaint; the client goes on trying.
                _ => {}
            }
        }
        Ok(())
    }

    fn forbidden(&self, code: Code) -> KafkaError {
        KafkaError::Forbidden {
            attempt: format!("read topics {:?}", self.topics),
            detail: code.to_string(),
        }
    }

    fn drain(
        &mut self,
        count_max: usize,
        each: &mut impl FnMut(Message<'_>),
    ) -> Result<usize, KafkaError> {
        let lanes = self.lanes.len();
        let (mut count, mut bytes) = (0, 0_usize);
        let mut failed = None;
        'lanes: for turn in 0..lanes {
            let slot = (self.first_lane + turn) % lanes;
            let Some(lane) = self.lanes.get_mut(slot) else {
                break;
            };
            while count < count_max && bytes < CHUNK_BYTES_MAX {
                match lane.queue.poll(Duration::ZERO) {
                    None => continue 'lanes,
                    Some(Ok(message)) => {
                        let message = Message::read(slot, &lane.partition, &message);
                        lane.next = message.offset + 1;
                        bytes += message.payload().map_or(0, <[u8]>::len);
                        each(message);
                        count += 1;
                    }
                    Some(Err(error)) => {
                        failed = Some((lane.partition.clone(), lane.next, error));
                        break 'lanes;
                    }
                }
            }
            break;
        }
        self.first_lane = if lanes == 0 {
            0
        } else {
            (self.first_lane + 1) % lanes
        };
        if let Some((partition, next, error)) = failed {
            self.read_failed(&partition, next, &error)?;
        }
        Ok(count)
    }

    /// What a partition's own error means; nothing where the client goes on by itself.
    fn read_failed(
        &self,
        partition: &TopicPartition,
        next: i64,
        error: &ClientError,
    ) -> Result<(), KafkaError> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                self.is_same()?;
                let marks = self.watermarks_of(partition, Instant::now() + OPEN_TIMEOUT)?;
                first_offset(partition, Start::At(next), marks)?;
                Err(KafkaError::other(
                    format!("read {partition} from offset {next}"),
                    error,
                ))
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
                self.is_same()?;
                Err(KafkaError::PartitionMissing(partition.clone()))
            }
            Some(code) if is_forbidden(code) => Err(self.forbidden(code)),
            Some(code) if is_passing(code) => Ok(()),
            _ => Err(KafkaError::other(format!("read {partition}"), error)),
        }
    }

    /// The next offset of each assigned partition: everything before it was handed out, or will
    /// never be.
    ///
    /// # Errors
    /// When the client cannot tell.
    pub fn position(&self) -> Result<Vec<(TopicPartition, i64)>, KafkaError> {
        let known = self
            .client
            .position()
            .map_err(|error| KafkaError::other("look the position up", error))?;
        let position = |lane: &Lane| {
            let (topic, number) = (&*lane.partition.topic, lane.partition.partition);
            // The client counts what it skipped too: markers, aborted messages.
            let skipped_to = match known.find_partition(topic, number).map(|at| at.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => lane.next,
            };
            (lane.partition.clone(), lane.next.max(skipped_to))
        };
        Ok(self.lanes.iter().map(position).collect())
    }

    /// Whether everything before these offsets was handed out. An offset between the messages of a
    /// transaction that is still open may be reached only when the transaction ends.
    ///
    /// # Errors
    /// As [`Self::position`].
    pub fn reached(&self, ends: &[(TopicPartition, i64)]) -> Result<bool, KafkaError> {
        let positions: BTreeMap<TopicPartition, i64> = self.position()?.into_iter().collect();
        let is_reached = |(partition, end): &(TopicPartition, i64)| {
            positions.get(partition).is_some_and(|next| next >= end)
        };
        Ok(ends.iter().all(is_reached))
    }

    /// What the client complained about last, though it goes on by itself.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        self.heard.complaint()
    }
}

fn new_client(
    config: &ClientConfig,
    heard: &Heard,
) -> Result<Arc<BaseConsumer<Heard>>, KafkaError> {
    BaseConsumer::from_config_and_context(config, heard.clone())
        .map(Arc::new)
        .map_err(|error| not_created(&error))
}

fn first_offset(
    partition: &TopicPartition,
    start: Start,
    marks: Watermarks,
) -> Result<i64, KafkaError> {
    match start {
        Start::Earliest => Ok(marks.low),
        Start::Latest => Ok(marks.high),
        Start::At(wanted) if wanted < marks.low => Err(KafkaError::Removed {
            partition: partition.clone(),
            wanted,
            first: marks.low,
        }),
        Start::At(wanted) if wanted > marks.high => Err(KafkaError::Shorter {
            partition: partition.clone(),
            wanted,
            end: marks.high,
        }),
        Start::At(wanted) => Ok(wanted),
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("brokers", &self.brokers)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}
