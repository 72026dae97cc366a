use super::*;
use millrace_connectors::names::Names;
use millrace_connectors::output::Texts;
use millrace_operators::domain::{Amount, EventTime, Quantity};
use std::sync::{Arc, RwLock};

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

/// Lines, each with what it was and what it is; 0 is nothing.
fn epoch(lines: &[(u64, i64, i64)]) -> EpochChanges {
    let sides = lines.iter().flat_map(|(account, old, new)| {
        let sides = [(line(*account, *old), -1), (line(*account, *new), 1)];
        sides.into_iter().filter(|((_, sum), _)| sum.charges != 0)
    });
    EpochChanges {
        lines: sides.collect(),
        ..EpochChanges::default()
    }
}

#[test]
fn lines_that_moved_are_told_once_as_they_stand() {
    let mut board = Board::new(Texts {
        names: Arc::new(Names::default()),
        files: Arc::new(RwLock::default()),
        lines: Arc::default(),
        dimensions: Arc::from([]),
    });
    let begin = epoch(&[(1, 0, 5), (2, 0, 5), (3, 0, 5), (4, 0, 5), (5, 0, 5)]);
    board.apply(&begin).unwrap();
    board.follow_lines();
    assert_eq!(board.moved(), []);
    for epoch in [
        // Up twice; gone; gone and back as it was; down and back; new; come and gone.
        epoch(&[
            (1, 5, 6),
            (2, 5, 0),
            (3, 5, 0),
            (4, 5, 3),
            (6, 0, 1),
            (7, 0, 1),
        ]),
        epoch(&[(1, 6, 8), (3, 0, 5), (4, 3, 5), (7, 1, 0)]),
    ] {
        board.apply(&epoch).unwrap();
    }
    let moved = |(account, charges): (u64, i64), gone| {
        let (key, sum) = line(account, charges);
        let id = key.aggregate_id();
        let line = AggregatedLine { key, sum };
        MovedLine { id, line, gone }
    };
    let mut expected = [
        moved((1, 8), false),
        moved((2, 5), true),
        moved((6, 1), false),
    ];
    expected.sort_by_key(|moved| moved.id);
    assert_eq!(board.moved(), expected);
    assert_eq!(board.moved(), []);
    let told: Vec<i64> = board.accounts().iter().map(|share| share.charges).collect();
    assert_eq!(told.iter().sum::<i64>(), 24);
    assert_eq!(told.len(), 5);
}
