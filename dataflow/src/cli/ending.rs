//! How a command ends: exit codes, refusals, and what all commands print with.

use crate::cluster::ClusterError;
use crate::console::Console;
use crate::crash::{EXIT_BUG, EXIT_LOST};
use crate::error::RunError;
use crate::job::Job;
use crate::query::QueryError;
use crate::render::render;
use crate::shown::shown_json;
use crate::table::Style;
use millrace_connectors::diagnostic::Diagnostic;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All is well.
    Ok,
    /// It ran, and somebody should look.
    Findings,
    /// It could not run.
    Unusable,
    /// A process of several has lost another.
    Lost,
    /// A defect of millrace: what was written cannot be relied on.
    Bug,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Findings => 1,
            Exit::Unusable => 2,
            Exit::Lost => EXIT_LOST,
            Exit::Bug => EXIT_BUG,
        })
    }
}

/// Why a command could not run.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What a person wrote cannot be used.
    Diagnostics(Vec<Diagnostic>),
    /// Something else, in one sentence.
    Message(String),
    /// Another process is gone; in one sentence.
    Lost(String),
    /// The results cannot be written.
    Output(io::Error),
    /// An invariant of ours is broken.
    Bug(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

impl From<RunError> for Refusal {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Configuration(findings) => Self::Diagnostics(findings),
            RunError::Conservation(error) => Self::Bug(error.to_string()),
            RunError::Cluster(error @ ClusterError::Lost { .. }) => Self::Lost(error.to_string()),
            other => Self::Message(other.to_string()),
        }
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Job(findings) => Self::Diagnostics(findings),
            QueryError::Output(error) => Self::Output(error),
            other => Self::Message(other.to_string()),
        }
    }
}

/// A result as JSON, which is safe to be shown on a terminal.
pub(super) fn json(result: &impl serde::Serialize) -> Result<String, Refusal> {
    let text = serde_json::to_string_pretty(result)?;
    Ok(format!("{}\n", shown_json(&text)))
}

/// The job, after its warnings have been shown.
pub(super) fn load(path: &Path, console: &mut Console<'_>) -> Result<Job, Refusal> {
    let (job, warnings) = Job::load(path).map_err(Refusal::Diagnostics)?;
    warn(&warnings, console);
    Ok(job)
}

/// How tables look on this console.
pub(super) fn style(console: &Console<'_>) -> Style {
    Style {
        colour: console.colours_results(),
        width: console.surroundings().width,
    }
}

/// Shows findings to the person.
pub(super) fn warn(findings: &[Diagnostic], console: &mut Console<'_>) {
    let colour = console.colours_talk();
    console.say(&render(findings, colour));
}
