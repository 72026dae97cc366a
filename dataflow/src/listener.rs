//! Who hears what a running job has to say to a person.

use crate::board::Money;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::reference::PriceChange;
use std::time::{Duration, Instant};

/// Hears of files and changes while a job runs. Every method may be called from any thread,
/// never per record.
pub trait Listener: Send + Sync {
    /// A sentence about a file or an output.
    fn message(&self, text: &str);
    /// A saved file has findings but is in force.
    fn warned(&self, findings: &[Diagnostic]);
    /// A saved file does not hold; what was in force stays.
    fn rejected(&self, findings: &[Diagnostic]);
    /// A saved file has been applied and its consequences published.
    fn changed(&self, change: &ChangeReport);
    /// Everything read so far has been published; only while a job watches.
    fn settled(&self);
}

/// What a saved file changed.
#[derive(Clone, Debug, Default)]
pub struct ChangeReport {
    /// Reference rows added and taken away.
    pub rows: usize,
    /// Prices among them, in words.
    pub prices: Vec<PriceChange>,
    /// Raw records mediated again.
    pub mediated: u64,
    /// Records rated again.
    pub rerated: u64,
    /// Billing lines that changed.
    pub lines: usize,
    /// Money per currency before and after.
    pub money: Vec<(Money, Money)>,
    /// From the save being noticed to the consequences being published.
    pub elapsed: Duration,
}

/// A change on its way through the dataflow.
#[derive(Clone, Debug)]
pub struct PendingChange {
    /// What is known of it.
    pub report: ChangeReport,
    /// When it was noticed.
    pub noticed: Instant,
}
