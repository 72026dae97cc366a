//! Usage of a quote, rated by the graph of a job.

use crate::cluster::Company;
use crate::graph::{GraphStats, Inputs, Resume};
use crate::publish::{Collector, EpochChanges, Outbox};
use crate::worker::{self, Epochs, Fed};
use millrace_connectors::names::Names;
use millrace_operators::aggregate::LineFinder;
use millrace_operators::domain::{
    Account, BillCalendar, EventTime, PlanRow, PriceRow, ServiceUse, Subscription, Usage,
    UsageClass,
};
use millrace_operators::epoch::Epoch;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// The one epoch of a quote.
pub(super) struct Rates {
    pub(super) accounts: Vec<Account>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) services: Vec<ServiceUse>,
    pub(super) prices: Vec<PriceRow>,
    pub(super) plans: Vec<PlanRow>,
    pub(super) classes: Vec<UsageClass>,
    /// The present: the end of all that the usage is part of.
    pub(super) clock: Option<EventTime>,
    pub(super) usage: Vec<Usage>,
}

impl Epochs for Option<Rates> {
    fn feed(&mut self, epoch: Epoch, inputs: &mut Inputs, _: Duration) -> Fed {
        let Some(rates) = self.take() else {
            return Fed::End;
        };
        rates
            .accounts
            .into_iter()
            .for_each(|row| inputs.accounts.insert(row));
        rates
            .subscriptions
            .into_iter()
            .for_each(|row| inputs.subscriptions.insert(row));
        rates
            .services
            .into_iter()
            .for_each(|row| inputs.services.insert(row));
        rates
            .prices
            .into_iter()
            .for_each(|row| inputs.prices.insert(row));
        rates
            .plans
            .into_iter()
            .for_each(|row| inputs.plans.insert(row));
        rates
            .classes
            .into_iter()
            .for_each(|row| inputs.classes.insert(row));
        rates
            .clock
            .into_iter()
            .for_each(|instant| inputs.clock.insert(instant));
        rates
            .usage
            .into_iter()
            .for_each(|row| inputs.usage.insert(row));
        Fed::Epoch(epoch)
    }
}

pub(super) fn evaluate(
    rates: Rates,
    names: &Arc<Names>,
    zone: &jiff::tz::TimeZone,
) -> EpochChanges {
    let (sender, receiver) = channel();
    let book = Arc::clone(names);
    let finder = LineFinder::new(
        Vec::new(),
        BillCalendar::new(zone.clone()),
        Arc::new(move |key| book.class(key)),
    );
    timely::execute_directly(move |worker| {
        let outbox = Outbox {
            sender,
            wants_charges: true,
            wants_impacts: true,
            company: Company::default(),
        };
        worker::run(
            worker,
            finder,
            &GraphStats::default(),
            &outbox,
            &Resume::default(),
            &mut Some(rates),
        );
    });
    let mut all = EpochChanges::default();
    let collected = Collector::new(1, receiver).run(|changes, _| {
        if let Some(changes) = changes {
            all = changes.settled();
        }
        Ok::<(), Infallible>(())
    });
    match collected {
        Ok(()) => all,
        Err(never) => match never {},
    }
}
