//! Objects in memory that a seed makes fail: a write is kept and called a failure, or lost; the whole
//! process ends before it, after it, or in its middle. A write or a removal may be carried out long after
//! the process that asked for it has ended, when others have done much.

use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use millrace_tests::dice::Dice;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use std::fmt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};

/// The end of the process, as a panic that says nothing.
pub(super) struct Crash;

/// What became of writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// Kept, and called a failure.
    pub(super) hidden: u32,
    /// Lost.
    pub(super) lost: u32,
    /// The process ended, and the write was kept.
    pub(super) crashed_after: u32,
    /// The process ended, and the write was lost.
    pub(super) crashed_before: u32,
    /// The process ended, and half of the write was kept.
    pub(super) torn: u32,
    /// The process ended, and the write was carried out later.
    pub(super) late: u32,
}

/// What is carried out later.
enum Late {
    Put(Path, PutPayload, PutOptions),
    Copy(Path, Path, CopyOptions),
    Remove(Path),
}

struct Held {
    dice: Dice,
    faults: Faults,
    late: Vec<Late>,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Objects {
    objects: Arc<InMemory>,
    held: Arc<Mutex<Held>>,
}

impl Objects {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            held: Arc::new(Mutex::new(Held {
                dice: Dice(seed),
                faults: Faults::default(),
                late: Vec::new(),
            })),
        }
    }

    pub(super) fn faults(&self) -> Faults {
        self.held().faults
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nobody panics with the dice")
    }

    /// The objects as they are, without faults.
    pub(super) fn sound(&self) -> Arc<InMemory> {
        Arc::clone(&self.objects)
    }

    /// What happens to a write: a place in the list of faults, or nothing.
    fn roll(&self) -> u64 {
        let mut held = self.held();
        let roll = held.dice.roll(60);
        let faults = &mut held.faults;
        let counted = match roll {
            0 => &mut faults.hidden,
            1 => &mut faults.lost,
            2 => &mut faults.crashed_after,
            3 => &mut faults.crashed_before,
            4 => &mut faults.torn,
            5 => &mut faults.late,
            _ => return roll,
        };
        *counted += 1;
        roll
    }

    /// The process ends, and what it asked for is carried out when others have begun.
    fn later(&self, late: Late) -> ! {
        self.held().late.push(late);
        resume_unwind(Box::new(Crash))
    }

    /// Now and then carries out something of what was asked for long ago.
    async fn catch_up(&self) {
        let due = {
            let mut held = self.held();
            let waiting = u64::try_from(held.late.len()).expect("a count");
            let at = match waiting > 0 && held.dice.roll(25) == 0 {
                true => usize::try_from(held.dice.roll(waiting)).expect("a place"),
                false => return,
            };
            held.late.swap_remove(at)
        };
        self.carry_out(due).await;
    }

    async fn carry_out(&self, late: Late) {
        match late {
            Late::Put(place, payload, options) => {
                let put = self.objects.put_opts(&place, payload, options).await;
                put.map(|_| ()).ok()
            }
            Late::Copy(from, to, options) => self.objects.copy_opts(&from, &to, options).await.ok(),
            Late::Remove(place) => self.objects.delete(&place).await.ok(),
        };
    }

    /// Carries out everything that still waits.
    pub(super) fn settle(&self) {
        let waiting = std::mem::take(&mut self.held().late);
        for late in waiting {
            self.carry_out(late)
                .now_or_never()
                .expect("memory does not wait");
        }
    }
}

fn failure() -> Error {
    Error::Generic {
        store: "simulated",
        source: "no answer".into(),
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Objects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let half = || {
            let bytes: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
            PutPayload::from(bytes[..bytes.len() / 2].to_vec())
        };
        self.catch_up().await;
        match self.roll() {
            0 => {
                let put = self.objects.put_opts(location, payload, options).await;
                put.and_then(|_| Err(failure()))
            }
            1 => Err(failure()),
            2 => {
                self.objects.put_opts(location, payload, options).await.ok();
                resume_unwind(Box::new(Crash))
            }
            3 => resume_unwind(Box::new(Crash)),
            // What decides between two writers is there whole or not at all.
            4 if options.mode == PutMode::Create => resume_unwind(Box::new(Crash)),
            4 => {
                self.objects.put(location, half()).await.ok();
                resume_unwind(Box::new(Crash))
            }
            5 => self.later(Late::Put(location.clone(), payload, options)),
            _ => self.objects.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.objects.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let objects = self.clone();
        let remove = move |place: Result<Path>| {
            let objects = objects.clone();
            async move {
                let place = place?;
                let is_late = objects.held().dice.roll(20) == 0;
                if is_late {
                    objects.held().faults.late += 1;
                    objects.later(Late::Remove(place));
                }
                objects.objects.delete(&place).await.map(|()| place)
            }
        };
        locations.then(remove).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    /// A move is a copy and a removal, so the process may end between them.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.catch_up().await;
        match self.roll() {
            0 => {
                let copied = self.objects.copy_opts(from, to, options).await;
                copied.and_then(|()| Err(failure()))
            }
            1 => Err(failure()),
            2 => {
                self.objects.copy_opts(from, to, options).await.ok();
                resume_unwind(Box::new(Crash))
            }
            3 | 4 => resume_unwind(Box::new(Crash)),
            5 => self.later(Late::Copy(from.clone(), to.clone(), options)),
            _ => self.objects.copy_opts(from, to, options).await,
        }
    }
}
