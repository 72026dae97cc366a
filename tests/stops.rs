//! What tests of runs that are stopped share: signals that come at once, moments of a run, and how often
//! stops were told. `MILLRACE_STOPS` asks all of them for more than the few stops of their short form.

use crate::dice::Dice;
use crate::kills::variable;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a run may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// When a run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// When it has taken over.
    Manifest,
    /// When it has written what it took in.
    Journal,
    /// When something of its snapshots is written.
    Snapshot,
    /// When it moves the files that it has read.
    Moving,
    /// At any time.
    Any,
}

/// How often a run was stopped at each moment, and was told that another had taken over.
pub type Told = BTreeMap<Moment, (u32, u32)>;

/// How many stops there are, where the short form has so many.
#[must_use]
pub fn wanted(short: u32) -> u32 {
    variable("MILLRACE_STOPS", short)
}

/// Tells processes to stop and to go on, at once: a process that is started for it would be late.
#[derive(Debug)]
pub struct Signals {
    shell: Child,
    orders: ChildStdin,
    done: BufReader<ChildStdout>,
}

impl Default for Signals {
    fn default() -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", "while read s p; do kill -$s $p; echo; done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self {
            orders: shell.stdin.take().expect("a pipe"),
            done: BufReader::new(shell.stdout.take().expect("a pipe")),
            shell,
        }
    }
}

impl Signals {
    /// Sends a signal to a process.
    ///
    /// # Panics
    /// When the shell has ended.
    pub fn tell(&mut self, signal: &str, process: &Child) {
        writeln!(self.orders, "{signal} {}", process.id()).expect("a shell that reads");
        let told = self.done.read_line(&mut String::new());
        told.expect("a shell that answers");
    }

    /// Stops a run at a moment that `seen` tells of; says whether it was still there to be stopped.
    ///
    /// # Panics
    /// When the moment never comes.
    pub fn stop_at(
        &mut self,
        moment: Moment,
        dice: &mut Dice,
        run: &mut Child,
        seen: impl Fn() -> BTreeSet<String>,
    ) -> bool {
        if moment != Moment::Any && !comes(moment, run, seen) {
            return false;
        }
        let pause = match moment {
            Moment::Any => dice.roll(700_000),
            // At once, and a little later.
            _ => dice.roll(3) * dice.roll(15_000),
        };
        std::thread::sleep(Duration::from_micros(pause));
        self.tell("STOP", run);
        has_ended(run).is_none()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}

fn has_ended(run: &mut Child) -> Option<std::process::ExitStatus> {
    run.try_wait().expect("a process of ours")
}

/// Waits for a moment; says whether the run came to it.
fn comes(moment: Moment, run: &mut Child, seen: impl Fn() -> BTreeSet<String>) -> bool {
    let begun = Instant::now();
    let mut before = seen();
    while has_ended(run).is_none() {
        assert!(begun.elapsed() < PATIENCE, "{moment:?} never comes");
        let now = seen();
        if now.difference(&before).next().is_some() {
            return true;
        }
        before = now;
    }
    false
}

/// The files below a folder; those of a moment that passes may be missed.
#[must_use]
pub fn within(folder: &Path) -> BTreeSet<String> {
    let (mut names, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => drop(names.insert(entry.path().display().to_string())),
            }
        }
    }
    names
}
