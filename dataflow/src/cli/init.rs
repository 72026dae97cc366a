//! `millrace init` on the command line.

use super::args::InitArgs;
use super::ending::{Exit, Refusal, style};
use crate::console::Console;
use crate::init::{Begun, InitError, InitRequest, init};
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::report::grouped;
use crate::shown::shown;
use crate::table::{Style, wrap};
use crate::terminal::Terminal;
use std::fmt::Write as _;
use std::sync::Arc;

impl From<InitError> for Refusal {
    fn from(error: InitError) -> Self {
        match error {
            InitError::Run(error) => error.into(),
            other => Self::Message(other.to_string()),
        }
    }
}

pub(super) fn begin(args: &InitArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let request = InitRequest {
        folder: args.folder.clone(),
        sample: args.sample.clone(),
        currency: args.currency.clone(),
    };
    let terminal = Arc::new(Terminal::on(console, Metrics::new()));
    let listener: Arc<dyn Listener> = Arc::<Terminal>::clone(&terminal);
    let begun = init(&request, &listener);
    terminal.end_progress();
    let begun = begun?;
    let text = told(&begun, style(console));
    console.result(&text)?;
    Ok(if begun.findings {
        Exit::Findings
    } else {
        Exit::Ok
    })
}

fn told(begun: &Begun, style: Style) -> String {
    let mut text = String::new();
    let mut say = |line: &str| {
        for line in wrap(&shown(line), style.width.unwrap_or(usize::MAX)) {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        }
    };
    say("guessed from the sample:");
    for (what, guess) in &begun.guesses {
        say(&format!("  {what}: {guess}"));
    }
    let files = begun.files.iter().map(|file| file.display().to_string());
    say(&format!(
        "written: {}",
        files.collect::<Vec<_>>().join(", ")
    ));
    let (received, monetised) = (begun.received, begun.monetised);
    let totals = begun.totals.iter();
    let totals = totals.map(|money| format!("{} {}", money.amount, money.currency));
    say(&format!(
        "tried: {} records, {} charged, {} in all",
        grouped(&received.to_string()),
        grouped(&monetised.to_string()),
        totals.collect::<Vec<_>>().join(", ")
    ));
    say(
        "warning: every price is a placeholder of 1; the total says how much was used, not what it costs, \
         until catalog.yaml has the prices",
    );
    for reason in &begun.reasons {
        let (records, code, hint) = (reason.records, reason.reason, reason.hint);
        say(&format!("not charged: {records} × {code}; {hint}"));
    }
    say(&format!("next: millrace run {}", begun.job.display()));
    text
}
