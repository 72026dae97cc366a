use super::*;
use crate::domain::{Condition, Item};
use proptest::prelude::*;

fn class(attributes: &[(&str, &str)]) -> UsageClass {
    let mut attributes: Vec<_> = attributes
        .iter()
        .map(|(a, v)| (Name::new(a), Name::new(v)))
        .collect();
    attributes.sort_unstable();
    let items = [Item {
        name: Name::new("calls"),
        scale: 0,
    }]
    .into_iter()
    .collect();
    UsageClass {
        service_type: Name::new("api"),
        attributes,
        items,
    }
}

fn row(id: &str, list: &str, conditions: &[(&str, &str)]) -> PriceRow {
    let condition = |(a, v): &(&str, &str)| Condition {
        attribute: Name::new(a),
        value: Name::new(v),
    };
    PriceRow {
        key: PriceKey::of(&[id]),
        list: Name::new(list),
        account: None,
        item: Name::new("calls"),
        conditions: conditions.iter().map(condition).collect(),
        priority: 0,
        valid: Period::ALWAYS,
        model: PriceModel::PerUnit {
            price: Price::parse("1").unwrap(),
            per: 1,
        },
        currency: Name::new("USD"),
    }
}

fn book(rows: &[PriceRow]) -> PriceBook {
    let mut book = PriceBook::default();
    rows.iter().for_each(|row| book.change(row, true));
    book
}

fn chosen(
    book: &PriceBook,
    owners: &[Owner],
    class: &UsageClass,
    time: i64,
) -> Result<PriceKey, Reason> {
    let timeline = book.timeline(owners, class);
    let Found { rows, faults } = &timeline.at(EventTime(time)).prices;
    faults
        .first()
        .map_or(Ok(rows[0].key), |fault| Err(fault.reason))
}

fn list(name: &str) -> Owner {
    Owner::List(Name::new(name))
}

#[test]
fn the_most_specific_row_wins() {
    // The attribute table of the public documentation, with its misprint in row 2 read as High.
    let book = book(&[
        row(
            "R1",
            "std",
            &[("band", "High"), ("case", "UC1"), ("party", "ABC")],
        ),
        row("R2", "std", &[("band", "High"), ("case", "UC1")]),
        row("R3", "std", &[("band", "High"), ("case", "UC2")]),
        row("R4", "std", &[]),
    ]);
    for (band, case, party, expected) in [
        ("High", "UC1", "ABC", "R1"),
        ("High", "UC1", "XYZ", "R2"),
        ("High", "UC2", "ABC", "R3"),
        ("High", "UC5", "ABC", "R4"),
        ("Low", "UC3", "ABC", "R4"),
    ] {
        let class = class(&[("band", band), ("case", case), ("party", party)]);
        assert_eq!(
            chosen(&book, &[list("std")], &class, 0),
            Ok(PriceKey::of(&[expected]))
        );
    }
}

#[test]
fn equally_specific_rows_need_a_priority() {
    let mut rows = [
        row("a", "std", &[("x", "1")]),
        row("b", "std", &[("y", "1")]),
    ];
    let class = class(&[("x", "1"), ("y", "1")]);
    let ambiguous = chosen(&book(&rows), &[list("std")], &class, 0);
    assert_eq!(ambiguous, Err(Reason::PriceAmbiguous));
    rows[1].priority = 1;
    assert_eq!(
        chosen(&book(&rows), &[list("std")], &class, 0),
        Ok(rows[1].key)
    );
}

#[test]
fn owners_are_tried_in_order_at_every_instant() {
    let mut own = row("own", "std", &[]);
    own.account = Some(AccountKey(9));
    own.valid = Period::new(EventTime(10), EventTime(20)).unwrap();
    let book = book(&[own, row("list", "std", &[("x", "1")])]);
    let owners = [Owner::Account(AccountKey(9)), list("std")];
    let class = class(&[("x", "1")]);
    assert_eq!(
        chosen(&book, &owners, &class, 9),
        Ok(PriceKey::of(&["list"]))
    );
    assert_eq!(
        chosen(&book, &owners, &class, 10),
        Ok(PriceKey::of(&["own"]))
    );
    assert_eq!(
        chosen(&book, &owners, &class, 20),
        Ok(PriceKey::of(&["list"]))
    );
    assert_eq!(
        chosen(&book, &[list("none")], &class, 0),
        Err(Reason::PriceNotFound)
    );
}

#[test]
fn a_list_named_twice_is_one_list() {
    let book = book(&[row("a", "std", &[])]);
    let found = chosen(&book, &[list("std"), list("std")], &class(&[]), 0);
    assert_eq!(found, Ok(PriceKey::of(&["a"])));
}

proptest! {
    /// At every instant as if the rows were looked through: the first owner with a row in force,
    /// and of its rows the one with the highest rank, if it is alone.
    #[test]
    fn every_instant_is_priced_by_the_rows_in_force(
        rows in prop::collection::vec(
            (0_u64..3, 0_usize..6, 0_i32..2, 0_i64..20, 1_i64..12),
            0..14,
        ),
        attributes in prop::collection::vec(0_usize..3, 2),
        repeated in any::<bool>(),
    ) {
        let asked: [&[(&str, &str)]; 6] = [
            &[],
            &[("x", "1")],
            &[("x", "2")],
            &[("y", "1")],
            &[("x", "1"), ("y", "1")],
            &[("y", "2"), ("x", "1")],
        ];
        let rows: Vec<PriceRow> = rows
            .into_iter()
            .enumerate()
            .map(|(n, (owner, asks, priority, start, length))| PriceRow {
                account: (owner == 0).then_some(AccountKey(9)),
                priority,
                valid: Period::new(EventTime(start), EventTime(start + length)).unwrap(),
                ..row(&n.to_string(), &format!("list {owner}"), asked[asks])
            })
            .collect();
        let values = ["", "1", "2"];
        let given: Vec<(&str, &str)> = ["x", "y"]
            .into_iter()
            .zip(attributes.iter().map(|at| values[*at]))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let class = class(&given);
        let mut owners = vec![Owner::Account(AccountKey(9)), list("list 1"), list("list 2")];
        if repeated {
            owners.push(list("list 1"));
        }
        let book = book(&rows);
        let timeline = book.timeline(&owners, &class);
        let item = Name::new("calls");
        let matching: Vec<&PriceRow> = rows.iter().filter(|row| row.matches(&class, item)).collect();
        for time in -1..40 {
            let in_force = |owner: &Owner| -> Vec<&PriceRow> {
                let of_owner = matching.iter().copied().filter(|row| Owner::of(row) == *owner);
                of_owner.filter(|row| row.valid.contains(EventTime(time))).collect()
            };
            let first = owners.iter().map(in_force).find(|rows| !rows.is_empty());
            let expected = first.map_or_else(
                || Err(match matching.is_empty() {
                    true => Reason::PriceNotFound,
                    false => Reason::PriceNotEffective,
                }),
                |rows| {
                    let highest = rows.iter().map(|row| rank(row)).max();
                    let best = rows.iter().filter(|row| Some(rank(row)) == highest);
                    match best.collect::<Vec<_>>()[..] {
                        [row] => Ok(row.key),
                        _ => Err(Reason::PriceAmbiguous),
                    }
                },
            );
            let Found { rows, faults } = &timeline.at(EventTime(time)).prices;
            let found = faults.first().map_or(Ok(rows[0].key), |fault| Err(fault.reason));
            prop_assert_eq!(found, expected, "at {}", time);
            let led = leaders(&book.matching(&owners, &class, item), EventTime(time));
            let led = led.and_then(|rows| match rows[..] {
                [row] => Ok(row.key),
                _ => Err(Reason::PriceAmbiguous),
            });
            prop_assert_eq!(led, expected, "at {}", time);
        }
        let mut pairs = timeline.segments.windows(2);
        prop_assert!(pairs.all(|pair| pair[0].start < pair[1].start));
        let mut pairs = timeline.segments.windows(2);
        prop_assert!(pairs.all(|pair| pair[0].prices != pair[1].prices));
        // What is taken away again leaves nothing behind.
        let mut book = book;
        rows.iter().for_each(|row| book.change(row, false));
        prop_assert!(book.rows.is_empty() && book.len() == 0);
    }
}

#[test]
fn a_price_may_have_had_many_versions() {
    const VERSIONS: i64 = 60_000;
    let versions: Vec<PriceRow> = (0..VERSIONS)
        .map(|n| PriceRow {
            valid: Period::new(EventTime(n), EventTime(n + 1)).unwrap(),
            ..row(&n.to_string(), "std", &[])
        })
        .collect();
    let book = book(&versions);
    let timeline = book.timeline(&[list("std")], &class(&[]));
    assert_eq!(timeline.segments.len(), versions.len() + 2);
    for n in (0..VERSIONS).step_by(997) {
        let Found { rows, faults } = &timeline.at(EventTime(n)).prices;
        assert_eq!(
            (rows[0].key, faults.len()),
            (PriceKey::of(&[&n.to_string()]), 0)
        );
    }
}

#[test]
fn versions_meet_without_gap() {
    let (mut old, mut new) = (row("old", "std", &[]), row("new", "std", &[]));
    old.valid = Period::new(EventTime(0), EventTime(100)).unwrap();
    new.valid = Period::new(EventTime(100), EventTime::MAX).unwrap();
    let book = book(&[old, new]);
    let at = |time| chosen(&book, &[list("std")], &class(&[]), time);
    assert_eq!(at(-1), Err(Reason::PriceNotEffective));
    assert_eq!(at(99), Ok(PriceKey::of(&["old"])));
    assert_eq!(at(100), Ok(PriceKey::of(&["new"])));
}
