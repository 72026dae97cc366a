//! Why the usage of a service goes where it goes: every subscription that claims the service, and
//! what came of the claim. Claims are made and settled by the kernel of the guide stage itself.

use super::{Claim, Guided, Terms, claim, timeline};
use crate::domain::{
    Account, ClosedUnits, EventTime, GroupKey, PlanRow, Reason, ServiceKey, ServiceUse,
    Subscription,
};
use std::sync::Arc;

/// The reference data that guiding reads.
#[derive(Clone, Copy, Debug)]
pub struct GuideRows<'a> {
    /// Services of subscriptions.
    pub services: &'a [ServiceUse],
    /// Subscriptions.
    pub subscriptions: &'a [Subscription],
    /// Accounts.
    pub accounts: &'a [Account],
    /// Plans of price lists.
    pub plans: &'a [PlanRow],
}

/// How a claim on a service fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuideVerdict {
    /// The usage goes there.
    Chosen,
    /// It could serve, and so could another: the usage goes nowhere.
    Tied,
    /// It holds at the time of usage, and cannot serve for this reason.
    Cannot(Reason),
    /// The subscription's terms do not hold at the time of usage.
    TermsNotInForce,
    /// The subscription does not have the service at the time of usage.
    ServiceNotInForce,
}

/// A claim on a service, and how it fared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuideCandidate {
    /// How it fared.
    pub verdict: GuideVerdict,
    /// The service's row.
    pub service: ServiceUse,
    /// A row of the subscription that it names; none if there is no such subscription.
    pub subscription: Option<Subscription>,
    /// The account that the subscription names, if there is one.
    pub account: Option<Account>,
}

/// How the way of a record was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guide {
    /// Where it goes, or why it cannot.
    pub outcome: Result<Guided, Reason>,
    /// All claims on the service, the best first.
    pub candidates: Vec<GuideCandidate>,
}

/// How usage of `service` at `time` finds its way.
#[must_use]
pub fn explain(service: ServiceKey, time: EventTime, rows: &GuideRows<'_>) -> Guide {
    let uses = rows.services.iter().filter(|row| row.service == service);
    let claims: Vec<(Claim, GuideCandidate)> = uses.flat_map(|used| claims(used, rows)).collect();
    let outcome = if claims.is_empty() {
        Err(Reason::ServiceUnknown)
    } else {
        let claims: Vec<&Claim> = claims.iter().map(|(claim, _)| claim).collect();
        timeline(&claims, &ClosedUnits::default())
            .at(time)
            .guide
            .clone()
    };
    let judged = |(claim, candidate): (Claim, GuideCandidate)| GuideCandidate {
        verdict: verdict(&claim, &candidate, &outcome, time),
        ..candidate
    };
    let mut candidates: Vec<GuideCandidate> = claims.into_iter().map(judged).collect();
    candidates.sort();
    Guide {
        outcome,
        candidates,
    }
}

/// What a row of a service claims: once for each row of its subscription.
fn claims(used: &ServiceUse, rows: &GuideRows<'_>) -> Vec<(Claim, GuideCandidate)> {
    let candidate =
        |subscription: Option<&Subscription>, account: Option<&Account>| GuideCandidate {
            verdict: GuideVerdict::ServiceNotInForce,
            service: *used,
            subscription: subscription.cloned(),
            account: account.cloned(),
        };
    let named = rows
        .subscriptions
        .iter()
        .filter(|row| row.key == used.subscription);
    let of_terms = |subscription: &Subscription| {
        let key = subscription.account;
        let account = rows.accounts.iter().find(|account| account.key == key);
        let terms = Terms {
            subscription: Arc::new(subscription.clone()),
            account: account.cloned(),
            ordered: account.is_some_and(|account| is_ordered(subscription, account, rows)),
        };
        (
            claim(used.valid, &terms),
            candidate(Some(subscription), account),
        )
    };
    let claims: Vec<_> = named.map(of_terms).collect();
    if claims.is_empty() {
        let orphan = Claim {
            valid: Some(used.valid),
            outcome: Err(Reason::SubscriptionUnknown),
        };
        return vec![(orphan, candidate(None, None))];
    }
    claims
}

/// See [`Guided::ordered`]: whether a subscription of the balance group has a price list whose plan
/// orders usage.
fn is_ordered(subscription: &Subscription, account: &Account, rows: &GuideRows<'_>) -> bool {
    let group = GroupKey::of_pool(subscription.group, account.currency);
    let orders = |list, currency| {
        rows.plans.iter().any(|row| {
            let applies = row.part.currency().is_none_or(|c| c == currency);
            row.list == list && row.part.orders_usage() && applies
        })
    };
    rows.subscriptions.iter().any(|other| {
        let payer = rows.accounts.iter().find(|row| row.key == other.account);
        payer.is_some_and(|payer| {
            GroupKey::of_pool(other.group, payer.currency) == group
                && other
                    .price_lists
                    .iter()
                    .any(|list| orders(*list, payer.currency))
        })
    })
}

fn verdict(
    claim: &Claim,
    candidate: &GuideCandidate,
    outcome: &Result<Guided, Reason>,
    time: EventTime,
) -> GuideVerdict {
    if !candidate.service.valid.contains(time) {
        return GuideVerdict::ServiceNotInForce;
    }
    if !claim.valid.is_some_and(|valid| valid.contains(time)) {
        return GuideVerdict::TermsNotInForce;
    }
    match (&claim.outcome, outcome) {
        (Err(reason), _) => GuideVerdict::Cannot(*reason),
        (Ok(claimed), Ok(found)) if claimed == found => GuideVerdict::Chosen,
        (Ok(_), _) => GuideVerdict::Tied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        AccountKey, BillingProfile, Name, Period, SubscriptionKey, SubscriptionStatus,
    };
    use smallvec::smallvec;

    const SERVICE: ServiceKey = ServiceKey(1);

    fn period(start: i64, end: i64) -> Period {
        Period::new(EventTime(start), EventTime(end)).unwrap()
    }

    fn used(subscription: u64, start: i64, end: i64) -> ServiceUse {
        ServiceUse {
            service: SERVICE,
            subscription: SubscriptionKey(subscription),
            valid: period(start, end),
        }
    }

    fn terms(key: u64, start: i64, end: i64, status: SubscriptionStatus) -> Subscription {
        Subscription {
            key: SubscriptionKey(key),
            account: AccountKey(1),
            group: Name(key),
            price_lists: smallvec![Name::new("standard")],
            valid: period(start, end),
            status,
        }
    }

    fn explained(
        services: &[ServiceUse],
        subscriptions: &[Subscription],
        time: i64,
    ) -> (Result<u64, Reason>, Vec<(u64, GuideVerdict)>) {
        let accounts = [Account {
            key: AccountKey(1),
            currency: Name::new("USD"),
            profile: BillingProfile::default(),
        }];
        let rows = GuideRows {
            services,
            subscriptions,
            accounts: &accounts,
            plans: &[],
        };
        let guide = explain(SERVICE, EventTime(time), &rows);
        let verdicts = guide.candidates.iter();
        (
            guide.outcome.map(|guided| guided.subscription.0),
            verdicts
                .map(|c| (c.service.subscription.0, c.verdict))
                .collect(),
        )
    }

    #[test]
    fn every_subscription_that_lost_has_its_reason() {
        use SubscriptionStatus::{Active, Closed};
        let services = [
            used(1, 0, 100),
            used(2, 0, 100),
            used(3, 0, 5),
            used(9, 0, 100),
        ];
        let subscriptions = [
            terms(1, 0, 100, Active),
            terms(2, 0, 5, Active),
            terms(2, 5, 100, Closed),
            terms(3, 0, 100, Active),
        ];
        let (outcome, verdicts) = explained(&services, &subscriptions, 10);
        assert_eq!(outcome, Ok(1));
        let expected = [
            (1, GuideVerdict::Chosen),
            (9, GuideVerdict::Cannot(Reason::SubscriptionUnknown)),
            (2, GuideVerdict::Cannot(Reason::SubscriptionNotActive)),
            (2, GuideVerdict::TermsNotInForce),
            (3, GuideVerdict::ServiceNotInForce),
        ];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn two_that_could_serve_tie() {
        let services = [used(1, 0, 100), used(2, 0, 100)];
        let active = SubscriptionStatus::Active;
        let subscriptions = [terms(1, 0, 100, active), terms(2, 0, 100, active)];
        let (outcome, verdicts) = explained(&services, &subscriptions, 10);
        assert_eq!(outcome, Err(Reason::ServiceAmbiguous));
        let expected = [(1, GuideVerdict::Tied), (2, GuideVerdict::Tied)];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn a_service_that_nobody_claims_is_unknown() {
        let (outcome, verdicts) = explained(&[], &[], 10);
        assert_eq!(outcome, Err(Reason::ServiceUnknown));
        assert_eq!(verdicts, []);
    }
}
