//! Puts fields of text formats together to a chunk: typed columns, row numbers, faults.

use super::chunk::{OddTime, Originals, RawChunk};
use super::columns::{ColumnBuilder, Refused};
use super::kind::ColumnType;
use super::request::{ColumnRequest, text_schema};
use super::scalar::quoted;
use super::unmet::{Met, Unmet};
use arrow::array::{BinaryBuilder, BooleanArray, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millrace_operators::domain::{Fault, FileId, Reason, RecordId};
use std::sync::Arc;

/// Bytes of records behind which a chunk ends, however few its rows are. A record more may stand in it, and a
/// column holds 2 GiB at most.
pub const CHUNK_BYTES_MAX: usize = 64 << 20;

/// The chunk in the making.
pub(crate) struct Assembler {
    file: FileId,
    schema: SchemaRef,
    names: Vec<String>,
    columns: Vec<ColumnRequest>,
    builders: Vec<ColumnBuilder>,
    rows: Vec<u64>,
    lines: Vec<u64>,
    good: Vec<bool>,
    any_bad: bool,
    faults: Vec<Fault>,
    next_row: u64,
    received: u64,
    /// Bytes of values and originals since the last chunk.
    bytes: usize,
    originals: Option<OriginalsBuilder>,
    /// Which fields records have had, where each names its own.
    met: Met,
}

struct OriginalsBuilder {
    rows: Vec<u64>,
    lines: Vec<u64>,
    schema: SchemaRef,
    columns: Vec<StringBuilder>,
    raw: BinaryBuilder,
    header: Option<Arc<[String]>>,
}

impl Assembler {
    pub(crate) fn new(file: FileId, columns: &[ColumnRequest]) -> Self {
        let builder = |column: &ColumnRequest| {
            ColumnBuilder::new(column.kind.unwrap_or(ColumnType::Text), column)
        };
        Self {
            file,
            schema: text_schema(columns),
            names: columns.iter().map(|column| column.name.clone()).collect(),
            columns: columns.to_vec(),
            builders: columns.iter().map(builder).collect(),
            rows: Vec::new(),
            lines: Vec::new(),
            good: Vec::new(),
            any_bad: false,
            faults: Vec::new(),
            next_row: 0,
            received: 0,
            bytes: 0,
            originals: None,
            met: Met::new(columns),
        }
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The requested columns.
    pub(super) fn columns(&self) -> &[ColumnRequest] {
        &self.columns
    }

    /// From now on keeps records as they stood, with these source columns.
    pub(super) fn keep_originals(&mut self, columns: &[String]) {
        let fields: Vec<Field> = columns
            .iter()
            .map(|name| Field::new(name, DataType::Utf8, true))
            .collect();
        self.originals = Some(OriginalsBuilder {
            rows: Vec::new(),
            lines: Vec::new(),
            columns: columns
                .iter()
                .map(|_| StringBuilder::with_capacity(0, 0))
                .collect(),
            schema: Arc::new(Schema::new(fields)),
            raw: BinaryBuilder::new(),
            header: None,
        });
    }

    /// From now on keeps records as their bytes, which have these columns.
    pub(super) fn keep_wide_originals(&mut self, header: &[String]) {
        self.keep_originals(&[]);
        if let Some(originals) = &mut self.originals {
            originals.header = Some(Arc::from(header));
        }
    }

    /// Whether [`Self::original_fields`] and [`Self::original_bytes`] have anything to do.
    pub(super) fn keeps_originals(&self) -> bool {
        self.originals.is_some()
    }

    /// Keeps the current record field by field; its bytes, too, where fields do not spell them.
    pub(super) fn original_fields<'f>(
        &mut self,
        line: u64,
        fields: impl Iterator<Item = &'f str>,
        bytes: Option<&[u8]>,
    ) {
        if let Some(originals) = &mut self.originals {
            originals.rows.push(self.next_row);
            originals.lines.push(line);
            originals.raw.append_option(bytes);
            for (builder, field) in originals.columns.iter_mut().zip(fields) {
                builder.append_value(field);
                self.bytes += field.len() + size_of::<i32>();
            }
        }
    }

    /// Keeps the current record as bytes, and its name in the object around it where it has one.
    pub(super) fn original_bytes(&mut self, line: u64, key: Option<&str>, bytes: &[u8]) {
        if let Some(originals) = &mut self.originals {
            originals.rows.push(self.next_row);
            originals.lines.push(line);
            originals.raw.append_value(bytes);
            self.bytes += bytes.len() + originals.columns.len() * size_of::<i32>();
            let mut key = key;
            originals
                .columns
                .iter_mut()
                .for_each(|column| column.append_option(key.take()));
        }
    }

    /// Moves on to row number `row` before it is begun or rejected, where numbers have gaps.
    pub(crate) fn seek(&mut self, row: u64) {
        self.next_row = row;
    }

    /// Begins a row; each column must get one value before [`Self::end_row`].
    pub(crate) fn begin_row(&mut self, line: u64) {
        self.rows.push(self.next_row);
        self.lines.push(line);
        self.good.push(true);
    }

    /// The current row has the field of column `column`, whatever its value.
    pub(super) fn meet(&mut self, column: usize) {
        self.met.meet(column);
    }

    /// The text of the current row, whose fields it names itself.
    pub(super) fn read(&mut self, record: &str) {
        self.met.read(record);
    }

    /// The fields that no row has had.
    pub(crate) fn unmet(&self) -> Vec<Unmet> {
        self.met.unmet(&self.names)
    }

    /// The value of column `column` in the current row.
    pub(crate) fn value(&mut self, column: usize, text: Option<&str>) {
        let Some(builder) = self.builders.get_mut(column) else {
            return;
        };
        // An empty text is no number, boolean or time: it is empty, in every format.
        let is_text = builder.kind() == ColumnType::Text;
        let Some(text) = text.filter(|text| is_text || !text.is_empty()) else {
            return builder.append_null();
        };
        self.bytes += text.len();
        if let Err(Refused { reason, detail }) = builder.append(text) {
            self.current_row_is_bad(column, reason, detail);
        }
    }

    /// The value of column `column` in the current row, which has bytes that are no text: each stands as
    /// U+FFFD in the texts of its fields, and a field with one is not read.
    pub(crate) fn damaged_value(&mut self, column: usize, text: Option<&str>) {
        match text.filter(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
            Some(text) => {
                self.unreadable_value(column, format!("{} is not UTF-8 text", quoted(text)));
            }
            None => self.value(column, text),
        }
    }

    /// A column of the current row whose bytes are no text.
    pub(crate) fn unreadable_value(&mut self, column: usize, detail: String) {
        if let Some(builder) = self.builders.get_mut(column) {
            builder.append_null();
        }
        self.current_row_is_bad(column, Reason::FieldUnparsable, detail);
    }

    fn current_row_is_bad(&mut self, column: usize, reason: Reason, detail: String) {
        self.any_bad = true;
        let first_fault = match self.good.last_mut() {
            Some(good) => std::mem::replace(good, false),
            None => false,
        };
        if first_fault {
            let line = self.lines.last().copied().unwrap_or(0);
            let field = self.names.get(column).cloned().unwrap_or_default();
            self.fault(line, reason, field, detail);
        }
    }

    pub(crate) fn end_row(&mut self) {
        self.next_row += 1;
        self.received += 1;
    }

    /// A record that is no row.
    pub(crate) fn reject(&mut self, line: u64, detail: String) {
        self.fault(line, Reason::RowUnreadable, String::new(), detail);
        self.end_row();
    }

    /// A record that is no row for another reason than being unreadable.
    pub(crate) fn set_aside(&mut self, reason: Reason, field: &str, detail: String) {
        self.fault(0, reason, field.to_owned(), detail);
        self.end_row();
    }

    /// The end of the file is not its true end.
    pub(crate) fn file_fault(&mut self, line: u64, detail: String) {
        self.fault(line, Reason::FileUnreadable, String::new(), detail);
    }

    fn fault(&mut self, line: u64, reason: Reason, field: String, detail: String) {
        let row = self.next_row.min(RecordId::ROWS_MAX - 1);
        let record = RecordId::new(self.file, row);
        self.faults.push(Fault {
            record,
            line,
            reason,
            field,
            detail,
        });
    }

    /// Whether the chunk has so many rows, or as many bytes as any may have.
    pub(super) fn is_chunk(&self, rows: u64) -> bool {
        self.received >= rows || self.bytes >= CHUNK_BYTES_MAX
    }

    /// The number of the next row.
    pub(super) fn next_row(&self) -> u64 {
        self.next_row
    }

    /// Whether the next row could not be numbered any more.
    pub(crate) fn is_full(&self) -> bool {
        self.next_row >= RecordId::ROWS_MAX
    }

    /// The chunk; `None` when nothing was met since the last.
    pub(crate) fn finish(&mut self) -> Option<RawChunk> {
        if self.received == 0 && self.faults.is_empty() {
            return None;
        }
        let columns = self
            .builders
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect();
        let count = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        self.bytes = 0;
        let mut batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &count)
                .expect("every row put one value into every column");
        let mut odd_times = Vec::new();
        for (name, builder) in self.names.iter().zip(&mut self.builders) {
            let column: Arc<str> = Arc::from(name.as_str());
            odd_times.extend(builder.take_odd().into_iter().filter_map(|(place, text)| {
                Some(OddTime {
                    row: *self.rows.get(place)?,
                    column: Arc::clone(&column),
                    text,
                })
            }));
        }
        odd_times.sort_by_key(|odd| odd.row);
        let mut rows = std::mem::take(&mut self.rows);
        let mut lines = std::mem::take(&mut self.lines);
        let good = std::mem::take(&mut self.good);
        if std::mem::take(&mut self.any_bad) {
            let keep = |values: Vec<u64>| -> Vec<u64> {
                values
                    .into_iter()
                    .zip(&good)
                    .filter(|(_, good)| **good)
                    .map(|(v, _)| v)
                    .collect()
            };
            (rows, lines) = (keep(rows), keep(lines));
            batch = filter_record_batch(&batch, &BooleanArray::from(good.clone()))
                .expect("the mask has one entry per row");
        }
        Some(RawChunk {
            rows,
            lines,
            batch,
            faults: std::mem::take(&mut self.faults),
            odd_times,
            received: std::mem::take(&mut self.received),
            originals: self.originals.as_mut().map(OriginalsBuilder::finish),
        })
    }
}

impl OriginalsBuilder {
    fn finish(&mut self) -> Originals {
        let rows = std::mem::take(&mut self.rows);
        let columns = self
            .columns
            .iter_mut()
            .map(|builder| Arc::new(builder.finish()) as _);
        let count = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let columns =
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect(), &count)
                .expect("every record put one value into every column");
        Originals {
            rows,
            lines: std::mem::take(&mut self.lines),
            columns,
            raw: self.raw.finish(),
            header: self.header.clone(),
        }
    }
}
