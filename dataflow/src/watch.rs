//! Watching: tells which files of a job were saved, or appeared, while it runs.
//!
//! Folders are watched rather than files, because editors replace a file instead of writing to it.

use crate::intake::Saved;
use crate::job::Job;
use millrace_connectors::store::Store;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

/// Watches the local files of a job for as long as it lives.
pub struct FileWatch {
    _watcher: RecommendedWatcher,
}

/// The folders cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {folder:?} for changes: {source}")]
pub struct WatchError {
    folder: PathBuf,
    source: notify::Error,
}

impl FileWatch {
    /// Starts to tell `saved` of the job's `files` and of files that appear in its sources.
    ///
    /// # Errors
    /// When the system cannot watch a folder.
    pub fn start(
        job: &Job,
        files: BTreeSet<PathBuf>,
        saved: Sender<Saved>,
    ) -> Result<Self, WatchError> {
        let sources: Vec<PathBuf> = job
            .sources
            .iter()
            .filter(|source| source.kafka.is_none())
            .filter_map(|source| Store::open(&source.path, &job.folder).ok())
            .filter_map(|store| store.local_path().map(Path::to_owned))
            .collect();
        let folder_of = |path: &PathBuf| {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty());
            folder.unwrap_or(Path::new(".")).to_owned()
        };
        let mut folders: BTreeSet<(PathBuf, bool)> =
            files.iter().map(|file| (folder_of(file), false)).collect();
        for source in &sources {
            let watched = if source.is_dir() {
                (source.clone(), true)
            } else {
                (folder_of(source), false)
            };
            folders.insert(watched);
        }
        // Events name files by their canonical folder; the job knows them by the path it was given.
        let known: Vec<(PathBuf, PathBuf)> = files
            .into_iter()
            .map(|file| (canonical(&file), file))
            .collect();
        let sources: Vec<PathBuf> = sources.iter().map(|source| canonical(source)).collect();
        let tell = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            let paths: Vec<PathBuf> = event.paths.iter().map(|path| canonical(path)).collect();
            let reference = known.iter().filter(|(at, _)| paths.contains(at));
            let mut told: Saved = reference.map(|(_, file)| file.clone()).collect();
            let of_source = |path: &PathBuf| sources.iter().any(|source| path.starts_with(source));
            told.extend(paths.iter().filter(|path| of_source(path)).cloned());
            if !told.is_empty() {
                // A job that has ended hears no more.
                saved.send(told).ok();
            }
        };
        let failed = |folder: &Path| {
            let folder = folder.to_owned();
            move |source| WatchError { folder, source }
        };
        let mut watcher = notify::recommended_watcher(tell).map_err(failed(&job.folder))?;
        for (folder, below) in folders {
            let mode = if below {
                RecursiveMode::Recursive
            } else {
                RecursiveMode::NonRecursive
            };
            watcher.watch(&folder, mode).map_err(failed(&folder))?;
        }
        Ok(Self { _watcher: watcher })
    }
}

/// The path with its folder's links resolved; the file itself may be gone for the moment.
fn canonical(path: &Path) -> PathBuf {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    match (
        folder.unwrap_or(Path::new(".")).canonicalize(),
        path.file_name(),
    ) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
