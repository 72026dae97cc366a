//! Usage of one balance group that several price lists charge: each record by exactly one price, and a
//! price by the total exactly what was charged under it.

use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, text};
use std::collections::BTreeMap;

const JOB: &str = "\
name: calls
time_zone: UTC
clock: 2026-04-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
sources:
  - name: switch
    platform: switch
    service_type: x
    path: usage.csv
    mediation:
      columns: { t: timestamp, n: bigint }
      identity: position
      service: who
      time: t
      charges: { n: n }
";

/// What the accounts are billed: `account amount` each. Usage is `day service units`.
fn billed(catalog: &str, subscriptions: &str, usage: &[(u32, &str, u32)]) -> Vec<String> {
    let rows = usage
        .iter()
        .map(|(day, who, n)| format!("2026-03-{day:02}T10:00:00Z,{who},{n}\n"));
    let desk = Desk::new(&[
        ("job.yaml", JOB),
        ("catalog.yaml", &format!("currency: USD\n{catalog}\n")),
        (
            "accounts.yaml",
            &format!(
                "accounts: [{{ id: acme, currency: USD }}, {{ id: bolt, currency: USD }}]\nsubscriptions:\n{subscriptions}\n"
            ),
        ),
        (
            "usage.csv",
            &format!("t,who,n\n{}", rows.collect::<String>()),
        ),
    ]);
    let ended = desk.run();
    assert_eq!(
        ended.exit,
        Exit::Ok,
        "{catalog}\n{subscriptions}\n{ended:?}"
    );
    let lines = desk.snapshot("aggregated");
    let line = |line: &serde_json::Value| {
        let amount = text(line, "amount");
        let (whole, rest) = amount.split_once('.').unwrap_or((amount, ""));
        let rest = rest.trim_end_matches('0');
        assert_eq!(rest, "", "{line}");
        format!("{} {whole}", text(line, "account"))
    };
    let mut lines: Vec<String> = lines.iter().map(line).collect();
    lines.sort();
    lines
}

/// Plans of both lists, each with its counter of `n`, where it has one.
fn plans(standard: &str, own: &str) -> String {
    let plan = |list: &str, id: &str| match id {
        "" => String::new(),
        id => format!("  - {{ list: {list}, accumulators: [{{ id: {id}, items: [n] }}] }}\n"),
    };
    format!("plans:\n{}{}", plan("standard", standard), plan("b", own))
}

fn catalog(counters: (&str, &str), standard: &str, own: &str) -> String {
    let plans = plans(counters.0, counters.1);
    format!("{plans}prices: [{{ item: n, {standard} }}, {{ list: b, item: n, {own} }}]")
}

const BOTH_LISTS: &str = "  - { id: s, account: acme, price_lists: [b, standard], from: 2026-03-01, service_type: x, services: [a] }";
const GROUP: &str = "  - { id: s, account: acme, group: g, from: 2026-03-01, service_type: x, services: [a] }
  - { id: s2, account: acme, group: g, price_lists: [b], from: 2026-03-01, service_type: x, services: [b] }";
const CHANGE: &str =
    "  - { id: s, account: acme, from: 2026-03-01, to: 2026-03-06, service_type: x, services: [a] }
  - { id: s, account: acme, price_lists: [b], from: 2026-03-06, service_type: x, services: [a] }";

const VOLUME: &str = "model: volume, by: tot, tiers: [{ price: 1 }]";

#[test]
fn a_volume_charges_what_was_charged_under_it_and_nothing_else() {
    let other = |by: &str| format!("model: volume, by: {by}, tiers: [{{ price: 2 }}]");
    let of_two: &[(u32, &str, u32)] = &[(2, "a", 10), (3, "b", 10)];
    let of_one: &[(u32, &str, u32)] = &[(2, "a", 10), (10, "a", 10)];
    let cases = [
        // Another list comes first, and charges all.
        (("tot", ""), "price: 7", BOTH_LISTS, &[(2, "a", 10)][..], 70),
        // Two lists in one group: 10 at 1, 10 at 7.
        (("tot", ""), "price: 7", GROUP, of_two, 80),
        (("tot", "tot"), "price: 7", GROUP, of_two, 80),
        // 10 at 1, 10 at 2, by counters of two names or of one.
        (("tot", "totb"), &other("totb"), GROUP, of_two, 30),
        (("tot", "tot"), &other("tot"), GROUP, of_two, 30),
        // The list changes in mid-month.
        (("tot", ""), "price: 7", CHANGE, of_one, 80),
        (("tot", "tot"), "price: 7", CHANGE, of_one, 80),
        (("tot", "tot"), &other("tot"), CHANGE, of_one, 30),
        (("tot", "totb"), &other("totb"), CHANGE, of_one, 30),
    ];
    for (counters, own, subscriptions, usage, total) in cases {
        let catalog = catalog(counters, VOLUME, own);
        let found = billed(&catalog, subscriptions, usage);
        assert_eq!(
            found,
            [format!("acme {total}")],
            "{catalog}\n{subscriptions}"
        );
    }
    // Each account pays for its own.
    let two = GROUP.replace("s2, account: acme", "s2, account: bolt");
    let catalog = catalog(("tot", "tot"), VOLUME, &other("tot"));
    let found = billed(&catalog, &two, of_two);
    assert_eq!(found, ["acme 10", "bolt 20"]);
}

#[test]
fn the_tier_of_a_volume_is_that_of_all_that_its_counter_counts() {
    let standard = "model: volume, by: tot, tiers: [{ price: 1 }, { from: 20, price: 0.5 }]";
    let catalog = catalog(("tot", ""), standard, "price: 7");
    // 10 at 0.50, 10 at 7; one less in all, and it is 10 at 1.
    let found = billed(&catalog, GROUP, &[(2, "a", 10), (3, "b", 10)]);
    assert_eq!(found, ["acme 75"]);
    let found = billed(&catalog, GROUP, &[(2, "a", 10), (3, "b", 9)]);
    assert_eq!(found, ["acme 73"]);
}

#[test]
fn a_list_that_is_left_prices_its_volume_by_the_row_that_was_in_force_last_while_it_was_held() {
    let standard = "model: volume, by: tot, tiers: [{ price: 1 }], to: 2026-03-10 }, \
                    { item: n, model: volume, by: tot, tiers: [{ price: 3 }], from: 2026-03-10";
    let catalog = catalog(("tot", ""), standard, "price: 7");
    let found = billed(&catalog, CHANGE, &[(2, "a", 10), (20, "a", 10)]);
    assert_eq!(found, ["acme 80"]);
}

#[test]
fn a_package_is_started_by_what_it_charges_alone() {
    let package = "model: package, by: tot, price: 10, block: 50";
    let twice = |by: &str| format!("model: package, by: {by}, price: 20, block: 50");
    let usage: &[(u32, &str, u32)] = &[(2, "a", 10), (3, "b", 60), (4, "a", 30), (5, "a", 20)];
    // Sixty units at standard start two packages, sixty at the other list two of its own.
    for (counters, own, total) in [
        (("tot", "totb"), twice("totb"), 60),
        (("tot", "tot"), twice("tot"), 60),
        (("tot", ""), "price: 1".to_owned(), 80),
    ] {
        let catalog = catalog(counters, package, &own);
        assert_eq!(
            billed(&catalog, GROUP, usage),
            [format!("acme {total}")],
            "{catalog}"
        );
    }
}

#[test]
fn any_mix_of_lists_comes_to_the_sum_of_what_each_charges() {
    let mut dice = Dice(7);
    for _ in 0..12 {
        let prices = [dice.roll(9) + 1, dice.roll(9) + 1];
        let counters = *dice.pick(&[("tot", "tot"), ("tot", "totb")]);
        let own = match dice.one_in(2) {
            true => format!(
                "model: volume, by: {}, tiers: [{{ price: {} }}]",
                counters.1, prices[1]
            ),
            false => format!("price: {}", prices[1]),
        };
        let standard = VOLUME.replace("price: 1", &format!("price: {}", prices[0]));
        let catalog = catalog(counters, &standard, &own);
        let (subscriptions, changes) = match dice.one_in(2) {
            true => (GROUP, false),
            false => (CHANGE, true),
        };
        let usage: Vec<(u32, &str, u32)> = (0..1 + dice.roll(6))
            .map(|_| {
                let who = if changes {
                    "a"
                } else {
                    *dice.pick(&["a", "b"])
                };
                let (day, units) = (1 + dice.roll(30), dice.roll(40));
                (
                    u32::try_from(day).unwrap(),
                    who,
                    u32::try_from(units).unwrap(),
                )
            })
            .collect();
        let mut charged: BTreeMap<bool, u64> = BTreeMap::new();
        for (day, who, units) in &usage {
            let by_own = *who == "b" || (changes && *day >= 6);
            *charged.entry(by_own).or_default() += u64::from(*units);
        }
        let of = |by_own: bool| charged.get(&by_own).copied().unwrap_or(0);
        let total = of(false) * prices[0] + of(true) * prices[1];
        let found = billed(&catalog, subscriptions, &usage);
        let expected = [format!("acme {total}")];
        assert_eq!(found, expected, "{catalog}\n{subscriptions}\n{usage:?}");
    }
}
