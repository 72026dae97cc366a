//! Parquet: typed columns as the file has them, only the requested ones read.
//!
//! A declared type applies where it loses nothing: text is parsed like the fields of text formats,
//! whole numbers and decimals widen. Everything else is refused when the file is opened.

use super::convert::Conversion;
use super::error::DecodeError;
use super::{ColumnRequest, DecodeOptions, RawChunk, Source};
use crate::store::{FileMeta, RandomAccess, Store};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millrace_operators::domain::{Fault, FileId, Reason, RecordId};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A part of a Parquet file that can be read by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroup {
    /// Number of its first row in the file.
    pub first_row: u64,
    /// Its rows.
    pub rows: u64,
    /// Its bytes in the file, compressed.
    pub bytes: u64,
}

/// The row groups of a Parquet file, so that workers can share one.
///
/// # Errors
/// When the file cannot be opened or has no readable footer.
pub fn row_groups(store: &Store, file: &FileMeta) -> Result<Vec<RowGroup>, DecodeError> {
    let builder = reader_builder(store.random(file)?, &file.name)?;
    let mut first_row = 0;
    let groups = builder.metadata().row_groups().iter().map(|group| {
        let rows = u64::try_from(group.num_rows()).unwrap_or(0);
        let bytes = u64::try_from(group.compressed_size()).unwrap_or(0);
        let start = first_row;
        first_row += rows;
        RowGroup {
            first_row: start,
            rows,
            bytes,
        }
    });
    Ok(groups.collect())
}

fn reader_builder(
    access: RandomAccess,
    file: &str,
) -> Result<ParquetRecordBatchReaderBuilder<RandomAccess>, DecodeError> {
    ParquetRecordBatchReaderBuilder::try_new(access).map_err(|error| DecodeError::Parquet {
        file: file.to_owned(),
        detail: error.to_string(),
    })
}

pub(super) fn open(
    access: RandomAccess,
    file: &str,
    id: FileId,
    columns: &[ColumnRequest],
    options: &DecodeOptions,
) -> Result<(SchemaRef, ParquetSource), DecodeError> {
    let builder = reader_builder(access, file)?;
    let names: Vec<&str> = builder
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    let mut wanted = Vec::with_capacity(columns.len());
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let Some(root) = names.iter().position(|name| *name == column.name) else {
            if let (true, Some(kind)) = (column.may_be.absent, column.kind) {
                fields.push(Field::new(&column.name, kind.data_type(), true));
                wanted.push(None);
                continue;
            }
            let names = names.iter().copied();
            return Err(DecodeError::unknown_column(file, column, names));
        };
        let found = builder.schema().field(root).data_type().clone();
        let conversion =
            Conversion::plan(&found, column.kind).ok_or_else(|| DecodeError::ColumnType {
                file: file.to_owned(),
                column: column.name.clone(),
                found: found.to_string(),
                declared: column
                    .kind
                    .map_or_else(String::new, |kind| kind.to_string()),
            })?;
        fields.push(Field::new(&column.name, conversion.data_type(&found), true));
        wanted.push(Some((root, conversion)));
    }
    let metadata = Arc::clone(builder.metadata());
    let groups = metadata.row_groups();
    let range = options.row_groups.clone().unwrap_or(0..groups.len());
    let count = |group: &parquet::file::metadata::RowGroupMetaData| {
        u64::try_from(group.num_rows()).unwrap_or(0)
    };
    let next_row = groups.iter().take(range.start).map(count).sum();
    let range = range.start.min(groups.len())..range.end.min(groups.len());
    // The reader hands columns out in the file's order, whatever the request's.
    let roots: BTreeSet<usize> = wanted.iter().flatten().map(|(root, _)| *root).collect();
    let projection = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
    let place = |(root, conversion): (usize, Conversion)| ReadColumn {
        position: roots.range(..root).count(),
        conversion,
    };
    let columns = wanted.into_iter().map(|read| read.map(place)).collect();
    let reader = builder
        .with_projection(projection)
        .with_row_groups(range.collect())
        .with_batch_size(options.chunk_rows.max(1))
        .build()
        .map_err(|error| DecodeError::Parquet {
            file: file.to_owned(),
            detail: error.to_string(),
        })?;
    let schema = Arc::new(Schema::new(fields));
    let shape = Shape {
        schema: Arc::clone(&schema),
        columns,
    };
    Ok((
        schema,
        ParquetSource {
            reader,
            shape,
            id,
            next_row,
            done: false,
        },
    ))
}

struct Shape {
    schema: SchemaRef,
    /// The columns in the order of the request; `None` for one that may be absent, and is.
    columns: Vec<Option<ReadColumn>>,
}

/// A column of the file that is read.
struct ReadColumn {
    /// Which of the columns read it is, in the order of the file.
    position: usize,
    conversion: Conversion,
}

pub(super) struct ParquetSource {
    reader: ParquetRecordBatchReader,
    shape: Shape,
    id: FileId,
    next_row: u64,
    done: bool,
}

impl ParquetSource {
    fn file_fault(&mut self, detail: String) -> RawChunk {
        self.done = true;
        let record = RecordId::new(self.id, self.next_row.min(RecordId::ROWS_MAX - 1));
        let (reason, field) = (Reason::FileUnreadable, String::new());
        RawChunk {
            rows: Vec::new(),
            lines: Vec::new(),
            batch: RecordBatch::new_empty(Arc::clone(&self.shape.schema)),
            faults: vec![Fault {
                record,
                line: 0,
                reason,
                field,
                detail,
            }],
            received: 0,
            originals: None,
        }
    }

    fn chunk(&mut self, read: &RecordBatch) -> Result<RawChunk, arrow::error::ArrowError> {
        let first_row = self.next_row;
        let received = u64::try_from(read.num_rows()).unwrap_or(0);
        let mut faults = Vec::new();
        let mut good = vec![true; read.num_rows()];
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.shape.columns.len());
        for (index, wanted) in self.shape.columns.iter().enumerate() {
            let Some(ReadColumn {
                position,
                conversion,
            }) = wanted
            else {
                let kind = self.shape.schema.field(index).data_type();
                columns.push(new_null_array(kind, read.num_rows()));
                continue;
            };
            let column = read.column(*position);
            columns.push(conversion.apply(column, |row, detail| {
                let Some(good) = good.get_mut(row) else {
                    return;
                };
                if std::mem::replace(good, false) {
                    let number = first_row + u64::try_from(row).unwrap_or(0);
                    faults.push(Fault {
                        record: RecordId::new(self.id, number),
                        line: 0,
                        reason: Reason::FieldUnparsable,
                        field: self.shape.schema.field(index).name().clone(),
                        detail,
                    });
                }
            })?);
        }
        let count = RecordBatchOptions::new().with_row_count(Some(read.num_rows()));
        let mut batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.shape.schema), columns, &count)?;
        self.next_row += received;
        let mut rows: Vec<u64> = (first_row..self.next_row).collect();
        if !faults.is_empty() {
            let mut mask = good.iter();
            rows.retain(|_| mask.next().copied().unwrap_or(true));
            batch = filter_record_batch(&batch, &BooleanArray::from(good))?;
        }
        Ok(RawChunk {
            rows,
            lines: Vec::new(),
            batch,
            faults,
            received,
            originals: None,
        })
    }
}

impl Source for ParquetSource {
    fn next_chunk(&mut self) -> Option<RawChunk> {
        if self.done {
            return None;
        }
        let read = match self.reader.next() {
            None => {
                self.done = true;
                return None;
            }
            Some(Ok(read)) => read,
            Some(Err(error)) => {
                return Some(self.file_fault(format!("the file is damaged: {error}")));
            }
        };
        if self.next_row + u64::try_from(read.num_rows()).unwrap_or(0) >= RecordId::ROWS_MAX {
            return Some(self.file_fault("the file has more than 2^40 rows".to_owned()));
        }
        match self.chunk(&read) {
            Ok(chunk) => Some(chunk),
            Err(error) => Some(self.file_fault(format!("a column does not convert: {error}"))),
        }
    }
}
