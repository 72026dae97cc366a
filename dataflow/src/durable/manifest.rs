//! Manifests: what is committed, one create-only object per commit.
//!
//! A manifest is one line of JSON and, in a second line, the digest of the first. Its number is in its
//! name; whoever creates it has committed.

use super::applied::Applied;
use super::error::DurableError;
use super::object::Object;
use super::plan::Plan;
use super::staged::Staged;
use millrace_connectors::archive::StateMark;
use millrace_connectors::store::{Store, sealed, unsealed};
use millrace_operators::domain::FileId;
use millrace_operators::epoch::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const FOLDER: &str = "manifest";
/// Manifests kept for whoever wants to look back.
pub(super) const KEPT: u64 = 16;

/// The form of state that this build writes and reads.
pub(super) const FORM: u32 = 10;

/// How far a file or partition is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Its source.
    pub source: String,
    /// Its name.
    pub name: String,
    /// The next row or offset.
    pub next: u64,
}

/// Files that have been told, as far as it takes to find that one is gone or another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// How many.
    pub files: u64,
    /// The sum of digests of their names, which have those of their content.
    pub names: u64,
}

impl Told {
    /// Adds a file by its name.
    pub(super) fn add(&mut self, name: &str) {
        let digest = blake3::hash(name.as_bytes());
        let first = digest.as_bytes().first_chunk().copied().unwrap_or_default();
        self.files += 1;
        self.names = self.names.wrapping_add(u64::from_le_bytes(first));
    }
}

/// A commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of the state: that of another form is refused.
    #[serde(default)]
    pub form: u32,
    /// What no other state is called: drawn when it begins, and kept.
    #[serde(default)]
    pub state: String,
    /// Which commit, from 1.
    pub commit: u64,
    /// Who committed.
    pub generation: u64,
    /// The name of that run, which no other has.
    #[serde(default)]
    pub run: String,
    /// The first epoch of the newest commit that brought any.
    pub from: Epoch,
    /// The first epoch that is not committed.
    pub live: Epoch,
    /// The digest of the manifest before.
    pub previous: String,
    /// When, for people.
    pub written: String,
    /// What the state is of.
    pub plan: Plan,
    /// How far each file or partition that is being read is read.
    pub positions: BTreeMap<FileId, Position>,
    /// Sources that operators have paused.
    pub paused: BTreeSet<String>,
    /// Sources of which records say what decides between them and others; all that ever did.
    #[serde(default)]
    pub marked: BTreeSet<String>,
    /// The commands that were applied.
    #[serde(default)]
    pub commands: Applied,
    /// What the topics that are published to are known by, and that of progress, by name.
    #[serde(default)]
    pub output_topics: BTreeMap<String, String>,
    /// What the topics of reference data are known by, by name.
    #[serde(default)]
    pub reference_topics: BTreeMap<String, String>,
    /// Files and partitions met so far.
    pub files: u64,
    /// Records received so far.
    pub received: u64,
    /// Everything taken in, in order.
    pub journal: Vec<Object>,
    /// What is closed, and what is left of it in the state.
    pub closed: Option<Object>,
    /// What records were mediated by.
    pub inputs: Option<Object>,
    /// Outputs of this commit: they take their places after it.
    pub outputs: Vec<Staged>,
    /// The files of changes of all commits, by folder.
    #[serde(default)]
    pub changes: BTreeMap<String, Told>,
}

/// What every form of a manifest says.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    form: u32,
}

pub(super) fn name(commit: u64) -> String {
    format!("{FOLDER}/{commit:020}.json")
}

/// The number of a manifest, or of one that is being written; nothing of what somebody else put there.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let (digits, ending) = name.split_once('.')?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let begins = ending.strip_prefix("json");
    let is_ours = begins.is_some_and(|rest| rest.is_empty() || rest.ends_with(".tmp"));
    digits.parse().ok().filter(|_| is_number && is_ours)
}

/// The manifests that there are, in their order, and nothing else that lies beside them.
pub(super) fn manifests(store: &Store) -> Result<Vec<String>, DurableError> {
    let mut names = store.names(FOLDER)?;
    names.retain(|name| number_of(name).is_some());
    Ok(names
        .into_iter()
        .map(|name| format!("{FOLDER}/{name}"))
        .collect())
}

impl Manifest {
    /// How far the state has come, for what is written from it.
    #[must_use]
    pub fn mark(&self) -> StateMark {
        StateMark {
            name: self.state.clone(),
            live: self.live,
        }
    }

    /// Enters a file of changes.
    pub(super) fn tell(&mut self, output: &Staged) {
        if let Some((folder, name)) = output.place.rsplit_once('/') {
            self.changes.entry(folder.to_owned()).or_default().add(name);
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, DurableError> {
        let line = serde_json::to_string(self).map_err(|error| DurableError::Damaged {
            folder: String::new(),
            object: name(self.commit),
            problem: format!("cannot be written: {error}"),
        })?;
        Ok(sealed(&line).into_bytes())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let line = unsealed(bytes).ok_or("is damaged: its digest does not match")?;
        let said: Form =
            serde_json::from_str(line).map_err(|error| format!("is damaged: {error}"))?;
        if said.form != FORM {
            let found = said.form;
            return Err(format!(
                "was written in form {found} by another version of millrace; this one reads form {FORM}"
            ));
        }
        serde_json::from_str(line).map_err(|error| format!("is damaged: {error}"))
    }

    /// Whether the state is of use for a plan.
    ///
    /// # Errors
    /// When it is of another.
    pub fn check_plan(&self, store: &Store, plan: &Plan) -> Result<(), DurableError> {
        self.plan.differs_from(plan).map_or(Ok(()), |difference| {
            let folder = store.location().to_owned();
            Err(DurableError::OtherPlan { folder, difference })
        })
    }

    /// Whether the state is of a job of this name, whatever else the job says by now.
    ///
    /// # Errors
    /// When it is of another.
    pub fn check_job(&self, store: &Store, job: &str) -> Result<(), DurableError> {
        let plan = Plan {
            job: job.to_owned(),
            ..self.plan.clone()
        };
        self.check_plan(store, &plan)
    }

    /// The newest manifest, if there is one.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn newest(store: &Store) -> Result<Option<Self>, DurableError> {
        let mut found = manifests(store)?.pop();
        while let Some(object) = found {
            let damaged = |problem: String| DurableError::Damaged {
                folder: store.location().to_owned(),
                object: object.clone(),
                problem,
            };
            if let Some(bytes) = store.get(&object)? {
                let manifest = Self::decode(&bytes).map_err(damaged)?;
                if name(manifest.commit) != object {
                    return Err(damaged(
                        "holds another commit than its name says".to_owned(),
                    ));
                }
                return Ok(Some(manifest));
            }
            // Many commits may have been made since it was the newest, or whoever made it has given it up.
            found = manifests(store)?.pop();
            if found.as_ref() == Some(&object) {
                return Err(damaged("is gone".to_owned()));
            }
        }
        Ok(None)
    }
}

/// Makes sure that the objects which the newest manifest names are there, before a run takes over: it takes
/// away what that one does not name, and if it is not the newest that there was, all of that is needed once
/// the newest is put back.
///
/// # Errors
/// When one is missing, or the store fails.
pub(crate) fn check_objects(store: &Store) -> Result<(), DurableError> {
    let mut newest = Manifest::newest(store)?;
    while let Some(manifest) = newest {
        let objects = || {
            let journal = manifest.journal.iter();
            journal.chain(&manifest.closed).chain(&manifest.inputs)
        };
        let folder = |object: &Object| object.name.split('/').next().map(str::to_owned);
        let mut held = BTreeSet::new();
        for folder in objects().filter_map(folder).collect::<BTreeSet<String>>() {
            let names = store.names(&folder)?.into_iter();
            held.extend(names.map(|name| format!("{folder}/{name}")));
        }
        let Some(missing) = objects().find(|object| !held.contains(&object.name)) else {
            return Ok(());
        };
        // A run under way may have merged it meanwhile.
        newest = Manifest::newest(store)?.filter(|now| now.commit > manifest.commit);
        if newest.is_none() {
            return Err(missing.damaged(store, "is missing".to_owned()));
        }
    }
    Ok(())
}
