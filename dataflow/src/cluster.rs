//! A job as several processes, on one machine or on many.
//!
//! ```text
//!            intake, publisher, committer, outputs, endpoint
//!                         │
//!   process 0 ── workers 0 … W-1 ──┐
//!   process 1 ── workers W … 2W-1 ─┼── one timely dataflow over sockets between all of them
//!   process 2 ── …                ─┘
//!        └── control link to process 0: terms, start, heartbeat, end; to each other one: heartbeat, end
//! ```
//!
//! - **Process 0** alone reads, publishes and commits. The others hold their share of the state and do
//!   their share of the work: usage, accounts and prices reach them through the dataflow.
//! - **Meeting.** The others report to process 0 and tell which program and job they run; it refuses
//!   what differs. Nothing is touched before all are there. Then it takes the job over, tells where to
//!   go on, and all connect with each other. Sockets carry the number of the run: what is left of an
//!   earlier one is dropped.
//! - **Texts** behind keys belong to process 0. Classes, which pricing looks at, reach the others with
//!   their epoch; the rest when the run ends, for the snapshots.
//! - **One failure unit.** There is no recovery of a part: where one process ends, all end, by
//!   themselves, and are started again, by a supervisor (`millrace cluster run`) or by Kubernetes. What
//!   was committed is loaded, by any number of processes and workers.
//! - **Failure:** the end of a process closes its sockets, which the others notice at once; one that
//!   hangs, or is cut off, is missed by the heartbeat within seconds; an epoch that stays in flight is
//!   noticed by the watchdog of each process.
//! - **Strangers:** the sockets of a cluster are open to whoever reaches them while it forms. Who connects
//!   and says nothing, or says it slowly, keeps nobody waiting (`door.rs`). By a secret that all
//!   processes share (`secret.rs`) nobody else takes the place of one; they do without one on this machine
//!   alone, and where `--no-secret` says so.
//! - **Eavesdroppers:** with certificates, everything that goes over the sockets is TLS in which both ends
//!   prove to be of the cluster's CA (`tls.rs`, `line.rs`). Without, it can be read and changed on its way.

mod company;
mod door;
mod hosts;
mod line;
mod link;
mod meeting;
mod secret;
mod sockets;
mod supervisor;
mod tls;
mod watchdog;
mod wire;

pub use company::{Company, Learn};
pub use hosts::Place;
pub use link::{Attending, Ears, Links};
pub use meeting::{Guest, Host, Terms};
pub use secret::{SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret, draw_secret};
pub use sockets::Connected;
pub use supervisor::{Supervisor, SupervisorError, obey_supervisor};
pub use tls::TlsFiles;
pub use watchdog::Watchdog;
pub use wire::Go;

use crate::durable::DurableError;
use door::Keys;
use std::path::PathBuf;
use std::time::Duration;

/// The exit code of a process that has lost the others, or finds that nothing moves: start all again.
pub const EXIT_LOST: u8 = 3;

/// How this process runs a job with others.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Which process this is, and where the others are.
    pub place: Place,
    /// How long to wait for the others at the start.
    pub patience: Duration,
    /// What tells the processes from strangers.
    pub secret: Secret,
    /// The certificates by which they encrypt what they say, if they do.
    pub tls: Option<TlsFiles>,
}

impl ClusterPlan {
    /// A plan that strangers cannot harm.
    ///
    /// # Errors
    /// When processes have no secret, and are on other machines, or none has said that they go without.
    pub fn of(
        place: Place,
        patience: Duration,
        secret: Secret,
        goes_without: bool,
        tls: Option<TlsFiles>,
    ) -> Result<Self, ClusterError> {
        let give = format!(
            "give all processes the same secret, in {SECRET_VARIABLE} or in a file that --secret-file names"
        );
        let asked = |text: String| Err(ClusterError::Asked(text));
        match (secret.is_given(), place.beyond_loopback()) {
            (true, _) if goes_without => asked(format!(
                "a secret is given, and --no-secret says that there is none; take one of them away from \
                 all processes, {SECRET_VARIABLE} and {SECRET_FILE_VARIABLE} included"
            )),
            (false, Some(host)) => asked(format!(
                "{host} is not on this machine's loopback, and whoever reaches it could take the place of a \
                 process: {give}"
            )),
            (false, None) if !goes_without => asked(format!(
                "whoever is on this machine could take the place of a process: {give}; `millrace cluster \
                 run` makes one by itself; or say --no-secret to all, where nobody else is on this machine"
            )),
            _ => Ok(Self {
                place,
                patience,
                secret,
                tls,
            }),
        }
    }

    /// What tells the processes from strangers, with the certificates that the files hold now.
    fn keys(&self) -> Result<Keys, ClusterError> {
        let host = &self.place.hosts[self.place.process];
        let tls = self.tls.as_ref().map(|files| files.load(host));
        Ok(Keys {
            secret: self.secret.clone(),
            tls: tls.transpose()?,
        })
    }
}

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
