//! Reference tables for lookups: loaded once, never changed. A changed file is a new snapshot, with
//! which rules are planned anew.

use crate::decode::{
    ColumnRequest, ColumnType, DecodeError, DecodeOptions, Decoder, Format, quoted,
};
use crate::digest::Digest;
use crate::store::{FileMeta, Store};
use arrow::array::{Array, AsArray, StringArray};
use millrace_operators::domain::FileId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// The reference tables of a job at one moment.
#[derive(Debug, Default)]
pub struct Lookups {
    tables: BTreeMap<String, Arc<LookupTable>>,
}

impl Lookups {
    /// A snapshot of these tables.
    #[must_use]
    pub fn new(tables: impl IntoIterator<Item = (String, Arc<LookupTable>)>) -> Self {
        Self {
            tables: tables.into_iter().collect(),
        }
    }

    /// The table of this name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&LookupTable> {
        self.tables.get(name).map(AsRef::as_ref)
    }

    /// The same, for whoever keeps it.
    #[must_use]
    pub(crate) fn shared(&self, name: &str) -> Option<Arc<LookupTable>> {
        self.tables.get(name).map(Arc::clone)
    }

    /// The names of all tables, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }
}

/// A reference table: text columns by a text key.
#[derive(Debug)]
pub struct LookupTable {
    columns: Vec<String>,
    rows: HashMap<Box<str>, usize>,
    values: Vec<StringArray>,
    key_bytes_max: usize,
    /// Of its content, once somebody asks; all rules that ask the table share it.
    digest: OnceLock<String>,
}

/// Why a reference table cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The file cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Rows that are no rows of a table.
    #[error("the reference table in {file:?} is not usable: {}", .findings.join("; "))]
    Rows {
        /// The file.
        file: String,
        /// One sentence per row at fault, at most twenty.
        findings: Vec<String>,
    },
}

const FINDINGS_MAX: usize = 20;
/// The longest key; the prefixes of a text are looked up one by one.
const KEY_BYTES_MAX: usize = 4_096;
/// The most text that a table has.
const TABLE_BYTES_MAX: usize = 1 << 30;

impl LookupTable {
    /// Loads the table of `file` whose rows are found by the column `key`. All or nothing: a table
    /// with a bad row, or with one key twice, would give some records another value than it says.
    ///
    /// # Errors
    /// When the file cannot be read, lacks a column, or has a row that is unreadable, without a key,
    /// or with a key that came before.
    pub fn load(
        store: &Store,
        file: &FileMeta,
        format: &Format,
        key: &str,
        columns: &[String],
    ) -> Result<Self, LookupError> {
        let request = |name: &String| ColumnRequest::new(name, Some(ColumnType::Text));
        let key_column = key.to_owned();
        let requests: Vec<_> = std::iter::once(&key_column)
            .chain(columns)
            .map(request)
            .collect();
        let options = DecodeOptions::default();
        let mut decoder = Decoder::open(store, file, FileId(0), format, &requests, &options)
            .map_err(DecodeError::without_declaration)?;
        let mut rows: HashMap<Box<str>, usize> = HashMap::new();
        let mut parts: Vec<Vec<StringArray>> = vec![Vec::new(); columns.len()];
        let mut findings = Vec::new();
        let mut bytes = 0_usize;
        while let Some(chunk) = decoder.next_chunk() {
            bytes = bytes.saturating_add(chunk.batch.get_array_memory_size());
            if bytes > TABLE_BYTES_MAX {
                findings.push(format!("it has more than {TABLE_BYTES_MAX} bytes"));
                break;
            }
            findings.extend(chunk.faults.iter().map(|fault| {
                format!(
                    "line {}: {}",
                    fault.line.max(fault.record.row() + 1),
                    fault.detail
                )
            }));
            for (index, key) in chunk.batch.column(0).as_string::<i32>().iter().enumerate() {
                let row = rows.len();
                let place = chunk
                    .lines
                    .get(index)
                    .or(chunk.rows.get(index))
                    .copied()
                    .unwrap_or(0);
                match key {
                    None => findings.push(format!("line {place}: the key {key_column:?} is empty")),
                    Some(key) if key.len() > KEY_BYTES_MAX => findings.push(format!(
                        "line {place}: a key of {} bytes, and {KEY_BYTES_MAX} are the most",
                        key.len()
                    )),
                    Some(key) if rows.insert(Box::from(key), row).is_some() => {
                        findings.push(format!("line {place}: the key {} came before", quoted(key)));
                    }
                    Some(_) => {}
                }
            }
            for (part, column) in parts.iter_mut().zip(chunk.batch.columns().iter().skip(1)) {
                part.push(column.as_string::<i32>().clone());
            }
            if findings.len() > FINDINGS_MAX {
                break;
            }
        }
        if !findings.is_empty() {
            findings.truncate(FINDINGS_MAX);
            return Err(LookupError::Rows {
                file: file.location.clone(),
                findings,
            });
        }
        let join = |part: Vec<StringArray>| -> StringArray {
            part.iter().flat_map(StringArray::iter).collect()
        };
        let key_bytes_max = rows.keys().map(|key| key.len()).max().unwrap_or(0);
        let values = parts.into_iter().map(join).collect();
        Ok(Self {
            columns: columns.to_vec(),
            rows,
            values,
            key_bytes_max,
            digest: OnceLock::new(),
        })
    }

    /// A table from values at hand; of rows with one key, the last holds.
    #[must_use]
    pub fn from_rows(columns: &[&str], rows: &[(&str, &[Option<&str>])]) -> Self {
        let column = |index: usize| -> StringArray {
            rows.iter()
                .map(|(_, values)| values.get(index).copied().flatten())
                .collect()
        };
        Self {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: rows
                .iter()
                .enumerate()
                .map(|(row, (key, _))| (Box::from(*key), row))
                .collect(),
            values: (0..columns.len()).map(column).collect(),
            key_bytes_max: rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0),
            digest: OnceLock::new(),
        }
    }

    /// The names of the columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// A digest of the names of the columns and of all rows, in their order.
    #[must_use]
    pub fn digest(&self) -> &str {
        self.digest.get_or_init(|| self.content())
    }

    /// The bytes of the text of all rows.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let keys: usize = self.rows.keys().map(|key| key.len()).sum();
        let values = self.values.iter().map(|column| column.values().len());
        keys + values.sum::<usize>()
    }

    /// The rows, in their order: the key, and what each column says.
    pub fn text_rows(&self) -> impl Iterator<Item = Vec<Option<&str>>> {
        self.keys().into_iter().enumerate().map(|(row, key)| {
            let values = (0..self.values.len()).map(|column| self.value(row, column));
            std::iter::once(Some(key)).chain(values).collect()
        })
    }

    fn keys(&self) -> Vec<&str> {
        let mut keys = vec![
            "";
            self.values
                .first()
                .map_or(self.rows.len(), StringArray::len)
        ];
        // Each has its place, in whatever order they come.
        self.rows.iter().for_each(|(key, row)| {
            if let Some(place) = keys.get_mut(*row) {
                *place = key;
            }
        });
        keys
    }

    fn content(&self) -> String {
        let keys = self.keys();
        let mut digest = Digest::default();
        self.columns.iter().for_each(|column| digest.enter(column));
        for (row, key) in keys.into_iter().enumerate() {
            digest.enter(key);
            for column in 0..self.values.len() {
                // No text begins so, and a missing value is none.
                digest.enter(self.value(row, column).unwrap_or("\0"));
            }
        }
        digest.hex()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    pub(crate) fn row(&self, key: &str) -> Option<usize> {
        self.rows.get(key).copied()
    }

    /// The row of the longest key that `text` begins with: dial codes.
    pub(crate) fn longest_prefix(&self, text: &str) -> Option<usize> {
        let longest = self.key_bytes_max.min(text.len());
        (1..=longest)
            .rev()
            .find_map(|end| self.row(text.get(..end)?))
    }

    pub(crate) fn value(&self, row: usize, column: usize) -> Option<&str> {
        let column = self.values.get(column)?;
        column.is_valid(row).then(|| column.value(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<LookupTable, LookupError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), text).unwrap();
        let store = Store::open("t.csv", folder.path()).unwrap();
        let file = store.list().unwrap().remove(0);
        let format = Format::of_name(&file.name).unwrap();
        LookupTable::load(&store, &file, &format, "code", &["zone".to_owned()])
    }

    #[test]
    fn the_longest_prefix_wins() {
        let table = load("zone,code\nus,1\nbahamas,1242\n,7\n").unwrap();
        let value = |text| table.value(table.longest_prefix(text)?, 0);
        assert_eq!(value("12425551234"), Some("bahamas"));
        assert_eq!(value("12125551234"), Some("us"));
        assert_eq!(table.longest_prefix("44"), None);
        assert_eq!(table.value(table.row("7").unwrap(), 0), None);
    }

    #[test]
    fn a_table_is_whole_or_not_at_all() {
        let error = load("zone,code\na,1\nb,1\nc,\nd\n")
            .unwrap_err()
            .to_string();
        for said in [
            "line 3: the key \"1\" came before",
            "line 4: the key \"code\" is empty",
            "line 5: 1 fields",
        ] {
            assert!(error.contains(said), "{error}");
        }
        let long = load(&format!("zone,code\na,{}\n", "1".repeat(5_000)));
        let said = "line 2: a key of 5000 bytes, and 4096 are the most";
        assert!(long.unwrap_err().to_string().contains(said));
        assert!(
            load("zone,kode\n")
                .unwrap_err()
                .to_string()
                .contains("did you mean \"kode\"")
        );
    }
}
