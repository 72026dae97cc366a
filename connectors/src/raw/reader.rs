//! Reads an archive as if it were its source.

use super::writer::RawSource;
use super::{FAULT, LINE, META_FILE_FAULT, META_HEADER, META_SOURCE, RAW, ROW};
use crate::decode::{
    Assembler, ColumnRequest, DecodeError, DecodeOptions, Decoder, KEY_COLUMN, Kept, RawChunk,
    Source, Unmet, batch_rows, opening, text_schema,
};
use crate::store::{FileMeta, Store};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use millrace_operators::domain::Fault;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

/// Opens an archive for decoding it again, with any columns of its source. The chunks are those that
/// the source would give, with the same row numbers, under the same file number.
///
/// # Errors
/// When the archive cannot be read, is none, or its source has no such column.
pub fn open_archive(
    store: &Store,
    archive: &FileMeta,
    columns: &[ColumnRequest],
    options: &DecodeOptions,
) -> Result<(RawSource, Decoder), DecodeError> {
    opening(&archive.name, || opened(store, archive, columns, options))
}

fn opened(
    store: &Store,
    archive: &FileMeta,
    columns: &[ColumnRequest],
    options: &DecodeOptions,
) -> Result<(RawSource, Decoder), DecodeError> {
    let failed = |detail: String| DecodeError::Parquet {
        file: archive.name.clone(),
        detail,
    };
    let access = store.random(archive)?;
    let footer = ArrowReaderMetadata::load(&access, ArrowReaderOptions::new());
    let footer =
        footer.map_err(|error| DecodeError::parquet(&access, &archive.name, error.to_string()))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(access, footer.clone());
    let entries = builder.metadata().file_metadata().key_value_metadata();
    let entry = |key: &str| -> Option<&str> {
        entries?
            .iter()
            .find(|entry| entry.key == key)?
            .value
            .as_deref()
    };
    let source: RawSource = entry(META_SOURCE)
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| failed("it is no archive of raw records".to_owned()))?;
    let file_fault: Option<Fault> =
        entry(META_FILE_FAULT).and_then(|text| serde_json::from_str(text).ok());
    let header: Option<Vec<String>> =
        entry(META_HEADER).and_then(|text| serde_json::from_str(text).ok());
    let kept = source
        .format
        .kept(&source.name, header.as_deref(), columns)?;

    let names: Vec<&str> = builder
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    let mut wanted: Vec<String> = [ROW, LINE, RAW, FAULT].map(str::to_owned).to_vec();
    // An archive without records has no columns, as a source without a header has none.
    let is_empty = builder.metadata().file_metadata().num_rows() == 0;
    if matches!(kept, Kept::Columns) {
        for column in columns {
            if names.contains(&column.name.as_str()) {
                wanted.push(column.name.clone());
            } else if !is_empty && !column.may_be.absent {
                let own = |name: &&str| !name.starts_with("millrace_");
                let available = names.iter().copied().filter(own);
                return Err(DecodeError::unknown_column(&source.name, column, available));
            }
        }
    }
    if names.contains(&KEY_COLUMN) {
        wanted.push(KEY_COLUMN.to_owned());
    }
    let roots = names
        .iter()
        .enumerate()
        .filter(|(_, name)| wanted.iter().any(|w| w == *name));
    // Every column is flat: what it is called is what is read.
    let roots: Vec<usize> = roots.map(|(root, _)| root).collect();
    let groups = 0..footer.metadata().num_row_groups();
    let rows = batch_rows(&footer, &roots, &groups).min(options.chunk_rows.max(1));
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(rows)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let assembler = Assembler::new(source.file, columns);
    let key_column = assembler.names().iter().position(|name| name == KEY_COLUMN);
    let file = source.file;
    let archived = Archived {
        reader,
        assembler,
        kept,
        key_column,
        file_fault,
        done: false,
    };
    Ok((
        source,
        Decoder::from_source(file, text_schema(columns), Box::new(archived)),
    ))
}

struct Archived {
    reader: ParquetRecordBatchReader,
    assembler: Assembler,
    kept: Kept,
    key_column: Option<usize>,
    file_fault: Option<Fault>,
    done: bool,
}

impl Archived {
    fn read(&mut self, batch: &RecordBatch) {
        let column = |name: &str| batch.column_by_name(name);
        let numbers = |name: &str| column(name).map(|column| column.as_primitive::<UInt64Type>());
        let texts = |name: &str| column(name).and_then(|column| column.as_string_opt::<i32>());
        let raw = column(RAW).and_then(|column| column.as_binary_opt::<i32>());
        let (Some(rows), Some(lines), Some(faults), Some(raw)) =
            (numbers(ROW), numbers(LINE), texts(FAULT), raw)
        else {
            return self
                .assembler
                .file_fault(0, "the archive lacks its own columns".to_owned());
        };
        let names: Vec<String> = self.assembler.names().to_vec();
        let fields: Vec<_> = names.iter().map(|name| texts(name)).collect();
        let keys = texts(KEY_COLUMN);
        for index in 0..batch.num_rows() {
            let line = lines.value(index);
            self.assembler.seek(rows.value(index));
            if faults.is_valid(index) {
                self.assembler.reject(line, faults.value(index).to_owned());
                continue;
            }
            match &self.kept {
                Kept::Named(paths) => {
                    let key = keys
                        .filter(|keys| keys.is_valid(index))
                        .map(|keys| keys.value(index));
                    let key = key.and_then(|key| Some((self.key_column?, key)));
                    paths.record(raw.value(index), line, key, &mut self.assembler);
                }
                Kept::Bytes(records) => {
                    records.record(raw.value(index), line, &mut self.assembler);
                }
                Kept::Columns => {
                    self.assembler.begin_row(line);
                    for (position, field) in fields.iter().enumerate() {
                        let text = field.filter(|field| field.is_valid(index));
                        let text = text.map(|field| field.value(index));
                        let text = text.filter(|text| !text.is_empty());
                        match raw.is_valid(index) {
                            true => self.assembler.damaged_value(position, text),
                            false => self.assembler.value(position, text),
                        }
                    }
                    self.assembler.end_row();
                }
            }
        }
    }
}

impl Source for Archived {
    fn unmet(&self) -> Vec<Unmet> {
        match self.kept {
            Kept::Named(_) => self.assembler.unmet(),
            Kept::Columns | Kept::Bytes(_) => Vec::new(),
        }
    }

    fn next_chunk(&mut self) -> Option<RawChunk> {
        if self.done {
            return None;
        }
        match self.reader.next() {
            Some(Ok(batch)) => self.read(&batch),
            Some(Err(error)) => {
                self.done = true;
                self.assembler
                    .file_fault(0, format!("the archive is damaged: {error}"));
            }
            None => {
                self.done = true;
                if let Some(fault) = self.file_fault.take() {
                    self.assembler.seek(fault.record.row());
                    self.assembler.file_fault(fault.line, fault.detail);
                }
            }
        }
        self.assembler.finish()
    }
}
