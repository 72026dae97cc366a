//! The messages of the scenario `kafka`: JSON of 1,000 bytes each, published by somebody else than the
//! job; and what the job's own messages add up to.

use super::broker::Broker;
use crate::process::Process;
use crate::world::{Raw, World, list_price, mix, model_name, service_name};
use millrace_connectors::kafka::{Consumer, Start, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

pub(super) const PARTITIONS: i32 = 4;
const MESSAGE_BYTES: usize = 1_000;
/// What fills messages up: words that come again, as those of real records do. LZ4 leaves two fifths of a
/// message; of real usage records it leaves a tenth to a half.
const FILLING_BYTES: usize = 1 << 20;
const WORDS: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(120);

/// What was published to the job, or what its own messages add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) records: u64,
    pub(super) tokens: i128,
    /// In the 10⁻²⁴ part of a dollar.
    pub(super) amount: i128,
}

/// A publisher of usage, which knows nothing of transactions, as platforms are.
pub(super) struct Feed {
    producer: ThreadedProducer<DefaultProducerContext>,
    world: World,
    filling: String,
    message: String,
    pub(super) sent: Sums,
}

impl Feed {
    pub(super) fn open(broker: &Broker, world: World) -> Result<Self, Box<dyn Error>> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", broker.address())
            .set("compression.type", "lz4")
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "200000")
            .set("delivery.report.only.error", "true")
            .create()?;
        let mut filling = String::with_capacity(FILLING_BYTES);
        for at in 0.. {
            let word = mix(at) % WORDS;
            write!(filling, "{:x} ", mix(word) >> (24 + word % 16))?;
            if filling.len() >= FILLING_BYTES {
                break;
            }
        }
        Ok(Self {
            producer,
            world,
            filling,
            message: String::new(),
            sent: Sums::default(),
        })
    }

    /// Sends the next record.
    pub(super) fn send(&mut self) -> Result<(), Box<dyn Error>> {
        let raw = self.world.raw(self.sent.records % self.world.records);
        self.send_raw(&raw, &service_name(raw.service))
    }

    /// Sends the next record as one of this service.
    pub(super) fn send_of(&mut self, service: &str) -> Result<(), Box<dyn Error>> {
        let raw = self.world.raw(self.sent.records % self.world.records);
        self.send_raw(&raw, service)
    }

    fn send_raw(&mut self, raw: &Raw, service: &str) -> Result<(), Box<dyn Error>> {
        let number = self.sent.records;
        let (model, tokens) = (model_name(raw.model), raw.tokens);
        let at = jiff::Timestamp::from_microsecond(raw.time)?;
        let message = &mut self.message;
        message.clear();
        write!(
            message,
            r#"{{"id":"{:016x}","key":"{service}","model":"{model}","at":"{at}","tokens":{tokens},"trace":""#,
            mix(number)
        )?;
        let rest = MESSAGE_BYTES.saturating_sub(message.len() + 2);
        let from = usize::try_from(mix(!number))? % (self.filling.len() - MESSAGE_BYTES);
        message.push_str(&self.filling[from..from + rest]);
        message.push_str("\"}");
        let partition = i32::try_from(number % u64::try_from(PARTITIONS)?)?;
        let mut record = BaseRecord::<(), str>::to("usage")
            .partition(partition)
            .payload(message);
        while let Err((error, back)) = self.producer.send(record) {
            let full = ClientError::MessageProduction(RDKafkaErrorCode::QueueFull);
            if error != full {
                return Err(error.into());
            }
            record = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.sent.records += 1;
        self.sent.tokens += i128::from(tokens);
        // Cents per million tokens are 10⁻⁸ dollars per token.
        let price = i128::from(list_price(raw.model));
        self.sent.amount += i128::from(tokens) * price * 10_i128.pow(16);
        Ok(())
    }

    /// Waits until everything sent is in the topic.
    pub(super) fn flush(&self) -> Result<(), Box<dyn Error>> {
        Ok(self.producer.flush(PATIENCE)?)
    }
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    charges: Option<u64>,
    quantity: String,
    amount: String,
}

/// What the committed messages of a topic add up to: of each key the newest; and how many messages
/// there are.
pub(super) fn billed(broker: &Broker, topic: &str) -> Result<(Sums, u64), Box<dyn Error>> {
    let mut consumer = Consumer::open(&broker.settings(), &[topic.to_owned()])?;
    let ends: Vec<(TopicPartition, i64)> = consumer
        .watermarks()?
        .into_iter()
        .map(|(partition, marks)| (partition, marks.high))
        .collect();
    let starts: Vec<_> = ends
        .iter()
        .map(|(partition, _)| (partition.clone(), Start::Earliest))
        .collect();
    consumer.assign(&starts)?;
    let mut standing: BTreeMap<Vec<u8>, Sums> = BTreeMap::new();
    let (mut count, mut unread) = (0, None);
    let deadline = Instant::now() + PATIENCE;
    while !consumer.reached(&ends)? {
        if Instant::now() > deadline {
            return Err(format!("{topic} does not end").into());
        }
        consumer.poll(16_384, Duration::from_millis(100), &mut |message| {
            count += 1;
            let key = message.key().unwrap_or_default().to_vec();
            match message.payload().map(sums) {
                Some(Ok(sums)) => drop(standing.insert(key, sums)),
                Some(Err(error)) => unread = Some(error),
                None => drop(standing.remove(&key)),
            }
        })?;
    }
    if let Some(error) = unread {
        return Err(error.into());
    }
    let mut all = Sums::default();
    for sums in standing.values() {
        all.records += sums.records;
        all.tokens += sums.tokens;
        all.amount += sums.amount;
    }
    Ok((all, count))
}

fn sums(payload: &[u8]) -> Result<Sums, String> {
    let row: Row = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    Ok(Sums {
        records: row.charges.unwrap_or(1),
        tokens: decimal(&row.quantity, 0)?,
        amount: decimal(&row.amount, 24)?,
    })
}

/// A decimal as an integer of so many decimals.
fn decimal(text: &str, scale: usize) -> Result<i128, String> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = part.trim_end_matches('0');
    if part.len() > scale {
        return Err(format!("{text} has more than {scale} decimals"));
    }
    format!("{whole}{part:0<scale$}")
        .parse()
        .map_err(|_| format!("{text:?} is no decimal"))
}

/// Fails where what was billed is not what was sent.
pub(super) fn compare(sent: Sums, billed: Sums, topic: &str) -> Result<(), Box<dyn Error>> {
    if sent == billed {
        return Ok(());
    }
    Err(format!("{topic} adds up to {billed:?}, and {sent:?} was sent").into())
}

/// What a job, its broker and this process have taken of the processors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    at: Instant,
    job: f64,
    broker: f64,
    own: f64,
}

impl Load {
    pub(super) fn now(job: &Process, broker: &Broker) -> Self {
        Self {
            at: Instant::now(),
            job: job.processor(),
            broker: broker.processor(),
            own: crate::process::processor(std::path::Path::new("/proc/self")),
        }
    }

    /// Seconds since `before`, and of each the processors that it kept busy.
    pub(super) fn since(&self, before: &Self) -> [f64; 3] {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        [
            self.job - before.job,
            self.broker - before.broker,
            self.own - before.own,
        ]
        .map(|taken| taken / seconds)
    }
}
