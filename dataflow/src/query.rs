//! SQL over what a job wrote: its outputs, their changes, and the raw records it kept.
//!
//! ```text
//!  <folder>/<output>/snapshot/*.parquet                         table <output>
//!  <folder>/<output>/changes/*.parquet                          table <output>_changes
//!  <folder>/raw/<platform>/<service type>/<record type>/…       table raw_<platform>_<service type>_<record type>
//! ```
//!
//! Queries only read. Amounts are decimals in the files, in the engine and in what is printed:
//! number literals are taken as decimals too, so that `amount > 0.1` compares exactly.

#[cfg(feature = "sql")]
mod answer;
#[cfg(feature = "sql")]
mod engine;
mod tables;

#[cfg(feature = "sql")]
pub use answer::Answer;
#[cfg(feature = "sql")]
pub use engine::ask;
pub use tables::{Place, Table};

use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::store::StoreError;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The job file cannot be used.
    #[error("the job file cannot be used")]
    Job(Vec<Diagnostic>),
    /// The outputs cannot be listed or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to ask about.
    #[error("there are no outputs of a job in {location}: {found}; run the job first")]
    NoOutputs {
        /// Where was looked.
        location: String,
        /// What is there instead.
        found: String,
    },
    /// A file is not what was written.
    #[error(
        "{location:?} is damaged: its bytes do not have the digest in its name; put it back from a copy"
    )]
    Damaged {
        /// The file.
        location: String,
    },
    /// The question cannot be answered.
    #[error("{message}\n  hint: {hint}")]
    Sql {
        /// What is wrong with it.
        message: String,
        /// What can be asked.
        hint: String,
    },
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
    /// SQL is not in this build.
    #[error(
        "this build of millrace has no SQL engine; build it with `cargo build --release -p millrace \
         --features sql`, or read the Parquet files with another tool"
    )]
    NotBuilt,
}

#[cfg(test)]
#[cfg(feature = "sql")]
mod tests;
