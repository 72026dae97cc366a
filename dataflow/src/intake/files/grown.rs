//! Files that go on behind what was read of them: one that has grown, under its own number, and one that
//! is the whole of another that was cut, under a new one.
//!
//! What was read stays, whatever identifies a record. Only the rows of which nothing says that they were
//! whole are taken back, and read again as they stand now; so is the fault that told of the cut.

use super::Files;
use super::kin::Kin;
use super::look::{Begin, Look, TakeBack};
use super::opened::{Opened, SourceFile};
use crate::bundle::Bundle;
use crate::job::SourcePlan;
use millrace_connectors::decode::{Content, DecodeOptions, Decoder, Format, is_cut_of};
use millrace_connectors::ledger::{FileState, LedgerEntry};
use millrace_connectors::mediate::{Mediated, MediationPlan};
use millrace_operators::domain::FileId;

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

    /// Prepares a file to be read on behind what was read of it, or of one that it begins with.
    ///
    /// # Errors
    /// When what was read of it cannot be read again.
    pub(in crate::intake) fn go_on(
        &mut self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
        mut back: TakeBack<'_>,
    ) -> Result<Begin, String> {
        let Some(entry) = self.ledger.entry(file.id).cloned() else {
            return Ok(Begin::Read(Vec::new()));
        };
        if entry.before.is_some() {
            let before = entry.before.as_ref();
            self.take_back(file, &entry, before, source, rule, &mut back, false)?;
            if let Some(entry) = self.ledger.entry_mut(file.id) {
                (entry.before, entry.broken) = (None, None);
            }
            self.changed.insert(file.id);
            return Ok(Begin::Read(Vec::new()));
        }
        if entry.rows > 0 || entry.from > 0 || self.positions.contains_key(&file.id) {
            return Ok(Begin::Read(Vec::new()));
        }
        let format = super::format_of(file, source)?;
        let mut messages = self.heal(file, &format, back.bundle);
        let begun = match rule.has_identity() {
            true => {
                let look = Look {
                    store: &file.store,
                    meta: &file.meta,
                    format: None,
                };
                self.ledger
                    .cut(file.id, &look)
                    .map_or(Kin::None, Kin::Longer)
            }
            false if format.is_typed() => Kin::None,
            false => self.kin(file, &format)?,
        };
        let (Kin::Longer(other) | Kin::Within(other) | Kin::Waits(other) | Kin::Unknown(other)) =
            begun
        else {
            return Ok(Begin::Read(messages));
        };
        let Some(other) = self.ledger.entry(other).cloned() else {
            return Ok(Begin::Read(messages));
        };
        let (name, before) = (&file.meta.name, &other.name);
        match begun {
            Kin::Within(_) => {
                let message = format!(
                    "{name:?} holds nothing but the beginning of {before:?}, which was loaded before; it is \
                     not billed twice"
                );
                self.settle(file.id, FileState::Refused, 0, message.clone());
                messages.push(format!("refused: {message}"));
                return Ok(Begin::Refused(messages));
            }
            Kin::Waits(_) if self.waiting.contains(&other.file) => {
                self.waiting.push_back(file.id);
                return Ok(Begin::Refused(messages));
            }
            Kin::Waits(_) => {
                return Err(format!(
                    "{name:?} begins like {before:?}, which is not read to its end; it is read when that is"
                ));
            }
            Kin::Unknown(_) => {
                return Err(format!(
                    "{name:?} begins like {before:?}, which was loaded before and is not there any more, so \
                     nothing tells whether it is the beginning of that; put {before:?} back to have it \
                     compared, or name fields in `identity`"
                ));
            }
            Kin::Longer(_) | Kin::None => {}
        }
        if other.until.is_none() {
            let content = other.content.as_ref();
            self.take_back(file, &other, content, source, rule, &mut back, true)?;
        }
        let settled = self.ledger.continues(file.id, other.file);
        self.positions.insert(file.id, settled);
        self.changed.extend([file.id, other.file]);
        let cut = match other.state {
            FileState::Incomplete => ", which was cut",
            _ => "",
        };
        messages.push(format!(
            "{name:?} begins with all that was read of {before:?}{cut}: it is read on behind these {settled} \
             rows"
        ));
        Ok(Begin::Read(messages))
    }

    /// Settles the files of which no record was read, and that a new one is the whole of; returns what a
    /// person should hear.
    fn heal(&mut self, file: &SourceFile, format: &Format, bundle: &mut Bundle) -> Vec<String> {
        let barren: Vec<FileId> = self.ledger.barren(file.id).collect();
        let is_whole_of = |part: &FileId| {
            let part = self.known.get(part);
            // One that came in its place is no other than it.
            let part = part.filter(|part| part.meta.location != file.meta.location);
            part.is_some_and(|part| {
                let mut others = self.others_than(file.id, part.id);
                is_cut(part, file, format) && !others.any(|other| is_cut(part, other, format))
            })
        };
        let healed: Vec<FileId> = barren.into_iter().filter(is_whole_of).collect();
        let settle = |part| self.settle_within(part, file.id, bundle);
        healed.into_iter().filter_map(settle).collect()
    }

    /// Settles a file of which no record was read, if one that was read before is the whole of it; returns
    /// what a person should hear.
    pub(in crate::intake) fn heal_by_known(
        &mut self,
        id: FileId,
        source: &SourcePlan,
        bundle: &mut Bundle,
    ) -> Option<String> {
        let part = self.known.get(&id)?;
        let format = source.format_of(&part.meta.name)?;
        if !self.ledger.is_barren(id) {
            return None;
        }
        let others = self.others_than(id, id);
        let wholes = others.filter(|whole| is_cut(part, whole, &format));
        let wholes: Vec<FileId> = wholes.map(|whole| whole.id).take(2).collect();
        match wholes[..] {
            [whole] => self.settle_within(id, whole, bundle),
            _ => None,
        }
    }

    fn settle_within(
        &mut self,
        part: FileId,
        whole: FileId,
        bundle: &mut Bundle,
    ) -> Option<String> {
        let broken = self.ledger.entry(part)?.broken.clone();
        if let Some(broken) = broken {
            bundle.forgive(broken);
        }
        self.ledger.is_in(part, whole);
        self.changed.insert(part);
        self.leaves(part);
        let name = |id| self.ledger.entry(id).map(|entry| entry.name.as_str());
        Some(format!(
            "{:?}, of which no record was read, is the beginning of {:?}",
            name(part)?,
            name(whole)?
        ))
    }

    /// Files of the source of `file` whose records count, but these two.
    fn others_than(&self, file: FileId, second: FileId) -> impl Iterator<Item = &SourceFile> {
        let source = self.source_of(file);
        let counts = move |other: &&SourceFile| {
            let entry = self.ledger.entry(other.id);
            let counts = entry.is_some_and(|entry| entry.rows > 0);
            counts && Some(other.source) == source && ![file, second].contains(&other.id)
        };
        self.known.values().filter(counts)
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
        back: &mut TakeBack<'_>,
        as_ignored: bool,
    ) -> Result<(), String> {
        let bundle = &mut *back.bundle;
        if let Some(broken) = &entry.broken {
            bundle.forgive(broken.clone());
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

fn is_cut(part: &SourceFile, whole: &SourceFile, format: &Format) -> bool {
    is_cut_of(
        (&part.store, &part.meta),
        (&whole.store, &whole.meta),
        format,
    )
}
