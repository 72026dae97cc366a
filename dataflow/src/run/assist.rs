//! The part of a run that another process than 0 does: its share of the graph, and of the snapshots.
//!
//! It reads no source, no catalog and no account, publishes nothing and commits nothing; what it needs
//! comes through the dataflow.

use super::together::{Start, Together, snapshots};
use super::{RunOptions, Seating, finder, output_folder, watchdog, workers};
use crate::archive::lend;
use crate::bundle::channels;
use crate::cluster::{ClusterError, ClusterPlan, Ears, FileList, Guest, Terms};
use crate::durable::Manifest;
use crate::error::RunError;
use crate::graph::GraphStats;
use crate::interrupt::Stop;
use crate::interrupt::is_asked_to_end;
use crate::job::Job;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::outputs::Outputs;
use crate::present::machine;
use crate::publish::{Dispatch, Outbox};
use crate::serve::Endpoint;
use millrace_connectors::names::Names;
use millrace_connectors::output::Texts;
use millrace_connectors::store::Store;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How long an object may take to be seen by another machine.
const SEEN: Duration = Duration::from_secs(10);

/// Does the part of the job at `path` that falls to this process, which is one of several and not the
/// first. A `stop` asks process 0 to end the job.
///
/// # Errors
/// When the configuration does not hold, process 0 refuses this one or is lost, or an output cannot be
/// written.
///
/// # Panics
/// On a broken invariant: that is a bug.
pub fn assist(
    path: &Path,
    options: &RunOptions,
    plan: &ClusterPlan,
    metrics: &Arc<Metrics>,
    listener: &Arc<dyn Listener>,
    stop: &Stop,
) -> Result<(), RunError> {
    let (job, _) = Job::load(path).map_err(RunError::Configuration)?;
    let address = options.metrics.or(job.metrics);
    let server = address.map(|address| Endpoint::start(address, Arc::clone(metrics)));
    let server = server.transpose()?;
    if let Some(server) = &server {
        listener.message(&format!("metrics on http://{}/metrics", server.address()));
    }
    // A job that forgets begins again, with all its processes.
    while assist_once(path, options, plan, metrics, listener, stop)? {}
    drop(server);
    Ok(())
}

/// The same until the run is done; whether the job begins again.
fn assist_once(
    path: &Path,
    options: &RunOptions,
    plan: &ClusterPlan,
    metrics: &Arc<Metrics>,
    listener: &Arc<dyn Listener>,
    stop: &Stop,
) -> Result<bool, RunError> {
    let workers = workers(options)?;
    metrics.begin();
    let (job, _) = Job::load(path).map_err(RunError::Configuration)?;
    let names = Arc::new(Names::default());
    let (folder, base) = output_folder(&job, options);
    let store = Arc::new(Store::open(&folder, base)?);
    let dimensions = job.aggregate_by.iter().cloned();
    let texts = Texts {
        names: Arc::clone(&names),
        files: FileList::default(),
        lines: Arc::default(),
        dimensions: dimensions.zip(job.dimensions(&names)).collect(),
    };
    let outputs = Outputs::of_another_process(store, job.outputs.clone(), texts.clone());

    let terms = Terms::of(path, workers);
    let state = job.durability.as_ref();
    let state = state.and_then(|kept| Store::open(&kept.folder, &job.folder).ok());
    let newest = || {
        let newest = Manifest::newest(state.as_ref()?).ok()?;
        Some(newest.map_or(0, |newest| newest.generation))
    };
    let guest = Guest::report(plan, terms, Arc::as_ref(listener), &newest)?;
    let resume = guest.resume().from_clock(job.clock.unwrap_or_else(machine));
    if let Err(error) = sees(&outputs, &guest, plan.place.process, &folder) {
        guest.fail(&error.to_string());
        return Err(error);
    }
    let outputs = outputs.tagged(guest.go().tag());
    let mut start = Start::of(Some(guest.connect()?), workers, &names);
    let company = start.company.clone();
    metrics.reference_loaded();

    let (sender, dispatched) = channel();
    let (fed, feeds) = channels(workers, &sender);
    // There is no intake here: the workers' epochs end at once, and the graph's frontier is the others'.
    drop(fed);
    let sealed = Arc::new(AtomicU64::new(0));
    let (reached, told) = (Arc::clone(&sealed), Arc::clone(metrics));
    let (over, ended) = channel();
    let ears = Ears {
        me: company.me(),
        bound: Box::new(move |bound| {
            if let Some(last) = bound.checked_sub(1) {
                told.epoch_bound(last);
                told.complete_before(reached.load(Ordering::Relaxed));
            }
        }),
        end: Box::new(|| {}),
        over: Box::new(move |again| {
            // Whoever waits for it is there as long as the run is.
            over.send(again).ok();
        }),
    };
    let told = Arc::clone(metrics);
    let frontier = move || {
        for dispatch in dispatched {
            if let Dispatch::Sealed { before, .. } = dispatch {
                sealed.fetch_max(before, Ordering::Relaxed);
                told.complete_before(before);
            }
        }
    };
    let failed_to_start = |error: std::io::Error| RunError::Start(error.to_string());
    let thread = std::thread::Builder::new().name("frontier".to_owned());
    thread.spawn(frontier).map_err(failed_to_start)?;
    let together = start.attend(ears)?;
    let watchdog = watchdog(options, &start.company, metrics)?;
    if let (true, Some(together)) = (options.watch, &together) {
        let (tell, ends) = channel();
        *stop.lock().expect("whoever stops the job does not panic") = Some(tell);
        let attending = together.attending.clone();
        let ask = move || {
            ends.recv()
                .ok()
                .into_iter()
                .for_each(|_| attending.ask_for_end());
        };
        let thread = std::thread::Builder::new().name("end".to_owned());
        thread.spawn(ask).map_err(failed_to_start)?;
        if is_asked_to_end() {
            // That came while the job began again.
            together.attending.ask_for_end();
        }
    }

    let stats: Vec<GraphStats> = (0..workers).map(|_| GraphStats::default()).collect();
    stats
        .iter()
        .for_each(|stats| metrics.watch_worker(stats.clone()));
    let outbox = Outbox {
        sender,
        wants_charges: outputs.wants_charges(),
        wants_impacts: outputs.wants_impacts(),
        company,
    };
    let line_finder = finder(&job, &texts);
    let harvest = snapshots(Some(outputs.clone()), finder(&job, &texts));
    let archive = job.archive.as_ref();
    let closing = archive.map(|archive| (job.zone.clone(), archive.after));
    let needs_texts = outputs.written_by_all();
    let seating = Seating::of(feeds, outbox, stats, resume, texts, needs_texts);
    let guards = start.launch(workers, move |worker| {
        let (open, seat) = seating.work(worker, &line_finder);
        if let Some(closing) = &closing {
            lend(worker, seating.company(), &open, seat, closing.clone());
        }
        harvest(worker, seating.company(), &open, seat)
    })?;
    let parts = guards.join();
    drop(watchdog);
    for part in parts {
        if let Err(error) = part.expect("a worker that panics ends the process") {
            // Process 0 has been told.
            together.into_iter().for_each(Together::done);
            return Err(error);
        }
    }
    // A job that forgets says behind its end whether it begins again.
    let forgets = job.archive.is_some() && job.durability.is_some();
    let again = forgets && ended.recv().unwrap_or(false);
    together.into_iter().for_each(Together::done);
    Ok(again)
}

/// Whether this process sees what process 0 has put among the outputs.
fn sees(outputs: &Outputs, guest: &Guest, process: usize, folder: &str) -> Result<(), RunError> {
    let Some((name, content)) = guest.go().mark() else {
        return Ok(());
    };
    let begun = Instant::now();
    while begun.elapsed() < SEEN {
        if outputs.marked(name)?.as_deref() == Some(content) {
            return Ok(());
        }
        // Process 0 takes it away when it ends.
        guest.is_led()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let folder = folder.to_owned();
    Err(ClusterError::NotShared { process, folder }.into())
}
