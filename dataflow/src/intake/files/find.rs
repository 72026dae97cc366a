//! Files, as they are found.

use super::super::halt::Halt;
use super::look::Look;
use super::opened::SourceFile;
use super::{Files, SETTLED};
use crate::durable::FileRecord;
use crate::job::SourcePlan;
use millrace_connectors::kafka::TopicPartition;
use millrace_connectors::ledger::{Admission, Arrival, Change, FileState};
use millrace_connectors::store::{FileMeta, Listing, Unread};
use millrace_operators::domain::FileId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The source of the job that has what an earlier run read, by the source's name and root then: that of the
/// same name and root, or else one of the same stream and root, which was renamed, or else one of the same
/// name, which reads from another place now.
pub(super) fn heirs(
    records: &[FileRecord],
    sources: &[SourcePlan],
) -> HashMap<(String, String), Option<usize>> {
    let groups: BTreeMap<(&str, &str), &FileRecord> = records
        .iter()
        .map(|record| ((record.source.as_str(), record.root.as_str()), record))
        .collect();
    let place = |wanted: &dyn Fn(&SourcePlan) -> bool| sources.iter().position(wanted);
    let mut heirs = HashMap::new();
    let mut taken = BTreeSet::new();
    for (name, root) in groups.keys().copied() {
        let same = place(&|plan| plan.origin() == name && root_of(plan) == root);
        if let Some(same) = same {
            taken.insert(same);
            heirs.insert((name.to_owned(), root.to_owned()), Some(same));
        }
    }
    for ((name, root), record) in groups {
        let key = (name.to_owned(), root.to_owned());
        if heirs.contains_key(&key) {
            continue;
        }
        let renamed = sources.iter().enumerate().position(|(index, plan)| {
            !taken.contains(&index) && root_of(plan) == root && plan.stream == record.entry.stream
        });
        taken.extend(renamed);
        heirs.insert(
            key,
            renamed.or_else(|| place(&|plan| plan.origin() == name)),
        );
    }
    heirs
}

/// What a source reads from, which stays when its name does not.
pub(super) fn root_of(source: &SourcePlan) -> String {
    match &source.kafka {
        Some(kafka) => format!("kafka:{}", kafka.topics.join(",")),
        None => source.path.clone(),
    }
}

impl Files {
    /// Refuses a partition of another topic than the one that was read, under its name: offsets of one say
    /// nothing of the other. Where nothing was read, it is as if there had been none.
    pub(in crate::intake) fn recognise(
        &mut self,
        id: FileId,
        source: &SourcePlan,
        (partition, topic): (&TopicPartition, Option<&str>),
    ) -> Result<(), Halt> {
        let (held, topic) = match (self.partitions.get_mut(&id), topic) {
            (Some((_, held)), Some(topic)) => (held, topic),
            _ => return Ok(()),
        };
        let known = held.etag.replace(topic.to_owned());
        if known.as_deref() == Some(topic) {
            return Ok(());
        }
        self.changed.insert(id);
        let from = self.ledger.entry(id).map_or(0, |entry| entry.from);
        if known.is_none() {
            return Ok(());
        }
        match self.positions.get(&id).filter(|next| **next > from) {
            None => {
                self.positions.remove(&id);
                Ok(())
            }
            Some(next) => Err(Halt::Source(format!(
                "source {:?}: topic {:?} is not the one that was read up to offset {next} of {partition}: it was \
                 deleted, and created anew under its name. Nothing of it is read; create it under another name, and \
                 write that name in its place under `topics`: what was read stays, and the other is read from its \
                 beginning",
                source.name, &*partition.topic
            ))),
        }
    }

    /// Lists a source and enters what is new; returns what a person should hear. What is found by the
    /// first look is taken as it is.
    pub(in crate::intake) fn discover(
        &mut self,
        index: usize,
        source: &SourcePlan,
        folder: &Path,
    ) -> Vec<String> {
        let (mut messages, mut complaints) = (Vec::new(), BTreeSet::new());
        let mut unread = BTreeSet::new();
        let begins = self.looked.insert(index);
        if source.moves_in.is_some() {
            self.moving.insert(index);
        }
        let store = self.store(&source.path, folder);
        let listed = store.and_then(|store| store.look().map(|listing| (store, listing)));
        match listed {
            Ok((
                store,
                Listing {
                    files,
                    unread: passed_over,
                },
            )) => {
                let passed_over = passed_over.iter();
                let chosen = passed_over.filter(|file| source.chosen.has(&file.name));
                unread.extend(chosen.map(|Unread { name, problem }| {
                    let source = &source.name;
                    format!("source {source:?}: {name:?} is not read: {problem}")
                }));
                let found = files.len();
                let files: Vec<FileMeta> = files
                    .into_iter()
                    .filter(|file| source.chosen.has(&file.name))
                    .collect();
                if files.is_empty() && found > 0 {
                    complaints.insert(format!(
                        "source {:?}: `include` and `exclude` choose none of its {found} files",
                        source.name
                    ));
                }
                let files = match begins || store.local_path().is_none() {
                    true => files,
                    false => self.settled(index, files),
                };
                for meta in files {
                    if let Some(message) = self.emptied(index, source, &meta) {
                        unread.insert(message);
                        continue;
                    }
                    let seen = self.seen(index, &meta.name);
                    let same = seen.filter(|seen| seen.is(&meta)).map(|seen| seen.id);
                    let same = same.filter(|id| !self.may_amend_now(source, *id));
                    let file = SourceFile {
                        // One that is new is numbered by the ledger.
                        id: same.unwrap_or_default(),
                        source: index,
                        store: Arc::clone(&store),
                        meta,
                    };
                    if same.is_some() {
                        self.meet_again(file);
                    } else if let Err(message) = self.admit(source, file, &mut messages) {
                        unread.insert(message);
                    }
                }
            }
            Err(error) => {
                unread.insert(format!("source {:?}: {error}", source.name));
            }
        }
        complaints.extend(unread.iter().cloned());
        self.unread.insert(index, unread);
        let before = self.complaints.insert(index, complaints.clone());
        let before = before.unwrap_or_default();
        messages.extend(complaints.difference(&before).cloned());
        messages
    }

    /// What could not be read of the sources when they were looked at last.
    pub(in crate::intake) fn unread(&self) -> Vec<String> {
        self.unread.values().flatten().cloned().collect()
    }

    /// The files that are known as they are, or have been as they are for a while.
    pub(in crate::intake) fn settled(
        &mut self,
        index: usize,
        files: Vec<FileMeta>,
    ) -> Vec<FileMeta> {
        let mut before = self.settling.remove(&index).unwrap_or_default();
        let (mut settled, mut settling) = (Vec::new(), HashMap::new());
        for meta in files {
            let seen = self.seen(index, &meta.name);
            let since = match before.remove(&meta.name) {
                Some((same, since)) if same == meta => since,
                _ => Instant::now(),
            };
            if seen.is_some_and(|seen| seen.is(&meta)) || since.elapsed() >= SETTLED {
                settled.push(meta);
            } else {
                settling.insert(meta.name.clone(), (meta, since));
            }
        }
        self.settling.insert(index, settling);
        settled
    }

    /// Enters a file that is not known as it is.
    pub(in crate::intake) fn admit(
        &mut self,
        source: &SourcePlan,
        found: SourceFile,
        messages: &mut Vec<String>,
    ) -> Result<(), String> {
        let (index, meta) = (found.source, found.meta.clone());
        let checksum = found.store.checksum(&meta);
        let arrival = Arrival {
            name: meta.name.clone(),
            source: source.name.clone(),
            stream: source.stream.clone(),
            size: meta.size,
            checksum: checksum.map_err(|error| error.to_string())?,
            amends: source.amends,
        };
        let look = Look {
            store: &found.store,
            meta: &meta,
            format: source.format_of(&meta.name),
        };
        messages.extend(self.replace(&arrival, &look));
        let admission = self.ledger.admit(arrival, &look);
        let id = match admission.map_err(|error| error.to_string())? {
            Admission::Known(id) => {
                self.meet_again(SourceFile { id, ..found });
                id
            }
            Admission::Grown(id) => {
                messages.extend(self.grown(SourceFile { id, ..found }));
                id
            }
            Admission::Refused(refusal) => {
                messages.push(format!("refused: {}", refusal.message));
                let id = refusal.file;
                self.known.insert(id, SourceFile { id, ..found });
                self.changed.insert(id);
                self.leaves(id);
                id
            }
            Admission::Admitted(id) => {
                self.known.insert(id, SourceFile { id, ..found });
                self.changed.insert(id);
                self.waiting.push_back(id);
                id
            }
        };
        self.see(index, &meta.name, &meta, id);
        Ok(())
    }

    /// That a file of which records count has no bytes any more, where that would take all of them out: it is
    /// what a writer leaves that begins anew, so nothing is taken out before there is at least a header.
    pub(in crate::intake) fn emptied(
        &mut self,
        index: usize,
        source: &SourcePlan,
        meta: &FileMeta,
    ) -> Option<String> {
        if !source.voids_missing || meta.size > 0 {
            return None;
        }
        let entry = self.ledger.named(&source.name, &meta.name)?;
        let (id, name) = (entry.file, &meta.name);
        let message = (entry.size > 0).then(|| {
            format!(
                "{name:?} was loaded before and has no bytes any more: its records count until it has some; a file without records is one with a header alone, or with an empty line where it has none"
            )
        })?;
        self.see(index, name, meta, id);
        Some(message)
    }

    /// Whether a file was refused because it had changed, and its source has it amend what was read now.
    pub(in crate::intake) fn may_amend_now(&self, source: &SourcePlan, id: FileId) -> bool {
        let entry = self.ledger.entry(id).filter(|_| source.amends);
        let refused = entry.filter(|entry| entry.state == FileState::Refused);
        refused.is_some_and(|entry| self.ledger.named(&entry.source, &entry.name).is_some())
    }

    /// A file that is in the ledger lies in its folder still, or again.
    pub(in crate::intake) fn meet_again(&mut self, file: SourceFile) {
        let id = file.id;
        match self.ledger.entry(id).map(|entry| entry.state) {
            Some(FileState::Failed) if !self.tried.contains(&id) && self.ledger.retry(id) => {
                self.known.insert(id, file);
                self.changed.insert(id);
                self.waiting.push_back(id);
            }
            Some(FileState::Reading) if self.held.remove(&id) => self.waiting.push_back(id),
            // Sent once more, or not moved yet.
            _ => self.leaves(id),
        }
    }

    /// Gives up a file that was to be read, or to be read on, when another has come in its place; says so.
    fn replace(&mut self, arrival: &Arrival, look: &Look<'_>) -> Option<String> {
        let Arrival { name, source, .. } = arrival;
        let entry = self.ledger.named(source, name)?;
        let id = entry.file;
        if entry.state != FileState::Reading
            || self.ledger.change(id, arrival, look) != Change::Changed
        {
            return None;
        }
        self.waiting.retain(|waiting| *waiting != id);
        self.held.remove(&id);
        let rows = self.positions.get(&id).copied().unwrap_or(0);
        let message = match rows {
            0 => format!("{name:?} has changed before it was read"),
            _ => format!(
                "{name:?} has changed since {rows} rows of it were read: these count, and what it holds now is not read; write `on_change: amend` at its source to have it correct them, or send the rows that are missing in a file of their own"
            ),
        };
        let state = match rows {
            0 => FileState::Failed,
            _ => FileState::Incomplete,
        };
        self.settle(id, state, rows, message.clone());
        Some(message)
    }
}
