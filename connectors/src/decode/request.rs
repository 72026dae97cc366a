//! What is asked of a file: its columns, and how to read it.

use super::declared::MayBe;
use super::kind::ColumnType;
use crate::times::{TimeRange, TimeReading};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;

/// A raw column that somebody wants, by its name in the file: a header's name, a dotted path into
/// JSON, a Parquet column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnRequest {
    /// The name in the file.
    pub name: String,
    /// The declared type; text, or for Parquet the type of the file, unless given.
    pub kind: Option<ColumnType>,
    /// Which absence of it is intended.
    pub may_be: MayBe,
    /// How its times are read that name no offset.
    pub times: TimeReading,
    /// Whether the zone in `times` was declared for this column.
    pub names_zone: bool,
    /// Times that are nothing special; of others the text is kept beside the chunk.
    pub range: TimeRange,
    /// Whether records are told apart by it: without it, different ones are taken for one.
    pub identifies: bool,
}

impl ColumnRequest {
    /// A column that every file must have, whose times are read as UTC unless they name an offset.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: Option<ColumnType>) -> Self {
        Self {
            name: name.into(),
            kind,
            may_be: MayBe::default(),
            times: TimeReading::default(),
            names_zone: false,
            range: TimeRange::default(),
            identifies: false,
        }
    }

    /// The declaration by which files may lack the column, as it can be pasted; nothing where they may not.
    pub(crate) fn declaration(&self) -> Option<String> {
        if self.identifies || self.name.is_empty() {
            return None;
        }
        let kind = match self.kind.unwrap_or(ColumnType::Text) {
            kind @ ColumnType::Decimal { .. } => format!("\"{kind}\""),
            kind => kind.to_string(),
        };
        let name = &self.name;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
        let name = match name.bytes().all(is_plain) {
            true => name.clone(),
            false => format!("{name:?}"),
        };
        Some(format!("{name}: {{ type: {kind}, may_be: absent }}"))
    }
}

/// The arrow schema of requested columns of a text format, known without any file.
#[must_use]
pub fn text_schema(columns: &[ColumnRequest]) -> SchemaRef {
    let field = |column: &ColumnRequest| {
        Field::new(
            &column.name,
            column
                .kind
                .unwrap_or(ColumnType::Text)
                .data_type(&column.times),
            true,
        )
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// How to read a file.
#[derive(Clone, Debug)]
pub struct DecodeOptions {
    /// Rows of a chunk, at most.
    pub chunk_rows: usize,
    /// Whether chunks carry the records as they stood, for the raw store. Parquet sources are
    /// archives themselves and never do.
    pub keep_originals: bool,
    /// Row groups to read of a Parquet file; all unless given. Ignored by the text formats, which
    /// have none.
    pub row_groups: Option<Range<usize>>,
    /// Whether the decoder can tell afterwards what it read, as [`Content`].
    pub remember: bool,
    /// Bytes of the content to read, for the text formats; all unless given.
    pub bytes: Option<u64>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            chunk_rows: 16_384,
            keep_originals: false,
            row_groups: None,
            remember: false,
            bytes: None,
        }
    }
}
