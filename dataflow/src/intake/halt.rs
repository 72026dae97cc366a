//! Why the intake ends early.

use crate::durable::DurableError;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::KafkaError;

/// Why the intake ends early.
#[derive(Debug)]
pub(super) enum Halt {
    /// The workers are gone: the run has failed elsewhere.
    Gone,
    /// What an earlier run took in cannot be loaded.
    Durable(DurableError),
    /// A source cannot be read, in words.
    Source(String),
    /// The reference data does not hold.
    Reference(Vec<Diagnostic>),
}

impl From<KafkaError> for Halt {
    fn from(error: KafkaError) -> Self {
        Self::Source(error.to_string())
    }
}

impl From<DurableError> for Halt {
    fn from(error: DurableError) -> Self {
        Self::Durable(error)
    }
}
