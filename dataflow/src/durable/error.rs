//! Why durable state cannot be used.

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
