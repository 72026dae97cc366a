//! The folder of the outputs: what lies there, under which names, and what a run takes away.

use crate::durable::progress::PROGRESS;
use crate::durable::{
    DurableError, GATES, Generation, MessageOutput, STAGE, Staged, generation_of,
};
use crate::job::OutputPlan;
use millrace_connectors::output::{OutputError, Texts};
use millrace_connectors::store::{NewFile, Store, StoreError};
use std::sync::Arc;

/// The folders of the outputs, in the order in which they are described to people.
pub const OUTPUTS: [&str; 10] = [
    "monetised",
    "impacts",
    "buckets",
    "balances",
    "activity",
    "notices",
    "suspense",
    "aggregated",
    "raw_status",
    "ledger",
];

/// Where raw records are kept, below the output folder.
pub const RAW: &str = "raw";

/// Where and in which forms a job's outputs are written.
#[derive(Clone)]
pub struct Outputs {
    pub(super) store: Arc<Store>,
    pub(super) plan: OutputPlan,
    pub(super) texts: Texts,
    /// Where epochs are made durable: what this run's names have in them.
    pub(super) tag: Option<String>,
}

/// A run that makes its epochs durable, and what it finds among the outputs.
pub struct DurableRun<'a> {
    /// The run.
    pub generation: &'a Generation,
    /// Where its state is.
    pub state: &'a Store,
    /// What lay there before it took over, if it goes on from nothing.
    pub earlier: Vec<String>,
}

impl Outputs {
    /// Prepares the folder: outputs of an earlier run are taken away.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn prepare(store: Arc<Store>, plan: OutputPlan, texts: Texts) -> Result<Self, OutputError> {
        for name in OUTPUTS {
            store.clear(name)?;
        }
        Ok(Self {
            store,
            plan,
            texts,
            tag: None,
        })
    }

    /// What lies among the outputs. Of a run that goes on from nothing, asked before it takes over: what
    /// is there then is of others, and no younger run has made it.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn earlier(store: &Store) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for folder in OUTPUTS.into_iter().chain([RAW, STAGE, PROGRESS]) {
            names.extend(store.names_within(folder)?);
        }
        Ok(names)
    }

    /// Prepares the folder for a run that makes its epochs durable: what was there `earlier` is taken
    /// away.
    ///
    /// # Errors
    /// When it cannot be, or another run has taken over.
    pub fn prepare_durable(
        store: Arc<Store>,
        plan: OutputPlan,
        texts: Texts,
        run: &DurableRun<'_>,
    ) -> Result<Self, DurableError> {
        let outputs = Self {
            store,
            plan,
            texts,
            tag: Some(run.generation.tag()),
        };
        outputs.store.open_gate(&outputs.gate())?;
        // Whoever takes over from here on closes it.
        run.generation.check(run.state)?;
        for name in &run.earlier {
            outputs.take_away(name)?;
        }
        Ok(outputs)
    }

    /// The same outputs for another process of the run, which writes its share of large snapshots: the
    /// first has prepared the folder.
    #[must_use]
    pub fn of_another_process(store: Arc<Store>, plan: OutputPlan, texts: Texts) -> Self {
        Self {
            store,
            plan,
            texts,
            tag: None,
        }
    }

    /// The same, of a run that makes its epochs durable.
    #[must_use]
    pub fn tagged(self, tag: Option<String>) -> Self {
        Self { tag, ..self }
    }

    /// What the names of a run that makes its epochs durable have in them.
    #[must_use]
    pub fn tag(&self) -> Option<String> {
        self.tag.clone()
    }

    fn gate(&self) -> String {
        format!("{GATES}/{}", self.tag.as_deref().unwrap_or_default())
    }

    /// Takes away what an older run left. A younger one may have made it anew, unless its name says of
    /// which run it is.
    fn take_away(&self, name: &str) -> Result<(), StoreError> {
        let is_shared =
            name.starts_with("raw/") || name.ends_with(".jsonl") || name.ends_with(".csv");
        match is_shared && self.tag.is_some() {
            true => self.store.remove_through(&self.gate(), name),
            false => self.store.remove(name),
        }
    }

    /// The name of a Parquet file, which only this run makes where epochs are made durable.
    pub(super) fn parquet(&self, folder: &str, stem: &str) -> String {
        match &self.tag {
            Some(tag) => format!("{folder}/{stem}-{tag}.parquet"),
            None => format!("{folder}/{stem}.parquet"),
        }
    }

    /// Where a file is written that is to take this place.
    pub(super) fn hidden(&self, place: String) -> Staged {
        let staged = match &self.tag {
            Some(tag) => format!("{STAGE}/{tag}-{}", place.replace('/', "-")),
            None => place.clone(),
        };
        Staged {
            staged,
            place,
            waiting: None,
        }
    }

    /// Starts a file that takes its place behind the commit that names it.
    pub(super) fn begin(&self, spot: &Staged) -> Result<NewFile, StoreError> {
        match self.tag {
            Some(_) => self.store.create_waiting(&spot.staged, &spot.place),
            None => self.store.create(&spot.staged),
        }
    }

    /// Puts an object among the outputs, for other processes to see.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.store.put(name, content)
    }

    /// An object that another process has put there.
    ///
    /// # Errors
    /// When it cannot be looked for.
    pub fn marked(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(name)
    }

    /// Takes away what was put there.
    ///
    /// # Errors
    /// When it cannot be taken away.
    pub fn unmark(&self, name: &str) -> Result<(), StoreError> {
        self.store.remove(name)
    }

    /// Whether every process writes there, if there is much to write.
    #[must_use]
    pub fn written_by_all(&self) -> bool {
        self.plan.monetised.tells_end() || self.plan.impacts.tells_end()
    }

    /// Takes away what an earlier run wrote at its end.
    ///
    /// # Errors
    /// When it cannot be taken away.
    pub fn clear_snapshots(&self) -> Result<(), StoreError> {
        for name in OUTPUTS {
            self.clear_older(&format!("{name}/snapshot"))?;
            // Forms that are one file each, which this run may not be asked for.
            for form in ["jsonl", "csv"] {
                self.take_away(&format!("{name}/snapshot.{form}"))?;
            }
        }
        self.clear_older("ledger/changes")
    }

    fn clear_older(&self, folder: &str) -> Result<(), StoreError> {
        let Some(ours) = self.tag.as_deref().and_then(generation_of) else {
            return self.store.clear(folder);
        };
        for name in self.store.names(folder)? {
            if generation_of(&name).is_none_or(|generation| generation < ours) {
                self.store.remove(&format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    /// Whether an output needs each change of each charge.
    #[must_use]
    pub fn wants_charges(&self) -> bool {
        let told = self.tells(MessageOutput::Monetised);
        told || self.plan.monetised.changes || self.plan.raw_status.changes
    }

    /// Whether an output needs each change of each impact.
    #[must_use]
    pub fn wants_impacts(&self) -> bool {
        self.plan.impacts.changes || self.tells(MessageOutput::Balances)
    }

    pub(super) fn tells(&self, output: MessageOutput) -> bool {
        let messages = self.plan.messages.as_ref();
        messages.is_some_and(|messages| messages.topics.of(output).is_some())
    }

    /// Whether an output needs each ignored record. Where rows are counted through, ignored are those that
    /// nobody else has; offsets of topics are not.
    #[must_use]
    pub fn wants_ignored(&self) -> bool {
        let forms = self.plan.raw_status;
        forms.changes || (self.plan.reads_topics && forms.tells_end())
    }
}
