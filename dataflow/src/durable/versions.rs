//! Versions: what is kept of records whose identity may have several, when their bill unit is closed.
//!
//! The archive has the record that was charged, and nothing of what decides between it and a correction
//! that comes later: ranks, kinds, and the records that gave way. They are kept here, whole, for streams
//! whose records are marked alone. Nobody reads them until such an identity is met again.

use super::error::DurableError;
use super::object::{Object, create, packed};
use millrace_connectors::store::Store;
use millrace_operators::domain::{Fate, Identity, RecordId, Suspense, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERSIONS: &str = "versions";

/// A record of an identity that has left the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftVersion {
    /// The record, with its mark.
    pub usage: Usage,
    /// Why it does not hold; nothing if it was charged.
    pub outvoted: Option<Suspense>,
}

impl LeftVersion {
    /// What the records of its file count it as.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.outvoted
            .map_or(Fate::Monetised, |row| Fate::of(row.reason))
    }
}

/// The versions that are wanted, by identity, each in the order in which they came.
///
/// # Errors
/// When an object is missing or damaged, or cannot be read.
pub fn versions(
    store: &Store,
    objects: &[Object],
    wanted: impl Fn(&Usage) -> bool,
) -> Result<BTreeMap<Identity, Vec<LeftVersion>>, DurableError> {
    let mut found: BTreeMap<Identity, Vec<LeftVersion>> = BTreeMap::new();
    for object in objects {
        for version in object.read_packed::<Vec<LeftVersion>>(store)? {
            if wanted(&version.usage) {
                let held = found.entry(version.usage.identity).or_default();
                replace(held, version);
            }
        }
    }
    Ok(found)
}

/// What was known of a record before it came back, and left again, is known no more.
fn replace(held: &mut Vec<LeftVersion>, version: LeftVersion) {
    let record = version.usage.record;
    match held.iter_mut().find(|held| held.usage.record == record) {
        Some(held) => *held = version,
        None => held.push(version),
    }
}

/// Writes versions behind those of `objects`, and returns the objects that have all of them then. Small
/// objects are merged into larger ones, so there are few however often something leaves.
pub(super) fn write(
    store: &Store,
    objects: &[Object],
    left: BTreeMap<RecordId, LeftVersion>,
    place: &str,
) -> Result<Vec<Object>, DurableError> {
    let mut kept = objects.to_vec();
    if left.is_empty() {
        return Ok(kept);
    }
    let mut all: Vec<LeftVersion> = left.into_values().collect();
    while let Some(last) = kept.last()
        && last.rows <= 2 * rows(&all)
    {
        let mut merged: BTreeMap<Identity, Vec<LeftVersion>> = BTreeMap::new();
        let before: Vec<LeftVersion> = last.read_packed(store)?;
        for version in before.into_iter().chain(all) {
            let held = merged.entry(version.usage.identity).or_default();
            replace(held, version);
        }
        all = merged.into_values().flatten().collect();
        kept.pop();
    }
    let content = packed(&all);
    let object = Object::of(format!("{VERSIONS}/{place}.versions"), &content, rows(&all));
    create(store, &object, &content)?;
    kept.push(object);
    Ok(kept)
}

fn rows(versions: &[LeftVersion]) -> u64 {
    u64::try_from(versions.len()).unwrap_or(u64::MAX)
}
