//! Reference data in messages: each is a small catalog or accounts file in JSON, and holds until
//! another message of its key takes its place or a tombstone takes it away.
//!
//! - **A message that is wrong** by itself is held back alone: what its key had stays in force.
//! - **Messages that contradict each other**, or a file, are both right by themselves: the later one
//!   waits, until what it contradicts has changed. It is tried again whenever another message comes, so
//!   the order in which a child and its parent arrive is no matter.
//! - **Later** is by the time of the message, then by its place: the order in which topics are read does
//!   not decide. What was held back comes last, so a restart holds the same messages back.
//! - **What is held back** can be told ([`HeldMessage`]) and restored: the broker may have compacted away
//!   the message that is in force instead.

use super::accounts::{AccountsFile, account_rows};
use super::agree::disagreements;
use super::catalog::{CatalogFile, price_rows};
use super::pool::settle_groups;
use super::rows::{Rows, Setting};
use super::yaml::read_json;
use crate::diagnostic::Diagnostic;
use crate::kafka::{FeedChange, FeedFault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the messages of a topic are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Section {
    /// Small catalog files.
    Catalog,
    /// Small accounts files.
    Accounts,
}

/// A message that is held back, and what is in force instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMessage {
    section: Section,
    topic: String,
    key: Vec<u8>,
    /// The digest of the message; nothing of a tombstone.
    digest: Option<[u8; 32]>,
    in_force: Option<Vec<u8>>,
    /// The member of it that is not part of the document.
    version: Option<String>,
}

/// What a message is for: the next one takes its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    section: Section,
    topic: Arc<str>,
    key: Vec<u8>,
}

/// When a message came, for those who come from several partitions.
type Order = (Option<i64>, Arc<str>, i32, i64);

/// A message, read.
#[derive(Clone, Debug)]
struct Change {
    /// Topic, partition and offset.
    name: String,
    order: Order,
    /// It was held back before.
    late: bool,
    /// Nothing where its key is taken away.
    document: Option<Arc<Document>>,
}

#[derive(Debug)]
struct Document {
    text: Vec<u8>,
    version: Option<String>,
    rows: Rows,
    warnings: Vec<Diagnostic>,
}

/// A message that is wrong by itself.
#[derive(Debug)]
struct Faulty {
    digest: Option<[u8; 32]>,
    findings: Vec<Diagnostic>,
}

/// The messages of all topics.
#[derive(Debug, Default)]
pub(super) struct Messages {
    in_force: BTreeMap<Place, Arc<Document>>,
    /// Not in force yet: new, or held back.
    waiting: BTreeMap<Place, Change>,
    faulty: BTreeMap<Place, Faulty>,
    /// What was in force when an earlier run ended, to be tried first.
    before: Vec<(Place, Change)>,
    /// Why messages are held back that contradict others, and messages without a key.
    findings: Vec<Diagnostic>,
    keyless: Vec<Diagnostic>,
}

/// Rows that agree, and what somebody should look at nevertheless.
pub(super) type Agreed = (Rows, Vec<Diagnostic>);

/// Rows with their groups settled, or why they cannot be.
pub(super) fn agreed(mut rows: Rows, setting: Setting<'_>) -> Result<Agreed, Vec<Diagnostic>> {
    let mut findings = settle_groups(&mut rows, setting.names);
    findings.extend(disagreements(&rows, setting));
    match findings.iter().any(Diagnostic::is_error) {
        true => Err(findings),
        false => Ok((rows, findings)),
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    *blake3::hash(text).as_bytes()
}

impl Messages {
    /// Takes a message in. `version` is a member that is not part of the document.
    pub(super) fn take(
        &mut self,
        section: Section,
        change: FeedChange,
        version: Option<&str>,
        setting: Setting<'_>,
    ) {
        let FeedChange {
            partition,
            offset,
            timestamp,
            key,
            document,
        } = change;
        let name = format!("{partition} offset {offset}");
        let topic = Arc::clone(&partition.topic);
        let order = (timestamp, Arc::clone(&topic), partition.partition, offset);
        let place = Place {
            section,
            topic,
            key,
        };
        self.faulty.remove(&place);
        let document = match document {
            None => None,
            Some(text) => match read(section, &name, text, version, setting) {
                Ok(document) => Some(Arc::new(document)),
                Err((digest, findings)) => {
                    let digest = Some(digest);
                    self.faulty.insert(place, Faulty { digest, findings });
                    return;
                }
            },
        };
        let change = Change {
            name,
            order,
            late: false,
            document,
        };
        self.waiting.insert(place, change);
    }

    /// Takes in a message that is not even a document.
    pub(super) fn refuse(&mut self, section: Section, fault: FeedFault) {
        let name = format!("{} offset {}", fault.partition, fault.offset);
        let finding = Diagnostic::error(&name, (0, 0), fault.detail);
        let Some(key) = fault.key else {
            return self.keyless.push(finding);
        };
        let place = Place {
            section,
            topic: fault.partition.topic,
            key,
        };
        let (digest, findings) = (None, vec![finding]);
        self.faulty.insert(place, Faulty { digest, findings });
    }

    /// What is held back now, for [`Self::restore`].
    pub(super) fn held(&self) -> Vec<HeldMessage> {
        let held = |place: &Place, digest| {
            let in_force = self.in_force.get(place);
            HeldMessage {
                section: place.section,
                topic: place.topic.to_string(),
                key: place.key.clone(),
                digest,
                in_force: in_force.map(|document| document.text.clone()),
                version: in_force.and_then(|document| document.version.clone()),
            }
        };
        let faulty = self.faulty.iter().map(|(at, f)| held(at, f.digest));
        let waiting = self.waiting.iter();
        let waiting = waiting.filter(|(place, _)| !self.faulty.contains_key(place));
        let waiting = waiting.map(|(place, change)| {
            let document = change.document.as_ref();
            held(place, document.map(|document| digest(&document.text)))
        });
        faulty.chain(waiting).collect()
    }

    /// Goes on where an earlier run held messages back; everything in the topics has been taken in.
    pub(super) fn restore(&mut self, held: Vec<HeldMessage>, setting: Setting<'_>) {
        for held in held {
            let place = Place {
                section: held.section,
                topic: Arc::from(held.topic.as_str()),
                key: held.key,
            };
            if let Some(change) = self.waiting.get_mut(&place) {
                let now = change.document.as_ref();
                change.late = now.map(|document| digest(&document.text)) == held.digest;
            } else if !self.faulty.contains_key(&place) {
                continue;
            }
            let name = format!("{}, as it was in force", place.topic);
            // It was right when it was taken in.
            let (text, version) = (held.in_force, held.version.as_deref());
            let document =
                text.and_then(|text| read(place.section, &name, text, version, setting).ok());
            if let Some(document) = document {
                let change = Change {
                    name,
                    order: (None, Arc::clone(&place.topic), 0, 0),
                    late: false,
                    document: Some(Arc::new(document)),
                };
                self.before.push((place, change));
            }
        }
    }

    /// Everything that keeps messages from being in force.
    pub(super) fn findings(&self) -> Vec<Diagnostic> {
        let faulty = self.faulty.values().flat_map(|faulty| &faulty.findings);
        let findings = faulty.chain(&self.findings).chain(&self.keyless);
        let mut findings: Vec<Diagnostic> = findings.cloned().collect();
        findings.sort();
        findings
    }

    /// Puts in force what agrees, beside the rows of files.
    ///
    /// # Errors
    /// When the files do not agree with what is in force already, or among themselves.
    pub(super) fn settle(
        &mut self,
        files: &Rows,
        setting: Setting<'_>,
    ) -> Result<Agreed, Vec<Diagnostic>> {
        let mut waiting = self.before.clone();
        let mut new: Vec<_> = std::mem::take(&mut self.waiting).into_iter().collect();
        new.sort_by(|(_, a), (_, b)| (a.late, &a.order).cmp(&(b.late, &b.order)));
        waiting.append(&mut new);
        let together = agreed(self.with(files, &waiting), setting);
        let settled = match together {
            Ok(settled) => {
                self.accept(waiting);
                self.findings.clear();
                settled
            }
            Err(findings) if waiting.is_empty() => return Err(findings),
            Err(_) => {
                if let Err(findings) = agreed(self.with(files, &[]), setting) {
                    let old = self.before.len();
                    self.waiting.extend(waiting.into_iter().skip(old));
                    return Err(findings);
                }
                self.find(waiting, files, setting);
                agreed(self.with(files, &[]), setting)?
            }
        };
        self.before.clear();
        let (rows, mut warnings) = settled;
        let documents = self.in_force.values();
        warnings.extend(documents.flat_map(|document| document.warnings.clone()));
        Ok((rows, warnings))
    }

    /// The rows of files, of messages in force, and of these.
    fn with(&self, files: &Rows, changes: &[(Place, Change)]) -> Rows {
        let mut documents: BTreeMap<&Place, &Arc<Document>> = self.in_force.iter().collect();
        for (place, change) in changes {
            match &change.document {
                Some(document) => documents.insert(place, document),
                None => documents.remove(place),
            };
        }
        let mut rows = files.clone();
        let texts = documents
            .into_values()
            .map(|document| document.rows.clone());
        texts.for_each(|more| rows.append(more));
        rows
    }

    fn accept(&mut self, changes: Vec<(Place, Change)>) {
        for (place, change) in changes {
            match change.document {
                Some(document) => self.in_force.insert(place, document),
                None => self.in_force.remove(&place),
            };
        }
    }

    /// Puts in force what can be, in order, and holds the rest back.
    fn find(&mut self, mut waiting: Vec<(Place, Change)>, files: &Rows, setting: Setting<'_>) {
        // What was held may be right once what it waits for is in force.
        loop {
            let count = waiting.len();
            self.findings.clear();
            waiting = self.admit(waiting, files, setting);
            if waiting.is_empty() || waiting.len() == count {
                break;
            }
        }
        for (place, mut change) in waiting {
            change.late = true;
            self.waiting.insert(place, change);
        }
    }

    /// Puts these in force; gives those that cannot be.
    fn admit(
        &mut self,
        mut changes: Vec<(Place, Change)>,
        files: &Rows,
        setting: Setting<'_>,
    ) -> Vec<(Place, Change)> {
        let findings = match agreed(self.with(files, &changes), setting) {
            Ok(_) => {
                self.accept(changes);
                return Vec::new();
            }
            Err(findings) => findings,
        };
        if let [(_, change)] = changes.as_slice() {
            let finding = findings.into_iter().find(Diagnostic::is_error);
            self.findings
                .extend(finding.map(|f| contradiction(change, f)));
            return changes;
        }
        let later = changes.split_off(changes.len() / 2);
        let mut held = self.admit(changes, files, setting);
        held.append(&mut self.admit(later, files, setting));
        held
    }
}

fn contradiction(change: &Change, finding: Diagnostic) -> Diagnostic {
    if finding.file == change.name {
        return finding;
    }
    let what = match &change.document {
        Some(_) => "it contradicts",
        None => "it would take away what is needed by",
    };
    let message = format!("{what} {}: {}", finding.file, finding.message);
    Diagnostic::error(&change.name, (0, 0), message).with_hint(finding.hint)
}

/// Reads a document, or says with its digest what is wrong.
fn read(
    section: Section,
    name: &str,
    text: Vec<u8>,
    version: Option<&str>,
    setting: Setting<'_>,
) -> Result<Document, ([u8; 32], Vec<Diagnostic>)> {
    let file: Arc<str> = Arc::from(name);
    // The version is the feed's business, with the object that it stands in.
    let version = version.and_then(|path| path.split('.').next());
    let (rows, tables, mut findings) = match section {
        Section::Catalog => {
            let mut read = read_json::<CatalogFile>(name, &text, version);
            let rows = read.value.as_ref().map(|catalog| {
                price_rows(&file, catalog, &read.refused, setting, &mut read.findings)
            });
            let tables = read.value.is_some_and(|catalog| !catalog.tables.is_empty());
            (rows, tables, read.findings)
        }
        Section::Accounts => {
            let mut read = read_json::<AccountsFile>(name, &text, version);
            let rows = read.value.as_ref().map(|accounts| {
                account_rows(&file, accounts, &read.refused, setting, &mut read.findings)
            });
            let tables = read
                .value
                .is_some_and(|accounts| !accounts.tables.is_empty());
            (rows, tables, read.findings)
        }
    };
    if tables {
        let message = "a message has no `tables`: they are files beside a file";
        findings.push(Diagnostic::error(name, (0, 0), message));
    }
    let digest = digest(&text);
    match rows {
        Some(rows) if !findings.iter().any(Diagnostic::is_error) => Ok(Document {
            text,
            version: version.map(str::to_owned),
            rows,
            warnings: findings,
        }),
        _ => Err((digest, findings)),
    }
}

#[cfg(test)]
mod tests;
