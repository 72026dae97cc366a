//! Which commands are applied, by name.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Names of applied commands that the state keeps: a late request of a store may make one of them again.
pub(super) const KEPT: usize = 256;

/// Commands that one commit may apply: what is applied is taken away long before its name is kept no more.
pub const AT_ONCE: usize = KEPT / 8;

/// The commands that are applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The number up to which names are not kept any more.
    pub(super) until: u64,
    /// The names of the others.
    names: BTreeSet<String>,
}

impl Applied {
    /// Enters a command.
    pub fn add(&mut self, name: &str) {
        self.names.insert(name.to_owned());
        while self.names.len() > KEPT
            && let Some(oldest) = self.names.pop_first()
        {
            self.until = self.until.max(number_of(&oldest).unwrap_or(0));
        }
    }

    /// Whether a command of this name is applied, as far as names are kept.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Those that were not when the state was at `before`.
    pub fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a str> {
        self.names.difference(&before.names).map(String::as_str)
    }

    /// The highest number.
    pub(super) fn newest(&self) -> u64 {
        let newest = self.names.last().and_then(|name| number_of(name));
        newest.unwrap_or(self.until)
    }
}

/// The number of a command.
#[must_use]
pub fn number_of(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".json")?;
    stem.split('-').next()?.parse().ok()
}
