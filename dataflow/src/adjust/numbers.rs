//! Files by number: a record is a file's number and a row's, so a number must be one file for ever.

use super::late::{AdjustError, LateUsage};
use crate::replay::scope::Scope;
use millrace_connectors::archive::ArchivedPeriod;
use millrace_operators::domain::{FileId, RecordId};
use millrace_operators::epoch::shard;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The names of files by number, archived and late. One number must be one file, and a late record
/// must not have the number of an archived one.
pub(super) fn number_files(
    period: &ArchivedPeriod,
    scope: &Scope,
    late: &[LateUsage],
) -> Result<Vec<Arc<str>>, AdjustError> {
    let shards: BTreeSet<u64> = scope
        .accounts
        .iter()
        .map(|account| shard(account.0))
        .collect();
    let mut named: BTreeMap<FileId, Arc<str>> = BTreeMap::new();
    for shard in shards {
        let files = period.files(shard)?.into_iter();
        named.extend(files.map(|(file, name)| (file, Arc::from(name))));
    }
    let archived: BTreeSet<RecordId> = scope.usage.iter().map(|row| row.usage.record).collect();
    for LateUsage { usage, file } in late {
        let held = named
            .entry(usage.record.file())
            .or_insert_with(|| Arc::clone(file));
        if **held != **file || archived.contains(&usage.record) {
            return Err(AdjustError::Numbered {
                record: usage.record,
                file: file.to_string(),
                archived: held.to_string(),
            });
        }
    }
    let most = named.last_key_value().map_or(0, |(file, _)| file.0 + 1);
    let name = |file: u32| {
        let known = named.get(&FileId(file)).map(Arc::clone);
        known.unwrap_or_else(|| Arc::from(format!("#{file}")))
    };
    Ok((0..most).map(name).collect())
}
