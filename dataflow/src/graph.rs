//! The dataflow, node by node. This file is the picture:
//!
//! ```text
//!  usage ──► dedup ──► rate ─────────────► aggregate ──► lines
//!              │        ▲ ▲ │ (charge: ordered pricing takes its place here)
//!  services ───┼► guide ┘ │ ├─► charges
//!  subscriptions ▲        │ │
//!  accounts, plans        │ ├─► suspense
//!  prices, classes ───────┘ │
//!  faults, fates ───────────┴─► tally ──► counts
//! ```
//!
//! Sources have decoded and mediated before: they know the raw records and can mediate them again,
//! which is how a corrected rule becomes a difference of usage.

use crate::publish::{Outbox, Published, publish};
use differential_dataflow::input::{Input as _, InputSession};
use millrace_operators::aggregate::{LineFinder, aggregate};
use millrace_operators::dedup::dedup;
use millrace_operators::domain::{
    Account, Fate, Fault, FileId, PlanRow, PriceRow, ServiceUse, Subscription, Usage, UsageClass,
};
use millrace_operators::epoch::{Diff, Epoch};
use millrace_operators::guide::guide;
use millrace_operators::rate::{OpenRatings, RateInputs, rate};
use millrace_operators::stats::NodeStats;
use millrace_operators::tally::tally;
use std::sync::Arc;
use timely::dataflow::{ProbeHandle, Scope};

/// An input of the graph.
pub type Input<D> = InputSession<Epoch, D, Diff>;

/// The inputs of the graph, on one worker.
pub struct Inputs {
    /// Mediated usage.
    pub usage: Input<Usage>,
    /// The classes of that usage.
    pub classes: Input<UsageClass>,
    /// Records that decoding or mediation stopped.
    pub faults: Input<Fault>,
    /// What became of records before dedup: ignored, or stopped.
    pub fates: Input<(FileId, Fate)>,
    /// The catalog.
    pub prices: Input<PriceRow>,
    /// The plans of its price lists.
    pub plans: Input<PlanRow>,
    /// Accounts.
    pub accounts: Input<Account>,
    /// Subscriptions.
    pub subscriptions: Input<Subscription>,
    /// Services of subscriptions.
    pub services: Input<ServiceUse>,
}

impl Inputs {
    /// Ends the epochs before `epoch` on every input.
    pub fn advance_to(&mut self, epoch: Epoch) {
        macro_rules! advance {
            ($($input:ident),*) => {$({
                self.$input.advance_to(epoch);
                self.$input.flush();
            })*};
        }
        advance!(
            usage,
            classes,
            faults,
            fates,
            prices,
            plans,
            accounts,
            subscriptions,
            services
        );
    }
}

/// What the nodes report of themselves, on one worker.
#[derive(Clone, Debug, Default)]
pub struct GraphStats {
    /// The dedup node.
    pub dedup: Arc<NodeStats>,
    /// The rate node.
    pub rate: Arc<NodeStats>,
}

/// The graph as one worker holds it.
pub struct Graph {
    /// Where changes go in.
    pub inputs: Inputs,
    /// How far all outputs have been published.
    pub probe: ProbeHandle<Epoch>,
    /// The open usage of this worker.
    pub open: OpenRatings,
}

/// Builds the graph.
pub fn build(
    scope: Scope<'_, Epoch>,
    finder: LineFinder,
    stats: &GraphStats,
    outbox: &Outbox,
) -> Graph {
    let (usage_input, usage) = scope.new_collection();
    let (class_input, classes) = scope.new_collection();
    let (fault_input, faults) = scope.new_collection();
    let (fate_input, fates) = scope.new_collection();
    let (price_input, prices) = scope.new_collection();
    let (plan_input, plans) = scope.new_collection();
    let (account_input, accounts) = scope.new_collection();
    let (subscription_input, subscriptions) = scope.new_collection();
    let (service_input, services) = scope.new_collection();

    let unique = dedup(usage, Arc::clone(&stats.dedup));
    let timelines = guide(services, subscriptions, accounts, plans);
    let rated = rate(
        RateInputs {
            usage: unique.unique,
            timelines,
            prices,
            classes,
        },
        Arc::clone(&stats.rate),
    );
    let lines = aggregate(rated.charges.clone(), finder);
    let suspense = rated.suspense.concat(unique.duplicates);
    let settled = suspense
        .clone()
        .map(|s| (s.record.file(), Fate::of(s.reason)));
    let monetised = rated.monetised.map(|file| (file, Fate::Monetised));
    let counts = tally(fates.concatenate([settled, monetised]));

    let probe = ProbeHandle::new();
    publish(lines, outbox, &probe, Published::Lines);
    publish(suspense, outbox, &probe, Published::Suspense);
    publish(faults, outbox, &probe, Published::Faults);
    publish(counts, outbox, &probe, Published::Counts);
    if outbox.wants_charges {
        publish(rated.charges, outbox, &probe, Published::Charges);
    }
    let inputs = Inputs {
        usage: usage_input,
        classes: class_input,
        faults: fault_input,
        fates: fate_input,
        prices: price_input,
        plans: plan_input,
        accounts: account_input,
        subscriptions: subscription_input,
        services: service_input,
    };
    Graph {
        inputs,
        probe,
        open: rated.open,
    }
}
