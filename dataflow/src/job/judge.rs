//! A job file, judged: all findings at once.

use super::file::{
    ArchiveEntry, DurabilityEntry, JobFile, KafkaOutputEntry, KafkaReferenceEntry, LookupEntry,
    OutputForms, ReferenceEntry,
};
use super::places::Overlap;
use super::{
    ADJUST_DEFAULT, ADJUSTMENTS, ArchivePlan, COMMIT_DEFAULT, COMMITS, DurabilityPlan,
    EPOCH_ROWS_DEFAULT, EPOCH_ROWS_MAX, Job, LookupPlan, MessagePlan, OutputPlan, ReferenceTopics,
    SourcePlan, Unread,
};
use millrace_connectors::decode::{FormatEntry, format_of};
use millrace_connectors::diagnostic::{Diagnostic, did_you_mean};
use millrace_connectors::kafka::KafkaSettings;
use millrace_connectors::reference::location::located;
use millrace_connectors::reference::location::read_local;
use millrace_connectors::reference::yaml::read;
use millrace_connectors::reference::yaml::{Refused, place_of};
use millrace_connectors::reference::{Section, moment};
use millrace_connectors::store::Store;
use millrace_connectors::times::TimeReading;
use millrace_operators::domain::EventTime;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
}

/// Turns what is written into what is meant, and notes what cannot be.
pub(super) struct Judge {
    pub(super) file: String,
    pub(super) folder: PathBuf,
    pub(super) durable: bool,
    /// What the file lacks for having been found wrong: it is not missed again.
    pub(super) refused: Refused,
    pub(super) findings: Vec<Diagnostic>,
}

/// The topic of progress of a job that names none: its own, so that no job waits for a transaction of
/// another.
pub(super) fn progress_topic(job: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = job.chars().map(|c| if legal(c) { c } else { '_' });
    // A topic's name has up to 249 characters.
    format!("millrace-progress-{}", name.take(200).collect::<String>())
}

impl Judge {
    pub(super) fn job(&mut self, (path, text): (&Path, &str), written: JobFile) -> Job {
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
    pub(super) fn apart(
        &mut self,
        sources: &[SourcePlan],
        outputs: &OutputPlan,
        durability: Option<&DurabilityPlan>,
        archive: Option<&ArchivePlan>,
    ) {
        for overlap in super::places::overlaps(&self.folder, sources, outputs, durability, archive)
        {
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

    pub(super) fn error(
        &mut self,
        place: (u64, u64),
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.findings
            .push(Diagnostic::error(&self.file, place, message).with_hint(hint));
    }

    pub(super) fn zone(&mut self, written: &Spanned<String>) -> jiff::tz::TimeZone {
        TimeReading::zone_named(&written.value).unwrap_or_else(|(message, hint)| {
            self.error(place_of(written), message, hint);
            jiff::tz::TimeZone::UTC
        })
    }

    pub(super) fn clock(
        &mut self,
        written: &Spanned<String>,
        zone: &jiff::tz::TimeZone,
    ) -> Option<EventTime> {
        let text = &written.value;
        let found = moment(text, zone);
        if found.is_none() {
            let message = format!("\"{text}\" is no instant");
            let hint = "write a date, 2026-03-31, or an instant, 2026-03-31T12:00:00Z";
            self.error(place_of(written), message, hint);
        }
        found
    }

    pub(super) fn unread(&self, lookups: &BTreeMap<String, LookupEntry>) -> Unread {
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

    pub(super) fn lookup(&mut self, name: &str, written: &LookupEntry) -> Option<LookupPlan> {
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

    pub(super) fn reference(
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

    pub(super) fn reference_topics(
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
    pub(super) fn existing(&mut self, written: &str, place: (u64, u64)) -> Option<PathBuf> {
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

    pub(super) fn dimensions(
        &mut self,
        written: &[Spanned<String>],
    ) -> (Vec<String>, Vec<(u64, u64)>) {
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

    pub(super) fn outputs(&mut self, written: &JobFile) -> OutputPlan {
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

    pub(super) fn archive(&mut self, written: &ArchiveEntry) -> ArchivePlan {
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

    pub(super) fn address(&mut self, written: &Spanned<String>) -> Option<SocketAddr> {
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

    pub(super) fn messages(&mut self, written: &KafkaOutputEntry) {
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

    pub(super) fn durability(&mut self, written: &DurabilityEntry) -> DurabilityPlan {
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

    pub(super) fn interval(
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

    pub(super) fn epoch_rows(&mut self, written: Option<&Spanned<usize>>) -> usize {
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
