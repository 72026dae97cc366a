//! Ending a watching job in good order: the first interrupt lets it finish what it has and write its
//! snapshots, the second ends it at once.

use crate::intake::Saved;
use crate::run::Stop;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;

/// The exit code of a process that was interrupted.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Ends the job behind `stop` on SIGINT or SIGTERM.
///
/// # Errors
/// When the system does not tell of signals.
pub fn end_on_interrupt(stop: &Stop) -> io::Result<()> {
    let stop = Stop::clone(stop);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let wait = move || {
        for _ in signals.forever() {
            // A job that does not watch yet, or was told already, has nothing to finish.
            if !end(&stop) {
                std::process::exit(i32::from(EXIT_INTERRUPTED));
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
