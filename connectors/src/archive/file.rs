//! Whole files: written with their digest, read against it.

use super::ArchiveError;
use super::layout::{FileEntry, SearchEntry};
use crate::store::{FileMeta, NewFile, Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

/// A file being written, with the digest of what was written so far.
pub(super) struct Digested {
    name: String,
    file: NewFile,
    hasher: blake3::Hasher,
    size: u64,
    /// Where the tail begins, and what was written of it.
    tail: Option<(u64, blake3::Hasher)>,
}

impl Digested {
    pub(super) fn create(store: &Store, name: String) -> Result<Self, StoreError> {
        Ok(Self {
            file: store.create(&name)?,
            name,
            hasher: blake3::Hasher::new(),
            size: 0,
            tail: None,
        })
    }

    /// From this byte on, which is not written yet, the file is its tail.
    pub(super) fn begin_tail(&mut self, from: u64) {
        self.tail = Some((from, blake3::Hasher::new()));
    }

    /// What tells that the tail is whole, and row groups of these digests.
    pub(super) fn search(&self, groups: Vec<String>) -> Option<SearchEntry> {
        let (tail, hasher) = self.tail.as_ref()?;
        Some(SearchEntry {
            tail: *tail,
            digest: hasher.finalize().to_hex().to_string(),
            groups,
        })
    }

    /// Puts the file in its place.
    pub(super) fn finish(self) -> Result<FileEntry, StoreError> {
        self.file.finish()?;
        Ok(FileEntry {
            name: self.name,
            size: self.size,
            digest: self.hasher.finalize().to_hex().to_string(),
        })
    }
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let (written_bytes, _) = bytes.split_at(written);
        self.hasher.update(written_bytes);
        if let Some((from, hasher)) = &mut self.tail {
            let before = usize::try_from(from.saturating_sub(self.size)).unwrap_or(usize::MAX);
            hasher.update(written_bytes.get(before..).unwrap_or_default());
        }
        self.size += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a value as JSON.
pub(super) fn write_json<T: Serialize>(
    store: &Store,
    name: String,
    value: &T,
) -> Result<FileEntry, ArchiveError> {
    write_bytes(store, name, &json(value)?)
}

/// Writes a file at once.
pub(super) fn write_bytes(
    store: &Store,
    name: String,
    bytes: &[u8],
) -> Result<FileEntry, ArchiveError> {
    let mut file = Digested::create(store, name)?;
    let location = file.file.location().to_owned();
    file.write_all(bytes)
        .map_err(|error| StoreError::io("write", &location, error))?;
    Ok(file.finish()?)
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, ArchiveError> {
    Ok(line(value)?.into_bytes())
}

/// A value as one line of JSON.
pub(super) fn line<T: Serialize>(value: &T) -> Result<String, ArchiveError> {
    serde_json::to_string(value).map_err(|error| ArchiveError::damaged("", error.to_string()))
}

/// All bytes of a file.
pub(super) fn read_all(store: &Store, meta: &FileMeta) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::with_capacity(usize::try_from(meta.size).unwrap_or(0));
    store
        .read(meta)?
        .read_to_end(&mut bytes)
        .map_err(|error| StoreError::io("read", &meta.location, error))?;
    Ok(bytes)
}

/// A value from JSON.
pub(super) fn parsed<T: DeserializeOwned>(bytes: &[u8], location: &str) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ArchiveError::damaged(location, format!("is not readable: {error}")))
}

/// The file that an entry names, with the size that it should have.
pub(super) fn located(store: &Store, entry: &FileEntry) -> Result<FileMeta, ArchiveError> {
    let meta = store.find(&entry.name)?;
    if meta.size != entry.size {
        let detail = format!("has {} bytes, not {}", meta.size, entry.size);
        return Err(ArchiveError::damaged(&meta.location, detail));
    }
    Ok(meta)
}

/// The bytes of the file that an entry names, found to be those that were written.
pub(super) fn read_entry(
    store: &Store,
    entry: &FileEntry,
) -> Result<(FileMeta, Vec<u8>), ArchiveError> {
    let meta = located(store, entry)?;
    let bytes = read_all(store, &meta)?;
    if blake3::hash(&bytes).to_hex().as_str() != entry.digest {
        return Err(ArchiveError::damaged(
            &meta.location,
            "is not what was written: its digest differs",
        ));
    }
    Ok((meta, bytes))
}
