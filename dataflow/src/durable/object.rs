//! Objects: the bytes that a manifest names, with their digest.

use super::error::DurableError;
use millrace_connectors::store::{Put, Store};
use serde::{Deserialize, Serialize};

/// An object that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name below the state folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Usage rows in it.
    pub rows: u64,
    /// The digest of its content.
    pub digest: String,
}

impl Object {
    /// Describes content.
    #[must_use]
    pub fn of(name: String, content: &[u8], rows: u64) -> Self {
        Self {
            name,
            bytes: u64::try_from(content.len()).unwrap_or(u64::MAX),
            rows,
            digest: blake3::hash(content).to_hex().to_string(),
        }
    }

    /// Reads the object, and makes sure that it is the one that was written.
    ///
    /// # Errors
    /// When it is missing, damaged, or cannot be read.
    pub fn read(&self, store: &Store) -> Result<Vec<u8>, DurableError> {
        let content = store.get(&self.name)?;
        let content = content.ok_or_else(|| self.damaged(store, "is missing".to_owned()))?;
        if blake3::hash(&content).to_hex().as_str() != self.digest {
            let (length, told) = (content.len(), self.bytes);
            let problem = format!(
                "is damaged: its {length} bytes do not have the digest that was written with {told} bytes"
            );
            return Err(self.damaged(store, problem));
        }
        Ok(content)
    }

    /// Reads what [`packed`] made of a value.
    ///
    /// # Errors
    /// When it is missing, damaged, or cannot be read.
    pub(super) fn read_packed<T: for<'d> Deserialize<'d>>(
        &self,
        store: &Store,
    ) -> Result<T, DurableError> {
        let value = decode(&self.read(store)?);
        value.map_err(|problem| self.damaged(store, problem))
    }

    /// Why it cannot be used.
    pub(super) fn damaged(&self, store: &Store, problem: String) -> DurableError {
        DurableError::Damaged {
            folder: store.location().to_owned(),
            object: self.name.clone(),
            problem,
        }
    }
}

/// The content of an object that is one value.
pub(super) fn packed(value: &impl Serialize) -> Vec<u8> {
    let content = bincode::serialize(value).expect("memory takes all bytes");
    zstd::bulk::compress(&content, 0).expect("memory takes all bytes")
}

/// Writes an object whose name only this run can make.
///
/// # Errors
/// When it cannot be written, or something else has its name.
pub(super) fn create(store: &Store, object: &Object, content: &[u8]) -> Result<(), DurableError> {
    // An answer that was lost is asked for again below us, and the name is taken then.
    if store.put_new(&object.name, content)? == Put::Exists {
        object.read(store)?;
    }
    Ok(())
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    zstd::stream::decode_all(packed).map_err(|error| error.to_string())
}

pub(super) fn decode<T: for<'d> Deserialize<'d>>(packed: &[u8]) -> Result<T, String> {
    bincode::deserialize(&unpack(packed)?).map_err(|error| error.to_string())
}
