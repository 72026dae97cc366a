//! How to reach Kafka: brokers, and settings handed on to librdkafka.

use super::error::KafkaError;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where Kafka is and how to talk to it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port` of one or more brokers, separated by commas.
    pub brokers: String,
    /// Settings of librdkafka by their names there (`security.protocol`, `sasl.username`). A value
    /// `${NAME}` is taken from the environment, so that secrets stay out of files.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// Settings on which exactly-once rests; each with why it cannot be chosen.
const DECIDED: &[(&str, &str)] = &[
    ("bootstrap.servers", "write the brokers under `brokers`"),
    ("metadata.broker.list", "write the brokers under `brokers`"),
    ("enable.auto.commit", "offsets are kept with the results"),
    (
        "enable.auto.offset.store",
        "offsets are kept with the results",
    ),
    ("isolation.level", "aborted messages must not be billed"),
    (
        "auto.offset.reset",
        "messages must not be skipped or repeated silently",
    ),
    (
        "enable.partition.eof",
        "ends of partitions are found by their offsets",
    ),
    ("transactional.id", "publishers are named by the job"),
    ("enable.idempotence", "rows are published in transactions"),
];

impl KafkaSettings {
    /// Settings with brokers alone.
    #[must_use]
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            settings: BTreeMap::new(),
        }
    }

    /// The client's configuration: `defaults`, then the user's settings, then what is decided here.
    pub(super) fn config(
        &self,
        defaults: &[(&str, &str)],
        decided: &[(&str, &str)],
    ) -> Result<ClientConfig, KafkaError> {
        let mut config = ClientConfig::new();
        if self.brokers.trim().is_empty() {
            return Err(KafkaError::Settings {
                key: "brokers".to_owned(),
                detail: "it is empty; name at least one broker as host:port".to_owned(),
            });
        }
        config.set("client.id", "millrace");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.settings {
            if let Some((_, why)) = DECIDED.iter().find(|(decided, _)| decided == key) {
                return Err(KafkaError::Settings {
                    key: key.clone(),
                    detail: format!("it cannot be chosen: {why}"),
                });
            }
            config.set(key, from_environment(key, value)?);
        }
        config.set("bootstrap.servers", &self.brokers);
        for (key, value) in decided {
            config.set(*key, *value);
        }
        Ok(config)
    }
}

fn from_environment(key: &str, value: &str) -> Result<String, KafkaError> {
    let Some(name) = value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
    else {
        return Ok(value.to_owned());
    };
    std::env::var(name).map_err(|_| KafkaError::Settings {
        key: key.to_owned(),
        detail: format!("the environment has no {name}; set it, or write the value itself"),
    })
}

/// Whether nobody but the broker should see the value.
pub(super) fn is_secret(key: &str) -> bool {
    key.starts_with("sasl.")
        || ["password", "secret", "ssl.key"]
            .iter()
            .any(|part| key.contains(part))
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: BTreeMap<&str, &str> = self
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), if is_secret(key) { "***" } else { value }))
            .collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("settings", &shown)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> KafkaSettings {
        let mut settings = KafkaSettings::new("localhost:9092");
        settings.settings.insert(key.to_owned(), value.to_owned());
        settings
    }

    #[test]
    fn secrets_are_not_shown() {
        for key in [
            "sasl.password",
            "sasl.jaas.config",
            "ssl.key.pem",
            "ssl.keystore.password",
        ] {
            let shown = format!("{:?}", with(key, "hunter2"));
            assert!(shown.contains(key) && !shown.contains("hunter2"), "{shown}");
        }
        assert!(format!("{:?}", with("client.rack", "west")).contains("west"));
    }

    #[test]
    fn what_exactly_once_rests_on_cannot_be_chosen() {
        for (key, _) in DECIDED {
            let error = with(key, "x").config(&[], &[]).unwrap_err().to_string();
            assert!(
                error.contains(key) && error.contains("cannot be chosen"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_users_settings_beat_defaults_and_may_come_from_the_environment() {
        let config = with("fetch.min.bytes", "7").config(&[("fetch.min.bytes", "1")], &[]);
        assert_eq!(config.unwrap().get("fetch.min.bytes"), Some("7"));
        let config = with("sasl.password", "${PATH}").config(&[], &[]).unwrap();
        assert_eq!(
            config.get("sasl.password"),
            std::env::var("PATH").ok().as_deref()
        );
        let error = with("sasl.password", "${MILLRACE_NO_SUCH}").config(&[], &[]);
        assert!(error.unwrap_err().to_string().contains("MILLRACE_NO_SUCH"));
    }
}
