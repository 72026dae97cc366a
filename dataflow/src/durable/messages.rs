//! Publishes the messages of committed epochs, each part in one transaction with the progress that it
//! makes.
//!
//! An outcome that is not known is never guessed: the publisher is dropped, opened again, which ends
//! whatever was under way, and asked what was published.

use super::error::DurableError;
use super::part::Part;
use crate::job::MessagePlan;
use crate::listener::Listener;
use millrace_connectors::kafka::{Progress, PublishError, Publisher, PublisherSlot, Row};
use millrace_operators::epoch::Epoch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often to look whether topics are still those that were published to.
const RECOGNISE: Duration = Duration::from_secs(10);
/// Before the publisher is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub struct MessageSink {
    plan: MessagePlan,
    slot: PublisherSlot,
    generation: u64,
    publisher: Option<Publisher>,
    progress: Option<Progress>,
    /// What the topics are known by, by name.
    ids: BTreeMap<String, String>,
    recognised: Instant,
    listener: Arc<dyn Listener>,
}

impl MessageSink {
    /// Opens the publisher of a job, whose state has committed the epochs before `live` and knows topics by
    /// these `ids`; older ones cannot publish any more.
    ///
    /// # Errors
    /// When no broker answers, a topic is missing or was created anew, or more was published than the state
    /// knows of: nothing is started then.
    pub fn open(
        plan: MessagePlan,
        job: &str,
        (generation, live, ids): (u64, Epoch, &BTreeMap<String, String>),
        listener: Arc<dyn Listener>,
    ) -> Result<Self, DurableError> {
        let slot = PublisherSlot {
            transactional_id: format!("millrace-{job}"),
            progress_topic: plan.progress.clone(),
            number: 0,
            of: 1,
        };
        let mut sink = Self {
            plan,
            slot,
            generation,
            publisher: None,
            progress: None,
            // Where nothing is committed, nothing is published.
            ids: match live {
                0 => BTreeMap::new(),
                _ => ids.clone(),
            },
            recognised: Instant::now(),
            listener,
        };
        sink.reopen()?;
        if let Some(publisher) = &sink.publisher {
            publisher.check_topics(sink.plan.topics.all())?;
        }
        // Messages follow their commit. What is ahead was published from other state, and whatever this
        // one comes to would be taken for published.
        match sink.progress {
            Some(done) if done.epoch >= live => Err(DurableError::Behind {
                topic: sink.plan.progress,
                published: done.epoch,
                live,
            }),
            _ => Ok(sink),
        }
    }

    fn reopen(&mut self) -> Result<(), DurableError> {
        // What may still be under way ends before anybody asks for progress.
        self.publisher = None;
        let (publisher, progress) = Publisher::open(&self.plan.settings, self.slot.clone())?;
        self.recognise(publisher.ids(self.plan.topics.all())?)?;
        (self.publisher, self.progress) = (Some(publisher), progress);
        Ok(())
    }

    /// Refuses topics that are others than those that were published to.
    fn recognise(&mut self, now: BTreeMap<String, String>) -> Result<(), DurableError> {
        let is_other = |(topic, id): &(&String, &String)| {
            let known = self.ids.get(*topic);
            known.is_some_and(|known| known != *id)
        };
        if let Some((topic, _)) = now.iter().find(is_other) {
            let topic = topic.clone();
            return Err(DurableError::Anew { topic });
        }
        self.ids.extend(now);
        self.recognised = Instant::now();
        Ok(())
    }

    /// What the topics are known by, by name.
    #[must_use]
    pub fn ids(&self) -> &BTreeMap<String, String> {
        &self.ids
    }

    /// Publishes the parts of a commit whose last epoch is `epoch`, as far as they are not published.
    /// Waits while no broker answers.
    ///
    /// # Errors
    /// When another run has taken over, or trying again would not help.
    pub fn publish(&mut self, epoch: Epoch, parts: &[Part]) -> Result<(), DurableError> {
        if self.recognised.elapsed() >= RECOGNISE
            && let Some(publisher) = &self.publisher
            && let Ok(now) = publisher.ids(self.plan.topics.all())
        {
            self.recognise(now)?;
        }
        for (number, part) in (0_u64..).zip(parts) {
            loop {
                let done = self
                    .progress
                    .is_some_and(|done| (done.epoch, done.part) >= (epoch, number));
                if done {
                    break;
                }
                match self.transact(epoch, number, part) {
                    Ok(()) => break,
                    Err(error) => self.recover(error)?,
                }
            }
        }
        Ok(())
    }

    /// Takes the publisher back from a run that has opened it since. Says whether that one had published
    /// nothing: what it published may be of other state, and whoever goes on then mixes the two.
    ///
    /// # Errors
    /// When no broker answers.
    pub fn take_back(&mut self) -> Result<bool, DurableError> {
        let before = self.progress;
        loop {
            match self.reopen() {
                Ok(()) => return Ok(self.progress == before),
                Err(DurableError::Kafka(error)) if error.is_temporary() => {
                    self.listener.message(&error.to_string());
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn transact(&mut self, epoch: Epoch, number: u64, part: &Part) -> Result<(), PublishError> {
        let Some(publisher) = &mut self.publisher else {
            let detail = "no broker answers".to_owned();
            return Err(PublishError::Unknown { detail });
        };
        let progress = Progress {
            epoch,
            generation: self.generation,
            part: number,
        };
        let topics = &self.plan.topics;
        let rows = part.rows().filter_map(|(output, key, value)| {
            let topic = topics.of(output)?;
            let headers = &[];
            Some(Row {
                topic,
                key,
                value,
                headers,
            })
        });
        publisher.publish(&progress, rows)?;
        self.progress = Some(progress);
        Ok(())
    }

    fn recover(&mut self, error: PublishError) -> Result<(), DurableError> {
        match error {
            PublishError::Unknown { .. } => {
                self.listener.message(&error.to_string());
                let opened = self.reopen();
                match opened {
                    Ok(()) => Ok(()),
                    Err(DurableError::Kafka(error)) if error.is_temporary() => {
                        std::thread::sleep(PAUSE);
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            PublishError::Fenced { .. }
            | PublishError::Refused { .. }
            | PublishError::Stuck { .. } => Err(error.into()),
        }
    }
}
