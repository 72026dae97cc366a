//! The files of the sources: found, entered in the ledger, opened, settled.

use crate::job::SourcePlan;
use millrace_connectors::decode::{DecodeOptions, Decoder, Format};
use millrace_connectors::ledger::{Admission, Arrival, FileState, Ledger, LedgerEntry};
use millrace_connectors::mediate::{MediationPlan, Mediator};
use millrace_connectors::output::LedgerRow;
use millrace_connectors::raw::{RawSource, RawWriter, open_archive};
use millrace_connectors::store::{FileMeta, NewFile, Store};
use millrace_operators::domain::FileId;
use std::collections::{BTreeMap, VecDeque};
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
    /// What broke the file, if anything did.
    pub(super) broken: Option<String>,
}

/// See the module.
pub(super) struct Files {
    ledger: Ledger,
    known: BTreeMap<FileId, SourceFile>,
    waiting: VecDeque<FileId>,
    keep_raw: bool,
    archive: Arc<Store>,
}

impl Files {
    pub(super) fn new(keep_raw: bool, archive: Arc<Store>) -> Self {
        let (ledger, known, waiting) = Default::default();
        Self {
            ledger,
            known,
            waiting,
            keep_raw,
            archive,
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
            Admission::Known(_) => {}
            Admission::Refused(refusal) => {
                messages.push(format!("refused: {}", refusal.message));
                let file = SourceFile {
                    id: refusal.file,
                    source: index,
                    store: Arc::clone(store),
                    meta,
                };
                self.known.insert(refusal.file, file);
            }
            Admission::Admitted(id) => {
                let file = SourceFile {
                    id,
                    source: index,
                    store: Arc::clone(store),
                    meta,
                };
                self.known.insert(id, file);
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

    /// The next file to read.
    pub(super) fn next(&mut self) -> Option<SourceFile> {
        let id = self.waiting.pop_front()?;
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
        self.ledger
            .settle(opened.id, state, opened.received, message.clone());
        (!message.is_empty()).then(|| format!("{name:?} is {}: {message}", state.name()))
    }

    /// The ledger for output; counts are added by those who know them.
    pub(super) fn ledger_rows(&self) -> Vec<LedgerRow> {
        let row = |entry: &millrace_connectors::ledger::LedgerEntry| {
            let file = self.known.get(&entry.file);
            LedgerRow {
                file: entry.name.clone(),
                location: file
                    .map(|file| file.meta.location.clone())
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
