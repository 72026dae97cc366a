//! Late usage, and why it cannot be billed.

use millrace_connectors::archive::ArchiveError;
use millrace_operators::domain::{RecordId, Usage};
use std::sync::Arc;

/// A record that came late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateUsage {
    /// The usage, mediated.
    pub usage: Usage,
    /// The file that its record number counts.
    pub file: Arc<str>,
}

/// Why nothing was adjusted.
#[derive(Debug, thiserror::Error)]
pub enum AdjustError {
    /// The archive cannot be read or written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A late record has the number of an archived one.
    #[error(
        "the late record {record} of {file:?} has the number of an archived record of {archived:?}; \
         number the files of a job once and for all"
    )]
    Numbered {
        /// The record.
        record: RecordId,
        /// Its file.
        file: String,
        /// The file of the archived record.
        archived: String,
    },
}
