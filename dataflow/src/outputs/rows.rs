//! Rows of outputs, as they follow from what the dataflow holds.

use crate::board::Board;
use millrace_connectors::ledger::FileState;
use millrace_connectors::output::{
    Balance, LedgerRow, MonetisedUsage, RawStatus, SubscriptionActivity,
};
use millrace_connectors::reference::Reference;
use millrace_operators::aggregate::LineFinder;
use millrace_operators::domain::{
    AccountKey, Activity, Amount, Charge, EventTime, Fate, FileId, GroupKey, Period, RecordId,
};
use roaring::RoaringTreemap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The balances with the accounts that share them, by group and then by resource and time.
pub(super) fn owned(mut balances: Vec<Balance>, reference: &Reference) -> Vec<Balance> {
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
pub(super) fn place(activity: Activity, finder: &mut LineFinder) -> SubscriptionActivity {
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

pub(super) fn monetise(charge: &Charge, finder: &mut LineFinder) -> MonetisedUsage {
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
pub(super) fn raw_statuses(
    open: Vec<(RecordId, Fate)>,
    board: &Board,
    ledger: &[LedgerRow],
    archived: &RoaringTreemap,
) -> impl Iterator<Item = RawStatus> {
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
    let archived = archived
        .iter()
        .map(|record| (RecordId(record), Fate::Monetised));
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
