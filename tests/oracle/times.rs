//! Sets of instants as lists of half-open stretches, in order and apart.

use super::calendar::Zone;
use millrace_operators::domain::{EventTime, Period, Proration, Scale};

/// Stretches, in microseconds since 1970.
pub(super) type Times = Vec<(i64, i64)>;

pub(super) fn of(period: Period) -> (i64, i64) {
    (period.start().0, period.end().0)
}

pub(super) fn period((start, end): (i64, i64)) -> Period {
    Period::new(EventTime(start), EventTime(end)).expect("stretches are not empty")
}

/// All of them, those that meet made one.
pub(super) fn joined(stretches: impl IntoIterator<Item = (i64, i64)>) -> Times {
    let mut left: Times = stretches.into_iter().collect();
    left.sort_unstable();
    let mut all = Times::new();
    for (start, end) in left {
        match all.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => all.push((start, end)),
        }
    }
    all
}

/// What of them lies between two instants.
pub(super) fn within(times: &[(i64, i64)], (start, end): (i64, i64)) -> Times {
    let cut = times.iter().map(|(a, b)| (*a.max(&start), *b.min(&end)));
    cut.filter(|(a, b)| a < b).collect()
}

/// From their first instant to their last.
pub(super) fn whole(times: &[(i64, i64)]) -> (i64, i64) {
    (times[0].0, times[times.len() - 1].1)
}

/// The share of a cycle that they make up, as applied and cycle length: by the clocks on the walls,
/// so that a day has 24 hours.
pub(super) fn share(
    applied: &[(i64, i64)],
    cycle: (i64, i64),
    proration: Proration,
    zone: Zone,
) -> (u64, u64) {
    if applied == [cycle] {
        return (1, 1);
    }
    let length = |(start, end): (i64, i64)| {
        let shown = zone.shown(EventTime(end)) - zone.shown(EventTime(start));
        u64::try_from(shown.max(0)).expect("not negative")
    };
    match proration {
        Proration::NoCharge => (0, 1),
        Proration::FullCharge => (1, 1),
        Proration::Prorate => (
            applied.iter().map(|part| length(*part)).sum(),
            length(cycle),
        ),
    }
}

/// The same, as it is told.
pub(super) fn scale((applied, cycle): (u64, u64)) -> Scale {
    Scale::new(applied, cycle)
}
