//! What each worker of a process is given, and what it does.

use crate::bundle::Feed;
use crate::cluster::Company;
use crate::graph::{GraphStats, Open, Resume};
use crate::publish::Outbox;
use crate::worker::{self, Seat};
use millrace_connectors::output::Texts;
use millrace_operators::aggregate::LineFinder;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use timely::worker::Worker;

/// What the workers of a process share.
pub(super) struct Seating {
    pub(super) feeds: Mutex<Vec<Option<Feed>>>,
    /// Handed out once per worker, so that the publisher ends when the last worker does.
    pub(super) outbox: Mutex<Option<(usize, Outbox)>>,
    pub(super) stats: Vec<GraphStats>,
    pub(super) records: AtomicUsize,
    pub(super) met: Barrier,
    pub(super) resume: Resume,
    pub(super) company: Company,
    pub(super) texts: Texts,
    /// Whether every process needs the texts in the end.
    pub(super) needs_texts: bool,
}

impl Seating {
    pub(super) fn of(
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

    pub(super) fn company(&self) -> &Company {
        &self.company
    }

    pub(super) fn outbox(&self) -> Outbox {
        let mut held = self.outbox.lock().expect("no worker has failed");
        let (left, outbox) = held.take().expect("one outbox per worker");
        if left > 1 {
            *held = Some((left - 1, outbox.clone()));
        }
        outbox
    }

    pub(super) fn work(
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
    pub(super) fn close(&self, worker: &mut Worker, records: usize) -> usize {
        let Texts { names, files, .. } = &self.texts;
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let company = &self.company;
        let all = company.close(worker, records, names, files, self.needs_texts);
        usize::try_from(all).unwrap_or(usize::MAX)
    }
}
