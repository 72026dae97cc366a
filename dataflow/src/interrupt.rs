//! Ending a run in good order: the first interrupt lets it finish what it has, and says what that is; the
//! second ends it at once. Neither leaves files half written.
//!
//! | run | the first interrupt | the second |
//! | --- | --- | --- |
//! | with durable state | commits what is read; the next run reads on | ends at once; what is committed stays |
//! | that watches | reads what it has found, writes its snapshots | ends at once |
//! | any other | ends at once | |

use crate::watch::Saved;
use millrace_connectors::store::give_up_unfinished;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

/// The exit code of a process that was interrupted.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Ends a watching run, see [`crate::interrupt::end`]: the job finishes what it has and writes its
/// snapshots.
pub type Stop = Arc<Mutex<Option<Sender<Saved>>>>;

/// A process runs one job at a time that it listens for.
static ASKED_TO_END: AtomicBool = AtomicBool::new(false);
/// Whether that job makes durable what it reads.
static KEEPS: AtomicBool = AtomicBool::new(false);

/// Whether the person has asked the process to end.
#[must_use]
pub fn is_asked_to_end() -> bool {
    ASKED_TO_END.load(Ordering::Relaxed)
}

/// The job of this process makes durable what it reads, and can end wherever it is.
pub fn keeps_what_is_read() {
    KEEPS.store(true, Ordering::Relaxed);
}

/// Ends the job behind `stop` on SIGINT or SIGTERM, and lets `say` tell the person.
///
/// # Errors
/// When the system does not tell of signals.
pub fn end_on_interrupt(stop: &Stop, say: impl Fn(&str) + Send + 'static) -> io::Result<()> {
    let stop = Stop::clone(stop);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let wait = move || {
        for _ in signals.forever() {
            let again = ASKED_TO_END.swap(true, Ordering::Relaxed);
            let keeps = KEEPS.load(Ordering::Relaxed);
            let watches = !again && end(&stop);
            match (keeps && !again, watches) {
                (true, _) => {
                    say("ending after the commit that is under way; Ctrl-C again ends at once\n")
                }
                (false, true) => say(
                    "ending when everything that was found is read; Ctrl-C again ends at once\n",
                ),
                (false, false) => {
                    say(match keeps {
                        true => "ended at once; the next run goes on from the last commit\n",
                        false => "ended at once; run the job again, its outputs are not whole\n",
                    });
                    give_up_unfinished();
                    std::process::exit(i32::from(EXIT_INTERRUPTED));
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("interrupt".to_owned())
        .spawn(wait)
        .map(|_| ())
}

/// Tells the job to end: nothing is saved any more. Whether it heard.
pub fn end(stop: &Stop) -> bool {
    let tell = stop.lock().ok().and_then(|mut stop| stop.take());
    tell.is_some_and(|tell| tell.send(Saved::new()).is_ok())
}
