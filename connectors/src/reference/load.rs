//! The files that reference data comes from, read as often as one of them is saved, and the messages
//! beside them.
//!
//! A saved file is read again whole; a table that did not change is not: its rows are kept under
//! the digest of its content and mapping, so a price edited by hand does not wait for 100,000
//! accounts to be parsed.

use super::Reference;
use super::accounts::{AccountsFile, account_rows};
use super::catalog::{CatalogFile, price_rows};
use super::location::{is_local, located, read_text};
use super::mapping::Mapping;
use super::messages::{Agreed, HeldMessage, Messages, Section};
use super::rows::{Rows, Setting};
use super::table::TableCache;
use super::vocabulary::{Vocabulary, unmet, unpriced};
use super::yaml::{Refused, read};
use crate::diagnostic::Diagnostic;
use crate::kafka::{FeedChange, FeedFault};
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
    /// What keeps messages from being in force.
    pub held: Vec<Diagnostic>,
}

/// Catalog and accounts files and messages, and what is needed to read them.
#[derive(Debug)]
pub struct ReferenceFiles {
    catalogs: Vec<PathBuf>,
    accounts: Vec<PathBuf>,
    zone: TimeZone,
    names: Arc<Names>,
    tables: TableCache,
    files: BTreeSet<PathBuf>,
    messages: Messages,
    /// The rows of files in force, where messages come beside them.
    rows: Option<Rows>,
    /// What the job's mediation rules call things, once that is known.
    vocabulary: Option<Vocabulary>,
    /// Whether what a run tells of the records that it concerns is told of the files.
    foretells: bool,
}

impl ReferenceFiles {
    /// Reference data from these files, paths or URLs; dates in them begin at midnight in `zone`.
    #[must_use]
    pub fn new(
        catalogs: Vec<PathBuf>,
        accounts: Vec<PathBuf>,
        zone: TimeZone,
        names: Arc<Names>,
    ) -> Self {
        let place = |file: PathBuf| match file.to_str() {
            Some(text) => located(Path::new(""), text),
            None => file,
        };
        let catalogs: Vec<_> = catalogs.into_iter().map(place).collect();
        let accounts: Vec<_> = accounts.into_iter().map(place).collect();
        let files = catalogs.iter().chain(&accounts);
        let files = files.filter(|file| is_local(file)).cloned().collect();
        Self {
            catalogs,
            accounts,
            zone,
            names,
            tables: TableCache::default(),
            files,
            messages: Messages::default(),
            rows: None,
            vocabulary: None,
            foretells: false,
        }
    }

    /// From the next load on, what a run tells of the records that it concerns is told of the files.
    pub fn foretell(&mut self) {
        self.foretells = true;
    }

    /// From the next load on, names that these do not have are told; whether these are others than before.
    pub fn know(&mut self, vocabulary: Vocabulary) -> bool {
        let before = self.vocabulary.replace(vocabulary);
        before != self.vocabulary
    }

    /// Messages will come beside the files.
    #[must_use]
    pub fn with_messages(self) -> Self {
        Self {
            rows: Some(Rows::default()),
            ..self
        }
    }

    /// Every local file that the last load read, tables too: saving any of them calls for another.
    #[must_use]
    pub fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// Reads the files as they are now, without asking whether they agree: what they miss may come in
    /// messages, with [`Self::settle`]. Gives what somebody should look at nevertheless.
    ///
    /// # Errors
    /// All findings, warnings too, when at least one of the files is at fault.
    pub fn read_alone(&mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let (rows, mut findings) = self.read();
        findings.sort();
        if findings.iter().any(Diagnostic::is_error) {
            return Err(findings);
        }
        self.rows = Some(rows);
        Ok(findings)
    }

    /// Names in the files read alone that nothing has, as far as can be told without the messages.
    #[must_use]
    pub fn unmet_alone(&self) -> Vec<Diagnostic> {
        let known = self.rows.as_ref().zip(self.vocabulary.as_ref());
        known.map_or_else(Vec::new, |(rows, vocabulary)| {
            unmet(rows, vocabulary, &self.names, true)
        })
    }

    /// Reads the files as they are now, and puts messages in force beside them.
    ///
    /// # Errors
    /// All findings, warnings too, when at least one of the files is at fault; whatever was in force
    /// stays.
    pub fn load(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        let (rows, mut findings) = self.read();
        // Rows that were left out would be missed by the others.
        let settled = match findings.iter().any(Diagnostic::is_error) {
            true => Err(Vec::new()),
            false => {
                let setting = Setting {
                    zone: &self.zone,
                    names: &self.names,
                };
                self.messages.settle(&rows, setting)
            }
        };
        let (agreed, more) = match settled {
            Ok((agreed, warnings)) => {
                let warnings = self.with_unmet(&agreed, warnings);
                (Some(agreed), warnings)
            }
            Err(errors) => (None, errors),
        };
        findings.extend(more);
        findings.sort();
        findings.dedup();
        let Some(agreed) = agreed.filter(|_| !findings.iter().any(Diagnostic::is_error)) else {
            return Err(findings);
        };
        if let Some(held) = &mut self.rows {
            *held = rows;
        }
        Ok(self.loaded((agreed, findings)))
    }

    /// Puts messages in force beside the files that are.
    ///
    /// # Errors
    /// When the files do not agree among themselves. Messages that do not agree are held back.
    pub fn settle(&mut self) -> Result<Loaded, Vec<Diagnostic>> {
        let none = Rows::default();
        let files = self.rows.as_ref().unwrap_or(&none);
        let setting = Setting {
            zone: &self.zone,
            names: &self.names,
        };
        let (rows, warnings) = self.messages.settle(files, setting)?;
        let warnings = self.with_unmet(&rows, warnings);
        Ok(self.loaded((rows, warnings)))
    }

    /// The findings about rows that agree, and those about names that nothing has.
    fn with_unmet(&self, rows: &Rows, mut findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let Some(vocabulary) = &self.vocabulary else {
            return findings;
        };
        let mut unmet = unmet(rows, vocabulary, &self.names, self.rows.is_some());
        // What a slip leaves without a price is told with the slip; what is not there yet may come.
        let is_whole = self.rows.is_none() && !unmet.iter().any(Diagnostic::is_error);
        if self.foretells && is_whole {
            unmet.extend(unpriced(rows, vocabulary, &self.names));
        }
        // What is an error here is no warning beside it.
        let is_worse = |finding: &Diagnostic| {
            let errors = unmet.iter().filter(|unmet| unmet.is_error());
            let at = |d: &Diagnostic| (d.line, d.column, d.file.clone());
            errors.map(at).any(|place| place == at(finding))
        };
        findings.retain(|finding| finding.is_error() || !is_worse(finding));
        findings.extend(unmet);
        findings
    }

    fn loaded(&self, (rows, warnings): Agreed) -> Loaded {
        let reference = Reference::from(rows);
        reference.name_groups(&self.names);
        Loaded {
            reference,
            warnings,
            held: self.messages.findings(),
        }
    }

    /// Takes a message in; [`Self::settle`] puts it in force. `version` is a dotted path to what is no
    /// part of the document.
    pub fn take(&mut self, section: Section, change: FeedChange, version: Option<&str>) {
        let setting = Setting {
            zone: &self.zone,
            names: &self.names,
        };
        self.messages.take(section, change, version, setting);
    }

    /// Takes in a message that is not even a document.
    pub fn refuse(&mut self, section: Section, fault: FeedFault) {
        self.messages.refuse(section, fault);
    }

    /// The messages that are held back.
    #[must_use]
    pub fn held(&self) -> Vec<HeldMessage> {
        self.messages.held()
    }

    /// Goes on where an earlier run held these back, once everything in the topics is taken in.
    pub fn restore(&mut self, held: Vec<HeldMessage>) {
        let setting = Setting {
            zone: &self.zone,
            names: &self.names,
        };
        self.messages.restore(held, setting);
    }

    /// The rows of the files as they are now, and everything found wrong with each.
    fn read(&mut self) -> (Rows, Vec<Diagnostic>) {
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
            let Some((catalog, refused)) = read_file::<CatalogFile>(&path, &mut findings) else {
                continue;
            };
            let file: Arc<str> = Arc::from(path.display().to_string());
            rows.append(price_rows(
                &file,
                &catalog,
                &refused,
                setting,
                &mut findings,
            ));
            for table in &catalog.tables {
                let mapping = Mapping::of_prices(&file, &path, table, &catalog.currency.value);
                rows.append(self.tables.rows(&mapping, setting, &mut findings));
            }
        }
        for path in self.accounts.clone() {
            let Some((accounts, refused)) = read_accounts(&path, &mut findings) else {
                continue;
            };
            let file: Arc<str> = Arc::from(path.display().to_string());
            rows.append(account_rows(
                &file,
                &accounts,
                &refused,
                setting,
                &mut findings,
            ));
            for table in &accounts.tables {
                let mapping = Mapping::of_accounts(&file, &path, table);
                rows.append(self.tables.rows(&mapping, setting, &mut findings));
            }
        }
        self.files.extend(self.tables.end());
        (rows, findings)
    }
}

const HINT_BLANK: &str = "write what it had again; `accounts: []` says that there are none";

/// The content of an accounts file. One that is being saved, or was emptied by mistake, must not end
/// everybody's bill.
fn read_accounts(path: &Path, findings: &mut Vec<Diagnostic>) -> Option<(AccountsFile, Refused)> {
    let says_something = |line: &str| {
        let line = line.trim().trim_start_matches('\u{feff}');
        !line.is_empty() && !line.starts_with('#') && line != "---" && line != "..."
    };
    let text = text_of(path, findings)?;
    if !text.lines().any(says_something) {
        let file = path.display().to_string();
        let finding = Diagnostic::error(&file, (0, 0), "the file says nothing");
        findings.push(finding.with_hint(HINT_BLANK));
        return None;
    }
    typed(path, &text, findings)
}

/// The typed content of a YAML file, and what it lacks for having been found wrong.
fn read_file<T: serde::de::DeserializeOwned>(
    path: &Path,
    findings: &mut Vec<Diagnostic>,
) -> Option<(T, Refused)> {
    let text = text_of(path, findings)?;
    typed(path, &text, findings)
}

fn text_of(path: &Path, findings: &mut Vec<Diagnostic>) -> Option<String> {
    let text = read_text(path, "the file");
    text.map_err(|finding| findings.push(finding)).ok()
}

fn typed<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &str,
    findings: &mut Vec<Diagnostic>,
) -> Option<(T, Refused)> {
    let mut read = read::<T>(&path.display().to_string(), text);
    findings.append(&mut read.findings);
    Some((read.value?, read.refused))
}

#[cfg(test)]
mod tests;
