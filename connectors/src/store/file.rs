//! Files in a store, and which of them are input.

use serde::{Deserialize, Serialize};
use std::time::UNIX_EPOCH;

/// A file in a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileMeta {
    /// Its name below the store's location; for a location that is a file, the file's own name.
    pub name: String,
    /// Where it is, as an operator would type it.
    pub location: String,
    /// Its bytes.
    pub size: u64,
    /// What the store says identifies its content. Of a local file, when it was written last: while that
    /// and the size stay, its bytes do.
    pub etag: Option<String>,
}

/// What lies at a location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files.
    pub files: Vec<FileMeta>,
    /// What may hold usage and cannot even be looked at.
    pub unread: Vec<Unread>,
}

/// A file or folder that is passed over for its name, or because nobody can look at it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    /// Its name below the location, as far as that is text.
    pub name: String,
    /// Why.
    pub problem: String,
}

/// Tells of a local file when it was written last, and its size at that time.
pub(super) fn date(file: &mut FileMeta) {
    let found = std::fs::metadata(&file.location).ok();
    let written = found.as_ref().and_then(|found| found.modified().ok());
    let since = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    file.size = found.map_or(file.size, |found| found.len());
    file.etag = since.map(|since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos()));
}

/// Whether a file of this name below a location is input.
pub(super) fn is_input(name: &str) -> bool {
    let hidden = name
        .split('/')
        .any(|part| part.starts_with('.') || part.starts_with('_'));
    !hidden && !name.ends_with(".tmp") && !name.ends_with('/')
}
