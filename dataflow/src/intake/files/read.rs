//! Files, as they are opened, read and finished.

use super::opened::{Opened, SourceFile};
use super::opened::{format_of, is_compressed, opened};
use super::{CHUNK_ROWS, Files};
use crate::job::SourcePlan;
use millrace_connectors::decode::{DecodeOptions, Decoder};
use millrace_connectors::ledger::{FileState, LedgerEntry};
use millrace_connectors::mediate::MediationPlan;
use millrace_connectors::store::{FileMeta, Store, StoreError};
use millrace_operators::domain::FileId;
use std::sync::Arc;

impl Files {
    /// Opens a file for a look at its records as they stand.
    pub(in crate::intake) fn open_whole(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> Result<Opened, String> {
        let format = format_of(file, source)?;
        let options = DecodeOptions {
            chunk_rows: CHUNK_ROWS,
            keep_originals: !format.is_typed(),
            ..DecodeOptions::default()
        };
        let (store, meta, columns) = (&file.store, &file.meta, rule.columns());
        let decoder = Decoder::open(store, meta, file.id, &format, columns, &options)
            .map_err(|error| error.to_string())?;
        opened(file, decoder, rule)
    }

    /// The next file to read, of a source that is not paused.
    pub(in crate::intake) fn next(&mut self, paused: impl Fn(usize) -> bool) -> Option<SourceFile> {
        let known = &self.known;
        let reads = |id: &FileId| known.get(id).is_some_and(|file| !paused(file.source));
        let at = self.waiting.iter().position(reads)?;
        let id = self.waiting.remove(at)?;
        let file = self.known.get(&id).cloned()?;
        self.opened_at = file.store.bytes_read();
        Some(file)
    }

    /// Opens a file to be read for the first time, or on from where an earlier run was.
    pub(in crate::intake) fn open(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
        rows: usize,
    ) -> Result<Opened, String> {
        let skip = self.positions.get(&file.id).copied().unwrap_or(0);
        if skip > 0 {
            self.is_what_was_read(file)
                .map_err(|error| format!("{:?} is not read on: {error}", file.meta.name))?;
            if self.is_laid_out_otherwise(file.id, file.source) {
                let name = &file.meta.name;
                return Err(format!(
                    "{name:?} is not read on: {skip} rows of it were read in another format or layout"
                ));
            }
        }
        let format = format_of(file, source)?;
        let keeps = self.raw.keeps(&format);
        let options = DecodeOptions {
            chunk_rows: rows.min(CHUNK_ROWS),
            keep_originals: keeps,
            // A file that was cut in the middle is known by that when the whole one comes; where nothing
            // else tells records apart, one that was cut at the end of a row, too.
            remember: self.remembers || is_compressed(&file.meta.name) || !rule.has_identity(),
            ..DecodeOptions::default()
        };
        let decoder = Decoder::open(
            &file.store,
            &file.meta,
            file.id,
            &format,
            rule.columns(),
            &options,
        )
        .map_err(|error| error.to_string())?;
        let entry = self.ledger.entry(file.id);
        let counted = entry.map_or(0, |entry| entry.rows).max(skip);
        let archive = if keeps {
            let entry = self.ledger.entry(file.id);
            let checksum = entry.map(|entry| entry.checksum.clone());
            let checksum = checksum.unwrap_or_default();
            Some(self.raw.create(file, source, checksum, format)?)
        } else {
            None
        };
        Ok(Opened {
            archive,
            skip,
            counted,
            ..self.opened(file, decoder, rule)?
        })
    }

    /// Opens a file that was read before: its archive where there is one, or else the file itself.
    pub(in crate::intake) fn open_again(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> Result<Opened, String> {
        let options = DecodeOptions {
            chunk_rows: CHUNK_ROWS,
            ..DecodeOptions::default()
        };
        let format = format_of(file, source)?;
        let again = |error: &dyn std::fmt::Display| {
            format!("{:?} cannot be mediated again: {error}", file.meta.name)
        };
        // What is read on has no archive of its own yet.
        let entry = self.ledger.entry(file.id);
        let is_read = entry.is_some_and(|entry| entry.state != FileState::Reading);
        let decoder = if is_read && self.raw.keeps(&format) {
            let opened = self.raw.open(file, source, rule, &options);
            opened.map_err(|error| again(&error))?
        } else {
            self.is_what_was_read(file).map_err(|error| again(&error))?;
            Decoder::open(
                &file.store,
                &file.meta,
                file.id,
                &format,
                rule.columns(),
                &options,
            )
            .map_err(|error| again(&error))?
        };
        self.opened(file, decoder, rule)
    }

    pub(in crate::intake) fn opened(
        &self,
        file: &SourceFile,
        decoder: Decoder,
        rule: &MediationPlan,
    ) -> Result<Opened, String> {
        let mut opened = opened(file, decoder, rule)?;
        opened.replaces = self.ledger.entry(file.id).and_then(|entry| entry.replaces);
        if opened.replaces.is_some() {
            opened.mediator.restate();
        }
        Ok(opened)
    }

    /// Where the raw records of a file are kept.
    pub(in crate::intake) fn raw_of(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
    ) -> Result<(Arc<Store>, FileMeta), String> {
        self.raw.of_file(file, source)
    }

    /// Whether a file is there as it was read.
    pub(in crate::intake) fn is_there(&self, file: &SourceFile) -> bool {
        self.is_what_was_read(file).is_ok()
    }

    pub(in crate::intake) fn is_what_was_read(&self, file: &SourceFile) -> Result<(), String> {
        let told = |error: StoreError| error.to_string();
        if file.store.is_as_listed(&file.meta).map_err(told)? {
            return Ok(());
        }
        let now = FileMeta {
            etag: None,
            ..file.meta.clone()
        };
        let checksum = file.store.checksum(&now).map_err(told)?;
        let entry = self.ledger.entry(file.id);
        match entry.is_some_and(|entry| entry.checksum == checksum) {
            true => Ok(()),
            false => Err("its content has changed since it was read".to_owned()),
        }
    }

    /// A file that could not be opened; returns what a person should hear. One that an earlier run has
    /// read rows of, which count, stays as it is until it can be.
    pub(in crate::intake) fn failed(&mut self, id: FileId, message: String) -> Option<String> {
        if self.positions.get(&id).is_some_and(|rows| *rows > 0) {
            self.held.insert(id);
            return self.tell_once(id, message);
        }
        self.tried.insert(id);
        self.told.insert(id, message.clone());
        self.settle(id, FileState::Failed, 0, message.clone());
        Some(message)
    }

    /// A file that was read to its end, or to where it breaks off; returns what a person should hear.
    pub(in crate::intake) fn finish(&mut self, mut opened: Opened) -> Option<String> {
        self.note(&mut opened);
        let remark = opened.decoder.remark().map(str::to_owned);
        let archive = opened.archive.take();
        let archived = archive.map_or(Ok(()), |archive| self.raw.finish(opened.id, archive));
        let file = self.known.get(&opened.id);
        self.bytes_read += file.map_or(0, |file| file.meta.size);
        let name = file.map(|file| file.meta.name.clone()).unwrap_or_default();
        let (state, message) = match (&opened.broken, &archived) {
            (Some(fault), _) => (FileState::Incomplete, fault.detail.clone()),
            (None, Err(error)) => (
                FileState::Doubtful,
                format!("raw records are not kept: {error}"),
            ),
            (None, Ok(())) => match remark {
                Some(remark) => (FileState::Doubtful, remark),
                None => (FileState::Loaded, String::new()),
            },
        };
        let rows = opened.received.max(opened.counted);
        let mended = message.is_empty() && self.was_told_of(opened.id);
        self.settle(opened.id, state, rows, message.clone());
        if mended {
            return Some(format!("{name:?} is whole now: {rows} records"));
        }
        if message.is_empty() {
            return None;
        }
        self.told.insert(opened.id, message.clone());
        Some(format!("{name:?} is {}: {message}", state.name()))
    }

    /// Whether a person has heard that this file, or one before it under its name, could not be read, or
    /// not to its end.
    pub(in crate::intake) fn was_told_of(&self, id: FileId) -> bool {
        let Some(entry) = self.ledger.entry(id) else {
            return false;
        };
        let is_bad = |state| matches!(state, FileState::Failed | FileState::Incomplete);
        let same = |other: &&LedgerEntry| other.name == entry.name && other.stream == entry.stream;
        // Its own entry says how it is now, and not how it was before it was tried again.
        let others = self.ledger.entries().iter().filter(same);
        let mut others = others.filter(|other| other.file != id);
        self.told.contains_key(&id) || others.any(|other| is_bad(other.state))
    }

    /// Enters what has been read of a file so far.
    pub(in crate::intake) fn note(&mut self, opened: &mut Opened) {
        let content = opened.decoder.content();
        let Some(entry) = self.ledger.entry_mut(opened.id) else {
            return;
        };
        let settled = content.as_ref().map_or(u64::MAX, |content| content.settled);
        entry.torn = opened.unreadable.is_some_and(|row| row >= settled);
        entry.rows = opened.received.max(opened.counted);
        entry.broken.clone_from(&opened.broken);
        entry.lines.clone_from(&opened.lines);
        if opened.received >= opened.skip {
            self.ledger.read(opened.id, content);
        }
        self.changed.insert(opened.id);
    }
}
