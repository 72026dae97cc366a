//! A file that is found, and what becomes of it.

use crate::decode::Content;
use crate::stream::StreamId;
use millrace_operators::domain::{FileId, RecordId};
use std::fmt;

/// A file that knocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
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
    /// Whether other content under its name amends what was read.
    pub amends: bool,
}

/// A look into a file that knocks, which is only taken where the ledger cannot tell otherwise.
pub trait Sight {
    /// Whether it has records, or may have.
    fn has_records(&self) -> bool;
    /// Whether its content begins with this one.
    fn begins_with(&self, content: &Content) -> bool;
}

/// A file that is not looked into: a partition.
impl Sight for () {
    fn has_records(&self) -> bool {
        true
    }

    fn begins_with(&self, _: &Content) -> bool {
        false
    }
}

/// What a file is beside one that was read under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The same.
    Same,
    /// What was read is its beginning.
    Longer,
    /// Something else.
    Changed,
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
    /// Read it on, under the number that it has: it has grown, and its rows so far stay.
    Grown(FileId),
    /// Do not read it.
    Refused(Refusal),
}
