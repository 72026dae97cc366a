//! The files of the sources: found, entered in the ledger, opened, settled.

use super::Halt;
use crate::durable::{FileRecord, Position};
use crate::job::SourcePlan;
use millrace_connectors::decode::{DecodeOptions, Decoder, Format};
use millrace_connectors::kafka::TopicPartition;
use millrace_connectors::ledger::{Admission, Arrival, FileState, Ledger, LedgerEntry};
use millrace_connectors::mediate::{MediationPlan, Mediator};
use millrace_connectors::output::LedgerRow;
use millrace_connectors::raw::{RawSource, RawWriter, open_archive};
use millrace_connectors::store::{FileMeta, NewFile, Store, StoreError};
use millrace_operators::domain::FileId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, RwLock};

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 16_384;

/// Names of the files by their number, shared with the outputs.
pub type FileList = Arc<RwLock<Vec<Arc<str>>>>;

/// A file of a source.
#[derive(Clone)]
pub(super) struct SourceFile {
    pub(super) id: FileId,
    pub(super) source: usize,
    pub(super) store: Arc<Store>,
    pub(super) meta: FileMeta,
}

/// A file being read.
pub(super) struct Opened {
    pub(super) id: FileId,
    pub(super) decoder: Decoder,
    pub(super) mediator: Mediator,
    pub(super) archive: Option<RawWriter<NewFile>>,
    pub(super) received: u64,
    /// Rows that an earlier run took in: read, and not fed again.
    pub(super) skip: u64,
    /// What broke the file, if anything did.
    pub(super) broken: Option<String>,
}

impl Opened {
    /// How far the file is read; what breaks a file counts like a row.
    pub(super) fn position(&self) -> u64 {
        self.received + u64::from(self.broken.is_some())
    }
}

/// See the module.
pub(super) struct Files {
    ledger: Ledger,
    known: BTreeMap<FileId, SourceFile>,
    waiting: VecDeque<FileId>,
    /// Partitions, which are files that never end.
    partitions: BTreeMap<FileId, (usize, FileMeta)>,
    /// Files that are read, to be moved out of their input folders.
    read: VecDeque<FileId>,
    /// Files whose entries are new or changed since somebody asked.
    changed: BTreeSet<FileId>,
    /// How far files were read by an earlier run.
    positions: BTreeMap<FileId, u64>,
    keep_raw: bool,
    archive: Arc<Store>,
}

impl Files {
    pub(super) fn new(keep_raw: bool, archive: Arc<Store>) -> Self {
        Self {
            ledger: Ledger::default(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            partitions: BTreeMap::new(),
            read: VecDeque::new(),
            changed: BTreeSet::new(),
            positions: BTreeMap::new(),
            keep_raw,
            archive,
        }
    }

    /// Takes in the files that an earlier run met; those that it was reading are read on.
    pub(super) fn restore(
        &mut self,
        records: Vec<FileRecord>,
        positions: BTreeMap<FileId, u64>,
        sources: &[SourcePlan],
        folder: &Path,
    ) -> Result<(), StoreError> {
        let mut stores: BTreeMap<usize, Arc<Store>> = BTreeMap::new();
        let mut entries = Vec::with_capacity(records.len());
        for FileRecord {
            entry,
            source,
            meta,
        } in records
        {
            let source = sources.iter().position(|plan| plan.name == source);
            let of_topic = source.filter(|source| sources[*source].kafka.is_some());
            if let Some(source) = of_topic {
                self.partitions.insert(entry.file, (source, meta));
            } else if let Some(source) = source {
                let store = match stores.get(&source) {
                    Some(store) => Arc::clone(store),
                    None => {
                        let store = Arc::new(Store::open(&sources[source].path, folder)?);
                        stores.insert(source, Arc::clone(&store));
                        store
                    }
                };
                let id = entry.file;
                match entry.state {
                    FileState::Reading => self.waiting.push_back(id),
                    // Perhaps the earlier run ended before it moved the file.
                    _ if sources[source].moves_in.is_some() => self.read.push_back(id),
                    _ => {}
                }
                let file = SourceFile {
                    id,
                    source,
                    store,
                    meta,
                };
                self.known.insert(id, file);
            }
            entries.push(entry);
        }
        self.ledger = Ledger::restore(entries);
        self.positions = positions;
        Ok(())
    }

    /// How far an earlier run read the files that are still to be read, and partitions.
    pub(super) fn positions(&self) -> &BTreeMap<FileId, u64> {
        &self.positions
    }

    /// A file or partition by the names that people know, and how far it is read.
    pub(super) fn position(&self, id: FileId, next: u64, sources: &[SourcePlan]) -> Position {
        let source = match self.known.get(&id) {
            Some(file) => Some(file.source),
            None => self.partitions.get(&id).map(|(source, _)| *source),
        };
        let source = source.and_then(|source| sources.get(source));
        let entry = self.ledger.entry(id);
        Position {
            source: source.map_or_else(String::new, |source| source.name.clone()),
            name: entry.map_or_else(String::new, |entry| entry.name.clone()),
            next,
        }
    }

    /// The files whose entries are new or changed since the last call.
    pub(super) fn changed(&mut self, sources: &[SourcePlan]) -> Vec<FileRecord> {
        let changed = std::mem::take(&mut self.changed);
        let record = |id: FileId| {
            let (source, meta) = match self.known.get(&id) {
                Some(file) => (file.source, &file.meta),
                None => self
                    .partitions
                    .get(&id)
                    .map(|(source, meta)| (*source, meta))?,
            };
            Some(FileRecord {
                entry: self.ledger.entry(id)?.clone(),
                source: sources.get(source)?.name.clone(),
                meta: meta.clone(),
            })
        };
        changed.into_iter().filter_map(record).collect()
    }

    /// Whether files wait to be moved.
    pub(super) fn to_move(&self) -> bool {
        !self.read.is_empty()
    }

    /// Moves the files that were read out of their input folders; returns what a person should hear.
    /// A file that is gone was moved before.
    pub(super) fn move_read(&mut self, sources: &[SourcePlan], folder: &Path) -> Vec<String> {
        let mut messages = Vec::new();
        for id in std::mem::take(&mut self.read) {
            let (Some(file), Some(entry)) = (self.known.get_mut(&id), self.ledger.entry(id)) else {
                continue;
            };
            let Some(root) = &sources[file.source].moves_in else {
                continue;
            };
            let place = match entry.state {
                FileState::Loaded | FileState::Incomplete => "processed",
                FileState::Failed | FileState::Refused => "failed",
                FileState::Reading | FileState::Followed => continue,
            };
            let moved = format!("{place}/{}", entry.name);
            let store = match Store::open(root, folder) {
                Ok(store) => Arc::new(store),
                Err(error) => {
                    messages.push(error.to_string());
                    continue;
                }
            };
            if let Err(error) = store.rename(&format!("input/{}", entry.name), &moved) {
                messages.push(format!(
                    "{:?} stays in its input folder: {error}",
                    entry.name
                ));
                continue;
            }
            // Where it is read again, if its records are not kept raw.
            if let Ok(meta) = store.find(&moved) {
                (file.store, file.meta) = (store, meta);
            }
        }
        messages
    }

    /// The number of a partition, which is entered when it is met for the first time, and the next
    /// offset where an earlier run read it.
    pub(super) fn partition(
        &mut self,
        index: usize,
        source: &SourcePlan,
        brokers: &str,
        partition: &TopicPartition,
    ) -> Result<(FileId, Option<u64>), Halt> {
        let meta = FileMeta {
            name: partition.to_string(),
            location: format!("kafka://{brokers}/{partition}"),
            size: 0,
            etag: None,
        };
        let arrival = Arrival {
            name: meta.name.clone(),
            stream: source.stream.clone(),
            size: 0,
            checksum: format!("kafka:{}/{partition}", source.name),
        };
        let admitted = self.ledger.admit(arrival);
        match admitted.map_err(|error| Halt::Source(error.to_string()))? {
            Admission::Known(id) => Ok((id, self.positions.get(&id).copied())),
            Admission::Admitted(id) => {
                self.ledger.settle(id, FileState::Followed, 0, "");
                self.changed.insert(id);
                self.partitions.insert(id, (index, meta));
                Ok((id, None))
            }
            Admission::Refused(refusal) => Err(Halt::Source(refusal.message)),
        }
    }

    /// Lists a source and enters what is new; returns what a person should hear.
    pub(super) fn discover(
        &mut self,
        index: usize,
        source: &SourcePlan,
        folder: &Path,
    ) -> Vec<String> {
        let mut messages = Vec::new();
        let found = Store::open(&source.path, folder)
            .and_then(|store| store.list().map(|files| (Arc::new(store), files)));
        let (store, files) = match found {
            Ok(found) => found,
            Err(error) => return vec![format!("source {:?}: {error}", source.name)],
        };
        for meta in files {
            if let Err(message) = self.admit(index, source, &store, meta, &mut messages) {
                messages.push(message);
            }
        }
        messages
    }

    fn admit(
        &mut self,
        index: usize,
        source: &SourcePlan,
        store: &Arc<Store>,
        meta: FileMeta,
        messages: &mut Vec<String>,
    ) -> Result<(), String> {
        let checksum = store.checksum(&meta).map_err(|error| error.to_string())?;
        let arrival = Arrival {
            name: meta.name.clone(),
            stream: source.stream.clone(),
            size: meta.size,
            checksum,
        };
        match self
            .ledger
            .admit(arrival)
            .map_err(|error| error.to_string())?
        {
            // Sent once more, or not moved yet when an earlier run ended.
            Admission::Known(id) => self.read.push_back(id),
            Admission::Refused(refusal) => {
                messages.push(format!("refused: {}", refusal.message));
                let file = SourceFile {
                    id: refusal.file,
                    source: index,
                    store: Arc::clone(store),
                    meta,
                };
                self.known.insert(refusal.file, file);
                self.read.push_back(refusal.file);
                self.changed.insert(refusal.file);
            }
            Admission::Admitted(id) => {
                let file = SourceFile {
                    id,
                    source: index,
                    store: Arc::clone(store),
                    meta,
                };
                self.known.insert(id, file);
                self.changed.insert(id);
                self.waiting.push_back(id);
            }
        }
        Ok(())
    }

    /// Names by file number.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.ledger
            .entries()
            .iter()
            .map(|entry| Arc::from(entry.name.as_str()))
            .collect()
    }

    /// All files met, by their number.
    pub(super) fn entries(&self) -> &[LedgerEntry] {
        self.ledger.entries()
    }

    /// A file by its number.
    pub(super) fn file(&self, id: FileId) -> Option<&SourceFile> {
        self.known.get(&id)
    }

    /// Opens a file for a look at its records as they stand.
    pub(super) fn open_whole(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> Result<Opened, String> {
        let format = format_of(file, source)?;
        let options = DecodeOptions {
            chunk_rows: CHUNK_ROWS,
            keep_originals: !matches!(format, Format::Parquet),
            row_groups: None,
        };
        let (store, meta, columns) = (&file.store, &file.meta, rule.columns());
        let decoder = Decoder::open(store, meta, file.id, &format, columns, &options)
            .map_err(|error| error.to_string())?;
        opened(file, decoder, rule)
    }

    /// The next file to read, of a source that is not paused.
    pub(super) fn next(&mut self, paused: impl Fn(usize) -> bool) -> Option<SourceFile> {
        let known = &self.known;
        let reads = |id: &FileId| known.get(id).is_some_and(|file| !paused(file.source));
        let at = self.waiting.iter().position(reads)?;
        let id = self.waiting.remove(at)?;
        self.known.get(&id).cloned()
    }

    /// Opens a file to be read for the first time.
    pub(super) fn open(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
        rows: usize,
    ) -> Result<Opened, String> {
        let format = format_of(file, source)?;
        let keeps = self.keep_raw && !matches!(format, Format::Parquet);
        let options = DecodeOptions {
            chunk_rows: rows.min(CHUNK_ROWS),
            keep_originals: keeps,
            row_groups: None,
        };
        let decoder = Decoder::open(
            &file.store,
            &file.meta,
            file.id,
            &format,
            rule.columns(),
            &options,
        )
        .map_err(|error| error.to_string())?;
        let archive = if keeps {
            let name = archive_name(file.id, source);
            let sink = self
                .archive
                .create(&name)
                .map_err(|error| error.to_string())?;
            let entry = self.ledger.entry(file.id);
            let raw = RawSource {
                file: file.id,
                name: file.meta.name.clone(),
                checksum: entry
                    .map(|entry| entry.checksum.clone())
                    .unwrap_or_default(),
                format,
            };
            Some(RawWriter::new(raw, sink))
        } else {
            None
        };
        Ok(Opened {
            archive,
            skip: self.positions.get(&file.id).copied().unwrap_or(0),
            ..opened(file, decoder, rule)?
        })
    }

    /// Opens a file that was read before: its archive where there is one, or else the file itself.
    pub(super) fn open_again(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> Result<Opened, String> {
        let options = DecodeOptions {
            chunk_rows: CHUNK_ROWS,
            ..DecodeOptions::default()
        };
        let format = format_of(file, source)?;
        let again = |error: &dyn std::fmt::Display| {
            format!("{:?} cannot be mediated again: {error}", file.meta.name)
        };
        let decoder = if self.keep_raw && !matches!(format, Format::Parquet) {
            let name = archive_name(file.id, source);
            let archive = self.archive.find(&name).map_err(|error| again(&error))?;
            let opened = open_archive(&self.archive, &archive, rule.columns(), &options);
            opened.map_err(|error| again(&error))?.1
        } else {
            Decoder::open(
                &file.store,
                &file.meta,
                file.id,
                &format,
                rule.columns(),
                &options,
            )
            .map_err(|error| again(&error))?
        };
        opened(file, decoder, rule)
    }

    /// Files whose records count, in order.
    pub(super) fn read_files(&self) -> Vec<SourceFile> {
        let read = |id: &FileId| {
            let state = self.ledger.entry(*id).map(|entry| entry.state);
            matches!(state, Some(FileState::Loaded | FileState::Incomplete))
        };
        self.known
            .values()
            .filter(|file| read(&file.id))
            .cloned()
            .collect()
    }

    /// A file that could not be opened.
    pub(super) fn failed(&mut self, id: FileId, message: String) {
        self.changed.insert(id);
        self.read.push_back(id);
        self.positions.remove(&id);
        self.ledger.settle(id, FileState::Failed, 0, message);
    }

    /// A file that was read to its end, or to where it breaks off; returns what a person should hear.
    pub(super) fn finish(&mut self, opened: Opened) -> Option<String> {
        let archived = opened.archive.map_or(Ok(()), |archive| {
            let sink = archive.finish().map_err(|error| error.to_string())?;
            sink.finish().map_err(|error| error.to_string())
        });
        let name = self
            .known
            .get(&opened.id)
            .map(|file| file.meta.name.clone())
            .unwrap_or_default();
        let (state, message) = match (&opened.broken, &archived) {
            (Some(detail), _) => (FileState::Incomplete, detail.clone()),
            (None, Err(error)) => (
                FileState::Loaded,
                format!("raw records are not kept: {error}"),
            ),
            (None, Ok(())) => (FileState::Loaded, String::new()),
        };
        self.changed.insert(opened.id);
        self.read.push_back(opened.id);
        self.positions.remove(&opened.id);
        self.ledger
            .settle(opened.id, state, opened.received, message.clone());
        (!message.is_empty()).then(|| format!("{name:?} is {}: {message}", state.name()))
    }

    /// The ledger for output; counts are added by those who know them.
    pub(super) fn ledger_rows(&self) -> Vec<LedgerRow> {
        let row = |entry: &millrace_connectors::ledger::LedgerEntry| {
            let file = self.known.get(&entry.file).map(|file| &file.meta);
            let partition = self.partitions.get(&entry.file).map(|(_, meta)| meta);
            LedgerRow {
                file: entry.name.clone(),
                location: file
                    .or(partition)
                    .map(|meta| meta.location.clone())
                    .unwrap_or_default(),
                platform: entry.stream.platform.clone(),
                service_type: entry.stream.service_type.clone(),
                record_type: entry.stream.record_type.clone(),
                size: entry.size,
                checksum: entry.checksum.clone(),
                state: entry.state.name().to_owned(),
                message: entry.message.clone(),
                ..LedgerRow::default()
            }
        };
        self.ledger.entries().iter().map(row).collect()
    }
}

fn opened(file: &SourceFile, decoder: Decoder, rule: &MediationPlan) -> Result<Opened, String> {
    let mediator = rule.mediator(decoder.schema()).map_err(|findings| {
        let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
        format!(
            "{:?} does not suit its mediation rule: {}",
            file.meta.name,
            told.join("; ")
        )
    })?;
    Ok(Opened {
        id: file.id,
        decoder,
        mediator,
        archive: None,
        received: 0,
        skip: 0,
        broken: None,
    })
}

fn format_of(file: &SourceFile, source: &SourcePlan) -> Result<Format, String> {
    source.format_of(&file.meta.name).ok_or_else(|| {
        format!(
            "the format of {:?} cannot be told from its name; give the source {:?} a `format`",
            file.meta.name, source.name
        )
    })
}

fn archive_name(id: FileId, source: &SourcePlan) -> String {
    format!("raw/{}/{:08}.parquet", source.stream, id.0)
}
