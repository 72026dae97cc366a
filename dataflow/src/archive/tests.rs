use super::*;
use jiff::civil::Date;
use jiff::{Span, tz::TimeZone};
use millrace_operators::domain::{
    Account, BillingProfile, Cycle, LineKey, Name, PlanKey, PlanPart, PlanRow, Subscription,
    SubscriptionKey, SubscriptionStatus,
};
use millrace_operators::domain::{Accumulator, Measure, Term};

fn at(text: &str) -> EventTime {
    EventTime::from(text.parse::<jiff::Timestamp>().unwrap())
}

/// Accounts with these cycles, all in one pool.
fn family(cycles: &[(i8, Cycle)]) -> (Reference, Vec<AccountKey>) {
    let mut reference = Reference::default();
    let mut accounts = Vec::new();
    for (n, (day, cycle)) in cycles.iter().enumerate() {
        let key = AccountKey::of(&[&n.to_string()]);
        accounts.push(key);
        reference.accounts.push(Account {
            key,
            currency: Name::new("EUR"),
            profile: BillingProfile::new(Date::new(2026, 1, *day).unwrap(), 1, *cycle),
        });
        reference.subscriptions.push(Subscription {
            key: SubscriptionKey::of(&[&n.to_string()]),
            account: key,
            group: Name::new("family"),
            price_lists: std::iter::once(Name::new("standard")).collect(),
            valid: Period::ALWAYS,
            status: SubscriptionStatus::Active,
        });
    }
    reference.plans.push(PlanRow {
        key: PlanKey::of(&["count"]),
        list: Name::new("standard"),
        valid: Period::ALWAYS,
        part: PlanPart::Accumulator(Accumulator {
            resource: Name::new("count"),
            items: Default::default(),
            measure: Measure::Units,
            currency: None,
            numerator: 1,
            denominator: 1,
            term: Term::BillUnit,
            thresholds: Default::default(),
            activation: 0,
            recurring: 0,
        }),
    });
    (reference, accounts)
}

fn period(reference: &Reference, account: AccountKey, after: Span, now: &str) -> Option<String> {
    let mut closing = Closing::new(reference, TimeZone::UTC, after, at(now));
    let profile = closing.profile(account).unwrap();
    let found = closing.period(account, &profile, at("2026-02-10T12:00:00Z"));
    found.map(|period| format!("{} {}", period.start(), period.end()))
}

const FEBRUARY: &str = "2026-02-01T00:00:00Z 2026-03-01T00:00:00Z";

#[test]
fn a_bill_unit_is_closed_when_it_has_ended_and_the_grace_with_it() {
    let (reference, accounts) = family(&[(1, Cycle::Month), (1, Cycle::Month)]);
    let found = |after, now| period(&reference, accounts[1], after, now);
    assert_eq!(found(Span::new(), "2026-02-28T23:59:59Z"), None);
    assert_eq!(
        found(Span::new(), "2026-03-01T00:00:00Z").as_deref(),
        Some(FEBRUARY)
    );
    let days = Span::new().days(10);
    assert_eq!(found(days, "2026-03-10T23:59:59Z"), None);
    assert_eq!(
        found(days, "2026-03-11T00:00:00Z").as_deref(),
        Some(FEBRUARY)
    );
}

#[test]
fn cycles_that_share_a_pool_close_together() {
    let (reference, accounts) = family(&[(1, Cycle::Month), (1, Cycle::Quarter)]);
    let found = |account, now| period(&reference, account, Span::new(), now);
    let quarter = Some("2026-01-01T00:00:00Z 2026-04-01T00:00:00Z".to_owned());
    assert_eq!(found(accounts[0], "2026-03-31T23:00:00Z"), None);
    assert_eq!(found(accounts[0], "2026-04-01T00:00:00Z"), quarter);
    assert_eq!(found(accounts[1], "2026-04-01T00:00:00Z"), quarter);
    // Without plans nothing is shared.
    let apart = Reference {
        plans: Vec::new(),
        ..reference
    };
    let alone = period(&apart, accounts[0], Span::new(), "2026-03-01T00:00:00Z");
    assert_eq!(alone.as_deref(), Some(FEBRUARY));
}

#[test]
fn cycles_that_never_meet_never_close() {
    let (reference, accounts) = family(&[(1, Cycle::Month), (15, Cycle::Month)]);
    for account in accounts {
        assert_eq!(
            period(&reference, account, Span::new(), "2126-01-01T00:00:00Z"),
            None
        );
        let mut closing = Closing::new(&reference, TimeZone::UTC, Span::new(), EventTime::LATEST);
        let line = LineKey {
            account,
            unit_start: at("2026-02-01T00:00:00Z"),
            unit_end: at("2026-03-01T00:00:00Z"),
            item: Name::new("calls"),
            currency: Name::new("EUR"),
            dimensions: Default::default(),
        };
        assert_eq!(closing.period_of_line(&line), None);
    }
}

#[test]
fn what_was_closed_stays_closed_and_is_told_another_process() {
    let (reference, accounts) = family(&[(1, Cycle::Month), (1, Cycle::Month)]);
    let [old, new] = [accounts[0], accounts[1]];
    let days = Span::new().days(60);
    // By clock and grace, nothing behind December is closed.
    let plain = || Closing::new(&reference, TimeZone::UTC, days, at("2026-03-20T00:00:00Z"));
    let february = Period::new(at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z")).unwrap();
    let until = |closing: &mut Closing| [old, new].map(|account| closing.units().until(account));
    let [january, march] = [at("2026-01-01T00:00:00Z"), february.end()];
    assert_eq!(until(&mut plain()), [Some(january), Some(january)]);
    let forgot = ClosedUnits([(old, march)].into_iter().collect());
    let mut closing = plain().behind(&forgot, []);
    assert_eq!(until(&mut closing), [Some(march), Some(january)]);
    let next = at("2026-04-02T00:00:00Z");
    assert_eq!(closing.next(), Some(next), "January of the new account");
    // What is archived is closed for all whose period it is.
    let archived = || plain().behind(&forgot, [february]);
    assert_eq!(until(&mut archived()), [Some(march), Some(march)]);
    let mut closing = archived().that_closes(false);
    let parts = bincode::serialize(&closing.parts()).unwrap();
    let mut other = Closing::of_parts(bincode::deserialize(&parts).unwrap(), TimeZone::UTC, days);
    for closing in [&mut closing, &mut other] {
        let profile = closing.profile(new).unwrap();
        let mut period = |time| closing.period(new, &profile, at(time));
        assert_eq!(period("2026-02-10T00:00:00Z"), Some(february));
        assert_eq!(period("2026-03-10T00:00:00Z"), None);
    }
    assert_eq!(other.units(), closing.units());
}
