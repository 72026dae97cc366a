//! The files of the sources: found, entered in the ledger, opened, settled, moved away.
//!
//! ```text
//!  look ─► as seen before? ─► known            ┌─► failed: the same content is tried by the next run
//!             └─► settled? ─► checksum ─► ledger ─► waits ─► read ─► moved, if it is what was read
//!                                                    └─► grown, or the whole of one that was cut: read on
//! ```
//!
//! A file is told by its size and by when it was written, or by its etag; its bytes are read for a
//! checksum only when these are new. A local file that arrives while the job runs is left alone until two
//! looks find it the same: it may still be written. A file that was read, or that an earlier run was reading,
//! is read on from its row only while its content is the same, or begins with what was read; what came in
//! its place is another file.

mod advice;
mod grown;
mod inputs;
mod kin;
mod moving;
mod raw;
mod unmet;

use super::Halt;
use crate::durable::{FileRecord, Position, Staged};
use crate::job::SourcePlan;
use crate::metrics::Extent;
use grown::Look;
pub(super) use grown::{Begin, TakeBack};
pub(super) use inputs::Behind;
use millrace_connectors::decode::{DecodeOptions, Decoder, Format, RawChunk};
use millrace_connectors::kafka::TopicPartition;
use millrace_connectors::ledger::{
    Admission, Arrival, Change, FileState, Inputs, Ledger, LedgerEntry,
};
use millrace_connectors::lines::LineMap;
use millrace_connectors::mediate::{MediationPlan, Mediator};
use millrace_connectors::output::LedgerRow;
use millrace_connectors::store::{FileMeta, Listing, Store, StoreError, Unread};
use millrace_operators::domain::{Fault, FileId};
pub(crate) use moving::open_gates;
use raw::RawFile;
pub(super) use raw::RawFolder;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 16_384;

/// How long a file that arrives stays the same before it is read.
const SETTLED: Duration = Duration::from_millis(300);
/// How often buckets are looked at, which tell of nothing.
const BUCKETS: Duration = Duration::from_secs(2);
/// How often folders are looked at, in case that the watcher has missed something.
const FOLDERS: Duration = Duration::from_secs(10);

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

/// What a source held under a name when it was looked at.
struct Seen {
    id: FileId,
    size: u64,
    etag: Option<String>,
}

impl Seen {
    fn is(&self, meta: &FileMeta) -> bool {
        self.etag.is_some() && self.etag == meta.etag && self.size == meta.size
    }
}

/// A file being read.
pub(super) struct Opened {
    pub(super) id: FileId,
    pub(super) decoder: Decoder,
    pub(super) mediator: Mediator,
    pub(super) archive: Option<RawFile>,
    pub(super) received: u64,
    /// Rows that an earlier run took in: read, and not fed again.
    pub(super) skip: u64,
    /// Rows that are counted as received already.
    pub(super) counted: u64,
    /// What broke the file, if anything did.
    pub(super) broken: Option<Fault>,
    /// The last row that was no record.
    pub(super) unreadable: Option<u64>,
    /// The lines that its records stand on.
    pub(super) lines: LineMap,
    /// The file that it came in place of, if its records restate those.
    pub(super) replaces: Option<FileId>,
    /// Records that were stopped before they became usage.
    pub(super) faults: usize,
    /// Whether the rule chooses any of its records.
    pub(super) chooses: bool,
}

impl Opened {
    /// Remembers which lines the records of a chunk stand on.
    pub(super) fn number_lines(&mut self, chunk: &RawChunk) {
        let of_rows = |fault: &&Fault| !fault.reason.is_of_file() && fault.line > 0;
        if !chunk.faults.iter().any(|fault| of_rows(&fault)) {
            return self.lines.add(&chunk.rows, &chunk.lines);
        }
        let faults = chunk.faults.iter().filter(of_rows);
        let faults = faults.map(|fault| (fault.record.row(), fault.line));
        let records = chunk.rows.iter().copied().zip(chunk.lines.iter().copied());
        let records: BTreeMap<u64, u64> = records.chain(faults).collect();
        let (rows, lines): (Vec<u64>, Vec<u64>) = records.into_iter().unzip();
        self.lines.add(&rows, &lines);
    }

    /// How far the file is read; what breaks a file counts like a row.
    pub(super) fn position(&self) -> u64 {
        let read = self.received + u64::from(self.broken.is_some());
        read.max(self.skip)
    }
}

/// See the module.
pub(super) struct Files {
    ledger: Ledger,
    known: BTreeMap<FileId, SourceFile>,
    waiting: VecDeque<FileId>,
    /// Partitions, which are files that never end.
    partitions: BTreeMap<FileId, (usize, FileMeta)>,
    /// By location, since a client of a bucket is dear.
    stores: BTreeMap<String, Arc<Store>>,
    /// Sources that were looked at by this run.
    looked: BTreeSet<usize>,
    /// What each source held, by name.
    seen: BTreeMap<usize, HashMap<String, Seen>>,
    /// Files of each source that may still be written, by name, and since when they are as they are.
    settling: BTreeMap<usize, HashMap<String, (FileMeta, Instant)>>,
    /// What was wrong with each source at the last look.
    complaints: BTreeMap<usize, BTreeSet<String>>,
    /// What of each source could not be read at the last look.
    unread: BTreeMap<usize, BTreeSet<String>>,
    /// What was told of a file that stays as it is.
    told: BTreeMap<FileId, String>,
    /// Files that failed in this run.
    tried: BTreeSet<FileId>,
    /// Files that an earlier run began and this one could not open yet.
    held: BTreeSet<FileId>,
    /// Files that are read, to be moved out of their input folders; none of sources whose files stay.
    read: BTreeSet<FileId>,
    /// Sources whose files move.
    moving: BTreeSet<usize>,
    /// Those of them whose store cannot let files go safely.
    stay: BTreeSet<usize>,
    /// Files whose entries are new or changed since somebody asked.
    changed: BTreeSet<FileId>,
    /// How far files were read by an earlier run.
    positions: BTreeMap<FileId, u64>,
    /// What the store of the file under way had read when it was opened.
    opened_at: u64,
    /// Bytes of the files that are read.
    bytes_read: u64,
    /// What the records of each source are mediated by.
    inputs: Vec<Inputs>,
    /// What they were mediated by before, and which of them.
    mediated: inputs::MediatedBy,
    /// Fields of sources that were told to be in no record.
    told_unmet: BTreeSet<(usize, String)>,
    /// Whether all content is remembered, for files that come again longer.
    remembers: bool,
    raw: RawFolder,
}

impl Files {
    pub(super) fn new(raw: RawFolder) -> Self {
        Self {
            ledger: Ledger::default(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            partitions: BTreeMap::new(),
            stores: BTreeMap::new(),
            looked: BTreeSet::new(),
            seen: BTreeMap::new(),
            settling: BTreeMap::new(),
            complaints: BTreeMap::new(),
            unread: BTreeMap::new(),
            told: BTreeMap::new(),
            tried: BTreeSet::new(),
            held: BTreeSet::new(),
            read: BTreeSet::new(),
            moving: BTreeSet::new(),
            stay: BTreeSet::new(),
            changed: BTreeSet::new(),
            positions: BTreeMap::new(),
            bytes_read: 0,
            opened_at: 0,
            inputs: Vec::new(),
            mediated: inputs::MediatedBy::default(),
            told_unmet: BTreeSet::new(),
            remembers: false,
            raw,
        }
    }

    /// Remembers what is read of every file, since the job goes on, or another run does.
    pub(super) fn remember(&mut self) {
        self.remembers = true;
    }

    /// Takes in the files that an earlier run met; those that it was reading are read on.
    pub(super) fn restore(
        &mut self,
        records: Vec<FileRecord>,
        positions: BTreeMap<FileId, u64>,
        sources: &[SourcePlan],
        folder: &Path,
    ) -> Result<(), StoreError> {
        let mut entries = Vec::with_capacity(records.len());
        let heirs = heirs(&records, sources);
        for FileRecord {
            mut entry,
            source,
            root,
            meta,
        } in records
        {
            let source = heirs.get(&(source, root)).copied().flatten();
            if let Some(source) = source {
                entry.source.clone_from(&sources[source].name);
            }
            let of_topic = source.filter(|source| sources[*source].kafka.is_some());
            if let Some(source) = of_topic {
                self.partitions.insert(entry.file, (source, meta));
            } else if let Some(source) = source {
                let store = self.store(&sources[source].path, folder)?;
                let id = entry.file;
                if entry.state == FileState::Reading {
                    self.waiting.push_back(id);
                }
                self.see(source, &entry.name, &meta, id);
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
        let has_source = |name: &str| sources.iter().any(|plan| plan.name == name);
        self.ledger = Ledger::restore(entries, has_source);
        self.positions = positions;
        self.find_moved(sources, folder)
    }

    fn store(&mut self, location: &str, folder: &Path) -> Result<Arc<Store>, StoreError> {
        if let Some(store) = self.stores.get(location) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new(Store::open(location, folder)?);
        self.stores.insert(location.to_owned(), Arc::clone(&store));
        Ok(store)
    }

    fn see(&mut self, source: usize, name: &str, meta: &FileMeta, id: FileId) {
        let seen = Seen {
            id,
            size: meta.size,
            etag: meta.etag.clone(),
        };
        let of_source = self.seen.entry(source).or_default();
        of_source.insert(name.to_owned(), seen);
    }

    fn seen(&self, source: usize, name: &str) -> Option<&Seen> {
        self.seen.get(&source)?.get(name)
    }

    /// How long the sources need not be looked at while the watcher tells nothing.
    pub(super) fn patience(&self) -> Duration {
        let settling = self.settling.values().any(|files| !files.is_empty());
        let mut stores = self.stores.values();
        match stores.any(|store| store.local_path().is_none()) {
            _ if settling => SETTLED,
            true => BUCKETS,
            false => FOLDERS,
        }
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
                source: sources.get(source)?.origin().to_owned(),
                root: root_of(sources.get(source)?),
                meta: meta.clone(),
            })
        };
        changed.into_iter().filter_map(record).collect()
    }

    /// The raw records that are kept since the last call, under their hidden names.
    pub(super) fn take_raw(&mut self) -> Vec<Staged> {
        self.raw.take()
    }

    /// Their digests.
    pub(super) fn take_raw_digests(&mut self) -> BTreeMap<FileId, String> {
        self.raw.take_digests()
    }

    /// Learns the digests of what an earlier run kept.
    pub(super) fn know_raw(&mut self, digests: BTreeMap<FileId, String>) {
        self.raw.know(digests);
    }

    /// The message, unless it is what was told of the file before.
    fn tell_once(&mut self, id: FileId, message: String) -> Option<String> {
        let before = self.told.insert(id, message.clone());
        (before.as_ref() != Some(&message)).then_some(message)
    }

    /// The number of a partition of the topic with this id, which is entered when it is met for the first
    /// time, and the next offset where an earlier run read it.
    pub(super) fn partition(
        &mut self,
        index: usize,
        source: &SourcePlan,
        brokers: &str,
        (partition, topic): (&TopicPartition, Option<&str>),
    ) -> Result<(FileId, Option<u64>), Halt> {
        let meta = FileMeta {
            name: partition.to_string(),
            location: format!("kafka://{brokers}/{partition}"),
            size: 0,
            etag: topic.map(str::to_owned),
        };
        let arrival = Arrival {
            name: meta.name.clone(),
            source: source.name.clone(),
            stream: source.stream.clone(),
            size: 0,
            checksum: format!("kafka:{partition}"),
            amends: false,
        };
        let admitted = self.ledger.admit(arrival, &());
        match admitted.map_err(|error| Halt::Source(error.to_string()))? {
            Admission::Known(id) | Admission::Grown(id) => {
                self.recognise(id, source, (partition, topic))?;
                Ok((id, self.positions.get(&id).copied()))
            }
            Admission::Admitted(id) => {
                self.ledger.settle(id, FileState::Followed, 0, "");
                self.changed.insert(id);
                self.partitions.insert(id, (index, meta));
                self.mediated(id);
                Ok((id, None))
            }
            Admission::Refused(refusal) => Err(Halt::Source(refusal.message)),
        }
    }

    /// Refuses a partition of another topic than the one that was read, under its name: offsets of one say
    /// nothing of the other. Where nothing was read, it is as if there had been none.
    fn recognise(
        &mut self,
        id: FileId,
        source: &SourcePlan,
        (partition, topic): (&TopicPartition, Option<&str>),
    ) -> Result<(), Halt> {
        let (held, topic) = match (self.partitions.get_mut(&id), topic) {
            (Some((_, held)), Some(topic)) => (held, topic),
            _ => return Ok(()),
        };
        let known = held.etag.replace(topic.to_owned());
        if known.as_deref() == Some(topic) {
            return Ok(());
        }
        self.changed.insert(id);
        let from = self.ledger.entry(id).map_or(0, |entry| entry.from);
        if known.is_none() {
            return Ok(());
        }
        match self.positions.get(&id).filter(|next| **next > from) {
            None => {
                self.positions.remove(&id);
                Ok(())
            }
            Some(next) => Err(Halt::Source(format!(
                "source {:?}: topic {:?} is not the one that was read up to offset {next} of {partition}: it was \
                 deleted, and created anew under its name. Nothing of it is read; create it under another name, and \
                 write that name in its place under `topics`: what was read stays, and the other is read from its \
                 beginning",
                source.name, &*partition.topic
            ))),
        }
    }

    /// Whether an earlier run has read any partition of a source.
    pub(super) fn has_read(&self, source: usize) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|(id, (of, _))| *of == source && self.positions.contains_key(id))
    }

    /// Notes the first offset of a partition that is read: what stands before was never asked for.
    pub(super) fn begins_at(&mut self, id: FileId, offset: u64) {
        if let Some(entry) = self.ledger.entry_mut(id)
            && entry.from != offset
        {
            entry.from = offset;
            self.changed.insert(id);
        }
    }

    /// A partition by the names that people know: its topic and number, and what the topic is known by.
    pub(super) fn partition_of(&self, id: FileId) -> Option<(TopicPartition, Option<&str>)> {
        let (_, meta) = self.partitions.get(&id)?;
        let (topic, number) = meta.name.rsplit_once('/')?;
        let partition = TopicPartition::new(topic, number.parse().ok()?);
        Some((partition, meta.etag.as_deref()))
    }

    /// Lists a source and enters what is new; returns what a person should hear. What is found by the
    /// first look is taken as it is.
    pub(super) fn discover(
        &mut self,
        index: usize,
        source: &SourcePlan,
        folder: &Path,
    ) -> Vec<String> {
        let (mut messages, mut complaints) = (Vec::new(), BTreeSet::new());
        let mut unread = BTreeSet::new();
        let begins = self.looked.insert(index);
        if source.moves_in.is_some() {
            self.moving.insert(index);
        }
        let store = self.store(&source.path, folder);
        let listed = store.and_then(|store| store.look().map(|listing| (store, listing)));
        match listed {
            Ok((
                store,
                Listing {
                    files,
                    unread: passed_over,
                },
            )) => {
                let passed_over = passed_over.iter();
                let chosen = passed_over.filter(|file| source.chosen.has(&file.name));
                unread.extend(chosen.map(|Unread { name, problem }| {
                    let source = &source.name;
                    format!("source {source:?}: {name:?} is not read: {problem}")
                }));
                let found = files.len();
                let files: Vec<FileMeta> = files
                    .into_iter()
                    .filter(|file| source.chosen.has(&file.name))
                    .collect();
                if files.is_empty() && found > 0 {
                    complaints.insert(format!(
                        "source {:?}: `include` and `exclude` choose none of its {found} files",
                        source.name
                    ));
                }
                let files = match begins || store.local_path().is_none() {
                    true => files,
                    false => self.settled(index, files),
                };
                for meta in files {
                    if let Some(message) = self.emptied(index, source, &meta) {
                        unread.insert(message);
                        continue;
                    }
                    let seen = self.seen(index, &meta.name);
                    let same = seen.filter(|seen| seen.is(&meta)).map(|seen| seen.id);
                    let same = same.filter(|id| !self.may_amend_now(source, *id));
                    let file = SourceFile {
                        // One that is new is numbered by the ledger.
                        id: same.unwrap_or_default(),
                        source: index,
                        store: Arc::clone(&store),
                        meta,
                    };
                    if same.is_some() {
                        self.meet_again(file);
                    } else if let Err(message) = self.admit(source, file, &mut messages) {
                        unread.insert(message);
                    }
                }
            }
            Err(error) => {
                unread.insert(format!("source {:?}: {error}", source.name));
            }
        }
        complaints.extend(unread.iter().cloned());
        self.unread.insert(index, unread);
        let before = self.complaints.insert(index, complaints.clone());
        let before = before.unwrap_or_default();
        messages.extend(complaints.difference(&before).cloned());
        messages
    }

    /// What could not be read of the sources when they were looked at last.
    pub(super) fn unread(&self) -> Vec<String> {
        self.unread.values().flatten().cloned().collect()
    }

    /// The files that are known as they are, or have been as they are for a while.
    fn settled(&mut self, index: usize, files: Vec<FileMeta>) -> Vec<FileMeta> {
        let mut before = self.settling.remove(&index).unwrap_or_default();
        let (mut settled, mut settling) = (Vec::new(), HashMap::new());
        for meta in files {
            let seen = self.seen(index, &meta.name);
            let since = match before.remove(&meta.name) {
                Some((same, since)) if same == meta => since,
                _ => Instant::now(),
            };
            if seen.is_some_and(|seen| seen.is(&meta)) || since.elapsed() >= SETTLED {
                settled.push(meta);
            } else {
                settling.insert(meta.name.clone(), (meta, since));
            }
        }
        self.settling.insert(index, settling);
        settled
    }

    /// Enters a file that is not known as it is.
    fn admit(
        &mut self,
        source: &SourcePlan,
        found: SourceFile,
        messages: &mut Vec<String>,
    ) -> Result<(), String> {
        let (index, meta) = (found.source, found.meta.clone());
        let checksum = found.store.checksum(&meta);
        let arrival = Arrival {
            name: meta.name.clone(),
            source: source.name.clone(),
            stream: source.stream.clone(),
            size: meta.size,
            checksum: checksum.map_err(|error| error.to_string())?,
            amends: source.amends,
        };
        let look = Look {
            store: &found.store,
            meta: &meta,
            format: source.format_of(&meta.name),
        };
        messages.extend(self.replace(&arrival, &look));
        let admission = self.ledger.admit(arrival, &look);
        let id = match admission.map_err(|error| error.to_string())? {
            Admission::Known(id) => {
                self.meet_again(SourceFile { id, ..found });
                id
            }
            Admission::Grown(id) => {
                messages.extend(self.grown(SourceFile { id, ..found }));
                id
            }
            Admission::Refused(refusal) => {
                messages.push(format!("refused: {}", refusal.message));
                let id = refusal.file;
                self.known.insert(id, SourceFile { id, ..found });
                self.changed.insert(id);
                self.leaves(id);
                id
            }
            Admission::Admitted(id) => {
                self.known.insert(id, SourceFile { id, ..found });
                self.changed.insert(id);
                self.waiting.push_back(id);
                id
            }
        };
        self.see(index, &meta.name, &meta, id);
        Ok(())
    }

    /// That a file of which records count has no bytes any more, where that would take all of them out: it is
    /// what a writer leaves that begins anew, so nothing is taken out before there is at least a header.
    fn emptied(&mut self, index: usize, source: &SourcePlan, meta: &FileMeta) -> Option<String> {
        if !source.voids_missing || meta.size > 0 {
            return None;
        }
        let entry = self.ledger.named(&source.name, &meta.name)?;
        let (id, name) = (entry.file, &meta.name);
        let message = (entry.size > 0).then(|| {
            format!(
                "{name:?} was loaded before and has no bytes any more: its records count until it has some; a file without records is one with a header alone, or with an empty line where it has none"
            )
        })?;
        self.see(index, name, meta, id);
        Some(message)
    }

    /// Whether a file was refused because it had changed, and its source has it amend what was read now.
    fn may_amend_now(&self, source: &SourcePlan, id: FileId) -> bool {
        let entry = self.ledger.entry(id).filter(|_| source.amends);
        let refused = entry.filter(|entry| entry.state == FileState::Refused);
        refused.is_some_and(|entry| self.ledger.named(&entry.source, &entry.name).is_some())
    }

    /// A file that is in the ledger lies in its folder still, or again.
    fn meet_again(&mut self, file: SourceFile) {
        let id = file.id;
        match self.ledger.entry(id).map(|entry| entry.state) {
            Some(FileState::Failed) if !self.tried.contains(&id) && self.ledger.retry(id) => {
                self.known.insert(id, file);
                self.changed.insert(id);
                self.waiting.push_back(id);
            }
            Some(FileState::Reading) if self.held.remove(&id) => self.waiting.push_back(id),
            // Sent once more, or not moved yet.
            _ => self.leaves(id),
        }
    }

    /// Gives up a file that was to be read, or to be read on, when another has come in its place; says so.
    fn replace(&mut self, arrival: &Arrival, look: &Look<'_>) -> Option<String> {
        let Arrival { name, source, .. } = arrival;
        let entry = self.ledger.named(source, name)?;
        let id = entry.file;
        if entry.state != FileState::Reading
            || self.ledger.change(id, arrival, look) != Change::Changed
        {
            return None;
        }
        self.waiting.retain(|waiting| *waiting != id);
        self.held.remove(&id);
        let rows = self.positions.get(&id).copied().unwrap_or(0);
        let message = match rows {
            0 => format!("{name:?} has changed before it was read"),
            _ => format!(
                "{name:?} has changed since {rows} rows of it were read: these count, and what it holds now is not read; write `on_change: amend` at its source to have it correct them, or send the rows that are missing in a file of their own"
            ),
        };
        let state = match rows {
            0 => FileState::Failed,
            _ => FileState::Incomplete,
        };
        self.settle(id, state, rows, message.clone());
        Some(message)
    }

    /// Lets files that failed be tried once more when they are met: what they are read by has changed.
    pub(super) fn try_again(&mut self) {
        self.tried.clear();
    }

    /// Lets files of a name that failed be tried once more.
    pub(super) fn try_named_again(&mut self, name: &str) {
        let ledger = &self.ledger;
        let is_named = |id: &FileId| ledger.entry(*id).is_some_and(|entry| entry.name == name);
        self.tried.retain(|id| !is_named(id));
        self.told.retain(|id, _| !is_named(id));
    }

    fn settle(&mut self, id: FileId, state: FileState, rows: u64, message: String) {
        self.changed.insert(id);
        self.positions.remove(&id);
        self.ledger.settle(id, state, rows, message);
        self.leaves(id);
    }

    /// The source of a file or partition.
    pub(super) fn source_of(&self, id: FileId) -> Option<usize> {
        let file = self.known.get(&id).map(|file| file.source);
        file.or_else(|| self.partitions.get(&id).map(|(source, _)| *source))
    }

    /// Names by file number.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.ledger
            .entries()
            .iter()
            .map(|entry| Arc::from(entry.name.as_str()))
            .collect()
    }

    /// The ledger's entry of a file.
    pub(super) fn entry(&self, id: FileId) -> Option<&LedgerEntry> {
        self.ledger.entry(id)
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
            keep_originals: !format.is_typed(),
            ..DecodeOptions::default()
        };
        let (store, meta, columns) = (&file.store, &file.meta, rule.columns());
        let decoder = Decoder::open(store, meta, file.id, &format, columns, &options)
            .map_err(|error| error.to_string())?;
        opened(file, decoder, rule)
    }

    /// How many of the bytes of the files that were found are read, if `reading` is under way.
    pub(super) fn read_of(&self, reading: Option<FileId>) -> Extent {
        let size = |id: &FileId| self.known.get(id).map_or(0, |file| file.meta.size);
        let waiting: u64 = self.waiting.iter().map(size).sum();
        let (size, read) = match reading.and_then(|id| self.known.get(&id)) {
            Some(file) => {
                let read = file.store.bytes_read().saturating_sub(self.opened_at);
                (file.meta.size, read.min(file.meta.size))
            }
            None => (0, 0),
        };
        Extent {
            read: self.bytes_read + read,
            found: self.bytes_read + size + waiting,
        }
    }

    /// The next file to read, of a source that is not paused.
    pub(super) fn next(&mut self, paused: impl Fn(usize) -> bool) -> Option<SourceFile> {
        let known = &self.known;
        let reads = |id: &FileId| known.get(id).is_some_and(|file| !paused(file.source));
        let at = self.waiting.iter().position(reads)?;
        let id = self.waiting.remove(at)?;
        let file = self.known.get(&id).cloned()?;
        self.opened_at = file.store.bytes_read();
        Some(file)
    }

    /// Opens a file to be read for the first time, or on from where an earlier run was.
    pub(super) fn open(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
        rows: usize,
    ) -> Result<Opened, String> {
        let skip = self.positions.get(&file.id).copied().unwrap_or(0);
        if skip > 0 {
            self.is_what_was_read(file)
                .map_err(|error| format!("{:?} is not read on: {error}", file.meta.name))?;
            if self.is_laid_out_otherwise(file.id, file.source) {
                let name = &file.meta.name;
                return Err(format!(
                    "{name:?} is not read on: {skip} rows of it were read in another format or layout"
                ));
            }
        }
        let format = format_of(file, source)?;
        let keeps = self.raw.keeps(&format);
        let options = DecodeOptions {
            chunk_rows: rows.min(CHUNK_ROWS),
            keep_originals: keeps,
            // A file that was cut in the middle is known by that when the whole one comes; where nothing
            // else tells records apart, one that was cut at the end of a row, too.
            remember: self.remembers || is_compressed(&file.meta.name) || !rule.has_identity(),
            ..DecodeOptions::default()
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
        let entry = self.ledger.entry(file.id);
        let counted = entry.map_or(0, |entry| entry.rows).max(skip);
        let archive = if keeps {
            let entry = self.ledger.entry(file.id);
            let checksum = entry.map(|entry| entry.checksum.clone());
            let checksum = checksum.unwrap_or_default();
            Some(self.raw.create(file, source, checksum, format)?)
        } else {
            None
        };
        Ok(Opened {
            archive,
            skip,
            counted,
            ..self.opened(file, decoder, rule)?
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
        // What is read on has no archive of its own yet.
        let entry = self.ledger.entry(file.id);
        let is_read = entry.is_some_and(|entry| entry.state != FileState::Reading);
        let decoder = if is_read && self.raw.keeps(&format) {
            let opened = self.raw.open(file, source, rule, &options);
            opened.map_err(|error| again(&error))?
        } else {
            self.is_what_was_read(file).map_err(|error| again(&error))?;
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
        self.opened(file, decoder, rule)
    }

    fn opened(
        &self,
        file: &SourceFile,
        decoder: Decoder,
        rule: &MediationPlan,
    ) -> Result<Opened, String> {
        let mut opened = opened(file, decoder, rule)?;
        opened.replaces = self.ledger.entry(file.id).and_then(|entry| entry.replaces);
        if opened.replaces.is_some() {
            opened.mediator.restate();
        }
        Ok(opened)
    }

    /// Where the raw records of a file are kept.
    pub(super) fn raw_of(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
    ) -> Result<(Arc<Store>, FileMeta), String> {
        self.raw.of_file(file, source)
    }

    /// Whether a file is there as it was read.
    pub(super) fn is_there(&self, file: &SourceFile) -> bool {
        self.is_what_was_read(file).is_ok()
    }

    fn is_what_was_read(&self, file: &SourceFile) -> Result<(), String> {
        let told = |error: StoreError| error.to_string();
        if file.store.is_as_listed(&file.meta).map_err(told)? {
            return Ok(());
        }
        let now = FileMeta {
            etag: None,
            ..file.meta.clone()
        };
        let checksum = file.store.checksum(&now).map_err(told)?;
        let entry = self.ledger.entry(file.id);
        match entry.is_some_and(|entry| entry.checksum == checksum) {
            true => Ok(()),
            false => Err("its content has changed since it was read".to_owned()),
        }
    }

    /// Files whose records count, in order.
    pub(super) fn read_files(&self) -> Vec<SourceFile> {
        let read = |id: &FileId| {
            let entry = self.ledger.entry(*id);
            entry.is_some_and(|entry| entry.state.counts())
        };
        self.known
            .values()
            .filter(|file| read(&file.id))
            .cloned()
            .collect()
    }

    /// A file that could not be opened; returns what a person should hear. One that an earlier run has
    /// read rows of, which count, stays as it is until it can be.
    pub(super) fn failed(&mut self, id: FileId, message: String) -> Option<String> {
        if self.positions.get(&id).is_some_and(|rows| *rows > 0) {
            self.held.insert(id);
            return self.tell_once(id, message);
        }
        self.tried.insert(id);
        self.told.insert(id, message.clone());
        self.settle(id, FileState::Failed, 0, message.clone());
        Some(message)
    }

    /// A file that was read to its end, or to where it breaks off; returns what a person should hear.
    pub(super) fn finish(&mut self, mut opened: Opened) -> Option<String> {
        self.note(&mut opened);
        let remark = opened.decoder.remark().map(str::to_owned);
        let archive = opened.archive.take();
        let archived = archive.map_or(Ok(()), |archive| self.raw.finish(opened.id, archive));
        let file = self.known.get(&opened.id);
        self.bytes_read += file.map_or(0, |file| file.meta.size);
        let name = file.map(|file| file.meta.name.clone()).unwrap_or_default();
        let (state, message) = match (&opened.broken, &archived) {
            (Some(fault), _) => (FileState::Incomplete, fault.detail.clone()),
            (None, Err(error)) => (
                FileState::Doubtful,
                format!("raw records are not kept: {error}"),
            ),
            (None, Ok(())) => match remark {
                Some(remark) => (FileState::Doubtful, remark),
                None => (FileState::Loaded, String::new()),
            },
        };
        let rows = opened.received.max(opened.counted);
        let mended = message.is_empty() && self.was_told_of(opened.id);
        self.settle(opened.id, state, rows, message.clone());
        if mended {
            return Some(format!("{name:?} is whole now: {rows} records"));
        }
        if message.is_empty() {
            return None;
        }
        self.told.insert(opened.id, message.clone());
        Some(format!("{name:?} is {}: {message}", state.name()))
    }

    /// Whether a person has heard that this file, or one before it under its name, could not be read, or
    /// not to its end.
    fn was_told_of(&self, id: FileId) -> bool {
        let Some(entry) = self.ledger.entry(id) else {
            return false;
        };
        let is_bad = |state| matches!(state, FileState::Failed | FileState::Incomplete);
        let same = |other: &&LedgerEntry| other.name == entry.name && other.stream == entry.stream;
        // Its own entry says how it is now, and not how it was before it was tried again.
        let others = self.ledger.entries().iter().filter(same);
        let mut others = others.filter(|other| other.file != id);
        self.told.contains_key(&id) || others.any(|other| is_bad(other.state))
    }

    /// Enters what has been read of a file so far.
    pub(super) fn note(&mut self, opened: &mut Opened) {
        let content = opened.decoder.content();
        let Some(entry) = self.ledger.entry_mut(opened.id) else {
            return;
        };
        let settled = content.as_ref().map_or(u64::MAX, |content| content.settled);
        entry.torn = opened.unreadable.is_some_and(|row| row >= settled);
        entry.rows = opened.received.max(opened.counted);
        entry.broken.clone_from(&opened.broken);
        entry.lines.clone_from(&opened.lines);
        if opened.received >= opened.skip {
            self.ledger.read(opened.id, content);
        }
        self.changed.insert(opened.id);
    }

    /// The rows of a file that count.
    pub(super) fn range(&self, id: FileId) -> std::ops::Range<u64> {
        let entry = self.ledger.entry(id);
        let from = entry.map_or(0, |entry| entry.from);
        from..entry.and_then(|entry| entry.until).unwrap_or(u64::MAX)
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
                replaces: entry.replaces.is_some(),
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
        counted: 0,
        broken: None,
        unreadable: None,
        lines: LineMap::default(),
        replaces: None,
        faults: 0,
        chooses: false,
    })
}

/// What a source reads from, which stays when its name does not.
fn root_of(source: &SourcePlan) -> String {
    match &source.kafka {
        Some(kafka) => format!("kafka:{}", kafka.topics.join(",")),
        None => source.path.clone(),
    }
}

/// The source of the job that has what an earlier run read, by the source's name and root then: that of the
/// same name and root, or else one of the same stream and root, which was renamed, or else one of the same
/// name, which reads from another place now.
fn heirs(
    records: &[FileRecord],
    sources: &[SourcePlan],
) -> HashMap<(String, String), Option<usize>> {
    let groups: BTreeMap<(&str, &str), &FileRecord> = records
        .iter()
        .map(|record| ((record.source.as_str(), record.root.as_str()), record))
        .collect();
    let place = |wanted: &dyn Fn(&SourcePlan) -> bool| sources.iter().position(wanted);
    let mut heirs = HashMap::new();
    let mut taken = BTreeSet::new();
    for (name, root) in groups.keys().copied() {
        let same = place(&|plan| plan.origin() == name && root_of(plan) == root);
        if let Some(same) = same {
            taken.insert(same);
            heirs.insert((name.to_owned(), root.to_owned()), Some(same));
        }
    }
    for ((name, root), record) in groups {
        let key = (name.to_owned(), root.to_owned());
        if heirs.contains_key(&key) {
            continue;
        }
        let renamed = sources.iter().enumerate().position(|(index, plan)| {
            !taken.contains(&index) && root_of(plan) == root && plan.stream == record.entry.stream
        });
        taken.extend(renamed);
        heirs.insert(
            key,
            renamed.or_else(|| place(&|plan| plan.origin() == name)),
        );
    }
    heirs
}

fn is_compressed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".gz") || name.ends_with(".zst")
}

fn format_of(file: &SourceFile, source: &SourcePlan) -> Result<Format, String> {
    source.format_of(&file.meta.name).ok_or_else(|| {
        format!(
            "the format of {:?} cannot be told from its name; give the source {:?} a `format`, or leave \
             such files out with `exclude`",
            file.meta.name, source.name
        )
    })
}
