//! Topics of reference data: read to their end before usage is rated, and followed while a job watches.
//!
//! They are read from their beginning whenever a job starts: compacted, they are what is in force. Which
//! rows the graph has from an earlier run is in the journal, so only differences are fed.

use crate::job::{Job, ReferenceTopics};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::{FeedChange, FeedFault, KafkaError, UpsertFeed};
use millrace_connectors::reference::{ReferenceFiles, Section};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long reading the topics to their end may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often new partitions are looked for.
const REFRESH: Duration = Duration::from_secs(10);

/// The topics of a job.
#[derive(Debug)]
pub struct ReferenceFeeds {
    feeds: Vec<(ReferenceTopics, UpsertFeed)>,
    refreshed: Instant,
    complaint: Option<String>,
}

impl ReferenceFeeds {
    /// Reads the job's topics to their end; none where it has none.
    ///
    /// # Errors
    /// When no broker answers, a topic is missing, or reading fails.
    pub fn open(job: &Job, files: &mut ReferenceFiles) -> Result<Option<Self>, KafkaError> {
        Self::open_some(job, files, |_| true)
    }

    /// As [`Self::open`], of the catalog alone.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_catalog(job: &Job, files: &mut ReferenceFiles) -> Result<Option<Self>, KafkaError> {
        Self::open_some(job, files, |section| section == Section::Catalog)
    }

    fn open_some(
        job: &Job,
        files: &mut ReferenceFiles,
        wanted: impl Fn(Section) -> bool,
    ) -> Result<Option<Self>, KafkaError> {
        let mut feeds = Vec::new();
        for plan in job.reference_topics.iter().filter(|t| wanted(t.section)) {
            let version = plan.version.as_deref();
            let mut feed = UpsertFeed::open(&plan.settings, &plan.topics, version)?;
            feed.read_to_end(PATIENCE)?;
            take(plan, &mut feed, files);
            feeds.push((plan.clone(), feed));
        }
        Ok((!feeds.is_empty()).then(|| Self {
            feeds,
            refreshed: Instant::now(),
            complaint: None,
        }))
    }

    /// What the topics are known by, by name.
    #[must_use]
    pub fn ids(&self) -> BTreeMap<String, String> {
        let ids = self.feeds.iter().flat_map(|(_, feed)| feed.ids());
        ids.map(|(topic, id)| (topic.clone(), id.clone())).collect()
    }

    /// What to say of topics that are not those that an earlier run knew by these ids: what they hold now is in
    /// force, and nobody took back what they held.
    #[must_use]
    pub fn created_anew(&self, job: &Job, known: &BTreeMap<String, String>) -> Vec<Diagnostic> {
        let ids = self.ids();
        let other = ids
            .iter()
            .filter(|(topic, id)| known.get(*topic).is_some_and(|known| known != *id));
        let finding = |(topic, _): (&String, &String)| {
            let message = format!(
                "topic {topic:?} was deleted, and created anew under its name since the last run: what it holds now \
                 is in force, and what it held before no more"
            );
            Diagnostic::warning(&job.path.display().to_string(), (0, 0), message)
                .with_hint("write to it again what it lacks, and run the job again")
        };
        other.map(finding).collect()
    }

    /// Reads what came since; says whether anything did.
    ///
    /// # Errors
    /// When a topic is gone or may not be read any more.
    pub(super) fn poll(&mut self, files: &mut ReferenceFiles) -> Result<bool, KafkaError> {
        let mut came = false;
        let refresh = self.refreshed.elapsed() >= REFRESH;
        for (plan, feed) in &mut self.feeds {
            if refresh {
                match feed.refresh() {
                    Err(error) if !error.is_temporary() => return Err(error),
                    _ => self.refreshed = Instant::now(),
                }
            }
            while feed.poll(Duration::ZERO)? > 0 {}
            came |= take(plan, feed, files);
        }
        Ok(came)
    }

    /// What a client complains about, once.
    pub(super) fn complaint(&mut self) -> Option<String> {
        let complaint = self.feeds.iter().find_map(|(_, feed)| feed.complaint());
        let told = std::mem::replace(&mut self.complaint, complaint.clone());
        complaint.filter(|complaint| Some(complaint) != told.as_ref())
    }
}

fn take(plan: &ReferenceTopics, feed: &mut UpsertFeed, files: &mut ReferenceFiles) -> bool {
    let changes = feed.take_changes().into_iter().map(Ok);
    let faults = feed.take_faults().into_iter().map(Err);
    let mut messages: Vec<Result<FeedChange, FeedFault>> = changes.chain(faults).collect();
    // A good message may stand before a bad one of its key, or behind it.
    messages.sort_by_key(|message| match message {
        Ok(change) => (change.partition.clone(), change.offset),
        Err(fault) => (fault.partition.clone(), fault.offset),
    });
    let came = !messages.is_empty();
    for message in messages {
        match message {
            Ok(change) => files.take(plan.section, change, plan.version.as_deref()),
            Err(fault) => files.refuse(plan.section, fault),
        }
    }
    came
}
