//! Names of objects and folders, and what they say.

use super::object::Object;

/// The generation that a name says it is of: behind it stands the name of a run, see [`Generation::tag`].
#[must_use]
pub fn generation_of(name: &str) -> Option<u64> {
    let words: Vec<&str> = name.split(['-', '.', '+']).collect();
    let is_run = |word: &str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let tagged = |pair: &[&str]| pair[0].parse().ok().filter(|_: &u64| is_run(pair[1]));
    words.windows(2).find_map(tagged)
}

/// How often an object was merged.
pub(super) fn rank(object: &Object) -> usize {
    object.name.matches('+').count()
}

/// Where outputs wait for their commit, below the output folder.
pub const STAGE: &str = "_staged";

/// Where runs open gates, below the output folder.
pub(crate) const GATES: &str = "_gates";

pub(super) const JOURNAL: &str = "journal";
