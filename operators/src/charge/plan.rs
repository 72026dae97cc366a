//! The buckets of a balance group: their places in the state, and which of them usage of a moment
//! may touch.
//!
//! Slots are dense and used again when free. The starts and ends of windows cut event time into
//! stretches; each stretch lists its live buckets in the order in which a record meets them.

use crate::domain::{Bucket, BucketKey, BucketKind, EventTime, Name, Period};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// A bucket in its slot.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) bucket: Bucket,
    /// The bucket of the same resource that ends where this one starts or, if none does, last before.
    pub(super) previous: Option<u32>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    slots: Vec<Option<Slot>>,
    /// Sorted; a map of few would cost more than all else here.
    by_key: Vec<(BucketKey, u32)>,
    starts: Vec<EventTime>,
    stretches: Vec<SmallVec<[u32; 4]>>,
}

/// The order in which a record meets buckets: allowances, caps, accumulators; allowances by priority;
/// then earliest end, earliest start, key.
type Order = (u8, i32, EventTime, EventTime, BucketKey);

fn order(bucket: &Bucket) -> Order {
    let (kind, priority) = match bucket.kind {
        BucketKind::Allowance { priority } => (0, priority),
        BucketKind::Cap { .. } => (1, 0),
        BucketKind::Accumulator { .. } => (2, 0),
    };
    let valid = bucket.valid;
    (kind, priority, valid.end(), valid.start(), bucket.key)
}

impl Plan {
    /// Slots, free ones included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Buckets held.
    pub(super) fn bucket_count(&self) -> usize {
        self.by_key.len()
    }

    /// Bytes outside of the value itself.
    pub(super) fn bytes(&self) -> usize {
        let slots = self
            .slots
            .capacity()
            .saturating_mul(size_of::<Option<Slot>>());
        let keys = self
            .by_key
            .capacity()
            .saturating_mul(size_of::<(BucketKey, u32)>());
        let each = size_of::<EventTime>().saturating_add(size_of::<SmallVec<[u32; 4]>>());
        let stretches = self.stretches.capacity().saturating_mul(each);
        let spilled = self.stretches.iter().filter(|list| list.spilled());
        let lists: usize = spilled.map(|list| list.capacity().saturating_mul(4)).sum();
        [slots, keys, stretches, lists]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(super::guarded::index(slot))?.as_ref()
    }

    pub(super) fn slot(&self, key: BucketKey) -> Option<u32> {
        let at = self.by_key.binary_search_by_key(&key, |(key, _)| *key);
        at.ok().map(|at| self.by_key[at].1)
    }

    /// All buckets with their slots, by key.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (u32, &Bucket)> {
        self.by_key
            .iter()
            .filter_map(|(_, slot)| Some((*slot, &self.get(*slot)?.bucket)))
    }

    /// The buckets that hold `time`, in the order in which a record meets them. `hint` remembers the
    /// stretch, for records that follow each other.
    pub(super) fn at(&self, time: EventTime, hint: &mut usize) -> &[u32] {
        let holds = |at: usize| {
            self.starts.get(at).is_some_and(|start| *start <= time)
                && self
                    .starts
                    .get(at.saturating_add(1))
                    .is_none_or(|next| time < *next)
        };
        if !holds(*hint) {
            let after = self.starts.partition_point(|start| *start <= time);
            if after == 0 {
                return &[];
            }
            *hint = after.saturating_sub(1);
        }
        &self.stretches[*hint]
    }

    /// Puts a bucket into its slot, replacing one of the same key; returns the slot. [`Self::arrange`]
    /// must follow.
    pub(super) fn put(&mut self, bucket: Bucket) -> u32 {
        let key = bucket.key;
        let slot = Some(Slot {
            bucket,
            previous: None,
        });
        if let Some(at) = self.slot(key) {
            self.slots[super::guarded::index(at)] = slot;
            return at;
        }
        let free = self.slots.iter().position(Option::is_none);
        let at = free.unwrap_or(self.slots.len());
        if at == self.slots.len() {
            self.slots.push(slot);
        } else {
            self.slots[at] = slot;
        }
        let at = u32::try_from(at).expect("a group has less than 4 billion buckets");
        let place = self.by_key.partition_point(|(held, _)| *held < key);
        self.by_key.insert(place, (key, at));
        at
    }

    /// Takes a bucket out of its slot. [`Self::arrange`] must follow.
    pub(super) fn take(&mut self, key: BucketKey) -> Option<Bucket> {
        let at = self.by_key.binary_search_by_key(&key, |(key, _)| *key);
        let (_, slot) = self.by_key.remove(at.ok()?);
        let held = self.slots[super::guarded::index(slot)].take();
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        held.map(|slot| slot.bucket)
    }

    /// Orders the buckets in time.
    pub(super) fn arrange(&mut self) {
        let mut changes: BTreeMap<EventTime, Vec<(Order, u32, bool)>> = BTreeMap::new();
        for (slot, bucket) in self.buckets() {
            let (order, valid) = (order(bucket), bucket.valid);
            let mut change = |at, begins| {
                changes.entry(at).or_default().push((order, slot, begins));
            };
            change(valid.start(), true);
            change(valid.end(), false);
        }
        let mut live = BTreeSet::new();
        self.starts = Vec::with_capacity(changes.len());
        self.stretches = Vec::with_capacity(changes.len());
        for (start, changes) in changes {
            for (order, slot, begins) in changes {
                if begins {
                    live.insert((order, slot));
                } else {
                    live.remove(&(order, slot));
                }
            }
            self.starts.push(start);
            self.stretches
                .push(live.iter().map(|(_, slot)| *slot).collect());
        }
        self.slots.shrink_to_fit();
        self.by_key.shrink_to_fit();
        self.find_previous();
    }

    /// Reads a little of each part, for [`Group::touch`](super::Group).
    pub(super) fn touch(&self) -> i128 {
        let slots = self.slots.iter().flatten();
        let sum = slots.fold(0_i128, |sum, held| sum.wrapping_add(held.bucket.opening));
        let start = self.starts.first().map_or(0, |start| start.0);
        let live = self.stretches.first().and_then(|live| live.first());
        sum.wrapping_add(i128::from(start))
            .wrapping_add(i128::from(live.copied().unwrap_or(0)))
    }

    fn find_previous(&mut self) {
        let mut ends: BTreeMap<Name, Vec<(EventTime, EventTime, BucketKey, u32)>> = BTreeMap::new();
        for (slot, bucket) in self.buckets() {
            let valid = bucket.valid;
            let end = (valid.end(), valid.start(), bucket.key, slot);
            ends.entry(bucket.resource).or_default().push(end);
        }
        ends.values_mut().for_each(|ends| ends.sort_unstable());
        for held in self.slots.iter_mut().flatten() {
            let ends = &ends[&held.bucket.resource];
            let start = held.bucket.valid.start();
            let before = ends.partition_point(|(end, ..)| *end <= start);
            held.previous = before.checked_sub(1).map(|last| ends[last].3);
        }
    }
}

/// Whether two buckets touch the same usage in the same way, whatever they hold.
pub(super) fn same_rules(left: &Bucket, right: &Bucket) -> bool {
    (left.resource, left.kind, left.measure, left.valid)
        == (right.resource, right.kind, right.measure, right.valid)
        && left.items == right.items
}

/// The windows in which usage may be charged differently once `bucket` has other rules, given all
/// buckets of one side of the change: its own, and those of its resource, whose usage may look back
/// at it.
pub(super) fn windows_touched(plan: &Plan, bucket: &Bucket, into: &mut Vec<Period>) {
    into.push(bucket.valid);
    let accumulates = matches!(bucket.kind, BucketKind::Accumulator { .. });
    let same = plan
        .buckets()
        .filter(|(_, other)| accumulates && other.resource == bucket.resource);
    into.extend(same.map(|(_, other)| other.valid));
}
