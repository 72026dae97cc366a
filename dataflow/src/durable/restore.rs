//! Restart: the journal of the newest manifest, fed to the graph again.
//!
//! Epochs in which nothing was taken back are fed together, some hundred thousand rows at a time; the
//! others each by themselves, because an input is net per epoch. Each lane of usage goes to one worker,
//! so records of one identity arrive in the order in which they did.

use super::applied::Applied;
use super::error::DurableError;
use super::inputs::KeptInputs;
use super::journal::{Entry, Epochs, FileRecord, Item, Line, facts_of};
use super::manifest::Manifest;
use crate::bundle::Bundle;
use crate::present::Witness;
use crate::publish::consolidate;
use millrace_connectors::ledger::Inputs;
use millrace_connectors::names::Names;
use millrace_connectors::reference::{HeldMessage, Reference, ReferenceChanges};
use millrace_connectors::store::Store;
use millrace_operators::domain::{
    Discard, EventTime, Fault, FileId, LineKey, LineSum, RecordId, Usage,
};
use millrace_operators::epoch::{Diff, Epoch};
use roaring::RoaringTreemap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rows fed together.
const ROWS: usize = 1 << 18;

/// Records that stay as something before made them, by what that is.
pub type Stays = BTreeMap<Inputs, RoaringTreemap>;

/// Committed state, about to be loaded.
#[derive(Clone)]
pub struct Restored {
    /// Where it is.
    pub store: Arc<Store>,
    /// What is committed.
    pub manifest: Manifest,
}

/// What the intake knows once state is loaded.
#[derive(Default)]
pub struct Known {
    /// The reference rows that the graph holds.
    pub reference: Reference,
    /// The instant that the graph takes for the present.
    pub clock: Option<EventTime>,
    /// Files and partitions, in the order of their numbers.
    pub files: Vec<FileRecord>,
    /// The next row or offset of those that are being read.
    pub positions: BTreeMap<FileId, u64>,
    /// Records received, by file and partition.
    pub received: BTreeMap<FileId, u64>,
    /// Sources that operators have paused.
    pub paused: BTreeSet<String>,
    /// The commands that were applied.
    pub commands: Applied,
    /// Messages of reference data that are held back.
    pub held: Vec<HeldMessage>,
    /// Records that operators have taken out of suspense.
    pub discards: BTreeMap<RecordId, Discard>,
    /// Records that were told beside the graph, because the archive has others of their identities.
    pub beside: RoaringTreemap,
    /// Records that were archived and came back, with the epoch of each.
    pub reopened: Vec<(Epoch, RecordId)>,
    /// See [`Facts::forgotten`](super::Facts::forgotten).
    pub forgotten: u64,
    /// The digests of the raw records of files.
    pub raw: BTreeMap<FileId, String>,
    /// What bears witness to the present.
    pub witness: Witness,
    /// Records that stay as something before made them.
    pub stays: Stays,
    /// What they were mediated by, as content.
    pub inputs: KeptInputs,
}

impl Restored {
    /// The first epoch that is not committed.
    #[must_use]
    pub fn live(&self) -> Epoch {
        self.manifest.live
    }

    /// Feeds everything committed to `workers` workers, part by part. All records of the sources
    /// that are `marked` are, if an earlier run did not know that they would be. Of the texts that this
    /// run has entered before, those that the journal does not bring are still to be made durable. `meet`
    /// hears of each file before its records are fed.
    ///
    /// # Errors
    /// When an object is missing or damaged, or cannot be read. `feed` ends the load by an error of its
    /// own.
    pub fn load<E: From<DurableError>>(
        &self,
        names: &Names,
        workers: usize,
        marked: &BTreeSet<String>,
        meet: impl Fn(&FileRecord),
        mut feed: impl FnMut(Vec<Bundle>) -> Result<(), E>,
    ) -> Result<Known, E> {
        let mut loading = Loading::new(workers);
        let mut restoring = names.restoring();
        for object in &self.manifest.journal {
            let content = object.read(&self.store)?;
            for item in Epochs::of(&content) {
                let item = item.map_err(|problem| object.damaged(&self.store, problem))?;
                match item {
                    Item::Facts(facts) => {
                        for entered in &facts.names {
                            restoring.enter(entered);
                        }
                        for file in facts.files {
                            meet(&file);
                            loading.files.insert(file.entry.file, file);
                        }
                        let next =
                            |(file, position): (FileId, super::Position)| (file, position.next);
                        (loading.paused, loading.commands) = (facts.paused, facts.commands);
                        (loading.forgotten, loading.witness) = (facts.forgotten, facts.witness);
                        loading.held = facts.held;
                        add_stays(&mut loading.stays, facts.stays);
                        loading.raw.extend(facts.raw);
                        loading.positions = facts.positions.into_iter().map(next).collect();
                    }
                    Item::Epoch(mut entry) => {
                        for class in &entry.head.classes {
                            names.enter_class(class);
                        }
                        if entry.epoch >= self.manifest.from {
                            loading.stand(self.manifest.from);
                        } else {
                            // It is in the lines.
                            entry.head.adjusted.clear();
                        }
                        // Epochs whose messages are made again are fed as they were.
                        let alone = !entry.is_plain() || entry.epoch >= self.manifest.from;
                        if alone || !loading.plain || loading.rows >= ROWS {
                            feed_parts(&mut loading, &mut feed)?;
                        }
                        loading.mark(&mut entry, marked);
                        loading.add(*entry);
                    }
                    Item::Lines(changes) => loading.change(changes),
                }
            }
        }
        loading.stand(self.manifest.from);
        feed_parts(&mut loading, &mut feed)?;
        restoring.finish();
        Ok(Known {
            reference: loading.reference.rows(),
            clock: loading.clock,
            files: loading.files.into_values().collect(),
            positions: loading.positions,
            received: loading.received,
            paused: loading.paused,
            commands: loading.commands,
            held: loading.held,
            discards: loading.discards,
            beside: loading.beside,
            reopened: loading.reopened,
            forgotten: loading.forgotten,
            raw: loading.raw,
            witness: loading.witness,
            stays: loading.stays,
            inputs: KeptInputs::of(&self.store, &self.manifest)?,
        })
    }
}

/// What the journal says of the records of a file, in their order.
#[derive(Debug, Default)]
pub struct Stood {
    /// Those that are usage.
    pub usage: Vec<Usage>,
    /// Those that were stopped, and what broke the file.
    pub faults: Vec<Fault>,
}

fn add_stays(stays: &mut Stays, more: Vec<(Inputs, RoaringTreemap)>) {
    for (by, records) in more {
        match by == Inputs::default() {
            // They were mediated again.
            true => stays.values_mut().for_each(|held| *held -= &records),
            false => *stays.entry(by).or_default() |= records,
        }
    }
    stays.retain(|_, held| !held.is_empty());
}

impl Restored {
    /// What is known of files beside their records: nothing is fed.
    ///
    /// # Errors
    /// When an object is missing or damaged, or cannot be read.
    pub fn files(&self) -> Result<Known, DurableError> {
        let (mut known, mut files) = (Known::default(), BTreeMap::new());
        for object in &self.manifest.journal {
            let content = object.read(&self.store)?;
            let facts = facts_of(&content);
            for facts in facts.map_err(|problem| object.damaged(&self.store, problem))? {
                let records = facts.files.into_iter();
                files.extend(records.map(|record| (record.entry.file, record)));
                let positions = facts.positions.into_iter();
                known.positions = positions.map(|(id, place)| (id, place.next)).collect();
                known.raw.extend(facts.raw);
                add_stays(&mut known.stays, facts.stays);
            }
        }
        known.files = files.into_values().collect();
        known.inputs = KeptInputs::of(&self.store, &self.manifest)?;
        Ok(known)
    }

    /// What the journal says of the records of these files, by file.
    ///
    /// # Errors
    /// When an object is missing or damaged, or cannot be read.
    pub fn stood(&self, files: &BTreeSet<FileId>) -> Result<BTreeMap<FileId, Stood>, DurableError> {
        let (usage, faults) = self.entered(|record| files.contains(&record.file()))?;
        let mut stood: BTreeMap<FileId, Stood> = BTreeMap::new();
        for usage in usage {
            let of_file = stood.entry(usage.record.file()).or_default();
            of_file.usage.push(usage);
        }
        for fault in faults {
            let of_file = stood.entry(fault.record.file()).or_default();
            of_file.faults.push(fault);
        }
        for of_file in stood.values_mut() {
            of_file.usage.sort_by_key(|usage| usage.record);
            of_file.faults.sort_by_key(|fault| fault.record);
        }
        Ok(stood)
    }

    /// What the journal says of a record.
    ///
    /// # Errors
    /// When an object is missing or damaged, or cannot be read.
    pub fn record(&self, record: RecordId) -> Result<(Option<Usage>, Option<Fault>), DurableError> {
        let (usage, faults) = self.entered(|entered| entered == record)?;
        let mut faults = faults.into_iter();
        let fault = faults.find(|fault| !fault.reason.is_of_file());
        Ok((usage.into_iter().next(), fault))
    }

    /// What the journal says of the records that are wanted.
    fn entered(
        &self,
        wanted: impl Fn(RecordId) -> bool,
    ) -> Result<(Vec<Usage>, Vec<Fault>), DurableError> {
        let (mut usage, mut faults) = (Vec::new(), Vec::new());
        for object in &self.manifest.journal {
            let content = object.read(&self.store)?;
            for item in Epochs::of(&content) {
                let item = item.map_err(|problem| object.damaged(&self.store, problem))?;
                let Item::Epoch(entry) = item else { continue };
                let rows = entry.lanes.into_iter().flat_map(|(_, rows)| rows);
                usage.extend(rows.filter(|(usage, _)| wanted(usage.record)));
                let told = entry.head.faults.into_iter();
                faults.extend(told.filter(|(fault, _)| wanted(fault.record)));
            }
        }
        let usage = consolidate(usage).into_iter().map(|(usage, _)| usage);
        let faults = consolidate(faults).into_iter().map(|(fault, _)| fault);
        Ok((usage.collect(), faults.collect()))
    }
}

fn feed_parts<E>(
    loading: &mut Loading,
    feed: &mut impl FnMut(Vec<Bundle>) -> Result<(), E>,
) -> Result<(), E> {
    if loading.empty {
        return Ok(());
    }
    let fresh = Loading::parts(loading.parts.len());
    (loading.empty, loading.plain, loading.rows) = (true, true, 0);
    feed(std::mem::replace(&mut loading.parts, fresh))
}

struct Loading {
    parts: Vec<Bundle>,
    empty: bool,
    plain: bool,
    rows: usize,
    reference: Accumulated,
    clock: Option<EventTime>,
    files: BTreeMap<FileId, FileRecord>,
    positions: BTreeMap<FileId, u64>,
    received: BTreeMap<FileId, u64>,
    paused: BTreeSet<String>,
    commands: Applied,
    held: Vec<HeldMessage>,
    discards: BTreeMap<RecordId, Discard>,
    beside: RoaringTreemap,
    reopened: Vec<(Epoch, RecordId)>,
    forgotten: u64,
    raw: BTreeMap<FileId, String>,
    witness: Witness,
    stays: Stays,
    /// Billing lines, until they are fed: before the epochs that make their changes again.
    lines: Option<BTreeMap<LineKey, LineSum>>,
}

impl Loading {
    fn new(workers: usize) -> Self {
        Self {
            parts: Self::parts(workers),
            empty: true,
            plain: true,
            rows: 0,
            reference: Accumulated::default(),
            clock: None,
            files: BTreeMap::new(),
            positions: BTreeMap::new(),
            received: BTreeMap::new(),
            paused: BTreeSet::new(),
            commands: Applied::default(),
            held: Vec::new(),
            discards: BTreeMap::new(),
            beside: RoaringTreemap::new(),
            reopened: Vec::new(),
            forgotten: 0,
            raw: BTreeMap::new(),
            witness: Witness::default(),
            stays: Stays::new(),
            lines: Some(BTreeMap::new()),
        }
    }

    fn parts(workers: usize) -> Vec<Bundle> {
        (0..workers.max(1)).map(|_| Bundle::default()).collect()
    }

    /// What the epochs of a commit did to billing lines.
    fn change(&mut self, moved: Vec<Line>) {
        let Some(lines) = &mut self.lines else {
            return;
        };
        for (key, sum) in moved {
            match sum {
                Some(sum) => lines.insert(key, sum),
                None => lines.remove(&key),
            };
        }
    }

    /// Feeds the lines that stood before epoch `from`.
    fn stand(&mut self, from: Epoch) {
        let lines = self.lines.take().unwrap_or_default();
        if lines.is_empty() {
            return;
        }
        if self.empty {
            self.empty = false;
            for part in &mut self.parts {
                part.epoch = from.saturating_sub(1);
            }
        }
        self.parts[0].take_lines(lines);
    }

    fn mark(&self, entry: &mut Entry, marked: &BTreeSet<String>) {
        if marked.is_empty() {
            return;
        }
        let lanes = entry.lanes.iter_mut();
        for (usage, _) in lanes.flat_map(|(_, rows)| rows) {
            let file = self.files.get(&usage.record.file());
            if file.is_some_and(|file| marked.contains(&file.source)) {
                usage.mark.get_or_insert_default();
            }
        }
    }

    fn add(&mut self, entry: Entry) {
        self.plain &= entry.is_plain();
        self.empty = false;
        self.reference.apply(&entry.head.reference);
        for (instant, diff) in &entry.head.clock {
            if *diff > 0 {
                self.clock = Some(*instant);
            }
        }
        for (duplicate, diff) in &entry.head.duplicates {
            match *diff > 0 {
                true => self.beside.insert(duplicate.record.0),
                false => self.beside.remove(duplicate.record.0),
            };
        }
        let reopened = entry.head.reopened.iter();
        self.reopened
            .extend(reopened.map(|record| (entry.epoch, *record)));
        for (file, records) in &entry.head.received {
            *self.received.entry(*file).or_default() += records;
        }
        for (discard, diff) in &entry.head.discards {
            match *diff > 0 {
                true => self.discards.insert(discard.record, *discard),
                false => self.discards.remove(&discard.record),
            };
        }
        let workers = self.parts.len();
        for part in &mut self.parts {
            part.epoch = entry.epoch;
        }
        for (lane, mut rows) in entry.lanes {
            self.rows += rows.len();
            // The order of arrival in an epoch is that of positions.
            rows.sort_by_key(|(usage, _)| usage.record);
            self.parts[usize::from(lane) % workers].take_usage(rows);
        }
        self.parts[0].take_head(entry.head);
    }
}

impl Entry {
    /// Whether it only adds records.
    fn is_plain(&self) -> bool {
        let adds = |diff: &Diff| *diff > 0;
        let mut usage = self.lanes.iter().flat_map(|(_, rows)| rows);
        self.head.is_plain() && usage.all(|(_, diff)| adds(diff))
    }
}

/// Reference rows, as changes add them up.
#[derive(Default)]
struct Accumulated {
    prices: BTreeSet<millrace_operators::domain::PriceRow>,
    plans: BTreeSet<millrace_operators::domain::PlanRow>,
    accounts: BTreeSet<millrace_operators::domain::Account>,
    subscriptions: BTreeSet<millrace_operators::domain::Subscription>,
    services: BTreeSet<millrace_operators::domain::ServiceUse>,
}

impl Accumulated {
    fn apply(&mut self, changes: &ReferenceChanges) {
        fn each<T: Ord + Clone>(rows: &mut BTreeSet<T>, changes: &[(T, isize)]) {
            for (row, diff) in changes {
                if *diff > 0 {
                    rows.insert(row.clone());
                } else {
                    rows.remove(row);
                }
            }
        }
        each(&mut self.prices, &changes.prices);
        each(&mut self.plans, &changes.plans);
        each(&mut self.accounts, &changes.accounts);
        each(&mut self.subscriptions, &changes.subscriptions);
        each(&mut self.services, &changes.services);
    }

    fn rows(self) -> Reference {
        Reference {
            prices: self.prices.into_iter().collect(),
            plans: self.plans.into_iter().collect(),
            accounts: self.accounts.into_iter().collect(),
            subscriptions: self.subscriptions.into_iter().collect(),
            services: self.services.into_iter().collect(),
        }
    }
}
