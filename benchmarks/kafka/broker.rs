//! A real broker on this machine, and what it takes of the processors.

use crate::figure::Figure;
use crate::live::to_f64;
use crate::process::processor;
use millrace_connectors::kafka::{KafkaError, KafkaSettings, NewTopic, create_missing_topics};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/kafka/broker.sh");
const PORT: u16 = 19_392;
/// How long a broker may take to start, and to download itself the first time.
const PATIENCE: Duration = Duration::from_secs(180);

/// A broker for as long as the scenario runs.
pub(super) struct Broker {
    script: Child,
    folder: PathBuf,
}

impl Broker {
    pub(super) fn start() -> Result<Self, Box<dyn Error>> {
        let folder = std::env::temp_dir().join(format!("millrace-kafka-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let script = Command::new(SCRIPT)
            .arg(PORT.to_string())
            .arg(&folder)
            .env("KAFKA_UNTIL_EOF", "1")
            .env("KAFKA_JAVA_OPTS", "-Xms512m -Xmx512m -XX:+UseSerialGC")
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self { script, folder })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{PORT}")
    }

    /// How to reach it.
    pub(super) fn settings(&self) -> KafkaSettings {
        KafkaSettings::new(self.address())
    }

    /// Creates topics, as soon as it answers.
    pub(super) fn create(&self, topics: &[NewTopic]) -> Result<(), KafkaError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match create_missing_topics(&self.settings(), topics) {
                Err(_) if Instant::now() < deadline => {}
                created => return created,
            }
        }
    }

    /// Seconds of processor time that it has had.
    pub(super) fn processor(&self) -> f64 {
        let pid = fs::read_to_string(self.folder.join("pid")).unwrap_or_default();
        processor(&Path::new("/proc").join(pid.trim()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let ended = self.script.wait().map(drop);
        if let Err(error) = ended.and_then(|()| fs::remove_dir_all(&self.folder)) {
            eprintln!("cannot clean up after the broker: {error}");
        }
    }
}

/// What a part of a scenario took of this process and of the broker.
pub(super) struct Clock<'b> {
    scenario: &'static str,
    began: Instant,
    broker: &'b Broker,
    own: f64,
    brokers: f64,
}

impl<'b> Clock<'b> {
    pub(super) fn start(scenario: &'static str, broker: &'b Broker) -> Self {
        Self {
            scenario,
            began: Instant::now(),
            own: processor(Path::new("/proc/self")),
            brokers: broker.processor(),
            broker,
        }
    }

    pub(super) fn tell(&self, what: &str, count: u64, out: &mut Figure) {
        let seconds = self.began.elapsed().as_secs_f64();
        let own = processor(Path::new("/proc/self")) - self.own;
        let brokers = self.broker.processor() - self.brokers;
        let count = to_f64(count);
        let mut told = |figure: &str, value: f64, unit: &str| {
            out.plain(self.scenario, &format!("{what}{figure}"), value, unit);
        };
        told("", count / seconds, "messages/s");
        told(", of one core", count / own, "messages/CPU-s");
        told(
            ", the broker's part",
            brokers / (own + brokers) * 100.0,
            "% of CPU",
        );
    }
}
