//! The advice that goes with records that wait for a price, followed to the letter: the bill is right
//! then.

use crate::hints::{CORRECTED, CORRECTIONS};
use millrace::cli::Exit;
use millrace_operators::domain::Reason;
use millrace_tests::jobs::{Desk, text};

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-03-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls.csv
    mediation:
      columns: { units: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      attributes: { zone: zone, kind: kind }
      charges: { units: units }
";

/// An account of this currency and with these price lists.
fn accounts(currency: &str, lists: &str) -> String {
    format!(
        "accounts:\n  - {{ id: acme, currency: {currency} }}\nsubscriptions:\n  \
         - {{ id: s1, account: acme, service_type: voice, services: [n1], from: 2026-01-01, \
         price_lists: [{lists}] }}\n"
    )
}

/// A fault of reference data, and what the advice says to write instead.
struct Case {
    reason: Reason,
    wrong: (&'static str, &'static str, &'static str),
    advised: (&'static str, &'static str, &'static str),
    total: &'static str,
}

/// Two calls, on 10 January and on 10 February, of 3 units each.
const CALLS: &str = "\
id,number,at,units,zone,kind
1,n1,2026-01-10T00:00:00Z,3,far,day
2,n1,2026-02-10T00:00:00Z,3,far,day
";

#[test]
fn each_reason_of_rating_has_advice_that_leads_to_the_right_bill() {
    let cases = [
        Case {
            reason: Reason::PriceNotFound,
            wrong: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 1, when: { zone: near } }]",
            ),
            advised: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 1, when: { zone: near } }, \
                 { list: std, item: units, price: 2, when: { zone: far } }]",
            ),
            total: "12 USD",
        },
        // The price of February is another, and January's is not made longer.
        Case {
            reason: Reason::PriceNotEffective,
            wrong: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 1, to: 2026-02-01 }]",
            ),
            advised: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 1, to: 2026-02-01 }, \
                 { list: std, item: units, price: 2, from: 2026-02-01 }]",
            ),
            total: "9 USD",
        },
        Case {
            reason: Reason::PriceAmbiguous,
            wrong: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 1, when: { zone: far } }, \
                 { list: std, item: units, price: 2, when: { kind: day } }]",
            ),
            advised: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 1, when: { zone: far }, priority: 1 }, \
                 { list: std, item: units, price: 2, when: { kind: day } }]",
            ),
            total: "6 USD",
        },
        Case {
            reason: Reason::CurrencyMismatch,
            wrong: (
                "EUR",
                "std",
                "prices: [{ list: std, item: units, price: 1 }]",
            ),
            advised: (
                "EUR",
                "euro, std",
                "prices: [{ list: std, item: units, price: 1 }, \
                 { list: euro, item: units, price: 2, currency: EUR }]",
            ),
            total: "12 EUR",
        },
        Case {
            reason: Reason::AmountOutOfRange,
            wrong: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 40000000000000 }]",
            ),
            advised: (
                "USD",
                "std",
                "prices: [{ list: std, item: units, price: 4 }]",
            ),
            total: "24 USD",
        },
        Case {
            reason: Reason::TierReferenceMissing,
            wrong: (
                "USD",
                "std",
                "plans: [{ list: std, from: 2026-02-01, accumulators: [{ id: total, items: [units] }] }]\n\
                 prices: [{ list: std, item: units, model: graduated, by: total, tiers: [{ price: 2 }] }]",
            ),
            advised: (
                "USD",
                "std",
                "plans: [{ list: std, from: 2026-01-01, accumulators: [{ id: total, items: [units] }] }]\n\
                 prices: [{ list: std, item: units, model: graduated, by: total, tiers: [{ price: 2 }] }]",
            ),
            total: "12 USD",
        },
    ];
    for case in cases {
        let desk = Desk::new(&[("job.yaml", JOB), ("calls.csv", CALLS)]);
        let write = |(currency, lists, rows): (&str, &str, &str)| {
            desk.write("accounts.yaml", accounts(currency, lists));
            desk.write("catalog.yaml", format!("currency: USD\n{rows}\n"));
            desk.run()
        };
        let ended = write(case.wrong);
        assert_eq!(ended.exit, Exit::Findings, "{:?}: {ended:?}", case.reason);
        let reason = &ended.summary()["reasons"][0];
        assert_eq!(text(reason, "reason"), case.reason.code());
        assert_eq!(text(reason, "hint"), case.reason.hint());
        let ended = write(case.advised);
        assert_eq!(ended.exit, Exit::Ok, "{:?}: {ended:?}", case.reason);
        assert_eq!(ended.totals(), [case.total], "{:?}", case.reason);
    }
}

/// The bill of two calls by a catalog with these rows.
fn billed(rows: &str, more: &str, job: &str) -> Vec<String> {
    let desk = Desk::new(&[
        ("job.yaml", &format!("{JOB}{job}")),
        ("calls.csv", CALLS),
        (CORRECTED, more),
        ("accounts.yaml", &accounts("USD", "std")),
        ("catalog.yaml", &format!("currency: USD\n{rows}\n")),
    ]);
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
    ended.totals()
}

#[test]
fn a_negative_price_is_refused_with_advice_that_gives_money_back() {
    let price = "prices: [{ list: std, item: units, price: 4 }]";
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("calls.csv", CALLS),
        ("accounts.yaml", &accounts("USD", "std")),
        (
            "catalog.yaml",
            &format!("currency: USD\n{}\n", price.replace('4', "-4")),
        ),
    ]);
    let ended = desk.run();
    assert_eq!(ended.exit, Exit::Unusable, "{ended:?}");
    let credit = "`allowances: [{ id: credit, money: 10 }]`";
    for advised in ["write 0 or more", credit, "by a correction of its record"] {
        assert!(ended.err.contains(advised), "{}", ended.err);
    }
    assert_eq!(billed(&price.replace('4', "0"), "", ""), ["0 USD"]);
    // In each of two months 12 are used, of which 10 are credited.
    let credited = format!(
        "plans: [{{ list: std, {} }}]\n{price}",
        credit.trim_matches('`')
    );
    assert_eq!(billed(&credited, "", ""), ["4 USD"]);
    let void = "id,number,at,units,kind\n2,n1,2026-02-10T00:00:00Z,3,void\n";
    assert_eq!(billed(price, void, CORRECTIONS), ["12 USD"]);
}
