//! Files of one source that begin alike, where nothing but its place tells a record from others.
//!
//! A file that was cut at the end of a row looks whole. So a new one is read behind the longest of those that
//! it begins with, and is a copy if it is itself the beginning of one, whichever of them comes first. It is
//! read for that row by row, for as long as another begins like it.

use super::Files;
use super::opened::SourceFile;
use millrace_connectors::decode::{Content, DecodeOptions, Decoder, Format};
use millrace_connectors::ledger::{FileState, LedgerEntry};
use millrace_operators::domain::FileId;
use std::collections::BTreeMap;

/// What a new file is beside the others of its source.
pub(super) enum Kin {
    /// It begins like none.
    None,
    /// It begins with all that was read of this one.
    Longer(FileId),
    /// All that it holds is the beginning of this one.
    Within(FileId),
    /// It begins with what has been read so far of this one, which is under way.
    Waits(FileId),
    /// It begins like this one, which can be read no more.
    Unknown(FileId),
}

/// How a new file begins.
#[derive(Default)]
struct Beginning {
    /// What it holds, if it was read to its end.
    whole: Option<Content>,
    /// Files that it may begin with.
    shorter: BTreeMap<FileId, Content>,
    /// Files that may begin with it.
    longer: BTreeMap<FileId, Content>,
}

impl Files {
    /// Compares a new file with the others of its source.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn kin(&self, file: &SourceFile, format: &Format) -> Result<Kin, String> {
        let Beginning {
            whole,
            shorter,
            longer,
        } = self.beginning(file, format)?;
        let mut unknown = None;
        if let Some(whole) = &whole {
            for (id, content) in shorter.iter().chain(&longer) {
                match self.is_within(whole, *id, content) {
                    Some(true) => return Ok(Kin::Within(*id)),
                    Some(false) => {}
                    None => unknown = Some(*id),
                }
            }
        }
        let mut lengths: Vec<u64> = shorter.values().map(|content| content.bytes).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let digests = match lengths.is_empty() {
            true => Vec::new(),
            false => Content::digests(&file.store, &file.meta, &lengths)
                .map_err(|error| error.to_string())?,
        };
        let digests: BTreeMap<u64, String> = lengths.into_iter().zip(digests).collect();
        let begins = |content: &Content| digests.get(&content.bytes) == Some(&content.digest);
        let begun = shorter.iter().filter(|(_, content)| begins(content));
        let longest = begun.max_by_key(|(id, content)| (content.bytes, **id));
        Ok(match (longest, unknown) {
            (Some((id, _)), _) => match self.ledger.entry(*id).map(|entry| entry.state) {
                Some(FileState::Reading) => Kin::Waits(*id),
                _ => Kin::Longer(*id),
            },
            (None, Some(id)) => Kin::Unknown(id),
            (None, None) => Kin::None,
        })
    }

    /// Reads a new file for as long as another begins like it.
    fn beginning(&self, file: &SourceFile, format: &Format) -> Result<Beginning, String> {
        let options = DecodeOptions {
            chunk_rows: 1,
            remember: true,
            ..DecodeOptions::default()
        };
        let mut beginning = Beginning::default();
        beginning
            .shorter
            .extend(contents(self.ledger.unsettled(file.id)));
        // One that cannot be opened says so when it is read.
        let Ok(mut decoder) =
            Decoder::open(&file.store, &file.meta, file.id, format, &[], &options)
        else {
            return Ok(Beginning::default());
        };
        let (mut rows, mut wanted) = (0_u64, 1_u64);
        loop {
            let chunk = decoder.next_chunk();
            rows += chunk.as_ref().map_or(0, |chunk| chunk.received);
            if chunk.is_some() && rows < wanted {
                continue;
            }
            let content = decoder.content().unwrap_or_default();
            if chunk.is_none() {
                if content.settled == 0 && rows == 1 {
                    let endings = content.endings(&file.store, &file.meta);
                    for head in endings.map_err(|error| error.to_string())? {
                        beginning
                            .longer
                            .extend(contents(self.ledger.alike(file.id, head)));
                    }
                }
                beginning.whole = Some(content).filter(|_| rows > 0);
                return Ok(beginning);
            }
            if content.settled < wanted {
                // The last row, or one behind which it breaks off.
                wanted = u64::MAX;
                continue;
            }
            let alike = content
                .heads
                .last()
                .map(|head| self.ledger.alike(file.id, *head));
            beginning.longer = contents(alike.into_iter().flatten()).collect();
            if beginning.longer.is_empty() {
                return Ok(beginning);
            }
            wanted *= 2;
            let end_before = beginning
                .longer
                .iter()
                .filter(|(_, content)| content.settled < wanted);
            let end_before = end_before.map(|(id, content)| (*id, content.clone()));
            beginning.shorter.extend(end_before.collect::<Vec<_>>());
        }
    }

    /// Whether `whole`, which is all of a new file, is the beginning of what was read of another; nothing
    /// where nobody can tell.
    fn is_within(&self, whole: &Content, id: FileId, content: &Content) -> Option<bool> {
        if whole.bytes >= content.bytes {
            return Some(whole.bytes == content.bytes && whole.digest == content.digest);
        }
        let file = self.known.get(&id)?;
        match whole.begins(&file.store, &file.meta) {
            Ok(true) => Some(true),
            _ => self.is_what_was_read(file).is_ok().then_some(false),
        }
    }
}

/// What was read of files, as far as it is remembered.
fn contents<'e>(
    entries: impl Iterator<Item = &'e LedgerEntry>,
) -> impl Iterator<Item = (FileId, Content)> {
    entries.filter_map(|entry| Some((entry.file, entry.content.clone()?)))
}
