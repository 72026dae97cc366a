//! Local folders and files.

use super::error::StoreError;
use super::file::{FileMeta, Listing, Unread, is_input};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The files below `root`, or `root` itself when it is one; in no order.
///
/// A folder is walked once, however many links lead to it. Folders themselves come before links to folders,
/// which are taken in the order of their names: a link that is added changes the name of no file.
pub(super) fn list(location: &str, root: &Path) -> Result<Listing, StoreError> {
    let found = std::fs::metadata(root).map_err(|e| StoreError::io("list", location, e))?;
    if found.is_file() {
        let name = root
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        return Ok(Listing {
            files: vec![FileMeta {
                name: name.unwrap_or_else(|| location.to_owned()),
                location: root.display().to_string(),
                size: found.len(),
                etag: None,
            }],
            unread: Vec::new(),
        });
    }
    let mut listing = Listing::default();
    let mut walked = BTreeSet::from([identity(&found)]);
    let (mut folders, mut links) = (vec![PathBuf::new()], BTreeMap::new());
    loop {
        let folder = match folders.pop() {
            Some(folder) => folder,
            None => match links.pop_first() {
                Some((folder, place)) if walked.insert(place) => folder,
                Some(_) => continue,
                None => return Ok(listing),
            },
        };
        let path = root.join(&folder);
        let at = |error| StoreError::io("list", &path.display().to_string(), error);
        for entry in std::fs::read_dir(&path).map_err(at)? {
            let entry = entry.map_err(at)?;
            let below = folder.join(entry.file_name());
            let shown = below.to_string_lossy().into_owned();
            if !is_input(&shown) {
                continue;
            }
            let mut pass_over = |problem: String| {
                let name = shown.clone();
                listing.unread.push(Unread { name, problem });
            };
            let Some(name) = name_of(&below) else {
                pass_over("its name is no text; give it another".to_owned());
                continue;
            };
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            // Follows links: a folder of links to archives is a common way to choose files.
            let found = match std::fs::metadata(entry.path()) {
                Ok(found) => found,
                // It has gone since the folder was read.
                Err(error) if error.kind() == ErrorKind::NotFound && !is_link => continue,
                Err(error) => {
                    pass_over(error.to_string());
                    continue;
                }
            };
            if found.is_dir() && is_link {
                links.insert(below, identity(&found));
            } else if found.is_dir() && walked.insert(identity(&found)) {
                folders.push(below);
            } else if found.is_file() {
                let location = entry.path().display().to_string();
                listing.files.push(FileMeta {
                    name,
                    location,
                    size: found.len(),
                    etag: None,
                });
            }
        }
    }
}

/// What is the same of a folder whichever way leads to it.
fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The name below the root, as the system has it; nothing where it is no text.
fn name_of(below: &Path) -> Option<String> {
    let parts = below.components().map(|part| part.as_os_str().to_str());
    let parts: Option<Vec<&str>> = parts.collect();
    parts.map(|parts| parts.join("/"))
}

/// One file by its name below `root`.
pub(super) fn find(root: &Path, name: &str) -> Result<FileMeta, StoreError> {
    let location = root.join(name).display().to_string();
    let found = std::fs::metadata(&location).map_err(|e| StoreError::io("find", &location, e))?;
    Ok(FileMeta {
        name: name.to_owned(),
        location,
        size: found.len(),
        etag: None,
    })
}

pub(super) fn open(root: &Path, file: &FileMeta) -> Result<File, StoreError> {
    let path = if root.is_file() {
        root.to_owned()
    } else {
        root.join(&file.name)
    };
    File::open(&path).map_err(|error| StoreError::io("open", &file.location, error))
}
