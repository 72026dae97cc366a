//! The dataflow, node by node. This file is the picture:
//!
//! ```text
//!  usage ──► dedup ──► rate ─► charges ──────────► aggregate ──► lines
//!              │        ▲ ▲ │                       ▲      ▲
//!  services ───┼► guide ┘ │ ├─► priced ─► charge ───┘      │
//!  subscriptions ▲        │ │              ▲ │ │ └─► impacts, notices
//!  accounts, plans ───────┼─┼─► activity ──┘ │ └─► edges ─► settle ─► activity
//!  clock ─────────────────┼─┼──────┘         │
//!  prices, classes ───────┘ └─► suspense ◄───┘
//!  faults, fates ──► discard ─► tally ──► counts
//!  discards ─────────┴► rate
//! ```
//!
//! Sources have decoded and mediated before: they know the raw records and can mediate them again,
//! which is how a corrected rule becomes a difference of usage.

use crate::publish::{Outbox, Published, publish};
use differential_dataflow::AsCollection as _;
use differential_dataflow::input::{Input as _, InputSession};
use millrace_operators::activity::{Activities, ActivityInputs, activity, days_ahead, settle};
use millrace_operators::aggregate::{LineFinder, aggregate};
use millrace_operators::charge::{ChargeInputs, OpenCharges, charge};
use millrace_operators::dedup::{OpenIdentities, Replacement, dedup};
use millrace_operators::discard::discard_faults;
use millrace_operators::domain::{
    Account, Activity, Bucket, BucketKey, ClosedUnits, Discard, Edge, EventTime, Fate, Fault,
    FileId, GroupKey, LineKey, LineSum, PlanRow, PriceRow, ServiceUse, Subscription, Suspense,
    Usage, UsageClass,
};
use millrace_operators::epoch::{Collection, Diff, Epoch};
use millrace_operators::guide::guide;
use millrace_operators::rate::{OpenRatings, RateInputs, rate};
use millrace_operators::stats::NodeStats;
use millrace_operators::tally::tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use timely::dataflow::operators::ToStream as _;
use timely::dataflow::operators::vec::{Filter as _, Map as _};
use timely::dataflow::{ProbeHandle, Scope};

/// An input of the graph.
pub type Input<D> = InputSession<Epoch, D, Diff>;

/// The inputs of the graph, on one worker.
pub struct Inputs {
    /// Mediated usage.
    pub usage: Input<Usage>,
    /// The classes of that usage.
    pub classes: Input<UsageClass>,
    /// Records that decoding or mediation stopped.
    pub faults: Input<Fault>,
    /// What became of records before dedup: ignored, or stopped.
    pub fates: Input<(FileId, Fate)>,
    /// Records that operators have taken out of suspense.
    pub discards: Input<Discard>,
    /// Duplicates of records that are archived, and so not known here; their fates are told beside.
    pub duplicates: Input<Suspense>,
    /// Files that came in place of others, of which what they have no more is taken out.
    pub replaced: Input<Replacement>,
    /// The catalog.
    pub prices: Input<PriceRow>,
    /// The plans of its price lists.
    pub plans: Input<PlanRow>,
    /// Accounts.
    pub accounts: Input<Account>,
    /// Subscriptions.
    pub subscriptions: Input<Subscription>,
    /// Services of subscriptions.
    pub services: Input<ServiceUse>,
    /// Billing lines that stood when an earlier run ended.
    pub lines: Input<(LineKey, LineSum)>,
    /// The present: one instant, moved by taking the old one away and putting the new one in.
    pub clock: Input<EventTime>,
}

impl Inputs {
    /// Ends the epochs before `epoch` on every input.
    pub fn advance_to(&mut self, epoch: Epoch) {
        macro_rules! advance {
            ($($input:ident),*) => {$({
                self.$input.advance_to(epoch);
                self.$input.flush();
            })*};
        }
        advance!(
            usage,
            classes,
            faults,
            fates,
            discards,
            duplicates,
            replaced,
            prices,
            plans,
            accounts,
            subscriptions,
            services,
            lines,
            clock
        );
    }
}

/// What the nodes report of themselves, on one worker.
#[derive(Clone, Debug, Default)]
pub struct GraphStats {
    /// The dedup node.
    pub dedup: Arc<NodeStats>,
    /// The rate node.
    pub rate: Arc<NodeStats>,
    /// The charge node.
    pub charge: Arc<NodeStats>,
}

/// What a worker holds open, for whoever reads between steps.
#[derive(Clone)]
pub struct Open {
    /// The identities of all unique usage.
    pub identities: OpenIdentities,
    /// Usage that is charged record by record, and what could not be rated.
    pub ratings: OpenRatings,
    /// Usage that is charged in order, and its balance groups.
    pub charges: OpenCharges,
    /// Where balance groups stood before the first record.
    pub opening: Arc<Opening>,
}

impl Open {
    /// Whether a bucket was over before the first record: what is known of it is what later ones need.
    #[must_use]
    pub fn is_past(&self, bucket: &Bucket) -> bool {
        let stand = self.opening.0.get(&bucket.group);
        stand.is_some_and(|stand| bucket.valid.end() <= stand.at)
    }
}

/// The graph as one worker holds it.
pub struct Graph {
    /// Where changes go in.
    pub inputs: Inputs,
    /// How far all outputs have been published.
    pub probe: ProbeHandle<Epoch>,
    /// What this worker holds open.
    pub open: Open,
}

/// Where balance groups stand before the usage that a graph is given, when it is not given all.
/// Groups without an entry begin with nothing used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening(pub BTreeMap<GroupKey, Stand>);

/// Where a balance group stood at an instant, when the edges of that instant had been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The instant.
    pub at: EventTime,
    /// What usage and edges had moved each bucket by.
    pub moved: BTreeMap<BucketKey, i128>,
}

impl Opening {
    /// A bucket as it opens.
    fn bucket(&self, mut bucket: Bucket) -> Bucket {
        let stand = self.0.get(&bucket.group);
        if let Some(moved) = stand.and_then(|stand| stand.moved.get(&bucket.key)) {
            // A bucket stays within 38 digits, and so does what moved it.
            bucket.opening = bucket.opening.saturating_add(*moved);
        }
        bucket
    }

    /// Whether an edge is still to come.
    fn awaits(&self, edge: &Edge) -> bool {
        let stand = self.0.get(&edge.group);
        stand.is_none_or(|stand| edge.time > stand.at)
    }
}

/// Groups that stand elsewhere from an epoch on: adjustments of closed bill units have moved them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// The epoch.
    pub at: Epoch,
    /// Where all groups stand then.
    pub opening: Arc<Opening>,
}

/// Buckets that stand where they stood, without the edges that brought them there; and, from the epoch
/// of the shift on, where that says.
fn opened<'scope>(made: Activities<'scope>, resume: &Resume) -> Activities<'scope> {
    let shifted = resume.shift.is_some();
    if resume.opening.0.is_empty() && !shifted {
        return made;
    }
    let (before, shift) = (Arc::clone(&resume.opening), resume.shift.clone());
    let shift = shift.unwrap_or_else(|| Shift {
        at: 0,
        opening: Arc::clone(&before),
    });
    let (edges_before, edges_shift) = (Arc::clone(&before), shift.clone());
    let buckets = made.buckets.inner.flat_map(move |(bucket, epoch, diff)| {
        let new = shift.opening.bucket(bucket.clone());
        if epoch >= shift.at {
            return [Some((new, epoch, diff)), None, None].into_iter().flatten();
        }
        let old = before.bucket(bucket);
        let moves = old != new;
        let gone = moves.then(|| (old.clone(), shift.at, -diff));
        let come = moves.then_some((new, shift.at, diff));
        [Some((old, epoch, diff)), gone, come].into_iter().flatten()
    });
    let edges = made.edges.inner.flat_map(move |(edge, epoch, diff)| {
        let (old, new) = (
            edges_before.awaits(&edge),
            edges_shift.opening.awaits(&edge),
        );
        let at = edges_shift.at;
        let (now, then) = match (old, new) {
            (_, true) if epoch >= at => (Some(diff), None),
            (_, false) if epoch >= at => (None, None),
            (true, true) => (Some(diff), None),
            (true, false) => (Some(diff), Some(-diff)),
            (false, true) => (None, Some(diff)),
            (false, false) => (None, None),
        };
        let now = now.map(|diff| (edge.clone(), epoch, diff));
        let then = then.map(|diff| (edge, at, diff));
        now.into_iter().chain(then)
    });
    Activities {
        buckets: buckets.as_collection(),
        edges: edges.as_collection(),
        activity: made.activity,
    }
}

/// Where an earlier run ended; the beginning where there was none.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// Epochs before this one bring what it took in.
    pub live: Epoch,
    /// What epochs before this one charge is in the lines that stood.
    pub told: Epoch,
    /// Where balance groups stand before the first record.
    pub opening: Arc<Opening>,
    /// Where they stand from a later epoch on, if elsewhere.
    pub shift: Option<Shift>,
    /// Which bill units are closed: what is of them is not made again.
    pub closed: Arc<ClosedUnits>,
    /// What subscriptions were charged without usage in those.
    pub activity: Arc<Vec<Activity>>,
    /// Usage that is dated earlier needs no periods that the clock has not made.
    pub ahead_of: EventTime,
}

impl Resume {
    /// The same, with the clock at an instant or later. The clock makes the day after its own, and no day
    /// has fewer than 22 hours.
    #[must_use]
    pub fn from_clock(self, clock: EventTime) -> Self {
        const SHORT_DAY: i64 = 22 * 3_600_000_000;
        Self {
            ahead_of: EventTime(clock.0.saturating_add(SHORT_DAY)),
            ..self
        }
    }

    /// Where balance groups stand, as far as was known when the run began.
    fn stands(&self) -> Arc<Opening> {
        let shifted = self.shift.as_ref().map(|shift| &shift.opening);
        Arc::clone(shifted.unwrap_or(&self.opening))
    }
}

/// The changes of epochs from `first` on.
fn since<D: Clone + 'static>(collection: Collection<'_, D>, first: Epoch) -> Collection<'_, D> {
    let changes = collection.inner;
    changes
        .filter(move |(_, epoch, _)| *epoch >= first)
        .as_collection()
}

/// Rows that are there from the beginning, told by the first worker.
fn once<'scope, D: Clone + 'static>(
    scope: Scope<'scope, Epoch>,
    rows: &[D],
) -> Collection<'scope, D> {
    let own = if scope.index() == 0 { rows } else { &[] };
    let rows: Vec<_> = own.iter().map(|row| (row.clone(), 0, 1)).collect();
    rows.to_stream(scope).as_collection()
}

/// Builds the graph, to go on from where an earlier run ended.
pub fn build(
    scope: Scope<'_, Epoch>,
    finder: LineFinder,
    stats: &GraphStats,
    outbox: &Outbox,
    resume: &Resume,
) -> Graph {
    let (live, told) = (resume.live, resume.told);
    let (usage_input, usage) = scope.new_collection();
    let (class_input, classes) = scope.new_collection();
    let (fault_input, faults) = scope.new_collection();
    let (fate_input, fates) = scope.new_collection();
    let (discard_input, discards) = scope.new_collection();
    let (duplicate_input, archived_duplicates) = scope.new_collection();
    let (replaced_input, replaced) = scope.new_collection();
    let (price_input, prices) = scope.new_collection();
    let (plan_input, plans) = scope.new_collection();
    let (account_input, accounts) = scope.new_collection();
    let (subscription_input, subscriptions) = scope.new_collection();
    let (service_input, services) = scope.new_collection();
    let (line_input, stood) = scope.new_collection();
    let (clock_input, clock) = scope.new_collection();
    let classes = outbox.company.teach(classes);

    let unique = dedup(usage, replaced, live, Arc::clone(&stats.dedup));
    let stopped = discard_faults(faults, discards.clone());
    let guided = guide(
        services,
        subscriptions,
        accounts,
        plans.clone(),
        Arc::clone(&resume.closed),
    );
    let rated = rate(
        RateInputs {
            usage: unique.unique,
            timelines: guided.timelines,
            prices,
            classes,
            discards,
        },
        told,
        Arc::clone(&stats.rate),
    );
    let ahead = days_ahead(rated.priced.clone(), resume.ahead_of, finder.zone());
    let activities = activity(
        ActivityInputs {
            subscriptions: guided.subscriptions,
            plans,
            clock,
            ahead,
        },
        finder.zone(),
    );
    let activities = opened(activities, resume);
    let charged = charge(
        ChargeInputs {
            usage: rated.priced,
            buckets: activities.buckets.clone(),
            edges: activities.edges,
        },
        outbox.wants_impacts,
        Arc::clone(&stats.charge),
    );
    let activity = settle(activities.activity, charged.edges.clone());
    let in_order = since(charged.charges.clone(), told);
    let charges = rated.charges.concat(in_order);
    let closed = Arc::clone(&resume.closed);
    let activity = activity.filter(move |made| !closed.holds(made.account, made.billed_at()));
    let billed = since(activity.clone(), told);
    let activity = activity.concat(once(scope, &resume.activity));
    let lines = aggregate(charges.clone(), billed, stood, finder);
    let suspense = rated
        .suspense
        .concatenate([unique.outvoted, charged.suspense]);
    let settled = suspense
        .clone()
        .map(|s| (s.record.file(), Fate::of(s.reason)));
    let suspense = suspense.concat(archived_duplicates);
    let in_order = charged
        .charges
        .filter(|charge| charge.item == 0)
        .map(|charge| charge.record.file());
    let monetised = rated.monetised.concat(in_order);
    let monetised = monetised.map(|file| (file, Fate::Monetised));
    let counts = tally(fates.concatenate([stopped.fates, settled, monetised]));

    let probe = ProbeHandle::new();
    publish(lines, outbox, &probe, Published::Lines);
    publish(suspense, outbox, &probe, Published::Suspense);
    publish(stopped.faults, outbox, &probe, Published::Faults);
    publish(counts, outbox, &probe, Published::Counts);
    publish(activity, outbox, &probe, Published::Activity);
    publish(charged.notices, outbox, &probe, Published::Notices);
    let rerated = rated.rerated.concat(charged.rerated);
    publish(rerated, outbox, &probe, Published::Rerated);
    if outbox.wants_impacts {
        let shown = activities.buckets.filter(|bucket| !bucket.kind.is_inner());
        publish(shown, outbox, &probe, Published::Buckets);
        publish(charged.impacts, outbox, &probe, Published::Impacts);
        publish(charged.edges, outbox, &probe, Published::Edges);
    }
    if outbox.wants_charges {
        publish(charges, outbox, &probe, Published::Charges);
    }
    let inputs = Inputs {
        usage: usage_input,
        classes: class_input,
        faults: fault_input,
        fates: fate_input,
        discards: discard_input,
        duplicates: duplicate_input,
        replaced: replaced_input,
        prices: price_input,
        plans: plan_input,
        accounts: account_input,
        subscriptions: subscription_input,
        services: service_input,
        lines: line_input,
        clock: clock_input,
    };
    Graph {
        inputs,
        probe,
        open: Open {
            identities: unique.open,
            ratings: rated.open,
            charges: charged.open,
            opening: resume.stands(),
        },
    }
}
