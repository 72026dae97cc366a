//! The parts that each subscription gets for itself: allowances and charges.

use super::cycles::{Phase, Step};
use super::holding::{Holding, clip, hull, scale};
use super::outcome::{Outcome, key};
use crate::domain::{
    Activity, ActivityKey, ActivityKind, Allowance, Amount, BillingProfile, Bucket, BucketKey,
    BucketKind, ChargeWhen, Edge, EdgeAction, EdgeKey, EventTime, Grant, Period, PlanCharge,
    PlanPart, PlanRow, Rollover, Scale, Threshold,
};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::sync::Arc;

/// A part of a plan, for one subscription.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Own {
    pub(super) row: Arc<PlanRow>,
    pub(super) holding: Arc<Holding>,
    /// The cycle of its term.
    pub(super) cycle: BillingProfile,
}

/// A bucket of an allowance: that of a cycle, or what is left of it in a later one.
struct Granted {
    key: BucketKey,
    opening: i128,
    valid: Period,
}

impl Own {
    pub(super) fn new(row: Arc<PlanRow>, holding: Arc<Holding>, zone: &TimeZone) -> Option<Self> {
        let term = match &row.part {
            PlanPart::Allowance(allowance) => allowance.term,
            PlanPart::Charge(charge) => charge.term,
            PlanPart::Accumulator(_)
            | PlanPart::Cap(_)
            | PlanPart::Commitment(_)
            | PlanPart::Volume(_) => return None,
        };
        let cycle = term.profile(&holding.profile, holding.began(), zone);
        Some(Self {
            row,
            holding,
            cycle,
        })
    }

    /// The first instant that it applies to.
    pub(super) fn start(&self) -> EventTime {
        let applied = clip(&self.holding.stretches, self.row.valid);
        applied
            .first()
            .map_or(EventTime::MAX, |first| first.start())
    }

    /// What it makes of a cycle that reaches a phase.
    pub(super) fn at(&self, step: &Step, zone: &TimeZone) -> Vec<Outcome> {
        match (&self.row.part, step.phase) {
            (PlanPart::Allowance(allowance), Phase::Known) => match allowance.grant {
                Grant::Recurring => self.recurring(allowance, step.cycle, zone),
                Grant::Once { lasts } => {
                    let granted = self.once(allowance, lasts, step.cycle, zone);
                    let bucket = granted.map(|granted| self.bucket(allowance, &granted));
                    bucket.into_iter().map(Outcome::Bucket).collect()
                }
            },
            (PlanPart::Charge(charge), phase) => {
                let due = match charge.when {
                    ChargeWhen::Activation | ChargeWhen::Advance => Phase::Begun,
                    ChargeWhen::Arrears => Phase::Ended,
                };
                let charged = (phase == due)
                    .then(|| self.charge(charge, step.cycle, zone))
                    .flatten();
                charged.into_iter().map(Outcome::Activity).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The activation, if the row is in force then and it falls into the cycle.
    fn activation(&self, cycle: Period) -> Option<EventTime> {
        let in_force = |at: &EventTime| cycle.contains(*at) && self.row.valid.contains(*at);
        self.holding.activation.filter(in_force)
    }

    fn once(
        &self,
        allowance: &Allowance,
        lasts: Option<u16>,
        cycle: Period,
        zone: &TimeZone,
    ) -> Option<Granted> {
        let start = self.activation(cycle)?;
        let mut last = cycle;
        for _ in 1..lasts.unwrap_or(1) {
            last = self.cycle.cycle_at(last.end(), zone)?;
        }
        // The subscription's end, not the row's: what was granted stays.
        let ends = self.holding.stretches.last()?.end();
        let end = lasts.map_or(ends, |_| ends.min(last.end()));
        Some(Granted {
            key: self.bucket_key(start, 0, false),
            opening: allowance.size,
            valid: Period::new(start, end)?,
        })
    }

    /// The bucket of a cycle, and in it what is left of the cycles before.
    fn recurring(&self, allowance: &Allowance, cycle: Period, zone: &TimeZone) -> Vec<Outcome> {
        let granted = self.granted(allowance, cycle, zone);
        let mut made: Vec<Outcome> = granted
            .map(|granted| Outcome::Bucket(self.bucket(allowance, &granted)))
            .into_iter()
            .collect();
        let Some(rollover) = allowance.rollover else {
            return made;
        };
        let Some(valid) = hull(&clip(&self.holding.stretches, cycle)) else {
            return made;
        };
        let mut before = cycle;
        for age in 1..=rollover.cycles_max.min(Rollover::CYCLES_MAX) {
            let earlier = EventTime(before.start().0.saturating_sub(1));
            let Some(origin) = self.cycle.cycle_at(earlier, zone) else {
                break;
            };
            // A cycle that the subscription was never active in ends what it carries.
            if clip(&self.holding.stretches, origin).is_empty() {
                break;
            }
            before = origin;
            if self.granted(allowance, origin, zone).is_none() {
                continue;
            }
            let at = origin.start();
            let from = self.bucket_key(at, age.saturating_sub(1), true);
            let to = self.bucket_key(at, age, true);
            let rest = Granted {
                key: to,
                opening: 0,
                valid,
            };
            made.push(Outcome::Bucket(self.bucket(allowance, &rest)));
            made.push(Outcome::Edge(Edge {
                group: self.holding.group,
                key: EdgeKey(key(EDGE, &[from.0, to.0])),
                time: cycle.start(),
                action: EdgeAction::Rollover {
                    from,
                    to,
                    cap: rollover.cap_per_cycle,
                },
            }));
        }
        made
    }

    /// What a cycle is granted.
    fn granted(&self, allowance: &Allowance, cycle: Period, zone: &TimeZone) -> Option<Granted> {
        let (applied, scale) = self.applied(allowance.proration, cycle, zone);
        let opening = scale.of(allowance.size).filter(|opening| *opening > 0)?;
        Some(Granted {
            key: self.bucket_key(cycle.start(), 0, allowance.rollover.is_some()),
            opening,
            valid: hull(&applied)?,
        })
    }

    /// The part of a cycle that it applies to, and what that counts for.
    fn applied(
        &self,
        proration: crate::domain::Proration,
        cycle: Period,
        zone: &TimeZone,
    ) -> (super::holding::Stretches, Scale) {
        let active = clip(&self.holding.stretches, cycle);
        let applied = clip(&active, self.row.valid);
        let scale = scale(&applied, cycle, proration, zone);
        (applied, scale)
    }

    /// The key of the bucket of a cycle, or of its rest some cycles later. Where rests and a new
    /// grant end together, and the key settles who is drawn first, the oldest comes first.
    fn bucket_key(&self, start: EventTime, age: u8, rolls: bool) -> BucketKey {
        let parts = [
            self.row.key.0,
            self.row.list.0,
            self.holding.group.0,
            self.holding.account.0,
            self.holding.subscription.0,
            start.0.cast_unsigned(),
            u64::from(age),
        ];
        let hash = key(BUCKET, &parts);
        if !rolls {
            return BucketKey(hash);
        }
        let youth = u64::from(Rollover::CYCLES_MAX.saturating_sub(age));
        BucketKey((youth << 58) | (hash >> 6))
    }

    fn bucket(&self, allowance: &Allowance, granted: &Granted) -> Bucket {
        let level = |percent: &u8| {
            let left = Scale::new(100_u64.saturating_sub(u64::from(*percent)), 100);
            Some(Threshold {
                level: left.of(granted.opening)?,
                percent: Some(*percent),
            })
        };
        let thresholds = if granted.opening > 0 {
            allowance.thresholds.iter().filter_map(level).collect()
        } else {
            SmallVec::new()
        };
        Bucket {
            group: self.holding.group,
            key: granted.key,
            resource: allowance.resource,
            kind: BucketKind::Allowance {
                priority: allowance.priority,
            },
            measure: allowance.measure,
            items: allowance.items.clone(),
            valid: granted.valid,
            opening: granted.opening,
            thresholds,
        }
    }

    fn charge(&self, charge: &PlanCharge, cycle: Period, zone: &TimeZone) -> Option<Activity> {
        let (kind, applied, scale, valid) = match charge.when {
            ChargeWhen::Activation => {
                let at = self.activation(cycle)?;
                let valid = Period::new(at, self.holding.stretches.last()?.end())?;
                (ActivityKind::OneTime, (at, at), Scale::ONE, valid)
            }
            ChargeWhen::Advance | ChargeWhen::Arrears => {
                let (applied, scale) = self.applied(charge.proration, cycle, zone);
                let valid = hull(&applied)?;
                let kind = if charge.when == ChargeWhen::Advance {
                    ActivityKind::ForwardRecurring
                } else {
                    ActivityKind::ArrearsRecurring
                };
                (kind, (valid.start(), valid.end()), scale, valid)
            }
        };
        let parts = [
            self.row.key.0,
            self.row.list.0,
            self.holding.group.0,
            self.holding.account.0,
            self.holding.subscription.0,
            cycle.start().0.cast_unsigned(),
        ];
        Some(Activity {
            key: ActivityKey(key(ACTIVITY, &parts)),
            kind,
            group: self.holding.group,
            subscription: self.holding.subscription,
            account: self.holding.account,
            profile: self.holding.profile,
            plan: self.row.key,
            item: charge.item,
            currency: charge.currency,
            cycle,
            applied_start: applied.0,
            applied_end: applied.1,
            scale,
            amount: Amount(scale.of(charge.amount.0)?),
            valid,
            reason: None,
        })
    }
}

// Seeds that keep the kinds of keys apart.
const BUCKET: u64 = 8;
const EDGE: u64 = 9;
const ACTIVITY: u64 = 11;
