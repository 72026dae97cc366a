//! What comes of writes and renames, and the names that nobody else makes.

use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hasher, RandomState};

/// Whether a create-only write created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is ours.
    Created,
    /// The name was taken.
    Exists,
}

/// What became of an object that was to get another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// It has it.
    Done,
    /// There was none.
    Gone,
    /// Another has that name.
    Taken,
}

/// A name that nobody else has: writers and runs that begin at once, even on one clock, are two.
#[must_use]
pub fn random_name() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// An upload that is whole, and not completed: its object appears when it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What the bucket calls the upload.
    pub(super) upload: String,
    /// What it calls its parts.
    pub(super) parts: Vec<String>,
    /// The digest of its bytes, as [`Store::digest`] gives it.
    pub(super) digest: String,
}
