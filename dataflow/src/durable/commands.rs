//! What operators tell a job, through its state folder: one create-only object per command.
//!
//! A command is numbered; the job applies commands in their order, at an epoch, and the commit of that
//! epoch says up to which number. So a command that was told while the job was stopped is applied when
//! it starts, and none is applied twice.

use super::DurableError;
use millrace_connectors::store::{Put, Store};
use millrace_operators::domain::Reason;
use serde::{Deserialize, Serialize};

const FOLDER: &str = "commands";

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

fn name(number: u64) -> String {
    format!("{FOLDER}/{number:020}.json")
}

/// Tells a command; returns its number.
///
/// # Errors
/// When the store fails.
pub fn tell(store: &Store, command: &OperatorCommand) -> Result<u64, DurableError> {
    let text = serde_json::to_vec(command).map_err(|error| damaged(store, FOLDER, &error))?;
    let told = store.names(FOLDER)?.pop();
    let mut number = told.as_deref().and_then(number_of).unwrap_or(0) + 1;
    // Somebody may tell another one at the same time.
    while store.put_new(&name(number), &text)? == Put::Exists {
        number += 1;
    }
    Ok(number)
}

/// The commands behind `applied`, with their numbers.
///
/// # Errors
/// When the store fails, or an object there is no command.
pub fn told(store: &Store, applied: u64) -> Result<Vec<(u64, OperatorCommand)>, DurableError> {
    let names = store.names(FOLDER)?;
    let numbers = names.iter().filter_map(|name| number_of(name));
    let mut commands = Vec::new();
    for number in numbers.filter(|number| *number > applied) {
        let object = name(number);
        let text = store.get(&object)?.unwrap_or_default();
        let command =
            serde_json::from_slice(&text).map_err(|error| damaged(store, &object, &error))?;
        commands.push((number, command));
    }
    Ok(commands)
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

fn damaged(store: &Store, object: &str, problem: &dyn std::fmt::Display) -> DurableError {
    DurableError::Damaged {
        folder: store.location().to_owned(),
        object: object.to_owned(),
        problem: format!("is no command: {problem}"),
    }
}
