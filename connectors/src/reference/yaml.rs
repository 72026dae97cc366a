//! YAML files to typed values, with every finding at once.
//!
//! A typed reader stops at the first thing it does not understand. Here that thing is reported,
//! left out, and the file is read again without it, until the rest can be read: one pass of a
//! person over a file with ten mistakes, instead of ten.
//!
//! - Scalars keep the text that was written; prices are parsed from it exactly.
//! - Unknown and repeated keys are errors, with the key that was probably meant.
//! - A key with nothing behind it is an error where a value may be left out: half a line is no choice.
//!   `null` and `~` say that there is none.
//! - Words that YAML may take for something else (`no`, `on`, `1.10`, `0042`, `12:30`) are the text that
//!   was written; `null` and `~` are text only in quotes.
//! - Aliases (`*name`) are followed; merge keys (`<<`) and tags (`!name`) are refused.
//! - A message in JSON is read in the same way; its findings have no line.

mod json;
mod refused;
mod tree;
mod typed;

pub use refused::Refused;
pub(crate) use typed::TYPE_FIRST;

use crate::diagnostic::Diagnostic;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use tree::Node;
use typed::Reader;

/// Findings after which a file is not read any further.
const FINDINGS_MAX: usize = 100;

/// What could be read of a file.
#[derive(Debug)]
pub struct Read<T> {
    /// The value; when there are findings it lacks what they are about, and is good for nothing
    /// but finding more.
    pub value: Option<T>,
    /// Everything found wrong, in the order of the file.
    pub findings: Vec<Diagnostic>,
    /// What the value lacks.
    pub refused: Refused,
}

/// Line and column of a value, counted from 1; 0 when unknown.
#[must_use]
pub fn place_of<T>(value: &serde_saphyr::Spanned<T>) -> (u64, u64) {
    (value.referenced.line(), value.referenced.column())
}

/// Reads `text`, the content of `file`.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Read<T> {
    let (root, findings) = tree::parse(file, text);
    match root {
        Some(root) => read_tree(file, &root, findings),
        None => Read {
            value: None,
            findings,
            refused: Refused::default(),
        },
    }
}

/// Reads `text`, a JSON object that `file` names, without its member `but`.
pub(super) fn read_json<T: DeserializeOwned>(
    file: &str,
    text: &[u8],
    but: Option<&str>,
) -> Read<T> {
    match json::parse(text, but) {
        Ok(root) => read_tree(file, &root, Vec::new()),
        Err(message) => Read {
            value: None,
            findings: vec![Diagnostic::error(file, (0, 0), message)],
            refused: Refused::default(),
        },
    }
}

fn read_tree<T: DeserializeOwned>(
    file: &str,
    root: &Node,
    mut findings: Vec<Diagnostic>,
) -> Read<T> {
    let mut at_fault = BTreeSet::new();
    // The keys that unknown ones were meant to be.
    let mut meant = BTreeMap::new();
    let value = loop {
        let failure = match T::deserialize(Reader {
            node: root,
            at_fault: &at_fault,
        }) {
            Ok(value) => break Some(value),
            Err(failure) => failure,
        };
        let culprit = failure
            .node
            .map_or((root.id, root.line, root.column), |culprit| {
                (culprit.id, culprit.line, culprit.column)
            });
        let (id, line, column) = culprit;
        // A key that is missing because it was left out has been reported already.
        let left_out = failure
            .missing
            .is_some_and(|field| Refused::of(root, &at_fault, &meant).has_of_node(id, field));
        if let Some(key) = failure.meant {
            meant.insert(id, key);
        }
        if !left_out {
            let finding = Diagnostic::error(file, (line, column), failure.message);
            findings.push(finding.with_hint(failure.hint));
        }
        // A node cannot be at fault twice: it is not read again.
        if id == root.id || !at_fault.insert(id) || findings.len() >= FINDINGS_MAX {
            break None;
        }
    };
    findings.sort();
    let refused = Refused::of(root, &at_fault, &meant);
    Read {
        value,
        findings,
        refused,
    }
}

#[cfg(test)]
mod tests;
