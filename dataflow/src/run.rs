//! A run of a job: starts the intake, the workers and the publisher, and brings their results
//! together.
//!
//! ```text
//!  intake ──► workers (timely) ──► publisher ──► board, changes
//!     └── ledger                └── snapshots ──► outputs, summary
//! ```

mod assist;
mod execute;
mod moved;
mod prepare;
mod publisher;
mod seating;
mod together;

pub use assist::assist;

use crate::archive::{ArchiveSetting, Archiver, Left, Others, forget};
use crate::board::Board;
use crate::cluster::{ClusterPlan, Company, Host, Terms, Watchdog};
use crate::durable::{Closed, DurableError, Forgetting, Generation, Manifest};
use crate::error::RunError;
use crate::graph::Open;
use crate::intake::{TakenIn, Warned};
use crate::interrupt::{Stop, is_asked_to_end};
use crate::job::Job;
use crate::listener::{Listener, PendingChange};
use crate::metrics::Metrics;
use crate::outputs::{Standing, WorkerSnapshot};
use crate::present::{Witness, machine};
use crate::report::{RunFacts, Summary};
use crate::serve::Endpoint;
use crate::watch::Saved;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::output::{LedgerRow, Texts};
use millrace_connectors::reference::Reference;
use millrace_connectors::store::Store;
use millrace_operators::aggregate::{ClassLookup, LineFinder};
use millrace_operators::domain::BillCalendar;
use millrace_operators::epoch::{Epoch, SHARDS};
use prepare::{Kept, Prepared, fewer};
use seating::Seating;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use timely::worker::Worker;
use together::Together;

/// How to run a job, besides what its file says.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Worker threads; as many as the machine has processors unless given.
    pub workers: Option<usize>,
    /// Whether to go on when everything is read, and apply what is saved.
    pub watch: bool,
    /// Where outputs go, instead of where the job says; relative to the working folder.
    pub out: Option<PathBuf>,
    /// Where metrics are served, instead of where the job says.
    pub metrics: Option<SocketAddr>,
    /// The processes that run the job together, where it is not one.
    pub cluster: Option<ClusterPlan>,
    /// How long epochs may be in flight without one of them completing, until the process ends.
    pub stuck_after: Option<Duration>,
}

/// Runs the job at `path` to its end.
///
/// # Errors
/// When the configuration does not hold, an output cannot be written, or the books do not balance.
///
/// # Panics
/// On a broken invariant: that is a bug.
pub fn run(
    path: &Path,
    options: &RunOptions,
    metrics: &Arc<Metrics>,
    listener: &Arc<dyn Listener>,
    stop: &Stop,
) -> Result<Summary, RunError> {
    let started = Instant::now();
    // Whoever watches the job sees it wait for others.
    let address = match Job::load(path) {
        Ok((job, _)) => options.metrics.or(job.metrics),
        Err(_) => return Err(RunError::Configuration(crate::check::check(path))),
    };
    let server = address
        .map(|address| Endpoint::start(address, Arc::clone(metrics)))
        .transpose()?;
    if let Some(server) = &server {
        listener.message(&format!("metrics on http://{}/metrics", server.address()));
    }
    // A run that forgets begins again, with what it did not forget.
    let (mut options, mut talk) = (options.clone(), None::<Talk>);
    let (mut anew, mut settled) = (None, 0);
    let mut summary = loop {
        // Nothing is touched before all processes are there.
        let host = gather(path, &options, listener)?;
        metrics.begin();
        let load = || Prepared::load(path, &options, listener, Mode::Write);
        let prepared = match &talk {
            None => load()?,
            Some(talk) => once_it_holds(&talk.saved, listener, load)?,
        };
        anew = anew.or(prepared.anew);
        let ended = turn(
            prepared,
            &options,
            metrics,
            listener,
            (stop, talk, settled),
            host,
            started,
        );
        match ended? {
            Turn::Over(summary) => break *summary,
            Turn::Again(more) => {
                options.watch = more.is_some();
                // While a job watches, each time has a cause of its own.
                settled = if options.watch { 0 } else { settled + 1 };
                talk = more;
            }
        }
    };
    drop(server);
    if let Some(before) = anew.filter(|before| summary.records.received < *before) {
        let finding = fewer(path, before, summary.records.received);
        listener.warned(std::slice::from_ref(&finding));
        summary.warnings.push(finding.to_string());
    }
    Ok(summary)
}

/// Waits for the other processes of the run, where there are some.
fn gather(
    path: &Path,
    options: &RunOptions,
    listener: &Arc<dyn Listener>,
) -> Result<Option<Host>, RunError> {
    let host = options.cluster.as_ref().map(|plan| {
        let terms = Terms::of(path, workers(options)?);
        Ok::<_, RunError>(Host::gather(plan, terms, Arc::as_ref(listener))?)
    });
    host.transpose()
}

/// How often a watching run that is to begin again looks at configuration that does not hold.
const LOOK: Duration = Duration::from_secs(1);

/// What a watching run begins again with. A file may be half saved just then, or be at fault: that is told
/// as at any other time, and waited for to be mended, or for the job to be ended.
fn once_it_holds(
    saved: &Receiver<Saved>,
    listener: &Arc<dyn Listener>,
    load: impl Fn() -> Result<Prepared, RunError>,
) -> Result<Prepared, RunError> {
    let mut told = Vec::new();
    loop {
        let findings = match load() {
            Err(RunError::Configuration(findings)) => findings,
            other => return other,
        };
        if findings != told {
            listener.rejected(&findings);
            told.clone_from(&findings);
        }
        match saved.recv_timeout(LOOK) {
            Ok(saved) if saved.is_empty() => return Err(RunError::Configuration(findings)),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
    }
}

/// How often closed bill units are settled in one run: what an adjustment moves may have to be adjusted
/// itself.
const SETTLED_MOST: u32 = 8;

/// Whether a run that was settled as often begins again. One that was asked to end shows what it has
/// settled, and no more.
fn may_settle(settled: u32) -> bool {
    settled < if is_asked_to_end() { 1 } else { SETTLED_MOST }
}

/// How a part of a run ended.
enum Turn {
    /// The run is over.
    Over(Box<Summary>),
    /// It goes on from other state, because bill units were closed or adjusted: with what is said of
    /// saved files, where it still watches.
    Again(Option<Talk>),
}

/// Where a watching run is told what is saved.
struct Talk {
    tell: Sender<Saved>,
    saved: Receiver<Saved>,
}

/// What tells later whether a run is still the newest of its job.
struct Claim {
    state: Arc<Store>,
    generation: u64,
}

impl Claim {
    fn of(generation: &Generation, state: &Arc<Store>) -> Self {
        Self {
            state: Arc::clone(state),
            generation: generation.number,
        }
    }
}

/// Why a run failed: that another has taken over, if one has. It takes away what this one writes and
/// reads, so whatever else failed may have done so for it.
fn superseded(claim: Option<&Claim>, error: RunError) -> RunError {
    let newest = claim.and_then(|claim| Manifest::newest(&claim.state).ok().flatten());
    match (claim, newest) {
        (Some(claim), Some(newest)) if newest.generation > claim.generation => {
            let (ours, theirs) = (claim.generation, newest.generation);
            DurableError::Superseded { ours, theirs }.into()
        }
        _ => error,
    }
}

/// Runs the job until there is nothing more to read, or it must begin again.
fn turn(
    prepared: Prepared,
    options: &RunOptions,
    metrics: &Arc<Metrics>,
    listener: &Arc<dyn Listener>,
    stop: (&Stop, Option<Talk>, u32),
    host: Option<Host>,
    started: Instant,
) -> Result<Turn, RunError> {
    let claim = prepared.claim();
    let ended = turn_claimed(prepared, options, metrics, listener, stop, host, started);
    ended.map_err(|error| superseded(claim.as_ref(), error))
}

fn turn_claimed(
    prepared: Prepared,
    options: &RunOptions,
    metrics: &Arc<Metrics>,
    listener: &Arc<dyn Listener>,
    (stop, talk, times): (&Stop, Option<Talk>, u32),
    host: Option<Host>,
    started: Instant,
) -> Result<Turn, RunError> {
    let facts = prepared.facts.clone();
    let state = prepared.state.clone();
    let outputs = prepared.outputs.clone();
    let output_store = Arc::clone(&prepared.output_store);
    let lines = prepared.finder();
    let archive = prepared.archive()?;
    // Before the run: what closes while it lasts is closed by the next.
    let (clock, now) = (prepared.job.clock, machine());
    let present = move |witness: Witness| witness.present(clock, now);
    let archiver = archive.clone().map(Archiver::new).transpose()?;
    let archiver = archiver.map(Arc::new);
    let archiving = archiver.clone();
    let snapshots = together::snapshots(outputs.clone(), prepared.finder());
    let harvest = move |worker: &mut Worker,
                        company: &Company,
                        open: &Open,
                        seat,
                        settled: Option<&Settled>| {
        if let Some(archiver) = &archiving {
            let lines = settled.map(|settled| settled.board.lines());
            let found = settled.zip(lines.as_deref());
            let found = found.map(|(settled, lines)| {
                archiver.at(present(settled.taken.witness));
                (lines, &settled.taken.reference)
            });
            let others = match company.is_many() {
                true => Some(Others {
                    worker: &mut *worker,
                    company,
                }),
                false => None,
            };
            archiver.work_with(others, open, seat, found);
        }
        snapshots(worker, company, open, seat)
    };
    let stop = (stop, talk);
    let (ended, kept, together) =
        prepared.execute(options, metrics, listener, stop, host, harvest)?;
    let parts = ended.parts.into_iter();
    let parts = parts.collect::<Result<Vec<Option<WorkerSnapshot>>, RunError>>()?;
    let mut kept = kept;
    if let Some(outputs) = outputs {
        let parts = parts.into_iter().flatten().collect();
        let standing = Standing {
            board: &ended.board,
            ledger: &ended.files,
            reference: &ended.reference,
            archived: &ended.closed.forgotten(),
        };
        let snapshots = outputs.snapshot(parts, &standing, &mut lines())?;
        if let (Some(kept), Some(state)) = (&mut kept, &state) {
            // A run that stood still since its last commit writes over nothing of a younger one.
            let generation = &mut kept.generation;
            generation.conclude(state, &output_store, snapshots)?;
        }
    }
    let mut unsettled = None;
    if let Some(archiver) = archiver.and_then(Arc::into_inner) {
        let state_now = kept.as_ref().map(|kept| kept.generation.manifest.mark());
        let archiver = archiver.of_state(state_now);
        let committed = archiver.commit(&ended.reference)?;
        let tell = |texts: &[String]| texts.iter().for_each(|text| listener.message(text));
        tell(&committed.told());
        if let (Some(setting), Some(mut kept), Some(store)) = (archive, kept, &state) {
            let left = Left {
                leaving: committed.leaving,
                board: &ended.board,
                suspended: kept.suspended.all(),
                discarded: kept.discarded,
                reopened: kept.reopened,
                reference: &ended.reference,
                workers: workers(options)?,
            };
            let generation = &mut kept.generation;
            let setting = ArchiveSetting {
                present: present(ended.witness),
                ..setting
            };
            let settled = forget(&setting, &mut Forgetting { store, generation }, left)?;
            tell(&settled.told);
            if kept.talk.is_some() || (settled.again && may_settle(times)) {
                together.into_iter().for_each(Together::again);
                return Ok(Turn::Again(kept.talk));
            }
            unsettled = settled.again.then(|| {
                "what was adjusted of closed bill units is not part of this bill yet: the next run of the \
                 job bills it"
                    .to_owned()
            });
        }
    }
    unsettled.iter().for_each(|text| listener.message(text));
    together.into_iter().for_each(Together::done);
    let run = RunFacts {
        files: ended.files,
        unread: ended.unread,
        held: texts(&ended.held),
        warnings: texts(&ended.warned.about_money())
            .into_iter()
            .chain(unsettled)
            .collect(),
        elapsed: started.elapsed(),
        idle: metrics.idle(),
        ..facts.run
    };
    let summary = Summary::of(&ended.board, &facts.texts, run);
    facts.texts.names.check()?;
    Ok(Turn::Over(Box::new(summary)))
}

/// Findings as summaries have them.
pub(crate) fn texts(findings: &[Diagnostic]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

/// What a run comes to, what it keeps, and what it has with other processes.
type Ran<T> = (Ended<T>, Option<Kept>, Option<Together>);

/// What a job came to, for those who run it to ask.
pub struct Ended<T> {
    /// What stands after the last epoch.
    pub board: Board,
    /// The file ledger, with its counts.
    pub files: Vec<LedgerRow>,
    /// What could not be read of the sources.
    pub unread: Vec<String>,
    /// The reference data in force at the end.
    pub reference: Reference,
    /// What keeps messages of reference data from being in force.
    pub held: Vec<Diagnostic>,
    /// What was said of the configuration in force, and of what is not for its faults.
    pub warned: Warned,
    /// The text behind keys.
    pub texts: Texts,
    /// What is closed, and not held any more.
    pub closed: Arc<Closed>,
    /// The newest commit of its state, where it has any.
    pub commit: Option<u64>,
    /// What bears witness to the present.
    pub witness: Witness,
    /// What was read of each worker.
    pub parts: Vec<T>,
}

/// Runs the job at `path` to its end without writing anything, and reads what each worker holds open
/// then. Nothing is watched and no metrics are served, whatever the options say.
///
/// # Errors
/// When the configuration does not hold, or the books do not balance.
///
/// # Panics
/// On a broken invariant: that is a bug.
pub fn read<T: Send + 'static>(
    path: &Path,
    workers: Option<usize>,
    listener: &Arc<dyn Listener>,
    harvest: impl Fn(&Open) -> T + Send + Sync + 'static,
) -> Result<Ended<T>, RunError> {
    let options = RunOptions {
        workers,
        ..RunOptions::default()
    };
    let harvest = Arc::new(harvest);
    let attempt = || {
        let prepared = Prepared::load(path, &options, listener, Mode::Read)?;
        let (metrics, stop) = (Metrics::new(), Stop::default());
        let harvest = Arc::clone(&harvest);
        let harvest =
            move |_: &mut Worker, _: &Company, open: &Open, _, _: Option<&Settled>| harvest(open);
        let stop = (&stop, None);
        let (ended, ..) = prepared.execute(&options, &metrics, listener, stop, None, harvest)?;
        Ok(ended)
    };
    for _ in 1..READS {
        let before = committed(path);
        match attempt() {
            // A run beside this one has merged or forgotten what was to be read.
            Err(RunError::Durable(DurableError::Damaged { .. })) if committed(path) != before => {}
            ended => return ended,
        }
    }
    attempt()
}

/// The stack on which foreign bytes are decoded and expressions evaluated, whatever the system gives threads:
/// an expression of the most levels that are planned takes a fraction of it.
const INTAKE_STACK_BYTES: usize = 16 << 20;

/// How often state is read that changes meanwhile.
const READS: u32 = 5;

/// The number of the newest commit of the job at `path`.
fn committed(path: &Path) -> Option<u64> {
    let (job, _) = Job::load(path).ok()?;
    let state = Store::open(&job.durability?.folder, &job.folder).ok()?;
    Some(Manifest::newest(&state).ok()??.commit)
}

/// What stands when the last epoch is complete, for the workers to read beside what they hold.
pub struct Settled {
    /// What left the dataflow.
    pub board: Board,
    /// What was taken in.
    pub taken: TakenIn,
}

/// What a job is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Its outputs.
    Write,
    /// What it holds open at the end.
    Read,
}

type Pending = Arc<Mutex<BTreeMap<Epoch, PendingChange>>>;

/// Watches that epochs move, where that is asked for.
fn watchdog(
    options: &RunOptions,
    company: &Company,
    metrics: &Arc<Metrics>,
) -> Result<Option<Watchdog>, RunError> {
    let start = |patience| Watchdog::start(company, Arc::clone(metrics), patience);
    let started = options.stuck_after.map(start).transpose();
    started.map_err(|error| RunError::Start(error.to_string()))
}

/// Where outputs go, and what that is relative to.
fn output_folder<'a>(job: &'a Job, options: &RunOptions) -> (String, &'a Path) {
    match &options.out {
        Some(out) => (out.display().to_string(), Path::new("")),
        None => (job.outputs.folder.clone(), job.folder.as_path()),
    }
}

/// What finds billing lines, made for each who needs one.
pub(crate) fn finder(job: &Job, texts: &Texts) -> impl Fn() -> LineFinder + Send + Sync + 'static {
    let dimensions: Vec<_> = texts.dimensions.iter().map(|(_, d)| *d).collect();
    let (zone, names) = (job.zone.clone(), Arc::clone(&texts.names));
    let classes: ClassLookup = Arc::new(move |key| names.class(key));
    move || {
        let calendar = BillCalendar::new(zone.clone());
        LineFinder::new(dimensions.clone(), calendar, Arc::clone(&classes))
    }
}

/// Worker threads of a process: the asked number, or one per processor, within what a job can be
/// spread over.
fn workers(options: &RunOptions) -> Result<usize, RunError> {
    let all = usize::try_from(SHARDS).unwrap_or(1);
    let processes = options
        .cluster
        .as_ref()
        .map_or(1, |plan| plan.place.processes());
    let most = all / processes;
    if most == 0 {
        return Err(RunError::Start(format!(
            "a job has up to {all} workers, not one for each of {processes} processes"
        )));
    }
    match options.workers {
        Some(asked) if !(1..=most).contains(&asked) && processes > 1 => {
            Err(RunError::Start(format!(
                "a job has up to {all} workers, from 1 to {most} in each of {processes} processes, not {asked}"
            )))
        }
        Some(asked) if !(1..=most).contains(&asked) => Err(RunError::Start(format!(
            "a job has from 1 to {most} workers, not {asked}"
        ))),
        Some(asked) => Ok(asked),
        None => Ok(std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(most)),
    }
}
