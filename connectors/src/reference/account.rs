//! One row about accounts, from the text of its fields: an account, a subscription, a service.

use super::field::{Complaint, Fields};
use super::price_fields::LIST_DEFAULT;
use super::rows::Setting;
use millrace_operators::domain::{
    Account, BillingProfile, Cycle, Period, ServiceUse, Subscription, SubscriptionKey,
    SubscriptionStatus,
};

pub(super) const CYCLES: &[(&str, Cycle)] = &[
    ("day", Cycle::Day),
    ("week", Cycle::Week),
    ("month", Cycle::Month),
    ("quarter", Cycle::Quarter),
    ("year", Cycle::Year),
];

pub(super) const STATUSES: &[(&str, SubscriptionStatus)] = &[
    ("active", SubscriptionStatus::Active),
    ("inactive", SubscriptionStatus::Inactive),
    ("closed", SubscriptionStatus::Closed),
];

/// How many units make a cycle, from `every`.
pub(super) fn units_of<'a, F: Fn(&'static str) -> Option<&'a str>>(
    cycle: Cycle,
    fields: &mut Fields<'a, F>,
) -> Option<u16> {
    let every = fields.number("every", 1_u16)?;
    let most = cycle.every_max();
    if every > most {
        let word = CYCLES.iter().find(|(_, known)| *known == cycle);
        let word = word.map_or("", |(word, _)| word);
        let message = format!("a cycle is too long: \"every\" is {every}, of cycle {word}");
        let hint = format!("write at most {most}, which is a century");
        fields.complain(Complaint::new("every", message).with_hint(hint));
    }
    Some(every)
}

/// An account from `id`, `currency`, `anniversary`, `every` and `cycle`.
pub(super) fn account_row<'a>(
    text: impl Fn(&'static str) -> Option<&'a str>,
    setting: Setting<'_>,
) -> Result<Account, Vec<Complaint>> {
    let mut fields = Fields::new(setting.zone, text);
    let id = fields.required("id");
    let currency = match fields.currency("currency") {
        Some(currency) => currency,
        None => fields.required("currency"),
    };
    let calendar_months = BillingProfile::default();
    let cycle = fields
        .word("cycle", CYCLES)
        .unwrap_or(calendar_months.cycle);
    let every = units_of(cycle, &mut fields).unwrap_or(1);
    let mut profile = BillingProfile {
        every,
        cycle,
        ..calendar_months
    };
    if let Some(text) = fields.optional("anniversary") {
        // A date alone: the hour of an anniversary is the tenant's midnight, not for a file to say.
        match text.parse::<jiff::civil::DateTime>() {
            Ok(midnight) if midnight.time() == jiff::civil::Time::midnight() => {
                profile = BillingProfile::new(midnight.date(), every, cycle);
            }
            _ => {
                let message = format!("\"anniversary\" is not a date: \"{text}\"");
                let hint = "write a date like 2026-01-31";
                fields.complain(Complaint::new("anniversary", message).with_hint(hint));
            }
        }
    }
    if !fields.complaints.is_empty() {
        return Err(fields.complaints);
    }
    let (key, currency) = (
        setting.names.enter_account(id),
        setting.names.enter(currency),
    );
    Ok(Account {
        key,
        currency,
        profile,
    })
}

/// A subscription from `id`, `account`, `group`, `parent`, `from`, `to`, `status` and its price lists,
/// and its parent; the group of a row with a parent is settled when all rows are known.
pub(super) fn subscription_row<'a>(
    text: impl Fn(&'static str) -> Option<&'a str>,
    price_lists: &[&str],
    setting: Setting<'_>,
) -> Result<(Subscription, Option<SubscriptionKey>), Vec<Complaint>> {
    let mut fields = Fields::new(setting.zone, text);
    let id = fields.required("id");
    let account = fields.required("account");
    let valid = fields.period();
    let (group, parent) = (fields.optional("group"), fields.optional("parent"));
    if group.is_some() && parent.is_some() {
        let message = "a subscription with a parent has the parent's group";
        let hint = "give either \"group\" or \"parent\"";
        fields.complain(Complaint::new("group", message).with_hint(hint));
    }
    let status = fields
        .word("status", STATUSES)
        .unwrap_or(SubscriptionStatus::Active);
    if !fields.complaints.is_empty() {
        return Err(fields.complaints);
    }
    let lists = if price_lists.is_empty() {
        &[LIST_DEFAULT]
    } else {
        price_lists
    };
    let subscription = Subscription {
        key: setting.names.enter_subscription(id),
        account: setting.names.enter_account(account),
        group: setting.names.enter(group.unwrap_or(id)),
        price_lists: lists.iter().map(|list| setting.names.enter(list)).collect(),
        valid,
        status,
    };
    let parent = parent.map(|parent| setting.names.enter_subscription(parent));
    Ok((subscription, parent))
}

/// A service from `service_type`, `service`, `subscription`, `from` and `to`; where neither end is
/// given, `always` holds.
pub(super) fn service_row<'a>(
    text: impl Fn(&'static str) -> Option<&'a str>,
    always: Period,
    setting: Setting<'_>,
) -> Result<ServiceUse, Vec<Complaint>> {
    let mut fields = Fields::new(setting.zone, text);
    let service_type = fields.required("service_type");
    let service = fields.required("service");
    let subscription = fields.required("subscription");
    let given = fields.period();
    if !fields.complaints.is_empty() {
        return Err(fields.complaints);
    }
    Ok(ServiceUse {
        service: setting.names.enter_service(service_type, service),
        subscription: setting.names.enter_subscription(subscription),
        valid: if given == Period::ALWAYS {
            always
        } else {
            given
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Names;
    use jiff::tz::TimeZone;

    fn with<T>(
        fields: &'static [(&'static str, &'static str)],
        row: impl FnOnce(&dyn Fn(&'static str) -> Option<&'static str>, Setting<'_>) -> T,
    ) -> T {
        let (zone, names) = (TimeZone::UTC, Names::default());
        let text = |field| {
            fields
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(_, text)| *text)
        };
        row(
            &text,
            Setting {
                zone: &zone,
                names: &names,
            },
        )
    }

    #[test]
    fn an_account_is_billed_by_calendar_months_unless_told() {
        let account = with(&[("id", "a"), ("currency", "USD")], |text, setting| {
            account_row(text, setting).unwrap()
        });
        assert_eq!(account.profile, BillingProfile::default());
        let fields = &[
            ("id", "a"),
            ("currency", "credits"),
            ("anniversary", "2026-01-31"),
            ("every", "2"),
            ("cycle", "week"),
        ];
        let account = with(fields, |text, setting| account_row(text, setting).unwrap());
        let anniversary = jiff::civil::date(2026, 1, 31);
        assert_eq!(
            account.profile,
            BillingProfile::new(anniversary, 2, Cycle::Week)
        );
    }

    #[test]
    fn a_cycle_longer_than_a_century_is_refused() {
        let complaints = |fields| {
            with(fields, |text, setting| {
                account_row(text, setting).err().unwrap_or_default()
            })
        };
        let longest = &[
            ("id", "a"),
            ("currency", "USD"),
            ("cycle", "quarter"),
            ("every", "400"),
        ];
        assert_eq!(complaints(longest), []);
        let longer = &[
            ("id", "a"),
            ("currency", "USD"),
            ("cycle", "quarter"),
            ("every", "401"),
        ];
        let told = complaints(longer);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].field, "every");
        assert!(told[0].message.contains("quarter"), "{}", told[0].message);
        assert!(told[0].hint.contains("400"), "{}", told[0].hint);
    }

    #[test]
    fn all_that_is_wrong_with_an_account_is_said() {
        let fields = &[
            ("currency", "U$"),
            ("anniversary", "2026-02-30"),
            ("every", "0"),
            ("cycle", "monthly"),
        ];
        let complaints = with(fields, |text, setting| {
            account_row(text, setting).unwrap_err()
        });
        let named: Vec<&str> = complaints.iter().map(|c| c.field).collect();
        assert_eq!(named, ["id", "currency", "cycle", "every", "anniversary"]);
        assert_eq!(complaints[2].hint, "did you mean \"month\"?");
    }

    #[test]
    fn a_subscription_without_a_list_has_the_standard_one() {
        let fields = &[("id", "s"), ("account", "a"), ("status", "closed")];
        let row = with(fields, |text, setting| {
            subscription_row(text, &[], setting).unwrap().0
        });
        assert_eq!(
            row.price_lists.as_slice(),
            [millrace_operators::domain::Name::new("standard")]
        );
        assert_eq!(row.status, SubscriptionStatus::Closed);
    }
}
