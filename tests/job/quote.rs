//! Quotes: what usage would cost, in every form that it can be asked in, and the same as a bill.

use flate2::read::GzDecoder;
use millrace::cli::Exit;
use millrace::quote::{Quote, QuoteRequest, quote};
use millrace_connectors::decode::{Csv, Format, Json, JsonLines};
use millrace_operators::domain::EventTime;
use millrace_tests::jobs::{Desk, millrace, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

const CATALOG: &str = "\
currency: EUR
prices:
  - { id: token, item: token, price: 0.0000003 }
  - { id: token-opus, item: token, when: { model: opus }, price: 15, per: 1000000 }
  - { id: token-opus-far, item: token, when: { model: opus, region: far }, price: 20, per: 1000000 }
  - { id: token-far, item: token, when: { region: far }, price: 0.0000004 }
  - { id: block, item: storage, price: 0.10, block: 1000 }
  - { id: call, item: call, price: 0.03, model: per_record }
  - { id: token-us, item: token, price: 0.5, list: us, currency: USD }
  - { id: token-yen, item: token, price: 80, list: yen, currency: JPY }
  - { id: call-us, item: call, price: 0.04, list: us, currency: USD, model: per_record }
  - { id: token-acme, item: token, price: 0.25, account: acme, currency: CZK }
  - { id: old, item: spring, price: 1, to: 2026-01-01 }
";

fn desk() -> Desk {
    Desk::new(&[("catalog.yaml", CATALOG)])
}

/// What is asked when nothing else is said.
fn request(catalog: PathBuf, format: Format) -> QuoteRequest {
    let at = "2026-02-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    QuoteRequest {
        catalogs: vec![catalog],
        job: None,
        source: None,
        price_list: None,
        account: None,
        at: EventTime::from(at),
        format,
        name: "-".to_owned(),
    }
}

fn csv() -> Format {
    Format::Csv(Csv {
        delimiter: ',',
        header: None,
    })
}

fn asked(format: Format, usage: &str) -> Quote {
    let desk = desk();
    let request = request(desk.at("catalog.yaml"), format);
    quote(&request, Box::new(Cursor::new(usage.to_owned()))).unwrap()
}

/// Price and amount of each line, or why there is none.
fn lines(quote: &Quote) -> Vec<String> {
    let line = |line: &millrace::quote::QuoteLine| match (&line.price, &line.amount, line.reason) {
        (Some(price), Some(amount), None) => {
            format!(
                "{} {price} {amount} {}",
                line.row,
                line.currency.as_deref().unwrap_or("?")
            )
        }
        (None, None, Some(reason)) => format!("{} {reason}", line.row),
        (Some(price), None, None) => format!("{} {price} in the volume", line.row),
        other => panic!("{other:?}"),
    };
    quote.lines.iter().map(line).collect()
}

#[test]
fn a_container_costs_the_same_in_every_format() {
    let quotes = [
        (csv(), "item,quantity,model\ntoken,1200,opus\ntoken,3e2,\n".to_owned()),
        (
            Format::JsonLines(JsonLines {}),
            "{\"item\":\"token\",\"quantity\":1200,\"model\":\"opus\"}\n{\"item\":\"token\",\"quantity\":3e2}\n"
                .to_owned(),
        ),
        (
            Format::Json(Json {}),
            "[{\"item\":\"token\",\"quantity\":\"1200\",\"model\":\"opus\"},\n {\"item\":\"token\",\"quantity\":300}]"
                .to_owned(),
        ),
    ];
    for (format, usage) in quotes {
        let quote = asked(format.clone(), &usage);
        assert_eq!(
            lines(&quote),
            ["1 token-opus 0.018 EUR", "2 token 0.00009 EUR"],
            "{format:?}"
        );
        assert_eq!(quote.totals["EUR"], "0.01809", "{format:?}");
        assert!(quote.is_complete());
    }
}

#[test]
fn prices_are_per_unit_per_many_units_per_started_block_and_per_record() {
    let usage = "item,quantity\ntoken,1\nstorage,1000\nstorage,1001\nstorage,0.5\ncall,17\n";
    let expected = [
        "1 token 0.0000003 EUR",
        "2 block 0.1 EUR",
        "3 block 0.2 EUR",
        "4 block 0.1 EUR",
        "5 call 0.03 EUR",
    ];
    let quote = asked(csv(), usage);
    assert_eq!(lines(&quote), expected);
    assert_eq!(quote.totals["EUR"], "0.4300003");
}

#[test]
fn the_price_that_asks_most_wins() {
    let usage = "item,quantity,model,region\n\
        token,1000000,haiku,near\n\
        token,1000000,opus,near\n\
        token,1000000,haiku,far\n\
        token,1000000,opus,far\n";
    let expected = [
        "1 token 0.3 EUR",
        "2 token-opus 15 EUR",
        "3 token-far 0.4 EUR",
        "4 token-opus-far 20 EUR",
    ];
    assert_eq!(lines(&asked(csv(), usage)), expected);
}

#[test]
fn each_list_has_its_own_currency_and_so_has_each_account() {
    let usage = "item,quantity,price_list,account\n\
        token,2,us,\n\
        token,2,yen,\n\
        token,1000000,,\n\
        call,9,us,\n\
        token,2,us,bolt\n\
        token,2,standard,acme\n";
    let quote = asked(csv(), usage);
    let expected = [
        "1 token-us 1 USD",
        "2 token-yen 160 JPY",
        "3 token 0.3 EUR",
        "4 call-us 0.04 USD",
        "5 token-us 1 USD",
        "6 token-acme 0.5 CZK",
    ];
    assert_eq!(lines(&quote), expected);
    let totals: Vec<_> = quote
        .totals
        .iter()
        .map(|(c, t)| (c.as_str(), t.as_str()))
        .collect();
    assert_eq!(
        totals,
        [
            ("CZK", "0.5"),
            ("EUR", "0.3"),
            ("JPY", "160"),
            ("USD", "2.04")
        ]
    );
}

#[test]
fn a_row_that_cannot_be_priced_says_why_and_its_neighbours_are_priced() {
    let usage = "item,quantity,time,price_list\n\
        token,1000000,,\n\
        tokn,1,,\n\
        token,-1,,\n\
        token,many,,\n\
        ,1,,\n\
        token,1,yesterday,\n\
        spring,1,,\n\
        spring,1,2025-06-01T00:00:00Z,\n\
        token,1,,nowhere\n\
        token,1,0001-01-01T00:00:00Z,\n\
        token,99999999999999999999,,\n";
    let quote = asked(csv(), usage);
    let expected = [
        "1 token 0.3 EUR",
        "2 PRICE_NOT_FOUND",
        "3 QUANTITY_NEGATIVE",
        "4 FIELD_UNPARSABLE",
        "5 QUANTITY_MISSING",
        "6 FIELD_UNPARSABLE",
        "7 PRICE_NOT_EFFECTIVE",
        "8 old 1 EUR",
        "9 PRICE_NOT_FOUND",
        "10 TIME_OUT_OF_RANGE",
        "11 QUANTITY_OUT_OF_RANGE",
    ];
    assert_eq!(lines(&quote), expected);
    assert!(!quote.is_complete());
    for line in quote.lines.iter().filter(|line| line.reason.is_some()) {
        assert!(
            line.message
                .as_ref()
                .is_some_and(|message| !message.is_empty()),
            "{line:?}"
        );
    }
}

#[test]
fn the_command_line_quotes_a_file_and_ends_with_what_became_of_it() {
    let desk = desk();
    desk.write(
        "usage.jsonl",
        "{\"item\":\"token\",\"quantity\":1200,\"model\":\"opus\"}\n",
    );
    desk.write("bad.csv", "item,quantity\ntoken,1\ntokn,1\n");
    let at = |file: &str| desk.at(file).display().to_string();
    let asked = |usage: &str, output: &str| {
        millrace(&[
            "quote",
            &at(usage),
            "--catalog",
            &at("catalog.yaml"),
            "--output",
            output,
        ])
    };
    let json = asked("usage.jsonl", "json");
    assert_eq!(json.exit, Exit::Ok, "{json:?}");
    assert_eq!(json.summary()["lines"][0]["amount"], "0.018");
    assert_eq!(json.summary()["totals"]["EUR"], "0.018");
    let csv = asked("bad.csv", "csv");
    assert_eq!(csv.exit, Exit::Findings, "{csv:?}");
    assert!(
        csv.out
            .starts_with("row,item,quantity,price,amount,currency"),
        "{}",
        csv.out
    );
    assert!(
        csv.out.contains("PRICE_NOT_FOUND") && csv.out.contains("0.0000003"),
        "{}",
        csv.out
    );
    let refused = asked("nowhere.csv", "json");
    assert_eq!(
        (refused.exit, refused.out.as_str()),
        (Exit::Unusable, ""),
        "{refused:?}"
    );
    assert!(refused.err.contains("nowhere.csv"), "{}", refused.err);
}

/// The example's folder.
fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/llm")
        .join(file)
}

/// The header, the first calls of the trace, and the first of those with a long context.
fn slice_of_the_trace() -> (String, usize) {
    let file = std::fs::File::open(example("usage/requests.csv.gz")).unwrap();
    let mut trace = String::new();
    GzDecoder::new(file).read_to_string(&mut trace).unwrap();
    let mut lines = trace.lines();
    let header = lines.next().unwrap();
    let input = header
        .split(',')
        .position(|column| column == "input_tokens")
        .unwrap();
    let is_long = |line: &&str| {
        line.split(',')
            .nth(input)
            .and_then(|tokens| tokens.parse().ok())
            .unwrap_or(0)
            > 200_000
    };
    let short: Vec<&str> = lines
        .clone()
        .filter(|line| !is_long(line))
        .take(150)
        .collect();
    let long: Vec<&str> = lines.filter(is_long).take(150).collect();
    let records = short.len() + long.len();
    (
        format!("{header}\n{}\n{}\n", short.join("\n"), long.join("\n")),
        records,
    )
}

/// Row, item, quantity, price and amount of a charge or of a line of a quote, whose rows count from
/// `first`.
fn charge(row: &Value, first: u64) -> (u64, [String; 4]) {
    let fields = ["item", "quantity", "price", "amount"].map(|key| {
        let plain = row[key]
            .as_str()
            .map(str::to_owned)
            .unwrap_or_else(|| row[key].to_string());
        // A decimal of a table has all its places; a quote only those that it needs.
        if plain.contains('.') && matches!(key, "quantity" | "amount") {
            plain.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            plain
        }
    });
    (row["row"].as_u64().unwrap() - first, fields)
}

#[test]
fn a_quote_by_the_rule_of_a_job_is_what_the_job_charges() {
    let (usage, records) = slice_of_the_trace();
    let desk = Desk::new(&[("usage.csv", &usage)]);
    let written = |file: &str| example(file).display().to_string();
    let job = format!(
        "name: slice\ntime_zone: UTC\nsources:\n  - {{ name: slice, platform: proxy, service_type: llm, \
         path: usage.csv, mediation: '{}' }}\ncatalog: ['{}']\naccounts: ['{}']\n",
        written("mediation.yaml"),
        written("catalog.yaml"),
        written("accounts.yaml"),
    );
    desk.write("job.yaml", job);
    let billed = desk.run();
    assert_eq!(
        billed.summary()["records"]["monetised"],
        records,
        "{billed:?}"
    );
    let usage = desk.at("usage.csv").display().to_string();
    let quoted = millrace(&[
        "quote",
        &usage,
        "--job",
        &written("job.yaml"),
        "--output",
        "json",
    ]);
    assert_eq!(quoted.exit, Exit::Ok, "{}", quoted.err);
    let quoted = quoted.summary();
    let lines = quoted["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| charge(line, 1));
    let charges = desk.snapshot("monetised");
    let quoted_lines: BTreeSet<_> = lines.collect();
    let charged: BTreeSet<_> = charges.iter().map(|row| charge(row, 0)).collect();
    assert_eq!(quoted_lines, charged);
    assert_eq!(
        quoted["totals"]["USD"],
        billed.summary()["totals"][0]["amount"]
    );
    // The long contexts have prices of their own.
    let long = |row: &&Value| text(row, "price").contains("above_200k");
    assert!(
        charges.iter().filter(long).count() >= 150,
        "{:?}",
        charges.last()
    );
}

const VOLUME: &str = "\
currency: EUR
plans:
  - accumulators:
      - { id: total, items: [call] }
    commitments:
      - { id: least, amount: 50, items: [text] }
      - { id: yearly, amount: 2, items: [fax], cycle: year }
    charges:
      - { item: fee, amount: 9, when: advance }
      - { item: setup, amount: 1, when: activation }
prices:
  - { id: vol, item: call, model: volume, by: total, tiers: [{ price: 1 }, { from: 11, price: 0.8 }] }
  - { id: text, item: text, price: 3 }
";

#[test]
fn a_quote_draws_included_units_before_money() {
    let catalog = "\
currency: EUR
plans: [{ allowances: [{ id: promo, money: 20 }, { id: pool, units: 100, priority: 1 }] }]
prices: [{ id: call, item: call, price: 1 }]
";
    let desk = Desk::new(&[("catalog.yaml", catalog)]);
    let usage = "item,quantity,time\ncall,30,2026-02-01T00:00:00Z\ncall,100,2026-02-02T00:00:00Z\n";
    let request = request(desk.at("catalog.yaml"), csv());
    let quoted = quote(&request, Box::new(Cursor::new(usage.to_owned()))).unwrap();
    assert_eq!(lines(&quoted), ["1 call 0 EUR", "2 call 10 EUR"]);
}

#[test]
fn a_volume_is_quoted_whole_and_what_is_left_out_is_named() {
    let desk = Desk::new(&[("catalog.yaml", VOLUME)]);
    let ask = |usage: &str| {
        let request = request(desk.at("catalog.yaml"), csv());
        quote(&request, Box::new(Cursor::new(usage.to_owned()))).unwrap()
    };
    let usage = "item,quantity,time\n\
        call,7,2026-02-01T00:00:00Z\n\
        text,2,2026-02-02T00:00:00Z\n\
        call,4,2026-02-03T00:00:00Z\n\
        call,3,2026-03-03T00:00:00Z\n";
    let quoted = ask(usage);
    let expected = [
        "1 vol in the volume",
        "2 text 6 EUR",
        "3 vol in the volume",
        "3 vol 8.8 EUR",
        "4 vol in the volume",
        "4 vol 3 EUR",
    ];
    assert_eq!(lines(&quoted), expected);
    assert_eq!(quoted.lines[3].quantity, "11");
    assert_eq!(quoted.totals["EUR"], "17.8");
    let left_out: Vec<String> = quoted
        .left_out
        .iter()
        .map(|l| {
            format!(
                "{} {} {} from {}",
                l.kind,
                l.item,
                l.amount,
                &l.cycle_start[..10]
            )
        })
        .collect();
    let expected = [
        "commitment least 44 from 2026-02-01",
        "commitment least 50 from 2026-03-01",
        "commitment yearly 2 from 2026-01-01",
        "forward_recurring fee 9 from 2026-02-01",
        "forward_recurring fee 9 from 2026-03-01",
    ];
    assert_eq!(left_out, expected);
    assert_eq!(
        quoted.notes,
        ["quoted as for a subscription that begins on 2026-01-01 and has used nothing before"]
    );
    // With less the eleventh unit: it takes 1.20 off the whole.
    let ten = ask("item,quantity,time\ncall,10,2026-02-01T00:00:00Z\n");
    assert_eq!(ten.totals["EUR"], "10");

    desk.write("usage.csv", usage);
    let (catalog, usage) = (desk.at("catalog.yaml"), desk.at("usage.csv"));
    let ask = |output: &str| {
        let (catalog, usage) = (catalog.display().to_string(), usage.display().to_string());
        millrace(&["quote", "--catalog", &catalog, &usage, "--output", output])
    };
    let table = ask("table");
    assert_eq!(table.exit, Exit::Ok, "{table:?}");
    for expected in [
        "total 17.8 EUR",
        "in the volume",
        "8.8",
        "not included: least 44 EUR, 2026-02-01T00:00:00Z to 2026-03-01T00:00:00Z (what the \
         commitment lacks if no more is used)",
        "not included: fee 9 EUR",
        "has used nothing before",
    ] {
        assert!(
            table.out.contains(expected),
            "{expected} is not in {}",
            table.out
        );
    }
    let csv = ask("csv");
    assert!(csv.err.contains("not included: least 44 EUR"), "{csv:?}");
    assert!(csv.out.contains("8.8"), "{csv:?}");
}

#[test]
fn whoever_and_whatever_nobody_knows_is_refused() {
    let desk = desk();
    let refused = |list: Option<&str>, account: Option<&str>, usage: &str| {
        let request = QuoteRequest {
            price_list: list.map(str::to_owned),
            account: account.map(str::to_owned),
            ..request(desk.at("catalog.yaml"), csv())
        };
        let quoted = quote(&request, Box::new(Cursor::new(usage.to_owned())));
        quoted.map_err(|error| error.to_string()).err()
    };
    let usage = "item,quantity\ntoken,1\n";
    for (list, account, usage, told) in [
        (
            Some("uss"),
            None,
            usage,
            "the catalog has no price list \"uss\"; did you mean \"us\"?",
        ),
        (
            None,
            Some("acmee"),
            usage,
            "the catalog has no prices of an account \"acmee\"; did you mean \"acme\"?",
        ),
        (
            None,
            None,
            "item,quantity,Region\ntoken,1,far\n",
            "-: no price depends on the column \"Region\"; did you mean \"region\"?",
        ),
        (
            None,
            None,
            "item,quantity,list\ntoken,1,us\n",
            "-: no price depends on the column \"list\"; did you mean \"price_list\"?",
        ),
    ] {
        assert_eq!(refused(list, account, usage).as_deref(), Some(told));
    }
    for (list, account, usage) in [
        (Some("us"), Some("acme"), usage),
        (None, None, "item,quantity,model,note\ntoken,1,opus,mine\n"),
    ] {
        assert_eq!(refused(list, account, usage), None, "{usage}");
    }
}
