//! The files that reference data comes from, read as often as one of them is saved.
//!
//! A saved file is read again whole; a table that did not change is not: its rows are kept under
//! the digest of its content and mapping, so a price edited by hand does not wait for 100,000
//! accounts to be parsed.

use super::Reference;
use super::accounts::{AccountsFile, account_rows};
use super::agree::disagreements;
use super::catalog::{CatalogFile, price_rows};
use super::mapping::Mapping;
use super::pool::settle_groups;
use super::rows::{Rows, Setting};
use super::table::TableCache;
use super::yaml::read;
use crate::diagnostic::Diagnostic;
use crate::names::Names;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A state of the reference data that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The rows.
    pub reference: Reference,
    /// What somebody should look at nevertheless.
    pub warnings: Vec<Diagnostic>,
}

/// Catalog and accounts files, and what is needed to read them.
#[derive(Debug)]
pub struct ReferenceFiles {
    catalogs: Vec<PathBuf>,
    accounts: Vec<PathBuf>,
    zone: TimeZone,
    names: Arc<Names>,
    tables: TableCache,
    files: BTreeSet<PathBuf>,
}

impl ReferenceFiles {
    /// Reference data from these files; dates in them begin at midnight in `zone`.
    #[must_use]
    pub fn new(
        catalogs: Vec<PathBuf>,
        accounts: Vec<PathBuf>,
        zone: TimeZone,
        names: Arc<Names>,
    ) -> Self {
        let files = catalogs.iter().chain(&accounts).cloned().collect();
        Self {
            catalogs,
            accounts,
            zone,
            names,
            tables: TableCache::default(),
            files,
        }
    }

    /// Every file that the last load read, tables too: saving any of them calls for another.
    #[must_use]
    pub fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// Reads the files as they are now.
    ///
    /// # Errors
    /// All findings, warnings too, when at least one is an error; whatever was in force stays.
    pub fn load(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        let names = Arc::clone(&self.names);
        let zone = self.zone.clone();
        let setting = Setting {
            zone: &zone,
            names: &names,
        };
        let mut findings = Vec::new();
        let mut rows = Rows::default();
        self.tables.begin();
        for path in self.catalogs.clone() {
            let Some(catalog) = read_file::<CatalogFile>(&path, &mut findings) else {
                continue;
            };
            let file: Arc<str> = Arc::from(path.display().to_string());
            rows.append(price_rows(&file, &catalog, setting, &mut findings));
            for table in &catalog.tables {
                let mapping = Mapping::of_prices(&file, &path, table, &catalog.currency.value);
                rows.append(self.tables.rows(&mapping, setting, &mut findings));
            }
        }
        for path in self.accounts.clone() {
            let Some(accounts) = read_file::<AccountsFile>(&path, &mut findings) else {
                continue;
            };
            let file: Arc<str> = Arc::from(path.display().to_string());
            rows.append(account_rows(&file, &accounts, setting, &mut findings));
            for table in &accounts.tables {
                let mapping = Mapping::of_accounts(&file, &path, table);
                rows.append(self.tables.rows(&mapping, setting, &mut findings));
            }
        }
        self.files.extend(self.tables.end());
        // Rows that were left out would be missed by the others.
        if !findings.iter().any(Diagnostic::is_error) {
            findings.extend(settle_groups(&mut rows, &names));
            findings.extend(disagreements(&rows, &names));
        }
        findings.sort();
        findings.dedup();
        if findings.iter().any(Diagnostic::is_error) {
            return Err(findings);
        }
        let reference = Reference::from(rows);
        reference.name_groups(&names);
        Ok(Loaded {
            reference,
            warnings: findings,
        })
    }
}

/// The typed content of a YAML file; with findings it lacks what they are about.
fn read_file<T: serde::de::DeserializeOwned>(
    path: &Path,
    findings: &mut Vec<Diagnostic>,
) -> Option<T> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let mut read = read::<T>(&file, &text);
            findings.append(&mut read.findings);
            read.value
        }
        Err(error) => {
            findings.push(Diagnostic::error(
                &file,
                (0, 0),
                format!("cannot read the file: {error}"),
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests;
