//! Partitions of topics, read side by side with files.
//!
//! A partition is a file of the ledger that never ends: it has a number, its offsets are the rows, and
//! how far it is read is part of every commit. Offsets are never kept by the broker: a run begins where
//! the newest commit says, or where the job says when there is none.
//!
//! What was read is read once more where it is to be mediated by another rule, see [`again`].

mod again;

pub(super) use again::MessagesAgain;

use super::archived::Archived;
use super::files::Files;
use super::halt::Halt;
use crate::bundle::Bundle;
use crate::job::{MessageSource, SourcePlan};
use crate::listener::Listener;
use crate::metrics::Extent;
use arrow::datatypes::SchemaRef;
use millrace_connectors::decode::{DecodeError, MessageDecoder, Registry};
use millrace_connectors::kafka::{
    Consumer, KafkaError, KeptMessage, Message, Start, TopicPartition,
};
use millrace_connectors::mediate::{Mediated, MediationPlan, Mediator};
use millrace_operators::domain::FileId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often new partitions are looked for.
const REFRESH: Duration = Duration::from_secs(10);
/// Before a registry or a broker is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often partitions are assigned while no broker answers.
const ASSIGNMENTS: u32 = 6;

/// The partitions of one source.
pub(super) struct Messages {
    /// Which source of the job.
    pub(super) source: usize,
    plan: MessageSource,
    consumer: Consumer,
    registry: Option<Arc<Registry>>,
    /// Sorted; each has the position that it has in the consumer's assignment.
    partitions: Vec<Partition>,
    /// Of all partitions whose messages have the same columns: what one has met the others meet too.
    mediators: Mediators,
    /// Where a run that does not watch ends.
    ends: Vec<(TopicPartition, i64)>,
    /// Where it began, by partition.
    begun: BTreeMap<TopicPartition, i64>,
    refreshed: Instant,
    complaint: Option<String>,
    /// What is passed over, in words.
    skipped: Vec<String>,
}

/// Mediators, each for messages of a schema.
type Mediators = Vec<(SchemaRef, Mediator)>;

struct Partition {
    partition: TopicPartition,
    id: FileId,
    decoder: MessageDecoder,
    /// Which of the mediators.
    mediator: usize,
    /// The next offset.
    next: i64,
    /// Messages since the last chunk.
    pending: bool,
}

/// What the partitions share with the rest of the intake.
pub(super) struct Desk<'a> {
    pub(super) bundle: &'a mut Bundle,
    pub(super) mediated: &'a mut Mediated,
    pub(super) archived: Option<&'a mut Archived>,
    pub(super) listener: &'a Arc<dyn Listener>,
    pub(super) failed: &'a AtomicBool,
    pub(super) wants_ignored: bool,
}

impl Messages {
    /// Connects, and goes on where an earlier run committed.
    pub(super) fn open(
        (index, source, plan): (usize, &SourcePlan, &MessageSource),
        rule: &MediationPlan,
        files: &mut Files,
    ) -> Result<Self, Halt> {
        let mut consumer = Consumer::open(&plan.settings, &plan.topics)?;
        let registry = plan
            .format
            .registry()
            .map_err(|error| failed(source, &error))?;
        let mut messages = Self {
            source: index,
            plan: plan.clone(),
            registry,
            partitions: Vec::new(),
            mediators: Vec::new(),
            ends: consumer
                .watermarks()?
                .into_iter()
                .map(|(partition, marks)| (partition, marks.high))
                .collect(),
            begun: BTreeMap::new(),
            refreshed: Instant::now(),
            complaint: None,
            skipped: Vec::new(),
            consumer: {
                consumer.refresh()?;
                consumer
            },
        };
        let begin = match plan.from_latest && !files.has_read(index) {
            true => Start::Latest,
            false => Start::Earliest,
        };
        messages.take_in(source, rule, files, begin)?;
        let partitions = messages.partitions.iter();
        let begun = partitions.map(|entered| (entered.partition.clone(), entered.next));
        messages.begun = begun.collect();
        Ok(messages)
    }

    /// Enters partitions that are not known yet, and reads all of them from where they are.
    fn take_in(
        &mut self,
        source: &SourcePlan,
        rule: &MediationPlan,
        files: &mut Files,
        begin: Start,
    ) -> Result<(), Halt> {
        let found = self.consumer.partitions().to_vec();
        for partition in found {
            if self
                .partitions
                .iter()
                .any(|held| held.partition == partition)
            {
                continue;
            }
            let brokers = &self.plan.settings.brokers;
            let topic = self.consumer.ids().get(&*partition.topic);
            let known = (&partition, topic.map(String::as_str));
            let (id, position) = files.partition(self.source, source, brokers, known)?;
            let decoder = self.decoder((id, &partition), source, rule);
            let decoder = decoder.map_err(Halt::Source)?;
            let mediator = mediator(&mut self.mediators, decoder.schema(), source, rule);
            let mediator = mediator.map_err(Halt::Source)?;
            let next = position.and_then(|next| i64::try_from(next).ok());
            self.partitions.push(Partition {
                partition,
                id,
                decoder,
                mediator,
                next: next.unwrap_or(-1),
                pending: false,
            });
        }
        self.partitions
            .sort_by(|a, b| a.partition.cmp(&b.partition));
        if self.plan.skips_removed {
            self.skip_removed(source)?;
        }
        let is_read = |topic: &str| {
            let mut of_topic = self
                .partitions
                .iter()
                .filter(|p| &*p.partition.topic == topic);
            of_topic.any(|entered| entered.next >= 0)
        };
        let start = |entered: &Partition| {
            let start = match entered.next {
                // What was added to a topic that is read already is new, all of it.
                ..0 if is_read(&entered.partition.topic) => Start::Earliest,
                ..0 => begin,
                next => Start::At(next),
            };
            (entered.partition.clone(), start)
        };
        let starts: Vec<_> = self.partitions.iter().map(start).collect();
        let mut tries = 1;
        while let Err(error) = self.consumer.assign(&starts) {
            if !error.is_temporary() || tries == ASSIGNMENTS {
                return Err(error.into());
            }
            tries += 1;
            std::thread::sleep(PAUSE);
        }
        for (partition, next) in self.consumer.position()? {
            let mut held = self.partitions.iter_mut();
            if let Some(entered) = held.find(|held| held.partition == partition) {
                if entered.next < 0 {
                    files.begins_at(entered.id, u64::try_from(next).unwrap_or(0));
                }
                entered.next = next;
            }
        }
        Ok(())
    }

    /// Passes over messages that were removed before they were read.
    fn skip_removed(&mut self, source: &SourcePlan) -> Result<(), Halt> {
        let marks = self.consumer.watermarks()?;
        for entered in self.partitions.iter_mut().filter(|p| p.next >= 0) {
            let low = marks.get(&entered.partition).map_or(0, |marks| marks.low);
            if low > entered.next {
                self.skipped.push(format!(
                    "source {:?}: messages of {} from offset {} to {} were removed before they were read, and are \
                     passed over",
                    source.name,
                    entered.partition,
                    entered.next,
                    low - 1
                ));
                entered.next = low;
            }
        }
        Ok(())
    }

    /// What was passed over since the last call, in words.
    pub(super) fn take_skipped(&mut self) -> Vec<String> {
        std::mem::take(&mut self.skipped)
    }

    fn decoder(
        &self,
        (id, partition): (FileId, &TopicPartition),
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> Result<MessageDecoder, String> {
        let (format, columns) = (&self.plan.format, rule.columns());
        MessageDecoder::open(id, partition, format, self.registry.as_ref(), columns)
            .map_err(|error| told(source, &error))
    }

    /// What decodes and mediates the messages of each partition by a rule.
    fn mediation(
        &self,
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> Result<(Vec<(MessageDecoder, usize)>, Mediators), String> {
        let mut mediators = Vec::new();
        let of_partition = |entered: &Partition| {
            let decoder = self.decoder((entered.id, &entered.partition), source, rule)?;
            let mediator = mediator(&mut mediators, decoder.schema(), source, rule)?;
            Ok::<_, String>((decoder, mediator))
        };
        let by: Result<Vec<_>, String> = self.partitions.iter().map(of_partition).collect();
        Ok((by?, mediators))
    }

    /// Whether messages can be mediated by a rule.
    ///
    /// # Errors
    /// When they cannot, in words.
    pub(super) fn suits(&self, source: &SourcePlan, rule: &MediationPlan) -> Result<(), String> {
        self.mediation(source, rule).map(drop)
    }

    /// Mediates what comes by this rule from now on; everything that was read has been mediated.
    pub(super) fn mediate_by(
        &mut self,
        source: &SourcePlan,
        rule: &MediationPlan,
    ) -> Result<(), Halt> {
        let (by, mediators) = self.mediation(source, rule).map_err(Halt::Source)?;
        self.mediators = mediators;
        for (entered, by) in self.partitions.iter_mut().zip(by) {
            (entered.decoder, entered.mediator) = by;
        }
        Ok(())
    }

    /// Checks that all that was read is of the topics that are known.
    pub(super) fn is_same(&self) -> Result<(), KafkaError> {
        self.consumer.is_same()
    }

    /// Looks for new partitions now and then.
    pub(super) fn refresh(
        &mut self,
        source: &SourcePlan,
        rule: &MediationPlan,
        files: &mut Files,
    ) -> Result<(), Halt> {
        if self.refreshed.elapsed() < REFRESH {
            return Ok(());
        }
        self.refreshed = Instant::now();
        match self.consumer.refresh() {
            Ok(new) if new.is_empty() => Ok(()),
            // What appears while the job runs is read from its beginning.
            Ok(_) => self.take_in(source, rule, files, Start::Earliest),
            Err(error) if error.is_temporary() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads up to `most` messages into the bundle; waits a little for the first. Says how many.
    pub(super) fn read(
        &mut self,
        most: usize,
        wait: Duration,
        desk: &mut Desk<'_>,
    ) -> Result<usize, Halt> {
        let partitions = &mut self.partitions;
        let mut stopped: Option<(TopicPartition, i64, KeptMessage, DecodeError)> = None;
        let (listener, halted) = (desk.listener, desk.failed);
        let mut each = |message: Message<'_>| {
            let Some(entered) = partitions.get_mut(message.slot) else {
                return;
            };
            // A registry that does not answer holds everything up: no message may be passed over.
            while let Err(error) = entered.decoder.push(&message) {
                listener.message(&error.to_string());
                if halted.load(Ordering::Relaxed) || !matches!(error, DecodeError::Registry { .. })
                {
                    let (partition, offset) = (message.partition.clone(), message.offset);
                    stopped.get_or_insert((partition, offset, message.keep(), error));
                    return;
                }
                std::thread::sleep(PAUSE);
            }
            entered.next = message.offset + 1;
            entered.pending = true;
        };
        let count = self.consumer.poll(most, wait, &mut each)?;
        if let Some((partition, offset, _, error)) = stopped {
            return Err(Halt::Source(format!(
                "{partition} offset {offset}: {error}"
            )));
        }
        let (partitions, mediators) = (&mut self.partitions, &mut self.mediators);
        for entered in partitions.iter_mut().filter(|entered| entered.pending) {
            entered.pending = false;
            let Some(chunk) = entered.decoder.finish() else {
                continue;
            };
            desk.mediated.clear();
            if let Some((_, mediator)) = mediators.get_mut(entered.mediator) {
                mediator.mediate(&chunk, entered.id, desk.mediated);
            }
            if let Some(archived) = desk.archived.as_deref_mut() {
                archived.tell(desk.mediated, desk.bundle)?;
            }
            desk.bundle
                .add(desk.mediated, entered.id, desk.wants_ignored);
        }
        let complaint = self.consumer.complaint();
        if complaint != self.complaint {
            if let Some(complaint) = &complaint {
                desk.listener.message(complaint);
            }
            self.complaint = complaint;
        }
        Ok(count)
    }

    /// Whether everything is read that was there when the run began.
    pub(super) fn ended(&self) -> Result<bool, KafkaError> {
        self.consumer.reached(&self.ends)
    }

    /// How many of the offsets between where the run began and where the topics ended then are read.
    pub(super) fn extent(&self) -> Extent {
        // A client that cannot tell is behind, but for a moment.
        let positions = self.consumer.position().unwrap_or_default();
        let positions: BTreeMap<TopicPartition, i64> = positions.into_iter().collect();
        let mut extent = Extent::default();
        for (partition, end) in &self.ends {
            let begun = self.begun.get(partition).copied().unwrap_or(*end);
            let next = positions.get(partition).copied().unwrap_or(begun);
            extent.found += u64::try_from(end - begun).unwrap_or(0);
            extent.read += u64::try_from(next.min(*end) - begun).unwrap_or(0);
        }
        extent
    }

    /// The next offset of each partition.
    pub(super) fn positions(&self) -> impl Iterator<Item = (FileId, u64)> {
        let partitions = self.partitions.iter();
        partitions.filter_map(|entered| Some((entered.id, u64::try_from(entered.next).ok()?)))
    }
}

fn failed(source: &SourcePlan, error: &DecodeError) -> Halt {
    Halt::Source(told(source, error))
}

fn told(source: &SourcePlan, error: &DecodeError) -> String {
    format!("source {:?}: {error}", source.name)
}

/// Which of the mediators is that of a schema; it is made where there is none yet.
fn mediator(
    mediators: &mut Mediators,
    schema: &SchemaRef,
    source: &SourcePlan,
    rule: &MediationPlan,
) -> Result<usize, String> {
    if let Some(known) = mediators.iter().position(|(known, _)| known == schema) {
        return Ok(known);
    }
    mediators.push((Arc::clone(schema), new_mediator(schema, source, rule)?));
    Ok(mediators.len() - 1)
}

fn new_mediator(
    schema: &SchemaRef,
    source: &SourcePlan,
    rule: &MediationPlan,
) -> Result<Mediator, String> {
    rule.mediator(schema).map_err(|findings| {
        let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
        format!("source {:?}: {}", source.name, told.join("; "))
    })
}
