//! The file ledger: which files a job has met, so that none is billed twice.
//!
//! A file is known by its name in its stream and by the checksum of its content. The same content
//! under another name is refused, whatever stream it lies in: it is the classic way to bill a month
//! twice. The same name with other content is refused too: a file, once loaded, does not change; a
//! correction is a new file. A file that failed before any record was taken may be sent again with
//! other content, and is entered once as long as its content stays.

use crate::stream::StreamId;
use millrace_operators::domain::{FileId, RecordId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// Being read.
    Reading,
    /// A partition: read as far as there is something, for ever.
    Followed,
    /// Read to its end.
    Loaded,
    /// Read up to where it breaks off; the records before count.
    Incomplete,
    /// Not read, because it was there before.
    Refused,
    /// Not read, because it could not be opened; no record counts.
    Failed,
}

impl FileState {
    /// Lower-case name, as in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Followed => "followed",
            Self::Loaded => "loaded",
            Self::Incomplete => "incomplete",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A file in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Its number, in the order of discovery.
    pub file: FileId,
    /// Its name in the store.
    pub name: String,
    /// The stream that it belongs to.
    pub stream: StreamId,
    /// Its bytes.
    pub size: u64,
    /// What identifies its content.
    pub checksum: String,
    /// Records received from it.
    pub rows: u64,
    /// What became of it.
    pub state: FileState,
    /// Why, for states that need a reason; empty otherwise.
    pub message: String,
}

/// A file that knocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its name in the store.
    pub name: String,
    /// The stream that it belongs to.
    pub stream: StreamId,
    /// Its bytes.
    pub size: u64,
    /// What identifies its content.
    pub checksum: String,
}

/// More files than this cannot be numbered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot take {name:?}: a job numbers at most {} files; start a new job",
    RecordId::FILES_MAX
)]
pub struct LedgerFull {
    /// The file that is one too many.
    pub name: String,
}

/// Why a file is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The ledger's entry about the refusal.
    pub file: FileId,
    /// The file that was there before.
    pub earlier: FileId,
    /// Why, naming the earlier file.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What the ledger says to an arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Read it, under this number.
    Admitted(FileId),
    /// The very same file is in the ledger already, under this number: a folder listed again.
    Known(FileId),
    /// Do not read it.
    Refused(Refusal),
}

/// All files that a job has met.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Vec<LedgerEntry>,
    /// Files whose records count, by content and by name.
    by_checksum: HashMap<String, FileId>,
    by_name: HashMap<(StreamId, String), FileId>,
    /// Files whose records do not count, by stream, name and content: each is entered once, however
    /// often its folder is listed.
    passed_over: HashMap<(StreamId, String, String), FileId>,
}

impl Ledger {
    /// The ledger that an earlier run wrote.
    #[must_use]
    pub fn restore(entries: Vec<LedgerEntry>) -> Self {
        let mut ledger = Self::default();
        for entry in &entries {
            ledger.remember(entry);
        }
        Self { entries, ..ledger }
    }

    fn remember(&mut self, entry: &LedgerEntry) {
        if matches!(entry.state, FileState::Refused | FileState::Failed) {
            self.passed_over.insert(whole(entry), entry.file);
            return;
        }
        self.by_checksum.insert(entry.checksum.clone(), entry.file);
        self.by_name
            .insert((entry.stream.clone(), entry.name.clone()), entry.file);
    }

    /// Enters a file, unless it was there before.
    ///
    /// # Errors
    /// When no number is left for it.
    pub fn admit(&mut self, arrival: Arrival) -> Result<Admission, LedgerFull> {
        let Arrival {
            name,
            stream,
            size,
            checksum,
        } = arrival;
        let same_content = self.by_checksum.get(&checksum).copied();
        let same_name = self.by_name.get(&(stream.clone(), name.clone())).copied();
        if let (Some(content), Some(named)) = (same_content, same_name)
            && content == named
        {
            return Ok(Admission::Known(content));
        }
        let key = (stream, name, checksum);
        if let Some(file) = self.passed_over.get(&key) {
            return Ok(Admission::Known(*file));
        }
        let (stream, name, checksum) = key;
        let number = u32::try_from(self.entries.len())
            .ok()
            .filter(|n| *n < RecordId::FILES_MAX);
        let file = FileId(number.ok_or_else(|| LedgerFull { name: name.clone() })?);
        let earlier_name = |earlier: FileId| self.entry(earlier).map_or("", |entry| &entry.name);
        let refusal = match (same_content, same_name) {
            (Some(earlier), _) => Some((
                earlier,
                format!(
                    "{name:?} has the same content as {:?}, which was loaded before; it is not billed twice",
                    earlier_name(earlier)
                ),
            )),
            (None, Some(earlier)) => Some((
                earlier,
                format!(
                    "{name:?} was loaded before with other content; send a correction under a new name"
                ),
            )),
            (None, None) => None,
        };
        let state = if refusal.is_some() {
            FileState::Refused
        } else {
            FileState::Reading
        };
        let message = refusal
            .as_ref()
            .map_or_else(String::new, |(_, message)| message.clone());
        let entry = LedgerEntry {
            file,
            name,
            stream,
            size,
            checksum,
            rows: 0,
            state,
            message,
        };
        self.remember(&entry);
        self.entries.push(entry);
        Ok(match refusal {
            Some((earlier, message)) => Admission::Refused(Refusal {
                file,
                earlier,
                message,
            }),
            None => Admission::Admitted(file),
        })
    }

    /// Says what became of a file. One that failed may knock again with other content.
    pub fn settle(
        &mut self,
        file: FileId,
        state: FileState,
        rows: u64,
        message: impl Into<String>,
    ) {
        let Some(entry) = usize::try_from(file.0)
            .ok()
            .and_then(|i| self.entries.get_mut(i))
        else {
            return;
        };
        (entry.state, entry.rows, entry.message) = (state, rows, message.into());
        if state == FileState::Failed {
            if self.by_checksum.get(&entry.checksum) == Some(&file) {
                self.by_checksum.remove(&entry.checksum);
            }
            let name = (entry.stream.clone(), entry.name.clone());
            if self.by_name.get(&name) == Some(&file) {
                self.by_name.remove(&name);
            }
            self.passed_over.insert(whole(entry), file);
        }
    }

    /// Lets a file that failed be read under its number after all; says whether it may. It may not when
    /// its content or its name has been loaded from another file meanwhile.
    pub fn retry(&mut self, file: FileId) -> bool {
        let at = usize::try_from(file.0).ok();
        let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) else {
            return false;
        };
        let named = (entry.stream.clone(), entry.name.clone());
        let taken =
            self.by_name.contains_key(&named) || self.by_checksum.contains_key(&entry.checksum);
        if entry.state != FileState::Failed || taken {
            return false;
        }
        (entry.state, entry.message) = (FileState::Reading, String::new());
        let entry = entry.clone();
        self.passed_over.remove(&whole(&entry));
        self.remember(&entry);
        true
    }

    /// The file of a stream that counts under a name.
    #[must_use]
    pub fn named(&self, stream: &StreamId, name: &str) -> Option<&LedgerEntry> {
        let file = self.by_name.get(&(stream.clone(), name.to_owned()))?;
        self.entry(*file)
    }

    /// The entry of a file.
    #[must_use]
    pub fn entry(&self, file: FileId) -> Option<&LedgerEntry> {
        self.entries.get(usize::try_from(file.0).ok()?)
    }

    /// All entries, in the order of discovery.
    #[must_use]
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }
}

/// All that tells a file from others.
fn whole(entry: &LedgerEntry) -> (StreamId, String, String) {
    (
        entry.stream.clone(),
        entry.name.clone(),
        entry.checksum.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(name: &str, checksum: &str) -> Arrival {
        let stream = StreamId::of_folder("gateway/llm/request/input").unwrap();
        Arrival {
            name: name.to_owned(),
            stream,
            size: 1,
            checksum: checksum.to_owned(),
        }
    }

    #[test]
    fn no_file_is_taken_twice() {
        let mut ledger = Ledger::default();
        let first = FileId(0);
        assert_eq!(
            ledger.admit(arrival("a.csv", "1")),
            Ok(Admission::Admitted(first))
        );
        ledger.settle(first, FileState::Loaded, 10, "");
        assert_eq!(
            ledger.admit(arrival("a.csv", "1")),
            Ok(Admission::Known(first))
        );
        let Ok(Admission::Refused(refusal)) = ledger.admit(arrival("copy.csv", "1")) else {
            panic!()
        };
        assert_eq!((refusal.file, refusal.earlier), (FileId(1), first));
        assert!(
            refusal
                .message
                .contains("\"copy.csv\" has the same content as \"a.csv\"")
        );
        assert_eq!(
            ledger.admit(arrival("copy.csv", "1")),
            Ok(Admission::Known(FileId(1)))
        );
        let Ok(Admission::Refused(refusal)) = ledger.admit(arrival("a.csv", "2")) else {
            panic!()
        };
        assert!(refusal.message.contains("with other content"));
        assert_eq!(
            ledger.admit(arrival("b.csv", "2")),
            Ok(Admission::Admitted(FileId(3)))
        );
        let mut restored = Ledger::restore(ledger.entries().to_vec());
        assert_eq!(
            restored.admit(arrival("a.csv", "1")),
            Ok(Admission::Known(first))
        );
        assert!(matches!(
            restored.admit(arrival("c.csv", "2")),
            Ok(Admission::Refused(_))
        ));
    }

    #[test]
    fn a_file_that_failed_may_come_again() {
        let mut ledger = Ledger::default();
        ledger.admit(arrival("a.parquet", "1")).unwrap();
        ledger.settle(FileId(0), FileState::Failed, 0, "not a whole Parquet file");
        let known = Ok(Admission::Known(FileId(0)));
        assert_eq!(ledger.admit(arrival("a.parquet", "1")), known);
        let mut restored = Ledger::restore(ledger.entries().to_vec());
        assert_eq!(restored.admit(arrival("a.parquet", "1")), known);
        assert!(restored.retry(FileId(0)));
        restored.settle(FileId(0), FileState::Loaded, 1, "");
        assert_eq!(restored.admit(arrival("a.parquet", "1")), known);
        assert!(!restored.retry(FileId(0)));
        assert_eq!(
            ledger.admit(arrival("a.parquet", "2")),
            Ok(Admission::Admitted(FileId(1)))
        );
        assert_eq!(ledger.entry(FileId(0)).unwrap().state, FileState::Failed);
        assert!(!ledger.retry(FileId(0)), "its name is another's");
    }
}
