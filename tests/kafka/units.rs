//! Jobs whose records are some units at half a dollar each, from topics.

use super::feeds::{admin, wait};
use millrace::cli::Exit;
use millrace::error::RunError;
use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::report::Summary;
use millrace::run::{RunOptions, run};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::Consumer;
use millrace_tests::broker::{Broker, PATIENCE, Sent};
use millrace_tests::jobs::{Desk, Ended};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const RULE: &str = "\
columns: { units: bigint, at: timestamp }
where: units <> 99
identity: [id]
service: number
time: at
attributes: { region: region }
charges: { units: units }
";

pub(crate) const CATALOG: &str = "\
currency: USD
prices:
  - { item: units, price: 0.5 }
";

pub(crate) const ACCOUNTS: &str = "\
accounts: [{ id: acme, currency: USD }]
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-01-01 }
";

/// The part of a job that keeps state.
pub(crate) const DURABLE: &str = "durability: { folder: state, interval: 20ms }\n";

/// A job that reads topics; `kafka` says which, and how.
pub(crate) fn job(broker: &Broker, kafka: &str, rest: &str) -> String {
    let address = broker.address();
    format!(
        "name: units\ntime_zone: UTC\nclock: 2026-03-01\nsources:\n  - name: switch\n    platform: pbx\n    \
         service_type: voice\n    kafka: {{ brokers: '{address}', {kafka} }}\n    mediation: rule.yaml\n\
         catalog: [catalog.yaml]\naccounts: [accounts.yaml]\noutputs: {{ folder: out }}\n{rest}"
    )
}

pub(crate) fn desk(job: &str) -> Desk {
    Desk::new(&[
        ("job.yaml", job),
        ("rule.yaml", RULE),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
    ])
}

pub(crate) fn rule(from: &str, to: &str) -> String {
    assert!(RULE.contains(from), "{from}");
    RULE.replace(from, to)
}

/// A record as a message.
pub(crate) fn record(id: u64, units: u64) -> String {
    format!(
        r#"{{"id": "{id}", "number": "n1", "at": "2026-02-10T00:00:00Z", "units": {units}, "region": "home"}}"#
    )
}

/// Sends records, by id and units, to a partition.
pub(crate) fn send(
    broker: &Broker,
    (topic, partition): (&str, i32),
    records: impl IntoIterator<Item = (u64, u64)>,
) {
    let records = records.into_iter();
    let records: Vec<(String, String)> = records
        .map(|(id, units)| (id.to_string(), record(id, units)))
        .collect();
    let sent: Vec<Sent<'_>> = records
        .iter()
        .map(|(key, record)| Sent {
            partition: Some(partition),
            key,
            payload: Some(record.as_bytes()),
            ..Sent::default()
        })
        .collect();
    broker.send(topic, &sent);
}

/// Deletes a topic, and creates another under its name.
pub(crate) fn create_anew(broker: &Broker, topic: &str, partitions: i32) {
    let id = || {
        let opened = Consumer::open(&broker.settings(), &[topic.to_owned()]).ok();
        opened.and_then(|opened| opened.ids().get(topic).cloned())
    };
    let before = id().expect("topics have ids");
    let deleted = wait(admin(broker).delete_topics(&[topic], &AdminOptions::new()));
    assert!(deleted.unwrap().iter().all(Result::is_ok));
    let deadline = Instant::now() + PATIENCE;
    // A broker has deleted it a little later than it says.
    while id().is_none_or(|id| id == before) {
        assert!(Instant::now() < deadline, "{topic} is not created anew");
        broker.create(topic, partitions);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Removes the messages of a partition before an offset, as retention does.
pub(crate) fn remove(broker: &Broker, (topic, partition): (&str, i32), before: i64) {
    let mut until = TopicPartitionList::new();
    until
        .add_partition_offset(topic, partition, Offset::Offset(before))
        .unwrap();
    wait(admin(broker).delete_records(&until, &AdminOptions::new())).unwrap();
}

/// Runs the job, and says what it comes to.
#[track_caller]
pub(crate) fn is(desk: &Desk, total: &str, exit: Exit) -> Ended {
    let ended = desk.run();
    assert!(ended.exit != Exit::Unusable, "{}", ended.err);
    let totals = ended.totals().join(", ");
    assert_eq!(
        (totals.as_str(), ended.exit),
        (total, exit),
        "{}",
        ended.err
    );
    assert_eq!(ended.summary()["ties_out"], true);
    ended
}

/// Runs the job, which is refused and says why.
#[track_caller]
pub(crate) fn refused(desk: &Desk, says: &[&str]) {
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Unusable, "{}", ended.out);
    for says in says {
        assert!(ended.err.contains(says), "{says}: {}", ended.err);
    }
}

/// What a watching job tells.
pub(crate) struct Heard {
    /// The money after each change.
    changed: Mutex<Sender<String>>,
    warned: Mutex<String>,
}

impl Listener for Heard {
    fn message(&self, _: &str) {}
    fn warned(&self, findings: &[Diagnostic]) {
        let mut warned = self.warned.lock().unwrap();
        findings
            .iter()
            .for_each(|finding| writeln!(warned, "{finding}").unwrap());
    }
    fn rejected(&self, findings: &[Diagnostic]) {
        self.warned(findings);
    }
    fn settled(&self) {}
    fn changed(&self, report: &ChangeReport) {
        let after = report.money.iter();
        let after: Vec<String> = after.map(|(_, after)| after.amount.clone()).collect();
        self.changed.lock().unwrap().send(after.join(", ")).ok();
    }
}

/// A job that watches.
pub(crate) struct Watching {
    job: JoinHandle<Result<Summary, RunError>>,
    stop: Stop,
    changed: Receiver<String>,
    heard: Arc<Heard>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Watching {
    /// Begins to watch, and waits until so many records are read.
    pub(crate) fn begin(desk: &Desk, received: u64) -> Self {
        let (tell, changed) = channel();
        let (path, stop) = (desk.at("job.yaml"), Stop::default());
        let (ended, metrics) = (Stop::clone(&stop), Metrics::new());
        let shared = Arc::clone(&metrics);
        let heard = Arc::new(Heard {
            changed: Mutex::new(tell),
            warned: Mutex::default(),
        });
        let listener: Arc<dyn Listener> = Arc::<Heard>::clone(&heard);
        let job = std::thread::spawn(move || {
            let options = RunOptions {
                workers: Some(2),
                watch: true,
                ..RunOptions::default()
            };
            run(&path, &options, &shared, &listener, &ended)
        });
        let watching = Self {
            job,
            stop,
            changed,
            heard,
            metrics,
        };
        watching.until(received);
        watching
    }

    /// Waits until so many records are taken in.
    pub(crate) fn until(&self, received: u64) {
        let deadline = Instant::now() + PATIENCE;
        let is_there = || {
            self.stop.lock().unwrap().is_some() && self.metrics.read().counts.received >= received
        };
        while !is_there() {
            assert!(
                Instant::now() < deadline,
                "the job does not read {received}"
            );
            assert!(!self.job.is_finished(), "the job has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a change is applied; the money after it.
    #[track_caller]
    pub(crate) fn changed(&self) -> String {
        self.changed
            .recv_timeout(PATIENCE)
            .expect("the change is applied")
    }

    /// What was warned of.
    pub(crate) fn warned(&self) -> String {
        self.heard.warned.lock().unwrap().clone()
    }

    /// Lets the job end.
    pub(crate) fn end(self) -> Summary {
        let tell = self.stop.lock().unwrap().take().unwrap();
        tell.send(BTreeSet::new()).unwrap();
        self.job.join().unwrap().unwrap()
    }

    /// Waits until the job fails; why.
    pub(crate) fn fails(self) -> String {
        let deadline = Instant::now() + PATIENCE;
        while !self.job.is_finished() {
            assert!(Instant::now() < deadline, "the job goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.job.join().unwrap().unwrap_err().to_string()
    }
}
