//! Words for what nothing has, and what may be meant.

use super::{LISTED, Places, SLIP_LETTERS, Said};
use crate::diagnostic::{Diagnostic, did_you_mean};
use std::collections::BTreeSet;

/// An error for each name that is a slip of one that there is; the others stay.
pub(super) fn take_slips(
    places: &mut Places<'_>,
    known: &BTreeSet<&str>,
    message: impl Fn(&str, &Said<'_>) -> String,
) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    places.0.retain(|name, said| {
        let Some(meant) = slip_of(name, known) else {
            return true;
        };
        let finding = said.first.error(message(name, said));
        findings.push(finding.with_hint(format!("did you mean \"{meant}\"?")));
        false
    });
    findings
}

/// In how many rows a name stands, where it is more than one.
pub(super) fn told(said: &Said<'_>) -> String {
    match said.count {
        1 => String::new(),
        count => format!(" ({count} rows)"),
    }
}

/// How many of what has these names alone and together.
pub(super) fn counted((one, many): (&str, &str), count: usize) -> String {
    match count {
        1 => format!("a {one}"),
        count => format!("{count} {many}"),
    }
}

pub(super) fn meant(names: &[&str], known: &BTreeSet<&str>) -> String {
    let mut found = names.iter().filter_map(|name| {
        let meant = did_you_mean(name, known.iter().copied())?;
        Some((*name, meant))
    });
    match found.next() {
        Some((_, meant)) if names.len() == 1 => format!("did you mean \"{meant}\"? Otherwise "),
        Some((name, meant)) => format!("is \"{name}\" meant to be \"{meant}\"? Otherwise "),
        None => String::new(),
    }
}

/// Names as a sentence has them: the first few, and how many more.
pub(super) fn listed(names: &[&str]) -> String {
    let quoted = names.iter().take(LISTED).map(|name| format!("\"{name}\""));
    let quoted = quoted.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => quoted,
        more => format!("{quoted} and {more} more"),
    }
}

/// The name that `written` is a slip of: the same but for case and separators, or but for one letter that
/// is missing, wrong, too many or changed with its neighbour. Names that are numbered, or told apart by a
/// short part like `zone_a` and `zone_b`, are no slips of each other.
pub(super) fn slip_of<'k>(written: &str, known: &BTreeSet<&'k str>) -> Option<&'k str> {
    known.iter().copied().find(|known| is_slip(written, known))
}

pub(super) fn is_slip(written: &str, known: &str) -> bool {
    if written == known {
        return false;
    }
    let bare = |name: &str| -> String {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    if bare(written) == bare(known) {
        return true;
    }
    let (a, b): (Vec<char>, Vec<char>) = (written.chars().collect(), known.chars().collect());
    if strsim::damerau_levenshtein(written, known) != 1 {
        return false;
    }
    let ahead = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let behind = a.iter().rev().zip(b.iter().rev());
    let behind = behind.take_while(|(a, b)| a == b).count();
    let behind = behind.min(a.len().min(b.len()) - ahead);
    let differs = |name: &[char]| {
        name[ahead..name.len() - behind]
            .iter()
            .any(char::is_ascii_digit)
    };
    // The part of the known name, between separators, that differs.
    let is_letter = |c: &&char| c.is_alphanumeric();
    let start = b[..ahead].iter().rev().take_while(is_letter).count();
    let end = b[ahead..].iter().take_while(is_letter).count();
    !differs(&a) && !differs(&b) && start + end >= SLIP_LETTERS
}
