//! The processes of a run, as their workers and the graph see them.
//!
//! Workers are numbered through: process *p* has workers *pW* to *pW+W-1*. Whatever is for process 0
//! goes to worker 0, whatever is for another process to its first worker.

use differential_dataflow::AsCollection as _;
use millrace_connectors::names::{Entered, Names};
use millrace_operators::domain::UsageClass;
use millrace_operators::epoch::{Collection, Diff, Epoch};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use timely::ExchangeData;
use timely::dataflow::operators::vec::{Input as _, Map as _};
use timely::dataflow::operators::{Exchange as _, Inspect as _, Probe as _};
use timely::worker::Worker;

/// Enters a class in the name book of a process.
pub type Learn = Arc<dyn Fn(&UsageClass) + Send + Sync>;

/// Names of the files by their number, shared with the outputs.
pub type FileList = Arc<RwLock<Vec<Arc<str>>>>;

/// Names sent at a time.
const NAMES: usize = 1 << 12;
/// Bytes sent at a time.
const PIECE: usize = 1 << 20;

/// See the module.
#[derive(Clone)]
pub struct Company {
    process: usize,
    processes: usize,
    workers: usize,
    learn: Option<Learn>,
}

impl Default for Company {
    /// One process.
    fn default() -> Self {
        Self::of(0, 1, 1)
    }
}

impl fmt::Debug for Company {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.process, self.processes)
    }
}

/// What processes tell each other when a run ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Closing {
    /// Records that a worker holds open.
    Records(u64),
    /// Texts behind keys.
    Names(Vec<Entered>),
    /// The names of all files.
    Files(Vec<String>),
}

impl Company {
    /// Process `process` of `processes`, of `workers` workers each.
    #[must_use]
    pub fn of(process: usize, processes: usize, workers: usize) -> Self {
        Self {
            process,
            processes,
            workers,
            learn: None,
        }
    }

    /// Learns classes by `learn`.
    #[must_use]
    pub fn learning(self, learn: Learn) -> Self {
        Self {
            learn: Some(learn),
            ..self
        }
    }

    /// Whether there are other processes.
    #[must_use]
    pub fn is_many(&self) -> bool {
        self.processes > 1
    }

    /// Whether this is process 0.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.process == 0
    }

    /// Which process, in words.
    #[must_use]
    pub fn me(&self) -> String {
        format!("process {} of {}", self.process, self.processes)
    }

    /// Which worker of its process this one is.
    #[must_use]
    pub fn seat(&self, worker: &Worker) -> usize {
        worker.index() - self.process * self.workers
    }

    /// Which process a worker is of.
    #[must_use]
    pub fn process_of(&self, worker: u64) -> usize {
        usize::try_from(worker).unwrap_or(usize::MAX) / self.workers.max(1)
    }

    /// How many workers each process has.
    #[must_use]
    pub fn workers(&self) -> u64 {
        u64::try_from(self.workers).unwrap_or(u64::MAX)
    }

    /// The workers of the other processes than 0.
    pub fn workers_of_others(&self, worker: &Worker) -> Range<u64> {
        self.workers()..u64::try_from(worker.peers()).unwrap_or(0)
    }

    /// The first workers of the other processes than 0.
    fn others(&self) -> Vec<u64> {
        let first = |process: usize| u64::try_from(process * self.workers).unwrap_or(u64::MAX);
        (1..self.processes).map(first).collect()
    }

    /// Brings everything to worker 0.
    pub(crate) fn gather<'scope, D>(&self, all: Collection<'scope, D>) -> Collection<'scope, D>
    where
        D: ExchangeData + Ord,
    {
        if !self.is_many() {
            return all;
        }
        all.inner.exchange(|_| 0).as_collection()
    }

    /// Makes sure that every process knows a class before anything that is of it can be charged:
    /// whoever waits for the end of an epoch of what is returned also waits for all processes to have
    /// learned its classes.
    pub(crate) fn teach<'scope>(
        &self,
        classes: Collection<'scope, UsageClass>,
    ) -> Collection<'scope, UsageClass> {
        if !self.is_many() {
            return classes;
        }
        let (others, learn) = (self.others(), self.learn.clone());
        let learned = classes
            .inner
            .clone()
            .flat_map(move |(class, _, _)| {
                let to = move |other| (other, class.clone());
                others.clone().into_iter().map(to)
            })
            .exchange(|(other, _): &(u64, UsageClass)| *other)
            .flat_map(move |(_, class)| {
                learn.iter().for_each(|learn| learn(&class));
                None::<(UsageClass, Epoch, Diff)>
            });
        classes.concat(learned.as_collection())
    }

    /// Sends each message to a worker, and returns what came to this one, in the order of each sender.
    /// All workers of all processes do it at the same point.
    pub fn exchange<M>(
        &self,
        worker: &mut Worker,
        messages: impl IntoIterator<Item = (u64, M)>,
    ) -> Vec<M>
    where
        M: ExchangeData + Clone,
    {
        let come = Rc::new(RefCell::new(Vec::new()));
        let comes = Rc::clone(&come);
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, sent) = scope.new_input::<(u64, M)>();
            let (probe, _) = sent
                .exchange(|(to, _)| *to)
                .inspect(move |(_, message)| comes.borrow_mut().push(message.clone()))
                .probe();
            (input, probe)
        });
        for message in messages {
            input.send(message);
            input.flush();
        }
        input.close();
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
        come.take()
    }

    /// Sends values of any size to workers, at most one to each; returns what came to this one, by sender.
    /// All workers of all processes do it at the same point.
    ///
    /// # Panics
    /// When what came is not what a worker of this program sends.
    pub fn exchange_values<T>(&self, worker: &mut Worker, values: Vec<(u64, T)>) -> Vec<T>
    where
        T: Serialize + for<'de> Deserialize<'de>,
    {
        let from = u64::try_from(worker.index()).unwrap_or(u64::MAX);
        let mut pieces: Vec<(u64, (u64, Vec<u8>))> = Vec::new();
        for (to, value) in values {
            let bytes = bincode::serialize(&value).expect("memory takes all bytes");
            let cut = bytes.chunks(PIECE).map(<[u8]>::to_vec);
            pieces.extend(cut.map(|piece| (to, (from, piece))));
        }
        let mut come: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (from, mut piece) in self.exchange(worker, pieces) {
            come.entry(from).or_default().append(&mut piece);
        }
        let values = come.into_values();
        let value = |bytes: Vec<u8>| bincode::deserialize(&bytes);
        let values: Result<Vec<T>, _> = values.map(value).collect();
        values.expect("all processes run the same program")
    }

    /// The end of a run: the others learn the texts, where they need them, and all learn how many
    /// records are open.
    ///
    /// # Panics
    /// When a thread has panicked that held the list of files.
    pub fn close(
        &self,
        worker: &mut Worker,
        records: u64,
        names: &Names,
        files: &FileList,
        needs_texts: bool,
    ) -> u64 {
        let peers = u64::try_from(worker.peers()).unwrap_or(1);
        let mut told: Vec<(u64, Closing)> = (0..peers)
            .map(|to| (to, Closing::Records(records)))
            .collect();
        if worker.index() == 0 && needs_texts {
            let all = names.all();
            let files = files.read().expect("the list of files is not poisoned");
            let files: Vec<String> = files.iter().map(ToString::to_string).collect();
            for to in self.others() {
                let names = all.chunks(NAMES).map(|some| Closing::Names(some.to_vec()));
                told.extend(names.map(|names| (to, names)));
                told.push((to, Closing::Files(files.clone())));
            }
        }
        let mut records = 0;
        for closing in self.exchange(worker, told) {
            match closing {
                Closing::Records(more) => records += more,
                Closing::Names(entered) => {
                    for entered in &entered {
                        names.enter_again(entered);
                    }
                }
                Closing::Files(names) => {
                    let mut files = files.write().expect("the list of files is not poisoned");
                    *files = names.into_iter().map(Arc::from).collect();
                }
            }
        }
        records
    }
}
