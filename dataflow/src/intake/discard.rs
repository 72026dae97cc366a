//! Commands about suspended records: which they mean is settled in the epoch in which they are bound, and
//! is part of it, so a restart takes out and puts back the same records.

use super::record::parts;
use super::{Halt, Intake};
use crate::durable::Selection;
use millrace_connectors::lines::LineMap;
use millrace_operators::domain::{Discard, FileId, Reason, RecordId};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Records told one by one; the rest is counted.
const TOLD: usize = 5;

/// A selection with the names in it looked up.
struct Wanted {
    /// Records that were named; all unless any was.
    records: BTreeSet<RecordId>,
    reason: Option<Reason>,
    files: Option<BTreeSet<FileId>>,
}

impl Wanted {
    fn has(&self, record: RecordId, reason: Reason) -> bool {
        (self.records.is_empty() || self.records.contains(&record))
            && self.reason.is_none_or(|wanted| wanted == reason)
            && (self.files.as_ref()).is_none_or(|files| files.contains(&record.file()))
    }
}

impl Intake {
    /// Takes the suspended records that are meant out for good, as an epoch of its own.
    pub(super) fn discard(&mut self, selection: &Selection) -> Result<(), Halt> {
        let Some(wanted) = self.wanted(selection) else {
            return Ok(());
        };
        // What is suspended is what the epochs before come to.
        if !self.bundle.is_empty() {
            self.bind()?;
        }
        let Some(suspended) = self.setting.suspended.clone() else {
            return Ok(());
        };
        while !suspended.knows(self.epoch) {
            if self.setting.failed.load(Ordering::Relaxed) {
                return Err(Halt::Gone);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let found = suspended.select(|record, reason| wanted.has(record, reason));
        let found: Vec<Discard> = found
            .into_iter()
            .filter(|discard| !self.discards.contains_key(&discard.record))
            .collect();
        let taken: BTreeSet<RecordId> = found.iter().map(|discard| discard.record).collect();
        let left = wanted.records.difference(&taken).copied();
        let why = |record| match self.discards.contains_key(&record) {
            true => "discarded already",
            false => "not suspended",
        };
        let left: Vec<String> = left.map(|r| self.told(r, why(r))).collect();
        self.say("discarded", taken.len(), &left);
        self.discards.extend(found.iter().map(|d| (d.record, *d)));
        let found = found.into_iter().map(|discard| (discard, 1));
        self.bundle.discards.extend(found);
        self.bind_and(true)
    }

    /// Puts discarded records back, as an epoch of its own: they are rated, or suspended anew.
    pub(super) fn retry(&mut self, selection: &Selection) -> Result<(), Halt> {
        let file = selection.file.as_deref();
        if let Some(name) = file.filter(|_| selection.reason.is_none())
            && self.read_again(name)
        {
            // No record of it has been read that could have been discarded.
            return Ok(());
        }
        let Some(wanted) = self.wanted(selection) else {
            return Ok(());
        };
        if !self.bundle.is_empty() {
            self.bind()?;
        }
        let discards = self.discards.values();
        let found = discards.filter(|discard| wanted.has(discard.record, discard.reason));
        let found: Vec<Discard> = found.copied().collect();
        let taken: BTreeSet<RecordId> = found.iter().map(|discard| discard.record).collect();
        let left = wanted.records.difference(&taken).copied();
        let why = "not discarded; what is suspended is rated by itself once its cause is gone";
        let left: Vec<String> = left.map(|record| self.told(record, why)).collect();
        self.say("put back", taken.len(), &left);
        for discard in found {
            self.discards.remove(&discard.record);
            self.bundle.discards.push((discard, -1));
        }
        self.bind_and(true)
    }

    /// Has files of a name read again that were passed over because runs crashed at them; says whether
    /// there were any.
    fn read_again(&mut self, name: &str) -> bool {
        let forgiven = self.crashes().map(|crashes| crashes.forgive(name));
        let message = match forgiven {
            None | Some(Ok(false)) => return false,
            Some(Ok(true)) => format!("{name:?} is read again"),
            Some(Err(error)) => format!("{name:?} is not read again: {error}"),
        };
        self.files.try_named_again(name);
        let message = format!("command {}: {message}", self.command);
        self.setting.listener.message(&message);
        true
    }

    fn told(&self, record: RecordId, why: &str) -> String {
        let names = self.files.names();
        let file = usize::try_from(record.file().0).ok();
        let name = file.and_then(|file| names.get(file));
        let name = name.map_or_else(|| record.file().0.to_string(), ToString::to_string);
        format!("{name}#{} is {why}", record.row())
    }

    fn say(&self, what: &str, records: usize, left: &[String]) {
        let records = match records {
            1 => "1 record is".to_owned(),
            records => format!("{records} records are"),
        };
        let mut text = format!("command {}: {records} {what}", self.command);
        for reason in left.iter().take(TOLD) {
            text.push_str(&format!("; {reason}"));
        }
        if left.len() > TOLD {
            text.push_str(&format!("; and {} more like these", left.len() - TOLD));
        }
        self.setting.listener.message(&text);
    }

    /// What a selection means here; nothing, and said, where it names what there is not.
    fn wanted(&self, selection: &Selection) -> Option<Wanted> {
        let names = self.files.names();
        let refuse = |message: String| {
            let text = format!("command {}: {message}; nothing is done", self.command);
            self.setting.listener.message(&text);
        };
        let mut records = BTreeSet::new();
        let lines = self.setting.file_lines.read();
        let lines = lines.expect("the lines of files are not poisoned");
        let lines_of = |id: FileId| {
            let file = self.files.file(id)?;
            let format = self.setting.job.sources[file.source].format_of(&file.meta.name)?;
            // They are known when the file is read.
            (!format.is_typed()).then(|| lines.get(&id).cloned().unwrap_or_default())
        };
        for named in &selection.records {
            match record(named, &names, &lines_of) {
                Ok(record) => drop(records.insert(record)),
                Err(message) => {
                    refuse(message);
                    return None;
                }
            }
        }
        let files = match &selection.file {
            None => None,
            Some(name) => match files(name, &names) {
                files if files.is_empty() => {
                    refuse(format!("the job has no file {name:?}"));
                    return None;
                }
                files => Some(files),
            },
        };
        Some(Wanted {
            records,
            reason: selection.reason,
            files,
        })
    }
}

/// The files with this name, or else the one with this number. A name may be given to several files,
/// of which those that were refused have no records.
fn files(name: &str, names: &[Arc<str>]) -> BTreeSet<FileId> {
    let numbered = (0_u32..).zip(names);
    let named = numbered.filter(|(_, known)| &***known == name);
    let named: BTreeSet<FileId> = named.map(|(number, _)| FileId(number)).collect();
    if !named.is_empty() {
        return named;
    }
    let number = name.parse::<u32>().ok();
    let number = number.filter(|n| usize::try_from(*n).is_ok_and(|n| n < names.len()));
    number.map(FileId).into_iter().collect()
}

/// The record that `<file>:<line>` or `<file>#<row>` names.
fn record(
    named: &str,
    names: &[Arc<str>],
    lines_of: &dyn Fn(FileId) -> Option<LineMap>,
) -> Result<RecordId, String> {
    let (file, mark, number) = parts(named)
        .ok_or_else(|| format!("{named:?} is no record, which is <file>:<line> or <file>#<row>"))?;
    let by_line = mark == ':' && names.iter().any(|known| **known == *file);
    let files = files(file, names);
    match files.len() {
        0 => Err(format!("the job has no file {file:?}")),
        1 => {
            let id = files.first().copied().unwrap_or_default();
            // A file without lines, or a partition, goes by its rows.
            let row = match lines_of(id).filter(|_| by_line) {
                None => Some(number),
                Some(lines) => lines.row(number),
            };
            let row = row.ok_or_else(|| {
                format!("no record of {file:?} is known on line {number}; name it as {file}#<row>")
            })?;
            Ok(RecordId::new(id, row))
        }
        _ => {
            let numbers: Vec<String> = files.iter().map(|id| id.0.to_string()).collect();
            let newest = numbers.last().cloned().unwrap_or_default();
            let numbers = numbers.join(", ");
            Err(format!(
                "several files are called {file:?}, of the numbers {numbers}; name the record by number and \
                 row: {newest}#0 is the first of the newest"
            ))
        }
    }
}
