//! The oracle: what the bill must be, computed from scratch and by the most naive means, from all
//! that is known at the end of an epoch.
//!
//! It shares the domain's records with the operators, and nothing that decides: lookups are scans
//! over vectors, amounts are worked out in decimal digits as on paper ([`money`]), days are counted
//! in a calendar of its own ([`calendar`]). Where an operator is fast, this is slow and plain, so
//! that a person can check it against the words of the documentation.

pub mod calendar;
pub mod money;
mod rating;

use calendar::{Zone, bill_unit};
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{
    Account, Amount, Charge, ClassKey, Fate, Fault, FileId, Item, LineKey, LineSum, PriceRow,
    Quantity, Reason, RecordId, ServiceUse, Stage, Subscription, Suspense, Usage, UsageClass,
};
use millrace_operators::epoch::{Diff, Epoch};
use std::collections::{BTreeMap, BTreeSet};

/// The changes of one epoch: each thing at most once added or taken away.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Mediated usage.
    pub usage: Vec<(Usage, Diff)>,
    /// Classes of usage.
    pub classes: Vec<(UsageClass, Diff)>,
    /// Records that never became usage.
    pub faults: Vec<(Fault, Diff)>,
    /// What became of records before dedup.
    pub fates: Vec<(FileId, Fate, Diff)>,
    /// The catalog.
    pub prices: Vec<(PriceRow, Diff)>,
    /// Accounts.
    pub accounts: Vec<(Account, Diff)>,
    /// Subscriptions.
    pub subscriptions: Vec<(Subscription, Diff)>,
    /// Services of subscriptions.
    pub services: Vec<(ServiceUse, Diff)>,
}

/// How the bill is drawn up.
#[derive(Clone, Debug)]
pub struct BillRules {
    /// Where bill units begin at midnight.
    pub zone: Zone,
    /// What separates lines.
    pub dimensions: Vec<Dimension>,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Usage records with the epoch of their arrival.
    pub usage: BTreeMap<RecordId, (Epoch, Usage)>,
    /// Classes, ever seen.
    pub classes: BTreeMap<ClassKey, UsageClass>,
    /// Faults.
    pub faults: Vec<Fault>,
    /// Fates before dedup.
    pub fates: Vec<(FileId, Fate)>,
    /// The catalog.
    pub prices: Vec<PriceRow>,
    /// Accounts.
    pub accounts: Vec<Account>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Services.
    pub services: Vec<ServiceUse>,
}

/// What must be published, as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Charges.
    pub charges: BTreeSet<Charge>,
    /// Suspended records, duplicates included.
    pub suspense: BTreeSet<Suspense>,
    /// Billing lines.
    pub lines: BTreeMap<LineKey, LineSum>,
    /// Records per file and fate.
    pub counts: BTreeMap<(FileId, Fate), Diff>,
    /// Faults.
    pub faults: BTreeSet<Fault>,
}

fn change<D: PartialEq + Clone>(held: &mut Vec<D>, changes: &[(D, Diff)]) {
    for (row, _) in changes.iter().filter(|(_, diff)| *diff < 0) {
        let at = held.iter().position(|have| have == row);
        held.remove(at.expect("a script takes away what it added"));
    }
    let added = changes.iter().filter(|(_, diff)| *diff > 0);
    held.extend(added.map(|(row, _)| row.clone()));
}

impl World {
    /// Learns the changes of an epoch.
    ///
    /// # Panics
    /// If something is taken away that is not there.
    pub fn apply(&mut self, epoch: Epoch, changes: &Changes) {
        let mut left = BTreeMap::new();
        for (usage, _) in changes.usage.iter().filter(|(_, diff)| *diff < 0) {
            let held = self.usage.remove(&usage.record);
            let (arrival, old) = held.expect("a script retracts what it inserted");
            assert_eq!(old, *usage, "a script retracts records as they are");
            left.insert(usage.record, (arrival, old.identity));
        }
        for (usage, _) in changes.usage.iter().filter(|(_, diff)| *diff > 0) {
            // Taken away and put back at once is an amendment, which keeps its place.
            let arrival = match left.get(&usage.record) {
                Some((arrival, identity)) if *identity == usage.identity => *arrival,
                _ => epoch,
            };
            let before = self.usage.insert(usage.record, (arrival, usage.clone()));
            assert!(before.is_none(), "a script inserts a record once");
        }
        for (class, _) in &changes.classes {
            self.classes.insert(class.key(), class.clone());
        }
        let fates: Vec<((FileId, Fate), Diff)> = changes
            .fates
            .iter()
            .map(|(file, fate, diff)| ((*file, *fate), *diff))
            .collect();
        change(&mut self.fates, &fates);
        change(&mut self.faults, &changes.faults);
        change(&mut self.prices, &changes.prices);
        change(&mut self.accounts, &changes.accounts);
        change(&mut self.subscriptions, &changes.subscriptions);
        change(&mut self.services, &changes.services);
    }

    /// Records received per file.
    #[must_use]
    pub fn received(&self) -> BTreeMap<FileId, Diff> {
        let usage = self.usage.keys().map(|record| record.file());
        let fates = self.fates.iter().map(|(file, _)| *file);
        let mut received = BTreeMap::new();
        for file in usage.chain(fates) {
            *received.entry(file).or_insert(0) += 1;
        }
        received
    }

    /// The bill for all of it.
    #[must_use]
    pub fn bill(&self, rules: &BillRules) -> Bill {
        let mut bill = Bill {
            faults: self.faults.iter().cloned().collect(),
            ..Bill::default()
        };
        for (file, fate) in &self.fates {
            bill.count(*file, *fate);
        }
        for (arrival, usage) in self.usage.values() {
            let file = usage.record.file();
            let outcome = match self.original(*arrival, usage) {
                Some(original) => Err(suspense(usage, Reason::Duplicate, None, Some(original))),
                None => rating::rate(self, usage),
            };
            match outcome {
                Ok(charges) => {
                    bill.count(file, Fate::Monetised);
                    for charge in charges {
                        let item = self.classes[&usage.class].items[usize::from(charge.item)];
                        bill.enter(&charge, self.line(rules, &charge, item), item);
                    }
                }
                Err(suspense) => {
                    let fate = match suspense.reason.stage() {
                        Stage::Dedup => Fate::Duplicate,
                        _ => Fate::Suspended(suspense.reason),
                    };
                    bill.count(file, fate);
                    bill.suspense.insert(suspense);
                }
            }
        }
        bill
    }

    /// The record that came first with the identity of `usage`, unless that is `usage` itself.
    fn original(&self, arrival: Epoch, usage: &Usage) -> Option<RecordId> {
        let same = self
            .usage
            .values()
            .filter(|(_, other)| other.identity == usage.identity);
        let first = same.map(|(arrival, other)| (*arrival, other.record)).min();
        first
            .filter(|first| *first < (arrival, usage.record))
            .map(|(_, record)| record)
    }

    fn line(&self, rules: &BillRules, charge: &Charge, item: Item) -> LineKey {
        let class = &self.classes[&charge.class];
        let (unit_start, unit_end) = bill_unit(rules.zone, &charge.profile, charge.time);
        let dimension = |dimension: &Dimension| match dimension {
            Dimension::Service => charge.service.0,
            Dimension::ServiceType => class.service_type.0,
            Dimension::Subscription => charge.subscription.0,
            Dimension::Price => charge.price.0,
            Dimension::Attribute(name) => {
                let values = class.attributes.iter().filter(|(has, _)| has == name);
                values.map(|(_, value)| value.0).next().unwrap_or(0)
            }
        };
        LineKey {
            account: charge.account,
            unit_start,
            unit_end,
            item: item.name,
            currency: charge.currency,
            dimensions: rules.dimensions.iter().map(dimension).collect(),
        }
    }
}

impl Bill {
    fn count(&mut self, file: FileId, fate: Fate) {
        *self.counts.entry((file, fate)).or_insert(0) += 1;
    }

    fn enter(&mut self, charge: &Charge, line: LineKey, item: Item) {
        let mut units = i128::from(charge.quantity);
        for _ in item.scale..Quantity::SCALE {
            units *= 10;
        }
        let sum = self.lines.entry(line).or_default();
        *sum = LineSum {
            charges: sum.charges + 1,
            quantity: Quantity(sum.quantity.0 + units),
            amount: Amount(sum.amount.0 + charge.amount.0),
        };
        assert!(self.charges.insert(*charge), "a charge is made once");
    }
}

fn suspense(
    usage: &Usage,
    reason: Reason,
    item: Option<Item>,
    original: Option<RecordId>,
) -> Suspense {
    Suspense {
        record: usage.record,
        reason,
        service: usage.service,
        class: usage.class,
        time: usage.time,
        item: item.map(|item| item.name),
        original,
    }
}
