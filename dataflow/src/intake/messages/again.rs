//! Messages of a partition that were read before, read once more: by a client of their own, from the first
//! that the broker still has up to where the job has come.

use super::super::halt::Halt;
use super::{ASSIGNMENTS, PAUSE, failed, new_mediator};
use crate::job::{MessageSource, SourcePlan};
use crate::listener::Listener;
use millrace_connectors::decode::{DecodeError, MessageDecoder, RawChunk};
use millrace_connectors::kafka::{
    Consumer, KafkaError, Message, OPEN_TIMEOUT, Start, TopicPartition,
};
use millrace_connectors::mediate::{MediationPlan, Mediator};
use millrace_operators::domain::FileId;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Messages decoded at a time.
const CHUNK: usize = 16_384;
/// How long to wait for the next message before looking whether the run goes on.
const WAIT: Duration = Duration::from_millis(100);
/// How long nothing may come before the run gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(in crate::intake) struct MessagesAgain {
    consumer: Consumer,
    partition: TopicPartition,
    decoder: MessageDecoder,
    next: u64,
    end: u64,
    /// The offsets of the messages since they were asked for.
    offsets: Vec<u64>,
    listener: Arc<dyn Listener>,
    stopped: Arc<AtomicBool>,
}

impl MessagesAgain {
    /// Reads the messages within `rows` of a partition, which the job knows as file `id` and whose topic it knows
    /// by an id of its own, for this rule. In words, where the broker has them no more.
    pub(in crate::intake) fn open(
        (source, plan): (&SourcePlan, &MessageSource),
        rule: &MediationPlan,
        (id, partition, topic): (FileId, TopicPartition, Option<&str>),
        rows: &Range<u64>,
        (listener, stopped): (&Arc<dyn Listener>, &Arc<AtomicBool>),
    ) -> Result<Result<(Self, Mediator), String>, Halt> {
        let mut tries = 1;
        let (consumer, within) = loop {
            match assigned(plan, &partition, topic, rows) {
                Ok(assigned) => break assigned,
                Err(Unread::Gone(why)) => return Ok(Err(why)),
                Err(Unread::Failed(error)) if error.is_temporary() && tries < ASSIGNMENTS => {
                    listener.message(&error.to_string());
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err(Unread::Failed(error)) => return Err(error.into()),
            }
        };
        let of_source = |error: DecodeError| failed(source, &error);
        let registry = plan.format.registry().map_err(of_source)?;
        let (format, columns) = (&plan.format, rule.columns());
        let decoder = MessageDecoder::open(id, &partition, format, registry.as_ref(), columns);
        let decoder = decoder.map_err(of_source)?;
        let mediator = new_mediator(decoder.schema(), source, rule).map_err(Halt::Source)?;
        let again = Self {
            consumer,
            partition,
            decoder,
            next: within.start,
            end: within.end,
            offsets: Vec::new(),
            listener: Arc::clone(listener),
            stopped: Arc::clone(stopped),
        };
        Ok(Ok((again, mediator)))
    }

    /// The offset before which everything has been read.
    pub(in crate::intake) fn reached(&self) -> u64 {
        self.next
    }

    /// The offsets of the messages that were read since the last call: there may be gaps between them.
    pub(in crate::intake) fn take_offsets(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.offsets)
    }

    /// The next messages; nothing behind the last.
    pub(in crate::intake) fn next_chunk(&mut self) -> Result<Option<RawChunk>, Halt> {
        let mut heard = Instant::now();
        while self.next < self.end {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(Halt::Gone);
            }
            if self.read()? > 0 {
                heard = Instant::now();
            } else if heard.elapsed() >= PATIENCE {
                let why = self.consumer.complaint();
                let why = why.unwrap_or_else(|| "no message comes".to_owned());
                return Err(Halt::Source(format!(
                    "cannot read {} once more from offset {}: {why}",
                    self.partition, self.next
                )));
            }
            if let Some(chunk) = self.decoder.finish() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> Result<usize, Halt> {
        let (decoder, offsets, end) = (&mut self.decoder, &mut self.offsets, self.end);
        let (listener, stopped) = (&self.listener, &self.stopped);
        let mut broken = None;
        let mut each = |message: Message<'_>| {
            let offset = u64::try_from(message.offset).unwrap_or(u64::MAX);
            if offset >= end || broken.is_some() {
                return;
            }
            while let Err(error) = decoder.push(&message) {
                listener.message(&error.to_string());
                let waits = matches!(error, DecodeError::Registry { .. });
                if !waits || stopped.load(Ordering::Relaxed) {
                    broken = Some((offset, error));
                    return;
                }
                std::thread::sleep(PAUSE);
            }
            offsets.push(offset);
        };
        let count = match self.consumer.poll(CHUNK, WAIT, &mut each) {
            // Retention goes on meanwhile.
            Err(KafkaError::Removed { first, .. }) => {
                let from = (self.partition.clone(), Start::At(first));
                self.consumer.assign(&[from])?;
                1
            }
            count => count?,
        };
        if let Some((offset, error)) = broken {
            return Err(Halt::Source(format!(
                "{} offset {offset}: {error}",
                self.partition
            )));
        }
        if let Some((_, next)) = self.consumer.position()?.first() {
            self.next = self.next.max(u64::try_from(*next).unwrap_or(0));
        }
        Ok(count)
    }
}

/// Why messages are not read once more.
enum Unread {
    /// There are none, in words.
    Gone(String),
    Failed(KafkaError),
}

impl From<KafkaError> for Unread {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::TopicMissing { topic, .. } => {
                Self::Gone(format!("topic {topic:?} is there no more"))
            }
            KafkaError::PartitionMissing(partition) => {
                Self::Gone(format!("partition {partition} is there no more"))
            }
            error => Self::Failed(error),
        }
    }
}

/// A client that reads the partition from the first message within `rows` that there is, and between which
/// offsets it does.
fn assigned(
    plan: &MessageSource,
    partition: &TopicPartition,
    topic: Option<&str>,
    rows: &Range<u64>,
) -> Result<(Consumer, Range<u64>), Unread> {
    let name = partition.topic.to_string();
    let mut consumer = Consumer::open(&plan.settings, std::slice::from_ref(&name))?;
    let now = consumer.ids().get(&name).map(String::as_str);
    if topic.is_some() && now.is_some() && topic != now {
        return Err(Unread::Gone(format!(
            "topic {name:?} was deleted, and created anew under its name"
        )));
    }
    let offset = |offset: i64| u64::try_from(offset).unwrap_or(0);
    let mut marks = consumer.watermarks_in(partition)?;
    let begun = Instant::now();
    // A broker that has just restarted may tell an end before its own.
    while offset(marks.high) < rows.end && begun.elapsed() < OPEN_TIMEOUT {
        std::thread::sleep(WAIT);
        marks = consumer.watermarks_in(partition)?;
    }
    let within = rows.start.max(offset(marks.low))..rows.end.min(offset(marks.high));
    if !within.is_empty() {
        let start = i64::try_from(within.start).unwrap_or(i64::MAX);
        consumer.assign(&[(partition.clone(), Start::At(start))])?;
    }
    Ok((consumer, within))
}
