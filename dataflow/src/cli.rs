//! The command line: what is asked, which module answers, and what the process ends with.
//!
//! Every subcommand's work is done by a module that returns a typed result; here it only becomes
//! text. Results go to standard output, talk to standard error.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | all is well |
//! | 1 | it ran, and somebody should look: records suspended or refused, findings, differences |
//! | 2 | it could not run: the command line, the configuration, a file or an address |
//! | 3 | a process of several has lost another, at any time, or nothing moves: start all of them again |
//! | 101 | a defect of millrace |
//! | 130 | interrupted |

mod args;
mod balance;
mod bill;
mod cluster;
mod ending;
mod explain;
mod init;
mod quote;
mod replay;
mod status;

pub use args::{Cli, Command};
pub use ending::Exit;

use crate::check::check;
use crate::cluster::{ClusterPlan, Place, SECRET_VARIABLE, Secret, obey_supervisor};
use crate::console::{ColourChoice, Console};
use crate::crash::end_process;
use crate::error::RunError;
use crate::interrupt::{EXIT_INTERRUPTED, Stop, end, end_on_interrupt, is_asked_to_end};
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::print::Drawing;
use crate::render::render;
use crate::run::{RunOptions, assist, run};
use crate::schema::schema;
use crate::shown::{shown_json, shown_lines};
use crate::terminal::Terminal;
use args::EXITS;
use args::{
    CheckArgs, CheckFormat, ClusterArgs, ClusterCommand, GraphArgs, GraphFormat, QueryArgs,
    RunArgs, SummaryFormat,
};
use clap::{CommandFactory as _, FromArgMatches as _};
use ending::{Refusal, json, load, style, warn};
use millrace_connectors::redact::redacted;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Runs the command that `arguments` (the program's name first) ask for.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>, console: &mut Console<'_>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    console.choose(colour_asked_for(&arguments));
    let parsed = command().try_get_matches_from(&arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, console),
    };
    console.hush(cli.quiet);
    let ended = match cli.command {
        Command::Init(args) => init::begin(&args, console),
        Command::Run(args) => run_job(&args, console),
        Command::Cluster { command } => match command {
            ClusterCommand::Run(args) => cluster::keep_running(&args, console),
        },
        Command::Quote(args) => quote::quote_usage(&args, console),
        Command::Explain(args) => explain::explain_record(&args, console),
        Command::Bill(args) => bill::show_bills(&args, console),
        Command::Balance(args) => balance::show_balance(&args, console),
        Command::Status(args) => status::show_status(&args, console),
        Command::Pause(args) => status::pause(&args, console),
        Command::Resume(args) => status::resume(&args, console),
        Command::Replay(args) => replay::replay_archive(&args, console),
        Command::Discard(args) => status::discard(&args, console),
        Command::Retry(args) => status::retry(&args, console),
        Command::Check(args) => check_job(&args, console),
        Command::Graph(args) => graph(&args, console),
        Command::Query(args) => query(&args, console),
        Command::Schema(args) => serde_json::to_string_pretty(&schema(args.kind.into()))
            .map_err(Refusal::from)
            .and_then(|text| Ok(console.result(&format!("{text}\n")).map(|()| Exit::Ok)?)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "millrace", &mut script);
            let written = console.results().write_all(&script);
            written.map(|()| Exit::Ok).map_err(Refusal::Output)
        }
    };
    let ended = ended.and_then(|exit| {
        console.results().flush()?;
        Ok(exit)
    });
    ended.unwrap_or_else(|refusal| refuse(refusal, console))
}

/// The command line, with the exit codes in the help of every command.
fn command() -> clap::Command {
    tell_exits(Cli::command())
}

fn tell_exits(command: clap::Command) -> clap::Command {
    let help = match command.get_after_help() {
        Some(help) => format!("{help}\n\n{EXITS}"),
        None => EXITS.to_owned(),
    };
    command.after_help(help).mut_subcommands(tell_exits)
}

/// Found before the arguments are parsed, because the parser's own complaints are coloured too.
fn colour_asked_for(arguments: &[OsString]) -> ColourChoice {
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(value) => value.strip_prefix('='),
            None => continue,
        };
        return match value {
            Some("always") => ColourChoice::Always,
            Some("never") => ColourChoice::Never,
            _ => ColourChoice::Auto,
        };
    }
    ColourChoice::Auto
}

fn usage(error: &clap::Error, console: &mut Console<'_>) -> Exit {
    let text = error.render();
    if error.use_stderr() {
        let plain = text.to_string();
        // What was written on the command line is quoted.
        let shown = redacted(&plain);
        let shown = shown_lines(&shown);
        let coloured = console.colours_talk() && shown == plain;
        console.say(&if coloured {
            text.ansi().to_string()
        } else {
            shown.into_owned()
        });
        return Exit::Unusable;
    }
    let coloured = console.colours_results();
    let text = if coloured {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    match console.result(&text) {
        Ok(()) => Exit::Ok,
        Err(error) => refuse(Refusal::Output(error), console),
    }
}

fn refuse(refusal: Refusal, console: &mut Console<'_>) -> Exit {
    match refusal {
        Refusal::Diagnostics(findings) => warn(&findings, console),
        Refusal::Message(message) => {
            console.say(&format!("error: {}\n", shown_lines(&redacted(&message))));
        }
        Refusal::Lost(message) => {
            console.say(&format!("{}\n", shown_lines(&message)));
            return Exit::Lost;
        }
        Refusal::Bug(message) => {
            console.say(&format!("bug: {}\n", shown_lines(&redacted(&message))));
            return Exit::Bug;
        }
        // The reader has what it wanted: `millrace … | head` is no mistake.
        Refusal::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Ok,
        Refusal::Output(error) => {
            let error = error.to_string();
            console.say(&format!(
                "error: cannot write the result: {}\n",
                shown_lines(&error)
            ));
        }
    }
    Exit::Unusable
}

fn run_job(args: &RunArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let metrics = Metrics::new();
    let terminal = Arc::new(Terminal::on(console, Arc::clone(&metrics)));
    let listener: Arc<dyn Listener> = Arc::<Terminal>::clone(&terminal);
    let options = RunOptions {
        workers: args.workers,
        watch: args.watch,
        out: args.out.clone(),
        metrics: args.metrics,
        cluster: cluster_of(args)?,
        stuck_after: Some(Duration::from_secs(args.cluster.stuck_after)),
    };
    let stop = Stop::default();
    if args.cluster.supervised {
        let stop = Stop::clone(&stop);
        let ends = move || {
            // A job that does not watch yet has nothing to finish.
            if !end(&stop) {
                end_process("interrupted", EXIT_INTERRUPTED);
            }
        };
        obey_supervisor(ends)
            .map_err(|error| Refusal::Message(format!("cannot hear the supervisor: {error}")))?;
    }
    if console.surroundings().own_process {
        let talk = Arc::clone(&terminal);
        end_on_interrupt(&stop, move |text| talk.say(text))
            .map_err(|error| Refusal::Message(format!("cannot listen for interrupts: {error}")))?;
    }
    if let Some(plan) = options
        .cluster
        .clone()
        .filter(|plan| plan.place.process > 0)
    {
        terminal.end_progress();
        assist(&args.job, &options, &plan, &metrics, &listener, &stop)?;
        return Ok(Exit::Ok);
    }
    let ended = run(&args.job, &options, &metrics, &listener, &stop);
    terminal.end_progress();
    let summary = ended?;
    let text = match args.output {
        SummaryFormat::Table => summary.tables(style(console)),
        SummaryFormat::Json => shown_json(&summary.json()?).into_owned(),
    };
    console.result(&text)?;
    let cut_short = is_asked_to_end() && !args.watch;
    if cut_short {
        console.say("ended before everything was read; run the job again to go on\n");
    }
    Ok(if summary.has_findings() || cut_short {
        Exit::Findings
    } else {
        Exit::Ok
    })
}

/// The processes that the command line asks for.
fn cluster_of(args: &RunArgs) -> Result<Option<ClusterPlan>, RunError> {
    let ClusterArgs {
        processes,
        process,
        hostfile,
        secret_file,
        no_secret,
        tls,
        patience,
        stuck_after: _,
        supervised: _,
    } = &args.cluster;
    let Some(place) = Place::of(*processes, *process, hostfile.as_deref())? else {
        return Ok(None);
    };
    let secret = Secret::of(std::env::var_os(SECRET_VARIABLE), secret_file.as_deref())?;
    let patience = Duration::from_secs(*patience);
    let plan = ClusterPlan::of(place, patience, secret, *no_secret, tls.files()?)?;
    Ok(Some(plan))
}

fn check_job(args: &CheckArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let findings = check(&args.job);
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let about_money = findings.iter().filter(|f| f.is_about_money()).count();
    let warnings = about_money - errors;
    let advice = findings.len() - about_money;
    match args.output {
        CheckFormat::Json => {
            let text = json(&findings)?;
            console.result(&text)?;
        }
        CheckFormat::Text => {
            let text = render(&findings, console.colours_results());
            let shown = args.job.display().to_string();
            let shown = shown_lines(&shown);
            let verdict = match (errors, warnings, advice) {
                (0, 0, 0) => format!("{shown}: no findings\n"),
                (0, 0, advice) => format!("{shown}: {}\n", count(advice, "remark")),
                _ => format!(
                    "{shown}: {} and {}\n",
                    count(errors, "error"),
                    count(warnings, "warning")
                ),
            };
            console.result(&format!("{text}{verdict}"))?;
        }
    }
    Ok(match (errors, warnings) {
        (0, 0) => Exit::Ok,
        (0, _) => Exit::Findings,
        _ => Exit::Unusable,
    })
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn graph(args: &GraphArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    let drawing = Drawing::of(&load(&args.job, console)?);
    let text = match args.format {
        GraphFormat::Text => drawing.text(),
        GraphFormat::Dot => drawing.dot(),
    };
    console.result(&shown_lines(&redacted(&text)))?;
    Ok(Exit::Ok)
}

#[cfg(feature = "sql")]
fn query(args: &QueryArgs, console: &mut Console<'_>) -> Result<Exit, Refusal> {
    use args::QueryFormat;
    let answer = crate::query::ask(&args.target, &args.sql)?;
    match args.output {
        QueryFormat::Table => {
            let style = style(console);
            answer.write_table(style, console.results())?;
        }
        QueryFormat::Json => answer.write_json(console.results())?,
        QueryFormat::Csv => answer.write_csv(console.results())?,
    }
    Ok(Exit::Ok)
}

#[cfg(not(feature = "sql"))]
fn query(_: &QueryArgs, _: &mut Console<'_>) -> Result<Exit, Refusal> {
    Err(crate::query::QueryError::NotBuilt.into())
}

#[cfg(test)]
mod tests;
