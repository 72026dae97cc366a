//! Files leave their input folders when they are read: to `processed` where their records count, to
//! `failed` otherwise. What moves is what was read, whatever lies under its name by then, and nothing is
//! written over.

use super::{Files, SourcePlan};
use millrace_connectors::ledger::{FileState, LedgerEntry};
use millrace_connectors::store::{FileMeta, Store, StoreError};
use millrace_operators::domain::FileId;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Where files move whose records count.
const PROCESSED: &str = "processed";
/// Where other files move.
const FAILED: &str = "failed";

impl Files {
    /// Whether files wait to be moved.
    pub(in crate::intake) fn to_move(&self) -> bool {
        !self.read.is_empty()
    }

    /// Moves the files that were read out of their input folders; returns what a person should hear.
    pub(in crate::intake) fn move_read(
        &mut self,
        sources: &[SourcePlan],
        folder: &Path,
    ) -> Vec<String> {
        let mut messages = Vec::new();
        for id in std::mem::take(&mut self.read) {
            let (Some(file), Some(entry)) = (self.known.get(&id), self.ledger.entry(id)) else {
                continue;
            };
            let Some(root) = &sources[file.source].moves_in else {
                continue;
            };
            let entry = entry.clone();
            match self.move_away(&entry, file.source, root, folder) {
                Ok(()) => {
                    self.told.remove(&id);
                }
                Err(error) => {
                    let message = format!("{:?} stays in its input folder: {error}", entry.name);
                    messages.extend(self.tell_once(id, message));
                }
            }
        }
        messages
    }

    /// Moves a file, if what lies under its name is what was read. One that is gone was moved before.
    fn move_away(
        &mut self,
        entry: &LedgerEntry,
        source: usize,
        root: &str,
        folder: &Path,
    ) -> Result<(), StoreError> {
        let Some(place) = place_of(entry.state) else {
            return Ok(());
        };
        let store = self.store(root, folder)?;
        let input = format!("input/{}", entry.name);
        let Some(found) = unless_missing(store.find(&input))? else {
            return Ok(());
        };
        let seen = self.seen(source, &entry.name);
        let is_seen = seen.is_some_and(|seen| seen.id == entry.file && seen.is(&found));
        if !is_seen && store.checksum(&found)? != entry.checksum {
            // What has come in its place is entered by the next look.
            return Ok(());
        }
        let mut turn = 0;
        let moved = loop {
            let moved = moved_name(place, &entry.name, entry.file, turn);
            let Some(there) = unless_missing(store.find(&moved))? else {
                if !store.rename(&input, &moved)? {
                    return Ok(());
                }
                break moved;
            };
            if there.size == found.size && store.checksum(&there)? == entry.checksum {
                // Sent once more, or cut off between copying and deleting.
                store.remove(&input)?;
                break moved;
            }
            turn += 1;
        };
        // Where it is read again, if its records are not kept raw.
        let meta = store.find(&moved)?;
        if let Some(file) = self.known.get_mut(&entry.file) {
            (file.store, file.meta) = (store, meta);
        }
        // Whoever puts it back wants it to be tried again.
        self.tried.remove(&entry.file);
        Ok(())
    }

    /// Says that a file may move, if it is settled and files of its source do.
    pub(super) fn leaves(&mut self, id: FileId) {
        let state = self.ledger.entry(id).map(|entry| entry.state);
        let file = self.known.get(&id);
        if state.and_then(place_of).is_some()
            && file.is_some_and(|file| self.moving.contains(&file.source))
        {
            self.read.insert(id);
        }
    }

    /// Finds the files that an earlier run moved where they are now: there they are read again.
    pub(super) fn find_moved(
        &mut self,
        sources: &[SourcePlan],
        folder: &Path,
    ) -> Result<(), StoreError> {
        for (index, source) in sources.iter().enumerate() {
            let Some(root) = &source.moves_in else {
                continue;
            };
            if !self.known.values().any(|file| file.source == index) {
                continue;
            }
            let store = self.store(root, folder)?;
            let mut there: HashMap<String, FileMeta> = HashMap::new();
            for place in [PROCESSED, FAILED] {
                let place_at = format!("{}/{place}", root.trim_end_matches('/'));
                // What cannot be listed is missed, and told, when it is to be mediated again.
                let listed = Store::open(&place_at, folder)?.list().unwrap_or_default();
                there.extend(listed.into_iter().map(|meta| {
                    let name = format!("{place}/{}", meta.name);
                    (name.clone(), FileMeta { name, ..meta })
                }));
            }
            for file in self.known.values_mut().filter(|file| file.source == index) {
                let Some(entry) = self.ledger.entry(file.id) else {
                    continue;
                };
                let Some(place) = place_of(entry.state) else {
                    continue;
                };
                let places = [0, 1].map(|turn| moved_name(place, &entry.name, file.id, turn));
                let places = places.iter().filter_map(|place| there.get(place));
                let mut places = places.filter(|meta| meta.size == entry.size);
                // Some buckets give a copy another etag.
                let first = places.clone().next();
                let same = places.find(|meta| meta.etag == file.meta.etag);
                if let Some(meta) = same.or(first) {
                    (file.store, file.meta) = (Arc::clone(&store), meta.clone());
                }
            }
        }
        Ok(())
    }
}

/// Nothing of what does not exist.
fn unless_missing<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The folder that a file moves to, once it is known what became of it.
fn place_of(state: FileState) -> Option<&'static str> {
    match state {
        FileState::Loaded | FileState::Incomplete => Some(PROCESSED),
        FileState::Failed | FileState::Refused => Some(FAILED),
        FileState::Reading | FileState::Followed => None,
    }
}

/// The name that a file moves to: its own at the first turn, and with its number in front of its ending
/// where that is another file's.
fn moved_name(place: &str, name: &str, id: FileId, turn: u32) -> String {
    let begin = name.rfind('/').map_or(0, |slash| slash + 1);
    let at = name[begin..]
        .find('.')
        .map_or(name.len(), |dot| begin + dot);
    let (stem, ending) = name.split_at(at);
    match turn {
        0 => format!("{place}/{name}"),
        1 => format!("{place}/{stem}.{}{ending}", id.0),
        more => format!("{place}/{stem}.{}-{more}{ending}", id.0),
    }
}
