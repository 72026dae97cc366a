//! Prices beside the parts of plans: each pair is right, however usage is cut into records, or refused
//! with advice that leads to the right bill. And what counts towards a commitment.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, millrace};

const JOB: &str = "\
name: calls
time_zone: UTC
clock: CLOCK
catalog: [catalog.yaml]
accounts: [accounts.yaml]
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: calls.csv
    mediation:
      columns: { units: bigint, at: timestamp, other: { type: bigint, may_be: absent } }
      identity: [id]
      service: number
      time: at
      charges: { units: units, other: other }
";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [n1], from: SINCE }
";

/// A job of one customer with these parts of a plan and prices, and calls of so many units.
fn desk(parts: &str, prices: &str, calls: &[u32], (since, clock): (&str, &str)) -> Desk {
    let catalog =
        format!("currency: USD\nplans:\n  - from: 2026-01-01\n{parts}\nprices:\n{prices}\n");
    let rows = calls.iter().enumerate().map(|(id, units)| {
        let (day, hour) = (id / 20 + 5, id % 20);
        format!("{id},n1,2026-01-{day:02}T{hour:02}:00:00Z,{units}\n")
    });
    let calls = format!("id,number,at,units\n{}", rows.collect::<String>());
    Desk::new(&[
        ("job.yaml", &JOB.replace("CLOCK", clock)),
        ("catalog.yaml", &catalog),
        ("accounts.yaml", &ACCOUNTS.replace("SINCE", since)),
        ("calls.csv", &calls),
    ])
}

const JANUARY: (&str, &str) = ("2026-01-01", "2026-02-02");

fn run(parts: &str, prices: &str, calls: &[u32]) -> Ended {
    desk(parts, prices, calls, JANUARY).run()
}

/// The bill of twelve units, in one record and in twelve; nothing where it is refused, by `check` too.
fn bills(parts: &str, prices: &str) -> Option<[String; 2]> {
    let one = desk(parts, prices, &[12], JANUARY);
    let job = one.at("job.yaml").display().to_string();
    let ended = one.run();
    if ended.exit == Exit::Unusable {
        let checked = millrace(&["check", &job]);
        assert_eq!(checked.exit, Exit::Unusable, "{checked:?}");
        assert!(checked.out.contains("catalog.yaml:"), "{checked:?}");
        return None;
    }
    let total = |ended: Ended| {
        assert_eq!(ended.exit, Exit::Ok, "{parts}{prices}: {ended:?}");
        ended.totals().join(", ").replace(" USD", "")
    };
    Some([total(ended), total(run(parts, prices, &[1; 12]))])
}

const COUNTERS: &str = "    accumulators:\n      - { id: total, items: [units] }\n";

/// What money has offset needs no units: they are drawn first, whatever the priorities and ends say.
#[test]
fn included_units_are_drawn_before_money_whatever_their_priorities() {
    let price = "  - { item: units, price: 1 }";
    for (money, units) in [(0, 1), (1, 0), (-5, 5), (0, 0)] {
        // The week of money ends before the month of units.
        for cycle in ["", ", cycle: week, anchor: 2026-01-05"] {
            let parts = format!(
                "    allowances:\n      - {{ id: promo, money: 20, priority: {money}{cycle} }}\n\
                 \x20     - {{ id: pool, units: 100, priority: {units} }}"
            );
            let ended = run(&parts, price, &[30, 100]);
            assert_eq!(ended.totals(), ["10 USD"], "{parts}: {}", ended.err);
        }
    }
}

#[test]
fn each_price_beside_each_part_of_a_plan_is_right_or_refused() {
    let models = [
        "price: 2",
        "price: 10, block: 5",
        "price: 3, model: per_record",
        "model: graduated, tiers: [{ price: 2 }, { from: 5, price: 1 }]",
        "model: graduated, by: total, tiers: [{ price: 2 }, { from: 5, price: 1 }]",
        "model: volume, by: total, tiers: [{ price: 2 }, { from: 11, price: 1 }]",
        "model: package, by: total, price: 7, block: 5",
    ];
    // The bill in one record, in twelve; one number where it must be the same.
    let features: [(&str, [&str; 7]); 7] = [
        ("", ["24", "30/120", "3/36", "17/24", "17", "12", "21"]),
        (
            "    allowances: [{ id: free, units: 4 }]\n",
            // A tier gives back its share: four of twelve units.
            [
                "16", "refused", "refused", "9/16", "9", "refused", "refused",
            ],
        ),
        (
            "    allowances: [{ id: credit, money: 5 }]\n",
            ["19", "25/115", "0/31", "12/19", "12", "refused", "16"],
        ),
        (
            "    caps: [{ id: most, limit: 15 }]\n",
            ["15", "15", "3/15", "15", "15", "refused", "15"],
        ),
        (
            "    commitments: [{ id: least, amount: 30 }]\n",
            ["30", "30/120", "30/36", "30", "30", "refused", "30"],
        ),
        (
            "    commitments: [{ id: least, amount: 30, counts: money }]\n",
            ["30", "30/120", "30/36", "30", "30", "refused", "30"],
        ),
        (
            "    allowances: [{ id: free, units: 4 }]\n    commitments: [{ id: least, amount: 30 }]\n",
            ["30", "refused", "refused", "30", "30", "refused", "refused"],
        ),
    ];
    for (feature, expected) in features {
        for (model, expected) in models.iter().zip(expected) {
            let parts = format!("{COUNTERS}{feature}");
            let found = bills(&parts, &format!("  - {{ item: units, {model} }}"));
            let found = match found {
                None => "refused".to_owned(),
                Some([one, twelve]) if one == twelve => one,
                Some([one, twelve]) => format!("{one}/{twelve}"),
            };
            assert_eq!(found, expected, "{model} beside\n{feature}");
        }
    }
}

#[test]
fn totals_that_do_not_count_the_item_whole_are_refused() {
    let tiers = "tiers: [{ price: 2 }, { from: 5, price: 1 }]";
    let graduated = format!("  - {{ item: units, model: graduated, by: total, {tiers} }}");
    let volume = format!("  - {{ item: units, model: volume, by: total, {tiers} }}");
    let package = "  - { item: units, model: package, by: total, price: 7, block: 5 }".to_owned();
    let counter = |what: &str| format!("    accumulators:\n      - {{ id: total, {what} }}\n");
    for prices in [&graduated, &volume, &package] {
        for what in ["items: [other]", "percent: 50"] {
            assert_eq!(bills(&counter(what), prices), None, "{prices} by {what}");
        }
    }
    for prices in [&volume, &package] {
        for what in ["activation: 2", "recurring: 2", "counts: money"] {
            let what = format!("items: [units], {what}");
            assert_eq!(bills(&counter(&what), prices), None, "{prices} by {what}");
        }
    }
    // What is counted before the first unit moves the tiers, on purpose.
    let known = bills(&counter("items: [units], recurring: 3"), &graduated);
    assert_eq!(known.unwrap(), ["14", "14"]);
}

#[test]
fn a_volume_beside_another_price_of_the_item_is_refused() {
    let volume = "  - { item: units, model: volume, by: total, tiers: [{ price: 2 }] }\n";
    for other in [
        "  - { item: units, price: 1, when: { zone: far } }",
        "  - { item: units, price: 1, account: acme }",
    ] {
        assert_eq!(
            bills(COUNTERS, &format!("{volume}{other}")),
            None,
            "{other}"
        );
    }
    // A volume price that ends within a cycle prices what came before its end.
    let ends =
        "  - { item: units, model: volume, by: total, tiers: [{ price: 2 }], to: 2026-01-20 }";
    assert_eq!(bills(COUNTERS, ends).unwrap(), ["24", "24"]);
}

#[test]
fn the_advice_of_refused_combinations_leads_to_the_right_bill() {
    let volume = "  - { item: units, model: volume, by: total, tiers: [{ price: 2 }, { from: 11, price: 1 }] }";
    let free =
        |items: &str| format!("{COUNTERS}    allowances: [{{ id: free, units: 4{items} }}]\n");
    let refused = run(&free(""), volume, &[12]);
    assert_eq!(refused.exit, Exit::Unusable, "{refused:?}");
    let hint = "give \"free\" `items` without \"units\", or price \"units\" by another model, like \
                `model: graduated` by the same accumulator";
    assert!(refused.err.contains(hint), "{}", refused.err);
    assert!(
        refused.err.contains("the allowance \"free\" at"),
        "{}",
        refused.err
    );
    assert_eq!(
        bills(&free(", items: [other]"), volume).unwrap(),
        ["12", "12"]
    );
    let graduated = volume.replace("volume", "graduated");
    // Eleven at 2, one at 1, of which the first four are free.
    assert_eq!(bills(&free(""), &graduated).unwrap(), ["15", "15"]);

    // A maximum under the minimum.
    let both = |limit: u32, amount: u32| {
        let parts = format!(
            "    caps: [{{ id: most, limit: {limit} }}]\n    commitments: [{{ id: least, amount: {amount} }}]\n"
        );
        bills(&parts, "  - { item: units, price: 2 }")
    };
    assert_eq!(both(15, 30), None);
    assert_eq!(both(15, 15).unwrap(), ["15", "15"]);
    assert_eq!(both(30, 30).unwrap(), ["30", "30"]);
}

#[test]
fn a_maximum_under_the_minimum_is_refused_however_their_terms_are_written() {
    let billed = |limit: u32, cap: &str, amount: u32, least: &str, billing: &str| {
        let parts = format!(
            "    caps: [{{ id: most, limit: {limit}{cap} }}]\n    commitments: [{{ id: least, amount: {amount}{least} }}]\n"
        );
        let desk = desk(&parts, "  - { item: units, price: 2 }", &[12], JANUARY);
        let accounts = ACCOUNTS.replace("SINCE", "2026-01-01");
        let accounts = accounts.replace("USD }", &format!("USD{billing} }}"));
        desk.write("accounts.yaml", accounts);
        let ended = desk.run();
        let refused = ended.err.contains("more than") && ended.exit == Exit::Unusable;
        assert_eq!(refused, ended.exit != Exit::Ok, "{ended:?}");
        !refused
    };
    // Each pair is one term.
    for (cap, least, billing) in [
        ("", "", ""),
        (", cycle: month", "", ""),
        ("", ", cycle: month", ""),
        (", cycle: month", ", cycle: month, anchor: account", ""),
        (", cycle: month, anchor: subscription", "", ""),
        (", cycle: month, anchor: 2026-01-01", "", ""),
        ("", ", cycle: month, anchor: 2025-12-01", ""),
        (", cycle: quarter", ", cycle: month, every: 3", ""),
        (", cycle: month, every: 12", ", cycle: year", ""),
        (", cycle: week", ", cycle: day, every: 7", ""),
        (
            ", cycle: quarter",
            "",
            ", billing: { cycle: month, every: 3 }",
        ),
        (
            "",
            ", cycle: month, anchor: 2026-03-15",
            ", billing: { anniversary: 2026-01-15 }",
        ),
    ] {
        let told = (cap, least, billing);
        assert!(!billed(15, cap, 30, least, billing), "{told:?}");
        assert!(billed(30, cap, 30, least, billing), "{told:?}");
    }
    // Terms of which one holds several of the other: three months of 10 are less than a quarter of 31.
    for (limit, cap, amount, least) in [
        (10, "", 31, ", cycle: quarter"),
        (32, ", cycle: quarter", 11, ""),
        (1, ", cycle: day", 32, ", cycle: month"),
    ] {
        let told = (limit, cap, amount, least);
        assert!(!billed(limit, cap, amount, least, ""), "{told:?}");
        assert!(billed(limit + 1, cap, amount, least, ""), "{told:?}");
    }
    // Of other beginnings, nothing is said before it is certain.
    assert!(billed(15, ", cycle: month, anchor: 2026-01-15", 30, "", ""));
}

#[test]
fn a_minimum_is_the_least_that_is_charged() {
    let bill = |commitment: &str, more: &str| {
        let parts = format!(
            "    allowances: [{{ id: free, units: 8 }}{more}]\n    \
             charges: [{{ item: fee, amount: 10, when: arrears }}, {{ item: setup, amount: 1, when: activation }}]\n    \
             commitments: [{{ id: least, amount: 50{commitment} }}]\n"
        );
        let price = "  - { item: units, price: 3 }";
        let ended = run(&parts, price, &[15, 5]);
        assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
        assert_eq!(ended.totals(), run(&parts, price, &[1; 20]).totals());
        ended.totals().join(", ")
    };
    // 12 of 20 at 3 are 36, beside 11 of fees: 14 are lacking.
    assert_eq!(bill("", ""), "61 USD");
    assert_eq!(bill(", counts: spend", ""), "61 USD");
    // Before the allowance 60: nothing is.
    assert_eq!(bill(", counts: money", ""), "47 USD");
    // The fee of every month counts, that of the activation does not: 4 are.
    assert_eq!(bill(", counts: [usage, recurring]", ""), "51 USD");
    assert_eq!(bill(", counts: recurring", ""), "87 USD");
    assert_eq!(bill(", counts: [money, recurring]", ""), "47 USD");
    // Money that an allowance pays is spent.
    assert_eq!(bill("", ", { id: credit, money: 5 }"), "56 USD");
}

#[test]
fn a_contract_year_begins_where_it_is_anchored() {
    let bill = |anchor: &str, clock: &str| {
        let parts =
            format!("    commitments: [{{ id: least, amount: 365, cycle: year{anchor} }}]\n");
        let desk = desk(
            &parts,
            "  - { item: units, price: 1 }",
            &[5],
            ("2026-01-04", clock),
        );
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Ok, "{ended:?}");
        ended.totals().join(", ")
    };
    // Of the account's calendar year 362 days are the subscription's.
    assert_eq!(bill("", "2027-01-02"), "362 USD");
    assert_eq!(bill(", anchor: account", "2027-01-02"), "362 USD");
    assert_eq!(bill(", anchor: subscription", "2027-01-02"), "5 USD");
    assert_eq!(bill(", anchor: subscription", "2027-01-05"), "365 USD");
    // A year that began with October holds 270 of its days.
    assert_eq!(bill(", anchor: 2025-10-01", "2026-10-02"), "270 USD");
}

#[test]
fn what_commitments_cannot_be_is_refused_with_the_word_meant() {
    for (commitment, message) in [
        ("counts: spent", "did you mean \"spend\"?"),
        (
            "counts: [spend, money]",
            "usage counts either as `spend` or as `money`",
        ),
        (
            "counts: recurring",
            "the price list has no recurring charge to count",
        ),
        ("anchor: subscription", "\"anchor\" needs \"cycle\""),
        (
            "cycle: year, anchor: birth",
            "write `account`, `subscription`, or a date",
        ),
        ("accumulator: part", "counts a share, by \"percent\""),
        (
            "accumulator: spent, items: [units]",
            "leave `accumulator` out",
        ),
    ] {
        let parts = format!(
            "    accumulators:\n      - {{ id: spent, counts: money }}\n      \
             - {{ id: part, counts: money, percent: 50 }}\n    \
             commitments: [{{ id: least, amount: 50, {commitment} }}]\n"
        );
        let ended = run(&parts, "  - { item: units, price: 3 }", &[1]);
        assert_eq!(ended.exit, Exit::Unusable, "{commitment}: {ended:?}");
        assert!(ended.err.contains(message), "{commitment}: {}", ended.err);
    }
}
