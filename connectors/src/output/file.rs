//! One file of an output: Parquet, or JSON lines.

use super::columns::decimals_of;
use crate::names::UnknownName;
use crate::store::{NewFile, Store, StoreError, Waiting};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, LineDelimitedWriter, WriterBuilder};
use millrace_operators::domain::exact_text;
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

    /// The same in a file that was started.
    ///
    /// # Errors
    /// When the schema has no Parquet form.
    pub fn of(file: NewFile, schema: &SchemaRef) -> Result<Self, OutputError> {
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

    /// Puts the file in its place, see [`NewFile::finish`].
    ///
    /// # Errors
    /// When the last rows cannot be written.
    pub fn finish(self) -> Result<Option<Waiting>, OutputError> {
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
    /// Lines in a file that was started.
    #[must_use]
    pub fn of(file: NewFile) -> Self {
        let writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, LineDelimited>(file);
        Self { writer }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        Ok(self.writer.write(&decimals_as_text(batch)?)?)
    }

    /// Puts the file in its place, see [`NewFile::finish`].
    ///
    /// # Errors
    /// When the last rows cannot be written.
    pub fn finish(mut self) -> Result<Option<Waiting>, OutputError> {
        self.writer.finish()?;
        Ok(self.writer.into_inner().finish()?)
    }
}

/// The batch with its decimals as text: as JSON numbers most readers would take them for binary
/// floats.
///
/// # Errors
/// Never: a text is nullable where its decimal was.
///
/// # Panics
/// When a decimal has zeros before its point for decimals, which none of an output has.
pub fn decimals_as_text(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if let DataType::Decimal128(_, scale) = field.data_type() {
            fields.push(Field::new(
                field.name(),
                DataType::Utf8,
                field.is_nullable(),
            ));
            let scale = decimals_of(*scale);
            let units = column.as_primitive::<Decimal128Type>().iter();
            let texts = units.map(|units| units.map(|units| exact_text(units, scale)));
            columns.push(Arc::new(texts.collect::<StringArray>()) as ArrayRef);
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
    Arrow(#[source] ArrowError),
    /// Rows have a key without a text.
    #[error(
        "{0}: the durable state has lost it. Give `durability.folder` an empty folder to read all sources \
         from their beginning (and the outputs topics without messages, where they are topics)"
    )]
    Unknown(#[from] UnknownName),
}

impl From<ArrowError> for OutputError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(inner) => match inner.downcast::<UnknownName>() {
                Ok(unknown) => Self::Unknown(*unknown),
                Err(inner) => Self::Arrow(ArrowError::ExternalError(inner)),
            },
            error => Self::Arrow(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::CsvFile;
    use crate::output::columns::{decimals, money};
    use millrace_operators::domain::{Amount, Total};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::fs::{File, read_to_string};

    /// Around every power of ten that a column holds, on both sides of nothing.
    fn numbers() -> Vec<i128> {
        let mut numbers = vec![0, Amount::MAX.0];
        for power in 0..38 {
            let ten = 10_i128.pow(power);
            numbers.extend([ten - 1, ten, ten + 1, ten / 4 * 13]);
        }
        numbers.extend(numbers.clone().iter().map(|number| -number));
        numbers
    }

    /// By hand, from the digits: the point stands before the 24th from the end.
    fn by_hand(number: i128) -> String {
        let digits = format!("{:025}", number.unsigned_abs());
        let (whole, fraction) = digits.split_at(digits.len() - 24);
        let sign = if number < 0 { "-" } else { "" };
        format!("{sign}{whole}.{fraction}")
    }

    #[test]
    fn every_writer_writes_every_digit() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("out", folder.path()).unwrap();
        let schema = Arc::new(Schema::new(vec![money("amount")]));
        let numbers = numbers();
        let column = decimals(numbers.iter().map(|number| Some(*number)), 24);
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        let mut parquet = ParquetFile::create(&store, "a.parquet", &schema).unwrap();
        parquet.write(&batch).unwrap();
        parquet.finish().unwrap();
        let mut json = JsonFile::of(store.create("a.jsonl").unwrap());
        json.write(&batch).unwrap();
        json.finish().unwrap();
        let mut csv = CsvFile::of(store.create("a.csv").unwrap(), &schema).unwrap();
        csv.write(&batch).unwrap();
        csv.finish().unwrap();

        let at = |name: &str| folder.path().join("out").join(name);
        let file = File::open(at("a.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let mut kept = Vec::new();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            assert_eq!(batch.column(0).data_type(), &DataType::Decimal128(38, 24));
            kept.extend_from_slice(batch.column(0).as_primitive::<Decimal128Type>().values());
        }
        assert_eq!(kept, numbers);
        let (json, csv) = (read_to_string(at("a.jsonl")), read_to_string(at("a.csv")));
        let (json, csv) = (json.unwrap(), csv.unwrap());
        assert_eq!(json.lines().count(), numbers.len());
        let rows = json.lines().zip(csv.lines().skip(1)).zip(&numbers);
        for ((json, csv), number) in rows {
            let text = by_hand(*number);
            assert_eq!(json, format!("{{\"amount\":\"{text}\"}}"));
            let plain = text.trim_end_matches('0').trim_end_matches('.');
            assert_eq!(csv, plain);
            // What tables and bills show.
            assert_eq!(Amount(*number).to_string(), plain);
            assert_eq!(Total::<24>::from_i128(*number).to_string(), plain);
        }
    }

    #[test]
    #[should_panic(expected = "38 digits at most")]
    fn a_number_that_no_column_holds_is_no_column() {
        decimals([Some(1), Some(10_i128.pow(38))].into_iter(), 24);
    }
}
