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
mod error;
mod hosts;
mod line;
mod link;
mod meeting;
mod plan;
mod secret;
mod sockets;
mod supervisor;
mod tls;
mod watchdog;
mod wire;

pub use company::{Company, FileList, Learn};
pub use error::ClusterError;
pub use hosts::Place;
pub use link::{Attending, Ears, Links};
pub use meeting::{Guest, Host, Terms};
pub use plan::ClusterPlan;
pub use secret::{SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secret, draw_secret};
pub use sockets::Connected;
pub use supervisor::{Supervisor, SupervisorError, obey_supervisor};
pub use tls::TlsFiles;
pub use watchdog::Watchdog;
pub use wire::Go;
