//! Decoding: messages of one partition become chunks of typed columns, message by message
//! accountable.
//!
//! ```text
//!   message ─► JSON object ─────────────┐
//!           ─► CloudEvent ─► attributes ├► requested columns ─► RawChunk
//!           │                └► data ───┤
//!           ─► schema id ─► Avro record ┘
//!           │
//!           └ no content: TOMBSTONE · not of the format: ROW_UNREADABLE · not of its type:
//!             FIELD_UNPARSABLE
//! ```
//!
//! - A row's number is the message's offset, so it names the same message whenever it is read again.
//!   Offsets have gaps; rows have them too.
//! - Every message is either a row or one fault; neighbours of a bad message go on.
//! - What stands beside the content is in columns of its own: `_key`, `_timestamp` (RFC 3339),
//!   `_topic`, `_partition`, `_offset` and `_header.<name>`. They hide fields of these names.

mod avro;
mod avro_size;
mod metadata;
mod registry;
mod text;

pub use registry::{Registry, RegistryUrl};

use super::chunk::RawChunk;
use super::error::DecodeError;
use super::request::{ColumnRequest, text_schema};
use crate::kafka::{Message, TopicPartition};
use arrow::datatypes::SchemaRef;
use avro::AvroMessages;
use millrace_operators::domain::{FileId, RecordId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use text::TextMessages;

/// How the content of messages is laid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum MessageFormat {
    /// One JSON object per message.
    Json,
    /// CloudEvents 1.0, structured or binary, with JSON data, in `data_base64` too. The columns `specversion`, `id`,
    /// `source`, `type`, `subject`, `time`, `datacontenttype` and `dataschema` are the attributes;
    /// `ce_<name>` is any attribute, extensions too; every other column, also written
    /// `data.<path>`, is a field of the data.
    CloudEvents,
    /// Avro with the id of its schema in front, as Confluent's serializers write it.
    Avro {
        /// The schema registry's URL.
        registry: RegistryUrl,
        /// The subject whose latest schema is read into; `<topic>-value` unless given.
        #[serde(default)]
        subject: Option<String>,
    },
}

impl MessageFormat {
    /// The registry that knows the schemas, where the format needs one. One registry serves the
    /// decoders of all partitions.
    ///
    /// # Errors
    /// When its URL is none, or there can be no client for it.
    pub fn registry(&self) -> Result<Option<Arc<Registry>>, DecodeError> {
        match self {
            Self::Avro { registry, .. } => Ok(Some(Arc::new(Registry::new(registry)?))),
            Self::Json | Self::CloudEvents => Ok(None),
        }
    }
}

/// Decodes the messages of one partition.
pub struct MessageDecoder {
    schema: SchemaRef,
    layout: Layout,
}

enum Layout {
    Text(Box<TextMessages>),
    Avro(Box<AvroMessages>),
}

impl MessageDecoder {
    /// Prepares to decode the messages of `partition`, which the job knows as file `id`; `registry`
    /// is the one of [`MessageFormat::registry`].
    ///
    /// # Errors
    /// When the registry does not answer, or its latest schema lacks a column or has it in a type
    /// that does not convert.
    pub fn open(
        id: FileId,
        partition: &TopicPartition,
        format: &MessageFormat,
        registry: Option<&Arc<Registry>>,
        columns: &[ColumnRequest],
    ) -> Result<Self, DecodeError> {
        let layout = match (format, registry) {
            (MessageFormat::Avro { subject, .. }, Some(registry)) => {
                let subject = subject.clone();
                let subject = subject.unwrap_or_else(|| format!("{}-value", partition.topic));
                let registry = Arc::clone(registry);
                let messages = AvroMessages::open(id, partition, registry, &subject, columns)?;
                Layout::Avro(Box::new(messages))
            }
            (MessageFormat::Avro { registry, .. }, None) => {
                return Err(DecodeError::Registry {
                    url: registry.shown(),
                    detail: "the decoder was given no client for it".to_owned(),
                });
            }
            (MessageFormat::CloudEvents, _) => {
                Layout::Text(Box::new(TextMessages::events(id, columns)))
            }
            (MessageFormat::Json, _) => Layout::Text(Box::new(TextMessages::json(id, columns))),
        };
        let schema = match &layout {
            Layout::Text(_) => text_schema(columns),
            Layout::Avro(messages) => messages.schema(),
        };
        Ok(Self { schema, layout })
    }

    /// The schema of every chunk's batch.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds a message to the chunk. Messages of a partition come in the order of their offsets.
    ///
    /// # Errors
    /// When the registry that knows its schema does not answer, or its offset is past 2^40. The
    /// message is then not part of the chunk and can be added again.
    pub fn push(&mut self, message: &Message<'_>) -> Result<(), DecodeError> {
        let offset = u64::try_from(message.offset)
            .ok()
            .filter(|offset| *offset < RecordId::ROWS_MAX)
            .ok_or_else(|| DecodeError::Offset {
                partition: message.partition.to_string(),
                offset: message.offset,
            })?;
        match &mut self.layout {
            Layout::Text(messages) => {
                messages.push(offset, message);
                Ok(())
            }
            Layout::Avro(messages) => messages.push(offset, message),
        }
    }

    /// The chunk of the messages since the last; `None` when there were none.
    pub fn finish(&mut self) -> Option<RawChunk> {
        match &mut self.layout {
            Layout::Text(messages) => messages.finish(),
            Layout::Avro(messages) => messages.finish(),
        }
    }
}

impl std::fmt::Debug for MessageDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MessageDecoder")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
