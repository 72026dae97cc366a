//! `millrace explain` on the command line.

use super::args::{ExplainArgs, ExplainFormat};
use super::ending::{Exit, Refusal, json, style};
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
    let terminal = Arc::new(Terminal::on(console, Metrics::new()));
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
        ExplainFormat::Json => json(&explained)?,
    };
    console.result(&text)?;
    Ok(if explained.reason.is_some() {
        Exit::Findings
    } else {
        Exit::Ok
    })
}
