//! What a job has committed: the newest manifest, in words and numbers.
//!
//! Nothing is run and nothing is written. How far a topic is behind is asked of its broker, where one
//! answers.

use crate::durable::{DurableError, Manifest, Object, OperatorCommand, Plan, tell};
use crate::job::Job;
use millrace_connectors::diagnostic::did_you_mean;
use millrace_connectors::kafka::{Consumer, KafkaError, TopicPartition, Watermarks};
use millrace_connectors::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a job has committed.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The job.
    pub job: String,
    /// Where its state is.
    pub folder: String,
    /// The number of the newest commit.
    pub commit: u64,
    /// The run that committed.
    pub generation: u64,
    /// When.
    pub written: String,
    /// Epochs committed.
    pub epochs: u64,
    /// Records received up to then.
    pub received: u64,
    /// Files and partitions met.
    pub files: u64,
    /// The files and partitions that are being read.
    pub positions: Vec<Reading>,
    /// Sources that are paused.
    pub paused: Vec<String>,
    /// What a restart reads.
    pub state: Size,
    /// The objects that it is in.
    pub objects: Vec<StateObject>,
    /// The output files of the newest commit.
    pub outputs: Vec<String>,
    /// Why a broker could not be asked.
    pub complaints: Vec<String>,
}

/// How far a file or partition is read.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    /// Its source.
    pub source: String,
    /// Its name.
    pub name: String,
    /// The next row or offset.
    pub next: u64,
    /// Messages behind it.
    pub lag: Option<u64>,
}

/// An object of the state.
#[derive(Clone, Debug, Serialize)]
pub struct StateObject {
    /// Its name below the state folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Usage rows in it.
    pub rows: u64,
}

/// What a restart reads.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Size {
    /// Objects.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Usage rows in them.
    pub rows: u64,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The state cannot be read.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// There is none, in words.
    #[error("{0}")]
    None(String),
}

/// Reads the newest manifest of a job.
///
/// # Errors
/// When the job keeps no state, has not committed yet, or its state is damaged or another job's.
pub fn status(job: &Job) -> Result<Status, StatusError> {
    let none = |message: String| StatusError::None(message);
    let plan = job.durability.as_ref().ok_or_else(|| {
        none(format!(
            "job {:?} keeps no state; give it `durability`",
            job.name
        ))
    })?;
    let store = Store::open(&plan.folder, &job.folder).map_err(DurableError::Store)?;
    let manifest = Manifest::newest(&store)?.ok_or_else(|| {
        none(format!(
            "job {:?} has committed nothing in {}",
            job.name,
            store.location()
        ))
    })?;
    manifest.check_job(&store, &job.name)?;
    let (ends, complaints) = ends(job);
    let positions = manifest.positions.into_values().map(|position| {
        let end = ends.get(&(position.source.clone(), position.name.clone()));
        Reading {
            lag: end.map(|end| end.saturating_sub(position.next)),
            source: position.source,
            name: position.name,
            next: position.next,
        }
    });
    let (mut state, mut objects) = (Size::default(), Vec::new());
    for Object {
        name, bytes, rows, ..
    } in manifest.journal.into_iter().chain(manifest.closed)
    {
        state.objects += 1;
        state.bytes += bytes;
        state.rows += rows;
        objects.push(StateObject { name, bytes, rows });
    }
    let outputs = manifest.outputs.into_iter().map(|output| output.place);
    Ok(Status {
        job: job.name.clone(),
        folder: store.location().to_owned(),
        commit: manifest.commit,
        generation: manifest.generation,
        written: manifest.written,
        epochs: manifest.live,
        received: manifest.received,
        files: manifest.files,
        positions: positions.collect(),
        paused: {
            let sources = job.sources.iter();
            let paused = sources.filter(|source| manifest.paused.contains(source.origin()));
            paused.map(|source| source.name.clone()).collect()
        },
        state,
        objects,
        outputs: outputs.collect(),
        complaints,
    })
}

/// Where partitions end, by source and name, and why that is not known of some.
fn ends(job: &Job) -> (BTreeMap<(String, String), u64>, Vec<String>) {
    let (mut ends, mut complaints) = (BTreeMap::new(), Vec::new());
    for source in &job.sources {
        let Some(kafka) = &source.kafka else { continue };
        let asked = Consumer::open(&kafka.settings, &kafka.topics);
        let asked: Result<BTreeMap<TopicPartition, Watermarks>, KafkaError> =
            asked.and_then(|consumer| consumer.watermarks());
        match asked {
            Ok(marks) => ends.extend(marks.into_iter().map(|(partition, marks)| {
                let end = u64::try_from(marks.high).unwrap_or(0);
                ((source.name.clone(), partition.to_string()), end)
            })),
            Err(error) => complaints.push(error.to_string()),
        }
    }
    (ends, complaints)
}

/// Tells the job a command; it is applied while the job runs, or when it starts.
///
/// # Errors
/// When the job keeps no state or that of another job, has no such source, or the store fails.
pub fn command(job: &Job, command: &OperatorCommand) -> Result<u64, StatusError> {
    let plan = job.durability.as_ref().ok_or_else(|| {
        let message = format!(
            "job {:?} keeps no state, so it would forget the command; give it `durability`",
            job.name
        );
        StatusError::None(message)
    })?;
    if let OperatorCommand::Pause { source } | OperatorCommand::Resume { source } = command {
        let names = || job.sources.iter().map(|source| source.name.as_str());
        if !names().any(|name| name == source) {
            let hint = match did_you_mean(source, names()) {
                Some(name) => format!("did you mean {name:?}?"),
                None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("job {:?} has no source {source:?}; {hint}", job.name);
            return Err(StatusError::None(message));
        }
    }
    let store = Store::open(&plan.folder, &job.folder).map_err(DurableError::Store)?;
    // Rules say nothing of commands.
    Ok(tell(&store, &Plan::of(job, &[]), command)?)
}
