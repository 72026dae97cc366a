//! How to write a pricing model.
//!
//! A model is a [`Kernel`]: a value with all that it needs to know, and one pure function that
//! charges one thing (an item of a record, or the edge of a period) on a [`Step`]:
//!
//! ```text
//! charge(state, record) -> (impacts, delta, guard)
//! ```
//!
//! `state` holds the value of each of the group's buckets. What the kernel does leaves *impacts*
//! (what a person sees), a *delta* (what is added to the state), and a *guard*: an interval of values
//! for each bucket within which the very same impacts and delta would have come out. The guard is
//! what lets a late record skip a million others, and the law that everything rests on.
//!
//! **A kernel never writes a guard.** It can look at a bucket and change it only through the step,
//! and each way of doing so narrows the guard by itself:
//!
//! | way | sees | guard |
//! | --- | --- | --- |
//! | [`Step::draw`] | how much could be taken | enough, or nothing, or exactly this |
//! | [`Step::fill`] | how much still fits | enough room, or none, or exactly this |
//! | [`Step::add`] | nothing | none, except the range of numbers |
//! | [`Step::locate`] | the interval that holds the value | that interval |
//! | [`Step::among`] | the value, to choose an interval by | the interval chosen |
//! | [`Step::read`] | the value | exactly this |
//!
//! To add a model: a file in `kernels/` with a struct and its `Kernel`, a line in
//! `kernels.rs` that builds it from the price or the edge, and a case in the oracle. A model that
//! needs the exact value takes [`Step::read`]: right at once, only slower, because a late record then
//! replays whatever it shifted.

use super::guarded::{Guarded, index};
use crate::domain::{Amount, BucketKey, Impact, ImpactKind, Name, Reason};
use smallvec::SmallVec;

/// One pricing model at work on one thing.
pub(super) trait Kernel {
    /// What the caller needs to go on.
    type Rest;

    /// Charges it; an error means that nothing of the whole record is charged.
    ///
    /// # Errors
    /// Why not; the step is then given up.
    fn charge(&self, step: &mut Step<'_>) -> Result<Self::Rest, Reason>;
}

/// What a price asks for a part of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The tier, counted from 0.
    pub(super) tier: u16,
    /// Units, in [`Quantity`](crate::domain::Quantity).
    pub(super) units: i128,
    /// What they cost.
    pub(super) amount: Amount,
}

/// The parts of one item, in the order of tiers.
pub(super) type Parts = SmallVec<[Part; 2]>;

/// What charging one record or edge came to. Reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The delta and the guard.
    pub(super) effect: Guarded,
    /// The impacts of all items, in order.
    pub(super) impacts: Vec<Impact>,
    /// Per item, its net amount and where its impacts end.
    pub(super) items: SmallVec<[(Amount, usize); 3]>,
    /// Why nothing was charged, and the item at fault.
    pub(super) fault: Option<(Reason, Option<Name>)>,
    /// Whether a bucket moved against its direction: up for an allowance, down for any other.
    pub(super) turned: bool,
}

impl Outcome {
    /// Whether a person would see the same.
    pub(super) fn same_impacts(&self, other: &Self) -> bool {
        self.impacts == other.impacts && self.items == other.items && self.fault == other.fault
    }

    /// Ready for the next.
    pub(super) fn clear(&mut self) {
        self.effect.clear();
        self.impacts.clear();
        self.items.clear();
        self.fault = None;
        self.turned = false;
    }
}

/// Charging at work on one state. The state moves as the step goes.
pub(super) struct Step<'a> {
    state: &'a mut [i128],
    outcome: &'a mut Outcome,
}

impl<'a> Step<'a> {
    pub(super) fn new(state: &'a mut [i128], outcome: &'a mut Outcome) -> Self {
        Self { state, outcome }
    }

    /// Notes an impact.
    pub(super) fn impact(
        &mut self,
        kind: ImpactKind,
        tier: u16,
        bucket: Option<BucketKey>,
        units: i128,
        amount: Amount,
    ) {
        self.outcome.impacts.push(Impact {
            kind,
            tier,
            bucket,
            units,
            amount,
        });
    }

    /// Narrows the guard to `low..=high`, which holds the value, and adds `delta`.
    fn guarded(&mut self, slot: u32, low: i128, high: i128, delta: i128) {
        let value = &mut self.state[index(slot)];
        debug_assert!(
            low <= *value && *value <= high,
            "a guard holds its own state"
        );
        // What may be added has been asked for: nothing leaves the range here.
        *value = value.saturating_add(delta);
        self.outcome.effect.then(slot, low, high, delta);
    }

    /// Takes up to `wanted` out of a bucket, never below nothing; returns what was taken.
    pub(super) fn draw(&mut self, slot: u32, wanted: i128) -> i128 {
        let value = self.state[index(slot)];
        if wanted <= 0 {
            0
        } else if value >= wanted {
            self.guarded(slot, wanted, i128::MAX, wanted.saturating_neg());
            wanted
        } else if value <= 0 {
            self.guarded(slot, i128::MIN, 0, 0);
            0
        } else {
            self.guarded(slot, value, value, value.saturating_neg());
            value
        }
    }

    /// Puts up to `wanted` into a bucket that holds `limit`; returns what fitted.
    pub(super) fn fill(&mut self, slot: u32, wanted: i128, limit: i128) -> i128 {
        let value = self.state[index(slot)];
        let room = limit.saturating_sub(value);
        if wanted <= 0 {
            0
        } else if room >= wanted {
            self.guarded(slot, i128::MIN, limit.saturating_sub(wanted), wanted);
            wanted
        } else if room <= 0 {
            self.guarded(slot, limit, i128::MAX, 0);
            0
        } else {
            self.guarded(slot, value, value, room);
            room
        }
    }

    /// Adds to a bucket.
    ///
    /// # Errors
    /// [`Reason::AmountOutOfRange`] when the bucket's value leaves 38 digits, which is what the columns
    /// of the outputs hold.
    pub(super) fn add(&mut self, slot: u32, delta: i128) -> Result<(), Reason> {
        let value = self.state[index(slot)];
        let moved = value.checked_add(delta).and_then(Amount::within);
        let within = |bound: i128| bound.saturating_sub(delta);
        let (least, most) = (
            within(Amount::MAX.0.saturating_neg()),
            within(Amount::MAX.0),
        );
        match moved {
            Some(_) => {
                self.guarded(slot, least, most, delta);
                Ok(())
            }
            None => {
                self.guarded(slot, value, value, 0);
                Err(Reason::AmountOutOfRange)
            }
        }
    }

    /// Notes that a bucket may move against its direction, so that a threshold may be passed twice.
    pub(super) fn turns(&mut self) {
        self.outcome.turned = true;
    }

    /// Which of the intervals that begin at `starts` holds the value; what lies before the first
    /// belongs to it.
    pub(super) fn locate<T>(&mut self, slot: u32, all: &[T], start: impl Fn(&T) -> i128) -> usize {
        self.among(slot, |value| {
            let after = all.partition_point(|one| start(one) <= value);
            let at = after.saturating_sub(1);
            let low = if at == 0 {
                i128::MIN
            } else {
                all.get(at).map_or(i128::MIN, &start)
            };
            let next = all.get(at.saturating_add(1));
            let high = next.map_or(i128::MAX, |next| start(next).saturating_sub(1));
            (at, low, high)
        })
    }

    /// Chooses by the value: `choose` returns what it found, and the lowest and highest values for
    /// which it would have found the same. An interval without the value becomes the value alone.
    pub(super) fn among<T>(
        &mut self,
        slot: u32,
        choose: impl FnOnce(i128) -> (T, i128, i128),
    ) -> T {
        let value = self.state[index(slot)];
        let (found, low, high) = choose(value);
        let (low, high) = if low <= value && value <= high {
            (low, high)
        } else {
            (value, value)
        };
        self.guarded(slot, low, high, 0);
        found
    }

    /// The exact value.
    pub(super) fn read(&mut self, slot: u32) -> i128 {
        self.among(slot, |value| (value, value, value))
    }

    /// Ends an item with its net amount.
    pub(super) fn end_item(&mut self, net: Amount) {
        let end = self.outcome.impacts.len();
        self.outcome.items.push((net, end));
    }

    /// Gives up: nothing is charged, and the state is as before. The guard stays, because it says
    /// for which states the same would have happened.
    pub(super) fn fail(&mut self, reason: Reason, item: Option<Name>) {
        self.outcome.effect.undo(self.state);
        self.outcome.impacts.clear();
        self.outcome.items.clear();
        self.outcome.fault = Some((reason, item));
    }
}
