//! Outputs that wait for their commit.

use millrace_connectors::store::{Store, StoreError, Waiting};
use serde::{Deserialize, Serialize};

/// An output written under a hidden name, and the place that it takes when it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The hidden name, below the output folder.
    pub staged: String,
    /// Its place.
    pub place: String,
    /// How it is completed, where it is an upload that waits in a bucket and has no hidden name.
    #[serde(default)]
    pub waiting: Option<Waiting>,
}

/// Lets outputs take their places. Says how many did so now.
///
/// # Errors
/// When one cannot be moved.
pub(super) fn take_places<'s>(
    outputs: &Store,
    staged: impl Iterator<Item = &'s Staged>,
) -> Result<usize, StoreError> {
    let (waiting, hidden): (Vec<_>, Vec<_>) = staged.partition(|output| output.waiting.is_some());
    let moves = hidden.iter().map(|o| (o.staged.as_str(), o.place.as_str()));
    let mut moved = outputs.rename_all(moves)?;
    for Staged { place, waiting, .. } in waiting {
        let completed = waiting
            .as_ref()
            .map(|waiting| outputs.complete(place, waiting));
        moved += usize::from(completed.unwrap_or(Ok(false))?);
    }
    Ok(moved)
}
