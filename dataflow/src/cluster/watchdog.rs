//! Ends a process whose epochs stay in flight: a worker hangs, here or elsewhere, or the network between
//! two processes swallows what is sent while each still reaches process 0.

use super::EXIT_LOST;
use crate::crash::end_process;
use crate::metrics::Metrics;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub struct Watchdog {
    over: Arc<AtomicBool>,
}

impl Watchdog {
    /// Watches what `metrics` tell, and ends the process when epochs are in flight and none completes
    /// within `patience`.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn start(me: String, metrics: Arc<Metrics>, patience: Duration) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let watch = move || {
            let mut frontier = Frontier::at(Instant::now());
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK);
                let reading = metrics.read();
                let (bound, complete) = (reading.epochs_bound, reading.epochs_complete);
                let stood = frontier.stood(bound, complete, Instant::now());
                if stood > patience && !ends.load(Ordering::Relaxed) {
                    end_process(&describe(&me, bound, complete, stood), EXIT_LOST);
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        thread.spawn(watch)?;
        Ok(Self { over })
    }

    /// Watches no longer.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn describe(me: &str, bound: u64, complete: u64, stood: Duration) -> String {
    format!(
        "{me}: epoch {complete} has not completed for {} s, and {} epochs are in flight: a worker hangs, or \
         processes do not reach each other; this process ends: start all of them again",
        stood.as_secs(),
        bound - complete
    )
}

/// How far epochs are complete, and since when.
struct Frontier {
    complete: u64,
    since: Instant,
}

impl Frontier {
    fn at(now: Instant) -> Self {
        Self {
            complete: 0,
            since: now,
        }
    }

    /// How long it has stood while epochs were in flight.
    fn stood(&mut self, bound: u64, complete: u64, now: Instant) -> Duration {
        if complete != self.complete || complete >= bound {
            (self.complete, self.since) = (complete, now);
        }
        now.duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_epochs_in_flight_that_do_not_move_are_missed() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut frontier = Frontier::at(begun);
        assert_eq!(frontier.stood(0, 0, at(100)), Duration::ZERO);
        assert_eq!(frontier.stood(3, 0, at(107)), Duration::from_secs(7));
        assert_eq!(frontier.stood(4, 1, at(108)), Duration::ZERO);
        assert_eq!(frontier.stood(4, 1, at(120)), Duration::from_secs(12));
        assert_eq!(frontier.stood(4, 4, at(121)), Duration::ZERO);
        assert_eq!(frontier.stood(5, 4, at(122)), Duration::from_secs(1));
    }
}
