//! Manifests: what is committed, one create-only object per commit.
//!
//! A manifest is one line of JSON and, in a second line, the digest of the first. Its number is in its
//! name; whoever creates it has committed.

use super::DurableError;
use super::commands::Applied;
use super::journal::{Position, decode};
use crate::job::{Job, SourcePlan};
use millrace_connectors::archive::StateMark;
use millrace_connectors::mediate::MediationPlan;
use millrace_connectors::store::{Put, Store, StoreError, Waiting, random_name, sealed, unsealed};
use millrace_operators::domain::FileId;
use millrace_operators::epoch::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const FOLDER: &str = "manifest";
/// Manifests kept for whoever wants to look back.
const KEPT: u64 = 16;
/// Attempts to learn the outcome of a commit.
const ATTEMPTS: u32 = 8;

/// The form of state that this build writes and reads.
const FORM: u32 = 10;

/// What must be equal for state to be of use: what identities, keys and lines are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The job's name.
    pub job: String,
    /// The tenant's time zone.
    pub time_zone: String,
    /// What separates billing lines.
    pub aggregate_by: Vec<String>,
    /// The sources, by their names then, with the streams that their records are of.
    pub sources: BTreeMap<String, String>,
    /// Which of the records of one identity holds, by source.
    #[serde(default)]
    pub precedence: BTreeMap<String, String>,
}

impl Plan {
    /// The plan of a job with these rules, one per source.
    #[must_use]
    pub fn of(job: &Job, rules: &[Arc<MediationPlan>]) -> Self {
        let source = |s: &SourcePlan| (s.origin().to_owned(), s.stream.to_string());
        let ruled = job.sources.iter().zip(rules);
        let precedence =
            ruled.map(|(source, rule)| (source.origin().to_owned(), rule.precedence()));
        Self {
            job: job.name.clone(),
            time_zone: job.zone.iana_name().unwrap_or("UTC").to_owned(),
            aggregate_by: job.aggregate_by.clone(),
            sources: job.sources.iter().map(source).collect(),
            precedence: precedence.collect(),
        }
    }

    /// What keeps state of `self` from being used for `job`, in words. A source may be added.
    fn differs_from(&self, job: &Self) -> Option<String> {
        if self.job != job.job {
            return Some(format!("it is of job {:?}, not {:?}", self.job, job.job));
        }
        if self.time_zone != job.time_zone {
            let (old, new) = (&self.time_zone, &job.time_zone);
            return Some(format!("its time zone is {old}, not {new}"));
        }
        if self.aggregate_by != job.aggregate_by {
            let (old, new) = (&self.aggregate_by, &job.aggregate_by);
            return Some(format!("its lines are separated by {old:?}, not {new:?}"));
        }
        let mut ruled = self.precedence.iter();
        let ruled = ruled.find_map(|(name, old)| {
            let new = job.precedence.get(name).filter(|new| *new != old)?;
            Some(format!(
                "its source {name:?} has taken in records of which {old} holds, not {new} (put `keep` and \
                 `version` back as they were)"
            ))
        });
        let mut sources = self.sources.iter();
        let other = sources.find_map(|(name, stream)| match job.sources.get(name) {
            None => Some(format!(
                "it has read a source {name:?}, which the job has not (give it its name again, or write \
                 `was: {name:?}` at the source that reads on where it was)"
            )),
            Some(new) if new != stream => {
                Some(format!("its source {name:?} is of {stream}, not {new}"))
            }
            Some(_) => None,
        });
        other.or(ruled)
    }
}

/// An object that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name below the state folder.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Usage rows in it.
    pub rows: u64,
    /// The digest of its content.
    pub digest: String,
}

impl Object {
    /// Describes content.
    #[must_use]
    pub fn of(name: String, content: &[u8], rows: u64) -> Self {
        Self {
            name,
            bytes: u64::try_from(content.len()).unwrap_or(u64::MAX),
            rows,
            digest: blake3::hash(content).to_hex().to_string(),
        }
    }

    /// Reads the object, and makes sure that it is the one that was written.
    ///
    /// # Errors
    /// When it is missing, damaged, or cannot be read.
    pub fn read(&self, store: &Store) -> Result<Vec<u8>, DurableError> {
        let content = store.get(&self.name)?;
        let content = content.ok_or_else(|| self.damaged(store, "is missing".to_owned()))?;
        if blake3::hash(&content).to_hex().as_str() != self.digest {
            let (length, told) = (content.len(), self.bytes);
            let problem = format!(
                "is damaged: its {length} bytes do not have the digest that was written with {told} bytes"
            );
            return Err(self.damaged(store, problem));
        }
        Ok(content)
    }

    /// Reads what [`packed`] made of a value.
    ///
    /// # Errors
    /// When it is missing, damaged, or cannot be read.
    pub(super) fn read_packed<T: for<'d> Deserialize<'d>>(
        &self,
        store: &Store,
    ) -> Result<T, DurableError> {
        let value = decode(&self.read(store)?);
        value.map_err(|problem| self.damaged(store, problem))
    }

    /// Why it cannot be used.
    pub(super) fn damaged(&self, store: &Store, problem: String) -> DurableError {
        DurableError::Damaged {
            folder: store.location().to_owned(),
            object: self.name.clone(),
            problem,
        }
    }
}

/// The content of an object that is one value.
pub(super) fn packed(value: &impl Serialize) -> Vec<u8> {
    let content = bincode::serialize(value).expect("memory takes all bytes");
    zstd::bulk::compress(&content, 0).expect("memory takes all bytes")
}

/// An output written under a hidden name, and the place that it takes when it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The hidden name, below the output folder.
    pub staged: String,
    /// Its place.
    pub place: String,
    /// How it is completed, where it is an upload that waits in a bucket and has no hidden name.
    #[serde(default)]
    pub waiting: Option<Waiting>,
}

/// Lets outputs take their places. Says how many did so now.
///
/// # Errors
/// When one cannot be moved.
pub(super) fn take_places<'s>(
    outputs: &Store,
    staged: impl Iterator<Item = &'s Staged>,
) -> Result<usize, StoreError> {
    let (waiting, hidden): (Vec<_>, Vec<_>) = staged.partition(|output| output.waiting.is_some());
    let moves = hidden.iter().map(|o| (o.staged.as_str(), o.place.as_str()));
    let mut moved = outputs.rename_all(moves)?;
    for Staged { place, waiting, .. } in waiting {
        let completed = waiting
            .as_ref()
            .map(|waiting| outputs.complete(place, waiting));
        moved += usize::from(completed.unwrap_or(Ok(false))?);
    }
    Ok(moved)
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

fn name(commit: u64) -> String {
    format!("{FOLDER}/{commit:020}.json")
}

/// The number of a manifest, or of one that is being written; nothing of what somebody else put there.
fn number_of(name: &str) -> Option<u64> {
    let (digits, ending) = name.split_once('.')?;
    let is_number = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let begins = ending.strip_prefix("json");
    let is_ours = begins.is_some_and(|rest| rest.is_empty() || rest.ends_with(".tmp"));
    digits.parse().ok().filter(|_| is_number && is_ours)
}

/// The generation that a name says it is of: behind it stands the name of a run, see [`Generation::tag`].
#[must_use]
pub fn generation_of(name: &str) -> Option<u64> {
    let words: Vec<&str> = name.split(['-', '.', '+']).collect();
    let is_run = |word: &str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let tagged = |pair: &[&str]| pair[0].parse().ok().filter(|_: &u64| is_run(pair[1]));
    words.windows(2).find_map(tagged)
}

/// Writes an object whose name only this run can make.
///
/// # Errors
/// When it cannot be written, or something else has its name.
pub(super) fn create(store: &Store, object: &Object, content: &[u8]) -> Result<(), DurableError> {
    // An answer that was lost is asked for again below us, and the name is taken then.
    if store.put_new(&object.name, content)? == Put::Exists {
        object.read(store)?;
    }
    Ok(())
}

/// The manifests that there are, in their order, and nothing else that lies beside them.
fn manifests(store: &Store) -> Result<Vec<String>, DurableError> {
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

    fn encode(&self) -> Result<Vec<u8>, DurableError> {
        let line = serde_json::to_string(self).map_err(|error| DurableError::Damaged {
            folder: String::new(),
            object: name(self.commit),
            problem: format!("cannot be written: {error}"),
        })?;
        Ok(sealed(&line).into_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
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

/// The right of one run to commit.
#[derive(Debug)]
pub struct Generation {
    /// Which run this is, from 1.
    pub number: u64,
    /// The newest commit.
    pub manifest: Manifest,
    /// What no other run is called.
    run: String,
    digest: String,
}

impl Generation {
    /// Takes the job over: the next manifest is ours. Returns what was committed before, if anything.
    ///
    /// # Errors
    /// When the state is of another plan, damaged, or cannot be written.
    pub fn begin(store: &Store, plan: &Plan) -> Result<(Self, bool), DurableError> {
        loop {
            let before = Manifest::newest(store)?;
            if let Some(before) = &before {
                before.check_plan(store, plan)?;
            }
            // A run that committed nothing has left nothing to go on from.
            let resumes = before.as_ref().is_some_and(|before| before.live > 0);
            let before = before.unwrap_or_default();
            let digest = blake3::hash(&before.encode()?).to_hex().to_string();
            let mut ours = Self {
                number: before.generation + 1,
                manifest: before.clone(),
                run: random_name(),
                digest,
            };
            // Nothing is new but the generation; outputs that the last run did not publish still wait.
            let mut next = Manifest {
                plan: plan.clone(),
                ..before
            };
            if next.state.is_empty() {
                next.state = random_name();
            }
            match ours.commit(store, next) {
                Ok(()) => {
                    ours.tidy(store)?;
                    return Ok((ours, resumes));
                }
                // Somebody committed in between, or has given the newest up: look again.
                Err(DurableError::Superseded { .. } | DurableError::Emptied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Leaves the job to whoever had it: the manifest that took it over goes, so that what is put back in
    /// its place is the newest. For a run that was refused, and has committed nothing.
    ///
    /// # Errors
    /// When it is there and stays.
    pub fn give_up(self, store: &Store) -> Result<(), DurableError> {
        Ok(store.remove(&name(self.manifest.commit))?)
    }

    /// What the names have in them that this run makes, and no other does: its generation, by which a
    /// younger run knows what it may take away, and a name of its own.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{}-{}", self.number, self.run)
    }

    /// Whether an object of this name was made by an older run.
    #[must_use]
    pub fn is_younger_than(&self, name: &str) -> bool {
        generation_of(name).is_some_and(|of| of < self.number)
    }

    /// Commits `next`, whose number, generation and ancestor are filled in here.
    ///
    /// # Errors
    /// When another run holds the number, or the store does not say.
    pub fn commit(&mut self, store: &Store, next: Manifest) -> Result<(), DurableError> {
        self.commit_at(store, next, jiff::Timestamp::now())
    }

    fn commit_at(
        &mut self,
        store: &Store,
        next: Manifest,
        now: jiff::Timestamp,
    ) -> Result<(), DurableError> {
        let next = Manifest {
            form: FORM,
            commit: self.manifest.commit + 1,
            generation: self.number,
            run: self.run.clone(),
            previous: self.digest.clone(),
            written: now.to_string(),
            ..next
        };
        let bytes = next.encode()?;
        let place = name(next.commit);
        let mut attempt = 0;
        loop {
            let put = store.put_new(&place, &bytes);
            // A refused or unknown write may still be ours: a lost answer is sent again below us.
            let held = match (&put, attempt) {
                (Ok(Put::Created), _) => break,
                (Ok(Put::Exists), _) => store.get(&place),
                // One that is silent has been asked for long enough.
                (Err(_), ATTEMPTS..) | (Err(StoreError::Silent { .. }), _) => {
                    return Err(put.err().map_or(DurableError::Ended, Into::into));
                }
                (Err(_), _) => store.get(&place).or(Ok::<_, StoreError>(None)),
            }?;
            match held {
                Some(held) if held == bytes => break,
                Some(held) => {
                    let theirs = Self::holder(&held);
                    let ours = self.number;
                    return Err(DurableError::Superseded { ours, theirs });
                }
                None => {
                    attempt += 1;
                    std::thread::sleep(Duration::from_millis(50 << attempt.min(6)));
                }
            }
        }
        let stands = self.stands(store, next.commit);
        if let Err(DurableError::Superseded { .. } | DurableError::Emptied { .. }) = &stands {
            // What nobody may go on from. Nobody else makes this number: a newer one is there, or none
            // that it would follow.
            store.remove(&place)?;
        }
        stands?;
        self.digest = blake3::hash(&bytes).to_hex().to_string();
        self.manifest = next;
        if let Some(old) = self.manifest.commit.checked_sub(KEPT) {
            // It is committed, whatever stays behind: the next run tidies up.
            store.remove(&name(old)).ok();
        }
        Ok(())
    }

    /// Takes away what runs that were cut off left.
    fn tidy(&self, store: &Store) -> Result<(), DurableError> {
        // A younger run writes none of these numbers.
        let ours = self.manifest.commit;
        store.sweep(FOLDER, |name| {
            number_of(name).is_some_and(|number| number <= ours)
        })?;
        let old = name(ours.saturating_sub(KEPT));
        let gone = manifests(store)?.into_iter().filter(|held| *held <= old);
        for held in gone {
            store.remove(&held)?;
        }
        Ok(())
    }

    /// Whether what this run has committed is still what there is to go on from, seen from manifest
    /// `commit`, which is ours. Manifests are taken away when many others have come, so a run that stood
    /// still meanwhile finds the number free at which it would have met another; but the newest is always
    /// there. So is the one before, unless somebody has emptied the folder: what is committed behind it
    /// would name objects that are gone.
    fn stands(&self, store: &Store, commit: u64) -> Result<(), DurableError> {
        let (ours, before) = (name(commit), self.manifest.commit);
        let manifests = manifests(store)?;
        let stands = before == 0 || manifests.contains(&name(before));
        if let Some(younger) = manifests.last().filter(|newest| **newest > ours) {
            let held = store.get(younger)?;
            return Err(DurableError::Superseded {
                ours: self.number,
                theirs: held.map_or(0, |held| Self::holder(&held)),
            });
        }
        // A store may list late what it has.
        if stands || store.get(&name(before))?.is_some() {
            return Ok(());
        }
        Err(DurableError::Emptied {
            folder: store.location().to_owned(),
            object: name(before),
        })
    }

    fn holder(bytes: &[u8]) -> u64 {
        Manifest::decode(bytes).map_or(0, |manifest| manifest.generation)
    }

    /// Commits the snapshots of a run that ends, which are staged, and puts them in their places.
    ///
    /// # Errors
    /// When another run has taken over, or a store fails.
    pub fn conclude(
        &mut self,
        state: &Store,
        outputs: &Store,
        snapshots: Vec<Staged>,
    ) -> Result<(), DurableError> {
        outputs.keep(snapshots.iter().map(|output| output.staged.as_str()))?;
        let next = Manifest {
            outputs: snapshots,
            ..self.manifest.clone()
        };
        let uploads: Vec<Staged> = next.outputs.clone();
        if let Err(error) = self.commit(state, next) {
            if let DurableError::Superseded { .. } | DurableError::Emptied { .. } = error {
                // Nobody will complete them.
                for Staged { place, waiting, .. } in &uploads {
                    waiting
                        .iter()
                        .for_each(|waiting| outputs.abandon(place, waiting));
                }
            }
            return Err(error);
        }
        self.publish(state, outputs)
    }

    /// Puts the outputs of the commit that was just made in their places.
    ///
    /// # Errors
    /// When another run has taken over and done so, or a store fails.
    pub(super) fn publish(&self, state: &Store, outputs: &Store) -> Result<(), DurableError> {
        let staged = &self.manifest.outputs;
        if take_places(outputs, staged.iter())? == staged.len() {
            return Ok(());
        }
        // Perhaps others are in their places by now.
        self.check(state)?;
        // A bucket that did it, and whose answer was lost, was asked again.
        for Staged { place, waiting, .. } in staged {
            match waiting {
                Some(waiting) => outputs.is_complete(place, waiting)?,
                None => drop(outputs.find(place)?),
            }
        }
        Ok(())
    }

    /// Whether no other run has taken over, and nobody has emptied the folder.
    ///
    /// # Errors
    /// When one has, or the store does not say.
    pub fn check(&self, store: &Store) -> Result<(), DurableError> {
        self.stands(store, self.manifest.commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            job: "calls".to_owned(),
            ..Plan::default()
        }
    }

    #[test]
    fn the_younger_of_two_runs_commits() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let (mut old, resumed) = Generation::begin(&store, &plan()).unwrap();
        assert!(!resumed);
        let next = Manifest {
            live: 7,
            ..old.manifest.clone()
        };
        old.commit(&store, next).unwrap();
        let (mut young, resumed) = Generation::begin(&store, &plan()).unwrap();
        assert!(resumed);
        assert_eq!((young.number, young.manifest.live), (2, 7));
        assert!(matches!(
            old.check(&store),
            Err(DurableError::Superseded { ours: 1, theirs: 2 })
        ));
        let lost = old.commit(&store, old.manifest.clone());
        assert!(matches!(lost, Err(DurableError::Superseded { .. })));
        young.commit(&store, young.manifest.clone()).unwrap();
        assert_eq!(Manifest::newest(&store).unwrap().unwrap().commit, 4);
    }

    #[test]
    fn a_run_that_gives_the_job_up_ends_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let (mut first, _) = Generation::begin(&store, &plan()).unwrap();
        first.commit(&store, first.manifest.clone()).unwrap();
        let ended = std::sync::atomic::AtomicBool::new(false);
        let refused = || {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let (refused, _) = Generation::begin(&store, &plan()).unwrap();
                refused.give_up(&store).unwrap();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(refused);
            for _ in 0..100 {
                let begun = Generation::begin(&store, &plan());
                ended.store(begun.is_err(), std::sync::atomic::Ordering::Relaxed);
                begun.unwrap();
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }

    #[test]
    fn a_run_that_stood_still_while_many_commits_were_made_commits_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let (mut old, _) = Generation::begin(&store, &plan()).unwrap();
        let (mut young, _) = Generation::begin(&store, &plan()).unwrap();
        for _ in 0..2 * KEPT {
            young.commit(&store, young.manifest.clone()).unwrap();
        }
        let free = name(old.manifest.commit + 1);
        assert_eq!(store.get(&free).unwrap(), None);
        let seen = old.check(&store);
        assert!(
            matches!(seen, Err(DurableError::Superseded { ours: 1, theirs: 2 })),
            "{seen:?}"
        );
        let lost = old.commit(&store, old.manifest.clone());
        assert!(
            matches!(lost, Err(DurableError::Superseded { ours: 1, theirs: 2 })),
            "{lost:?}"
        );
        assert_eq!(store.get(&free).unwrap(), None);
        let newest = Manifest::newest(&store).unwrap().unwrap();
        assert_eq!(newest, young.manifest);
    }

    #[test]
    fn nothing_is_committed_behind_what_is_gone() {
        for emptied in ["", FOLDER] {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open("state", folder.path()).unwrap();
            let (mut run, _) = Generation::begin(&store, &plan()).unwrap();
            run.commit(&store, run.manifest.clone()).unwrap();
            run.check(&store).unwrap();
            std::fs::remove_dir_all(folder.path().join("state").join(emptied)).unwrap();
            let seen = run.check(&store);
            assert!(
                matches!(seen, Err(DurableError::Emptied { .. })),
                "{seen:?}"
            );
            let lost = run.commit(&store, run.manifest.clone()).unwrap_err();
            assert!(matches!(lost, DurableError::Emptied { .. }), "{lost}");
            assert!(lost.to_string().contains(&name(2)), "{lost}");
            // What is left starts again.
            assert_eq!(Manifest::newest(&store).unwrap(), None);
            let (next, resumes) = Generation::begin(&store, &plan()).unwrap();
            assert_eq!((next.number, resumes), (1, false));
            // The run that was there before does no harm to the one that begins anew.
            let lost = run.commit(&store, run.manifest.clone()).unwrap_err();
            assert!(matches!(lost, DurableError::Emptied { .. }), "{lost}");
            assert_eq!(Manifest::newest(&store).unwrap(), Some(next.manifest));
        }
    }

    #[test]
    fn of_two_runs_that_begin_at_once_one_commits() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let (mut one, _) = Generation::begin(&store, &plan()).unwrap();
        let mut other = Generation {
            number: one.number,
            manifest: one.manifest.clone(),
            run: random_name(),
            digest: one.digest.clone(),
        };
        // All that they would write is alike, the time too.
        let (next, now) = (one.manifest.clone(), jiff::Timestamp::UNIX_EPOCH);
        one.commit_at(&store, next.clone(), now).unwrap();
        let lost = other.commit_at(&store, next, now);
        assert!(
            matches!(lost, Err(DurableError::Superseded { .. })),
            "{lost:?}"
        );
    }

    #[test]
    fn names_say_which_generation_they_are_of() {
        let run = "0123456789abcdef";
        for (name, generation) in [
            (format!("{:020}-7-{run}.journal", 3), Some(7)),
            (format!("{:020}-7-{run}-2++.journal.{run}.tmp", 3), Some(7)),
            (format!("12-{run}-monetised.parquet"), Some(12)),
            (format!("part-00-12-{run}.parquet"), Some(12)),
            ("part-00.parquet".to_owned(), None),
            (format!("{:020}.json.{run}.tmp", 3), None),
            (format!("{:020}-7.journal", 3), None),
        ] {
            assert_eq!(generation_of(&name), generation, "{name}");
        }
    }

    #[test]
    fn what_runs_that_were_cut_off_left_is_tidied_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let (mut run, _) = Generation::begin(&store, &plan()).unwrap();
        let first = store.get(&name(1)).unwrap().unwrap();
        for _ in 0..2 * KEPT {
            run.commit(&store, run.manifest.clone()).unwrap();
        }
        store.put(&name(1), &first).unwrap();
        let half = |number| format!("{}.0123.tmp", name(number));
        // One of a run that was cut off, and one of a run that is younger than the one that tidies up.
        for number in [20, 99] {
            std::fs::write(folder.path().join("state").join(half(number)), b"{").unwrap();
        }
        Generation::begin(&store, &plan()).unwrap();
        let held = std::fs::read_dir(folder.path().join("state").join(FOLDER)).unwrap();
        assert_eq!(held.count(), usize::try_from(KEPT).unwrap() + 1);
        assert!(folder.path().join("state").join(half(99)).exists());
    }

    /// What somebody else left among the manifests is none, is not taken for a younger run, and stays.
    #[test]
    fn what_is_no_manifest_stands_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let strays = [
            "zzz.json",
            "99999999999999999999.json",
            "00000000000000000001 (copy).json",
            "00000000000000000099.json.bak",
            "-.json",
            "7.json",
        ];
        for stray in strays {
            store.put(&format!("{FOLDER}/{stray}"), b"{}").unwrap();
        }
        let (mut run, resumed) = Generation::begin(&store, &plan()).unwrap();
        assert!(!resumed);
        let next = Manifest {
            live: 7,
            ..run.manifest.clone()
        };
        run.commit(&store, next).unwrap();
        run.check(&store).unwrap();
        let (young, resumed) = Generation::begin(&store, &plan()).unwrap();
        assert!(resumed);
        assert_eq!((young.number, young.manifest.commit), (2, 3));
        let superseded = run.check(&store);
        assert!(
            matches!(superseded, Err(DurableError::Superseded { theirs: 2, .. })),
            "{superseded:?}"
        );
        for stray in strays {
            let kept = store.get(&format!("{FOLDER}/{stray}")).unwrap();
            assert_eq!(kept.as_deref(), Some(&b"{}"[..]), "{stray}");
        }
    }

    #[test]
    fn no_byte_of_a_manifest_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        Generation::begin(&store, &plan()).unwrap();
        let place = name(1);
        let whole = store.get(&place).unwrap().unwrap();
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            store.put(&place, &torn).unwrap();
            let read = Manifest::newest(&store);
            assert!(
                matches!(read, Err(DurableError::Damaged { .. })),
                "byte {at}"
            );
        }
        for left in [whole.len() / 2, whole.len() - 1] {
            store.put(&place, &whole[..left]).unwrap();
            assert!(Manifest::newest(&store).is_err(), "{left} bytes");
        }
    }

    #[test]
    fn state_of_another_job_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        Generation::begin(&store, &plan()).unwrap();
        let other = Plan {
            job: "energy".to_owned(),
            ..plan()
        };
        let refused = Generation::begin(&store, &other).unwrap_err().to_string();
        assert!(
            refused.contains("it is of job \"calls\", not \"energy\""),
            "{refused}"
        );
    }
}
