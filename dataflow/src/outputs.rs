//! The outputs of a job: changes as they happen, and the state at the end of the run.
//!
//! ```text
//!  <folder>/<output>/changes/<first epoch>.parquet     every change, with its epoch and + or -
//!  <folder>/<output>/snapshot/part-NN.parquet          what stands at the end
//!  <folder>/<output>/snapshot.jsonl                    the same as JSON lines, where asked for
//! ```
//!
//! Changes come from the publisher, one thread, epoch by epoch. Snapshots of charges are written by
//! the workers, shard by shard, in the order of (service, class, event time, record, item), then what
//! is charged in order, by (balance group, event time, record, item): the bytes do not depend on the
//! number of workers. A run writes its outputs anew; files of an earlier
//! run in the same folder are taken away first, so that a reader never adds two runs up.

use crate::board::Board;
use crate::graph::Open;
use crate::job::OutputPlan;
use crate::job::file::OutputForms;
use crate::publish::EpochChanges;
use arrow::array::RecordBatch;
use millrace_connectors::output::{
    AggregatedLine, JsonFile, LedgerRow, MonetisedUsage, OutputError, OutputRow, ParquetFile,
    RawStatus, SuspendedUsage, Texts, change_schema, encode, encode_changes, schema,
};
use millrace_connectors::store::Store;
use millrace_operators::aggregate::LineFinder;
use millrace_operators::charge::{EdgeCharged, Notice, Sink};
use millrace_operators::domain::{Charge, Fate, FileId, GroupKey, Impact, RecordId, Suspense};
use millrace_operators::epoch::{Diff, Epoch, SHARDS, shard};
use millrace_operators::rate::Rating;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a batch on its way to a file.
const BATCH_ROWS: usize = 1 << 16;
/// Rows after which a file of changes is finished and the next begun.
const CHANGE_FILE_ROWS: usize = 1 << 20;
/// Charges up to which a snapshot is one file instead of one per shard.
const ONE_FILE_RECORDS: usize = 1 << 20;

/// The folders of the outputs, in the order in which they are described to people.
pub const OUTPUTS: [&str; 5] = [
    "monetised",
    "suspense",
    "aggregated",
    "raw_status",
    "ledger",
];

/// Where and in which forms a job's outputs are written.
#[derive(Clone)]
pub struct Outputs {
    store: Arc<Store>,
    plan: OutputPlan,
    texts: Texts,
}

impl Outputs {
    /// Prepares the folder: outputs of an earlier run are taken away.
    ///
    /// # Errors
    /// When they cannot be.
    pub fn prepare(store: Arc<Store>, plan: OutputPlan, texts: Texts) -> Result<Self, OutputError> {
        for name in OUTPUTS {
            store.clear(name)?;
        }
        Ok(Self { store, plan, texts })
    }

    /// Whether an output needs each change of each charge.
    #[must_use]
    pub fn wants_charges(&self) -> bool {
        self.plan.monetised.changes || self.plan.raw_status.changes
    }

    /// Whether an output needs each ignored record.
    #[must_use]
    pub fn wants_ignored(&self) -> bool {
        self.plan.raw_status.changes
    }

    /// The writer of changes.
    #[must_use]
    pub fn changes(&self, finder: LineFinder) -> ChangeWriter {
        ChangeWriter {
            outputs: self.clone(),
            finder,
            monetised: None,
            suspense: None,
            aggregated: None,
            raw_status: None,
        }
    }

    /// Writes what a worker holds of the snapshots of charges and raw status.
    ///
    /// `total` is the number of open records of all workers: a small job is one file, which the
    /// caller writes from the batches returned.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn snapshot_open(
        &self,
        open: &Open,
        finder: &mut LineFinder,
        (index, peers): (u64, u64),
        total: usize,
    ) -> Result<WorkerSnapshot, OutputError> {
        let mut snapshot = WorkerSnapshot::default();
        let forms = self.plan.monetised;
        let monetised = forms.snapshot || forms.json;
        let statuses = self.plan.raw_status.snapshot || self.plan.raw_status.json;
        let suspense = self.plan.suspense.snapshot || self.plan.suspense.json;
        for part in (0..SHARDS).filter(|part| part % peers == index) {
            let mut file = None;
            let mut rows: Vec<MonetisedUsage> = Vec::new();
            let mut batches: Vec<RecordBatch> = Vec::new();
            let mut flush = |rows: &mut Vec<MonetisedUsage>| -> Result<(), OutputError> {
                if rows.is_empty() {
                    return Ok(());
                }
                let batch = encode(rows, &self.texts)?;
                rows.clear();
                if total <= ONE_FILE_RECORDS || forms.json {
                    batches.push(batch);
                    return Ok(());
                }
                let file = match &mut file {
                    Some(file) => file,
                    None => {
                        let name = format!("monetised/snapshot/part-{part:02}.parquet");
                        let schema = schema::<MonetisedUsage>(&self.texts);
                        file.insert(ParquetFile::create(&self.store, &name, &schema)?)
                    }
                };
                file.write(&batch)
            };
            let mut settle = |rating: &Rating| -> Result<(), OutputError> {
                match rating {
                    Rating::Charge(charge) => {
                        if statuses && charge.item == 0 {
                            snapshot.fates.push((charge.record, Fate::Monetised));
                        }
                        if monetised {
                            rows.push(monetise(charge, finder));
                            if rows.len() >= BATCH_ROWS {
                                flush(&mut rows)?;
                            }
                        }
                    }
                    // The charge stage tells what it comes to.
                    Rating::Priced(_) => {}
                    Rating::Suspense(record) => {
                        if statuses {
                            snapshot
                                .fates
                                .push((record.record, Fate::of(record.reason)));
                        }
                        if suspense {
                            snapshot.suspense.push(*record);
                        }
                    }
                }
                Ok(())
            };
            open.ratings
                .visit(|service| shard(service.0) == part, &mut settle)?;
            let mut in_order = InOrder {
                settle,
                result: Ok(()),
            };
            let in_part = |group: GroupKey| shard(group.0) == part;
            open.charges.visit(in_part, &mut in_order);
            in_order.result?;
            flush(&mut rows)?;
            if let Some(file) = file {
                file.finish()?;
            }
            if !batches.is_empty() {
                snapshot.monetised.insert(part, batches);
            }
        }
        Ok(snapshot)
    }

    /// Writes the snapshots that need all workers.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn snapshot(
        &self,
        workers: Vec<WorkerSnapshot>,
        board: &Board,
        ledger: &[LedgerRow],
    ) -> Result<(), OutputError> {
        let mut monetised: BTreeMap<u64, Vec<RecordBatch>> = BTreeMap::new();
        let mut suspended = board.stopped();
        let mut fates: Vec<(RecordId, Fate)> = Vec::new();
        for worker in workers {
            monetised.extend(worker.monetised);
            suspended.extend(worker.suspense.into_iter().map(SuspendedUsage::Suspense));
            fates.extend(worker.fates);
        }
        suspended.sort_by_key(SuspendedUsage::record);
        let charges: Vec<RecordBatch> = monetised.into_values().flatten().collect();
        let rows: usize = charges.iter().map(RecordBatch::num_rows).sum();
        if rows > 0 || board.counts().monetised == 0 {
            self.write_batches::<MonetisedUsage>("monetised", self.plan.monetised, &charges)?;
        }
        self.write_rows("suspense", self.plan.suspense, &suspended)?;
        self.write_rows("aggregated", self.plan.aggregated, &board.lines())?;
        self.write_rows("ledger", self.plan.ledger, ledger)?;
        if self.plan.ledger.changes {
            self.write_ledger_changes(ledger)?;
        }
        let forms = self.plan.raw_status;
        if forms.snapshot || forms.json {
            self.write_rows("raw_status", forms, &raw_statuses(fates, board))?;
        }
        Ok(())
    }

    fn write_rows<T: OutputRow>(
        &self,
        name: &str,
        forms: OutputForms,
        rows: &[T],
    ) -> Result<(), OutputError> {
        if !forms.snapshot && !forms.json {
            return Ok(());
        }
        let batches = rows
            .chunks(BATCH_ROWS)
            .map(|rows| encode(rows, &self.texts))
            .collect::<Result<Vec<_>, _>>()?;
        self.write_batches::<T>(name, forms, &batches)
    }

    fn write_batches<T: OutputRow>(
        &self,
        name: &str,
        forms: OutputForms,
        batches: &[RecordBatch],
    ) -> Result<(), OutputError> {
        if forms.snapshot {
            let place = format!("{name}/snapshot/part-00.parquet");
            let mut file = ParquetFile::create(&self.store, &place, &schema::<T>(&self.texts))?;
            batches.iter().try_for_each(|batch| file.write(batch))?;
            file.finish()?;
        }
        if forms.json {
            let mut file = JsonFile::create(&self.store, &format!("{name}/snapshot.jsonl"))?;
            batches.iter().try_for_each(|batch| file.write(batch))?;
            file.finish()?;
        }
        Ok(())
    }

    /// A file is entered in the ledger once, when it is settled: its only change is its entry.
    fn write_ledger_changes(&self, ledger: &[LedgerRow]) -> Result<(), OutputError> {
        let mut changes = ChangeFile::default();
        changes.write(self, "ledger", 0, ledger, vec![1; ledger.len()])?;
        changes.finish()
    }
}

/// What a worker hands over at the end of a run.
#[derive(Default)]
pub struct WorkerSnapshot {
    monetised: BTreeMap<u64, Vec<RecordBatch>>,
    suspense: Vec<Suspense>,
    fates: Vec<(RecordId, Fate)>,
}

/// Settles what is charged in order like what is not.
struct InOrder<F> {
    settle: F,
    result: Result<(), OutputError>,
}

impl<F: FnMut(&Rating) -> Result<(), OutputError>> InOrder<F> {
    fn settle(&mut self, rating: &Rating) {
        if self.result.is_ok() {
            self.result = (self.settle)(rating);
        }
    }
}

impl<F: FnMut(&Rating) -> Result<(), OutputError>> Sink for InOrder<F> {
    fn item(&mut self, charge: &Charge, _: &[Impact], _: Diff) {
        self.settle(&Rating::Charge(*charge));
    }

    fn suspense(&mut self, suspense: &Suspense, _: Diff) {
        self.settle(&Rating::Suspense(*suspense));
    }

    fn edge(&mut self, _: &EdgeCharged, _: Diff) {}

    fn notice(&mut self, _: &Notice, _: Diff) {}
}

fn monetise(charge: &Charge, finder: &mut LineFinder) -> MonetisedUsage {
    let (line, _) = finder.line(charge);
    let unit = millrace_operators::domain::Period::new(line.unit_start, line.unit_end)
        .expect("bill units are periods");
    MonetisedUsage {
        charge: *charge,
        line: line.aggregate_id(),
        unit,
    }
}

/// The fate of every record of every file, in record order. A record that nobody else has is one
/// that a mediation rule excluded: every record has exactly one fate, and conservation was checked.
fn raw_statuses(open: Vec<(RecordId, Fate)>, board: &Board) -> Vec<RawStatus> {
    let mut files: BTreeMap<FileId, Vec<Fate>> = BTreeMap::new();
    for (file, received) in board.received() {
        files.insert(
            file,
            vec![Fate::Ignored; usize::try_from(received).unwrap_or(0)],
        );
    }
    let stopped = board
        .stopped()
        .into_iter()
        .map(|row| (row.record(), Fate::of(row.reason())));
    for (record, fate) in open.into_iter().chain(stopped) {
        let row = usize::try_from(record.row()).unwrap_or(usize::MAX);
        // The fault of a file that breaks off stands behind its last record.
        if let Some(slot) = files
            .get_mut(&record.file())
            .and_then(|rows| rows.get_mut(row))
        {
            *slot = fate;
        }
    }
    let mut statuses = Vec::new();
    for (file, fates) in files {
        let rows = (0_u64..).zip(fates);
        statuses.extend(rows.map(|(row, fate)| RawStatus {
            record: RecordId::new(file, row),
            fate,
        }));
    }
    statuses
}

/// A file of changes, begun with its first row.
#[derive(Default)]
struct ChangeFile(Option<ParquetFile>);

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
        let file = match &mut self.0 {
            Some(file) => file,
            None => {
                let name = format!("{output}/changes/{epoch:020}.parquet");
                let schema = change_schema::<T>(&outputs.texts);
                self.0
                    .insert(ParquetFile::create(&outputs.store, &name, &schema)?)
            }
        };
        file.write(&encode_changes(epoch, rows, diffs, &outputs.texts)?)?;
        if file.rows() >= CHANGE_FILE_ROWS {
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), OutputError> {
        self.0.take().map_or(Ok(()), ParquetFile::finish)
    }
}

/// Writes the changes of complete epochs.
pub struct ChangeWriter {
    outputs: Outputs,
    finder: LineFinder,
    monetised: Option<ChangeFile>,
    suspense: Option<ChangeFile>,
    aggregated: Option<ChangeFile>,
    raw_status: Option<ChangeFile>,
}

impl ChangeWriter {
    /// Whether any output wants its changes written.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let OutputPlan {
            monetised,
            suspense,
            aggregated,
            raw_status,
            ..
        } = &self.outputs.plan;
        [monetised, suspense, aggregated, raw_status]
            .into_iter()
            .any(|forms| forms.changes)
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
        let files = [
            &mut self.monetised,
            &mut self.suspense,
            &mut self.aggregated,
            &mut self.raw_status,
        ];
        files.into_iter().flatten().try_for_each(ChangeFile::finish)
    }
}

fn diffs<T>(changes: &[(T, Diff)]) -> Vec<i64> {
    changes
        .iter()
        .map(|(_, diff)| i64::try_from(*diff).unwrap_or(0))
        .collect()
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
    net.into_iter()
        .filter(|(_, diff)| *diff != 0)
        .map(|((record, fate), diff)| (RawStatus { record, fate }, diff))
        .collect()
}
