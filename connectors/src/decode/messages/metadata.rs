//! What stands beside a message's content.

use super::super::paths::utf8;
use crate::kafka::Message;
use std::borrow::Cow;

/// A column about the message itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    Key,
    Timestamp,
    Topic,
    Partition,
    Offset,
    Header(String),
}

impl Metadata {
    pub(super) fn of_column(name: &str) -> Option<Self> {
        match name {
            "_key" => Some(Self::Key),
            "_timestamp" => Some(Self::Timestamp),
            "_topic" => Some(Self::Topic),
            "_partition" => Some(Self::Partition),
            "_offset" => Some(Self::Offset),
            name => name
                .strip_prefix("_header.")
                .map(|header| Self::Header(header.to_owned())),
        }
    }

    /// The column's text.
    ///
    /// # Errors
    /// That its bytes are no text.
    pub(super) fn text<'m>(&self, message: &Message<'m>) -> Result<Option<Cow<'m, str>>, String> {
        let owned = |text: String| Ok(Some(Cow::Owned(text)));
        let bytes = match self {
            Self::Key => message.key(),
            Self::Header(name) => message.header(name),
            Self::Topic => return owned(message.partition.topic.to_string()),
            Self::Partition => return owned(message.partition.partition.to_string()),
            Self::Offset => return owned(message.offset.to_string()),
            Self::Timestamp => {
                let time = message.timestamp();
                let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                return Ok(time.map(|time| Cow::Owned(time.to_string())));
            }
        };
        bytes
            .map(utf8)
            .transpose()
            .map(|text| text.map(Cow::Borrowed))
    }
}
