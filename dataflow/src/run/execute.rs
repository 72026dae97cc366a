//! A run from its workers to its outputs.

use super::prepare::{Kept, Live, Prepared};
use super::publisher::{Publisher, Staging};
use super::together::Start;
use super::{
    Ended, INTAKE_STACK_BYTES, Pending, Ran, RunOptions, Seating, Settled, Talk, watchdog, workers,
};
use crate::board::Board;
use crate::bundle::channels;
use crate::cluster::{Company, Host};
use crate::crash::Crashes;
use crate::durable::{Committer, DurableError, Restored};
use crate::error::RunError;
use crate::graph::{GraphStats, Open};
use crate::intake::{Intake, IntakeError, Keeping, Points, Suspended};
use crate::interrupt::{Stop, keeps_what_is_read};
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::outputs::Outputs;
use crate::present::machine;
use crate::publish::{Collector, Outbox};
use crate::watch::FileWatch;
use crate::worker::Seat;
use millrace_connectors::output::LedgerRow;
use millrace_operators::domain::FileId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use timely::worker::Worker;

pub(super) fn with_counts(ledger: Vec<LedgerRow>, board: &Board) -> Vec<LedgerRow> {
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

impl Prepared {
    pub(super) fn execute<T: Send + 'static>(
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
        let connected =
            host.map(|host| super::together::begin(host, &resume, self.outputs.as_ref()));
        let mut start = Start::of(connected.transpose()?, workers, &self.names);
        let bound = start.bound();
        let ears = super::together::ears_of_first(&start.company, stop);
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
