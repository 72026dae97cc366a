//! Hints about price rows and tables of them.

use super::*;

/// A catalog of these price rows.
fn prices(rows: &[&str]) -> String {
    let rows: String = rows
        .iter()
        .map(|row| format!("  - {{ {row} }}\n"))
        .collect();
    format!("currency: USD\nprices:\n{rows}")
}

/// The same, with a plan that counts all units.
fn counted(rows: &[&str]) -> String {
    let plan = "plans: [{ accumulators: [{ id: total, items: [units] }] }]\n";
    prices(rows) + plan
}

/// Price rows that are refused, and those that the hint says.
fn rows(message: &'static str, hint: &'static str, wrong: &[&str], right: &[&str]) -> Case {
    Case::refused(message, hint)
        .wrong(put(CATALOG, prices(wrong)))
        .right(put(CATALOG, prices(right)))
}

/// One row of the price of a unit that is refused, and the one that the hint says.
fn row(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |fields: &str| format!("item: units, {fields}");
    rows(message, hint, &[&of(wrong)], &[&of(right)])
}

/// The same beside a counter of all units.
fn by_total(message: &'static str, hint: &'static str, wrong: &str, right: &str) -> Case {
    let of = |fields: &str| counted(&[&format!("item: units, {fields}")]);
    Case::refused(message, hint)
        .wrong(put(CATALOG, of(wrong)))
        .right(put(CATALOG, of(right)))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = fields();
    cases.extend(models());
    cases.extend(tiers());
    cases.extend(rivals());
    cases.extend(names());
    cases.extend(tables());
    cases
}

fn fields() -> Vec<Case> {
    let currency = |name: &str| {
        put(
            CATALOG,
            prices(&["item: units, price: 1"]).replace("USD", name),
        )
    };
    vec![
        Case::refused("not a currency code: \"usd\"", "did you mean \"USD\"?")
            .wrong(currency("usd"))
            .right(currency("USD")),
        Case::refused("not the name of a currency: \"U$\"", "write a code like USD, or a unit of your own")
            .wrong(currency("U$"))
            .right(currency("USD")),
        row("\"1,5\" is not a decimal number", "write digits with a point, like 0.0025", "price: \"1,5\"", "price: 1.5").total("10.5 USD"),
        row("`when` gives \"region\" no value", "write the value, or `*` where the price is for any", "price: 2, when: { region: \"\" }", "price: 2, when: { region: abroad }").total("14 USD"),
        row("`when` gives \"region\" no value", "write the value, or `*` where the price is for any", "price: 2, when: { region: \"\" }", "price: 2, when: { region: \"*\" }").total("14 USD"),
        row("\"list\" is empty", "write a value, or leave the key out", "price: 2, list: \"\"", "price: 2, list: standard").total("14 USD"),
        row("\"list\" is empty", "write a value, or leave the key out", "price: 2, list: \"\"", "price: 2").total("14 USD"),
        row("\"to\" is not after \"from\"", "\"to\" is the first instant that the row no longer holds", "price: 1, from: 2026-03-31, to: 2026-03-31", "price: 1, from: 2026-03-01, to: 2026-04-01"),
        row("\"from\" is not a time: \"March\"", "write a date like 2026-01-31, or a time like 2026-01-31T08:00:00Z", "price: 1, from: March", "price: 1, from: 2026-03-01T00:00:00Z"),
        row("a price cannot be negative", "write 0 or more", "price: -1", "price: 0").total("0 USD"),
        // Of fourteen ten are credited.
        row("a price cannot be negative", "is an allowance of money of the price list (`allowances: [{ id: credit, money: 10 }]`)", "price: -1", "price: 2")
            .right(more(CATALOG, "plans: [{ allowances: [{ id: credit, money: 10 }] }]\n"))
            .total("4 USD"),
        row("the key has no value", "write the value, or leave the key out", "price: 2, list: , per: 2", "price: 2, per: 2"),
    ]
}

/// What goes with which kind of price.
fn models() -> Vec<Case> {
    let tiers = "tiers: [{ price: 1 }, { from: 2, price: 0.5 }]";
    let by_record = format!("model: graduated, {tiers}");
    let volume = |more: &str| {
        format!("model: volume{more}, tiers: [{{ price: 2 }}, {{ from: 5, price: 1 }}]")
    };
    let needs = "name an accumulator of the price list, without `previous`";
    vec![
        row(
            "unknown model \"per_unt\"",
            "did you mean \"per_unit\"?",
            "price: 2, model: per_unt",
            "price: 2, model: per_unit",
        )
        .total("14 USD"),
        row(
            "unknown model \"tiered\"",
            "one of per_unit, per_block, per_record, graduated,",
            "price: 2, model: tiered",
            "price: 2, model: per_record",
        )
        .total("4 USD"),
        row(
            "\"per\" does not go with a price per_record",
            "leave it out",
            "price: 3, model: per_record, per: 10",
            "price: 3, model: per_record",
        )
        .total("6 USD"),
        row(
            "\"block\" does not go with a price per_unit",
            "a price per_unit takes \"per\"",
            "price: 3, model: per_unit, block: 2",
            "price: 3, model: per_unit, per: 2",
        )
        .total("10.5 USD"),
        row(
            "\"per\" does not go with a price per_block",
            "a price per_block takes \"block\"",
            "price: 1, per: 2, block: 2",
            "price: 1, block: 2",
        )
        .total("4 USD"),
        // Two at 1 and one at 0.5; two and two.
        row(
            "\"tiers\" do not go with a price per_unit",
            "write `model: graduated` or `model: volume`",
            tiers,
            &by_record,
        )
        .total("5.5 USD"),
        by_total(
            "\"tiers\" do not go with a price per_unit",
            "write `model: graduated` or `model: volume`",
            &format!("by: total, {tiers}"),
            &format!("model: volume, by: total, {tiers}"),
        )
        .total("3.5 USD"),
        by_total(
            "\"by\" does not go with a price per_unit",
            "leave it out",
            "price: 1, by: total",
            "price: 1",
        ),
        // Seven start three packages of three.
        by_total(
            "\"by\" does not go with a price per_block",
            "`model: package`",
            "price: 1, block: 3, by: total",
            "price: 1, block: 3, by: total, model: package",
        )
        .total("3 USD"),
        by_total(
            "\"by\" does not go with a price per_unit",
            "`model: graduated` or `model: volume` with `tiers`",
            "price: 1, by: total",
            &format!("model: graduated, by: total, {tiers}"),
        )
        .total("4.5 USD"),
        row(
            "\"price\" does not go with a price graduated",
            "write the price of each tier, under `tiers`",
            &format!("price: 1, {by_record}"),
            &by_record,
        )
        .total("5.5 USD"),
        row(
            "\"price\" does not go with a price graduated",
            "write the price of each tier, under `tiers`",
            "price: 1, model: graduated",
            "model: graduated, tiers: [{ price: 1 }]",
        ),
        row(
            "a price graduated needs \"tiers\"",
            "write `tiers: [{ price: 0.10 }, { from: 100, price: 0.08 }]` in the catalog",
            "model: graduated",
            "model: graduated, tiers: [{ price: 0.10 }, { from: 100, price: 0.08 }]",
        )
        .total("0.7 USD"),
        by_total(
            "a price volume needs \"by\"",
            needs,
            &volume(""),
            &volume(", by: total"),
        ),
        by_total(
            "a price volume needs \"by\"",
            needs,
            &volume(", by: total, previous: true"),
            &volume(", by: total"),
        ),
        by_total(
            "a price package needs \"by\"",
            needs,
            "model: package, price: 1, block: 3",
            "model: package, price: 1, block: 3, by: total",
        )
        .total("3 USD"),
        by_total(
            "\"previous\" needs `by`",
            "name an accumulator of the price list",
            &format!("{by_record}, previous: true"),
            &format!("{by_record}, by: total, previous: true"),
        ),
    ]
}

fn tiers() -> Vec<Case> {
    let graduated = |tiers: &str| format!("model: graduated, tiers: [{tiers}]");
    let tiers = |message, hint, wrong: &str, right: &str| {
        row(message, hint, &graduated(wrong), &graduated(right))
    };
    let order = "write tiers in order, from the first, which begins at 0";
    let by = |counter: &str| {
        format!(
            "model: graduated, by: {counter}, tiers: [{{ price: 1 }}, {{ from: 5, price: 0.5 }}]"
        )
    };
    let gold = "plans: [{ list: gold, accumulators: [{ id: sum, items: [units] }] }]\n";
    let elsewhere = || {
        Case::refused(
            "has the accumulator \"sum\"",
            "the price list \"gold\" has it: correct one of the lists, or add it to \"standard\"",
        )
        .wrong(put(
            CATALOG,
            prices(&[&format!("item: units, {}", by("sum"))]) + gold,
        ))
        .total("6 USD")
    };
    let volume = |counter: &str, price: &str| {
        prices(&[price]) + &format!("plans: [{{ accumulators: [{{ id: total, {counter} }}] }}]\n")
    };
    let price =
        "item: units, model: volume, by: total, tiers: [{ price: 2 }, { from: 5, price: 1 }]";
    let counts = |message, hint, wrong: &str| {
        Case::refused(message, hint)
            .wrong(put(CATALOG, volume(wrong, price)))
            .right(put(CATALOG, volume("items: [units]", price)))
    };
    let narrow = format!("{price}, when: {{ region: abroad }}");
    let first = format!("{price}, priority: 1");
    vec![
        tiers(
            "the tier has no \"from\"",
            "only the first tier may leave it out: it begins at 0",
            "{ price: 1 }, { price: 0.5 }",
            "{ price: 1 }, { from: 2, price: 0.5 }",
        )
        .total("5.5 USD"),
        tiers(
            "the first tier begins at 0",
            order,
            "{ from: 1, price: 1 }, { from: 2, price: 0.5 }",
            "{ from: 0, price: 1 }, { from: 2, price: 0.5 }",
        )
        .total("5.5 USD"),
        tiers(
            "the tier does not begin after the one before",
            order,
            "{ price: 1 }, { from: 2, price: 0.5 }, { from: 1, price: 2 }",
            "{ price: 1 }, { from: 1, price: 2 }, { from: 2, price: 0.5 }",
        )
        .total("7.5 USD"),
        tiers(
            "\"from\" is out of range",
            "at most 12 decimals are held",
            "{ price: 1 }, { from: 2.0000000000001, price: 0.5 }",
            "{ price: 1 }, { from: 2.0, price: 0.5 }",
        )
        .total("5.5 USD"),
        // Five at 1, and two at a half.
        by_total(
            "has the accumulator \"totl\"",
            "did you mean \"total\"?",
            &by("totl"),
            &by("total"),
        )
        .total("6 USD"),
        row(
            "has the accumulator \"sum\"",
            "add it under `plans` of this file, to `accumulators` of the list",
            &by("sum"),
            &by("sum"),
        )
        .right(more(CATALOG, "plans: [{ accumulators: [{ id: sum }] }]\n"))
        .total("6 USD"),
        elsewhere().right(swap(CATALOG, "list: gold, ", "")),
        elsewhere().right(swap(
            CATALOG,
            "plans: [",
            "plans: [{ accumulators: [{ id: sum, items: [units] }] }, ",
        )),
        counts(
            "the accumulator counts money",
            "give the accumulator `counts: units`",
            "items: [units], counts: money",
        ),
        counts(
            "does not count just the item",
            "give the accumulator `items` with this one item, and no `percent`",
            "percent: 50",
        ),
        Case::refused(
            "a volume price is for all usage of an item",
            "leave out `account`, `when` and `priority`",
        )
        .wrong(put(CATALOG, volume("items: [units]", &narrow)))
        .right(put(CATALOG, volume("items: [units]", price))),
        Case::refused(
            "a volume price is for all usage of an item",
            "leave out `account`, `when` and `priority`",
        )
        .wrong(put(CATALOG, volume("items: [units]", &first)))
        .right(put(CATALOG, volume("items: [units]", price))),
    ]
}

/// Rows of which only one can hold.
fn rivals() -> Vec<Case> {
    let apart = "leave one of the two out, or end one where the other begins (`to` is exclusive)";
    let never = "leave one of the two out, or end one where the other begins";
    let outranked = || {
        Case::doubtful("14 USD", "the price \"low\" is never used", never).wrong(put(
            CATALOG,
            prices(&[
                "id: low, item: units, price: 1",
                "id: high, item: units, price: 2, priority: 1",
            ]),
        ))
    };
    let interrupted = || {
        let hint = "begin the later price where the earlier ends (`to` is exclusive), or add one for the time between: its usage waits";
        let message = "has no price for \"units\" in [2026-03-15T00:00:00Z, 2026-03-25T00:00:00Z)";
        Case::doubtful("3 USD", message, hint).wrong(put(
            CATALOG,
            prices(&[
                "id: a, item: units, price: 1, to: 2026-03-15",
                "id: b, item: units, price: 1, from: 2026-03-25",
            ]),
        ))
    };
    vec![
        rows("overlaps", apart, &["id: a, item: units, price: 1", "id: b, item: units, price: 2"], &["id: b, item: units, price: 2"]).total("14 USD"),
        // Three at 1, and four at 2 from the 15th.
        rows("overlaps", apart, &["id: a, item: units, price: 1", "id: b, item: units, price: 2"], &["id: a, item: units, price: 1, to: 2026-03-15", "id: b, item: units, price: 2, from: 2026-03-15"]).total("11 USD"),
        rows("overlaps", "end the earlier one where the later begins (`to` is exclusive), or give the later a priority", &["id: a, item: units, price: 1", "id: b, item: units, price: 2, from: 2026-03-15"], &["id: a, item: units, price: 1, to: 2026-03-15", "id: b, item: units, price: 2, from: 2026-03-15"]).total("11 USD"),
        rows("overlaps", "or give the later a priority", &["id: a, item: units, price: 1", "id: b, item: units, price: 2, from: 2026-03-15"], &["id: a, item: units, price: 1", "id: b, item: units, price: 2, from: 2026-03-15, priority: 1"]).total("11 USD"),
        // The first of the two is for less time, so it is the exception.
        rows("overlaps", "give the one that ends first a priority", &["id: a, item: units, price: 1, to: 2026-03-15", "id: b, item: units, price: 2"], &["id: a, item: units, price: 1, to: 2026-03-15, priority: 1", "id: b, item: units, price: 2"]).total("11 USD"),
        rows("overlaps", "give the one within the other a priority", &["id: a, item: units, price: 1", "id: b, item: units, price: 2, from: 2026-03-09, to: 2026-03-12"], &["id: a, item: units, price: 1", "id: b, item: units, price: 2, from: 2026-03-09, to: 2026-03-12, priority: 1"]).total("10 USD"),
        outranked().right(put(CATALOG, prices(&["id: high, item: units, price: 2, priority: 1"]))).total("14 USD"),
        outranked()
            .right(put(CATALOG, prices(&["id: low, item: units, price: 1, to: 2026-03-15", "id: high, item: units, price: 2, priority: 1, from: 2026-03-15"])))
            .total("11 USD"),
        // Four units of the 20th wait, or cost 1 or 3 each.
        interrupted().right(put(CATALOG, prices(&["id: a, item: units, price: 1, to: 2026-03-15", "id: b, item: units, price: 1, from: 2026-03-15"]))),
        interrupted()
            .right(put(CATALOG, prices(&["id: a, item: units, price: 1, to: 2026-03-15", "id: c, item: units, price: 3, from: 2026-03-15, to: 2026-03-25", "id: b, item: units, price: 1, from: 2026-03-25"])))
            .total("15 USD"),
        rows("the price id \"p\" is given twice", "give each row its own id, or leave the id out", &["id: p, item: units, price: 1", "id: p, item: units, price: 2, when: { region: abroad }"], &["id: p, item: units, price: 1", "id: q, item: units, price: 2, when: { region: abroad }"]).total("14 USD"),
        rows("the price id \"p\" is given twice", "give each row its own id, or leave the id out", &["id: p, item: units, price: 1", "id: p, item: units, price: 2, when: { region: abroad }"], &["item: units, price: 1", "item: units, price: 2, when: { region: abroad }"]).total("14 USD"),
    ]
}

/// Names that nothing has.
fn names() -> Vec<Case> {
    let of = |rows: &[&str]| put(CATALOG, prices(rows));
    let base = "item: units, price: 1";
    let alone = || {
        Case::doubtful("0 USD", "defines the attribute \"tier\"", "define it under `attributes` of the rule, or take the condition out: usage of the item waits for a price")
            .wrong(of(&["item: units, price: 2, when: { tier: far }"]))
            .total("14 USD")
    };
    let unpriced = || {
        Case::doubtful("0 USD", "no price list that a subscription has prices the item \"texts\"", "add a price to such a list, or leave the item out of `charges`: until then every record that has some of it waits")
            .wrong(of(&[base, "item: texts, price: 1, list: other"]))
            .wrong(swap(JOB, "charges: { units: units", "charges: { units: units, texts: units"))
    };
    let beside = || {
        Case::refused("defines the attribute \"tier\"", "define it under `attributes` of the rule, or leave the row out: other rows would price the item instead")
            .wrong(of(&[base, "item: units, price: 2, when: { tier: far }"]))
    };
    let define = || swap(JOB, "attributes: {", "attributes: { tier: zone,");
    let sized = |size: &str| {
        swap(
            JOB,
            "attributes: {",
            format!("attributes: {{ size: {size},"),
        )
    };
    let of_size = |size: &str| {
        let narrow = format!("item: units, price: 2, when: {{ size: \"{size}\" }}");
        put(CATALOG, prices(&["item: units, price: 1", &narrow]))
    };
    vec![
        Case::refused("charges the item \"unts\"", "did you mean \"units\"?")
            .wrong(of(&["item: unts, price: 1"]))
            .right(of(&[base])),
        Case::remark("charges \"texts\", which a row here is for", "the rules charge \"units\"; in a catalog that several jobs share nothing is to be done")
            .wrong(of(&[base, "item: texts, price: 1"])),
        Case::remark("charges \"untis2\", which a row here is for", "did you mean \"units\"? Otherwise the rules charge \"units\"")
            .wrong(of(&[base, "item: untis2, price: 5, when: { region: abroad }"]))
            .right(of(&[base, "item: units, price: 5, when: { region: abroad }"]))
            .total("35 USD"),
        Case::refused("defines the attribute \"regin\"", "did you mean \"region\"? Otherwise other rows would price the item instead")
            .wrong(of(&[base, "item: units, price: 2, when: { regin: abroad }"]))
            .right(of(&[base, "item: units, price: 2, when: { region: abroad }"]))
            .total("14 USD"),
        unpriced().right(of(&[base, "item: texts, price: 1"])).total("14 USD"),
        unpriced()
            .right(swap(JOB, ", texts: units", ""))
            .right(of(&[base])),
        alone().right(define()),
        alone().right(of(&["item: units, price: 2"])),
        beside().right(define()).total("14 USD"),
        beside().right(of(&[base])),
        Case::refused("no subscription has the price list \"standrad\"", "did you mean \"standard\"?")
            .wrong(of(&[base, "item: units, price: 2, when: { region: abroad }, list: standrad"]))
            .right(swap(CATALOG, "standrad", "standard"))
            .total("14 USD"),
        Case::doubtful("7 USD", "is for the account \"nobody\", which is unknown", "add the account; until then the price is never used")
            .wrong(of(&[base, "item: units, price: 2, account: nobody"]))
            .right(swap(ACCOUNTS, "accounts:\n", "accounts:\n  - { id: nobody, currency: USD }\n")),
        Case::refused("a price is for the account \"Acme\", which is unknown", "did you mean \"acme\"?")
            .wrong(of(&[base, "item: units, price: 2, account: Acme"]))
            .right(swap(CATALOG, "Acme", "acme"))
            .total("14 USD"),
        // Three units at 2, four at 1.
        Case::refused("no usage has the value \"3.0\" of \"size\"", "write \"3\": a number has this one text")
            .wrong(of_size("3.0"))
            .wrong(sized("units"))
            .right(of_size("3"))
            .total("10 USD"),
        Case::remark("conditions have the values \"4.50\"", "write \"4.5\" where the attribute is a number; where it is text nothing is to be done")
            .wrong(of_size("4.50"))
            .wrong(sized("units * 1.5"))
            .right(of_size("4.5"))
            .total("10 USD"),
    ]
}

/// Price rows made of the rows of a file.
fn tables() -> Vec<Case> {
    let table = |file: &str, fields: &str| {
        format!("currency: USD\ntables:\n  - file: {file}\n    prices: [{{ {fields} }}]\n")
    };
    let good = "item: \"'units'\", price: price, when: { region: region }";
    let of = |message, hint, wrong: &str, right: &str| {
        Case::refused(message, hint)
            .wrong(put("prices.csv", "region,price,whose,list\nabroad,2,,\n"))
            .wrong(put(CATALOG, table("prices.csv", wrong)))
            .right(put(CATALOG, table("prices.csv", right)))
            .total("14 USD")
    };
    let owner = "item: \"'units'\", price: price, account: whose";
    let list = "item: \"'units'\", price: price, list: list";
    vec![
        Case::refused(
            "the format of \"prices.dat\" cannot be told",
            "add `format: csv`, `jsonl`, `json` or `parquet`",
        )
        .wrong(put("prices.dat", "region,price\nabroad,2\n"))
        .wrong(put(CATALOG, table("prices.dat", good)))
        .right(swap(CATALOG, "prices.dat", "prices.dat\n    format: csv"))
        .total("14 USD"),
        Case::refused(
            "`csv` is for CSV files, and these are none",
            "leave it out, or correct the format",
        )
        .wrong(put(
            "prices.jsonl",
            "{\"region\": \"abroad\", \"price\": 2}\n",
        ))
        .wrong(put(
            CATALOG,
            table("prices.jsonl\n    csv: { delimiter: ; }", good),
        ))
        .right(swap(CATALOG, "    csv: { delimiter: ; }\n", ""))
        .total("14 USD"),
        of(
            "has no column \"regin\"",
            "did you mean \"region\"? its columns are region, price, whose, list",
            &good.replace("region: region", "region: regin"),
            good,
        ),
        of(
            "has no column \"cost\"",
            "its columns are region, price, whose, list",
            &good.replace("price: price", "price: cost"),
            good,
        ),
        of(
            "hangs on whose, which is empty or absent, for \"price\"",
            "say what an empty field means, with coalesce(field, value) or field IS NULL",
            &good.replace(
                "price: price",
                "price: \"decimal(price, 2) * decimal(whose, 2)\"",
            ),
            &good.replace(
                "price: price",
                "price: \"decimal(price, 2) * coalesce(decimal(whose, 2), 1)\"",
            ),
        ),
        of(
            "lacks \"price\"",
            "give it as an SQL expression",
            "item: \"'units'\"",
            "item: \"'units'\", price: price",
        ),
        of(
            "the key \"tiers\" does not go with a table",
            "write the price out, under `prices` of the catalog",
            "item: \"'units'\", price: price, tiers: [{ price: 2 }]",
            good,
        )
        .right(put(
            CATALOG,
            prices(&["item: units, model: graduated, tiers: [{ price: 2 }]"]),
        )),
        of(
            "\"account\" is empty",
            "write the account, or `*` where the price is for all",
            owner,
            owner,
        )
        .right(put("prices.csv", "region,price,whose,list\nabroad,2,*,\n")),
        of(
            "\"account\" is empty",
            "write the account, or `*` where the price is for all",
            owner,
            owner,
        )
        .right(put(
            "prices.csv",
            "region,price,whose,list\nabroad,2,acme,\n",
        )),
        of(
            "\"list\" is empty",
            "write the price list, or `standard`",
            list,
            list,
        )
        .right(put(
            "prices.csv",
            "region,price,whose,list\nabroad,2,,standard\n",
        )),
        of(
            "`when` gives \"region\" no value",
            "write the value, or `*`",
            good,
            good,
        )
        .wrong(put("prices.csv", "region,price,whose,list\n,2,,\n"))
        .right(put("prices.csv", "region,price,whose,list\n*,2,,\n")),
    ]
}
