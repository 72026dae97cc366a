//! The file ledger: which files each source of a job has met, so that none is billed twice.
//!
//! ```text
//!   a file of a source       the ledger has                        it is
//!   ───────────────────────────────────────────────────────────────────────────────────────────
//!   this name, this content  in this source                        known: nothing to do
//!   another name             this content, with records            refused: a copy
//!   this name                a beginning of its content            read on behind that
//!   another name             a beginning, of a file that was cut   read on behind that
//!   another name             a beginning, where records are told   read on behind that
//!                            apart by their places alone
//!   another name             more, and it is a beginning of that   refused: a copy, where records are told
//!                                                                  apart by their places alone
//!   this name                other content                         refused: told, not guessed; or read,
//!                                                                  to amend what was read before, whatever
//!                                                                  its name has had in between
//!   any                      nothing of it                         read
//! ```
//!
//! - **A file belongs to its source.** Two sources may read the same file on purpose, and each bills it. A
//!   source that was renamed keeps its files as long as its stream and its path, or its brokers, stay; what
//!   a source read that the job no longer has is refused as a copy in any source of the stream.
//! - **Content** is the checksum of the file's bytes. A file without records is no copy of another: it
//!   cannot bill anything twice.
//! - **A beginning** is told by [`Content`]: the text up to the end of the last record that was read,
//!   compressed or not. Rows that were read stay as they are and keep their numbers. The row that a
//!   file ended with, where nothing says that it was whole, is taken back and read again. A file that was cut
//!   at the end of a row looks whole, so files are compared by how they begin ([`Beginnings`]).
//! - A file that failed before any record was taken may be sent again with other content, and is entered
//!   once as long as its content stays.

mod arrival;
mod beginnings;
mod entry;

use crate::decode::Content;
use crate::lines::LineMap;
use crate::stream::StreamId;
pub use arrival::{Admission, Arrival, Change, LedgerFull, Refusal, Sight};
use beginnings::Beginnings;
pub use entry::{FileState, Inputs, LedgerEntry};
use entry::{content_of, is_barren, is_passed_over, name_of, whole_of};
use millrace_operators::domain::{FileId, RecordId};
use std::collections::{BTreeSet, HashMap};

/// All files that a job has met.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    entries: Vec<LedgerEntry>,
    /// Files whose records count, by source and content, and by source and name.
    by_checksum: HashMap<(String, String), FileId>,
    by_name: HashMap<(String, String), FileId>,
    /// Files whose records do not count, by source, name and content: each is entered once, however
    /// often its folder is listed.
    passed_over: HashMap<(String, String, String), FileId>,
    /// Files of sources that the job no longer has, by stream and content.
    lost: HashMap<(StreamId, String), FileId>,
    /// Files that were cut, by source.
    cut: BTreeSet<(String, FileId)>,
    beginnings: Beginnings,
    /// Files that are broken, and of which no record counts.
    barren: BTreeSet<FileId>,
}

impl Ledger {
    /// The ledger that an earlier run wrote, for a job with these sources.
    #[must_use]
    pub fn restore(entries: Vec<LedgerEntry>, has_source: impl Fn(&str) -> bool) -> Self {
        let mut ledger = Self::default();
        for entry in &entries {
            if is_barren(entry) {
                ledger.barren.insert(entry.file);
            }
            if has_source(&entry.source) {
                ledger.remember(entry);
            } else if !is_passed_over(entry.state) {
                let content = (entry.stream.clone(), entry.checksum.clone());
                ledger.lost.insert(content, entry.file);
            }
        }
        Self { entries, ..ledger }
    }

    fn remember(&mut self, entry: &LedgerEntry) {
        if is_passed_over(entry.state) {
            self.passed_over.insert(whole_of(entry), entry.file);
            return;
        }
        self.by_checksum.insert(content_of(entry), entry.file);
        self.by_name.insert(name_of(entry), entry.file);
        if entry.is_cut() {
            self.cut.insert((entry.source.clone(), entry.file));
        }
        if let Some(content) = &entry.content {
            self.beginnings.add(&entry.source, entry.file, content);
        }
    }

    /// Enters a file, unless it was there before.
    ///
    /// # Errors
    /// When no number is left for it.
    pub fn admit(&mut self, arrival: Arrival, sight: &impl Sight) -> Result<Admission, LedgerFull> {
        let Arrival {
            name,
            source,
            checksum,
            ..
        } = &arrival;
        let content = (source.clone(), checksum.clone());
        let named = self.by_name.get(&(source.clone(), name.clone())).copied();
        let copied = self.by_checksum.get(&content).copied();
        if let Some(file) = named.filter(|named| copied == Some(*named)) {
            return Ok(Admission::Known(file));
        }
        // What was there before under this name may be there again.
        let again = copied.and_then(|copied| self.entry(copied));
        let again = copied.is_none() || again.is_some_and(|entry| entry.name == *name);
        if let Some(earlier) = named.filter(|_| arrival.amends && again) {
            match self.change(earlier, &arrival, sight) {
                Change::Changed => {
                    let file = self.enter(arrival)?;
                    if let Some(entry) = self.entry_mut(file) {
                        entry.replaces = Some(earlier);
                    }
                    return Ok(Admission::Admitted(file));
                }
                Change::Longer => {
                    self.grow(earlier, arrival);
                    return Ok(Admission::Grown(earlier));
                }
                Change::Same => {}
            }
        }
        let key = (source.clone(), name.clone(), checksum.clone());
        if let Some(file) = self.passed_over.get(&key) {
            return Ok(Admission::Known(*file));
        }
        let lost = (arrival.stream.clone(), checksum.clone());
        let copied = copied.or_else(|| self.lost.get(&lost).copied());
        if let Some(earlier) = copied.filter(|_| sight.has_records()) {
            return self.refuse(arrival, earlier, |earlier, arrival| {
                let (name, known) = (&arrival.name, &earlier.name);
                let by = match earlier.source == arrival.source {
                    true => String::new(),
                    false => format!(
                        " by the source {:?}, which the job no longer has",
                        earlier.source
                    ),
                };
                format!(
                    "{name:?} has the same content as {known:?}, which was loaded before{by}; it is not \
                     billed twice"
                )
            });
        }
        let Some(earlier) = named else {
            return self.enter(arrival).map(Admission::Admitted);
        };
        match self.change(earlier, &arrival, sight) {
            Change::Same => Ok(Admission::Known(earlier)),
            Change::Longer => {
                self.grow(earlier, arrival);
                Ok(Admission::Grown(earlier))
            }
            // What follows it is read from another file, and this one may be read behind that.
            Change::Changed if self.is_continued(earlier, sight) => {
                self.enter(arrival).map(Admission::Admitted)
            }
            Change::Changed => self.refuse(arrival, earlier, |earlier, arrival| {
                let (name, rows) = (&arrival.name, earlier.rows);
                format!(
                    "{name:?} was loaded before with other content, and the {rows} rows that were read are \
                     not its beginning: what it holds now is not read; write `on_change: amend` at its source \
                     to have it correct what was billed, or send the changed rows to a source with \
                     `corrections: true` and the rows that are new in a file of their own"
                )
            }),
        }
    }

    /// What an arrival is beside the file that was read under its name.
    #[must_use]
    pub fn change(&self, earlier: FileId, arrival: &Arrival, sight: &impl Sight) -> Change {
        let Some(entry) = self.entry(earlier) else {
            return Change::Changed;
        };
        if entry.checksum == arrival.checksum {
            return Change::Same;
        }
        let begins = match &entry.content {
            _ if entry.until.is_some() => false,
            _ if entry.rows == 0 => true,
            Some(content) => sight.begins_with(content),
            None => false,
        };
        match begins {
            true => Change::Longer,
            false => Change::Changed,
        }
    }

    /// Whether another file is read behind one with which the arrival begins.
    fn is_continued(&self, earlier: FileId, sight: &impl Sight) -> bool {
        let entry = self.entry(earlier).filter(|entry| entry.until.is_some());
        let content = entry.and_then(|entry| entry.content.as_ref());
        content.is_some_and(|content| sight.begins_with(content))
    }

    /// The file that was cut and that a new one is the whole of.
    #[must_use]
    pub fn cut(&self, file: FileId, sight: &impl Sight) -> Option<FileId> {
        let entry = self.entry(file)?;
        let first = (entry.source.clone(), FileId(0));
        let of_source = self.cut.range(first..);
        let of_source = of_source.take_while(|(source, _)| *source == entry.source);
        let others = of_source.filter(|(_, cut)| *cut != file);
        let begun = others.filter_map(|(_, cut)| {
            let content = self.entry(*cut)?.content.as_ref()?;
            sight.begins_with(content).then_some((content.bytes, *cut))
        });
        begun.max().map(|(_, cut)| cut)
    }

    /// Says that a new file begins with all of another; returns from which of its rows on it is read.
    pub fn continues(&mut self, file: FileId, cut: FileId) -> u64 {
        let name = self
            .entry(file)
            .map_or_else(String::new, |entry| entry.name.clone());
        let Some(entry) = self.entry_mut(cut) else {
            return 0;
        };
        let settled = entry.content.as_ref().map_or(0, |content| content.settled);
        if entry.until.is_none() {
            (entry.state, entry.message) =
                (FileState::Loaded, format!("its end is read from {name:?}"));
            (entry.until, entry.torn) = (Some(settled), false);
            (entry.before, entry.broken) = (None, None);
        }
        let source = entry.source.clone();
        self.cut.remove(&(source, cut));
        if let Some(entry) = self.entry_mut(file) {
            entry.from = settled;
        }
        settled
    }

    fn enter(&mut self, arrival: Arrival) -> Result<FileId, LedgerFull> {
        let number = u32::try_from(self.entries.len()).ok();
        let number = number.filter(|number| *number < RecordId::FILES_MAX);
        let Some(file) = number.map(FileId) else {
            return Err(LedgerFull { name: arrival.name });
        };
        let Arrival {
            name,
            source,
            stream,
            size,
            checksum,
            ..
        } = arrival;
        let entry = LedgerEntry {
            file,
            name,
            source,
            stream,
            size,
            checksum,
            rows: 0,
            state: FileState::Reading,
            message: String::new(),
            content: None,
            unmet: Vec::new(),
            torn: false,
            broken: None,
            from: 0,
            until: None,
            before: None,
            lines: LineMap::default(),
            replaces: None,
            inputs: Inputs::default(),
            left: None,
            since: None,
        };
        self.remember(&entry);
        self.entries.push(entry);
        Ok(file)
    }

    fn refuse(
        &mut self,
        arrival: Arrival,
        earlier: FileId,
        message: impl FnOnce(&LedgerEntry, &Arrival) -> String,
    ) -> Result<Admission, LedgerFull> {
        let known = self.entry(earlier);
        let message = known.map_or_else(String::new, |known| message(known, &arrival));
        let key = (arrival.source.clone(), arrival.name.clone());
        let content = (arrival.source.clone(), arrival.checksum.clone());
        let before = (
            self.by_name.get(&key).copied(),
            self.by_checksum.get(&content).copied(),
        );
        let file = self.enter(arrival)?;
        // It counts under neither.
        restore_to(&mut self.by_name, key, before.0);
        restore_to(&mut self.by_checksum, content, before.1);
        if let Some(entry) = self.entry_mut(file) {
            (entry.state, entry.message) = (FileState::Refused, message.clone());
            let key = whole_of(entry);
            self.passed_over.insert(key, file);
        }
        Ok(Admission::Refused(Refusal {
            file,
            earlier,
            message,
        }))
    }

    /// Lets a file be read on whose content begins with what was read of it.
    fn grow(&mut self, file: FileId, arrival: Arrival) {
        let Some(entry) = self.entry_mut(file) else {
            return;
        };
        let old = content_of(entry);
        let unsettled = entry
            .content
            .as_ref()
            .is_some_and(|content| content.settled < entry.rows);
        if unsettled || entry.broken.is_some() {
            entry.before = entry.content.clone();
        }
        (entry.size, entry.checksum) = (arrival.size, arrival.checksum);
        (entry.state, entry.message) = (FileState::Reading, String::new());
        let (new, source) = (content_of(entry), entry.source.clone());
        if self.by_checksum.get(&old) == Some(&file) {
            self.by_checksum.remove(&old);
        }
        self.by_checksum.insert(new, file);
        self.cut.remove(&(source, file));
    }

    /// Says what became of a file. One that failed may knock again with other content.
    pub fn settle(
        &mut self,
        file: FileId,
        state: FileState,
        rows: u64,
        message: impl Into<String>,
    ) {
        let Some(entry) = self.entry_mut(file) else {
            return;
        };
        (entry.state, entry.rows, entry.message) = (state, rows, message.into());
        let entry = entry.clone();
        match is_barren(&entry) {
            true => self.barren.insert(file),
            false => self.barren.remove(&file),
        };
        if is_passed_over(state) {
            let (content, name) = (content_of(&entry), name_of(&entry));
            if self.by_checksum.get(&content) == Some(&file) {
                self.by_checksum.remove(&content);
            }
            if self.by_name.get(&name) == Some(&file) {
                self.by_name.remove(&name);
            }
            self.passed_over.insert(whole_of(&entry), file);
        } else if entry.is_cut() {
            self.cut.insert((entry.source, file));
        }
    }

    /// Enters what has been read of a file.
    pub fn read(&mut self, file: FileId, content: Option<Content>) {
        let Some(entry) = self.entries.get_mut(index(file)) else {
            return;
        };
        if let Some(content) = &content {
            self.beginnings.add(&entry.source, file, content);
        }
        entry.content = content;
    }

    /// Files of the source of `file` that count and whose first rows are remembered by this hash.
    pub fn alike(&self, file: FileId, head: u64) -> impl Iterator<Item = &LedgerEntry> {
        let source = self.entry(file).map(|entry| entry.source.as_str());
        let alike = source.map(|source| self.beginnings.alike(source, head));
        self.counting(file, alike.unwrap_or_default().iter().copied())
    }

    /// Files of the source of `file` that count, of which nothing says that their first row is whole.
    pub fn unsettled(&self, file: FileId) -> impl Iterator<Item = &LedgerEntry> {
        let source = self.entry(file).map(|entry| entry.source.as_str());
        let files = source.map(|source| self.beginnings.unsettled(source));
        self.counting(file, files.into_iter().flatten())
    }

    fn counting(
        &self,
        file: FileId,
        files: impl Iterator<Item = FileId>,
    ) -> impl Iterator<Item = &LedgerEntry> {
        let others = files.filter(move |other| *other != file);
        let entries = others.filter_map(|other| self.entry(other));
        entries.filter(|entry| !is_passed_over(entry.state) && entry.rows > 0)
    }

    /// Files of the source of `file` that are broken, and of which no record counts.
    pub fn barren(&self, file: FileId) -> impl Iterator<Item = FileId> {
        let source = self.entry(file).map(|entry| entry.source.as_str());
        let barren = self.barren.iter().filter_map(|barren| self.entry(*barren));
        let of_source = move |entry: &&LedgerEntry| Some(entry.source.as_str()) == source;
        let barren = barren.filter(move |entry| is_barren(entry) && entry.file != file);
        barren.filter(of_source).map(|entry| entry.file)
    }

    /// Whether a file is broken, and no record of it counts.
    #[must_use]
    pub fn is_barren(&self, file: FileId) -> bool {
        self.entry(file).is_some_and(is_barren)
    }

    /// Says that all of a file, of which no record counts, is read from another.
    pub fn is_in(&mut self, file: FileId, whole: FileId) {
        let name = self.entry(whole).map(|entry| entry.name.clone());
        let name = name.unwrap_or_default();
        let Some(entry) = self.entry_mut(file) else {
            return;
        };
        (entry.state, entry.message) = (FileState::Loaded, format!("it is read from {name:?}"));
        (entry.until, entry.broken) = (Some(0), None);
        let entry = entry.clone();
        self.barren.remove(&file);
        self.passed_over.remove(&whole_of(&entry));
        self.by_checksum.entry(content_of(&entry)).or_insert(file);
        self.by_name.entry(name_of(&entry)).or_insert(file);
    }

    /// Lets a file that failed be read under its number after all; says whether it may. It may not when
    /// its content or its name has been loaded from another file meanwhile.
    pub fn retry(&mut self, file: FileId) -> bool {
        let Some(entry) = self.entry(file).cloned() else {
            return false;
        };
        let taken = self.by_name.contains_key(&name_of(&entry))
            || self.by_checksum.contains_key(&content_of(&entry));
        if entry.state != FileState::Failed || taken {
            return false;
        }
        if let Some(entry) = self.entry_mut(file) {
            (entry.state, entry.message) = (FileState::Reading, String::new());
        }
        self.passed_over.remove(&whole_of(&entry));
        self.by_checksum.insert(content_of(&entry), file);
        self.by_name.insert(name_of(&entry), file);
        true
    }

    /// The file of a source that counts under a name.
    #[must_use]
    pub fn named(&self, source: &str, name: &str) -> Option<&LedgerEntry> {
        let file = self.by_name.get(&(source.to_owned(), name.to_owned()))?;
        self.entry(*file)
    }

    /// The entry of a file.
    #[must_use]
    pub fn entry(&self, file: FileId) -> Option<&LedgerEntry> {
        self.entries.get(index(file))
    }

    /// The entry of a file, for what is known of its content; its name and state are the ledger's.
    pub fn entry_mut(&mut self, file: FileId) -> Option<&mut LedgerEntry> {
        self.entries.get_mut(index(file))
    }

    /// All entries, in the order of discovery.
    #[must_use]
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }
}

fn index(file: FileId) -> usize {
    usize::try_from(file.0).unwrap_or(usize::MAX)
}

fn restore_to<K: std::hash::Hash + Eq>(
    map: &mut HashMap<K, FileId>,
    key: K,
    before: Option<FileId>,
) {
    match before {
        Some(file) => map.insert(key, file),
        None => map.remove(&key),
    };
}

#[cfg(test)]
mod tests;
