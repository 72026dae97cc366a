//! What operators tell a job, through its state folder: one object per command.
//!
//! ```text
//!  tell:     list ─► newest manifest ─► create commands/<number>-<name of its own>.json
//!  the job:  list ─► list again ─► apply ─► commit: which are applied ─► take those away
//! ```
//!
//! - **Once.** The commit that has what a command brings says that it is applied. So a command that was told
//!   while the job was stopped is applied when it starts, and none is applied twice.
//! - **None is passed over.** Which are applied is known by name, not by how far: a listing may miss a command
//!   that is made meanwhile and have one that was told behind it, and the next listing has both.
//! - **In order.** A second listing, begun when the first is done, has all that was told before any command of
//!   the first. What is only in the second is left for the next time.
//! - **Names** have a part that is drawn at random, so nobody makes a name again: whoever takes an applied
//!   command away, however late, takes away what a commit says is applied.
//! - **Failure:** a command is a line of JSON, which has its name, and a digest. One that is damaged is told, stays where it is and
//!   keeps nobody from applying the others. One that was told to another job, before that had any state, is
//!   told and taken away.

use super::applied::{Applied, number_of};
use super::error::DurableError;
use super::manifest::Manifest;
use super::object::{Object, create};
use super::plan::Plan;
use millrace_connectors::store::{Store, random_name, sealed, unsealed};
use millrace_operators::domain::Reason;
use serde::{Deserialize, Serialize};

pub(super) const FOLDER: &str = "commands";

/// A command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum OperatorCommand {
    /// Read nothing more of this source.
    Pause {
        /// The source.
        source: String,
    },
    /// Read this source on from where it was paused.
    Resume {
        /// The source.
        source: String,
    },
    /// Take suspended records out for good.
    Discard(Selection),
    /// Put discarded records back.
    Retry(Selection),
}

/// Which records a command means: those that are named, or all of a reason, of a file, or of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// `<file>:<row>` each.
    #[serde(default)]
    pub records: Vec<String>,
    /// Why they are suspended.
    pub reason: Option<Reason>,
    /// The name of their file or partition, or its number.
    pub file: Option<String>,
}

/// What lies in the folder: to whom what is told.
#[derive(Serialize, Deserialize)]
struct Letter {
    /// The name that it stands under, and no other.
    name: String,
    job: String,
    told: OperatorCommand,
}

/// Why a command is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotObeyed {
    /// It was told to this job.
    OfAnother(String),
    /// So many with higher numbers are applied that nobody knows whether it is.
    TooLate,
    /// It cannot be read: why.
    Damaged(String),
}

/// Where a command lies, below the state folder.
#[must_use]
pub fn place(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Tells a command to the job of this plan; returns its number.
///
/// # Errors
/// When the state is another job's, or the store fails.
pub fn tell(store: &Store, plan: &Plan, command: &OperatorCommand) -> Result<u64, DurableError> {
    let there = store.names(FOLDER)?;
    // What is not there any more is applied, as whoever looks behind the listing finds.
    let newest = Manifest::newest(store)?;
    if let Some(newest) = &newest {
        newest.check_plan(store, plan)?;
    }
    let told = there.iter().filter_map(|name| number_of(name)).max();
    let applied = newest.map_or(0, |newest| newest.commands.newest());
    let number = told.unwrap_or(0).max(applied) + 1;
    let name = format!("{number:020}-{}.json", random_name());
    let letter = Letter {
        name: name.clone(),
        job: plan.job.clone(),
        told: command.clone(),
    };
    let line = serde_json::to_string(&letter).map_err(|error| DurableError::Damaged {
        folder: store.location().to_owned(),
        object: place(&name),
        problem: format!("cannot be written: {error}"),
    })?;
    let content = sealed(&line);
    let object = Object::of(place(&name), content.as_bytes(), 0);
    create(store, &object, content.as_bytes())?;
    Ok(number)
}

/// The names of the commands that wait, in the order in which they were told.
///
/// # Errors
/// When the store fails.
pub fn waiting(store: &Store, applied: &Applied) -> Result<Vec<String>, DurableError> {
    let listed = || -> Result<Vec<String>, DurableError> {
        let mut names = store.names(FOLDER)?;
        names.retain(|name| number_of(name).is_some() && !applied.has(name));
        Ok(names)
    };
    let Some(last) = listed()?.pop() else {
        return Ok(Vec::new());
    };
    // What was told before the last has been there all the time.
    let mut names = listed()?;
    names.retain(|name| *name <= last);
    Ok(names)
}

/// What a command says to a job; nothing if it is not there any more.
///
/// # Errors
/// Why it is not to be applied.
pub fn open(
    store: &Store,
    job: &str,
    applied: &Applied,
    name: &str,
) -> Result<Option<OperatorCommand>, NotObeyed> {
    let content = store.get(&place(name));
    match content.map_err(|error| NotObeyed::Damaged(error.to_string()))? {
        None => Ok(None),
        Some(_) if number_of(name).is_some_and(|number| number <= applied.until) => {
            Err(NotObeyed::TooLate)
        }
        Some(content) => read(name, &content, job).map(Some),
    }
}

fn read(name: &str, content: &[u8], job: &str) -> Result<OperatorCommand, NotObeyed> {
    let damaged = |problem: &dyn std::fmt::Display| NotObeyed::Damaged(problem.to_string());
    let line = unsealed(content).ok_or_else(|| damaged(&"its digest does not match"))?;
    let letter: Letter = serde_json::from_str(line).map_err(|error| damaged(&error))?;
    if letter.name != name {
        return Err(damaged(&format!("it is {}", letter.name)));
    }
    match letter.job == job {
        true => Ok(letter.told),
        false => Err(NotObeyed::OfAnother(letter.job)),
    }
}

#[cfg(test)]
mod tests;
