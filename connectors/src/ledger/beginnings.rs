//! How the files of each source begin.
//!
//! A file is found by the hashes of its first 1, 2, 4, 8, … rows, so one that is new need only be read for as
//! long as another begins like it, which nearly none does.

use crate::decode::Content;
use millrace_operators::domain::FileId;
use std::collections::{BTreeSet, HashMap};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Beginnings(HashMap<String, OfSource>);

#[derive(Clone, Debug, Default)]
struct OfSource {
    /// Files by the hashes of their first rows.
    heads: HashMap<u64, Vec<FileId>>,
    /// Files with rows of which none is settled.
    unsettled: BTreeSet<FileId>,
}

impl Beginnings {
    /// Enters what has been read of a file, as far as it is not there yet.
    pub(super) fn add(&mut self, source: &str, file: FileId, content: &Content) {
        if !self.0.contains_key(source) {
            self.0.insert(source.to_owned(), OfSource::default());
        }
        let Some(of_source) = self.0.get_mut(source) else {
            return;
        };
        match content.heads.is_empty() {
            true if content.bytes > 0 => of_source.unsettled.insert(file),
            _ => of_source.unsettled.remove(&file),
        };
        for head in content.heads.iter().rev() {
            let files = of_source.heads.entry(*head).or_default();
            if files.contains(&file) {
                break;
            }
            files.push(file);
        }
    }

    /// Files whose first 1, or 2, or 4, … rows have this hash.
    pub(super) fn alike(&self, source: &str, head: u64) -> &[FileId] {
        let of_source = self.0.get(source);
        let files = of_source.and_then(|of_source| of_source.heads.get(&head));
        files.map_or(&[], Vec::as_slice)
    }

    /// Files with rows of which none is settled.
    pub(super) fn unsettled(&self, source: &str) -> impl Iterator<Item = FileId> {
        let files = self.0.get(source).map(|of_source| &of_source.unsettled);
        files.into_iter().flatten().copied()
    }
}
