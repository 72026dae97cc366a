//! Reads periods: manifests, then sidecars of the shards asked for, then rows.

use super::file::{located, parsed, read_all, read_entry};
use super::layout::{
    self, AccountEntry, FileEntry, GroupEntry, Manifest, Sidecar, StateMark, period_of, sequence_of,
};
use super::lines::{self, ArchivedLine};
use super::scan::{find_usage, read_rows};
use super::usage::BilledUsage;
use super::{ArchiveError, VERSION, reading, reference};
use crate::names::Names;
use crate::reference::Reference;
use crate::store::{FileMeta, Store, StoreError, unsealed};
use bytes::Bytes;
use millrace_operators::domain::{AccountKey, EventTime, FileId, Identity, Period};
use millrace_operators::epoch::shard;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// An archive: its periods, by time.
#[derive(Debug)]
pub struct Archive {
    store: Arc<Store>,
    /// The sequences of each period.
    periods: BTreeMap<Period, BTreeSet<u32>>,
    /// Every file, as it was listed.
    files: BTreeMap<String, FileMeta>,
}

/// Periods that are opened at once: a bucket takes its time for each manifest.
const OPENED: usize = 16;

/// What manifests of every version say.
#[derive(Deserialize)]
struct Form {
    version: u32,
}

impl Archive {
    /// Opens the archive at a location, as [`Store::open`] does.
    ///
    /// # Errors
    /// When there is none, or it cannot be listed.
    pub fn open(location: &str, base: &Path) -> Result<Self, ArchiveError> {
        let archive = Self::of(Arc::new(Store::open(location, base)?))?;
        if archive.periods.is_empty() {
            let location = location.to_owned();
            return Err(ArchiveError::None { location });
        }
        Ok(archive)
    }

    /// The archive in a store, which may have no period yet.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub fn of(store: Arc<Store>) -> Result<Self, ArchiveError> {
        let files = match store.list() {
            // The first write makes the folder, but nobody makes a bucket.
            Err(StoreError::Missing { .. }) if store.local_path().is_some() => Vec::new(),
            listed => listed?,
        };
        let mut periods: BTreeMap<Period, BTreeSet<u32>> = BTreeMap::new();
        for file in &files {
            let mut parts = file.name.rsplitn(3, '/');
            let (name, folder) = (parts.next(), parts.next());
            let found = name.and_then(sequence_of).zip(folder.and_then(period_of));
            if let Some((sequence, period)) = found {
                periods.entry(period).or_default().insert(sequence);
            }
        }
        let files = files.into_iter().map(|file| (file.name.clone(), file));
        Ok(Self {
            store,
            periods,
            files: files.collect(),
        })
    }

    /// Where the bytes are.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The periods, by start.
    pub fn periods(&self) -> impl DoubleEndedIterator<Item = Period> {
        self.periods.keys().copied()
    }

    /// The number of the last adjustment of a period, 0 for none; nothing if it is not archived.
    #[must_use]
    pub fn sequence(&self, period: Period) -> Option<u32> {
        self.periods.get(&period)?.last().copied()
    }

    /// Opens a period.
    ///
    /// # Errors
    /// When one of its manifests is missing or damaged.
    pub fn period(&self, period: Period) -> Result<ArchivedPeriod, ArchiveError> {
        let sequences = self.periods.get(&period);
        let last = sequences
            .and_then(|sequences| sequences.last().copied())
            .unwrap_or(0);
        let mut manifests = Vec::new();
        let mut digests = Vec::new();
        for sequence in 0..=last {
            let (manifest, digest) = self.manifest(period, sequence)?;
            manifests.push(manifest);
            digests.push(digest);
        }
        Ok(ArchivedPeriod {
            store: Arc::clone(&self.store),
            period,
            manifests,
            digests,
            sidecars: Mutex::default(),
        })
    }

    /// Opens all periods, by start. Those of a bucket are opened beside one another.
    ///
    /// # Errors
    /// When a manifest of one is missing or damaged: of the first such period.
    ///
    /// # Panics
    /// Never: whoever reads does so behind the shield.
    pub fn open_all(&self) -> Result<Vec<ArchivedPeriod>, ArchiveError> {
        let periods: Vec<Period> = self.periods().collect();
        let readers = match self.store.local_path() {
            Some(_) => 1,
            None => OPENED.min(periods.len()),
        };
        let (next, opened) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        let read = || {
            while let Some(period) = periods.get(next.fetch_add(1, Ordering::Relaxed)) {
                let found = self.period(*period);
                let mut opened = opened.lock().expect("no reader of periods panics");
                opened.insert(*period, found);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..readers {
                let reader = std::thread::Builder::new().name("archive".to_owned());
                // Where the system has no thread for it, the others open more.
                drop(reader.spawn_scoped(scope, read));
            }
            read();
        });
        let opened = opened.into_inner().expect("no reader of periods panics");
        opened.into_values().collect()
    }

    /// A manifest, and the digest of its bytes.
    fn manifest(
        &self,
        period: Period,
        sequence: u32,
    ) -> Result<(Manifest, blake3::Hash), ArchiveError> {
        let name = layout::manifest(period, sequence);
        let missing = |location: &str| ArchiveError::damaged(location, "is missing");
        let Some(meta) = self.files.get(&name) else {
            return Err(missing(&format!("{}/{name}", self.store.location())));
        };
        let location = &meta.location;
        let bytes = read_all(&self.store, meta).map_err(|error| match error {
            ArchiveError::Store(StoreError::Missing { .. }) => missing(location),
            error => error,
        })?;
        let Some(line) = unsealed(&bytes) else {
            let detail = "is not what was written: its digest differs";
            return Err(match serde_json::from_slice::<Form>(&bytes) {
                // The first version had no digest.
                Ok(Form { version: found }) if found < VERSION => {
                    let location = location.clone();
                    ArchiveError::Version { location, found }
                }
                _ => ArchiveError::damaged(location, detail),
            });
        };
        let Form { version: found } = parsed(line.as_bytes(), location)?;
        if found != VERSION {
            let location = location.clone();
            return Err(ArchiveError::Version { location, found });
        }
        let manifest: Manifest = parsed(line.as_bytes(), location)?;
        if (manifest.period, manifest.sequence) != (period, sequence) {
            let detail = format!(
                "is manifest {} of {}, not what its name says",
                manifest.sequence, manifest.period
            );
            return Err(ArchiveError::damaged(location, detail));
        }
        Ok((manifest, blake3::hash(&bytes)))
    }

    /// Makes sure that all files of a period are there, each as long as it was written. Nothing is read.
    ///
    /// # Errors
    /// When one is missing, or has other bytes.
    pub fn check_files(&self, period: &ArchivedPeriod) -> Result<(), ArchiveError> {
        let manifests = period.manifests.iter();
        let mut files = manifests.flat_map(|manifest| manifest.copies().chain(manifest.files()));
        files.try_for_each(|FileEntry { name, size, .. }| {
            let detail = match self.files.get(name).map(|file| file.size) {
                Some(held) if held == *size => return Ok(()),
                Some(held) => format!("has {held} bytes, not {size}"),
                None => "is missing".to_owned(),
            };
            let location = format!("{}/{name}", self.store.location());
            Err(ArchiveError::damaged(&location, detail))
        })
    }
}

/// A period of an archive. Sidecars that were read are kept.
#[derive(Debug)]
pub struct ArchivedPeriod {
    store: Arc<Store>,
    period: Period,
    /// By sequence.
    manifests: Vec<Manifest>,
    /// Of the bytes of the manifests, likewise.
    digests: Vec<blake3::Hash>,
    sidecars: Mutex<BTreeMap<(u32, u64), Arc<Sidecar>>>,
}

/// Where an account is in a period.
#[derive(Clone, Debug)]
pub struct Found {
    /// The last sequence that has it.
    pub sequence: u32,
    /// Its shard.
    pub shard: u64,
    /// Its rows.
    pub entry: AccountEntry,
    /// Its balance groups.
    pub groups: Vec<GroupEntry>,
}

impl ArchivedPeriod {
    /// The period.
    #[must_use]
    pub fn period(&self) -> Period {
        self.period
    }

    /// The period as it was when it had this sequence.
    #[must_use]
    pub fn until(mut self, sequence: u32) -> Self {
        self.manifests.retain(|held| held.sequence <= sequence);
        self
    }

    /// What tells the period, as it was when it had this sequence, from any other: a digest of its
    /// manifests, which have those of all its files.
    #[must_use]
    pub fn digest(&self, sequence: u32) -> String {
        let mut hasher = blake3::Hasher::new();
        for (digest, _) in self.digests.iter().zip(0..=sequence) {
            hasher.update(digest.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The states that its manifests were written from, as far as they had come; nothing of one that a job
    /// without durable state wrote.
    pub fn written_from(&self) -> impl Iterator<Item = Option<&StateMark>> {
        self.manifests.iter().map(|held| held.state.as_ref())
    }

    /// What the last adjustment says, or the bill where there was none.
    ///
    /// # Panics
    /// Never: a period has a manifest at least.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        self.manifests.last().expect("a period has a manifest")
    }

    /// The present of the job when the period was last written.
    #[must_use]
    pub fn clock(&self) -> EventTime {
        self.manifest().clock
    }

    /// The records of the bill.
    #[must_use]
    pub fn records(&self) -> u64 {
        let bill = self.manifests.first();
        bill.into_iter()
            .flat_map(|bill| bill.shards.values())
            .map(|shard| shard.records)
            .sum()
    }

    /// The bytes of all its files.
    #[must_use]
    pub fn size(&self) -> u64 {
        let files = self.manifests.iter().flat_map(Manifest::files);
        files.map(|file| file.size).sum()
    }

    /// The shards that it has.
    #[must_use]
    pub fn shards(&self) -> BTreeSet<u64> {
        let shards = self
            .manifests
            .iter()
            .flat_map(|manifest| manifest.shards.keys());
        shards.copied().collect()
    }

    fn sidecar(
        &self,
        manifest: &Manifest,
        shard: u64,
    ) -> Result<Option<Arc<Sidecar>>, ArchiveError> {
        let Some(entry) = manifest.shards.get(&shard) else {
            return Ok(None);
        };
        let key = (manifest.sequence, shard);
        let held = || self.sidecars.lock().expect("no reader of sidecars panics");
        if let Some(sidecar) = held().get(&key) {
            return Ok(Some(Arc::clone(sidecar)));
        }
        let (meta, bytes) = read_entry(&self.store, &entry.sidecar)?;
        let sidecar: Arc<Sidecar> = Arc::new(parsed(&bytes, &meta.location)?);
        held().insert(key, Arc::clone(&sidecar));
        Ok(Some(sidecar))
    }

    /// Where an account is; nothing if the period does not have it.
    ///
    /// # Errors
    /// When a sidecar is missing or damaged.
    pub fn find(&self, account: &str) -> Result<Option<Found>, ArchiveError> {
        let shard = shard(AccountKey::of(&[account]).0);
        for manifest in self.manifests.iter().rev() {
            let Some(sidecar) = self.sidecar(manifest, shard)? else {
                continue;
            };
            if let Some(entry) = sidecar.account(account) {
                let groups = entry
                    .groups
                    .iter()
                    .filter_map(|place| sidecar.groups.get(*place));
                return Ok(Some(Found {
                    sequence: manifest.sequence,
                    shard,
                    entry: entry.clone(),
                    groups: groups.cloned().collect(),
                }));
            }
        }
        Ok(None)
    }

    /// The balance groups that were written behind a sequence.
    ///
    /// # Errors
    /// When a sidecar is missing or damaged.
    pub fn groups_since(&self, sequence: u32) -> Result<Vec<GroupEntry>, ArchiveError> {
        let mut groups = Vec::new();
        for manifest in self.manifests.iter().filter(|m| m.sequence > sequence) {
            for shard in manifest.shards.keys() {
                if let Some(sidecar) = self.sidecar(manifest, *shard)? {
                    groups.extend(sidecar.groups.iter().cloned());
                }
            }
        }
        Ok(groups)
    }

    /// The accounts that were written behind a sequence.
    ///
    /// # Errors
    /// When a sidecar is missing or damaged.
    pub fn accounts_since(&self, sequence: u32) -> Result<BTreeSet<String>, ArchiveError> {
        let mut accounts = BTreeSet::new();
        for manifest in self.manifests.iter().filter(|m| m.sequence > sequence) {
            accounts.extend(self.accounts_of(manifest)?);
        }
        Ok(accounts)
    }

    fn accounts_of(&self, manifest: &Manifest) -> Result<Vec<String>, ArchiveError> {
        let mut accounts = Vec::new();
        for shard in manifest.shards.keys() {
            if let Some(sidecar) = self.sidecar(manifest, *shard)? {
                accounts.extend(sidecar.accounts.iter().map(|entry| entry.account.clone()));
            }
        }
        Ok(accounts)
    }

    /// All accounts of a shard with their rows.
    ///
    /// # Errors
    /// When a sidecar is missing or damaged.
    pub fn accounts(&self, shard: u64) -> Result<BTreeMap<String, u64>, ArchiveError> {
        let mut accounts = BTreeMap::new();
        for manifest in &self.manifests {
            if let Some(sidecar) = self.sidecar(manifest, shard)? {
                let entries = sidecar.accounts.iter();
                accounts.extend(entries.map(|entry| (entry.account.clone(), entry.rows)));
            }
        }
        Ok(accounts)
    }

    /// The accounts that one of these price rows was used for.
    ///
    /// # Errors
    /// When a sidecar is missing or damaged.
    pub fn priced_by(&self, prices: &BTreeSet<String>) -> Result<BTreeSet<String>, ArchiveError> {
        let mut accounts = BTreeSet::new();
        for manifest in &self.manifests {
            for shard in manifest.shards.keys() {
                if let Some(sidecar) = self.sidecar(manifest, *shard)? {
                    let priced = prices.iter().flat_map(|price| sidecar.priced_by(price));
                    accounts.extend(priced.map(str::to_owned));
                }
            }
        }
        Ok(accounts)
    }

    /// The names of the files that records of a shard came from, by number.
    ///
    /// # Errors
    /// When a sidecar is missing or damaged.
    pub fn files(&self, shard: u64) -> Result<BTreeMap<FileId, String>, ArchiveError> {
        let mut files = BTreeMap::new();
        for manifest in &self.manifests {
            if let Some(sidecar) = self.sidecar(manifest, shard)? {
                let named = sidecar.files.iter();
                files.extend(named.map(|(file, name)| (FileId(*file), name.clone())));
            }
        }
        Ok(files)
    }

    /// The usage of accounts, as of the last sequence of each; texts are entered in `names`.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn usage<'a>(
        &self,
        accounts: impl IntoIterator<Item = &'a str>,
        names: &Names,
    ) -> Result<Vec<BilledUsage>, ArchiveError> {
        let mut wanted: BTreeMap<(u32, u64), Vec<AccountEntry>> = BTreeMap::new();
        for account in accounts {
            if let Some(found) = self.find(account)?
                && found.entry.rows > 0
            {
                let place = (found.sequence, found.shard);
                wanted.entry(place).or_default().push(found.entry);
            }
        }
        let mut rows = Vec::new();
        for ((sequence, shard), mut entries) in wanted {
            entries.sort_by_key(|entry| entry.first);
            let manifest = self
                .manifests
                .iter()
                .find(|manifest| manifest.sequence == sequence);
            let file = manifest.and_then(|manifest| manifest.shards.get(&shard)?.usage.as_ref());
            let Some(file) = file else {
                let place = layout::manifest(self.period, sequence);
                let detail = format!("names no usage of shard {shard}, which its sidecar has");
                return Err(ArchiveError::damaged(&place, detail));
            };
            let meta = located(&self.store, file)?;
            reading(&meta.location, || {
                read_rows(&self.store, &meta, &entries, names, &mut rows)
            })?;
        }
        Ok(rows)
    }

    /// What was billed to the accounts of a shard, adjustments too.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn lines(&self, shard: u64) -> Result<Vec<ArchivedLine>, ArchiveError> {
        let mut all = Vec::new();
        for manifest in &self.manifests {
            let entry = manifest
                .shards
                .get(&shard)
                .and_then(|entry| entry.lines.as_ref());
            let Some(entry) = entry else {
                continue;
            };
            let (meta, bytes) = read_entry(&self.store, entry)?;
            let failed = |error: &dyn std::fmt::Display| {
                ArchiveError::damaged(&meta.location, format!("is not readable: {error}"))
            };
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))
                .and_then(ParquetRecordBatchReaderBuilder::build)
                .map_err(|error| failed(&error))?;
            for batch in reader {
                let batch = batch.map_err(|error| failed(&error))?;
                all.append(&mut lines::decode(
                    &batch,
                    &manifest.aggregate_by,
                    &meta.location,
                )?);
            }
        }
        Ok(all)
    }

    /// The reference data that the period was last billed by: for the accounts of `shards`, or for
    /// all.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn reference(
        &self,
        shards: Option<&BTreeSet<u64>>,
        names: &Names,
    ) -> Result<Reference, ArchiveError> {
        reference::read(&self.store, self.manifest(), shards, names)
    }

    /// Whether the period was last billed by the very same reference data.
    ///
    /// # Errors
    /// Never for reference data, which all has a JSON form; a serialiser's contract.
    pub fn has_reference(
        &self,
        reference: &Reference,
        names: &Names,
    ) -> Result<bool, ArchiveError> {
        reference::is_same(self.manifest(), reference, names)
    }

    /// The usage of those of the identities that the period has, as of the last sequence of each account;
    /// texts are entered in `names`. Bloom filters are asked first; only row groups that may have one are
    /// read.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn usage_of(
        &self,
        identities: &BTreeSet<Identity>,
        names: &Names,
    ) -> Result<BTreeMap<Identity, BilledUsage>, ArchiveError> {
        let mut found = BTreeMap::new();
        // Written once more behind the sequence at hand.
        let mut again: BTreeSet<String> = BTreeSet::new();
        for manifest in self.manifests.iter().rev() {
            let shards = manifest.shards.values();
            for (file, search) in shards.filter_map(|s| s.usage.as_ref().zip(s.search.as_ref())) {
                let meta = located(&self.store, file)?;
                reading(&meta.location, || {
                    let file = (&meta, search);
                    find_usage(&self.store, file, identities, &again, names, &mut found)
                })?;
            }
            // The bill has nothing before it.
            if manifest.sequence > 0 {
                again.extend(self.accounts_of(manifest)?);
            }
        }
        Ok(found)
    }
}
