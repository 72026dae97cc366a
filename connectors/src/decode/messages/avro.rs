//! Messages in Avro, each with the id of the schema that it was written with.
//!
//! Whatever they were written with, they are read into the registry's latest schema of the subject
//! as of the start, so that every chunk has the same columns. Messages of one schema are decoded
//! together; one that cannot be decoded spoils its decoder, which is then made anew and fed the
//! good ones before it again.

use super::super::chunk::RawChunk;
use super::super::columns::{ColumnBuilder, Refused};
use super::super::convert::Conversion;
use super::super::error::DecodeError;
use super::super::kind::ColumnType;
use super::super::nested;
use super::super::request::ColumnRequest;
use super::super::scalar::quoted;
use super::avro_size::items_without_bytes;
use super::metadata::Metadata;
use super::registry::Registry;
use crate::kafka::{Message, TopicPartition};
use crate::shield::shielded;
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_avro::reader::{Decoder, ReaderBuilder};
use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
use millrace_operators::domain::{Fault, FileId, Reason, RecordId};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A zero and the schema's id, most significant byte first.
const PREFIX_BYTES: usize = 5;
/// More rows than a chunk ever has.
const BATCH_ROWS: usize = 1 << 24;

pub(super) struct AvroMessages {
    file: FileId,
    schema: SchemaRef,
    columns: Vec<Column>,
    registry: Arc<Registry>,
    reader: Arc<str>,
    /// A decoder for each schema that was met, by its id; or why there is none.
    decoders: BTreeMap<u32, Result<Reading, String>>,
    /// The messages of the chunk one behind the other, and where each begins and ends.
    bytes: Vec<u8>,
    messages: Vec<Written>,
    faults: Vec<Fault>,
    received: u64,
}

/// The decoder of messages of one schema.
struct Reading {
    id: u32,
    writer: Arc<str>,
    reader: Arc<str>,
    decoder: Decoder,
}

struct Written {
    offset: u64,
    schema: u32,
    bytes: Range<usize>,
    /// The run that its row is in, and the place there.
    place: Option<(usize, usize)>,
    /// Why it could not be decoded.
    undecoded: Option<String>,
    /// Whether nothing is wrong with it so far.
    good: bool,
}

enum Column {
    Metadata(Metadata, ColumnBuilder),
    /// The way to it from the top, and what is made of it.
    Field(Vec<usize>, Conversion),
    /// May be absent, and is.
    Absent,
}

impl AvroMessages {
    pub(super) fn open(
        file: FileId,
        partition: &TopicPartition,
        registry: Arc<Registry>,
        subject: &str,
        requests: &[ColumnRequest],
    ) -> Result<Self, DecodeError> {
        let latest = plain(&registry.latest(subject)?);
        let reader = pruned(&latest, requests)
            .filter(|pruned| decoder(0, pruned, pruned).is_ok())
            .unwrap_or(latest);
        let found = decoder(0, &reader, &reader).map_err(|error| DecodeError::Registry {
            url: format!("{registry:?}"),
            detail: format!("the latest schema of {subject:?} cannot be used: {error}"),
        })?;
        let found = found.schema();
        let mut columns = Vec::with_capacity(requests.len());
        let mut fields = Vec::with_capacity(requests.len());
        for request in requests {
            let (column, kind) = match Metadata::of_column(&request.name) {
                Some(metadata) => {
                    let kind = request.kind.unwrap_or(ColumnType::Text);
                    let builder = ColumnBuilder::new(kind, request);
                    let kind = kind.data_type(&request.times);
                    (Column::Metadata(metadata, builder), kind)
                }
                None => field(&found, request, &partition.topic)?,
            };
            fields.push(Field::new(&request.name, kind, true));
            columns.push(column);
        }
        Ok(Self {
            file,
            schema: Arc::new(Schema::new(fields)),
            columns,
            registry,
            reader,
            decoders: BTreeMap::new(),
            bytes: Vec::new(),
            messages: Vec::new(),
            faults: Vec::new(),
            received: 0,
        })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(super) fn push(&mut self, offset: u64, message: &Message<'_>) -> Result<(), DecodeError> {
        let Some(payload) = message.payload() else {
            let key = message.key().map(String::from_utf8_lossy);
            let detail = key.map_or_else(
                || "it has no key either".to_owned(),
                |key| format!("key {}", quoted(&key)),
            );
            self.fault(offset, Reason::Tombstone, "", detail);
            self.received += 1;
            return Ok(());
        };
        let unreadable = match payload.split_at_checked(PREFIX_BYTES) {
            Some(([0, id @ ..], _)) => {
                let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
                match self.know(id)? {
                    None => {
                        let start = self.bytes.len();
                        self.bytes.extend_from_slice(payload);
                        self.messages.push(Written {
                            offset,
                            schema: id,
                            bytes: start..self.bytes.len(),
                            place: None,
                            undecoded: None,
                            good: true,
                        });
                        None
                    }
                    Some(detail) => Some(detail),
                }
            }
            _ => Some("it does not begin with a zero and the id of a schema".to_owned()),
        };
        self.received += 1;
        match unreadable {
            Some(detail) => self.fault(offset, Reason::RowUnreadable, "", detail),
            None => self.describe(message),
        }
        Ok(())
    }

    /// Makes sure of a decoder for messages of this schema; or says why there can be none.
    fn know(&mut self, id: u32) -> Result<Option<String>, DecodeError> {
        if !self.decoders.contains_key(&id) {
            let made = match self.registry.schema(id)? {
                // Not kept: it may be registered while we run.
                None => return Ok(Some(format!("the registry knows no schema {id}"))),
                Some(Ok(schema)) => Reading::new(id, plain(&schema), &self.reader),
                Some(Err(detail)) => Err(format!("schema {id} {detail}")),
            };
            self.decoders.insert(id, made);
        }
        Ok(self
            .decoders
            .get(&id)
            .and_then(|made| made.as_ref().err().cloned()))
    }

    /// Puts what stands beside the content into its columns.
    fn describe(&mut self, message: &Message<'_>) {
        let mut bad = Vec::new();
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let Column::Metadata(metadata, builder) = column else {
                continue;
            };
            match metadata.text(message) {
                Ok(Some(text)) => {
                    if let Err(refused) = builder.append(&text) {
                        bad.push((field.name().clone(), refused));
                    }
                }
                Ok(None) => builder.append_null(),
                Err(detail) => {
                    builder.append_null();
                    bad.push((field.name().clone(), Refused::unparsable(detail)));
                }
            }
        }
        let written = self.messages.last_mut();
        if let (Some((field, refused)), Some(written)) = (bad.into_iter().next(), written) {
            written.good = false;
            let offset = written.offset;
            self.fault(offset, refused.reason, &field, refused.detail);
        }
    }

    fn fault(&mut self, offset: u64, reason: Reason, field: &str, detail: String) {
        self.faults.push(Fault {
            record: RecordId::new(self.file, offset),
            line: 0,
            reason,
            field: field.to_owned(),
            detail,
        });
    }

    pub(super) fn finish(&mut self) -> Option<RawChunk> {
        if self.received == 0 {
            return None;
        }
        let mut messages = std::mem::take(&mut self.messages);
        let bytes = std::mem::take(&mut self.bytes);
        let mut runs = Vec::new();
        for reading in self.decoders.values_mut().flatten() {
            reading.decode(&mut messages, &bytes, &mut runs);
        }
        for written in &mut messages {
            if let Some(detail) = written.undecoded.take() {
                self.fault(written.offset, Reason::RowUnreadable, "", detail);
            }
        }
        let batch = self.batch(&mut messages, &runs);
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort_by_key(|fault| fault.record);
        let rows = messages.iter().filter(|written| written.good);
        Some(RawChunk {
            rows: rows.map(|written| written.offset).collect(),
            lines: Vec::new(),
            batch,
            faults,
            odd_times: Vec::new(),
            received: std::mem::take(&mut self.received),
            originals: None,
        })
    }

    /// The columns of the good messages, in the order of the messages.
    fn batch(&mut self, messages: &mut [Written], runs: &[RecordBatch]) -> RecordBatch {
        let decoded: Vec<usize> = (0..messages.len())
            .filter(|index| messages[*index].place.is_some())
            .collect();
        let has_row: BooleanArray = messages.iter().map(|m| Some(m.place.is_some())).collect();
        let records = in_order(messages, &decoded, runs);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        let mut faults = Vec::new();
        for (column, field) in self.columns.iter_mut().zip(self.schema.fields()) {
            let array = match column {
                Column::Metadata(_, builder) => {
                    let told = builder.finish();
                    arrow::compute::filter(&told, &has_row).expect("one value for each message")
                }
                Column::Absent => new_null_array(field.data_type(), decoded.len()),
                Column::Field(path, conversion) => {
                    let found = records.as_ref().map(|records| at(records, path));
                    let mut bad = |row: usize, refused: Refused| {
                        let Some(index) = decoded.get(row) else {
                            return;
                        };
                        if std::mem::replace(&mut messages[*index].good, false) {
                            faults.push((messages[*index].offset, field.name().clone(), refused));
                        }
                    };
                    let rows = decoded.len();
                    found.map_or_else(
                        || new_null_array(field.data_type(), rows),
                        |found| conversion.apply(&found, &mut bad),
                    )
                }
            };
            arrays.push(array);
        }
        for (offset, field, refused) in faults {
            self.fault(offset, refused.reason, &field, refused.detail);
        }
        let count = RecordBatchOptions::new().with_row_count(Some(decoded.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &count)
            .expect("every column has the type of the schema and a value for each row");
        let good: BooleanArray = decoded
            .iter()
            .map(|index| Some(messages[*index].good))
            .collect();
        messages
            .iter_mut()
            .for_each(|m| m.good &= m.place.is_some());
        filter_record_batch(&batch, &good).expect("the mask has one entry per row")
    }
}

impl Reading {
    fn new(id: u32, writer: Arc<str>, reader: &Arc<str>) -> Result<Self, String> {
        if let Some(items) = items_without_bytes(&writer) {
            let items = quoted(&items);
            return Err(format!(
                "schema {id} has a list whose items take no bytes: {items}; a message could claim any number of \
                 them"
            ));
        }
        let decoder = decoder(id, &writer, reader).map_err(|error| {
            format!("what schema {id} writes does not fit the schema read into: {error}")
        })?;
        Ok(Self {
            id,
            writer,
            reader: Arc::clone(reader),
            decoder,
        })
    }

    /// Decodes the messages of its schema and notes where their rows are.
    fn decode(&mut self, messages: &mut [Written], bytes: &[u8], runs: &mut Vec<RecordBatch>) {
        let mut pending: Vec<usize> = Vec::new();
        for index in 0..messages.len() {
            let written = &messages[index];
            if written.schema != self.id {
                continue;
            }
            match one(&mut self.decoder, &bytes[written.bytes.clone()]) {
                Ok(()) => pending.push(index),
                Err(detail) => {
                    messages[index].undecoded = Some(detail);
                    // It may have left halves of its fields behind.
                    self.begin_anew();
                    for good in &pending {
                        let good = &bytes[messages[*good].bytes.clone()];
                        one(&mut self.decoder, good).expect("it was decoded before");
                    }
                    self.flush(&mut pending, messages, bytes, runs);
                }
            }
        }
        self.flush(&mut pending, messages, bytes, runs);
    }

    fn begin_anew(&mut self) {
        if let Ok(fresh) = decoder(self.id, &self.writer, &self.reader) {
            self.decoder = fresh;
        }
    }

    fn flush(
        &mut self,
        pending: &mut Vec<usize>,
        messages: &mut [Written],
        bytes: &[u8],
        runs: &mut Vec<RecordBatch>,
    ) {
        match flushed(&mut self.decoder) {
            Ok(None) => {}
            Ok(Some(run)) => {
                for (row, index) in pending.drain(..).enumerate() {
                    messages[index].place = Some((runs.len(), row));
                }
                runs.push(run);
            }
            // One of them is at fault, and each is judged by itself.
            Err(_) => {
                for index in pending.drain(..) {
                    self.begin_anew();
                    let alone = one(&mut self.decoder, &bytes[messages[index].bytes.clone()]);
                    match alone.and_then(|()| flushed(&mut self.decoder)) {
                        Ok(Some(run)) => {
                            messages[index].place = Some((runs.len(), 0));
                            runs.push(run);
                        }
                        Ok(None) => messages[index].undecoded = Some("it has no row".to_owned()),
                        Err(detail) => messages[index].undecoded = Some(detail),
                    }
                }
                self.begin_anew();
            }
        }
    }
}

/// Whether the decoder took the end of the message for the beginning of the next: then it waits for a
/// body, while one that does not refuses what begins with no zero.
fn begins_another(decoder: &mut Decoder, message: &[u8]) -> bool {
    let looks_like_one = message
        .len()
        .checked_sub(PREFIX_BYTES)
        .is_some_and(|last| last >= PREFIX_BYTES && message.get(last) == Some(&0));
    looks_like_one
        && match shielded(|| decoder.decode(&[1])) {
            Ok(Err(error)) => !error.to_string().contains("Missing magic bytes"),
            _ => true,
        }
}

/// The rows decoded since the last time.
fn flushed(decoder: &mut Decoder) -> Result<Option<RecordBatch>, String> {
    match shielded(|| decoder.flush()) {
        Ok(flushed) => flushed.map_err(|error| error.to_string()),
        Err(panicked) => Err(panicked.to_string()),
    }
}

/// Decodes a message that is one record and nothing else.
fn one(decoder: &mut Decoder, message: &[u8]) -> Result<(), String> {
    let before = decoder.capacity();
    let read = match shielded(|| decoder.decode(message)) {
        Ok(read) => read.map_err(|error| error.to_string())?,
        Err(panicked) => return Err(panicked.to_string()),
    };
    match before.saturating_sub(decoder.capacity()) {
        1 if read == message.len() && !begins_another(decoder, message) => Ok(()),
        0 => Err("it ends inside of its record".to_owned()),
        _ => Err("there is more behind its record".to_owned()),
    }
}

/// The records of the decoded messages in their order; nothing when there are none.
fn in_order(messages: &[Written], decoded: &[usize], runs: &[RecordBatch]) -> Option<RecordBatch> {
    if let [run] = runs {
        return Some(run.clone());
    }
    let places: Vec<(usize, usize)> = decoded
        .iter()
        .filter_map(|index| messages[*index].place)
        .collect();
    let runs: Vec<&RecordBatch> = runs.iter().collect();
    let ordered = (!runs.is_empty()).then(|| interleave_record_batch(&runs, &places));
    ordered.map(|ordered| ordered.expect("all are read into one schema"))
}

/// The column at the end of a path, NULL where a record on the way is.
fn at(records: &RecordBatch, path: &[usize]) -> ArrayRef {
    let (first, rest) = path.split_first().expect("a path has a field");
    let mut column = Arc::clone(records.column(*first));
    for place in rest {
        column = nested::child(column.as_struct(), *place);
    }
    column
}

/// The way to a requested field of the schema read into, and the type that it gets.
fn field(
    found: &Schema,
    request: &ColumnRequest,
    topic: &str,
) -> Result<(Column, DataType), DecodeError> {
    let mut path = Vec::new();
    let mut fields = found.fields();
    let mut reached: Option<&DataType> = None;
    for name in request.name.split('.') {
        if let Some(DataType::Struct(inner)) = reached {
            fields = inner;
        }
        let place = fields.iter().position(|field| field.name() == name);
        let is_below = reached.is_none_or(|kind| matches!(kind, DataType::Struct(_)));
        let Some(place) = place.filter(|_| is_below) else {
            if let (true, Some(kind)) = (request.may_be.absent, request.kind) {
                return Ok((Column::Absent, kind.data_type(&request.times)));
            }
            let names = found.fields().iter().map(|field| field.name().as_str());
            return Err(DecodeError::unknown_column(topic, request, names));
        };
        reached = fields.get(place).map(|field| field.data_type());
        path.push(place);
    }
    let reached = reached.cloned().unwrap_or(DataType::Null);
    let conversion = Conversion::plan(&reached, request)
        .ok_or_else(|| DecodeError::column_type(topic, request, &reached))?;
    let kind = conversion.data_type(&reached);
    Ok((Column::Field(path, conversion), kind))
}

/// A decoder of what `writer` writes to what `reader` has.
fn decoder(id: u32, writer: &str, reader: &str) -> Result<Decoder, ArrowError> {
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(id), AvroSchema::new(writer.to_owned()))?;
    let reader = AvroSchema::new(reader.to_owned());
    let builder = ReaderBuilder::new()
        .with_batch_size(BATCH_ROWS)
        .with_reader_schema(reader)
        .with_writer_schema_store(store);
    shielded(|| builder.build_decoder())
        .unwrap_or_else(|panicked| Err(ArrowError::AvroError(panicked.to_string())))
}

/// A schema whose ids are text: `uuid` on text says nothing that we use.
fn plain(schema: &str) -> Arc<str> {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.get("logicalType").is_some_and(|kind| kind == "uuid") {
                    fields.remove("logicalType");
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    match serde_json::from_str::<Value>(schema) {
        Ok(mut value) => {
            strip(&mut value);
            Arc::from(value.to_string())
        }
        // The decoder says what is wrong with it.
        Err(_) => Arc::from(schema),
    }
}

/// The schema without the fields that nobody asked for, which then are skipped.
fn pruned(schema: &str, requests: &[ColumnRequest]) -> Option<Arc<str>> {
    let mut value: Value = serde_json::from_str(schema).ok()?;
    let fields = value.get_mut("fields")?.as_array_mut()?;
    fields.retain(|field| {
        let name = field.get("name").and_then(Value::as_str);
        requests
            .iter()
            .any(|request| request.name.split('.').next() == name)
    });
    (!fields.is_empty()).then(|| Arc::from(value.to_string()))
}
