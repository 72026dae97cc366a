//! What plans give and charge, worked out for every subscription and every cycle anew: the buckets of
//! balance groups, the edges of their periods, and charges without usage.

use super::calendar::{Zone, bill_unit};
use super::identity::{self, Owner};
use super::money;
use super::times::{Times, joined, of, period, scale, share, whole, within};
use super::{World, counters};
use millrace_operators::domain::{
    Account, Activity, ActivityKey, ActivityKind, Allowance, Amount, Anchor, BillingProfile,
    Bucket, BucketKey, BucketKind, ChargeWhen, Edge, EdgeAction, EdgeKey, EventTime, Grant,
    GroupKey, Name, PlanCharge, PlanPart, PlanRow, Proration, Scale, SubscriptionKey,
    SubscriptionStatus, Term, Threshold,
};

/// All that plans make.
#[derive(Default)]
pub(super) struct Made {
    pub(super) buckets: Vec<Bucket>,
    pub(super) edges: Vec<Edge>,
    /// Those that an edge decides have no amount yet.
    pub(super) activity: Vec<Activity>,
}

/// A subscription with a price list, as one account pays for it in one balance group.
pub(super) struct Holding<'a> {
    pub(super) subscription: SubscriptionKey,
    pub(super) list: Name,
    pub(super) group: GroupKey,
    pub(super) account: &'a Account,
    /// The best place of the list.
    pub(super) rank: usize,
    pub(super) times: Times,
    /// When it was active for the first time, if that is here.
    pub(super) activation: Option<i64>,
}

impl Holding<'_> {
    /// When it has a row of its list's plan.
    pub(super) fn times_of(&self, row: &PlanRow) -> Times {
        let currency = row.part.currency();
        if row.list != self.list || currency.is_some_and(|c| c != self.account.currency) {
            return Times::new();
        }
        within(&self.times, of(row.valid))
    }
}

/// Subscription, list, pool, account, the list's rank, and the stretch of days.
type HeldRow<'a> = (SubscriptionKey, Name, Name, &'a Account, usize, (i64, i64));

/// Every subscription row that is active and has a first day, for each of its lists.
fn rows(world: &World) -> Vec<HeldRow<'_>> {
    let mut rows = Vec::new();
    for row in &world.subscriptions {
        if row.status != SubscriptionStatus::Active || row.valid.start() == EventTime::MIN {
            continue;
        }
        for account in world.accounts.iter().filter(|a| a.key == row.account) {
            for (rank, list) in row.price_lists.iter().enumerate() {
                rows.push((row.key, *list, row.group, account, rank, of(row.valid)));
            }
        }
    }
    rows
}

pub(super) fn holdings(world: &World) -> Vec<Holding<'_>> {
    let rows = rows(world);
    let mut holdings: Vec<Holding<'_>> = Vec::new();
    for (subscription, list, pool, account, rank, valid) in &rows {
        let group = GroupKey::of_pool(*pool, account.currency);
        let same = holdings.iter_mut().find(|held| {
            (held.subscription, held.list, held.group) == (*subscription, *list, group)
                && (held.account.key, held.account.profile) == (account.key, account.profile)
        });
        match same {
            Some(held) => {
                held.rank = held.rank.min(*rank);
                held.times.push(*valid);
            }
            None => holdings.push(Holding {
                subscription: *subscription,
                list: *list,
                group,
                account,
                rank: *rank,
                times: vec![*valid],
                activation: None,
            }),
        }
    }
    for held in &mut holdings {
        held.times = joined(held.times.drain(..));
        let ever = rows
            .iter()
            .filter(|(key, list, ..)| (*key, *list) == (held.subscription, held.list))
            .map(|(.., valid)| valid.0)
            .min();
        held.activation = ever.filter(|first| *first == held.times[0].0);
    }
    holdings
}

/// A cycle and how far the clock has come in it.
#[derive(Clone, Copy)]
pub(super) struct Cycle {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) begun: bool,
    pub(super) ended: bool,
}

impl Cycle {
    pub(super) fn stretch(self) -> (i64, i64) {
        (self.start, self.end)
    }

    pub(super) fn holds(self, instant: i64) -> bool {
        self.start <= instant && instant < self.end
    }
}

fn cycle_at(zone: Zone, profile: &BillingProfile, instant: i64) -> (i64, i64) {
    let (start, end) = bill_unit(zone, profile, EventTime(instant));
    (start.0, end.0)
}

/// The cycle of a term, for an account's billing cycle and whoever began at an instant.
pub(super) fn term(
    term: Term,
    profile: &BillingProfile,
    (zone, began): (Zone, i64),
) -> BillingProfile {
    match term {
        Term::BillUnit => *profile,
        Term::Every { every, cycle } => BillingProfile {
            every,
            cycle,
            ..*profile
        },
        Term::Anchored {
            every,
            cycle,
            anchor,
        } => {
            let (year, month, day) = match anchor {
                Anchor::Date { year, month, day } => (year, month, day),
                Anchor::Subscription => zone.day(EventTime(began)),
            };
            BillingProfile {
                year,
                month,
                day,
                every,
                cycle,
            }
        }
    }
}

/// When the last usage of each balance group is that is charged in order.
pub(super) type Lasts = std::collections::BTreeMap<GroupKey, i64>;

/// The cycles from the one that holds `first` to the one after the clock's, and on to that of the last
/// usage.
pub(super) fn cycles(
    world: &World,
    zone: Zone,
    profile: &BillingProfile,
    (first, last): (i64, i64),
) -> Vec<Cycle> {
    let mut all = Vec::new();
    for now in &world.clock {
        let present = cycle_at(zone, profile, now.0);
        let mut next = cycle_at(zone, profile, first);
        while next.0 <= present.1.max(last) {
            all.push(Cycle {
                start: next.0,
                end: next.1,
                begun: next.0 <= present.0,
                ended: next.1 <= present.0,
            });
            next = cycle_at(zone, profile, next.1);
        }
    }
    all
}

/// The part of a whole that a share of a cycle is worth.
pub(super) fn part_of(size: i128, (applied, cycle): (u64, u64)) -> i128 {
    let applied = i128::from(applied.min(cycle));
    let found = money::times((size, 24), (applied, 0), u128::from(cycle));
    found.expect("a part is smaller than the whole").0
}

/// All that plans make of what is known.
pub(super) fn made(world: &World, zone: Zone, lasts: &Lasts) -> Made {
    let holdings = holdings(world);
    let mut made = Made::default();
    for held in &holdings {
        for row in &world.plans {
            let own = Own {
                world,
                zone,
                held,
                row,
                times: held.times_of(row),
                last: lasts.get(&held.group).copied().unwrap_or(i64::MIN),
            };
            if own.times.is_empty() {
                continue;
            }
            match &row.part {
                PlanPart::Allowance(allowance) => own.allowance(allowance, &mut made),
                PlanPart::Charge(charge) => own.charge(charge, &mut made),
                _ => {}
            }
        }
    }
    counters::count(world, zone, &holdings, (lasts, &mut made));
    made
}

/// A row that a subscription has for itself.
struct Own<'a> {
    world: &'a World,
    zone: Zone,
    held: &'a Holding<'a>,
    row: &'a PlanRow,
    /// When it has it.
    times: Times,
    /// The last usage of the balance group.
    last: i64,
}

impl Own<'_> {
    fn owner(&self) -> Owner {
        Owner {
            group: self.held.group,
            account: self.held.account.key,
            subscription: self.held.subscription,
        }
    }

    fn cycles(&self, profile: &BillingProfile) -> Vec<Cycle> {
        cycles(self.world, self.zone, profile, (self.times[0].0, self.last))
    }

    /// The activation, if the row was in force then.
    fn activation(&self) -> Option<i64> {
        let (start, end) = of(self.row.valid);
        self.held.activation.filter(|at| start <= *at && *at < end)
    }

    fn share(&self, proration: Proration, cycle: (i64, i64)) -> (u64, u64) {
        share(&within(&self.times, cycle), cycle, proration, self.zone)
    }

    fn bucket(&self, allowance: &Allowance, key: u64, opening: i128, valid: (i64, i64)) -> Bucket {
        let used = |percent: &u8| Threshold {
            level: part_of(opening, (u64::from(100 - percent), 100)),
            percent: Some(*percent),
        };
        Bucket {
            group: self.held.group,
            key: BucketKey(key),
            resource: allowance.resource,
            kind: BucketKind::Allowance {
                priority: allowance.priority,
            },
            measure: allowance.measure,
            items: allowance.items.clone(),
            valid: period(valid),
            opening,
            thresholds: match opening {
                0 => Default::default(),
                _ => allowance.thresholds.iter().map(used).collect(),
            },
        }
    }

    fn allowance(&self, allowance: &Allowance, made: &mut Made) {
        let profile = term(
            allowance.term,
            &self.held.account.profile,
            (self.zone, self.held.times[0].0),
        );
        match allowance.grant {
            Grant::Once { lasts } => self.once(allowance, lasts, &profile, made),
            Grant::Recurring => {
                for cycle in self.cycles(&profile) {
                    self.recurring(allowance, cycle, &profile, made);
                }
            }
        }
    }

    fn once(
        &self,
        allowance: &Allowance,
        lasts: Option<u16>,
        profile: &BillingProfile,
        made: &mut Made,
    ) {
        let Some(start) = self.activation() else {
            return;
        };
        if !self.cycles(profile).iter().any(|cycle| cycle.holds(start)) {
            return;
        }
        let mut end = whole(&self.held.times).1;
        if let Some(lasts) = lasts {
            let mut cycle = cycle_at(self.zone, profile, start);
            for _ in 1..lasts {
                cycle = cycle_at(self.zone, profile, cycle.1);
            }
            end = end.min(cycle.1);
        }
        let key = identity::grant(self.row, self.owner(), start);
        let bucket = self.bucket(allowance, key, allowance.size, (start, end));
        made.buckets.push(bucket);
    }

    fn recurring(
        &self,
        allowance: &Allowance,
        cycle: Cycle,
        profile: &BillingProfile,
        made: &mut Made,
    ) {
        let granted = |cycle| part_of(allowance.size, self.share(allowance.proration, cycle));
        let here = within(&self.times, cycle.stretch());
        let size = match here[..] {
            [] => 0,
            _ => granted(cycle.stretch()),
        };
        let rolls = allowance.rollover;
        if size > 0 {
            let key = match rolls {
                Some(_) => identity::rest(self.row, self.owner(), cycle.start, 0),
                None => identity::grant(self.row, self.owner(), cycle.start),
            };
            made.buckets
                .push(self.bucket(allowance, key, size, whole(&here)));
        }
        let active = within(&self.held.times, cycle.stretch());
        let Some(rollover) = rolls.filter(|_| !active.is_empty()) else {
            return;
        };
        let mut origin = cycle.stretch();
        for age in 1..=u64::from(rollover.cycles_max) {
            origin = cycle_at(self.zone, profile, origin.0 - 1);
            if within(&self.held.times, origin).is_empty() {
                return;
            }
            if within(&self.times, origin).is_empty() || granted(origin) == 0 {
                continue;
            }
            let from = identity::rest(self.row, self.owner(), origin.0, age - 1);
            let to = identity::rest(self.row, self.owner(), origin.0, age);
            made.buckets
                .push(self.bucket(allowance, to, 0, whole(&active)));
            made.edges.push(Edge {
                group: self.held.group,
                key: EdgeKey(identity::rollover(from, to)),
                time: EventTime(cycle.start),
                action: EdgeAction::Rollover {
                    from: BucketKey(from),
                    to: BucketKey(to),
                    cap: rollover.cap_per_cycle,
                },
            });
        }
    }

    fn charge(&self, charge: &PlanCharge, made: &mut Made) {
        let profile = term(
            charge.term,
            &self.held.account.profile,
            (self.zone, self.held.times[0].0),
        );
        for cycle in self.cycles(&profile) {
            let here = within(&self.times, cycle.stretch());
            let (kind, applied, worth, valid) = match charge.when {
                ChargeWhen::Activation => {
                    let Some(at) = self.activation().filter(|at| cycle.holds(*at)) else {
                        continue;
                    };
                    let valid = (at, whole(&self.held.times).1);
                    (ActivityKind::OneTime, (at, at), (1, 1), valid)
                }
                _ if here.is_empty() => continue,
                when => {
                    let kind = match when {
                        ChargeWhen::Advance => ActivityKind::ForwardRecurring,
                        _ => ActivityKind::ArrearsRecurring,
                    };
                    let worth = self.share(charge.proration, cycle.stretch());
                    (kind, whole(&here), worth, whole(&here))
                }
            };
            let due = match charge.when {
                ChargeWhen::Arrears => cycle.ended,
                _ => cycle.begun,
            };
            if !due {
                continue;
            }
            made.activity.push(Activity {
                key: ActivityKey(identity::charge(self.row, self.owner(), cycle.start)),
                kind,
                group: self.held.group,
                subscription: self.held.subscription,
                account: self.held.account.key,
                profile: self.held.account.profile,
                plan: self.row.key,
                item: charge.item,
                currency: charge.currency,
                cycle: period(cycle.stretch()),
                applied_start: EventTime(applied.0),
                applied_end: EventTime(applied.1),
                scale: match charge.when {
                    ChargeWhen::Activation => Scale::ONE,
                    _ => scale(worth),
                },
                amount: Amount(part_of(charge.amount.0, worth)),
                valid: period(valid),
                reason: None,
            });
        }
    }
}
