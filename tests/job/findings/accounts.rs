//! Hints about accounts, subscriptions and the services that they have.

use super::*;

const ACME: &str = "{ id: acme, currency: USD }";
const PERIOD: &str = "from: 2026-03-01, to: 2026-04-01";

/// The account with other fields.
fn account(fields: &str) -> Edit {
    put(
        ACCOUNTS,
        ACCOUNTS_TEXT.replace(ACME, &format!("{{ id: acme, {fields} }}")),
    )
}

/// The subscription with more fields.
fn subscription(fields: &str) -> Edit {
    put(
        ACCOUNTS,
        ACCOUNTS_TEXT.replace(PERIOD, &format!("{PERIOD}{fields}")),
    )
}

/// The base with more subscriptions.
fn besides(rows: &[&str]) -> Edit {
    let rows: String = rows
        .iter()
        .map(|row| format!("  - {{ {row} }}\n"))
        .collect();
    more(ACCOUNTS, rows)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = fields();
    cases.extend(twins());
    cases.extend(unknown());
    cases.extend(parents());
    cases.extend(tables());
    cases
}

fn fields() -> Vec<Case> {
    let of = |message, hint, wrong: &str, right: &str| {
        Case::refused(message, hint)
            .wrong(account(wrong))
            .right(account(right))
    };
    let with = |message, hint, wrong: &str, right: &str| {
        Case::refused(message, hint)
            .wrong(subscription(wrong))
            .right(subscription(right))
    };
    let untyped = || {
        Case::refused(
            "the service has no type",
            "write `service_type` beside `services`, or {type: …, id: …}",
        )
        .wrong(swap(ACCOUNTS, "service_type: voice, ", ""))
    };
    vec![
        Case::refused(
            "the file says nothing",
            "write what it had again; `accounts: []` says that there are none",
        )
        .wrong(put(ACCOUNTS, "# to be filled\n---\n"))
        .right(put(ACCOUNTS, ACCOUNTS_TEXT)),
        of(
            "\"anniversary\" is not a date: \"31st\"",
            "write a date like 2026-01-31",
            "currency: USD, billing: { anniversary: 31st }",
            "currency: USD, billing: { anniversary: 2026-01-31 }",
        ),
        of(
            "\"every\" is 500, of cycle year",
            "write at most 100, which is a century",
            "currency: USD, billing: { cycle: year, every: 500 }",
            "currency: USD, billing: { cycle: year, every: 100 }",
        ),
        of(
            "not a currency code: \"Usd\"",
            "did you mean \"USD\"?",
            "currency: Usd",
            "currency: USD",
        ),
        of(
            "unknown key \"time_zone\"",
            "bill customers of another zone by a job of their own",
            "currency: USD, time_zone: Europe/Prague",
            "currency: USD",
        )
        .right(swap(JOB, "time_zone: UTC", "time_zone: Europe/Prague")),
        with(
            "unknown status \"activ\"",
            "did you mean \"active\"?",
            ", status: activ",
            ", status: active",
        ),
        with(
            "unknown status \"paid\"",
            "one of active, inactive, closed",
            ", status: paid",
            ", status: active",
        ),
        with(
            "a subscription with a parent has the parent's group",
            "give either \"group\" or \"parent\"",
            ", group: ours, parent: s0",
            ", group: ours",
        ),
        with(
            "\"parent\" is empty",
            "write a value, or leave the key out",
            ", parent: \"\"",
            "",
        ),
        untyped().right(put(ACCOUNTS, ACCOUNTS_TEXT)),
        untyped().right(swap(ACCOUNTS, "[n1]", "[{ type: voice, id: n1 }]")),
    ]
}

/// Rows that contradict each other.
fn twins() -> Vec<Case> {
    let terms = "id: s1, account: acme, service_type: voice, services: [n1], from: 2026-03-15, to: 2026-04-01, price_lists: [gold]";
    let gold = || {
        swap(
            CATALOG,
            "prices:\n",
            "prices:\n  - { item: units, price: 2, list: gold }\n",
        )
    };
    let claimed = "id: s2, account: acme, service_type: voice, services: [n1], from: 2026-03-15, to: 2026-04-01";
    vec![
        Case::refused(
            "the account \"acme\" is given twice, differently",
            "an account has one currency and one billing cycle; keep one of the rows",
        )
        .wrong(swap(
            ACCOUNTS,
            "accounts:\n",
            "accounts:\n  - { id: acme, currency: EUR }\n",
        ))
        .right(put(ACCOUNTS, ACCOUNTS_TEXT)),
        // Three at 1, and four at 2 from the 15th.
        Case::refused(
            "has two sets of terms at once",
            "end one row where the next begins (`to` is exclusive)",
        )
        .wrong(gold())
        .wrong(besides(&[terms]))
        .right(swap(ACCOUNTS, "to: 2026-04-01", "to: 2026-03-15"))
        .total("11 USD"),
        // The usage of the 20th waits: two subscriptions claim it.
        Case::doubtful(
            "3 USD",
            "is claimed by \"s2\" here and by \"s1\"",
            "end one before the other begins; usage in between is suspended",
        )
        .wrong(besides(&[claimed]))
        .right(swap(ACCOUNTS, "to: 2026-04-01", "to: 2026-03-15")),
    ]
}

/// Names that nothing has.
fn unknown() -> Vec<Case> {
    let swapped =
        |wrong: &str, right: &str| (swap(ACCOUNTS, right, wrong), swap(ACCOUNTS, wrong, right));
    let of = |case: Case, (wrong, right): (Edit, Edit)| case.wrong(wrong).right(right);
    let euros = || {
        Case::doubtful("0 USD", "is billed in EUR, and no price is in EUR", "correct the currency, or add a price list in it, and name it first in the subscription's `price_lists`")
            .wrong(account("currency: EUR"))
    };
    let group = |name: &str| {
        let member = |id: &str, service: &str, group: &str| {
            format!(
                "id: {id}, account: acme, service_type: voice, services: [{service}], {PERIOD}, group: {group}"
            )
        };
        let rows = [
            member("s2", "n2", "family"),
            member("s3", "n3", "family"),
            member("s4", "n4", name),
        ];
        let rows: String = rows
            .iter()
            .map(|row| format!("  - {{ {row} }}\n"))
            .collect();
        put(ACCOUNTS, format!("{ACCOUNTS_TEXT}{rows}"))
    };
    let lists = |lists: &str| format!("{PERIOD}, price_lists: [{lists}]");
    vec![
        of(
            Case::doubtful(
                "0 USD",
                "names the account \"acmee\", which is unknown",
                "did you mean \"acme\"? Otherwise add the account; until then usage of the subscription is suspended",
            ),
            swapped("account: acmee", "account: acme"),
        ),
        Case::doubtful(
            "0 USD",
            "names the account \"bolt\", which is unknown",
            "add the account; until then usage of the subscription is suspended",
        )
        .wrong(swap(ACCOUNTS, "account: acme", "account: bolt"))
        .right(swap(
            ACCOUNTS,
            "accounts:\n",
            "accounts:\n  - { id: bolt, currency: USD }\n",
        )),
        of(
            Case::refused(
                "the price list \"standrad\" has no price and no plan",
                "did you mean \"standard\"? Otherwise add prices to the list",
            ),
            swapped(&lists("standrad"), PERIOD),
        ),
        Case::doubtful(
            "0 USD",
            "names the price list \"gold\", which has no price",
            "add prices to the list, or name another",
        )
        .wrong(swap(ACCOUNTS, PERIOD, lists("gold")))
        .right(swap(
            CATALOG,
            "prices:\n",
            "prices:\n  - { item: units, price: 2, list: gold }\n",
        ))
        .total("14 USD"),
        of(
            Case::doubtful(
                "0 USD",
                "names the price list \"gold\", which has no price",
                "or name another",
            ),
            (
                swap(ACCOUNTS, PERIOD, lists("gold")),
                swap(ACCOUNTS, "[gold]", "[standard]"),
            ),
        ),
        Case::refused(
            "the price list \"gold\" has no price and no plan",
            "add prices to the list, or leave it out: the other lists price its usage",
        )
        .wrong(swap(ACCOUNTS, PERIOD, lists("gold, standard")))
        .right(swap(
            CATALOG,
            "prices:\n",
            "prices:\n  - { item: units, price: 2, list: gold }\n",
        ))
        .total("14 USD"),
        of(
            Case::refused(
                "the price list \"gold\" has no price and no plan",
                "or leave it out: the other lists price its usage",
            ),
            (
                swap(ACCOUNTS, PERIOD, lists("gold, standard")),
                swap(ACCOUNTS, "gold, ", ""),
            ),
        ),
        euros().right(account("currency: USD")),
        euros()
            .right(swap(
                CATALOG,
                "prices:\n",
                "prices:\n  - { item: units, price: 2, list: euro, currency: EUR }\n",
            ))
            .right(swap(ACCOUNTS, PERIOD, lists("euro, standard")))
            .total("14 EUR"),
        Case::refused(
            "the balance group \"famly\" has one subscription",
            "did you mean \"family\"?",
        )
        .wrong(group("famly"))
        .right(group("family")),
        Case::remark(
            "no source of the job has the service type \"data\"",
            "the sources have \"voice\"; for services of other jobs nothing is to be done",
        )
        .wrong(besides(&[
            "id: s2, account: acme, service_type: data, services: [n2]",
        ])),
    ]
}

/// Hierarchies of subscriptions.
fn parents() -> Vec<Case> {
    let child = |id: &str, service: &str, parent: &str, period: &str| {
        format!(
            "id: {id}, account: acme, service_type: voice, services: [{service}], {period}{parent}"
        )
    };
    let free = || {
        more(
            CATALOG,
            "plans: [{ allowances: [{ id: free, units: 1 }] }]\n",
        )
    };
    let near = child("s2", "n2", ", parent: s11", PERIOD);
    let far = child("s2", "n2", ", parent: nobody", PERIOD);
    let early = child(
        "s2",
        "n2",
        ", parent: s1",
        "from: 2026-03-01, to: 2026-03-15",
    );
    let late = child(
        "s2",
        "n2",
        ", parent: s3",
        "from: 2026-03-15, to: 2026-04-01",
    );
    let other = child("s3", "n3", "", PERIOD);
    let circle = [
        child("s2", "n2", ", parent: s3", PERIOD),
        child("s3", "n3", ", parent: s2", PERIOD),
    ];
    // Two share two free units; or one has one, and the other has no usage.
    vec![
        Case::refused(
            "names the parent \"s11\", which is unknown",
            "did you mean \"s1\"?",
        )
        .wrong(free())
        .wrong(besides(&[&near]))
        .right(swap(ACCOUNTS, "s11", "s1"))
        .total("5 USD"),
        Case::refused(
            "names the parent \"nobody\", which is unknown",
            "add the parent, or leave `parent` out",
        )
        .wrong(free())
        .wrong(besides(&[&far]))
        .right(besides(&[&child("nobody", "n3", "", PERIOD)]))
        .total("6 USD"),
        Case::refused(
            "names the parent \"nobody\", which is unknown",
            "or leave `parent` out",
        )
        .wrong(free())
        .wrong(besides(&[&far]))
        .right(swap(ACCOUNTS, ", parent: nobody", ""))
        .total("6 USD"),
        Case::refused(
            "has another parent at",
            "a subscription has one parent in all of its rows",
        )
        .wrong(free())
        .wrong(besides(&[&other, &early, &late]))
        .right(swap(ACCOUNTS, "parent: s3", "parent: s1"))
        .total("5 USD"),
        Case::refused(
            "the parents of the subscription \"s2\" form a circle",
            "leave `parent` out of the one at the root",
        )
        .wrong(free())
        .wrong(besides(&[&circle[0], &circle[1]]))
        .right(swap(ACCOUNTS, ", parent: s2", ""))
        .total("6 USD"),
    ]
}

/// Rows made of a table.
fn tables() -> Vec<Case> {
    let table = |services: &str| {
        format!("tables: [{{ file: services.csv, services: [{{ {services} }}] }}]\n")
    };
    let good = "service_type: \"'voice'\", service: s, subscription: sub";
    let of = |case: Case, sub: &str, services: &str| {
        case.wrong(swap(ACCOUNTS, "service_type: voice, services: [n1], ", ""))
            .wrong(put("services.csv", format!("s,sub\nn1,{sub}\n")))
            .wrong(more(ACCOUNTS, table(services)))
    };
    let unknown = |hint| Case::doubtful("0 USD", "which is unknown", hint);
    // The subscription goes on from the 15th, and names no service any more.
    let history = "id,from,to,s\ns1,2026-03-01,2026-03-15,n1\ns1,2026-03-15,2026-04-01,\n";
    let kept = |billed| {
        let hint = "give `services` of the table `from` and `to` as its `subscriptions` have, or name the service in every row of the subscription";
        let message = "the subscription \"s1\" keeps the service \"n1\" of another row in the time of this one: services of the table have no time of their own";
        let accounts = ACCOUNTS_TEXT.split_once("subscriptions:").unwrap().0;
        let table = "tables: [{ file: history.csv, subscriptions: [{ id: id, account: \"'acme'\", from: from, to: to }], services: [{ service_type: \"'voice'\", service: s, subscription: id }] }]\n";
        Case::doubtful(billed, message, hint)
            .wrong(put("history.csv", history))
            .wrong(put(ACCOUNTS, format!("{accounts}{table}")))
    };
    vec![
        of(unknown("did you mean \"s1\"? Otherwise add the subscription"), "s11", good)
            .right(put("services.csv", "s,sub\nn1,s1\n")),
        of(unknown("add the subscription; until then usage of the service is suspended"), "other", good)
            .right(swap(ACCOUNTS, "tables:", format!("  - {{ id: other, account: acme, {PERIOD} }}\ntables:"))),
        of(Case::refused("lacks \"service_type\"", "give it as an SQL expression"), "s1", "service: s, subscription: sub")
            .right(swap(ACCOUNTS, "service: s,", "service_type: \"'voice'\", service: s,")),
        of(Case::doubtful("7 USD", "declares \"subs\", which no expression reads", "did you mean \"sub\"? It is read as if it were not declared"), "s1", good)
            .wrong(swap(ACCOUNTS, "services.csv,", "services.csv, columns: { subs: text },"))
            .right(swap(ACCOUNTS, "subs:", "sub:")),
        of(Case::refused("\"price_list\" is empty", "write the price list, or `standard`"), "s1", good)
            .wrong(put("lists.csv", "id,list\ns2,\n"))
            .wrong(swap(ACCOUNTS, "tables: [", "tables: [{ file: lists.csv, subscriptions: [{ id: id, account: \"'acme'\", price_list: list }] }, "))
            .right(put("lists.csv", "id,list\ns2,standard\n")),
        kept("7 USD").right(put("history.csv", history.replace("04-01,", "04-01,n1"))),
        kept("3 USD")
            .wrong(swap(USAGE, "2,n1,2026-03-20T00:00:00Z,4,far\n", ""))
            .right(swap(ACCOUNTS, "subscription: id }", "subscription: id, from: from, to: to }"))
            .total("3 USD"),
    ]
}
