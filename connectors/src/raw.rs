//! The raw store: records as they stood, one Parquet file per source file.
//!
//! ```text
//!   RawChunk ─► RawWriter ─► archive.parquet ─► open_archive ─► Decoder ─► RawChunk
//! ```
//!
//! An archive holds every record of its source, faulty ones too, so that a corrected rule can be run
//! again over it with whatever columns it then wants: CSV column by column as text, everything else,
//! and CSV of very many columns, as bytes. Parquet sources are archives themselves and are read again where they lie.
//!
//! Columns besides those of the source: `millrace_row` and `millrace_line` say where the record
//! stood, `millrace_identity` what it was last mediated to (NULL when it became no usage),
//! `millrace_raw` its bytes where columns do not hold it (in those, what is no UTF-8 text stands as U+FFFD), `millrace_fault` why it is no record.

mod reader;
mod writer;

pub use reader::open_archive;
pub use writer::{RawError, RawSource, RawWriter};

const ROW: &str = "millrace_row";
const LINE: &str = "millrace_line";
const IDENTITY: &str = "millrace_identity";
const RAW: &str = "millrace_raw";
const FAULT: &str = "millrace_fault";

/// Keys of the archive's own metadata.
const META_SOURCE: &str = "millrace.source";
const META_FILE_FAULT: &str = "millrace.file_fault";
const META_HEADER: &str = "millrace.header";

#[cfg(test)]
pub(crate) mod tests;
