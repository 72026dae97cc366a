//! Changes of complete epochs on their way to files.

use super::folder::Outputs;
use super::rows::{monetise, place};
use crate::durable::Staged;
use crate::job::OutputPlan;
use crate::publish::EpochChanges;
use hashbrown::HashMap;
use millrace_connectors::output::{
    AggregatedLine, ImpactCause, LedgerRow, OutputError, OutputRow, ParquetFile, RawStatus,
    ResourceImpact, SuspendedUsage, change_schema, encode_changes,
};
use millrace_operators::aggregate::LineFinder;
use millrace_operators::domain::{Bucket, BucketKey, Fate, Name, RecordId};
use millrace_operators::epoch::{Diff, Epoch};
use std::collections::BTreeMap;

/// Rows after which a file of changes is finished and the next begun.
const CHANGE_FILE_ROWS: usize = 1 << 20;

impl Outputs {
    /// The writer of changes.
    #[must_use]
    pub fn changes(&self, finder: LineFinder) -> ChangeWriter {
        ChangeWriter {
            outputs: self.clone(),
            finder,
            resources: HashMap::new(),
            monetised: None,
            impacts: None,
            buckets: None,
            activity: None,
            notices: None,
            suspense: None,
            aggregated: None,
            raw_status: None,
        }
    }
}

/// A file is entered in the ledger once, when it is settled: its only change is its entry, which is told
/// at the end. Each run writes all of them, in the place of those of the runs before: so they are a snapshot,
/// which takes its place as one, and not a file of changes that may be put there at any time.
pub(super) fn write_ledger(
    outputs: &Outputs,
    ledger: &[LedgerRow],
) -> Result<Option<Staged>, OutputError> {
    if ledger.is_empty() {
        return Ok(None);
    }
    let mut spot = outputs.hidden(outputs.parquet("ledger/changes", &format!("{:020}", 0)));
    let schema = change_schema::<LedgerRow>(&outputs.texts);
    let mut file = ParquetFile::of(outputs.begin(&spot)?, &schema)?;
    let come = vec![1; ledger.len()];
    file.write(&encode_changes(0, ledger, come, &outputs.texts)?)?;
    spot.waiting = file.finish()?;
    Ok(Some(spot))
}

/// A file of changes, begun with its first row.
#[derive(Default)]
struct ChangeFile {
    file: Option<ParquetFile>,
    /// Files begun, and the places that they will take.
    staged: Vec<Staged>,
}

/// The digest that the name of a file of changes has in it: `<epoch>-<generation>-<run>-<digest>.parquet`,
/// where epochs are made durable.
pub(crate) fn digest_of(name: &str) -> Option<&str> {
    let mut words = name.strip_suffix(".parquet")?.rsplit('-');
    let (digest, run) = (words.next()?, words.next()?);
    let is_hex = |word: &str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = |word: &str| word.bytes().all(|b| b.is_ascii_digit());
    let is_of_run = is_hex(run) && words.next().is_some_and(is_number);
    (is_of_run && is_hex(digest)).then_some(digest)
}

impl ChangeFile {
    fn write<T: OutputRow>(
        &mut self,
        outputs: &Outputs,
        output: &str,
        epoch: Epoch,
        rows: &[T],
        diffs: Vec<i64>,
    ) -> Result<(), OutputError> {
        if rows.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let place = outputs.parquet(&format!("{output}/changes"), &format!("{epoch:020}"));
                let spot = outputs.hidden(place);
                let name = spot.staged.clone();
                self.staged.push(spot);
                let schema = change_schema::<T>(&outputs.texts);
                let create = match outputs.tag {
                    Some(_) => ParquetFile::create_digesting,
                    // It has its name from the beginning.
                    None => ParquetFile::create,
                };
                self.file.insert(create(&outputs.store, &name, &schema)?)
            }
        };
        file.write(&encode_changes(epoch, rows, diffs, &outputs.texts)?)?;
        if file.rows() >= CHANGE_FILE_ROWS {
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), OutputError> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let digest = file.finish_digested()?;
        // Whoever reads it can tell that its bytes are those that were written.
        if let (Some(digest), Some(spot)) = (digest, self.staged.last_mut())
            && let Some(stem) = spot.place.strip_suffix(".parquet")
        {
            spot.place = format!("{stem}-{digest}.parquet");
        }
        Ok(())
    }
}

/// Writes the changes of complete epochs.
pub struct ChangeWriter {
    outputs: Outputs,
    finder: LineFinder,
    /// The resources of buckets, as rows of impacts name them. They are only looked up, and a tree of so small
    /// entries takes twice as much.
    resources: HashMap<BucketKey, Name>,
    monetised: Option<ChangeFile>,
    impacts: Option<ChangeFile>,
    /// Written with impacts, which cannot be added up without what buckets begin with.
    buckets: Option<ChangeFile>,
    activity: Option<ChangeFile>,
    notices: Option<ChangeFile>,
    suspense: Option<ChangeFile>,
    aggregated: Option<ChangeFile>,
    raw_status: Option<ChangeFile>,
}

impl ChangeWriter {
    /// Whether an output wants any of these changes written: only then must they be settled.
    #[must_use]
    pub fn wants(&self, changes: &EpochChanges) -> bool {
        let OutputPlan {
            monetised,
            impacts,
            activity,
            notices,
            suspense,
            aggregated,
            raw_status,
            ..
        } = &self.outputs.plan;
        let usage = [monetised, suspense, aggregated, raw_status];
        let resources = !changes.impacts.is_empty() || !changes.edges.is_empty();
        usage.into_iter().any(|forms| forms.changes)
            || (impacts.changes && (resources || !changes.buckets.is_empty()))
            || (activity.changes && !changes.activity.is_empty())
            || (notices.changes && !changes.notices.is_empty())
    }

    /// Writes one epoch, whose changes are settled.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&mut self, changes: &EpochChanges) -> Result<(), OutputError> {
        let Self {
            outputs, finder, ..
        } = self;
        let (epoch, plan) = (changes.epoch, &outputs.plan);
        if plan.monetised.changes {
            let file = self.monetised.get_or_insert_default();
            let rows: Vec<_> = changes
                .charges
                .iter()
                .map(|(c, _)| monetise(c, finder))
                .collect();
            file.write(outputs, "monetised", epoch, &rows, diffs(&changes.charges))?;
        }
        if plan.impacts.changes {
            let file = self.impacts.get_or_insert_default();
            let (rows, signs) = impacts(changes, &mut self.resources);
            file.write(outputs, "impacts", epoch, &rows, signs)?;
            let file = self.buckets.get_or_insert_default();
            let rows: Vec<Bucket> = changes.buckets.iter().map(|(b, _)| b.clone()).collect();
            file.write(outputs, "buckets", epoch, &rows, diffs(&changes.buckets))?;
        }
        if plan.activity.changes {
            let file = self.activity.get_or_insert_default();
            let rows = changes.activity.iter();
            let rows: Vec<_> = rows.map(|(a, _)| place(a.clone(), finder)).collect();
            file.write(outputs, "activity", epoch, &rows, diffs(&changes.activity))?;
        }
        if plan.notices.changes {
            let file = self.notices.get_or_insert_default();
            let rows: Vec<_> = changes.notices.iter().map(|(n, _)| *n).collect();
            file.write(outputs, "notices", epoch, &rows, diffs(&changes.notices))?;
        }
        if plan.suspense.changes {
            let file = self.suspense.get_or_insert_default();
            let (rows, diffs) = suspended(changes);
            file.write(outputs, "suspense", epoch, &rows, diffs)?;
        }
        if plan.aggregated.changes {
            let file = self.aggregated.get_or_insert_default();
            let lines = changes.lines.iter();
            let rows: Vec<AggregatedLine> = lines
                .map(|((key, sum), _)| AggregatedLine {
                    key: key.clone(),
                    sum: *sum,
                })
                .collect();
            file.write(outputs, "aggregated", epoch, &rows, diffs(&changes.lines))?;
        }
        if plan.raw_status.changes {
            let file = self.raw_status.get_or_insert_default();
            let statuses = statuses(changes);
            let rows: Vec<RawStatus> = statuses.iter().map(|(status, _)| *status).collect();
            file.write(outputs, "raw_status", epoch, &rows, diffs(&statuses))?;
        }
        Ok(())
    }

    /// Finishes the files begun, so that they can be read: at the end, and whenever a live job has
    /// nothing more to do for now.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn settle(&mut self) -> Result<(), OutputError> {
        let mut files = self.files();
        files.try_for_each(ChangeFile::finish)
    }

    /// The files written under hidden names since the last call.
    pub fn staged(&mut self) -> Vec<Staged> {
        let staged = |file: &mut ChangeFile| std::mem::take(&mut file.staged);
        self.files().flat_map(staged).collect()
    }

    fn files(&mut self) -> impl Iterator<Item = &mut ChangeFile> {
        let files = [
            &mut self.monetised,
            &mut self.impacts,
            &mut self.buckets,
            &mut self.activity,
            &mut self.notices,
            &mut self.suspense,
            &mut self.aggregated,
            &mut self.raw_status,
        ];
        files.into_iter().flatten()
    }

    /// Learns the buckets that an earlier run told of.
    pub fn learn(&mut self, buckets: &[(Bucket, Diff)]) {
        for (bucket, diff) in buckets {
            if *diff > 0 {
                self.resources.insert(bucket.key, bucket.resource);
            }
        }
    }
}

fn diffs<T>(changes: &[(T, Diff)]) -> Vec<i64> {
    changes
        .iter()
        .map(|(_, diff)| i64::try_from(*diff).unwrap_or(0))
        .collect()
}

/// The changes of impacts. A bucket that goes is still named by what is taken back with it, so
/// buckets come before and go after the rows of their epoch.
fn impacts(
    changes: &EpochChanges,
    resources: &mut HashMap<BucketKey, Name>,
) -> (Vec<ResourceImpact>, Vec<i64>) {
    let (come, gone): (Vec<_>, Vec<_>) = changes.buckets.iter().partition(|(_, diff)| *diff > 0);
    let come: BTreeMap<BucketKey, Name> = come
        .into_iter()
        .map(|(bucket, _)| (bucket.key, bucket.resource))
        .collect();
    resources.extend(come.iter().map(|(bucket, resource)| (*bucket, *resource)));
    let usage = changes.impacts.iter();
    let usage = usage.map(|(impact, diff)| (ImpactCause::Usage(*impact), *diff));
    let edges = changes.edges.iter().flat_map(|(edge, diff)| {
        let causes = ImpactCause::of_edge(edge);
        causes.map(|cause| (cause, *diff))
    });
    let row = |(cause, diff): (ImpactCause, Diff)| {
        let row = ResourceImpact::new(cause, |key| resources.get(&key).copied());
        (row, diff)
    };
    let rows: Vec<(ResourceImpact, Diff)> = usage.chain(edges).map(row).collect();
    for (bucket, _) in gone {
        if !come.contains_key(&bucket.key) {
            resources.remove(&bucket.key);
        }
    }
    let diffs = diffs(&rows);
    (rows.into_iter().map(|(row, _)| row).collect(), diffs)
}

fn suspended(changes: &EpochChanges) -> (Vec<SuspendedUsage>, Vec<i64>) {
    let faults = changes
        .faults
        .iter()
        .map(|(f, d)| (SuspendedUsage::Fault(f.clone()), *d));
    let rest = changes
        .suspense
        .iter()
        .map(|(s, d)| (SuspendedUsage::Suspense(*s), *d));
    let mut all: Vec<(SuspendedUsage, Diff)> = faults.chain(rest).collect();
    all.sort_by_key(|(row, diff)| (row.record(), *diff, row.reason()));
    let diffs = diffs(&all);
    (all.into_iter().map(|(row, _)| row).collect(), diffs)
}

/// The changes of fates: a record whose fate is taken back and given again has not changed.
fn statuses(changes: &EpochChanges) -> Vec<(RawStatus, Diff)> {
    let mut net: BTreeMap<(RecordId, Fate), Diff> = BTreeMap::new();
    let mut add = |record, fate, diff: Diff| *net.entry((record, fate)).or_default() += diff;
    for (charge, diff) in changes
        .charges
        .iter()
        .filter(|(charge, _)| charge.item == 0)
    {
        add(charge.record, Fate::Monetised, *diff);
    }
    for (suspense, diff) in &changes.suspense {
        add(suspense.record, Fate::of(suspense.reason), *diff);
    }
    for (fault, diff) in &changes.faults {
        add(fault.record, Fate::of(fault.reason), *diff);
    }
    for (record, diff) in &changes.ignored {
        add(*record, Fate::Ignored, *diff);
    }
    for (record, diff) in &changes.archived {
        add(*record, Fate::Monetised, *diff);
    }
    net.into_iter()
        .filter(|(_, diff)| *diff != 0)
        .map(|((record, fate), diff)| (RawStatus { record, fate }, diff))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::digest_of;

    #[test]
    fn names_of_changes_have_their_digest() {
        let (run, digest) = ("0123456789abcdef", "fedcba9876543210");
        for (name, expected) in [
            (format!("{:020}-7-{run}-{digest}.parquet", 3), Some(digest)),
            (format!("{:020}-7-{run}.parquet", 3), None),
            (format!("{:020}.parquet", 3), None),
            (format!("part-00-7-{run}.parquet"), None),
            (format!("{run}-{digest}.parquet"), None),
            (format!("{:020}-7-{run}-{digest}.csv", 3), None),
        ] {
            assert_eq!(digest_of(&name), expected, "{name}");
        }
    }
}
