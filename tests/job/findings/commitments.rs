//! Hints about commitments and what counts towards them.

use super::*;

const COUNTERS: &str = "accumulators: [{ id: spent, counts: money }, { id: part, counts: money, percent: 50 }, { id: units, counts: units }]";
const FEE: &str = "charges: [{ item: fee, amount: 2, when: arrears }]";

/// A commitment of ten beside counters and a monthly fee of two that is refused, and the one that the hint
/// says.
fn least(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |fields: &str| {
        let least = format!("commitments: [{{ id: least, amount: 10{fields} }}]");
        put(
            CATALOG,
            format!("{CATALOG_TEXT}plans: [{{ {COUNTERS}, {FEE}, {least} }}]\n"),
        )
    };
    // Seven are used and three are lacking, beside the fee.
    Case::refused(message, hint)
        .wrong(of(wrong))
        .right(of(right))
        .total("12 USD")
}

pub(super) fn cases() -> Vec<Case> {
    let share = "write `counts: money` for what the accumulator has counted, without a `cycle` or `anchor` of the commitment's own; or leave `accumulator` out";
    let units = "give the accumulator `counts: money`, or leave `accumulator` out";
    let recurring = "add one to `charges` of the list in this file, with `when: advance` or `when: arrears`, or take `recurring` out of `counts`";
    let without_fee = |counts: &str, fee: &str| {
        put(
            CATALOG,
            format!(
                "{CATALOG_TEXT}plans: [{{ {fee}commitments: [{{ id: least, amount: 10, counts: [{counts}] }}] }}]\n"
            ),
        )
    };
    let no_fee = || {
        Case::refused("the price list has no recurring charge to count", recurring)
            .wrong(without_fee("usage, recurring", ""))
    };
    let currency = "a commitment has the currency of its accumulator";
    vec![
        least(
            "what counts is not known: \"spent\"",
            "did you mean \"spend\"?",
            ", counts: spent",
            ", counts: spend",
        ),
        // The fee of two counts, too: one is lacking.
        least(
            "what counts is not known: \"everything\"",
            "write `spend`, `money`, `recurring`, or a list like [usage, recurring]",
            ", counts: everything",
            ", counts: [usage, recurring]",
        )
        .total("10 USD"),
        least(
            "either as `spend` or as `money`",
            "write `spend` for what usage costs after allowances, `money` for before",
            ", counts: [spend, money]",
            ", counts: [spend]",
        ),
        least(
            "nothing counts towards the commitment",
            "write `counts: spend`, or leave it out",
            ", counts: []",
            ", counts: spend",
        ),
        least(
            "nothing counts towards the commitment",
            "or leave it out",
            ", counts: []",
            "",
        ),
        least(
            "has the accumulator \"spnt\"",
            "did you mean \"spent\"?",
            ", accumulator: spnt",
            ", accumulator: spent",
        ),
        least(
            "has the accumulator \"total\"",
            "add it under `plans` of this file, to `accumulators` of the list",
            ", accumulator: total",
            ", accumulator: total",
        )
        .right(swap(
            CATALOG,
            "accumulators: [",
            "accumulators: [{ id: total, counts: money }, ",
        )),
        least(
            "counts units, not money",
            units,
            ", accumulator: units",
            ", accumulator: units",
        )
        .right(swap(CATALOG, "counts: units", "counts: money")),
        least("counts units, not money", units, ", accumulator: units", ""),
        least(
            "the accumulator \"spent\" counts USD",
            currency,
            ", accumulator: spent, currency: EUR",
            ", accumulator: spent, currency: USD",
        ),
        least(
            "\"items\" does not go with \"accumulator\"",
            "leave `accumulator` out: the commitment counts these items by itself",
            ", accumulator: spent, items: [units]",
            ", items: [units]",
        ),
        // Of seven half counts: six and a half are lacking.
        least(
            "counts a share, by \"percent\"",
            share,
            ", accumulator: part",
            ", accumulator: part, counts: money",
        )
        .total("15.5 USD"),
        least(
            "counts a share, by \"percent\"",
            "or leave `accumulator` out",
            ", accumulator: part",
            "",
        ),
        no_fee()
            .right(without_fee(
                "usage, recurring",
                "charges: [{ item: fee, amount: 2, when: advance }], ",
            ))
            .total("10 USD"),
        no_fee().right(without_fee("usage", "")).total("10 USD"),
    ]
}
