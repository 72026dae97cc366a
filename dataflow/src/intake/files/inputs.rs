//! By what the records of each file were mediated, so that those of another rule are found, whenever it was
//! changed.

use super::{FileState, Files, Opened, SourceFile};
use crate::job::SourcePlan;
use millrace_connectors::digest::Digest;
use millrace_connectors::ledger::Inputs;
use millrace_connectors::mediate::MediationPlan;
use millrace_operators::domain::FileId;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Digests of how the files of a source are laid out, and of the rest that the outcome of its records
/// depends on.
fn inputs(source: &SourcePlan, rule: &MediationPlan) -> Inputs {
    let mut layout = Digest::default();
    let messages = source.kafka.as_ref().map(|kafka| &kafka.format);
    layout.enter(&format!(
        "{:?} {:?} {messages:?}",
        source.format, source.csv
    ));
    Inputs {
        layout: layout.hex(),
        rule: rule.inputs(),
    }
}

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

    /// Notes that all records of a file or partition are mediated by what is in force.
    pub(in crate::intake) fn mediated(&mut self, id: FileId) {
        let source = self.source_of(id);
        let inputs = source.and_then(|source| self.inputs.get(source).cloned());
        if let (Some(entry), Some(inputs)) = (self.ledger.entry_mut(id), inputs) {
            entry.inputs = inputs;
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
    pub(in crate::intake) fn goes_on_otherwise(&mut self, id: FileId) {
        if let Some(entry) = self.ledger.entry_mut(id)
            && !entry.inputs.rule.is_empty()
        {
            entry.inputs.rule.clear();
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
        if opened.skip == 0 || entry.is_some_and(|entry| entry.inputs == Inputs::default()) {
            self.mediated(opened.id);
        }
    }

    /// The rows of a file that count and were taken in, if any were.
    fn taken_in(&self, id: FileId) -> Option<Range<u64>> {
        let rows = self.range(id);
        match self.ledger.entry(id)?.state {
            FileState::Loaded | FileState::Incomplete => Some(rows),
            FileState::Reading => {
                let read = self.positions.get(&id).copied().unwrap_or(0);
                let rows = rows.start..rows.end.min(read);
                (!rows.is_empty()).then_some(rows)
            }
            _ => None,
        }
    }
}
