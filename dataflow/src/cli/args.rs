//! What can be asked on the command line.

use crate::console::ColourChoice;
use crate::schema::FileKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Usage in, exact money out: prices usage records and keeps the bill exact while everything
/// changes.
#[derive(Debug, Parser)]
#[command(
    name = "millrace",
    version,
    arg_required_else_help = true,
    propagate_version = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// When to write in colour; NO_COLOR and CLICOLOR_FORCE are followed.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColourChoice,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job: read its usage, price it, write its outputs and print what it comes to.
    Run(RunArgs),
    /// Judge a job file and every file that it names, without running it.
    Check(CheckArgs),
    /// Print the dataflow of a job, without running it.
    Graph(GraphArgs),
    /// Ask SQL questions about what a job wrote.
    Query(QueryArgs),
    /// Print the JSON Schema of a kind of file, for editors.
    Schema(SchemaArgs),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The job file.
    pub job: PathBuf,
    /// Go on when everything is read: new files are read, saved catalogs, accounts, tables and rules
    /// are applied as they change. Ctrl-C ends the job in good order.
    #[arg(long)]
    pub watch: bool,
    /// Worker threads; as many as there are processors unless given.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Form of the summary.
    #[arg(long, value_enum, default_value_t)]
    pub output: SummaryFormat,
    /// Serve /metrics, /healthz and /readyz here: a port on loopback (0 for any that is free), or
    /// an address with a port.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub metrics: Option<SocketAddr>,
    /// Write outputs to this folder or URL instead of where the job says.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// Forms of a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SummaryFormat {
    /// For reading.
    #[default]
    Table,
    /// Amounts as exact decimal text.
    Json,
}

/// An address to listen on; a port alone is one on loopback.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    match port {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => text
            .replacen("localhost:", "127.0.0.1:", 1)
            .parse()
            .map_err(|_| "write 127.0.0.1:9090, or a port alone".to_owned()),
    }
}

/// Of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The job file.
    pub job: PathBuf,
    /// As text with the lines at fault, or as JSON.
    #[arg(long, value_enum, default_value_t)]
    pub output: CheckFormat,
}

/// Forms of findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// With the lines at fault.
    #[default]
    Text,
    /// A JSON array.
    Json,
}

/// Of `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The job file.
    pub job: PathBuf,
    /// As text, or as DOT for Graphviz.
    #[arg(long, visible_alias = "output", value_enum, default_value_t)]
    pub format: GraphFormat,
}

/// Forms of a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// Node by node.
    #[default]
    Text,
    /// For Graphviz.
    Dot,
}

/// Of `query`.
#[derive(Debug, Args)]
#[command(
    after_help = "Tables: monetised, suspense, aggregated, raw_status, ledger; their changes as \
    <table>_changes; raw records as raw_<platform>_<service type>_<record type>.\n\nExample: millrace \
    query examples/llm/job.yaml \"SELECT account, sum(amount) FROM aggregated GROUP BY account\""
)]
pub struct QueryArgs {
    /// The job file, the folder of its outputs, or s3://bucket/prefix.
    pub target: String,
    /// The question.
    pub sql: String,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t)]
    pub output: QueryFormat,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum QueryFormat {
    /// For reading.
    #[default]
    Table,
    /// An array of objects; decimals as text.
    Json,
    /// With a header line.
    Csv,
}

/// Of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// The kind of file.
    #[arg(value_enum, default_value_t)]
    pub kind: SchemaKind,
}

/// Kinds of files with a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    /// The job file.
    #[default]
    Job,
    /// A catalog.
    Catalog,
    /// Accounts and subscriptions.
    Accounts,
    /// A mediation rule.
    Mediation,
}

impl From<SchemaKind> for FileKind {
    fn from(kind: SchemaKind) -> Self {
        match kind {
            SchemaKind::Job => Self::Job,
            SchemaKind::Catalog => Self::Catalog,
            SchemaKind::Accounts => Self::Accounts,
            SchemaKind::Mediation => Self::Mediation,
        }
    }
}
