//! Reads rows of one file of usage: only the pages of the rows that are wanted, or the row groups that
//! may have an identity. What is read is checked against a digest of it: that of the file would take all.

use super::layout::{AccountEntry, SearchEntry};
use super::usage::{BilledUsage, UsageReader, digest};
use super::{ArchiveError, GROUP_ROWS};
use crate::names::Names;
use crate::store::{FileMeta, RandomAccess, Store};
use millrace_operators::domain::{AccountKey, Identity};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::reader::ChunkReader as _;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes that a bucket is asked for at once: about a column of a row group.
const BLOCK_BYTES: u64 = 1 << 16;

type Builder = ParquetRecordBatchReaderBuilder<RandomAccess>;

fn open(store: &Store, meta: &FileMeta) -> Result<Builder, ArchiveError> {
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Required);
    let input = store.random_by(meta, BLOCK_BYTES)?;
    Builder::try_new_with_options(input, options).map_err(|error| unreadable(meta, &error))
}

fn unreadable(meta: &FileMeta, error: &dyn std::fmt::Display) -> ArchiveError {
    ArchiveError::damaged(&meta.location, format!("is not readable: {error}"))
}

/// Reads the rows of accounts, in the order of their rows, and checks each account's digest.
pub(super) fn read_rows(
    store: &Store,
    meta: &FileMeta,
    entries: &[AccountEntry],
    names: &Names,
    rows: &mut Vec<BilledUsage>,
) -> Result<(), ArchiveError> {
    let builder = open(store, meta)?;
    let held = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let place = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
    let wanted: Vec<Range<usize>> = entries
        .iter()
        .map(|entry| place(entry.first)..place(entry.first.saturating_add(entry.rows)))
        .collect();
    if wanted.last().is_some_and(|last| last.end > held) {
        let detail = format!("has {held} rows, its sidecar says more");
        return Err(ArchiveError::damaged(&meta.location, detail));
    }
    let groups: BTreeSet<usize> = wanted
        .iter()
        .flat_map(|rows| rows.start / GROUP_ROWS..rows.end.div_ceil(GROUP_ROWS))
        .collect();
    // Rows of the row groups that are read, counted through.
    let begins = |row: usize| {
        let before = groups.range(..row / GROUP_ROWS).count();
        before * GROUP_ROWS + row % GROUP_ROWS
    };
    let ranges = wanted
        .iter()
        .map(|rows| begins(rows.start)..begins(rows.start) + rows.len());
    let total: i64 = groups
        .iter()
        .filter_map(|group| builder.metadata().row_groups().get(*group))
        .map(|group| group.num_rows())
        .sum();
    let selection =
        RowSelection::from_consecutive_ranges(ranges, usize::try_from(total).unwrap_or(0));
    let reader = builder
        .with_row_groups(groups.into_iter().collect())
        .with_row_selection(selection)
        .with_batch_size(GROUP_ROWS)
        .build()
        .map_err(|error| unreadable(meta, &error))?;
    let begun = rows.len();
    let mut decoder = UsageReader::new(names);
    for batch in reader {
        let batch = batch.map_err(|error| unreadable(meta, &error))?;
        decoder.read(&batch, &meta.location, rows)?;
    }
    let mut rest = rows.get(begun..).unwrap_or_default();
    for entry in entries {
        let own = rest
            .split_off(..place(entry.rows).min(rest.len()))
            .unwrap_or_default();
        let account = AccountKey::of(&[&entry.account]);
        if digest(own) != entry.digest || own.iter().any(|row| row.account != account) {
            let detail = format!("does not hold what was billed to {:?}", entry.account);
            return Err(ArchiveError::damaged(&meta.location, detail));
        }
    }
    Ok(())
}

/// Adds the rows of identities that a file has, but for those of the accounts `without`.
pub(super) fn find_usage(
    store: &Store,
    (meta, search): (&FileMeta, &SearchEntry),
    identities: &BTreeSet<Identity>,
    without: &BTreeSet<String>,
    names: &Names,
    found: &mut BTreeMap<Identity, BilledUsage>,
) -> Result<(), ArchiveError> {
    // A Bloom filter with a bit less would hide what is there.
    check_tail(store, meta, search)?;
    let builder = open(store, meta)?;
    let groups = groups_with(&builder, meta, identities)?;
    if groups.is_empty() {
        return Ok(());
    }
    // All groups but the last have as many rows as a batch.
    let reader = builder
        .with_row_groups(groups.clone())
        .with_batch_size(GROUP_ROWS)
        .build();
    let mut decoder = UsageReader::new(names);
    let without: BTreeSet<AccountKey> =
        without.iter().map(|name| AccountKey::of(&[name])).collect();
    let batches = reader.map_err(|error| unreadable(meta, &error))?;
    for (batch, group) in batches.zip(groups) {
        let batch = batch.map_err(|error| unreadable(meta, &error))?;
        let mut rows = Vec::new();
        decoder.read(&batch, &meta.location, &mut rows)?;
        if search.groups.get(group) != Some(&digest(&rows)) {
            let detail = format!("does not hold what was written in row group {group}");
            return Err(ArchiveError::damaged(&meta.location, detail));
        }
        rows.retain(|row| {
            identities.contains(&row.usage.identity) && !without.contains(&row.account)
        });
        found.extend(rows.into_iter().map(|row| (row.usage.identity, row)));
    }
    Ok(())
}

/// Makes sure that what leads to the row groups is what was written.
fn check_tail(store: &Store, meta: &FileMeta, search: &SearchEntry) -> Result<(), ArchiveError> {
    let length = usize::try_from(meta.size.saturating_sub(search.tail)).unwrap_or(usize::MAX);
    let tail = store.random_by(meta, BLOCK_BYTES)?;
    let tail = tail
        .get_bytes(search.tail, length)
        .map_err(|error| unreadable(meta, &error))?;
    if blake3::hash(&tail).to_hex().as_str() == search.digest {
        return Ok(());
    }
    let detail = "is not what was written: the digest of its tail differs";
    Err(ArchiveError::damaged(&meta.location, detail))
}

/// The row groups that may have one of the identities, as their Bloom filters say.
fn groups_with(
    builder: &Builder,
    meta: &FileMeta,
    identities: &BTreeSet<Identity>,
) -> Result<Vec<usize>, ArchiveError> {
    let mut columns = builder.parquet_schema().columns().iter();
    let identity = columns.position(|column| column.name() == "identity");
    let identity = identity.ok_or_else(|| unreadable(meta, &"it has no column \"identity\""))?;
    let mut groups = Vec::new();
    for group in 0..builder.metadata().num_row_groups() {
        let bloom = builder.get_row_group_column_bloom_filter(group, identity);
        let bloom = bloom.map_err(|error: ParquetError| unreadable(meta, &error))?;
        let may_have = |identity: &Identity| {
            let [high, low] = identity.0.map(u64::to_be_bytes);
            let bytes = [high, low].concat();
            bloom.as_ref().is_none_or(|bloom| bloom.check(&bytes))
        };
        if identities.iter().any(may_have) {
            groups.push(group);
        }
    }
    Ok(groups)
}
