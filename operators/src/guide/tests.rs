use super::*;
use proptest::prelude::*;

fn period(start: i64, end: i64) -> Period {
    Period::new(EventTime(start), EventTime(end)).unwrap()
}

fn served(subscription: u64, start: i64, end: i64) -> Claim {
    let guided = Guided {
        subscription: SubscriptionKey(subscription),
        account: AccountKey(1),
        currency: Name(1),
        profile: BillingProfile::default(),
        group: GroupKey(subscription),
        ordered: false,
        price_lists: SmallVec::new(),
    };
    Claim {
        valid: Some(period(start, end)),
        outcome: Ok(guided),
    }
}

fn failed(reason: Reason, start: i64, end: i64) -> Claim {
    Claim {
        valid: Some(period(start, end)),
        outcome: Err(reason),
    }
}

fn at(claims: &[Claim], time: i64) -> Result<u64, Reason> {
    let claims: Vec<&Claim> = claims.iter().collect();
    let closed = ClosedUnits([(AccountKey(2), EventTime(5))].into_iter().collect());
    let timeline = timeline(&claims, &closed);
    timeline
        .at(EventTime(time))
        .guide
        .clone()
        .map(|guided| guided.subscription.0)
}

#[test]
fn a_move_between_subscriptions_leaves_no_gap() {
    let claims = [served(1, 0, 10), served(2, 10, 20)];
    assert_eq!(at(&claims, 9), Ok(1));
    assert_eq!(at(&claims, 10), Ok(2));
    assert_eq!(at(&claims, 20), Err(Reason::ServiceNotEffective));
    assert_eq!(at(&claims, -1), Err(Reason::ServiceNotEffective));
}

#[test]
fn closed_bill_units_guide_nothing() {
    let mut closed = served(2, 0, 20);
    if let Ok(guided) = &mut closed.outcome {
        guided.account = AccountKey(2);
    }
    let claims = [closed];
    assert_eq!(at(&claims, 4), Err(Reason::PeriodClosed));
    assert_eq!(at(&claims, 5), Ok(2));
    assert_eq!(at(&claims, -1), Err(Reason::ServiceNotEffective));
}

#[test]
fn a_service_that_never_meets_its_subscription_is_known() {
    let subscription = Subscription {
        key: SubscriptionKey(1),
        account: AccountKey(1),
        group: Name(1),
        price_lists: SmallVec::new(),
        valid: period(10, 20),
        status: SubscriptionStatus::Active,
    };
    let terms = Terms {
        subscription: Arc::new(subscription),
        account: None,
        ordered: false,
    };
    let claims = [claim(period(0, 10), &terms)];
    assert_eq!(at(&claims, 5), Err(Reason::ServiceNotEffective));
    assert_eq!(at(&claims, 15), Err(Reason::ServiceNotEffective));
}

#[test]
fn two_active_claims_are_ambiguous_only_while_both_hold() {
    let claims = [served(1, 0, 10), served(2, 5, 20)];
    assert_eq!(at(&claims, 4), Ok(1));
    assert_eq!(at(&claims, 5), Err(Reason::ServiceAmbiguous));
    assert_eq!(at(&claims, 10), Ok(2));
}

#[test]
fn an_active_claim_wins_over_one_that_cannot_serve() {
    let claims = [
        failed(Reason::SubscriptionNotActive, 0, 20),
        served(2, 10, 20),
    ];
    assert_eq!(at(&claims, 5), Err(Reason::SubscriptionNotActive));
    assert_eq!(at(&claims, 15), Ok(2));
}

proptest! {
    /// At every instant as if nothing else were known; where nothing changes no segment begins.
    #[test]
    fn every_instant_is_settled_by_the_claims_that_hold(
        claims in prop::collection::vec((0_u64..7, 0_i64..20, 1_i64..12), 0..12),
        until in 0_i64..20,
    ) {
        let reasons = [Reason::SubscriptionUnknown, Reason::AccountUnknown];
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(what, start, length)| match what {
                0 | 1 => failed(reasons[usize::try_from(what).unwrap()], start, start + length),
                2 => Claim { valid: None, outcome: Err(Reason::ServiceNotEffective) },
                // Some say the same twice, and some are of an account that is closed for a while.
                what => {
                    let mut claim = served(what / 2, start, start + length);
                    if let Ok(guided) = &mut claim.outcome {
                        guided.account = AccountKey(what / 2);
                    }
                    claim
                }
            })
            .collect();
        let claims: Vec<&Claim> = claims.iter().collect();
        let closed = ClosedUnits([(AccountKey(2), EventTime(until))].into_iter().collect());
        let timeline = timeline(&claims, &closed);
        let starts: Vec<EventTime> = timeline.segments().iter().map(|s| s.start).collect();
        prop_assert_eq!(starts[0], EventTime::MIN);
        prop_assert!(starts.is_sorted_by(|one, next| one < next));
        let mut pairs = timeline.segments().windows(2);
        prop_assert!(pairs.all(|pair| pair[0].guide != pair[1].guide));
        for time in -1..40 {
            let holds = |claim: &&&Claim| claim.valid.is_some_and(|v| v.contains(EventTime(time)));
            let held = || claims.iter().filter(holds);
            let mut guides: Vec<&Guided> = held().filter_map(|c| c.outcome.as_ref().ok()).collect();
            guides.sort();
            guides.dedup();
            let expected = match guides[..] {
                [guided] if guided.account.0 == 2 && time < until => Err(Reason::PeriodClosed),
                [guided] => Ok(guided.clone()),
                [] => {
                    let reasons = held().filter_map(|c| c.outcome.as_ref().err().copied());
                    Err(reasons.min().unwrap_or(Reason::ServiceNotEffective))
                }
                _ => Err(Reason::ServiceAmbiguous),
            };
            prop_assert_eq!(&timeline.at(EventTime(time)).guide, &expected, "at {}", time);
        }
    }
}

#[test]
fn a_service_may_have_had_many_owners() {
    const OWNERS: u64 = 60_000;
    let claims: Vec<Claim> = (0..OWNERS)
        .map(|n| {
            let start = i64::try_from(n).unwrap();
            served(n, start, start + 1)
        })
        .collect();
    let claims: Vec<&Claim> = claims.iter().collect();
    let timeline = timeline(&claims, &ClosedUnits::default());
    assert_eq!(timeline.segments().len(), claims.len() + 2);
    for n in (0..OWNERS).step_by(997) {
        let guide = &timeline.at(EventTime(i64::try_from(n).unwrap())).guide;
        assert_eq!(guide.as_ref().map(|guided| guided.subscription.0), Ok(n));
    }
}

#[test]
fn the_first_guard_names_the_reason() {
    let claims = [
        failed(Reason::SubscriptionNotActive, 0, 20),
        failed(Reason::AccountUnknown, 0, 20),
        failed(Reason::SubscriptionUnknown, 5, 20),
    ];
    assert_eq!(at(&claims, 0), Err(Reason::AccountUnknown));
    assert_eq!(at(&claims, 5), Err(Reason::SubscriptionUnknown));
}

/// Whether the service of each subscription is charged in order, epoch by epoch: subscriptions 1
/// and 2 share a pool, 3 and 4 have their own; all have the list 5, and 4 is billed in currency 8.
fn ordered(plans: Vec<(PlanRow, isize)>) -> Vec<[bool; 4]> {
    use differential_dataflow::input::Input as _;
    use timely::dataflow::operators::Probe as _;
    let (sender, receiver) = std::sync::mpsc::channel();
    let epochs = plans.len();
    timely::execute_directly(move |worker| {
        let (mut inputs, mut planned, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (service_input, services) = scope.new_collection();
            let (subscription_input, subscriptions) = scope.new_collection();
            let (account_input, accounts) = scope.new_collection();
            let (plan_input, plans) = scope.new_collection();
            let guides = guide(services, subscriptions, accounts, plans, Arc::default());
            let (probe, _) = guides
                .timelines
                .inspect(move |change| sender.send(change.clone()).unwrap())
                .inner
                .probe();
            let inputs = (service_input, subscription_input, account_input);
            (inputs, plan_input, probe)
        });
        for n in 1..=4 {
            inputs.0.insert(ServiceUse {
                service: ServiceKey(n),
                subscription: SubscriptionKey(n),
                valid: Period::ALWAYS,
            });
            inputs.1.insert(Subscription {
                key: SubscriptionKey(n),
                account: AccountKey(n),
                group: Name(n.max(2)),
                price_lists: [Name(if n == 1 { 6 } else { 5 })].into_iter().collect(),
                valid: Period::ALWAYS,
                status: SubscriptionStatus::Active,
            });
            inputs.2.insert(Account {
                key: AccountKey(n),
                currency: Name(if n == 4 { 8 } else { 7 }),
                profile: BillingProfile::default(),
            });
        }
        for (epoch, (row, diff)) in (1..).zip(plans) {
            planned.update(row, diff);
            inputs.0.advance_to(epoch);
            inputs.1.advance_to(epoch);
            inputs.2.advance_to(epoch);
            planned.advance_to(epoch);
            inputs.0.flush();
            inputs.1.flush();
            inputs.2.flush();
            planned.flush();
            while probe.less_than(&epoch) {
                worker.step();
            }
        }
    });
    let changes: Vec<((ServiceKey, ServiceTimeline), u64, isize)> = receiver.try_iter().collect();
    let mut now = [false; 4];
    let mut seen = Vec::new();
    for epoch in 0..u64::try_from(epochs).unwrap() {
        let added = changes
            .iter()
            .filter(|(_, at, diff)| *at == epoch && *diff > 0);
        for ((service, timeline), _, _) in added {
            let guided = timeline.segments()[0].guide.clone().unwrap();
            now[usize::try_from(service.0 - 1).unwrap()] = guided.ordered;
        }
        seen.push(now);
    }
    seen
}

#[test]
fn a_group_is_charged_in_order_once_a_list_of_it_has_an_allowance() {
    use crate::domain::{Amount, Cap, ChargeWhen, PlanCharge, PlanKey, PlanPart, Proration, Term};
    let row = |part| PlanRow {
        key: PlanKey(1),
        list: Name(6),
        valid: Period::ALWAYS,
        part,
    };
    let cap = |list, currency| PlanRow {
        list: Name(list),
        ..row(PlanPart::Cap(Cap {
            resource: Name(1),
            items: SmallVec::new(),
            limit: Amount::ZERO,
            currency: Name(currency),
            term: Term::BillUnit,
            thresholds: SmallVec::new(),
        }))
    };
    let fee = row(PlanPart::Charge(PlanCharge {
        item: Name(1),
        amount: Amount::ZERO,
        currency: Name(7),
        when: ChargeWhen::Advance,
        term: Term::BillUnit,
        proration: Proration::Prorate,
    }));
    let history = vec![(fee, 1), (cap(6, 7), 1), (cap(5, 8), 1), (cap(6, 7), -1)];
    let expected = [
        [false, false, false, false],
        // The pool of 1, with 2, who has another list.
        [true, true, false, false],
        [true, true, false, true],
        [false, false, false, true],
    ];
    assert_eq!(ordered(history), expected);
}
