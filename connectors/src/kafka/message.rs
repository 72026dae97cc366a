//! Messages as they are read, without a copy.

use super::TopicPartition;
use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Headers as _};

/// A message, borrowed from the client's buffers.
#[derive(Debug)]
pub struct Message<'m> {
    /// The position of its partition in the assignment.
    pub slot: usize,
    /// Its partition.
    pub partition: &'m TopicPartition,
    /// Its offset there.
    pub offset: i64,
    content: Content<'m>,
}

#[derive(Debug)]
enum Content<'m> {
    Read(&'m BorrowedMessage<'m>),
    Kept(&'m KeptMessage),
}

/// A message of one's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptMessage {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The payload; nothing for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Milliseconds since 1970, where it has a time.
    pub timestamp: Option<i64>,
    /// The headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl<'m> Message<'m> {
    pub(super) fn read(
        slot: usize,
        partition: &'m TopicPartition,
        message: &'m BorrowedMessage<'m>,
    ) -> Self {
        Self {
            slot,
            partition,
            offset: message.offset(),
            content: Content::Read(message),
        }
    }

    /// A message that was kept, as if it were read from `partition`.
    #[must_use]
    pub fn of_kept(partition: &'m TopicPartition, offset: i64, kept: &'m KeptMessage) -> Self {
        Self {
            slot: 0,
            partition,
            offset,
            content: Content::Kept(kept),
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<&'m [u8]> {
        match self.content {
            Content::Read(message) => message.key(),
            Content::Kept(kept) => kept.key.as_deref(),
        }
    }

    /// The payload; nothing for a tombstone.
    #[must_use]
    pub fn payload(&self) -> Option<&'m [u8]> {
        match self.content {
            Content::Read(message) => message.payload(),
            Content::Kept(kept) => kept.payload.as_deref(),
        }
    }

    /// Milliseconds since 1970, where the message has a time.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        match self.content {
            Content::Read(message) => message.timestamp().to_millis(),
            Content::Kept(kept) => kept.timestamp,
        }
    }

    /// The headers in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&'m str, Option<&'m [u8]>)> + use<'m> {
        let (read, kept) = match self.content {
            Content::Read(message) => (message.headers(), None),
            Content::Kept(kept) => (None, Some(&kept.headers)),
        };
        let read = read.into_iter().flat_map(|headers| headers.iter());
        let kept = kept.into_iter().flatten();
        read.map(|header| (header.key, header.value))
            .chain(kept.map(|(name, value)| (name.as_str(), value.as_deref())))
    }

    /// The value of a header, the last of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'m [u8]> {
        let named = self.headers().filter(|(known, _)| *known == name);
        named.last().and_then(|(_, value)| value)
    }

    /// A copy that outlives the client's buffers.
    #[must_use]
    pub fn keep(&self) -> KeptMessage {
        let headers = self
            .headers()
            .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        KeptMessage {
            key: self.key().map(<[u8]>::to_vec),
            payload: self.payload().map(<[u8]>::to_vec),
            timestamp: self.timestamp(),
            headers: headers.collect(),
        }
    }
}
