//! A job whose configuration holds, ready to run.

use super::finder;
use super::{Claim, Mode, Pending, RunOptions, Talk, output_folder, superseded};
use crate::archive::{ArchiveSetting, known, never_archived};
use crate::cluster::FileList;
use crate::durable::{
    Closed, DurableError, Generation, Manifest, MessageSink, Plan, Restored, STAGE, check_objects,
    progress,
};
use crate::error::RunError;
use crate::intake::{Keeping, ReferenceFeeds, Setting, Suspended, Warned, open_gates};
use crate::job::Job;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::outputs::{DurableRun, Outputs, RAW};
use crate::present::{Present, machine};
use crate::report::RunFacts;
use crate::watch::{FileWatch, Saved};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::Consumer;
use millrace_connectors::lines::FileLines;
use millrace_connectors::names::Names;
use millrace_connectors::output::Texts;
use millrace_connectors::reference::Reference;
use millrace_connectors::store::Store;
use millrace_operators::aggregate::LineFinder;
use roaring::RoaringTreemap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::Receiver;
use std::time::SystemTime;

/// A job whose configuration holds.
pub(super) struct Prepared {
    pub(super) job: Job,
    pub(super) names: Arc<Names>,
    pub(super) setting: Box<dyn FnOnce(Live) -> Setting>,
    /// The run that may commit, where epochs are made durable.
    pub(super) generation: Option<Generation>,
    /// Where messages are published.
    pub(super) sink: Option<MessageSink>,
    pub(super) state: Option<Arc<Store>>,
    /// What an earlier run took in.
    pub(super) restored: Option<Restored>,
    pub(super) closed: Arc<Closed>,
    pub(super) output_store: Arc<Store>,
    pub(super) watched: std::collections::BTreeSet<PathBuf>,
    /// Of how many records there were outputs whose state is gone.
    pub(super) anew: Option<u64>,
    /// When the job began to read them.
    pub(super) loading: SystemTime,
    pub(super) outputs: Option<Outputs>,
    pub(super) facts: Facts,
}

/// What exists only while the job runs.
pub(super) struct Live {
    pub(super) listener: Arc<dyn Listener>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pending: Pending,
    pub(super) saved: Option<Receiver<Saved>>,
    pub(super) watch: Option<FileWatch>,
    pub(super) failed: Arc<AtomicBool>,
    pub(super) bound: Arc<AtomicU64>,
    pub(super) restored: Option<Restored>,
    pub(super) keeping: Option<Keeping>,
    pub(super) suspended: Option<Suspended>,
}

/// What a run with durable state leaves to the one that goes on from it.
pub(super) struct Kept {
    pub(super) generation: Generation,
    pub(super) suspended: Suspended,
    pub(super) discarded: RoaringTreemap,
    /// Archived records that came back.
    pub(super) reopened: RoaringTreemap,
    /// Where it is told what is saved, if it is to begin again.
    pub(super) talk: Option<Talk>,
}

/// Tells what is wrong beside the configuration, of which money may be.
pub(super) fn tell(findings: Vec<Diagnostic>, listener: &Arc<dyn Listener>, warned: &mut Warned) {
    if !findings.is_empty() {
        listener.warned(&findings);
    }
    warned.job.extend(findings);
}

/// A job that began anew, and found less than there was.
pub(super) fn fewer(job: &Path, before: u64, now: u64) -> Diagnostic {
    let message = format!(
        "the state of the job was gone and {now} records were read anew: there were {before}, and what the sources \
         do not have any more is not billed"
    );
    let hint = "put back what the sources had, or give `durability.folder`, `outputs.folder` and, where there is one, \
                `archive.folder` the state, outputs and archive of before from a copy";
    Diagnostic::warning(&job.display().to_string(), (0, 0), message).with_hint(hint)
}

/// Changes that are not all there do not add up to what stands.
pub(super) fn lacks(job: &Path, folder: &str, problem: &str) -> Diagnostic {
    let message = format!("{folder} among the outputs does not add up: {problem}");
    let hint = "put the files back from a copy, or give `durability.folder`, `outputs.folder` and, where there is \
                one, `archive.folder` empty folders to read all sources from their beginning";
    Diagnostic::warning(&job.display().to_string(), (0, 0), message).with_hint(hint)
}

/// Asks the brokers of a job whether its topics are there.
pub(super) fn ask_brokers(job: &Job) -> Result<(), RunError> {
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

#[derive(Clone)]
pub(super) struct Facts {
    pub(super) texts: Texts,
    pub(super) run: RunFacts,
}

impl Prepared {
    pub(super) fn load(
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

    pub(super) fn claim(&self) -> Option<Claim> {
        let generation = self.generation.as_ref()?;
        Some(Claim::of(generation, self.state.as_ref()?))
    }

    /// What archives closed bill units at the end, where the job says so.
    pub(super) fn archive(&self) -> Result<Option<ArchiveSetting>, RunError> {
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

    pub(super) fn finder(&self) -> impl Fn() -> LineFinder + Send + Sync + 'static {
        finder(&self.job, &self.facts.texts)
    }
}
