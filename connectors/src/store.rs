//! Where bytes live: local folders, and buckets behind the S3 protocol.
//!
//! ```text
//!   location ─► list: files by name ─┬─► read:   a stream, front to back     (text formats)
//!                                    └─► random: ranges, in any order        (Parquet)
//! ```
//!
//! Local files go through the standard library, remote objects through `object_store` on a small
//! runtime of their own; both look the same from outside, blocking, so that workers need no async.
//! A dropped connection is retried by `object_store`; when it gives up, the stream ends with an
//! error, which decoding reports as a file that ends early, never as a shorter file. A store that answers
//! nothing at all is given up for all objects at once, see `silence.rs`.

#[cfg(feature = "s3")]
mod conditional;
mod error;
mod file;
mod gate;
#[cfg(feature = "s3")]
mod heard;
mod local;
mod object;
mod put;
#[cfg(feature = "s3")]
mod remote;
mod sealed;
#[cfg(feature = "s3")]
mod silence;
#[cfg(feature = "s3")]
mod upload;
#[cfg(feature = "s3")]
mod wait;

mod write;

pub use error::StoreError;
pub use file::{FileMeta, Listing, Unread};
pub use put::{Put, Renamed, Waiting, random_name};
pub use sealed::{sealed, unsealed};
pub use write::{NewFile, abort_uploads, give_up_unfinished};

use file::date;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder or bucket prefix, or a single file in one.
#[derive(Debug)]
pub struct Store {
    location: String,
    backend: Backend,
    /// Bytes read so far.
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Backend {
    Local(PathBuf),
    #[cfg(feature = "s3")]
    Remote(remote::Bucket),
}

impl Store {
    /// Opens a path (relative ones below `base`), a `file://` URL, or `s3://bucket/prefix` with the
    /// usual `AWS_*` environment (`AWS_ENDPOINT_URL` for other providers; plain HTTP is taken for
    /// loopback endpoints only, unless `AWS_ALLOW_HTTP` is set).
    ///
    /// # Errors
    /// When the URL is of another kind, or the environment does not configure it.
    pub fn open(location: &str, base: &Path) -> Result<Self, StoreError> {
        let backend = match location.split_once("://") {
            None => Backend::Local(base.join(location)),
            Some(("s3", rest)) if rest.split('/').next().is_some_and(|at| at.contains('@')) => {
                return Err(StoreError::Unsupported {
                    location: location.to_owned(),
                    hint: "a login does not belong into the URL; set AWS_ACCESS_KEY_ID and \
                           AWS_SECRET_ACCESS_KEY, and write s3://bucket/prefix",
                });
            }
            Some(("file", path)) => Backend::Local(base.join(path)),
            #[cfg(feature = "s3")]
            Some(("s3", rest)) => Backend::Remote(remote::Bucket::open(location, rest)?),
            #[cfg(not(feature = "s3"))]
            Some(("s3", _)) => {
                return Err(StoreError::Unsupported {
                    location: location.to_owned(),
                    hint: "this build has no S3; build with --features s3",
                });
            }
            Some(_) => {
                return Err(StoreError::Unsupported {
                    location: location.to_owned(),
                    hint: "use a path, file:// or s3://bucket/prefix",
                });
            }
        };
        Ok(Self {
            location: location.to_owned(),
            backend,
            read: Arc::default(),
        })
    }

    /// Objects of any kind, under a name for people.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn over(location: &str, objects: Arc<dyn object_store::ObjectStore>) -> Self {
        Self {
            location: location.to_owned(),
            backend: Backend::Remote(remote::Bucket::over(location, objects)),
            read: Arc::default(),
        }
    }

    /// Bytes of files read so far: what a reader asked of a local disk, or what a bucket sent.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The location as it was given.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    /// The folder or file, when it is local: what can be watched for changes.
    #[must_use]
    pub fn local_path(&self) -> Option<&Path> {
        match &self.backend {
            Backend::Local(path) => Some(path),
            #[cfg(feature = "s3")]
            Backend::Remote(_) => None,
        }
    }

    /// The bucket, when it is remote: its URL, and the client for readers that are async themselves.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn objects(&self) -> Option<(&str, Arc<dyn object_store::ObjectStore>)> {
        match &self.backend {
            Backend::Local(_) => None,
            Backend::Remote(bucket) => Some(bucket.objects()),
        }
    }

    /// All files, sorted by name. Hidden ones, `*.tmp` (still being written) and empty folder
    /// markers are left out.
    ///
    /// # Errors
    /// When the location does not exist or may not be listed.
    pub fn list(&self) -> Result<Vec<FileMeta>, StoreError> {
        self.look().map(|listing| listing.files)
    }

    /// As [`Self::list`], with what cannot be read for its name or for a link that leads nowhere.
    ///
    /// # Errors
    /// When the location does not exist or may not be listed.
    pub fn look(&self) -> Result<Listing, StoreError> {
        let mut listing = match &self.backend {
            Backend::Local(path) => {
                let mut listing = local::list(&self.location, path)?;
                listing.files.iter_mut().for_each(date);
                listing
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => Listing {
                files: bucket.list()?,
                unread: Vec::new(),
            },
        };
        listing.files.sort();
        listing.unread.sort();
        Ok(listing)
    }

    /// One file by its name below the location.
    ///
    /// # Errors
    /// When it does not exist or may not be looked at.
    pub fn find(&self, name: &str) -> Result<FileMeta, StoreError> {
        match &self.backend {
            Backend::Local(root) => {
                let mut file = local::find(root, name)?;
                date(&mut file);
                Ok(file)
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.find(name),
        }
    }

    /// Makes sure that a bucket takes objects away as [`Self::remove_as`] asks it to.
    ///
    /// # Errors
    /// When it does not, or does not say; it is asked below `folder`.
    pub fn removes_as_found(&self, folder: &str) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(_) => Err(StoreError::Unconditional {
                location: format!("{}/{folder}", self.location),
            }),
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.removes_as_found(folder),
        }
    }

    /// Takes an object of a bucket away, if it is the one that was found. Says whether none of its name is
    /// left.
    ///
    /// # Errors
    /// When it stays, or the store cannot do that.
    pub fn remove_as(&self, found: &FileMeta) -> Result<bool, StoreError> {
        match (&self.backend, &found.etag) {
            #[cfg(feature = "s3")]
            (Backend::Remote(bucket), Some(etag)) => bucket.remove_as(&found.name, etag),
            _ => Err(StoreError::NoEtag {
                location: found.location.clone(),
            }),
        }
    }

    /// Streams a file from its front.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn read(&self, file: &FileMeta) -> Result<Box<dyn Read + Send>, StoreError> {
        let inner: Box<dyn Read + Send> = match &self.backend {
            Backend::Local(path) => Box::new(local::open(path, file)?),
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => bucket.read(file)?,
        };
        let count = Arc::clone(&self.read);
        Ok(Box::new(Counted { inner, count }))
    }

    /// Opens a file for reading ranges of it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn random(&self, file: &FileMeta) -> Result<RandomAccess, StoreError> {
        self.random_by(file, BLOCK_BYTES)
    }

    /// As [`Self::random`], for a reader that wants little of the file: what a bucket is asked for
    /// is not rounded up to more than `block` bytes.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn random_by(&self, file: &FileMeta, block: u64) -> Result<RandomAccess, StoreError> {
        let access = match &self.backend {
            Backend::Local(path) => {
                let count = Arc::clone(&self.read);
                Access::Local(local::open(path, file)?, count)
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => {
                let count = Arc::clone(&self.read);
                Access::Remote(bucket.random(file, block, count))
            }
        };
        #[cfg(not(feature = "s3"))]
        let _ = block;
        Ok(RandomAccess(Arc::new(access)))
    }

    /// Whether a file that was listed is still the same, as far as that is told without its bytes.
    ///
    /// # Errors
    /// When it may not be looked at, or a bucket has it no more.
    pub fn is_as_listed(&self, file: &FileMeta) -> Result<bool, StoreError> {
        let now = match &self.backend {
            Backend::Local(_) => {
                let mut now = file.clone();
                date(&mut now);
                now
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => FileMeta {
                etag: bucket.etag(file)?,
                ..file.clone()
            },
        };
        Ok(now.etag.is_some() && now == *file)
    }

    /// The digest of a file's bytes, as [`NewFile::digest`] gives it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digest(&self, file: &FileMeta) -> Result<String, StoreError> {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(self.read(file)?)
            .map_err(|source| StoreError::io("read", &file.location, source))?;
        Ok(hasher.finalize().to_hex().chars().take(16).collect())
    }

    /// What identifies the content: a hash of all bytes for local files; etag and size for remote
    /// ones, whose bytes would cost a transfer.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn checksum(&self, file: &FileMeta) -> Result<String, StoreError> {
        match &self.backend {
            Backend::Local(path) => {
                let mut hasher = blake3::Hasher::new();
                hasher
                    .update_reader(local::open(path, file)?)
                    .map_err(|source| StoreError::io("read", &file.location, source))?;
                Ok(format!("blake3:{}", hasher.finalize().to_hex()))
            }
            #[cfg(feature = "s3")]
            Backend::Remote(bucket) => match file
                .etag
                .clone()
                .map_or_else(|| bucket.etag(file), |etag| Ok(Some(etag)))?
            {
                Some(etag) => Ok(format!("etag:{etag}:{}", file.size)),
                None => Err(StoreError::NoEtag {
                    location: file.location.clone(),
                }),
            },
        }
    }
}

/// Bytes that a bucket is asked for at once, unless told otherwise.
const BLOCK_BYTES: u64 = 4 << 20;

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let bytes = u64::try_from(read).unwrap_or(0);
        self.count.fetch_add(bytes, Ordering::Relaxed);
        Ok(read)
    }
}

/// Reads ranges of a file.
#[derive(Clone, Debug)]
pub struct RandomAccess(Arc<Access>);

#[derive(Debug)]
enum Access {
    Local(File, Arc<AtomicU64>),
    #[cfg(feature = "s3")]
    Remote(remote::RemoteFile),
}

impl RandomAccess {
    /// Why the store did not give what was read last in vain, where that was the store's fault.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        match &*self.0 {
            Access::Local(..) => None,
            #[cfg(feature = "s3")]
            Access::Remote(file) => file.trouble(),
        }
    }
}

impl Length for RandomAccess {
    fn len(&self) -> u64 {
        match &*self.0 {
            Access::Local(file, _) => Length::len(file),
            #[cfg(feature = "s3")]
            Access::Remote(file) => file.len(),
        }
    }
}

impl ChunkReader for RandomAccess {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        match &*self.0 {
            Access::Local(file, count) => Ok(Box::new(Counted {
                inner: file.get_read(start)?,
                count: Arc::clone(count),
            })),
            #[cfg(feature = "s3")]
            Access::Remote(file) => Ok(Box::new(file.read_from(start))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // Room is made for all of it before a byte is read, so a damaged length is not believed.
        let end = u64::try_from(length)
            .ok()
            .and_then(|l| start.checked_add(l));
        if end.is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF(format!(
                "{length} bytes from byte {start} on are not there: the file has {}",
                self.len()
            )));
        }
        match &*self.0 {
            Access::Local(file, count) => {
                count.fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
                file.get_bytes(start, length)
            }
            #[cfg(feature = "s3")]
            Access::Remote(file) => file
                .range(start, length)
                .map_err(|error| ParquetError::External(error.into())),
        }
    }
}

#[cfg(test)]
mod tests;
