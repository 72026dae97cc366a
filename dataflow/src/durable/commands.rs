//! What operators tell a job, through its state folder: one create-only object per command.
//!
//! A command is numbered; the job applies commands in their order, at an epoch, and the commit of that
//! epoch says up to which number. So a command that was told while the job was stopped is applied when
//! it starts, and none is applied twice. Like a manifest, a command is a line of JSON and its digest, which is
//! of its number too: none can stand in the place of another.

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

/// Tells a command to a job that has applied those up to `applied`; returns its number.
///
/// # Errors
/// When the store fails.
pub fn tell(store: &Store, command: &OperatorCommand, applied: u64) -> Result<u64, DurableError> {
    let line = serde_json::to_string(command).map_err(|error| damaged(store, FOLDER, &error))?;
    let told = store.names(FOLDER)?.pop();
    let told = told.as_deref().and_then(number_of).unwrap_or(0);
    // A folder that somebody has emptied begins behind what was applied.
    let mut number = told.max(applied) + 1;
    // Somebody may tell another one at the same time.
    while store.put_new(&name(number), text(number, &line).as_bytes())? == Put::Exists {
        number += 1;
    }
    Ok(number)
}

/// The commands behind `applied`, with their numbers.
///
/// # Errors
/// When the store fails, or an object there is no command or is missing.
pub fn told(store: &Store, applied: u64) -> Result<Vec<(u64, OperatorCommand)>, DurableError> {
    let names = store.names(FOLDER)?;
    let last = names.iter().rev().find_map(|name| number_of(name));
    let mut commands = Vec::new();
    // A list may have been made while one came, so each is asked for.
    for number in applied + 1..=last.unwrap_or(0) {
        let object = name(number);
        let held = store.get(&object)?;
        let held = held.ok_or_else(|| damaged(store, &object, &"it is missing"))?;
        let held = String::from_utf8(held).map_err(|error| damaged(store, &object, &error))?;
        let line = held.lines().next().unwrap_or("");
        if held != text(number, line) {
            return Err(damaged(store, &object, &"its digest does not match"));
        }
        let command =
            serde_json::from_str(line).map_err(|error| damaged(store, &object, &error))?;
        commands.push((number, command));
    }
    Ok(commands)
}

/// A command as it stands under its number.
fn text(number: u64, line: &str) -> String {
    let digest = blake3::hash(format!("{number}\n{line}").as_bytes());
    format!("{line}\n{}\n", digest.to_hex())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open("state", folder.path()).unwrap();
        let pause = |source: &str| OperatorCommand::Pause {
            source: source.to_owned(),
        };
        assert_eq!(tell(&store, &pause("a"), 0).unwrap(), 1);
        assert_eq!(tell(&store, &pause("b"), 0).unwrap(), 2);
        assert_eq!(told(&store, 1).unwrap(), [(2, pause("b"))]);
        // Emptied by somebody: what is told now is not taken for applied.
        store.clear(FOLDER).unwrap();
        assert_eq!(tell(&store, &pause("c"), 2).unwrap(), 3);
        assert_eq!(told(&store, 2).unwrap(), [(3, pause("c"))]);
        let whole = store.get(&name(3)).unwrap().unwrap();
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            store.put(&name(3), &torn).unwrap();
            assert!(told(&store, 2).is_err(), "byte {at}");
        }
        store.put(&name(3), &whole[..whole.len() - 1]).unwrap();
        assert!(told(&store, 2).is_err());
        // In the place of another, or gone while a later one is there.
        store.put(&name(3), &whole).unwrap();
        assert_eq!(tell(&store, &pause("d"), 2).unwrap(), 4);
        assert_eq!(told(&store, 2).unwrap().len(), 2);
        let later = store.get(&name(4)).unwrap().unwrap();
        store.put(&name(3), &later).unwrap();
        assert!(told(&store, 2).is_err());
        store.remove(&name(3)).unwrap();
        let missing = told(&store, 2).unwrap_err().to_string();
        assert!(missing.contains("it is missing"), "{missing}");
    }
}
