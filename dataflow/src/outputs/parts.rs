//! What a worker writes of the snapshots: usage, shard by shard.
//!
//! ```text
//!  records open   few: batches go to the caller, who writes one file of all workers'
//!                 many: one file per shard, written where the records are
//! ```
//!
//! Files take their places when all of the snapshot does, behind the last commit.

use super::folder::Outputs;
use super::rows::monetise;
use crate::durable::Staged;
use crate::graph::Open;
use crate::job::file::OutputForms;
use crate::worker::Seat;
use arrow::array::RecordBatch;
use millrace_connectors::output::{
    Balance, ImpactCause, MonetisedUsage, OutputError, OutputRow, ParquetFile, ResourceImpact,
    encode, schema,
};
use millrace_connectors::store::NewFile;
use millrace_operators::aggregate::LineFinder;
use millrace_operators::charge::{EdgeCharged, ItemImpact, Notice, Sink};
use millrace_operators::domain::{
    Bucket, BucketKey, Charge, Fate, GroupKey, Impact, RecordId, Suspense,
};
use millrace_operators::epoch::{Diff, SHARDS, shard};
use millrace_operators::rate::Rating;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a batch on its way to a file.
pub(super) const BATCH_ROWS: usize = 1 << 16;
/// Charges up to which a snapshot is one file instead of one per shard.
const ONE_FILE_RECORDS: usize = 1 << 20;
/// A charge has several impacts.
const ONE_FILE_RECORDS_IMPACTS: usize = ONE_FILE_RECORDS / 4;

/// What a worker hands over at the end of a run.
#[derive(Default)]
pub struct WorkerSnapshot {
    pub(super) monetised: Parts,
    pub(super) impacts: Parts,
    pub(super) balances: Vec<Balance>,
    pub(super) suspense: Vec<Suspense>,
    pub(super) fates: Vec<(RecordId, Fate)>,
}

/// The parts of one output, by shard.
#[derive(Default)]
pub(super) struct Parts {
    /// Batches that the caller writes.
    pub(super) batches: BTreeMap<u64, Vec<RecordBatch>>,
    /// Files that are still to be finished.
    files: Vec<(NewFile, Staged)>,
    /// Files that are.
    pub(super) written: Vec<Staged>,
}

impl Parts {
    pub(super) fn extend(&mut self, other: Self) {
        self.batches.extend(other.batches);
        self.files.extend(other.files);
        self.written.extend(other.written);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.files.is_empty() && self.batches.is_empty()
    }

    /// Finishes the files.
    pub(super) fn settle(&mut self) -> Result<(), OutputError> {
        for (file, mut spot) in self.files.drain(..) {
            spot.waiting = file.finish()?;
            self.written.push(spot);
        }
        Ok(())
    }

    pub(super) fn into_batches(self) -> Vec<RecordBatch> {
        self.batches.into_values().flatten().collect()
    }
}

/// One output of one shard on its way.
struct Part<'a, T> {
    outputs: &'a Outputs,
    name: &'static str,
    shard: u64,
    wanted: bool,
    collected: bool,
    rows: Vec<T>,
    batches: Vec<RecordBatch>,
    file: Option<(ParquetFile, Staged)>,
}

impl<'a, T: OutputRow> Part<'a, T> {
    fn new(
        outputs: &'a Outputs,
        (name, forms): (&'static str, OutputForms),
        shard: u64,
        one_file: bool,
    ) -> Self {
        Self {
            outputs,
            name,
            shard,
            wanted: forms.tells_end(),
            collected: one_file || forms.is_text(),
            rows: Vec::new(),
            batches: Vec::new(),
            file: None,
        }
    }

    fn push(&mut self, row: T) -> Result<(), OutputError> {
        self.rows.push(row);
        if self.rows.len() >= BATCH_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let batch = encode(&self.rows, &self.outputs.texts)?;
        self.rows.clear();
        if self.collected {
            self.batches.push(batch);
            return Ok(());
        }
        let (file, _) = match &mut self.file {
            Some(file) => file,
            None => {
                let folder = format!("{}/snapshot", self.name);
                let stem = format!("part-{:02}", self.shard);
                let place = self.outputs.parquet(&folder, &stem);
                let spot = self.outputs.hidden(place);
                let schema = schema::<T>(&self.outputs.texts);
                let file = ParquetFile::of(self.outputs.begin(&spot)?, &schema)?;
                self.file.insert((file, spot))
            }
        };
        file.write(&batch)
    }

    fn finish(mut self, parts: &mut Parts) -> Result<(), OutputError> {
        self.flush()?;
        if let Some((file, spot)) = self.file {
            parts.files.push((file.close()?, spot));
        }
        if !self.batches.is_empty() {
            parts.batches.insert(self.shard, self.batches);
        }
        Ok(())
    }
}

/// Takes what a shard holds open.
struct Taker<'a> {
    finder: &'a mut LineFinder,
    monetised: Part<'a, MonetisedUsage>,
    impacts: Part<'a, ResourceImpact>,
    fates: Option<&'a mut Vec<(RecordId, Fate)>>,
    suspense: Option<&'a mut Vec<Suspense>>,
    /// Of the group that is visited.
    buckets: BTreeMap<BucketKey, Bucket>,
    carried: BTreeMap<BucketKey, i128>,
    result: Result<(), OutputError>,
}

impl Taker<'_> {
    fn settle(&mut self, rating: &Rating) -> Result<(), OutputError> {
        match rating {
            Rating::Charge(charge) => {
                if let Some(fates) = &mut self.fates
                    && charge.item == 0
                {
                    fates.push((charge.record, Fate::Monetised));
                }
                if self.monetised.wanted {
                    let row = monetise(charge, self.finder);
                    self.monetised.push(row)?;
                }
            }
            // The charge stage tells what it comes to.
            Rating::Priced(_) => {}
            Rating::Suspense(record) => {
                if let Some(fates) = &mut self.fates {
                    fates.push((record.record, Fate::of(record.reason)));
                }
                if let Some(suspense) = &mut self.suspense {
                    suspense.push(*record);
                }
            }
        }
        Ok(())
    }

    /// Remembers the first failure; there is no way to stop a visit.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), OutputError>) {
        if self.result.is_ok() {
            self.result = work(self);
        }
    }

    fn impact(&mut self, cause: ImpactCause) -> Result<(), OutputError> {
        let resource = |key| self.buckets.get(&key).map(|bucket| bucket.resource);
        let row = ResourceImpact::new(cause, resource);
        self.impacts.push(row)
    }

    /// Where the buckets of the visited group stand.
    fn balances(&mut self, values: Vec<(BucketKey, i128)>, balances: &mut Vec<Balance>) {
        for (key, value) in values {
            if let Some(bucket) = self.buckets.remove(&key) {
                let carried = self.carried.get(&key).copied().unwrap_or(0);
                balances.push(Balance {
                    bucket,
                    carried,
                    value,
                    accounts: Arc::default(),
                });
            }
        }
    }
}

impl Sink for Taker<'_> {
    fn item(&mut self, charge: &Charge, impacts: &[Impact], _: Diff) {
        self.attempt(|taker| {
            taker.settle(&Rating::Charge(*charge))?;
            if !taker.impacts.wanted {
                return Ok(());
            }
            let mut causes = ItemImpact::of(charge, impacts).map(ImpactCause::Usage);
            causes.try_for_each(|cause| taker.impact(cause))
        });
    }

    fn suspense(&mut self, suspense: &Suspense, _: Diff) {
        self.attempt(|taker| taker.settle(&Rating::Suspense(*suspense)));
    }

    fn edge(&mut self, edge: &EdgeCharged, _: Diff) {
        carry(edge, &self.buckets, &mut self.carried);
        self.attempt(|taker| {
            if !taker.impacts.wanted {
                return Ok(());
            }
            ImpactCause::of_edge(edge).try_for_each(|cause| taker.impact(cause))
        });
    }

    fn notice(&mut self, _: &Notice, _: Diff) {}
}

/// Adds what an edge moved between buckets.
pub(crate) fn carry(
    edge: &EdgeCharged,
    buckets: &BTreeMap<BucketKey, Bucket>,
    carried: &mut BTreeMap<BucketKey, i128>,
) {
    // What an edge charges names the bucket that it is charged by, and leaves it alone.
    let moves = edge.impacts.iter();
    for impact in moves.filter(|impact| impact.moves_its_bucket()) {
        let bucket = impact.bucket.and_then(|key| buckets.get(&key));
        if let Some(bucket) = bucket {
            let moved = impact.moved(bucket.measure);
            let sum = carried.entry(bucket.key).or_default();
            // A bucket stays within 38 digits, and so does what moved it.
            *sum = sum.saturating_add(moved);
        }
    }
}

impl Outputs {
    /// Writes what a worker holds of the snapshots of usage, its impacts, and balances. A job with
    /// few records open is one file, which the caller writes from the batches returned.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn snapshot_open(
        &self,
        open: &Open,
        finder: &mut LineFinder,
        seat: Seat,
    ) -> Result<WorkerSnapshot, OutputError> {
        let plan = &self.plan;
        let of = OutputForms::tells_end;
        let mut groups: BTreeMap<u64, Vec<GroupKey>> = BTreeMap::new();
        for group in open.charges.groups() {
            groups.entry(shard(group.0)).or_default().push(group);
        }
        let mut snapshot = WorkerSnapshot::default();
        for part in (0..SHARDS).filter(|part| part % seat.peers == seat.worker) {
            let one_file = |limit: usize| seat.records <= limit;
            let monetised = ("monetised", plan.monetised);
            let impacts = ("impacts", plan.impacts);
            let mut taker = Taker {
                finder: &mut *finder,
                monetised: Part::new(self, monetised, part, one_file(ONE_FILE_RECORDS)),
                impacts: Part::new(self, impacts, part, one_file(ONE_FILE_RECORDS_IMPACTS)),
                fates: of(plan.raw_status).then_some(&mut snapshot.fates),
                suspense: of(plan.suspense).then_some(&mut snapshot.suspense),
                buckets: BTreeMap::new(),
                carried: BTreeMap::new(),
                result: Ok(()),
            };
            open.ratings.visit_settled(
                |service| shard(service.0) == part,
                |rating| taker.settle(rating),
            )?;
            for group in groups.remove(&part).unwrap_or_default() {
                taker.buckets = buckets_of(open, group);
                taker.carried.clear();
                open.charges
                    .with_group(group, |group| group.visit(&mut taker));
                if of(plan.balances) {
                    let mut values = open.charges.balances(group, None).unwrap_or_default();
                    values.retain(|(key, _)| {
                        let bucket = taker.buckets.get(key);
                        bucket.is_none_or(|bucket| !open.is_past(bucket))
                    });
                    taker.balances(values, &mut snapshot.balances);
                }
            }
            let Taker {
                monetised,
                impacts,
                result,
                ..
            } = taker;
            result?;
            monetised.finish(&mut snapshot.monetised)?;
            impacts.finish(&mut snapshot.impacts)?;
        }
        Ok(snapshot)
    }
}

/// The buckets of a group that outputs show, by key.
pub(crate) fn buckets_of(open: &Open, group: GroupKey) -> BTreeMap<BucketKey, Bucket> {
    let mut buckets = all_buckets_of(open, group);
    buckets.retain(|_, bucket| !bucket.kind.is_inner());
    buckets
}

/// The buckets of a group, by key.
pub(crate) fn all_buckets_of(open: &Open, group: GroupKey) -> BTreeMap<BucketKey, Bucket> {
    let buckets = open.charges.with_group(group, |group| {
        let buckets = group.buckets();
        buckets.map(|bucket| (bucket.key, bucket)).collect()
    });
    buckets.unwrap_or_default()
}
