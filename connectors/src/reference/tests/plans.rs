//! Plans, tiers and balance groups in YAML: what they become, and every way of getting them wrong.

use super::{findings, load};
use crate::names::Names;
use crate::reference::{Reference, ReferenceChanges};
use millrace_operators::domain::{
    ChargeWhen, Counts, Cycle, Grant, Measure, Name, PlanPart, PriceModel, Proration, Term,
    TierReference,
};

const GOLD: &str = "\
currency: USD
plans:
  - list: gold
    from: 2026-01-01
    allowances:
      - { id: minutes, items: [calls, texts], units: 100.5, priority: -1, cycle: week, every: 2,
          rollover_cycles: 2, rollover_cap: 40 }
      - { id: welcome, items: [calls], money: 5, grant: once, lasts: 3, thresholds: [100] }
    accumulators:
      - { id: total, items: [bulk], thresholds: [1000] }
      - { id: spent, items: [calls], counts: money, percent: 75, activation: 1.5 }
    caps:
      - { id: most, items: [calls], limit: 200, cycle: month }
    commitments:
      - { id: least, accumulator: spent, counts: money, amount: 50, proration: full_charge }
    charges:
      - { item: setup, amount: 9.99, when: activation }
      - { item: fee, amount: 20, when: arrears, proration: no_charge }
prices:
  - { list: gold, item: bulk, model: volume, by: total,
      tiers: [{ price: 0.10 }, { from: 100, price: 8, per: 100 }] }
";

fn gold(names: &Names) -> Reference {
    loaded(names, GOLD)
}

/// A catalog with nothing to be said of it but when its volume prices charge.
fn loaded(names: &Names, text: &str) -> Reference {
    let (reference, findings) = load(names, text, "");
    let [volume] = findings.as_slice() else {
        panic!("{findings:?}");
    };
    let expected = "volume prices charge \"bulk\" when a term is over";
    assert!(volume.message.starts_with(expected), "{volume:?}");
    reference
}

fn part<'a>(reference: &'a Reference, names: &Names, id: &str) -> &'a PlanPart {
    let row = reference
        .plans
        .iter()
        .find(|row| &*names.plan(row.key) == id)
        .unwrap_or_else(|| panic!("no {id}"));
    assert_eq!(row.list, Name::new("gold"));
    &row.part
}

#[test]
fn every_part_of_a_plan_is_taken_digit_by_digit() {
    let names = Names::default();
    let reference = gold(&names);
    let units = 10_i128.pow(12);
    let usd = 10_i128.pow(24);
    let PlanPart::Allowance(minutes) =
        part(&reference, &names, "gold/allowance minutes from 2026-01-01")
    else {
        panic!()
    };
    assert_eq!(minutes.size, 100 * units + units / 2);
    assert_eq!((minutes.measure, minutes.currency), (Measure::Units, None));
    assert_eq!((minutes.priority, minutes.items.len()), (-1, 2));
    let weeks = Term::Every {
        every: 2,
        cycle: Cycle::Week,
    };
    assert_eq!(minutes.term, weeks);
    assert_eq!(minutes.thresholds.as_slice(), [50, 80, 100]);
    let rollover = minutes.rollover.unwrap();
    let carried = (rollover.cap_per_cycle, rollover.cycles_max);
    assert_eq!(carried, (Some(40 * units), 2));
    assert_eq!(
        (minutes.grant, minutes.proration),
        (Grant::Recurring, Proration::Prorate)
    );
    let PlanPart::Allowance(welcome) =
        part(&reference, &names, "gold/allowance welcome from 2026-01-01")
    else {
        panic!()
    };
    assert_eq!(
        (welcome.size, welcome.currency),
        (5 * usd, Some(Name::new("USD")))
    );
    assert_eq!(welcome.grant, Grant::Once { lasts: Some(3) });
    assert_eq!(welcome.thresholds.as_slice(), [100]);
    let PlanPart::Accumulator(spent) =
        part(&reference, &names, "gold/accumulator spent from 2026-01-01")
    else {
        panic!()
    };
    assert_eq!((spent.numerator, spent.denominator), (3, 4));
    assert_eq!((spent.activation, spent.recurring), (usd * 3 / 2, 0));
    let PlanPart::Cap(most) = part(&reference, &names, "gold/cap most from 2026-01-01") else {
        panic!()
    };
    assert_eq!(most.limit.to_string(), "200");
    let PlanPart::Commitment(least) =
        part(&reference, &names, "gold/commitment least from 2026-01-01")
    else {
        panic!()
    };
    assert_eq!(
        (least.counts, least.term),
        (Counts::Accumulated(Name::new("spent")), Term::BillUnit)
    );
    assert_eq!(least.proration, Proration::FullCharge);
    let PlanPart::Charge(fee) = part(&reference, &names, "gold/charge fee from 2026-01-01") else {
        panic!()
    };
    assert_eq!(
        (fee.when, fee.proration),
        (ChargeWhen::Arrears, Proration::NoCharge)
    );
    let PlanPart::Volume(volume) = part(&reference, &names, "volume gold/bulk") else {
        panic!()
    };
    assert_eq!(
        (volume.item, volume.accumulator),
        (Name::new("bulk"), Name::new("total"))
    );
    assert_eq!(volume.tiers.len(), 2);
}

#[test]
fn prices_have_tiers() {
    let models = |rows: &str| {
        let names = Names::default();
        let plans = "plans: [{ accumulators: [{ id: total }, { id: spent, counts: money }] }]";
        let text = format!("currency: USD\n{plans}\nprices: [{rows}]");
        let (reference, findings) = load(&names, &text, "");
        assert_eq!(findings, []);
        reference
            .prices
            .into_iter()
            .map(|row| row.model)
            .next()
            .unwrap()
    };
    let tiers = "tiers: [{ price: 1 }, { from: 10, price: 0.5 }]";
    let graduated = |more: &str| {
        let row = format!("{{ item: t, model: graduated, {more}{tiers} }}");
        let PriceModel::Graduated { tiers, by } = models(&row) else {
            panic!()
        };
        (tiers.last().unwrap().from, by)
    };
    let ten = 10 * 10_i128.pow(12);
    let (total, spent) = (Name::new("total"), Name::new("spent"));
    assert_eq!(graduated(""), (ten, TierReference::Record));
    assert_eq!(graduated("by: record, "), (ten, TierReference::Record));
    assert_eq!(
        graduated("by: total, "),
        (ten, TierReference::Accumulator(total))
    );
    // Tiers of money begin at amounts.
    let before = TierReference::PreviousPeriod(spent);
    assert_eq!(
        graduated("by: spent, previous: true, "),
        (10 * 10_i128.pow(24), before)
    );
    let package = models("{ item: t, model: package, by: total, price: 2, block: 60 }");
    assert!(
        matches!(package, PriceModel::Package { block: 60, accumulator, .. } if accumulator == total)
    );
}

#[test]
fn everything_wrong_with_a_plan_is_said_at_once() {
    let text = "\
currency: USD
plans:
  - list: gold
    from: never
  - list: gold
    allowances:
      - { id: a, units: 1, money: 2 }
      - { id: b }
      - { units: -1 }
      - { id: c, units: 1, grant: once, proration: prorate, rollover_cap: 1, lasts: 0 }
      - { id: d, units: 1, lasts: 2, rollover_cap: 1, every: 2, thresholds: [50, 101], curency: USD }
      - { id: e, units: 1, currency: USD, rollover_cycles: 61, cycle: fortnight }
      - { id: f, money: 1e-25 }
    accumulators:
      - { id: total, percent: 101, thresholds: [x] }
      - { id: units }
    caps:
      - { id: most }
    commitments:
      - { id: least, accumulator: totl, amount: 1 }
      - { id: more, accumulator: units, amount: 1, currency: usd }
    charges:
      - { item: fee, amount: 1 }
      - { item: fee, amount: 1, when: activation, cycle: month, proration: prorate }
";
    assert_eq!(
        findings(text, ""),
        "\
catalog.yaml:4:11: \"from\" is not a time: \"never\" | write a date like 2026-01-31, or a time like 2026-01-31T08:00:00Z
catalog.yaml:7:35: an allowance is of units or of money, not of both | write either `units: 100` or `money: 100`
catalog.yaml:8:15: the allowance has no size | write either `units: 100` or `money: 100`
catalog.yaml:9:9: \"id\" is empty
catalog.yaml:9:18: \"units\" cannot be negative: -1
catalog.yaml:10:52: \"proration\" does not go with an allowance granted once | leave it out
catalog.yaml:10:75: \"rollover_cap\" does not go with an allowance granted once | leave it out
catalog.yaml:10:85: \"lasts\" must be a whole number of at least 1, found \"0\"
catalog.yaml:11:35: \"lasts\" does not go with a recurring allowance | leave it out
catalog.yaml:11:52: \"rollover_cap\" needs \"rollover_cycles\" | write how many cycles the rest lives on for, like `rollover_cycles: 1`
catalog.yaml:11:62: \"every\" needs \"cycle\", the unit that it counts | add `cycle: month`, or leave out `every` for the account's billing cycle
catalog.yaml:11:77: not a percent from 1 to 100: \"101\" | \"thresholds\" are whole percents used, like [50, 80, 100]
catalog.yaml:11:88: unknown key \"curency\" | did you mean \"currency\"?
catalog.yaml:12:38: \"currency\" does not go with an allowance of units | leave it out
catalog.yaml:12:60: \"rollover_cycles\" is at most 60
catalog.yaml:12:71: unknown cycle \"fortnight\" | one of day, week, month, quarter, year
catalog.yaml:13:25: \"money\" is out of range: 1e-25 | at most 24 decimals are held
catalog.yaml:15:31: \"percent\" is at most 100: 101
catalog.yaml:15:48: \"x\" is not a decimal number | write digits with a point, like 100 or 0.0025
catalog.yaml:18:9: \"limit\" is empty
catalog.yaml:20:35: no plan of the price list has the accumulator \"totl\" | add it under `plans` of this file, to `accumulators` of the list
catalog.yaml:21:34: the accumulator \"units\" counts units, not money | a commitment is to money: give the accumulator `counts: money`, or leave `accumulator` out
catalog.yaml:21:62: not a currency code: \"usd\" | did you mean \"USD\"?
catalog.yaml:23:9: \"when\" is empty
catalog.yaml:24:58: \"cycle\" does not go with a charge at activation | leave it out
catalog.yaml:24:76: \"proration\" does not go with a charge at activation | leave it out"
    );
}

#[test]
fn everything_wrong_with_tiers_is_said_at_once() {
    let text = "\
currency: USD
plans:
  - { accumulators: [{ id: total }, { id: spent, counts: money }] }
prices:
  - { item: t, model: graduated, price: 1 }
  - { item: t, model: graduated, tiers: [{ from: 1, price: 1 }] }
  - { item: t, model: graduated, tiers: [{ price: -1 }, { price: 1 }] }
  - { item: t, model: graduated, tiers: [{ price: 1, per: 0 }, { from: 5, price: 1 }, { from: 5, price: 1 }] }
  - { item: t, model: graduated, previous: true, tiers: [{ price: 1 }] }
  - { item: t, model: graduated, by: totel, tiers: [{ price: 1 }] }
  - { item: t, model: graduated, list: other, by: total, tiers: [{ price: 1 }] }
  - { item: t, model: volume, by: record, tiers: [{ price: 1 }] }
  - { item: t, model: volume, by: total, tiers: [{ price: 1 }] }
  - { item: u, model: volume, by: spent, when: { a: b }, tiers: [{ price: 1 }] }
  - { item: t, model: package, by: total, price: 1 }
  - { item: t, model: package, block: 5, price: 1 }
  - { item: t, price: 1, by: total }
  - { item: t, price: 1, tiers: [{ price: 1 }] }
";
    assert_eq!(findings(text, ""), "\
catalog.yaml:5:41: \"price\" does not go with a price graduated | write the price of each tier, under `tiers`
catalog.yaml:6:50: the first tier begins at 0 | write tiers in order, from the first, which begins at 0
catalog.yaml:7:51: a price cannot be negative: -1 | write 0 or more; a credit towards usage is an allowance of money of the price list (`allowances: [{ id: credit, money: 10 }]`), and usage that was billed in error is taken back by a correction of its record
catalog.yaml:7:57: the tier has no \"from\" | only the first tier may leave it out: it begins at 0
catalog.yaml:8:59: \"per\" must be a whole number of at least 1, found \"0\"
catalog.yaml:8:95: the tier does not begin after the one before | write tiers in order, from the first, which begins at 0
catalog.yaml:9:44: \"previous\" needs `by`, the accumulator of the period before | name an accumulator of the price list
catalog.yaml:10:38: no plan of the price list has the accumulator \"totel\" | did you mean \"total\"?
catalog.yaml:11:51: no plan of the price list has the accumulator \"total\" | the price list \"standard\" has it: correct one of the lists, or add it to \"other\"
catalog.yaml:12:35: a price volume needs \"by\", the accumulator of this period's total | name an accumulator of the price list, without `previous`
catalog.yaml:13:35: a volume is charged whole, and the accumulator does not count just the item | give the accumulator `items` with this one item, and no `percent`
catalog.yaml:14:35: a volume price is for all usage of an item by a price list | leave out `account`, `when` and `priority`; give what is priced otherwise an item of its own
catalog.yaml:15:23: a price package needs \"block\", the units in a block
catalog.yaml:16:5: a price package needs \"by\", the accumulator of this period's total | name an accumulator of the price list, without `previous`
catalog.yaml:17:30: \"by\" does not go with a price per_unit | leave it out; or write `model: graduated` or `model: volume` with `tiers`, or `model: package` with `block`, which are by an accumulator
catalog.yaml:18:5: \"tiers\" do not go with a price per_unit | write `model: graduated` or `model: volume`");
}

#[test]
fn subscriptions_of_a_hierarchy_have_the_group_of_its_root() {
    let names = Names::default();
    let accounts = "\
accounts: [{ id: acme, currency: USD }]
subscriptions:
  - { id: child, account: acme, parent: middle, from: 2026-01-01, to: 2026-02-01 }
  - { id: child, account: acme, from: 2026-02-01 }
  - { id: middle, account: acme, parent: root }
  - { id: root, account: acme }
  - { id: other, account: acme, group: shared }
  - { id: under, account: acme, parent: other }
";
    let (reference, findings) = load(&names, "currency: USD", accounts);
    assert_eq!(findings, []);
    let groups = |id: &str| -> Vec<String> {
        let key = names.enter_subscription(id);
        let rows = reference.subscriptions.iter().filter(|row| row.key == key);
        rows.map(|row| names.text(row.group).to_string()).collect()
    };
    assert_eq!(groups("child"), ["root", "root"]);
    assert_eq!(groups("middle"), ["root"]);
    assert_eq!(groups("root"), ["root"]);
    assert_eq!(groups("other"), ["shared"]);
    assert_eq!(groups("under"), ["shared"]);
}

#[test]
fn hierarchies_that_do_not_hold_are_refused() {
    let accounts = "\
accounts: [{ id: acme, currency: USD }]
subscriptions:
  - { id: a, account: acme, parent: b }
  - { id: b, account: acme, parent: a }
  - { id: c, account: acme, parent: bb }
  - { id: d, account: acme, parent: e, to: 2026-01-01 }
  - { id: d, account: acme, parent: f, from: 2026-01-01 }
  - { id: e, account: acme }
  - { id: f, account: acme }
";
    assert_eq!(findings("currency: USD", accounts), "\
accounts.yaml:3:5: the parents of the subscription \"a\" form a circle | leave `parent` out of the one at the root
accounts.yaml:5:5: the subscription \"c\" names the parent \"bb\", which is unknown | did you mean \"b\"?
accounts.yaml:7:5: the subscription \"d\" has another parent at accounts.yaml:6 | a subscription has one parent in all of its rows");
    let both = "\
accounts: [{ id: acme, currency: USD }]
subscriptions:
  - { id: e, account: acme }
  - { id: f, account: acme, parent: e, group: g }
";
    assert_eq!(
        findings("currency: USD", both),
        "accounts.yaml:4:47: a subscription with a parent has the parent's group | give either \"group\" or \"parent\""
    );
}

#[test]
fn what_plans_and_subscriptions_disagree_about_is_said() {
    let catalog = "\
currency: USD
plans:
  - { list: gold, accumulators: [{ id: total }], charges: [{ item: fee, amount: 1, when: advance }] }
  - { list: gold, from: 2026-02-01, accumulators: [{ id: total, items: [calls] }] }
  - { list: gold, charges: [{ item: fee, amount: 2, when: arrears }] }
  - { list: silver, accumulators: [{ id: total, items: [texts] }] }
";
    let accounts = "\
accounts:
  - { id: acme, currency: USD }
  - { id: bolt, currency: USD, billing: { anniversary: 2026-01-15 } }
subscriptions:
  - { id: a, account: acme, group: pool, price_lists: [gold], from: 2026-01-01 }
  - { id: b, account: bolt, group: pool, price_lists: [silver], from: 2026-01-01 }
  - { id: c, account: acme, price_lists: [gold] }
";
    assert_eq!(findings(catalog, accounts), "\
accounts.yaml:6:5: the balance group \"pool\" has accounts with two billing cycles: \"bolt\" here, another at accounts.yaml:5 | subscriptions that share accumulators or caps need accounts with one billing cycle
accounts.yaml:7:5: the subscription \"c\" has no `from`, and the plan of its list \"gold\" begins with it | write the first day of the subscription, like `from: 2026-01-31`
catalog.yaml:4:52: \"total\" of the price list \"gold\" is defined at catalog.yaml:3 for the same time | end the plan of one where that of the other begins, or rename one
catalog.yaml:5:29: \"gold/charge fee\" is given twice; first at catalog.yaml:3 | give each part of a plan its own id
catalog.yaml:6:36: \"total\" is counted differently at catalog.yaml:3, and subscriptions of one balance group have both | define it alike for every price list of the group, or rename one");
}

#[test]
fn a_counter_of_two_sizes_at_once_is_refused() {
    let catalog = |parts: &str| {
        format!("currency: USD\nplans:\n  - {{ list: basic, {parts} }}\n")
            + &format!("  - {{ list: gold, {} }}\n", parts.replace("10", "30"))
    };
    let accounts = |subscriptions: &str| {
        format!("accounts: [{{ id: acme, currency: USD }}]\nsubscriptions:\n{subscriptions}")
    };
    let both = "  - { id: a, account: acme, price_lists: [basic, gold], from: 2026-01-01 }\n";
    let shared = "  - { id: a, account: acme, group: pool, price_lists: [basic], from: 2026-01-01 }\n  - { id: b, account: acme, group: pool, price_lists: [gold], from: 2026-01-01 }\n";
    let moved = "  - { id: a, account: acme, price_lists: [basic], from: 2026-01-01, to: 2026-03-01 }\n  - { id: a, account: acme, price_lists: [gold], from: 2026-03-01 }\n";
    let cap = catalog("caps: [{ id: most, limit: 10 }]");
    let counter = catalog("accumulators: [{ id: most, recurring: 10 }]");
    let hint = "give it one size in both, or rename one: then each holds by itself";
    for (catalog, column) in [(&cap, 26), (&counter, 34)] {
        for subscriptions in [both, shared] {
            assert_eq!(
                findings(catalog, &accounts(subscriptions)),
                format!(
                    "catalog.yaml:4:{column}: \"most\" has another size at catalog.yaml:3, and a balance \
                     group has both price lists at once | {hint}"
                )
            );
        }
        assert_eq!(findings(catalog, &accounts(moved)), "");
        let renamed = catalog.replacen("most", "least", 1);
        assert_eq!(findings(&renamed, &accounts(both)), "");
    }
}

#[test]
fn parts_of_plans_in_a_currency_that_nobody_is_billed_in_are_told() {
    let parts = "allowances: [{ id: a, money: 1, currency: EUR }], caps: [{ id: b, limit: 9, currency: EUR }], commitments: [{ id: c, amount: 1, currency: EUR }], charges: [{ item: d, amount: 1, when: advance, currency: EUR }], accumulators: [{ id: e, counts: money, currency: EUR }]";
    let catalog = format!("currency: USD\nplans:\n  - {{ {parts} }}\n");
    let accounts = |currency: &str| {
        format!(
            "accounts: [{{ id: acme, currency: {currency} }}]\nsubscriptions: [{{ id: s, account: acme, from: 2026-01-01 }}]\n"
        )
    };
    let told = findings(&catalog, &accounts("USD"));
    let kinds = ["allowance", "cap", "commitment", "charge", "accumulator"];
    assert_eq!(told.lines().count(), kinds.len(), "{told}");
    for kind in kinds {
        let expected = format!(
            "warning: the {kind} of \"standard\" is in EUR, and the account \"acme\" with that list is \
             billed in USD: it does not get it | add one with `currency: USD`"
        );
        assert!(told.contains(&expected), "{expected}\n{told}");
    }
    assert_eq!(findings(&catalog, &accounts("EUR")), "");
    // As the hint says: one in each currency.
    let mut more = parts.replace("EUR", "USD");
    for id in ["a", "b", "c", "e"] {
        more = more.replace(&format!("id: {id},"), &format!("id: {id}2,"));
    }
    let more = more.replace("item: d,", "id: d2, item: d,");
    let both = format!("{catalog}  - {{ {more} }}\n");
    for currency in ["USD", "EUR"] {
        assert_eq!(findings(&both, &accounts(currency)), "");
    }
}

#[test]
fn a_changed_plan_is_a_change_of_its_row_alone() {
    let names = Names::default();
    let old = gold(&names);
    let text = GOLD.replace("units: 100.5", "units: 200");
    let new = loaded(&names, &text);
    let changes = ReferenceChanges::between(&old, &new);
    assert_eq!(changes.len(), 2);
    let told: Vec<String> = changes
        .plan_changes(&names)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        ["gold/allowance minutes from 2026-01-01: \
             100.5 units, for calls and texts, every 2 weeks, rolls over for 2 cycles up to 40 units, priority -1 -> \
             200 units, for calls and texts, every 2 weeks, rolls over for 2 cycles up to 40 units, priority -1"]
    );
}
