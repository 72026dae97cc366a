//! Balances as they were known at the end of an epoch, from the changes that the last run wrote.
//!
//! ```text
//!  buckets/changes    what each bucket begins with ─┐
//!  impacts/changes    what moved it                ─┼─► through the epoch ─► where it stood
//!  monetised/changes  what usage was charged       ─┤
//!  activity/changes   what subscriptions were      ─┘
//! ```
//!
//! Nothing is run. A row counts with its sign, if its epoch is not later than the one asked for: what
//! was taken back later still stands, and what came later is not known yet. Accounts and the balance
//! groups that they are in are read from the reference data as it is now.

use super::{BalanceError, Balances, EventTime, Sums, accounts, exists};
use crate::intake::ReferenceFeeds;
use crate::job::Job;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampMicrosecondType};
use millrace_connectors::names::Names;
use millrace_connectors::output::Balance;
use millrace_connectors::shield::shielded;
use millrace_connectors::store::{FileMeta, Store};
use millrace_operators::domain::{
    AccountKey, Amount, Bucket, BucketKey, BucketKind, GroupKey, Measure, MoneyTotal, Period, Total,
};
use millrace_operators::epoch::Epoch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

type Read<T> = Result<T, BalanceError>;

/// Tells where the balances of a job stood at the end of an epoch of its last run.
pub(super) fn balances(
    job: &Job,
    asked: Option<&str>,
    at: Option<EventTime>,
    epoch: Epoch,
) -> Read<Balances> {
    let outputs = &job.outputs;
    let needed = [
        ("monetised", outputs.monetised),
        ("impacts", outputs.impacts),
        ("activity", outputs.activity),
    ];
    if let Some((name, _)) = needed.iter().find(|(_, forms)| !forms.changes) {
        let message = format!(
            "the job writes no changes of \"{name}\", from which balances as known at an epoch are \
             added up; take `changes: false` out of `outputs` and run the job"
        );
        return Err(BalanceError::Request(message));
    }
    let names = Arc::new(Names::default());
    let mut files = job.reference_files(Arc::clone(&names));
    let read = ReferenceFeeds::open(job, &mut files);
    read.map_err(|error| BalanceError::Request(error.to_string()))?;
    let reference = files.load()?.reference;
    if let Some(asked) = asked {
        exists(asked, &reference.accounts, &names)?;
    }
    let written = Written::open(job, epoch)?;
    let read = || -> Read<Sums> {
        Ok(Sums {
            usage: written.usage(&names, at)?,
            subscribed: written.subscribed(&names, at)?,
            buckets: written.buckets(&names, at)?,
        })
    };
    let sums = shielded(read).map_err(unreadable)??;
    let wanted = asked.map(|id| AccountKey::of(&[id]));
    Ok(Balances {
        at: at.map(|at| at.to_string()),
        epoch: Some(epoch),
        accounts: accounts(&sums, &reference, &names, wanted),
        waiting: Vec::new(),
    })
}

/// Units and money.
type Moved = (Total<0>, Total<0>);

/// What the last run wrote, through an epoch.
struct Written {
    store: Store,
    files: Vec<FileMeta>,
    epoch: Epoch,
}

impl Written {
    fn open(job: &Job, epoch: Epoch) -> Read<Self> {
        let store = Store::open(&job.outputs.folder, &job.folder).map_err(unreadable)?;
        let missing = store.local_path().is_some_and(|path| !path.exists());
        let mut files = match missing {
            true => Vec::new(),
            false => store.list().map_err(unreadable)?,
        };
        files.retain(|file| file.name.contains("/changes/") && file.name.ends_with(".parquet"));
        if files.is_empty() {
            let place = store.location();
            let message = format!("no run has written changes to \"{place}\"; run the job first");
            return Err(BalanceError::Request(message));
        }
        Ok(Self {
            store,
            files,
            epoch,
        })
    }

    /// Hands over the changes of an output: the rows of a batch that count, each with its sign.
    fn changes(
        &self,
        output: &str,
        mut take: impl FnMut(&Rows, &[(usize, i64)]) -> Read<()>,
    ) -> Read<()> {
        // A file is named after its first epoch.
        let last = format!("{output}/changes/{:020}.parquet", self.epoch);
        let folder = format!("{output}/changes/");
        let files = self.files.iter();
        let files = files.filter(|file| file.name.starts_with(&folder) && file.name <= last);
        for file in files {
            let file = self.store.random(file).map_err(unreadable)?;
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
            for batch in reader.build().map_err(unreadable)? {
                let rows = Rows(batch.map_err(unreadable)?);
                let (epochs, diffs) = (rows.numbers("epoch")?, rows.numbers("diff")?);
                let epoch = i64::try_from(self.epoch).unwrap_or(i64::MAX);
                let counted = (0..rows.0.num_rows()).filter(|row| epochs.value(*row) <= epoch);
                let counted: Vec<(usize, i64)> =
                    counted.map(|row| (row, diffs.value(row))).collect();
                take(&rows, &counted)?;
            }
        }
        Ok(())
    }

    /// What accounts are charged for usage before the instant.
    fn usage(
        &self,
        names: &Names,
        at: Option<EventTime>,
    ) -> Read<BTreeMap<AccountKey, MoneyTotal>> {
        let mut usage: BTreeMap<AccountKey, MoneyTotal> = BTreeMap::new();
        self.changes("monetised", |rows, counted| {
            let (accounts, amounts) = (rows.texts("account")?, rows.decimals("amount")?);
            let times = rows.times("event_time")?;
            for (row, diff) in counted {
                if at.is_none_or(|at| times.value(*row) < at.0) {
                    let account = names.enter_account(accounts.value(*row));
                    let sum = usage.entry(account).or_default();
                    *sum = sum.plus(MoneyTotal::from_i128(amounts.value(*row)).times(*diff));
                }
            }
            Ok(())
        })?;
        Ok(usage)
    }

    /// What accounts are charged without usage, up to the instant.
    fn subscribed(
        &self,
        names: &Names,
        at: Option<EventTime>,
    ) -> Read<BTreeMap<AccountKey, MoneyTotal>> {
        let mut subscribed: BTreeMap<AccountKey, MoneyTotal> = BTreeMap::new();
        self.changes("activity", |rows, counted| {
            let (accounts, amounts) = (rows.texts("account")?, rows.decimals("amount")?);
            let (kinds, starts) = (rows.texts("kind")?, rows.times("applied_start")?);
            let ends = rows.times("cycle_end")?;
            for (row, diff) in counted {
                // As `Activity::billed_at`.
                let billed_at = match kinds.value(*row) {
                    "one_time" | "forward_recurring" => starts.value(*row),
                    _ => ends.value(*row).saturating_sub(1),
                };
                if at.is_none_or(|at| billed_at <= at.0) {
                    let account = names.enter_account(accounts.value(*row));
                    let sum = subscribed.entry(account).or_default();
                    *sum = sum.plus(MoneyTotal::from_i128(amounts.value(*row)).times(*diff));
                }
            }
            Ok(())
        })?;
        Ok(subscribed)
    }

    /// Where buckets stood; as of an instant, those of that instant.
    fn buckets(
        &self,
        names: &Names,
        at: Option<EventTime>,
    ) -> Read<BTreeMap<GroupKey, Vec<Balance>>> {
        let mut standing: BTreeMap<Bucket, i64> = BTreeMap::new();
        self.changes("buckets", |rows, counted| {
            for (bucket, diff) in rows.buckets(counted, names)? {
                *standing.entry(bucket).or_default() += diff;
            }
            Ok(())
        })?;
        standing.retain(|_, count| *count != 0);
        let moved = self.moved(at)?;
        let mut balances: BTreeMap<GroupKey, Vec<Balance>> = BTreeMap::new();
        for bucket in standing.into_keys() {
            if at.is_some_and(|at| !bucket.valid.contains(at)) {
                continue;
            }
            let of_measure = |moved: Moved| match bucket.measure {
                Measure::Units => moved.0,
                Measure::Money => moved.1,
            };
            let (used, carried) = moved.get(&bucket.key).copied().unwrap_or_default();
            let (used, carried) = (of_measure(used), of_measure(carried));
            let value = Total::from_i128(bucket.opening).plus(used).plus(carried);
            let within = |total: Total<0>| {
                let value = total.to_i128();
                value.ok_or_else(|| unreadable("a bucket is moved past the range of numbers"))
            };
            let balance = Balance {
                value: within(value)?,
                carried: within(carried)?,
                accounts: Arc::default(),
                bucket,
            };
            let group = balance.bucket.group;
            balances.entry(group).or_default().push(balance);
        }
        Ok(balances)
    }

    /// What usage moved of each bucket before the instant, and what edges did up to it.
    fn moved(&self, at: Option<EventTime>) -> Read<BTreeMap<BucketKey, (Moved, Moved)>> {
        let mut moved: BTreeMap<BucketKey, (Moved, Moved)> = BTreeMap::new();
        self.changes("impacts", |rows, counted| {
            let (kinds, keys) = (rows.texts("kind")?, rows.texts("bucket")?);
            let (units, amounts) = (rows.decimals("units")?, rows.decimals("amount")?);
            let (edges, times) = (rows.texts("edge")?, rows.times("event_time")?);
            for (row, diff) in counted {
                if !matches!(kinds.value(*row), "allowance" | "accumulator") {
                    continue;
                }
                let (time, by_edge) = (times.value(*row), edges.is_valid(*row));
                if at.is_some_and(|at| time > at.0 || (time == at.0 && !by_edge)) {
                    continue;
                }
                let (used, carried) = moved.entry(key(keys.value(*row))?).or_default();
                let sum = if by_edge { carried } else { used };
                let times = |value| Total::from_i128(value).times(*diff);
                sum.0 = sum.0.plus(times(units.value(*row)));
                sum.1 = sum.1.plus(times(amounts.value(*row)));
            }
            Ok(())
        })?;
        Ok(moved)
    }
}

/// A batch of rows, read column by column.
struct Rows(RecordBatch);

impl Rows {
    fn column(&self, name: &str) -> Read<&ArrayRef> {
        let column = self.0.column_by_name(name);
        column.ok_or_else(|| unreadable(format!("there is no column \"{name}\"")))
    }

    fn texts(&self, name: &str) -> Read<StringArray> {
        let column = cast(self.column(name)?, &DataType::Utf8).map_err(unreadable)?;
        Ok(column.as_string::<i32>().clone())
    }

    fn numbers(&self, name: &str) -> Read<Int64Array> {
        let column = cast(self.column(name)?, &DataType::Int64).map_err(unreadable)?;
        Ok(column.as_primitive::<Int64Type>().clone())
    }

    /// Without their points.
    fn decimals(&self, name: &str) -> Read<Decimal128Array> {
        let column = self.column(name)?.as_primitive_opt::<Decimal128Type>();
        let other = || unreadable(format!("\"{name}\" is no column of decimals"));
        column.cloned().ok_or_else(other)
    }

    fn times(&self, name: &str) -> Read<TimestampMicrosecondArray> {
        let column = self.column(name)?;
        let column = column.as_primitive_opt::<TimestampMicrosecondType>();
        let other = || unreadable(format!("\"{name}\" is no column of times"));
        column.cloned().ok_or_else(other)
    }

    /// The rows as buckets, with their signs. Priorities and thresholds are not among the columns: no
    /// balance depends on them.
    fn buckets(&self, counted: &[(usize, i64)], names: &Names) -> Read<Vec<(Bucket, i64)>> {
        let (groups, currencies) = (self.texts("balance_group")?, self.texts("currency")?);
        let (keys, resources) = (self.texts("bucket")?, self.texts("resource")?);
        let (kinds, measures) = (self.texts("kind")?, self.texts("measure")?);
        let (all_items, limits) = (self.texts("items")?, self.decimals("limit")?);
        let (starts, ends) = (self.times("valid_start")?, self.times("valid_end")?);
        let units = self.decimals("opening_units")?;
        let amounts = self.decimals("opening_amount")?;
        let bucket = |row: usize| -> Read<Bucket> {
            let valid = Period::new(EventTime(starts.value(row)), EventTime(ends.value(row)));
            let items = match all_items.is_valid(row) {
                true => all_items.value(row),
                false => "",
            };
            let items = items.split(", ").filter(|item| !item.is_empty());
            let (measure, opening) = match measures.value(row) {
                "units" => (Measure::Units, units.value(row)),
                _ => (Measure::Money, amounts.value(row)),
            };
            Ok(Bucket {
                group: names.enter_group(groups.value(row), currencies.value(row)),
                key: key(keys.value(row))?,
                resource: names.enter(resources.value(row)),
                kind: match kinds.value(row) {
                    "allowance" => BucketKind::Allowance { priority: 0 },
                    "spend" => BucketKind::Spend,
                    "cap" => BucketKind::Cap {
                        limit: Amount(limits.value(row)),
                    },
                    _ => BucketKind::Accumulator {
                        numerator: 1,
                        denominator: 1,
                    },
                },
                measure,
                items: items.map(|item| names.enter(item)).collect(),
                valid: valid.ok_or_else(|| unreadable("a bucket ends before it begins"))?,
                opening,
                thresholds: Default::default(),
            })
        };
        let rows = counted.iter();
        rows.map(|(row, diff)| Ok((bucket(*row)?, *diff))).collect()
    }
}

fn key(text: &str) -> Read<BucketKey> {
    let key = u64::from_str_radix(text, 16);
    Ok(BucketKey(key.map_err(|_| {
        unreadable(format!("\"{text}\" is no bucket"))
    })?))
}

fn unreadable(error: impl Display) -> BalanceError {
    BalanceError::Outputs(error.to_string())
}
