//! Why a run came to no end.

use crate::board::ConservationError;
use crate::cluster::ClusterError;
use crate::durable::DurableError;
use crate::serve::ServeError;
use crate::watch::WatchError;
use millrace_connectors::archive::ArchiveError;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::KafkaError;
use millrace_connectors::names::UnknownName;
use millrace_connectors::output::OutputError;
use millrace_connectors::store::StoreError;

/// Why a run came to no end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration does not hold.
    #[error("the job has {} errors", .0.iter().filter(|finding| finding.is_error()).count())]
    Configuration(Vec<Diagnostic>),
    /// An output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The output folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics endpoint could not be opened.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Durable state cannot be used.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A source cannot be read.
    #[error("{0}")]
    Source(String),
    /// Closed bill units cannot be archived.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The processes of the job cannot work together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The books do not balance.
    #[error(transparent)]
    Conservation(#[from] ConservationError),
    /// The machine does not give what a run needs.
    #[error("cannot start the job: {0}")]
    Start(String),
}

impl From<KafkaError> for RunError {
    fn from(error: KafkaError) -> Self {
        Self::Source(error.to_string())
    }
}

impl From<UnknownName> for RunError {
    fn from(unknown: UnknownName) -> Self {
        Self::Output(unknown.into())
    }
}
