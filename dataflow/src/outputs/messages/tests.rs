use super::*;
use crate::durable::PART_ROWS;
use millrace_connectors::names::Names;
use millrace_connectors::output::AggregatedLine;
use millrace_operators::domain::{Amount, EventTime, LineKey, LineSum, Quantity};
use serde_json::Value;

#[test]
fn rows_of_a_part_keep_keys_and_contents() {
    use MessageOutput::{Aggregated, Monetised};
    let mut part = Part::default();
    part.add_lines(Monetised, &["a", "bc"], b"{1}\n{22}\n".to_vec());
    part.add(Monetised, &"gone", None);
    part.add_lines(Aggregated, &["d"], b"{}\n".to_vec());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let rows: Vec<_> = part
        .rows()
        .map(|(output, key, value)| (output, text(key), value.map(text)))
        .collect();
    let row =
        |output, key: &str, value: Option<&str>| (output, key.to_owned(), value.map(str::to_owned));
    let expected = [
        row(Monetised, "a", Some("{1}")),
        row(Monetised, "bc", Some("{22}")),
        row(Monetised, "gone", None),
        row(Aggregated, "d", Some("{}")),
    ];
    assert_eq!(rows, expected);
    assert_eq!(part.room(), PART_ROWS - 4);
}

/// A billing line of an amount.
fn line(amount: i128, names: &Names) -> AggregatedLine {
    AggregatedLine {
        key: LineKey {
            account: names.enter_account("acme"),
            unit_start: EventTime(0),
            unit_end: EventTime(1),
            item: names.enter("seconds"),
            currency: names.enter("EUR"),
            dimensions: Default::default(),
        },
        sum: LineSum::of(Quantity(1), Amount(amount), 1),
    }
}

fn texts() -> Texts {
    Texts {
        names: Arc::new(Names::default()),
        files: Arc::default(),
        lines: Arc::default(),
        dimensions: Arc::new([]),
    }
}

#[test]
fn amounts_of_messages_have_all_their_digits() {
    let texts = texts();
    let amounts: Vec<i128> = (0..38)
        .flat_map(|power| [10_i128.pow(power), 1 - 10_i128.pow(power)])
        .chain([Amount::MAX.0])
        .collect();
    let rows: Vec<AggregatedLine> = amounts
        .iter()
        .map(|amount| line(*amount, &texts.names))
        .collect();
    let told = lines(&encode(&rows, &texts).unwrap()).unwrap();
    let told = String::from_utf8(told).unwrap();
    assert_eq!(told.lines().count(), amounts.len());
    for (told, amount) in told.lines().zip(amounts) {
        let told: Value = serde_json::from_str(told).unwrap();
        let digits = format!("{:025}", amount.unsigned_abs());
        let (whole, fraction) = digits.split_at(digits.len() - 24);
        let sign = if amount < 0 { "-" } else { "" };
        assert_eq!(told["amount"], format!("{sign}{whole}.{fraction}"));
    }
    // What no column holds is empty, and the summary tells it.
    let beyond = [line(Amount::MAX.0 + 1, &texts.names)];
    let told = lines(&encode(&beyond, &texts).unwrap()).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["amount"], Value::Null);
}

#[test]
fn a_name_that_nobody_knows_is_no_message() {
    let texts = texts();
    let known = line(1, &texts.names);
    encode(std::slice::from_ref(&known), &texts).unwrap();
    let unknown = line(1, &Names::default());
    let unknown = AggregatedLine {
        key: LineKey {
            account: millrace_operators::domain::AccountKey(7),
            ..unknown.key
        },
        ..unknown
    };
    let refused = OutputError::from(encode(&[unknown], &texts).unwrap_err());
    assert!(matches!(refused, OutputError::Unknown(_)), "{refused}");
    assert!(refused.to_string().contains("an account #0000000000000007"));
}
