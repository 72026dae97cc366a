//! Hints about prices and parts of plans that would leave each other out.

use super::*;

/// A catalog of a plan's parts and price rows.
fn plan(parts: &str, rows: &str) -> Edit {
    put(
        CATALOG,
        format!("currency: USD\nplans: [{{ {parts} }}]\nprices: [{rows}]\n"),
    )
}

/// Parts and prices that are refused, and those that the hint says.
fn refused(
    message: &'static str,
    hint: &'static str,
    wrong: (&str, &str),
    right: (&str, &str),
) -> Case {
    Case::refused(message, hint)
        .wrong(plan(wrong.0, wrong.1))
        .right(plan(right.0, right.1))
}

const COUNTER: &str = "accumulators: [{ id: total, items: [units] }]";
const TIERS: &str = "tiers: [{ price: 2 }, { from: 5, price: 1 }]";
const TEXTS: &str = "{ item: texts, price: 3 }";

/// The rule charges each unit as a text, too.
fn texts() -> Edit {
    swap(
        JOB,
        "charges: { units: units }",
        "charges: { units: units, texts: units }",
    )
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = volumes();
    cases.extend(counters());
    cases.extend(maxima());
    cases.extend(minima());
    cases.extend(charges());
    cases
}

fn volumes() -> Vec<Case> {
    let price =
        |model: &str| format!("{{ item: units, model: {model}, by: total, {TIERS} }}, {TEXTS}");
    let volume = price("volume");
    let free = |items: &str| {
        format!("{COUNTER}, allowances: [{{ id: free, units: 2, items: [{items}] }}]")
    };
    let late = "give \"free\" `items` without \"units\", or price \"units\" by another model, like `model: graduated` by the same accumulator";
    let beside = |right: (&str, &str)| {
        refused(
            "the allowance \"free\" at",
            late,
            (&free("units"), &volume),
            right,
        )
        .wrong(texts())
    };
    let each = |price: &str| format!("{{ item: units, {price} }}, {TEXTS}");
    let other = format!(
        "{{ item: units, model: volume, by: total, {TIERS} }}, {{ item: units, price: 9, when: {{ region: abroad }} }}"
    );
    let package =
        "{ item: units, model: package, by: total, price: 5, block: 3 }, { item: texts, price: 3 }";
    vec![
        // Seven units at 1, five texts of seven at 3.
        beside((&free("texts"), &volume)).total("22 USD"),
        // Of seven units five at 2 and two at 1, the first two free; of the texts none: 8 + 21.
        beside((&free("units"), &price("graduated"))).total("29 USD"),
        // Seven start three packages of three.
        refused("which packages its units come off", late, (&free("units"), package), (&free("texts"), package))
            .wrong(texts())
            .total("30 USD"),
        // Five units at 2 and seven texts at 3; or four blocks at 4, and five texts.
        refused("what its units are worth depends", "or price \"units\" per unit, with `per` in place of `block`", (&free("units"), &each("price: 4, block: 2")), (&free("units"), &each("price: 4, per: 2")))
            .wrong(texts())
            .total("31 USD"),
        refused("what its units are worth depends", "give \"free\" `items` without \"units\"", (&free("units"), &each("price: 4, block: 2")), (&free("texts"), &each("price: 4, block: 2")))
            .wrong(texts())
            .total("31 USD"),
        refused("what its units are worth depends", "or price \"units\" per unit, without `model: per_record`", (&free("units"), &each("price: 2, model: per_record")), (&free("units"), &each("price: 2")))
            .wrong(texts())
            .total("31 USD"),
        // Three far units are an item of their own: four at 2, which are below five, and three at 9.
        refused("\"units\" has another price at", "give what is priced otherwise an item of its own", (COUNTER, &other), (COUNTER, &format!("{{ item: units, model: volume, by: total, {TIERS} }}, {{ item: far, price: 9 }}")))
            .wrong(put(USAGE, USAGE_TEXT.replace("4,far", "4,near")))
            .wrong(put("zones.csv", "zone,region\nfar,abroad\nnear,home\n"))
            .right(swap(JOB, "charges: { units: units }", "charges: { units: \"CASE WHEN zone <> 'far' THEN units END\", far: \"CASE WHEN zone = 'far' THEN units END\" }"))
            .total("35 USD"),
    ]
}

fn counters() -> Vec<Case> {
    let graduated = format!("{{ item: units, model: graduated, by: total, {TIERS} }}");
    let with_texts = format!("{graduated}, {TEXTS}");
    let package = "{ item: units, model: package, by: total, price: 5, block: 3 }";
    let counter = |what: &str| {
        format!("accumulators: [{{ id: total, {what} }}, {{ id: other, items: [units] }}]")
    };
    let by_other = |price: &str| price.replace("by: total", "by: other");
    let share = || counter("items: [units], percent: 50");
    let adds = || counter("items: [units], recurring: 2");
    let whole = || counter("items: [units]");
    // Five at 2 and two at 1.
    let billed = "12 USD";
    vec![
        refused(
            "does not count \"units\"",
            "add \"units\" to the `items` of the accumulator",
            (&counter("items: [texts]"), &with_texts),
            (&counter("items: [texts, units]"), &with_texts),
        )
        .wrong(swap(
            JOB,
            "charges: { units: units }",
            "charges: { units: units, texts: \"CASE WHEN units > 100 THEN units END\" }",
        ))
        .total(billed),
        refused(
            "counts a share of each record",
            "take `percent` out of the accumulator, or name another in `by`",
            (&share(), &graduated),
            (&whole(), &graduated),
        )
        .total(billed),
        refused(
            "counts a share of each record",
            "or name another in `by`",
            (&share(), &graduated),
            (&share(), &by_other(&graduated)),
        )
        .total(billed),
        refused(
            "adds units that nobody used",
            "take `activation` and `recurring` out of the accumulator",
            (&adds(), package),
            (&whole(), package),
        )
        .total("15 USD"),
        refused(
            "adds units that nobody used",
            "or name another in `by`",
            (&adds(), package),
            (&adds(), &by_other(package)),
        )
        .total("15 USD"),
        refused(
            "a package is of units",
            "give the accumulator `counts: units`",
            (&counter("items: [units], counts: money"), package),
            (&counter("items: [units], counts: units"), package),
        )
        .total("15 USD"),
    ]
}

/// Caps under commitments.
fn maxima() -> Vec<Case> {
    let parts = |least: &str, most: &str| {
        format!(
            "commitments: [{{ id: least, amount: {least} }}], caps: [{{ id: most, limit: {most} }}]"
        )
    };
    let row = "{ item: units, price: 2 }";
    let weekly = "2, cycle: week, anchor: 2026-03-01";
    let refused = |hint, wrong: (&str, &str), right: (&str, &str)| {
        refused(
            "the commitment \"least\"",
            hint,
            (&parts(wrong.0, wrong.1), row),
            (&parts(right.0, right.1), row),
        )
    };
    vec![
        refused("commit to 10 at most, or raise the cap to 20 at least", ("20", "10"), ("10", "10")).total("10 USD"),
        refused("commit to 10 at most, or raise the cap to 20 at least", ("20", "10"), ("20", "20")).total("20 USD"),
        // Two weeks have usage: three at 2 are above what a week lets through, and four are.
        refused("commit to less, or raise the cap: 5 times the cap is to be 1 times the commitment at least", ("20", weekly), ("10", weekly)).total("10 USD"),
        refused("5 times the cap is to be 1 times the commitment at least", ("20", weekly), ("20", "4, cycle: week, anchor: 2026-03-01")).total("20 USD"),
    ]
}

/// Commitments that count the same, and a cap and a commitment of two lists of one subscription.
fn minima() -> Vec<Case> {
    let two = |all: &str, least: &str| {
        format!("commitments: [{{ id: all, amount: 80{all} }}, {{ id: least, amount: 60{least} }}]")
    };
    let row = "{ item: units, price: 1 }, { item: texts, price: 3 }";
    let twice = |hint: &'static str, right: &str| {
        refused(
            "what both lack would be charged twice",
            hint,
            (&two("", ", items: [units]"), row),
            (right, row),
        )
        .wrong(texts())
    };
    // Each with a part of its own.
    let lists = |standard: &str, own: &str| {
        put(
            CATALOG,
            format!(
                "currency: USD\nplans: [{{ {standard} }}, {{ list: own, {own} }}]\nprices: [{{ item: units, price: 1 }}]\n"
            ),
        )
    };
    let both = || {
        swap(
            ACCOUNTS,
            "account: acme,",
            "account: acme, price_lists: [standard, own],",
        )
    };
    let least = |amount: &str| format!("commitments: [{{ id: least, amount: {amount} }}]");
    vec![
        twice(
            "keep one of the two",
            "commitments: [{ id: all, amount: 80 }]",
        )
        .total("80 USD"),
        // Seven units are less than 60, seven texts at 3 less than 80.
        twice(
            "or give them `items` that have none in common",
            &two(", items: [texts]", ", items: [units]"),
        )
        .total("140 USD"),
        Case::refused(
            "what both lack would be charged twice",
            "keep one of the two",
        )
        .wrong(lists(
            "commitments: [{ id: all, amount: 80 }]",
            &least("60"),
        ))
        .wrong(both())
        .right(lists(
            "commitments: [{ id: all, amount: 80 }]",
            "charges: [{ item: fee, amount: 0, when: advance }]",
        ))
        .total("80 USD"),
        Case::refused(
            "the commitment \"least\"",
            "commit to 5 at most, or raise the cap to 20 at least",
        )
        .wrong(lists("caps: [{ id: most, limit: 5 }]", &least("20")))
        .wrong(both())
        .right(lists("caps: [{ id: most, limit: 20 }]", &least("20")))
        .total("20 USD"),
    ]
}

/// Parts that name what is charged without usage.
fn charges() -> Vec<Case> {
    let parts = |items: &str| {
        format!(
            "charges: [{{ item: fee, amount: 5, when: advance }}], allowances: [{{ id: free, units: 2{items} }}]"
        )
    };
    let row = "{ item: units, price: 1 }";
    vec![
        refused(
            "the allowance names \"fee\"",
            "take \"fee\" out of its `items`",
            (&parts(", items: [units, fee]"), row),
            (&parts(", items: [units]"), row),
        )
        .total("10 USD"),
        // Of the fee alone nothing is free.
        refused(
            "the allowance names \"fee\"",
            "leave the allowance out",
            (&parts(", items: [fee]"), row),
            ("charges: [{ item: fee, amount: 5, when: advance }]", row),
        )
        .total("12 USD"),
    ]
}
