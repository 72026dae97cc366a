//! Parquet: typed columns as the file has them, only the requested ones read.
//!
//! A declared type applies where it loses nothing without a word: text, and bytes that are declared,
//! are parsed like the fields of text formats, whole numbers and decimals widen, and a number that
//! the declared type cannot hold is a fault of its row. Everything else is refused when the file is
//! opened. A dotted path leads into structs and maps.
//!
//! ```text
//!   footer ─► do its places add up? ─► first batch ─► batches ─► as many rows as it says? ─► end
//!      └──────────┴──────────────────────┴► not opened  └► row by row up to the damage ─► broken
//! ```
//!
//! - A damaged file in front of whose damage no row stands is not opened at all, so that it may be
//!   sent again under its name.
//! - Which rows stand in front of the damage does not depend on how many are read at a time.
//! - A byte of a value that its page has no checksum for cannot be told from the value meant.

use super::assemble::CHUNK_BYTES_MAX;
use super::chunk::{RawChunk, Source};
use super::columns::Refused;
use super::convert::Conversion;
use super::error::{DecodeError, opening};
use super::nested::{self, Place, Step};
use super::parquet_layout::{Footer, adds_up};
use super::parquet_pages::{Pages, Values};
use super::request::{ColumnRequest, DecodeOptions};
use super::scalar::quoted;
use super::unmet::{self, LISTED_RECORDS, Unmet};
use crate::shield::shielded;
use crate::store::{FileMeta, RandomAccess, Store};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use millrace_operators::domain::{Fault, FileId, Reason, RecordId};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection, RowSelector,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::errors::ParquetError;
use parquet::file::reader::Length;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Rows that are read at a time, however many are handed out: a reader gives other values in front of
/// some damage when it is asked for other numbers of rows. Of rows that are large by the footer they are
/// fewer, so that they have about [`CHUNK_BYTES_MAX`] together; and where they are much larger than it tells,
/// because one long text is a value of many rows, they are read one by one.
const BATCH_ROWS: usize = 16_384;

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
    let access = store.random(file)?;
    let footer = opening(&file.name, || footer(&access, &file.name))?;
    let mut first_row = 0;
    let groups = footer.metadata().row_groups().iter().map(|group| {
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

pub(super) fn footer(
    access: &RandomAccess,
    file: &str,
) -> Result<ArrowReaderMetadata, DecodeError> {
    let damaged = |detail: String| DecodeError::parquet(access, file, detail);
    let footer = Footer::read(access).map_err(damaged)?;
    footer.check().map_err(damaged)?;
    let loaded = ArrowReaderMetadata::load(access, ArrowReaderOptions::new());
    let loaded = loaded.map_err(|error| damaged(error.to_string()))?;
    adds_up(loaded.metadata(), access.len()).map_err(damaged)?;
    Ok(loaded)
}

/// Opens a file and reads the first rows that are asked for.
pub(super) fn open(
    access: &RandomAccess,
    file: &str,
    id: FileId,
    columns: &[ColumnRequest],
    options: &DecodeOptions,
) -> Result<(SchemaRef, ParquetSource), DecodeError> {
    let footer = footer(access, file)?;
    let found = Arc::clone(footer.schema());
    let names = nested::names(found.fields());
    let mut wanted = Vec::with_capacity(columns.len());
    let mut fields = Vec::with_capacity(columns.len());
    for column in columns {
        let Some(place) = nested::find(found.fields(), &column.name) else {
            if let (true, Some(kind)) = (column.may_be.absent, column.kind) {
                fields.push(Field::new(
                    &column.name,
                    kind.data_type(&column.times),
                    true,
                ));
                wanted.push(None);
                continue;
            }
            let names = names.iter().map(String::as_str);
            return Err(DecodeError::unknown_column(file, column, names));
        };
        if nested::is_ambiguous(&names, &column.name) {
            return Err(DecodeError::AmbiguousColumn {
                file: file.to_owned(),
                column: column.name.clone(),
            });
        }
        let conversion = Conversion::plan(&place.kind, column)
            .ok_or_else(|| DecodeError::column_type(file, column, &place.kind))?;
        let kind = conversion.data_type(&place.kind);
        fields.push(Field::new(&column.name, kind, true));
        wanted.push(Some((place, conversion)));
    }
    let groups = footer.metadata().row_groups();
    let range = options.row_groups.clone().unwrap_or(0..groups.len());
    let range = range.start.min(groups.len())..range.end.min(groups.len());
    let count = |group: &parquet::file::metadata::RowGroupMetaData| {
        u64::try_from(group.num_rows()).unwrap_or(0)
    };
    let first_row: u64 = groups.iter().take(range.start).map(count).sum();
    let rows: u64 = groups
        .iter()
        .map(count)
        .skip(range.start)
        .take(range.len())
        .sum();
    // The reader hands columns out in the file's order, whatever the request's.
    let roots: BTreeSet<usize> = wanted
        .iter()
        .flatten()
        .map(|(place, _)| place.root)
        .collect();
    let schema = footer.parquet_schema();
    let asked: Vec<Vec<&str>> = wanted
        .iter()
        .flatten()
        .map(|(place, _)| way(&found, place))
        .collect();
    // Of a struct only the fields on the way are read.
    let is_asked = |leaf: &usize| {
        let parts = schema.column(*leaf);
        let parts = parts.path().parts();
        let begins = |way: &Vec<&str>| {
            parts
                .iter()
                .map(String::as_str)
                .zip(way)
                .all(|(a, b)| a == *b)
        };
        asked.iter().any(begins)
    };
    let leaves: Vec<usize> = (0..schema.num_columns()).filter(is_asked).collect();
    let place = |(place, conversion): (Place, Conversion)| ReadColumn {
        position: roots.range(..place.root).count(),
        steps: place.steps,
        conversion,
    };
    let missed = wanted.iter().zip(columns).map(|(read, column)| {
        let steps = read.as_ref().map(|(place, _)| place.steps.last());
        let is_key = matches!(steps, Some(Some(Step::Key(_))));
        (is_key && !column.may_be.absent).then(Vec::new)
    });
    let missed = missed.collect();
    let columns = wanted.into_iter().map(|read| read.map(place)).collect();
    let schema = Arc::new(Schema::new(fields));
    let part = Part {
        access: access.clone(),
        batch_rows: batch_rows(&footer, &leaves, &range),
        footer,
        leaves,
        groups: range,
        first_row,
        rows,
        values: Values::default(),
    };
    let mut source = ParquetSource {
        reader: None,
        one_by_one: false,
        ahead: None,
        damage: None,
        missed,
        shape: Shape {
            schema: Arc::clone(&schema),
            columns,
        },
        part,
        id,
        chunk_rows: options.chunk_rows.max(1),
        next_row: first_row,
        end_row: first_row + rows,
    };
    source.read_on();
    match source.damage.take() {
        Some(detail) if source.ahead.is_none() => Err(DecodeError::parquet(access, file, detail)),
        damage => {
            source.damage = damage;
            Ok((schema, source))
        }
    }
}

/// How many rows of these row groups are read at a time, by the bytes that the footer names.
pub(crate) fn batch_rows(
    footer: &ArrowReaderMetadata,
    leaves: &[usize],
    groups: &Range<usize>,
) -> usize {
    let groups = footer.metadata().row_groups().get(groups.clone());
    let row_bytes = |group: &parquet::file::metadata::RowGroupMetaData| -> i64 {
        let columns = leaves.iter().filter_map(|leaf| group.columns().get(*leaf));
        let bytes = columns.map(|column| {
            let stored = column.uncompressed_size() / group.num_rows().max(1);
            stored.max(i64::from(column.column_descr().type_length()))
        });
        bytes.fold(1, i64::saturating_add)
    };
    let largest = groups.unwrap_or_default().iter().map(row_bytes).max();
    let largest = usize::try_from(largest.unwrap_or(1)).unwrap_or(1);
    (CHUNK_BYTES_MAX / largest.max(1)).clamp(1, BATCH_ROWS)
}

/// The part of a file that is read, and what it takes to begin to read it anywhere.
struct Part {
    access: RandomAccess,
    footer: ArrowReaderMetadata,
    /// The columns, and fields of structs, that are asked for.
    leaves: Vec<usize>,
    groups: Range<usize>,
    first_row: u64,
    rows: u64,
    /// Rows that are read at a time.
    batch_rows: usize,
    values: Values,
}

impl Part {
    fn reader(&self, row: u64, rows: usize) -> Result<ParquetRecordBatchReader, ParquetError> {
        let schema = self.footer.parquet_schema();
        let leaves = ProjectionMask::leaves(schema, self.leaves.iter().copied());
        let found = self.footer.schema().fields();
        let levels = parquet_to_arrow_field_levels(schema, leaves, Some(found))?;
        let pages = Pages {
            access: self.access.clone(),
            metadata: Arc::clone(self.footer.metadata()),
            groups: self.groups.clone().collect(),
            values: self.values.clone(),
        };
        let number =
            |rows: u64| usize::try_from(rows).map_err(|error| ParquetError::External(error.into()));
        let offset = row - self.first_row;
        let selection = match offset {
            0 => None,
            offset => Some(RowSelection::from(vec![
                RowSelector::skip(number(offset)?),
                RowSelector::select(number(self.rows.saturating_sub(offset))?),
            ])),
        };
        ParquetRecordBatchReader::try_new_with_row_groups(&levels, &pages, rows, selection)
    }
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
    /// The way into it.
    steps: Vec<Step>,
    conversion: Conversion,
}

/// The names on the way to a column, down to where a map begins.
fn way<'n>(schema: &'n Schema, place: &'n Place) -> Vec<&'n str> {
    let mut names = vec![schema.field(place.root).name().as_str()];
    for step in &place.steps {
        match step {
            Step::Field(name) => names.push(name),
            Step::Key(_) => break,
        }
    }
    names
}

pub(super) struct ParquetSource {
    /// Nothing before the first row and behind the last.
    reader: Option<ParquetRecordBatchReader>,
    /// Whether rows are so large that the reader is asked for one at a time.
    one_by_one: bool,
    /// Rows that are read and not handed out.
    ahead: Option<RecordBatch>,
    /// What is behind them, when it is no row.
    damage: Option<String>,
    /// By column, the keys of the maps in which its own was not met so far.
    missed: Vec<Option<Vec<String>>>,
    shape: Shape,
    part: Part,
    id: FileId,
    chunk_rows: usize,
    next_row: u64,
    /// Behind the last row that the footer names.
    end_row: u64,
}

/// Rows that were read one by one, and why no more.
struct Few {
    rows: Option<RecordBatch>,
    ended: Ended,
}

enum Ended {
    /// They are as many as are read at a time.
    Rows,
    /// They have as many bytes.
    Bytes,
    File,
    Damaged(String),
}

/// What a reader says when it is asked for the next rows.
fn rows_of(reader: &mut ParquetRecordBatchReader) -> Result<Option<RecordBatch>, String> {
    match shielded(|| reader.next().transpose()) {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}

/// Reads rows with a reader that gives one at a time.
fn few_of(reader: &mut ParquetRecordBatchReader, values: &Values, rows_max: usize) -> Few {
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    let ended = loop {
        if rows.len() >= rows_max {
            break Ended::Rows;
        }
        if bytes >= CHUNK_BYTES_MAX {
            break Ended::Bytes;
        }
        values.renew();
        match rows_of(reader) {
            Ok(Some(row)) => {
                bytes = bytes.saturating_add(bytes_of(&row));
                rows.push(row);
            }
            Ok(None) => break Ended::File,
            Err(damage) => break Ended::Damaged(damage),
        }
    };
    let rows = match rows.first() {
        Some(row) => concat_batches(&row.schema(), &rows).ok(),
        None => None,
    };
    Few { rows, ended }
}

fn bytes_of(rows: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    rows.columns().iter().map(bytes).sum()
}

impl ParquetSource {
    /// Reads the next rows ahead, and the damage behind them when there is some.
    fn read_on(&mut self) {
        if self.reader.is_none() && self.next_row < self.end_row {
            match self.begun(self.part.batch_rows) {
                Ok(reader) => self.reader = Some(reader),
                Err(damage) => return self.damage = Some(damage),
            }
        }
        let Some(reader) = &mut self.reader else {
            return;
        };
        if self.one_by_one {
            let few = few_of(reader, &self.part.values, self.part.batch_rows);
            return self.take(few, None);
        }
        self.part.values.renew();
        match rows_of(reader) {
            Ok(Some(read)) => self.ahead = Some(read),
            Ok(None) => self.ended(),
            Err(damage) => self.read_up_to(damage),
        }
    }

    /// Behind the last row that there is.
    fn ended(&mut self) {
        self.reader = None;
        let ahead = self.ahead.as_ref().map_or(0, RecordBatch::num_rows);
        let found = self.next_row + u64::try_from(ahead).unwrap_or(0);
        if found != self.end_row {
            let named = self.end_row;
            self.damage = Some(format!("it has {found} rows where it names {named}"));
        }
    }

    /// Takes rows that were read one by one, because of some damage or since it was found to be none.
    fn take(&mut self, few: Few, damage: Option<String>) {
        self.ahead = few.rows;
        match (few.ended, damage) {
            // That many bytes are what a reader could not hold in one piece.
            (Ended::Bytes, _) => self.one_by_one = true,
            (Ended::Damaged(_) | Ended::File | Ended::Rows, Some(damage))
            | (Ended::Damaged(damage), None) => {
                self.reader = None;
                self.damage = Some(damage);
            }
            (Ended::File, None) => self.ended(),
            (Ended::Rows, None) => {}
        }
    }

    fn begun(&self, rows: usize) -> Result<ParquetRecordBatchReader, String> {
        match shielded(|| self.part.reader(self.next_row, rows)) {
            Ok(begun) => begun.map_err(|error| error.to_string()),
            Err(panicked) => Err(panicked.to_string()),
        }
    }

    /// Reads the rows that stand in front of some damage, one by one.
    fn read_up_to(&mut self, damage: String) {
        self.reader = None;
        let Ok(mut reader) = self.begun(1) else {
            return self.damage = Some(damage);
        };
        let few = few_of(&mut reader, &self.part.values, self.part.batch_rows);
        self.reader = Some(reader);
        self.take(few, Some(damage));
    }

    fn broken(&mut self, detail: String) -> RawChunk {
        (self.reader, self.ahead, self.damage) = (None, None, None);
        self.end_row = self.next_row;
        RawChunk::broken(&self.shape.schema, self.id, self.next_row, detail)
    }

    fn chunk(&mut self, read: &RecordBatch) -> Result<RawChunk, ArrowError> {
        let first_row = self.next_row;
        let received = u64::try_from(read.num_rows()).unwrap_or(0);
        let mut faults = Vec::new();
        let mut good = vec![true; read.num_rows()];
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.shape.columns.len());
        for (index, wanted) in self.shape.columns.iter().enumerate() {
            let Some(ReadColumn {
                position,
                steps,
                conversion,
            }) = wanted
            else {
                let kind = self.shape.schema.field(index).data_type();
                columns.push(new_null_array(kind, read.num_rows()));
                continue;
            };
            let mut refuse = |row: usize, refused: Refused| {
                let Some(good) = good.get_mut(row) else {
                    return;
                };
                if std::mem::replace(good, false) {
                    let number = first_row + u64::try_from(row).unwrap_or(0);
                    faults.push(Fault {
                        record: RecordId::new(self.id, number),
                        line: 0,
                        reason: refused.reason,
                        field: self.shape.schema.field(index).name().clone(),
                        detail: refused.detail,
                    });
                }
            };
            let reached = nested::reach(read.column(*position), steps, |row, key| {
                let detail = format!("its map has the key {} twice", quoted(key));
                let reason = Reason::RowUnreadable;
                refuse(row, Refused { reason, detail });
            })?;
            match reached.maps {
                None => self.missed[index] = None,
                Some(maps) => {
                    if let Some(there) = &mut self.missed[index] {
                        let rows = usize::try_from(first_row - self.part.first_row);
                        let rows = LISTED_RECORDS.saturating_sub(rows.unwrap_or(usize::MAX));
                        unmet::list(there, nested::keys(&maps, rows)?);
                    }
                }
            }
            columns.push(conversion.apply(&reached.values, refuse));
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
            odd_times: Vec::new(),
            received,
            originals: None,
        })
    }
}

impl Source for ParquetSource {
    fn unmet(&self) -> Vec<Unmet> {
        if self.next_row == self.part.first_row {
            return Vec::new();
        }
        let fields = self.shape.schema.fields().iter().zip(&self.missed);
        let columns = fields.zip(&self.shape.columns);
        let unmet = columns.filter_map(|((field, missed), column)| {
            let Step::Key(key) = column.as_ref()?.steps.last()? else {
                return None;
            };
            let map = field.name().strip_suffix(key.as_str()).unwrap_or_default();
            let keys = missed.as_ref()?.iter();
            Some(Unmet {
                field: field.name().clone(),
                there: keys.map(|key| format!("{map}{key}")).collect(),
            })
        });
        unmet.collect()
    }

    fn next_chunk(&mut self) -> Option<RawChunk> {
        if self.ahead.is_none() && self.damage.is_none() {
            self.read_on();
        }
        let Some(ahead) = self.ahead.take() else {
            let damage = self.damage.take()?;
            let rows = self.next_row;
            return Some(self.broken(format!(
                "the file is damaged behind its first {rows} rows: {damage}"
            )));
        };
        let rows = ahead.num_rows().min(self.chunk_rows);
        let read = ahead.slice(0, rows);
        self.ahead = (rows < ahead.num_rows()).then(|| ahead.slice(rows, ahead.num_rows() - rows));
        if self.next_row + u64::try_from(read.num_rows()).unwrap_or(0) >= RecordId::ROWS_MAX {
            return Some(self.broken("the file has more than 2^40 rows".to_owned()));
        }
        match self.chunk(&read) {
            Ok(chunk) => Some(chunk),
            Err(error) => Some(self.broken(format!("a column does not convert: {error}"))),
        }
    }
}
