//! Runs a job from Rust and uses what it comes to as values.
//!
//! ```text
//! cargo run -p millrace-examples --example embed -- [job file] [output folder]
//! ```

#![allow(clippy::print_stdout, reason = "a program of the terminal")]

use millrace::error::RunError;
use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::run::{RunOptions, run};
use millrace_connectors::diagnostic::Diagnostic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Hears what a job has to say to a person; a service would log it.
struct StandardError;

impl Listener for StandardError {
    fn message(&self, text: &str) {
        eprintln!("{text}");
    }

    fn warned(&self, findings: &[Diagnostic]) {
        findings.iter().for_each(|finding| eprintln!("{finding}"));
    }

    fn rejected(&self, findings: &[Diagnostic]) {
        self.warned(findings);
    }

    fn changed(&self, change: &ChangeReport) {
        eprintln!("{} records rated again", change.rerated);
    }

    fn settled(&self) {}
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let job = arguments
        .next()
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/llm/job.yaml")));
    let options = RunOptions {
        out: arguments.next(),
        ..RunOptions::default()
    };
    let listener: Arc<dyn Listener> = Arc::new(StandardError);
    let summary = match run(&job, &options, &Metrics::new(), &listener, &Stop::default()) {
        Ok(summary) => summary,
        Err(error) => {
            eprintln!("{}: {error}", job.display());
            // Everything that is wrong with a configuration is known at once, with its places.
            if let RunError::Configuration(findings) = error {
                listener.warned(&findings);
            }
            return ExitCode::FAILURE;
        }
    };

    // Every amount is there twice: exact, and rounded for reading.
    for total in &summary.totals {
        println!("{} {} ({})", total.amount, total.currency, total.rounded);
    }
    for account in &summary.accounts {
        println!(
            "  {:<12} {:>14} {}",
            account.name, account.money.amount, account.money.currency
        );
    }
    let records = &summary.records;
    println!(
        "{} of {} records monetised",
        records.monetised, records.received
    );
    for waiting in &summary.reasons {
        println!("  {} {}", waiting.records, waiting.reason);
    }
    ExitCode::SUCCESS
}
