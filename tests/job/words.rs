//! Words that YAML, JSON or a spreadsheet may take for something else are what was written, wherever a
//! name, an id or a value stands; or they are refused.

use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, Ended, text};

/// Written without quotes.
const WORDS: &[&str] = &[
    "NO",
    "no",
    "yes",
    "on",
    "off",
    "Off",
    "y",
    "n",
    "true",
    "True",
    "false",
    "1.10",
    "1.1",
    "1",
    "01",
    "0042",
    "007",
    "12e3",
    "1E5",
    "1_000",
    "12:30",
    "1:30:00",
    "0x1F",
    "0o17",
    "0b11",
    "+4712345678",
    "-1",
    "+.5",
    ".5",
    "5.",
    ".inf",
    ".NaN",
    "2026-01-01",
    "2026-01-01T00:00:00Z",
    "1e999",
    "123456789012345678901234567890",
    "1.000000000000000000000000000001",
    "=",
    "null_",
    "nil",
];

/// Nothing to YAML: refused without quotes.
const NOTHING: &[&str] = &["null", "Null", "NULL", "~"];

/// Numbers and truths as JSON has them.
const OF_JSON: &[&str] = &[
    "1.10", "1.1", "12e3", "1E5", "-1", "0", "100", "1.50", "true", "false",
];

fn job(source: &str) -> String {
    format!(
        "\
name: words
time_zone: UTC
clock: 2026-12-01
sources:
  - name: feed
    platform: feed
    service_type: voice
    path: {source}
    mediation:
      columns: {{ n: bigint, at: timestamp }}
      identity: [id]
      service: number
      time: at
      attributes: {{ country: country, known: \"lookup('codes', 'name', country)\" }}
      charges: {{ n: n }}
lookups: {{ codes: {{ file: codes.csv, key: code }} }}
catalog: [catalog.yaml]
accounts: [accounts.yaml]
"
    )
}

/// A desk on which everything is called `word`, written as `written` in YAML.
fn desk(word: &str, written: &str) -> Desk {
    let catalog = format!(
        "\
currency: EUR
prices:
  - {{ list: {written}, item: n, when: {{ country: {written}, known: {written} }}, price: 1 }}
tables:
  - file: prices.csv
    prices: [{{ item: \"'n'\", list: list, when: {{ country: country }}, price: price }}]
"
    );
    let accounts = format!(
        "\
accounts:
  - {{ id: {written}, currency: EUR }}
subscriptions:
  - {{ id: {written}, account: {written}, price_lists: [{written}], service_type: voice, services: [{written}] }}
"
    );
    Desk::new(&[
        ("job.yaml", &job("usage.csv")),
        ("catalog.yaml", &catalog),
        ("accounts.yaml", &accounts),
        (
            "prices.csv",
            &format!("list,country,price\n{word},{word},7\n"),
        ),
        ("codes.csv", &format!("code,name\n{word},{word}\n")),
        (
            "usage.csv",
            &format!("id,number,country,at,n\n1,{word},{word},2026-01-05T10:00:00Z,1\n"),
        ),
    ])
}

fn is_billed(ended: &Ended, word: &str) {
    assert_eq!(ended.exit, Exit::Ok, "{word}: {ended:?}");
    assert_eq!(ended.totals(), ["1 EUR"], "{word}: {ended:?}");
    let account = &ended.summary()["accounts"][0];
    assert_eq!(text(account, "name"), word, "{ended:?}");
}

#[test]
fn words_are_what_was_written_in_yaml_and_csv() {
    for word in WORDS {
        is_billed(&desk(word, word).run(), word);
    }
}

#[test]
fn nothing_is_refused_unless_it_is_quoted() {
    for word in NOTHING {
        let refused = desk(word, word).run();
        assert_eq!(refused.exit, Exit::Unusable, "{word}: {refused:?}");
        assert!(refused.err.contains("quote"), "{word}: {refused:?}");
        is_billed(&desk(word, &format!("\"{word}\"")).run(), word);
    }
}

#[test]
fn numbers_of_json_keep_their_digits_as_names() {
    for word in OF_JSON {
        let desk = desk(word, word);
        desk.write("job.yaml", job("usage.jsonl"));
        desk.write(
            "usage.jsonl",
            format!(
                "{{\"id\":1,\"number\":{word},\"country\":{word},\"at\":\"2026-01-05T10:00:00Z\",\"n\":1}}\n"
            ),
        );
        is_billed(&desk.run(), word);
    }
}
