//! Decoding: a file becomes chunks of typed columns, row by row accountable.
//!
//! ```text
//!   bytes ─► decompress ─► split into records ─► requested fields ─► typed columns ─► RawChunk
//!               │                 │                     │
//!               └ cut short:      └ not a record:       └ not of its type:
//!                 FILE_UNREADABLE   ROW_UNREADABLE        FIELD_UNPARSABLE
//! ```
//!
//! - Every record of the file is either a row of a chunk's batch or one fault; neighbours of a bad
//!   record go on. After a fault of the file itself no chunk follows.
//! - A row's number counts records from 0, faulty ones too, so it names the same record whenever the
//!   file is read again, whichever columns are asked for.
//! - A library that panics on the bytes of a file has found a fault of that file and nothing else.
//! - Memory is bounded by the rows of a chunk, by [`CHUNK_BYTES_MAX`] for their values, and by
//!   [`RECORD_BYTES_MAX`] for a record. No size that a file declares is believed before it is compared with
//!   the file's bytes.

mod assemble;
mod chunk;
mod columns;
mod content;
mod convert;
mod csv_split;
mod cut;
mod declared;
mod decoder;
mod error;
mod fields;
mod formats;
mod json;
mod kind;
mod members;
mod messages;
mod nested;
mod parquet;
mod parquet_layout;
mod parquet_pages;
mod paths;
mod request;
pub(crate) mod scalar;
mod shape;
mod slices;
mod split;
mod unmet;
mod window;

pub use assemble::CHUNK_BYTES_MAX;
pub use chunk::{OddTime, Originals, RawChunk};
pub use content::Content;
pub use cut::is_cut_of;
pub use declared::{ColumnDeclaration, MayBe};
pub use decoder::Decoder;
pub use error::DecodeError;
pub use formats::*;
pub use kind::ColumnType;
pub use messages::{MessageDecoder, MessageFormat, Registry, RegistryUrl};
pub use parquet::{RowGroup, row_groups};
pub use request::{ColumnRequest, DecodeOptions, text_schema};
pub use unmet::Unmet;
pub use window::RECORD_BYTES_MAX;

pub(crate) use assemble::Assembler;
pub(crate) use chunk::Source;
pub(crate) use error::opening;
pub(crate) use formats::Kept;
pub(crate) use parquet::batch_rows;
pub(crate) use paths::KEY_COLUMN;
pub(crate) use scalar::quoted;
pub(crate) use window::BYTE_ORDER_MARK;

#[cfg(test)]
mod tests;
