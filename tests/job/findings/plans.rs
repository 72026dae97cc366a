//! Hints about parts of plans, each by itself and beside others of its name.

use super::*;

/// A catalog of these plans, in which a unit costs 1.
fn plans(plans: &str) -> Edit {
    put(CATALOG, format!("{CATALOG_TEXT}plans: [{plans}]\n"))
}

/// A part of the plan that is refused, and the one that the hint says.
fn part(message: &'static str, hint: &'static str, kind: &str, wrong: &str, right: &str) -> Case {
    let of = |fields: &str| plans(&format!("{{ {kind}: [{{ {fields} }}] }}"));
    Case::refused(message, hint)
        .wrong(of(wrong))
        .right(of(right))
}

fn allowance(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |fields: &str| format!("id: free, {fields}");
    part(message, hint, "allowances", &of(wrong), &of(right))
}

fn charge(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |fields: &str| format!("item: fee, amount: 3, {fields}");
    part(message, hint, "charges", &of(wrong), &of(right))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = allowances();
    cases.extend(terms());
    cases.extend(twins());
    cases.extend(groups());
    cases.extend(currencies());
    cases
}

fn allowances() -> Vec<Case> {
    let size = "write either `units: 100` or `money: 100`";
    let digits = "write digits with a point, like 100 or 0.0025";
    let two = "units: 2";
    vec![
        allowance(
            "the allowance has no size",
            size,
            "priority: 1",
            "priority: 1, units: 100",
        )
        .total("0 USD"),
        allowance(
            "of units or of money, not of both",
            size,
            "units: 2, money: 3",
            "money: 3",
        )
        .total("4 USD"),
        allowance(
            "\"currency\" does not go with an allowance of units",
            "leave it out",
            "units: 2, currency: USD",
            two,
        )
        .total("5 USD"),
        allowance(
            "\"lasts\" does not go with a recurring allowance",
            "leave it out",
            "units: 2, lasts: 1",
            two,
        )
        .total("5 USD"),
        allowance(
            "\"proration\" does not go with an allowance granted once",
            "leave it out",
            "units: 2, grant: once, proration: no_charge",
            "units: 2, grant: once",
        )
        .total("5 USD"),
        allowance("\"two\" is not a decimal number", digits, "units: two", two).total("5 USD"),
        allowance(
            "\"units\" is out of range",
            "at most 12 decimals are held",
            "units: 2.0000000000001",
            "units: 2.000000000000",
        )
        .total("5 USD"),
        allowance(
            "\"money\" is out of range",
            "at most 24 decimals are held",
            "money: 2.0000000000000000000000001",
            "money: 2",
        )
        .total("5 USD"),
        allowance(
            "\"money\" is out of range",
            "write 85070591730234 or less",
            "money: 100000000000000",
            "money: 85070591730234",
        )
        .total("0 USD"),
        allowance(
            "not a percent from 1 to 100: \"150\"",
            "\"thresholds\" are whole percents used, like [50, 80, 100]",
            "units: 2, thresholds: [150]",
            "units: 2, thresholds: [50, 80, 100]",
        )
        .total("5 USD"),
        allowance(
            "\"rollover_cap\" needs \"rollover_cycles\"",
            "like `rollover_cycles: 1`",
            "units: 2, rollover_cap: 1",
            "units: 2, rollover_cap: 1, rollover_cycles: 1",
        )
        .total("5 USD"),
        allowance(
            "unknown grant \"onec\"",
            "did you mean \"once\"?",
            "units: 2, grant: onec",
            "units: 2, grant: once",
        )
        .total("5 USD"),
        allowance(
            "unknown key \"unit\"",
            "did you mean \"units\"?",
            "unit: 2, money: 3",
            "units: 2",
        )
        .total("5 USD"),
        allowance(
            "`items` is an empty list",
            "name the items, or leave the key out",
            "units: 2, items: []",
            "units: 2",
        )
        .total("5 USD"),
    ]
}

fn terms() -> Vec<Case> {
    let anchor = "write `account`, `subscription`, or a date like 2026-04-01";
    let advance = |more: &str| format!("when: advance{more}");
    let needs = |hint, wrong: &str, right: &str, total| {
        let message = match wrong.contains("anchor") {
            true => "\"anchor\" needs \"cycle\"",
            false => "\"every\" needs \"cycle\"",
        };
        charge(message, hint, &advance(wrong), &advance(right)).total(total)
    };
    vec![
        charge(
            "\"anchor\" is not known: \"birth\"",
            anchor,
            &advance(", cycle: month, anchor: birth"),
            &advance(", cycle: month, anchor: subscription"),
        )
        .total("10 USD"),
        charge(
            "\"anchor\" is not known: \"April\"",
            anchor,
            &advance(", cycle: month, anchor: April"),
            &advance(", cycle: month, anchor: 2026-04-01"),
        )
        .total("10 USD"),
        needs(
            "add `cycle: year`, or leave `anchor` out",
            ", anchor: subscription, proration: full_charge",
            ", anchor: subscription, proration: full_charge, cycle: year",
            "10 USD",
        ),
        needs(
            "or leave `anchor` out for the account's billing cycle",
            ", anchor: subscription",
            "",
            "10 USD",
        ),
        needs(
            "add `cycle: month`, or leave out `every`",
            ", every: 1",
            ", every: 1, cycle: month",
            "10 USD",
        ),
        needs(
            "or leave out `every` for the account's billing cycle",
            ", every: 1",
            "",
            "10 USD",
        ),
        charge(
            "\"every\" is 500, of cycle year",
            "write at most 100, which is a century",
            &advance(", cycle: year, every: 500, proration: full_charge"),
            &advance(", cycle: year, every: 100, proration: full_charge"),
        )
        .total("10 USD"),
        charge(
            "\"cycle\" does not go with a charge at activation",
            "leave it out",
            "when: activation, cycle: month",
            "when: activation",
        )
        .total("10 USD"),
        charge(
            "unknown when \"begin\"",
            "one of activation, advance, arrears",
            "when: begin",
            "when: advance",
        )
        .total("10 USD"),
    ]
}

/// Parts of one name.
fn twins() -> Vec<Case> {
    let two = |first: &str, second: &str| {
        plans(&format!(
            "{{ allowances: [{{ {first} }}, {{ {second} }}] }}"
        ))
    };
    let dated = |first: &str, second: &str| {
        plans(&format!(
            "{{ allowances: [{{ id: free, units: 2, proration: full_charge }}]{first} }}, {{ from: 2026-03-15, allowances: [{{ id: {second}, units: 3, proration: full_charge }}] }}"
        ))
    };
    let overlap = || {
        Case::refused(
            "\"free\" of the price list \"standard\" is defined at",
            "end the plan of one where that of the other begins, or rename one",
        )
        .wrong(dated("", "free"))
    };
    vec![
        // Two and one of seven are free.
        Case::refused(
            "is given twice; first at",
            "give each part of a plan its own id",
        )
        .wrong(two("id: free, units: 2", "id: free, units: 1"))
        .right(two("id: free, units: 2", "id: extra, units: 1"))
        .total("4 USD"),
        // Alike, one was lost: two of seven are free, or four.
        Case::refused(
            "is given twice, alike, and holds once; first at",
            "leave one of the two out",
        )
        .wrong(two("id: free, units: 2", "id: free, units: 2"))
        .right(plans("{ allowances: [{ id: free, units: 2 }] }"))
        .total("5 USD"),
        Case::refused(
            "is given twice, alike, and holds once; first at",
            "or give it an id of its own: then both hold",
        )
        .wrong(two("id: free, units: 2", "id: free, units: 2"))
        .right(two("id: free, units: 2", "id: extra, units: 2"))
        .total("3 USD"),
        Case::refused(
            "is given twice, alike, and holds once; first at",
            "or give it an id of its own: then both hold",
        )
        .wrong(plans(&format!("{FEE}, {FEE}")))
        .right(plans(&format!(
            "{FEE}, {}",
            FEE.replace("item", "id: more, item")
        )))
        .total("13 USD"),
        // Two of the first three are free, and three of the other four.
        overlap()
            .right(dated(", to: 2026-03-15", "free"))
            .total("2 USD"),
        overlap().right(dated("", "extra")).total("2 USD"),
    ]
}

const FEE: &str = "{ charges: [{ item: fee, amount: 3, when: advance }] }";

const ONE: &str = "  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-03-01, to: 2026-04-01, group: ours";

/// An accounts file of two subscriptions of one group, the second with another price list.
fn shared(first: &str, second: &str) -> Edit {
    let accounts = format!(
        "\
accounts:
  - {{ id: acme, currency: USD }}
  - {{ id: bolt, currency: USD{second} }}
subscriptions:
{ONE}{first} }}
{}{first} }}
",
        ONE.replace("s1", "s2")
            .replace("acme", "bolt")
            .replace("n1", "n2")
    );
    put(ACCOUNTS, accounts)
}

/// Subscriptions that share balances.
fn groups() -> Vec<Case> {
    let undated = "  - { id: s1, account: acme, service_type: voice, services: [n1] }\n";
    let counted = "{ accumulators: [{ id: total, items: [units] }] }";
    let lists = ", price_lists: [standard, gold]";
    let of_two = |standard: &str, gold: &str| {
        plans(&format!(
            "{{ caps: [{{ id: most, {standard} }}] }}, {{ list: gold, caps: [{{ {gold} }}] }}"
        ))
    };
    let differently = || {
        Case::refused(
            "\"most\" is counted differently at",
            "define it alike for every price list of the group, or rename one",
        )
        .wrong(shared(lists, ""))
        .wrong(of_two("limit: 5", "id: most, limit: 5, items: [units]"))
    };
    let sized = || {
        Case::refused(
            "\"most\" has another size at",
            "give it one size in both, or rename one: then each holds by itself",
        )
        .wrong(shared(lists, ""))
        .wrong(of_two("limit: 5", "id: most, limit: 6"))
    };
    let months = ", billing: { anniversary: 2026-03-15 }";
    vec![
        Case::refused(
            "has no `from`, and the plan of its list \"standard\" begins with it",
            "write the first day of the subscription, like `from: 2026-01-31`",
        )
        .wrong(plans("{ allowances: [{ id: free, units: 2 }] }"))
        .wrong(put(
            ACCOUNTS,
            format!("accounts:\n  - {{ id: acme, currency: USD }}\nsubscriptions:\n{undated}"),
        ))
        .right(swap(
            ACCOUNTS,
            "services: [n1]",
            "services: [n1], from: 2026-01-31",
        ))
        .total("5 USD"),
        Case::refused(
            "has accounts with two billing cycles",
            "need accounts with one billing cycle",
        )
        .wrong(plans(counted))
        .wrong(shared("", months))
        .right(shared("", "")),
        differently()
            .right(of_two("limit: 5", "id: most, limit: 5"))
            .total("5 USD"),
        // Each cap holds by itself, and the lower is met first.
        differently()
            .right(of_two("limit: 5", "id: other, limit: 6, items: [units]"))
            .total("5 USD"),
        sized()
            .right(of_two("limit: 6", "id: most, limit: 6"))
            .total("6 USD"),
        sized()
            .right(of_two("limit: 5", "id: other, limit: 6"))
            .total("5 USD"),
    ]
}

/// Parts of another currency than somebody is billed in.
fn currencies() -> Vec<Case> {
    let credit = "{ id: credit, money: 3 }";
    let euros = "currency: USD\nprices: [{ item: units, price: 1 }, { item: units, price: 2, list: euro, currency: EUR }]\n";
    let accounts = |lists: &str| {
        format!(
            "{}  - {{ id: s2, account: bolt, service_type: voice, services: [n2], from: 2026-03-01, to: 2026-04-01, price_lists: [{lists}] }}\n",
            ACCOUNTS_TEXT.replace("USD }", "USD }\n  - { id: bolt, currency: EUR }")
        )
    };
    let case = || {
        Case::doubtful("4 USD, 12 EUR", "is in USD, and the account \"bolt\" with that list is billed in EUR: it does not get it", "add one with `currency: EUR` and an id of its own, or give accounts of EUR a price list of their own")
            .wrong(put(USAGE, format!("{USAGE_TEXT}3,n2,2026-03-20T00:00:00Z,6,far\n")))
            .wrong(put(CATALOG, format!("{euros}plans: [{{ allowances: [{credit}] }}]\n")))
            .wrong(put(ACCOUNTS, accounts("euro, standard")))
    };
    vec![
        // Of 12 EUR three are credited, too.
        case()
            .right(swap(
                CATALOG,
                credit,
                format!("{credit}, {{ id: euros, money: 3, currency: EUR }}"),
            ))
            .total("4 USD, 9 EUR"),
        case()
            .right(swap(ACCOUNTS, "[euro, standard]", "[euro]"))
            .total("4 USD, 12 EUR"),
    ]
}
