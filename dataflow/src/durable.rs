//! Durable state: what a job has taken in, kept so that a run that ends at any moment, however, is
//! continued by the next with nothing lost and nothing doubled.
//!
//! ```text
//!  intake ── journal of what each epoch brings ──► committer ──► journal/…  (flush)
//!                                                   ▲   │
//!  publisher ── staged outputs of those epochs ─────┘   ├─────► manifest/N (commit: create-only)
//!                                                       └─────► outputs    (publish), then collect
//! ```
//!
//! - **What is kept** is what entered the graph: usage, faults, reference rows, the clock, the names
//!   behind keys, the file ledger, positions in the sources. The graph is a pure function of it, so the
//!   state of the operators is made again from it at a restart, without reading a source or mediating
//!   a record.
//! - **The commit** is the creation of one object, `manifest/N`. It names the position in every
//!   source, every journal object with its digest, and the outputs of the epochs since manifest N-1.
//!   What no manifest names never happened.
//! - **Outputs** are staged under hidden names before the commit and take their places after it; a run
//!   that ends in between is completed by the next. Messages are not even staged: they are a function
//!   of the journal, and are made again where they were not published.
//! - **Outputs** say how far they are told, and from which state. A start refuses those that do not go with
//!   its state: see [`progress`].
//! - **Generations.** A run begins by creating the next manifest under its own generation. An older
//!   run of the job that still lives finds its number taken at its next commit, and ends. No lease, no
//!   clock. What it does besides, however late, reaches no name that a younger run makes: see *A run that
//!   stood still* in `ARCHITECTURE.md`.
//! - **Failure:** a damaged or missing object stops the start with its name. An unknown outcome of the
//!   commit is read back: ours, or not ours. A commit sees that the one before it is there: where somebody
//!   has emptied the folder, nothing is committed that could not be loaded.
//! - **Bounded:** at most two commits wait for the committer; the intake waits with them.

mod applied;
mod commands;
mod committer;
mod error;
mod forget;
mod generation;
mod inputs;
mod journal;
mod manifest;
mod messages;
mod names;
mod object;
mod part;
mod plan;
pub(crate) mod progress;
mod restore;
mod staged;
mod versions;

pub use applied::{AT_ONCE, Applied, number_of};
pub use commands::{NotObeyed, OperatorCommand, Selection, open, place, tell, waiting};
pub use committer::{Committer, Ends, Flushed, Point};
pub use error::DurableError;
pub use forget::{Closed, Forgetting, KnownPeriod};
pub use generation::Generation;
pub use inputs::{KeptInputs, KeptTable, KeptText, TableRows, WantedInputs};
pub use journal::{Facts, FileRecord, Journal};
pub(crate) use manifest::check_objects;
pub use manifest::{Manifest, Position, Told};
pub use messages::MessageSink;
pub(crate) use names::GATES;
pub use names::{STAGE, generation_of};
pub use object::Object;
#[cfg(test)]
pub(crate) use part::PART_ROWS;
pub use part::{MessageOutput, Part};
pub use plan::Plan;
pub use restore::{Known, Restored, Stays, Stood};
pub use staged::Staged;
pub use versions::{LeftVersion, versions};
