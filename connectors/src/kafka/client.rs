//! What the clients have in common: what they complained about last, and asking for metadata.

use super::error::KafkaError;
use super::ids::topic_ids;
use super::settings::is_secret;
use rdkafka::Message as _;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a client that waits looks at what went wrong meanwhile.
const GLANCE: Duration = Duration::from_millis(500);
/// How long to wait before a question is asked again that was answered with "not yet".
const PAUSE: Duration = Duration::from_millis(20);

/// What a client hears besides messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    /// The last error, of which the client thinks that it can go on.
    complaint: Option<(Code, String)>,
    /// The first message that could not be delivered: its topic and why.
    undelivered: Option<(String, Code)>,
}

impl Heard {
    fn with<T>(&self, look: impl FnOnce(&mut Notes) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last complaint, in words.
    pub(super) fn complaint(&self) -> Option<String> {
        self.with(|notes| notes.complaint.as_ref().map(|(_, reason)| reason.clone()))
    }

    fn denial(&self) -> Option<String> {
        self.with(|notes| match &notes.complaint {
            Some((Code::Authentication | Code::SaslAuthenticationFailed, reason)) => {
                Some(reason.clone())
            }
            _ => None,
        })
    }

    pub(super) fn take_undelivered(&self) -> Option<(String, Code)> {
        self.with(|notes| notes.undelivered.take())
    }
}

impl ClientContext for Heard {
    fn error(&self, error: ClientError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        self.with(|notes| {
            // A refused login is also a lost connection, told afterwards; the cause is worth more.
            let is_cause = code != Code::AllBrokersDown || notes.complaint.is_none();
            if is_cause {
                notes.complaint = Some((code, reason.to_owned()));
            }
        });
    }
}

impl ConsumerContext for Heard {}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            let topic = message.topic().to_owned();
            self.with(|notes| {
                notes.undelivered.get_or_insert((topic, code));
            });
        }
    }
}

/// Why a client could not be made.
pub(super) fn not_created(error: &ClientError) -> KafkaError {
    match error {
        ClientError::ClientConfig(_, detail, key, _) => KafkaError::Settings {
            key: key.clone(),
            // What librdkafka says may quote the value.
            detail: if is_secret(key) {
                "librdkafka does not accept it".to_owned()
            } else {
                detail.clone()
            },
        },
        error => KafkaError::Settings {
            key: "settings".to_owned(),
            detail: error.to_string(),
        },
    }
}

/// Whether the same question may have an answer later: the way to the broker is broken, which the
/// client mends by itself, or the broker is not ready.
pub(super) fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::TimedOutQueue
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            // The transaction of a publisher that was fenced is being ended.
            | Code::ConcurrentTransactions
    )
}

pub(super) fn is_forbidden(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

/// One client and what it needs for a message about itself.
pub(super) struct Asking<'c, C: ClientContext> {
    pub(super) client: &'c Client<C>,
    pub(super) heard: &'c Heard,
    pub(super) brokers: &'c str,
    pub(super) serve: &'c dyn Fn(),
}

impl<C: ClientContext> Asking<'_, C> {
    /// Asks until there is an answer or the deadline; losing the connection is no answer.
    pub(super) fn until<T>(
        &self,
        attempt: &str,
        deadline: Instant,
        ask: impl Fn(Duration) -> Result<T, ClientError>,
    ) -> Result<T, KafkaError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match ask(left.min(GLANCE)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            (self.serve)();
            let brokers = || self.brokers.to_owned();
            if let Some(detail) = self.heard.denial() {
                return Err(KafkaError::Denied {
                    brokers: brokers(),
                    detail,
                });
            }
            match error.rdkafka_error_code() {
                Some(code) if is_passing(code) => {
                    if Instant::now() >= deadline {
                        let detail = self.heard.complaint().unwrap_or_else(|| code.to_string());
                        return Err(KafkaError::Unreachable {
                            brokers: brokers(),
                            detail,
                        });
                    }
                    std::thread::sleep(PAUSE.min(left));
                }
                Some(code) if is_forbidden(code) => {
                    return Err(KafkaError::Forbidden {
                        attempt: attempt.to_owned(),
                        detail: code.to_string(),
                    });
                }
                _ => return Err(KafkaError::other(attempt, error)),
            }
        }
    }

    /// The partitions of a topic.
    pub(super) fn partitions(
        &self,
        topic: &str,
        deadline: Instant,
    ) -> Result<Vec<i32>, KafkaError> {
        let attempt = format!("look topic {topic:?} up");
        let ask = |timeout| {
            let metadata = self.client.fetch_metadata(Some(topic), timeout)?;
            let error = metadata.topics().first().and_then(|topic| topic.error());
            match error.map(Code::from) {
                // A partition without a leader has one soon, or its broker is gone.
                Some(code)
                    if code != Code::UnknownTopicOrPartition && code != Code::UnknownTopic =>
                {
                    Err(ClientError::MetadataFetch(code))
                }
                _ => Ok(metadata),
            }
        };
        let metadata: Metadata = self.until(&attempt, deadline, ask)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let mut partitions: Vec<i32> = found
            .into_iter()
            .flat_map(|topic| topic.partitions())
            .map(|partition| partition.id())
            .collect();
        partitions.sort_unstable();
        if partitions.is_empty() {
            return Err(KafkaError::TopicMissing {
                topic: topic.to_owned(),
                brokers: self.brokers.to_owned(),
                suggestion: self.suggestion(topic, deadline),
            });
        }
        Ok(partitions)
    }

    /// The ids of those of the topics that exist, by name; none where the broker has none to tell.
    pub(super) fn ids(
        &self,
        topics: &[String],
        deadline: Instant,
    ) -> Result<BTreeMap<String, String>, KafkaError> {
        let attempt = format!("look the ids of the topics {} up", topics.join(", "));
        self.until(&attempt, deadline, |timeout| {
            match topic_ids(self.client, topics, timeout) {
                Err(error) if error.rdkafka_error_code() == Some(Code::UnsupportedFeature) => {
                    Ok(BTreeMap::new())
                }
                told => told,
            }
        })
    }

    fn suggestion(&self, topic: &str, deadline: Instant) -> String {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(all) = self.client.fetch_metadata(None, left) else {
            return String::new();
        };
        let names = all
            .topics()
            .iter()
            .map(rdkafka::metadata::MetadataTopic::name);
        let names = names.filter(|name| !name.starts_with("__"));
        crate::diagnostic::did_you_mean(topic, names)
            .map_or_else(String::new, |name| format!(", did you mean {name:?}"))
    }
}
