//! Who hears what a running job has to say to a person.

use crate::board::{Money, ReasonCount, RecordCounts};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::reference::{PlanChange, PriceChange};
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
    /// What stands then.
    fn stands(&self, _standing: &Standing) {}
}

/// What stands when everything read so far has been published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Money per currency.
    pub totals: Vec<Money>,
    /// What became of the records.
    pub counts: RecordCounts,
    /// Billing lines.
    pub lines: usize,
    /// Why records are not monetised.
    pub reasons: Vec<ReasonCount>,
}

/// What an account gained or lost by a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountMoved {
    /// The account.
    pub account: String,
    /// What it was billed.
    pub before: Money,
    /// What it is billed.
    pub after: Money,
    /// The difference, exact, with its sign.
    pub difference: String,
}

/// How much money a price row moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceMoved {
    /// The row's identifier.
    pub id: String,
    /// The difference, exact, with its sign and its currency.
    pub difference: String,
}

/// What a saved file changed.
#[derive(Clone, Debug, Default)]
pub struct ChangeReport {
    /// Reference rows added and taken away.
    pub rows: usize,
    /// Prices among them, in words; those that moved most money first.
    pub prices: Vec<PriceChange>,
    /// How much money price rows moved, most first; known where an output wants each charge.
    pub prices_moved: Vec<PriceMoved>,
    /// Parts of plans among them, in words.
    pub plans: Vec<PlanChange>,
    /// The accounts that are billed otherwise, those with the largest differences first.
    pub accounts: Vec<AccountMoved>,
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
