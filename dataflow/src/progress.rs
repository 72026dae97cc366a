//! How far a run is, for a person who waits: a line that moves on a terminal, with the share that is read
//! and the time that is left where that is known. Nothing elsewhere, and nothing for a run that is quiet.

use crate::metrics::{Extent, Metrics, Reading};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const BAR_EVERY: Duration = Duration::from_millis(100);

/// Shows how far a run is until it is dropped.
#[derive(Debug)]
pub struct Progress {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    bar: ProgressBar,
}

impl Progress {
    /// Shows what `metrics` say as a bar on the terminal.
    #[must_use]
    pub fn start(metrics: Arc<Metrics>) -> Self {
        let (stop, stopped) = channel::<()>();
        let bar = bar();
        let shown = bar.clone();
        let show = move || {
            let over = |wait| !matches!(stopped.recv_timeout(wait), Err(RecvTimeoutError::Timeout));
            while !over(BAR_EVERY) {
                shown.set_message(describe(&metrics.read()));
                shown.tick();
            }
            shown.finish_and_clear();
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
        self.bar.suspend(say);
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
    if let Some(share) = share(reading) {
        text.push_str(&format!("; {share}"));
    }
    text
}

/// Which parts of the files and topics are read, and how long the rest may take.
fn share(reading: &Reading) -> Option<String> {
    let extents = [(reading.files, "files"), (reading.topics, "topics")];
    let extents: Vec<_> = extents
        .iter()
        .filter(|(extent, _)| extent.found > 0)
        .collect();
    let part = |(extent, what): &&(Extent, &str)| {
        let percent = (u128::from(extent.read) * 100).checked_div(u128::from(extent.found));
        format!("{} % of the {what}", percent.unwrap_or(0))
    };
    let parts: Vec<String> = extents.iter().map(part).collect();
    let lefts = extents
        .iter()
        .map(|(extent, _)| seconds_left(*extent, reading.elapsed));
    // They are read side by side.
    let left = lefts.reduce(|one, other| Some(one?.max(other?)))?;
    let parts = parts.join(" and ");
    Some(match left {
        // What is read is on its way still.
        Some(0) => "all read".to_owned(),
        Some(seconds) if seconds >= 120 => format!("{parts}, {} min left", seconds.div_ceil(60)),
        Some(seconds) => format!("{parts}, {seconds} s left"),
        None => parts,
    })
}

/// How long the rest takes if it goes on as it did; nothing before anything is read.
fn seconds_left(extent: Extent, elapsed: Duration) -> Option<u128> {
    let rest = u128::from(extent.found.saturating_sub(extent.read));
    let left = (elapsed.as_millis() * rest).checked_div(u128::from(extent.read))?;
    Some(left.div_ceil(1000))
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
    fn the_share_that_is_read_and_the_time_left_are_said_where_sizes_are_known() {
        let metrics = Metrics::new();
        let reading = |read, found, seconds| Reading {
            files: Extent { read, found },
            topics: Extent::default(),
            elapsed: Duration::from_secs(seconds),
            ..metrics.read()
        };
        let told = |read, found, seconds| share(&reading(read, found, seconds));
        assert_eq!(told(0, 0, 5), None);
        assert_eq!(told(0, 10, 5).as_deref(), Some("0 % of the files"));
        let part = Some("25 % of the files, 30 s left");
        assert_eq!(told(1 << 30, 4 << 30, 10).as_deref(), part);
        let long = Some("1 % of the files, 17 min left");
        assert_eq!(told(1, 100, 10).as_deref(), long);
        assert_eq!(told(7, 7, 10).as_deref(), Some("all read"));
        let with_topics = |read, found| {
            let topics = Extent { read, found };
            share(&Reading {
                topics,
                ..reading(1 << 30, 4 << 30, 10)
            })
        };
        let both = Some("25 % of the files and 10 % of the topics, 90 s left");
        assert_eq!(with_topics(10, 100).as_deref(), both);
        let unknown = Some("25 % of the files and 0 % of the topics");
        assert_eq!(with_topics(0, 100).as_deref(), unknown);
        let topics = Extent { read: 3, found: 4 };
        let alone = Reading {
            topics,
            ..reading(0, 0, 6)
        };
        assert_eq!(
            share(&alone).as_deref(),
            Some("75 % of the topics, 2 s left")
        );
    }

    #[test]
    fn progress_ends_at_once_when_the_run_does() {
        let begun = Instant::now();
        drop(Progress::start(Metrics::new()));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
