//! What the Kafka connector costs by itself: rows published in transactions, messages read, messages
//! read and decoded. A real broker runs beside it on the same machine; its processor time is told
//! apart from ours.

mod broker;
mod freshness;
mod job;
mod messages;

pub(crate) use job::job;

use crate::figure::Figure;
use crate::world::mix;
use broker::{Broker, Clock};
use millrace_connectors::decode::{ColumnRequest, ColumnType, MessageDecoder, MessageFormat};
use millrace_connectors::kafka::{
    Consumer, KafkaError, Message, NewTopic, Progress, Publisher, PublisherSlot, Row, Start,
    TopicPartition,
};
use millrace_operators::domain::FileId;
use std::error::Error;
use std::time::{Duration, Instant};

const SCENARIO: &str = "kafka-client";
const PARTITIONS: i32 = 4;
/// Rows of a transaction.
const TRANSACTION: usize = 50_000;
/// Messages of a poll, which become a chunk for each partition.
const POLL: usize = 16_384;
const MESSAGE_BYTES: usize = 1_000;
/// Bodies that messages are made of, so that they do not compress to nothing.
const BODIES: u64 = 4_096;
const PATIENCE: Duration = Duration::from_secs(60);

/// Publishes, reads, reads and decodes `records` messages of 1 KB.
pub(crate) fn client(records: u64, out: &mut Figure) -> Result<(), Box<dyn Error>> {
    let broker = Broker::start()?;
    let settings = broker.settings();
    broker.create(&[NewTopic::new("usage", PARTITIONS)])?;
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
    let clock = Clock::start(SCENARIO, &broker);
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
    let clock = Clock::start(SCENARIO, &broker);
    let mut count = |message: Message<'_>| bytes += message.payload().map_or(0, <[u8]>::len);
    let read = read_all(&mut consumer, records, &mut count, || {})?;
    clock.tell("read", read, out);

    let column = |(name, kind): &(&str, ColumnType)| ColumnRequest::new(*name, Some(*kind));
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
    let clock = Clock::start(SCENARIO, &broker);
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
