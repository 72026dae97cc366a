//! What the intake needs, and what it comes to.

use super::feeds::ReferenceFeeds;
use super::suspended::Suspended;
use super::warned::Warned;
use crate::cluster::FileList;
use crate::crash::Crashes;
use crate::durable::{Closed, DurableError, Point, Restored};
use crate::job::Job;
use crate::listener::{Listener, PendingChange};
use crate::metrics::Metrics;
use crate::present::Witness;
use crate::watch::{FileWatch, Saved};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::lines::FileLines;
use millrace_connectors::mediate::MediationPlan;
use millrace_connectors::names::Names;
use millrace_connectors::output::LedgerRow;
use millrace_connectors::reference::{Reference, ReferenceFiles};
use millrace_connectors::store::{Store, StoreError};
use millrace_operators::epoch::Epoch;
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the intake needs from the run.
pub struct Setting {
    /// The job.
    pub job: Job,
    /// The name book.
    pub names: Arc<Names>,
    /// Rules, one per source.
    pub rules: Vec<Arc<MediationPlan>>,
    /// Reference files.
    pub reference_files: ReferenceFiles,
    /// Topics beside them, read to their end.
    pub reference_feeds: Option<ReferenceFeeds>,
    /// Reference data in force at the start; of files alone, where there are topics.
    pub reference: Reference,
    /// What was said of the job, its rules and its reference data.
    pub warned: Warned,
    /// Where raw records are kept.
    pub archive: Arc<Store>,
    /// Names of the files, for outputs.
    pub file_names: FileList,
    /// The lines of their records, likewise.
    pub file_lines: FileLines,
    /// Who hears of files and of changes.
    pub listener: Arc<dyn Listener>,
    /// The job's numbers.
    pub metrics: Arc<Metrics>,
    /// Changes on their way through the dataflow.
    pub pending: Arc<Mutex<BTreeMap<Epoch, PendingChange>>>,
    /// Saved files, when the job watches.
    pub saved: Option<Receiver<Saved>>,
    /// Who tells of them.
    pub watch: Option<FileWatch>,
    /// Set when the run has failed elsewhere.
    pub failed: Arc<AtomicBool>,
    /// The first epoch that is not bound yet, for whoever wants to know whether all is done.
    pub bound: Arc<AtomicU64>,
    /// Whether an output wants each ignored record.
    pub wants_ignored: bool,
    /// What an earlier run took in.
    pub restored: Option<Restored>,
    /// What is done once that is loaded, before anything is written.
    pub loaded: Box<dyn Fn() -> Result<(), StoreError> + Send>,
    /// Where epochs are made durable.
    pub keeping: Option<Keeping>,
    /// What is suspended, for commands.
    pub suspended: Option<Suspended>,
    /// What is closed, and what is due of it.
    pub closed: Arc<Closed>,
    /// Whether the sources are read, or only what an earlier run took in.
    pub reads: bool,
    /// Whether the run closes bill units at its end.
    pub closes: bool,
}

/// The last epochs of commits that have begun, until their outputs are staged.
pub type Points = Arc<Mutex<VecDeque<Epoch>>>;

/// How epochs are made durable.
pub struct Keeping {
    /// What the names of the run have in them.
    pub tag: String,
    /// Where commits begin.
    pub points: SyncSender<Point>,
    /// For the publisher: after which epochs to stage its outputs.
    pub begun: Points,
    /// How often.
    pub interval: Duration,
    /// Where operators tell commands.
    pub state: Arc<Store>,
    /// Which files runs crashed at, where that can be told.
    pub crashes: Option<Crashes>,
}

/// Why the intake could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// What an earlier run took in cannot be loaded.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A source cannot be read.
    #[error("{0}")]
    Source(String),
    /// The reference data does not hold.
    #[error("the reference data does not hold")]
    Reference(Vec<Diagnostic>),
}

/// What the intake leaves behind.
#[derive(Debug)]
pub struct TakenIn {
    /// The ledger of files.
    pub ledger: Vec<LedgerRow>,
    /// What could not be read of the sources.
    pub unread: Vec<String>,
    /// The reference data in force.
    pub reference: Reference,
    /// What keeps messages of reference data from being in force.
    pub held: Vec<Diagnostic>,
    /// What was said of the configuration in force, and of what is not for its faults.
    pub warned: Warned,
    /// Records that operators have taken out of suspense.
    pub discarded: RoaringTreemap,
    /// Archived records that came back since state was forgotten.
    pub reopened: RoaringTreemap,
    /// What bears witness to the present.
    pub witness: Witness,
}
