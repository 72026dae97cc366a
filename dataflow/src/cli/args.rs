//! What can be asked on the command line.

use crate::cluster::{ClusterError, SECRET_FILE_VARIABLE, TlsFiles};
use crate::console::ColourChoice;
use crate::schema::FileKind;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use millrace_connectors::decode::FormatEntry;
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
    /// Say nothing on the way: no progress, no sentences about files; warnings and errors are told, and
    /// the result is printed.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// What a command ends with, in the help of each.
pub(super) const EXITS: &str = "\
Exit codes:
  0    all is right
  1    it ran, and something was told that somebody should look at: records that are suspended or refused,
       files not taken whole, findings, differences
  2    refused: the command line, the configuration, a file or an address
  3    a process of several has lost another, or nothing moves: start all again
  101  a defect of millrace: what was written must not be used
  130  interrupted";

/// A subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a small job that runs, from a sample of the usage that it is to bill.
    Init(InitArgs),
    /// Run a job: read its usage, price it, write its outputs and print what it comes to.
    Run(RunArgs),
    /// Run a job as several processes of this machine, and start them again when one fails.
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Price usage from a file or standard input against a catalog, without running a job.
    Quote(QuoteArgs),
    /// Tell the life of one record: where it went, what it met, and what it costs.
    Explain(ExplainArgs),
    /// Tell where the balances of a job's accounts stand, now or at an instant.
    Balance(BalanceArgs),
    /// Tell what accounts are billed, line by line, by bill unit.
    Bill(BillArgs),
    /// Rate archived usage again and tell what differs from what was billed.
    Replay(ReplayArgs),
    /// Tell what a job with durable state has committed, and how far it has read its sources.
    Status(StatusArgs),
    /// Let a job with durable state read nothing more of a source.
    Pause(SourceArgs),
    /// Let it read a paused source on from where it was.
    Resume(SourceArgs),
    /// Let a job with durable state take suspended records out for good: counted, and never charged.
    Discard(SelectionArgs),
    /// Let it put discarded records back: they are rated, or suspended anew.
    Retry(SelectionArgs),
    /// Judge a job file and every file that it names, without running it.
    Check(CheckArgs),
    /// Print the dataflow of a job, without running it.
    Graph(GraphArgs),
    /// Ask SQL questions about what a job wrote; in builds with `--features sql`.
    #[cfg_attr(not(feature = "sql"), command(hide = true))]
    Query(QueryArgs),
    /// Print the JSON Schema of a kind of file, for editors.
    Schema(SchemaArgs),
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Of `init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes job.yaml, mediation.yaml, catalog.yaml and accounts.yaml, says what it guessed of \
    the sample's fields, and tries the job once. Nothing is written over. Prices are placeholders of 1 \
    until you replace them.\n\nExample: millrace init calls --sample calls-of-march.csv --currency EUR"
)]
pub struct InitArgs {
    /// Where to write the job; made if need be.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The file to bill: CSV, JSON lines, JSON or Parquet; of text also as .gz or .zst.
    #[arg(long, value_name = "FILE")]
    pub sample: PathBuf,
    /// The currency of prices and accounts.
    #[arg(long, value_name = "CODE", default_value = "USD")]
    pub currency: String,
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
    /// With which other processes.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Which of several processes a run is.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Run the job as this many processes; each is started with the same job, --processes, --workers
    /// and --hostfile, and a --process of its own. Process 0 reads, publishes and commits.
    #[arg(long, value_name = "N")]
    pub processes: Option<usize>,
    /// Which of them this is, from 0.
    #[arg(long, value_name = "I")]
    pub process: Option<usize>,
    /// Where they are: one host:port a line, process 0 first. Ports 2101 and on of this machine unless
    /// given.
    #[arg(long, value_name = "FILE")]
    pub hostfile: Option<PathBuf>,
    /// A file with a secret that all processes have, and nobody else; or the secret itself is in
    /// MILLRACE_CLUSTER_SECRET.
    #[arg(long, value_name = "FILE", env = SECRET_FILE_VARIABLE)]
    pub secret_file: Option<PathBuf>,
    /// Processes on this machine alone go without a secret: whoever is on it can take the place of one.
    #[arg(long)]
    pub no_secret: bool,
    /// How they encrypt what they say.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// How long to wait for the other processes at the start.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub patience: u64,
    /// End when epochs are in flight and none completes for this long, to be started again.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub stuck_after: u64,
    /// Started by a supervisor, which speaks on standard input.
    #[arg(long, hide = true)]
    pub supervised: bool,
}

/// With which certificates processes speak TLS.
#[derive(Debug, Args)]
pub struct TlsArgs {
    /// Processes speak TLS with each other: the certificate of this one in PEM, with those between it and
    /// the CA, for the host by which the hostfile calls it.
    #[arg(long, value_name = "FILE", env = "MILLRACE_CLUSTER_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "MILLRACE_CLUSTER_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// The CA that has signed the certificates of all processes, in PEM.
    #[arg(long, value_name = "FILE", env = "MILLRACE_CLUSTER_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
}

impl TlsArgs {
    /// The files, if there are any.
    ///
    /// # Errors
    /// When some are named and others are not.
    pub fn files(&self) -> Result<Option<TlsFiles>, ClusterError> {
        let files = [&self.tls_cert, &self.tls_key, &self.tls_ca];
        let [cert, key, ca] = files.map(Clone::clone);
        TlsFiles::of(cert, key, ca)
    }
}

/// Of `cluster`.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Run a job as several processes: started together, ended together when one fails, and started
    /// again after a wait that doubles. Ctrl-C ends a watching job in good order.
    Run(ClusterRunArgs),
}

/// Of `cluster run`.
#[derive(Debug, Args)]
pub struct ClusterRunArgs {
    /// The job file.
    pub job: PathBuf,
    /// How many processes.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub processes: usize,
    /// Worker threads of each; as many as there are processors unless given.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Go on when everything is read, as `run` does.
    #[arg(long)]
    pub watch: bool,
    /// Form of the summary.
    #[arg(long, value_enum, default_value_t)]
    pub output: SummaryFormat,
    /// Serve the metrics of process 0 here, those of process I on the port I further.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub metrics: Option<SocketAddr>,
    /// Write outputs to this folder or URL instead of where the job says.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// How often in a row the processes may fail before it gives up; a run of a minute is no failure in
    /// a row.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub attempts: u32,
    /// End and start again when epochs are in flight and none completes for this long.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub stuck_after: u64,
    /// How they encrypt what they say: certificates for 127.0.0.1.
    #[command(flatten)]
    pub tls: TlsArgs,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a job is at least one process".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Of `balance`.
#[derive(Debug, Args)]
#[command(
    after_help = "The job's usage is read and priced as by `run`; nothing is written. As of an \
    instant, usage before it counts, and what begins with it; only the buckets of that instant are \
    shown.\n\nAs known at an epoch, nothing is run: what the last run wrote is added up, change by \
    change, through that epoch. It needs the changes of the outputs `monetised`, `impacts` and \
    `activity`, which are written unless the job says otherwise; each of their rows has its epoch. \
    Who is in which balance group is read from the accounts as they are now.\n\nExamples:\n  \
    millrace balance examples/subscriptions/job.yaml agency --at 2026-09-08\n  \
    millrace balance examples/subscriptions/job.yaml agency --epoch 2"
)]
pub struct BalanceArgs {
    /// The job file.
    pub job: PathBuf,
    /// The account; all unless given.
    pub account: Option<String>,
    /// As of this instant: a date, which is its midnight in the job's time zone, or a time like
    /// 2026-01-31T10:00:00Z. After everything that is known unless given.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// As known at the end of this epoch of the job's last run.
    #[arg(long, value_name = "N")]
    pub epoch: Option<u64>,
    /// Worker threads; as many as there are processors unless given.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Form of the balances.
    #[arg(long, value_enum, default_value_t)]
    pub output: SummaryFormat,
}

/// Of `bill`.
#[derive(Debug, Args)]
#[command(
    after_help = "A job with durable state is asked for what it has committed; of any other the usage \
    is read and priced as by `run`. Nothing is written. Each bill is rounded once, to the decimals of its \
    currency, and the rounding is named: lines, activity and rounding add up to the total.\n\nExamples:\n  \
    millrace bill examples/llm/job.yaml search --period 2026-03\n  \
    millrace bill examples/subscriptions/job.yaml --output csv > bills.csv"
)]
pub struct BillArgs {
    /// The job file.
    pub job: PathBuf,
    /// The account; all unless given.
    pub account: Option<String>,
    /// The bill units that begin in this month (2026-03) or year (2026), or that hold this day
    /// (2026-03-15), in the job's time zone; all unless given.
    #[arg(long, value_name = "PERIOD")]
    pub period: Option<String>,
    /// Worker threads; as many as there are processors unless given.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// For reading, or as CSV or JSON, both with all digits.
    #[arg(long, value_enum, default_value_t)]
    pub output: BillFormat,
}

/// Forms of bills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BillFormat {
    /// For reading.
    #[default]
    Text,
    /// A row a line, an activity or a rounding.
    Csv,
    /// Amounts as exact decimal text.
    Json,
}

/// Of `replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Closed bill units are rated again, each whole, by the catalog and accounts that the \
    archive keeps of their time, or by those given. Ends with 0 when nothing differs, with 1 when \
    something does.\n\nExample: millrace replay out/archive --catalog next-year.yaml --accounts acme,initech"
)]
pub struct ReplayArgs {
    /// The archive: the folder that the job names as archive.folder, or s3://bucket/prefix.
    pub archive: String,
    /// A catalog file in the place of the archived catalog; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub catalog: Vec<PathBuf>,
    /// An accounts file in the place of the archived accounts; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub accounts_file: Vec<PathBuf>,
    /// Only bill units that end after this date or instant.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only bill units that begin before this date or instant.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only these accounts; may be given several times.
    #[arg(
        long,
        visible_alias = "account",
        value_name = "ID,…",
        value_delimiter = ','
    )]
    pub accounts: Vec<String>,
    /// Worker threads; as many as there are processors unless given.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Form of the differences.
    #[arg(long, value_enum, default_value_t)]
    pub output: SummaryFormat,
}

/// Of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The job file.
    pub job: PathBuf,
    /// Form of the status.
    #[arg(long, value_enum, default_value_t)]
    pub output: SummaryFormat,
}

/// Of `pause` and `resume`.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// The job file.
    pub job: PathBuf,
    /// The source, as the job names it.
    pub source: String,
}

/// Of `discard` and `retry`.
#[derive(Debug, Args)]
#[command(
    after_help = "Records are named one by one, or by why they are suspended, by their file, or by \
    both. Which records are meant is settled once, when the job applies the command: what is suspended \
    later is not. A discarded record stays so when its cause is corrected, until it is put back; one \
    that is suspended needs no `retry`, it is rated by itself once its cause is gone.\n\nExamples:\n  \
    millrace discard job.yaml --record usage.csv:17 usage.csv:18\n  \
    millrace discard job.yaml --reason SERVICE_UNKNOWN --file usage.csv\n  \
    millrace retry job.yaml --reason SERVICE_UNKNOWN"
)]
#[group(skip)]
pub struct SelectionArgs {
    /// The job file.
    pub job: PathBuf,
    /// Records: <file>:<line>, or <file>#<row> as in the outputs.
    #[arg(
        long,
        value_name = "FILE:ROW",
        num_args = 1..,
        conflicts_with_all = ["reason", "file"],
        required_unless_present_any = ["reason", "file"]
    )]
    pub record: Vec<String>,
    /// All that are, or were, suspended for this reason.
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// All of this file or partition, by its name or number.
    #[arg(long, value_name = "FILE")]
    pub file: Option<String>,
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

/// Of `quote`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --job, each row says itself what was used: columns `item` and \
    `quantity`, if need be `time`, `account`, `price_list` and `service_type`; every other column is \
    an attribute that prices may depend on.\n\nExample: echo '{\"item\": \"output_tokens\", \
    \"quantity\": 1200, \"model\": \"gpt-4o\"}' | millrace quote --catalog catalog.yaml"
)]
pub struct QuoteArgs {
    /// The usage: a file, or - for standard input.
    #[arg(default_value = "-")]
    pub usage: String,
    /// A catalog file; may be given several times.
    #[arg(long, value_name = "FILE", required_unless_present = "job")]
    pub catalog: Vec<PathBuf>,
    /// A job: its catalog prices the usage, its mediation rule reads it.
    #[arg(long, value_name = "FILE")]
    pub job: Option<PathBuf>,
    /// Which of the job's sources the usage is like.
    #[arg(long, value_name = "NAME", requires = "job")]
    pub source: Option<String>,
    /// The price list of rows that name none; `standard` unless given.
    #[arg(long, value_name = "NAME")]
    pub price_list: Option<String>,
    /// The account of rows that name none, for its own prices.
    #[arg(long, value_name = "ID")]
    pub account: Option<String>,
    /// The time of rows that have none, like 2026-01-31T10:00:00Z; now unless given.
    #[arg(long, value_name = "TIME")]
    pub at: Option<jiff::Timestamp>,
    /// The format of the usage; as its name or its first character suggests unless given.
    #[arg(long, value_name = "FORMAT", value_parser = format_name())]
    pub format: Option<FormatEntry>,
    /// Form of the quote.
    #[arg(long, value_enum, default_value_t)]
    pub output: QueryFormat,
}

/// Formats by the names that a job file uses.
fn format_name() -> impl TypedValueParser<Value = FormatEntry> {
    PossibleValuesParser::new(FormatEntry::names())
        .map(|name| FormatEntry::named(&name).expect("it is one of the names that say enough"))
}

/// Of `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "The job's usage is read and priced as by `run`; nothing is written.\n\nExample: \
    millrace explain examples/llm/job.yaml requests.csv.gz:17"
)]
pub struct ExplainArgs {
    /// The job file.
    pub job: PathBuf,
    /// The record: <file>:<line>, lines of the file from 1, or <file>#<row> as in the outputs, rows from 0.
    pub record: String,
    /// List every price row that lost, not only the nearest.
    #[arg(long)]
    pub all: bool,
    /// Worker threads; as many as there are processors unless given.
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// For reading, or as JSON.
    #[arg(long, value_enum, default_value_t)]
    pub output: ExplainFormat,
}

/// Forms of an explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For reading.
    #[default]
    Text,
    /// Amounts as exact decimal text.
    Json,
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
    after_help = "Tables: monetised, impacts, buckets (changes only), balances, activity, notices, suspense, aggregated, \
    raw_status, ledger; their changes as <table>_changes; raw records as raw_<platform>_<service type>_<record type>.\n\nExample: millrace \
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
