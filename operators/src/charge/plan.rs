//! The buckets of a balance group: their places in the state, and which of them usage of a moment
//! may touch.
//!
//! Slots are dense and used again when free. The starts and ends of windows cut event time into
//! stretches; each stretch lists its live buckets in the order in which a record meets them. All of
//! that is mostly the same for many groups, so those that are alike [share](SharedRules) it: memory
//! that every append reads is then read from the cache. A group's own are the keys of its buckets
//! and what they open with.

use super::guarded::{State, index};
use super::read::Watch;
use crate::domain::{
    Bucket, BucketKey, BucketKind, EventTime, GroupKey, Measure, Name, Period, Threshold,
};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a bucket is, whoever has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) resource: Name,
    pub(super) kind: BucketKind,
    pub(super) measure: Measure,
    pub(super) items: SmallVec<[Name; 2]>,
    pub(super) valid: Period,
    pub(super) thresholds: SmallVec<[Threshold; 3]>,
    /// The bucket of the same resource that ends where this one starts or, if none does, last before.
    pub(super) previous: Option<u32>,
}

/// A bucket in its slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub(super) key: BucketKey,
    pub(super) rule: &'a Rule,
}

/// The part of a plan that says nothing of its group.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rules {
    slots: Vec<Option<Rule>>,
    starts: Vec<EventTime>,
    stretches: Vec<SmallVec<[u32; 4]>>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    rules: Arc<Rules>,
    /// By slot; those of free slots mean nothing.
    keys: SmallVec<[BucketKey; 3]>,
    openings: Vec<i128>,
}

/// The rules of all groups of a worker, each held once.
#[derive(Debug, Default)]
pub(super) struct SharedRules {
    held: BTreeSet<Arc<Rules>>,
    /// How many there may be before those of no group are looked for.
    limit: usize,
    bytes: usize,
}

/// Buckets, free slots included, that are looked through; of more there is a map. Few in tests, so that
/// they reach both.
const FEW: usize = if cfg!(test) { 3 } else { 32 };

/// Where the buckets of a plan are while several change.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// By key, and the slots of none, the lowest last; nothing where they are few.
    map: Option<(BTreeMap<BucketKey, usize>, Vec<usize>)>,
}

impl Slots {
    /// Those of a plan, of which so many will change.
    pub(super) fn of(plan: &Plan, changes: usize) -> Self {
        if plan.len().saturating_add(changes) <= FEW {
            return Self::default();
        }
        let slots = || plan.keys.iter().zip(&plan.rules.slots).enumerate();
        let held = slots().filter(|(_, (_, rule))| rule.is_some());
        let held = held.map(|(at, (key, _))| (*key, at)).collect();
        let free = slots().filter(|(_, (_, rule))| rule.is_none());
        let free = free.map(|(at, _)| at).rev().collect();
        Self {
            map: Some((held, free)),
        }
    }

    fn of_bucket(&self, plan: &Plan, key: BucketKey) -> Option<usize> {
        if let Some((held, _)) = &self.map {
            return held.get(&key).copied();
        }
        plan.slot(key).map(index)
    }

    /// The lowest slot that is free, which is taken then.
    fn free(&mut self, plan: &Plan) -> Option<usize> {
        match &mut self.map {
            Some((_, free)) => free.pop(),
            None => plan.rules.slots.iter().position(Option::is_none),
        }
    }

    fn put(&mut self, key: BucketKey, at: usize) {
        if let Some((held, _)) = &mut self.map {
            held.insert(key, at);
        }
    }

    /// A bucket goes. Its slot stays empty: buckets come before others go.
    fn take(&mut self, key: BucketKey) {
        if let Some((held, _)) = &mut self.map {
            held.remove(&key);
        }
    }
}

/// The order in which a record meets buckets: allowances of units, which what money has offset would draw for
/// nothing, allowances of money, caps, accumulators; allowances by priority; then earliest end, earliest
/// start, key.
type Order = (u8, i32, EventTime, EventTime, BucketKey);

fn order(held: Held<'_>) -> Order {
    let (kind, priority) = match held.rule.kind {
        BucketKind::Allowance { priority } => match held.rule.measure {
            Measure::Units => (0, priority),
            Measure::Money => (1, priority),
        },
        BucketKind::Cap { .. } => (2, 0),
        BucketKind::Accumulator { .. } | BucketKind::Spend | BucketKind::Elsewhere { .. } => (3, 0),
    };
    let valid = held.rule.valid;
    (kind, priority, valid.end(), valid.start(), held.key)
}

impl Rules {
    fn bytes(&self) -> usize {
        let slots = self
            .slots
            .capacity()
            .saturating_mul(size_of::<Option<Rule>>());
        let each = size_of::<EventTime>().saturating_add(size_of::<SmallVec<[u32; 4]>>());
        let stretches = self.stretches.capacity().saturating_mul(each);
        let spilled = self.stretches.iter().filter(|list| list.spilled());
        let lists: usize = spilled.map(|list| list.capacity().saturating_mul(4)).sum();
        [slots, stretches, lists]
            .into_iter()
            .fold(size_of::<Self>(), usize::saturating_add)
    }
}

impl SharedRules {
    /// Lets the plan share its rules with those of groups that have the same.
    pub(super) fn share(&mut self, plan: &mut Plan) {
        if let Some(held) = self.held.get(&plan.rules) {
            plan.rules = Arc::clone(held);
            return;
        }
        self.bytes = self.bytes.saturating_add(plan.rules.bytes());
        self.held.insert(Arc::clone(&plan.rules));
        if self.held.len() > self.limit {
            self.held.retain(|rules| Arc::strong_count(rules) > 1);
            self.limit = self.held.len().saturating_mul(2);
            self.bytes = self.held.iter().map(|rules| rules.bytes()).sum();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Plan {
    /// Slots, free ones included.
    pub(super) fn len(&self) -> usize {
        self.rules.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.slots.is_empty()
    }

    /// Buckets held.
    pub(super) fn bucket_count(&self) -> usize {
        self.rules.slots.iter().flatten().count()
    }

    /// Reads a little of what an append needs.
    pub(super) fn touch(&self) -> i64 {
        self.keys.first().map_or(0, |key| key.0.cast_signed())
    }

    /// Bytes outside of the value itself, without rules: those are [shared](SharedRules).
    pub(super) fn bytes(&self) -> usize {
        let spilled = self.keys.spilled().then(|| self.keys.capacity());
        let keys = spilled.unwrap_or(0).saturating_mul(size_of::<BucketKey>());
        let openings = self.openings.capacity().saturating_mul(size_of::<i128>());
        keys.saturating_add(openings)
    }

    pub(super) fn get(&self, slot: u32) -> Option<Held<'_>> {
        let at = index(slot);
        let rule = self.rules.slots.get(at)?.as_ref()?;
        let key = *self.keys.get(at)?;
        Some(Held { key, rule })
    }

    /// The slot of a bucket.
    pub(super) fn slot(&self, key: BucketKey) -> Option<u32> {
        let mut slots = (0_u32..).zip(self.keys.iter().zip(&self.rules.slots));
        let found = slots.find(|(_, (held, rule))| **held == key && rule.is_some());
        found.map(|(slot, _)| slot)
    }

    /// All buckets with their slots, by key.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (u32, Held<'_>)> {
        let slots = (0_u32..).zip(&self.rules.slots);
        let mut all: Vec<_> = slots
            .filter_map(|(slot, _)| Some((slot, self.get(slot)?)))
            .collect();
        all.sort_unstable_by_key(|(_, held)| held.key);
        all.into_iter()
    }

    /// The thresholds of all buckets.
    pub(super) fn watches(&self) -> impl Iterator<Item = Watch> {
        let slots = (0_u32..).zip(&self.rules.slots);
        let rules = slots.filter_map(|(slot, rule)| Some((slot, rule.as_ref()?)));
        rules.flat_map(|(slot, rule)| {
            let places = 0..rule.thresholds.len();
            places.map(move |place| Watch::of(slot, rule, place))
        })
    }

    /// A bucket as it was put.
    pub(super) fn bucket(&self, group: GroupKey, slot: u32) -> Option<Bucket> {
        let Held { key, rule } = self.get(slot)?;
        Some(Bucket {
            group,
            key,
            resource: rule.resource,
            kind: rule.kind,
            measure: rule.measure,
            items: rule.items.clone(),
            valid: rule.valid,
            opening: *self.openings.get(index(slot))?,
            thresholds: rule.thresholds.clone(),
        })
    }

    /// The state before all rows.
    pub(super) fn opening(&self) -> State {
        let slots = self.rules.slots.iter().zip(&self.openings);
        slots
            .map(|(rule, opening)| rule.as_ref().map_or(0, |_| *opening))
            .collect()
    }

    /// The buckets that hold `time`, in the order in which a record meets them. `hint` remembers the
    /// stretch, for records that follow each other.
    pub(super) fn at(&self, time: EventTime, hint: &mut usize) -> &[u32] {
        let Rules {
            starts, stretches, ..
        } = &*self.rules;
        let holds = |at: usize| {
            let next = starts.get(at.saturating_add(1));
            starts.get(at).is_some_and(|start| *start <= time)
                && next.is_none_or(|next| time < *next)
        };
        if !holds(*hint) {
            let after = starts.partition_point(|start| *start <= time);
            if after == 0 {
                return &[];
            }
            *hint = after.saturating_sub(1);
        }
        &stretches[*hint]
    }

    /// Puts a bucket into its slot, replacing one of the same key. [`Self::arrange`] must follow.
    pub(super) fn put(&mut self, bucket: Bucket, places: &mut Slots) {
        let rule = Some(Rule {
            resource: bucket.resource,
            kind: bucket.kind,
            measure: bucket.measure,
            items: bucket.items,
            valid: bucket.valid,
            thresholds: bucket.thresholds,
            previous: None,
        });
        let held = places.of_bucket(self, bucket.key);
        let at = held.or_else(|| places.free(self));
        let slots = &mut own(&mut self.rules).slots;
        places.put(bucket.key, at.unwrap_or(slots.len()));
        match at {
            Some(at) => {
                slots[at] = rule;
                self.keys[at] = bucket.key;
                self.openings[at] = bucket.opening;
            }
            None => {
                slots.push(rule);
                self.keys.push(bucket.key);
                self.openings.push(bucket.opening);
            }
        }
    }

    /// Takes a bucket out of its slot. [`Self::trim`] and [`Self::arrange`] must follow.
    pub(super) fn take(&mut self, key: BucketKey, places: &mut Slots) {
        if let Some(at) = places.of_bucket(self, key) {
            own(&mut self.rules).slots[at] = None;
            places.take(key);
        }
    }

    /// Gives free slots behind all others back.
    pub(super) fn trim(&mut self) {
        if !matches!(self.rules.slots.last(), Some(None)) {
            return;
        }
        let slots = &mut own(&mut self.rules).slots;
        while slots.last().is_some_and(Option::is_none) {
            slots.pop();
        }
        self.keys.truncate(slots.len());
        self.openings.truncate(slots.len());
    }

    /// Orders the buckets in time.
    pub(super) fn arrange(&mut self) {
        let mut changes: BTreeMap<EventTime, Vec<(Order, u32, bool)>> = BTreeMap::new();
        for (slot, held) in self.buckets() {
            let (order, valid) = (order(held), held.rule.valid);
            let mut change = |at, begins| {
                changes.entry(at).or_default().push((order, slot, begins));
            };
            change(valid.start(), true);
            change(valid.end(), false);
        }
        let previous = self.previous();
        let mut live = BTreeSet::new();
        let rules = own(&mut self.rules);
        rules.starts = Vec::with_capacity(changes.len());
        rules.stretches = Vec::with_capacity(changes.len());
        for (start, changes) in changes {
            for (order, slot, begins) in changes {
                if begins {
                    live.insert((order, slot));
                } else {
                    live.remove(&(order, slot));
                }
            }
            rules.starts.push(start);
            let live = live.iter().map(|(_, slot)| *slot);
            rules.stretches.push(live.collect());
        }
        for (slot, previous) in previous {
            if let Some(rule) = &mut rules.slots[index(slot)] {
                rule.previous = previous;
            }
        }
        rules.slots.shrink_to_fit();
        self.openings.shrink_to_fit();
    }

    /// For each bucket, that of its resource before it.
    fn previous(&self) -> Vec<(u32, Option<u32>)> {
        let mut ends: BTreeMap<Name, Vec<(EventTime, EventTime, BucketKey, u32)>> = BTreeMap::new();
        let looked_at = self
            .buckets()
            .filter(|(_, held)| !held.rule.kind.is_inner());
        for (slot, Held { key, rule }) in looked_at {
            let end = (rule.valid.end(), rule.valid.start(), key, slot);
            ends.entry(rule.resource).or_default().push(end);
        }
        ends.values_mut().for_each(|ends| ends.sort_unstable());
        let previous = |(slot, held): (u32, Held<'_>)| {
            let ends = ends.get(&held.rule.resource);
            let ends = ends.map_or(&[][..], |ends| ends);
            let start = held.rule.valid.start();
            let before = ends.partition_point(|(end, ..)| *end <= start);
            (slot, before.checked_sub(1).map(|last| ends[last].3))
        };
        self.buckets().map(previous).collect()
    }
}

/// Rules that no other group sees, copied if one does.
fn own(rules: &mut Arc<Rules>) -> &mut Rules {
    if Arc::get_mut(rules).is_none() {
        *rules = Arc::new(Rules {
            slots: rules.slots.clone(),
            starts: Vec::new(),
            stretches: Vec::new(),
        });
    }
    Arc::get_mut(rules).expect("a new value is nobody else's")
}

/// Whether two buckets touch the same usage in the same way, whatever they hold.
pub(super) fn same_rules(left: &Bucket, right: &Bucket) -> bool {
    (left.resource, left.kind, left.measure, left.valid)
        == (right.resource, right.kind, right.measure, right.valid)
        && left.items == right.items
}

/// The windows in which usage may be charged differently once these buckets have other rules, in order
/// and apart from each other: their own, and on both sides of the change those of their resources, whose
/// usage may look back at them.
pub(super) fn windows_touched(sides: [&Plan; 2], buckets: &[&Bucket]) -> Vec<Period> {
    let accumulating = buckets
        .iter()
        .filter(|bucket| matches!(bucket.kind, BucketKind::Accumulator { .. }));
    let looked_back_at: BTreeSet<Name> = accumulating.map(|bucket| bucket.resource).collect();
    let mut windows: Vec<Period> = buckets.iter().map(|bucket| bucket.valid).collect();
    if !looked_back_at.is_empty() {
        let rules = sides.into_iter().flat_map(|plan| &plan.rules.slots);
        let same = rules.flatten();
        let same = same.filter(|rule| looked_back_at.contains(&rule.resource));
        windows.extend(same.map(|rule| rule.valid));
    }
    windows.sort_unstable();
    windows.dedup_by(|next, last| match next.start() <= last.end() {
        true => {
            let end = last.end().max(next.end());
            *last = Period::new(last.start(), end).unwrap_or(*last);
            true
        }
        false => false,
    });
    windows
}
