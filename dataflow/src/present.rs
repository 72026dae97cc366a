//! The present of a job, as far as bill units close by it.
//!
//! What is closed stays closed, so a machine whose clock is ahead would close for good what is open. Its
//! clock therefore closes nothing alone: something else must have come as far.
//!
//! - **Usage:** a bill unit closes when the newest usage has passed its end and grace, as the clock has.
//! - **Commits:** where no usage comes any more, subscriptions are still billed. What the clock of an
//!   earlier commit had passed for [`DOUBT_DAYS`] closes, too.
//! - **A leap:** a clock that is further than that from all that is known closes nothing, and is told; it
//!   is no witness for later runs either. A clock that is wrong by less, and always by as much, closes
//!   nothing early: no commit vouches for more than lies as far behind it.
//! - **A clock that the job names** is what the user says: it needs nobody else, and vouches for later runs.

use crate::job::Job;
use jiff::tz::TimeZone;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_operators::domain::EventTime;
use serde::{Deserialize, Serialize};

/// How many days a clock may be from what is known.
pub const DOUBT_DAYS: i64 = 31;

const DOUBT: i64 = DOUBT_DAYS * 24 * 3_600_000_000;

/// What bears witness to the time beside the machine's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The time of the newest usage that was taken in.
    pub usage: Option<EventTime>,
    /// The clock of the last commit of which the clock was no leap.
    pub commit: Option<EventTime>,
}

/// By which instant bill units close, and whether any does that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The instant.
    pub at: EventTime,
    /// Whether more closes than was closed before.
    pub closes: bool,
}

/// What is wrong with the machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leap {
    /// It is far ahead of the newest usage and of the last commit.
    Ahead,
    /// It is far behind the last commit.
    Behind,
}

impl Witness {
    /// Usage was taken in.
    pub fn see(&mut self, usage: impl IntoIterator<Item = EventTime>) {
        self.usage = self.usage.max(usage.into_iter().max());
    }

    /// What a commit says, at `now` by the machine unless the job names its clock.
    #[must_use]
    pub fn committed(self, clock: Option<EventTime>, now: EventTime) -> Self {
        let believed = match clock {
            Some(clock) => Some(clock),
            // Before any usage nothing bears witness, and a clock is no witness of itself.
            None if self == Self::default() => None,
            None => self.leap(now).is_none().then_some(now),
        };
        Self {
            commit: believed.or(self.commit),
            ..self
        }
    }

    /// By which instant bill units close, at `now` by the machine unless the job names its clock.
    #[must_use]
    pub fn present(self, clock: Option<EventTime>, now: EventTime) -> Present {
        if let Some(at) = clock {
            return Present { at, closes: true };
        }
        let vouched = self.commit.map(|commit| EventTime(commit.0 - DOUBT));
        let witnessed = self.usage.max(vouched);
        Present {
            at: witnessed.map_or(now, |witnessed| witnessed.min(now)),
            closes: witnessed.is_some() && self.leap(now).is_none(),
        }
    }

    fn leap(self, now: EventTime) -> Option<Leap> {
        let newest = self.usage.max(self.commit)?;
        if now.0.saturating_sub(newest.0) > DOUBT {
            return Some(Leap::Ahead);
        }
        let commit = self.commit?;
        (commit.0.saturating_sub(now.0) > DOUBT).then_some(Leap::Behind)
    }

    /// Says that the machine's clock is not to be believed, for a job that closes bill units by it.
    #[must_use]
    pub fn doubt(self, job: &Job, now: EventTime) -> Option<Diagnostic> {
        let archive = job.archive.as_ref().filter(|_| job.clock.is_none())?;
        let leap = self.leap(now)?;
        let known = [
            ("the newest usage", self.usage),
            ("the last commit", self.commit),
        ];
        let known = known
            .into_iter()
            .filter_map(|(what, at)| Some(format!("{what} is of {}", day(at?, &job.zone))));
        let known: Vec<String> = known.collect();
        let (today, known) = (day(now, &job.zone), known.join(", "));
        let far = match leap {
            Leap::Ahead => "ahead of",
            Leap::Behind => "behind",
        };
        let message = format!(
            "the clock of this machine says {today}, which is more than {DOUBT_DAYS} days {far} what is known \
             ({known}): no bill unit closes by it, and what is billed without usage is billed until then"
        );
        let hint = format!(
            "set the clock of the machine; if it is right, write `clock: {today}` in the job file for one run"
        );
        let finding = Diagnostic::warning(&job.path.display().to_string(), archive.place, message);
        Some(finding.with_hint(hint))
    }
}

/// The present by the machine's clock.
#[must_use]
pub fn machine() -> EventTime {
    EventTime::from(jiff::Timestamp::now())
}

fn day(at: EventTime, zone: &TimeZone) -> String {
    let day = at.timestamp().map(|at| at.to_zoned(zone.clone()).date());
    day.map_or_else(|| at.to_string(), |day| day.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: &str) -> EventTime {
        EventTime::from(
            format!("{day}T00:00:00Z")
                .parse::<jiff::Timestamp>()
                .unwrap(),
        )
    }

    fn witness(usage: &str, commit: &str) -> Witness {
        let of = |day: &str| (!day.is_empty()).then(|| at(day));
        Witness {
            usage: of(usage),
            commit: of(commit),
        }
    }

    /// By which day bill units close; nothing if none does.
    fn closes(witness: Witness, now: &str) -> Option<EventTime> {
        let present = witness.present(None, at(now));
        present.closes.then_some(present.at)
    }

    #[test]
    fn nothing_closes_that_usage_has_not_passed() {
        let known = witness("2026-03-20", "2026-03-19");
        assert_eq!(closes(known, "2026-03-21"), Some(at("2026-03-20")));
        assert_eq!(closes(known, "2026-03-10"), Some(at("2026-03-10")));
        for leap in ["2026-05-01", "2100-01-01", "2026-02-10"] {
            assert_eq!(closes(known, leap), None, "{leap}");
            // However often it is said.
            let again = known.committed(None, at(leap));
            assert_eq!(again, known);
        }
        assert_eq!(closes(witness("2026-01-20", ""), "2026-03-21"), None);
        assert_eq!(closes(Witness::default(), "2026-03-21"), None);
        // A commit from before any usage does not make a leap its own witness.
        let first = Witness::default().committed(None, at("2100-01-01"));
        assert_eq!(first, Witness::default());
    }

    #[test]
    fn what_is_billed_without_usage_closes_in_the_end() {
        let mut known = witness("2026-01-20", "2026-01-21");
        let mut closed = None;
        for week in 0..20 {
            let now = EventTime(at("2026-01-25").0 + week * 7 * 24 * 3_600_000_000);
            let present = known.present(None, now);
            assert!(present.closes && present.at.0 <= now.0);
            closed = closed.max(Some(present.at));
            known = known.committed(None, now);
        }
        // The last commit before that is of 31 May.
        assert_eq!(closed, Some(at("2026-04-30")));
    }

    #[test]
    fn a_clock_that_is_always_as_wrong_closes_nothing_early() {
        let mut known = witness("2026-03-01", "2026-03-01");
        for day in 0..100 {
            let today = EventTime(at("2026-03-02").0 + day * 24 * 3_600_000_000);
            let wrong = EventTime(today.0 + 29 * 24 * 3_600_000_000);
            assert!(known.present(None, wrong).at <= today);
            known = known.committed(None, wrong);
        }
    }

    #[test]
    fn a_clock_that_the_job_names_needs_no_witness_and_is_one() {
        let named = Some(at("2026-09-01"));
        let known = witness("2026-03-20", "2026-03-19");
        let present = known.present(named, at("2026-03-21"));
        assert_eq!((present.at, present.closes), (at("2026-09-01"), true));
        let known = known.committed(named, at("2026-03-21"));
        assert_eq!(closes(known, "2026-09-02"), Some(at("2026-08-01")));
        assert_eq!(closes(known, "2026-03-21"), None);
    }
}
