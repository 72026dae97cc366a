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
mod find;
mod grown;
mod inputs;
mod kin;
mod look;
mod mediated;
mod moving;
mod opened;
mod raw;
mod read;
mod unmet;

use super::halt::Halt;
use crate::durable::{FileRecord, Position, Staged};
use crate::job::SourcePlan;
use crate::metrics::Extent;
use find::{heirs, root_of};
pub(super) use inputs::Behind;
pub(super) use look::{Begin, TakeBack};
use mediated::MediatedBy;
use millrace_connectors::kafka::TopicPartition;
use millrace_connectors::ledger::{Admission, Arrival, FileState, Inputs, Ledger, LedgerEntry};
use millrace_connectors::output::LedgerRow;
use millrace_connectors::store::{FileMeta, Store, StoreError};
use millrace_operators::domain::FileId;
pub(crate) use moving::open_gates;
use opened::format_of;
pub(super) use opened::{Opened, SourceFile};
pub(super) use raw::RawFolder;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 16_384;

/// How long a file that arrives stays the same before it is read.
const SETTLED: Duration = Duration::from_millis(300);
/// How often buckets are looked at, which tell of nothing.
const BUCKETS: Duration = Duration::from_secs(2);
/// How often folders are looked at, in case that the watcher has missed something.
const FOLDERS: Duration = Duration::from_secs(10);

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
    mediated: MediatedBy,
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
            mediated: MediatedBy::default(),
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
