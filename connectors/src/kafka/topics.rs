//! Topics that we create ourselves.

use super::OPEN_TIMEOUT;
use super::client::{Heard, is_forbidden, is_passing, not_created};
use super::error::KafkaError;
use super::settings::KafkaSettings;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as ClientTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::RDKafkaErrorCode as Code;

/// A topic to create where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its partitions; as many as the broker gives by default unless positive.
    pub partitions: i32,
    /// Settings of the topic by their names at the broker.
    pub settings: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic that keeps everything for as long as the broker does.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            settings: Vec::new(),
        }
    }

    /// A topic that keeps the last message of each key.
    #[must_use]
    pub fn compacted(name: impl Into<String>, partitions: i32) -> Self {
        Self::new(name, partitions).with("cleanup.policy", "compact")
    }

    /// The same topic with another setting.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// Creates those of the topics that do not exist; their replicas are as many as the broker's
/// default says.
///
/// # Errors
/// When no broker answers, or it refuses.
pub fn create_missing_topics(
    settings: &KafkaSettings,
    topics: &[NewTopic],
) -> Result<(), KafkaError> {
    let attempt = || {
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        format!("create the topics {}", names.join(", "))
    };
    let heard = Heard::default();
    let admin = AdminClient::from_config_and_context(&settings.config(&[], &[])?, heard.clone())
        .map_err(|error| not_created(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| KafkaError::other(attempt(), error))?;
    let wanted: Vec<ClientTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let replicas = TopicReplication::Fixed(-1);
            let partitions = if topic.partitions > 0 {
                topic.partitions
            } else {
                -1
            };
            let created = ClientTopic::new(&topic.name, partitions, replicas);
            topic
                .settings
                .iter()
                .fold(created, |created, (key, value)| created.set(key, value))
        })
        .collect();
    let options = AdminOptions::new()
        .request_timeout(Some(OPEN_TIMEOUT))
        .operation_timeout(Some(OPEN_TIMEOUT));
    let answers = runtime.block_on(admin.create_topics(&wanted, &options));
    let answers = answers.map_err(|error| match error.rdkafka_error_code() {
        Some(code) if is_passing(code) => KafkaError::Unreachable {
            brokers: settings.brokers.clone(),
            detail: heard.complaint().unwrap_or_else(|| code.to_string()),
        },
        _ => KafkaError::other(attempt(), error),
    })?;
    for answer in answers {
        match answer {
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
            Err((topic, code)) if is_forbidden(code) => {
                return Err(KafkaError::Forbidden {
                    attempt: format!("create topic {topic:?}"),
                    detail: code.to_string(),
                });
            }
            Err((topic, code)) => {
                return Err(KafkaError::other(format!("create topic {topic:?}"), code));
            }
        }
    }
    Ok(())
}
