//! Sources of a job, judged.

use super::chosen::Chosen;
use super::file::{KafkaSourceEntry, SourceEntry, TimeEntry};
use super::judge::Judge;
use super::mediation::MediationEntry;
use super::{
    AHEAD_DEFAULT, AHEAD_OF_CLOCK, EARLIEST_DEFAULT, FOLDER_BYTES_MAX, MessageSource, RECORD_TYPE,
    RuleSource, SourcePlan,
};
use jiff::ToSpan;
use millrace_connectors::decode::{Format, FormatEntry, csv_misplaced, format_of};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::kafka::KafkaSettings;
use millrace_connectors::reference::location::located;
use millrace_connectors::reference::moment;
use millrace_connectors::reference::yaml::place_of;
use millrace_connectors::stream::StreamId;
use millrace_connectors::times::{TimeRange, TimeReading, TimeRules};
use millrace_operators::domain::EventTime;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

impl Judge {
    pub(super) fn unique_sources(&mut self, sources: &[Spanned<SourceEntry>]) {
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

    pub(super) fn times(
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

    pub(super) fn source(&mut self, entry: &Spanned<SourceEntry>) -> SourcePlan {
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

    pub(super) fn patterns(&mut self, written: &[Spanned<String>]) -> Vec<glob::Pattern> {
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
    pub(super) fn is_read(&self, place: Option<(u64, u64)>) -> bool {
        !place.is_some_and(|place| self.refused.is_within(place))
    }

    /// What is said of CSV files, and the files are told to be others or are laid out by `format`.
    pub(super) fn csv_alone(
        &mut self,
        format: Option<&Format>,
        told: Option<&FormatEntry>,
        place: (u64, u64),
    ) {
        if let Some((message, hint)) = csv_misplaced(format, told) {
            self.error(place, message, hint);
        }
    }

    pub(super) fn amends(&mut self, written: &SourceEntry) -> bool {
        let amends = written.on_change.as_ref();
        let amends = amends.filter(|on_change| on_change.value == super::file::OnChange::Amend);
        if let (Some(amends), true) = (amends, written.kafka.is_some()) {
            let message = "messages do not change; `on_change` is for files";
            self.error(place_of(amends), message, "leave it out");
        }
        amends.is_some()
    }

    pub(super) fn voids_missing(&mut self, written: &SourceEntry, at: (u64, u64)) -> bool {
        let missing = written.missing.as_ref();
        let on_change = written.on_change.as_ref().map(|on_change| on_change.value);
        let refuses =
            on_change != Some(super::file::OnChange::Amend) && !self.refused.has(at, "on_change");
        if let Some(missing) = missing.filter(|_| refuses) {
            let message = "`missing` is about files that change, which this source refuses";
            let hint = "write `on_change: amend` beside it, or leave it out";
            self.error(place_of(missing), message, hint);
        }
        missing.is_some_and(|missing| missing.value == super::file::Missing::Void)
    }

    pub(super) fn moves_in(
        &mut self,
        written: &SourceEntry,
        path: &str,
        place: (u64, u64),
    ) -> Option<String> {
        let after = written.after.as_ref().filter(|_| written.kafka.is_none());
        let moves = after.filter(|after| after.value == super::file::After::Move)?;
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
    pub(super) fn no_files(&mut self, written: &SourceEntry) {
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

    pub(super) fn topics(&mut self, written: &KafkaSourceEntry) -> MessageSource {
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
            from_latest: written.from == super::file::From::Latest,
            skips_removed: written.removed == super::file::Removed::Skip,
        }
    }

    /// The stream that is written out, or that the folder's name says.
    pub(super) fn stream(&mut self, written: &SourceEntry, at: (u64, u64)) -> StreamId {
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
    pub(super) fn name_of_folder(&mut self, key: &str, name: &str, place: (u64, u64)) {
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
    pub(super) fn record_type(
        &mut self,
        written: &SourceEntry,
        folder: Option<&StreamId>,
    ) -> String {
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
}
