//! Rates guided usage: the price row in force at event time, and the amount.
//!
//! - **In:** `usage: Usage` (unique), `timelines: (ServiceKey, ServiceTimeline)` from guide,
//!   `prices: PriceRow`, `classes: UsageClass`, `discards: Discard`, each record at most once
//! - **Out:** `charges: Charge`, one per item of a rated record; `priced: PricedUsage`, what is
//!   charged in order; `suspense: Suspense`;
//!   `monetised: FileId`, the files of rated records, added up per epoch; `rerated`, how many records
//!   reference changes rated again
//! - **Key:** `ServiceKey` for usage and timelines, exchanged by shard; prices and classes are few
//!   and go to every worker. A hot service is one worker's work; a price list that everyone uses is
//!   matched once per class on each worker, not once per record
//! - **Time:** event time selects guide and price; a late or corrected row re-rates, at the epoch it
//!   arrives, the open records in the stretches of time where something changed
//! - **Cost per change:** usage O(log records of its service and class); a price or timeline row
//!   O(services that it applies to + records whose rating changes); a class that is new to a price
//!   list, or whose price changes, n log n of the rows that match it, however many others there are
//! - **State:** open usage, 16 bytes and 8 per item each; who uses which price list; prices; discarded
//!   usage, and on every worker which records are discarded
//! - **Invariants:** each record yields one charge per item, or goes on to be charged in order, or is
//!   one suspense record; that of discarded usage says so and nothing else
//!
//! This is the one arrangement of usage in the graph, and the reason that it is a custom operator:
//! a differential join would hold usage a second time under its price, and would visit every record
//! of a key to find those in a changed stretch of time. Here they are found by seeking.
//!
//! What depends on order (tiers, allowances, balances) is the next stage's, [`charge`](crate::charge):
//! it gets the records of the balance groups concerned, each with its prices.

mod book;
mod changes;
mod conditions;
mod discard;
mod explain;
mod kernel;
mod matcher;
mod open_classes;
mod open_usage;
mod rating;
mod state;
mod terms;
#[cfg(test)]
mod tests;

use crate::domain::{
    Charge, Discard, FileId, PriceRow, PricedUsage, RecordId, ServiceKey, Suspense, Usage,
    UsageClass,
};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, counted, shard};
use crate::guide::ServiceTimeline;
use crate::stats::NodeStats;
use changes::Changes;
use differential_dataflow::AsCollection;
pub use explain::{ItemPrice, PriceCandidate, PricedPart, Verdict, explain, parts};
pub use rating::Rating;
use state::RateState;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::vec::Broadcast;

const OUTPUTS: usize = 5;

/// What [`rate`] reads.
pub struct RateInputs<'scope> {
    /// Usage without duplicates.
    pub usage: Collection<'scope, Usage>,
    /// Where the usage of each service goes.
    pub timelines: Collection<'scope, (ServiceKey, ServiceTimeline)>,
    /// The catalog.
    pub prices: Collection<'scope, PriceRow>,
    /// The classes of all usage, each at the epoch of its first record or before.
    pub classes: Collection<'scope, UsageClass>,
    /// Records that operators have taken out.
    pub discards: Collection<'scope, Discard>,
}

/// What [`rate`] makes of it.
pub struct Rated<'scope> {
    /// One charge per item of each rated record.
    pub charges: Collection<'scope, Charge>,
    /// Records of balance groups that are charged in order, with their prices.
    pub priced: Collection<'scope, PricedUsage>,
    /// Records that could not be rated.
    pub suspense: Collection<'scope, Suspense>,
    /// The file of each rated record.
    pub monetised: Collection<'scope, FileId>,
    /// Records rated again because reference data changed, counted by the difference.
    pub rerated: Collection<'scope, ()>,
    /// The open usage of this worker, for whoever reads between steps.
    pub open: OpenRatings,
}

/// Reads the open usage of one worker, rated as of the last complete epoch.
#[derive(Clone)]
pub struct OpenRatings(Rc<RefCell<RateState>>);

impl OpenRatings {
    /// Visits the ratings of all open usage in the order of (service, class, event time, record,
    /// item), which no worker count changes; only services for which `wanted` holds. Discarded usage
    /// comes behind, in the order of records.
    ///
    /// # Errors
    /// The first error that `visit` returns.
    pub fn visit<E>(
        &self,
        wanted: impl Fn(ServiceKey) -> bool,
        mut visit: impl FnMut(&Rating) -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.borrow_mut().visit(wanted, true, &mut visit)
    }

    /// As [`Self::visit`], without the records that are charged in order: what they come to is told by
    /// the charge stage.
    ///
    /// # Errors
    /// The first error that `visit` returns.
    pub fn visit_settled<E>(
        &self,
        wanted: impl Fn(ServiceKey) -> bool,
        mut visit: impl FnMut(&Rating) -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.borrow_mut().visit(wanted, false, &mut visit)
    }
}

/// Rates usage; see the module. Charges of epochs before `told` were told by an earlier run.
pub fn rate(inputs: RateInputs<'_>, told: Epoch, stats: Arc<NodeStats>) -> Rated<'_> {
    let RateInputs {
        usage,
        timelines,
        prices,
        classes,
        discards,
    } = inputs;
    let mut builder = OperatorBuilder::new("rate".to_owned(), usage.scope());
    let by_service = Exchange::new(|(usage, _, _): &(Usage, Epoch, Diff)| shard(usage.service.0));
    let mut usage_input = builder.new_input(usage.inner, by_service);
    let by_service =
        Exchange::new(|((service, _), _, _): &((ServiceKey, _), Epoch, Diff)| shard(service.0));
    let mut timeline_input = builder.new_input(timelines.inner, by_service);
    let mut price_input = builder.new_input(prices.inner.broadcast(), Pipeline);
    let mut class_input = builder.new_input(classes.inner.broadcast(), Pipeline);
    let mut discard_input = builder.new_input(discards.inner.broadcast(), Pipeline);
    let (charge_output, charges) = builder.new_output();
    let (suspense_output, suspense) = builder.new_output();
    let mut charge_output = OutputBuilder::from(charge_output);
    let mut suspense_output = OutputBuilder::from(suspense_output);
    let (monetised_output, monetised) = builder.new_output();
    let mut monetised_output = OutputBuilder::from(monetised_output);
    let (priced_output, priced) = builder.new_output();
    let mut priced_output = OutputBuilder::from(priced_output);
    let (rerated_output, rerated) = builder.new_output();
    let mut rerated_output = OutputBuilder::from(rerated_output);

    let state = Rc::new(RefCell::new(RateState::default()));
    let open = OpenRatings(Rc::clone(&state));
    builder.build(move |_| {
        let mut rights = Rights::default();
        let mut usage = Pending::default();
        let mut timelines = Pending::default();
        let mut prices = Pending::default();
        let mut classes = Pending::default();
        let mut discards = Pending::default();
        move |frontiers| {
            usage_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                usage.stash(updates);
            });
            timeline_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                timelines.stash(updates);
            });
            price_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                prices.stash(updates);
            });
            class_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                classes.stash(updates);
            });
            discard_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                discards.stash(updates);
            });
            let mut charge_output = charge_output.activate();
            let mut suspense_output = suspense_output.activate();
            let mut monetised_output = monetised_output.activate();
            let mut priced_output = priced_output.activate();
            let mut rerated_output = rerated_output.activate();
            let first = |usage: &Pending<_>,
                         timelines: &Pending<_>,
                         prices: &Pending<_>,
                         classes: &Pending<_>,
                         discards: &Pending<_>| {
                let waiting = [
                    usage.first(),
                    timelines.first(),
                    prices.first(),
                    classes.first(),
                    discards.first(),
                ];
                waiting.into_iter().flatten().min()
            };
            while let Some(epoch) = first(&usage, &timelines, &prices, &classes, &discards)
                .filter(|epoch| complete(frontiers, *epoch))
            {
                let changes = Changes {
                    usage: usage.take(epoch),
                    timelines: timelines.take(epoch),
                    prices: prices.take(epoch),
                    classes: classes.take(epoch),
                    discards: discards.take(epoch),
                };
                let received = changes.usage.len();
                let (charge_right, suspense_right) = (rights.at(0, epoch), rights.at(1, epoch));
                let mut charges = charge_output.session(&charge_right);
                let mut suspense = suspense_output.session(&suspense_right);
                let priced_right = rights.at(3, epoch);
                let mut priced = priced_output.session(&priced_right);
                let (mut charged, mut suspended) = (0, 0);
                let mut files = RunCount::default();
                let mut state = state.borrow_mut();
                let again = state.apply(changes, &mut |rating, diff| match rating {
                    Rating::Charge(charge) => {
                        charged += 1;
                        if charge.item == 0 {
                            files.add(charge.record.file(), diff);
                        }
                        if epoch >= told {
                            charges.give((charge, epoch, diff));
                        }
                    }
                    Rating::Priced(usage) => {
                        charged += 1;
                        priced.give((usage, epoch, diff));
                    }
                    Rating::Suspense(record) => {
                        suspended += 1;
                        suspense.give((record, epoch, diff));
                    }
                });
                let monetised_right = rights.at(2, epoch);
                let files = files.finish().filter(|(_, count)| *count != 0);
                let files = files.map(|(file, count)| (file, epoch, count));
                monetised_output
                    .session(&monetised_right)
                    .give_iterator(files);
                stats.count(received, charged, suspended);
                stats.count_rerated(again);
                let rerated_right = rights.at(4, epoch);
                rerated_output
                    .session(&rerated_right)
                    .give_iterator(counted(again, epoch).into_iter());
                stats.set_state(state.records, state.bytes());
            }
            rights.advance(first(&usage, &timelines, &prices, &classes, &discards));
        }
    });
    Rated {
        charges: charges.as_collection(),
        priced: priced.as_collection(),
        suspense: suspense.as_collection(),
        monetised: monetised.as_collection(),
        rerated: rerated.as_collection(),
        open,
    }
}

/// Adds up counts of keys that come in long runs.
struct RunCount<K> {
    run: Option<(K, Diff)>,
    counts: BTreeMap<K, Diff>,
}

impl<K> Default for RunCount<K> {
    fn default() -> Self {
        Self {
            run: None,
            counts: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord> RunCount<K> {
    fn add(&mut self, key: K, diff: Diff) {
        match &mut self.run {
            Some((at, count)) if *at == key => *count = count.saturating_add(diff),
            _ => {
                self.flush();
                self.run = Some((key, diff));
            }
        }
    }

    fn flush(&mut self) {
        if let Some((key, count)) = self.run.take() {
            let sum = self.counts.entry(key).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    fn finish(mut self) -> impl Iterator<Item = (K, Diff)> {
        self.flush();
        self.counts.into_iter()
    }
}

impl Rating {
    /// The record rated.
    #[must_use]
    pub fn record(&self) -> RecordId {
        match self {
            Self::Charge(charge) => charge.record,
            Self::Priced(usage) => usage.record,
            Self::Suspense(suspense) => suspense.record,
        }
    }
}
