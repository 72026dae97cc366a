//! By what the records of each file were mediated, so that those of another rule are found, whenever it was
//! changed, and so that people can be told.
//!
//! A record stays as a rule made it that is in force no more where it cannot be mediated again, or is archived. Which
//! do is noted when the others are mediated again; nothing is noted while nothing changes.

use super::mediated::{inputs, records_of};
use super::opened::{Opened, SourceFile};
use super::{FileState, Files};
use crate::durable::{KeptInputs, Stays, WantedInputs};
use crate::job::SourcePlan;
use millrace_connectors::ledger::Inputs;
use millrace_connectors::mediate::MediationPlan;
use millrace_operators::domain::{FileId, RecordId};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A file or partition of which some records are mediated by something else than what is in force.
pub(in crate::intake) struct Behind {
    pub(in crate::intake) id: FileId,
    pub(in crate::intake) source: usize,
    pub(in crate::intake) name: String,
    /// Its rows that count and were taken in.
    pub(in crate::intake) rows: Range<u64>,
    /// The file; nothing of a partition.
    pub(in crate::intake) file: Option<SourceFile>,
}

impl Files {
    /// Takes files to be mediated by these rules from now on.
    pub(in crate::intake) fn mediate_by(
        &mut self,
        sources: &[SourcePlan],
        rules: &[Arc<MediationPlan>],
    ) {
        let sources = sources.iter().zip(rules);
        self.inputs = sources.map(|(source, rule)| inputs(source, rule)).collect();
    }

    /// Keeps what records are mediated by as content.
    pub(in crate::intake) fn keep_inputs(
        &mut self,
        sources: &[SourcePlan],
        rules: &[Arc<MediationPlan>],
    ) {
        self.mediated.begin(sources, rules, &self.inputs);
    }

    /// Takes in what an earlier run kept of that.
    pub(in crate::intake) fn restore_inputs(&mut self, kept: KeptInputs, stays: Stays) {
        self.mediated.restore(kept, stays);
    }

    /// What is to be kept from the next commit on, if that has changed.
    pub(in crate::intake) fn take_inputs(&mut self) -> Option<WantedInputs> {
        if !self.mediated.changed {
            return None;
        }
        let entries = self.ledger.entries().iter();
        let by_entries = entries.flat_map(|entry| {
            let left = entry.left.iter().map(|(by, _)| by);
            [&entry.inputs].into_iter().chain(&entry.since).chain(left)
        });
        let by_stays: Vec<Inputs> = self.mediated.stays.keys().cloned().collect();
        let named = by_entries.chain(&by_stays);
        let named = named.flat_map(|by| [by.layout.as_str(), by.rule.as_str()]);
        Some(self.mediated.take(&named.collect()))
    }

    /// The records that stay as they were, since the last call.
    pub(in crate::intake) fn take_stays(&mut self) -> Vec<(Inputs, RoaringTreemap)> {
        std::mem::take(&mut self.mediated.fresh)
    }

    /// What records of a file are mediated by of which nothing else is noted.
    fn mediated_by(&self, id: FileId) -> Option<&Inputs> {
        let entry = self.ledger.entry(id)?;
        Some(entry.since.as_ref().unwrap_or(&entry.inputs))
    }

    /// By what a record was mediated, and whether that is in force; nothing where it is not known.
    pub(in crate::intake) fn inputs_of(&self, record: RecordId) -> Option<(Inputs, bool)> {
        let mut stays = self.mediated.stays.iter();
        let stays = stays.find(|(_, records)| records.contains(record.0));
        let by = match stays {
            Some((by, _)) => by,
            None => self.mediated_by(record.file())?,
        };
        let now = self.source_of(record.file());
        let now = now.and_then(|source| self.inputs.get(source));
        (!by.rule.is_empty()).then(|| (by.clone(), now == Some(by)))
    }

    /// Notes that the records within these rows of a file are mediated again, but for those that stay as they are.
    pub(in crate::intake) fn mediated_but(
        &mut self,
        id: FileId,
        rows: &Range<u64>,
        stay: RoaringTreemap,
    ) {
        let again = records_of(id, &self.received_of(id, rows)) - &stay;
        let mut back = RoaringTreemap::new();
        for held in self.mediated.stays.values_mut() {
            back |= &*held & &again;
            *held -= &again;
        }
        if !back.is_empty() {
            self.mediated.stays.retain(|_, held| !held.is_empty());
            self.mediated.fresh.push((Inputs::default(), back));
            self.mediated.changed = true;
        }
        self.stay(id, stay);
    }

    /// Notes that these records of a file stay as they are, while the others are mediated by what is in force.
    fn stay(&mut self, id: FileId, mut records: RoaringTreemap) {
        let source = self.source_of(id);
        let now = source.and_then(|source| self.inputs.get(source));
        let Some(by) = self.mediated_by(id).filter(|by| Some(*by) != now).cloned() else {
            return;
        };
        self.mediated
            .stays
            .values()
            .for_each(|held| records -= held);
        if records.is_empty() {
            return;
        }
        *self.mediated.stays.entry(by.clone()).or_default() |= &records;
        self.mediated.fresh.push((by, records));
    }

    /// The same of all records within these rows.
    pub(in crate::intake) fn all_stay(&mut self, id: FileId, rows: &Range<u64>) {
        self.stay(id, records_of(id, rows));
    }

    /// Those of these rows that were received: a file has an end.
    fn received_of(&self, id: FileId, rows: &Range<u64>) -> Range<u64> {
        let received = self.ledger.entry(id).map_or(0, |entry| entry.rows);
        match self.partitions.contains_key(&id) {
            true => rows.clone(),
            false => rows.start..rows.end.min(received),
        }
    }

    /// The records of these rows that are among others.
    pub(in crate::intake) fn among(
        &self,
        id: FileId,
        rows: &Range<u64>,
        others: [&RoaringTreemap; 2],
    ) -> RoaringTreemap {
        let all = records_of(id, &self.received_of(id, rows));
        let [one, other] = others;
        (&all & one) | (&all & other)
    }

    /// Notes that all records of a file or partition are mediated by what is in force.
    pub(in crate::intake) fn mediated(&mut self, id: FileId) {
        let source = self.source_of(id);
        let inputs = source.and_then(|source| self.inputs.get(source).cloned());
        if let (Some(entry), Some(inputs)) = (self.ledger.entry_mut(id), inputs) {
            // What was there before may be named no more.
            self.mediated.changed |= entry.inputs != Inputs::default() && entry.inputs != inputs;
            (entry.inputs, entry.since) = (inputs, None);
            self.changed.insert(id);
        }
    }

    fn is_behind(&self, id: FileId, source: usize) -> bool {
        let entry = self.ledger.entry(id);
        entry.map(|entry| &entry.inputs) != self.inputs.get(source)
    }

    /// Files and partitions of which some records are mediated by something else than what is in force; `read`
    /// says how far partitions are read.
    pub(in crate::intake) fn behind(&self, read: &BTreeMap<FileId, u64>) -> Vec<Behind> {
        let file = |file: &SourceFile| {
            Some(Behind {
                id: file.id,
                source: file.source,
                name: file.meta.name.clone(),
                rows: self.taken_in(file.id)?,
                file: Some(file.clone()),
            })
        };
        let partition = |id: FileId, source: usize, name: &str| {
            let next = read.get(&id).or(self.positions.get(&id));
            Behind {
                id,
                source,
                name: name.to_owned(),
                rows: self.range(id).start..next.copied().unwrap_or(0),
                file: None,
            }
        };
        let files = self.known.values();
        let files = files.filter(|file| self.is_behind(file.id, file.source));
        let partitions = self.partitions.iter();
        let partitions = partitions.filter(|(id, (source, _))| self.is_behind(**id, *source));
        let partitions = partitions.map(|(id, (source, meta))| partition(*id, *source, &meta.name));
        files.filter_map(file).chain(partitions).collect()
    }

    /// Whether rows of a file or partition were made by another layout than the one in force.
    pub(in crate::intake) fn is_laid_out_otherwise(&self, id: FileId, source: usize) -> bool {
        let entry = self.ledger.entry(id);
        let layout = entry.map_or("", |entry| entry.inputs.layout.as_str());
        let now = self.inputs.get(source);
        !layout.is_empty() && now.is_none_or(|now| now.layout != layout)
    }

    /// Notes that a partition stays as it is, while what comes is mediated by what is in force: no rule is that
    /// of all of it.
    pub(in crate::intake) fn goes_on_otherwise(&mut self, id: FileId, rows: &Range<u64>) {
        self.all_stay(id, rows);
        let source = self.source_of(id);
        let now = source.and_then(|source| self.inputs.get(source).cloned());
        if let Some(entry) = self.ledger.entry_mut(id)
            && !(entry.inputs.rule.is_empty() && entry.since == now)
        {
            entry.inputs.rule.clear();
            entry.since = now;
            self.changed.insert(id);
        }
    }

    /// Notes that so many records of a partition are not to be had any more, while the others are mediated
    /// again; whether these were mediated by something else than what is in force.
    pub(in crate::intake) fn leaves_behind(&mut self, id: FileId, records: u64) -> bool {
        let source = self.source_of(id);
        let now = source.and_then(|source| self.inputs.get(source).cloned());
        let Some(entry) = self.ledger.entry_mut(id) else {
            return false;
        };
        let by = match entry.left.take() {
            Some((by, left)) if records <= left || by == entry.inputs => by,
            // Some by this, and some by that.
            Some(_) => Inputs::default(),
            None => entry.inputs.clone(),
        };
        let differs = now.as_ref() != Some(&by);
        entry.left = Some((by, records));
        self.changed.insert(id);
        differs
    }

    /// Notes that a file is read from its first row on that counts; one that is read on is behind, if it was,
    /// until all of it is mediated again.
    pub(in crate::intake) fn begun(&mut self, opened: &Opened) {
        let entry = self.ledger.entry(opened.id);
        let source = self.source_of(opened.id);
        if opened.skip == 0 || entry.is_some_and(|entry| entry.inputs == Inputs::default()) {
            self.mediated(opened.id);
        } else if source.is_some_and(|source| self.is_behind(opened.id, source)) {
            let from = self.range(opened.id).start;
            self.goes_on_otherwise(opened.id, &(from..opened.skip));
        }
    }

    /// The rows of a file that count and were taken in, if any were.
    fn taken_in(&self, id: FileId) -> Option<Range<u64>> {
        let rows = self.range(id);
        match self.ledger.entry(id)?.state {
            state if state.counts() => Some(rows),
            FileState::Reading => {
                let read = self.positions.get(&id).copied().unwrap_or(0);
                let rows = rows.start..rows.end.min(read);
                (!rows.is_empty()).then_some(rows)
            }
            _ => None,
        }
    }
}
