//! Late records and changed prices for closed periods: what was archived with its adjustments is what
//! billing everything from scratch would have come to.

use super::books::{Books, Call, at, sum};
use super::world::{ACCOUNTS, CATALOG};
use millrace_operators::domain::{FileId, LineSum, Period, RecordId, Usage};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn call() -> impl Strategy<Value = Call> {
    let parts = (1_u8..=5, 0_i64..100, any::<bool>(), 0_i64..200);
    parts.prop_map(|(service, day, far, seconds)| Call {
        n: 0,
        service,
        day,
        far,
        seconds,
        late: false,
    })
}

/// Numbers the calls; every one from `first` on is late.
fn numbered(calls: Vec<Call>, first: u64, late: bool) -> Vec<Call> {
    (first..)
        .zip(calls)
        .map(|(n, call)| Call { n, late, ..call })
        .collect()
}

const OTHER: [(&str, &str); 4] = [
    ("units: 300", "units: 200"),
    ("from: 500, price: 0.07", "from: 100, price: 0.04"),
    ("price: 0.05", "price: 0.055"),
    ("amount: 40", "amount: 10"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_archive_and_its_adjustments_are_what_billing_from_scratch_comes_to(
        calls in prop::collection::vec(call(), 0..60),
        first in prop::collection::vec(call(), 0..6),
        second in prop::collection::vec(call(), 0..6),
        change in 0..=OTHER.len(),
    ) {
        let books = Books::new();
        let usage = |calls: &[Call]| -> Vec<Usage> { calls.iter().map(|call| books.usage(*call)).collect() };
        let calls = usage(&numbered(calls, 0, false));
        let first = usage(&numbered(first, 1_000, true));
        let second = usage(&numbered(second, 2_000, true));
        books.archive(&calls);
        prop_assert_eq!(books.archived(), books.expected(&calls, &books.reference));

        let mut all = calls.clone();
        for late in [&first, &second] {
            let before = books.archived();
            let adjusted = books.adjust(late, &books.reference).unwrap();
            let (closed, open): (Vec<Usage>, Vec<Usage>) =
                late.iter().cloned().partition(|usage| books.is_archived(usage));
            all.extend(closed.clone());
            prop_assert_eq!(books.archived(), books.expected(&all, &books.reference));
            // The lines handed back are the difference, each once.
            let mut after = before;
            for line in &adjusted.lines {
                prop_assert!(line.sequence > 0);
                sum(after.entry(line.key.aggregate_id()).or_default(), &line.sum);
            }
            after.retain(|_, sum| *sum != LineSum::default());
            prop_assert_eq!(after, books.archived());
            prop_assert!(adjusted.duplicates.is_empty() && adjusted.suspended.is_empty());
            prop_assert_eq!(adjusted.open.len(), open.len());
            // A second time everything is known.
            let again = books.adjust(late, &books.reference).unwrap();
            prop_assert!(again.lines.is_empty());
            prop_assert_eq!((again.duplicates.len(), again.open.len()), (closed.len(), open.len()));
        }

        if let Some((old, new)) = OTHER.get(change) {
            books.desk.write("catalog.yaml", CATALOG.replace(old, new));
            let reference = books.load("catalog.yaml");
            books.adjust(&[], &reference).unwrap();
            prop_assert_eq!(books.archived(), books.expected(&all, &reference));
            prop_assert!(books.adjust(&[], &reference).unwrap().lines.is_empty());
        }
    }
}

fn plain(n: u64, service: u8, day: i64, seconds: i64) -> Call {
    Call {
        n,
        service,
        day,
        far: false,
        seconds,
        late: n >= 1_000,
    }
}

#[test]
fn only_touched_accounts_are_rated_and_only_while_balances_move() {
    let books = Books::new();
    let calls: Vec<Usage> = (0..60)
        .map(|n| {
            books.usage(plain(
                n,
                u8::try_from(n % 5).unwrap() + 1,
                i64::try_from(n).unwrap() * 3 % 89,
                40,
            ))
        })
        .collect();
    books.archive(&calls);
    // acme has no plan: one account, one period.
    let adjusted = books
        .adjust(&[books.usage(plain(1_000, 1, 3, 10))], &books.reference)
        .unwrap();
    let january = Period::new(at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z")).unwrap();
    assert_eq!(adjusted.rated, [(january, 1)]);
    assert_eq!(adjusted.lines.len(), 1);
    assert_eq!(adjusted.lines[0].sum.amount.to_string(), "0.2");
    assert!(adjusted.carried.is_empty());
    // carl shares a pool: both, and the months behind as long as less is carried over.
    let adjusted = books
        .adjust(&[books.usage(plain(1_001, 3, 3, 280))], &books.reference)
        .unwrap();
    assert_eq!(adjusted.rated[0], (january, 2));
    assert!(adjusted.rated.len() > 1, "{:?}", adjusted.rated);
    assert!(adjusted.rated.iter().all(|(_, accounts)| *accounts == 2));
    // Far past the tiers and the allowance, the month ends with as little left as before.
    books
        .adjust(&[books.usage(plain(1_002, 3, 3, 900))], &books.reference)
        .unwrap();
    let adjusted = books
        .adjust(&[books.usage(plain(1_003, 4, 4, 1))], &books.reference)
        .unwrap();
    assert_eq!(adjusted.lines.len(), 1, "{:?}", adjusted.lines);
    assert_eq!(adjusted.lines[0].sequence, 4);
}

#[test]
fn an_adjustment_that_is_cut_off_is_completed() {
    let calls = |books: &Books| -> Vec<Usage> {
        let numbered = (0..60_u64).map(|n| {
            let service = u8::try_from(n % 5).unwrap() + 1;
            books.usage(plain(n, service, i64::try_from(n).unwrap() * 3 % 89, 40))
        });
        numbered.collect()
    };
    // Everything that January left of its allowance, which is felt in the months behind it.
    let late = |books: &Books| [books.usage(plain(1_000, 3, 3, 280))];
    let whole = {
        let books = Books::new();
        books.archive(&calls(&books));
        books
            .adjust(&late(&books), &books.reference)
            .unwrap()
            .written
    };
    assert!(whole.len() > 1, "{whole:?}");
    for there in 0..=whole.len() {
        let books = Books::new();
        books.archive(&calls(&books));
        books.adjust(&late(&books), &books.reference).unwrap();
        for (period, sequence, _) in &whole[there..] {
            books.unwrite(*period, *sequence);
        }
        let ahead = whole.iter().map(|(period, _, _)| (*period, 0)).collect();
        let late = late(&books);
        let adjusted = books.adjust_behind(&late, &books.reference, ahead).unwrap();
        assert_eq!(adjusted.written, whole[there..]);
        let all: Vec<Usage> = calls(&books).into_iter().chain(late).collect();
        assert_eq!(books.archived(), books.expected(&all, &books.reference));
    }
}

#[test]
fn a_late_duplicate_is_found_wherever_its_first_is() {
    let books = Books::new();
    let calls: Vec<Usage> = (0..20)
        .map(|n| books.usage(plain(n, 1, i64::try_from(n).unwrap() * 4, 5)))
        .collect();
    books.archive(&calls);
    // The same identity at another time, of another account; and twice among the late.
    let again = Call {
        late: true,
        ..plain(7, 3, 70, 9)
    };
    let mut twin = books.usage(plain(1_001, 2, 11, 1));
    twin.identity = books.usage(plain(1_000, 1, 10, 1)).identity;
    let late = [
        books.usage(again),
        books.usage(plain(1_000, 1, 10, 1)),
        twin.clone(),
    ];
    let adjusted = books.adjust(&late, &books.reference).unwrap();
    let found: BTreeSet<(RecordId, RecordId)> = adjusted.duplicates.into_iter().collect();
    let expected = [
        (late[0].record, calls[7].record),
        (twin.record, late[1].record),
    ];
    assert_eq!(found, BTreeSet::from(expected));
    assert_eq!(adjusted.lines.len(), 1);
}

#[test]
fn what_cannot_be_rated_is_handed_back_with_what_was_archived() {
    let books = Books::new();
    let calls: Vec<Usage> = (0..10_u64)
        .map(|n| {
            books.usage(Call {
                far: n.is_multiple_of(2),
                ..plain(n, 1, 3, 10)
            })
        })
        .collect();
    books.archive(&calls);
    // Without a price for far calls those of the bill are taken back, and a late one waits.
    let without: String = CATALOG
        .lines()
        .filter(|line| !line.contains("id: far"))
        .map(|line| format!("{line}\n"))
        .collect();
    books.desk.write("without.yaml", without);
    let reference = books.load("without.yaml");
    let late = books.usage(Call {
        far: true,
        ..plain(1_000, 1, 3, 10)
    });
    let adjusted = books
        .adjust(std::slice::from_ref(&late), &reference)
        .unwrap();
    let far: Vec<Usage> = calls.iter().step_by(2).cloned().collect();
    assert_eq!((adjusted.suspended.len(), &adjusted.returned), (6, &far));
    assert_eq!(adjusted.lines.len(), 1);
    assert_eq!(adjusted.lines[0].sum.amount.to_string(), "-2.5");
    assert_eq!(books.archived(), books.expected(&calls, &reference));
    // They wait beside the late one, and with the price back all are billed again.
    let waiting: Vec<Usage> = far.iter().chain([&late]).cloned().collect();
    let adjusted = books.adjust(&waiting, &reference).unwrap();
    assert_eq!((adjusted.suspended.len(), adjusted.written.len()), (6, 0));
    let adjusted = books.adjust(&waiting, &books.reference).unwrap();
    assert!(adjusted.suspended.is_empty());
    let all: Vec<Usage> = calls.iter().chain([&late]).cloned().collect();
    assert_eq!(books.archived(), books.expected(&all, &books.reference));
    // Nobody is known to pay for this service.
    let stray = books.usage(plain(1_001, 9, 3, 10));
    let adjusted = books.adjust(&[stray], &books.reference).unwrap();
    assert_eq!((adjusted.open.len(), adjusted.lines.len()), (1, 0));
}

#[test]
fn one_number_is_one_file() {
    let books = Books::new();
    books.archive(&[books.usage(plain(0, 1, 3, 10))]);
    let mut late = books.usage(plain(1_000, 1, 3, 10));
    late.record = RecordId::new(FileId(0), 1_005);
    let error = books
        .adjust(&[late], &books.reference)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("0:1005 of \"late.csv\" has the number") && error.contains("calls.csv"),
        "{error}"
    );
}

#[test]
fn a_changed_grant_is_felt_month_after_month() {
    let books = Books::new();
    let calls = [
        (3, 11, 112),
        (4, 12, 107),
        (3, 17, 109),
        (3, 30, 56),
        (3, 40, 57),
        (4, 45, 106),
    ];
    let march = [
        (3, 59, 180),
        (3, 59, 114),
        (3, 60, 96),
        (3, 64, 23),
        (3, 65, 101),
    ];
    let calls: Vec<Usage> = (0..)
        .zip(calls.iter().chain(&march))
        .map(|(n, (service, day, seconds))| books.usage(plain(n, *service, *day, *seconds)))
        .collect();
    books.archive(&calls);
    books
        .desk
        .write("catalog.yaml", CATALOG.replace("units: 300", "units: 200"));
    let reference = books.load("catalog.yaml");
    let adjusted = books.adjust(&[], &reference).unwrap();
    // January leaves 16 of 400; February draws them first and leaves 53 and 200 of its own, of which
    // 60 live on; March has 513 for 514 seconds, the last of them past the tier.
    let billed: Vec<String> = adjusted
        .lines
        .iter()
        .map(|line| line.sum.amount.to_string())
        .collect();
    assert_eq!(billed, ["0.07"]);
    assert_eq!(books.archived(), books.expected(&calls, &reference));
}

#[test]
fn usage_that_moves_to_another_cycle_is_billed_there() {
    let books = Books::new();
    let calls: Vec<Usage> = (0..30)
        .map(|n| books.usage(plain(n, 1, i64::try_from(n).unwrap() * 3, 10)))
        .collect();
    books.archive(&calls);
    // From February on the number is that of bulk, who is billed by the quarter.
    let moved = ACCOUNTS
        .replace(
            "services: [\"+1\", \"+2\"]",
            "services: [{ id: \"+1\", to: 2026-02-01 }, \"+2\"]",
        )
        .replace(
            "services: [\"+5\"]",
            "services: [\"+5\", { id: \"+1\", from: 2026-02-01 }]",
        );
    books.desk.write("accounts.yaml", &moved);
    let reference = books.load("catalog.yaml");
    let adjusted = books.adjust(&[], &reference).unwrap();
    assert!(!adjusted.lines.is_empty() && adjusted.open.is_empty());
    assert_eq!(books.archived(), books.expected(&calls, &reference));
    // And back.
    books.desk.write("accounts.yaml", ACCOUNTS);
    let reference = books.load("catalog.yaml");
    books.adjust(&[], &reference).unwrap();
    assert_eq!(books.archived(), books.expected(&calls, &reference));
}
