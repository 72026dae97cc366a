//! One file of an output: Parquet, or JSON lines.

use crate::store::{NewFile, Store, StoreError};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, LineDelimitedWriter, WriterBuilder};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// A Parquet file being written; it appears when it is finished.
pub struct ParquetFile {
    writer: ArrowWriter<NewFile>,
    rows: usize,
}

impl ParquetFile {
    /// Starts a file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(store: &Store, name: &str, schema: &SchemaRef) -> Result<Self, OutputError> {
        Self::of(store.create(name)?, schema)
    }

    /// Starts a file whose digest is asked for.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create_digesting(
        store: &Store,
        name: &str,
        schema: &SchemaRef,
    ) -> Result<Self, OutputError> {
        Self::of(store.create(name)?.digesting(), schema)
    }

    fn of(file: NewFile, schema: &SchemaRef) -> Result<Self, OutputError> {
        let level = ZstdLevel::try_new(1).map_err(OutputError::Parquet)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(1 << 20));
        // Positions and times rise: their differences are small, and no two rows share a value.
        for column in ["row", "event_time"] {
            let path = ColumnPath::from(column);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
        let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties.build()))?;
        Ok(Self { writer, rows: 0 })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        self.rows += batch.num_rows();
        Ok(self.writer.write(batch)?)
    }

    /// Rows written so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When the last rows cannot be written.
    pub fn finish(self) -> Result<(), OutputError> {
        Ok(self.close()?.finish()?)
    }

    /// The same, and says the digest of all its bytes, where that is asked for.
    ///
    /// # Errors
    /// When the last rows cannot be written.
    pub fn finish_digested(self) -> Result<Option<String>, OutputError> {
        let file = self.close()?;
        let digest = file.digest();
        file.finish()?;
        Ok(digest)
    }

    /// Writes the last rows; the file is whole, and still to be put in its place.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn close(self) -> Result<NewFile, OutputError> {
        Ok(self.writer.into_inner()?)
    }
}

/// A file of JSON lines being written; it appears when it is finished. Decimals and times are text,
/// so that no reader turns money into binary floats.
pub struct JsonFile {
    writer: LineDelimitedWriter<NewFile>,
}

impl JsonFile {
    /// Starts a file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(store: &Store, name: &str) -> Result<Self, OutputError> {
        let writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, LineDelimited>(store.create(name)?);
        Ok(Self { writer })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        Ok(self.writer.write(&decimals_as_text(batch)?)?)
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When the last rows cannot be written.
    pub fn finish(mut self) -> Result<(), OutputError> {
        self.writer.finish()?;
        Ok(self.writer.into_inner().finish()?)
    }
}

/// The batch with its decimals as text: as JSON numbers most readers would take them for binary
/// floats.
///
/// # Errors
/// Never for decimals, which all have a text; the contract of a cast.
pub fn decimals_as_text(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if matches!(field.data_type(), DataType::Decimal128(..)) {
            fields.push(Field::new(
                field.name(),
                DataType::Utf8,
                field.is_nullable(),
            ));
            columns.push(cast(column, &DataType::Utf8)?);
        } else {
            fields.push(field.as_ref().clone());
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Why an output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Parquet writer failed; the disk may be full.
    #[error("cannot write Parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// Rows do not fit their columns.
    #[error("cannot encode rows: {0}")]
    Arrow(#[from] ArrowError),
}
