//! Watching: tells which files of a job were saved, or appeared, while it runs.
//!
//! Folders are watched rather than files, because editors replace a file instead of writing to it.

use crate::job::Job;
use millrace_connectors::store::Store;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// Files that were saved, as the watcher tells them.
pub type Saved = BTreeSet<PathBuf>;

/// Watches the local files of a job for as long as it lives.
pub struct FileWatch {
    watcher: RecommendedWatcher,
    known: Arc<RwLock<Vec<Known>>>,
    folders: BTreeSet<PathBuf>,
    saved: Sender<Saved>,
}

/// A file that is watched. Events name files by their canonical folder; the job knows them by the path
/// it was given.
struct Known {
    canonical: PathBuf,
    file: PathBuf,
}

/// The folders cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {folder:?} for changes: {source}")]
pub struct WatchError {
    folder: PathBuf,
    source: notify::Error,
}

impl FileWatch {
    /// Starts to tell `saved` of the job's `files` and of files that appear in its sources. Of `files`
    /// it also tells which were saved since `loading`, when the job began to read them: nothing was
    /// watched then.
    ///
    /// # Errors
    /// When the system cannot watch a folder.
    pub fn start(
        job: &Job,
        files: &BTreeSet<PathBuf>,
        loading: SystemTime,
        saved: Sender<Saved>,
    ) -> Result<Self, WatchError> {
        let sources: Vec<PathBuf> = job
            .sources
            .iter()
            .filter(|source| source.kafka.is_none())
            .filter_map(|source| Store::open(&source.path, &job.folder).ok())
            .filter_map(|store| store.local_path().map(Path::to_owned))
            .collect();
        let mut folders = BTreeSet::new();
        for source in &sources {
            let watched = if source.is_dir() {
                (source.clone(), RecursiveMode::Recursive)
            } else {
                (folder_of(source), RecursiveMode::NonRecursive)
            };
            folders.insert(watched);
        }
        let sources: Vec<PathBuf> = sources.iter().map(|source| canonical(source)).collect();
        let known: Arc<RwLock<Vec<Known>>> = Arc::default();
        let (known_in, saved_in) = (Arc::clone(&known), saved.clone());
        let tell = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            let paths: Vec<PathBuf> = event.paths.iter().map(|path| canonical(path)).collect();
            let known = known_in.read().unwrap_or_else(PoisonError::into_inner);
            let reference = known
                .iter()
                .filter(|known| paths.contains(&known.canonical));
            let mut told: Saved = reference.map(|known| known.file.clone()).collect();
            let of_source = |path: &PathBuf| sources.iter().any(|source| path.starts_with(source));
            told.extend(paths.iter().filter(|path| of_source(path)).cloned());
            if !told.is_empty() {
                // A job that has ended hears no more.
                saved_in.send(told).ok();
            }
        };
        let watcher = notify::recommended_watcher(tell);
        let watcher = watcher.map_err(|source| failed(&job.folder, source))?;
        let mut watch = Self {
            watcher,
            known,
            folders: BTreeSet::new(),
            saved,
        };
        for (folder, mode) in folders {
            watch.watch(&folder, mode)?;
        }
        watch.follow(files, loading)?;
        Ok(watch)
    }

    /// Watches these files from now on, and tells which of them were saved since the job began to read
    /// them: nothing was watched then.
    ///
    /// # Errors
    /// When the system cannot watch a folder.
    pub fn follow(
        &mut self,
        files: &BTreeSet<PathBuf>,
        loading: SystemTime,
    ) -> Result<(), WatchError> {
        let mut new: BTreeSet<&PathBuf> = files.iter().collect();
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.iter().for_each(|known| {
                new.remove(&known.file);
            });
        }
        for file in &new {
            let folder = folder_of(file);
            if !self.folders.contains(&folder) {
                self.watch(&folder, RecursiveMode::NonRecursive)?;
            }
        }
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.extend(new.iter().map(|file| Known {
                canonical: canonical(file),
                file: PathBuf::clone(file),
            }));
        }
        let missed = new.into_iter().filter(|file| is_saved_since(file, loading));
        let missed: Saved = missed.cloned().collect();
        if !missed.is_empty() {
            self.saved.send(missed).ok();
        }
        Ok(())
    }

    fn watch(&mut self, folder: &Path, mode: RecursiveMode) -> Result<(), WatchError> {
        let watched = self.watcher.watch(folder, mode);
        watched.map_err(|source| failed(folder, source))?;
        self.folders.insert(folder.to_owned());
        Ok(())
    }
}

fn failed(folder: &Path, source: notify::Error) -> WatchError {
    let folder = folder.to_owned();
    WatchError { folder, source }
}

/// Editors replace a file instead of writing to it, so its folder is watched.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// File systems date a file by a clock that ticks more coarsely than the system's.
const TICK: Duration = Duration::from_secs(2);

/// Whether a file was written or put in its place since then, as far as its dates tell.
fn is_saved_since(file: &Path, time: SystemTime) -> bool {
    let Ok(found) = file.metadata() else {
        return false;
    };
    let written = found.modified().is_ok_and(|written| written + TICK >= time);
    #[cfg(unix)]
    {
        // A file that is moved in keeps the date of what is written in it.
        use std::os::unix::fs::MetadataExt;
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.map_or(0, |since| since.as_secs());
        written || u64::try_from(found.ctime()).is_ok_and(|moved| moved + TICK.as_secs() >= since)
    }
    #[cfg(not(unix))]
    written
}

/// The path with its folder's links resolved; the file itself may be gone for the moment.
fn canonical(path: &Path) -> PathBuf {
    match (folder_of(path).canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    const JOB: &str = "\
time_zone: UTC
name: calls
sources:
  - name: calls
    platform: switch
    service_type: voice
    path: calls.csv
    mediation:
      identity: [id]
      service: number
      time: \"TIMESTAMP '2026-01-05T10:00:00Z'\"
      charges: { calls: 1 }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

    fn told(saved: &Receiver<Saved>) -> Option<Saved> {
        saved.recv_timeout(Duration::from_secs(10)).ok()
    }

    #[test]
    fn what_was_saved_while_nothing_was_watched_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        write("calls.csv", "id,number\n");
        write("catalog.yaml", "currency: EUR\n");
        write("accounts.yaml", "accounts: []\n");
        let (job, _) = Job::load(&write("job.yaml", JOB)).unwrap();
        let (old, new) = (write("old.yaml", "old"), write("new.yaml", "new"));
        let dated = std::fs::File::options().write(true).open(&old).unwrap();
        dated.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        drop(dated);
        // What was saved before the job began to read was read.
        let loading = SystemTime::now() + 10 * TICK;
        let files = BTreeSet::from([old.clone(), new.clone()]);
        let (tell, saved) = channel();
        let watch = FileWatch::start(&job, &files, loading, tell).unwrap();
        assert!(saved.try_recv().is_err());
        drop(watch);
        // What was saved after it may not have been.
        let loading = SystemTime::now() - TICK;
        std::fs::write(&new, "newer").unwrap();
        let (tell, saved) = channel();
        let mut watch = FileWatch::start(&job, &files, loading, tell).unwrap();
        assert!(told(&saved).is_some_and(|saved| saved.contains(&new)));
        // A file that another names from now on is watched like the others.
        let apart = folder.path().join("apart");
        std::fs::create_dir(&apart).unwrap();
        let table = apart.join("table.csv");
        std::fs::write(&table, "1").unwrap();
        let files = BTreeSet::from([old, new, table.clone()]);
        watch.follow(&files, SystemTime::now() + 10 * TICK).unwrap();
        while saved.try_recv().is_ok() {}
        std::fs::write(&table, "2").unwrap();
        assert_eq!(told(&saved), Some(Saved::from([table])));
    }
}
