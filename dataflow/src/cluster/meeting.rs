//! How processes find each other.
//!
//! ```text
//!  process I: listen ── hello ──► 0        0: all there ── takes the job over ── go ──► I
//!  I: prepares ── ready ──► 0              0: all ready ── begin ──► I
//!  all: connect to those before, accept from those behind
//! ```
//!
//! Nobody who waits ends because another does: a process that is started again reports again. Once the
//! run has begun, the end of one is the end of all.
//!
//! Process 0 takes the job over when all are there, so whoever has lost it knows how many generations that
//! made at most. Where more were made since, another run has taken over, and nobody waits for this one.

use super::door::{Claim, Come, Door, Keys, Purpose, knock};
use super::error::ClusterError;
use super::hosts::Place;
use super::link::{Links, SILENCE};
use super::plan::ClusterPlan;
use super::secret::draw;
use super::sockets::{AGAIN, Connected, LOOK, PREPARE, connect, listen};
use super::wire::{self, Go, Hello, RunNumber, Word};
use crate::durable::DurableError;
use crate::graph::Resume;
use crate::listener::Listener;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where processes leave marks for each other, below the output folder.
const MARKS: &str = "_cluster";

/// How often those who wait say for whom.
const SAY: Duration = Duration::from_secs(5);
/// How often those who have lost process 0 look whether another run has taken over.
const LOOK_FOR_OTHERS: Duration = Duration::from_secs(1);

/// What all processes must agree on.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Workers of each process.
    pub workers: usize,
    program: String,
    job: String,
}

impl Terms {
    /// The terms of this program, for the job at `path`.
    #[must_use]
    pub fn of(path: &Path, workers: usize) -> Self {
        // A file that cannot be read is refused elsewhere.
        let digest = |path: io::Result<PathBuf>| {
            let mut hasher = blake3::Hasher::new();
            let read = path.and_then(File::open);
            let read = read.and_then(|file| hasher.update_reader(file).map(|_| ()));
            read.map_or_else(
                |_| String::new(),
                |()| hasher.finalize().to_hex().to_string(),
            )
        };
        Self {
            workers,
            program: format!(
                "{} {}",
                env!("CARGO_PKG_VERSION"),
                digest(std::env::current_exe())
            ),
            job: digest(Ok(path.to_owned())),
        }
    }

    fn hello(&self, place: &Place) -> Hello {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Hello {
            process: number(place.process),
            processes: number(place.processes()),
            workers: number(self.workers),
            program: self.program.clone(),
            job: self.job.clone(),
        }
    }
}

/// Why a process that tells `theirs` cannot work with one that tells `ours`.
fn difference(ours: &Hello, theirs: &Hello) -> Option<String> {
    let version = |hello: &Hello| hello.program.split(' ').next().unwrap_or("").to_owned();
    if ours.program != theirs.program {
        return Some(format!(
            "it runs another program (millrace {}, process 0 has {}); all processes run the same file",
            version(theirs),
            version(ours)
        ));
    }
    if ours.job != theirs.job {
        return Some("its job file has other content; give all processes the same".to_owned());
    }
    if ours.processes != theirs.processes {
        let (ours, theirs) = (ours.processes, theirs.processes);
        return Some(format!(
            "it is of {theirs} processes, process 0 of {ours}; give all the same --processes"
        ));
    }
    if ours.workers != theirs.workers {
        let (ours, theirs) = (ours.workers, theirs.workers);
        return Some(format!(
            "it has {theirs} workers, process 0 has {ours}; give all the same --workers"
        ));
    }
    None
}

/// Process 0, when all others are there.
pub struct Host {
    place: Place,
    terms: Terms,
    keys: Keys,
    door: Door,
    links: Links,
    run: RunNumber,
}

impl Host {
    /// Waits until all other processes are there.
    ///
    /// # Errors
    /// When nothing can listen here, or one does not come.
    pub fn gather(
        plan: &ClusterPlan,
        terms: Terms,
        talk: &dyn Listener,
    ) -> Result<Self, ClusterError> {
        let (place, patience) = (plan.place.clone(), plan.patience);
        let until = Instant::now() + patience;
        let failed = |error: io::Error| ClusterError::Missing(error.to_string());
        let keys = plan.keys()?;
        let door = Door::open(listen(&place, until)?, &keys).map_err(failed)?;
        let mut links = Links::new().map_err(failed)?;
        let ours = terms.hello(&place);
        let others = place.processes() - 1;
        let (mut refused, mut gone) = (None, BTreeMap::new());
        let mut told = Instant::now();
        while links.count() < others {
            while let Some((process, heard)) = links.hear(Duration::ZERO) {
                if let Err(reason) = heard {
                    links.drop_link(process);
                    gone.insert(process, reason);
                }
            }
            let mut refuse = |said: String| {
                if refused.as_ref() != Some(&said) {
                    talk.message(&said);
                }
                refused = Some(said);
            };
            match door.next(LOOK) {
                Some(Come::Reports(theirs, mut line)) => match judge(&theirs, &ours, &links) {
                    // One that is not added loses its connection, and reports again.
                    Ok(process) => drop(links.add(process, line)),
                    Err(reason) => {
                        wire::write(&mut line, &Word::Refused(reason.clone())).ok();
                        let process = theirs.process;
                        refuse(format!("process {process} is refused: {reason}"));
                    }
                },
                Some(Come::Refused(from, reason)) => refuse(format!(
                    "somebody at {from}, a process of this cluster or a stranger, {reason}"
                )),
                // Of an earlier run.
                Some(Come::OfRun(..)) | None => {}
            }
            if links.count() >= others {
                break;
            }
            let missing = || {
                let missing = (1..place.processes()).filter(|process| !links.has(*process));
                let missing: Vec<String> = missing
                    .map(|process| format!("{process} ({})", place.hosts[process]))
                    .collect();
                missing.join(", ")
            };
            if Instant::now() >= until {
                gone.retain(|process, _| !links.has(*process));
                if let Some((process, reason)) = gone.pop_first() {
                    let reason = not_again(&reason, patience);
                    return Err(ClusterError::Lost { process, reason });
                }
                let refused = refused.map_or_else(String::new, |said| format!("; {said}"));
                return Err(ClusterError::Missing(format!(
                    "these processes have not come within {} s: {}{refused}",
                    patience.as_secs(),
                    missing()
                )));
            }
            if told.elapsed() >= SAY {
                told = Instant::now();
                talk.message(&format!("waiting for processes {}", missing()));
            }
        }
        let run = draw().map_err(failed)?;
        links.say(&Word::Gathered);
        Ok(Self {
            place,
            terms,
            keys,
            door,
            links,
            run,
        })
    }

    /// An object that process 0 puts among the outputs, for the others to see: see [`Go::mark`].
    #[must_use]
    pub fn mark(&self) -> (String, Vec<u8>) {
        let number: String = self.run.iter().map(|byte| format!("{byte:02x}")).collect();
        (format!("{MARKS}/{number}"), self.run.to_vec())
    }

    /// Tells the others how the run goes on and what the names of outputs have in them, and waits until they are prepared.
    ///
    /// # Errors
    /// When one is lost or cannot.
    pub fn go(
        &self,
        resume: &Resume,
        mark: Option<String>,
        tag: Option<String>,
    ) -> Result<(), ClusterError> {
        let resume = wire::encode(resume).map_err(|e| ClusterError::Missing(e.to_string()))?;
        for part in resume.chunks(wire::PART) {
            self.links.say(&Word::Part(part.to_vec()));
        }
        self.links.say(&Word::Go(Go {
            run: self.run,
            resume: wire::digest_of(&resume),
            mark,
            tag,
        }));
        let until = Instant::now() + PREPARE;
        let mut waiting: Vec<usize> = (1..self.place.processes()).collect();
        while let Some(first) = waiting.first().copied() {
            let left = until.saturating_duration_since(Instant::now());
            let late = || ClusterError::Lost {
                process: first,
                reason: format!("it was not prepared within {} s", PREPARE.as_secs()),
            };
            let (process, heard) = self.links.hear(left).ok_or_else(late)?;
            match heard {
                Ok(Word::Ready) => waiting.retain(|other| *other != process),
                Ok(Word::Failed(reason)) => {
                    return Err(ClusterError::Elsewhere { process, reason });
                }
                Ok(_) => {}
                Err(reason) => return Err(ClusterError::Lost { process, reason }),
            }
        }
        self.links.say(&Word::Begin);
        Ok(())
    }

    /// Tells the others that the run does not begin.
    pub fn fail(&self, reason: &str) {
        self.links.say(&Word::Failed(reason.to_owned()));
    }

    /// Connects with all others.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub fn connect(self) -> Result<Connected, ClusterError> {
        connect(
            self.place,
            self.terms.workers,
            &self.door,
            self.links,
            self.run,
            &self.keys,
        )
    }
}

/// Another process than 0, told to go.
pub struct Guest {
    place: Place,
    terms: Terms,
    keys: Keys,
    door: Door,
    links: Links,
    go: Go,
    resume: Resume,
}

impl Guest {
    /// Reports to process 0, as often as it takes, and waits for its word. `newest` is the generation of the
    /// job's newest run, where that can be seen.
    ///
    /// # Errors
    /// When it refuses this process, or is not there, or another run has taken over.
    pub fn report(
        plan: &ClusterPlan,
        terms: Terms,
        talk: &dyn Listener,
        newest: &dyn Fn() -> Option<u64>,
    ) -> Result<Self, ClusterError> {
        // What process 0 may have made of it since: a generation each time that all were there.
        let mut ours = newest();
        let mut looked = Instant::now();
        let (place, patience, keys) = (plan.place.clone(), plan.patience, plan.keys()?);
        let until = Instant::now() + patience;
        let failed = |error: io::Error| ClusterError::Missing(error.to_string());
        let door = Door::open(listen(&place, until)?, &keys).map_err(failed)?;
        let (mut told, mut gone) = (Instant::now(), false);
        loop {
            let last = match meet(&place, &terms, &keys) {
                Ok((links, go, resume)) => {
                    return Ok(Self {
                        place,
                        terms,
                        keys,
                        door,
                        links,
                        go,
                        resume,
                    });
                }
                Err(Missed::Refused(reason)) => {
                    let process = place.process;
                    return Err(ClusterError::Refused { process, reason });
                }
                Err(Missed::Yet(reason)) => reason,
                Err(Missed::Lost { reason, gathered }) => {
                    gone = true;
                    ours = ours.map(|ours| ours + u64::from(gathered));
                    reason
                }
            };
            if gone && looked.elapsed() >= LOOK_FOR_OTHERS {
                looked = Instant::now();
                if let (Some(ours), Some(theirs)) = (ours, newest())
                    && theirs > ours
                {
                    let taken_over = DurableError::Superseded { ours, theirs };
                    return Err(ClusterError::TakenOver(taken_over));
                }
            }
            let host = &place.hosts[0];
            if Instant::now() >= until && gone {
                let reason = not_again(&last, patience);
                return Err(ClusterError::Lost { process: 0, reason });
            }
            if Instant::now() >= until {
                return Err(ClusterError::Missing(format!(
                    "process 0 is not there within {} s: {host}: {last}",
                    patience.as_secs()
                )));
            }
            if told.elapsed() >= SAY {
                told = Instant::now();
                talk.message(&format!("waiting for process 0 at {host}: {last}"));
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// How the run goes on.
    #[must_use]
    pub fn go(&self) -> &Go {
        &self.go
    }

    /// Where an earlier run ended.
    #[must_use]
    pub fn resume(&self) -> Resume {
        self.resume.clone()
    }

    /// Whether process 0 is still there.
    ///
    /// # Errors
    /// When it is not.
    pub fn is_led(&self) -> Result<(), ClusterError> {
        while let Some((process, heard)) = self.links.hear(Duration::ZERO) {
            if let Ok(Word::Failed(reason)) | Err(reason) = heard {
                return Err(ClusterError::Lost { process, reason });
            }
        }
        Ok(())
    }

    /// Tells process 0 that this one cannot do its part.
    pub fn fail(&self, reason: &str) {
        self.links.say(&Word::Failed(reason.to_owned()));
    }

    /// Tells process 0 that this one is prepared, and connects with all others when everybody is.
    ///
    /// # Errors
    /// When process 0 does not begin, or another cannot be reached.
    pub fn connect(self) -> Result<Connected, ClusterError> {
        self.links.say(&Word::Ready);
        let until = Instant::now() + PREPARE;
        let lost = |reason: String| ClusterError::Lost { process: 0, reason };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.links.hear(left).map(|(_, heard)| heard) {
                Some(Ok(Word::Begin)) => break,
                Some(Ok(Word::Failed(reason)) | Err(reason)) => return Err(lost(reason)),
                Some(Ok(_)) => {}
                None => return Err(lost("it has not begun".to_owned())),
            }
        }
        connect(
            self.place,
            self.terms.workers,
            &self.door,
            self.links,
            self.go.run,
            &self.keys,
        )
    }
}

/// Which process it is that reports, or why it is refused.
fn judge(theirs: &Hello, ours: &Hello, links: &Links) -> Result<usize, String> {
    let process = usize::try_from(theirs.process).unwrap_or(usize::MAX);
    let refused = |reason: &str| {
        Err(format!(
            "{reason}; give each process a --process of its own"
        ))
    };
    if let Some(reason) = difference(ours, theirs) {
        return Err(reason);
    }
    if process == 0 || theirs.process >= ours.processes {
        return refused("process 0 is here");
    }
    if links.has(process) {
        return refused("it is here already");
    }
    Ok(process)
}

enum Missed {
    Refused(String),
    /// Not yet.
    Yet(String),
    /// Process 0 was there; whether it has said that all were.
    Lost {
        reason: String,
        gathered: bool,
    },
}

/// Why a process is lost that was there, and is not at the end of all patience.
fn not_again(reason: &str, patience: Duration) -> String {
    let seconds = patience.as_secs();
    format!("{reason}, and it has not come again within {seconds} s")
}

impl From<io::Error> for Missed {
    fn from(error: io::Error) -> Self {
        Self::Yet(error.to_string())
    }
}

/// One attempt of a process to be told to go. Waits as long as process 0 lives.
fn meet(place: &Place, terms: &Terms, keys: &Keys) -> Result<(Links, Go, Resume), Missed> {
    let hello = terms.hello(place);
    let claim = Claim {
        purpose: Purpose::Control,
        process: hello.process,
        run: RunNumber::default(),
    };
    let stream = knock(&place.hosts[0], claim, Some(hello), keys)?;
    let mut links = Links::new()?;
    links.add(0, stream)?;
    let (mut resume, mut gathered) = (Vec::new(), false);
    loop {
        match links.hear(SILENCE).map(|(_, heard)| heard) {
            Some(Ok(Word::Part(mut part))) => resume.append(&mut part),
            Some(Ok(Word::Go(go))) => {
                let resume = wire::decode(&resume, go.resume).map_err(|error| {
                    let reason = error.to_string();
                    Missed::Lost { reason, gathered }
                })?;
                return Ok((links, go, resume));
            }
            Some(Ok(Word::Refused(reason))) => return Err(Missed::Refused(reason)),
            Some(Ok(Word::Failed(reason)) | Err(reason)) => {
                links.drop_link(0);
                return Err(Missed::Lost { reason, gathered });
            }
            Some(Ok(Word::Gathered)) => gathered = true,
            Some(Ok(_)) | None => {}
        }
    }
}
