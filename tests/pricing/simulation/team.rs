//! Workers that move only when they are told, one at a time.

use jiff::tz::TimeZone;
use millrace::bundle::{Bundle, Channel, channels};
use millrace::cluster::Company;
use millrace::graph::{Graph, GraphStats, Resume, build};
use millrace::publish::{Collector, EpochChanges, Outbox};
use millrace::worker::{Epochs as _, Fed, seal};
use millrace_operators::aggregate::{ClassLookup, LineFinder};
use millrace_operators::domain::{BillCalendar, ClassKey, UsageClass};
use millrace_operators::epoch::Epoch;
use millrace_tests::oracle::{BillRules, Changes};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use timely::communication::WorkerGuards;

/// What a worker is told.
enum Order {
    /// To take what its channel holds.
    Feed,
    /// To make one step.
    Step,
}

/// See the module.
pub(super) struct Team {
    channels: Vec<Channel>,
    orders: Vec<Sender<Order>>,
    done: Vec<Receiver<()>>,
    collector: Collector,
    guards: Option<WorkerGuards<()>>,
}

impl Team {
    pub(super) fn start(
        workers: usize,
        rules: &BillRules,
        script: &[Changes],
        (live, told): (Epoch, Epoch),
    ) -> Self {
        let classes: BTreeMap<ClassKey, Arc<UsageClass>> = script
            .iter()
            .flat_map(|changes| &changes.classes)
            .map(|(class, _)| (class.key(), Arc::new(class.clone())))
            .collect();
        let lookup: ClassLookup = Arc::new(move |key| classes.get(&key).cloned());
        let (sender, receiver) = channel();
        let (channels, feeds) = channels(workers, &sender);
        let (orders, waiting): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel()).unzip();
        let (tells, done): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel()).unzip();
        let seats = feeds.into_iter().zip(waiting).zip(tells).map(Some);
        let seats: Mutex<Vec<Option<_>>> = Mutex::new(seats.collect());
        let outbox = Mutex::new(Outbox {
            sender,
            wants_charges: true,
            wants_impacts: true,
            company: Company::default(),
        });
        let (zone, dimensions) = (rules.zone.name(), rules.dimensions.clone());
        let guards = timely::execute(timely::Config::process(workers), move |worker| {
            let seat = seats.lock().expect("no worker panics")[worker.index()].take();
            let ((mut feed, orders), tell) = seat.expect("a seat for each");
            let outbox = outbox.lock().expect("no worker panics").clone();
            let zone = TimeZone::get(zone).expect("the zone database is built in");
            let calendar = BillCalendar::new(zone);
            let finder = LineFinder::new(dimensions.clone(), calendar, Arc::clone(&lookup));
            let stats = GraphStats::default();
            let resume = Resume {
                live,
                told,
                ..Resume::default()
            };
            let Graph {
                mut inputs, probe, ..
            } = worker
                .dataflow::<Epoch, _, _>(|scope| build(scope, finder, &stats, &outbox, &resume));
            let (index, mut sealed, mut epoch) = (worker.index(), 0, 0);
            for order in orders {
                match order {
                    Order::Feed => {
                        if let Fed::Epoch(fed) = feed.feed(epoch, &mut inputs, Duration::ZERO) {
                            epoch = fed + 1;
                            inputs.advance_to(epoch);
                        }
                    }
                    Order::Step => {
                        worker.step();
                    }
                }
                seal(&probe, index, &mut sealed, &outbox);
                tell.send(()).ok();
            }
        });
        Self {
            channels,
            orders,
            done,
            collector: Collector::new(workers, receiver),
            guards: Some(guards.expect("threads can be started")),
        }
    }

    fn order(&mut self, worker: usize, order: Order) {
        self.orders[worker].send(order).expect("the worker waits");
        if self.done[worker].recv().is_err() {
            // The others would wait for it for ever, and whoever joins them too.
            std::mem::forget(self.guards.take());
            panic!("worker {worker} has panicked");
        }
    }

    /// Gives each worker its part of an epoch.
    pub(super) fn feed(&mut self, parts: Vec<Bundle>) {
        for (worker, part) in parts.into_iter().enumerate() {
            self.channels[worker].send(part).expect("the worker waits");
            self.order(worker, Order::Feed);
        }
    }

    /// Lets a worker make one step.
    pub(super) fn step(&mut self, worker: usize) {
        self.order(worker, Order::Step);
    }

    /// Hands on what the workers have published, and the first epoch that is not complete.
    pub(super) fn publish(&mut self, mut deliver: impl FnMut(Option<EpochChanges>, Epoch)) {
        let delivered = self.collector.turn(|changes, before| {
            deliver(changes, before);
            Ok::<(), Infallible>(())
        });
        delivered.expect("infallible");
    }
}
