//! The cycles of the terms in use, as far as the clock knows them.
//!
//! A cycle is a row of its own, so a clock that moves adds rows and takes none away: what was made
//! of earlier cycles is not looked at again.

use crate::domain::{BillingProfile, EventTime, Period};
use crate::epoch::Collection;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Where a part of a plan meets its cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct CycleKey {
    /// The cycle of the part's term.
    pub(super) profile: BillingProfile,
    /// The shard of its owner.
    pub(super) shard: u64,
}

/// How far a cycle has come. A cycle has a row for each phase that it has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Phase {
    /// It is the cycle after the clock's, or that, or earlier.
    Known,
    /// The clock has reached its start.
    Begun,
    /// The clock has reached its end.
    Ended,
}

/// A cycle reaches a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) cycle: Period,
    pub(super) phase: Phase,
}

/// The cycles in use.
pub(super) struct Cycles<'scope> {
    /// The steps that they have come to.
    pub(super) steps: Collection<'scope, (CycleKey, Step)>,
    /// Which there are.
    pub(super) keys: Collection<'scope, CycleKey>,
    /// Where the clock stands in each.
    pub(super) present: Collection<'scope, (BillingProfile, Period)>,
}

/// The cycles from the first that is in use, by the instants that parts begin at.
pub(super) fn cycles<'scope>(
    starts: Collection<'scope, (CycleKey, EventTime)>,
    clock: Collection<'scope, EventTime>,
    zone: &TimeZone,
) -> Cycles<'scope> {
    // Few cycles are the first of anybody: the minimum is found among them, not among all parts.
    let start_zone = zone.clone();
    let firsts = starts
        .flat_map(move |(key, start)| {
            let start = start.max(EventTime::EARLIEST);
            let first = key.profile.cycle_at(start, &start_zone)?;
            Some((key, first.start()))
        })
        .distinct()
        .reduce_named("first cycles", |_, firsts, least| {
            least.extend(firsts.first().map(|(first, _)| (**first, 1)));
        });
    let clock_zone = zone.clone();
    let present = firsts
        .clone()
        .map(|(key, _)| ((), key.profile))
        .distinct()
        .join_map(clock.map(|now| ((), now)), move |(), profile, now| {
            Some((*profile, profile.cycle_at(*now, &clock_zone)?))
        })
        .flat_map(|present| present)
        .distinct();
    let step_zone = zone.clone();
    let keys = firsts.clone().map(|(key, _)| key);
    let steps = firsts
        .map(|(key, first)| (key.profile, (key, first)))
        .join_map(present.clone(), move |_, (key, first), present| {
            let steps = steps(&key.profile, *first, *present, &step_zone);
            let keyed: Vec<(CycleKey, Step)> = steps.into_iter().map(|s| (*key, s)).collect();
            keyed
        })
        .flat_map(|steps| steps);
    Cycles {
        steps,
        keys,
        present,
    }
}

/// All steps of the cycles from the one that begins at `first` to the one after `present`.
pub(super) fn steps(
    profile: &BillingProfile,
    first: EventTime,
    present: Period,
    zone: &TimeZone,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut next = profile.cycle_at(first, zone);
    while let Some(cycle) = next.filter(|cycle| cycle.start() <= present.end()) {
        let phases = [
            (Phase::Known, true),
            (Phase::Begun, cycle.start() < present.end()),
            (Phase::Ended, cycle.end() <= present.start()),
        ];
        let reached = phases.into_iter().filter(|(_, reached)| *reached);
        steps.extend(reached.map(|(phase, _)| Step { cycle, phase }));
        next = profile.cycle_at(cycle.end(), zone);
    }
    steps
}
