//! `millrace explain` on the command line.

use super::args::{ExplainArgs, ExplainFormat};
use super::{Exit, Refusal, style};
use crate::console::Console;
use crate::explain::{ExplainError, ExplainRequest, explain};
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::terminal::Terminal;
use std::sync::Arc;

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Run(error) => error.into(),
            ExplainError::Unknown(message) => Self::Message(message),
            ExplainError::Lost => Self::Bug(error.to_string()),
        }
    }
}

pub(super) fn explain_record(
    args: &ExplainArgs,
    console: &mut Console<'_>,
) -> Result<Exit, Refusal> {
    let (talk, colour) = (console.talk(), console.colours_talk());
    let is_terminal = console.surroundings().err_is_terminal;
    let terminal = Arc::new(Terminal::new(talk, colour, Metrics::new(), is_terminal));
    let listener: Arc<dyn Listener> = Arc::<Terminal>::clone(&terminal);
    let request = ExplainRequest {
        record: args.record.clone(),
        all: args.all,
        workers: args.workers,
    };
    let explained = explain(&args.job, &request, &listener);
    terminal.end_progress();
    let explained = explained?;
    let text = match args.output {
        ExplainFormat::Text => explained.text(style(console)),
        ExplainFormat::Json => format!("{}\n", serde_json::to_string_pretty(&explained)?),
    };
    console.result(&text)?;
    Ok(if explained.reason.is_some() {
        Exit::Findings
    } else {
        Exit::Ok
    })
}
