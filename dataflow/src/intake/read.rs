//! Files, found and read.

use super::files::{Begin, Opened, SourceFile, TakeBack};
use super::halt::Halt;
use super::{Intake, Keeping, Setting};
use crate::crash::{Crashes, Subject};
use crate::durable::{DurableError, FileRecord, Manifest, generation_of};
use crate::interrupt::is_asked_to_end;
use millrace_connectors::lines::LineMap;
use millrace_operators::domain::{FileId, Reason};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Intake {
    /// Enters new files of all sources.
    pub(super) fn discover(&mut self) -> Result<(), Halt> {
        let mut messages = Vec::new();
        let sources = self.setting.job.sources.iter().enumerate();
        for (index, source) in sources.filter(|(_, source)| source.kafka.is_none()) {
            messages.extend(self.files.discover(index, source, &self.setting.job.folder));
        }
        self.looked = Instant::now();
        self.setting.metrics.files_read(self.files.read_of(None));
        self.name_files();
        self.advise(messages)
    }

    /// Tells what is wrong with files, unless another run has taken over: it may have moved them, and that it
    /// has is then all there is to say.
    pub(super) fn advise(&self, messages: impl IntoIterator<Item = String>) -> Result<(), Halt> {
        let mut messages = messages.into_iter().peekable();
        if let (Some(Keeping { state, tag, .. }), Some(_)) =
            (&self.setting.keeping, messages.peek())
        {
            // Where the state cannot be looked at, the committer will say so.
            let newest = Manifest::newest(state).ok().flatten();
            let theirs = newest.map_or(0, |newest| newest.generation);
            let ours = generation_of(tag).unwrap_or(theirs);
            if theirs > ours {
                return Err(DurableError::Superseded { ours, theirs }.into());
            }
        }
        messages.for_each(|message| self.setting.listener.message(&message));
        Ok(())
    }

    /// Says which lines the records read so far stand on.
    pub(super) fn tell_lines(&self, id: FileId) {
        let Some(entry) = self.files.entry(id) else {
            return;
        };
        self.tell_lines_of(id, &entry.lines);
    }

    /// Says which lines the records of a file stand on, as far as nothing better is known.
    pub(super) fn tell_lines_of(&self, id: FileId, known: &LineMap) {
        let lines = self.setting.file_lines.read();
        let lines = lines.expect("the lines of files are not poisoned");
        let more = known.reaches_behind(lines.get(&id).unwrap_or(&LineMap::default()));
        drop(lines);
        if more {
            let lines = self.setting.file_lines.write();
            let mut lines = lines.expect("the lines of files are not poisoned");
            lines.insert(id, known.clone());
        }
    }

    /// Says how a file that an earlier run has met is called, and which lines its records stand on:
    /// before they are fed, because messages of them may be made again.
    pub(super) fn meet(&self, file: &FileRecord) {
        let entry = &file.entry;
        let names = self.setting.file_names.write();
        let mut names = names.expect("the list of files is not poisoned");
        let place = usize::try_from(entry.file.0).unwrap_or(usize::MAX);
        if names.len() <= place {
            names.resize(place.saturating_add(1), Arc::from(""));
        }
        names[place] = Arc::from(entry.name.as_str());
        drop(names);
        self.tell_lines_of(entry.file, &entry.lines);
    }

    pub(super) fn name_files(&self) {
        let names = self.setting.file_names.write();
        let mut names = names.expect("the list of files is not poisoned");
        // A name stays with its number.
        if names.len() != self.files.entries().len() {
            *names = self.files.names();
        }
    }

    /// Reads the files that wait, epoch by epoch.
    pub(super) fn read_all(&mut self) -> Result<(), Halt> {
        // Where the next run reads on, this one need not read all.
        while !(self.setting.keeping.is_some() && is_asked_to_end()) {
            if self.reading.is_none() {
                let Some(opened) = self.open_next()? else {
                    break;
                };
                self.reading = Some(opened);
            }
            self.read_chunk()?;
            if self.bundle.rows >= self.setting.job.epoch_rows {
                self.bind()?;
            }
        }
        // The last epoch of the first reading lets the publisher tell the bill; where there is none left,
        // an empty one does.
        let Setting {
            metrics,
            saved,
            keeping,
            bound,
            ..
        } = &self.setting;
        let tells = !metrics.is_all_read() && saved.is_some() && keeping.is_none();
        if self.bundle.is_empty() && !tells {
            metrics.all_read();
            return Ok(());
        }
        // First, so that no epoch before this one is taken for the last.
        bound.store(self.epoch + 1, Ordering::Relaxed);
        metrics.all_read();
        self.bind()
    }

    /// Opens the next file that can be opened.
    pub(super) fn open_next(&mut self) -> Result<Option<Opened>, Halt> {
        while let Some(file) = self.next_file() {
            if let Some(message) = self.reads(&file) {
                let failed = self.files.failed(file.id, message);
                self.advise(failed)?;
                continue;
            }
            let rule = Arc::clone(&self.setting.rules[file.source]);
            let begun = self.go_on(&file);
            let source = &self.setting.job.sources[file.source];
            let opened = match begun {
                Ok(true) => {
                    let rows = self.setting.job.epoch_rows;
                    self.files.open(&file, source, &rule, rows)
                }
                Ok(false) => {
                    self.reads_none();
                    continue;
                }
                Err(message) => Err(message),
            };
            match opened {
                Ok(opened) => {
                    self.files.begun(&opened);
                    return Ok(Some(opened));
                }
                Err(message) => {
                    let failed = self.files.failed(file.id, message);
                    let bundle = &mut self.bundle;
                    let healed = self.files.heal_by_known(file.id, source, bundle);
                    self.reads_none();
                    self.advise(healed.or(failed))?;
                }
            }
        }
        Ok(None)
    }

    pub(super) fn crashes(&mut self) -> Option<&mut Crashes> {
        self.setting.keeping.as_mut()?.crashes.as_mut()
    }

    /// Says that a file is being read from now on; why not, where run after run crashed at it.
    pub(super) fn reads(&mut self, file: &SourceFile) -> Option<String> {
        let entry = self.files.entry(file.id)?;
        let subject = Subject {
            source: entry.source.clone(),
            name: entry.name.clone(),
            checksum: entry.checksum.clone(),
        };
        let crashes = self.crashes()?;
        if crashes.blame(&subject) {
            let (name, job) = (&subject.name, self.setting.job.path.display());
            return Some(format!(
                "{name:?} is passed over: three runs in a row crashed while they read it; `millrace retry \
                 {job} --file {name:?}` has it read again"
            ));
        }
        crashes.reads(Some(&subject));
        None
    }

    pub(super) fn reads_none(&mut self) {
        if let Some(crashes) = self.crashes() {
            crashes.reads(None);
        }
    }

    pub(super) fn next_file(&mut self) -> Option<SourceFile> {
        let sources = &self.setting.job.sources;
        let paused = |source: usize| self.paused.contains(&sources[source].name);
        self.files.next(paused)
    }

    /// Prepares a file to be read on, if any of it was read before; says whether it is read now.
    pub(super) fn go_on(&mut self, file: &SourceFile) -> Result<bool, String> {
        let Setting {
            job,
            rules,
            closed,
            listener,
            wants_ignored,
            ..
        } = &self.setting;
        let archived = self.archived.as_ref();
        let beside = |record| archived.is_some_and(|archived| archived.told(record));
        let back = TakeBack {
            bundle: &mut self.bundle,
            wants_ignored: *wants_ignored,
            known: &|record| !closed.has(record) && !beside(record),
        };
        let (source, rule) = (&job.sources[file.source], &rules[file.source]);
        let (messages, reads) = match self.files.go_on(file, source, rule, back)? {
            Begin::Read(messages) => (messages, true),
            Begin::Refused(messages) => (messages, false),
        };
        messages
            .iter()
            .for_each(|message| listener.message(message));
        Ok(reads)
    }

    pub(super) fn read_chunk(&mut self) -> Result<(), Halt> {
        let Some(opened) = &mut self.reading else {
            return Ok(());
        };
        let chunk = opened.decoder.next_chunk();
        self.setting
            .metrics
            .files_read(self.files.read_of(Some(opened.id)));
        let Some(chunk) = chunk else {
            let Some(opened) = self.reading.take() else {
                return Ok(());
            };
            self.reads_none();
            let gone = opened
                .counted
                .saturating_sub(opened.received.max(opened.skip));
            if gone > 0 {
                self.bundle.ignore(opened.id, gone);
            }
            let id = opened.id;
            let missing = self.void_missing(&opened)?;
            self.warn_of_unmet(id, opened.decoder.unmet(), opened.chooses);
            let finished = self.files.finish(opened);
            self.tell_lines(id);
            let source = self.files.source_of(id);
            let healed = source.and_then(|source| {
                let source = &self.setting.job.sources[source];
                self.files.heal_by_known(id, source, &mut self.bundle)
            });
            return self.advise(missing.into_iter().chain(healed.or(finished)));
        };
        self.mediated.clear();
        opened.number_lines(&chunk);
        let before = opened.received;
        opened.received += chunk.received;
        let unused = opened.archive.is_none() && opened.replaces.is_none() && opened.chooses;
        if opened.received < opened.skip && unused {
            return Ok(());
        }
        opened
            .mediator
            .mediate(&chunk, opened.id, &mut self.mediated);
        opened.chooses |= self.mediated.chooses();
        if let Some(archive) = &mut opened.archive
            && let Err(error) = archive.write(&chunk, &self.mediated.usage)
        {
            self.setting
                .listener
                .message(&format!("raw records are not kept: {error}"));
            opened.archive = None;
        }
        if let Some(fault) = &mut self.mediated.file_fault {
            let source = self.files.source_of(opened.id);
            if let Some(source) = source {
                let (source, rule) = (
                    &self.setting.job.sources[source],
                    &self.setting.rules[source],
                );
                let advice = self.files.advice(fault, source, rule);
                fault.detail = format!("{}; {advice}", fault.detail);
            }
            opened.broken = Some(fault.clone());
        }
        opened.faults += self.mediated.faults.len();
        if before < opened.skip.max(opened.counted) {
            let left = opened.received.saturating_sub(before.max(opened.counted));
            self.mediated.skip_to(opened.skip, left);
        }
        if opened.skip > opened.received {
            // It was told before.
            self.mediated.file_fault = None;
        }
        if let Some(archived) = &mut self.archived {
            archived.tell(&mut self.mediated, &mut self.bundle)?;
        }
        let id = opened.id;
        let unreadable = self.mediated.faults.iter();
        let unreadable = unreadable.filter(|fault| fault.reason == Reason::RowUnreadable);
        let unreadable = unreadable.map(|fault| fault.record.row()).max();
        opened.unreadable = opened.unreadable.max(unreadable);
        self.bundle
            .add(&mut self.mediated, id, self.setting.wants_ignored);
        Ok(())
    }

    /// Takes out what a file that came in place of another has no more, where its source says so; returns
    /// what a person should hear.
    pub(super) fn void_missing(&mut self, opened: &Opened) -> Result<Option<String>, Halt> {
        let source = self.files.source_of(opened.id);
        let source = source.map(|source| &self.setting.job.sources[source]);
        let Some(replaces) = opened
            .replaces
            .filter(|_| source.is_some_and(|source| source.voids_missing))
        else {
            return Ok(None);
        };
        if opened.broken.is_some() || opened.faults > 0 {
            let name = self
                .files
                .file(opened.id)
                .map(|file| file.meta.name.as_str());
            let name = name.unwrap_or_default();
            return Ok(Some(format!(
                "{name:?} has records that cannot be read, so none that it had before is taken out; send it once more when they are mended"
            )));
        }
        self.bundle.replaced.push(((replaces, opened.id), 1));
        let before: BTreeSet<FileId> = std::iter::successors(Some(replaces), |file| {
            self.files.entry(*file).and_then(|entry| entry.replaces)
        })
        .collect();
        if let Some(archived) = &mut self.archived {
            archived.reopen_files(&before, &mut self.bundle)?;
        }
        Ok(None)
    }
}
