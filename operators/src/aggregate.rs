//! Adds charges up to billing lines: per account, bill unit, item, currency and the configured
//! attributes.
//!
//! - **In:** `charges: Charge`
//! - **Out:** `lines: (LineKey, LineSum)`, one per line that has charges
//! - **Key:** `LineKey`. A hot line (one account with most of the traffic) still spreads: each
//!   worker adds up its own charges first and exchanges one sum per line and epoch
//! - **Time:** event time selects the bill unit
//! - **Cost per change:** O(1) per charge, O(log lines) per line and epoch: the sums are carried in
//!   the difference, so a total of ten million charges is never read again
//! - **State:** one sum per line
//! - **Invariants:** the lines' sums are the charges' sums, at every epoch; a line without charges
//!   does not exist

use crate::domain::{
    AggregateId, BillCalendar, Charge, ClassKey, LineKey, LineSum, Name, Quantity, UsageClass,
};
use crate::epoch::{Collection, Diff, Epoch};
use crate::keymap::KeyMap;
use differential_dataflow::AsCollection;
use differential_dataflow::difference::{IsZero, Semigroup};
use differential_dataflow::operators::CountTotal;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

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
}

/// Adds charges up; see the module.
pub fn aggregate<'scope>(
    charges: Collection<'scope, Charge>,
    mut finder: LineFinder,
) -> Collection<'scope, (LineKey, LineSum)> {
    charges
        .inner
        .unary(Pipeline, "aggregate", move |_, _| {
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
        .as_collection()
        .count_total()
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
    mut give: impl FnMut((LineKey, Epoch, LineSum)),
) {
    let Some(epoch) = epoch else { return };
    for id in sums.sorted_keys() {
        if let Some((line, sum)) = sums.remove(id)
            && !sum.is_zero()
        {
            give((line, epoch, sum));
        }
    }
}
