//! Names of files, and the two kinds of JSON beside the Parquet.

use millrace_operators::domain::{EventTime, Period};
use millrace_operators::epoch::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The files of a period at one sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the format.
    pub version: u32,
    /// The job.
    pub job: String,
    /// The period.
    pub period: Period,
    /// 0 for the bill, then the number of the adjustment.
    pub sequence: u32,
    /// The present of the job when it was written.
    pub clock: EventTime,
    /// The durable state that it was written from, where the job has any.
    pub state: Option<StateMark>,
    /// The tenant's time zone.
    pub time_zone: String,
    /// What separates billing lines, as the job names it.
    pub aggregate_by: Vec<String>,
    /// Prices and plans in force.
    pub catalog: FileEntry,
    /// Accounts, subscriptions and services in force, by shard.
    pub accounts: BTreeMap<u64, FileEntry>,
    /// The shards that there are.
    pub shards: BTreeMap<u64, ShardEntry>,
}

/// How far a job's durable state had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateMark {
    /// What no other state is called.
    pub name: String,
    /// The first epoch that was not committed.
    pub live: Epoch,
}

/// The files of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Usage; none where accounts were billed without.
    pub usage: Option<FileEntry>,
    /// What tells that parts of it are whole.
    pub search: Option<SearchEntry>,
    /// What was billed; none in an adjustment of nothing.
    pub lines: Option<FileEntry>,
    /// Where things are.
    pub sidecar: FileEntry,
    /// Accounts.
    pub accounts: usize,
    /// Records.
    pub records: u64,
}

/// A file, and what tells that it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name below the archive's folder.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Their blake3 digest, in hexadecimal.
    pub digest: String,
}

/// What tells that the parts of a file of usage are whole that a search for identities reads: its digest
/// would take all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchEntry {
    /// Where the tail begins: Bloom filters, indexes and the footer.
    pub tail: u64,
    /// The digest of the tail.
    pub digest: String,
    /// The digest of what the rows of each row group say.
    pub groups: Vec<String>,
}

/// Where things are in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sidecar {
    /// The accounts, in the order of their rows: by name.
    pub accounts: Vec<AccountEntry>,
    /// The accounts that each price row was used for, as places in `accounts`: first, first after,
    /// first, first after.
    pub prices: BTreeMap<String, Vec<usize>>,
    /// The balance groups of the accounts.
    pub groups: Vec<GroupEntry>,
    /// The names of the files that records came from, by number.
    pub files: BTreeMap<u32, String>,
}

/// The usage of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountEntry {
    /// The account.
    pub account: String,
    /// Its first row in the file of usage; the row groups have [`GROUP_ROWS`](super::GROUP_ROWS) rows
    /// each.
    pub first: u64,
    /// Its rows.
    pub rows: u64,
    /// The digest of what the rows say.
    pub digest: String,
    /// Its balance groups, as places in `groups`.
    pub groups: Vec<usize>,
}

/// Where a balance group stood when the period began and when it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupEntry {
    /// The pool that its subscriptions name.
    pub pool: String,
    /// Its currency.
    pub currency: String,
    /// All accounts that share it.
    pub accounts: Vec<String>,
    /// What had moved its buckets when the period began; none where no usage came before, so that
    /// what moved follows from the plans alone.
    pub opening: Option<Vec<BucketEntry>>,
    /// What had moved its buckets when the period ended.
    pub closing: Vec<BucketEntry>,
}

/// What moved a bucket, in its measure's units: usage, and what the edges of periods carried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketEntry {
    /// The bucket's key, in hexadecimal: plans, the group and the cycle make it.
    pub bucket: String,
    /// The allowance, accumulator or cap that it is a bucket of.
    pub resource: String,
    /// What moved it, as an integer of the least unit.
    pub moved: String,
}

impl Manifest {
    /// The copies of reference data that it names.
    pub(super) fn copies(&self) -> impl Iterator<Item = &FileEntry> {
        [&self.catalog].into_iter().chain(self.accounts.values())
    }

    /// The files of its shards.
    pub(super) fn files(&self) -> impl Iterator<Item = &FileEntry> {
        let shards = self.shards.values();
        let files = shards.flat_map(|shard| {
            [
                shard.usage.as_ref(),
                shard.lines.as_ref(),
                Some(&shard.sidecar),
            ]
        });
        files.flatten()
    }
}

impl Sidecar {
    /// The entry of an account.
    #[must_use]
    pub fn account(&self, account: &str) -> Option<&AccountEntry> {
        let entry = |entry: &AccountEntry| entry.account.as_str().cmp(account);
        let place = self.accounts.binary_search_by(entry).ok()?;
        self.accounts.get(place)
    }

    /// The accounts that a price row was used for.
    pub fn priced_by(&self, price: &str) -> impl Iterator<Item = &str> {
        let ranges = self.prices.get(price).map_or(&[][..], Vec::as_slice);
        ranges.chunks_exact(2).flat_map(|range| {
            let entries = self.accounts.get(range[0]..range[1]).unwrap_or_default();
            entries.iter().map(|entry| entry.account.as_str())
        })
    }
}

/// Places as ranges.
pub(super) fn ranges(places: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut ranges: Vec<usize> = Vec::new();
    for place in places {
        match ranges.last_mut() {
            Some(after) if *after == place => *after += 1,
            _ => ranges.extend([place, place + 1]),
        }
    }
    ranges
}

/// What files of a shard are named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The period.
    pub period: Period,
    /// 0 for the bill, then the number of the adjustment.
    pub sequence: u32,
    /// The run that writes: no run writes over the files of another, however late it is.
    pub generation: u64,
    /// The shard.
    pub shard: u64,
}

impl Place {
    fn file(self, kind: &str, extension: &str) -> String {
        let Self {
            period,
            sequence,
            generation,
            shard,
        } = self;
        let folder = folder(period);
        format!("{folder}/{kind}-{shard:02}-{sequence:04}-{generation}.{extension}")
    }
}

/// Whether a file of this name, in a period's folder, is of a sequence.
pub(super) fn is_of_sequence(file: &str, sequence: u32) -> bool {
    let number = format!("{sequence:04}");
    !file.starts_with("manifest-") && file.split('-').nth(2) == Some(number.as_str())
}

/// The same of one that was half written, be it the manifest.
pub(super) fn is_left_of_sequence(file: &str, sequence: u32) -> bool {
    let manifest = format!("manifest-{sequence:04}.");
    file.starts_with(&manifest) || is_of_sequence(file, sequence)
}

/// Where manifests begin.
pub(super) const PERIODS: &str = "periods";

/// The folder of a period.
pub(super) fn folder(period: Period) -> String {
    let shown = |time: EventTime| match time.timestamp() {
        Some(instant) => instant.strftime("%Y%m%dT%H%M%SZ").to_string(),
        None => "open".to_owned(),
    };
    format!(
        "{PERIODS}/{}-{}",
        shown(period.start()),
        shown(period.end())
    )
}

/// The period whose folder this is.
pub(super) fn period_of(folder: &str) -> Option<Period> {
    let instant = |text: &str| {
        let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(EventTime::from(zoned.timestamp()))
    };
    let (start, end) = folder.split_once('-')?;
    Period::new(instant(start)?, instant(end)?)
}

pub(super) fn manifest(period: Period, sequence: u32) -> String {
    format!("{}/manifest-{sequence:04}.json", folder(period))
}

pub(super) fn sidecar(place: Place) -> String {
    place.file("sidecar", "json")
}

pub(super) fn usage(place: Place) -> String {
    place.file("usage", "parquet")
}

pub(super) fn lines(place: Place) -> String {
    place.file("lines", "parquet")
}

pub(super) fn reference(kind: &str, digest: &str) -> String {
    format!("reference/{kind}-{digest}.json")
}

/// The sequence that a manifest of this name has.
pub(super) fn sequence_of(manifest: &str) -> Option<u32> {
    let number = manifest.strip_prefix("manifest-")?;
    number.strip_suffix(".json")?.parse().ok()
}
