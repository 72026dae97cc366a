//! The oracle: what the bill must be, computed from scratch and by the most naive means, from all
//! that is known at the end of an epoch.
//!
//! It shares the domain's records with the operators, and nothing that decides: lookups are scans
//! over vectors, amounts are worked out in decimal digits as on paper ([`money`]), days are counted
//! in a calendar of its own ([`calendar`]), and what depends on order is charged from the first record
//! to the last ([`charging`]). Where an operator is fast, this is slow and plain, so
//! that a person can check it against the words of the documentation.

pub mod calendar;
pub mod charging;
mod counters;
mod identity;
pub mod money;
mod plans;
mod rating;
mod times;
mod versions;

use calendar::{Zone, bill_unit};
use charging::Course;
use millrace_operators::aggregate::Dimension;
use millrace_operators::charge::{ItemImpact, Notice};
use millrace_operators::domain::{
    Account, Activity, ActivityKind, Amount, Bucket, Charge, ClassKey, Discard, EdgeKey, EventTime,
    Fate, Fault, FileId, GroupKey, Item, LineKey, LineSum, PlanRow, PriceRow, Quantity, Reason,
    RecordId, ServiceUse, Stage, Subscription, Suspense, Usage, UsageClass,
};
use millrace_operators::epoch::{Diff, Epoch};
use rating::{Priced, Rated};
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
    /// The plans of its price lists.
    pub plans: Vec<(PlanRow, Diff)>,
    /// Accounts.
    pub accounts: Vec<(Account, Diff)>,
    /// Subscriptions.
    pub subscriptions: Vec<(Subscription, Diff)>,
    /// Services of subscriptions.
    pub services: Vec<(ServiceUse, Diff)>,
    /// The present.
    pub clock: Vec<(EventTime, Diff)>,
    /// Records that operators take out of suspense.
    pub discards: Vec<(Discard, Diff)>,
    /// Files that came in place of others, of which what they have no more is taken out.
    pub replaced: Vec<((FileId, FileId), Diff)>,
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
    /// The plans of its price lists.
    pub plans: Vec<PlanRow>,
    /// Accounts.
    pub accounts: Vec<Account>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Services.
    pub services: Vec<ServiceUse>,
    /// The present; none before the clock is set.
    pub clock: Vec<EventTime>,
    /// Records that operators have taken out of suspense.
    pub discards: Vec<Discard>,
    /// Files that came in place of others.
    pub replaced: Vec<(FileId, FileId)>,
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
    /// What charges in order did to each resource.
    pub impacts: BTreeSet<ItemImpact>,
    /// Subscriptions charged without usage.
    pub activity: BTreeSet<Activity>,
    /// Thresholds crossed.
    pub notices: BTreeSet<Notice>,
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
        change(&mut self.plans, &changes.plans);
        change(&mut self.clock, &changes.clock);
        change(&mut self.discards, &changes.discards);
        change(&mut self.replaced, &changes.replaced);
    }

    /// Records received per file.
    #[must_use]
    pub fn received(&self) -> BTreeMap<FileId, Diff> {
        // What a rule excludes has its fate where it is read.
        let usage = self.usage.values().map(|(_, usage)| usage);
        let usage = usage.filter(|usage| !versions::is_excluded(usage));
        let usage = usage.map(|usage| usage.record.file());
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
        self.bill_and_balances(rules).0
    }

    /// The bill for all of it, and the course of each balance group.
    ///
    /// # Panics
    /// When the world contradicts itself.
    #[must_use]
    pub fn bill_and_balances(
        &self,
        rules: &BillRules,
    ) -> (Bill, BTreeMap<GroupKey, Course>, Vec<Bucket>) {
        let mut bill = Bill::default();
        let mut fates = self.fates.clone();
        for fault in &self.faults {
            bill.faults.insert(match self.is_discarded(fault.record) {
                false => fault.clone(),
                true => {
                    let file = fault.record.file();
                    let at = fates
                        .iter()
                        .position(|f| *f == (file, Fate::Error(fault.reason)));
                    fates[at.expect("a fault has its fate")] = (file, Fate::Discarded);
                    Fault {
                        reason: Reason::Discarded,
                        detail: format!("{}: {}", fault.reason.code(), fault.detail),
                        ..fault.clone()
                    }
                }
            });
        }
        for (file, fate) in fates {
            bill.count(file, fate);
        }
        let mut in_order: BTreeMap<GroupKey, Vec<Priced<'_>>> = BTreeMap::new();
        let usage = self.usage.values().map(|(_, usage)| usage);
        // What a rule excludes is counted where it is read.
        for usage in usage.filter(|usage| !versions::is_excluded(usage)) {
            let outcome = match self.outvoted(usage) {
                Some((reason, holds)) => Err(suspense(usage, reason, None, holds)),
                None if self.is_discarded(usage.record) => {
                    Err(suspense(usage, Reason::Discarded, None, None))
                }
                None => rating::rate(self, usage),
            };
            match outcome {
                Ok(Rated::Charged(charges)) => self.monetise(rules, &charges, &mut bill),
                Ok(Rated::InOrder(priced)) => {
                    in_order.entry(priced.group).or_default().push(priced);
                }
                Err(suspense) => bill.suspend(suspense),
            }
        }
        let lasts = in_order.iter().map(|(group, usage)| {
            let last = usage.iter().map(|priced| priced.usage.time.0).max();
            (*group, last.unwrap_or(i64::MIN))
        });
        let made = plans::made(self, rules.zone, &lasts.collect());
        for bucket in &made.buckets {
            in_order.entry(bucket.group).or_default();
        }
        let mut edges: BTreeMap<EdgeKey, Option<Amount>> = BTreeMap::new();
        let mut courses = BTreeMap::new();
        for (group, usage) in in_order {
            fn of<T: Clone>(all: &[T], wanted: impl Fn(&T) -> bool) -> Vec<T> {
                all.iter().filter(|one| wanted(one)).cloned().collect()
            }
            let buckets = of(&made.buckets, |bucket| bucket.group == group);
            let of_group = of(&made.edges, |edge| edge.group == group);
            let told = charging::charge(&buckets, &of_group, &usage);
            for charges in told.charges.chunk_by(|a, b| a.record == b.record) {
                self.monetise(rules, charges, &mut bill);
            }
            told.suspense.into_iter().for_each(|one| bill.suspend(one));
            bill.impacts.extend(told.impacts);
            bill.notices.extend(told.notices);
            edges.extend(told.edges);
            courses.insert(group, told.course);
        }
        for activity in made.activity {
            let decided = edges.get(&EdgeKey(activity.key.0)).copied();
            let amount = match activity.kind {
                ActivityKind::TrueUp { .. } | ActivityKind::Volume => decided.flatten(),
                _ => Some(activity.amount),
            };
            let activity = Activity {
                amount: amount.unwrap_or_default(),
                reason: amount.is_none().then_some(Reason::AmountOutOfRange),
                ..activity
            };
            self.enter_activity(rules, &activity, &mut bill);
            assert!(bill.activity.insert(activity), "an activity is made once");
        }
        (bill, courses, made.buckets)
    }

    /// The buckets of all balance groups, with what is left in them or has come together in them.
    #[must_use]
    pub fn buckets(&self, rules: &BillRules) -> Vec<(Bucket, i128)> {
        let (_, courses, mut buckets) = self.bill_and_balances(rules);
        buckets.sort_by_key(|bucket| (bucket.resource, bucket.valid, bucket.key));
        let value = |bucket: &Bucket| {
            let values = courses[&bucket.group].at(None);
            let found = values.into_iter().find(|(key, _)| *key == bucket.key);
            found.map_or(0, |(_, value)| value)
        };
        let with_value = buckets.into_iter().map(|bucket| {
            let value = value(&bucket);
            (bucket, value)
        });
        with_value.collect()
    }

    fn monetise(&self, rules: &BillRules, charges: &[Charge], bill: &mut Bill) {
        bill.count(charges[0].record.file(), Fate::Monetised);
        for charge in charges {
            let item = self.classes[&charge.class].items[usize::from(charge.item)];
            bill.enter(charge, self.line(rules, charge, item), item);
        }
    }

    /// An activity is on the bill of the instant that it is charged at, or of its cycle's last.
    fn enter_activity(&self, rules: &BillRules, activity: &Activity, bill: &mut Bill) {
        if activity.amount == Amount::ZERO {
            return;
        }
        let at = match activity.kind {
            ActivityKind::OneTime | ActivityKind::ForwardRecurring => activity.applied_start,
            ActivityKind::ArrearsRecurring | ActivityKind::TrueUp { .. } | ActivityKind::Volume => {
                EventTime(activity.cycle.end().0 - 1)
            }
        };
        let (unit_start, unit_end) = bill_unit(rules.zone, &activity.profile, at);
        let dimension = |dimension: &Dimension| match dimension {
            Dimension::Subscription => activity.subscription.0,
            _ => 0,
        };
        let line = LineKey {
            account: activity.account,
            unit_start,
            unit_end,
            item: activity.item,
            currency: activity.currency,
            dimensions: rules.dimensions.iter().map(dimension).collect(),
        };
        // The records of a volume have brought its quantity.
        let quantity = match activity.kind {
            ActivityKind::Volume => 0,
            _ => 1_000_000_000_000,
        };
        bill.add(line, quantity, activity.amount);
    }

    fn is_discarded(&self, record: RecordId) -> bool {
        self.discards.iter().any(|discard| discard.record == record)
    }

    /// Why a record is not the one that its identity is charged for.
    fn outvoted(&self, usage: &Usage) -> Option<(Reason, Option<RecordId>)> {
        let same = self
            .usage
            .values()
            .filter(|(_, other)| other.identity == usage.identity);
        let same = same.map(|(arrival, other)| (*arrival, other)).collect();
        versions::outvoted(same, usage, &self.replaced)
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

    fn suspend(&mut self, suspense: Suspense) {
        let fate = match suspense.reason.stage() {
            Stage::Dedup => match suspense.reason {
                Reason::Duplicate => Fate::Duplicate,
                Reason::Conflict => Fate::Conflict,
                Reason::OriginalMissing => Fate::Suspended(suspense.reason),
                reason => Fate::Superseded(reason),
            },
            Stage::Discard => Fate::Discarded,
            _ => Fate::Suspended(suspense.reason),
        };
        self.count(suspense.record.file(), fate);
        self.suspense.insert(suspense);
    }

    fn add(&mut self, line: LineKey, units: i128, amount: Amount) {
        let sum = self.lines.entry(line).or_default();
        *sum = LineSum {
            charges: sum.charges + 1,
            quantity: sum.quantity.plus(Quantity(units).into()),
            amount: sum.amount.plus(amount.into()),
        };
    }

    fn enter(&mut self, charge: &Charge, line: LineKey, item: Item) {
        let mut units = i128::from(charge.quantity);
        for _ in item.scale..Quantity::SCALE {
            units *= 10;
        }
        self.add(line, units, charge.amount);
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
