//! The `kafka` scenario: JSON messages of 1 KB from a topic, billed, and published to topics, exactly
//! once, with a commit every second.
//!
//! The job is a process of its own, so its processor time is told apart from that of the broker and
//! of those who publish and read. Once it publishes every monetised record, then several times the bill
//! alone (billing lines as they change, and suspense), each time to topics of its own from no state at
//! all: a virtual machine gets its memory from its host when it is first used, so the first run is the
//! slowest. What readers of committed messages have is compared with what was sent before any figure is
//! printed. Then the last job goes on under parts of a steady load, see [`super::freshness`].

use super::broker::Broker;
use super::freshness::{PROBES, freshness, probe};
use super::messages::{Feed, PARTITIONS, billed, compare};
use crate::figure::Figure;
use crate::live::to_f64;
use crate::process::Process;
use crate::replay::{JOB, MEDIATION, in_folder, write_reference};
use crate::world::World;
use millrace_connectors::kafka::NewTopic;
use millrace_connectors::names::Names;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const SCENARIO: &str = "kafka";

/// How often the job publishes the bill; the median of its figures is told.
const RUNS: u32 = 3;

/// How long a broker may take until readers see what was committed last.
const SHOWN: Duration = Duration::from_secs(5);

/// What a job publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// Billing lines and suspense, in one of the runs.
    Bill { run: u32 },
    /// Every monetised record, too.
    Records,
}

impl Published {
    fn name(self) -> String {
        match self {
            Self::Bill { run } => format!("bill {}", run + 1),
            Self::Records => "records".to_owned(),
        }
    }

    /// The topic of an output.
    pub(super) fn topic(self, output: &str) -> String {
        format!("{}.{output}", self.name().replace(' ', "-"))
    }

    /// The outputs of a job that publishes this.
    fn outputs(self) -> &'static [&'static str] {
        match self {
            Self::Bill { .. } => &["aggregated", "suspense"],
            Self::Records => &["aggregated", "suspense", "monetised"],
        }
    }

    /// The job file, with commits as often as said.
    pub(super) fn job(self, broker: &Broker, interval: &str) -> String {
        let address = broker.address();
        let source = format!("kafka: {{ brokers: \"{address}\", topics: [usage] }}");
        let name = self.name().replace(' ', "-");
        let outputs = self.outputs().iter();
        let topics: Vec<String> = outputs
            .map(|output| format!("{output}: {}", self.topic(output)))
            .collect();
        let topics = topics.join(", ");
        let (job, _) = JOB.split_once("epoch:").unwrap_or((JOB, ""));
        let job = job
            .replace("name: replay", &format!("name: kafka-{name}"))
            .replace("path: usage.parquet", &source);
        format!(
            "{job}epoch: {{ rows: 131072 }}\n\
             durability: {{ folder: state-{name}, interval: {interval} }}\n\
             outputs:\n  folder: out-{name}\n  \
             kafka: {{ brokers: \"{address}\", topics: {{ {topics} }} }}\n{NO_FILES}"
        )
    }
}

/// Outputs are messages alone.
const NO_FILES: &str = "  \
monetised: { changes: false, snapshot: false }
  impacts: { changes: false, snapshot: false }
  balances: { snapshot: false }
  activity: { changes: false, snapshot: false }
  notices: { changes: false, snapshot: false }
  suspense: { changes: false, snapshot: false }
  aggregated: { changes: false, snapshot: false }
  raw_status: { changes: false, snapshot: false }
  ledger: { changes: false, snapshot: false }
";

/// Measures the job over `records` messages.
pub(crate) fn job(records: u64, workers: usize, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    in_folder(|folder| {
        let broker = Broker::start()?;
        measured(folder, &broker, (records, workers), out)
    })
}

fn measured(
    folder: &Path,
    broker: &Broker,
    (records, workers): (u64, usize),
    out: &mut Figure,
) -> Result<(), Box<dyn Error>> {
    let world = World::new(records, &Names::default());
    write_reference(folder, &world)?;
    // JSON has no types of its own.
    let rule = format!("columns: {{ at: timestamp, tokens: bigint }}\n{MEDIATION}");
    fs::write(folder.join("mediation.yaml"), rule)?;
    add_probes(folder)?;
    let usage = [NewTopic::new("usage", PARTITIONS)];
    let mut bills = (0..RUNS).map(|run| Published::Bill { run });
    let results = bills.clone().chain([Published::Records]);
    let results = results.flat_map(|published| {
        let outputs = published.outputs().iter();
        outputs.map(move |output| NewTopic::new(published.topic(output), 1))
    });
    broker.create(&usage.into_iter().chain(results).collect::<Vec<_>>())?;
    let mut feed = Feed::open(broker, world)?;
    for _ in 0..records {
        feed.send()?;
    }
    feed.flush()?;
    throughput(folder, broker, &feed, (Published::Records, workers), out)?;
    let mut rates = Vec::new();
    for bill in bills.clone() {
        rates.push(throughput(folder, broker, &feed, (bill, workers), out)?);
    }
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let (rates, per_core): (Vec<f64>, Vec<f64>) = rates.into_iter().unzip();
    out.plain(SCENARIO, "bill, median: in", median(rates), "records/s");
    let per_core = median(per_core);
    out.plain(
        SCENARIO,
        "bill, median: of one core",
        per_core,
        "records/CPU-s",
    );
    let last = bills.next_back().ok_or("the bill is published")?;
    freshness(folder, broker, &mut feed, (last, workers), out)?;
    check(broker, &feed, last)?;
    Ok(())
}

/// Runs the job to the end of the topic; returns its records per second, and per second of one core.
fn throughput(
    folder: &Path,
    broker: &Broker,
    feed: &Feed,
    (published, workers): (Published, usize),
    out: &mut Figure,
) -> Result<(f64, f64), Box<dyn Error>> {
    let path = folder.join("job.yaml");
    fs::write(&path, published.job(broker, "1s"))?;
    let before = broker.processor();
    let ended = Process::run(&path, workers, &[])?.end()?;
    let brokers = broker.processor() - before;
    let monetised = &ended.summary["records"]["monetised"];
    if monetised.as_u64() != Some(feed.sent.records) {
        return Err(format!("the job says that it billed {monetised} records").into());
    }
    let messages = check(broker, feed, published)?;
    let records = to_f64(feed.sent.records);
    let rate = records / ended.elapsed.as_secs_f64();
    let per_core = records / ended.processor;
    let mut tell = |figure: &str, value: f64, unit: &str| {
        let figure = format!("{}: {figure}", published.name());
        out.plain(SCENARIO, &figure, value, unit);
    };
    tell("in", rate, "records/s");
    tell("of one core", per_core, "records/CPU-s");
    tell("out, per record in", to_f64(messages) / records, "messages");
    let part = brokers / (ended.processor + brokers);
    tell("the broker's part", part * 100.0, "% of CPU");
    tell("the broker", brokers / ended.elapsed.as_secs_f64(), "cores");
    Ok((rate, per_core))
}

/// Compares what was published with what was sent; returns the messages published.
fn check(broker: &Broker, feed: &Feed, published: Published) -> Result<u64, Box<dyn Error>> {
    let mut all = 0;
    for output in published.outputs() {
        let topic = published.topic(output);
        let (mut sums, mut count) = billed(broker, &topic)?;
        // A broker shows a transaction to readers a little after it has accepted its end.
        let deadline = Instant::now() + SHOWN;
        while *output != "suspense" && sums != feed.sent && Instant::now() < deadline {
            (sums, count) = billed(broker, &topic)?;
        }
        all += count;
        match *output {
            "suspense" if count > 0 => return Err(format!("{count} messages in {topic}").into()),
            "suspense" => {}
            _ => compare(feed.sent, sums, &topic)?,
        }
        if *output == "monetised" && count != feed.sent.records {
            return Err(format!("{topic} has {count} messages: some came twice").into());
        }
    }
    Ok(all)
}

/// An account of its own for each record whose way is watched.
fn add_probes(folder: &Path) -> Result<(), Box<dyn Error>> {
    let add = |name: &str| OpenOptions::new().append(true).open(folder.join(name));
    let (mut accounts, mut services) = (add("accounts.csv")?, add("services.csv")?);
    for number in 0..PROBES {
        let name = probe(number);
        writeln!(accounts, "{name}")?;
        writeln!(services, "{name},{name}")?;
    }
    Ok(())
}
