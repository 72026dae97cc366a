//! A run of a job: starts the intake, the workers and the publisher, and brings their results
//! together.
//!
//! ```text
//!  intake ──► workers (timely) ──► publisher ──► board, changes
//!     └── ledger                └── snapshots ──► outputs, summary
//! ```

mod assist;
mod moved;
mod publisher;
mod together;

pub use assist::assist;

use crate::archive::{ArchiveSetting, Archiver, Left, Others, forget, known, never_archived};
use crate::board::{Board, ConservationError};
use crate::cluster::{ClusterError, ClusterPlan, Company, Host, Terms, Watchdog};
use crate::crash::Crashes;
use crate::durable::{
    Closed, Committer, DurableError, Forgetting, Generation, Manifest, MessageSink, Plan, Restored,
    STAGE, check_objects, progress,
};
use crate::graph::{GraphStats, Open, Resume};
use crate::intake::{
    Feed, FileList, Intake, IntakeError, Keeping, Points, ReferenceFeeds, Setting, Suspended,
    TakenIn, Warned, channels, open_gates,
};
use crate::interrupt::{is_asked_to_end, keeps_what_is_read};
use crate::job::Job;
use crate::listener::{Listener, PendingChange};
use crate::metrics::Metrics;
use crate::outputs::{DurableRun, Outputs, RAW, Standing, WorkerSnapshot};
use crate::present::{Present, Witness, machine};
use crate::publish::{Collector, Outbox};
use crate::report::{RunFacts, Summary};
use crate::serve::{Endpoint, ServeError};
use crate::watch::{FileWatch, Saved, WatchError};
use crate::worker;
use millrace_connectors::archive::ArchiveError;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::{Consumer, KafkaError};
use millrace_connectors::lines::FileLines;
use millrace_connectors::names::{Names, UnknownName};
use millrace_connectors::output::{LedgerRow, OutputError, Texts};
use millrace_connectors::reference::Reference;
use millrace_connectors::store::{Store, StoreError};
use millrace_operators::aggregate::{ClassLookup, LineFinder};
use millrace_operators::domain::{BillCalendar, FileId};
use millrace_operators::epoch::{Epoch, SHARDS};
use publisher::{Publisher, Staging};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use timely::worker::Worker;
use together::{Start, Together};

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

/// Why a run came to no end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration does not hold.
    #[error("the job has {} errors", .0.iter().filter(|finding| finding.is_error()).count())]
    Configuration(Vec<Diagnostic>),
    /// An output could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The output folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metrics endpoint could not be opened.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Durable state cannot be used.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// A source cannot be read.
    #[error("{0}")]
    Source(String),
    /// Closed bill units cannot be archived.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The processes of the job cannot work together.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The books do not balance.
    #[error(transparent)]
    Conservation(#[from] ConservationError),
    /// The machine does not give what a run needs.
    #[error("cannot start the job: {0}")]
    Start(String),
}

impl From<KafkaError> for RunError {
    fn from(error: KafkaError) -> Self {
        Self::Source(error.to_string())
    }
}

impl From<UnknownName> for RunError {
    fn from(unknown: UnknownName) -> Self {
        Self::Output(unknown.into())
    }
}

/// Ends a watching run, see [`crate::interrupt::end`]: the job finishes what it has and writes its
/// snapshots.
pub type Stop = Arc<Mutex<Option<Sender<Saved>>>>;

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

/// What a run with durable state leaves to the one that goes on from it.
struct Kept {
    generation: Generation,
    suspended: Suspended,
    discarded: RoaringTreemap,
    /// Archived records that came back.
    reopened: RoaringTreemap,
    /// Where it is told what is saved, if it is to begin again.
    talk: Option<Talk>,
}

/// Tells what is wrong beside the configuration, of which money may be.
fn tell(findings: Vec<Diagnostic>, listener: &Arc<dyn Listener>, warned: &mut Warned) {
    if !findings.is_empty() {
        listener.warned(&findings);
    }
    warned.job.extend(findings);
}

/// A job that began anew, and found less than there was.
fn fewer(job: &Path, before: u64, now: u64) -> Diagnostic {
    let message = format!(
        "the state of the job was gone and {now} records were read anew: there were {before}, and what the sources \
         do not have any more is not billed"
    );
    let hint = "put back what the sources had, or give `durability.folder`, `outputs.folder` and, where there is one, \
                `archive.folder` the state, outputs and archive of before from a copy";
    Diagnostic::warning(&job.display().to_string(), (0, 0), message).with_hint(hint)
}

/// Changes that are not all there do not add up to what stands.
fn lacks(job: &Path, folder: &str, problem: &str) -> Diagnostic {
    let message = format!("{folder} among the outputs does not add up: {problem}");
    let hint = "put the files back from a copy, or give `durability.folder`, `outputs.folder` and, where there is \
                one, `archive.folder` empty folders to read all sources from their beginning";
    Diagnostic::warning(&job.display().to_string(), (0, 0), message).with_hint(hint)
}

/// Asks the brokers of a job whether its topics are there.
fn ask_brokers(job: &Job) -> Result<(), RunError> {
    let sources = job
        .sources
        .iter()
        .filter_map(|source| source.kafka.as_ref());
    for source in sources {
        Consumer::open(&source.settings, &source.topics)?;
    }
    if let Some(plan) = &job.outputs.messages {
        let topics: Vec<String> = plan.topics.all().map(str::to_owned).collect();
        Consumer::open(&plan.settings, &topics)?;
    }
    Ok(())
}

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

/// A worker among its peers.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Which worker.
    pub worker: u64,
    /// Of how many.
    pub peers: u64,
    /// Records that all workers hold open.
    pub records: usize,
}

#[derive(Clone)]
struct Facts {
    texts: Texts,
    run: RunFacts,
}

/// A job whose configuration holds.
struct Prepared {
    job: Job,
    names: Arc<Names>,
    setting: Box<dyn FnOnce(Live) -> Setting>,
    /// The run that may commit, where epochs are made durable.
    generation: Option<Generation>,
    /// Where messages are published.
    sink: Option<MessageSink>,
    state: Option<Arc<Store>>,
    /// What an earlier run took in.
    restored: Option<Restored>,
    closed: Arc<Closed>,
    output_store: Arc<Store>,
    watched: std::collections::BTreeSet<PathBuf>,
    /// Of how many records there were outputs whose state is gone.
    anew: Option<u64>,
    /// When the job began to read them.
    loading: SystemTime,
    outputs: Option<Outputs>,
    facts: Facts,
}

/// What exists only while the job runs.
struct Live {
    listener: Arc<dyn Listener>,
    metrics: Arc<Metrics>,
    pending: Pending,
    saved: Option<Receiver<Saved>>,
    watch: Option<FileWatch>,
    failed: Arc<AtomicBool>,
    bound: Arc<AtomicU64>,
    restored: Option<Restored>,
    keeping: Option<Keeping>,
    suspended: Option<Suspended>,
}

type Pending = Arc<Mutex<BTreeMap<Epoch, PendingChange>>>;

impl Prepared {
    fn load(
        path: &Path,
        options: &RunOptions,
        listener: &Arc<dyn Listener>,
        mode: Mode,
    ) -> Result<Self, RunError> {
        let loading = SystemTime::now();
        let (mut job, of_job) = match Job::load(path) {
            Ok(loaded) => loaded,
            // Everything else that is wrong is worth knowing at once.
            Err(_) => return Err(RunError::Configuration(crate::check::check(path))),
        };
        let names = Arc::new(match (&job.durability, mode) {
            (Some(_), Mode::Write) => Names::noting(),
            _ => Names::default(),
        });
        let mut reference_files = job.reference_files(Arc::clone(&names));
        let rules = job.working_rules(&names).map(|rules| {
            reference_files.know(rules.vocabulary);
            (rules.plans, rules.warnings)
        });
        let loaded = match job.reference_topics.is_empty() {
            true => reference_files.load().map(|l| (l.reference, l.warnings)),
            // The intake asks whether files and messages agree.
            false => {
                let read = reference_files.read_alone();
                read.map(|warnings| (Reference::default(), warnings))
            }
        };
        let ((rules, of_rules), (reference, of_reference)) = match (rules, loaded) {
            (Ok(rules), Ok(loaded)) => (rules, loaded),
            _ => return Err(RunError::Configuration(crate::check::check(path))),
        };
        let mut warned = Warned {
            job: of_job,
            rules: of_rules,
            reference: of_reference,
            files: Vec::new(),
        };
        if mode == Mode::Write {
            warned.job.extend(never_archived(&job, &reference, &names));
        }
        match warned.all() {
            none if none.is_empty() => {}
            warnings => listener.warned(&warnings),
        }
        let (folder, base) = output_folder(&job, options);
        // A bucket that cannot be listed is known before anything is written or read.
        for source in job.sources.iter().filter(|s| s.kafka.is_none()) {
            Store::open(&source.path, &job.folder)?.list()?;
        }
        let store = Arc::new(Store::open(&folder, base)?);
        let state = match &job.durability {
            Some(plan) => Some(Arc::new(Store::open(&plan.folder, &job.folder)?)),
            None => None,
        };
        let mut reference_feeds = None;
        if mode == Mode::Write {
            reference_feeds = ReferenceFeeds::open(&job, &mut reference_files)?;
        }
        let (mut generation, mut restored, mut resumes) = (None, None, false);
        let (mut sink, mut earlier, mut anew, mut compared) = (None, Vec::new(), None, None);
        match (mode, &state) {
            (Mode::Write, Some(state)) => {
                // A start that must fail ends no run that does well.
                ask_brokers(&job)?;
                let plan = Plan::of(&job, &rules);
                let newest = Manifest::newest(state)?;
                if let Some(newest) = &newest {
                    newest.check_plan(state, &plan)?;
                }
                check_objects(state)?;
                compared = known::compare(&job, state)?;
                anew = progress::check(&store, state, &job.name)?;
                if anew.is_some() {
                    let folder = store.location();
                    listener.message(&format!(
                        "the state that the outputs in {folder} were written from is gone: everything is read anew"
                    ));
                }
                if newest.is_none_or(|newest| newest.live == 0) {
                    earlier = Outputs::earlier(&store)?;
                }
                let (mut ours, resumed) = Generation::begin(state, &plan)?;
                // It may refuse: before outputs of other state are cleared.
                let known = &ours.manifest.output_topics;
                let run = (ours.number, ours.manifest.live, known);
                let messages = job.outputs.messages.clone();
                let open = |plan| MessageSink::open(plan, &job.name, run, Arc::clone(listener));
                sink = match messages.map(open).transpose() {
                    Ok(sink) => sink,
                    Err(error) => {
                        // Whatever fails from here on may fail because another run has taken over.
                        let error = superseded(Some(&Claim::of(&ours, state)), error.into());
                        ours.give_up(state)?;
                        return Err(error);
                    }
                };
                for (folder, problem) in progress::lacking(&store, &ours.manifest, STAGE)? {
                    tell(vec![lacks(path, &folder, &problem)], listener, &mut warned);
                }
                // Both are part of the next commit.
                if let Some(sink) = &sink {
                    ours.manifest.output_topics = sink.ids().clone();
                }
                if let Some(feeds) = &reference_feeds {
                    let anew = feeds.created_anew(&job, &ours.manifest.reference_topics);
                    tell(anew, listener, &mut warned);
                    ours.manifest.reference_topics = feeds.ids();
                }
                (generation, resumes) = (Some(ours), resumed);
            }
            (Mode::Read, Some(state)) => {
                job.keep_raw = false;
                let (manifest, store) = (Manifest::newest(state)?, Arc::clone(state));
                if let Some(manifest) = &manifest {
                    manifest.check_job(state, &job.name)?;
                }
                restored = manifest.map(|manifest| Restored { store, manifest });
            }
            (Mode::Write, None) => {
                known::refuse_state(&job)?;
                let free = progress::give_up(&store, &job.name);
                free.map_err(|error| match error {
                    DurableError::Store(error) => RunError::Store(error),
                    error => error.into(),
                })?;
            }
            (Mode::Read, None) => job.keep_raw = false,
        }
        // For those who only ask, what is committed is in force.
        if mode == Mode::Read && restored.is_none() {
            reference_feeds = ReferenceFeeds::open(&job, &mut reference_files)?;
        }
        if mode == Mode::Write && generation.is_none() {
            store.clear(RAW)?;
        }
        let committed = generation.as_ref().map(|ours| &ours.manifest);
        let committed = committed.or(restored.as_ref().map(|restored| &restored.manifest));
        let closed = match (&state, committed) {
            (Some(state), Some(manifest)) => {
                let closed = match compared {
                    Some((object, closed)) if Some(&object) == manifest.closed.as_ref() => {
                        Ok(closed)
                    }
                    _ => Closed::of(state, manifest),
                };
                let held = generation.as_ref().map(|ours| Claim::of(ours, state));
                closed.map_err(|error| superseded(held.as_ref(), error.into()))?
            }
            _ => Closed::default(),
        };
        closed.names.iter().for_each(|entered| {
            names.enter_again(entered);
        });
        let closed = Arc::new(closed);
        let closed_in = Arc::clone(&closed);
        let dimensions = job
            .aggregate_by
            .iter()
            .cloned()
            .zip(job.dimensions(&names))
            .collect();
        let file_names = FileList::default();
        let file_lines = FileLines::default();
        let texts = Texts {
            names: Arc::clone(&names),
            files: Arc::clone(&file_names),
            lines: Arc::clone(&file_lines),
            dimensions,
        };
        let outputs = match mode {
            Mode::Write => {
                let tag = generation.as_ref().map(Generation::tag);
                open_gates(&job.sources, &job.folder, tag.as_deref())?;
                let (plan, store, texts) = (job.outputs.clone(), Arc::clone(&store), texts.clone());
                Some(match &generation {
                    None => Outputs::prepare(store, plan, texts)?,
                    Some(ours) => {
                        let state = state.as_ref().expect("a generation is of a state");
                        let run = DurableRun {
                            generation: ours,
                            state,
                            earlier: if resumes { Vec::new() } else { earlier },
                        };
                        let prepared = Outputs::prepare_durable(store, plan, texts, &run);
                        let claim = Claim::of(ours, state);
                        prepared.map_err(|error| superseded(Some(&claim), error.into()))?
                    }
                })
            }
            Mode::Read => None,
        };
        let shown = store
            .local_path()
            .map_or(folder, |path| path.display().to_string());
        let run = RunFacts {
            job: job.name.clone(),
            outputs: Some(shown),
            zone: job.zone.clone(),
            ..RunFacts::default()
        };
        let mut watched = reference_files.files().clone();
        watched.extend(job.rule_files());
        watched.insert(job.path.clone());
        let written = outputs.clone();
        let clears = Box::new(move || written.as_ref().map_or(Ok(()), Outputs::clear_snapshots));
        let wants_ignored = outputs.as_ref().is_some_and(Outputs::wants_ignored);
        let (names_in, job_in) = (Arc::clone(&names), job.clone());
        let output_store = Arc::clone(&store);
        // What is committed is what is asked for; the sources belong to the run that reads them.
        let reads = restored.is_none();
        let closes = mode == Mode::Write && job.archive.is_some();
        let setting = Box::new(move |live: Live| Setting {
            job: job_in,
            names: names_in,
            rules,
            reference_files,
            reference_feeds,
            reference,
            warned,
            archive: store,
            file_names,
            file_lines,
            listener: live.listener,
            metrics: live.metrics,
            pending: live.pending,
            saved: live.saved,
            watch: live.watch,
            failed: live.failed,
            bound: live.bound,
            wants_ignored,
            restored: live.restored,
            loaded: clears,
            keeping: live.keeping,
            suspended: live.suspended,
            closed: closed_in,
            reads,
            closes,
        });
        Ok(Self {
            job,
            names,
            setting,
            generation,
            sink,
            state,
            restored,
            closed,
            output_store,
            watched,
            anew,
            loading,
            outputs,
            facts: Facts { texts, run },
        })
    }

    fn claim(&self) -> Option<Claim> {
        let generation = self.generation.as_ref()?;
        Some(Claim::of(generation, self.state.as_ref()?))
    }

    /// What archives closed bill units at the end, where the job says so.
    fn archive(&self) -> Result<Option<ArchiveSetting>, RunError> {
        let job = &self.job;
        let Some(plan) = &job.archive else {
            return Ok(None);
        };
        Ok(Some(ArchiveSetting {
            store: Arc::new(Store::open(&plan.folder, &job.folder)?),
            job: job.name.clone(),
            generation: self.generation.as_ref().map(|ours| ours.number),
            zone: job.zone.clone(),
            after: plan.after,
            // Until the run has seen what bears witness to it.
            present: Present {
                at: job.clock.unwrap_or_else(machine),
                closes: false,
            },
            texts: self.facts.texts.clone(),
            closed: Arc::clone(&self.closed),
            state: None,
        }))
    }

    fn finder(&self) -> impl Fn() -> LineFinder + Send + Sync + 'static {
        finder(&self.job, &self.facts.texts)
    }

    fn execute<T: Send + 'static>(
        mut self,
        options: &RunOptions,
        metrics: &Arc<Metrics>,
        listener: &Arc<dyn Listener>,
        (stop, talk): (&Stop, Option<Talk>),
        host: Option<Host>,
        harvest: impl Fn(&mut Worker, &Company, &Open, Seat, Option<&Settled>) -> T
        + Send
        + Sync
        + 'static,
    ) -> Result<Ran<T>, RunError> {
        let failed_to_start = |error: &dyn std::fmt::Display| RunError::Start(error.to_string());
        let workers = workers(options)?;
        let finder = Arc::new(self.finder());
        let (sender, receiver) = channel();
        let (senders, feeds) = channels(workers, &sender);
        let pending = Pending::default();
        let failed = Arc::new(AtomicBool::new(false));

        let (mut saved, mut watch, mut ear) = (None, None, None);
        if options.watch {
            let Talk { tell, saved: heard } = talk.unwrap_or_else(|| {
                let (tell, saved) = channel();
                *stop.lock().expect("whoever stops the job does not panic") = Some(tell.clone());
                Talk { tell, saved }
            });
            let (files, told) = (&self.watched, tell.clone());
            watch = Some(FileWatch::start(&self.job, files, self.loading, told)?);
            (saved, ear) = (Some(heard), Some(tell));
        }
        let begun = Points::default();
        let mut keeping = None;
        let mut committer = None;
        let mut restored = self.restored.take();
        if let (Some(generation), Some(state), Some(plan)) =
            (self.generation.take(), &self.state, &self.job.durability)
        {
            keeps_what_is_read();
            let told = Arc::clone(metrics);
            let (mut commits, ends) = Committer::new(
                Arc::clone(state),
                Arc::clone(&self.output_store),
                generation,
                self.sink.take(),
                Box::new(move |manifest| told.committed(manifest)),
            );
            commits.recover()?;
            restored = Some(commits.restored());
            if commits.makes_again() {
                let mut begun = begun.lock().expect("points are not poisoned");
                begun.extend(restored.as_ref().map(|restored| restored.live() - 1));
            }
            let crashes = state.local_path();
            let crashes = crashes.map(|place| Crashes::begin(place, &commits.tag()));
            let crashes = crashes.transpose();
            keeping = Some(Keeping {
                crashes: crashes.map_err(|error| failed_to_start(&error))?,
                tag: commits.tag(),
                points: ends.points,
                begun: Points::clone(&begun),
                interval: plan.interval,
                state: Arc::clone(state),
            });
            committer = Some((commits, ends.flushed));
        }
        let newest = restored.as_ref().map(|restored| restored.manifest.commit);
        let live_from = restored.as_ref().map_or(0, Restored::live);
        let unpublished = restored
            .as_ref()
            .map_or(0, |restored| restored.manifest.from);
        let (committer, flushed) = committer.unzip();
        // Commands are for those who keep them.
        let suspended = keeping.as_ref().map(|_| Suspended::default());
        let clock = self.job.clock.unwrap_or_else(machine);
        let resume = self.closed.resume(live_from, unpublished).from_clock(clock);
        let connected = host.map(|host| together::begin(host, &resume, self.outputs.as_ref()));
        let mut start = Start::of(connected.transpose()?, workers, &self.names);
        let bound = start.bound();
        let ears = together::ears_of_first(&start.company, stop);
        let together = start.attend(ears)?;
        let watchdog = watchdog(options, &start.company, metrics)?;
        let live = Live {
            restored,
            keeping,
            suspended: suspended.clone(),
            listener: Arc::clone(listener),
            metrics: Arc::clone(metrics),
            pending: Arc::clone(&pending),
            saved,
            watch,
            failed: Arc::clone(&failed),
            bound: Arc::clone(&bound),
        };
        let intake = Intake::new((self.setting)(live), senders);
        let intake = std::thread::Builder::new()
            .name("intake".to_owned())
            .stack_size(INTAKE_STACK_BYTES)
            .spawn(move || intake.run())
            .map_err(|error| failed_to_start(&error))?;

        let stats: Vec<GraphStats> = (0..workers).map(|_| GraphStats::default()).collect();
        stats
            .iter()
            .for_each(|stats| metrics.watch_worker(stats.clone()));
        let mut publisher = Publisher {
            board: Board::new(self.facts.texts.clone()),
            changes: self
                .outputs
                .as_ref()
                .map(|outputs| outputs.changes(finder())),
            metrics: Arc::clone(metrics),
            listener: Arc::clone(listener),
            pending,
            bound,
            watch: options.watch,
            suspended: suspended.clone(),
            live: live_from,
            unpublished,
            messages: self
                .outputs
                .as_ref()
                .and_then(|outputs| outputs.messages(finder())),
            names: Arc::clone(&self.names),
            keeping: flushed.map(|flushed| Staging { begun, flushed }),
        };
        let committer = committer
            .map(|committer| {
                let failed = Arc::clone(&failed);
                let commit = move || {
                    let ended = committer.run();
                    failed.fetch_or(ended.is_err(), Ordering::Relaxed);
                    ended
                };
                let thread = std::thread::Builder::new().name("committer".to_owned());
                thread.spawn(commit)
            })
            .transpose()
            .map_err(|error| failed_to_start(&error))?;
        let collector = Collector::new(workers, receiver);
        let publisher = std::thread::Builder::new()
            .name("publisher".to_owned())
            .spawn(move || {
                let result = collector.run(|changes, before| publisher.deliver(changes, before));
                if result.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
                result
                    .and_then(|()| publisher.settle())
                    .map(|()| publisher.board)
            })
            .map_err(|error| failed_to_start(&error))?;

        let wants = |asks: fn(&Outputs) -> bool| self.outputs.as_ref().is_some_and(asks);
        let outbox = Outbox {
            sender,
            wants_charges: wants(Outputs::wants_charges),
            wants_impacts: wants(Outputs::wants_impacts),
            company: start.company.clone(),
        };
        let texts = self.facts.texts.clone();
        let needs_texts = wants(Outputs::written_by_all);
        let seating = Seating::of(feeds, outbox, stats, resume, texts, needs_texts);
        let settled = Arc::new(OnceLock::new());
        let awaited = Arc::clone(&settled);
        let guards = start.launch(workers, move |worker| {
            let (open, seat) = seating.work(worker, &*finder);
            let settled: &Option<Settled> = awaited.wait();
            harvest(worker, seating.company(), &open, seat, settled.as_ref())
        })?;
        // All end when the workers have no more to tell, and the workers wait for what they found.
        let intake = intake.join().expect("the intake does not panic");
        let board = publisher.join().expect("the publisher does not panic");
        let mut committer = committer;
        let mut commit = || {
            let thread = committer.take();
            let committed =
                thread.map(|thread| thread.join().expect("the committer does not panic"));
            committed.transpose()
        };
        // What is archived is committed; snapshots are made beside the last commit, and take their
        // places behind it.
        let archives = self.job.archive.is_some();
        let archived = archives.then(&mut commit);
        let intake = intake.map_err(|error| match error {
            IntakeError::Durable(error) => RunError::Durable(error),
            IntakeError::Source(message) => RunError::Source(message),
            IntakeError::Reference(findings) => RunError::Configuration(findings),
        });
        let (found, ended) = match (intake, board) {
            (Ok((taken, heard)), Ok(board)) => (Some(Settled { board, taken }), Ok(heard)),
            // The committer only misses what a publisher that failed did not stage.
            (Err(failure), _) | (_, Err(failure)) => (None, Err(failure)),
        };
        let lost = matches!(archived, Some(Err(_)));
        settled.get_or_init(|| found.filter(|_| !lost));
        let committed = archived.unwrap_or_else(commit);
        let results = guards.join();
        drop(watchdog);
        if let Err(told @ (DurableError::Superseded { .. } | DurableError::Emptied { .. })) =
            committed
        {
            // Whatever else failed did so for it.
            return Err(told.into());
        }
        let heard = ended?;
        let generation = committed?;
        let talk = ear.zip(heard);
        let talk = talk.map(|(tell, saved)| Talk { tell, saved });
        let settled = Arc::into_inner(settled).and_then(OnceLock::into_inner);
        let Settled { board, taken } = settled
            .flatten()
            .expect("the workers are gone, and nobody failed");
        let parts = results.into_iter();
        let parts = parts.map(|part| part.expect("a worker that panics ends the process"));
        let kept = generation.zip(suspended);
        let kept = kept.map(|(generation, suspended)| Kept {
            generation,
            suspended,
            discarded: taken.discarded,
            reopened: taken.reopened,
            talk,
        });
        let ended = Ended {
            files: with_counts(taken.ledger, &board),
            unread: taken.unread,
            board,
            reference: taken.reference,
            held: taken.held,
            warned: taken.warned,
            texts: self.facts.texts,
            closed: self.closed,
            witness: taken.witness,
            commit: newest,
            parts: parts.collect(),
        };
        Ok((ended, kept, together))
    }
}

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

/// What the workers of a process share.
struct Seating {
    feeds: Mutex<Vec<Option<Feed>>>,
    /// Handed out once per worker, so that the publisher ends when the last worker does.
    outbox: Mutex<Option<(usize, Outbox)>>,
    stats: Vec<GraphStats>,
    records: AtomicUsize,
    met: Barrier,
    resume: Resume,
    company: Company,
    texts: Texts,
    /// Whether every process needs the texts in the end.
    needs_texts: bool,
}

impl Seating {
    fn of(
        feeds: Vec<Feed>,
        outbox: Outbox,
        stats: Vec<GraphStats>,
        resume: Resume,
        texts: Texts,
        needs_texts: bool,
    ) -> Self {
        let workers = feeds.len();
        Self {
            feeds: Mutex::new(feeds.into_iter().map(Some).collect()),
            company: outbox.company.clone(),
            outbox: Mutex::new(Some((workers, outbox))),
            stats,
            records: AtomicUsize::new(0),
            met: Barrier::new(workers),
            resume,
            texts,
            needs_texts,
        }
    }

    fn company(&self) -> &Company {
        &self.company
    }

    fn outbox(&self) -> Outbox {
        let mut held = self.outbox.lock().expect("no worker has failed");
        let (left, outbox) = held.take().expect("one outbox per worker");
        if left > 1 {
            *held = Some((left - 1, outbox.clone()));
        }
        outbox
    }

    fn work(
        &self,
        worker: &mut Worker,
        finder: &(dyn Fn() -> LineFinder + Send + Sync),
    ) -> (Open, Seat) {
        let (number, peers) = (worker.index(), worker.peers());
        let index = self.company.seat(worker);
        let mut feed = self.feeds.lock().expect("no worker has failed")[index]
            .take()
            .expect("each worker takes its own feed");
        let outbox = self.outbox();
        let open = worker::run(
            worker,
            finder(),
            &self.stats[index],
            &outbox,
            &self.resume,
            &mut feed,
        );
        drop((outbox, feed));
        // The form of the snapshot depends on all workers' records.
        let stats = &self.stats[index];
        let records = stats.rate.read().state_records;
        let records = usize::try_from(records).unwrap_or(0);
        if self.company.is_many() {
            let all = self.close(worker, records);
            self.records.store(all, Ordering::SeqCst);
        } else {
            self.records.fetch_add(records, Ordering::SeqCst);
        }
        self.met.wait();
        let position = |n: usize| u64::try_from(n).unwrap_or(0);
        let seat = Seat {
            worker: position(number),
            peers: position(peers),
            records: self.records.load(Ordering::SeqCst),
        };
        (open, seat)
    }

    /// What the processes tell each other before snapshots are taken; returns the records of all.
    fn close(&self, worker: &mut Worker, records: usize) -> usize {
        let Texts { names, files, .. } = &self.texts;
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let company = &self.company;
        let all = company.close(worker, records, names, files, self.needs_texts);
        usize::try_from(all).unwrap_or(usize::MAX)
    }
}

fn with_counts(ledger: Vec<LedgerRow>, board: &Board) -> Vec<LedgerRow> {
    let file = |index: usize| FileId(u32::try_from(index).unwrap_or(u32::MAX));
    let counted = |(index, row): (usize, LedgerRow)| {
        let counts = board.file_counts(file(index));
        LedgerRow {
            received: counts.received,
            ignored: counts.ignored,
            duplicate: counts.duplicate,
            conflict: counts.conflict,
            superseded: counts.superseded,
            error: counts.error,
            suspended: counts.suspended,
            discarded: counts.discarded,
            monetised: counts.monetised,
            ..row
        }
    };
    ledger.into_iter().enumerate().map(counted).collect()
}
