//! Local folders and files.

use super::{FileMeta, StoreError, is_input};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The files below `root`, or `root` itself when it is one; in no order.
pub(super) fn list(location: &str, root: &Path) -> Result<Vec<FileMeta>, StoreError> {
    let found = std::fs::metadata(root).map_err(|e| StoreError::io("list", location, e))?;
    if found.is_file() {
        let name = root
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        return Ok(vec![FileMeta {
            name: name.unwrap_or_else(|| location.to_owned()),
            location: root.display().to_string(),
            size: found.len(),
            etag: None,
        }]);
    }
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let at = |error| StoreError::io("list", &path.display().to_string(), error);
        for entry in std::fs::read_dir(&path).map_err(at)? {
            let entry = entry.map_err(at)?;
            let below = folder.join(entry.file_name());
            let name = below.to_string_lossy().replace('\\', "/");
            if !is_input(&name) {
                continue;
            }
            // Follows links: a folder of links to archives is a common way to choose files.
            let Ok(found) = std::fs::metadata(entry.path()) else {
                continue;
            };
            if found.is_dir() {
                folders.push(below);
            } else if found.is_file() {
                let location = entry.path().display().to_string();
                files.push(FileMeta {
                    name,
                    location,
                    size: found.len(),
                    etag: None,
                });
            }
        }
    }
    Ok(files)
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
