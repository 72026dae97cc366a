//! Scenarios on a loaded graph: what a change costs while the state grows, and what a record costs in
//! memory.

use crate::figure::Figure;
use crate::world::{World, list_price};
use millrace::cluster::Company;
use millrace::graph::{Graph, GraphStats, Resume, build};
use millrace::publish::{Collector, Dispatch, Outbox};
use millrace_connectors::names::Names;
use millrace_operators::aggregate::{ClassLookup, Dimension, LineFinder};
use millrace_operators::domain::{BillCalendar, IdentityBuilder};
use millrace_operators::epoch::Epoch;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use timely::worker::Worker;

const EPOCH_RECORDS: u64 = 65_536;
const CHANGES: u64 = 21;

/// Which change is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The price of one model, which 0.2 % of the records use.
    Price,
    /// The price list of one account.
    Account,
    /// None: what the state weighs.
    Nothing,
    /// None, where accounts have plans.
    NothingOfPlans,
}

struct Measured {
    load: Duration,
    latencies: Vec<Duration>,
    rerated: Vec<u64>,
    state: Vec<(&'static str, u64, u64)>,
}

/// Loads `records` records and measures changes; prints a figure each.
pub(crate) fn run(
    scenario: &'static str,
    change: Change,
    records: u64,
    workers: usize,
    out: &mut Figure,
) {
    let resident = resident_bytes();
    let names = Arc::new(Names::default());
    let world = World::new(records, &names);
    let world = Arc::new(match change {
        Change::NothingOfPlans => world.with_plans(),
        _ => world,
    });
    let (sender, receiver) = channel();
    let collector = Collector::new(workers, receiver);
    let publisher = std::thread::spawn(move || {
        collector
            .run(|_, _| Ok::<(), std::convert::Infallible>(()))
            .unwrap_or(());
    });
    let classes: ClassLookup = {
        let names = Arc::clone(&names);
        Arc::new(move |key| names.class(key))
    };
    let sender = std::sync::Mutex::new(sender);
    let (world_in, names_in) = (Arc::clone(&world), Arc::clone(&names));
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let sender = sender.lock().expect("no worker has failed").clone();
        let outbox = Outbox {
            sender,
            wants_charges: false,
            wants_impacts: false,
            company: Company::default(),
        };
        let calendar = BillCalendar::new(jiff::tz::TimeZone::UTC);
        let dimensions = vec![Dimension::Attribute(names_in.enter("model"))];
        let finder = LineFinder::new(dimensions, calendar, Arc::clone(&classes));
        measure(worker, change, &world_in, &names_in, finder, &outbox)
    })
    .expect("timely starts in one process");
    let results: Vec<Measured> = guards
        .join()
        .into_iter()
        .map(|result| result.expect("workers end well"))
        .collect();
    publisher.join().expect("the publisher ends well");

    let n = records;
    let seconds = results[0].load.as_secs_f64();
    out.plain(
        scenario,
        &format!("load rate at {n} records"),
        to_f64(n) / seconds,
        "records/s",
    );
    let mut stated = 0;
    for node in ["dedup", "rate", "charge"] {
        let of_node = || {
            results
                .iter()
                .flat_map(|r| &r.state)
                .filter(|s| s.0 == node)
        };
        let bytes: u64 = of_node().map(|s| s.2).sum();
        let held: u64 = of_node().map(|s| s.1).sum();
        stated += bytes;
        if held == 0 {
            continue;
        }
        out.plain(
            scenario,
            &format!("{node} state at {n}"),
            to_f64(bytes) / to_f64(held),
            "B/record",
        );
    }
    out.plain(
        scenario,
        &format!("state at {n}"),
        to_f64(stated) / to_f64(n),
        "B/record",
    );
    if let Some(peak) = results
        .iter()
        .map(|r| {
            r.state
                .iter()
                .find(|s| s.0 == "resident")
                .map_or(0, |s| s.2)
        })
        .max()
    {
        let grown = peak.saturating_sub(resident);
        out.plain(
            scenario,
            &format!("resident at {n}"),
            to_f64(grown) / to_f64(n),
            "B/record",
        );
    }
    if results[0].latencies.is_empty() {
        return;
    }
    let mut latencies = results[0].latencies.clone();
    latencies.sort_unstable();
    let touched: u64 = results
        .iter()
        .map(|r| r.rerated.iter().sum::<u64>())
        .sum::<u64>()
        / CHANGES;
    let micros = |d: Duration| d.as_secs_f64() * 1e6;
    let median = micros(latencies[latencies.len() / 2]);
    out.plain(
        scenario,
        &format!("records re-rated at {n}"),
        to_f64(touched),
        "records",
    );
    out.plain(scenario, &format!("latency p50 at {n}"), median, "us");
    out.plain(
        scenario,
        &format!("latency max at {n}"),
        micros(latencies[latencies.len() - 1]),
        "us",
    );
    let budget = if change == Change::Price {
        5_000.0
    } else {
        1_000.0
    } + to_f64(touched);
    out.plain(
        scenario,
        &format!("share of the budget at {n}"),
        median / budget,
        "ratio",
    );
}

fn measure(
    worker: &mut Worker,
    change: Change,
    world: &World,
    names: &Names,
    finder: LineFinder,
    outbox: &Outbox,
) -> Measured {
    let (index, peers) = (as_u64(worker.index()), as_u64(worker.peers()));
    let stats = GraphStats::default();
    let Graph {
        mut inputs,
        probe,
        open,
    } = worker
        .dataflow::<Epoch, _, _>(|scope| build(scope, finder, &stats, outbox, &Resume::default()));
    let mut epoch: Epoch = 0;
    if index == 0 {
        world
            .classes
            .iter()
            .for_each(|(_, class)| inputs.classes.insert(class.clone()));
        world
            .prices(names)
            .into_iter()
            .for_each(|row| inputs.prices.insert(row));
        world
            .plan_rows(names)
            .into_iter()
            .for_each(|row| inputs.plans.insert(row));
        inputs.clock.insert(world.present());
        for n in 0..world.accounts {
            inputs.accounts.insert(world.account(n, names));
            inputs
                .subscriptions
                .insert(world.subscription(n, "standard", names));
        }
        (0..world.services).for_each(|n| inputs.services.insert(world.service(n, names)));
    }
    let settle =
        |worker: &mut Worker, probe: &timely::dataflow::ProbeHandle<Epoch>, epoch: Epoch| {
            while probe.less_than(&epoch) {
                worker.step_or_park(Some(Duration::from_micros(100)));
            }
            outbox
                .sender
                .send(Dispatch::Sealed {
                    worker: worker.index(),
                    before: epoch,
                })
                .ok();
        };
    epoch += 1;
    inputs.advance_to(epoch);
    settle(worker, &probe, epoch);

    let started = Instant::now();
    let mut identity = IdentityBuilder::default();
    let mut from = 0;
    while from < world.records {
        let to = (from + EPOCH_RECORDS).min(world.records);
        for n in (from..to).filter(|n| n / 1024 % peers == index) {
            inputs.usage.insert(world.usage(n, &mut identity));
        }
        from = to;
        epoch += 1;
        inputs.advance_to(epoch);
        settle(worker, &probe, epoch.saturating_sub(2));
    }
    settle(worker, &probe, epoch);
    let load = started.elapsed();

    let mut latencies = Vec::new();
    let mut rerated = Vec::new();
    let changes = match change {
        Change::Nothing | Change::NothingOfPlans => 0,
        Change::Price | Change::Account => CHANGES,
    };
    for round in 0..changes {
        let before = stats.rate.read().rerated;
        let started = Instant::now();
        if index == 0 {
            match change {
                Change::Price => {
                    let model = round * 23;
                    let row = |cents| world.price("standard", model, cents, names);
                    inputs.prices.remove(row(list_price(model)));
                    inputs.prices.insert(row(list_price(model) + 1));
                }
                Change::Account => {
                    let account = world.accounts / 2 + round;
                    inputs
                        .subscriptions
                        .remove(world.subscription(account, "standard", names));
                    inputs
                        .subscriptions
                        .insert(world.subscription(account, "negotiated", names));
                }
                Change::Nothing | Change::NothingOfPlans => {}
            }
        }
        epoch += 1;
        inputs.advance_to(epoch);
        settle(worker, &probe, epoch);
        latencies.push(started.elapsed());
        rerated.push(stats.rate.read().rerated - before);
    }
    let reading = |node: &'static str, stats: &millrace_operators::stats::NodeStats| {
        let read = stats.read();
        (node, read.state_records, read.state_bytes)
    };
    let state = vec![
        reading("dedup", &stats.dedup),
        reading("rate", &stats.rate),
        reading("charge", &stats.charge),
        ("resident", 0, resident_bytes()),
    ];
    drop((inputs, open));
    Measured {
        load,
        latencies,
        rerated,
        state,
    }
}

/// Resident memory of this process, as the kernel counts it.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Figures are for reading: a float is precise enough.
#[allow(clippy::cast_precision_loss, reason = "figures are for reading")]
pub(crate) fn to_f64(n: u64) -> f64 {
    n as f64
}
