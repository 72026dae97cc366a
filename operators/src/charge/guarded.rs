//! Guarded translations: what a stretch of charging adds to each resource, and for which values it
//! would have done the same.
//!
//! They are a monoid: done one after the other, the second guard is shifted back by what the first
//! adds and intersected, and what they add is added. So a node of the tree can hold the one guarded
//! translation of all records below it. Bounds are real values of `i128`: a value that would leave
//! the range on the way is outside the guard, which makes overflow part of the law.

use smallvec::SmallVec;

/// The guard and the delta of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The resource's place in the state.
    pub(super) slot: u32,
    /// The lowest value that it holds for.
    pub(super) low: i128,
    /// The highest value that it holds for.
    pub(super) high: i128,
    /// What it adds.
    pub(super) delta: i128,
}

/// A guarded translation of the resources that it names, by slot; it leaves all others alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Guarded {
    spans: SmallVec<[Span; 3]>,
}

/// The value of each bucket of a group, by slot. Beside the group itself where they are few.
pub(super) type State = SmallVec<[i128; 3]>;

/// The place of a slot in a state.
pub(super) fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

impl Span {
    /// See [`Guarded::then`].
    fn then(&mut self, low: i128, high: i128, delta: i128) {
        if self.delta == 0 {
            (self.low, self.high, self.delta) = (self.low.max(low), self.high.min(high), delta);
            return;
        }
        self.low = self.low.max(low.saturating_sub(self.delta));
        self.high = self.high.min(high.saturating_sub(self.delta));
        // A shift that saturates means that all, or no, values are on the right side of the bound.
        let beyond = |bound: i128, by: i128| bound.checked_sub(by).is_none();
        let none_is = if self.delta < 0 {
            beyond(low, self.delta)
        } else {
            beyond(high, self.delta)
        };
        match self.delta.checked_add(delta) {
            Some(sum) if !none_is => self.delta = sum,
            // Too far for one number: a guard that admits nothing is always right.
            sum => {
                self.delta = sum.unwrap_or(self.delta);
                (self.low, self.high) = (i128::MAX, i128::MIN);
            }
        }
    }
}

/// Spans that are looked through: a search by halves is slower. Few in tests, so that they reach both.
const FEW: usize = if cfg!(test) { 2 } else { 16 };

impl Guarded {
    /// The resources named.
    #[cfg(test)]
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Becomes the identity: any state, nothing added.
    pub(super) fn clear(&mut self) {
        self.spans.clear();
    }

    /// Bytes outside of the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        let spilled = self.spans.spilled().then(|| self.spans.capacity());
        spilled.unwrap_or(0).saturating_mul(size_of::<Span>())
    }

    /// What it adds to a resource.
    pub(super) fn delta(&self, slot: u32) -> i128 {
        match self.spans.binary_search_by_key(&slot, |span| span.slot) {
            Ok(at) => self.spans[at].delta,
            Err(_) => 0,
        }
    }

    /// The resources that it adds to, and what.
    pub(super) fn deltas(&self) -> impl Iterator<Item = (u32, i128)> {
        let moved = self.spans.iter().filter(|span| span.delta != 0);
        moved.map(|span| (span.slot, span.delta))
    }

    fn span(&mut self, slot: u32) -> &mut Span {
        let at = if self.spans.len() <= FEW {
            let after = self.spans.iter().position(|span| span.slot >= slot);
            after.unwrap_or(self.spans.len())
        } else {
            self.spans.partition_point(|span| span.slot < slot)
        };
        match self.spans.get(at) {
            Some(span) if span.slot == slot => {}
            _ => {
                let (low, high) = (i128::MIN, i128::MAX);
                let delta = 0;
                self.spans.insert(
                    at,
                    Span {
                        slot,
                        low,
                        high,
                        delta,
                    },
                );
            }
        }
        &mut self.spans[at]
    }

    /// Does one thing more: adds `delta` to a resource, which holds while its value, as it stands
    /// after all before, lies in `low..=high`.
    pub(super) fn then(&mut self, slot: u32, low: i128, high: i128, delta: i128) {
        self.span(slot).then(low, high, delta);
    }

    /// This, and then another.
    pub(super) fn compose(&mut self, second: &Self) {
        let same_slots = || {
            let mut pairs = self.spans.iter().zip(&second.spans);
            pairs.all(|(span, second)| span.slot == second.slot)
        };
        // Neighbours mostly touch the same buckets, and need no search.
        if self.spans.len() == second.spans.len() && same_slots() {
            for (span, second) in self.spans.iter_mut().zip(&second.spans) {
                span.then(second.low, second.high, second.delta);
            }
            return;
        }
        for span in &second.spans {
            self.then(span.slot, span.low, span.high, span.delta);
        }
    }

    /// Reads a little of each span.
    pub(super) fn touch(&self) -> i64 {
        self.spans.iter().map(|span| i64::from(span.slot)).sum()
    }

    /// Whether it holds for a state.
    pub(super) fn admits(&self, state: &[i128]) -> bool {
        self.spans.iter().all(|span| {
            let value = state[index(span.slot)];
            span.low <= value && value <= span.high
        })
    }

    /// Adds to a state that it admits.
    pub(super) fn apply(&self, state: &mut [i128]) {
        for span in &self.spans {
            let value = &mut state[index(span.slot)];
            *value = value.saturating_add(span.delta);
        }
    }

    /// Takes back what it adds, from a state and from itself; the guard stays.
    pub(super) fn undo(&mut self, state: &mut [i128]) {
        for span in &mut self.spans {
            let value = &mut state[index(span.slot)];
            *value = value.saturating_sub(span.delta);
            span.delta = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOTS: u32 = 3;

    fn bound() -> impl Strategy<Value = i128> {
        prop_oneof![
            8 => -20_i128..20,
            1 => Just(i128::MIN),
            1 => Just(i128::MAX),
        ]
    }

    fn guarded() -> impl Strategy<Value = Guarded> {
        let one = (0..SLOTS, bound(), bound(), -10_i128..10);
        prop::collection::vec(one, 0..4).prop_map(|parts| {
            let mut guarded = Guarded::default();
            for (slot, low, high, delta) in parts {
                guarded.then(slot, low, high, delta);
            }
            guarded
        })
    }

    fn composed(parts: &[&Guarded]) -> Guarded {
        let mut all = Guarded::default();
        for part in parts {
            all.compose(part);
        }
        all
    }

    /// What doing one after the other comes to, if each admits the state that it meets.
    fn in_turn(parts: &[&Guarded], state: &[i128]) -> Option<Vec<i128>> {
        let mut state = state.to_vec();
        for part in parts {
            if !part.admits(&state) {
                return None;
            }
            part.apply(&mut state);
        }
        Some(state)
    }

    proptest! {
        #[test]
        fn composition_is_doing_one_after_the_other(
            a in guarded(),
            b in guarded(),
            c in guarded(),
            state in prop::collection::vec(-25_i128..25, 3),
        ) {
            let all = composed(&[&a, &b, &c]);
            let expected = in_turn(&[&a, &b, &c], &state);
            prop_assert_eq!(all.admits(&state), expected.is_some());
            if let Some(expected) = expected {
                let mut state = state;
                all.apply(&mut state);
                prop_assert_eq!(state, expected);
            }
        }

        #[test]
        fn it_is_a_monoid(a in guarded(), b in guarded(), c in guarded()) {
            let left = composed(&[&composed(&[&a, &b]), &c]);
            let right = composed(&[&a, &composed(&[&b, &c])]);
            // Guards that admit nothing may be written in many ways.
            for state in -40_i128..40 {
                let state = [state, state, state];
                prop_assert_eq!(left.admits(&state), right.admits(&state));
            }
            prop_assert_eq!(left.delta(0), right.delta(0));
            let identity = Guarded::default();
            prop_assert_eq!(&composed(&[&identity, &a]), &a);
            prop_assert_eq!(&composed(&[&a, &identity]), &a);
        }
    }

    #[test]
    fn leaving_the_range_is_outside_the_guard() {
        let mut guarded = Guarded::default();
        guarded.then(0, i128::MIN, i128::MAX, i128::MAX);
        guarded.then(0, i128::MIN, i128::MAX, -5);
        assert!(guarded.admits(&[0]));
        assert!(!guarded.admits(&[1]));
    }
}
