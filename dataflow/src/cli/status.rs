//! `millrace status` on the command line.

use super::args::{SelectionArgs, SourceArgs, StatusArgs, SummaryFormat};
use super::ending::{Exit, Refusal, json, load, style};
use crate::console::Console;
use crate::durable::{OperatorCommand, Selection};
use crate::intake::parts;
use crate::shown::shown;
use crate::status::{Status, StatusError, command, status};
use crate::table::{Column, Style};
use millrace_connectors::diagnostic::did_you_mean;
use millrace_operators::domain::{Fate, Reason};
use std::fmt::Write as _;
use std::path::Path;

impl From<StatusError> for Refusal {
    fn from(error: StatusError) -> Self {
        Self::Message(error.to_string())
    }
}

pub(super) fn show_status(args: &StatusArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let status = status(&load(&args.job, console)?)?;
    let text = match args.output {
        SummaryFormat::Table => tables(&status, style(console)),
        SummaryFormat::Json => json(&status)?,
    };
    console.result(&text)?;
    for complaint in &status.complaints {
        console.say(&format!("lag is not known: {}\n", shown(complaint)));
    }
    Ok(match status.complaints.is_empty() {
        true => Exit::Ok,
        false => Exit::Findings,
    })
}

pub(super) fn pause(args: &SourceArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let source = args.source.clone();
    tell(&args.job, &OperatorCommand::Pause { source }, console)
}

pub(super) fn resume(args: &SourceArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let source = args.source.clone();
    tell(&args.job, &OperatorCommand::Resume { source }, console)
}

pub(super) fn discard(args: &SelectionArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let told = OperatorCommand::Discard(selection(args)?);
    tell(&args.job, &told, console)
}

pub(super) fn retry(args: &SelectionArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let told = OperatorCommand::Retry(selection(args)?);
    tell(&args.job, &told, console)
}

fn selection(args: &SelectionArgs) -> Result<Selection, Refusal> {
    let reason = args.reason.as_deref().map(reason).transpose()?;
    if let Some(id) = args.record.iter().find(|id| parts(id).is_none()) {
        let message = format!(
            "{id:?} is no record id; write <file>:<line>, or <file>#<row> as in the outputs"
        );
        return Err(Refusal::Message(message));
    }
    Ok(Selection {
        records: args.record.clone(),
        reason,
        file: args.file.clone(),
    })
}

/// A reason that records are suspended for, by its code.
fn reason(code: &str) -> Result<Reason, Refusal> {
    let suspends = |reason: &&Reason| {
        let fate = Fate::of(**reason);
        matches!(fate, Fate::Error(_) | Fate::Suspended(_)) && !reason.is_of_file()
    };
    let known = || Reason::ALL.iter().filter(suspends);
    let found = known().find(|reason| reason.code().eq_ignore_ascii_case(code));
    found.copied().ok_or_else(|| {
        let codes = || known().map(|reason| reason.code());
        let hint = match did_you_mean(code, codes()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("one of {}", codes().collect::<Vec<_>>().join(", ")),
        };
        Refusal::Message(format!("no record is suspended for {code:?}; {hint}"))
    })
}

fn tell(job: &Path, told: &OperatorCommand, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let number = command(&load(job, console)?, told)?;
    console.result(&format!(
        "command {number} is told; the job applies it within a second, or when it starts\n"
    ))?;
    Ok(Exit::Ok)
}

fn tables(status: &Status, style: Style) -> String {
    let mut text = format!(
        "{}: commit {} by generation {}, {}\n{} epochs, {} records received from {} files and partitions\n\
         state in {}: {} objects, {} usage rows, {} bytes\n",
        status.job,
        status.commit,
        status.generation,
        status.written,
        status.epochs,
        status.received,
        status.files,
        status.folder,
        status.state.objects,
        status.state.rows,
        status.state.bytes,
    );
    // Writing to a string does not fail.
    if !status.paused.is_empty() {
        writeln!(text, "paused: {}", status.paused.join(", ")).ok();
    }
    if !status.positions.is_empty() {
        let mut table = style.table([
            Column::text("source"),
            Column::text("file or partition"),
            Column::number("next"),
            Column::number("lag"),
        ]);
        for reading in &status.positions {
            let lag = reading.lag.map_or_else(String::new, |lag| lag.to_string());
            let (source, name) = (reading.source.clone(), reading.name.clone());
            table.add_row([source, name, reading.next.to_string(), lag]);
        }
        writeln!(text, "\n{table}").ok();
    }
    style.fit(&text)
}
