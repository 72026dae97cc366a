//! Writes a period: shard by shard, then the manifest that makes it be there.

use super::file::{Digested, line, write_json};
use super::layout::{
    self, AccountEntry, BucketEntry, GroupEntry, Manifest, Place, ShardEntry, Sidecar, StateMark,
    ranges,
};
use super::reference::{self, ReferenceCopy};
use super::usage::{self, BilledUsage};
use super::{ArchiveError, GROUP_ROWS, VERSION, lines};
use crate::names::Names;
use crate::output::{AggregatedLine, OutputError, Texts};
use crate::reference::Reference;
use crate::store::{Put, Store, sealed};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millrace_operators::domain::{
    AccountKey, BucketKey, EventTime, FileId, GroupKey, Name, Period, PriceKey,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What moved a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moved {
    /// The bucket.
    pub bucket: BucketKey,
    /// The allowance, accumulator or cap that it is a bucket of.
    pub resource: Name,
    /// By how much, in the least unit of its measure.
    pub by: i128,
}

/// Where a balance group stood when a period began and when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStanding {
    /// The group.
    pub group: GroupKey,
    /// The accounts that share it.
    pub accounts: BTreeSet<AccountKey>,
    /// What had moved its buckets when the period began; none where no usage came before.
    pub opening: Option<Vec<Moved>>,
    /// What had moved its buckets when the period ended.
    pub closing: Vec<Moved>,
}

/// What a shard of a period holds, in any order.
#[derive(Clone, Debug, Default)]
pub struct ShardContent {
    /// Its accounts; those of usage and lines are among them.
    pub accounts: BTreeSet<AccountKey>,
    /// Usage.
    pub usage: Vec<BilledUsage>,
    /// What was billed.
    pub lines: Vec<AggregatedLine>,
    /// The price rows that were used, by account.
    pub prices: BTreeSet<(PriceKey, AccountKey)>,
    /// The balance groups of its accounts.
    pub groups: Vec<GroupStanding>,
}

/// Which period of which job, for a manifest.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The job.
    pub job: String,
    /// The period.
    pub period: Period,
    /// 0 for the bill, then the number of the adjustment.
    pub sequence: u32,
    /// The present of the job.
    pub clock: EventTime,
    /// The durable state that it is written from, where the job has any.
    pub state: Option<StateMark>,
    /// The tenant's time zone.
    pub time_zone: String,
    /// What separates billing lines.
    pub aggregate_by: Vec<String>,
}

/// Writes the reference data in force; a copy that is there already is not written again.
///
/// # Errors
/// When a file cannot be written.
pub fn write_reference(
    store: &Store,
    reference: &Reference,
    names: &Names,
) -> Result<ReferenceCopy, ArchiveError> {
    reference::write(store, reference, names)
}

/// Writes the files of a shard. They are there once a manifest names them.
///
/// # Errors
/// When a file cannot be written.
pub fn write_shard(
    store: &Store,
    place: Place,
    content: ShardContent,
    texts: &Texts,
) -> Result<ShardEntry, ArchiveError> {
    let names = &texts.names;
    let mut named: Vec<(Arc<str>, AccountKey)> = content
        .accounts
        .iter()
        .map(|key| (names.account(*key), *key))
        .collect();
    named.sort_unstable();
    let places: BTreeMap<AccountKey, usize> = named
        .iter()
        .enumerate()
        .map(|(place, (_, key))| (*key, place))
        .collect();
    let rank = |account: AccountKey| places.get(&account).copied().unwrap_or(usize::MAX);

    let mut rows = content.usage;
    rows.sort_by_cached_key(|row| (rank(row.account), row.usage.time, row.usage.record));
    let groups = group_entries(&content.groups, names);
    let mut sidecar = Sidecar {
        accounts: account_entries(&named, &rows, &content.groups),
        groups,
        ..Sidecar::default()
    };
    let mut prices: BTreeMap<PriceKey, BTreeSet<usize>> = BTreeMap::new();
    for (price, account) in content.prices {
        prices.entry(price).or_default().insert(rank(account));
    }
    for (price, accounts) in prices {
        sidecar
            .prices
            .insert(names.price(price).to_string(), ranges(accounts));
    }
    let files: BTreeSet<FileId> = rows.iter().map(|row| row.usage.record.file()).collect();
    sidecar.files = files
        .iter()
        .map(|file| (file.0, texts.file(*file).to_string()))
        .collect();

    let name = layout::usage(place);
    let batches = rows
        .chunks(GROUP_ROWS)
        .map(|rows| usage::encode(rows, texts));
    let (schema, properties) = (usage::schema(), usage::properties());
    let properties = properties.map_err(OutputError::Parquet)?;
    let usage_file = parquet(store, name, (&schema, properties), batches)?;
    let groups = rows.chunks(GROUP_ROWS).map(usage::digest).collect();
    let search = usage_file.as_ref().and_then(|file| file.search(groups));
    let usage_entry = usage_file.map(Digested::finish).transpose()?;
    let mut billed = content.lines;
    let order = |line: &AggregatedLine| (rank(line.key.account), line.key.clone());
    billed.sort_by_cached_key(order);
    let name = layout::lines(place);
    let batches = billed
        .chunks(GROUP_ROWS)
        .map(|rows| lines::encode(rows, place.sequence, texts));
    let level = ZstdLevel::try_new(1).map_err(OutputError::Parquet)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .build();
    let line_file = parquet(store, name, (&lines::schema(texts), properties), batches)?;
    let line_entry = line_file.map(Digested::finish).transpose()?;
    let name = layout::sidecar(place);
    names.check().map_err(OutputError::from)?;
    Ok(ShardEntry {
        usage: usage_entry,
        search,
        lines: line_entry,
        sidecar: write_json(store, name, &sidecar)?,
        accounts: named.len(),
        records: u64::try_from(rows.len()).unwrap_or(u64::MAX),
    })
}

/// Writes the manifest: the period is archived, or adjusted, from here on. Of two runs that do so, one
/// does. What a run that was cut off left of this sequence goes.
///
/// # Errors
/// When it cannot be written, or another run has written it.
pub fn write_manifest(
    store: &Store,
    terms: Terms,
    reference: &ReferenceCopy,
    shards: BTreeMap<u64, ShardEntry>,
) -> Result<(), ArchiveError> {
    let (period, sequence) = (terms.period, terms.sequence);
    let name = layout::manifest(period, sequence);
    let manifest = Manifest {
        version: VERSION,
        job: terms.job,
        period,
        sequence,
        clock: terms.clock,
        state: terms.state,
        time_zone: terms.time_zone,
        aggregate_by: terms.aggregate_by,
        catalog: reference.catalog.clone(),
        accounts: reference.accounts.clone(),
        shards,
    };
    // Whoever reads the manifest may forget what it names.
    store.keep(manifest.copies().map(|file| file.name.as_str()))?;
    store.keep(manifest.files().map(|file| file.name.as_str()))?;
    create(store, &name, sealed(&line(&manifest)?).as_bytes())?;
    let folder = layout::folder(period);
    // A younger run may be at the next sequence.
    store.sweep(&folder, |file| layout::is_left_of_sequence(file, sequence))?;
    let named: BTreeSet<&str> = manifest.files().map(|file| file.name.as_str()).collect();
    for file in store.names(&folder)? {
        let place = format!("{folder}/{file}");
        if layout::is_of_sequence(&file, sequence) && !named.contains(place.as_str()) {
            store.remove(&place)?;
        }
    }
    Ok(())
}

/// Creates an object that must not be there. A write of unknown outcome is read back.
fn create(store: &Store, name: &str, bytes: &[u8]) -> Result<(), ArchiveError> {
    let put = store.put_new(name, bytes);
    if matches!(put, Ok(Put::Created)) {
        return Ok(());
    }
    match (store.get(name)?, put) {
        (Some(held), _) if held == bytes => Ok(()),
        (None, Err(error)) => Err(error.into()),
        _ => Err(ArchiveError::Taken {
            location: format!("{}/{name}", store.location()),
        }),
    }
}

/// The entries of the accounts; `rows` lie in the same order.
fn account_entries(
    named: &[(Arc<str>, AccountKey)],
    rows: &[BilledUsage],
    groups: &[GroupStanding],
) -> Vec<AccountEntry> {
    let mut of_account: BTreeMap<AccountKey, Vec<usize>> = BTreeMap::new();
    for (place, group) in groups.iter().enumerate() {
        for account in &group.accounts {
            of_account.entry(*account).or_default().push(place);
        }
    }
    let mut first = 0;
    let entry = |(name, key): &(Arc<str>, AccountKey)| {
        let rest = rows.get(first..).unwrap_or_default();
        let count = rest.iter().take_while(|row| row.account == *key).count();
        let own = rest.get(..count).unwrap_or_default();
        let entry = AccountEntry {
            account: name.to_string(),
            first: u64::try_from(first).unwrap_or(u64::MAX),
            rows: u64::try_from(count).unwrap_or(u64::MAX),
            digest: usage::digest(own),
            groups: of_account.remove(key).unwrap_or_default(),
        };
        first += count;
        entry
    };
    named.iter().map(entry).collect()
}

fn group_entries(groups: &[GroupStanding], names: &Names) -> Vec<GroupEntry> {
    let buckets = |moved: &Vec<Moved>| -> Vec<BucketEntry> {
        let mut buckets: Vec<BucketEntry> = moved
            .iter()
            .map(|moved| BucketEntry {
                bucket: format!("{:016x}", moved.bucket.0),
                resource: names.text(moved.resource).to_string(),
                moved: moved.by.to_string(),
            })
            .collect();
        buckets.sort();
        buckets
    };
    let entry = |group: &GroupStanding| {
        let (pool, currency) = names.group(group.group);
        let accounts = group.accounts.iter();
        let mut accounts: Vec<String> = accounts
            .map(|account| names.account(*account).to_string())
            .collect();
        accounts.sort();
        GroupEntry {
            pool: pool.to_string(),
            currency: currency.to_string(),
            accounts,
            opening: group.opening.as_ref().map(buckets),
            closing: buckets(&group.closing),
        }
    };
    groups.iter().map(entry).collect()
}

/// Writes batches as Parquet; no file for none. It is still to be finished.
fn parquet(
    store: &Store,
    name: String,
    (schema, properties): (&SchemaRef, WriterProperties),
    batches: impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>>,
) -> Result<Option<Digested>, ArchiveError> {
    let mut batches = batches.peekable();
    if batches.peek().is_none() {
        return Ok(None);
    }
    let file = Digested::create(store, name)?;
    let schema = Arc::clone(schema);
    let writer = ArrowWriter::try_new(file, schema, Some(properties));
    let mut writer = writer.map_err(OutputError::Parquet)?;
    for batch in batches {
        let batch = batch.map_err(OutputError::from)?;
        writer.write(&batch).map_err(OutputError::Parquet)?;
    }
    writer.flush().map_err(OutputError::Parquet)?;
    let tail = u64::try_from(writer.bytes_written()).unwrap_or(u64::MAX);
    writer.inner_mut().begin_tail(tail);
    Ok(Some(writer.into_inner().map_err(OutputError::Parquet)?))
}
