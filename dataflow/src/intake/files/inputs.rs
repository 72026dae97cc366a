//! By what the records of each file were mediated, so that those of another rule are found, whenever it was
//! changed.

use super::{FileState, Files, Opened, SourceFile};
use crate::job::SourcePlan;
use millrace_connectors::digest::Digest;
use millrace_connectors::ledger::Inputs;
use millrace_connectors::mediate::MediationPlan;
use millrace_operators::domain::FileId;
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

    /// Files of which some records are mediated by something else than what is in force, with the rows of
    /// each that count and were taken in.
    pub(in crate::intake) fn behind(&self) -> Vec<(SourceFile, Range<u64>)> {
        let behind = self.known.values();
        let behind = behind.filter(|file| self.is_behind(file.id, file.source));
        let taken_in = |file: &SourceFile| Some((file.clone(), self.taken_in(file.id)?));
        behind.filter_map(taken_in).collect()
    }

    /// Whether rows of a file were made by another layout than the one in force.
    pub(in crate::intake) fn is_laid_out_otherwise(&self, file: &SourceFile) -> bool {
        let entry = self.ledger.entry(file.id);
        let layout = entry.map_or("", |entry| entry.inputs.layout.as_str());
        let now = self.inputs.get(file.source);
        !layout.is_empty() && now.is_none_or(|now| now.layout != layout)
    }

    /// Notes that a file is read from its first row on that counts; one that is read on is behind, if it was,
    /// until all of it is mediated again.
    pub(in crate::intake) fn begun(&mut self, opened: &Opened) {
        let entry = self.ledger.entry(opened.id);
        if opened.skip == 0 || entry.is_some_and(|entry| entry.inputs == Inputs::default()) {
            self.mediated(opened.id);
        }
    }

    /// Partitions of which some messages are mediated by something else than what is in force, with the
    /// source of each.
    pub(in crate::intake) fn partitions_behind(&self) -> Vec<(FileId, usize)> {
        let partitions = self.partitions.iter();
        let partitions = partitions.map(|(id, (source, _))| (*id, *source));
        partitions
            .filter(|(id, source)| self.is_behind(*id, *source))
            .collect()
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
