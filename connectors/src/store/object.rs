//! Whole objects by name: what durable state is made of.
//!
//! An object is there whole or not at all. [`Store::put_new`] is the one step that decides between two
//! writers: exactly one of them creates the object, the other is told that it is there. Local objects
//! are on the disk, not only in the system's memory, before a call returns.

use super::put::{Put, Renamed, random_name};
use super::write::Temporary;
use super::{Backend, Store, StoreError};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::path::Path;

/// Bytes that go to the disk at once: who has little to write waits behind those who write much.
const SLICE: usize = 4 << 20;
/// How names end of what is being written.
const TEMPORARY: &str = ".tmp";

impl Store {
    /// Writes an object, in the place of one of this name.
    ///
    /// # Errors
    /// When it cannot be written, or it is not known whether it was.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let place = root.join(name);
                let failed = |error| StoreError::io("write", &place.display().to_string(), error);
                let beside = write_beside(&place, bytes).map_err(failed)?;
                beside.take_place(&place).map_err(failed)?;
                keep_name(&place).map_err(failed)
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.put(name, bytes, true).map(|_| ()),
        }
    }

    /// Writes an object unless there is one of this name.
    ///
    /// # Errors
    /// When it cannot be written, or it is not known whether it was: read it back, then decide.
    pub fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let place = root.join(name);
                let failed = |error| StoreError::io("write", &place.display().to_string(), error);
                let beside = write_beside(&place, bytes).map_err(failed)?;
                let linked = std::fs::hard_link(beside.path(), &place);
                drop(beside);
                match linked {
                    Ok(()) => keep_name(&place).map_err(failed).map(|()| Put::Created),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Exists),
                    Err(error) => Err(failed(error)),
                }
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.put(name, bytes, false),
        }
    }

    /// Puts files of one folder that were written by [`Self::create`] on the disk, down to their names.
    /// What a bucket has taken is kept already.
    ///
    /// # Errors
    /// When one of them is not there, or the disk fails.
    pub fn keep<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let mut last = None;
                for name in names {
                    let place = root.join(name);
                    let kept = File::open(&place).and_then(|file| file.sync_all());
                    kept.map_err(|e| StoreError::io("keep", &place.display().to_string(), e))?;
                    last = Some(place);
                }
                last.map_or(Ok(()), |place| {
                    let failed = |e| StoreError::io("keep", &place.display().to_string(), e);
                    keep_name(&place).map_err(failed)
                })
            }
            #[cfg(feature = "s3")]
            Backend::Remote(_) => Ok(()),
        }
    }

    /// Reads an object; nothing if there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.find(name).and_then(|meta| {
            let mut bytes = Vec::with_capacity(usize::try_from(meta.size).unwrap_or(0));
            let failed = |error| StoreError::io("read", &meta.location, error);
            self.read(&meta)?.read_to_end(&mut bytes).map_err(failed)?;
            Ok(bytes)
        });
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of the objects directly below a folder, sorted; none if there is no folder.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let mut names = match &self.backend {
            Backend::Local(root) => names_below(&root.join(folder))?,
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.names(folder)?,
        };
        names.retain(|name| !name.ends_with(TEMPORARY));
        names.sort_unstable();
        Ok(names)
    }

    /// Takes away what writers that were cut off left half written directly below a folder, where its
    /// name `is_left`. One that is still at it fails. Parts of uploads that were killed are the bucket's to
    /// take away.
    ///
    /// # Errors
    /// When the folder cannot be listed, or something stays.
    pub fn sweep(&self, folder: &str, is_left: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let names = names_below(&root.join(folder))?.into_iter();
                let mut left = names.filter(|name| name.ends_with(TEMPORARY) && is_left(name));
                left.try_for_each(|name| self.remove(&format!("{folder}/{name}")))
            }
            #[cfg(feature = "s3")]
            Backend::Remote(_) => Ok(()),
        }
    }

    /// The names of all objects below a folder, however deep.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names_within(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        match &self.backend {
            Backend::Local(root) => names_within(root, folder),
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.names_within(folder),
        }
    }

    /// Takes an object away, if there is one.
    ///
    /// # Errors
    /// When it is there and stays.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let place = root.join(name);
                match std::fs::remove_file(&place) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(
                        "remove",
                        &place.display().to_string(),
                        error,
                    )),
                    _ => Ok(()),
                }
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.remove(name),
        }
    }

    /// Gives an object another name, in the place of one that has it. Says whether there was one to
    /// rename.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn rename(&self, from: &str, to: &str) -> Result<bool, StoreError> {
        Ok(self.rename_all([(from, to)])? > 0)
    }

    /// Gives a local object a name that no other has. In a bucket the object stays under its own name too:
    /// there it is a copy.
    ///
    /// # Errors
    /// When it cannot be moved, or copied.
    pub fn rename_new(&self, from: &str, to: &str) -> Result<Renamed, StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let (from, to) = (root.join(from), root.join(to));
                let failed = |error| StoreError::io("move", &from.display().to_string(), error);
                if let Some(folder) = to.parent() {
                    std::fs::create_dir_all(folder).map_err(failed)?;
                }
                match rename_new(&from, &to) {
                    Ok(()) => keep_name(&to).map_err(failed).map(|()| Renamed::Done),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Renamed::Gone),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Ok(Renamed::Taken)
                    }
                    Err(error) => Err(failed(error)),
                }
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.copy_new(from, to),
        }
    }

    /// Gives objects other names, in the places of those that have them. Says how many there were to
    /// rename.
    ///
    /// # Errors
    /// When one cannot be moved.
    pub fn rename_all<'n>(
        &self,
        moves: impl IntoIterator<Item = (&'n str, &'n str)>,
    ) -> Result<usize, StoreError> {
        let (mut moved, mut folders) = (0, BTreeSet::new());
        for (from, to) in moves {
            moved += usize::from(match &self.backend {
                Backend::Local(root) => {
                    let (from, to) = (root.join(from), root.join(to));
                    let failed = |error| StoreError::io("move", &from.display().to_string(), error);
                    let is_moved = rename(&from, &to).map_err(failed)?;
                    folders.extend(to.parent().filter(|_| is_moved).map(Path::to_owned));
                    is_moved
                }
                #[cfg(feature = "s3")]
                Backend::Remote(bucket) => bucket.rename(from, to)?,
            });
        }
        for folder in folders {
            let kept = File::open(&folder).and_then(|folder| folder.sync_all());
            kept.map_err(|e| StoreError::io("keep", &folder.display().to_string(), e))?;
        }
        Ok(moved)
    }
}

/// Moves a file; says whether there was one.
fn rename(from: &Path, to: &Path) -> io::Result<bool> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        moved => moved.map(|()| true),
    }
}

/// Moves a file to a name that no other has.
#[cfg(target_os = "linux")]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can.
        Err(Errno::INVAL | Errno::NOSYS) => link_new(from, to),
        moved => Ok(moved?),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    link_new(from, to)
}

fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// Writes the bytes to a file of its own beside `place`, down to the disk.
fn write_beside(place: &Path, bytes: &[u8]) -> io::Result<Temporary> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Machines that share the folder may count processes alike: two writers must never share a file.
    let beside = place.with_added_extension(format!("{}{TEMPORARY}", random_name()));
    let mut options = OpenOptions::new();
    let (beside, mut file) = Temporary::open(beside, options.write(true).create_new(true))?;
    let (mut rest, mut written) = (bytes, 0);
    while let Some((slice, more)) = rest.split_at_checked(SLICE) {
        file.write_all(slice)?;
        file.sync_data()?;
        (rest, written) = (more, written + SLICE);
        release(&file, written);
    }
    file.write_all(rest)?;
    file.sync_all()?;
    Ok(beside)
}

/// Lets the system use the memory again that holds the first bytes of a file: what is written here is read
/// at a restart, if ever, and ever more memory for it would cost more than the writing.
#[cfg(target_os = "linux")]
fn release(file: &File, bytes: usize) {
    let bytes = u64::try_from(bytes).ok().and_then(NonZeroU64::new);
    // It is advice: nothing depends on it.
    rustix::fs::fadvise(file, 0, bytes, rustix::fs::Advice::DontNeed).ok();
}

#[cfg(not(target_os = "linux"))]
fn release(_: &File, _: usize) {}

/// Makes the name of a file as durable as its content.
fn keep_name(place: &Path) -> io::Result<()> {
    place
        .parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn names_below(folder: &Path) -> Result<Vec<String>, StoreError> {
    let failed = |error| StoreError::io("list", &folder.display().to_string(), error);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let name = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry.map_err(failed)?;
        let is_file = entry.file_type().map_err(failed)?.is_file();
        Ok(is_file.then(|| entry.file_name().to_string_lossy().into_owned()))
    };
    entries
        .filter_map(|entry| name(entry).transpose())
        .collect()
}

fn names_within(root: &Path, folder: &str) -> Result<Vec<String>, StoreError> {
    let (mut names, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let failed = |error| StoreError::io("list", &path.display().to_string(), error);
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
            match entry.file_type().map_err(failed)?.is_dir() {
                true => folders.push(name),
                false => names.push(name),
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir) -> Store {
        Store::open("state", folder.path()).unwrap()
    }

    #[test]
    fn one_of_two_creates() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        assert_eq!(store.put_new("manifest/1", b"mine").unwrap(), Put::Created);
        assert_eq!(store.put_new("manifest/1", b"yours").unwrap(), Put::Exists);
        assert_eq!(store.get("manifest/1").unwrap().unwrap(), b"mine");
        store.put("manifest/1", b"anew").unwrap();
        assert_eq!(store.get("manifest/1").unwrap().unwrap(), b"anew");
        assert_eq!(store.names("manifest").unwrap(), ["1"]);
    }

    #[test]
    fn what_is_not_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        assert_eq!(store.get("none").unwrap(), None);
        assert!(store.names("none").unwrap().is_empty());
        store.remove("none").unwrap();
        assert!(!store.rename("none", "some").unwrap());
        store.put("a/b", b"x").unwrap();
        assert!(store.rename("a/b", "c/d").unwrap());
        assert_eq!(store.get("c/d").unwrap().unwrap(), b"x");
        assert_eq!(store.get("a/b").unwrap(), None);
    }

    #[test]
    fn what_was_cut_off_is_no_object_and_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        store.put("a/b", b"x").unwrap();
        for left in ["a/c.0123456789abcdef.tmp", "a/d.tmp"] {
            std::fs::write(folder.path().join("state").join(left), b"ha").unwrap();
        }
        assert_eq!(store.names("a").unwrap(), ["b"]);
        store.sweep("a", |name| name.starts_with('c')).unwrap();
        store.sweep("none", |_| true).unwrap();
        let mut left = store.names_within("a").unwrap();
        left.sort();
        assert_eq!(left, ["a/b", "a/d.tmp"]);
    }

    #[test]
    fn only_what_is_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder);
        for name in ["a/b", "a/c"] {
            let mut file = store.create(name).unwrap();
            file.write_all(b"x").unwrap();
            file.finish().unwrap();
        }
        store.keep(["a/b", "a/c"]).unwrap();
        let missing = store.keep(["a/b", "a/none"]).unwrap_err();
        assert!(matches!(missing, StoreError::Missing { .. }), "{missing}");
        store.keep([]).unwrap();
    }
}
