//! Which file runs were reading when they crashed, told by themselves beside their state.
//!
//! ```text
//!   crashes/<generation>-<run>:  {"source":…,"name":…,"checksum":…}     while the file is read
//!                                X                                       behind it: the process crashed
//! ```
//!
//! - **A crash** is an abort, as of a stack that overflows or memory that there is not, and a defect that
//!   ends the process. A process that is killed writes nothing, so a kill blames no file.
//! - **Three in a row** at the same content under the same name are no accident: the next run passes the file
//!   over, tells it, and reads the others. A run that ends in order forgets all crashes but these, which
//!   `millrace retry --file` does.
//! - **Not covered:** state in a bucket, where a process that aborts can write nothing.

use crate::durable::generation_of;
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGABRT;
use signal_hook::low_level::{pipe, unregister};
use signal_hook::{SigId, flag};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

const FOLDER: &str = "crashes";
/// Crashes in a row that are no accident.
const IN_A_ROW: usize = 3;
/// What stands behind the name of a file when the process crashed; what the library writes at a signal.
const CRASHED: &[u8] = b"X";

/// Where the run of this process tells that it crashed.
static OWN: Mutex<Option<File>> = Mutex::new(None);

/// A file of a source, by its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The source.
    pub source: String,
    /// The file's name.
    pub name: String,
    /// What identifies its content.
    pub checksum: String,
}

/// A run that crashed.
#[derive(Debug)]
struct Crash {
    place: PathBuf,
    /// What it was reading.
    subject: Option<Subject>,
}

/// See the module.
#[derive(Debug)]
pub struct Crashes {
    folder: PathBuf,
    /// Those of earlier runs, in their order.
    crashes: Vec<Crash>,
    place: PathBuf,
    file: File,
    signals: [SigId; 2],
}

impl Crashes {
    /// Begins to tell of a run, whose `tag` no other has, beside the others of its state.
    ///
    /// # Errors
    /// When the folder of the state cannot be written to, or the system does not tell of signals.
    ///
    /// # Panics
    /// When whoever told of another run of this process panicked.
    pub fn begin(state: &Path, tag: &str) -> io::Result<Self> {
        let folder = state.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let place = entry?.path();
            let name = place.file_name().and_then(|name| name.to_str());
            let Some(generation) = name.and_then(generation_of) else {
                continue;
            };
            let content = fs::read(&place)?;
            match content.strip_suffix(CRASHED) {
                Some(subject) => {
                    let subject = serde_json::from_slice(subject).ok();
                    found.push((generation, Crash { place, subject }));
                }
                // It was killed, or is about to find that this one has taken over.
                None => fs::remove_file(&place)?,
            }
        }
        found.sort_by(|(a, one), (b, other)| (a, &one.place).cmp(&(b, &other.place)));
        let place = folder.join(tag);
        let open = || File::options().create(true).append(true).open(&place);
        let file = open()?;
        let told = pipe::register(SIGABRT, open()?)?;
        // Behind it, or a process that is told to abort would go on.
        let ended = flag::register_conditional_default(SIGABRT, Arc::new(AtomicBool::new(true)));
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                unregister(told);
                return Err(error);
            }
        };
        let own = open()?;
        *OWN.lock().expect("nobody panics with it") = Some(own);
        Ok(Self {
            folder,
            crashes: found.into_iter().map(|(_, crash)| crash).collect(),
            place,
            file,
            signals: [told, ended],
        })
    }

    /// Says which file is being read from now on, if any.
    pub fn reads(&mut self, subject: Option<&Subject>) {
        let line = subject.map_or(Ok(Vec::new()), serde_json::to_vec);
        // Without it a crash blames no file.
        let told = line.map_err(io::Error::other).and_then(|line| {
            self.file
                .set_len(0)
                .and_then(|()| self.file.write_all(&line))
        });
        told.ok();
    }

    /// Whether enough runs crashed at this file.
    #[must_use]
    pub fn blame(&self, subject: &Subject) -> bool {
        self.blamed().contains(subject)
    }

    /// Forgets the crashes at files of this name; says whether there were any.
    ///
    /// # Errors
    /// When they cannot be forgotten.
    pub fn forgive(&mut self, name: &str) -> io::Result<bool> {
        let is_of = |crash: &Crash| crash.subject.as_ref().is_some_and(|of| of.name == name);
        let (gone, left): (Vec<_>, Vec<_>) = self.crashes.drain(..).partition(is_of);
        self.crashes = left;
        for crash in &gone {
            fs::remove_file(&crash.place)?;
        }
        Ok(!gone.is_empty())
    }

    fn blamed(&self) -> BTreeSet<Subject> {
        let rows = self
            .crashes
            .chunk_by(|one, next| one.subject == next.subject);
        let rows = rows.filter(|row| row.len() >= IN_A_ROW);
        rows.filter_map(|row| row.first()?.subject.clone())
            .collect()
    }
}

/// A run that ends in order: it blames nobody any more who was not to blame.
impl Drop for Crashes {
    fn drop(&mut self) {
        self.signals.iter().for_each(|signal| {
            unregister(*signal);
        });
        if let Ok(mut own) = OWN.lock() {
            *own = None;
        }
        let blamed = self.blamed();
        let forgotten = self.crashes.iter().filter(|crash| {
            let subject = crash.subject.as_ref();
            subject.is_none_or(|subject| !blamed.contains(subject))
        });
        let forgotten = forgotten.map(|crash| &crash.place).chain([&self.place]);
        // What stays behind is told by the next run, too, and no more than that.
        forgotten.for_each(|place| {
            fs::remove_file(place).ok();
        });
        fs::remove_dir(&self.folder).ok();
    }
}

/// Says that this process crashes.
pub(super) fn tell() {
    if let Ok(mut own) = OWN.try_lock()
        && let Some(own) = own.as_mut()
    {
        own.write_all(CRASHED).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789abcdef";

    fn subject(name: &str) -> Subject {
        Subject {
            source: "switch".to_owned(),
            name: name.to_owned(),
            checksum: "blake3:00".to_owned(),
        }
    }

    /// What runs left: the file that each was reading, and whether it crashed.
    fn left(state: &Path, runs: &[(Option<&str>, bool)]) {
        fs::create_dir_all(state.join(FOLDER)).unwrap();
        for (generation, (name, crashed)) in (1..).zip(runs) {
            let name = name.map(|name| serde_json::to_string(&subject(name)).unwrap());
            let mut text = name.unwrap_or_default();
            if *crashed {
                text.push('X');
            }
            let place = state.join(FOLDER).join(format!("{generation}-{RUN}"));
            fs::write(place, text).unwrap();
        }
    }

    fn begin(state: &Path) -> Crashes {
        Crashes::begin(state, &format!("99-{RUN}")).unwrap()
    }

    #[test]
    fn three_crashes_in_a_row_blame_a_file_and_kills_none() {
        let (a, b) = (Some("a.csv"), Some("b.csv"));
        for (runs, blamed) in [
            (&[(a, true), (a, true), (a, true)][..], &["a.csv"][..]),
            (&[(a, true), (a, false), (a, true), (a, true)], &["a.csv"]),
            (&[(a, true), (a, true), (a, false), (a, false)], &[]),
            (&[(a, true), (a, true), (b, true), (a, true)], &[]),
            (&[(a, true), (a, true), (None, true), (a, true)], &[]),
            (&[(None, true), (None, true), (None, true)], &[]),
            (
                &[
                    (a, true),
                    (a, true),
                    (a, true),
                    (b, true),
                    (b, true),
                    (b, true),
                ],
                &["a.csv", "b.csv"],
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            left(folder.path(), runs);
            let mut crashes = begin(folder.path());
            for name in ["a.csv", "b.csv"] {
                let expected = blamed.contains(&name);
                assert_eq!(crashes.blame(&subject(name)), expected, "{runs:?}");
            }
            let other = Subject {
                checksum: "blake3:01".to_owned(),
                ..subject("a.csv")
            };
            assert!(!crashes.blame(&other), "other content is another file");
            // A run that ends in order forgets the rest.
            drop(crashes);
            let left = fs::read_dir(folder.path().join(FOLDER))
                .into_iter()
                .flatten();
            assert_eq!(left.count(), 3 * blamed.len(), "{runs:?}");
            crashes = begin(folder.path());
            for name in blamed {
                assert!(crashes.blame(&subject(name)));
                assert!(crashes.forgive(name).unwrap());
                assert!(!crashes.blame(&subject(name)) && !crashes.forgive(name).unwrap());
            }
            drop(crashes);
            assert!(!folder.path().join(FOLDER).exists());
        }
    }

    #[test]
    fn what_is_read_is_told_behind_the_process() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..IN_A_ROW {
            let mut crashes = begin(folder.path());
            assert!(!crashes.blame(&subject("a.csv")));
            crashes.reads(Some(&subject("a much longer name.csv")));
            crashes.reads(None);
            crashes.reads(Some(&subject("a.csv")));
            crashes.file.write_all(CRASHED).unwrap();
            // As if the process were gone.
            let [told, ended] = crashes.signals;
            assert!(unregister(told) && unregister(ended));
            let runs = fs::read_dir(folder.path().join(FOLDER)).unwrap().count();
            let to = folder.path().join(FOLDER).join(format!("{runs}-{RUN}"));
            fs::rename(&crashes.place, to).unwrap();
            std::mem::forget(crashes);
        }
        assert!(begin(folder.path()).blame(&subject("a.csv")));
    }
}
