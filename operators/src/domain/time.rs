//! Event time and half-open periods.

use serde::{Deserialize, Serialize};
use std::fmt;

/// When usage happened: microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every event: the start of a period without one.
    pub const MIN: Self = Self(i64::MIN);
    /// After every event: the end of a period without one.
    pub const MAX: Self = Self(i64::MAX);
    /// The earliest event time taken for real, 1970-01-01.
    pub const EARLIEST: Self = Self(0);
    /// The first event time no longer taken for real, 2200-01-01.
    pub const LATEST: Self = Self(7_258_118_400_000_000);

    /// The same instant for the calendar; `None` for the open ends.
    #[must_use]
    pub fn timestamp(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_microsecond(self.0).ok()
    }
}

impl From<jiff::Timestamp> for EventTime {
    fn from(instant: jiff::Timestamp) -> Self {
        Self(instant.as_microsecond())
    }
}

impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Some(instant) => write!(f, "{instant}"),
            None => f.write_str(if self.0 < 0 { "always" } else { "open" }),
        }
    }
}

/// A half-open stretch of event time, `[start, end)`, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Period {
    start: EventTime,
    end: EventTime,
}

impl Period {
    /// All of time.
    pub const ALWAYS: Self = Self {
        start: EventTime::MIN,
        end: EventTime::MAX,
    };

    /// The period `[start, end)`; `None` unless `start < end`.
    #[must_use]
    pub fn new(start: EventTime, end: EventTime) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// First instant inside.
    #[must_use]
    pub fn start(self) -> EventTime {
        self.start
    }

    /// First instant after.
    #[must_use]
    pub fn end(self) -> EventTime {
        self.end
    }

    /// Whether `time` lies inside.
    #[must_use]
    pub fn contains(self, time: EventTime) -> bool {
        self.start <= time && time < self.end
    }

    /// Whether the two share an instant.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The shared part.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_half_open() {
        let period = Period::new(EventTime(10), EventTime(20)).unwrap();
        assert!(period.contains(EventTime(10)) && !period.contains(EventTime(20)));
        assert!(Period::new(EventTime(10), EventTime(10)).is_none());
        let next = Period::new(EventTime(20), EventTime(30)).unwrap();
        assert!(!period.overlaps(next));
        assert_eq!(period.intersect(next), None);
        assert_eq!(Period::ALWAYS.intersect(next), Some(next));
    }
}
