//! A file of a source, and one that is being read.

use super::raw::RawFile;
use crate::job::SourcePlan;
use millrace_connectors::decode::{Decoder, Format, RawChunk};
use millrace_connectors::lines::LineMap;
use millrace_connectors::mediate::{MediationPlan, Mediator};
use millrace_connectors::store::{FileMeta, Store};
use millrace_operators::domain::{Fault, FileId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file of a source.
#[derive(Clone)]
pub(in crate::intake) struct SourceFile {
    pub(in crate::intake) id: FileId,
    pub(in crate::intake) source: usize,
    pub(in crate::intake) store: Arc<Store>,
    pub(in crate::intake) meta: FileMeta,
}

/// A file being read.
pub(in crate::intake) struct Opened {
    pub(in crate::intake) id: FileId,
    pub(in crate::intake) decoder: Decoder,
    pub(in crate::intake) mediator: Mediator,
    pub(in crate::intake) archive: Option<RawFile>,
    pub(in crate::intake) received: u64,
    /// Rows that an earlier run took in: read, and not fed again.
    pub(in crate::intake) skip: u64,
    /// Rows that are counted as received already.
    pub(in crate::intake) counted: u64,
    /// What broke the file, if anything did.
    pub(in crate::intake) broken: Option<Fault>,
    /// The last row that was no record.
    pub(in crate::intake) unreadable: Option<u64>,
    /// The lines that its records stand on.
    pub(in crate::intake) lines: LineMap,
    /// The file that it came in place of, if its records restate those.
    pub(in crate::intake) replaces: Option<FileId>,
    /// Records that were stopped before they became usage.
    pub(in crate::intake) faults: usize,
    /// Whether the rule chooses any of its records.
    pub(in crate::intake) chooses: bool,
}

impl Opened {
    /// Remembers which lines the records of a chunk stand on.
    pub(in crate::intake) fn number_lines(&mut self, chunk: &RawChunk) {
        let of_rows = |fault: &&Fault| !fault.reason.is_of_file() && fault.line > 0;
        if !chunk.faults.iter().any(|fault| of_rows(&fault)) {
            return self.lines.add(&chunk.rows, &chunk.lines);
        }
        let faults = chunk.faults.iter().filter(of_rows);
        let faults = faults.map(|fault| (fault.record.row(), fault.line));
        let records = chunk.rows.iter().copied().zip(chunk.lines.iter().copied());
        let records: BTreeMap<u64, u64> = records.chain(faults).collect();
        let (rows, lines): (Vec<u64>, Vec<u64>) = records.into_iter().unzip();
        self.lines.add(&rows, &lines);
    }

    /// How far the file is read; what breaks a file counts like a row.
    pub(in crate::intake) fn position(&self) -> u64 {
        let read = self.received + u64::from(self.broken.is_some());
        read.max(self.skip)
    }
}

pub(super) fn opened(
    file: &SourceFile,
    decoder: Decoder,
    rule: &MediationPlan,
) -> Result<Opened, String> {
    let mediator = rule.mediator(decoder.schema()).map_err(|findings| {
        let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
        format!(
            "{:?} does not suit its mediation rule: {}",
            file.meta.name,
            told.join("; ")
        )
    })?;
    Ok(Opened {
        id: file.id,
        decoder,
        mediator,
        archive: None,
        received: 0,
        skip: 0,
        counted: 0,
        broken: None,
        unreadable: None,
        lines: LineMap::default(),
        replaces: None,
        faults: 0,
        chooses: false,
    })
}

pub(super) fn format_of(file: &SourceFile, source: &SourcePlan) -> Result<Format, String> {
    source.format_of(&file.meta.name).ok_or_else(|| {
        format!(
            "the format of {:?} cannot be told from its name; give the source {:?} a `format`, or leave \
             such files out with `exclude`",
            file.meta.name, source.name
        )
    })
}

pub(super) fn is_compressed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".gz") || name.ends_with(".zst")
}
