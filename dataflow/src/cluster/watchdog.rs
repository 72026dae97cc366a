//! Ends a process whose epochs stay in flight: a worker hangs, here or elsewhere, an output takes nothing,
//! or the network between two processes swallows what is sent while each still reaches process 0.

use super::company::Company;
use crate::crash::EXIT_LOST;
use crate::crash::end_process;
use crate::metrics::Metrics;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks, when the whole process did not run.
const ASLEEP: Duration = Duration::from_secs(10);

/// See the module. It watches as long as it is held.
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
    pub fn start(company: &Company, metrics: Arc<Metrics>, patience: Duration) -> io::Result<Self> {
        let company = company.clone();
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
                    end_process(&describe(&company, bound, complete, stood), EXIT_LOST);
                }
            }
        };
        let thread = std::thread::Builder::new().name("watchdog".to_owned());
        thread.spawn(watch)?;
        Ok(Self { over })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn describe(company: &Company, bound: u64, complete: u64, stood: Duration) -> String {
    let (seconds, in_flight) = (stood.as_secs(), bound - complete);
    let stands = format!(
        "epoch {complete} has not completed for {seconds} s, and {in_flight} epochs are in flight: a \
         worker hangs, an output takes nothing"
    );
    if company.is_many() {
        let me = company.me();
        return format!(
            "{me}: {stands}, or processes do not reach each other; this process ends: start all of them again"
        );
    }
    format!(
        "{stands}, or the epoch has more to do than --stuck-after allows; this run ends: start it again"
    )
}

/// How far epochs are complete, and since when.
struct Frontier {
    complete: u64,
    since: Instant,
    looked: Instant,
}

impl Frontier {
    fn at(now: Instant) -> Self {
        Self {
            complete: 0,
            since: now,
            looked: now,
        }
    }

    /// How long it has stood while epochs were in flight.
    fn stood(&mut self, bound: u64, complete: u64, now: Instant) -> Duration {
        // A process that was stopped has not hung meanwhile.
        let slept = now.duration_since(self.looked) > ASLEEP;
        if complete != self.complete || complete >= bound || slept {
            (self.complete, self.since) = (complete, now);
        }
        self.looked = now;
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
        assert_eq!(frontier.stood(4, 1, at(117)), Duration::from_secs(9));
        assert_eq!(frontier.stood(4, 1, at(120)), Duration::from_secs(12));
        // Stopped for a minute.
        assert_eq!(frontier.stood(4, 1, at(180)), Duration::ZERO);
        assert_eq!(frontier.stood(4, 1, at(183)), Duration::from_secs(3));
        assert_eq!(frontier.stood(4, 4, at(184)), Duration::ZERO);
        assert_eq!(frontier.stood(5, 4, at(185)), Duration::from_secs(1));
    }
}
