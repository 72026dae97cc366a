//! How far outputs in files are told, and from which state: one object among them.
//!
//! ```text
//!  <outputs>/_progress/<first epoch that is not committed>-<records received>-<generation>-<run>.json
//!
//!  manifest/N ─► progress: another name ─► changes take their places
//! ```
//!
//! Readers add all changes up, so what is told twice, or lacks, is money. State that is older than its
//! outputs, or another, would tell again what is there; outputs that are older, or gone, lack what will not be
//! told again. A start compares the two before it touches anything.
//!
//! - **Order.** The object gets its new name behind the commit and in front of the outputs, so outputs are
//!   never ahead of it, and it is at most one commit behind.
//! - **Fenced.** A run makes an object of its own when it takes over, and then takes those of older runs away.
//!   What an older run does later is the rename of an object that is gone.

use super::error::DurableError;
use super::manifest::{Manifest, Told};
use millrace_connectors::store::{Put, Store, sealed, unsealed};
use millrace_operators::epoch::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Where progress is, below the output folder.
pub(crate) const PROGRESS: &str = "_progress";
/// How often an object is looked for that a run gives other names meanwhile.
const LOOKS: u32 = 16;

/// What becomes of outputs whose state cannot be had.
const ANEW: &str = "or give `durability.folder`, `outputs.folder` and, where there is one, `archive.folder` empty \
                    folders to read all sources from their beginning";

/// Whose outputs lie there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    job: String,
    /// The name of the state.
    state: String,
}

/// How far outputs are told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Progress {
    owner: Owner,
    /// The first epoch that was not committed.
    live: Epoch,
    /// Records received before that.
    received: u64,
}

fn name(manifest: &Manifest, tag: &str) -> String {
    let Manifest { live, received, .. } = manifest;
    format!("{PROGRESS}/{live:020}-{received}-{tag}.json")
}

/// The epoch and the records of a name.
fn numbers_of(name: &str) -> Option<(Epoch, u64)> {
    let mut words = name.split('-').map(|word| word.parse().ok());
    Some((words.next()??, words.next()??))
}

fn refused(outputs: &Store, problem: impl Into<String>, hint: &str) -> DurableError {
    DurableError::Outputs {
        folder: outputs.location().to_owned(),
        problem: problem.into(),
        hint: hint.to_owned(),
    }
}

/// What the newest object says, if there is one.
fn newest(outputs: &Store) -> Result<Option<Progress>, DurableError> {
    for _ in 0..LOOKS {
        let names = outputs.names(PROGRESS)?;
        let mut newest = names.iter().rev();
        let newest = newest.find_map(|name| Some((numbers_of(name)?, name)));
        let Some(((live, received), name)) = newest else {
            return Ok(None);
        };
        // It may just have got another name.
        let Some(bytes) = outputs.get(&format!("{PROGRESS}/{name}"))? else {
            continue;
        };
        let owner = unsealed(&bytes).and_then(|line| serde_json::from_str(line).ok());
        return match owner {
            Some(owner) => Ok(Some(Progress {
                owner,
                live,
                received,
            })),
            None => {
                let problem = format!("{PROGRESS}/{name} is damaged: its digest does not match");
                let hint = format!("put it back from a copy, {ANEW}");
                Err(refused(outputs, problem, &hint))
            }
        };
    }
    let problem = format!("{PROGRESS} never stays as it is");
    Err(refused(outputs, problem, "end what changes it"))
}

/// Makes sure that outputs are those of the state, before a run takes over. Says of how many records there are
/// outputs whose state is gone: the job begins anew, and they with it.
///
/// # Errors
/// When they are another job's or another state's, older or newer than this one, gone, or cannot be read.
pub(crate) fn check(
    outputs: &Store,
    state: &Store,
    job: &str,
) -> Result<Option<u64>, DurableError> {
    // A run under way moves on: what is read first is no newer, and what is read last no older.
    let before = newest(outputs)?;
    let manifest = Manifest::newest(state)?.filter(|manifest| manifest.live > 0);
    let after = newest(outputs)?;
    let Some(Progress {
        owner,
        live: told,
        received,
    }) = after
    else {
        return match manifest {
            Some(Manifest { live, changes, .. }) if !changes.is_empty() => {
                let problem = format!(
                    "they are not there, and the state has told the changes of the epochs before {live}"
                );
                let hint = format!(
                    "put them back, or write in `outputs.folder` where they are now, {ANEW}"
                );
                Err(refused(outputs, problem, &hint))
            }
            _ => Ok(None),
        };
    };
    refuse_job(outputs, &owner, job)?;
    let Some(Manifest {
        live,
        from,
        state: ours,
        ..
    }) = manifest
    else {
        return Ok((told > 0).then_some(received));
    };
    if owner.state != ours {
        let problem = "they were written from another state of the job";
        let hint =
            format!("put that state back, or the outputs that were written from this one, {ANEW}");
        return Err(refused(outputs, problem, &hint));
    }
    if let Some(Progress { live: told, .. }) = before
        && told > live
    {
        let problem = format!(
            "they tell the epochs before {told}, and the state has committed those before {live}: it is older"
        );
        let hint = format!("put the newer state back, {ANEW}");
        return Err(refused(outputs, problem, &hint));
    }
    if told < from {
        let problem = format!(
            "they tell the epochs before {told}, and the state has committed those before {live}: they are older"
        );
        let hint = format!("put the newer outputs back, {ANEW}");
        return Err(refused(outputs, problem, &hint));
    }
    Ok(None)
}

fn refuse_job(outputs: &Store, owner: &Owner, job: &str) -> Result<(), DurableError> {
    if owner.job == job {
        return Ok(());
    }
    let problem = format!("they are of job {:?}, not {job:?}", owner.job);
    let hint = "give this job an `outputs.folder` of its own";
    Err(refused(outputs, problem, hint))
}

/// A job that makes nothing durable writes its outputs anew: they are no state's any more.
///
/// # Errors
/// When they are another job's, or the store fails.
pub(crate) fn give_up(outputs: &Store, job: &str) -> Result<(), DurableError> {
    if let Some(Progress { owner, .. }) = newest(outputs)? {
        refuse_job(outputs, &owner, job)?;
        outputs.clear(PROGRESS)?;
    }
    Ok(())
}

/// The folders whose files of changes are not those that were told, and what is wrong with each.
///
/// # Errors
/// When they cannot be listed.
pub(crate) fn lacking(
    outputs: &Store,
    manifest: &Manifest,
    stage: &str,
) -> Result<Vec<(String, String)>, DurableError> {
    let staged: BTreeSet<String> = outputs.names(stage)?.into_iter().collect();
    // What waits to take its place counts as being there.
    let mut there: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for output in &manifest.outputs {
        let waits = output.staged.strip_prefix(stage);
        let waits = waits.is_some_and(|name| staged.contains(name.trim_start_matches('/')));
        if let Some((folder, name)) = output.place.rsplit_once('/').filter(|_| waits) {
            there.entry(folder).or_default().insert(name.to_owned());
        }
    }
    let mut lacking = Vec::new();
    for (folder, told) in &manifest.changes {
        let mut names = there.remove(folder.as_str()).unwrap_or_default();
        names.extend(outputs.names(folder)?);
        names.retain(|name| name.ends_with(".parquet"));
        let mut held = Told::default();
        names.iter().for_each(|name| held.add(name));
        if held == *told {
            continue;
        }
        let (held, told) = (held.files, told.files);
        let problem = match held < told {
            true => format!("{} of {told} files of changes are gone", told - held),
            false => format!("of {held} files of changes some are not those that were written"),
        };
        lacking.push((folder.clone(), problem));
    }
    Ok(lacking)
}

/// The object of a run.
#[derive(Debug)]
pub(super) struct Mark {
    tag: String,
    name: String,
}

impl Mark {
    /// Makes the object of a run, and takes away those of older ones.
    pub(super) fn create(
        outputs: &Store,
        manifest: &Manifest,
        tag: String,
        is_older: impl Fn(&str) -> bool,
    ) -> Result<Self, DurableError> {
        let owner = Owner {
            job: manifest.plan.job.clone(),
            state: manifest.state.clone(),
        };
        let line = serde_json::to_string(&owner).expect("two texts have a JSON form");
        let name = name(manifest, &tag);
        // One that is there already is this run's: the answer was lost.
        let (Put::Created | Put::Exists) = outputs.put_new(&name, sealed(&line).as_bytes())?;
        for name in outputs.names(PROGRESS)? {
            if is_older(&name) {
                outputs.remove(&format!("{PROGRESS}/{name}"))?;
            }
        }
        outputs.sweep(PROGRESS, is_older)?;
        Ok(Self { tag, name })
    }

    /// Outputs are told up to what is committed now. Says whether the object was there.
    pub(super) fn advance(
        &mut self,
        outputs: &Store,
        manifest: &Manifest,
    ) -> Result<bool, DurableError> {
        let name = name(manifest, &self.tag);
        if self.name == name {
            return Ok(true);
        }
        // A bucket that did it, and whose answer was lost, was asked again.
        let is_there = outputs.rename(&self.name, &name)? || outputs.get(&name)?.is_some();
        self.name = name;
        Ok(is_there)
    }
}

#[cfg(test)]
mod tests {
    use super::super::generation::Generation;
    use super::super::plan::Plan;
    use super::super::staged::Staged;
    use super::*;

    const STAGE: &str = "_staged";

    struct World {
        folder: tempfile::TempDir,
        state: Store,
        outputs: Store,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self {
                state: Store::open("state", folder.path()).unwrap(),
                outputs: Store::open("out", folder.path()).unwrap(),
                folder,
            }
        }

        fn begin(&self) -> (Generation, Mark) {
            let plan = Plan {
                job: "calls".to_owned(),
                ..Plan::default()
            };
            let (generation, _) = Generation::begin(&self.state, &plan).unwrap();
            let older = |name: &str| generation.is_younger_than(name);
            let mark = Mark::create(&self.outputs, &generation.manifest, generation.tag(), older);
            let mark = mark.unwrap();
            (generation, mark)
        }

        /// Commits up to an epoch, with a file of changes.
        fn commit(&self, generation: &mut Generation, mark: &mut Mark, live: Epoch) {
            let next = self.next(generation, live);
            generation.commit(&self.state, next).unwrap();
            assert!(mark.advance(&self.outputs, &generation.manifest).unwrap());
            let output = &generation.manifest.outputs[0];
            self.outputs.rename(&output.staged, &output.place).unwrap();
        }

        fn next(&self, generation: &Generation, live: Epoch) -> Manifest {
            let name = format!("{live:020}-{}.parquet", generation.tag());
            let output = Staged {
                staged: format!("{STAGE}/{name}"),
                place: format!("lines/changes/{name}"),
                waiting: None,
            };
            self.outputs.put(&output.staged, b"x").unwrap();
            let before = generation.manifest.clone();
            let mut next = Manifest {
                from: before.live,
                live,
                received: 10 * live,
                ..before
            };
            next.tell(&output);
            next.outputs = vec![output];
            next
        }

        fn checked(&self) -> Result<Option<u64>, String> {
            check(&self.outputs, &self.state, "calls").map_err(|error| error.to_string())
        }

        fn says(&self, says: &str) {
            let error = self.checked().unwrap_err();
            assert!(error.contains(says), "{error}");
            assert!(error.contains("Nothing was started"), "{error}");
        }

        fn newest_manifest(&self) -> std::path::PathBuf {
            let name = self.state.names("manifest").unwrap().pop().unwrap();
            self.folder.path().join("state/manifest").join(name)
        }
    }

    #[test]
    fn outputs_go_with_their_state() {
        let world = World::new();
        assert_eq!(world.checked(), Ok(None));
        let (mut run, mut mark) = world.begin();
        assert_eq!(world.checked(), Ok(None));
        world.commit(&mut run, &mut mark, 7);
        world.commit(&mut run, &mut mark, 9);
        assert_eq!(world.checked(), Ok(None));
        assert_eq!(world.outputs.names(PROGRESS).unwrap().len(), 1);
        // A run that was killed between its commit and what follows from it.
        let next = world.next(&run, 12);
        run.commit(&world.state, next).unwrap();
        assert_eq!(world.checked(), Ok(None));
        let lacking = lacking(&world.outputs, &run.manifest, STAGE).unwrap();
        assert!(lacking.is_empty(), "{lacking:?}");
        // The next run completes it, and the object of the first is gone.
        let (younger, _) = world.begin();
        assert_eq!(world.checked(), Ok(None));
        assert_eq!(world.outputs.names(PROGRESS).unwrap().len(), 1);
        assert!(!mark.advance(&world.outputs, &run.manifest).unwrap());
        // Of the next commit nobody may know any more.
        drop(younger);
        std::fs::remove_file(world.newest_manifest()).unwrap();
        std::fs::remove_file(world.newest_manifest()).unwrap();
        world.says("they tell the epochs before 12, and the state has committed those before 9");
    }

    #[test]
    fn outputs_that_are_older_or_gone_are_refused() {
        let world = World::new();
        let (mut run, mut mark) = world.begin();
        world.commit(&mut run, &mut mark, 7);
        let old = world.outputs.names(PROGRESS).unwrap().pop().unwrap();
        let old = format!("{PROGRESS}/{old}");
        let content = world.outputs.get(&old).unwrap().unwrap();
        world.commit(&mut run, &mut mark, 9);
        world.commit(&mut run, &mut mark, 12);
        let new = world.outputs.names(PROGRESS).unwrap().pop().unwrap();
        let new = format!("{PROGRESS}/{new}");
        world.outputs.remove(&new).unwrap();
        world
            .says("they are not there, and the state has told the changes of the epochs before 12");
        world.outputs.put(&old, &content).unwrap();
        world.says("those before 12: they are older");
        for at in 0..content.len() {
            let mut torn = content.clone();
            torn[at] ^= 1;
            world.outputs.put(&new, &torn).unwrap();
            world.says("is damaged");
        }
        world.outputs.put(&new, &content).unwrap();
        assert_eq!(world.checked(), Ok(None));
    }

    #[test]
    fn outputs_have_one_job_and_one_state() {
        let world = World::new();
        let (mut run, mut mark) = world.begin();
        world.commit(&mut run, &mut mark, 7);
        let other = check(&world.outputs, &world.state, "texts").unwrap_err();
        assert!(
            other.to_string().contains("they are of job \"calls\""),
            "{other}"
        );
        assert!(give_up(&world.outputs, "texts").is_err());
        let own = world.folder.path().join("state");
        std::fs::rename(&own, world.folder.path().join("aside")).unwrap();
        // Begun anew, it is told how much there was.
        assert_eq!(world.checked(), Ok(Some(70)));
        let plan = Plan {
            job: "calls".to_owned(),
            ..Plan::default()
        };
        let (mut begun, _) = Generation::begin(&world.state, &plan).unwrap();
        let next = world.next(&begun, 20);
        begun.commit(&world.state, next).unwrap();
        world.says("another state of the job");
        give_up(&world.outputs, "calls").unwrap();
        world.says("they are not there");
    }

    #[test]
    fn a_file_of_changes_that_is_gone_or_another_is_found() {
        let world = World::new();
        let (mut run, mut mark) = world.begin();
        world.commit(&mut run, &mut mark, 7);
        world.commit(&mut run, &mut mark, 9);
        let found = || {
            let lacking = lacking(&world.outputs, &run.manifest, STAGE).unwrap();
            lacking
                .into_iter()
                .map(|(_, problem)| problem)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(), Vec::<String>::new());
        let name = world.outputs.names("lines/changes").unwrap().remove(0);
        let name = format!("lines/changes/{name}");
        world
            .outputs
            .rename(&name, "lines/changes/a.parquet")
            .unwrap();
        assert_eq!(
            found(),
            ["of 2 files of changes some are not those that were written"]
        );
        world.outputs.remove("lines/changes/a.parquet").unwrap();
        assert_eq!(found(), ["1 of 2 files of changes are gone"]);
    }
}
