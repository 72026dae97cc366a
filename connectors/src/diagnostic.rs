//! Findings about what a person wrote: where, how bad, what, and what to do about it.

use crate::redact::redacted;
use millrace_operators::domain::Severity;
use std::fmt;

/// One finding about a configuration or reference file. All findings of a file are collected before
/// any is reported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Diagnostic {
    /// The file, as the user named it.
    pub file: String,
    /// Line, counted from 1; 0 when the finding is about the whole file.
    pub line: u64,
    /// Column, counted from 1; 0 when unknown.
    pub column: u64,
    /// Whether the file can be used in spite of it.
    #[serde(serialize_with = "as_word")]
    pub severity: Severity,
    /// What is wrong; lower case, no full stop, values quoted.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl Diagnostic {
    /// A finding that keeps the file from being used, at a line and column counted from 1 (0 when
    /// unknown).
    pub fn error(file: &str, (line, column): (u64, u64), message: impl Into<String>) -> Self {
        let message: String = message.into();
        let message = redacted(&message).into_owned();
        let (file, hint) = (redacted(file).into_owned(), String::new());
        Self {
            file,
            line,
            column,
            severity: Severity::Error,
            message,
            hint,
        }
    }

    /// A finding that the file can be used in spite of, though money may be wrong for it: a run ends with
    /// exit code 1.
    pub fn warning(file: &str, place: (u64, u64), message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(file, place, message)
        }
    }

    /// A finding that no money depends on, or whose usage waits and is told by itself.
    pub fn advice(file: &str, place: (u64, u64), message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Info,
            ..Self::error(file, place, message)
        }
    }

    /// The same finding with advice.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        let hint: String = hint.into();
        Self {
            hint: redacted(&hint).into_owned(),
            ..self
        }
    }

    /// Whether the file cannot be used.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Whether money may be wrong for it.
    #[must_use]
    pub fn is_about_money(&self) -> bool {
        self.severity >= Severity::Warning
    }
}

/// What is said of a column that is declared and that no expression reads. Where it is a slip of one that
/// is read, that one lacks its type.
pub(crate) fn unread_column<'a>(
    file: &str,
    place: (u64, u64),
    name: &str,
    read_undeclared: impl IntoIterator<Item = &'a str>,
) -> Diagnostic {
    let message = format!("`columns` declares \"{name}\", which no expression reads");
    match did_you_mean(name, read_undeclared) {
        Some(meant) => {
            let hint = format!("did you mean \"{meant}\"? It is read as if it were not declared");
            Diagnostic::warning(file, place, message).with_hint(hint)
        }
        None => Diagnostic::advice(file, place, message).with_hint("leave it out"),
    }
}

/// The severity as one lower-case word, as in outputs.
#[must_use]
pub fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

fn as_word<S: serde::Serializer>(severity: &Severity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(severity_word(*severity))
}

/// The name among `known` that `written` was most likely meant to be.
#[must_use]
pub fn did_you_mean<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = written.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    known
        .into_iter()
        .map(|name| (distance(name), name))
        .filter(|(distance, name)| *distance <= 1 + name.chars().count().min(12) / 4)
        .min()
        .map(|(_, name)| name)
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}: ", self.file)?,
            (line, 0) => write!(f, "{}:{line}: ", self.file)?,
            (line, column) => write!(f, "{}:{line}:{column}: ", self.file)?,
        }
        if !self.is_error() {
            write!(f, "{}: ", severity_word(self.severity))?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        let finding = Diagnostic::error("job.yaml", (3, 7), "no such file \"a.csv\"");
        assert_eq!(finding.to_string(), "job.yaml:3:7: no such file \"a.csv\"");
        let warning = Diagnostic::warning("a.yaml", (2, 0), "no account \"x\"").with_hint("add it");
        assert_eq!(
            warning.to_string(),
            "a.yaml:2: warning: no account \"x\"\n  hint: add it"
        );
        assert!(finding.is_error() && !warning.is_error());
    }

    #[test]
    fn near_names_are_offered_and_far_ones_not() {
        let known = ["model", "service_type", "price"];
        assert_eq!(did_you_mean("modle", known), Some("model"));
        assert_eq!(did_you_mean("servicetype", known), Some("service_type"));
        assert_eq!(did_you_mean("Price", known), Some("price"));
        assert_eq!(did_you_mean("customer", known), None);
    }
}
