//! Catalog and accounts text to rows, and every way of getting them wrong.

use super::accounts::{AccountsFile, account_rows};
use super::agree::disagreements;
use super::catalog::{CatalogFile, price_rows};
use super::pool::settle_groups;
use super::rows::Setting;
use super::*;
use crate::diagnostic::Diagnostic;
use crate::names::Names;
use jiff::tz::TimeZone;
use millrace_operators::domain::{PriceModel, SubscriptionStatus};
use std::sync::Arc;

mod plans;

/// The reference data of a catalog and an accounts file, with all findings about both.
fn load(names: &Names, catalog: &str, accounts: &str) -> (Reference, Vec<Diagnostic>) {
    let zone = TimeZone::get("Europe/Prague").unwrap();
    let setting = Setting { zone: &zone, names };
    let mut rows = Rows::default();
    let read = yaml::read::<CatalogFile>("catalog.yaml", catalog);
    let mut findings = read.findings;
    if let Some(catalog) = read.value {
        rows.append(price_rows(
            &Arc::from("catalog.yaml"),
            &catalog,
            &read.refused,
            setting,
            &mut findings,
        ));
    }
    let read = yaml::read::<AccountsFile>("accounts.yaml", accounts);
    findings.extend(read.findings);
    if let Some(accounts) = read.value {
        rows.append(account_rows(
            &Arc::from("accounts.yaml"),
            &accounts,
            &read.refused,
            setting,
            &mut findings,
        ));
    }
    if findings.is_empty() {
        findings = settle_groups(&mut rows, names);
        findings.extend(disagreements(&rows, setting));
    }
    findings.sort();
    (Reference::from(rows), findings)
}

/// A catalog of rows in YAML's flow style, without a finding.
pub(super) fn catalog(names: &Names, rows: &str) -> Reference {
    let (reference, findings) = load(names, &format!("currency: USD\nprices: [{rows}]"), "");
    assert_eq!(findings, []);
    reference
}

fn findings(catalog: &str, accounts: &str) -> String {
    let (_, findings) = load(&Names::default(), catalog, accounts);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    lines.join("\n").replace("\n  hint: ", " | ")
}

#[test]
fn prices_are_the_text_that_was_written() {
    let names = Names::default();
    for text in ["3e-07", "\"0.0000003\"", "3.0E-7", "0.00000030"] {
        let reference = catalog(&names, &format!("{{ item: t, price: {text} }}"));
        let [row] = reference.prices.as_slice() else {
            panic!("{reference:?}")
        };
        let PriceModel::PerUnit { price, per: 1 } = row.model else {
            panic!("{row:?}")
        };
        assert_eq!(price.to_string(), "0.0000003", "{text}");
    }
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let names = Names::default();
    let a = "{ item: a, price: 1, when: { x: 1, y: 2 } }";
    let b = "{ item: b, price: 2, list: other }";
    assert_eq!(
        catalog(&names, &format!("{a}, {b}")),
        catalog(&names, &format!("{b}, {a}, {b}"))
    );
}

#[test]
fn everything_wrong_with_a_catalog_is_said_at_once() {
    let text = "\
currency: dollars!
prices:
  - { item: t, price: -1 }
  - item: t
    price: 0.1.2
    from: 2026-02-30
  - { item: t, price: 1, per: 0, prioritiy: 1 }
  - { item: t, price: 1, from: 2026-02-01, to: 2026-01-01 }
  - { price: 1 }
";
    assert_eq!(
        findings(text, ""),
        "\
catalog.yaml:1:11: not the name of a currency: \"dollars!\" | write a code like USD, or a unit of your own like credits
catalog.yaml:3:23: a price cannot be negative: -1 | write 0 or more; a credit towards usage is an allowance of money of the price list (`allowances: [{ id: credit, money: 10 }]`), and usage that was billed in error is taken back by a correction of its record
catalog.yaml:5:12: \"0.1.2\" is not a decimal number | write digits with a point, like 0.0025 or 2.5e-3
catalog.yaml:6:11: \"from\" is not a time: \"2026-02-30\" | write a date like 2026-01-31, or a time like 2026-01-31T08:00:00Z
catalog.yaml:7:31: \"per\" must be a whole number of at least 1, found \"0\"
catalog.yaml:7:34: unknown key \"prioritiy\" | did you mean \"priority\"?
catalog.yaml:8:48: \"to\" is not after \"from\": 2025-12-31T23:00:00Z and 2026-01-31T23:00:00Z | \"to\" is the first instant that the row no longer holds
catalog.yaml:9:5: the key \"item\" is missing"
    );
}

#[test]
fn overlapping_prices_are_named_both() {
    let overlapping = "\
currency: USD
prices:
  - { item: t, price: 1, from: 2026-01-01, to: 2026-07-01 }
  - { item: t, price: 2, from: 2026-06-01 }
";
    let found = findings(overlapping, "");
    assert!(
        found.starts_with("catalog.yaml:4:5: the price \"standard/t from 2026-06-01\""),
        "{found}"
    );
    assert!(
        found.contains("overlaps \"standard/t from 2026-01-01\""),
        "{found}"
    );
    assert!(found.contains("of catalog.yaml:3"), "{found}");
    assert_eq!(found.lines().count(), 1, "{found}");
    for apart in [
        "{ item: t, price: 2, from: 2026-07-01 }",
        "{ item: t, price: 2, from: 2026-06-01, when: { model: x } }",
        "{ item: t, price: 2, from: 2026-06-01, priority: 1 }",
        "{ item: t, price: 2, from: 2026-06-01, list: other }",
        "{ item: u, price: 2, from: 2026-06-01 }",
    ] {
        let first = "{ item: t, price: 1, from: 2026-01-01, to: 2026-07-01 }";
        catalog(&Names::default(), &format!("{first}, {apart}"));
    }
}

#[test]
fn an_overlap_behind_a_short_row_is_seen() {
    let text = "\
currency: USD
prices:
  - { id: long, item: t, price: 1, from: 2026-01-01, to: 2026-12-01 }
  - { id: late, item: t, price: 2, from: 2026-06-01, to: 2026-07-01, priority: 0 }
  - { id: short, item: t, price: 3, from: 2026-02-01, to: 2026-03-01 }
";
    let found = findings(text, "");
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(
        found.contains("\"late\"") && found.contains("\"short\""),
        "{found}"
    );
}

#[test]
fn a_gap_between_prices_is_told_as_far_as_no_wider_price_fills_it() {
    let told = |rows: &str| {
        let found = findings(&format!("currency: USD\nprices: [{rows}]"), "");
        let gap = found
            .split_once(" in [")
            .and_then(|(_, gap)| gap.split_once(')'));
        gap.map_or(found.clone(), |(gap, _)| gap.replace("T23:00:00Z", ""))
    };
    let first = "{ item: t, price: 1, when: { r: eu }, to: 2026-01-11 }";
    let next = "{ item: t, price: 2, when: { r: eu }, from: 2026-01-21 }";
    let gap = "2026-01-10, 2026-01-20";
    for (between, expected) in [
        ("{ item: u, price: 3 }", gap),
        ("{ item: t, price: 3, list: other }", gap),
        ("{ item: t, price: 3, when: { r: us } }", gap),
        ("{ item: t, price: 3, when: { r: eu, s: x } }", gap),
        ("{ item: t, price: 3 }", ""),
        (
            "{ item: t, price: 3, to: 2026-01-16 }",
            "2026-01-15, 2026-01-20",
        ),
        (
            "{ item: t, price: 3, from: 2026-01-16 }",
            "2026-01-10, 2026-01-15",
        ),
        (
            "{ item: t, price: 3, when: { r: eu }, priority: 1, from: 2026-01-01, to: 2026-02-01 }",
            "",
        ),
    ] {
        assert_eq!(
            told(&format!("{first}, {between}, {next}")),
            expected,
            "{between}"
        );
    }
    // An account pays by its list outside of what it was promised.
    let promised = [first, next].map(|row| row.replace("price:", "account: a, price:"));
    let found = findings(
        &format!("currency: USD\nprices: [{}]", promised.join(", ")),
        "",
    );
    assert!(!found.contains("has no price for"), "{found}");
}

#[test]
fn prices_for_an_account_overlap_whatever_their_list() {
    let text = "\
currency: USD
prices:
  - { id: a, account: acme, item: t, price: 1, list: x }
  - { id: b, account: acme, item: t, price: 2, list: y }
";
    assert!(findings(text, "accounts: [{ id: acme, currency: USD }]").contains("overlaps"));
}

#[test]
fn a_price_id_names_one_row() {
    let text = "\
currency: USD
prices:
  - { id: a, item: t, price: 1 }
  - { id: a, item: u, price: 2 }
";
    let found = findings(text, "");
    assert!(
        found.starts_with("catalog.yaml:4:5: the price id \"a\" is given twice"),
        "{found}"
    );
    assert!(found.contains("first at catalog.yaml:3"), "{found}");
}

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD, billing: { anniversary: 2026-01-15, every: 1, cycle: month } }
subscriptions:
  - id: acme-llm
    account: acme
    price_lists: [acme-list, standard]
    from: 2026-01-01
    to: 2026-06-01
    service_type: llm
    services: [s-1, 007, { type: voice, id: +420123, from: 2026-02-01 }]
  - { id: acme-llm, account: acme, status: inactive, from: 2026-06-01, to: 2026-09-01 }
";

#[test]
fn services_last_as_long_as_their_subscription() {
    let names = Names::default();
    let (reference, findings) = load(&names, "currency: USD", ACCOUNTS);
    assert_eq!(findings, []);
    let mut history: Vec<_> = reference
        .subscriptions
        .iter()
        .map(|row| (row.valid.start(), row.status))
        .collect();
    history.sort();
    let statuses: Vec<SubscriptionStatus> = history.into_iter().map(|(_, status)| status).collect();
    assert_eq!(
        statuses,
        [SubscriptionStatus::Active, SubscriptionStatus::Inactive]
    );
    let mut services: Vec<(String, String, String)> = reference
        .services
        .iter()
        .map(|row| {
            let (service_type, id) = names.service(row.service);
            (
                service_type.to_string(),
                id.to_string(),
                row.valid.to_string(),
            )
        })
        .collect();
    services.sort();
    let lifetime = "[2025-12-31T23:00:00Z, 2026-08-31T22:00:00Z)".to_owned();
    let own = "[2026-01-31T23:00:00Z, open)".to_owned();
    let expected = [
        ("llm".to_owned(), "007".to_owned(), lifetime.clone()),
        ("llm".to_owned(), "s-1".to_owned(), lifetime),
        ("voice".to_owned(), "+420123".to_owned(), own),
    ];
    assert_eq!(services, expected);
}

#[test]
fn what_is_not_known_yet_is_a_warning() {
    let accounts = "\
accounts:
  - { id: acme, currency: EUR }
subscriptions:
  - { id: s1, account: acne, price_lists: [standart], service_type: llm, services: [x] }
  - { id: s2, account: acme, service_type: llm, services: [x] }
";
    let (_, found) = load(
        &Names::default(),
        "currency: USD\nprices: [{ item: t, price: 1 }]",
        accounts,
    );
    assert!(found.iter().all(|finding| !finding.is_error()), "{found:?}");
    let told: Vec<(u64, &str, &str)> = found
        .iter()
        .map(|f| (f.line, f.message.as_str(), f.hint.as_str()))
        .collect();
    let [currency, account, list, contested] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(currency.0, 2);
    assert!(currency.1.contains("no price is in EUR"));
    assert!(account.1.contains("\"acne\"") && account.2.starts_with("did you mean \"acme\"?"));
    assert!(list.1.contains("\"standart\"") && list.2.starts_with("did you mean \"standard\"?"));
    assert!(
        contested
            .1
            .contains("claimed by \"s2\" here and by \"s1\" at accounts.yaml:4")
    );
}

#[test]
fn contradictions_about_accounts_are_errors() {
    let accounts = "\
accounts:
  - { id: acme, currency: USD }
  - { id: acme, currency: EUR }
subscriptions:
  - { id: s, account: acme, from: 2026-01-01, to: 2026-03-01 }
  - { id: s, account: acme, from: 2026-02-01 }
  - { id: t, account: acme, services: [x] }
  - { id: t, account: acme, sevices: [x] }
";
    let found = findings("currency: USD", accounts);
    assert!(
        found.contains("accounts.yaml:7:40: the service has no type"),
        "{found}"
    );
    assert!(
        found.contains("accounts.yaml:8:29: unknown key \"sevices\""),
        "{found}"
    );
    let accounts: Vec<&str> = accounts.lines().take(6).collect();
    let found = findings("currency: USD", &accounts.join("\n"));
    assert!(
        found.contains("accounts.yaml:3:5: the account \"acme\" is given twice"),
        "{found}"
    );
    assert!(
        found.contains("accounts.yaml:6:5: the subscription \"s\" has two sets"),
        "{found}"
    );
}

#[test]
fn a_service_row_may_be_repeated() {
    let accounts = "\
accounts: [{ id: a, currency: USD }]
subscriptions:
  - id: s
    account: a
    service_type: llm
    services: [x, x, { id: x, from: 2026-01-01, to: 2026-02-01 }]
";
    let (reference, findings) = load(&Names::default(), "currency: USD", accounts);
    assert_eq!(
        (findings.as_slice(), reference.services.len()),
        ([].as_slice(), 1)
    );
}
