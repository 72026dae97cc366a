//! Streams of usage: one kind of record from one source, which one mediation rule reads.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A stream: where records come from, what they are about, and how they are laid out.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct StreamId {
    /// The system that sends them.
    pub platform: String,
    /// The kind of service (`voice`, `llm`).
    pub service_type: String,
    /// The kind of record (`postpaid`).
    pub record_type: String,
}

impl StreamId {
    /// The stream of a folder that follows the convention
    /// `.../<platform>/<service type>/<record type>/input`.
    #[must_use]
    pub fn of_folder(location: &str) -> Option<Self> {
        let path = location
            .split_once("://")
            .map_or(location, |(_, path)| path);
        let mut parts = path
            .rsplit('/')
            .filter(|part| !part.is_empty() && *part != ".");
        if parts.next()? != "input" {
            return None;
        }
        let mut next = || parts.next().map(str::to_owned);
        let (record_type, service_type, platform) = (next()?, next()?, next()?);
        Some(Self {
            platform,
            service_type,
            record_type,
        })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.platform, self.service_type, self.record_type
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_name_their_stream() {
        let stream = |location| StreamId::of_folder(location).map(|stream| stream.to_string());
        let expected = Some("gateway/llm/request".to_owned());
        assert_eq!(stream("data/gateway/llm/request/input"), expected);
        assert_eq!(stream("s3://bucket/gateway/llm/request/input/"), expected);
        assert_eq!(stream("gateway/llm/request"), None);
        assert_eq!(stream("llm/request/input"), None);
    }
}
