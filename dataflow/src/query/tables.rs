//! Which tables a job's outputs are.

use super::QueryError;
use crate::job::Job;
use crate::outputs::{OUTPUTS, digest_of};
use millrace_connectors::store::{FileMeta, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A table and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name in SQL.
    pub name: String,
    /// Where its files are.
    pub files: Vec<String>,
}

/// What can be asked about.
#[derive(Debug)]
pub struct Place {
    /// Where the outputs are.
    pub store: Store,
    /// Stores of sources that are tables themselves.
    pub sources: Vec<Store>,
    /// Tables by name.
    pub tables: Vec<Table>,
    /// Files that say what their bytes are, with the tables that they belong to.
    digested: Vec<(String, FileMeta)>,
}

impl Place {
    /// Finds the tables of a job file, of a folder or of a bucket prefix.
    ///
    /// # Errors
    /// When there are none, or they cannot be listed.
    pub fn find(target: &str) -> Result<Self, QueryError> {
        let is_job = [".yaml", ".yml"]
            .iter()
            .any(|ending| target.ends_with(ending));
        let job = if is_job {
            Some(Job::load(Path::new(target)).map_err(QueryError::Job)?.0)
        } else {
            None
        };
        let store = match &job {
            Some(job) => Store::open(&job.outputs.folder, &job.folder)?,
            None => Store::open(target, Path::new(""))?,
        };
        let shown = store
            .local_path()
            .map_or(store.location().to_owned(), |p| p.display().to_string());
        let files = if store.local_path().is_some_and(|path| !path.exists()) {
            Vec::new()
        } else {
            store.list()?
        };
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut digested = Vec::new();
        for file in &files {
            if let Some(name) = table_of(&file.name) {
                if digest_of(&file.name).is_some() {
                    digested.push((name.clone(), file.clone()));
                }
                tables.entry(name).or_default().push(file.location.clone());
            }
        }
        let sources = match &job {
            Some(job) => referenced(job, &mut tables)?,
            None => Vec::new(),
        };
        if tables.is_empty() {
            return Err(QueryError::NoOutputs {
                location: shown,
                found: describe(&files),
            });
        }
        let tables = tables
            .into_iter()
            .map(|(name, files)| Table { name, files })
            .collect();
        Ok(Self {
            store,
            sources,
            tables,
            digested,
        })
    }

    /// Makes sure that files of changes that a question may be about are what was written. Their format
    /// would not tell every byte.
    ///
    /// # Errors
    /// When one is not, or cannot be read.
    pub fn check(&self, sql: &str) -> Result<(), QueryError> {
        let sql = sql.to_lowercase();
        for (table, file) in &self.digested {
            let told = digest_of(&file.name);
            if sql.contains(table) && told != Some(self.store.digest(file)?.as_str()) {
                let location = file.location.clone();
                return Err(QueryError::Damaged { location });
            }
        }
        Ok(())
    }
}

/// The table that a file below the outputs' folder belongs to.
fn table_of(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.strip_suffix(".parquet")?.split('/').collect();
    match parts.as_slice() {
        ["raw", stream @ .., _] if !stream.is_empty() => Some(raw_name(stream)),
        [output, "snapshot", _] if OUTPUTS.contains(output) => Some((*output).to_owned()),
        [output, "changes", _] if OUTPUTS.contains(output) => Some(format!("{output}_changes")),
        _ => None,
    }
}

fn raw_name(stream: &[&str]) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '_'
        }
    };
    format!("raw_{}", stream.join("_"))
        .chars()
        .map(plain)
        .collect()
}

/// Parquet sources are kept where they are instead of being copied: their raw records are asked for
/// there.
fn referenced(
    job: &Job,
    tables: &mut BTreeMap<String, Vec<String>>,
) -> Result<Vec<Store>, QueryError> {
    let copied: BTreeSet<String> = tables.keys().cloned().collect();
    let mut stores = Vec::new();
    for source in job.sources.iter().filter(|source| source.kafka.is_none()) {
        let stream = &source.stream;
        let name = raw_name(&[&stream.platform, &stream.service_type, &stream.record_type]);
        if copied.contains(&name) {
            continue;
        }
        let store = Store::open(&source.path, &job.folder)?;
        let files = store.list().unwrap_or_default();
        let is_typed = |file: &&FileMeta| {
            let format = source.format_of(&file.name);
            format.is_some_and(|format| format.is_typed())
        };
        let files: Vec<String> = files
            .iter()
            .filter(is_typed)
            .map(|f| f.location.clone())
            .collect();
        if !files.is_empty() {
            tables.entry(name).or_default().extend(files);
            stores.push(store);
        }
    }
    Ok(stores)
}

fn describe(files: &[FileMeta]) -> String {
    if files.is_empty() {
        return "nothing is there".to_owned();
    }
    let tops = files.iter().filter_map(|file| file.name.split('/').next());
    let tops: BTreeSet<&str> = tops.collect();
    let shown: Vec<&str> = tops.iter().take(10).copied().collect();
    let more = if tops.len() > shown.len() {
        ", …"
    } else {
        ""
    };
    format!("it holds {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_after_their_folders() {
        for (file, expected) in [
            ("monetised/snapshot/part-00.parquet", Some("monetised")),
            (
                "ledger/changes/00000000000000000000.parquet",
                Some("ledger_changes"),
            ),
            (
                "raw/Proxy-1/llm/postpaid/a.csv.parquet",
                Some("raw_proxy_1_llm_postpaid"),
            ),
            ("monetised/snapshot.jsonl", None),
            ("other/snapshot/x.parquet", None),
            ("raw/x.parquet", None),
        ] {
            assert_eq!(table_of(file).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn a_folder_without_outputs_says_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let error = Place::find(&path).unwrap_err().to_string();
        assert!(
            error.contains("nothing is there") && error.contains("run the job first"),
            "{error}"
        );
        std::fs::write(folder.path().join("usage.csv"), "").unwrap();
        let error = Place::find(&path).unwrap_err().to_string();
        assert!(error.contains("it holds usage.csv"), "{error}");
        let error = Place::find(&format!("{path}/nowhere"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("nothing is there"), "{error}");
    }
}
