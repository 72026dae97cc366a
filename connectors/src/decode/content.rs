//! What is remembered of a file of text, so that another that begins with it, or with which it begins, is
//! known by that.

use super::error::DecodeError;
use super::members::{Remark, decompress};
use crate::store::{FileMeta, Store};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// What was read of a file of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Bytes up to the end of the last record, without compression.
    pub bytes: u64,
    /// The hash of these bytes.
    pub digest: String,
    /// Rows whose end does not depend on the end of the file. Those behind are read otherwise, perhaps,
    /// where more follows.
    pub settled: u64,
    /// Hashes of the bytes up to the end of the first 1, 2, 4, 8, … settled rows.
    pub heads: Vec<u64>,
}

impl Content {
    /// Whether the content of `file` begins with this one.
    ///
    /// # Errors
    /// When the file cannot be read. One that breaks off before is no error: it does not begin with it.
    pub fn begins(&self, store: &Store, file: &FileMeta) -> Result<bool, DecodeError> {
        let found = Self::digests(store, file, &[self.bytes])?;
        Ok(found.first() == Some(&self.digest))
    }

    /// The hashes of the beginnings of `file` of so many bytes, which ascend; of those only that it has.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digests(
        store: &Store,
        file: &FileMeta,
        ascending: &[u64],
    ) -> Result<Vec<String>, DecodeError> {
        let mut input = plain(store, file)?;
        let mut hasher = blake3::Hasher::new();
        let mut digests = Vec::with_capacity(ascending.len());
        for bytes in ascending {
            let mut stretch = (&mut input).take(bytes.saturating_sub(hasher.count()));
            if hasher.update_reader(&mut stretch).is_err() || stretch.limit() > 0 {
                break;
            }
            digests.push(hasher.finalize().to_hex().to_string());
        }
        Ok(digests)
    }

    /// As the first of [`Self::heads`] of a longer file, for each way in which the only record of `file`,
    /// of which this is the content, may end there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn endings(&self, store: &Store, file: &FileMeta) -> Result<[u64; 3], DecodeError> {
        let mut hasher = blake3::Hasher::new();
        let mut beginning = plain(store, file)?.take(self.bytes);
        // One that breaks off here begins like none.
        hasher.update_reader(&mut beginning).ok();
        let endings: [&[u8]; 3] = [b"", b"\n", b"\r\n"];
        Ok(endings.map(|ending| head_of(hasher.clone().update(ending))))
    }
}

/// A hash as one of [`Content::heads`].
pub(super) fn head_of(hasher: &blake3::Hasher) -> u64 {
    let mut head = [0; 8];
    hasher.finalize_xof().fill(&mut head);
    u64::from_le_bytes(head)
}

/// The content of a file without compression.
pub(super) fn plain(store: &Store, file: &FileMeta) -> Result<Box<dyn Read + Send>, DecodeError> {
    Ok(decompress(
        store.read(file)?,
        &file.name,
        &Remark::default(),
    ))
}
