//! Kafka: messages in under offsets that we keep, rows out in transactions.
//!
//! ```text
//!   topics ─► Consumer: assign, read_committed ─► messages of one partition after another
//!   rows + progress ─► Publisher: one transaction ─► topics
//!                          └► a compacted topic of progress, read back when it opens
//!   compacted topics ─► UpsertFeed: documents by their keys
//! ```
//!
//! What fails, and what is done about it:
//! - **A broker goes away.** The client connects again by itself; reading waits and loses nothing.
//!   Opening waits [`OPEN_TIMEOUT`] and then says who did not answer.
//! - **A topic is created anew under its name.** Its offsets say nothing of what was read, so a topic is known
//!   by its id, and another id is an error.
//! - **Retention takes what was not read.** An error with the offsets; never a silent jump.
//! - **A transaction whose end is not known.** The publisher is done for; a new one fences it and
//!   reads from the progress topic what was published. The protocol that librdkafka speaks lets a
//!   delayed end of one transaction hit the next, so going on with the same producer could lose rows.
//! - **Two publishers of one id.** The later one fences the earlier, whose next transaction fails.
//! - **Deliberately absent.** Consumer groups: the offsets belong to whoever commits the results.

mod client;
mod consumer;
mod error;
mod feed;
mod ids;
mod message;
mod publisher;
mod settings;
mod topics;

pub use consumer::{Consumer, Start, Watermarks};
pub use error::{KafkaError, PublishError};
pub use feed::{FeedChange, FeedFault, UpsertFeed};
pub use message::{KeptMessage, Message};
pub use publisher::{Progress, Publisher, PublisherSlot, Row};
pub use settings::KafkaSettings;
pub use topics::{NewTopic, create_missing_topics};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long opening waits for a broker to answer.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number in it.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self {
            topic: Arc::from(topic),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}
