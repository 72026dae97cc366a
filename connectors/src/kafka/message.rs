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

    /// Hands each header to `each`, in their order.
    pub fn headers(&self, mut each: impl FnMut(&str, Option<&[u8]>)) {
        match self.content {
            Content::Read(message) => {
                for header in message
                    .headers()
                    .into_iter()
                    .flat_map(|headers| headers.iter())
                {
                    each(header.key, header.value);
                }
            }
            Content::Kept(kept) => {
                for (name, value) in &kept.headers {
                    each(name, value.as_deref());
                }
            }
        }
    }

    /// A copy that outlives the client's buffers.
    #[must_use]
    pub fn keep(&self) -> KeptMessage {
        let mut headers = Vec::new();
        self.headers(|name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        KeptMessage {
            key: self.key().map(<[u8]>::to_vec),
            payload: self.payload().map(<[u8]>::to_vec),
            timestamp: self.timestamp(),
            headers,
        }
    }
}
