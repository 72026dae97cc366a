//! Taking away what others make too.
//!
//! ```text
//!  a run:      open its gate ─► look whether it is still the newest ─► remove through the gate …
//!  a younger:  close the gates of older runs ─► make objects of its own
//! ```
//!
//! Whoever looks and then removes may be stopped in between, and go on when an object of another lies
//! under that name. A gate is a folder, and removing is a move into it: where the folder is gone, the move
//! fails, and nothing has been looked at before that could have changed. A bucket has no such step; there
//! nothing is removed.

use super::{Backend, Store, StoreError};
use std::io;
use std::path::Path;

impl Store {
    /// Opens a gate, once: it is never opened again when it was closed.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open_gate(&self, gate: &str) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let folder = root.join(gate);
                let failed = |error| StoreError::io("create", &folder.display().to_string(), error);
                std::fs::create_dir_all(&folder).map_err(failed)
            }
            #[cfg(feature = "s3")]
            Backend::Remote(_) => Ok(()),
        }
    }

    /// Takes an object away through a gate: nothing happens where it is closed, or there is no object.
    ///
    /// # Errors
    /// When the object is there and stays.
    pub fn remove_through(&self, gate: &str, name: &str) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let (place, gone) = (root.join(name), root.join(gate).join("gone"));
                let failed = |error| StoreError::io("remove", &place.display().to_string(), error);
                let moved =
                    std::fs::rename(&place, &gone).and_then(|()| std::fs::remove_file(gone));
                unless_missing(moved).map_err(failed)
            }
            #[cfg(feature = "s3")]
            Backend::Remote(_) => Ok(()),
        }
    }

    /// Closes the gates below a folder whose names `is_left`.
    ///
    /// # Errors
    /// When one cannot be closed.
    pub fn close_gates(
        &self,
        folder: &str,
        is_left: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let folder = root.join(folder);
                let failed = |error| StoreError::io("remove", &folder.display().to_string(), error);
                close(&folder, is_left).map_err(failed)
            }
            #[cfg(feature = "s3")]
            Backend::Remote(_) => Ok(()),
        }
    }
}

fn close(folder: &Path, is_left: impl Fn(&str) -> bool) -> io::Result<()> {
    let gates = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        gates => gates?,
    };
    for gate in gates {
        let gate = gate?;
        if !is_left(&gate.file_name().to_string_lossy()) {
            continue;
        }
        // Something may move in until it is closed.
        while let Err(error) = std::fs::remove_dir_all(gate.path()) {
            match error.kind() {
                io::ErrorKind::NotFound => break,
                io::ErrorKind::DirectoryNotEmpty => {}
                _ => return Err(error),
            }
        }
    }
    Ok(())
}

fn unless_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_through_a_closed_gate() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("out", folder.path()).unwrap();
        for gate in ["gates/1", "gates/2"] {
            store.open_gate(gate).unwrap();
        }
        store.put("a", b"x").unwrap();
        store.remove_through("gates/1", "a").unwrap();
        store.remove_through("gates/1", "a").unwrap();
        assert_eq!(store.get("a").unwrap(), None);
        store.close_gates("gates", |gate| gate == "1").unwrap();
        store.close_gates("none", |_| true).unwrap();
        store.put("a", b"y").unwrap();
        store.remove_through("gates/1", "a").unwrap();
        assert_eq!(store.get("a").unwrap().unwrap(), b"y");
        store.remove_through("gates/2", "a").unwrap();
        assert_eq!(store.get("a").unwrap(), None);
    }
}
