//! The right of one run to commit: see *Generations* in the module above.

use super::error::DurableError;
use super::manifest::{FOLDER, FORM, KEPT, Manifest, manifests, name, number_of};
use super::names::generation_of;
use super::plan::Plan;
use super::staged::{Staged, take_places};
use millrace_connectors::store::{Put, Store, StoreError, random_name};
use std::time::Duration;

/// How often a commit whose outcome nobody says is tried.
const ATTEMPTS: u32 = 8;

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
mod tests;
