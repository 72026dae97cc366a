//! Buckets behind the S3 protocol, bridged from async to blocking.
//!
//! Ranges are fetched in blocks and a few blocks are kept, because a Parquet reader asks for page after page
//! of several columns in turn.
//!
//! A name is the object's key as it is, whatever characters it has. What `object_store` has no path for,
//! a key with `//` above all, is listed but cannot be read: its neighbours are, and whoever asks for it is
//! told.
//!
//! One store is behind all buckets of a process, so how long it was silent is known to all of them.

mod blocks;

use super::conditional::{Client, Conditional};
use super::error::{StoreError, stream_error};
use super::file::{FileMeta, is_input};
use super::heard::Heard;
use super::put::{Put, Renamed, Waiting};
use super::silence::{PATIENCE, Silence};
use super::upload::{Kept, Upload, uncompleted};
use super::wait::wait;
pub(super) use blocks::RemoteFile;
use blocks::{Blocks, Streamed};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3CopyIfNotExists};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::{Error as PathError, Path};
use object_store::{
    ClientConfigKey, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
};
use std::fmt;
use std::future::Future;
use std::io::Read;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// Keys of a page; no store gives more.
const PAGE_KEYS: usize = 1000;
/// Why there is no path for a key.
const REFUSED: &str = "a key with an empty part (`//`), with `.` or `..` as a part, or with control \
                       characters cannot be used; give the object another name";
/// Why a bucket is not opened.
const NO_KEYS: &str = "there are no keys, and AWS_EC2_METADATA_DISABLED says not to ask the instance for \
                       them; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// What no object has.
const NO_ETAG: &str = "\"00000000000000000000000000000000\"";

pub(super) struct Bucket {
    location: String,
    root: String,
    prefix: Path,
    objects: Arc<dyn ObjectStore>,
    /// The same objects, for those who list them page by page.
    pages: Option<Arc<dyn PaginatedListStore>>,
    /// The same objects, for those who complete an upload that others have sent.
    uploads: Option<Arc<dyn MultipartStore>>,
    /// Takes objects away that are what they were, where the store can.
    conditional: Option<Conditional>,
    silence: Arc<Silence>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// What lies below a location.
#[derive(Default)]
struct Found {
    objects: Vec<ObjectMeta>,
    /// Keys that there is no path for; of those that begin alike up to a `//`, that beginning.
    refused: Vec<String>,
}

/// Everything below a path. A key that there is no path for fails the page that it is on, so such a page
/// is asked for in ever smaller parts, until the key is alone and can be passed over.
async fn listed(
    pages: &dyn PaginatedListStore,
    below: Option<&Path>,
    silence: &Silence,
) -> object_store::Result<Found> {
    let prefix = below.map(|below| format!("{below}/"));
    let mut found = Found::default();
    let (mut page_token, mut offset, mut most) = (None, None, PAGE_KEYS);
    loop {
        let options = PaginatedListOptions {
            offset: offset.clone(),
            page_token: page_token.clone(),
            max_keys: Some(most),
            ..PaginatedListOptions::default()
        };
        let page = pages.list_paginated(prefix.as_deref(), options);
        let error = match silence.ask(page).await {
            Ok(page) => {
                found.objects.extend(page.result.objects);
                page_token = page.page_token;
                if page_token.is_none() {
                    return Ok(found);
                }
                most = PAGE_KEYS.min(most * 2);
                continue;
            }
            Err(error) => error,
        };
        let key = match &error {
            object_store::Error::InvalidPath {
                source: PathError::EmptySegment { path } | PathError::BadSegment { path, .. },
            } => path.clone(),
            _ => return Err(error),
        };
        if most > 1 {
            most /= 2;
            continue;
        }
        // All keys that begin alike up to a `//` are refused: behind this text comes none of them.
        let (refused, last) = match key.find("//") {
            Some(at) => {
                let alike = &key[..at + 2];
                (alike.to_owned(), format!("{alike}{}", char::MAX))
            }
            None => (key.clone(), key),
        };
        // A store that goes on from where it was asked not to would do so for ever.
        if found.refused.last() == Some(&refused) {
            return Err(error);
        }
        found.refused.push(refused);
        (page_token, offset) = (None, Some(last));
    }
}

impl Bucket {
    /// Opens `bucket/prefix`, the part of the location behind `s3://`.
    pub(super) fn open(location: &str, rest: &str) -> Result<Self, StoreError> {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(StoreError::Unsupported {
                location: location.to_owned(),
                hint: "the bucket is missing; write s3://bucket/prefix",
            });
        }
        let client = Client::default();
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_http_connector(client.clone())
            .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
            .with_retry(retries());
        if asks_instance(&builder) && is_told_not_to() {
            return Err(StoreError::Unsupported {
                location: location.to_owned(),
                hint: NO_KEYS,
            });
        }
        let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").or(std::env::var("AWS_ENDPOINT_URL"));
        if endpoint.is_ok_and(|endpoint| is_loopback(&endpoint)) {
            builder = builder.with_allow_http(true);
        }
        let prefix = parsed(prefix, location)?;
        let silence = of_process(&builder);
        let failed = |error| StoreError::remote("open", location, error);
        let nobodys = is_unsigned(&builder).then(|| {
            let keyed = builder.clone().with_access_key_id("nobody");
            keyed.with_secret_access_key("nothing")
        });
        let objects = Arc::new(builder.build().map_err(failed)?);
        let conditional = match nobodys {
            None => Conditional::of(Arc::clone(&objects) as _, client),
            Some(nobodys) => {
                Conditional::unsigned(Arc::new(nobodys.build().map_err(failed)?), client)
            }
        };
        Ok(Self {
            location: location.to_owned(),
            root: format!("s3://{bucket}/"),
            prefix,
            pages: Some(Arc::clone(&objects) as _),
            uploads: Some(Arc::clone(&objects) as _),
            conditional: Some(conditional),
            objects,
            silence,
        })
    }

    /// All of `objects`.
    pub(super) fn over(location: &str, objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            location: location.to_owned(),
            root: format!("{location}/"),
            prefix: Path::default(),
            objects,
            pages: None,
            uploads: None,
            conditional: None,
            silence: Arc::new(Silence::of(PATIENCE)),
        }
    }

    /// What a request brings; `attempt` is what it is for.
    fn ask<T>(
        &self,
        attempt: &'static str,
        location: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        wait(self.silence.ask(request))
            .map_err(|error| StoreError::io(attempt, location, error))?
            .map_err(|error| StoreError::remote(attempt, location, error))
    }

    /// Everything that a stream of answers brings.
    async fn all<T>(
        &self,
        answers: impl Stream<Item = object_store::Result<T>> + Unpin,
    ) -> object_store::Result<Vec<T>> {
        let (mut answers, mut all) = (answers, Vec::new());
        while let Some(answer) = self.silence.ask(answers.try_next()).await? {
            all.push(answer);
        }
        Ok(all)
    }

    /// The description of an object. A refusal of it has no text, so that of a listing is told.
    fn head(&self, path: &Path, location: &str) -> Result<ObjectMeta, StoreError> {
        let found = self.ask("find", location, self.objects.head(path));
        match (found, &self.pages) {
            (Err(StoreError::Denied { .. }), Some(pages)) => {
                let options = PaginatedListOptions {
                    max_keys: Some(1),
                    ..PaginatedListOptions::default()
                };
                let page = pages.list_paginated(Some(path.as_ref()), options);
                match self.ask("find", location, page) {
                    Err(told) => Err(told),
                    // It may list, and not read.
                    Ok(_) => self.ask("find", location, self.objects.head(path)),
                }
            }
            (found, _) => found,
        }
    }

    pub(super) fn objects(&self) -> (&str, Arc<dyn ObjectStore>) {
        let heard = Heard {
            objects: Arc::clone(&self.objects),
            silence: Arc::clone(&self.silence),
        };
        (&self.root, Arc::new(heard))
    }

    pub(super) fn list(&self) -> Result<Vec<FileMeta>, StoreError> {
        let below = (!self.prefix.as_ref().is_empty()).then_some(&self.prefix);
        let found = wait(async {
            match &self.pages {
                Some(pages) => listed(pages.as_ref(), below, &self.silence).await,
                None => Ok(Found {
                    objects: self.all(self.objects.list(below)).await?,
                    refused: Vec::new(),
                }),
            }
        })
        .map_err(|error| StoreError::io("list", &self.location, error))?
        .map_err(|error| StoreError::remote("list", &self.location, error))?;
        let file = |key: &str, size: u64, etag: Option<String>| {
            let name = key.strip_prefix(self.prefix.as_ref())?;
            let name = match below {
                Some(_) => name.strip_prefix('/')?,
                None => name,
            };
            Some(FileMeta {
                name: name.to_owned(),
                location: format!("{}{key}", self.root),
                size,
                etag,
            })
        };
        let objects = found.objects.into_iter().filter_map(|object| {
            let file = file(object.location.as_ref(), object.size, object.e_tag)?;
            let is_marker = file.size == 0 && !file.name.contains('.');
            (is_input(&file.name) && !file.name.is_empty() && !is_marker).then_some(file)
        });
        // They are told of by whoever reads them.
        let refused = found.refused.iter().filter_map(|key| {
            let file = file(key, 0, None)?;
            is_input(file.name.trim_end_matches('/')).then_some(file)
        });
        let mut files: Vec<FileMeta> = objects.chain(refused).collect();
        if files.is_empty() && below.is_some() {
            // Nothing lies below the location: it may be an object itself.
            match self.ask("list", &self.location, self.objects.head(&self.prefix)) {
                Ok(object) => files.push(FileMeta {
                    name: self.prefix.filename().unwrap_or_default().to_owned(),
                    location: self.location.clone(),
                    size: object.size,
                    etag: object.e_tag,
                }),
                // An empty prefix is a folder that no file has arrived in yet.
                Err(StoreError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    pub(super) fn find(&self, name: &str) -> Result<FileMeta, StoreError> {
        let (path, location) = self.at(name)?;
        let object = self.head(&path, &location)?;
        Ok(FileMeta {
            name: name.to_owned(),
            location,
            size: object.size,
            etag: object.e_tag,
        })
    }

    /// The etag of an object, from stores that do not give it in listings.
    pub(super) fn etag(&self, file: &FileMeta) -> Result<Option<String>, StoreError> {
        let object = self.head(&self.path(file)?, &file.location)?;
        Ok(object.e_tag)
    }

    fn path(&self, file: &FileMeta) -> Result<Path, StoreError> {
        let key = file.location.strip_prefix(&self.root);
        parsed(key.unwrap_or(&file.location), &file.location)
    }

    pub(super) fn read(&self, file: &FileMeta) -> Result<Box<dyn Read + Send>, StoreError> {
        let path = self.path(file)?;
        let result = self.ask("open", &file.location, self.objects.get(&path))?;
        let (mut stream, silence) = (result.into_stream(), Arc::clone(&self.silence));
        Ok(Box::new(Streamed {
            next: Box::new(move || wait(silence.ask(stream.try_next()))?.map_err(stream_error)),
            held: Bytes::new(),
        }))
    }

    pub(super) fn random(&self, file: &FileMeta, block: u64, count: Arc<AtomicU64>) -> RemoteFile {
        RemoteFile(Arc::new(Blocks {
            block: block.max(1),
            count,
            objects: Arc::clone(&self.objects),
            path: self.path(file).map_err(|error| error.to_string()),
            location: file.location.clone(),
            trouble: Mutex::default(),
            size: file.size,
            kept: Mutex::default(),
            silence: Arc::clone(&self.silence),
        }))
    }
}

/// The path of a key as it is. `Path::from` would encode characters of it, and name another object.
fn parsed(key: &str, location: &str) -> Result<Path, StoreError> {
    Path::parse(key).map_err(|_| StoreError::Unsupported {
        location: location.to_owned(),
        hint: REFUSED,
    })
}

impl Bucket {
    /// Starts an object below the prefix; returns where it will be.
    pub(super) fn upload(&self, name: &str) -> Result<(String, Upload), StoreError> {
        let (path, location) = self.at(name)?;
        let upload = self.ask("create", &location, self.objects.put_multipart(&path))?;
        let upload = Upload::of(upload, Arc::clone(&self.silence));
        Ok((location, upload))
    }

    /// Starts an upload that somebody else completes, where the store knows uploads by name.
    pub(super) fn upload_waiting(
        &self,
        name: &str,
    ) -> Result<Option<(String, Upload, Kept)>, StoreError> {
        let Some(uploads) = &self.uploads else {
            return Ok(None);
        };
        let (path, location) = self.at(name)?;
        let id = self.ask("create", &location, uploads.create_multipart(&path))?;
        let (upload, kept) = uncompleted(Arc::clone(uploads), path, id);
        let upload = Upload::of(upload, Arc::clone(&self.silence));
        Ok(Some((location, upload, kept)))
    }

    /// Completes an upload; says whether it was known.
    pub(super) fn complete(&self, name: &str, waiting: &Waiting) -> Result<bool, StoreError> {
        let Some(uploads) = &self.uploads else {
            return Ok(false);
        };
        let (path, location) = self.at(name)?;
        let parts = waiting.parts.iter().map(|part| PartId {
            content_id: part.clone(),
        });
        let whole = uploads.complete_multipart(&path, &waiting.upload, parts.collect());
        match self.ask("complete", &location, whole) {
            Ok(_) => Ok(true),
            // Some say of an upload that they do not know that it is not ours.
            Err(StoreError::Missing { .. } | StoreError::Denied { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn abandon(&self, name: &str, waiting: &Waiting) {
        if let (Some(uploads), Ok((path, location))) = (&self.uploads, self.at(name)) {
            let abort = uploads.abort_multipart(&path, &waiting.upload);
            // Whoever gives it up has said why.
            self.ask("abort", &location, abort).ok();
        }
    }

    /// Deletes the objects below a folder.
    pub(super) fn clear(&self, folder: &str) -> Result<(), StoreError> {
        let (below, location) = self.at(folder)?;
        let listed = self
            .objects
            .list(Some(&below))
            .map_ok(|object| object.location)
            .boxed();
        let deleted = self.objects.delete_stream(listed);
        wait(self.all(deleted))
            .map_err(|error| StoreError::io("clear", &location, error))?
            .map_err(|error| StoreError::remote("clear", &location, error))?;
        Ok(())
    }
}

impl Bucket {
    /// The object of this name, and where it is.
    fn at(&self, name: &str) -> Result<(Path, String), StoreError> {
        let key = match self.prefix.as_ref() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        let location = format!("{}{key}", self.root);
        Ok((parsed(&key, &location)?, location))
    }

    /// Writes an object at once.
    pub(super) fn put(&self, name: &str, bytes: &[u8], replace: bool) -> Result<Put, StoreError> {
        let (path, location) = self.at(name)?;
        let mode = if replace {
            PutMode::Overwrite
        } else {
            PutMode::Create
        };
        let payload = PutPayload::from(bytes.to_vec());
        let put = self.objects.put_opts(&path, payload, mode.into());
        let put = wait(self.silence.ask(put));
        match put.map_err(|error| StoreError::io("write", &location, error))? {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Exists),
            Err(error) => Err(StoreError::remote("write", &location, error)),
        }
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), StoreError> {
        let (path, location) = self.at(name)?;
        match self.ask("remove", &location, self.objects.delete(&path)) {
            Ok(()) | Err(StoreError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<bool, StoreError> {
        let ((from, location), (to, _)) = (self.at(from)?, self.at(to)?);
        let moved = wait(self.silence.ask(self.objects.rename(&from, &to)));
        match moved.map_err(|error| StoreError::io("move", &location, error))? {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(StoreError::remote("move", &location, error)),
        }
    }

    /// Copies an object to a name that no other has.
    pub(super) fn copy_new(&self, from: &str, to: &str) -> Result<Renamed, StoreError> {
        let ((from, location), (to, _)) = (self.at(from)?, self.at(to)?);
        let copied = wait(
            self.silence
                .ask(self.objects.copy_if_not_exists(&from, &to)),
        );
        match copied.map_err(|error| StoreError::io("copy", &location, error))? {
            Ok(()) => Ok(Renamed::Done),
            Err(object_store::Error::NotFound { .. }) => Ok(Renamed::Gone),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Renamed::Taken),
            Err(error) => Err(StoreError::remote("copy", &location, error)),
        }
    }

    /// Makes sure that an object is taken away on condition that it is what it was. Asked once: an object of
    /// no use is made below `folder`, and the store must refuse to take it for another.
    pub(super) fn removes_as_found(&self, folder: &str) -> Result<(), StoreError> {
        let (_, location) = self.at(folder)?;
        let able = self.conditional.as_ref().map(|conditional| {
            conditional.is_able(|| {
                let name = format!("{folder}/_asked-{}", super::random_name());
                let (path, location) = self.at(&name)?;
                self.put(&name, b"x", false)?;
                let removed = conditional.remove(&path, NO_ETAG);
                let removed = self.ask("remove", &location, removed);
                self.remove(&name)?;
                Ok(removed? == Some(false))
            })
        });
        match able.unwrap_or(Ok(false))? {
            true => Ok(()),
            false => Err(StoreError::Unconditional { location }),
        }
    }

    /// Takes an object away, if it is what had this etag. Says whether none of its name is left.
    pub(super) fn remove_as(&self, name: &str, etag: &str) -> Result<bool, StoreError> {
        let (path, location) = self.at(name)?;
        let unable = || StoreError::Unconditional {
            location: location.clone(),
        };
        let conditional = self.conditional.as_ref().ok_or_else(unable)?;
        let removed = self.ask("remove", &location, conditional.remove(&path, etag))?;
        removed.ok_or_else(unable)
    }

    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let (below, location) = self.at(folder)?;
        let listed = self.objects.list_with_delimiter(Some(&below));
        let listed = self.ask("list", &location, listed)?;
        let name = |object: object_store::ObjectMeta| {
            let name = object.location.filename()?;
            Some(name.to_owned())
        };
        Ok(listed.objects.into_iter().filter_map(name).collect())
    }

    pub(super) fn names_within(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let (below, location) = self.at(folder)?;
        let listed = wait(self.all(self.objects.list(Some(&below))))
            .map_err(|error| StoreError::io("list", &location, error))?
            .map_err(|error| StoreError::remote("list", &location, error))?;
        let prefix = match self.prefix.as_ref() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let name = |object: object_store::ObjectMeta| {
            let name = object.location.as_ref().strip_prefix(&prefix)?;
            Some(name.to_owned())
        };
        Ok(listed.into_iter().filter_map(name).collect())
    }
}

/// A person waits for the first answer, so an endpoint that is not there must be said soon.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 5,
        retry_timeout: Duration::from_secs(30),
        ..RetryConfig::default()
    }
}

/// What is heard of the store of this process. Where a request may take longer, so may a silence.
fn of_process(builder: &AmazonS3Builder) -> Arc<Silence> {
    static SILENCE: OnceLock<Arc<Silence>> = OnceLock::new();
    let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
    let timeout = builder.get_config_value(&timeout);
    let timeout = timeout.and_then(|timeout| timeout.parse::<jiff::SignedDuration>().ok());
    let timeout = timeout.and_then(|timeout| Duration::try_from(timeout).ok());
    let patience = timeout.map_or(PATIENCE, |timeout| PATIENCE.max(timeout));
    Arc::clone(SILENCE.get_or_init(|| Arc::new(Silence::of(patience))))
}

/// Whether keys would be asked for at the metadata address of an instance, because none are given and
/// nothing else says where they are.
fn asks_instance(builder: &AmazonS3Builder) -> bool {
    use AmazonS3ConfigKey as Key;
    let has = |key: Key| builder.get_config_value(&key).is_some();
    let has_all = |keys: [Key; 2]| keys.into_iter().all(has);
    !(has(Key::AccessKeyId)
        || has(Key::SecretAccessKey)
        || has_all([Key::WebIdentityTokenFile, Key::RoleArn])
        || has(Key::ContainerCredentialsRelativeUri)
        || has_all([
            Key::ContainerCredentialsFullUri,
            Key::ContainerAuthorizationTokenFile,
        ])
        || is_unsigned(builder))
}

/// Whether requests have no signature.
fn is_unsigned(builder: &AmazonS3Builder) -> bool {
    let unsigned = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature);
    unsigned.is_some_and(|unsigned| {
        let unsigned = unsigned.to_ascii_lowercase();
        ["1", "true", "on", "yes", "y"].contains(&unsigned.as_str())
    })
}

/// Whether the environment says that nobody is to be asked there, in the words of AWS.
fn is_told_not_to() -> bool {
    let told = std::env::var("AWS_EC2_METADATA_DISABLED");
    told.is_ok_and(|told| told.trim().eq_ignore_ascii_case("true"))
}

/// Whether an endpoint is on this machine, where plain HTTP gives nothing away.
fn is_loopback(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
