//! Writes an archive, chunk by chunk.

use super::{FAULT, IDENTITY, LINE, META_FILE_FAULT, META_HEADER, META_SOURCE, RAW, ROW};
use crate::decode::{Format, RawChunk};
use arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_operators::domain::{Fault, FileId, Reason, Usage};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::Arc;

/// Rows of a row group: what a writer holds in memory.
const GROUP_ROWS: usize = 131_072;
/// Bytes of their records behind which a row group ends, however few its rows are.
const GROUP_BYTES: usize = 256 << 20;

/// Where the records of an archive come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawSource {
    /// The number that its records are known by.
    pub file: FileId,
    /// Its name in the store.
    pub name: String,
    /// What identifies its content.
    pub checksum: String,
    /// How it is laid out.
    pub format: Format,
}

/// Why an archive cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// The disk or the store refuses.
    #[error("cannot write the archive of {file:?}: {source}")]
    Parquet {
        /// The source file.
        file: String,
        /// What the writer said.
        source: parquet::errors::ParquetError,
    },
    /// A chunk that was decoded without its originals.
    #[error(
        "the records of {file:?} were decoded without keeping originals, so there is nothing to archive"
    )]
    NoOriginals {
        /// The source file.
        file: String,
    },
}

/// Writes the archive of one source file.
pub struct RawWriter<W: Write + Send> {
    source: RawSource,
    state: State<W>,
    file_fault: Option<Fault>,
}

enum State<W: Write + Send> {
    /// The columns are known from the first chunk on.
    Waiting(W),
    Writing {
        writer: Box<ArrowWriter<W>>,
        schema: SchemaRef,
        /// Bytes of records in the row group.
        bytes: usize,
    },
    Failed,
}

impl<W: Write + Send> RawWriter<W> {
    /// An archive written to `sink`.
    #[must_use]
    pub fn new(source: RawSource, sink: W) -> Self {
        Self {
            source,
            state: State::Waiting(sink),
            file_fault: None,
        }
    }

    /// Adds the records of a chunk; `usage` is what mediation made of this chunk.
    ///
    /// # Errors
    /// When the sink fails, or the chunk was decoded without originals.
    pub fn write(&mut self, chunk: &RawChunk, usage: &[Usage]) -> Result<(), RawError> {
        self.file_fault = self.file_fault.take().or_else(|| {
            chunk
                .faults
                .iter()
                .find(|fault| fault.reason.is_of_file())
                .cloned()
        });
        let Some(originals) = &chunk.originals else {
            return Err(RawError::NoOriginals {
                file: self.source.name.clone(),
            });
        };
        let usage = usage.iter().filter(|usage| !usage.is_passed_over());
        let mut usage = usage.peekable();
        let mut faults = chunk
            .faults
            .iter()
            .filter(|f| f.reason == Reason::RowUnreadable)
            .peekable();
        let mut identities = StringBuilder::new();
        let mut details = StringBuilder::new();
        for row in &originals.rows {
            match usage.next_if(|usage| usage.record.row() == *row) {
                Some(usage) => {
                    let [high, low] = usage.identity.0;
                    identities.append_value(format!("{high:016x}{low:016x}"));
                }
                None => identities.append_null(),
            }
            let fault = faults.next_if(|fault| fault.record.row() == *row);
            details.append_option(fault.map(|fault| fault.detail.as_str()));
        }
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(originals.rows.clone())),
            Arc::new(UInt64Array::from(originals.lines.clone())),
            Arc::new(identities.finish()),
            Arc::new(originals.raw.clone()),
            Arc::new(details.finish()),
        ];
        columns.extend(originals.columns.columns().iter().map(Arc::clone));
        let source_schema = originals.columns.schema();
        let failed = |source| RawError::Parquet {
            file: self.source.name.clone(),
            source,
        };
        let (writer, schema, bytes) = self
            .state
            .writing(&self.source, &source_schema, originals.header.as_deref())
            .map_err(failed)?;
        let of = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
        *bytes = columns.iter().map(of).fold(*bytes, usize::saturating_add);
        let batch = RecordBatch::try_new(schema, columns).map_err(|error| failed(error.into()))?;
        writer.write(&batch).map_err(failed)?;
        if *bytes >= GROUP_BYTES {
            *bytes = 0;
            writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// Completes the archive and gives the sink back, to be synced or published.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn finish(mut self) -> Result<W, RawError> {
        let failed = |source| RawError::Parquet {
            file: self.source.name.clone(),
            source,
        };
        self.state
            .writing(&self.source, &Schema::empty(), None)
            .map_err(failed)?;
        let written = std::mem::replace(&mut self.state, State::Failed);
        let State::Writing { mut writer, .. } = written else {
            return Err(failed(parquet::errors::ParquetError::General(
                "not begun".to_owned(),
            )));
        };
        if let Some(fault) = &self.file_fault {
            let text = serde_json::to_string(fault).ok();
            writer.append_key_value_metadata(KeyValue::new(META_FILE_FAULT.to_owned(), text));
        }
        writer.into_inner().map_err(failed)
    }
}

impl<W: Write + Send> State<W> {
    fn writing(
        &mut self,
        source: &RawSource,
        columns: &Schema,
        header: Option<&[String]>,
    ) -> Result<(&mut ArrowWriter<W>, SchemaRef, &mut usize), parquet::errors::ParquetError> {
        if let Self::Waiting(_) = self {
            let Self::Waiting(sink) = std::mem::replace(self, Self::Failed) else {
                unreachable!("it was waiting a line above");
            };
            let schema = archive_schema(columns);
            let source = serde_json::to_string(source).ok();
            let header = header.and_then(|header| serde_json::to_string(header).ok());
            let header = header.map(|names| KeyValue::new(META_HEADER.to_owned(), names));
            let mut told = vec![KeyValue::new(META_SOURCE.to_owned(), source)];
            told.extend(header);
            let properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
                .set_max_row_group_row_count(Some(GROUP_ROWS))
                .set_key_value_metadata(Some(told))
                .build();
            let writer = ArrowWriter::try_new(sink, Arc::clone(&schema), Some(properties))?;
            *self = Self::Writing {
                writer: Box::new(writer),
                schema,
                bytes: 0,
            };
        }
        match self {
            Self::Writing {
                writer,
                schema,
                bytes,
            } => Ok((writer, Arc::clone(schema), bytes)),
            _ => Err(parquet::errors::ParquetError::General(
                "an earlier write failed".to_owned(),
            )),
        }
    }
}

/// Our columns, then those of the source. A header may name a column twice; the second is stored
/// under a name of its own, nobody can ask for either.
fn archive_schema(columns: &Schema) -> SchemaRef {
    let mut fields = vec![
        Field::new(ROW, DataType::UInt64, false),
        Field::new(LINE, DataType::UInt64, false),
        Field::new(IDENTITY, DataType::Utf8, true),
        Field::new(RAW, DataType::Binary, true),
        Field::new(FAULT, DataType::Utf8, true),
    ];
    for column in columns.fields() {
        let mut name = column.name().clone();
        while fields.iter().any(|field| *field.name() == name) {
            name.push('_');
        }
        fields.push(Field::new(name, DataType::Utf8, true));
    }
    Arc::new(Schema::new(fields))
}
