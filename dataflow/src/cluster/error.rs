//! Why processes cannot run a job together.

use crate::durable::DurableError;
use std::path::PathBuf;

/// Why processes cannot run a job together.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Asked(String),
    /// The hostfile does not hold.
    #[error("hostfile {}: {problem}", .file.display())]
    Hostfile {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing can listen where this process should.
    #[error(
        "cannot listen on {address}, where the hostfile puts process {process}: {source}; stop what \
         listens there, or change the hostfile for all processes"
    )]
    Listen {
        /// This process.
        process: usize,
        /// Where.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not all processes came.
    #[error("{0}")]
    Missing(String),
    /// Process 0 runs something else.
    #[error("process 0 refuses process {process}: {reason}")]
    Refused {
        /// This process.
        process: usize,
        /// Why.
        reason: String,
    },
    /// A process ended, or fell silent, before the run was under way.
    #[error("lost process {process}: {reason}; this process ends too: start all of them again")]
    Lost {
        /// The other process.
        process: usize,
        /// What is known.
        reason: String,
    },
    /// Another run has taken the job over while this process waited for its process 0.
    #[error(transparent)]
    TakenOver(DurableError),
    /// Another process could not do its part.
    #[error("process {process}: {reason}")]
    Elsewhere {
        /// The other process.
        process: usize,
        /// Its own words.
        reason: String,
    },
    /// The outputs are not where all processes can write them.
    #[error(
        "process {process} does not see the folder of the outputs, {folder}, as process 0 does; every \
         process writes its share of large snapshots there: give a folder that all share, or s3://"
    )]
    NotShared {
        /// This process.
        process: usize,
        /// The folder.
        folder: String,
    },
}
