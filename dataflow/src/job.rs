//! A job: the job file, read and judged, with every choice made before anything runs.
//!
//! What a [`Job`] says can be relied on: names are unique, files exist, addresses and time zones
//! are real. What lies inside the files that it names is judged by [`crate::check`].

mod chosen;
pub mod file;
mod judge;
pub mod mediation;
mod places;
mod rules;
mod sources;

pub use chosen::Chosen;
pub use file::MessageTopics;
pub use rules::Rules;

use file::OutputForms;
use millrace_connectors::decode::{CsvLayout, Format, FormatEntry, MessageFormat, format_of};
use millrace_connectors::kafka::KafkaSettings;
use millrace_connectors::mediate::MediationRule;
use millrace_connectors::names::Names;
use millrace_connectors::reference::{ReferenceFiles, Section};
use millrace_connectors::stream::StreamId;
use millrace_connectors::times::TimeRules;
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::EventTime;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The kind of record that there is.
pub(crate) const RECORD_TYPE: &str = "postpaid";

/// Rows read for one epoch, unless the job says otherwise.
const EPOCH_ROWS_DEFAULT: usize = 16_384;
/// More would only cost memory: an epoch is held at once.
const EPOCH_ROWS_MAX: usize = 1 << 20;

/// Usage before this is not taken for real, unless the job says otherwise.
const EARLIEST_DEFAULT: &str = "2000-01-01";
/// Days that usage may be ahead of the present, unless the job says otherwise.
const AHEAD_DEFAULT: i64 = 31;
/// The same where the job names its present: a replay stands at a moment of the past, and its files go on.
const AHEAD_OF_CLOCK: i64 = 400;

/// Bytes of the name of a folder, on any system.
const FOLDER_BYTES_MAX: usize = 255;

/// How often durable state is committed, unless the job says otherwise.
const COMMIT_DEFAULT: Duration = Duration::from_secs(1);
/// How long what is late may wait for an adjustment.
const ADJUSTMENTS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
const ADJUST_DEFAULT: Duration = Duration::from_secs(3600);
const COMMITS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// A job that can be run as far as its own file tells.
#[derive(Clone, Debug)]
pub struct Job {
    /// The job file, as the user named it.
    pub path: PathBuf,
    /// What stands in it.
    pub text: Arc<str>,
    /// Where its relative paths begin.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// The tenant's time zone.
    pub zone: jiff::tz::TimeZone,
    /// The present, where it is not the system's.
    pub clock: Option<EventTime>,
    /// How times of usage are read, and which are taken for real.
    pub times: TimeRules,
    /// Where usage comes from.
    pub sources: Vec<SourcePlan>,
    /// Reference tables for mediation.
    pub lookups: Vec<LookupPlan>,
    /// Catalog files: paths, or URLs as they are written.
    pub catalogs: Vec<PathBuf>,
    /// Accounts files, likewise.
    pub accounts: Vec<PathBuf>,
    /// Topics of catalog and accounts.
    pub reference_topics: Vec<ReferenceTopics>,
    /// What of the job file was found wrong, so that what follows from it is not told.
    pub unread: Unread,
    /// What separates billing lines, as written.
    pub aggregate_by: Vec<String>,
    /// Where each of these stands in the job file.
    pub aggregate_places: Vec<(u64, u64)>,
    /// Whether raw records are kept.
    pub keep_raw: bool,
    /// Where results go: a path or a URL.
    pub outputs: OutputPlan,
    /// Where closed bill units are kept, if they are.
    pub archive: Option<ArchivePlan>,
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    /// Rows read for one epoch, about.
    pub epoch_rows: usize,
    /// Durable state, if it is kept.
    pub durability: Option<DurabilityPlan>,
}

/// Durable state.
#[derive(Clone, Debug)]
pub struct DurabilityPlan {
    /// Where: a path or a URL, relative to the job's folder.
    pub folder: String,
    /// How often it is committed.
    pub interval: Duration,
}

/// Parts of a job file that were found wrong: what is missing for that is not missed again.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    /// A source.
    pub sources: bool,
    /// A file of the catalog or of accounts, or topics of them.
    pub reference: bool,
    /// Lookup tables, and other keys.
    pub lookups: BTreeSet<String>,
}

/// A source of usage.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// Its name, unique in the job.
    pub name: String,
    /// The name that it had before.
    pub was: Option<String>,
    /// The stream that its records are of.
    pub stream: StreamId,
    /// Topics, where it is no file.
    pub kafka: Option<MessageSource>,
    /// A file, a folder or a URL, relative to the job's folder.
    pub path: String,
    /// Where `path` stands in the job file.
    pub place: (u64, u64),
    /// Which of its files are read.
    pub chosen: Chosen,
    /// The folder that holds `input`, `processed` and `failed`, where files move between them.
    pub moves_in: Option<String>,
    /// The format, when told.
    pub format: Option<FormatEntry>,
    /// What varies between CSV files.
    pub csv: CsvLayout,
    /// Whose the identities of its records are, where the job says so.
    pub identity: Option<file::IdentityScope>,
    /// Whether its records correct what was reported.
    pub corrections: bool,
    /// Whether the rows of a file that changes correct those that were read.
    pub amends: bool,
    /// Whether rows that such a file has no more are taken out.
    pub voids_missing: bool,
    /// Where its mediation rule is.
    pub mediation: RuleSource,
    /// Whether all of a rule in the job file could be read; otherwise nothing more is said of it.
    pub is_whole: bool,
    /// Whether all that is said of how its files are laid out could be read; otherwise nothing is said of them.
    pub is_laid_out: bool,
}

impl SourcePlan {
    /// The name that state and identities know it by.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.was.as_deref().unwrap_or(&self.name)
    }

    /// The format of one of its files; `None` when neither the job nor the name tells.
    #[must_use]
    pub fn format_of(&self, file: &str) -> Option<Format> {
        format_of(file, self.format.as_ref(), &self.csv)
    }
}

/// Topics to read.
#[derive(Clone, Debug)]
pub struct MessageSource {
    /// How to reach Kafka.
    pub settings: KafkaSettings,
    /// The topics.
    pub topics: Vec<String>,
    /// How messages are laid out.
    pub format: MessageFormat,
    /// Whether a job that has committed nothing begins behind the last message.
    pub from_latest: bool,
    /// Whether messages that were removed before they were read are told and passed over.
    pub skips_removed: bool,
}

/// Topics of reference data.
#[derive(Clone, Debug)]
pub struct ReferenceTopics {
    /// What their messages are.
    pub section: Section,
    /// How to reach Kafka.
    pub settings: KafkaSettings,
    /// The topics.
    pub topics: Vec<String>,
    /// A dotted path to the version of a message, if it has one.
    pub version: Option<String>,
}

/// Where a mediation rule is.
#[derive(Clone, Debug)]
pub enum RuleSource {
    /// In a file of its own: a path, or a URL as it is written.
    File(PathBuf),
    /// In the job file.
    Inline(Box<MediationRule>),
}

/// A reference table for mediation.
#[derive(Clone, Debug)]
pub struct LookupPlan {
    /// Its name in rules.
    pub name: String,
    /// The file or URL, relative to the job's folder.
    pub file: String,
    /// The column that rows are found by.
    pub key: String,
    /// The format.
    pub format: Format,
    /// Where `file` stands in the job file.
    pub place: (u64, u64),
}

/// Where closed bill units are kept.
#[derive(Clone, Debug)]
pub struct ArchivePlan {
    /// A path or a URL, relative to the job's folder.
    pub folder: String,
    /// How long after its end a bill unit is closed.
    pub after: jiff::Span,
    /// How long what is late waits for an adjustment while the job watches.
    pub adjust: Duration,
    /// Where `folder` stands in the job file.
    pub place: (u64, u64),
}

/// Where results go, and in which forms.
#[derive(Clone, Debug)]
pub struct OutputPlan {
    /// A path or a URL, relative to the job's folder.
    pub folder: String,
    /// Charges.
    pub monetised: OutputForms,
    /// What charges in order did to each resource.
    pub impacts: OutputForms,
    /// Where each bucket stands.
    pub balances: OutputForms,
    /// Charges of subscriptions that need no usage.
    pub activity: OutputForms,
    /// Thresholds that buckets have crossed.
    pub notices: OutputForms,
    /// Records that wait or were refused.
    pub suspense: OutputForms,
    /// Billing lines.
    pub aggregated: OutputForms,
    /// What became of each raw record.
    pub raw_status: OutputForms,
    /// The files read.
    pub ledger: OutputForms,
    /// Messages.
    pub messages: Option<MessagePlan>,
    /// Whether some of the records are messages of topics.
    pub reads_topics: bool,
}

/// Where messages are published.
#[derive(Clone, Debug)]
pub struct MessagePlan {
    /// How to reach Kafka.
    pub settings: KafkaSettings,
    /// The topics of outputs.
    pub topics: MessageTopics,
    /// The topic of progress.
    pub progress: String,
}

impl Job {
    /// The files of the job's reference data; texts are entered in `names`.
    #[must_use]
    pub fn reference_files(&self, names: Arc<Names>) -> ReferenceFiles {
        let (catalogs, accounts) = (self.catalogs.clone(), self.accounts.clone());
        let files = ReferenceFiles::new(catalogs, accounts, self.zone.clone(), names);
        match self.reference_topics.is_empty() {
            true => files,
            false => files.with_messages(),
        }
    }

    /// What separates billing lines, for the aggregate stage; attribute names are entered in
    /// `names`.
    #[must_use]
    pub fn dimensions(&self, names: &Names) -> Vec<Dimension> {
        let dimension = |name: &String| dimension(name, names);
        self.aggregate_by.iter().map(dimension).collect()
    }
}

/// What separates billing lines besides attributes, by the names that a job file gives them.
pub(crate) const DIMENSIONS: [&str; 4] = ["service", "service_type", "subscription", "price"];

/// What separates billing lines by the name that a job file gives it; names of attributes are
/// entered in `names`.
pub(crate) fn dimension(name: &str, names: &Names) -> Dimension {
    match name {
        "service" => Dimension::Service,
        "service_type" => Dimension::ServiceType,
        "subscription" => Dimension::Subscription,
        "price" => Dimension::Price,
        attribute => Dimension::Attribute(names.enter(attribute)),
    }
}

#[cfg(test)]
mod tests;
