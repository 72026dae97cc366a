//! Marks: what decides between the records of one identity, where it is more than the order of arrival.

use super::usage::Quantities;
use serde::{Deserialize, Serialize};

/// Which of several records of one identity holds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Keep {
    /// The first to arrive.
    #[default]
    First,
    /// The one with the greatest position.
    Last,
    /// The one with the greatest rank.
    Greatest,
    /// The one with the greatest rank, corrections included: the rank is a version.
    Version,
}

/// What a record does with its identity.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Kind {
    /// It reports usage.
    #[default]
    Usage,
    /// It is a row of a file that was sent again: usage, or another content of what was sent before.
    Restate,
    /// It gives what was reported another content.
    Amend,
    /// It takes out what was reported.
    Void,
}

/// What records of one identity are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rank {
    /// A number, with 18 decimals.
    Number(i128),
    /// An instant, in nanoseconds.
    Time(i128),
}

/// What decides between a record and the others of its identity.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Mark {
    /// Which record holds.
    pub keep: Keep,
    /// What the record does.
    pub kind: Kind,
    /// What it is ranked by; a record without is below all others.
    pub rank: Option<Rank>,
}

impl Mark {
    /// Whether a record of these quantities is one that its rule's `where` passes over.
    #[must_use]
    pub fn passes_over(&self, quantities: &Quantities) -> bool {
        self.kind != Kind::Void && quantities.is_empty()
    }
}
