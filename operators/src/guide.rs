//! Guides services to the subscriptions that serve them: for every service, who pays, under which
//! price lists, at which event time.
//!
//! - **In:** `services: ServiceUse`, `subscriptions: Subscription`, `accounts: Account`,
//!   `plans: PlanRow`; `closed: ClosedUnits`, which bill units are closed, for as long as the graph lives
//! - **Out:** `timelines: (ServiceKey, ServiceTimeline)`, one per known service;
//!   `subscriptions: (Subscription, Account)`, those that have an account
//! - **Key:** `ServiceKey`; usage is not an input: a service is guided once for all its records, and
//!   the rate stage looks the event time of each record up in the timeline
//! - **Time:** event time selects the segment; a late or corrected row replaces the timeline of the
//!   services that it touches, at the epoch it arrives
//! - **Cost per change:** account or subscription row O(services served); service row n log n of the rows
//!   of that service; the first plan row of a list, or the last gone, O(groups with the list)
//! - **State:** reference rows and timelines; shrinks as rows are retracted
//! - **Invariants:** a timeline covers all of time; each instant has one guide or one reason; all
//!   guides into a balance group agree on whether it is charged in order

use crate::domain::{
    Account, AccountKey, BillingProfile, ClosedUnits, EventTime, GroupKey, Name, Period, PlanRow,
    Reason, ServiceKey, ServiceUse, Subscription, SubscriptionKey, SubscriptionStatus,
};
use crate::epoch::{Collection, Diff, Epoch, SHARDS, shard};
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::{KeyBuilder, KeySpine, ValSpine};
use differential_dataflow::{ExchangeData, Hashable};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;

mod explain;

pub use explain::{Guide, GuideCandidate, GuideRows, GuideVerdict, explain};

/// Who pays for usage in a stretch of time, and under which price lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guided {
    /// The subscription that serves.
    pub subscription: SubscriptionKey,
    /// The account that pays.
    pub account: AccountKey,
    /// The account's currency.
    pub currency: Name,
    /// The account's billing cycle.
    pub profile: BillingProfile,
    /// The balance group.
    pub group: GroupKey,
    /// Whether the price of the group's usage may depend on the usage before: a subscription of the
    /// group has a price list with an allowance, an accumulator or a cap.
    pub ordered: bool,
    /// Price lists, the one to be tried first in front.
    pub price_lists: SmallVec<[Name; 2]>,
}

/// A stretch of a timeline, from `start` to the start of the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GuideSegment {
    /// First instant of the stretch.
    pub start: EventTime,
    /// Where its usage goes, or why it cannot.
    pub guide: Result<Guided, Reason>,
}

/// Where the usage of one service goes, over all of event time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceTimeline {
    /// Shared by whoever holds the timeline: the arrangement that it comes from, and the rate stage.
    segments: Arc<[GuideSegment]>,
}

impl ServiceTimeline {
    /// The timeline of a service that nobody serves.
    #[must_use]
    pub fn unknown() -> Self {
        let nobody = GuideSegment {
            start: EventTime::MIN,
            guide: Err(Reason::ServiceUnknown),
        };
        Self {
            segments: Arc::new([nobody]),
        }
    }

    /// The timeline of these segments, of which the first starts before every event.
    #[cfg(test)]
    pub(crate) fn of(segments: Vec<GuideSegment>) -> Self {
        Self {
            segments: segments.into(),
        }
    }

    /// The segments, first to last; the first starts before every event.
    #[must_use]
    pub fn segments(&self) -> &[GuideSegment] {
        &self.segments
    }

    /// The segment that holds `time`.
    #[must_use]
    pub fn at(&self, time: EventTime) -> &GuideSegment {
        let after = self
            .segments
            .partition_point(|segment| segment.start <= time);
        &self.segments[after.saturating_sub(1)]
    }
}

/// One claim on a service: its subscription's terms in force for a stretch of time.
#[derive(Clone, Debug)]
struct Claim {
    /// When it holds; never, where service and terms do not meet in time: the service is known then,
    /// but not in effect.
    valid: Option<Period>,
    outcome: Result<Guided, Reason>,
}

/// A subscription row with what is known of its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Terms {
    subscription: Arc<Subscription>,
    account: Option<Account>,
    /// See [`Guided::ordered`].
    ordered: bool,
}

/// A service row with a row of its subscription, or without any. Claims are made of it when the service is
/// looked at, and take twice as much.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Served {
    valid: Period,
    terms: Option<Terms>,
}

impl Served {
    fn claim(&self) -> Claim {
        match &self.terms {
            Some(terms) => claim(self.valid, terms),
            None => Claim {
                valid: Some(self.valid),
                outcome: Err(Reason::SubscriptionUnknown),
            },
        }
    }
}

/// What [`guide`] makes.
pub struct Guides<'scope> {
    /// Where the usage of each service goes.
    pub timelines: Collection<'scope, (ServiceKey, ServiceTimeline)>,
    /// Subscriptions with their accounts.
    pub subscriptions: Collection<'scope, (Arc<Subscription>, Account)>,
}

/// Guides every service; see the module.
pub fn guide<'scope>(
    services: Collection<'scope, ServiceUse>,
    subscriptions: Collection<'scope, Subscription>,
    accounts: Collection<'scope, Account>,
    plans: Collection<'scope, PlanRow>,
    closed: Arc<ClosedUnits>,
) -> Guides<'scope> {
    // Subscriptions with their account, or without one.
    let accounts = accounts
        .map(|account| (account.key, account))
        .arrange_by_key_named("accounts");
    let account_keys = keys(accounts.clone(), "account keys");
    // Each is held by account, by group and by its own key.
    let by_account = subscriptions
        .map(|subscription| (subscription.account, Arc::new(subscription)))
        .arrange_by_key_named("subscriptions by account");
    let with_account = by_account
        .clone()
        .join_core(accounts, |_, subscription, account| {
            [(Arc::clone(subscription), account.clone())]
        });
    let without_account = without(by_account, account_keys).map(|(_, subscription)| Terms {
        subscription,
        account: None,
        ordered: false,
    });

    let ordered = ordered_groups(with_account.clone(), plans);
    let by_group = with_account
        .clone()
        .map(|(subscription, account)| {
            let group = GroupKey::of_pool(subscription.group, account.currency);
            (group, (subscription, account))
        })
        .arrange_by_key_named("subscriptions by group");
    let in_order = |ordered: bool| {
        move |(_, (subscription, account))| Terms {
            subscription,
            account: Some(account),
            ordered,
        }
    };
    let terms = with(by_group.clone(), ordered.clone())
        .map(in_order(true))
        .concat(without(by_group, ordered).map(in_order(false)))
        .concat(without_account)
        .map(|terms| (terms.subscription.key, terms))
        .arrange_by_key_named("subscriptions");

    // Services with the terms of their subscription, or without any.
    let known = keys(terms.clone(), "subscription keys");
    let by_subscription = services
        .map(|service| (service.subscription, service))
        .arrange_by_key_named("services");
    let served = by_subscription
        .clone()
        .join_core(terms, |_, service, terms| {
            let (valid, terms) = (service.valid, Some(terms.clone()));
            [(service.service, Served { valid, terms })]
        });
    let orphans = without(by_subscription, known).map(|(_, service)| {
        let (valid, terms) = (service.valid, None);
        (service.service, Served { valid, terms })
    });

    let timelines = served
        .concat(orphans)
        .reduce_named("guide", move |_, served, timelines| {
            let claims: Vec<Claim> = served.iter().map(|(served, _)| served.claim()).collect();
            let claims: Vec<&Claim> = claims.iter().collect();
            timelines.push((timeline(&claims, &closed), 1));
        });
    Guides {
        timelines,
        subscriptions: with_account,
    }
}

/// Rows by key, held once for all that read them.
type Rows<'scope, K, V> = Arranged<'scope, TraceAgent<ValSpine<K, V, Epoch, Diff>>>;

/// Keys, each once.
type Keys<'scope, K> = Arranged<'scope, TraceAgent<KeySpine<K, Epoch, Diff>>>;

/// The keys of rows.
fn keys<'scope, K: ExchangeData + Hashable, V: ExchangeData>(
    rows: Rows<'scope, K, V>,
    name: &str,
) -> Keys<'scope, K> {
    rows.reduce_abelian::<_, KeyBuilder<K, Epoch, Diff>, KeySpine<K, Epoch, Diff>, _, _>(
        name,
        |_, _, once| once.push(((), 1)),
        |updates, key, told| {
            updates.clear();
            updates.extend(
                told.drain(..)
                    .map(|(_, epoch, diff)| ((key.clone(), ()), epoch, diff)),
            );
        },
    )
}

/// The rows whose keys are among these.
fn with<'scope, K: ExchangeData + Hashable, V: ExchangeData>(
    rows: Rows<'scope, K, V>,
    keys: Keys<'scope, K>,
) -> Collection<'scope, (K, V)> {
    rows.join_core(keys, |key, row, ()| [(key.clone(), row.clone())])
}

/// The rows whose keys are not among these. Differential's own would arrange all rows once more.
fn without<'scope, K: ExchangeData + Hashable, V: ExchangeData>(
    rows: Rows<'scope, K, V>,
    keys: Keys<'scope, K>,
) -> Collection<'scope, (K, V)> {
    let all = rows
        .clone()
        .as_collection(|key, row| (key.clone(), row.clone()));
    all.concat(with(rows, keys).negate())
}

/// The balance groups with a subscription whose price lists have a part that orders usage. One list
/// may be everybody's, so its rows are spread: a list is looked up under the shard of the
/// subscription.
fn ordered_groups<'scope>(
    subscriptions: Collection<'scope, (Arc<Subscription>, Account)>,
    plans: Collection<'scope, PlanRow>,
) -> Keys<'scope, GroupKey> {
    let ordering = plans
        .filter(|row| row.part.orders_usage())
        .map(|row| (row.list, row.part.currency()))
        .distinct()
        .flat_map(|(list, currency)| (0..SHARDS).map(move |shard| ((list, shard), currency)));
    let groups = subscriptions
        .flat_map(|(subscription, account)| {
            let shard = shard(subscription.key.0);
            let group = GroupKey::of_pool(subscription.group, account.currency);
            let lists = subscription.price_lists.clone().into_iter();
            lists.map(move |list| ((list, shard), (group, account.currency)))
        })
        .join_map(ordering, |_, (group, billed), currency| {
            let applies = currency.is_none_or(|currency| currency == *billed);
            applies.then_some(*group)
        })
        .flat_map(|group| group.map(|group| (group, ())))
        .arrange_by_key_named("groups with a plan");
    keys(groups, "groups in order")
}

/// What a subscription row claims of a service row.
fn claim(service: Period, terms: &Terms) -> Claim {
    let subscription = &terms.subscription;
    let Some(valid) = service.intersect(subscription.valid) else {
        return Claim {
            valid: None,
            outcome: Err(Reason::ServiceNotEffective),
        };
    };
    let outcome = match (&terms.account, subscription.status) {
        (None, _) => Err(Reason::AccountUnknown),
        (Some(_), SubscriptionStatus::Inactive | SubscriptionStatus::Closed) => {
            Err(Reason::SubscriptionNotActive)
        }
        (Some(account), SubscriptionStatus::Active) => Ok(Guided {
            subscription: subscription.key,
            account: account.key,
            currency: account.currency,
            profile: account.profile,
            group: GroupKey::of_pool(subscription.group, account.currency),
            ordered: terms.ordered,
            price_lists: subscription.price_lists.clone(),
        }),
    };
    Claim {
        valid: Some(valid),
        outcome,
    }
}

/// The kernel: cuts time where claims begin and end, and settles each stretch. One walk through time,
/// with the claims that hold at hand: as much work as there are claims.
fn timeline(claims: &[&Claim], closed: &ClosedUnits) -> ServiceTimeline {
    let mut edges: Vec<(EventTime, Edge, &Claim)> = Vec::new();
    let mut starts = vec![EventTime::MIN];
    for &claim in claims {
        if let Some(valid) = claim.valid {
            edges.push((valid.start(), Edge::Begin, claim));
            edges.push((valid.end(), Edge::End, claim));
            starts.extend([valid.start(), valid.end()]);
        }
        let guided = claim.outcome.as_ref().ok();
        starts.extend(guided.and_then(|guided| closed.until(guided.account)));
    }
    edges.sort_unstable_by_key(|(time, edge, _)| (*time, *edge));
    starts.sort_unstable();
    starts.dedup();
    starts.retain(|start| *start != EventTime::MAX);

    let mut holding = Holding::default();
    let mut edges = edges.into_iter().peekable();
    let mut segments: Vec<GuideSegment> = Vec::with_capacity(starts.len());
    for start in starts {
        while let Some((_, edge, claim)) = edges.next_if(|(time, ..)| *time <= start) {
            holding.pass(edge, claim);
        }
        let guide = match holding.settle() {
            Ok(guided) if closed.holds(guided.account, start) => Err(Reason::PeriodClosed),
            settled => settled.cloned(),
        };
        if segments.last().is_none_or(|last| last.guide != guide) {
            segments.push(GuideSegment { start, guide });
        }
    }
    ServiceTimeline {
        segments: segments.into(),
    }
}

/// An end of the time that a claim holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Begin,
    End,
}

/// The claims that hold at an instant: where they lead, and why those that cannot serve do not, each
/// with the number of claims that say so.
#[derive(Default)]
struct Holding<'a> {
    guided: BTreeMap<&'a Guided, usize>,
    reasons: BTreeMap<Reason, usize>,
}

impl<'a> Holding<'a> {
    /// Passes an edge of a claim.
    fn pass(&mut self, edge: Edge, claim: &'a Claim) {
        match &claim.outcome {
            Ok(guided) => count(&mut self.guided, guided, edge),
            Err(reason) => count(&mut self.reasons, *reason, edge),
        }
    }

    /// Who serves. One active claim wins over claims that cannot serve; two different ones cannot be
    /// told apart.
    fn settle(&self) -> Result<&'a Guided, Reason> {
        let mut guided = self.guided.keys();
        match (guided.next(), guided.next()) {
            (Some(guided), None) => Ok(guided),
            (Some(_), Some(_)) => Err(Reason::ServiceAmbiguous),
            (None, _) => {
                let first = self.reasons.keys().next();
                Err(first.copied().unwrap_or(Reason::ServiceNotEffective))
            }
        }
    }
}

/// Counts a claim that begins or ends to hold.
fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, edge: Edge) {
    let held = counts.get(&key).copied().unwrap_or(0);
    let now = match edge {
        Edge::Begin => held.saturating_add(1),
        Edge::End => held.saturating_sub(1),
    };
    if now == 0 {
        counts.remove(&key);
    } else {
        counts.insert(key, now);
    }
}

#[cfg(test)]
mod tests;
