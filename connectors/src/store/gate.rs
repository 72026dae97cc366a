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
//!
//! What must not be lost is looked at behind the move: a younger run takes the gates of older ones over, by
//! a rename each, with all that has come through them.

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

    /// Takes an object in through a gate, under this name behind it. Says whether it came: it does not where
    /// the gate is closed, or there is no object.
    ///
    /// # Errors
    /// When the object is there and does not come.
    pub fn take_through(&self, gate: &str, from: &str, name: &str) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let (from, gate) = (root.join(from), root.join(gate));
                let failed = |error| StoreError::io("move", &from.display().to_string(), error);
                let taken = folders_below(&gate, name)
                    .and_then(|()| std::fs::rename(&from, gate.join(name)));
                match taken {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                    taken => taken.map(|()| true).map_err(failed),
                }
            }
            #[cfg(feature = "s3")]
            Backend::Remote(_) => Ok(false),
        }
    }

    /// Takes over the gates below a folder whose names `is_left`: each is closed, and what came through it
    /// lies in a folder of its own that is called as `ours`, with a number behind it.
    ///
    /// # Errors
    /// When one cannot be taken over.
    pub fn take_gates(
        &self,
        folder: &str,
        ours: &str,
        is_left: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        let Backend::Local(root) = &self.backend else {
            return Ok(());
        };
        let root = root.join(folder);
        let failed = |error| StoreError::io("move", &root.display().to_string(), error);
        let mut number = 0;
        for gate in folders_in(&root).map_err(failed)? {
            if !is_left(&gate) {
                continue;
            }
            let free = |number: &u32| !root.join(format!("{ours}.{number}")).exists();
            number = (number..).find(free).unwrap_or(number);
            let taken = std::fs::rename(root.join(&gate), root.join(format!("{ours}.{number}")));
            unless_missing(taken).map_err(failed)?;
        }
        Ok(())
    }

    /// What has come through a gate, or through those that were taken over: where it is, and under which name
    /// it came. Folders that are empty go.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn behind_gates(
        &self,
        folder: &str,
        ours: &str,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let Backend::Local(root) = &self.backend else {
            return Ok(Vec::new());
        };
        let at = root.join(folder);
        let failed = |error| StoreError::io("list", &at.display().to_string(), error);
        let taken = format!("{ours}.");
        let mut behind = Vec::new();
        for gate in folders_in(&at).map_err(failed)? {
            if gate != ours && !gate.starts_with(&taken) {
                continue;
            }
            let gate_at = format!("{folder}/{gate}");
            for place in self.names_within(&gate_at)? {
                if let Some(name) = place.strip_prefix(&format!("{gate_at}/")) {
                    behind.push((place.clone(), name.to_owned()));
                }
            }
            if gate != ours {
                remove_empty(&at.join(gate));
            }
        }
        behind.sort();
        Ok(behind)
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

/// Makes the folders of a name below one that must be there.
fn folders_below(folder: &Path, name: &str) -> io::Result<()> {
    let parts: Vec<&str> = name.split('/').collect();
    let (_, folders) = parts.split_last().unwrap_or((&"", &[]));
    let mut at = folder.to_owned();
    for part in folders {
        at.push(part);
        match std::fs::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The names of the folders in a folder, sorted; none where it is not there.
fn folders_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Takes folders away in which there is no file.
fn remove_empty(folder: &Path) {
    for name in folders_in(folder).unwrap_or_default() {
        remove_empty(&folder.join(name));
    }
    // One that holds something stays.
    std::fs::remove_dir(folder).ok();
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
    use super::super::Renamed;
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

    #[test]
    fn a_younger_run_takes_over_what_came_through_a_gate() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("in", folder.path()).unwrap();
        for name in ["a", "b/c", "d"] {
            store.put(name, name.as_bytes()).unwrap();
        }
        store.open_gate("gates/1").unwrap();
        assert!(store.take_through("gates/1", "a", "a").unwrap());
        assert!(store.take_through("gates/1", "b/c", "b/c").unwrap());
        assert!(!store.take_through("gates/1", "a", "a").unwrap());
        store.open_gate("gates/2").unwrap();
        store.take_gates("gates", "2", |gate| gate == "1").unwrap();
        assert!(!store.take_through("gates/1", "d", "x/d").unwrap());
        let behind = store.behind_gates("gates", "2").unwrap();
        let names: Vec<&str> = behind.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a", "b/c"]);
        assert!(store.behind_gates("none", "2").unwrap().is_empty());
        // A third takes over what the second left where it was.
        store.open_gate("gates/3").unwrap();
        store.take_gates("gates", "3", |gate| gate != "3").unwrap();
        for (place, name) in store.behind_gates("gates", "3").unwrap() {
            assert_eq!(store.rename_new(&place, &name).unwrap(), Renamed::Done);
        }
        assert!(store.behind_gates("gates", "3").unwrap().is_empty());
        assert_eq!(store.get("b/c").unwrap().unwrap(), b"b/c");
    }
}
