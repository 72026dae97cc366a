use super::seen::Arrival;
use super::*;
use crate::domain::FileId;
use crate::domain::{ClassKey, EventTime, Keep, Kind, Rank, ServiceKey};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn usage(record: u64, time: i64, mark: Option<Mark>) -> Usage {
    Usage {
        record: RecordId(record),
        identity: Identity([7, 7]),
        service: ServiceKey(1),
        class: ClassKey(1),
        time: EventTime(time),
        quantities: [1].into_iter().collect(),
        mark: mark.map(Box::new),
    }
}

/// All records of an identity, plainly: in the order of arrival where the first holds, and with when
/// each arrived.
#[derive(Clone, Default)]
struct Model {
    whole: bool,
    records: Vec<(Usage, Arrival)>,
}

impl Model {
    fn change(&mut self, epoch: Epoch, removed: &[Usage], added: &[Usage]) {
        for old in removed {
            let mut held = self.records.iter();
            let at = held
                .position(|(held, _)| held.record == old.record)
                .unwrap();
            match added.iter().find(|usage| usage.record == old.record) {
                Some(new) => self.records[at].0 = new.clone(),
                None => drop(self.records.remove(at)),
            }
        }
        for usage in added {
            if !removed.iter().any(|old| old.record == usage.record) {
                self.records.push((usage.clone(), (epoch, usage.record.0)));
            }
        }
    }

    fn rows(&self) -> Vec<(Usage, Option<Suspense>)> {
        let plain = |usage: &Usage| Usage {
            mark: None,
            ..usage.clone()
        };
        let Some((first, _)) = self.records.first() else {
            return Vec::new();
        };
        if !self.whole {
            let row = |(usage, _): &(Usage, Arrival)| {
                let same = |a: &Usage, b: &Usage| {
                    (a.time, a.service, &a.quantities) == (b.time, b.service, &b.quantities)
                };
                let reason = match same(usage, first) {
                    true => Reason::Duplicate,
                    false => Reason::Conflict,
                };
                let row = Suspense::of(usage, reason, Some(first.record));
                let holds = usage.record == first.record;
                (plain(usage), (!holds).then_some(row))
            };
            return self.records.iter().map(row).collect();
        }
        let version = |(usage, arrival): &(Usage, Arrival)| Version {
            arrival: *arrival,
            mark: usage.mark.as_deref().copied().unwrap_or_default(),
            record: usage.record,
            content: usize::try_from(usage.time.0).unwrap(),
            passed_over: usage.is_passed_over(),
        };
        let versions: Vec<Version> = self.records.iter().map(version).collect();
        let standings = stand(&versions, &BTreeMap::new());
        let row = |((usage, _), standing): (&(Usage, Arrival), Standing)| match standing {
            Standing::Holds => (plain(usage), None),
            Standing::PassedOver => unreachable!("all records have quantities"),
            Standing::Outvoted(reason, holds) => {
                (plain(usage), Some(Suspense::of(usage, reason, holds)))
            }
        };
        self.records.iter().zip(standings).map(row).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many copies of few identities come, some with another content, some with marks.
    Come {
        file: u32,
        copies: usize,
        seed: u64,
        marked: bool,
    },
    /// A file goes.
    Withdraw(u32),
    /// A rule changes what the records of a file say, their identities or marks.
    Amend { file: u32, seed: u64, marked: bool },
    /// The records that hold go one by one.
    Unseat(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u32..4, 1_usize..400, any::<u64>(), prop::bool::weighted(0.3)).prop_map(
            |(file, copies, seed, marked)| Step::Come { file, copies, seed, marked }
        ),
        1 => (0_u32..4).prop_map(Step::Withdraw),
        2 => (0_u32..4, any::<u64>(), prop::bool::weighted(0.3))
            .prop_map(|(file, seed, marked)| Step::Amend { file, seed, marked }),
        1 => (0_u64..5).prop_map(Step::Unseat),
    ]
}

/// A record of a few identities and contents, nearly always the same.
fn drawn(record: RecordId, seed: u64, marked: bool) -> Usage {
    let bits = (record.0 ^ seed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(23)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let keeps = [Keep::First, Keep::Last, Keep::Greatest];
    let mark = Mark {
        keep: keeps[usize::try_from(bits >> 8 & 0xff).unwrap() % 3],
        kind: if bits >> 16 & 0x3f == 0 {
            Kind::Void
        } else {
            Kind::Usage
        },
        rank: Some(Rank::Number(i128::from(bits >> 24 & 3))),
    };
    let content = if bits >> 32 & 0xf == 0 {
        bits >> 36 & 3
    } else {
        0
    };
    Usage {
        identity: Identity([(bits % 5) << 60, bits % 5]),
        service: ServiceKey(content),
        ..usage(record.0, content.cast_signed(), marked.then_some(mark))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However many copies there are, whoever of them goes and whatever they say later: each identity has
    /// what a plain list of its records has.
    #[test]
    fn copies_cost_nothing_that_is_needed(steps in prop::collection::vec(step(), 1..14)) {
        let mut seen = Seen::new(0);
        let mut model: BTreeMap<Identity, Model> = BTreeMap::new();
        let mut open: BTreeMap<RecordId, Usage> = BTreeMap::new();
        let mut rows: [u64; 4] = [0; 4];
        let mut told: BTreeMap<(Usage, Option<Suspense>), Diff> = BTreeMap::new();
        for (epoch, step) in (1..).zip(steps) {
            let mut changes: Vec<(Usage, Diff)> = Vec::new();
            let of = |file: u32| {
                let all = RecordId::new(FileId(file), 0)..RecordId::new(FileId(file + 1), 0);
                open.range(all).map(|(_, usage)| usage.clone()).collect::<Vec<_>>()
            };
            match step {
                Step::Come { file, copies, seed, marked } => {
                    for _ in 0..copies {
                        let row = &mut rows[usize::try_from(file).unwrap()];
                        changes.push((drawn(RecordId::new(FileId(file), *row), seed, marked), 1));
                        *row += 1;
                    }
                }
                Step::Withdraw(file) => {
                    changes.extend(of(file).into_iter().map(|usage| (usage, -1)));
                }
                Step::Amend { file, seed, marked } => {
                    for old in of(file) {
                        let new = drawn(old.record, seed, marked);
                        if old != new {
                            changes.extend([(old, -1), (new, 1)]);
                        }
                    }
                }
                Step::Unseat(which) => {
                    let identity = Identity([which << 60, which]);
                    let held = seen.kept.get(identity).map(|kept| kept.record);
                    let held = held.and_then(|record| open.get(&record));
                    changes.extend(held.map(|usage| (usage.clone(), -1)));
                }
            }
            for (usage, diff) in &changes {
                if *diff < 0 {
                    open.remove(&usage.record);
                }
            }
            let come = changes.iter().filter(|(_, diff)| *diff > 0);
            open.extend(come.map(|(usage, _)| (usage.record, usage.clone())));
            for (identity, mut change) in seen.by_identity(epoch, changes.clone()) {
                let model = model.entry(identity).or_default();
                if !model.whole {
                    let marked = change.split_off_marked();
                    model.change(epoch, &change.removed, &change.added);
                    change = marked;
                    model.whole = model.records.is_empty() && !change.is_empty();
                }
                model.change(epoch, &change.removed, &change.added);
                model.whole &= !model.records.is_empty();
            }
            seen.apply(epoch, changes, Vec::new(), &mut |outcome, diff| {
                let row = match outcome {
                    Outcome::Unique(usage) => (usage, None),
                    Outcome::Outvoted(row) => {
                        // Of what does not hold only the row is told.
                        let told = Usage { record: row.record, ..usage(0, 0, None) };
                        (told, Some(row))
                    }
                };
                *told.entry(row).or_default() += diff;
            });
            told.retain(|_, count| *count != 0);
            let expected = model.values().flat_map(Model::rows).map(|(held, row)| match row {
                Some(row) => (Usage { record: row.record, ..usage(0, 0, None) }, Some(row)),
                None => (held, None),
            });
            let expected: BTreeMap<_, _> = expected.map(|row| (row, 1)).collect();
            prop_assert_eq!(&told, &expected);
        }
        let all: Vec<_> = open.into_values().map(|usage| (usage, -1)).collect();
        seen.apply(99, all, Vec::new(), &mut |_, _| ());
        prop_assert_eq!((seen.kept.len(), seen.whole.len(), seen.contents.len()), (0, 0, 0));
        prop_assert_eq!((seen.copies.bytes(), seen.whole_bytes), (0, 0));
    }
}

/// Partitions are read side by side, so the first to arrive need not have the smallest position.
#[test]
fn what_is_loaded_keeps_the_order_of_arrival() {
    for mark in [None, Some(Mark::default())] {
        let mut seen = Seen::new(5);
        let changes = vec![(usage(9, 1, mark), 1), (usage(2, 2, mark), 1)];
        let mut holds = Vec::new();
        seen.apply(3, changes, Vec::new(), &mut |outcome, diff| {
            if let Outcome::Unique(usage) = outcome {
                holds.push((usage.record.0, diff));
            }
        });
        assert_eq!(holds, [(9, 1)], "{mark:?}");
    }
}
