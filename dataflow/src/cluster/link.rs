//! Control links: how processes start together, hear that the others live, and end together.
//!
//! Every process has one to process 0, and from the beginning of a run on one to each other. A thread per
//! link listens, one more says every second that this process lives. Who is not heard for ten seconds is
//! lost, whatever the state of its sockets: a process that is stopped, or a network that swallows what is
//! sent, closes nothing.

use super::line::Line;
use super::wire::{self, Word};
use crate::crash::EXIT_LOST;
use crate::crash::end_process;
use millrace_operators::epoch::Epoch;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use timely::communication::allocator::zero_copy::stream::Stream as _;

/// How often a process says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How long one may be silent.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// A control link to another process.
#[derive(Debug)]
struct Link {
    /// Unlike others to the same process, which may have come before.
    number: u64,
    line: Line,
}

/// What a link brings: a word, or why it will bring no more.
pub(super) type Heard = Result<Word, String>;

/// The control links of a process.
#[derive(Debug)]
pub struct Links {
    /// By process; shared with the thread that says that this one lives.
    links: Arc<Mutex<BTreeMap<usize, Link>>>,
    heard: Receiver<(u64, usize, Heard)>,
    tell: Sender<(u64, usize, Heard)>,
    made: u64,
    bound: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

/// What a process does on words of a run under way.
pub struct Ears {
    /// Which process this is, in words.
    pub me: String,
    /// Process 0 has bound the epochs before this one.
    pub bound: Box<dyn Fn(Epoch) + Send>,
    /// Another process was told to end.
    pub end: Box<dyn Fn() + Send>,
    /// Process 0 has done its part; whether the job begins again.
    pub over: Box<dyn Fn(bool) + Send>,
}

impl Links {
    /// No links yet.
    pub(super) fn new() -> io::Result<Self> {
        let (tell, heard) = channel();
        let links = Self {
            links: Arc::default(),
            heard,
            tell,
            made: 0,
            bound: Arc::default(),
            over: Arc::default(),
        };
        // The links end with whoever holds them, and this thread with the links.
        let (all, bound) = (Arc::downgrade(&links.links), Arc::clone(&links.bound));
        let beat = move || {
            while let Some(all) = all.upgrade() {
                send_all(&all, &Word::Alive(bound.load(Ordering::Relaxed)));
                drop(all);
                std::thread::sleep(BEAT);
            }
        };
        let thread = std::thread::Builder::new().name("heartbeat".to_owned());
        thread.spawn(beat)?;
        Ok(links)
    }

    /// Takes a link to a process, in the place of one there was.
    pub(super) fn add(&mut self, process: usize, line: Line) -> io::Result<()> {
        line.limit(Some(SILENCE))?;
        let mut reader = line.try_clone()?;
        self.made += 1;
        let (number, tell) = (self.made, self.tell.clone());
        let listen = move || {
            loop {
                let heard = wire::read(&mut reader).map_err(|error| reason(&error));
                let last = heard.is_err();
                if tell.send((number, process, heard)).is_err() || last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("link {process}"));
        thread.spawn(listen)?;
        held(&self.links).insert(process, Link { number, line });
        Ok(())
    }

    pub(super) fn has(&self, process: usize) -> bool {
        held(&self.links).contains_key(&process)
    }

    pub(super) fn count(&self) -> usize {
        held(&self.links).len()
    }

    pub(super) fn drop_link(&mut self, process: usize) {
        if let Some(link) = held(&self.links).remove(&process) {
            link.line.shutdown(Shutdown::Both).ok();
        }
    }

    /// The next word of a link that still stands, and of which process; nothing within `patience`.
    pub(super) fn hear(&self, patience: Duration) -> Option<(usize, Heard)> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (number, process, heard) = self.heard.recv_timeout(left).ok()?;
            let links = held(&self.links);
            if links.get(&process).is_some_and(|l| l.number == number) {
                return Some((process, heard));
            }
        }
    }

    /// Says a word to everybody; who is gone is noticed elsewhere.
    pub(super) fn say(&self, word: &Word) {
        send_all(&self.links, word);
    }

    /// The first epoch that is not bound, for the others to know.
    #[must_use]
    pub fn bound(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bound)
    }

    /// Listens while the run is under way; ends the process when another is lost.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn attend(self, ears: Ears) -> io::Result<Attending> {
        let (links, over) = (Arc::clone(&self.links), Arc::clone(&self.over));
        let listen = move || {
            let mut gone = BTreeSet::new();
            while !self.over.load(Ordering::Relaxed) {
                let heard = self.heard.recv_timeout(BEAT);
                let (_, process, heard) = match heard {
                    Ok(heard) => heard,
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                match heard {
                    Ok(Word::Alive(bound)) => (ears.bound)(bound),
                    Ok(Word::End) => (ears.end)(),
                    Ok(word @ (Word::Bye | Word::Again)) => {
                        gone.insert(process);
                        // The others say nothing of what process 0 does next.
                        if process == 0 {
                            (ears.over)(word == Word::Again);
                        }
                    }
                    Ok(Word::Failed(reason)) => lose(&ears.me, process, &reason),
                    Ok(_) => {}
                    Err(reason) if !gone.contains(&process) => {
                        if !self.over.load(Ordering::Relaxed) {
                            lose(&ears.me, process, &reason);
                        }
                    }
                    Err(_) => {}
                }
            }
        };
        let thread = std::thread::Builder::new().name("links".to_owned());
        thread.spawn(listen)?;
        Ok(Attending { links, over })
    }
}

/// A process of a run under way.
#[derive(Clone, Debug)]
pub struct Attending {
    links: Arc<Mutex<BTreeMap<usize, Link>>>,
    over: Arc<AtomicBool>,
}

impl Attending {
    /// Asks process 0 to end the job in good order.
    pub fn ask_for_end(&self) {
        send_all(&self.links, &Word::End);
    }

    /// This process's part is done, or it failed.
    pub fn finish(&self, failed: Option<String>) {
        self.leave(&failed.map_or(Word::Bye, Word::Failed));
    }

    /// The run is done, and the job begins again.
    pub fn begin_again(&self) {
        self.leave(&Word::Again);
    }

    fn leave(&self, word: &Word) {
        self.over.store(true, Ordering::Relaxed);
        send_all(&self.links, word);
    }
}

/// Ends this process, because another is lost.
pub(super) fn lose(me: &str, process: usize, reason: &str) -> ! {
    end_process(
        &format!(
            "{me}: lost process {process}: {reason}; this process ends too: start all of them again"
        ),
        EXIT_LOST,
    )
}

fn held(links: &Mutex<BTreeMap<usize, Link>>) -> std::sync::MutexGuard<'_, BTreeMap<usize, Link>> {
    // A link is inserted or removed whole.
    links.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send_all(links: &Mutex<BTreeMap<usize, Link>>, word: &Word) {
    for link in held(links).values_mut() {
        // Its reader tells what became of the other end.
        wire::write(&mut link.line, word).ok();
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("it was silent for {} s", SILENCE.as_secs())
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "it closed the connection".to_owned()
        }
        _ => error.to_string(),
    }
}
