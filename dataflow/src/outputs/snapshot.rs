//! The snapshots at the end of a run.

use super::changes;
use super::folder::Outputs;
use super::parts::{BATCH_ROWS, Parts, WorkerSnapshot};
use super::rows::{owned, place, raw_statuses};
use crate::board::{Board, in_order};
use crate::durable::Staged;
use crate::job::file::OutputForms;
use arrow::array::RecordBatch;
use millrace_connectors::output::{
    Balance, CsvFile, JsonFile, LedgerRow, MonetisedUsage, OutputError, OutputRow, ParquetFile,
    ResourceImpact, SuspendedUsage, encode, schema,
};
use millrace_connectors::reference::Reference;
use millrace_connectors::store::{NewFile, Waiting};
use millrace_operators::aggregate::LineFinder;
use millrace_operators::domain::{Fate, RecordId, Suspense};
use roaring::RoaringTreemap;

impl Outputs {
    /// Writes the snapshots that need all workers. Outputs of plans are written where there are plans,
    /// or were while the job ran. Returns the files of all snapshots, which take their places when they
    /// are committed; where nothing is durable, they are there.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn snapshot(
        &self,
        workers: Vec<WorkerSnapshot>,
        ended: &Standing<'_>,
        finder: &mut LineFinder,
    ) -> Result<Vec<Staged>, OutputError> {
        let staged = &mut Vec::new();
        let Standing {
            board,
            ledger,
            reference,
            archived,
        } = *ended;
        let (mut monetised, mut impacts) = (Parts::default(), Parts::default());
        let mut balances: Vec<Balance> = Vec::new();
        let mut open: Vec<Suspense> = Vec::new();
        let mut fates: Vec<(RecordId, Fate)> = Vec::new();
        for worker in workers {
            monetised.extend(worker.monetised);
            impacts.extend(worker.impacts);
            balances.extend(worker.balances);
            open.extend(worker.suspense);
            fates.extend(worker.fates);
        }
        open.sort_by_key(|row| row.record);
        let plan = &self.plan;
        self.write_parts::<MonetisedUsage>("monetised", plan.monetised, monetised, staged)?;
        let planned = !reference.plans.is_empty();
        if planned || !impacts.is_empty() {
            self.write_parts::<ResourceImpact>("impacts", plan.impacts, impacts, staged)?;
        }
        if planned || !balances.is_empty() {
            let balances = owned(balances, reference);
            self.write_rows("balances", plan.balances, balances, staged)?;
        }
        let activity = board.activity();
        if planned || !activity.is_empty() {
            let activity = activity.into_iter().map(|activity| place(activity, finder));
            self.write_rows("activity", plan.activity, activity, staged)?;
        }
        let notices = board.notices();
        if planned || !notices.is_empty() {
            self.write_rows("notices", plan.notices, notices, staged)?;
        }
        let open = open.into_iter().map(SuspendedUsage::Suspense);
        let suspended = in_order(board.stopped(), open, SuspendedUsage::record);
        self.write_rows("suspense", plan.suspense, suspended, staged)?;
        self.write_rows("aggregated", plan.aggregated, board.lines(), staged)?;
        self.write_rows("ledger", plan.ledger, ledger.iter().cloned(), staged)?;
        if plan.ledger.changes {
            staged.extend(changes::write_ledger(self, ledger)?);
        }
        let forms = plan.raw_status;
        if forms.tells_end() {
            self.write_rows(
                "raw_status",
                forms,
                raw_statuses(fates, board, ledger, archived),
                staged,
            )?;
        }
        Ok(std::mem::take(staged))
    }

    fn write_parts<T: OutputRow>(
        &self,
        name: &str,
        forms: OutputForms,
        mut parts: Parts,
        staged: &mut Vec<Staged>,
    ) -> Result<(), OutputError> {
        parts.settle()?;
        let forms = OutputForms {
            // The files of the shards are the snapshot; only lines are still to be written.
            snapshot: forms.snapshot && parts.written.is_empty(),
            ..forms
        };
        staged.append(&mut parts.written);
        let batches = parts.into_batches().into_iter().map(Ok);
        self.write_batches::<T>(name, forms, batches, staged)
    }

    /// Rows are encoded as they are written: there may be as many as records.
    fn write_rows<T: OutputRow>(
        &self,
        name: &str,
        forms: OutputForms,
        rows: impl IntoIterator<Item = T>,
        staged: &mut Vec<Staged>,
    ) -> Result<(), OutputError> {
        if !forms.tells_end() {
            return Ok(());
        }
        let mut rows = rows.into_iter();
        let batches = std::iter::from_fn(|| {
            let batch: Vec<T> = rows.by_ref().take(BATCH_ROWS).collect();
            (!batch.is_empty()).then(|| encode(&batch, &self.texts).map_err(OutputError::from))
        });
        self.write_batches::<T>(name, forms, batches, staged)
    }

    fn write_batches<T: OutputRow>(
        &self,
        name: &str,
        forms: OutputForms,
        batches: impl Iterator<Item = Result<RecordBatch, OutputError>>,
        staged: &mut Vec<Staged>,
    ) -> Result<(), OutputError> {
        let schema = schema::<T>(&self.texts);
        let mut files: Vec<(Staged, SnapshotFile)> = Vec::new();
        let mut begin =
            |place: String, of: &dyn Fn(NewFile) -> Result<SnapshotFile, OutputError>| {
                let spot = self.hidden(place);
                let file = of(self.begin(&spot)?)?;
                files.push((spot, file));
                Ok::<_, OutputError>(())
            };
        if forms.snapshot {
            let place = self.parquet(&format!("{name}/snapshot"), "part-00");
            begin(place, &|file| {
                Ok(SnapshotFile::Parquet(ParquetFile::of(file, &schema)?))
            })?;
        }
        if forms.json {
            let place = format!("{name}/snapshot.jsonl");
            begin(place, &|file| Ok(SnapshotFile::Json(JsonFile::of(file))))?;
        }
        if forms.is_csv() {
            let place = format!("{name}/snapshot.csv");
            begin(place, &|file| {
                Ok(SnapshotFile::Csv(CsvFile::of(file, &schema)?))
            })?;
        }
        for batch in batches {
            let batch = batch?;
            files
                .iter_mut()
                .try_for_each(|(_, file)| file.write(&batch))?;
        }
        for (mut spot, file) in files {
            spot.waiting = file.finish()?;
            staged.push(spot);
        }
        Ok(())
    }
}

/// A file of a snapshot, in one of its forms.
enum SnapshotFile {
    Parquet(ParquetFile),
    Json(JsonFile),
    Csv(CsvFile),
}

impl SnapshotFile {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        match self {
            Self::Parquet(file) => file.write(batch),
            Self::Json(file) => file.write(batch),
            Self::Csv(file) => file.write(batch),
        }
    }

    fn finish(self) -> Result<Option<Waiting>, OutputError> {
        match self {
            Self::Parquet(file) => file.finish(),
            Self::Json(file) => file.finish(),
            Self::Csv(file) => file.finish(),
        }
    }
}

/// What stands at the end of a run.
#[derive(Clone, Copy)]
pub struct Standing<'a> {
    /// What left the dataflow.
    pub board: &'a Board,
    /// The file ledger, with its counts.
    pub ledger: &'a [LedgerRow],
    /// The reference data in force.
    pub reference: &'a Reference,
    /// Records that are archived, and not open any more.
    pub archived: &'a RoaringTreemap,
}
