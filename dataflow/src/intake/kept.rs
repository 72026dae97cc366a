//! One record of a job with durable state: found by the ledger that its runs have written, whatever lies in the sources
//! by now, with what the journal says of it and what it was mediated by.
//!
//! Raw records are told as far as they are kept, or lie in their files still; messages are in their topics alone.

use super::files::{Files, RawFolder, SourceFile};
use super::record::{
    Fields, Mediation, RawRecord, asked, entry_named, mediated_alone, original, row_of_parquet,
};
use crate::durable::{DurableError, KeptInputs, KeptText, Restored, TableRows};
use crate::error::RunError;
use crate::job::Job;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use millrace_connectors::decode::row_groups;
use millrace_connectors::ledger::LedgerEntry;
use millrace_connectors::mediate::{MediationPlan, RuleContent};
use millrace_connectors::shield::shielded;
use millrace_connectors::store::Store;
use millrace_operators::domain::{FileId, RecordId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By what a record was mediated.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleTold {
    /// The digest of all that its outcome depends on; nothing where nobody knows what that was.
    pub digest: Option<String>,
    /// Whether it is in force, layout and all.
    pub in_force: bool,
    /// Since when it is, or was.
    pub since: Option<String>,
    /// When it was changed, if it was.
    pub until: Option<String>,
    /// The rule.
    pub content: Option<RuleContent>,
    /// How the file was laid out, where it is laid out otherwise now.
    pub layout: Option<String>,
    /// The tables that an earlier rule asked.
    pub tables: Vec<TableTold>,
}

/// A table that a rule asked.
#[derive(Clone, Debug, Serialize)]
pub struct TableTold {
    /// What the rule calls it.
    pub name: String,
    /// The digest of its rows.
    pub digest: String,
    /// How many there are.
    pub rows: u64,
    /// The columns behind the key.
    pub columns: Vec<String>,
    /// The rows; nothing where there are too many to be kept, or they cannot be read.
    pub content: Option<TableRows>,
    /// Why they cannot be read.
    pub problem: Option<String>,
}

/// What the state of a job knows of its files.
pub(crate) struct KeptRecords {
    files: Files,
    received: BTreeMap<FileId, u64>,
    inputs: KeptInputs,
    restored: Restored,
}

/// Why a record is not told.
pub(crate) enum NotTold {
    /// The state cannot be read.
    Durable(DurableError),
    /// There is no such record.
    Unknown(String),
}

impl From<DurableError> for NotTold {
    fn from(error: DurableError) -> Self {
        Self::Durable(error)
    }
}

impl KeptRecords {
    /// What is committed.
    pub(crate) fn open(
        job: &Job,
        rules: &[Arc<MediationPlan>],
        restored: Restored,
    ) -> Result<Self, RunError> {
        let outputs = Arc::new(Store::open(&job.outputs.folder, &job.folder)?);
        let known = restored.files()?;
        let mut files = Files::new(RawFolder::of(job.keep_raw, outputs, None));
        files.mediate_by(&job.sources, rules);
        files.know_raw(known.raw);
        let received = known.positions.clone();
        files.restore(known.files, known.positions, &job.sources, &job.folder)?;
        files.restore_inputs(known.inputs.clone(), known.stays);
        Ok(Self {
            files,
            received,
            inputs: known.inputs,
            restored,
        })
    }

    /// Finds the record that a person names, as [`find_record`](super::find_record) does.
    pub(crate) fn find(
        &self,
        job: &Job,
        rules: &[Arc<MediationPlan>],
        id: &str,
    ) -> Result<RawRecord, NotTold> {
        let unknown = NotTold::Unknown;
        let (name, mark, number) = asked(id).map_err(unknown)?;
        let entry = entry_named(&self.files, name).map_err(unknown)?;
        let source = self.files.source_of(entry.file);
        let source = source.ok_or_else(|| {
            let name = &entry.name;
            unknown(format!("no source of the job reads {name:?} any more"))
        })?;
        let (file, lines) = (self.files.file(entry.file), &entry.lines);
        let format = file.and_then(|file| job.sources[source].format_of(&file.meta.name));
        let has_lines = format.is_some_and(|format| !format.is_typed());
        let row = match mark == ':' && entry.name == name && has_lines {
            false => number,
            true => lines.row(number).ok_or_else(|| {
                unknown(format!(
                    "no record that was read of {name:?} is known to stand on line {number}; name it by its row, \
                     like {name}#0, the first"
                ))
            })?,
        };
        let read = self.received.get(&entry.file).copied();
        let read = read.unwrap_or(entry.rows);
        if row >= read || row < entry.from {
            return Err(unknown(match read {
                0 => format!("no record of {name:?} has been read"),
                _ => format!(
                    "rows {} to {} of {name:?} have been read, not {row}",
                    entry.from,
                    read - 1
                ),
            }));
        }
        self.told(job, rules, source, RecordId::new(entry.file, row))
    }

    fn told(
        &self,
        job: &Job,
        rules: &[Arc<MediationPlan>],
        source: usize,
        record: RecordId,
    ) -> Result<RawRecord, NotTold> {
        let entry = self.files.entry(record.file());
        let entry = entry.ok_or_else(|| NotTold::Unknown("the file is not known".to_owned()))?;
        let (usage, fault) = self.restored.record(record)?;
        let is_in_force = self.files.inputs_of(record).is_some_and(|(_, now)| now);
        let file = self.files.file(record.file());
        // What the journal does not say is what the rule in force makes of it, where it was mediated by that.
        let mediation = match (usage, fault, file) {
            (Some(usage), ..) => Mediation::Usage(usage),
            (None, Some(fault), _) => Mediation::Fault(fault),
            (None, None, Some(file)) if is_in_force => {
                let opened = self
                    .files
                    .open_again(file, &job.sources[source], &rules[source]);
                let mediated = opened
                    .ok()
                    .and_then(|opened| mediated_alone(opened, record));
                mediated.unwrap_or(Mediation::Unknown)
            }
            (None, None, _) => Mediation::Unknown,
        };
        let row = record.row();
        let line = entry.lines.line(row);
        let name = match line {
            None if entry.lines.line(entry.from).is_none() => format!("{}:{row}", entry.name),
            Some(line) if entry.lines.row(line) == Some(row) => format!("{}:{line}", entry.name),
            _ => format!("{}#{row}", entry.name),
        };
        Ok(RawRecord {
            record,
            name,
            file: entry.name.clone(),
            source,
            line: line.unwrap_or(0),
            fields: self.fields(job, rules, file, entry, record),
            mediation,
        })
    }

    /// The fields of a record, as far as they are kept or lie in its file still.
    fn fields(
        &self,
        job: &Job,
        rules: &[Arc<MediationPlan>],
        file: Option<&SourceFile>,
        entry: &LedgerEntry,
        record: RecordId,
    ) -> Fields {
        let Some(file) = file else {
            return Fields::Gone("messages are in their topic alone".to_owned());
        };
        let (source, rule) = (&job.sources[file.source], &rules[file.source]);
        let row = record.row();
        let kept = self.files.raw_of(file, source).map(|(store, meta)| {
            // What stands in a damaged footer is not believed.
            row_groups(&store, &meta).ok()?;
            let batch = shielded(|| row_of_parquet(&store, &meta, row));
            kept_fields(&batch.ok().flatten()?, row)
        });
        let why = match kept {
            Ok(Some(fields)) => return fields,
            Ok(None) => "its raw record cannot be read".to_owned(),
            Err(why) => why,
        };
        if self.files.is_there(file)
            && let Some(fields) = original(&self.files, file, (source, rule), row)
        {
            return fields;
        }
        Fields::Gone(format!("{:?} is not as it was read, and {why}", entry.name))
    }

    /// By what a record was mediated.
    pub(crate) fn rule_told(&self, record: RecordId) -> RuleTold {
        let Some((by, in_force)) = self.files.inputs_of(record) else {
            return RuleTold::default();
        };
        let text = self.inputs.texts.get(&by.rule);
        let layout = self.inputs.texts.get(&by.layout);
        let content = text.and_then(|text| RuleContent::of(&text.content));
        let mut tables = Vec::new();
        let asked = content.iter().filter(|_| !in_force);
        for (name, digest) in asked.flat_map(|content| &content.tables) {
            let Some(kept) = self.inputs.tables.get(digest) else {
                continue;
            };
            let read = kept.read(&self.restored.store);
            // Everything else can be told without it.
            let problem = read.as_ref().err().map(|error| match error {
                DurableError::Damaged {
                    object, problem, ..
                } => format!("{object} {problem}; put it back from a copy"),
                error => error.to_string(),
            });
            let (columns, content) = read.ok().flatten().unzip();
            tables.push(TableTold {
                name: name.clone(),
                digest: digest.clone(),
                rows: kept.rows,
                columns: columns.unwrap_or_default(),
                content,
                problem,
            });
        }
        let changed = |text: Option<&KeptText>| text.and_then(|text| text.until.clone());
        RuleTold {
            in_force,
            since: text.map(|text| text.since.clone()),
            until: changed(text).or_else(|| changed(layout)),
            layout: layout
                .filter(|layout| layout.until.is_some())
                .map(|layout| layout.content.clone()),
            content,
            tables,
            digest: Some(by.rule),
        }
    }
}

/// The fields of a row of raw records.
fn kept_fields(batch: &RecordBatch, row: u64) -> Option<Fields> {
    let numbers = batch.column_by_name("millrace_row")?;
    let numbers = numbers.as_primitive_opt::<UInt64Type>()?;
    if numbers.value(0) != row {
        return None;
    }
    let raw = batch.column_by_name("millrace_raw");
    let raw = raw.and_then(|raw| raw.as_binary_opt::<i32>());
    if let Some(raw) = raw.filter(|raw| raw.is_valid(0)) {
        return Some(Fields::of_bytes(raw.value(0)));
    }
    let is_own = |name: &str| !name.starts_with("millrace_");
    Some(Fields::of_columns(batch, is_own))
}
