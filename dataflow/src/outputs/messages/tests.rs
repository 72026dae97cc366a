use super::*;
use millrace_operators::domain::{AccountKey, Amount, EventTime, LineKey, LineSum, Name, Quantity};

fn line(account: u64, charges: i64) -> (LineKey, LineSum) {
    let key = LineKey {
        account: AccountKey(account),
        unit_start: EventTime(0),
        unit_end: EventTime(1),
        item: Name(1),
        currency: Name(2),
        dimensions: [account % 3].into_iter().collect(),
    };
    let quantity = Quantity::new(charges, 0).unwrap();
    (key, LineSum::of(quantity, Amount(0), charges))
}

/// Of each key the row that comes, or else the one that goes, in the order of the keys.
fn expected(changes: &[LineChange]) -> Vec<(String, Diff, i64)> {
    let mut keyed: Vec<_> = changes.iter().collect();
    keyed.sort_by(|((a, _), x), ((b, _), y)| (a, y).cmp(&(b, x)));
    keyed.dedup_by(|((later, _), _), ((first, _), _)| later == first);
    let told = keyed.into_iter();
    told.map(|((key, sum), diff)| (key.aggregate_id().to_string(), *diff, sum.charges))
        .collect()
}

#[track_caller]
fn check(mut changes: Vec<LineChange>) {
    changes.sort();
    let told = newest(&changes).into_iter();
    let told: Vec<_> = told
        .map(|(id, diff, line)| (id.to_string(), diff, line.sum.charges))
        .collect();
    assert_eq!(told, expected(&changes));
}

#[test]
fn of_each_line_the_newest_is_told() {
    check(Vec::new());
    check((0..50).map(|account| (line(account, 7), 1)).collect());
    // Some come, some move up or down, some go.
    let moved = (0..200).flat_map(|account| {
        let (old, new) = (
            line(account, 10),
            line(account, 10 + (account as i64 % 5) - 2),
        );
        match account % 4 {
            0 => vec![(new, 1)],
            1 => vec![(old, -1)],
            _ if old == new => Vec::new(),
            _ => vec![(old, -1), (new, 1)],
        }
    });
    check(moved.collect());
}

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
