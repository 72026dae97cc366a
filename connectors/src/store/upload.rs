//! Objects that are sent in parts: they appear when they are whole, or not at all.
//!
//! A bucket keeps the parts of an upload, and asks money for them, until it is completed or aborted. So
//! whoever gives an upload up aborts it: because a part was refused, because nobody finishes it, or
//! because the process ends. Of a process that is killed they stay; a lifecycle rule of the bucket takes
//! them away.

use super::silence::Silence;
use super::wait::wait;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all, pending};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, UploadPart};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem::take;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Bytes of a part: no store takes smaller ones, but for the last.
const PART: usize = 5 << 20;
/// Parts in flight while the next is filled.
const PARTS_IN_FLIGHT: usize = 4;
/// How long it may take to abort uploads.
const FAREWELL: Duration = Duration::from_secs(3);

/// An upload that is neither completed nor aborted. Where it has been taken from its owner the process ends,
/// and the owner waits for that.
type Open = Mutex<Option<Box<dyn MultipartUpload>>>;

/// Those of this process; some may be gone.
static OPEN: Mutex<Vec<Weak<Open>>> = Mutex::new(Vec::new());

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // An upload is put in or taken out whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
pub(super) struct Upload {
    open: Arc<Open>,
    /// What is not sent yet.
    part: Vec<u8>,
    sent: JoinSet<object_store::Result<()>>,
    silence: Arc<Silence>,
}

impl Upload {
    pub(super) fn of(upload: Box<dyn MultipartUpload>, silence: Arc<Silence>) -> Self {
        let open = Arc::new(Mutex::new(Some(upload)));
        let mut all = held(&OPEN);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&open));
        Self {
            open,
            part: Vec::new(),
            sent: JoinSet::new(),
            silence,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PART - self.part.len();
        let (now, _) = bytes.split_at(bytes.len().min(room));
        self.part.extend_from_slice(now);
        if self.part.len() == PART {
            wait(self.send())?.map_err(io::Error::other)?;
        }
        Ok(now.len())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        wait(async {
            if !self.part.is_empty() {
                self.send().await?;
            }
            self.arrive(1).await?;
            let upload = held(&self.open).take();
            let Some(mut upload) = upload else {
                return pending().await;
            };
            let whole = self.silence.ask(upload.complete()).await;
            if whole.is_err() {
                // It is aborted with the others.
                *held(&self.open) = Some(upload);
            }
            whole.map(|_| ())
        })?
        .map_err(io::Error::other)
    }

    /// Sends a part, when few enough are under way.
    async fn send(&mut self) -> object_store::Result<()> {
        self.arrive(PARTS_IN_FLIGHT).await?;
        let part = PutPayload::from(take(&mut self.part));
        let sent = held(&self.open).as_mut().map(|open| open.put_part(part));
        match sent {
            Some(sent) => drop(self.sent.spawn(sent)),
            None => pending().await,
        }
        Ok(())
    }

    /// Waits until fewer than `most` parts are under way.
    async fn arrive(&mut self, most: usize) -> object_store::Result<()> {
        let Self { sent, silence, .. } = self;
        while sent.len() >= most {
            let arrived = async {
                let arrived = sent.join_next().await;
                let joined = arrived.unwrap_or(Ok(Ok(())));
                joined.map_err(|source| object_store::Error::JoinError { source })?
            };
            silence.ask(arrived).await?;
        }
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let upload = held(&self.open).take();
        let Some(mut upload) = upload else {
            return;
        };
        let abort = async {
            self.sent.shutdown().await;
            // Whoever gives it up has said why; a store that is silent has its parts still.
            let aborted = timeout(FAREWELL, self.silence.ask(upload.abort()));
            aborted.await.ok()
        };
        wait(abort).ok();
    }
}

/// The parts of an upload that somebody else completes.
#[derive(Clone)]
pub(super) struct Kept {
    upload: String,
    parts: Arc<Mutex<BTreeMap<usize, String>>>,
}

impl Kept {
    /// The upload and its parts, as the bucket calls them.
    pub(super) fn into_parts(self) -> (String, Vec<String>) {
        let parts = std::mem::take(&mut *held(&self.parts));
        (self.upload, parts.into_values().collect())
    }
}

/// An upload that is whole when all of its parts are sent, and is not completed.
struct Uncompleted {
    store: Arc<dyn MultipartStore>,
    path: Path,
    kept: Kept,
    next: usize,
}

impl fmt::Debug for Uncompleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uncompleted")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// An upload of this name and place, and what is known of it once it is whole.
pub(super) fn uncompleted(
    store: Arc<dyn MultipartStore>,
    path: Path,
    upload: String,
) -> (Box<dyn MultipartUpload>, Kept) {
    let kept = Kept {
        upload,
        parts: Arc::default(),
    };
    let upload = Uncompleted {
        store,
        path,
        kept: kept.clone(),
        next: 0,
    };
    (Box::new(upload), kept)
}

impl MultipartUpload for Uncompleted {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, path, kept) = (
            Arc::clone(&self.store),
            self.path.clone(),
            self.kept.clone(),
        );
        let number = self.next;
        self.next += 1;
        async move {
            let part = store.put_part(&path, &kept.upload, number, data).await?;
            held(&kept.parts).insert(number, part.content_id);
            Ok(())
        }
        .boxed()
    }

    fn complete<'s, 'f>(&'s mut self) -> BoxFuture<'f, object_store::Result<PutResult>>
    where
        's: 'f,
        Self: 'f,
    {
        let whole = PutResult {
            e_tag: None,
            version: None,
        };
        std::future::ready(Ok(whole)).boxed()
    }

    fn abort<'s, 'f>(&'s mut self) -> BoxFuture<'f, object_store::Result<()>>
    where
        's: 'f,
        Self: 'f,
    {
        self.store.abort_multipart(&self.path, &self.kept.upload)
    }
}

/// Aborts what is being sent, for a process that ends. Waits no longer than a few seconds for a store that
/// does not answer.
pub(super) fn abort_all() {
    // Whoever ends the process may have stopped a thread that holds it.
    let open = OPEN.try_lock().map(|all| taken(&all));
    abort(open.unwrap_or_default());
}

/// The uploads among these that are open; one that is just being finished stays its owner's.
fn taken(all: &[Weak<Open>]) -> Vec<Box<dyn MultipartUpload>> {
    let open = all.iter().filter_map(Weak::upgrade);
    open.filter_map(|open| open.try_lock().ok().and_then(|mut open| open.take()))
        .collect()
}

fn abort(open: Vec<Box<dyn MultipartUpload>>) {
    if open.is_empty() {
        return;
    }
    // Nobody knows on which thread a process ends: it may be that of the store.
    let (tell, done) = channel();
    let abort = move || {
        let each = open.into_iter().map(|mut open| async move {
            open.abort().await.ok();
        });
        let all = join_all(each);
        wait(async { timeout(FAREWELL, all).await.ok() }).ok();
        tell.send(()).ok();
    };
    let thread = std::thread::Builder::new().name("farewell".to_owned());
    if thread.spawn(abort).is_ok() {
        done.recv_timeout(FAREWELL).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts what it is asked; the part of this number is refused.
    #[derive(Debug, Default)]
    struct Asked {
        parts: AtomicUsize,
        bytes: AtomicUsize,
        completed: AtomicUsize,
        aborted: AtomicUsize,
        refused: Option<usize>,
        refuses_the_whole: bool,
    }

    #[derive(Debug)]
    struct Fake(Arc<Asked>);

    fn refused() -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: "status code: 403".into(),
        }
    }

    impl MultipartUpload for Fake {
        fn put_part(&mut self, data: PutPayload) -> UploadPart {
            let number = self.0.parts.fetch_add(1, Ordering::Relaxed);
            let bytes = data.content_length();
            self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
            let is_refused = self.0.refused == Some(number);
            std::future::ready(if is_refused { Err(refused()) } else { Ok(()) }).boxed()
        }

        fn complete<'s, 'f>(&'s mut self) -> BoxFuture<'f, object_store::Result<PutResult>>
        where
            's: 'f,
            Self: 'f,
        {
            let result = PutResult {
                e_tag: None,
                version: None,
            };
            let result = match self.0.refuses_the_whole {
                true => Err(refused()),
                false => Ok(result),
            };
            self.0
                .completed
                .fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
            std::future::ready(result).boxed()
        }

        fn abort<'s, 'f>(&'s mut self) -> BoxFuture<'f, object_store::Result<()>>
        where
            's: 'f,
            Self: 'f,
        {
            self.0.aborted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(())).boxed()
        }
    }

    /// Sends so many bytes; says what came to the store: parts, bytes, completed, aborted.
    fn sent(asked: Asked, bytes: usize, finishes: bool) -> (bool, [usize; 4]) {
        let asked = Arc::new(asked);
        let silence = Arc::new(Silence::of(super::super::silence::PATIENCE));
        let mut upload = Upload::of(Box::new(Fake(Arc::clone(&asked))), silence);
        let content = vec![7; bytes];
        let written = io::Write::write_all(&mut Through(&mut upload), &content);
        let done = written.and_then(|()| {
            if finishes {
                return upload.finish();
            }
            drop(upload);
            Ok(())
        });
        let told = [&asked.parts, &asked.bytes, &asked.completed, &asked.aborted];
        (
            done.is_ok(),
            told.map(|count| count.load(Ordering::Relaxed)),
        )
    }

    struct Through<'u>(&'u mut Upload);

    impl io::Write for Through<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_whole_is_completed() {
        for (bytes, parts) in [(0, 0), (1, 1), (PART, 1), (9 * PART + 1, 10)] {
            let told = sent(Asked::default(), bytes, true);
            assert_eq!(told, (true, [parts, bytes, 1, 0]));
        }
    }

    #[test]
    fn what_is_given_up_is_aborted() {
        let (ok, told) = sent(Asked::default(), 2 * PART + 1, false);
        assert_eq!((ok, told), (true, [2, 2 * PART, 0, 1]));
        for refused in [0, 9] {
            let asked = Asked {
                refused: Some(refused),
                ..Asked::default()
            };
            let (ok, [_, _, completed, aborted]) = sent(asked, 9 * PART + 1, true);
            assert_eq!((ok, completed, aborted), (false, 0, 1), "part {refused}");
        }
        let asked = Asked {
            refuses_the_whole: true,
            ..Asked::default()
        };
        assert_eq!(sent(asked, 1, true), (false, [1, 1, 0, 1]));
    }

    #[test]
    fn a_process_that_ends_aborts_what_is_open() {
        let asked = Arc::<Asked>::default();
        let silence = Arc::new(Silence::of(super::super::silence::PATIENCE));
        let mut upload = Upload::of(Box::new(Fake(Arc::clone(&asked))), silence);
        upload.write(b"x").unwrap();
        abort(taken(&[Arc::downgrade(&upload.open)]));
        assert_eq!(asked.aborted.load(Ordering::Relaxed), 1);
        drop(upload);
        assert_eq!(asked.aborted.load(Ordering::Relaxed), 1);
        assert_eq!(asked.completed.load(Ordering::Relaxed), 0);
    }
}
