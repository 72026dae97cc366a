//! Files that go on behind what was read of them: one that has grown, under its own number, and one that
//! is the whole of another that was cut, under a new one.
//!
//! What was read stays, whatever identifies a record. Only the rows of which nothing says that they were
//! whole are taken back, and read again as they stand now; so is the fault that told of the cut.

use super::{Files, Opened, SourceFile};
use crate::intake::Bundle;
use crate::job::SourcePlan;
use millrace_connectors::decode::{Content, DecodeOptions, Decoder, Format};
use millrace_connectors::ledger::{LedgerEntry, Sight};
use millrace_connectors::mediate::{Mediated, MediationPlan};
use millrace_connectors::store::{FileMeta, Store};
use millrace_operators::domain::{FileId, RecordId};

/// A file of a source, looked into where its name and checksum do not tell what it is.
pub(super) struct Look<'a> {
    pub(super) store: &'a Store,
    pub(super) meta: &'a FileMeta,
    pub(super) format: Option<Format>,
}

impl Sight for Look<'_> {
    fn has_records(&self) -> bool {
        let Some(format) = &self.format else {
            return true;
        };
        if self.meta.size == 0 && !matches!(format, Format::Parquet) {
            return false;
        }
        let options = DecodeOptions {
            chunk_rows: 1,
            ..DecodeOptions::default()
        };
        let decoder = Decoder::open(self.store, self.meta, FileId(0), format, &[], &options);
        // One that cannot be opened says so when it is read.
        decoder.map_or(true, |mut decoder| decoder.next_chunk().is_some())
    }

    fn begins_with(&self, content: &Content) -> bool {
        // One that cannot be read does not.
        content.begins(self.store, self.meta).unwrap_or(false)
    }
}

/// Where what is taken back goes.
pub(in crate::intake) struct TakeBack<'a> {
    pub(in crate::intake) bundle: &'a mut Bundle,
    /// Whether an output wants each ignored record.
    pub(in crate::intake) wants_ignored: bool,
    /// Whether a record can still be taken back.
    pub(in crate::intake) known: &'a dyn Fn(RecordId) -> bool,
}

impl Files {
    /// Lets a file that has grown be read on; returns what a person should hear.
    pub(super) fn grown(&mut self, file: SourceFile) -> Option<String> {
        let (id, name) = (file.id, file.meta.name.clone());
        let entry = self.ledger.entry(id)?;
        let content = entry.content.as_ref().filter(|_| entry.rows > 0);
        let settled = content.map_or(0, |content| content.settled.min(entry.rows));
        self.positions.insert(id, settled);
        self.known.insert(id, file);
        self.changed.insert(id);
        self.held.remove(&id);
        if !self.waiting.contains(&id) {
            self.waiting.push_back(id);
        }
        (settled > 0)
            .then(|| format!("{name:?} has grown: it is read on behind its first {settled} rows"))
    }

    /// Prepares a file to be read on behind what was read of it, or of the file that it is the whole of;
    /// returns what a person should hear.
    ///
    /// # Errors
    /// When what was read of it cannot be read again.
    pub(in crate::intake) fn go_on(
        &mut self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
        back: TakeBack<'_>,
    ) -> Result<Option<String>, String> {
        let Some(entry) = self.ledger.entry(file.id).cloned() else {
            return Ok(None);
        };
        if entry.before.is_some() {
            self.take_back(
                file,
                &entry,
                entry.before.as_ref(),
                source,
                rule,
                back,
                false,
            )?;
            if let Some(entry) = self.ledger.entry_mut(file.id) {
                (entry.before, entry.broken) = (None, None);
            }
            self.changed.insert(file.id);
            return Ok(None);
        }
        let is_new = entry.rows == 0 && entry.from == 0 && !self.positions.contains_key(&file.id);
        let look = Look {
            store: &file.store,
            meta: &file.meta,
            format: None,
        };
        let cut = self.ledger.cut(file.id, &look).filter(|_| is_new);
        let Some(cut) = cut.and_then(|cut| self.ledger.entry(cut)).cloned() else {
            return Ok(None);
        };
        self.take_back(file, &cut, cut.content.as_ref(), source, rule, back, true)?;
        let settled = self.ledger.continues(file.id, cut.file);
        self.positions.insert(file.id, settled);
        self.changed.extend([file.id, cut.file]);
        Ok(Some(format!(
            "{:?} begins with all that was read of {:?}, which was cut: it is read on behind these {settled} \
             rows",
            file.meta.name, cut.name
        )))
    }

    /// Takes back the rows of `entry` behind those that are settled, as `file`, which begins with them,
    /// tells them; and the fault that told of the cut. Rows that are read from another file count as
    /// ignored from then on.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, for a file and for one that it is the whole of"
    )]
    fn take_back(
        &self,
        file: &SourceFile,
        entry: &LedgerEntry,
        content: Option<&Content>,
        source: &SourcePlan,
        rule: &MediationPlan,
        back: TakeBack<'_>,
        as_ignored: bool,
    ) -> Result<(), String> {
        let bundle = back.bundle;
        if let Some(broken) = &entry.broken {
            bundle.faults.push((broken.clone(), -1));
        }
        let Some(content) = content.filter(|content| content.settled < entry.rows) else {
            return Ok(());
        };
        let format = super::format_of(file, source)?;
        let options = DecodeOptions {
            bytes: Some(content.bytes),
            ..DecodeOptions::default()
        };
        let (store, meta, columns) = (&file.store, &file.meta, rule.columns());
        let decoder = Decoder::open(store, meta, entry.file, &format, columns, &options)
            .map_err(|error| error.to_string())?;
        let Opened {
            mut decoder,
            mut mediator,
            ..
        } = self.opened(file, decoder, rule)?;
        let mut mediated = Mediated::default();
        let mut reached = 0;
        while reached < entry.rows
            && let Some(chunk) = decoder.next_chunk()
        {
            reached += chunk.received;
            if reached <= content.settled {
                continue;
            }
            mediated.clear();
            mediator.mediate(&chunk, entry.file, &mut mediated);
            mediated.keep(|record| {
                (content.settled..entry.rows).contains(&record.row()) && (back.known)(record)
            });
            bundle.take_back(&mut mediated, entry.file, as_ignored, back.wants_ignored);
        }
        Ok(())
    }
}
