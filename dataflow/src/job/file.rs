//! The job file as it is written.

use super::mediation::MediationEntry;
use millrace_connectors::decode::{CsvLayout, FormatEntry, MessageFormat};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;

/// A job: which usage is priced by which catalog for which accounts, and where the results go.
/// Paths are relative to the job file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "millrace job")]
pub struct JobFile {
    /// The job's name.
    pub name: String,
    /// The tenant's time zone, an IANA name: bill units begin at its midnight.
    #[schemars(with = "String")]
    pub time_zone: Spanned<String>,
    /// The present, for replays and tests: a date (its midnight in the tenant's time zone) or
    /// RFC 3339. The system's clock unless given.
    #[schemars(with = "Option<String>")]
    pub clock: Option<Spanned<String>>,
    /// Which times of usage are taken for real.
    #[serde(default)]
    pub time: TimeEntry,
    /// Where usage comes from.
    #[schemars(with = "Vec<SourceEntry>")]
    pub sources: Vec<Spanned<SourceEntry>>,
    /// Reference tables for `lookup()` in mediation rules, by name.
    #[serde(default)]
    pub lookups: BTreeMap<String, LookupEntry>,
    /// Catalog files, and topics of prices and plans. Files in a bucket are read when a run begins, and are
    /// not watched.
    #[serde(default)]
    #[schemars(with = "Vec<ReferenceEntry>")]
    pub catalog: Vec<Spanned<ReferenceEntry>>,
    /// Accounts files, and topics of accounts and subscriptions. Files in a bucket are read when a run
    /// begins, and are not watched.
    #[serde(default)]
    #[schemars(with = "Vec<ReferenceEntry>")]
    pub accounts: Vec<Spanned<ReferenceEntry>>,
    /// How charges are added up to billing lines.
    #[serde(default)]
    pub billing: BillingEntry,
    /// Raw records.
    #[serde(default)]
    pub raw: RawEntry,
    /// Where results go.
    #[serde(default)]
    pub outputs: OutputsEntry,
    /// Where closed bill units are kept, so that they can be billed again; nowhere unless given.
    pub archive: Option<ArchiveEntry>,
    /// The metrics endpoint; off unless given.
    pub metrics: Option<MetricsEntry>,
    /// Steps of progress.
    #[serde(default)]
    pub epoch: EpochEntry,
    /// Durable state; without it a run begins with its inputs.
    pub durability: Option<DurabilityEntry>,
}

/// Which times of usage are taken for real; usage at others is set aside as TIME_OUT_OF_RANGE.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeEntry {
    /// The first instant: a date (its midnight in the tenant's time zone) or RFC 3339; 2000-01-01 unless
    /// given.
    #[schemars(with = "Option<String>")]
    pub earliest: Option<Spanned<String>>,
    /// How far ahead of the present usage may be, the present being `clock` or, without one, when the run
    /// begins: `2d`, `P1Y`; 31 days unless given, 400 where the job names its `clock`.
    #[schemars(with = "Option<String>")]
    pub ahead: Option<Spanned<String>>,
}

/// Durable state: a run that ends at any moment is continued by the next.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DurabilityEntry {
    /// Where it is kept: a folder or `s3://bucket/prefix`, of this job alone.
    #[schemars(with = "String")]
    pub folder: Spanned<String>,
    /// How often what was taken in is committed, and outputs published, while there is something new:
    /// `500ms`, `1s`; one second unless given.
    #[schemars(with = "Option<String>")]
    pub interval: Option<Spanned<String>>,
}

/// A source of usage.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// The source's name.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// The name that it had when the job's state began, if it has another now: it goes on where it was, and
    /// its records stay the same. It stays here for as long as the state does.
    #[schemars(with = "Option<String>")]
    pub was: Option<Spanned<String>>,
    /// The platform that recorded the usage; a folder of the convention names it itself.
    pub platform: Option<String>,
    /// The kind of service (`voice`, `llm`); a folder of the convention names it itself.
    pub service_type: Option<String>,
    /// The kind of record: `postpaid`, usage that is billed after it happened; that unless given.
    #[schemars(with = "Option<String>")]
    pub record_type: Option<Spanned<String>>,
    /// A file, a folder, or `s3://bucket/prefix`. A folder by the convention is
    /// `<platform>/<service type>/postpaid/input`. Either this or `kafka`.
    #[schemars(with = "Option<String>")]
    pub path: Option<Spanned<String>>,
    /// Topics. Either this or `path`.
    pub kafka: Option<KafkaSourceEntry>,
    /// Which files of a folder or bucket are read: patterns like `*.csv` or `2026/**/*.csv.gz`. One without
    /// `/` is about names in every folder, one with it about paths below `path`. All unless given, but
    /// those whose names begin with a dot or an underscore, and `*.tmp`, which are no data.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub include: Vec<Spanned<String>>,
    /// Which of these files are passed over, likewise: `*-manifest.json`.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Spanned<String>>,
    /// The format of files; as each file's name suggests unless given.
    #[schemars(with = "Option<FormatEntry>")]
    pub format: Option<Spanned<FormatEntry>>,
    /// What varies between CSV files.
    #[schemars(with = "Option<CsvLayout>")]
    pub csv: Option<Spanned<CsvLayout>>,
    /// What becomes of a file that was read: it stays and is known (`mark`, unless told otherwise), or it
    /// moves from `input` to `processed` or `failed` beside it (`move`).
    #[schemars(with = "Option<After>")]
    pub after: Option<Spanned<After>>,
    /// What becomes of a file whose content changes under its name after it was read: it is not read again,
    /// and told (`refuse`, unless told otherwise), or its rows correct what was billed by their identity
    /// (`amend`).
    #[schemars(with = "Option<OnChange>")]
    pub on_change: Option<Spanned<OnChange>>,
    /// What becomes of rows that are not there any more when a file has changed: they stay (`keep`, unless
    /// told otherwise), or are taken out (`void`). For `on_change: amend`.
    #[schemars(with = "Option<Missing>")]
    pub missing: Option<Spanned<Missing>>,
    /// Whose an identity is where several sources are of one stream (platform, service type and record
    /// type): `own`, the source's, so that an equal id of another source is another record; or `shared`, one
    /// record whichever source sends it. Several sources must say it, one alone need not.
    #[schemars(with = "Option<IdentityScope>")]
    pub identity: Option<Spanned<IdentityScope>>,
    /// Whether its records correct what was reported under their identities, by this source or another of
    /// its stream: each replaces that record, or takes it out where the rule's `kind` says `void`.
    #[serde(default)]
    pub corrections: bool,
    /// The mediation rule: a file of its own, or written here.
    #[schemars(with = "MediationEntry")]
    pub mediation: Spanned<MediationEntry>,
}

/// Whose the identities of a source's records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IdentityScope {
    /// The source's: an equal id of another source is another record.
    Own,
    /// The stream's: an equal id is the same record, whichever source sends it.
    Shared,
}

/// What becomes of a file whose content changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// It is told, and not read again.
    #[default]
    Refuse,
    /// Its rows correct those that were read.
    Amend,
}

/// What becomes of rows that a changed file has no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// They stay billed.
    #[default]
    Keep,
    /// They are taken out.
    Void,
}

/// What becomes of a file that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum After {
    /// It stays where it is; the ledger knows it.
    Mark,
    /// It moves out of the input folder.
    Move,
}

/// Topics to read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSourceEntry {
    /// `host:port` of one or more brokers, separated by commas.
    #[schemars(with = "String")]
    pub brokers: Spanned<String>,
    /// Settings of librdkafka; a value `${NAME}` is taken from the environment.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The topics.
    pub topics: Vec<String>,
    /// How messages are laid out; `{ type: json }` unless given.
    #[serde(default = "json")]
    pub format: MessageFormat,
    /// Where a job begins that has committed nothing yet.
    #[serde(default)]
    pub from: From,
    /// What becomes of a job from which messages were removed before it read them.
    #[serde(default)]
    pub removed: Removed,
}

/// Where reference data comes from: a file, or `{ kafka: … }`.
#[derive(Clone, Debug, JsonSchema)]
#[serde(untagged)]
pub enum ReferenceEntry {
    /// A file: a path, or `s3://bucket/file`.
    File(String),
    /// Topics.
    Topics(Box<ReferenceTopicsEntry>),
}

/// Reference data in topics.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceTopicsEntry {
    /// Compacted topics. Each message is a small catalog or accounts file in JSON, without `tables`: it
    /// holds until the next message of its key, and a message without content takes it away. The topics
    /// are read from their beginning whenever the job starts, and followed while it watches.
    pub kafka: KafkaReferenceEntry,
}

/// Topics of reference data.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaReferenceEntry {
    /// `host:port` of one or more brokers, separated by commas.
    #[schemars(with = "String")]
    pub brokers: Spanned<String>,
    /// Settings of librdkafka; a value `${NAME}` is taken from the environment.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The topics.
    pub topics: Vec<String>,
    /// The member of each message, or a dotted path to one, that is its version: a number or a time. A
    /// message with a lower version than one before it is late and changes nothing. The member is not
    /// part of the file. The order of messages alone decides unless given.
    #[schemars(with = "Option<String>")]
    pub version: Option<Spanned<String>>,
}

impl<'de> Deserialize<'de> for ReferenceEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = ReferenceEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a file, or a mapping with `kafka`")
            }

            fn visit_str<E: de::Error>(self, file: &str) -> Result<ReferenceEntry, E> {
                Ok(ReferenceEntry::File(file.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ReferenceEntry, A::Error> {
                let topics = ReferenceTopicsEntry::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ReferenceEntry::Topics(Box::new(topics)))
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}

fn json() -> MessageFormat {
    MessageFormat::Json
}

/// Where to begin with a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// At its first message.
    #[default]
    Earliest,
    /// Behind its last message.
    Latest,
}

/// What becomes of a job from which messages were removed before it read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Removed {
    /// It is not run.
    #[default]
    Refuse,
    /// It tells of them when it starts, and reads the next that there is.
    Skip,
}

/// A reference table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupEntry {
    /// The file.
    #[schemars(with = "String")]
    pub file: Spanned<String>,
    /// The column that rows are found by.
    #[schemars(with = "String")]
    pub key: Spanned<String>,
    /// The format; as the file's name suggests unless given.
    #[schemars(with = "Option<FormatEntry>")]
    pub format: Option<Spanned<FormatEntry>>,
    /// What varies between CSV files.
    #[schemars(with = "Option<CsvLayout>")]
    pub csv: Option<Spanned<CsvLayout>>,
}

/// How charges are added up to billing lines.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BillingEntry {
    /// What separates lines besides account, bill unit, item and currency: `service`,
    /// `service_type`, `subscription`, `price`, or the name of a usage attribute.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub aggregate_by: Vec<Spanned<String>>,
}

/// What becomes of raw records.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawEntry {
    /// Whether they are kept unmodified, as Parquet; they are unless told otherwise.
    pub keep: bool,
}

impl Default for RawEntry {
    fn default() -> Self {
        Self { keep: true }
    }
}

/// Where results go, and which.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputsEntry {
    /// A folder or `s3://bucket/prefix`; `out` unless given.
    #[schemars(with = "String")]
    pub folder: Option<Spanned<String>>,
    /// Whether outputs are written as CSV too, those that do not say themselves; off unless told
    /// otherwise.
    pub csv: bool,
    /// Charges, one per item of a monetised record.
    pub monetised: OutputForms,
    /// What charges in order did to each resource: prices by tier, draws, offsets, counts. With its
    /// changes come those of the buckets that they are of, in `buckets`.
    pub impacts: OutputForms,
    /// Where each bucket stands. Every change of one would repeat all that came after it, so there is
    /// only the state at the end; how it came about is in `impacts`.
    pub balances: SnapshotForms,
    /// Charges of subscriptions that need no usage.
    pub activity: OutputForms,
    /// Thresholds that buckets have crossed.
    pub notices: OutputForms,
    /// Records that wait or were refused, with their reasons.
    pub suspense: OutputForms,
    /// Billing lines.
    pub aggregated: OutputForms,
    /// What became of each raw record.
    pub raw_status: OutputForms,
    /// The files read, with their counts.
    pub ledger: OutputForms,
    /// Messages: every change as it is committed, exactly once; needs `durability`.
    pub kafka: Option<KafkaOutputEntry>,
}

/// Topics to publish to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaOutputEntry {
    /// `host:port` of one or more brokers, separated by commas.
    #[schemars(with = "String")]
    pub brokers: Spanned<String>,
    /// Settings of librdkafka; a value `${NAME}` is taken from the environment.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The topic of each output; outputs without a topic are not published.
    #[schemars(with = "MessageTopics")]
    pub topics: Spanned<MessageTopics>,
    /// The compacted topic that keeps how far the job has published; `millrace-progress-` and its name
    /// unless given, created where it is missing.
    pub progress: Option<String>,
}

/// The topics of outputs. Each is an upsert changelog: the newest message of a key is its row, a
/// message without content takes it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageTopics {
    /// Charges, by record and item.
    pub monetised: Option<String>,
    /// Billing lines, by their identifier.
    pub aggregated: Option<String>,
    /// Records that wait or were refused, by record.
    pub suspense: Option<String>,
    /// Charges of subscriptions without usage, by their identifier.
    pub activity: Option<String>,
    /// Where each bucket stands, by bucket.
    pub balances: Option<String>,
    /// Thresholds crossed, by bucket and level.
    pub notices: Option<String>,
}

impl MessageTopics {
    /// All topics.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let topics = [
            &self.monetised,
            &self.aggregated,
            &self.suspense,
            &self.activity,
            &self.balances,
            &self.notices,
        ];
        topics.into_iter().filter_map(|topic| topic.as_deref())
    }
}

impl Default for OutputsEntry {
    fn default() -> Self {
        let forms = OutputForms::default();
        Self {
            folder: None,
            csv: false,
            monetised: forms,
            impacts: forms,
            balances: SnapshotForms::default(),
            activity: forms,
            notices: forms,
            suspense: forms,
            aggregated: forms,
            raw_status: forms,
            ledger: forms,
            kafka: None,
        }
    }
}

/// The forms that one output is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputForms {
    /// Every change with its epoch and + or -, as Parquet; on unless told otherwise.
    pub changes: bool,
    /// The state at the end of the run, as Parquet; on unless told otherwise.
    pub snapshot: bool,
    /// The state at the end of the run, as JSON lines; off unless told otherwise.
    pub json: bool,
    /// The state at the end of the run, as CSV with a line that names the columns; as `outputs.csv` says
    /// unless given. A text that a spreadsheet would take for a formula has a `'` before it.
    pub csv: Option<bool>,
}

impl OutputForms {
    /// With what all outputs are told, where this one is told nothing of its own.
    #[must_use]
    pub fn or_csv(self, csv: bool) -> Self {
        Self {
            csv: Some(self.csv.unwrap_or(csv)),
            ..self
        }
    }

    /// Whether it is written as CSV.
    #[must_use]
    pub fn is_csv(self) -> bool {
        self.csv.unwrap_or(false)
    }

    /// Whether the state at the end of the run is written in any form.
    #[must_use]
    pub fn tells_end(self) -> bool {
        self.snapshot || self.is_text()
    }

    /// Whether it is written in a form that is one file.
    #[must_use]
    pub fn is_text(self) -> bool {
        self.json || self.is_csv()
    }
}

impl Default for OutputForms {
    fn default() -> Self {
        Self {
            changes: true,
            snapshot: true,
            json: false,
            csv: None,
        }
    }
}

/// The forms of an output that is told once, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotForms {
    /// The state at the end of the run, as Parquet; on unless told otherwise.
    pub snapshot: bool,
    /// The state at the end of the run, as JSON lines; off unless told otherwise.
    pub json: bool,
    /// The state at the end of the run, as CSV; as `outputs.csv` says unless given.
    pub csv: Option<bool>,
}

impl Default for SnapshotForms {
    fn default() -> Self {
        Self {
            snapshot: true,
            json: false,
            csv: None,
        }
    }
}

impl std::convert::From<SnapshotForms> for OutputForms {
    fn from(forms: SnapshotForms) -> Self {
        Self {
            changes: false,
            snapshot: forms.snapshot,
            json: forms.json,
            csv: forms.csv,
        }
    }
}

/// Where closed bill units are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArchiveEntry {
    /// A folder or `s3://bucket/prefix`.
    #[schemars(with = "String")]
    pub folder: Spanned<String>,
    /// How long after its end a bill unit is closed, like `10d` or `P10D`; at once unless given.
    #[schemars(with = "Option<String>")]
    pub after: Option<Spanned<String>>,
    /// How long late records and changed reference data of archived bill units wait for an adjustment
    /// while the job watches: `10m`, `6h`; one hour unless given. For jobs with durable state.
    #[schemars(with = "Option<String>")]
    pub adjust: Option<Spanned<String>>,
}

/// The metrics endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsEntry {
    /// Address and port, or a port alone on loopback; port 0 takes any that is free.
    #[schemars(with = "String")]
    pub listen: Spanned<String>,
}

/// Steps of progress.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EpochEntry {
    /// Rows read for one epoch, about; 16384 unless given.
    #[schemars(with = "Option<usize>")]
    pub rows: Option<Spanned<usize>>,
}
