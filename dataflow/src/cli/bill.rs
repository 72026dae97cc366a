//! `millrace bill` on the command line.

use super::args::{BillArgs, BillFormat};
use super::ending::{Exit, Refusal, json, style};
use crate::bill::{BillError, BillRequest, bill};
use crate::console::Console;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::shown::shown_lines;
use crate::terminal::Terminal;
use std::io;
use std::sync::Arc;

impl From<BillError> for Refusal {
    fn from(error: BillError) -> Self {
        match error {
            BillError::Run(error) => error.into(),
            error @ BillError::Request(_) => Self::Message(error.to_string()),
            error @ BillError::Untied { .. } => Self::Bug(error.to_string()),
        }
    }
}

pub(super) fn show_bills(args: &BillArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let request = BillRequest {
        account: args.account.clone(),
        period: args.period.clone(),
        workers: args.workers,
    };
    let terminal = Arc::new(Terminal::on(console, Metrics::new()));
    let listener: Arc<dyn Listener> = Arc::<Terminal>::clone(&terminal);
    let asked = bill(&args.job, &request, &listener);
    terminal.end_progress();
    let bills = asked?;
    let text = match args.output {
        BillFormat::Text => bills.text(style(console)),
        BillFormat::Json => json(&bills)?,
        BillFormat::Csv => {
            let text = bills.csv().map_err(io::Error::from)?;
            shown_lines(&text).into_owned()
        }
    };
    console.result(&text)?;
    Ok(if bills.findings {
        Exit::Findings
    } else {
        Exit::Ok
    })
}
