//! Subscription activity: one row per charge that needs no usage, with the way to its billing line, or
//! the reason why nothing could be charged.

use super::columns::{Labels, decimals, label, money, text, time, times};
use super::{OutputRow, Texts};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::Field;
use millrace_operators::domain::{
    Activity, ActivityKind, AggregateId, Amount, BillUnit, EventTime, Period,
};
use std::sync::Arc;

/// A subscription's charge with the billing line that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionActivity {
    /// The charge.
    pub activity: Activity,
    /// Its billing line; none for a charge of nothing, which is on no line.
    pub line: Option<AggregateId>,
    /// Its bill unit.
    pub unit: BillUnit,
}

/// The kind of an activity in one word.
#[must_use]
pub fn activity_kind(kind: &ActivityKind) -> &'static str {
    match kind {
        ActivityKind::OneTime => "one_time",
        ActivityKind::ForwardRecurring => "forward_recurring",
        ActivityKind::ArrearsRecurring => "arrears_recurring",
        ActivityKind::TrueUp { .. } => "true_up",
        ActivityKind::Volume => "volume",
    }
}

impl SubscriptionActivity {
    fn commitment(&self) -> Option<Amount> {
        match self.activity.kind {
            // One that is out of range has its reason instead.
            ActivityKind::TrueUp { commitment } => Amount::within(commitment.0),
            _ => None,
        }
    }
}

impl OutputRow for SubscriptionActivity {
    fn fields(_: &Texts) -> Vec<Field> {
        vec![
            label("kind"),
            label("account"),
            label("subscription"),
            label("balance_group"),
            label("plan"),
            label("item"),
            time("cycle_start"),
            time("cycle_end"),
            time("applied_start"),
            time("applied_end"),
            text("scale"),
            money("commitment"),
            money("amount"),
            label("currency"),
            time("valid_start"),
            time("valid_end"),
            time("bill_unit_start"),
            time("bill_unit_end"),
            label("aggregate_id"),
            label("reason"),
            label("hint"),
        ]
    }

    fn encode(rows: &[Self], texts: &Texts) -> Vec<ArrayRef> {
        let names = &texts.names;
        let column = || Labels::with_capacity(rows.len());
        let (mut kind, mut account, mut subscription) = (column(), column(), column());
        let (mut group, mut plan, mut item) = (column(), column(), column());
        let (mut currency, mut line) = (column(), column());
        let (mut reason, mut hint) = (column(), column());
        for SubscriptionActivity {
            activity, line: id, ..
        } in rows
        {
            kind.push_word(activity_kind(&activity.kind));
            account.push(activity.account.0, || names.account(activity.account));
            subscription.push(activity.subscription.0, || {
                names.subscription(activity.subscription)
            });
            group.push(activity.group.0, || names.group(activity.group).0);
            plan.push(activity.plan.0, || names.plan(activity.plan));
            item.push(activity.item.0, || names.text(activity.item));
            currency.push(activity.currency.0, || names.text(activity.currency));
            match id {
                Some(id) => line.push(id.0, || Arc::from(id.to_string())),
                None => line.push_null(),
            }
            match activity.reason {
                Some(why) => {
                    reason.push_word(why.code());
                    hint.push_word(why.hint());
                }
                None => {
                    reason.push_null();
                    hint.push_null();
                }
            }
        }
        let time = |get: fn(&Self) -> EventTime| times(rows.iter().map(|row| Some(get(row))));
        let starts =
            |get: fn(&Self) -> Period| times(rows.iter().map(|row| Some(get(row).start())));
        let ends = |get: fn(&Self) -> Period| times(rows.iter().map(|row| Some(get(row).end())));
        let scales = rows.iter().map(|row| row.activity.scale.to_string());
        let commitments = rows
            .iter()
            .map(|row| row.commitment().map(|amount| amount.0));
        let amounts = rows.iter().map(|row| Some(row.activity.amount.0));
        vec![
            kind.finish(),
            account.finish(),
            subscription.finish(),
            group.finish(),
            plan.finish(),
            item.finish(),
            starts(|row| row.activity.cycle),
            ends(|row| row.activity.cycle),
            time(|row| row.activity.applied_start),
            time(|row| row.activity.applied_end),
            Arc::new(StringArray::from_iter_values(scales)),
            decimals(commitments, Amount::SCALE),
            decimals(amounts, Amount::SCALE),
            currency.finish(),
            starts(|row| row.activity.valid),
            ends(|row| row.activity.valid),
            starts(|row| row.unit),
            ends(|row| row.unit),
            line.finish(),
            reason.finish(),
            hint.finish(),
        ]
    }
}
