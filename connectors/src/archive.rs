//! The archive of closed periods: what was billed, and all that is needed to bill it again.
//!
//! ```text
//!  <folder>/periods/<start>-<end>/manifest-<sequence>.json       create-only, last: the period's files, a digest
//!           /sidecar-<shard>-<sequence>-<generation>.json        account → rows, price → accounts
//!           /usage-<shard>-<sequence>-<generation>.parquet       usage by account, time, record
//!           /lines-<shard>-<sequence>-<generation>.parquet       what it was billed
//!  <folder>/reference/<kind>-<digest>.json                       catalog and accounts then in force
//! ```
//!
//! A *period* is a bill unit, or the stretch of several where accounts with different bill units share
//! a balance group, so that whoever rates a period has all of a group's usage in it. Accounts are
//! spread over shards; what is asked of one account is found by reading its shard's sidecar and then
//! only the pages of its rows.
//!
//! *Sequence* 0 is the bill. An adjustment writes the next sequence: the usage of the accounts that it
//! touched, whole, in the place of what was there before, and lines that say what is billed more or
//! less. So an account's usage is that of the last sequence that has the account, and its bill is the
//! sum of all its lines.
//!
//! - Everything is text: no reader needs a name book of the writer's process.
//! - A manifest is created, never written over: of two runs that archive a period one does, and a
//!   period is archived once. The names of the other files have the run's generation, so that a run
//!   that is late touches nothing that a manifest names. What no manifest names is not there, and goes
//!   when the sequence has its manifest.
//! - **Failure:** a file that is missing, shorter, or not what its manifest or sidecar says is an error
//!   that names it. Nothing is read around.

mod file;
mod layout;
mod lines;
mod read;
mod reference;
mod rows;
mod scan;
mod usage;
mod write;

pub use layout::{
    AccountEntry, BucketEntry, GroupEntry, Manifest, Place, SearchEntry, ShardEntry, Sidecar,
    StateMark,
};
pub use lines::ArchivedLine;
pub use read::{Archive, ArchivedPeriod, Found};
pub use reference::ReferenceCopy;
pub use usage::BilledUsage;
pub use write::{
    GroupStanding, Moved, ShardContent, Terms, write_manifest, write_reference, write_shard,
};

use crate::output::OutputError;
use crate::shield::shielded;
use crate::store::StoreError;
use millrace_operators::domain::Period;
use millrace_operators::epoch::Epoch;

/// Rows of a row group of usage.
pub const GROUP_ROWS: usize = 16_384;
/// Rows of a page, the least that is read.
const PAGE_ROWS: usize = 1_024;
/// What readers of this version understand.
const VERSION: u32 = 2;

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed, or a file is not there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file is not what it should be.
    #[error("the archive is damaged: {location:?} {detail}; put the file back from a copy")]
    Damaged {
        /// The file.
        location: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A file of a later version.
    #[error("{location:?} is of archive version {found}, this program knows version {VERSION}")]
    Version {
        /// The manifest.
        location: String,
        /// Its version.
        found: u32,
    },
    /// Two runs archive the same.
    #[error(
        "{location:?} was written by another run meanwhile, and stays; run the job again to archive \
         what differs"
    )]
    Taken {
        /// The manifest.
        location: String,
    },
    /// The archive is another job's.
    #[error(
        "{location:?} is the archive of another job: {difference}; give this job an `archive.folder` of \
         its own"
    )]
    OtherJob {
        /// The archive.
        location: String,
        /// What differs, in words.
        difference: String,
    },
    /// What was archived is not there, or something else is in its place.
    #[error(
        "the archive at {location:?} is not the one that the state goes on from: {lacking}. Nothing was \
         changed; put the archive back, or write in `archive.folder` where it is now"
    )]
    Lacks {
        /// The archive.
        location: String,
        /// What is missing, or another.
        lacking: String,
    },
    /// The state is older than the archive.
    #[error(
        "the archive at {location:?} was written when the state had committed the epochs before \
         {archived}, and it has committed those before {live}: it is older. Nothing was changed; put the \
         newer state back"
    )]
    Ahead {
        /// The archive.
        location: String,
        /// The first epoch that was not committed when it was written.
        archived: Epoch,
        /// The first epoch that is not committed now.
        live: Epoch,
    },
    /// The archive was written from another state.
    #[error(
        "the archive at {location:?} was written from another state of the job, whose records have other \
         numbers. Nothing was changed; put that state back, or give `archive.folder` an empty folder where \
         the state has archived nothing yet"
    )]
    OtherState {
        /// The archive.
        location: String,
    },
    /// The archive was written without durable state.
    #[error(
        "the archive at {location:?} was written by runs without durable state: {period} has records that \
         this state would number otherwise, and would bill once more. Nothing was changed; give \
         `archive.folder` an empty folder, where the job archives anew what its sources have (put back what \
         they have no more), or leave out `durability`"
    )]
    Stateless {
        /// The archive.
        location: String,
        /// A period of it.
        period: Period,
    },
    /// The archive was written from durable state, and the job has none.
    #[error(
        "the archive at {location:?} was written from durable state of the job, and the job file has no \
         `durability` any more: what it would archive now has other numbers, and the state would not know it. \
         Nothing was changed; write `durability` as it was, or give `archive.folder` an empty folder"
    )]
    Stateful {
        /// The archive.
        location: String,
    },
    /// There are no periods.
    #[error(
        "there is no archive at {location:?}: it has no periods/<start>-<end>/manifest-0000.json; \
         give the folder that the job names as archive.folder"
    )]
    None {
        /// Where it was looked for.
        location: String,
    },
}

impl ArchiveError {
    fn damaged(location: &str, detail: impl Into<String>) -> Self {
        let (location, detail) = (location.to_owned(), detail.into());
        Self::Damaged { location, detail }
    }
}

/// Reads a file behind the shield.
fn reading<T>(
    location: &str,
    read: impl FnOnce() -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    shielded(read).unwrap_or_else(|panicked| {
        let detail = format!("is not readable: {panicked}");
        Err(ArchiveError::damaged(location, detail))
    })
}

#[cfg(test)]
mod tests;
