//! How far a run is, for a person who waits: a line that moves on a terminal, a line every ten
//! seconds elsewhere, nothing for a run that is over before that.

use crate::console::Talk;
use crate::metrics::{Metrics, Reading};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const BAR_EVERY: Duration = Duration::from_millis(100);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows how far a run is until it is dropped.
#[derive(Debug)]
pub struct Progress {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows what `metrics` say: as a bar on the terminal, or as lines of `talk`.
    #[must_use]
    pub fn start(talk: Talk, metrics: Arc<Metrics>, is_terminal: bool) -> Self {
        let (stop, stopped) = channel::<()>();
        let bar = is_terminal.then(bar);
        let shown = bar.clone();
        let show = move || {
            let over = |wait| !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
            let Some(bar) = shown else {
                while !over(LINE_EVERY) {
                    talk.say(&format!("{}\n", describe(&metrics.read())));
                }
                return;
            };
            while !over(BAR_EVERY) {
                bar.set_message(describe(&metrics.read()));
                bar.tick();
            }
            bar.finish_and_clear();
        };
        // Without a thread there is no progress to see, and nothing else is lost.
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(show)
            .ok();
        Self {
            stop: Some(stop),
            thread,
            bar,
        }
    }

    /// Lets something else be said while the bar is out of the way.
    pub fn aside(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(|thread| thread.join().ok());
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

fn describe(reading: &Reading) -> String {
    if !reading.reference_loaded {
        return "loading catalog and accounts".to_owned();
    }
    let counts = reading.counts;
    let millis = reading.elapsed.as_millis().max(1);
    let rate = u128::from(counts.received) * 1000 / millis;
    let mut text = format!(
        "{} records, {rate}/s, {} monetised",
        counts.received, counts.monetised
    );
    for (count, what) in [(counts.suspended, "suspended"), (counts.error, "refused")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::RecordCounts;
    use std::time::Instant;

    #[test]
    fn progress_says_what_is_done_and_what_is_stuck() {
        let metrics = Metrics::new();
        assert_eq!(describe(&metrics.read()), "loading catalog and accounts");
        metrics.reference_loaded();
        let counts = RecordCounts {
            received: 30,
            monetised: 28,
            suspended: 2,
            ..Default::default()
        };
        let reading = Reading {
            counts,
            elapsed: Duration::from_secs(3),
            ..metrics.read()
        };
        assert_eq!(
            describe(&reading),
            "30 records, 10/s, 28 monetised, 2 suspended"
        );
    }

    #[test]
    fn progress_ends_at_once_when_the_run_does() {
        let begun = Instant::now();
        drop(Progress::start(Talk::kept().0, Metrics::new(), false));
        assert!(begun.elapsed() < LINE_EVERY);
    }
}
