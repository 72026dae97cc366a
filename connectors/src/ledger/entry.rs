//! A file in the ledger.

use crate::decode::{Content, Unmet};
use crate::lines::LineMap;
use crate::stream::StreamId;
use millrace_operators::domain::{Fault, FileId};
use serde::{Deserialize, Serialize};

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
    /// Read to its end, and a person should look at it.
    Doubtful,
    /// Read up to where it breaks off; the records before count.
    Incomplete,
    /// Not read, because it was there before.
    Refused,
    /// Not read, because it could not be opened; no record counts.
    Failed,
}

impl FileState {
    /// Whether the file was read, and its records count.
    #[must_use]
    pub fn counts(self) -> bool {
        matches!(self, Self::Loaded | Self::Doubtful | Self::Incomplete)
    }

    /// Lower-case name, as in outputs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Followed => "followed",
            Self::Loaded => "loaded",
            Self::Doubtful => "doubtful",
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
    /// The source that it belongs to.
    pub source: String,
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
    /// Why, for states that need a reason; otherwise what a person should know of it, or nothing.
    pub message: String,
    /// What was read of it, as far as it is text.
    pub content: Option<Content>,
    /// Fields that its rule reads and that none of its records has.
    pub unmet: Vec<Unmet>,
    /// Whether its last row is no record, and may be one where more follows.
    pub torn: bool,
    /// What broke it off.
    pub broken: Option<Fault>,
    /// The first of its rows that counts: those before are of the file that it continues, or of a partition
    /// were never asked for.
    pub from: u64,
    /// The first of its rows that is read from the file that continues it.
    pub until: Option<u64>,
    /// The lines that its records stand on.
    pub lines: LineMap,
    /// What was read of it before it grew, while rows of that are to be taken back.
    pub before: Option<Content>,
    /// The file that it came in place of, under its name, if its records restate those.
    pub replaces: Option<FileId>,
    /// What all of its records were mediated by, but for those that are left behind.
    pub inputs: Inputs,
    /// How many of its records could not be mediated again, since they are not to be had any more, and what
    /// they were mediated by.
    pub left: Option<(Inputs, u64)>,
    /// What those of its records are mediated by that stand nowhere else, where that is not `inputs`: what came
    /// since what was read before could not be mediated again.
    pub since: Option<Inputs>,
}

/// What the outcome of a record depends on beside the record, as digests.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Inputs {
    /// How its file is laid out.
    pub layout: String,
    /// The rule, and the tables that it asks.
    pub rule: String,
}

impl LedgerEntry {
    /// Whether a file of another name may be the whole of this one, which was cut.
    pub(super) fn is_cut(&self) -> bool {
        let cut = match self.state {
            FileState::Incomplete => true,
            FileState::Loaded | FileState::Doubtful => self.torn,
            _ => false,
        };
        cut && self.rows > 0 && self.until.is_none()
    }
}

pub(super) fn is_passed_over(state: FileState) -> bool {
    matches!(state, FileState::Refused | FileState::Failed)
}

pub(super) fn is_barren(entry: &LedgerEntry) -> bool {
    let broken = matches!(entry.state, FileState::Failed | FileState::Incomplete);
    broken && entry.rows == 0
}

pub(super) fn content_of(entry: &LedgerEntry) -> (String, String) {
    (entry.source.clone(), entry.checksum.clone())
}

pub(super) fn name_of(entry: &LedgerEntry) -> (String, String) {
    (entry.source.clone(), entry.name.clone())
}

/// All that tells a file from others.
pub(super) fn whole_of(entry: &LedgerEntry) -> (String, String, String) {
    (
        entry.source.clone(),
        entry.name.clone(),
        entry.checksum.clone(),
    )
}
