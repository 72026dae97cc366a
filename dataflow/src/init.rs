//! `millrace init`: a small job from a sample of a file, to begin with.
//!
//! ```text
//!  sample ─► fields, their values ─► guesses ─► job, rule, catalog, accounts ─► run once, read only
//! ```
//!
//! Every guess is said, in the files and to the person. Nothing about money is guessed at all: each item
//! costs one unit of the currency, which nobody takes for a price, until somebody writes what it costs.
//! What was written is run before it is handed over, so what does not suit the sample is told.

mod guess;
mod sample;
mod write;

use crate::board::{Money, ReasonCount};
use crate::error::RunError;
use crate::listener::Listener;
use crate::report::{RunFacts, Summary};
use crate::run::read;
use guess::Guesses;
use sample::Sample;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// Where the job is written.
    pub folder: PathBuf,
    /// The file that it is to bill.
    pub sample: PathBuf,
    /// The currency of the prices to be written.
    pub currency: String,
}

/// A job that was written.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The job file.
    pub job: PathBuf,
    /// The files, in the order to read them.
    pub files: Vec<PathBuf>,
    /// What was guessed: of what, and what.
    pub guesses: Vec<(String, String)>,
    /// Records of the sample.
    pub received: u64,
    /// Those of them that the job charges for.
    pub monetised: u64,
    /// What they come to by the prices to be replaced.
    pub totals: Vec<Money>,
    /// Why others are not charged.
    pub reasons: Vec<ReasonCount>,
    /// Whether the run of it has something to look at.
    pub findings: bool,
}

/// Why no job was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The sample cannot be read.
    #[error("cannot begin with {sample:?}: {message}")]
    Sample {
        /// The file.
        sample: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// There is something already.
    #[error(
        "{} is there already, and nothing is written over; name another folder, or take it away",
        .0.display()
    )]
    Exists(PathBuf),
    /// The currency is none.
    #[error("{0:?} is no currency; write three capital letters, like EUR")]
    Currency(String),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What was written does not run.
    #[error("what was written does not run as it is")]
    Run(#[from] RunError),
}

/// Writes a job for the sample, and runs it without writing anything more.
///
/// # Errors
/// When the sample cannot be read, a file is there already, or what was written does not run.
pub fn init(request: &InitRequest, listener: &Arc<dyn Listener>) -> Result<Begun, InitError> {
    let currency = &request.currency;
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(InitError::Currency(currency.clone()));
    }
    let unsuitable = |message| InitError::Sample {
        sample: request.sample.clone(),
        message,
    };
    let sample = Sample::read(&request.sample).map_err(unsuitable)?;
    let guesses = Guesses::of(&sample).map_err(unsuitable)?;
    let files = write::files(request, &sample, &guesses).map_err(unsuitable)?;
    let at = |name: &str| request.folder.join(name);
    if let Some((name, _)) = files.iter().find(|(name, _)| at(name).exists()) {
        return Err(InitError::Exists(at(name)));
    }
    let failed = |path: PathBuf| move |source| InitError::Write { path, source };
    std::fs::create_dir_all(&request.folder).map_err(failed(request.folder.clone()))?;
    for (name, text) in &files {
        create(&at(name), text).map_err(failed(at(name)))?;
    }
    let job = at(write::JOB);
    let ended = read(&job, None, listener, |_| ())?;
    let facts = RunFacts {
        files: ended.files,
        unread: ended.unread,
        ..RunFacts::default()
    };
    let summary = Summary::of(&ended.board, &ended.texts, facts);
    Ok(Begun {
        job,
        files: files.iter().map(|(name, _)| at(name)).collect(),
        guesses: guesses.told(),
        received: summary.records.received,
        monetised: summary.records.monetised,
        findings: summary.has_findings(),
        totals: summary.totals,
        reasons: summary.reasons,
    })
}

/// A file that was not there.
fn create(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create_new(path)?;
    file.write_all(text.as_bytes())
}
