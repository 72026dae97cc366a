//! What the Kafka connector costs by itself: rows published in transactions, messages read, messages
//! read and decoded. A real broker runs beside it on the same machine; its processor time is told
//! apart from ours.

use crate::figure::Figure;
use crate::live::to_f64;
use crate::world::mix;
use millrace_connectors::decode::{ColumnRequest, ColumnType, MessageDecoder, MessageFormat};
use millrace_connectors::kafka::{
    Consumer, KafkaError, KafkaSettings, Message, NewTopic, Progress, Publisher, PublisherSlot,
    Row, Start, TopicPartition, create_missing_topics,
};
use millrace_operators::domain::FileId;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SCENARIO: &str = "kafka-client";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/kafka/broker.sh");
const PORT: u16 = 19_392;
const PARTITIONS: i32 = 4;
/// Rows of a transaction.
const TRANSACTION: usize = 50_000;
/// Messages of a poll, which become a chunk for each partition.
const POLL: usize = 16_384;
const MESSAGE_BYTES: usize = 1_000;
/// Bodies that messages are made of, so that they do not compress to nothing.
const BODIES: u64 = 4_096;
const PATIENCE: Duration = Duration::from_secs(60);
/// Clock ticks of a second, in which Linux counts processor time.
const TICKS: f64 = 100.0;

/// A broker for as long as the scenario runs.
struct Broker {
    script: Child,
    folder: PathBuf,
}

impl Broker {
    fn start() -> Result<Self, Box<dyn Error>> {
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

    fn process(&self) -> PathBuf {
        let pid = fs::read_to_string(self.folder.join("pid")).unwrap_or_default();
        Path::new("/proc").join(pid.trim())
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

/// Seconds of processor time that a process has had.
fn processor(process: &Path) -> f64 {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// What a part of the scenario took.
struct Clock<'b> {
    began: Instant,
    broker: &'b Broker,
    own: f64,
    brokers: f64,
}

impl<'b> Clock<'b> {
    fn start(broker: &'b Broker) -> Self {
        Self {
            began: Instant::now(),
            own: processor(Path::new("/proc/self")),
            brokers: processor(&broker.process()),
            broker,
        }
    }

    fn tell(&self, what: &str, count: u64, out: &mut Figure) {
        let seconds = self.began.elapsed().as_secs_f64();
        let own = processor(Path::new("/proc/self")) - self.own;
        let brokers = processor(&self.broker.process()) - self.brokers;
        let count = to_f64(count);
        let mut told = |figure: &str, value: f64, unit: &str| {
            out.plain(SCENARIO, &format!("{what}{figure}"), value, unit);
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

/// Publishes, reads, reads and decodes `records` messages of 1 KB.
pub(crate) fn client(records: u64, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    let broker = Broker::start()?;
    let settings = KafkaSettings::new(format!("127.0.0.1:{PORT}"));
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = create_missing_topics(&settings, &[NewTopic::new("usage", PARTITIONS)]) {
        if Instant::now() > deadline {
            return Err(error.into());
        }
    }
    let slot = PublisherSlot {
        transactional_id: SCENARIO.to_owned(),
        progress_topic: "progress".to_owned(),
        number: 0,
        of: 1,
    };
    let bodies: Vec<Vec<u8>> = (0..BODIES).map(body).collect();
    let keys: Vec<String> = (0..100_000).map(|key| format!("{key:08}")).collect();
    let (mut publisher, _) = Publisher::open(&settings, slot)?;
    let pick = |number: u64, of: usize| usize::try_from(mix(number)).unwrap_or(0) % of;
    let row = |number: u64| Row {
        topic: "usage",
        key: keys[pick(number, keys.len())].as_bytes(),
        value: Some(&bodies[pick(!number, bodies.len())]),
        headers: &[],
    };
    let clock = Clock::start(&broker);
    for (epoch, first) in (1..).zip((0..records).step_by(TRANSACTION)) {
        let progress = Progress {
            epoch,
            generation: 1,
            part: 0,
        };
        let rows = (first..records).take(TRANSACTION);
        publisher.publish(&progress, rows.map(row))?;
    }
    clock.tell("published", records, out);

    let mut consumer = Consumer::open(&settings, &["usage".to_owned()])?;
    let mut bytes = 0;
    let clock = Clock::start(&broker);
    let mut count = |message: Message<'_>| bytes += message.payload().map_or(0, <[u8]>::len);
    let read = read_all(&mut consumer, records, &mut count, || {})?;
    clock.tell("read", read, out);

    let column = |(name, kind): &(&str, ColumnType)| ColumnRequest {
        name: (*name).to_owned(),
        kind: Some(*kind),
    };
    let columns: Vec<ColumnRequest> = [
        ("id", ColumnType::Text),
        ("subject", ColumnType::Text),
        ("time", ColumnType::Timestamp),
        ("model", ColumnType::Text),
        ("tokens", ColumnType::BigInt),
    ]
    .iter()
    .map(column)
    .collect();
    let decoder = |(number, partition): (u32, &TopicPartition)| {
        MessageDecoder::open(
            FileId(number),
            partition,
            &MessageFormat::Json,
            None,
            &columns,
        )
    };
    let decoders = (0..).zip(consumer.partitions()).map(decoder);
    let decoders = decoders.collect::<Result<Vec<MessageDecoder>, _>>()?;
    let decoders = std::cell::RefCell::new(decoders);
    let mut rows = 0;
    let clock = Clock::start(&broker);
    let mut push = |message: Message<'_>| {
        let pushed = decoders.borrow_mut()[message.slot].push(&message);
        pushed.expect("offsets of a new topic are small");
    };
    read_all(&mut consumer, records, &mut push, || {
        let mut decoders = decoders.borrow_mut();
        let chunks = decoders.iter_mut().filter_map(MessageDecoder::finish);
        rows += chunks.map(|chunk| chunk.rows.len()).sum::<usize>();
    })?;
    clock.tell("read and decoded", records, out);
    let expected = usize::try_from(records)?;
    if (rows, bytes / MESSAGE_BYTES) != (expected, expected) {
        return Err(format!("{rows} rows and {bytes} bytes of {records} messages").into());
    }
    Ok(())
}

fn body(number: u64) -> Vec<u8> {
    let begin = format!(
        r#"{{"id":"{:016x}","subject":"customer-{:05}","time":"2026-08-01T12:00:00Z","model":"large","tokens":{},"trace":""#,
        mix(number),
        number % 10_000,
        number % 1_000
    );
    let rest = MESSAGE_BYTES - begin.len() - 2;
    let letter =
        |at: u64| b"abcdefghijklmnop"[usize::from(mix(number << 16 | at).to_le_bytes()[0] % 16)];
    let noise = (0..).map(letter).take(rest);
    begin
        .into_bytes()
        .into_iter()
        .chain(noise)
        .chain(*b"\"}")
        .collect()
}

fn read_all(
    consumer: &mut Consumer,
    records: u64,
    each: &mut impl FnMut(Message<'_>),
    mut polled: impl FnMut(),
) -> Result<u64, KafkaError> {
    let partitions = consumer.partitions().iter();
    let starts: Vec<_> = partitions
        .map(|partition| (partition.clone(), Start::Earliest))
        .collect();
    consumer.assign(&starts)?;
    let mut read = 0;
    let deadline = Instant::now() + PATIENCE;
    while read < records && Instant::now() < deadline {
        let count = consumer.poll(POLL, Duration::from_millis(100), each)?;
        read += u64::try_from(count).unwrap_or(0);
        polled();
    }
    Ok(read)
}
