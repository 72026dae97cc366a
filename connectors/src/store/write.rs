//! Writing files: they appear under their name when they are whole, or not at all.
//!
//! A local file is written beside its place as `*.tmp`, which no source reads, and renamed; a remote
//! one is a multipart upload, completed at the end. A file that is dropped unfinished leaves nothing
//! behind, and neither does a process that gives its files up before it ends.
//!
//! A file that takes a place only once something else is decided waits for it: a local one under a hidden
//! name, a remote one as an upload that is not completed. Whoever completes it does so once: a bucket knows
//! an upload no more that is completed, so what it carries out late changes nothing.

use super::put::Waiting;
use super::{Backend, Store, StoreError};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The temporary files of this process.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Takes away what is being written, local files and what buckets have of uploads. For a process that ends:
/// whoever begins or finishes a file from now on waits for the end.
pub fn give_up_unfinished() {
    abort_uploads();
    // Somebody who panicked while he held it ends the process too.
    let Ok(unfinished) = UNFINISHED.lock() else {
        return;
    };
    for temporary in &*unfinished {
        std::fs::remove_file(temporary).ok();
    }
    std::mem::forget(unfinished);
}

/// Takes away what buckets have of uploads, for a process that ends. Whoever goes on with one waits for the
/// end.
pub fn abort_uploads() {
    #[cfg(feature = "s3")]
    super::upload::abort_all();
}

/// A temporary file, gone with its owner unless it has taken its place.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// A file that is written over if it is there, or refused, as the options say.
    pub(super) fn open(path: PathBuf, options: &OpenOptions) -> io::Result<(Self, File)> {
        let mut unfinished = Self::all();
        let file = options.open(&path)?;
        unfinished.insert(path.clone());
        Ok((Self(path), file))
    }

    fn all() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
        UNFINISHED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn take_place(&self, place: &Path) -> io::Result<()> {
        let mut unfinished = Self::all();
        std::fs::rename(&self.0, place)?;
        unfinished.remove(&self.0);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if Self::all().remove(&self.0) {
            std::fs::remove_file(&self.0).ok();
        }
    }
}

/// A file being written.
pub struct NewFile {
    location: String,
    sink: Sink,
    /// Of what was written so far, where that is asked for.
    hasher: Option<blake3::Hasher>,
}

enum Sink {
    Local {
        file: BufWriter<File>,
        temporary: Temporary,
        place: PathBuf,
    },
    #[cfg(feature = "s3")]
    Remote(super::upload::Upload),
    #[cfg(feature = "s3")]
    Waiting(super::upload::Upload, super::upload::Kept),
}

impl Store {
    /// Starts a file of this name below the store's location; folders are made as needed.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(&self, name: &str) -> Result<NewFile, StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let place = root.join(name);
                let location = place.display().to_string();
                let failed = |error| StoreError::io("create", &location, error);
                if let Some(folder) = place.parent() {
                    std::fs::create_dir_all(folder).map_err(failed)?;
                }
                let temporary = place.with_added_extension("tmp");
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true);
                let (temporary, file) = Temporary::open(temporary, options).map_err(failed)?;
                let file = BufWriter::with_capacity(1 << 18, file);
                Ok(NewFile {
                    location,
                    sink: Sink::Local {
                        file,
                        temporary,
                        place,
                    },
                    hasher: None,
                })
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => {
                let (location, upload) = bucket.upload(name)?;
                Ok(NewFile {
                    location,
                    sink: Sink::Remote(upload),
                    hasher: None,
                })
            }
        }
    }

    /// Starts a file that is to wait until it takes this place: under a hidden name where files are renamed,
    /// as an upload in a bucket, see [`NewFile::finish`].
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create_waiting(&self, hidden: &str, place: &str) -> Result<NewFile, StoreError> {
        #[cfg(feature = "s3")]
        if let Backend::Remote(bucket) = &self.backend
            && let Some((location, upload, kept)) = bucket.upload_waiting(place)?
        {
            let file = NewFile {
                location,
                sink: Sink::Waiting(upload, kept),
                hasher: None,
            };
            return Ok(file.digesting());
        }
        let _ = place;
        self.create(hidden)
    }

    /// Completes an upload. Says whether the bucket knew it: it does not when it was completed before.
    ///
    /// # Errors
    /// When the bucket does not say.
    pub fn complete(&self, place: &str, waiting: &Waiting) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Local(_) => {
                let _ = (place, waiting);
                Ok(false)
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.complete(place, waiting),
        }
    }

    /// Makes sure that an upload was completed: that its bytes are in its place.
    ///
    /// # Errors
    /// When they are not.
    pub fn is_complete(&self, place: &str, waiting: &Waiting) -> Result<(), StoreError> {
        let found = self.find(place)?;
        match self.digest(&found)? == waiting.digest {
            true => Ok(()),
            false => Err(StoreError::Missing {
                attempt: "complete",
                location: found.location,
            }),
        }
    }

    /// Gives an upload up, so that the bucket need not keep it. One that stays is the bucket's to take away.
    pub fn abandon(&self, place: &str, waiting: &Waiting) {
        match &self.backend {
            Backend::Local(_) => {
                let _ = (place, waiting);
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.abandon(place, waiting),
        }
    }

    /// Takes the files below a folder away, so that an output can be written anew. A folder that
    /// does not exist is empty already.
    ///
    /// # Errors
    /// When one of them cannot be removed.
    pub fn clear(&self, folder: &str) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(root) => clear_local(&root.join(folder)),
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.clear(folder),
        }
    }
}

fn clear_local(folder: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(
            "clear",
            &folder.display().to_string(),
            error,
        )),
        _ => Ok(()),
    }
}

impl NewFile {
    /// The same, with a digest of what is written.
    #[must_use]
    pub fn digesting(self) -> Self {
        Self {
            hasher: Some(blake3::Hasher::new()),
            ..self
        }
    }

    /// The digest of what was written so far: the first 16 digits, where it is asked for.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        let digest = self.hasher.as_ref()?.finalize().to_hex();
        Some(digest.chars().take(16).collect())
    }

    /// Where the file will be.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Puts the whole file in its place; one that waits for it, under its hidden name, or else returns how
    /// it is completed.
    ///
    /// # Errors
    /// When the last bytes cannot be written, or the file cannot take its place.
    pub fn finish(self) -> Result<Option<Waiting>, StoreError> {
        #[cfg(feature = "s3")]
        let digest = self.digest();
        let failed = |error| StoreError::io("write", &self.location, error);
        match self.sink {
            Sink::Local {
                mut file,
                temporary,
                place,
            } => {
                file.flush().map_err(failed)?;
                drop(file);
                temporary.take_place(&place).map_err(failed)?;
                Ok(None)
            }
            #[cfg(feature = "s3")]
            Sink::Remote(upload) => upload.finish().map(|()| None).map_err(failed),
            #[cfg(feature = "s3")]
            Sink::Waiting(upload, kept) => {
                upload.finish().map_err(failed)?;
                let (upload, parts) = kept.into_parts();
                let digest = digest.unwrap_or_default();
                Ok(Some(Waiting {
                    upload,
                    parts,
                    digest,
                }))
            }
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.sink {
            Sink::Local { file, .. } => file.write(bytes),
            #[cfg(feature = "s3")]
            Sink::Remote(upload) | Sink::Waiting(upload, _) => upload.write(bytes),
        }?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes.get(..written).unwrap_or(bytes));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Local { file, .. } => file.flush(),
            #[cfg(feature = "s3")]
            Sink::Remote(_) | Sink::Waiting(..) => Ok(()),
        }
    }
}
