//! A job: the job file, read and judged, with every choice made before anything runs.
//!
//! What a [`Job`] says can be relied on: names are unique, files exist, addresses and time zones
//! are real. What lies inside the files that it names is judged by [`crate::check`].

mod chosen;
pub mod file;
pub mod mediation;
mod places;
mod rules;

pub use chosen::Chosen;
pub use file::MessageTopics;
pub use rules::Rules;

use file::{
    ArchiveEntry, DurabilityEntry, JobFile, KafkaOutputEntry, KafkaReferenceEntry,
    KafkaSourceEntry, LookupEntry, OutputForms, ReferenceEntry, SourceEntry, TimeEntry,
};
use jiff::ToSpan;
use mediation::MediationEntry;
use millrace_connectors::decode::{
    CsvLayout, Format, FormatEntry, MessageFormat, csv_misplaced, format_of,
};
use millrace_connectors::diagnostic::{Diagnostic, did_you_mean};
use millrace_connectors::kafka::KafkaSettings;
use millrace_connectors::mediate::MediationRule;
use millrace_connectors::names::Names;
use millrace_connectors::reference::location::{located, read_local};
use millrace_connectors::reference::yaml::{Refused, place_of, read};
use millrace_connectors::reference::{ReferenceFiles, Section, moment};
use millrace_connectors::store::Store;
use millrace_connectors::stream::StreamId;
use millrace_connectors::times::{TimeRange, TimeReading, TimeRules};
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::EventTime;
use places::Overlap;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
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
    /// Reads and judges a job file.
    ///
    /// # Errors
    /// Everything that keeps the job from running, at once, and warnings with it.
    pub fn load(path: &Path) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (job, findings) = Self::judge(path);
        match job {
            Some(job) if !findings.iter().any(Diagnostic::is_error) => Ok((job, findings)),
            _ => Err(findings),
        }
    }

    /// As much of the job as can be told, with everything found wrong: for those who go on looking.
    #[must_use]
    pub fn judge(path: &Path) -> (Option<Self>, Vec<Diagnostic>) {
        let shown = path.display().to_string();
        match read_local(path) {
            Ok(text) => Self::from_text(path, &text),
            Err(error) => {
                let message = format!("cannot read the job file: {error}");
                (None, vec![Diagnostic::error(&shown, (0, 0), message)])
            }
        }
    }

    /// The job that `text`, the content of `path`, describes.
    #[must_use]
    pub fn from_text(path: &Path, text: &str) -> (Option<Self>, Vec<Diagnostic>) {
        let shown = path.display().to_string();
        let read = read::<JobFile>(&shown, text);
        let Some(written) = read.value else {
            return (None, read.findings);
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut judge = Judge {
            file: shown,
            folder,
            durable: written.durability.is_some() || read.refused.has_in_file("durability"),
            refused: read.refused,
            findings: read.findings,
        };
        let job = judge.job((path, text), written);
        judge.findings.sort();
        (Some(job), judge.findings)
    }

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

/// Turns what is written into what is meant, and notes what cannot be.
struct Judge {
    file: String,
    folder: PathBuf,
    durable: bool,
    /// What the file lacks for having been found wrong: it is not missed again.
    refused: Refused,
    findings: Vec<Diagnostic>,
}

impl Judge {
    fn job(&mut self, (path, text): (&Path, &str), written: JobFile) -> Job {
        if written.sources.is_empty() && !self.refused.has_in_file("sources") {
            self.error(
                (1, 1),
                "the job has no source",
                "name at least one under `sources`",
            );
        }
        self.unique_sources(&written.sources);
        let zone = self.zone(&written.time_zone);
        let clock = written.clock.as_ref();
        let clock = clock.and_then(|clock| self.clock(clock, &zone));
        let times = self.times(&written.time, clock, &zone);
        let sources: Vec<SourcePlan> = written
            .sources
            .iter()
            .map(|source| self.source(source))
            .collect();
        let lookups = written
            .lookups
            .iter()
            .filter_map(|(name, lookup)| self.lookup(name, lookup))
            .collect();
        let (catalogs, mut reference_topics) = self.reference(&written.catalog, Section::Catalog);
        let (accounts, more) = self.reference(&written.accounts, Section::Accounts);
        reference_topics.extend(more);
        let (aggregate_by, aggregate_places) = self.dimensions(&written.billing.aggregate_by);
        let outputs = self.outputs(&written);
        let archive = written.archive.as_ref();
        let archive = archive.map(|archive| self.archive(archive));
        let metrics = written
            .metrics
            .as_ref()
            .and_then(|metrics| self.address(&metrics.listen));
        let epoch_rows = self.epoch_rows(written.epoch.rows.as_ref());
        let durability = written.durability.as_ref();
        let durability = durability.map(|durability| self.durability(durability));
        self.apart(&sources, &outputs, durability.as_ref(), archive.as_ref());
        Job {
            path: path.to_owned(),
            text: Arc::from(text),
            folder: self.folder.clone(),
            name: written.name,
            zone,
            clock,
            times,
            sources,
            lookups,
            catalogs,
            accounts,
            reference_topics,
            unread: self.unread(&written.lookups),
            aggregate_by,
            aggregate_places,
            keep_raw: written.raw.keep,
            outputs,
            archive,
            metrics,
            epoch_rows,
            durability,
        }
    }

    /// What is written must not be read as usage.
    fn apart(
        &mut self,
        sources: &[SourcePlan],
        outputs: &OutputPlan,
        durability: Option<&DurabilityPlan>,
        archive: Option<&ArchivePlan>,
    ) {
        for overlap in places::overlaps(&self.folder, sources, outputs, durability, archive) {
            let Overlap {
                key,
                written,
                source,
                place,
                below,
            } = overlap;
            let message = format!(
                "the source \"{source}\" reads what the job writes to \"{written}\", as `{key}` says"
            );
            let hint = match below.as_str() {
                "" => "give what is written a folder of its own".to_owned(),
                below => format!(
                    "give the source a folder of its own, or leave what is written out with `exclude: \
                     [\"{below}/**\"]`"
                ),
            };
            self.error(place, message, hint);
        }
    }

    fn error(&mut self, place: (u64, u64), message: impl Into<String>, hint: impl Into<String>) {
        self.findings
            .push(Diagnostic::error(&self.file, place, message).with_hint(hint));
    }

    fn unique_sources(&mut self, sources: &[Spanned<SourceEntry>]) {
        let mut first: BTreeMap<&str, u64> = BTreeMap::new();
        for source in sources {
            let name = &source.value.name;
            let place = place_of(name);
            if name.value.trim().is_empty() {
                self.error(place, "the source's name is empty", "");
            }
            if let Some(line) = first.get(name.value.as_str()) {
                let message = format!(
                    "the source \"{}\" is given twice; first in line {line}",
                    name.value
                );
                self.error(place, message, "give each source its own name");
            } else {
                first.insert(&name.value, place.0);
            }
        }
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for source in sources {
            let SourceEntry { name, was, .. } = &source.value;
            let origin = was.as_ref().unwrap_or(name);
            let Some(other) = known.insert(&origin.value, &name.value) else {
                continue;
            };
            if other != name.value {
                let message = format!(
                    "the sources \"{other}\" and \"{}\" are both known as \"{}\"",
                    name.value, origin.value
                );
                let hint = "one source is the one that had the name; leave `was` out at the other, or give a \
                            new source a name that none has had";
                self.error(place_of(origin), message, hint);
            }
        }
    }

    fn zone(&mut self, written: &Spanned<String>) -> jiff::tz::TimeZone {
        TimeReading::zone_named(&written.value).unwrap_or_else(|(message, hint)| {
            self.error(place_of(written), message, hint);
            jiff::tz::TimeZone::UTC
        })
    }

    fn times(
        &mut self,
        written: &TimeEntry,
        clock: Option<EventTime>,
        zone: &jiff::tz::TimeZone,
    ) -> TimeRules {
        let earliest = written.earliest.as_ref();
        let earliest = earliest.and_then(|earliest| {
            let found = self.clock(earliest, zone)?;
            // Instants of records are read as 64 bits of nanoseconds.
            if found.0.checked_mul(1_000).is_none() {
                let message = format!("\"{}\" is no time of usage", earliest.value);
                let hint =
                    "write a day from 1678-01-01 to 2261-12-31: no time before or behind is read";
                self.error(place_of(earliest), message, hint);
            }
            Some(found)
        });
        let ahead = match &written.ahead {
            None if clock.is_some() => Some(AHEAD_OF_CLOCK.days()),
            None => Some(AHEAD_DEFAULT.days()),
            Some(ahead) => {
                let span = ahead.value.parse::<jiff::Span>().ok();
                let span = span.filter(|span| !span.is_negative());
                if span.is_none() {
                    let message = format!("\"{}\" is no length of time", ahead.value);
                    let hint = match ahead.value.parse::<u16>() {
                        Ok(days) => format!("write its unit; {days} days are `{days}d`"),
                        Err(_) => {
                            "write days, 2d or P2D, or any span that is not below zero".to_owned()
                        }
                    };
                    self.error(place_of(ahead), message, hint);
                }
                span
            }
        };
        let present = clock.and_then(EventTime::timestamp);
        let present = present
            .unwrap_or_else(jiff::Timestamp::now)
            .to_zoned(zone.clone());
        let latest = ahead.and_then(|ahead| present.checked_add(ahead).ok());
        TimeRules {
            reading: TimeReading::of_tenant(zone.clone()),
            range: TimeRange {
                earliest: earliest
                    .or_else(|| moment(EARLIEST_DEFAULT, zone))
                    .unwrap_or(EventTime::EARLIEST),
                latest: latest.map_or(EventTime::LATEST, |latest| latest.timestamp().into()),
            },
        }
    }

    fn clock(&mut self, written: &Spanned<String>, zone: &jiff::tz::TimeZone) -> Option<EventTime> {
        let text = &written.value;
        let found = moment(text, zone);
        if found.is_none() {
            let message = format!("\"{text}\" is no instant");
            let hint = "write a date, 2026-03-31, or an instant, 2026-03-31T12:00:00Z";
            self.error(place_of(written), message, hint);
        }
        found
    }

    fn source(&mut self, entry: &Spanned<SourceEntry>) -> SourcePlan {
        let (written, at) = (&entry.value, place_of(entry));
        let kafka = written.kafka.as_ref().map(|kafka| self.topics(kafka));
        if kafka.is_some() {
            self.no_files(written);
        }
        let lost = ["path", "kafka"]
            .iter()
            .any(|key| self.refused.has(at, key));
        if written.path.is_some() == kafka.is_some() && !lost {
            let message = format!(
                "the source \"{}\" reads from no one place",
                written.name.value
            );
            let hint = "give it either `path` or `kafka`";
            self.error(place_of(&written.name), message, hint);
        }
        let (path, place) = match &written.path {
            Some(path) => (path.value.clone(), place_of(path)),
            None => (String::new(), place_of(&written.name)),
        };
        let path = &path;
        let format = written.format.as_ref().map(|format| &format.value);
        let csv = written.csv.as_ref();
        if let Some(csv) = csv.filter(|_| kafka.is_none()) {
            let suggested = format_of(path, format, &csv.value);
            self.csv_alone(suggested.as_ref(), format, place_of(csv));
        }
        let csv = csv.map(|csv| csv.value.clone()).unwrap_or_default();
        if written.path.is_some()
            && let Some(local) = self.existing(path, place)
            && local.is_file()
            && format_of(path, format, &csv).is_none()
            && !self.refused.has_anywhere("format")
        {
            let message = format!("the format of \"{path}\" cannot be told from its name");
            self.error(place, message, FormatEntry::advice());
        }
        let stream = self.stream(written, at);
        let mediation = match &written.mediation.value {
            MediationEntry::File(file) => {
                let path = located(&self.folder, file);
                self.existing(file, place_of(&written.mediation));
                RuleSource::File(path)
            }
            MediationEntry::Inline(rule) => RuleSource::Inline(rule.clone()),
        };
        SourcePlan {
            name: written.name.value.clone(),
            was: written.was.as_ref().map(|was| was.value.clone()),
            stream,
            kafka,
            path: path.clone(),
            place,
            chosen: Chosen {
                include: self.patterns(&written.include),
                exclude: self.patterns(&written.exclude),
            },
            moves_in: self.moves_in(written, path, place),
            format: format.cloned(),
            csv,
            identity: written.identity.as_ref().map(|identity| identity.value),
            corrections: written.corrections,
            amends: self.amends(written),
            voids_missing: self.voids_missing(written, at),
            mediation,
            is_whole: !self.refused.is_within(place_of(&written.mediation)),
            is_laid_out: ["format", "csv"]
                .iter()
                .all(|key| !self.refused.has(at, key))
                && self.is_read(written.format.as_ref().map(place_of))
                && self.is_read(written.csv.as_ref().map(place_of)),
        }
    }

    fn patterns(&mut self, written: &[Spanned<String>]) -> Vec<glob::Pattern> {
        let mut patterns = Vec::new();
        for text in written {
            match glob::Pattern::new(&text.value) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => {
                    let message = format!("\"{}\" is no pattern: {}", text.value, error.msg);
                    let hint = "write names like `*.csv`, `usage-*.json.gz` or `2026/**/*.csv`";
                    self.error(place_of(text), message, hint);
                }
            }
        }
        patterns
    }

    /// Whether all of what stands here could be read, if anything does.
    fn is_read(&self, place: Option<(u64, u64)>) -> bool {
        !place.is_some_and(|place| self.refused.is_within(place))
    }

    /// What is said of CSV files, and the files are told to be others or are laid out by `format`.
    fn csv_alone(
        &mut self,
        format: Option<&Format>,
        told: Option<&FormatEntry>,
        place: (u64, u64),
    ) {
        if let Some((message, hint)) = csv_misplaced(format, told) {
            self.error(place, message, hint);
        }
    }

    fn amends(&mut self, written: &SourceEntry) -> bool {
        let amends = written.on_change.as_ref();
        let amends = amends.filter(|on_change| on_change.value == file::OnChange::Amend);
        if let (Some(amends), true) = (amends, written.kafka.is_some()) {
            let message = "messages do not change; `on_change` is for files";
            self.error(place_of(amends), message, "leave it out");
        }
        amends.is_some()
    }

    fn voids_missing(&mut self, written: &SourceEntry, at: (u64, u64)) -> bool {
        let missing = written.missing.as_ref();
        let on_change = written.on_change.as_ref().map(|on_change| on_change.value);
        let refuses =
            on_change != Some(file::OnChange::Amend) && !self.refused.has(at, "on_change");
        if let Some(missing) = missing.filter(|_| refuses) {
            let message = "`missing` is about files that change, which this source refuses";
            let hint = "write `on_change: amend` beside it, or leave it out";
            self.error(place_of(missing), message, hint);
        }
        missing.is_some_and(|missing| missing.value == file::Missing::Void)
    }

    fn moves_in(&mut self, written: &SourceEntry, path: &str, place: (u64, u64)) -> Option<String> {
        let after = written.after.as_ref().filter(|_| written.kafka.is_none());
        let moves = after.filter(|after| after.value == file::After::Move)?;
        if !self.durable {
            let message = "files move away once they are read, and without durable state the next run \
                           does not know of them";
            let hint = "add `durability: { folder: state }`, or leave `after` out";
            let advice = Diagnostic::advice(&self.file, place_of(moves), message);
            self.findings.push(advice.with_hint(hint));
        }
        let folder = path.trim_end_matches('/').strip_suffix("input");
        let folder = folder.filter(|folder| folder.is_empty() || folder.ends_with('/'));
        let Some(folder) = folder else {
            let message = format!("\"{path}\" is no folder that files can be moved out of");
            let hint = "a folder whose files move is called `input`; or leave `after` out";
            self.error(place, message, hint);
            return None;
        };
        Some(if folder.is_empty() { "." } else { folder }.to_owned())
    }

    /// Messages have a format of their own, so what is said of files would be passed over.
    fn no_files(&mut self, written: &SourceEntry) {
        let format = written.format.as_ref().map(place_of);
        let csv = written.csv.as_ref().map(place_of);
        let after = written.after.as_ref().map(place_of);
        let chosen = [&written.include, &written.exclude].map(|list| list.first().map(place_of));
        let [include, exclude] = chosen;
        let hint_chosen =
            "leave it out; the messages that are usage are chosen with `where` in the rule";
        let hint_layout =
            "leave it out; how messages are laid out stands in `kafka: { format: … }`";
        let hint_moving = "leave it out; messages stay in their topics";
        for (key, place, hint) in [
            ("format", format, hint_layout),
            ("csv", csv, hint_layout),
            ("after", after, hint_moving),
            ("include", include, hint_chosen),
            ("exclude", exclude, hint_chosen),
        ] {
            if let Some(place) = place {
                let message = format!("`{key}` is for files, and the source reads topics");
                self.error(place, message, hint);
            }
        }
    }

    fn topics(&mut self, written: &KafkaSourceEntry) -> MessageSource {
        if written.topics.is_empty() && !self.refused.has_anywhere("topics") {
            let place = place_of(&written.brokers);
            self.error(place, "no topic is named", "write `topics: [usage]`");
        }
        MessageSource {
            settings: KafkaSettings {
                brokers: written.brokers.value.clone(),
                settings: written.settings.clone(),
            },
            topics: written.topics.clone(),
            format: written.format.clone(),
            from_latest: written.from == file::From::Latest,
            skips_removed: written.removed == file::Removed::Skip,
        }
    }

    /// The stream that is written out, or that the folder's name says.
    fn stream(&mut self, written: &SourceEntry, at: (u64, u64)) -> StreamId {
        let folder = written
            .path
            .as_ref()
            .and_then(|path| StreamId::of_folder(&path.value));
        let mut part = |given: &Option<String>, key: &str, found: Option<&String>| {
            let part = given
                .as_ref()
                .or(found)
                .filter(|part| !part.trim().is_empty());
            part.cloned().unwrap_or_else(|| {
                // From a folder whose path was refused the part might have been known.
                if self.refused.has(at, key) || self.refused.has(at, "path") {
                    return String::new();
                }
                let message = format!("the source \"{}\" has no {key}", written.name.value);
                let hint = format!(
                    "add `{key}`, or keep the files in <platform>/<service type>/{RECORD_TYPE}/input"
                );
                self.error(place_of(&written.name), message, hint);
                String::new()
            })
        };
        let found = folder.as_ref();
        let platform = part(&written.platform, "platform", found.map(|f| &f.platform));
        let service_type = part(
            &written.service_type,
            "service_type",
            found.map(|f| &f.service_type),
        );
        for (key, part) in [("platform", &platform), ("service_type", &service_type)] {
            self.name_of_folder(key, part, place_of(&written.name));
        }
        let record_type = self.record_type(written, folder.as_ref());
        StreamId {
            platform,
            service_type,
            record_type,
        }
    }

    /// Raw records are kept in a folder of this name.
    fn name_of_folder(&mut self, key: &str, name: &str, place: (u64, u64)) {
        let is_name = !name.contains(['/', '\\']) && !name.contains(char::is_control);
        if is_name && name != "." && name != ".." && name.len() <= FOLDER_BYTES_MAX {
            return;
        }
        let message = format!("the {key} \"{name}\" cannot be the name of a folder");
        let hint =
            "write a short name without `/`, like `switch`: a folder of raw records is called that";
        self.error(place, message, hint);
    }

    /// The kind of record that is given, or that the folder says; there is one, and another would be billed
    /// as that.
    fn record_type(&mut self, written: &SourceEntry, folder: Option<&StreamId>) -> String {
        let given = written
            .record_type
            .as_ref()
            .map(|given| (given.value.as_str(), given));
        let (named, place) = match (given, folder) {
            (Some((named, given)), _) => (named, place_of(given)),
            (None, Some(folder)) => {
                let place = written.path.as_ref().map(place_of);
                (folder.record_type.as_str(), place.unwrap_or_default())
            }
            (None, None) => return RECORD_TYPE.to_owned(),
        };
        if named != RECORD_TYPE {
            let message = format!("unknown record type \"{named}\"");
            let hint = match given {
                Some(_) => format!(
                    "there is `{RECORD_TYPE}` alone: usage that is billed after it happened"
                ),
                None => format!(
                    "if the files hold usage that is billed after it happened, add `record_type: \
                     {RECORD_TYPE}`, or call the folder above `input` that"
                ),
            };
            self.error(place, message, hint);
        }
        RECORD_TYPE.to_owned()
    }

    fn unread(&self, lookups: &BTreeMap<String, LookupEntry>) -> Unread {
        let refused = self.refused.keys().map(str::to_owned);
        let unusable = lookups.iter().filter(|(_, lookup)| {
            let csv = lookup.csv.as_ref().map(|csv| csv.value.clone());
            let told = lookup.format.as_ref();
            let is_read = self.is_read(told.map(place_of));
            let told = told.map(|told| &told.value);
            let format = format_of(&lookup.file.value, told, &csv.unwrap_or_default());
            format.is_none() || !is_read || lookup.key.value.trim().is_empty()
        });
        let unusable = unusable.map(|(name, _)| name.clone());
        Unread {
            sources: self.refused.has_in_file("sources"),
            reference: ["catalog", "accounts"]
                .iter()
                .any(|key| self.refused.has_in_file(key)),
            lookups: refused.chain(unusable).collect(),
        }
    }

    fn lookup(&mut self, name: &str, written: &LookupEntry) -> Option<LookupPlan> {
        let file = &written.file.value;
        let place = place_of(&written.file);
        self.existing(file, place);
        if written.key.value.trim().is_empty() {
            let message = format!("the lookup table \"{name}\" has no key");
            self.error(
                place_of(&written.key),
                message,
                "name the column that rows are found by",
            );
        }
        let csv = written.csv.as_ref();
        let csv = csv.map(|csv| csv.value.clone()).unwrap_or_default();
        let told = written.format.as_ref();
        if !self.is_read(told.map(place_of)) {
            return None;
        }
        let told = told.map(|told| &told.value);
        let Some(format) = format_of(file, told, &csv) else {
            if !self.refused.has_anywhere("format") {
                let message = format!("the format of \"{file}\" cannot be told from its name");
                self.error(place, message, FormatEntry::advice());
            }
            return None;
        };
        if let Some(csv) = &written.csv {
            self.csv_alone(Some(&format), told, place_of(csv));
        }
        let (name, file, key) = (name.to_owned(), file.clone(), written.key.value.clone());
        Some(LookupPlan {
            name,
            file,
            key,
            format,
            place,
        })
    }

    fn reference(
        &mut self,
        written: &[Spanned<ReferenceEntry>],
        section: Section,
    ) -> (Vec<PathBuf>, Vec<ReferenceTopics>) {
        let (mut files, mut topics) = (Vec::new(), Vec::new());
        for entry in written {
            let file = match &entry.value {
                ReferenceEntry::File(file) => file,
                ReferenceEntry::Topics(entry) => {
                    topics.push(self.reference_topics(&entry.kafka, section));
                    continue;
                }
            };
            let path = located(&self.folder, file);
            if files.contains(&path) {
                let message = format!("the file \"{file}\" is given twice");
                self.error(place_of(entry), message, "leave one of the two out");
                continue;
            }
            self.existing(file, place_of(entry));
            files.push(path);
        }
        (files, topics)
    }

    fn reference_topics(
        &mut self,
        written: &KafkaReferenceEntry,
        section: Section,
    ) -> ReferenceTopics {
        if written.topics.is_empty() && !self.refused.has_anywhere("topics") {
            let place = place_of(&written.brokers);
            self.error(place, "no topic is named", "write `topics: [prices]`");
        }
        if let Some(version) = &written.version
            && version.value.split('.').any(str::is_empty)
        {
            let message = format!("\"{}\" is no member of a message", version.value);
            let hint = "write its name, or a dotted path like meta.version";
            self.error(place_of(version), message, hint);
        }
        ReferenceTopics {
            section,
            settings: KafkaSettings {
                brokers: written.brokers.value.clone(),
                settings: written.settings.clone(),
            },
            topics: written.topics.clone(),
            version: written.version.as_ref().map(|path| path.value.clone()),
        }
    }

    /// The local file or folder, if it exists; nothing is asked of remote ones before the run.
    fn existing(&mut self, written: &str, place: (u64, u64)) -> Option<PathBuf> {
        let store = match Store::open(written, &self.folder) {
            Ok(store) => store,
            Err(error) => {
                self.error(place, error.to_string(), "");
                return None;
            }
        };
        let path = store.local_path()?.to_owned();
        if path.exists() {
            return Some(path);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let beside: Vec<String> = std::fs::read_dir(if folder == Path::new("") {
            Path::new(".")
        } else {
            folder
        })
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let meant = did_you_mean(&name.unwrap_or_default(), beside.iter().map(String::as_str));
        let hint = match meant {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => format!(
                "looked for {}; paths are relative to this file",
                path.display()
            ),
        };
        self.error(
            place,
            format!("there is no file or folder \"{written}\""),
            hint,
        );
        None
    }

    fn dimensions(&mut self, written: &[Spanned<String>]) -> (Vec<String>, Vec<(u64, u64)>) {
        let (mut dimensions, mut places) = (Vec::new(), Vec::new());
        for name in written {
            if dimensions.contains(&name.value) {
                let message = format!("\"{}\" is given twice", name.value);
                self.error(place_of(name), message, "leave one of the two out");
            } else {
                dimensions.push(name.value.clone());
                places.push(place_of(name));
            }
        }
        (dimensions, places)
    }

    fn outputs(&mut self, written: &JobFile) -> OutputPlan {
        let outputs = &written.outputs;
        let folder = match &outputs.folder {
            Some(folder) => {
                if let Err(error) = Store::open(&folder.value, &self.folder) {
                    self.error(place_of(folder), error.to_string(), "");
                }
                folder.value.clone()
            }
            None => "out".to_owned(),
        };
        let messages = outputs.kafka.as_ref().map(|kafka| {
            self.messages(kafka);
            MessagePlan {
                settings: KafkaSettings {
                    brokers: kafka.brokers.value.clone(),
                    settings: kafka.settings.clone(),
                },
                topics: kafka.topics.value.clone(),
                progress: kafka
                    .progress
                    .clone()
                    .unwrap_or_else(|| progress_topic(&written.name)),
            }
        });
        let forms = |forms: OutputForms| forms.or_csv(outputs.csv);
        OutputPlan {
            messages,
            reads_topics: written.sources.iter().any(|s| s.value.kafka.is_some()),
            folder,
            monetised: forms(outputs.monetised),
            impacts: forms(outputs.impacts),
            balances: forms(outputs.balances.into()),
            activity: forms(outputs.activity),
            notices: forms(outputs.notices),
            suspense: forms(outputs.suspense),
            aggregated: forms(outputs.aggregated),
            raw_status: forms(outputs.raw_status),
            ledger: forms(outputs.ledger),
        }
    }

    fn archive(&mut self, written: &ArchiveEntry) -> ArchivePlan {
        let folder = &written.folder;
        if let Err(error) = Store::open(&folder.value, &self.folder) {
            self.error(place_of(folder), error.to_string(), "");
        }
        let after = written.after.as_ref().and_then(|after| {
            let span = after.value.parse::<jiff::Span>().ok();
            let span = span.filter(|span| !span.is_negative());
            if span.is_none() {
                let message = format!("\"{}\" is no length of time", after.value);
                let hint = "write days, 10d or P10D, or any span that is not below zero";
                self.error(place_of(after), message, hint);
            }
            span
        });
        if let Some(adjust) = written.adjust.as_ref().filter(|_| !self.durable) {
            let message = "only jobs with durable state adjust what is archived";
            let hint = "add `durability: { folder: state }`, or leave `adjust` out";
            self.error(place_of(adjust), message, hint);
        }
        let adjust = written.adjust.as_ref().and_then(|adjust| {
            let what = "no time between adjustments";
            self.interval(
                adjust,
                ADJUSTMENTS,
                what,
                "write 1s to 30 days, like 10m or 6h",
            )
        });
        ArchivePlan {
            folder: folder.value.clone(),
            after: after.unwrap_or_default(),
            adjust: adjust.unwrap_or(ADJUST_DEFAULT),
            place: place_of(folder),
        }
    }

    fn address(&mut self, written: &Spanned<String>) -> Option<SocketAddr> {
        let text = written.value.trim();
        let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
        let address = match port {
            Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            Err(_) => text.replacen("localhost:", "127.0.0.1:", 1).parse(),
        };
        if address.is_err() {
            let message = format!("not an address to listen on: \"{text}\"");
            self.error(
                place_of(written),
                message,
                "write 127.0.0.1:9090, or a port alone",
            );
        }
        address.ok()
    }

    fn messages(&mut self, written: &KafkaOutputEntry) {
        let place = place_of(&written.brokers);
        if !self.durable {
            let hint = "add `durability: { folder: state }`";
            self.error(
                place,
                "messages are published exactly once, which needs durable state",
                hint,
            );
        }
        let topics = &written.topics;
        let none = topics.value.all().next().is_none();
        if none && !self.refused.is_within(place_of(topics)) {
            let hint = "name one, like `topics: { aggregated: billing.lines }`";
            self.error(place, "no output has a topic", hint);
        }
    }

    fn durability(&mut self, written: &DurabilityEntry) -> DurabilityPlan {
        let folder = &written.folder;
        if let Err(error) = Store::open(&folder.value, &self.folder) {
            self.error(place_of(folder), error.to_string(), "");
        }
        let interval = written.interval.as_ref().and_then(|interval| {
            let what = "no interval between commits";
            self.interval(
                interval,
                COMMITS,
                what,
                "write 10ms to 1h, like 500ms or 1s",
            )
        });
        DurabilityPlan {
            folder: folder.value.clone(),
            interval: interval.unwrap_or(COMMIT_DEFAULT),
        }
    }

    fn interval(
        &mut self,
        written: &Spanned<String>,
        within: RangeInclusive<Duration>,
        what: &str,
        hint: &str,
    ) -> Option<Duration> {
        let told = written.value.parse::<jiff::Span>().ok();
        let told = told.and_then(|told| {
            told.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
                .ok()
        });
        let told = told.and_then(|told| Duration::try_from(told).ok());
        let told = told.filter(|told| within.contains(told));
        if told.is_none() {
            let message = format!("\"{}\" is {what}", written.value);
            self.error(place_of(written), message, hint);
        }
        told
    }

    fn epoch_rows(&mut self, written: Option<&Spanned<usize>>) -> usize {
        let Some(rows) = written else {
            return EPOCH_ROWS_DEFAULT;
        };
        if (1..=EPOCH_ROWS_MAX).contains(&rows.value) {
            return rows.value;
        }
        let message = format!(
            "an epoch has from 1 to {EPOCH_ROWS_MAX} rows, not {}",
            rows.value
        );
        self.error(place_of(rows), message, "");
        EPOCH_ROWS_DEFAULT
    }
}

/// The topic of progress of a job that names none: its own, so that no job waits for a transaction of
/// another.
fn progress_topic(job: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = job.chars().map(|c| if legal(c) { c } else { '_' });
    // A topic's name has up to 249 characters.
    format!("millrace-progress-{}", name.take(200).collect::<String>())
}

#[cfg(test)]
mod tests;
