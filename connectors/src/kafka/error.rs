//! What can go wrong between us and Kafka, and what to do about it.

use super::TopicPartition;

/// What can go wrong between us and Kafka; each message says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// A setting that cannot be used.
    #[error("cannot use the Kafka setting {key:?}: {detail}")]
    Settings {
        /// The setting.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Nobody answered in time.
    #[error(
        "cannot reach Kafka at {brokers}: {detail}; check that the broker runs, and its address"
    )]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// What the client noticed.
        detail: String,
    },
    /// The broker does not believe us.
    #[error(
        "cannot log in to Kafka at {brokers}: {detail}; check security.protocol, sasl.mechanism, \
         sasl.username and sasl.password"
    )]
    Denied {
        /// The brokers asked.
        brokers: String,
        /// What the broker said.
        detail: String,
    },
    /// We are known, and may not.
    #[error(
        "cannot {attempt}: Kafka forbids it ({detail}); have the permission given to this user"
    )]
    Forbidden {
        /// What was attempted.
        attempt: String,
        /// What the broker said.
        detail: String,
    },
    /// There is no such topic.
    #[error("cannot find topic {topic:?} at {brokers}{suggestion}; create it, or correct its name")]
    TopicMissing {
        /// The topic.
        topic: String,
        /// The brokers asked.
        brokers: String,
        /// `, did you mean ...`, or nothing.
        suggestion: String,
    },
    /// There is no such partition.
    #[error(
        "cannot find partition {0}, which was there before: its topic was deleted, or created anew; \
         start the job again when the topic is there, and it says what was read of it"
    )]
    PartitionMissing(TopicPartition),
    /// The topic is another than it was.
    #[error(
        "cannot read topic {topic:?} on: it was deleted, and created anew under its name; start the job \
         again, and it says what to do"
    )]
    Anew {
        /// The topic.
        topic: String,
    },
    /// Messages were removed before they were read.
    #[error(
        "cannot read {partition} from offset {wanted}: retention removed what lies before {first}, {} messages \
         at most that were never read; write `removed: skip` at the topics of the source to read on without \
         them, and keep messages longer",
        first - wanted
    )]
    Removed {
        /// The partition.
        partition: TopicPartition,
        /// The next offset to read.
        wanted: i64,
        /// The first offset that is left.
        first: i64,
    },
    /// The partition is shorter than what was read of it.
    #[error(
        "cannot read {partition} from offset {wanted}: it ends at {end}, so the topic was created anew or \
         lost messages; create one under another name with what is to be read, and name that one instead"
    )]
    Shorter {
        /// The partition.
        partition: TopicPartition,
        /// The next offset to read.
        wanted: i64,
        /// Its end.
        end: i64,
    },
    /// Anything else that the client or the broker said.
    #[error("cannot {attempt}: {detail}")]
    Other {
        /// What was attempted.
        attempt: String,
        /// What was said.
        detail: String,
    },
}

impl KafkaError {
    pub(super) fn other(attempt: impl Into<String>, detail: impl ToString) -> Self {
        Self::Other {
            attempt: attempt.into(),
            detail: detail.to_string(),
        }
    }

    /// Whether the same attempt may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// How a transaction failed. After any of these the publisher is done for: drop it, and open
/// another one or end the process as told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Another publisher of the same id was opened later. This process is the older one and must
    /// end.
    #[error(
        "cannot publish: a later publisher of {transactional_id:?} took over; this one must end"
    )]
    Fenced {
        /// The id.
        transactional_id: String,
    },
    /// Nothing was published, and trying again would fail the same way.
    #[error(
        "cannot publish to topic {topic:?}: {detail}; nothing of the transaction was published"
    )]
    Refused {
        /// The topic.
        topic: String,
        /// What was said.
        detail: String,
    },
    /// Published or not: open another publisher, which reads back what was.
    #[error(
        "cannot tell whether the transaction was published: {detail}; open the publisher again \
         and read its progress"
    )]
    Unknown {
        /// What was said.
        detail: String,
    },
    /// The client did not return in time and cannot be ended: the process must be.
    #[error(
        "cannot end the transaction: the client did not answer for {seconds} s; end the process"
    )]
    Stuck {
        /// How long was waited.
        seconds: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_with_its_size() {
        let partition = TopicPartition::new("usage", 3);
        let (wanted, first) = (10, 25);
        let error = KafkaError::Removed {
            partition,
            wanted,
            first,
        };
        let told = error.to_string();
        assert!(
            told.contains("usage/3 from offset 10") && told.contains("15 messages"),
            "{told}"
        );
    }
}
