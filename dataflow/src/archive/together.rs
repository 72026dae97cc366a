//! Archiving in several processes: the workers of process 0 write, and those of the others hand them what
//! they hold.
//!
//! ```text
//!  worker 0 ── what is wanted ──► workers of other processes, each of what it holds
//!           ◄── groups, identities ──┤
//!           ◄── usage, pass by pass ─┘
//! ```
//!
//! Every worker of every process takes each step. What is laid on the table is the same as if all were of
//! one process, and so is what is written.

use super::closing::ClosingParts;
use super::collect::{begun, records};
use super::errand::{Errand, passes};
use super::groups::{Standings, standings, stands};
use super::{Closing, Collected, collect};
use crate::cluster::Company;
use crate::graph::{Open, Stand};
use crate::worker::Seat;
use jiff::Span;
use jiff::tz::TimeZone;
use millrace_operators::domain::{EventTime, GroupKey, Identity, RecordId};
use millrace_operators::epoch::shard;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use timely::worker::Worker;

/// A worker of process 0 that archives together with those of other processes.
pub struct Others<'a> {
    /// The worker.
    pub worker: &'a mut Worker,
    /// The processes.
    pub company: &'a Company,
}

/// What worker 0 tells the workers of other processes; nothing if nothing is archived.
type Told = Option<(ClosingParts, Errand)>;

/// What a worker knows of groups and records before it hands over usage.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    /// The first usage of each balance group.
    pub(super) begun: BTreeMap<GroupKey, EventTime>,
    pub(super) standings: BTreeMap<GroupKey, Standings>,
    /// Where groups stand behind what is closed.
    pub(super) stands: BTreeMap<GroupKey, Stand>,
    /// Rated records of closed bill units.
    pub(super) records: RoaringTreemap,
    /// The identities of all unique usage, by record.
    pub(super) identities: Vec<(RecordId, Identity)>,
}

impl Found {
    /// What a worker knows of what is wanted.
    pub(super) fn of(open: &Open, closing: &mut Closing, errand: &Errand) -> Self {
        let mut first: BTreeMap<GroupKey, EventTime> = BTreeMap::new();
        let mut identities = Vec::new();
        if errand.writes {
            begun(open, |group, time| {
                first.insert(group, time);
            });
            open.identities
                .visit(|identity, record| identities.push((record, identity)));
            identities.sort_unstable();
        }
        let (mut groups, mut rated) = (BTreeMap::new(), RoaringTreemap::new());
        if errand.forgets {
            groups = stands(open, &errand.groups);
            rated = records(open, |account, profile, time| {
                closing.period(account, profile, time).is_some()
            });
        }
        Self {
            begun: first,
            standings: standings(open, &errand.groups),
            stands: groups,
            records: rated,
            identities,
        }
    }
}

impl Others<'_> {
    /// Tells them what is wanted.
    pub(super) fn tell(&mut self, wanted: Option<(&Closing, &Errand)>) {
        let mut told: Vec<(u64, Told)> = Vec::new();
        if self.worker.index() == 0 {
            let wanted = wanted.map(|(closing, errand)| (closing.parts(), errand.clone()));
            let others = self.company.workers_of_others(self.worker);
            told.extend(others.map(|other| (other, wanted.clone())));
        }
        self.company.exchange_values(self.worker, told);
    }

    /// What they found.
    pub(super) fn found(&mut self) -> Vec<Found> {
        self.hear()
    }

    /// The usage of a pass that they hold.
    pub(super) fn collected(&mut self) -> Vec<Collected> {
        self.hear()
    }

    /// How many workers write.
    pub(super) fn writers(&self) -> u64 {
        self.company.workers()
    }

    fn hear<T: Serialize + for<'de> Deserialize<'de>>(&mut self) -> Vec<T> {
        self.company.exchange_values(self.worker, Vec::new())
    }
}

/// The part of a worker of another process than 0.
pub fn lend(
    worker: &mut Worker,
    company: &Company,
    open: &Open,
    seat: Seat,
    (zone, after): (TimeZone, Span),
) {
    let told: Vec<Told> = company.exchange_values(worker, Vec::new());
    let Some((closing, errand)) = told.into_iter().flatten().next() else {
        return;
    };
    let mut closing = Closing::of_parts(closing, zone, after);
    let found = Found::of(open, &mut closing, &errand);
    company.exchange_values(worker, vec![(0, found)]);
    if !errand.writes {
        return;
    }
    for shards in passes(seat) {
        let collected = collect(open, |account, profile, time| {
            let of_pass = shards.contains(&shard(account.0));
            of_pass.then(|| closing.period(account, profile, time))?
        });
        company.exchange_values(worker, vec![(0, collected)]);
    }
}
