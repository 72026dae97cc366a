//! The outputs of a job: changes as they happen, and the state at the end of the run.
//!
//! ```text
//!  <folder>/<output>/changes/<first epoch>.parquet     every change, with its epoch and + or -
//!  <folder>/<output>/snapshot/part-NN.parquet          what stands at the end
//!  <folder>/<output>/snapshot.jsonl                    the same as JSON lines, where asked for
//!  <folder>/<output>/snapshot.csv                      the same as CSV, where asked for
//!  <folder>/_progress/…                                whose they are, and how far they are told
//! ```
//!
//! Changes come from the publisher, one thread, epoch by epoch. Snapshots of charges are written by
//! the workers, shard by shard, in the order of (service, class, event time, record, item), then what
//! is charged in order, by (balance group, event time, record, item): the bytes do not depend on the
//! number of workers. A run writes its outputs anew; files of an earlier
//! run in the same folder are taken away first, so that a reader never adds two runs up.
//!
//! Where epochs are made durable, Parquet files have the generation and the name of their run behind
//! their own (`part-00-7-<run>.parquet`), those of changes a digest of their bytes too, everything is written under a hidden name first, and takes its
//! place behind the commit that names it. A run that stood still meanwhile finds its hidden files gone.

mod changes;
mod messages;
mod parts;
mod pieces;

pub use changes::ChangeWriter;
pub(crate) use changes::digest_of;
pub use messages::{MessageOutput, MessageWriter, Part};
pub use parts::WorkerSnapshot;
pub(crate) use parts::{all_buckets_of, buckets_of, carry};
pub use pieces::Piece;

use crate::board::{Board, in_order};
use crate::durable::progress::PROGRESS;
use crate::durable::{DurableError, GATES, Generation, STAGE, Staged, generation_of};
use crate::job::OutputPlan;
use crate::job::file::OutputForms;
use arrow::array::RecordBatch;
use millrace_connectors::ledger::FileState;
use millrace_connectors::output::{
    Balance, CsvFile, JsonFile, LedgerRow, MonetisedUsage, OutputError, OutputRow, ParquetFile,
    RawStatus, ResourceImpact, SubscriptionActivity, SuspendedUsage, Texts, encode, schema,
};
use millrace_connectors::reference::Reference;
use millrace_connectors::store::{NewFile, Store, StoreError, Waiting};
use millrace_operators::aggregate::LineFinder;
use millrace_operators::domain::{
    AccountKey, Activity, Amount, Charge, EventTime, Fate, FileId, GroupKey, Period, RecordId,
    Suspense,
};
use parts::{BATCH_ROWS, Parts};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The folders of the outputs, in the order in which they are described to people.
pub const OUTPUTS: [&str; 10] = [
    "monetised",
    "impacts",
    "buckets",
    "balances",
    "activity",
    "notices",
    "suspense",
    "aggregated",
    "raw_status",
    "ledger",
];

/// Where raw records are kept, below the output folder.
pub const RAW: &str = "raw";

/// Where processes leave marks for each other, below the output folder.
pub const MARKS: &str = "_cluster";

/// Where and in which forms a job's outputs are written.
#[derive(Clone)]
pub struct Outputs {
    store: Arc<Store>,
    plan: OutputPlan,
    texts: Texts,
    /// Where epochs are made durable: what this run's names have in them.
    tag: Option<String>,
}

/// A run that makes its epochs durable, and what it finds among the outputs.
pub struct DurableRun<'a> {
    /// The run.
    pub generation: &'a Generation,
    /// Where its state is.
    pub state: &'a Store,
    /// What lay there before it took over, if it goes on from nothing.
    pub earlier: Vec<String>,
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
        Ok(Self {
            store,
            plan,
            texts,
            tag: None,
        })
    }

    /// What lies among the outputs. Of a run that goes on from nothing, asked before it takes over: what
    /// is there then is of others, and no younger run has made it.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn earlier(store: &Store) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for folder in OUTPUTS.into_iter().chain([RAW, STAGE, PROGRESS]) {
            names.extend(store.names_within(folder)?);
        }
        Ok(names)
    }

    /// Prepares the folder for a run that makes its epochs durable: what was there `earlier` is taken
    /// away.
    ///
    /// # Errors
    /// When it cannot be, or another run has taken over.
    pub fn prepare_durable(
        store: Arc<Store>,
        plan: OutputPlan,
        texts: Texts,
        run: &DurableRun<'_>,
    ) -> Result<Self, DurableError> {
        let outputs = Self {
            store,
            plan,
            texts,
            tag: Some(run.generation.tag()),
        };
        outputs.store.open_gate(&outputs.gate())?;
        // Whoever takes over from here on closes it.
        run.generation.check(run.state)?;
        for name in &run.earlier {
            outputs.take_away(name)?;
        }
        Ok(outputs)
    }

    /// The same outputs for another process of the run, which writes its share of large snapshots: the
    /// first has prepared the folder.
    #[must_use]
    pub fn of_another_process(store: Arc<Store>, plan: OutputPlan, texts: Texts) -> Self {
        Self {
            store,
            plan,
            texts,
            tag: None,
        }
    }

    /// The same, of a run that makes its epochs durable.
    #[must_use]
    pub fn tagged(self, tag: Option<String>) -> Self {
        Self { tag, ..self }
    }

    /// What the names of a run that makes its epochs durable have in them.
    #[must_use]
    pub fn tag(&self) -> Option<String> {
        self.tag.clone()
    }

    fn gate(&self) -> String {
        format!("{GATES}/{}", self.tag.as_deref().unwrap_or_default())
    }

    /// Takes away what an older run left. A younger one may have made it anew, unless its name says of
    /// which run it is.
    fn take_away(&self, name: &str) -> Result<(), StoreError> {
        let is_shared =
            name.starts_with("raw/") || name.ends_with(".jsonl") || name.ends_with(".csv");
        match is_shared && self.tag.is_some() {
            true => self.store.remove_through(&self.gate(), name),
            false => self.store.remove(name),
        }
    }

    /// The name of a Parquet file, which only this run makes where epochs are made durable.
    fn parquet(&self, folder: &str, stem: &str) -> String {
        match &self.tag {
            Some(tag) => format!("{folder}/{stem}-{tag}.parquet"),
            None => format!("{folder}/{stem}.parquet"),
        }
    }

    /// Where a file is written that is to take this place.
    fn hidden(&self, place: String) -> Staged {
        let staged = match &self.tag {
            Some(tag) => format!("{STAGE}/{tag}-{}", place.replace('/', "-")),
            None => place.clone(),
        };
        Staged {
            staged,
            place,
            waiting: None,
        }
    }

    /// Starts a file that takes its place behind the commit that names it.
    fn begin(&self, spot: &Staged) -> Result<NewFile, StoreError> {
        match self.tag {
            Some(_) => self.store.create_waiting(&spot.staged, &spot.place),
            None => self.store.create(&spot.staged),
        }
    }

    /// Puts an object among the outputs, for other processes to see.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark(&self, name: &str, content: &[u8]) -> Result<(), StoreError> {
        self.store.put(name, content)
    }

    /// An object that another process has put there.
    ///
    /// # Errors
    /// When it cannot be looked for.
    pub fn marked(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(name)
    }

    /// Takes away what was put there.
    ///
    /// # Errors
    /// When it cannot be taken away.
    pub fn unmark(&self, name: &str) -> Result<(), StoreError> {
        self.store.remove(name)
    }

    /// Whether every process writes there, if there is much to write.
    #[must_use]
    pub fn written_by_all(&self) -> bool {
        self.plan.monetised.tells_end() || self.plan.impacts.tells_end()
    }

    /// Takes away what an earlier run wrote at its end.
    ///
    /// # Errors
    /// When it cannot be taken away.
    pub fn clear_snapshots(&self) -> Result<(), StoreError> {
        for name in OUTPUTS {
            self.clear_older(&format!("{name}/snapshot"))?;
            // Forms that are one file each, which this run may not be asked for.
            for form in ["jsonl", "csv"] {
                self.take_away(&format!("{name}/snapshot.{form}"))?;
            }
        }
        self.clear_older("ledger/changes")
    }

    fn clear_older(&self, folder: &str) -> Result<(), StoreError> {
        let Some(ours) = self.tag.as_deref().and_then(generation_of) else {
            return self.store.clear(folder);
        };
        for name in self.store.names(folder)? {
            if generation_of(&name).is_none_or(|generation| generation < ours) {
                self.store.remove(&format!("{folder}/{name}"))?;
            }
        }
        Ok(())
    }

    /// Whether an output needs each change of each charge.
    #[must_use]
    pub fn wants_charges(&self) -> bool {
        let told = self.tells(MessageOutput::Monetised);
        told || self.plan.monetised.changes || self.plan.raw_status.changes
    }

    /// Whether an output needs each change of each impact.
    #[must_use]
    pub fn wants_impacts(&self) -> bool {
        self.plan.impacts.changes || self.tells(MessageOutput::Balances)
    }

    fn tells(&self, output: MessageOutput) -> bool {
        let messages = self.plan.messages.as_ref();
        messages.is_some_and(|messages| messages.topics.of(output).is_some())
    }

    /// Whether an output needs each ignored record. Where rows are counted through, ignored are those that
    /// nobody else has; offsets of topics are not.
    #[must_use]
    pub fn wants_ignored(&self) -> bool {
        let forms = self.plan.raw_status;
        forms.changes || (self.plan.reads_topics && forms.tells_end())
    }

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
            ..
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
            self.write_rows("raw_status", forms, raw_statuses(fates, ended), staged)?;
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

/// The balances with the accounts that share them, by group and then by resource and time.
fn owned(mut balances: Vec<Balance>, reference: &Reference) -> Vec<Balance> {
    let mut owners: BTreeMap<GroupKey, Vec<AccountKey>> = BTreeMap::new();
    for (account, groups) in reference.groups() {
        for group in groups {
            owners.entry(group).or_default().push(account);
        }
    }
    let owners: BTreeMap<GroupKey, Arc<[AccountKey]>> = owners
        .into_iter()
        .map(|(group, accounts)| (group, accounts.into()))
        .collect();
    for balance in &mut balances {
        if let Some(accounts) = owners.get(&balance.bucket.group) {
            balance.accounts = Arc::clone(accounts);
        }
    }
    balances.sort_by_key(|balance| {
        let bucket = &balance.bucket;
        (bucket.group, bucket.resource, bucket.valid, bucket.key)
    });
    balances
}

/// An activity with the billing line that it is on.
fn place(activity: Activity, finder: &mut LineFinder) -> SubscriptionActivity {
    let line = finder.activity_line(&activity);
    SubscriptionActivity {
        line: (activity.amount != Amount::ZERO).then(|| line.aggregate_id()),
        unit: unit(line.unit_start, line.unit_end),
        activity,
    }
}

fn unit(start: EventTime, end: EventTime) -> Period {
    Period::new(start, end).expect("bill units are periods")
}

fn monetise(charge: &Charge, finder: &mut LineFinder) -> MonetisedUsage {
    let (line, _) = finder.line(charge);
    MonetisedUsage {
        charge: *charge,
        line: line.aggregate_id(),
        unit: unit(line.unit_start, line.unit_end),
    }
}

/// The fates of the records of a file, by row.
enum Fates {
    /// Rows that are counted through. A record that nobody else has is one that a mediation rule
    /// excluded: every record has exactly one fate, and conservation was checked.
    Counted(Vec<Fate>),
    /// Offsets of a partition, where some stand for no record.
    Offsets(BTreeMap<u64, Fate>),
}

/// The fate of every record of every file, in record order.
fn raw_statuses(
    open: Vec<(RecordId, Fate)>,
    ended: &Standing<'_>,
) -> impl Iterator<Item = RawStatus> {
    let Standing { board, ledger, .. } = ended;
    let is_partition = |file: FileId| {
        let row = usize::try_from(file.0).ok().and_then(|at| ledger.get(at));
        row.is_some_and(|row| row.state == FileState::Followed.name())
    };
    let fates = |(file, received): (FileId, u64)| {
        let fates = match is_partition(file) {
            true => Fates::Offsets(BTreeMap::new()),
            false => Fates::Counted(vec![Fate::Ignored; usize::try_from(received).unwrap_or(0)]),
        };
        (file, fates)
    };
    let mut files: BTreeMap<FileId, Fates> = board.received().map(fates).collect();
    let ignored = board.ignored().map(|record| (record, Fate::Ignored));
    let archived = ended.archived.iter();
    let archived = archived.map(|record| (RecordId(record), Fate::Monetised));
    let stopped = board
        .stopped()
        .map(|row| (row.record(), Fate::of(row.reason())));
    for (record, fate) in ignored.chain(archived).chain(open).chain(stopped) {
        match files.get_mut(&record.file()) {
            Some(Fates::Counted(rows)) => {
                let row = usize::try_from(record.row()).unwrap_or(usize::MAX);
                // The fault of a file that breaks off stands behind its last record.
                rows.get_mut(row).into_iter().for_each(|slot| *slot = fate);
            }
            Some(Fates::Offsets(rows)) => drop(rows.insert(record.row(), fate)),
            None => {}
        }
    }
    files.into_iter().flat_map(|(file, fates)| {
        let (counted, offsets) = match fates {
            Fates::Counted(rows) => (rows, BTreeMap::new()),
            Fates::Offsets(rows) => (Vec::new(), rows),
        };
        (0..).zip(counted).chain(offsets).map(move |(row, fate)| {
            let record = RecordId::new(file, row);
            RawStatus { record, fate }
        })
    })
}
