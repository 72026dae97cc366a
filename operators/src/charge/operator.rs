//! The timely operator: the groups of one worker, epoch by epoch.

use super::group::Scratch;
use super::{EdgeCharged, Group, GroupChanges, ItemImpact, Notice, Sink, Work};
use crate::domain::{
    Bucket, BucketKey, Charge, Edge, EventTime, GroupKey, Impact, PricedUsage, Suspense,
};
use crate::epoch::{Collection, Diff, Epoch, Pending, Rights, complete, counted, shard};
use crate::keymap::KeyMap;
use crate::stats::NodeStats;
use differential_dataflow::AsCollection;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

const OUTPUTS: usize = 6;

/// What [`charge`] reads.
pub struct ChargeInputs<'scope> {
    /// Usage that knows its group and its prices.
    pub usage: Collection<'scope, PricedUsage>,
    /// The buckets of groups.
    pub buckets: Collection<'scope, Bucket>,
    /// The edges of their periods.
    pub edges: Collection<'scope, Edge>,
}

/// What [`charge`] makes of it.
pub struct Charged<'scope> {
    /// One charge per item of each charged record.
    pub charges: Collection<'scope, Charge>,
    /// What each charge did, where that is wanted.
    pub impacts: Collection<'scope, ItemImpact>,
    /// What the edges of periods did.
    pub edges: Collection<'scope, EdgeCharged>,
    /// Records that could not be charged.
    pub suspense: Collection<'scope, Suspense>,
    /// Thresholds crossed.
    pub notices: Collection<'scope, Notice>,
    /// Records priced again because others came or buckets changed, counted by the difference.
    pub rerated: Collection<'scope, ()>,
    /// The groups of this worker, for whoever reads between steps.
    pub open: OpenCharges,
}

/// The groups of one worker.
#[derive(Default)]
struct Groups {
    /// Apart from the table, which is up to half empty.
    groups: KeyMap<GroupKey, Box<Group>>,
    records: usize,
    buckets: usize,
    bytes: usize,
    scratch: Scratch,
    /// Room for the [`Placed`] of an epoch.
    order: Vec<Placed>,
}

/// Where the group of a record lies, and where the record stands in its epoch.
type Placed = (u64, usize);

/// Records whose memory is asked for together.
const TOUCHED: usize = 32;

/// Cuts an epoch into batches that leave no group to two of them.
fn batches(order: &[Placed]) -> impl Iterator<Item = &[Placed]> {
    let mut rest = order;
    std::iter::from_fn(move || {
        let last = rest.len().min(TOUCHED).checked_sub(1)?;
        let place = rest[last].0;
        let more = rest[last..].iter().take_while(|(other, _)| *other == place);
        let (batch, after) = rest.split_at(last.saturating_add(more.count()));
        rest = after;
        Some(batch)
    })
}

/// Reads a little of all that a batch is about to need. Each record by itself would wait for memory
/// time and again; what many ask for one after the other arrives together.
fn touch(
    groups: &KeyMap<GroupKey, Box<Group>>,
    usage: &[Option<(PricedUsage, Diff)>],
    batch: &[Placed],
) {
    // Step by step for all, and not all steps for one: what a step reads tells where the next does.
    let terms = || {
        let usage = batch.iter().filter_map(|(_, at)| usage[*at].as_ref());
        usage.map(|(usage, _)| &usage.terms)
    };
    let held: SmallVec<[&Group; TOUCHED]> = terms()
        .filter_map(|terms| groups.get(terms.group).map(Box::as_ref))
        .collect();
    let sum = [
        held.iter()
            .map(|group| group.touch())
            .fold(0, i64::wrapping_add),
        terms()
            .map(|terms| terms.touch())
            .fold(0, i64::wrapping_add),
        held.iter()
            .map(|group| group.touch_tail())
            .fold(0, i64::wrapping_add),
    ];
    std::hint::black_box(sum);
}

/// Reads the groups of one worker, as of the last complete epoch.
#[derive(Clone)]
pub struct OpenCharges(Rc<RefCell<Groups>>);

impl OpenCharges {
    /// Tells everything charged, group by group in the order of their keys and each in its own
    /// order, which no worker count changes; only groups for which `wanted` holds.
    pub fn visit(&self, wanted: impl Fn(GroupKey) -> bool, sink: &mut dyn Sink) {
        let groups = &self.0.borrow().groups;
        let keys = groups.sorted_keys();
        for key in keys.into_iter().filter(|key| wanted(*key)) {
            if let Some(group) = groups.get(key) {
                group.visit(sink);
            }
        }
    }

    /// The value of each bucket of a group, by key: see [`Group::balances`]. `None` for a group that
    /// this worker does not have.
    #[must_use]
    pub fn balances(
        &self,
        group: GroupKey,
        at: Option<EventTime>,
    ) -> Option<Vec<(BucketKey, i128)>> {
        Some(self.0.borrow().groups.get(group)?.balances(at))
    }

    /// Reads one group, if this worker has it.
    pub fn with_group<T>(&self, group: GroupKey, read: impl FnOnce(&Group) -> T) -> Option<T> {
        self.0.borrow().groups.get(group).map(|group| read(group))
    }

    /// The groups of this worker, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupKey> {
        self.0.borrow().groups.sorted_keys()
    }
}

impl Groups {
    /// Bytes held.
    fn bytes(&self) -> usize {
        let groups = self.groups.len().saturating_mul(size_of::<Group>());
        [groups, self.groups.bytes(), self.scratch.rules.bytes()]
            .into_iter()
            .fold(self.bytes, usize::saturating_add)
    }

    /// Applies the changes of one epoch, group by group.
    fn apply(
        &mut self,
        usage: Vec<(PricedUsage, Diff)>,
        buckets: Vec<(Bucket, Diff)>,
        edges: Vec<(Edge, Diff)>,
        sink: &mut dyn Sink,
    ) -> Work {
        let mut work = Work::default();
        let mut others: BTreeMap<GroupKey, GroupChanges> = BTreeMap::new();
        for (bucket, diff) in buckets {
            let changes = others.entry(bucket.group).or_default();
            changes.buckets.push((bucket, diff));
        }
        for (edge, diff) in edges {
            let changes = others.entry(edge.group).or_default();
            changes.edges.push((edge, diff));
        }
        // Group by group, in the order in which they lie in the table: what a group needs is then
        // fetched once per epoch.
        let mut order = std::mem::take(&mut self.order);
        order.extend(usage.iter().zip(0..).map(|((usage, _), at)| {
            let group = usage.terms.group;
            (self.groups.place(group), at)
        }));
        order.sort_unstable();
        let mut usage: Vec<_> = usage.into_iter().map(Some).collect();
        for batch in batches(&order) {
            touch(&self.groups, &usage, batch);
            for run in batch.chunk_by(|left, right| left.0 == right.0) {
                let held = || run.iter().filter_map(|(_, at)| usage[*at].as_ref());
                let Some((first, _)) = held().next() else {
                    continue;
                };
                let key = first.terms.group;
                let others = others.remove(&key);
                // Where it lies: the moves of records would cost an append more than their charging.
                if others.is_none() && self.append_to(key, held(), &mut work, sink) {
                    continue;
                }
                let mut changes = others.unwrap_or_default();
                let of_group = run.iter().filter_map(|(_, at)| usage[*at].take());
                changes.usage.extend(of_group);
                self.apply_to(key, &mut changes, &mut work, sink);
            }
            // All at once: each counts its terms down, which waits for every write before it.
            batch.iter().for_each(|(_, at)| usage[*at] = None);
        }
        order.clear();
        self.order = order;
        for (key, mut changes) in others {
            self.apply_to(key, &mut changes, &mut work, sink);
        }
        work
    }

    /// Appends records to a group, if all of them come after what it has.
    fn append_to<'u>(
        &mut self,
        key: GroupKey,
        usage: impl Iterator<Item = &'u (PricedUsage, Diff)>,
        work: &mut Work,
        sink: &mut dyn Sink,
    ) -> bool {
        let group = self.groups.entry(key, || Box::new(Group::new(key)));
        let Some(next) = group.followers(usage) else {
            return false;
        };
        let bytes = group.row_bytes();
        let done = group.append_usage(&next, &mut self.scratch, sink);
        work.add(done);
        self.records = self.records.saturating_add(next.len());
        let held = self.bytes.saturating_add(group.row_bytes());
        self.bytes = held.saturating_sub(bytes);
        true
    }

    /// Applies the changes of one group; they are empty afterwards.
    fn apply_to(
        &mut self,
        key: GroupKey,
        changes: &mut GroupChanges,
        work: &mut Work,
        sink: &mut dyn Sink,
    ) {
        let group = self.groups.entry(key, || Box::new(Group::new(key)));
        let (records, bytes) = (group.len(), group.bytes());
        let buckets = group.bucket_count();
        let done = group.apply_with(changes, &mut self.scratch, sink);
        work.add(done);
        let (records_now, mut bytes_now) = (group.len(), group.bytes());
        let buckets_now = group.bucket_count();
        let empty = size_of::<Group>();
        if group.is_empty() {
            self.groups.remove(key);
            bytes_now = empty;
        }
        self.records = self
            .records
            .saturating_add(records_now)
            .saturating_sub(records);
        self.buckets = self
            .buckets
            .saturating_add(buckets_now)
            .saturating_sub(buckets);
        // The groups' own sizes are added by [`Self::bytes`].
        self.bytes = self.bytes.saturating_add(bytes_now).saturating_sub(bytes);
    }
}

/// Sends what is told at one epoch.
struct Sessions<A, B, C, D, E> {
    epoch: Epoch,
    wants_impacts: bool,
    charges: A,
    impacts: B,
    edges: C,
    suspense: D,
    notices: E,
    charged: usize,
    suspended: usize,
}

impl<A, B, C, D, E> Sink for Sessions<A, B, C, D, E>
where
    A: FnMut((Charge, Epoch, Diff)),
    B: FnMut((ItemImpact, Epoch, Diff)),
    C: FnMut((EdgeCharged, Epoch, Diff)),
    D: FnMut((Suspense, Epoch, Diff)),
    E: FnMut((Notice, Epoch, Diff)),
{
    fn item(&mut self, charge: &Charge, impacts: &[Impact], diff: Diff) {
        self.charged = self.charged.saturating_add(1);
        (self.charges)((*charge, self.epoch, diff));
        if self.wants_impacts {
            for impact in ItemImpact::of(charge, impacts) {
                (self.impacts)((impact, self.epoch, diff));
            }
        }
    }

    fn suspense(&mut self, suspense: &Suspense, diff: Diff) {
        self.suspended = self.suspended.saturating_add(1);
        (self.suspense)((*suspense, self.epoch, diff));
    }

    fn edge(&mut self, edge: &EdgeCharged, diff: Diff) {
        (self.edges)((edge.clone(), self.epoch, diff));
    }

    fn notice(&mut self, notice: &Notice, diff: Diff) {
        (self.notices)((*notice, self.epoch, diff));
    }
}

/// Charges usage in order; see the [module](super). Nobody pays for impacts that nobody wants.
pub fn charge(inputs: ChargeInputs<'_>, wants_impacts: bool, stats: Arc<NodeStats>) -> Charged<'_> {
    let ChargeInputs {
        usage,
        buckets,
        edges,
    } = inputs;
    let mut builder = OperatorBuilder::new("charge".to_owned(), usage.scope());
    let by_group =
        Exchange::new(|(usage, _, _): &(PricedUsage, Epoch, Diff)| shard(usage.terms.group.0));
    let mut usage_input = builder.new_input(usage.inner, by_group);
    let by_group = Exchange::new(|(bucket, _, _): &(Bucket, Epoch, Diff)| shard(bucket.group.0));
    let mut bucket_input = builder.new_input(buckets.inner, by_group);
    let by_group = Exchange::new(|(edge, _, _): &(Edge, Epoch, Diff)| shard(edge.group.0));
    let mut edge_input = builder.new_input(edges.inner, by_group);
    let (charge_output, charges) = builder.new_output();
    let (impact_output, impacts) = builder.new_output();
    let (edge_output, edges) = builder.new_output();
    let (suspense_output, suspense) = builder.new_output();
    let (notice_output, notices) = builder.new_output();
    let mut charge_output = OutputBuilder::from(charge_output);
    let mut impact_output = OutputBuilder::from(impact_output);
    let mut edge_output = OutputBuilder::from(edge_output);
    let mut suspense_output = OutputBuilder::from(suspense_output);
    let mut notice_output = OutputBuilder::from(notice_output);
    let (rerated_output, rerated) = builder.new_output();
    let mut rerated_output = OutputBuilder::from(rerated_output);

    let state = Rc::new(RefCell::new(Groups::default()));
    let open = OpenCharges(Rc::clone(&state));
    builder.build(move |_| {
        let mut rights = Rights::default();
        let mut usage = Pending::default();
        let mut buckets = Pending::default();
        let mut edges = Pending::default();
        move |frontiers| {
            usage_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                usage.stash(updates);
            });
            bucket_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                buckets.stash(updates);
            });
            edge_input.for_each(|capability, updates| {
                rights.keep(&capability, OUTPUTS);
                edges.stash(updates);
            });
            let mut charge_output = charge_output.activate();
            let mut impact_output = impact_output.activate();
            let mut edge_output = edge_output.activate();
            let mut suspense_output = suspense_output.activate();
            let mut notice_output = notice_output.activate();
            let mut rerated_output = rerated_output.activate();
            let first = |usage: &Pending<_>, buckets: &Pending<_>, edges: &Pending<_>| {
                let waiting = [usage.first(), buckets.first(), edges.first()];
                waiting.into_iter().flatten().min()
            };
            while let Some(epoch) =
                first(&usage, &buckets, &edges).filter(|epoch| complete(frontiers, *epoch))
            {
                let held: [_; OUTPUTS] = std::array::from_fn(|output| rights.at(output, epoch));
                let mut charges = charge_output.session(&held[0]);
                let mut impacts = impact_output.session(&held[1]);
                let mut edges_charged = edge_output.session(&held[2]);
                let mut suspense = suspense_output.session(&held[3]);
                let mut notices = notice_output.session(&held[4]);
                let mut sink = Sessions {
                    epoch,
                    wants_impacts,
                    charges: |update| charges.give(update),
                    impacts: |update| impacts.give(update),
                    edges: |update| edges_charged.give(update),
                    suspense: |update| suspense.give(update),
                    notices: |update| notices.give(update),
                    charged: 0,
                    suspended: 0,
                };
                let mut state = state.borrow_mut();
                let usage = usage.take(epoch);
                let received = usage.len();
                let work = state.apply(usage, buckets.take(epoch), edges.take(epoch), &mut sink);
                stats.count(received, sink.charged, sink.suspended);
                let again = work.replayed.saturating_sub(received);
                stats.count_rerated(again);
                rerated_output
                    .session(&held[5])
                    .give_iterator(counted(again, epoch).into_iter());
                stats.set_state(state.records, state.bytes());
                stats.set_groups(state.groups.len(), state.buckets);
            }
            rights.advance(first(&usage, &buckets, &edges));
        }
    });
    Charged {
        charges: charges.as_collection(),
        impacts: impacts.as_collection(),
        edges: edges.as_collection(),
        suspense: suspense.as_collection(),
        notices: notices.as_collection(),
        rerated: rerated.as_collection(),
        open,
    }
}
