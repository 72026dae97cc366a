//! `millrace status` on the command line.

use super::args::{SourceArgs, StatusArgs, SummaryFormat};
use super::{Exit, Refusal, load, style};
use crate::console::Console;
use crate::durable::OperatorCommand;
use crate::report::Style;
use crate::status::{Status, StatusError, command, status};
use std::fmt::Write as _;

impl From<StatusError> for Refusal {
    fn from(error: StatusError) -> Self {
        Self::Message(error.to_string())
    }
}

pub(super) fn show_status(args: &StatusArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let status = status(&load(&args.job, console)?)?;
    let text = match args.output {
        SummaryFormat::Table => tables(&status, style(console)),
        SummaryFormat::Json => format!("{}\n", serde_json::to_string_pretty(&status)?),
    };
    console.result(&text)?;
    for complaint in &status.complaints {
        console.say(&format!("lag is not known: {complaint}\n"));
    }
    Ok(Exit::Ok)
}

pub(super) fn pause(args: &SourceArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let source = args.source.clone();
    tell(args, &OperatorCommand::Pause { source }, console)
}

pub(super) fn resume(args: &SourceArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let source = args.source.clone();
    tell(args, &OperatorCommand::Resume { source }, console)
}

fn tell(
    args: &SourceArgs,
    told: &OperatorCommand,
    console: &mut Console<'_>,
) -> Result<Exit, Refusal> {
    let number = command(&load(&args.job, console)?, &args.source, told)?;
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
        let mut table = style.table(&["source", "file or partition", "next", "lag"], 2..4);
        for reading in &status.positions {
            let lag = reading.lag.map_or_else(String::new, |lag| lag.to_string());
            let (source, name) = (reading.source.clone(), reading.name.clone());
            table.add_row([source, name, reading.next.to_string(), lag]);
        }
        writeln!(text, "\n{table}").ok();
    }
    text
}
