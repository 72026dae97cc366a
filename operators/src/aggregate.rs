//! Adds charges up to billing lines: per account, bill unit, item, currency and the configured
//! attributes.
//!
//! - **In:** `charges: Charge`, `activity: Activity` (subscriptions charged without usage)
//! - **Out:** `lines: (LineKey, LineSum)`, one per line that has charges
//! - **Key:** `LineKey`. A hot line (one account with most of the traffic) still spreads: each
//!   worker adds up its own charges first and exchanges one sum per line and epoch
//! - **Time:** event time selects the bill unit
//! - **Cost per change:** O(1) per charge, O(1) per line and epoch: what is exchanged are differences
//!   of sums, so a total of ten million charges is never read again
//! - **State:** one sum per line, freed with its last charge
//! - **Invariants:** the lines' sums are the charges' sums, at every epoch; a line without charges
//!   does not exist
//!
//! A custom operator and not `count_total`: where most epochs touch most lines, sorting and merging
//! wide keys took a third of a replay's time; here a line is found by its 128-bit id.

use crate::domain::{
    Activity, AggregateId, Amount, BillCalendar, Charge, ClassKey, LineKey, LineSum, Name,
    Quantity, UsageClass,
};
use crate::epoch::{Collection, Diff, Epoch, Rights, shard};
use crate::keymap::{KeyMap, Spread};
use differential_dataflow::AsCollection;
use differential_dataflow::difference::{IsZero, Semigroup};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map as _;

/// What separates billing lines, besides account, bill unit, item and currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The service.
    Service,
    /// The kind of service.
    ServiceType,
    /// The subscription.
    Subscription,
    /// The price row, so that a line has one price.
    Price,
    /// A usage attribute.
    Attribute(Name),
}

/// Looks classes up by key; shared by all workers of a process.
pub type ClassLookup = Arc<dyn Fn(ClassKey) -> Option<Arc<UsageClass>> + Send + Sync>;

/// The kernel: the billing line of a charge. The aggregate id stamped on a monetised record and the
/// id of its line are both made here.
#[derive(Clone)]
pub struct LineFinder {
    dimensions: Vec<Dimension>,
    calendar: BillCalendar,
    classes: ClassLookup,
    known: BTreeMap<ClassKey, Arc<UsageClass>>,
    last: Option<(ClassKey, Arc<UsageClass>)>,
}

impl LineFinder {
    /// A finder for lines that differ by `dimensions`.
    #[must_use]
    pub fn new(dimensions: Vec<Dimension>, calendar: BillCalendar, classes: ClassLookup) -> Self {
        Self {
            dimensions,
            calendar,
            classes,
            known: BTreeMap::new(),
            last: None,
        }
    }

    /// The tenant's time zone.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        self.calendar.zone()
    }

    fn class(&mut self, key: ClassKey) -> Arc<UsageClass> {
        if let Some((last, class)) = &self.last
            && *last == key
        {
            return Arc::clone(class);
        }
        let find = || (self.classes)(key).expect("the class of a charge was entered before it");
        let class = Arc::clone(self.known.entry(key).or_insert_with(find));
        self.last = Some((key, Arc::clone(&class)));
        class
    }

    /// The line that the charge belongs to, and its quantity there.
    ///
    /// # Panics
    /// If the class of the charge was never entered.
    pub fn line(&mut self, charge: &Charge) -> (LineKey, Quantity) {
        let class = self.class(charge.class);
        let item = class.items[usize::from(charge.item)];
        let unit = self.calendar.unit(&charge.profile, charge.time);
        let key_of = |dimension: &Dimension| match dimension {
            Dimension::Service => charge.service.0,
            Dimension::ServiceType => class.service_type.0,
            Dimension::Subscription => charge.subscription.0,
            Dimension::Price => charge.price.0,
            Dimension::Attribute(name) => class.attribute(*name).map_or(0, |value| value.0),
        };
        let key = LineKey {
            account: charge.account,
            unit_start: unit.start(),
            unit_end: unit.end(),
            item: item.name,
            currency: charge.currency,
            dimensions: self.dimensions.iter().map(key_of).collect::<SmallVec<_>>(),
        };
        let quantity = Quantity::new(charge.quantity, item.scale);
        (
            key,
            quantity.expect("mediation refuses quantities with more than 12 decimals"),
        )
    }

    /// The line that a subscription's charge without usage belongs to.
    #[must_use]
    pub fn activity_line(&mut self, activity: &Activity) -> LineKey {
        let unit = self.calendar.unit(&activity.profile, activity.billed_at());
        let key_of = |dimension: &Dimension| match dimension {
            Dimension::Subscription => activity.subscription.0,
            Dimension::Service
            | Dimension::ServiceType
            | Dimension::Price
            | Dimension::Attribute(_) => 0,
        };
        LineKey {
            account: activity.account,
            unit_start: unit.start(),
            unit_end: unit.end(),
            item: activity.item,
            currency: activity.currency,
            dimensions: self.dimensions.iter().map(key_of).collect::<SmallVec<_>>(),
        }
    }
}

/// Adds charges up, to what `lines` say stood before; see the module.
pub fn aggregate<'scope>(
    charges: Collection<'scope, Charge>,
    activity: Collection<'scope, Activity>,
    lines: Collection<'scope, (LineKey, LineSum)>,
    finder: LineFinder,
) -> Collection<'scope, (LineKey, LineSum)> {
    let deltas =
        add_up_activity(activity.inner, finder.clone()).concat(add_up(charges.inner, finder));
    let stood = lines.inner.map(|((key, sum), epoch, _)| {
        let id = key.aggregate_id().0;
        (Delta { id, key, sum }, epoch)
    });
    let deltas = deltas.concat(stood);
    let by_line = Exchange::new(|(line, _): &(Delta, Epoch)| shard(line.id_bits()));
    deltas
        .unary_frontier(by_line, "aggregate", |_, _| {
            let mut rights = Rights::default();
            let mut pending: BTreeMap<Epoch, Vec<Delta>> = BTreeMap::new();
            let mut lines = Lines::default();
            move |(input, frontier), output| {
                input.for_each(|capability, deltas| {
                    rights.keep(&capability, 1);
                    for (delta, epoch) in deltas.drain(..) {
                        pending.entry(epoch).or_default().push(delta);
                    }
                });
                while let Some(first) = pending.first_entry()
                    && !frontier.less_equal(first.key())
                {
                    let (epoch, deltas) = first.remove_entry();
                    let right = rights.at(0, epoch);
                    let mut session = output.session(&right);
                    lines.apply(deltas, |line, diff| session.give((line, epoch, diff)));
                }
                rights.advance(pending.first_key_value().map(|(epoch, _)| *epoch));
            }
        })
        .as_collection()
}

/// What an epoch adds to a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Delta {
    id: u128,
    key: LineKey,
    sum: LineSum,
}

impl Delta {
    fn id_bits(&self) -> u64 {
        self.id.bits()
    }
}

/// The sums of the lines of one worker.
#[derive(Default)]
struct Lines {
    sums: KeyMap<u128, LineSum>,
}

impl Lines {
    /// Adds the deltas of an epoch, and tells each line that they moved: what it was and what it is.
    fn apply(&mut self, mut deltas: Vec<Delta>, mut tell: impl FnMut((LineKey, LineSum), Diff)) {
        deltas.sort_unstable_by_key(|delta| delta.id);
        let mut deltas = deltas.into_iter().peekable();
        while let Some(Delta {
            id,
            key,
            sum: mut delta,
        }) = deltas.next()
        {
            while let Some(more) = deltas.next_if(|more| more.id == id) {
                delta.plus_equals(&more.sum);
            }
            if delta.is_zero() {
                continue;
            }
            let held = self.sums.entry(id, LineSum::default);
            let before = *held;
            held.plus_equals(&delta);
            let after = *held;
            if !before.is_zero() {
                tell((key.clone(), before), -1);
            }
            if after.is_zero() {
                self.sums.remove(id);
            } else {
                tell((key, after), 1);
            }
        }
    }
}

/// Adds up a worker's own charges, so that one sum per line and batch is exchanged.
fn add_up<'scope>(
    charges: StreamVec<'scope, Epoch, (Charge, Epoch, Diff)>,
    mut finder: LineFinder,
) -> StreamVec<'scope, Epoch, (Delta, Epoch)> {
    charges.unary(Pipeline, "add up", move |_, _| {
        let mut sums: KeyMap<u128, (LineKey, LineSum)> = KeyMap::default();
        move |input, output| {
            input.for_each_time(|capability, batches| {
                let mut at: Option<Epoch> = None;
                let mut session = output.session(&capability);
                for (charge, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                    if at.is_some_and(|at| at != epoch) {
                        flush(&mut sums, at, |update| session.give(update));
                    }
                    at = Some(epoch);
                    add(&mut sums, &mut finder, &charge, diff);
                }
                flush(&mut sums, at, |update| session.give(update));
            });
        }
    })
}

/// What subscriptions are charged without usage, one delta each: there is little of it.
fn add_up_activity<'scope>(
    activity: StreamVec<'scope, Epoch, (Activity, Epoch, Diff)>,
    mut finder: LineFinder,
) -> StreamVec<'scope, Epoch, (Delta, Epoch)> {
    activity.unary(Pipeline, "add up activity", move |_, _| {
        move |input, output| {
            input.for_each_time(|capability, batches| {
                let mut session = output.session(&capability);
                let activities = batches.flat_map(|batch| batch.drain(..));
                for (activity, epoch, diff) in activities {
                    if activity.amount == Amount::ZERO {
                        continue;
                    }
                    let key = finder.activity_line(&activity);
                    let AggregateId(id) = key.aggregate_id();
                    let sign = i64::try_from(diff).expect("a difference fits 64 bits");
                    let sum = LineSum::of(activity.quantity(), activity.amount, sign);
                    session.give((Delta { id, key, sum }, epoch));
                }
            });
        }
    })
}

fn add(
    sums: &mut KeyMap<u128, (LineKey, LineSum)>,
    finder: &mut LineFinder,
    charge: &Charge,
    diff: Diff,
) {
    let (line, quantity) = finder.line(charge);
    let AggregateId(id) = line.aggregate_id();
    let sign = i64::try_from(diff).expect("a difference fits 64 bits");
    let (_, sum) = sums.entry(id, || (line, LineSum::default()));
    sum.plus_equals(&LineSum::of(quantity, charge.amount, sign));
}

fn flush(
    sums: &mut KeyMap<u128, (LineKey, LineSum)>,
    epoch: Option<Epoch>,
    mut give: impl FnMut((Delta, Epoch)),
) {
    let Some(epoch) = epoch else { return };
    for (id, (key, sum)) in sums.drain() {
        if !sum.is_zero() {
            give((Delta { id, key, sum }, epoch));
        }
    }
}
