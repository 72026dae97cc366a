//! Fields that are asked for and that no record of a file has, where no header tells so before.

use super::fields::enter;
use super::request::ColumnRequest;
use serde::{Deserialize, Serialize};

/// Records whose fields are listed, for whoever asks for another.
pub(super) const LISTED_RECORDS: usize = 100;
/// Fields that are listed, and bytes of the name of one.
const LISTED_FIELDS: usize = 100;
const NAME_BYTES_MAX: usize = 100;
/// Bytes of a record whose fields are listed.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// A field that is asked for and that no record of a file has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// The field.
    pub field: String,
    /// Fields that the first records have.
    pub there: Vec<String>,
}

/// Which of the requested fields were met.
pub(super) struct Met {
    columns: Vec<bool>,
    /// Columns that were not.
    left: usize,
    records: usize,
    there: Vec<String>,
}

impl Met {
    /// A column that may be absent is looked for by nobody.
    pub(super) fn new(columns: &[ColumnRequest]) -> Self {
        let columns: Vec<bool> = columns.iter().map(|column| column.may_be.absent).collect();
        Self {
            left: columns.iter().filter(|met| !**met).count(),
            columns,
            records: 0,
            there: Vec::new(),
        }
    }

    pub(super) fn meet(&mut self, column: usize) {
        if let Some(met) = self.columns.get_mut(column).filter(|met| !**met) {
            *met = true;
            self.left -= 1;
        }
    }

    /// A record was read, of this text; its fields are listed while one that is asked for was not met.
    pub(super) fn read(&mut self, record: &str) {
        if self.left > 0
            && self.records < LISTED_RECORDS
            && record.len() <= RECORD_BYTES_MAX
            && let Ok(record) = serde_json::from_str(record)
        {
            enter(&record, LISTED_FIELDS, &mut self.there);
            self.there.retain(|name| name.len() <= NAME_BYTES_MAX);
        }
        self.records = self.records.saturating_add(1);
    }

    /// The columns, called `names`, that no record has; none while there is no record.
    pub(super) fn unmet(&self, names: &[String]) -> Vec<Unmet> {
        let columns = names.iter().zip(&self.columns);
        let unmet = columns.filter(|(_, met)| !**met && self.records > 0);
        let unmet = unmet.map(|(name, _)| Unmet {
            field: name.clone(),
            there: self.there.clone(),
        });
        unmet.collect()
    }
}

/// Adds keys of a map to those that are known, as far as they are listed.
pub(super) fn list(there: &mut Vec<String>, keys: impl IntoIterator<Item = String>) {
    for key in keys {
        let fits = there.len() < LISTED_FIELDS && key.len() <= NAME_BYTES_MAX;
        if fits && !there.contains(&key) {
            there.push(key);
        }
    }
}
