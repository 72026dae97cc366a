//! One record of a job's files: found by its id, read as it stands, and mediated alone.
//!
//! Files are numbered as a run would number them, so that the id is the one in the outputs. Only the
//! chunk with the record is mediated; the chunks before it are decoded to be counted.

use super::files::{Files, Opened, RawFolder, SourceFile};
use crate::job::{Job, SourcePlan};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millrace_connectors::decode::{Originals, RawChunk, row_groups};
use millrace_connectors::diagnostic::did_you_mean;
use millrace_connectors::ledger::{FileState, LedgerEntry};
use millrace_connectors::mediate::{Mediated, MediationPlan};
use millrace_connectors::shield::shielded;
use millrace_connectors::store::{FileMeta, Store};
use millrace_operators::domain::{Fault, RecordId, Usage};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::value::RawValue;
use std::sync::Arc;

/// The fields of a raw record, as they stand in its file.
#[derive(Clone, Debug)]
pub enum Fields {
    /// Columns and their text; nothing where the record has no value.
    Columns(Vec<(String, Option<String>)>),
    /// A JSON record.
    Json(Box<RawValue>),
    /// Bytes that are no record of the format.
    Text(String),
    /// They are not to be had any more, and why.
    Gone(String),
}

impl Fields {
    /// Those of a record that is kept as its bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        match serde_json::from_str(&text) {
            Ok(record) => Self::Json(record),
            Err(_) => Self::Text(text),
        }
    }

    /// Those of the first row of a batch, of the columns that are wanted.
    pub(super) fn of_columns(batch: &RecordBatch, wanted: impl Fn(&str) -> bool) -> Self {
        let options = FormatOptions::default();
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.filter(|(field, _)| wanted(field.name()));
        let fields = columns.map(|(field, values)| {
            let shown = ArrayFormatter::try_new(values.as_ref(), &options).ok();
            let text = shown.filter(|_| values.is_valid(0));
            let text = text.map(|text| text.value(0).to_string());
            (field.name().clone(), text)
        });
        Self::Columns(fields.collect())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Columns(columns) => {
                let mut map = serializer.serialize_map(Some(columns.len()))?;
                for (name, text) in columns {
                    map.serialize_entry(name, text)?;
                }
                map.end()
            }
            Self::Json(record) => record.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Gone(_) => serializer.serialize_none(),
        }
    }
}

/// What mediation makes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mediation {
    /// Usage.
    Usage(Usage),
    /// A fault.
    Fault(Fault),
    /// The rule's `where` excludes it.
    Ignored,
    /// The journal does not say, and what would say it is not to be had any more.
    Unknown,
}

/// A raw record of a job.
#[derive(Clone, Debug)]
pub struct RawRecord {
    /// Its id.
    pub record: RecordId,
    /// As people name it.
    pub name: String,
    /// The name of its file.
    pub file: String,
    /// The source that the file is of, by its place in the job.
    pub source: usize,
    /// Its line, counted from 1; 0 where the format has no lines.
    pub line: u64,
    /// As it stands.
    pub fields: Fields,
    /// What mediation makes of it.
    pub mediation: Mediation,
}

/// The file, the mark and the number that a person names a record by: `<file>:<line>` or `<file>#<row>`.
pub(crate) fn parts(id: &str) -> Option<(&str, char, u64)> {
    let at = id.rfind([':', '#'])?;
    let (file, rest) = id.split_at(at);
    let mark = rest.chars().next()?;
    let number = rest.get(1..)?.trim().parse::<u64>().ok();
    let number = number.filter(|number| *number < RecordId::ROWS_MAX)?;
    Some((file, mark, number))
}

/// Which record of a file is meant.
#[derive(Clone, Copy)]
enum Wanted {
    Row(u64),
    /// The record on this line, or that goes on over it.
    Line(u64),
}

/// The same, or in words what is wrong with the id.
pub(super) fn asked(id: &str) -> Result<(&str, char, u64), String> {
    let hint = "write <file>:<line> like usage.csv:17, or <file>#<row> as in the outputs like usage.csv#15";
    parts(id).ok_or_else(|| match id.contains([':', '#']) {
        true => format!("{id:?} does not end with a line or row; {hint}"),
        false => format!("{id:?} is no record id; {hint}"),
    })
}

/// Finds the record that a person names: `<file name>:<line>`, lines of the file from 1, a header's too; or
/// `<file name>#<row>` or `<file number>:<row>` as in the outputs, rows counted from 0. In a format without
/// lines the name goes with the row either way.
///
/// # Errors
/// A sentence about what is wrong with the id, or with the file, with the nearest name there is.
pub fn find_record(job: &Job, rules: &[Arc<MediationPlan>], id: &str) -> Result<RawRecord, String> {
    let (name, mark, number) = asked(id)?;
    let store = Store::open(&job.outputs.folder, &job.folder).map_err(|error| error.to_string())?;
    let mut files = Files::new(RawFolder::of(false, Arc::new(store), None));
    let mut messages = Vec::new();
    let sources = job.sources.iter().enumerate();
    for (index, source) in sources.filter(|(_, source)| source.kafka.is_none()) {
        messages.extend(files.discover(index, source, &job.folder));
    }
    let file = named(&files, name).map_err(|message| {
        let topics = job.sources.iter().any(|source| source.kafka.is_some());
        let kept = "messages of topics are not kept beside them, so they cannot be explained";
        let kept = topics.then(|| kept.to_owned());
        let told = [message].into_iter().chain(kept).chain(messages);
        told.collect::<Vec<_>>().join("; ")
    })?;
    let by_name = files.entry(file.id).is_some_and(|entry| entry.name == name);
    let format = job.sources[file.source].format_of(&file.meta.name);
    let has_lines = format.is_some_and(|format| !format.is_typed());
    let wanted = match mark == ':' && by_name && has_lines {
        true => Wanted::Line(number),
        false => Wanted::Row(number),
    };
    read(&files, file, wanted, job, rules)
}

/// The file with this name, or else with this number.
fn named<'a>(files: &'a Files, name: &str) -> Result<&'a SourceFile, String> {
    let entry = entry_named(files, name)?;
    let file = files.file(entry.file);
    file.ok_or_else(|| unknown(files.entries(), name))
}

/// The ledger's entry of it.
pub(super) fn entry_named<'a>(files: &'a Files, name: &str) -> Result<&'a LedgerEntry, String> {
    let entries = files.entries();
    let refused = |entry: &&LedgerEntry| entry.state == FileState::Refused;
    let mut by_name = entries.iter().filter(|entry| entry.name == name);
    let taken: Vec<&LedgerEntry> = by_name.clone().filter(|entry| !refused(entry)).collect();
    let number = || name.parse::<usize>().ok().and_then(|at| entries.get(at));
    let entry = match taken.as_slice() {
        [entry] => *entry,
        [] => by_name
            .next()
            .or_else(number)
            .ok_or_else(|| unknown(entries, name))?,
        several => {
            let numbers: Vec<String> = several.iter().map(|e| e.file.0.to_string()).collect();
            let numbers = numbers.join(", ");
            return Err(format!(
                "several files are called {name:?}; give the number: {numbers}"
            ));
        }
    };
    if refused(&entry) {
        return Err(format!("{:?} is not read: {}", entry.name, entry.message));
    }
    Ok(entry)
}

fn unknown(entries: &[LedgerEntry], name: &str) -> String {
    let names = || entries.iter().map(|entry| entry.name.as_str());
    let near = did_you_mean(name, names()).or_else(|| {
        // The file of a folder, named without the folder.
        names().find(|known| known.rsplit('/').next() == Some(name))
    });
    let hint = match (near, entries.len()) {
        (Some(near), _) => format!("did you mean {near:?}?"),
        (None, 0) => "the job's sources have no files".to_owned(),
        (None, 1) => format!("the job has one file, {:?}", entries[0].name),
        (None, count) => format!(
            "the job has {count} files, the first is {:?}",
            entries[0].name
        ),
    };
    format!("the job has no file {name:?}; {hint}")
}

fn read(
    files: &Files,
    file: &SourceFile,
    wanted: Wanted,
    job: &Job,
    rules: &[Arc<MediationPlan>],
) -> Result<RawRecord, String> {
    let (source, rule) = (&job.sources[file.source], &rules[file.source]);
    let row = match wanted {
        Wanted::Row(row) => row,
        Wanted::Line(line) => row_on(files, file, line, source, rule)?,
    };
    let mut opened = files.open_whole(file, source, rule)?;
    let (record, name) = (RecordId::new(file.id, row), &file.meta.name);
    let chunk = chunk_with(&mut opened, row).map_err(|records| match records {
        0 => format!("{name:?} has no records"),
        count => format!(
            "{name:?} has {count} records; did you mean {name}#{}, the last?",
            count.saturating_sub(1)
        ),
    })?;
    let line = line(&chunk, record);
    let alone = originals_on(&chunk, line).count() < 2;
    let fields = fields_in(&chunk, file, row);
    Ok(RawRecord {
        record,
        name: match line {
            0 => format!("{name}:{row}"),
            line if alone => format!("{name}:{line}"),
            _ => format!("{name}#{row}"),
        },
        file: name.clone(),
        source: file.source,
        line,
        fields: fields.ok_or_else(|| format!("row {row} of {name:?} cannot be read"))?,
        mediation: mediated_in(&mut opened, &chunk, record),
    })
}

/// The chunk of a file with a row, or how many rows it has.
fn chunk_with(opened: &mut Opened, row: u64) -> Result<RawChunk, u64> {
    let mut before = 0_u64;
    while let Some(chunk) = opened.decoder.next_chunk() {
        before = before.saturating_add(chunk.received);
        if row < before {
            return Ok(chunk);
        }
    }
    Err(before)
}

fn mediated_in(opened: &mut Opened, chunk: &RawChunk, record: RecordId) -> Mediation {
    let mut mediated = Mediated::default();
    opened.mediator.mediate(chunk, record.file(), &mut mediated);
    outcome(mediated, record)
}

/// What mediation makes of one record of a file.
pub(super) fn mediated_alone(mut opened: Opened, record: RecordId) -> Option<Mediation> {
    let chunk = chunk_with(&mut opened, record.row()).ok()?;
    Some(mediated_in(&mut opened, &chunk, record))
}

/// The fields of a record as it stands in its file.
pub(super) fn original(
    files: &Files,
    file: &SourceFile,
    (source, rule): (&SourcePlan, &MediationPlan),
    row: u64,
) -> Option<Fields> {
    let mut opened = files.open_whole(file, source, rule).ok()?;
    let chunk = chunk_with(&mut opened, row).ok()?;
    fields_in(&chunk, file, row)
}

fn fields_in(chunk: &RawChunk, file: &SourceFile, row: u64) -> Option<Fields> {
    match &chunk.originals {
        Some(originals) => original_of(originals, row),
        None => of_parquet(file, row),
    }
}

/// The row that stands on a line, or goes on over it.
fn row_on(
    files: &Files,
    file: &SourceFile,
    line: u64,
    source: &SourcePlan,
    rule: &MediationPlan,
) -> Result<u64, String> {
    let mut opened = files.open_whole(file, source, rule)?;
    let name = &file.meta.name;
    let mut last: Option<(u64, u64)> = None;
    while let Some(chunk) = opened.decoder.next_chunk() {
        let on: Vec<u64> = originals_on(&chunk, line).collect();
        match on.as_slice() {
            [] => {}
            [row] => return Ok(*row),
            [row, ..] => {
                return Err(format!(
                    "several records of {name:?} stand on line {line}; name one by its row, like \
                     {name}#{row}, the first"
                ));
            }
        }
        let Some(originals) = &chunk.originals else {
            continue;
        };
        for (row, begins) in originals.rows.iter().zip(&originals.lines) {
            if *begins > line {
                return last.map(|(row, _)| row).ok_or_else(|| {
                    format!("line {line} of {name:?} is before its first record, on line {begins}")
                });
            }
            last = Some((*row, *begins));
        }
    }
    Err(match last {
        None => format!("{name:?} has no records"),
        Some((_, begins)) => format!(
            "line {line} of {name:?} is behind the beginning of its last record; did you mean {name}:{begins}, \
             the last?"
        ),
    })
}

/// The rows of a chunk that begin on a line.
fn originals_on(chunk: &RawChunk, line: u64) -> impl Iterator<Item = u64> {
    let originals = chunk.originals.iter();
    let places = originals.flat_map(|originals| originals.rows.iter().zip(&originals.lines));
    places
        .filter(move |(_, begins)| **begins == line)
        .map(|(row, _)| *row)
}

fn line(chunk: &RawChunk, record: RecordId) -> u64 {
    let rows = chunk.originals.as_ref().map(|o| (&o.rows, &o.lines));
    let (rows, lines) = rows.unwrap_or((&chunk.rows, &chunk.lines));
    let at = rows.iter().position(|row| *row == record.row());
    at.and_then(|at| lines.get(at)).copied().unwrap_or(0)
}

fn outcome(mediated: Mediated, record: RecordId) -> Mediation {
    let usage = mediated
        .usage
        .into_iter()
        .find(|usage| usage.record == record);
    let mut faults = mediated.faults.into_iter();
    let fault = faults.find(|fault| fault.record == record && !fault.reason.is_of_file());
    match (usage, fault) {
        (Some(usage), _) => Mediation::Usage(usage),
        (None, Some(fault)) => Mediation::Fault(fault),
        (None, None) => Mediation::Ignored,
    }
}

fn original_of(originals: &Originals, row: u64) -> Option<Fields> {
    let at = originals.rows.iter().position(|held| *held == row)?;
    if at < originals.raw.len() && originals.raw.is_valid(at) {
        return Some(Fields::of_bytes(originals.raw.value(at)));
    }
    let columns = &originals.columns;
    let schema = columns.schema();
    let named = schema.fields().iter().zip(columns.columns());
    let field = |(field, values): (&Arc<arrow::datatypes::Field>, &Arc<dyn Array>)| {
        let texts = values.as_string_opt::<i32>();
        let text = texts.filter(|texts| texts.is_valid(at));
        (
            field.name().clone(),
            text.map(|texts| texts.value(at).to_owned()),
        )
    };
    Some(Fields::Columns(named.map(field).collect()))
}

/// All columns of a row; the archive of a Parquet source is the source itself.
fn of_parquet(file: &SourceFile, row: u64) -> Option<Fields> {
    // What stands in a damaged footer is not believed.
    row_groups(&file.store, &file.meta).ok()?;
    let batch = shielded(|| row_of_parquet(&file.store, &file.meta, row));
    Some(Fields::of_columns(&batch.ok().flatten()?, |_| true))
}

/// A row of a Parquet file.
pub(super) fn row_of_parquet(store: &Store, meta: &FileMeta, row: u64) -> Option<RecordBatch> {
    let access = store.random(meta).ok()?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(access).ok()?;
    let reader = reader.with_offset(usize::try_from(row).ok()?).with_limit(1);
    reader.build().ok()?.next()?.ok()
}
