//! A real Apache Kafka for a test: one broker on loopback, its topics in a folder of its own, gone
//! with its owner or with the process, however that ends.

use millrace_connectors::kafka::{KafkaSettings, NewTopic, create_missing_topics};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/kafka/broker.sh");
/// How long a broker may take to start or to answer on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A broker.
#[derive(Debug)]
pub struct Broker {
    folder: tempfile::TempDir,
    port: u16,
    controller: u16,
    extra: String,
    script: Option<Child>,
}

/// A message as a test writes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent<'s> {
    /// The partition; chosen by the key unless given.
    pub partition: Option<i32>,
    /// The key.
    pub key: &'s str,
    /// The content; nothing for a tombstone.
    pub payload: Option<&'s [u8]>,
    /// Headers.
    pub headers: &'s [(&'s str, &'s str)],
}

fn free_ports() -> (u16, u16) {
    let bound = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = |bound: &TcpListener| bound.local_addr().expect("an address").port();
    let (first, second) = (bound(), bound());
    (port(&first), port(&second))
}

impl Broker {
    /// Starts a broker.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        let broker = Self::start_with("");
        broker.wait_until_ready();
        broker
    }

    /// Starts a broker with more settings, a line each; the ports `{port}` and `{controller}` are
    /// put in. Does not wait for it.
    ///
    /// # Panics
    /// When the system starts no process.
    #[must_use]
    pub fn start_with(extra: &str) -> Self {
        let (port, controller) = free_ports();
        let extra = extra
            .replace("{port}", &port.to_string())
            .replace("{controller}", &controller.to_string());
        let mut broker = Self {
            folder: tempfile::tempdir().expect("a folder for the broker"),
            port,
            controller,
            extra: format!("auto.create.topics.enable=false\n{extra}"),
            script: None,
        };
        broker.begin();
        broker
    }

    /// The broker that the tests of this binary share.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn begin(&mut self) {
        let script = Command::new(SCRIPT)
            .arg(self.port.to_string())
            .arg(self.folder.path())
            .env("KAFKA_CONTROLLER_PORT", self.controller.to_string())
            .env("KAFKA_SETTINGS", &self.extra)
            .env("KAFKA_UNTIL_EOF", "1")
            .stdin(Stdio::piped())
            .spawn();
        self.script = Some(script.expect("bash is there"));
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How to reach it.
    #[must_use]
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings::new(self.address())
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = create_missing_topics(&self.settings(), &[NewTopic::new("ready", 1)])
        {
            let log = self.folder.path().join("broker.log");
            assert!(
                Instant::now() < deadline,
                "{error}: {}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Creates a topic.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn create(&self, topic: &str, partitions: i32) {
        let topic = NewTopic::new(topic, partitions);
        create_missing_topics(&self.settings(), &[topic]).expect("a new topic");
    }

    /// Sends a signal to the broker itself.
    ///
    /// # Panics
    /// When it has never started.
    pub fn signal(&self, signal: &str) {
        let pid =
            std::fs::read_to_string(self.folder.path().join("pid")).expect("a started broker");
        let sent = Command::new("kill").args([signal, pid.trim()]).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "kill {signal} {pid}"
        );
    }

    /// Ends the broker as a failing machine would.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill(&mut self) {
        self.signal("-9");
        self.end();
    }

    /// Starts it again with what it had, and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.begin();
        self.wait_until_ready();
    }

    fn end(&mut self) {
        if let Some(mut script) = self.script.take() {
            // The end of its input is the end of the broker.
            drop(script.stdin.take());
            script.wait().expect("the script ends with its input");
        }
    }

    /// A client that writes as others do, with more settings.
    ///
    /// # Panics
    /// When a setting is wrong.
    pub fn producer(&self, settings: &[(&str, &str)]) -> ThreadedProducer<DefaultProducerContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().expect("a producer")
    }

    /// Writes messages outside of any transaction, and waits until they are there.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn send(&self, topic: &str, messages: &[Sent<'_>]) {
        let producer = self.producer(&[]);
        send(&producer, topic, messages);
        producer.flush(PATIENCE).expect("messages are taken");
    }
}

/// Hands messages to a producer.
///
/// # Panics
/// When it is full.
pub fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    messages: &[Sent<'_>],
) {
    for message in messages {
        let mut record = BaseRecord::<str, [u8]>::to(topic).key(message.key);
        record.payload = message.payload;
        record.partition = message.partition;
        let headers = message.headers.iter();
        let headers = headers.fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(*value),
            })
        });
        let record = record.headers(headers);
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("room for a message");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}
