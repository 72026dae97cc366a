//! Who a quote is for, as accounts and subscriptions.

use super::line::QuoteError;
use millrace_connectors::diagnostic::did_you_mean;
use millrace_connectors::names::Names;
use millrace_operators::domain::{
    Account, AccountKey, BillingProfile, EventTime, Name, Period, ServiceUse, Subscription,
    SubscriptionStatus, Usage,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whoever a row is quoted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Customer {
    pub(super) account: AccountKey,
    pub(super) list: Name,
    /// An account is billed in one currency, but a quote may ask several price lists of a catalog:
    /// that of the prices which can apply.
    pub(super) currency: Name,
}

impl Customer {
    /// Its id, as a service and as a subscription.
    pub(super) fn id(&self) -> String {
        format!("{:x}\u{1f}{:x}", self.account.0, self.list.0)
    }
}

pub(super) fn accounts(customers: &BTreeSet<Customer>) -> Vec<Account> {
    let account = |customer: &Customer| (customer.account, customer.currency);
    let accounts: BTreeSet<(AccountKey, Name)> = customers.iter().map(account).collect();
    let account = |(key, currency)| Account {
        key,
        currency,
        profile: BillingProfile::default(),
    };
    accounts.into_iter().map(account).collect()
}

/// Allowances begin with the subscription: each customer is taken to have subscribed with the year
/// that the usage begins in.
pub(super) fn subscribed(usage: &[Usage], zone: &jiff::tz::TimeZone) -> EventTime {
    let first = usage.iter().map(|usage| usage.time).min();
    let year = || {
        let first = first?.timestamp()?.to_zoned(zone.clone());
        first.first_of_year().ok()?.start_of_day().ok()
    };
    year().map_or(EventTime::EARLIEST, |year| year.timestamp().into())
}

pub(super) fn subscriptions(
    customers: &BTreeSet<Customer>,
    since: EventTime,
    names: &Names,
) -> Vec<Subscription> {
    let subscription = |customer: &Customer| Subscription {
        key: names.enter_subscription(&customer.id()),
        account: customer.account,
        group: names.enter(&customer.id()),
        price_lists: [customer.list].into_iter().collect(),
        valid: Period::new(since, EventTime::MAX).unwrap_or(Period::ALWAYS),
        status: SubscriptionStatus::Active,
    };
    customers.iter().map(subscription).collect()
}

pub(super) fn services(
    customers: &BTreeSet<Customer>,
    types: &BTreeSet<Arc<str>>,
    names: &Names,
) -> Vec<ServiceUse> {
    let service = |kind: &str, customer: &Customer| ServiceUse {
        service: names.enter_service(kind, &customer.id()),
        subscription: names.enter_subscription(&customer.id()),
        valid: Period::ALWAYS,
    };
    let of_type = |kind: &Arc<str>| {
        customers
            .iter()
            .map(|c| service(kind, c))
            .collect::<Vec<_>>()
    };
    types.iter().flat_map(of_type).collect()
}

/// Refuses a name that is none of those that are known.
pub(super) fn is_known(asked: &str, known: &[&str], nowhere: &str) -> Result<(), QuoteError> {
    if known.contains(&asked) {
        return Ok(());
    }
    let meant = did_you_mean(asked, known.iter().copied());
    let meant = meant.map_or_else(String::new, |name| format!("; did you mean \"{name}\"?"));
    Err(QuoteError::Request(format!("{nowhere} \"{asked}\"{meant}")))
}
