//! How long a record takes from its publisher to a reader of committed messages.
//!
//! Now and then the publisher sends a record of an account of its own, a probe, among the others: its
//! account in a message of the job says that the record has arrived there. A probe's time begins before
//! it is handed to the publisher's client, and ends when the reader holds the message.

use super::broker::Broker;
use super::job::{Published, SCENARIO};
use super::messages::{Feed, Load};
use crate::figure::Figure;
use crate::process::Process;
use millrace_connectors::kafka::{Consumer, Start};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// Between probes.
const EVERY: Duration = Duration::from_millis(20);
/// Probes before those that count: the job has just loaded its state.
const WARM: u32 = 250;
const COUNTED: u32 = 1_250;
/// A billion records an hour.
const LOAD: f64 = 1e9 / 3_600.0;
/// How often the job commits here, and which part of the load comes. A publisher, a reader and the broker
/// share the machine with it.
const ROUNDS: [(&str, f64); 4] = [
    ("500ms", 0.25),
    ("250ms", 0.25),
    ("500ms", 0.5),
    ("250ms", 0.5),
];
/// Of one round, and of all.
const ROUND: u32 = 1 + WARM + COUNTED;
pub(super) const PROBES: u32 = ROUND * 4;
/// Accounts stand near the beginning of a message.
const BEGINNING: usize = 128;
const PATIENCE: Duration = Duration::from_secs(60);

/// The service, subscription and account of a probe.
pub(super) fn probe(number: u32) -> String {
    format!("probe-{number:06}")
}

/// Measures how fresh the job's messages are while parts of the load come.
pub(super) fn freshness(
    folder: &Path,
    broker: &Broker,
    feed: &mut Feed,
    (published, workers): (Published, usize),
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    for (round, (interval, part)) in (0_u32..).zip(ROUNDS) {
        fs::write(folder.join("job.yaml"), published.job(broker, interval))?;
        let job = Process::run(&folder.join("job.yaml"), workers, &["--watch"])?;
        let mut reader = Reader::open(broker, published.topic("aggregated"))?;
        let paced = paced(&job, broker, feed, &reader, (round, LOAD * part));
        let ended = job.stop();
        reader.over.store(true, Ordering::Relaxed);
        let (sent, busy, paced) = paced?;
        ended?;
        let seen = reader.finish()?;
        let mut times = Vec::new();
        for (number, sent) in sent {
            let seen = seen.get(&number).ok_or("a probe was never seen")?;
            times.push(seen.duration_since(sent).as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let mut tell = |figure: &str, value: f64, unit: &str| {
            let figure = format!("{figure}, commits every {interval}, at {part} of the load");
            out.plain(SCENARIO, &figure, value, unit);
        };
        let at = |percent: usize| times.get(times.len() * percent / 100);
        tell("paced at", paced, "records/s");
        tell("freshness p50", *at(50).ok_or("no probe")?, "ms");
        tell("freshness p99", *at(99).ok_or("no probe")?, "ms");
        let [of_job, of_broker, of_both] = busy;
        tell("the job", of_job, "cores");
        tell("the broker", of_broker, "cores");
        tell("publisher and reader", of_both, "cores");
    }
    Ok(())
}

/// When each probe was sent.
type Sent = BTreeMap<u32, Instant>;

/// Sends records at a steady rate, probes among them; returns when those that count were sent, the
/// processors that were busy meanwhile, and the rate that was kept.
fn paced(
    job: &Process,
    broker: &Broker,
    feed: &mut Feed,
    reader: &Reader,
    (round, rate): (u32, f64),
) -> Result<(Sent, [f64; 3], f64), Box<dyn Error>> {
    let first = round * ROUND;
    // The job is ready when the first comes through.
    feed.send_of(&probe(first))?;
    feed.flush()?;
    reader.ready.recv_timeout(PATIENCE)?;
    let (began, mut before) = (Instant::now(), None);
    let (mut sent, mut probes) = (Sent::new(), 1);
    let mut due = 0.0;
    while probes <= WARM + COUNTED {
        let elapsed = began.elapsed();
        // A publisher that cannot keep up sends what it can, and the figure says so.
        while due < elapsed.as_secs_f64() * rate && began.elapsed() < elapsed + EVERY {
            feed.send()?;
            due += 1.0;
        }
        if elapsed >= EVERY * probes {
            if probes > WARM {
                before.get_or_insert_with(|| Load::now(job, broker));
                sent.insert(first + probes, Instant::now());
            }
            feed.send_of(&probe(first + probes))?;
            probes += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = before.ok_or("no probe counts")?;
    let busy = Load::now(job, broker).since(&before);
    let paced = due / began.elapsed().as_secs_f64();
    feed.flush()?;
    // What the job is behind by is waited for.
    let (last, deadline) = (first + probes - 1, Instant::now() + PATIENCE);
    while reader.seen.load(Ordering::Relaxed) < last {
        if Instant::now() > deadline {
            return Err("the last probe was never seen".into());
        }
        std::thread::sleep(EVERY);
    }
    Ok((sent, busy, paced))
}

/// A reader of committed messages, on a thread of its own.
struct Reader {
    over: Arc<AtomicBool>,
    ready: Receiver<()>,
    /// The last probe.
    seen: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<Result<Sent, String>>>,
}

impl Reader {
    fn open(broker: &Broker, topic: String) -> Result<Self, Box<dyn Error>> {
        let mut consumer = Consumer::open(&broker.settings(), &[topic])?;
        let starts: Vec<_> = consumer
            .partitions()
            .iter()
            .map(|partition| (partition.clone(), Start::Latest))
            .collect();
        consumer.assign(&starts)?;
        let over = Arc::new(AtomicBool::new(false));
        let (tell, ready) = sync_channel(1);
        let ends = Arc::clone(&over);
        let newest = Arc::new(AtomicU32::new(0));
        let last = Arc::clone(&newest);
        let read = move || {
            let (mut seen, mut quiet) = (Sent::new(), Instant::now());
            // What the job publishes when it is told to end is read too.
            while !ends.load(Ordering::Relaxed) || quiet.elapsed() < Duration::from_secs(3) {
                let count = consumer.poll(16_384, Duration::from_millis(5), &mut |message| {
                    if let Some(number) = message.payload().and_then(number_of) {
                        seen.entry(number).or_insert_with(Instant::now);
                        last.fetch_max(number, Ordering::Relaxed);
                    }
                });
                if count.map_err(|error| error.to_string())? > 0 {
                    quiet = Instant::now();
                }
                if !seen.is_empty() {
                    tell.try_send(()).ok();
                }
            }
            Ok(seen)
        };
        let thread = Some(std::thread::Builder::new().spawn(read)?);
        Ok(Self {
            over,
            ready,
            seen: newest,
            thread,
        })
    }

    fn finish(&mut self) -> Result<Sent, Box<dyn Error>> {
        let thread = self.thread.take().ok_or("the reader runs")?;
        Ok(thread.join().map_err(|_| "the reader ends well")??)
    }
}

/// Which probe a message is about, if it is about one.
fn number_of(payload: &[u8]) -> Option<u32> {
    const NAME: &str = r#""account":"probe-"#;
    let beginning = payload.get(..BEGINNING).unwrap_or(payload);
    let text = std::str::from_utf8(beginning).ok()?;
    let at = text.find(NAME)? + NAME.len();
    text.get(at..at + 6)?.parse().ok()
}
