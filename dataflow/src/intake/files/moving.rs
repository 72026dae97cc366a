//! Files leave their input folders when they are read: to `processed` where their records count, to
//! `failed` otherwise. What moves is what was read, whatever lies under its name by then, and nothing is
//! written over.
//!
//! ```text
//!  folder:  input/x ─► processed/_moving/<run>/x ─► is it what was read? ─► processed/x
//!                                                                      └──► input/x again
//!  bucket:  input/x ═► processed/x, a copy ─► input/x goes, on condition that it is what was read
//! ```
//!
//! A run may be stopped between any two of these steps, and go on when a younger one has a file of the same
//! name before it. So a file is looked at behind the step that takes it, where nobody writes; a younger run
//! takes the gates of older ones over before it reads, and what lies behind them goes its way. A bucket that
//! cannot take an object away on condition keeps its files.

use super::{Files, SourcePlan};
use crate::durable::generation_of;
use millrace_connectors::ledger::{FileState, LedgerEntry};
use millrace_connectors::store::{FileMeta, Renamed, Store, StoreError};
use millrace_operators::domain::FileId;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Where files move whose records count.
const PROCESSED: &str = "processed";
/// Where other files move.
const FAILED: &str = "failed";
/// Where files are while they move.
const GATES: &str = "processed/_moving";
/// The gate of a run that makes nothing durable.
const UNTAGGED: &str = "run";

fn gate_of(tag: Option<&str>) -> &str {
    tag.unwrap_or(UNTAGGED)
}

/// Takes the gates of older runs over, and opens one for this run: through it files leave their input folders.
///
/// A run that makes its epochs durable looks behind this whether it is still the newest.
///
/// # Errors
/// When a folder fails.
pub(crate) fn open_gates(
    sources: &[SourcePlan],
    folder: &Path,
    tag: Option<&str>,
) -> Result<(), StoreError> {
    let roots: BTreeSet<&String> = sources.iter().filter_map(|s| s.moves_in.as_ref()).collect();
    let (ours, number) = (gate_of(tag), tag.and_then(generation_of));
    let is_left = |gate: &str| match number {
        Some(number) => generation_of(gate).is_none_or(|of| of < number),
        None => gate != ours && !gate.starts_with(&format!("{ours}.")),
    };
    for root in roots {
        let store = Store::open(root, folder)?;
        store.open_gate(&format!("{GATES}/{ours}"))?;
        store.take_gates(GATES, ours, is_left)?;
    }
    Ok(())
}

impl Files {
    /// Whether files wait to be moved.
    pub(in crate::intake) fn to_move(&self) -> bool {
        !self.read.is_empty()
    }

    /// Moves the files that were read out of their input folders; returns what a person should hear.
    pub(in crate::intake) fn move_read(
        &mut self,
        sources: &[SourcePlan],
        folder: &Path,
    ) -> Vec<String> {
        let mut messages = Vec::new();
        for id in std::mem::take(&mut self.read) {
            let (Some(file), Some(entry)) = (self.known.get(&id), self.ledger.entry(id)) else {
                continue;
            };
            let source = file.source;
            let root = sources[source].moves_in.as_ref();
            let Some(root) = root.filter(|_| !self.stay.contains(&source)) else {
                continue;
            };
            let entry = entry.clone();
            match self.move_away(&entry, source, root, folder) {
                Ok(()) => {
                    self.told.remove(&id);
                }
                Err(error @ StoreError::Unconditional { .. }) => {
                    // So do all of its source.
                    if self.stay.insert(source) {
                        let source = &sources[source].name;
                        messages.push(format!(
                            "source {source:?}: files stay where they are: {error}"
                        ));
                    }
                }
                Err(error) => {
                    let message = format!("{:?} stays in its input folder: {error}", entry.name);
                    messages.extend(self.tell_once(id, message));
                }
            }
        }
        messages
    }

    /// Moves a file, if what lies under its name is what was read. One that is gone was moved before.
    fn move_away(
        &mut self,
        entry: &LedgerEntry,
        source: usize,
        root: &str,
        folder: &Path,
    ) -> Result<(), StoreError> {
        let Some(place) = place_of(entry.state) else {
            return Ok(());
        };
        let store = self.store(root, folder)?;
        let input = format!("input/{}", entry.name);
        let Some(found) = unless_missing(store.find(&input))? else {
            return Ok(());
        };
        if !self.has_content_of(entry, source, &store, &found)? {
            // What has come in its place is entered by the next look.
            return Ok(());
        }
        if store.local_path().is_none() {
            return self.move_in_bucket(entry, &store, &found, place);
        }
        let gate = format!("{GATES}/{}", gate_of(self.raw.tag()));
        if !store.take_through(&gate, &input, &entry.name)? {
            return Ok(());
        }
        self.place(entry, source, &store, &format!("{gate}/{}", entry.name))
    }

    fn has_content_of(
        &self,
        entry: &LedgerEntry,
        source: usize,
        store: &Store,
        found: &FileMeta,
    ) -> Result<bool, StoreError> {
        let seen = self.seen(source, &entry.name);
        let is_seen = seen.is_some_and(|seen| seen.id == entry.file && seen.is(found));
        Ok(is_seen || store.checksum(found)? == entry.checksum)
    }

    /// Gives what has come through a gate its place: what was read leaves, anything else goes back.
    fn place(
        &mut self,
        entry: &LedgerEntry,
        source: usize,
        store: &Arc<Store>,
        taken: &str,
    ) -> Result<(), StoreError> {
        let Some(found) = unless_missing(store.find(taken))? else {
            // A younger run has taken it over.
            return Ok(());
        };
        let place = place_of(entry.state);
        let Some(place) = place.filter(|_| {
            let is_read = self.has_content_of(entry, source, store, &found);
            is_read.unwrap_or(false)
        }) else {
            return put_back(store, taken, &entry.name);
        };
        let mut turn = 0;
        let moved = loop {
            let moved = moved_name(place, &entry.name, entry.file, turn);
            match store.rename_new(taken, &moved)? {
                Renamed::Done => break moved,
                Renamed::Gone => return Ok(()),
                Renamed::Taken => {}
            }
            if is_same(store, &moved, &found)? {
                // Sent once more.
                store.remove(taken)?;
                break moved;
            }
            turn += 1;
        };
        self.moved(entry, store, &moved)
    }

    /// Copies an object, and takes it away where it was.
    fn move_in_bucket(
        &mut self,
        entry: &LedgerEntry,
        store: &Arc<Store>,
        found: &FileMeta,
        place: &str,
    ) -> Result<(), StoreError> {
        store.removes_as_found(PROCESSED)?;
        let mut turn = 0;
        let moved = loop {
            let moved = moved_name(place, &entry.name, entry.file, turn);
            match store.rename_new(&found.name, &moved)? {
                Renamed::Done => break moved,
                Renamed::Gone => return Ok(()),
                Renamed::Taken => {}
            }
            if is_same(store, &moved, found)? {
                // Sent once more, or cut off between copying and taking away.
                break moved;
            }
            turn += 1;
        };
        // What has come in its place meanwhile is entered by the next look.
        store.remove_as(found)?;
        self.moved(entry, store, &moved)
    }

    /// Knows where a file is now: there it is read again, if its records are not kept raw.
    fn moved(
        &mut self,
        entry: &LedgerEntry,
        store: &Arc<Store>,
        moved: &str,
    ) -> Result<(), StoreError> {
        let meta = store.find(moved)?;
        if let Some(file) = self.known.get_mut(&entry.file) {
            (file.store, file.meta) = (Arc::clone(store), meta);
        }
        // Whoever puts it back wants it to be tried again.
        self.tried.remove(&entry.file);
        Ok(())
    }

    /// Gives the files their places that older runs have left behind their gates; returns what a person
    /// should hear.
    pub(in crate::intake) fn place_left(
        &mut self,
        sources: &[SourcePlan],
        folder: &Path,
    ) -> Vec<String> {
        let roots: BTreeSet<&String> = sources.iter().filter_map(|s| s.moves_in.as_ref()).collect();
        let mut messages = Vec::new();
        for root in roots {
            if let Err(error) = self.place_left_in(root, sources, folder, &mut messages) {
                messages.push(error.to_string());
            }
        }
        messages
    }

    fn place_left_in(
        &mut self,
        root: &String,
        sources: &[SourcePlan],
        folder: &Path,
        messages: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let store = self.store(root, folder)?;
        let ours = gate_of(self.raw.tag()).to_owned();
        for (taken, name) in store.behind_gates(GATES, &ours)? {
            let is_of_root = |source: usize| sources[source].moves_in.as_ref() == Some(root);
            let found = store.find(&taken)?;
            let checksum = store.checksum(&found)?;
            let mut entries = self.ledger.entries().iter();
            let entry = entries.find_map(|entry| {
                let source = self.known.get(&entry.file)?.source;
                let is_it = entry.name == name && entry.checksum == checksum && is_of_root(source);
                is_it.then(|| (entry.clone(), source))
            });
            let placed = match entry {
                Some((entry, source)) => self.place(&entry, source, &store, &taken),
                None => put_back(&store, &taken, &name),
            };
            if let Err(error) = placed {
                messages.push(format!(
                    "{name:?} has left its input folder, and is in {taken:?}: {error}"
                ));
            }
        }
        Ok(())
    }

    /// Says that a file may move, if it is settled and files of its source do.
    pub(super) fn leaves(&mut self, id: FileId) {
        let state = self.ledger.entry(id).map(|entry| entry.state);
        let file = self.known.get(&id);
        if state.and_then(place_of).is_some()
            && file.is_some_and(|file| self.moving.contains(&file.source))
        {
            self.read.insert(id);
        }
    }

    /// Finds the files that an earlier run moved where they are now: there they are read again.
    pub(super) fn find_moved(
        &mut self,
        sources: &[SourcePlan],
        folder: &Path,
    ) -> Result<(), StoreError> {
        for (index, source) in sources.iter().enumerate() {
            let Some(root) = &source.moves_in else {
                continue;
            };
            if !self.known.values().any(|file| file.source == index) {
                continue;
            }
            let store = self.store(root, folder)?;
            let mut there: HashMap<String, FileMeta> = HashMap::new();
            for place in [PROCESSED, FAILED] {
                let place_at = format!("{}/{place}", root.trim_end_matches('/'));
                // What cannot be listed is missed, and told, when it is to be mediated again.
                let listed = Store::open(&place_at, folder)?.list().unwrap_or_default();
                there.extend(listed.into_iter().map(|meta| {
                    let name = format!("{place}/{}", meta.name);
                    (name.clone(), FileMeta { name, ..meta })
                }));
            }
            for file in self.known.values_mut().filter(|file| file.source == index) {
                let Some(entry) = self.ledger.entry(file.id) else {
                    continue;
                };
                let Some(place) = place_of(entry.state) else {
                    continue;
                };
                let places = [0, 1].map(|turn| moved_name(place, &entry.name, file.id, turn));
                let places = places.iter().filter_map(|place| there.get(place));
                let mut places = places.filter(|meta| meta.size == entry.size);
                // Some buckets give a copy another etag.
                let first = places.clone().next();
                let same = places.find(|meta| meta.etag == file.meta.etag);
                if let Some(meta) = same.or(first) {
                    (file.store, file.meta) = (Arc::clone(&store), meta.clone());
                }
            }
        }
        Ok(())
    }
}

/// Puts a file back that was not read, unless another has its name by now.
fn put_back(store: &Store, taken: &str, name: &str) -> Result<(), StoreError> {
    let input = format!("input/{name}");
    match store.rename_new(taken, &input)? {
        Renamed::Done | Renamed::Gone => Ok(()),
        Renamed::Taken if is_same(store, &input, &store.find(taken)?)? => store.remove(taken),
        Renamed::Taken => Err(StoreError::Taken {
            location: store.find(&input)?.location,
        }),
    }
}

/// Whether an object has the content of one that was found.
fn is_same(store: &Store, name: &str, found: &FileMeta) -> Result<bool, StoreError> {
    let Some(there) = unless_missing(store.find(name))? else {
        return Ok(false);
    };
    Ok(there.size == found.size && store.digest(&there)? == store.digest(found)?)
}

/// Nothing of what does not exist.
fn unless_missing<T>(found: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The folder that a file moves to, once it is known what became of it.
fn place_of(state: FileState) -> Option<&'static str> {
    match state {
        FileState::Loaded | FileState::Doubtful | FileState::Incomplete => Some(PROCESSED),
        FileState::Failed | FileState::Refused => Some(FAILED),
        FileState::Reading | FileState::Followed => None,
    }
}

/// The name that a file moves to: its own at the first turn, and with its number in front of its ending
/// where that is another file's.
fn moved_name(place: &str, name: &str, id: FileId, turn: u32) -> String {
    let begin = name.rfind('/').map_or(0, |slash| slash + 1);
    let at = name[begin..]
        .find('.')
        .map_or(name.len(), |dot| begin + dot);
    let (stem, ending) = name.split_at(at);
    match turn {
        0 => format!("{place}/{name}"),
        1 => format!("{place}/{stem}.{}{ending}", id.0),
        more => format!("{place}/{stem}.{}-{more}{ending}", id.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::RawFolder;
    use crate::job::Job;
    use std::fs;

    const JOB: &str = "\
name: calls
time_zone: UTC
sources:
  - { name: s, platform: s, service_type: voice, path: in/input, mediation: rule.yaml, after: move }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
durability: { folder: state }
";
    const OLDER: &str = "1-0123456789abcdef";
    const YOUNGER: &str = "2-fedcba9876543210";

    /// A folder with a job, and a file of its source.
    struct World {
        folder: tempfile::TempDir,
        job: Job,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir_all(folder.path().join("in/input")).unwrap();
            for name in ["rule.yaml", "catalog.yaml", "accounts.yaml"] {
                fs::write(folder.path().join(name), "").unwrap();
            }
            fs::write(folder.path().join("job.yaml"), JOB).unwrap();
            let (job, _) = Job::load(&folder.path().join("job.yaml")).unwrap();
            let world = Self { folder, job };
            world.put("input/d/a.csv", "first");
            world
        }

        fn at(&self, name: &str) -> std::path::PathBuf {
            self.folder.path().join("in").join(name)
        }

        fn put(&self, name: &str, content: &str) {
            fs::create_dir_all(self.at(name).parent().unwrap()).unwrap();
            fs::write(self.at(name), content).unwrap();
        }

        fn content(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.at(name)).ok()
        }

        /// What the run of this name begins with.
        fn open(&self, tag: &str) -> RawFolder {
            open_gates(&self.job.sources, &self.job.folder, Some(tag)).unwrap();
            let store = Arc::new(Store::open("out", self.folder.path()).unwrap());
            RawFolder::of(false, store, Some(tag.to_owned()))
        }

        /// What a run knows that has begun, and has read what there is.
        fn begin(&self, tag: &str) -> Files {
            let mut files = Files::new(self.open(tag));
            let source = &self.job.sources[0];
            assert_eq!(files.discover(0, source, &self.job.folder), [""; 0]);
            let found: Vec<FileId> = files.entries().iter().map(|entry| entry.file).collect();
            for id in found {
                files.settle(id, FileState::Loaded, 1, String::new());
            }
            files
        }

        fn move_read(&self, files: &mut Files) -> Vec<String> {
            files.move_read(&self.job.sources, &self.job.folder)
        }

        /// Takes the file in as a run does that is stopped then.
        fn take(&self, tag: &str) {
            let store = Store::open("in", self.folder.path()).unwrap();
            let gate = format!("{GATES}/{tag}");
            let taken = store.take_through(&gate, "input/d/a.csv", "d/a.csv");
            assert!(taken.unwrap());
        }
    }

    #[test]
    fn an_older_run_moves_nothing() {
        let world = World::new();
        let mut older = world.begin(OLDER);
        let mut younger = world.begin(YOUNGER);
        assert_eq!(world.move_read(&mut older), [""; 0]);
        assert_eq!(world.content("input/d/a.csv").unwrap(), "first");
        assert_eq!(world.move_read(&mut younger), [""; 0]);
        assert_eq!(world.content("processed/d/a.csv").unwrap(), "first");
        assert_eq!(world.content("input/d/a.csv"), None);
    }

    #[test]
    fn what_has_come_in_the_place_of_what_was_read_goes_back() {
        let world = World::new();
        let mut files = world.begin(OLDER);
        let entry = files.entries()[0].clone();
        world.put("input/d/a.csv", "second");
        // It looked before that came.
        world.take(OLDER);
        let store = Arc::new(Store::open("in", world.folder.path()).unwrap());
        let taken = format!("{GATES}/{OLDER}/d/a.csv");
        files.place(&entry, 0, &store, &taken).unwrap();
        assert_eq!(world.content("input/d/a.csv").unwrap(), "second");
        assert_eq!(world.content("processed/d/a.csv"), None);
        // A third under its name is not written over, and the second is not lost.
        world.take(OLDER);
        world.put("input/d/a.csv", "third");
        let told = files.place(&entry, 0, &store, &taken).unwrap_err();
        assert!(
            told.to_string().contains("is another file by now"),
            "{told}"
        );
        assert_eq!(world.content("input/d/a.csv").unwrap(), "third");
        assert_eq!(world.content(&taken).unwrap(), "second");
    }

    #[test]
    fn what_an_older_run_has_taken_goes_its_way() {
        let world = World::new();
        world.put("processed/d/a.csv", "before");
        let mut files = world.begin(OLDER);
        world.take(OLDER);
        // Read: it leaves, and takes nobody's place.
        files.raw = world.open(YOUNGER);
        let told = files.place_left(&world.job.sources, &world.job.folder);
        assert_eq!(told, [""; 0]);
        assert_eq!(world.content("processed/d/a.csv").unwrap(), "before");
        assert_eq!(world.content("processed/d/a.0.csv").unwrap(), "first");
        // Not read: it is found again where it was.
        world.put("input/d/a.csv", "second");
        world.take(YOUNGER);
        let third = "3-0123456789abcdef";
        files.raw = world.open(third);
        let told = files.place_left(&world.job.sources, &world.job.folder);
        assert_eq!(told, [""; 0]);
        assert_eq!(world.content("input/d/a.csv").unwrap(), "second");
    }
}
