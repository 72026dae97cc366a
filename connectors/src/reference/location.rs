//! Where files lie that are read whole: reference data, its tables and mediation rules.
//!
//! A place is a path, or the text of an `s3://…` URL held in one. Such a path is never joined to another,
//! and no watcher gets to see it: a bucket tells nothing, so its files are read when a run begins, and
//! again when a local file beside them is saved.

use crate::diagnostic::Diagnostic;
use crate::store::{Store, StoreError};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The longest text: a catalog or accounts file, a rule, a job. They are held whole while they are read.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// Where `file` is that is named in a file of `folder`.
#[must_use]
pub fn located(folder: &Path, file: &str) -> PathBuf {
    match file.split_once("://") {
        Some(("file", path)) => folder.join(path),
        Some(_) => PathBuf::from(file),
        None if Path::new(file).is_absolute() || is_local(folder) => folder.join(file),
        // On no system does the separator of paths go into a URL.
        None => PathBuf::from(format!("{}/{file}", folder.display())),
    }
}

/// Whether a place is a path of this machine, which can be watched.
#[must_use]
pub fn is_local(place: &Path) -> bool {
    !place.as_os_str().to_string_lossy().contains("://")
}

/// The text of a file.
///
/// # Errors
/// A finding about the whole file; `what` says what it should be.
pub fn read_text(place: &Path, what: &str) -> Result<String, Diagnostic> {
    let shown = place.display().to_string();
    let cannot = |error: &dyn std::fmt::Display| {
        Diagnostic::error(&shown, (0, 0), format!("cannot read {what}: {error}"))
    };
    if is_local(place) {
        return read_local(place).map_err(|error| cannot(&error));
    }
    match remote(&shown) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => {
            let message = format!("there is no file \"{shown}\"");
            Err(Diagnostic::error(&shown, (0, 0), message)
                .with_hint("check the bucket, the path and its spelling"))
        }
        Err(error) => Err(cannot(&error)),
    }
}

/// The text of a file of this machine, which is no longer than a person or a program writes one.
///
/// # Errors
/// When it cannot be read, is no text or is longer.
pub fn read_local(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    let is_longer = file.metadata()?.len() > TEXT_BYTES_MAX;
    // A pipe and the like do not say how long they are.
    let most = TEXT_BYTES_MAX.saturating_add(1);
    if !is_longer {
        file.take(most).read_to_string(&mut text)?;
    }
    match u64::try_from(text.len()).is_ok_and(|bytes| bytes < most) && !is_longer {
        true => Ok(text),
        false => Err(too_long()),
    }
}

fn too_long() -> io::Error {
    io::Error::other(format!(
        "it has more than {TEXT_BYTES_MAX} bytes; put its rows into tables, which may be of any length"
    ))
}

/// The text of an object; nothing if there is none.
fn remote(url: &str) -> Result<Option<String>, StoreError> {
    let (folder, name) = url.rsplit_once('/').unwrap_or((url, ""));
    if name.is_empty() || folder.ends_with("//") || folder.ends_with(":/") {
        return Err(StoreError::Unsupported {
            location: url.to_owned(),
            hint: "it names no file; write s3://bucket/folder/file",
        });
    }
    let store = Store::open(folder, Path::new(""))?;
    let bytes = match store.find(name) {
        Err(StoreError::Missing { .. }) => None,
        Ok(found) if found.size > TEXT_BYTES_MAX => {
            return Err(StoreError::Io {
                attempt: "read",
                location: url.to_owned(),
                source: too_long(),
            });
        }
        found => found.and_then(|_| store.get(name))?,
    };
    let text = bytes.map(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    text.transpose().map_err(|source| StoreError::Io {
        attempt: "read",
        location: url.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_not_joined() {
        let at = |folder: &str, file: &str| located(Path::new(folder), file).display().to_string();
        assert_eq!(at("jobs", "a.yaml"), "jobs/a.yaml");
        assert_eq!(at("jobs", "/etc/a.yaml"), "/etc/a.yaml");
        assert_eq!(at("jobs", "file:///etc/a.yaml"), "/etc/a.yaml");
        assert_eq!(at("jobs", "file://a.yaml"), "jobs/a.yaml");
        assert_eq!(at("jobs", "s3://b/x/a.yaml"), "s3://b/x/a.yaml");
        // What a file in a bucket names is beside it.
        assert_eq!(at("s3://b/x", "t.csv"), "s3://b/x/t.csv");
        assert_eq!(at("s3://b/x", "s3://c/t.csv"), "s3://c/t.csv");
        assert_eq!(at("s3://b/x", "/data/t.csv"), "/data/t.csv");
        assert!(is_local(&located(Path::new("jobs"), "file://a.yaml")));
        assert!(!is_local(&located(Path::new("jobs"), "s3://b/a.yaml")));
        assert_eq!(
            Path::new("s3://b/x/a.yaml").parent(),
            Some(Path::new("s3://b/x"))
        );
    }

    #[test]
    fn a_text_that_is_too_long_is_told_before_it_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.yaml");
        let file = File::create(&path).unwrap();
        file.set_len(TEXT_BYTES_MAX + 1).unwrap();
        let finding = read_text(&path, "the file").unwrap_err();
        let said = "cannot read the file: it has more than 268435456 bytes";
        assert!(finding.message.contains(said), "{finding}");
        file.set_len(3).unwrap();
        assert_eq!(read_text(&path, "the file").unwrap(), "\0\0\0");
    }

    #[test]
    fn what_is_no_file_is_said() {
        for (url, expected) in [
            ("s3://b", "names no file"),
            ("s3://b/", "names no file"),
            ("s3://", "names no file"),
            (
                "gopher://b/a.yaml",
                "use a path, file:// or s3://bucket/prefix",
            ),
        ] {
            let finding = read_text(Path::new(url), "the file").unwrap_err();
            assert_eq!((finding.file.as_str(), finding.line), (url, 0));
            assert!(finding.message.contains(expected), "{finding}");
        }
    }
}
