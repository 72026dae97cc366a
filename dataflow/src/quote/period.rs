//! What the periods of quoted usage come to beside its records: volume prices, which are found at the
//! end of a period, and what a bill would charge without regard to this usage, which is left out and
//! named.

use super::line::QuoteLine;
use crate::publish::EpochChanges;
use jiff::tz::TimeZone;
use millrace_connectors::names::Names;
use millrace_operators::domain::{
    Activity, ActivityKind, Amount, BillingProfile, Charge, EventTime, ImpactKind, MoneyTotal,
    Name, Period, PlanPart, PlanRow, PriceKey, PriceModel, PriceRow, Quantity, SubscriptionKey,
};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a bill would have beside the usage quoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    /// `commitment`, or the kind of a charge without usage, as in the output `activity`.
    pub kind: &'static str,
    /// Its item.
    pub item: String,
    /// What it would come to if no more was used.
    pub amount: String,
    /// Its currency.
    pub currency: String,
    /// Start of its cycle.
    pub cycle_start: String,
    /// End of its cycle.
    pub cycle_end: String,
}

/// The present in which everything that the usage is part of has come to its end.
pub(super) fn settled_at(
    last: EventTime,
    began: EventTime,
    plans: &[PlanRow],
    zone: &TimeZone,
) -> EventTime {
    let account = BillingProfile::default();
    let term = |row: &PlanRow| match &row.part {
        PlanPart::Accumulator(part) => Some(part.term),
        PlanPart::Commitment(part) => Some(part.term),
        PlanPart::Allowance(_) | PlanPart::Cap(_) | PlanPart::Volume(_) | PlanPart::Charge(_) => {
            None
        }
    };
    let terms = plans.iter().filter_map(term);
    let profiles = terms.map(|term| term.profile(&account, began, zone));
    let ends = profiles.filter_map(|profile| Some(profile.cycle_at(last, zone)?.end()));
    ends.max().unwrap_or(last).max(last)
}

/// The prices that are found at the end of a period.
pub(super) fn volume_prices(prices: &[PriceRow]) -> BTreeSet<PriceKey> {
    let volumes = prices
        .iter()
        .filter(|row| matches!(row.model, PriceModel::Volume { .. }));
    volumes.map(|row| row.key).collect()
}

/// What the periods come to.
#[derive(Default)]
pub(super) struct Periods {
    /// A line per volume: behind the last of the rows that it is the price of.
    pub(super) lines: Vec<QuoteLine>,
    pub(super) left_out: BTreeSet<LeftOut>,
}

impl Periods {
    /// From the activity of the cycles that `charges` fall into.
    pub(super) fn of(changes: &EpochChanges, names: &Names) -> Self {
        let mut made = Self::default();
        let mut used: BTreeMap<SubscriptionKey, Vec<&Charge>> = BTreeMap::new();
        for (charge, _) in &changes.charges {
            used.entry(charge.subscription).or_default().push(charge);
        }
        for (activity, _) in &changes.activity {
            let of_it = used.get(&activity.subscription).into_iter().flatten();
            let within: Vec<&Charge> = of_it
                .filter(|charge| activity.cycle.contains(charge.time))
                .copied()
                .collect();
            if within.is_empty() {
                continue;
            }
            match activity.kind {
                ActivityKind::Volume => made.volume(activity, &within, changes, names),
                _ => made.leave_out(activity, names),
            }
        }
        made
    }

    fn volume(
        &mut self,
        activity: &Activity,
        within: &[&Charge],
        changes: &EpochChanges,
        names: &Names,
    ) {
        let is_priced = |charge: &&&Charge| {
            let class = names.class(charge.class);
            class.is_some_and(|class| class.items[usize::from(charge.item)].name == activity.item)
        };
        let Some(last) = within.iter().filter(is_priced).map(|c| c.record).max() else {
            return;
        };
        let edges = changes.edges.iter().map(|(edge, _)| edge);
        let edge = edges.into_iter().find(|edge| edge.edge.0 == activity.key.0);
        let prices = edge.into_iter().flat_map(|edge| &edge.impacts);
        let units = prices
            .filter(|impact| impact.kind == ImpactKind::Price)
            .map(|impact| impact.units)
            .next();
        let plan = names.plan(activity.plan);
        let price = plan
            .split_once("volume ")
            .map_or(&*plan, |(_, price)| price);
        let (start, end) = shown(activity.cycle);
        let reason = activity.reason;
        self.lines.push(QuoteLine {
            row: last.row() + 1,
            item: names.text(activity.item).to_string(),
            quantity: Quantity(units.unwrap_or_default()).to_string(),
            price: Some(price.to_owned()),
            amount: reason.is_none().then(|| activity.amount.to_string()),
            currency: Some(names.text(activity.currency).to_string()),
            reason: reason.map(millrace_operators::domain::Reason::code),
            message: Some(match reason {
                None => format!("the volume of {start} to {end}"),
                Some(reason) => reason.hint().to_owned(),
            }),
        });
    }

    fn leave_out(&mut self, activity: &Activity, names: &Names) {
        if activity.amount == Amount::ZERO {
            return;
        }
        let (cycle_start, cycle_end) = shown(activity.cycle);
        self.left_out.insert(LeftOut {
            kind: match activity.kind {
                ActivityKind::TrueUp { .. } => "commitment",
                ref kind => millrace_connectors::output::activity_kind(kind),
            },
            item: names.text(activity.item).to_string(),
            amount: activity.amount.to_string(),
            currency: names.text(activity.currency).to_string(),
            cycle_start,
            cycle_end,
        });
    }

    /// Adds what the volumes come to.
    pub(super) fn add_up(
        changes: &EpochChanges,
        names: &Names,
        totals: &mut BTreeMap<String, MoneyTotal>,
    ) {
        for (activity, _) in &changes.activity {
            if activity.kind == ActivityKind::Volume {
                let currency: Name = activity.currency;
                let total = totals.entry(names.text(currency).to_string()).or_default();
                *total = total.plus(activity.amount.into());
            }
        }
    }
}

fn shown(period: Period) -> (String, String) {
    (period.start().to_string(), period.end().to_string())
}
