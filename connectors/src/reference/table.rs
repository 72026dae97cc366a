//! Tables mapped by SQL to rows of reference data.
//!
//! ```text
//!   file ─► decode ─► where ─► one SQL expression per field ─► text ─► the same rules as in YAML
//! ```
//!
//! - Values travel as the text that was written, or as exact decimals; never as binary floats.
//! - A row that fails names the file, its line, the field and its SQL; its neighbours are read, so
//!   that all bad rows are told at once.
//! - An empty field in an expression that computes is told, as it is in mediation; a row gives nothing
//!   where all that a field is made from is empty.
//! - A mapping that cannot be planned is a finding about the mapping, at its place in the YAML file.

mod made;

use super::account::{account_row, service_row, subscription_row};
use super::location::{is_local, located};
use super::mapping::{Kind, Mapping};
use super::price::price_row;
use super::rows::{Origin, Placed, Rows, Setting};
use super::yaml::place_of;
use crate::decode::{
    ColumnRequest, CsvLayout, DecodeError, DecodeOptions, Decoder, Format, FormatEntry, RawChunk,
    csv_misplaced, format_of,
};
use crate::diagnostic::{Diagnostic, unread_column};
use crate::expression::{
    Decision, Expression, ExpressionError, Functions, Inputs, Parsed, hanging,
};
use crate::lookup::Lookups;
use crate::names::Names;
use crate::store::{FileMeta, Store, Unread};
use crate::times::TimeReading;
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use made::Made;
use millrace_operators::domain::{FileId, Period, ServiceKey, SubscriptionKey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Findings about the rows of one table that are told apart; the others are counted.
const ROW_FINDINGS_MAX: usize = 20;

/// What a table became: of each of its files the rows, with the lines that they stand in, and everything found.
/// It is kept, and would take half as much again if each row named its file.
type Outcome = (Vec<(Arc<str>, Rows<u64>)>, Vec<Diagnostic>);

/// The tables of the last load, by the digest of what they were made from.
#[derive(Debug, Default)]
pub(super) struct TableCache {
    known: BTreeMap<String, Outcome>,
    used: BTreeMap<String, Outcome>,
    files: BTreeSet<PathBuf>,
}

impl TableCache {
    /// Begins a load.
    pub(super) fn begin(&mut self) {
        self.files.clear();
    }

    /// Ends a load: forgets tables that it did not ask for. The local files that it read.
    pub(super) fn end(&mut self) -> BTreeSet<PathBuf> {
        self.known = std::mem::take(&mut self.used);
        std::mem::take(&mut self.files)
    }

    /// The rows of a table, from memory when neither it nor its mapping has changed.
    pub(super) fn rows(
        &mut self,
        mapping: &Mapping<'_>,
        setting: Setting<'_>,
        findings: &mut Vec<Diagnostic>,
    ) -> Rows {
        let (plan, mut faults) = Plan::of(mapping, &TimeReading::of_tenant(setting.zone.clone()));
        let source = Source::open(mapping)
            .map_err(|fault| faults.push(fault))
            .ok();
        if let Some(path) = source.as_ref().and_then(|source| source.store.local_path()) {
            self.files.insert(path.to_owned());
        }
        let is_refused = faults.iter().any(Diagnostic::is_error);
        findings.append(&mut faults);
        let (Some(plan), Some(source), false) = (plan, source, is_refused) else {
            return Rows::default();
        };
        let digest = source.digest.as_ref().map(|content| {
            let mapping = format!("{mapping:?}");
            blake3::hash(format!("{content}\0{mapping}").as_bytes())
                .to_hex()
                .to_string()
        });
        let known = digest.as_ref().and_then(|digest| self.known.remove(digest));
        let outcome = known.unwrap_or_else(|| read(mapping, &plan, &source, setting));
        findings.extend_from_slice(&outcome.1);
        let mut rows = Rows::default();
        for (file, of_file) in &outcome.0 {
            rows.append(of_file.placed(|line| Origin {
                file: Arc::clone(file),
                line: *line,
                column: 0,
            }));
        }
        if let Some(digest) = digest {
            self.used.insert(digest, outcome);
        }
        rows
    }
}

/// The expressions of a mapping, parsed.
struct Plan {
    filter: Option<Parsed>,
    /// For each output its fields, then its conditions.
    outputs: Vec<Vec<Parsed>>,
    columns: Vec<ColumnRequest>,
    times: TimeReading,
}

impl Plan {
    fn of(mapping: &Mapping<'_>, times: &TimeReading) -> (Option<Self>, Vec<Diagnostic>) {
        let mut faults = mapping.faults();
        let mut parse = |sql: &serde_saphyr::Spanned<String>| {
            let parsed = Parsed::parse(&sql.value);
            parsed
                .map_err(|error| faults.push(at_fault(mapping, place_of(sql), error)))
                .ok()
        };
        let filter = mapping.filter.map(&mut parse);
        let outputs: Vec<Vec<Option<Parsed>>> = mapping
            .outputs
            .iter()
            .map(|output| output.expressions().map(|(_, sql)| parse(sql)).collect())
            .collect();
        if !faults.is_empty() {
            return (None, faults);
        }
        let filter = filter.flatten();
        let outputs: Vec<Vec<Parsed>> = outputs
            .into_iter()
            .map(|output| output.into_iter().flatten().collect())
            .collect();
        let names: BTreeSet<&String> = filter
            .iter()
            .chain(outputs.iter().flatten())
            .flat_map(Parsed::columns)
            .collect();
        let request = |name: &String| ColumnRequest {
            times: times.clone(),
            ..ColumnRequest::new(name, mapping.columns.get(name).map(|kind| kind.value))
        };
        faults.extend(unread(mapping, &names));
        let columns = names.into_iter().map(request).collect();
        (
            Some(Self {
                filter,
                outputs,
                columns,
                times: times.clone(),
            }),
            faults,
        )
    }

    /// The place of the first expression that reads a column.
    fn place_of_column(&self, mapping: &Mapping<'_>, column: &str) -> (u64, u64) {
        let filter = self.filter.iter().zip(mapping.filter);
        let outputs = self
            .outputs
            .iter()
            .zip(&mapping.outputs)
            .flat_map(|(parsed, output)| {
                parsed.iter().zip(output.expressions().map(|(_, sql)| sql))
            });
        let mut readers = filter
            .chain(outputs)
            .filter(|(parsed, _)| parsed.columns().contains(column));
        readers
            .next()
            .map_or_else(|| place_of(mapping.file), |(_, sql)| place_of(sql))
    }

    /// Plans every expression for the columns of a file, but for those that read `unknown` ones.
    fn planned(
        &self,
        mapping: &Mapping<'_>,
        schema: &SchemaRef,
        unknown: &BTreeSet<String>,
    ) -> Result<Planned, Vec<Diagnostic>> {
        let functions = Functions::new(&Arc::new(Lookups::default()), &self.times);
        let mut faults = Vec::new();
        let mut plan = |parsed: &Parsed, place: (u64, u64)| {
            if !parsed.columns().is_disjoint(unknown) {
                return None;
            }
            let planned = parsed.plan_decided(schema, &functions, &Inputs::default());
            planned
                .map_err(|error| faults.push(at_fault(mapping, place, error)))
                .ok()
        };
        let filter = match (&self.filter, mapping.filter) {
            (Some(parsed), Some(sql)) => plan(parsed, place_of(sql)),
            _ => None,
        };
        let outputs: Vec<Vec<Option<(Expression, Decision)>>> = self
            .outputs
            .iter()
            .zip(&mapping.outputs)
            .map(|(parsed, output)| {
                let places = output.expressions().map(|(_, sql)| place_of(sql));
                parsed
                    .iter()
                    .zip(places)
                    .map(|(parsed, place)| plan(parsed, place))
                    .collect()
            })
            .collect();
        if let (Some((filter, _)), Some(sql)) = (&filter, mapping.filter)
            && filter.data_type() != &DataType::Boolean
        {
            let message = format!("`{}` is not true or false", filter.sql());
            faults.push(Diagnostic::error(mapping.yaml, place_of(sql), message));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let outputs = outputs
            .into_iter()
            .map(|output| output.into_iter().flatten().collect())
            .collect();
        Ok(Planned { filter, outputs })
    }
}

/// Columns whose type is given, and that no expression reads.
fn unread(mapping: &Mapping<'_>, read: &BTreeSet<&String>) -> Vec<Diagnostic> {
    let typed = mapping.columns;
    let undeclared = read.iter().filter(|name| !typed.contains_key(**name));
    let undeclared: Vec<&str> = undeclared.map(|name| name.as_str()).collect();
    let unread = typed.iter().filter(|(name, _)| !read.contains(name));
    unread
        .map(|(name, kind)| {
            unread_column(
                mapping.yaml,
                place_of(kind),
                name,
                undeclared.iter().copied(),
            )
        })
        .collect()
}

struct Planned {
    filter: Option<(Expression, Decision)>,
    outputs: Vec<Vec<(Expression, Decision)>>,
}

/// What is to be said in place of an empty field.
const HINT_EMPTY: &str =
    "say what an empty field means, with coalesce(field, value) or field IS NULL";

fn at_fault(mapping: &Mapping<'_>, place: (u64, u64), error: ExpressionError) -> Diagnostic {
    Diagnostic::error(mapping.yaml, place, error.message).with_hint(error.hint)
}

/// The files of a table.
struct Source {
    store: Store,
    files: Vec<FileMeta>,
    format: Format,
    /// Identifies the content, where the store can tell.
    digest: Option<String>,
}

impl Source {
    fn open(mapping: &Mapping<'_>) -> Result<Self, Diagnostic> {
        let place = place_of(mapping.file);
        let fault = |message: String| Diagnostic::error(mapping.yaml, place, message);
        let name = mapping.file.value.as_str();
        let Some(format) = format_of(name, mapping.format, mapping.csv) else {
            let message = format!("the format of \"{name}\" cannot be told from its name");
            return Err(fault(message).with_hint(FormatEntry::advice()));
        };
        let misplaced = csv_misplaced(Some(&format), mapping.format);
        if let Some((message, hint)) = misplaced.filter(|_| *mapping.csv != CsvLayout::default()) {
            return Err(fault(message.to_owned()).with_hint(hint));
        }
        let opened = match name.contains("://") || is_local(mapping.folder) {
            true => Store::open(name, mapping.folder),
            false => Store::open(
                &located(mapping.folder, name).to_string_lossy(),
                Path::new(""),
            ),
        };
        let store = opened.map_err(|error| fault(error.to_string()))?;
        let listing = store.look().map_err(|error| fault(error.to_string()))?;
        if let Some(Unread {
            name: file,
            problem,
        }) = listing.unread.first()
        {
            return Err(fault(format!(
                "\"{name}\": {file:?} is not read: {problem}"
            )));
        }
        let files = listing.files;
        if files.is_empty() {
            return Err(fault(format!("there is no file in \"{name}\"")));
        }
        let digests: Option<Vec<String>> = files
            .iter()
            .map(|file| Some(format!("{}={}", file.name, store.checksum(file).ok()?)))
            .collect();
        let digest = digests.map(|digests| digests.join("\n"));
        Ok(Self {
            store,
            files,
            format,
            digest,
        })
    }
}

fn read(mapping: &Mapping<'_>, plan: &Plan, source: &Source, setting: Setting<'_>) -> Outcome {
    let mut reader = Reader {
        mapping,
        setting,
        rows: Rows::default(),
        findings: Vec::new(),
        histories: mapping.keeps_services().then(Histories::default),
    };
    let mut files = Vec::new();
    for file in &source.files {
        let (format, options) = (&source.format, DecodeOptions::default());
        let mut columns = plan.columns.clone();
        let mut unknown = BTreeSet::new();
        let opened = loop {
            match Decoder::open(&source.store, file, FileId(0), format, &columns, &options) {
                // The next one may be unknown too, and all of them should be told.
                Err(DecodeError::UnknownColumn {
                    column,
                    suggestion,
                    available,
                    ..
                }) => {
                    let place = plan.place_of_column(mapping, &column);
                    let message = format!("\"{}\" has no column \"{column}\"", file.name);
                    let meant = suggestion
                        .strip_prefix(", ")
                        .map(|meant| format!("{meant}? "));
                    let hint = format!("{}its columns are {available}", meant.unwrap_or_default());
                    reader
                        .findings
                        .push(Diagnostic::error(mapping.yaml, place, message).with_hint(hint));
                    columns.retain(|request| request.name != column);
                    unknown.insert(column);
                }
                opened => break opened,
            }
        };
        let mut decoder = match opened {
            Ok(decoder) => decoder,
            Err(error) => {
                let place = place_of(mapping.file);
                reader
                    .findings
                    .push(Diagnostic::error(mapping.yaml, place, error.to_string()));
                continue;
            }
        };
        match plan.planned(mapping, decoder.schema(), &unknown) {
            Ok(planned) if unknown.is_empty() => {
                let path: Arc<str> = Arc::from(file.location.as_str());
                while let Some(chunk) = decoder.next_chunk() {
                    reader.chunk(&path, &planned, &chunk);
                }
                let mut rows = std::mem::take(&mut reader.rows);
                rows.trim();
                files.push((path, rows));
            }
            Ok(_) => {}
            Err(mut faults) => reader.findings.append(&mut faults),
        }
    }
    let mut findings = reader.findings;
    let histories = reader.histories;
    findings.extend(histories.and_then(|histories| histories.kept(setting.names)));
    findings.sort();
    findings.dedup();
    let more = findings.len().saturating_sub(ROW_FINDINGS_MAX);
    findings.truncate(ROW_FINDINGS_MAX);
    if let Some(last) = findings.last_mut()
        && more > 0
    {
        last.hint
            .push_str(&format!(" (and {more} more findings about this table)"));
    }
    (files, findings)
}

struct Reader<'a> {
    mapping: &'a Mapping<'a>,
    setting: Setting<'a>,
    /// Those of the file that is read.
    rows: Rows<u64>,
    findings: Vec<Diagnostic>,
    /// What rows say of subscriptions whose services have no time of their own.
    histories: Option<Histories>,
}

/// The rows of subscriptions, and the services that each names.
#[derive(Default)]
struct Histories {
    subscriptions: Vec<(SubscriptionKey, Period, Origin, u64)>,
    services: BTreeMap<(Arc<str>, u64, SubscriptionKey), BTreeSet<ServiceKey>>,
}

impl Histories {
    /// That a subscription keeps a service in a time whose row does not name it.
    fn kept(mut self, names: &Names) -> Option<Diagnostic> {
        self.subscriptions.sort();
        let mut found = Vec::new();
        for rows in self.subscriptions.chunk_by(|one, other| one.0 == other.0) {
            // Several rows of one time have the services of all of them.
            let times = rows.chunk_by(|one, other| one.1 == other.1);
            let times = times.map(|rows| {
                let of_row = |(key, _, origin, number): &(SubscriptionKey, _, Origin, u64)| {
                    self.services
                        .get(&(Arc::clone(&origin.file), *number, *key))
                };
                let services = rows.iter().filter_map(of_row).flatten();
                let services: BTreeSet<ServiceKey> = services.copied().collect();
                (&rows[0], services)
            });
            let times: Vec<_> = times.collect();
            let all: BTreeSet<ServiceKey> = times.iter().flat_map(|(_, s)| s).copied().collect();
            let lacking = times.iter().find_map(|((key, _, origin, _), services)| {
                let service = all.difference(services).next()?;
                Some((*key, origin, *service))
            });
            found.extend(lacking);
        }
        let (key, origin, service) = found.first()?;
        let (_, service) = names.service(*service);
        let more = match found.len() - 1 {
            0 => String::new(),
            1 => ", and so with another subscription of the table".to_owned(),
            more => format!(", and so with {more} more subscriptions of the table"),
        };
        let message = format!(
            "the subscription \"{}\" keeps the service \"{service}\" of another row in the time of this \
             one{more}: services of the table have no time of their own",
            names.subscription(*key)
        );
        let hint = "give `services` of the table `from` and `to` as its `subscriptions` have, or name the \
                    service in every row of the subscription";
        Some(origin.warning(message).with_hint(hint))
    }
}

impl Reader<'_> {
    fn chunk(&mut self, file: &Arc<str>, planned: &Planned, chunk: &RawChunk) {
        for fault in &chunk.faults {
            let field = if fault.field.is_empty() {
                String::new()
            } else {
                format!("{}: ", fault.field)
            };
            let message = format!("{field}{}", fault.detail);
            self.findings
                .push(Diagnostic::error(file, (fault.line, 0), message));
        }
        let all = 0..chunk.batch.num_rows();
        let (batch, kept) = match &planned.filter {
            None => (chunk.batch.clone(), all.collect()),
            Some((filter, decision)) => self.filtered(file, filter, decision, chunk),
        };
        let place = |row: usize| {
            let row = kept.get(row).copied().unwrap_or(row);
            (
                chunk.lines.get(row).copied().unwrap_or(0),
                chunk.rows.get(row).copied().unwrap_or(0),
            )
        };
        let mapping = self.mapping;
        for (output, expressions) in mapping.outputs.iter().zip(&planned.outputs) {
            let mut columns = Vec::with_capacity(expressions.len());
            let mut failed = BTreeSet::new();
            for ((name, sql), (expression, decision)) in output.expressions().zip(expressions) {
                let evaluated = expression.evaluate(&batch);
                for (row, lacking) in decision.undecided_or_unread(&batch).rows {
                    // A field that is made from nothing is one that the row does not have.
                    if lacking.empty.len() == decision.reads().len() {
                        continue;
                    }
                    let (line, _) = place(row);
                    failed.insert(row);
                    let message = format!("{}, for \"{name}\"", hanging(&sql.value, &lacking));
                    self.findings
                        .push(Diagnostic::error(file, (line, 0), message).with_hint(HINT_EMPTY));
                }
                for failure in &evaluated.failures {
                    let (line, _) = place(failure.row);
                    failed.insert(failure.row);
                    let message = format!("{}: `{}` for \"{name}\"", failure.detail, sql.value);
                    self.findings
                        .push(Diagnostic::error(file, (line, 0), message));
                }
                columns.push(as_text(&evaluated.values));
            }
            let made = Made { output, columns };
            for row in (0..batch.num_rows()).filter(|row| !failed.contains(row)) {
                let (line, number) = place(row);
                let origin = Origin {
                    file: Arc::clone(file),
                    line,
                    column: 0,
                };
                self.row(&made, row, &origin, number);
            }
        }
    }

    /// The rows that `where` holds for, and their indexes in the chunk.
    fn filtered(
        &mut self,
        file: &Arc<str>,
        filter: &Expression,
        decision: &Decision,
        chunk: &RawChunk,
    ) -> (RecordBatch, Vec<usize>) {
        let evaluated = filter.evaluate(&chunk.batch);
        for (row, lacking) in decision.undecided(&chunk.batch).rows {
            let line = chunk.lines.get(row).copied().unwrap_or(0);
            let message = format!("{}, for \"where\"", hanging(filter.sql(), &lacking));
            self.findings
                .push(Diagnostic::error(file, (line, 0), message).with_hint(HINT_EMPTY));
        }
        for failure in &evaluated.failures {
            let line = chunk.lines.get(failure.row).copied().unwrap_or(0);
            let message = format!("{}: `{}` for \"where\"", failure.detail, filter.sql());
            self.findings
                .push(Diagnostic::error(file, (line, 0), message));
        }
        let mask = evaluated.values.as_boolean();
        let kept = (0..mask.len())
            .filter(|row| mask.is_valid(*row) && mask.value(*row))
            .collect();
        let batch = filter_record_batch(&chunk.batch, mask)
            .expect("the mask was made from the rows of this batch");
        (batch, kept)
    }

    fn row(&mut self, made: &Made<'_>, row: usize, origin: &Origin, number: u64) {
        let kind = made.output.kind;
        if made.text(kind.gate(), row).is_none() {
            return;
        }
        let text = |field: &'static str| made.text(field, row);
        let setting = self.setting;
        let rows = &mut self.rows;
        let too_general = made.too_general(row);
        if !too_general.is_empty() {
            for complaint in too_general {
                self.findings
                    .push(made.finding(complaint, row, origin, number));
            }
            return;
        }
        let complaints = match kind {
            Kind::Price => {
                let when = made.conditions(row);
                price_row(text, &when, None, self.mapping.currency, setting).map(|row| {
                    rows.prices.push(Placed {
                        row,
                        origin: origin.line,
                    })
                })
            }
            Kind::Account => account_row(text, setting).map(|row| {
                rows.accounts.push(Placed {
                    row,
                    origin: origin.line,
                })
            }),
            Kind::Subscription => {
                let lists = made.text("price_list", row).unwrap_or_default();
                let lists: Vec<&str> = lists
                    .split(',')
                    .map(str::trim)
                    .filter(|list| !list.is_empty())
                    .collect();
                subscription_row(text, &lists, setting).map(|row| {
                    if let Some(histories) = &mut self.histories {
                        let of = (row.0.key, row.0.valid, origin.clone(), number);
                        histories.subscriptions.push(of);
                    }
                    rows.subscribe(Placed {
                        row,
                        origin: origin.line,
                    })
                })
            }
            Kind::Service => service_row(text, Period::ALWAYS, setting).map(|row| {
                if let Some(histories) = &mut self.histories
                    && row.valid == Period::ALWAYS
                {
                    let of = (Arc::clone(&origin.file), number, row.subscription);
                    let named = histories.services.entry(of).or_default();
                    named.insert(row.service);
                }
                rows.services.push(Placed {
                    row,
                    origin: origin.line,
                })
            }),
        };
        if let Err(complaints) = complaints {
            for complaint in complaints {
                self.findings
                    .push(made.finding(complaint, row, origin, number));
            }
        }
    }
}

/// Values as text: decimals with all their digits, times as RFC 3339.
fn as_text(values: &arrow::array::ArrayRef) -> StringArray {
    let text = cast(values, &DataType::Utf8);
    let text = text.expect("every type that an expression may have converts to text");
    text.as_string::<i32>().clone()
}
