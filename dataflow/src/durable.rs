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

mod commands;
mod committer;
mod forget;
mod inputs;
mod journal;
mod manifest;
mod messages;
pub(crate) mod progress;
mod restore;
mod versions;

pub use commands::{
    AT_ONCE, Applied, NotObeyed, OperatorCommand, Selection, number_of, open, place, tell, waiting,
};
pub(crate) use committer::GATES;
pub use committer::{Committer, Ends, Flushed, Point, STAGE};
pub use forget::{Closed, Due, Forgetting, KnownPeriod};
pub use inputs::{KeptInputs, KeptTable, KeptText, TableRows, WantedInputs};
pub use journal::{Facts, FileRecord, Journal, Position};
pub(crate) use manifest::check_objects;
pub use manifest::{Generation, Manifest, Object, Plan, Staged, Told, generation_of};
pub use messages::MessageSink;
pub use restore::{Known, Restored, Stays, Stood};
pub use versions::{LeftVersion, versions};

use millrace_connectors::kafka::{KafkaError, PublishError};
use millrace_connectors::store::StoreError;
use millrace_operators::epoch::Epoch;

/// Why durable state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The store failed.
    #[error("durable state: {0}")]
    Store(#[from] StoreError),
    /// An object is not as the manifest says.
    #[error(
        "durable state: {object} in {folder} {problem}; nothing was started. Put the object back from \
         a copy, or give `durability.folder` an empty folder to read all sources from their beginning (and \
         `archive.folder` another, where there is one, and the outputs topics without messages, where they \
         are topics)"
    )]
    Damaged {
        /// Where the state is.
        folder: String,
        /// The object.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The state was made by another job.
    #[error(
        "durable state: {folder} belongs to another plan: {difference}. Nothing was started; give \
         this job a `durability.folder` of its own"
    )]
    OtherPlan {
        /// Where the state is.
        folder: String,
        /// What differs, in words.
        difference: String,
    },
    /// Another run of the job has begun.
    #[error(
        "another run of this job has taken over (generation {theirs}, this is {ours}); this run ends, \
         what it had not committed is read again by the other"
    )]
    Superseded {
        /// Our generation.
        ours: u64,
        /// The generation that holds the next manifest.
        theirs: u64,
    },
    /// Somebody has taken the state away from under a run.
    #[error(
        "durable state: {object} in {folder}, which this run has committed, is gone: somebody has emptied \
         the folder. This run ends and commits no more. Put the folder back from a copy, or start the job \
         again with the empty one: it reads all sources from their beginning and writes its outputs anew \
         (give the outputs topics without messages, where they are topics)"
    )]
    Emptied {
        /// Where the state was.
        folder: String,
        /// The newest commit.
        object: String,
    },
    /// The outputs in files are not those of the state.
    #[error(
        "the outputs in {folder} do not go with the job: {problem}. Nothing was started; {hint}"
    )]
    Outputs {
        /// Where the outputs are.
        folder: String,
        /// How they differ.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The object that says how far outputs are told is gone.
    #[error(
        "durable state: the progress of the outputs in {folder} was taken away while the job ran, by another \
         job that writes there or by somebody; this run ends. Give each job an `outputs.folder` of its own, \
         and start it again"
    )]
    Taken {
        /// Where the outputs are.
        folder: String,
    },
    /// The messages of a job are ahead of its state.
    #[error(
        "durable state: messages of epoch {published} are published by what topic {topic:?} says, and this \
         state has committed the epochs before {live}: it is older, or was begun anew. Nothing was started; \
         put the newer state back, or give the outputs topics without messages and `outputs.kafka.progress` \
         another topic"
    )]
    Behind {
        /// The topic of progress.
        topic: String,
        /// The last epoch published.
        published: Epoch,
        /// The first epoch that is not committed.
        live: Epoch,
    },
    /// A topic of the outputs is another than it was.
    #[error(
        "durable state: topic {topic:?} was deleted, and created anew under its name: it has nothing of what was \
         published, and nobody would publish that again. To publish all of it, give the outputs topics without \
         messages, `outputs.kafka.progress` another topic and `durability.folder` an empty folder"
    )]
    Anew {
        /// The topic.
        topic: String,
    },
    /// Kafka cannot be published to.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A transaction failed.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The run ended elsewhere before the commit.
    #[error("durable state: the run ended before its last commit")]
    Ended,
}
