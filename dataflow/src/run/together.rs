//! What the processes of a run do together: begin, and hand their parts of the snapshots to the first.

use crate::cluster::{Attending, ClusterError, Company, Connected, Ears, Host, Links};
use crate::error::RunError;
use crate::graph::{Open, Resume};
use crate::interrupt;
use crate::interrupt::Stop;
use crate::outputs::{Outputs, Piece, WorkerSnapshot};
use crate::worker::Seat;
use millrace_connectors::names::Names;
use millrace_connectors::output::OutputError;
use millrace_operators::aggregate::LineFinder;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use timely::communication::{AllocatorBuilder, WorkerGuards};
use timely::worker::Worker;

/// What the workers of this process are started from.
pub(super) struct Start {
    pub(super) company: Company,
    network: Option<(Vec<AllocatorBuilder>, Box<dyn Any + Send>)>,
    links: Option<Links>,
}

impl Start {
    /// A start of this process, alone or connected with others. Classes that others tell are entered in
    /// its name book.
    pub(super) fn of(connected: Option<Connected>, workers: usize, names: &Arc<Names>) -> Self {
        let Some(connected) = connected else {
            return Self {
                company: Company::of(0, 1, workers),
                network: None,
                links: None,
            };
        };
        let names = Arc::clone(names);
        let learn = Arc::new(move |class: &_| {
            names.enter_class(class);
        });
        Self {
            company: connected.company.learning(learn),
            network: Some((connected.builders, connected.threads)),
            links: Some(connected.links),
        }
    }

    /// Where the first epoch that is not bound is told.
    pub(super) fn bound(&self) -> Arc<AtomicU64> {
        self.links.as_ref().map(Links::bound).unwrap_or_default()
    }

    /// Listens to the other processes from now on.
    pub(super) fn attend(&mut self, ears: Ears) -> Result<Option<Together>, RunError> {
        let Some(links) = self.links.take() else {
            return Ok(None);
        };
        let attending = links.attend(ears);
        Ok(Some(Together {
            attending: attending.map_err(|error| RunError::Start(error.to_string()))?,
            done: false,
        }))
    }

    /// Starts the workers.
    pub(super) fn launch<T: Send + 'static>(
        self,
        workers: usize,
        work: impl Fn(&mut Worker) -> T + Send + Sync + 'static,
    ) -> Result<WorkerGuards<T>, RunError> {
        let guards = match self.network {
            None => timely::execute(timely::Config::process(workers), work),
            Some((builders, threads)) => {
                let config = timely::WorkerConfig::default();
                timely::execute::execute_from(builders, threads, config, work)
            }
        };
        guards.map_err(|error| RunError::Start(error.clone()))
    }
}

/// A run under way with other processes; tells them how it ended.
pub(super) struct Together {
    pub(super) attending: Attending,
    done: bool,
}

impl Together {
    /// This process's part is done.
    pub(super) fn done(mut self) {
        self.done = true;
        self.attending.finish(None);
    }

    /// The run is done, and the job begins again.
    pub(super) fn again(mut self) {
        self.done = true;
        self.attending.begin_again();
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if !self.done {
            let failed = "it failed; it has said why itself".to_owned();
            self.attending.finish(Some(failed));
        }
    }
}

/// What process 0 does on words of the others.
pub(super) fn ears_of_first(company: &Company, stop: &Stop) -> Ears {
    let stop = Stop::clone(stop);
    Ears {
        me: company.me(),
        bound: Box::new(|_| {}),
        end: Box::new(move || {
            interrupt::end(&stop);
        }),
        over: Box::new(|_| {}),
    }
}

/// Begins the run with all processes, once they are prepared.
pub(super) fn begin(
    host: Host,
    resume: &Resume,
    outputs: Option<&Outputs>,
) -> Result<Connected, RunError> {
    let shared = outputs.filter(|outputs| outputs.written_by_all());
    let mark = shared.map(|outputs| {
        let (name, content) = host.mark();
        outputs.mark(&name, &content).map(|()| name)
    });
    let mark = mark.transpose()?;
    let gone = host.go(resume, mark.clone(), outputs.and_then(Outputs::tag));
    if let (Some(outputs), Some(mark)) = (shared, mark) {
        outputs.unmark(&mark)?;
    }
    gone?;
    Ok(host.connect()?)
}

/// What another worker hands to worker 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Handed {
    Piece(Piece),
    Failed(String),
}

/// What workers do at the end of a run: each takes its part of the snapshots; where there are several
/// processes, the first worker gets all parts.
pub(super) fn snapshots(
    outputs: Option<Outputs>,
    finder: impl Fn() -> LineFinder + Send + Sync + 'static,
) -> impl Fn(&mut Worker, &Company, &Open, Seat) -> Result<Option<WorkerSnapshot>, RunError>
+ Send
+ Sync
+ 'static {
    move |worker, company, open, seat| {
        let snapshot = |outputs: &Outputs| outputs.snapshot_open(open, &mut finder(), seat);
        let own = outputs.as_ref().map(snapshot).transpose();
        if company.is_many() {
            hand_over(worker, company, own)
        } else {
            Ok(own?)
        }
    }
}

fn hand_over(
    worker: &mut Worker,
    company: &Company,
    own: Result<Option<WorkerSnapshot>, OutputError>,
) -> Result<Option<WorkerSnapshot>, RunError> {
    let index = u64::try_from(worker.index()).unwrap_or(u64::MAX);
    let (mut kept, mut failed, mut pieces) = (None, None, Vec::new());
    match own {
        Ok(own) if index == 0 => kept = own,
        Ok(own) => match own.map(WorkerSnapshot::into_pieces).transpose() {
            Ok(own) => pieces.extend(own.into_iter().flatten().map(Handed::Piece)),
            Err(error) => failed = Some(error),
        },
        Err(error) => failed = Some(error),
    }
    if let Some(error) = failed.as_ref().filter(|_| index != 0) {
        pieces = vec![Handed::Failed(error.to_string())];
    }
    let messages = pieces.into_iter().map(|piece| (0, (index, piece)));
    let mut handed: Vec<(u64, Handed)> = company.exchange(worker, messages);
    if let Some(error) = failed {
        return Err(error.into());
    }
    handed.sort_by_key(|(from, _)| *from);
    for (from, handed) in handed {
        match (handed, &mut kept) {
            (Handed::Piece(piece), Some(all)) => all.take(piece)?,
            (Handed::Piece(_), None) => {}
            (Handed::Failed(reason), _) => {
                let process = company.process_of(from);
                return Err(ClusterError::Elsewhere { process, reason }.into());
            }
        }
    }
    Ok(kept)
}
