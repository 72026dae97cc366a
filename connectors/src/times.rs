//! Times: what a text says, and which instant it means.
//!
//! ```text
//!   text ─► date, hour, offset ─► offset named: that instant
//!                              └► no offset: the hour as clocks of a zone show it ─► instant
//!                                             ├► shown twice  ┐ earlier, later, or told
//!                                             └► never shown  ┘ as TIME_AMBIGUOUS
//! ```
//!
//! - **The zone** of a time without an offset is the tenant's, or the one that its column declares;
//!   never silently UTC. A date begins at its midnight there, as dates of prices do.
//! - **Forms** are those of RFC 3339 and ISO 8601: `2026-08-01`, `2026-08-01T12:00`, seconds, a fraction
//!   behind a point or comma, `Z`, ` UTC`, `+02`, `+0200`, `+02:00`. 24:00 is the midnight at the end of
//!   its day. Second 60, a leap second, is the last nanosecond of its minute.
//! - **Digits** go down to the nanosecond; more of them are refused and not cut. Instants are held in
//!   nanoseconds, from 1677 to 2262.

mod columns;
mod text;

pub(crate) use columns::{OUTSIDE, instants};
pub(crate) use text::{Written, date};

use arrow::datatypes::{DataType, TimeUnit};
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use millrace_operators::domain::{EventTime, Reason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const NANOS: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// Which instant an hour means that clocks show twice or never, because they are put back or forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ambiguous {
    /// The first of the two. An hour that never comes is read as if clocks had been put forward already:
    /// 02:30 is 01:30 before the change.
    Earlier,
    /// The second of the two. An hour that never comes is read as if clocks had not been put forward yet:
    /// 02:30 is 03:30 after the change.
    Later,
    /// Neither: the record is set aside as TIME_AMBIGUOUS.
    #[default]
    Suspend,
}

impl Ambiguous {
    /// The rule of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "earlier" => Some(Self::Earlier),
            "later" => Some(Self::Later),
            "suspend" => Some(Self::Suspend),
            _ => None,
        }
    }
}

/// How times are read that name no offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeReading {
    zone: TimeZone,
    ambiguous: Ambiguous,
    /// The tenant's zone, in which date functions show all instants of a job.
    shown_in: Arc<str>,
}

impl Default for TimeReading {
    fn default() -> Self {
        Self::of_tenant(TimeZone::UTC)
    }
}

impl TimeReading {
    /// Times are of the tenant's zone.
    #[must_use]
    pub fn of_tenant(zone: TimeZone) -> Self {
        let shown_in = Arc::from(zone.iana_name().unwrap_or("UTC"));
        Self {
            zone,
            ambiguous: Ambiguous::Suspend,
            shown_in,
        }
    }

    /// Times of one column: of another zone, or with another rule for hours that come twice or never.
    #[must_use]
    pub fn declared(&self, zone: Option<TimeZone>, ambiguous: Option<Ambiguous>) -> Self {
        Self {
            zone: zone.unwrap_or_else(|| self.zone.clone()),
            ambiguous: ambiguous.unwrap_or(self.ambiguous),
            shown_in: Arc::clone(&self.shown_in),
        }
    }

    /// The zone of times without an offset.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// What an hour means that comes twice or never.
    #[must_use]
    pub fn ambiguous(&self) -> Ambiguous {
        self.ambiguous
    }

    /// The tenant's zone.
    #[must_use]
    pub fn shown_in(&self) -> &str {
        &self.shown_in
    }

    /// The tenant's zone, for calendars.
    pub(crate) fn shown_zone(&self) -> TimeZone {
        TimeZone::get(&self.shown_in).unwrap_or(TimeZone::UTC)
    }

    /// The arrow type of instants.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(Arc::clone(&self.shown_in)))
    }

    /// The zone of this name, or what is wrong with it and what to write.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn zone_named(name: &str) -> Result<TimeZone, (String, String)> {
        // Date functions look zones up in another table, which knows exact names alone.
        let exact = TimeZone::get(name).ok().filter(|zone| {
            let name = zone.iana_name().unwrap_or_default();
            name.parse::<arrow::array::timezone::Tz>().is_ok()
        });
        exact.ok_or_else(|| {
            let known: Vec<String> = jiff::tz::db()
                .available()
                .map(|name| name.as_str().to_owned())
                .collect();
            let meant = crate::diagnostic::did_you_mean(name, known.iter().map(String::as_str));
            let hint = match meant {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => "write an IANA name like UTC or Europe/Prague".to_owned(),
            };
            (format!("unknown time zone \"{name}\""), hint)
        })
    }
}

/// Which times are taken for real: from the earliest on, and before the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The first instant that is.
    pub earliest: EventTime,
    /// The first instant that is not any more.
    pub latest: EventTime,
}

impl Default for TimeRange {
    fn default() -> Self {
        Self {
            earliest: EventTime::EARLIEST,
            latest: EventTime::LATEST,
        }
    }
}

impl TimeRange {
    /// Whether an instant, in nanoseconds, is taken for real.
    pub(crate) fn contains(&self, nanos: i64) -> bool {
        let time = EventTime(nanos.div_euclid(1_000));
        (self.earliest..self.latest).contains(&time)
    }

    /// Why a time is not taken for real; `None` if it is.
    pub(crate) fn refuse(&self, time: EventTime) -> Option<String> {
        if time < self.earliest {
            return Some(format!(
                "before {}, the earliest taken for real",
                self.earliest
            ));
        }
        if time >= self.latest {
            return Some(format!("too far ahead, not before {}", self.latest));
        }
        None
    }
}

/// How the times of a job are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeRules {
    /// Times that name no offset.
    pub reading: TimeReading,
    /// Times that are taken for real.
    pub range: TimeRange,
}

/// Why a text or a value means no instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimeError {
    /// The text is no time.
    Unparsable(&'static str),
    /// The zone's clocks show the hour twice, or never.
    Ambiguous(String),
    /// The instant is outside of 1677 to 2262.
    OutOfRange,
}

impl TimeError {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Unparsable(_) => Reason::FieldUnparsable,
            Self::Ambiguous(_) => Reason::TimeAmbiguous,
            Self::OutOfRange => Reason::TimeOutOfRange,
        }
    }

    /// What is wrong with `shown`, the value as messages show it.
    pub(crate) fn detail(&self, shown: &str) -> String {
        match self {
            Self::Unparsable("") => format!("{shown} is not of type timestamp"),
            Self::Unparsable(hint) => format!("{shown} is not of type timestamp: {hint}"),
            Self::Ambiguous(why) => format!("{shown} {why}"),
            Self::OutOfRange => {
                format!("{shown} is outside of the years that instants have, 1677 to 2262")
            }
        }
    }
}

/// Reads times one after the other; those of one season take no look at the zone.
#[derive(Clone, Debug)]
pub(crate) struct TimeReader {
    reading: TimeReading,
    steady: Steady,
}

/// A stretch of a zone's clock time, in seconds as if of UTC, in which its offset stays and no hour is
/// shown twice or never.
#[derive(Clone, Copy, Debug)]
struct Steady {
    from: i64,
    to: i64,
    offset: i64,
}

impl TimeReader {
    pub(crate) fn new(reading: TimeReading) -> Self {
        let nothing = Steady {
            from: 0,
            to: 0,
            offset: 0,
        };
        Self {
            reading,
            steady: nothing,
        }
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z of the instant that a text means.
    pub(crate) fn instant(&mut self, text: &str) -> Result<i64, TimeError> {
        let written = Written::parse(text).map_err(TimeError::Unparsable)?;
        self.written(&written)
    }

    pub(crate) fn written(&mut self, written: &Written) -> Result<i64, TimeError> {
        match written.offset {
            Some(offset) => nanoseconds(written.clock - i64::from(offset), written.nanos),
            None if written.is_date => self.midnight(written.clock.div_euclid(DAY_SECONDS)),
            None => self.local(written.clock, written.nanos),
        }
    }

    /// The instant at which clocks of the zone show `clock` seconds since 1970 and `nanos`.
    pub(crate) fn local(&mut self, clock: i64, nanos: u32) -> Result<i64, TimeError> {
        if !(self.steady.from..self.steady.to).contains(&clock) {
            let Some(steady) = self.steady_around(clock)? else {
                return self.unsteady(clock, nanos);
            };
            self.steady = steady;
        }
        nanoseconds(clock - self.steady.offset, nanos)
    }

    /// The first instant of a day, given as days since 1970.
    pub(crate) fn midnight(&mut self, day: i64) -> Result<i64, TimeError> {
        let clock = day.checked_mul(DAY_SECONDS).ok_or(TimeError::OutOfRange)?;
        if (self.steady.from..self.steady.to).contains(&clock) {
            return nanoseconds(clock - self.steady.offset, 0);
        }
        let date: Date = civil(clock)?.date();
        let start = date.to_zoned(self.reading.zone.clone());
        let start = start.map_err(|_| TimeError::OutOfRange)?.timestamp();
        // Days around it are read fast from now on.
        self.steady = self.steady_around(clock)?.unwrap_or(self.steady);
        nanoseconds(start.as_second(), 0)
    }

    /// `None` when clocks show the time twice or never.
    fn steady_around(&self, clock: i64) -> Result<Option<Steady>, TimeError> {
        let zone = &self.reading.zone;
        let ambiguous = zone.to_ambiguous_timestamp(civil(clock)?);
        let AmbiguousOffset::Unambiguous { offset } = ambiguous.offset() else {
            return Ok(None);
        };
        let seconds = |offset: Offset| i64::from(offset.seconds());
        let instant = ambiguous.unambiguous().map_err(|_| TimeError::OutOfRange)?;
        let offset = seconds(offset);
        let around = jiff::SignedDuration::from_secs(1);
        let before = zone
            .preceding(instant.checked_add(around).unwrap_or(instant))
            .next();
        let from = before.map_or(i64::MIN, |change| {
            let earlier = change.timestamp().checked_sub(around);
            let earlier = earlier.map_or(offset, |at| seconds(zone.to_offset(at)));
            change.timestamp().as_second() + offset.max(earlier)
        });
        let to = zone.following(instant).next().map_or(i64::MAX, |change| {
            change.timestamp().as_second() + offset.min(seconds(change.offset()))
        });
        Ok(Some(Steady { from, to, offset }))
    }

    fn unsteady(&self, clock: i64, nanos: u32) -> Result<i64, TimeError> {
        let zone = &self.reading.zone;
        let ambiguous = zone.to_ambiguous_timestamp(civil(clock)?);
        let found = match self.reading.ambiguous {
            Ambiguous::Earlier => ambiguous.earlier(),
            Ambiguous::Later => ambiguous.later(),
            Ambiguous::Suspend => {
                let name = zone.iana_name().unwrap_or("UTC");
                let how = match ambiguous.offset() {
                    AmbiguousOffset::Gap { .. } => "never comes",
                    _ => "comes twice",
                };
                return Err(TimeError::Ambiguous(format!(
                    "{how} in {name}, where clocks are changed then"
                )));
            }
        };
        let found = found.map_err(|_| TimeError::OutOfRange)?;
        nanoseconds(found.as_second(), nanos)
    }
}

fn civil(clock: i64) -> Result<DateTime, TimeError> {
    let utc = jiff::Timestamp::from_second(clock).map_err(|_| TimeError::OutOfRange)?;
    Ok(Offset::UTC.to_datetime(utc))
}

fn nanoseconds(seconds: i64, nanos: u32) -> Result<i64, TimeError> {
    let nanoseconds = i128::from(seconds) * i128::from(NANOS) + i128::from(nanos);
    i64::try_from(nanoseconds).map_err(|_| TimeError::OutOfRange)
}

#[cfg(test)]
mod tests;
