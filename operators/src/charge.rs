//! Charges priced usage in order: tiers, allowances, accumulators, caps, and the edges of periods.
//!
//! - **In:** `usage: PricedUsage`, `buckets: Bucket`, `edges: Edge`
//! - **Out:** `charges: Charge`, one per item of a charged record, net of allowances and caps;
//!   `impacts: ItemImpact`, what each charge did to each resource; `edges: EdgeCharged`;
//!   `suspense: Suspense`; `notices: Notice`
//! - **Key:** `GroupKey`, exchanged by shard. All of a balance group is one worker's work, because
//!   each record may depend on all before it
//! - **Time:** event time orders records, edges before usage, then ids; a late or corrected record, a
//!   grant or a changed bucket changes, at the epoch it arrives, what comes after it and no more
//! - **Cost per change:** O(log records) and the records whose charge really changes; a changed
//!   bucket rule costs the records of its window. An append costs its own charge
//! - **State:** records in a tree per group, 32 bytes for a record of one item and about 20 for nodes;
//!   buckets, edges and terms. Groups whose buckets are alike share their rules. A group without any
//!   is forgotten
//! - **Invariants:** each record yields one charge per item, or one suspense record, never both; the
//!   output is what charging every group from its first record to its last would give, whatever the
//!   order of arrival. Running totals are never sent: one late record would change them all
//!
//! ```text
//!   charge(state, record) -> (impacts, delta, guard)       step.rs, kernels/
//!   guards and deltas compose                              guarded.rs
//!   a tree of them per group                               leaf.rs, tree.rs, read.rs
//!   one walk with the old state and the new                sweep.rs, rewrite.rs
//!   a group: buckets, terms, edges, the tree               plan.rs, book.rs, group.rs
//!   what an epoch changes, thresholds crossed              changes.rs, notices.rs
//! ```
//!
//! Reading order: [`step`] (how to write a pricing model), `kernels/`, [`guarded`], then upwards.

mod book;
mod changes;
mod group;
mod guarded;
mod kernels;
mod leaf;
mod notices;
mod operator;
mod plan;
mod read;
mod rewrite;
mod step;
mod sweep;
mod tree;

#[cfg(test)]
mod tests;

use crate::domain::{
    AccountKey, BucketKey, Charge, ClassKey, EdgeKey, EventTime, GroupKey, Impact, Measure, Name,
    Period, Reason, RecordId, SubscriptionKey, Suspense, Threshold,
};
use crate::epoch::Diff;
pub use group::{Group, GroupChanges};
pub use operator::{ChargeInputs, Charged, OpenCharges, charge};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
pub use sweep::Work;

/// Takes what is charged, difference by difference.
pub trait Sink {
    /// One item of a record: its charge, net, and its impacts in order.
    fn item(&mut self, charge: &Charge, impacts: &[Impact], diff: Diff);

    /// A record that could not be charged.
    fn suspense(&mut self, suspense: &Suspense, diff: Diff);

    /// The edge of a period.
    fn edge(&mut self, edge: &EdgeCharged, diff: Diff);

    /// A threshold crossed.
    fn notice(&mut self, notice: &Notice, diff: Diff);
}

/// What the edge of a period came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeCharged {
    /// The balance group.
    pub group: GroupKey,
    /// The edge.
    pub edge: EdgeKey,
    /// When.
    pub time: EventTime,
    /// What it did, in order.
    pub impacts: SmallVec<[Impact; 2]>,
    /// Why it did nothing, where it should have.
    pub reason: Option<Reason>,
}

/// One impact of a charge. Who pays stands here too: a record may move to another account and its
/// impacts remain what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemImpact {
    /// The record charged.
    pub record: RecordId,
    /// Which item of the record's class.
    pub item: u8,
    /// Which impact of the item, counted from 0.
    pub index: u16,
    /// When the usage happened.
    pub time: EventTime,
    /// The record's class.
    pub class: ClassKey,
    /// The subscription in force.
    pub subscription: SubscriptionKey,
    /// The account charged.
    pub account: AccountKey,
    /// Currency of the amount.
    pub currency: Name,
    /// The impact.
    pub impact: Impact,
}

impl ItemImpact {
    /// The impacts of a charge, in order.
    pub fn of<'a>(charge: &Charge, impacts: &'a [Impact]) -> impl Iterator<Item = Self> + use<'a> {
        let charge = *charge;
        (0_u16..).zip(impacts).map(move |(index, impact)| Self {
            record: charge.record,
            item: charge.item,
            index,
            time: charge.time,
            class: charge.class,
            subscription: charge.subscription,
            account: charge.account,
            currency: charge.currency,
            impact: *impact,
        })
    }
}

/// A threshold crossed for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Notice {
    /// The balance group.
    pub group: GroupKey,
    /// The bucket.
    pub bucket: BucketKey,
    /// The bucket's resource.
    pub resource: Name,
    /// What the bucket counts.
    pub measure: Measure,
    /// Event times that the bucket is for.
    pub valid: Period,
    /// The level crossed.
    pub threshold: Threshold,
    /// When, in event time.
    pub time: EventTime,
    /// The record that crossed it; none where an edge did.
    pub record: Option<RecordId>,
}

/// Why a record was charged as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explained {
    /// The value of each bucket before the record, by key.
    pub before: Vec<(BucketKey, i128)>,
    /// Each item with its impacts; none for a suspended record.
    pub items: Vec<(Charge, Vec<Impact>)>,
    /// Why it could not be charged.
    pub suspense: Option<Suspense>,
}

impl Sink for Explained {
    fn item(&mut self, charge: &Charge, impacts: &[Impact], _: Diff) {
        self.items.push((*charge, impacts.to_vec()));
    }

    fn suspense(&mut self, suspense: &Suspense, _: Diff) {
        self.suspense = Some(*suspense);
    }

    fn edge(&mut self, _: &EdgeCharged, _: Diff) {}

    fn notice(&mut self, _: &Notice, _: Diff) {}
}
