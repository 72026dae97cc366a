//! Bill units: the half-open stretches of event time that an account is billed for.

use super::time::{EventTime, Period};
use jiff::Span;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The unit of a billing cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cycle {
    /// Calendar days.
    Day,
    /// Weeks of seven days.
    Week,
    /// Months.
    Month,
    /// Three months.
    Quarter,
    /// Years.
    Year,
}

impl Cycle {
    /// The most units that a cycle may have: a century, so that every event time has a cycle in the
    /// calendar.
    #[must_use]
    pub fn every_max(self) -> u16 {
        match self {
            Self::Day => 36_525,
            Self::Week => 5_217,
            Self::Month => 1_200,
            Self::Quarter => 400,
            Self::Year => 100,
        }
    }
}

/// A billing cycle: every `every` units, counted from the anniversary date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BillingProfile {
    /// Year of the anniversary date.
    pub year: i16,
    /// Month of the anniversary date.
    pub month: i8,
    /// Day of the anniversary date; 29 to 31 fall on the last day of short months without drifting.
    pub day: i8,
    /// How many units make a cycle, from 1 to [`Cycle::every_max`].
    pub every: u16,
    /// The unit.
    pub cycle: Cycle,
}

impl BillingProfile {
    /// A profile from its anniversary date.
    #[must_use]
    pub fn new(anniversary: Date, every: u16, cycle: Cycle) -> Self {
        Self {
            year: anniversary.year(),
            month: anniversary.month(),
            day: anniversary.day(),
            every: every.max(1),
            cycle,
        }
    }

    fn anniversary(&self) -> Option<Date> {
        Date::new(self.year, self.month, self.day).ok()
    }

    /// Units from the anniversary to the `cycles`-th boundary.
    fn span(&self, cycles: i64) -> Option<Span> {
        let units = cycles.checked_mul(i64::from(self.every))?;
        match self.cycle {
            Cycle::Day => Span::new().try_days(units).ok(),
            Cycle::Week => Span::new().try_weeks(units).ok(),
            Cycle::Month => Span::new().try_months(units).ok(),
            Cycle::Quarter => Span::new().try_months(units.checked_mul(3)?).ok(),
            Cycle::Year => Span::new().try_years(units).ok(),
        }
    }

    /// First day of the cycle that holds `date`, and of the next.
    fn cycle_of(&self, date: Date) -> Option<(Date, Date)> {
        let anniversary = self.anniversary()?;
        let days = i64::from(anniversary.until(date).ok()?.get_days());
        let months = i64::from(date.year())
            .checked_sub(i64::from(self.year))?
            .checked_mul(12)?
            .checked_add(i64::from(date.month()))?
            .checked_sub(i64::from(self.month))?;
        let (elapsed, unit) = match self.cycle {
            Cycle::Day => (days, 1),
            Cycle::Week => (days, 7),
            Cycle::Month => (months, 1),
            Cycle::Quarter => (months, 3),
            Cycle::Year => (months, 12),
        };
        let length = i64::from(self.every).checked_mul(unit)?;
        let mut index = elapsed.checked_div_euclid(length)?;
        let boundary = |index: i64| anniversary.checked_add(self.span(index)?).ok();
        // Months elapsed count a month whose anniversary day has not come yet.
        if boundary(index)? > date {
            index = index.checked_sub(1)?;
        }
        Some((boundary(index)?, boundary(index.checked_add(1)?)?))
    }

    /// The cycle that holds `time`, from midnight to midnight in `zone`; `None` for times and cycles
    /// that leave the calendar.
    #[must_use]
    pub fn cycle_at(&self, time: EventTime, zone: &TimeZone) -> Option<Period> {
        let date = zone.to_datetime(time.timestamp()?).date();
        let (start, end) = self.cycle_of(date)?;
        let midnight = |date: Date| {
            let zoned = date.to_zoned(zone.clone()).ok()?;
            Some(EventTime::from(zoned.timestamp()))
        };
        Period::new(midnight(start)?, midnight(end)?)
    }
}

/// One bill unit of a profile.
pub type BillUnit = Period;

/// Finds bill units in the tenant's time zone, remembering those already found: usage asks for the
/// same few units again and again.
#[derive(Clone, Debug)]
pub struct BillCalendar {
    zone: TimeZone,
    found: std::collections::BTreeMap<(BillingProfile, EventTime), BillUnit>,
    last: Option<(BillingProfile, BillUnit)>,
}

impl BillCalendar {
    /// A calendar whose days begin at 00:00 in `zone`.
    #[must_use]
    pub fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            found: std::collections::BTreeMap::new(),
            last: None,
        }
    }

    /// The zone whose midnights are meant.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The bill unit of `profile` that holds `time`.
    ///
    /// # Panics
    /// For times outside [`EventTime::EARLIEST`]..[`EventTime::LATEST`], which mediation refuses, and
    /// for profiles of more units than [`Cycle::every_max`], which reference data may not have.
    pub fn unit(&mut self, profile: &BillingProfile, time: EventTime) -> BillUnit {
        if let Some((last, unit)) = self.last
            && last == *profile
            && unit.contains(time)
        {
            return unit;
        }
        let known = self.found.range(..=(*profile, time)).next_back();
        let unit = match known {
            Some(((owner, _), unit)) if owner == profile && unit.contains(time) => *unit,
            _ => {
                let unit = profile
                    .cycle_at(time, &self.zone)
                    .expect("event times are within 1970..2200");
                self.found.insert((*profile, unit.start()), unit);
                unit
            }
        };
        self.last = Some((*profile, unit));
        unit
    }
}

/// The profile of accounts that name none: calendar months.
impl Default for BillingProfile {
    fn default() -> Self {
        Self {
            year: 1970,
            month: 1,
            day: 1,
            every: 1,
            cycle: Cycle::Month,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(zone: &str, anniversary: (i16, i8, i8), every: u16, cycle: Cycle, at: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let (y, m, d) = anniversary;
        let profile = BillingProfile::new(Date::new(y, m, d).unwrap(), every, cycle);
        let time = EventTime::from(at.parse::<jiff::Timestamp>().unwrap());
        let unit = BillCalendar::new(zone).unit(&profile, time);
        assert!(unit.contains(time));
        format!("{} {}", unit.start(), unit.end())
    }

    #[test]
    fn months_from_the_31st_do_not_drift() {
        let at = |at| unit("UTC", (2025, 1, 31), 1, Cycle::Month, at);
        assert_eq!(
            at("2025-02-27T23:59:59Z"),
            "2025-01-31T00:00:00Z 2025-02-28T00:00:00Z"
        );
        assert_eq!(
            at("2025-02-28T00:00:00Z"),
            "2025-02-28T00:00:00Z 2025-03-31T00:00:00Z"
        );
        assert_eq!(
            at("2025-04-30T12:00:00Z"),
            "2025-04-30T00:00:00Z 2025-05-31T00:00:00Z"
        );
    }

    #[test]
    fn times_before_the_anniversary_have_units_too() {
        let at = |cycle, at| unit("UTC", (2025, 1, 15), 2, cycle, at);
        assert_eq!(
            at(Cycle::Month, "2025-01-14T23:00:00Z"),
            "2024-11-15T00:00:00Z 2025-01-15T00:00:00Z"
        );
        assert_eq!(
            at(Cycle::Week, "2025-01-01T00:00:00Z"),
            "2025-01-01T00:00:00Z 2025-01-15T00:00:00Z"
        );
    }

    #[test]
    fn days_have_23_and_25_hours() {
        let at = |at| unit("Europe/Prague", (2025, 1, 1), 1, Cycle::Day, at);
        assert_eq!(
            at("2025-03-30T10:00:00Z"),
            "2025-03-29T23:00:00Z 2025-03-30T22:00:00Z"
        );
        assert_eq!(
            at("2025-10-26T10:00:00Z"),
            "2025-10-25T22:00:00Z 2025-10-26T23:00:00Z"
        );
    }

    #[test]
    fn the_longest_cycles_hold_every_event_time() {
        let cycles = [
            Cycle::Day,
            Cycle::Week,
            Cycle::Month,
            Cycle::Quarter,
            Cycle::Year,
        ];
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"] {
            let zone = TimeZone::get(zone).unwrap();
            let years = [-9999, 1970, 2026, 9999];
            let pairs = cycles
                .iter()
                .flat_map(|cycle| years.map(|year| (year, *cycle)));
            for (year, cycle) in pairs {
                let anniversary = Date::new(year, 12, 31).unwrap();
                let profile = BillingProfile::new(anniversary, cycle.every_max(), cycle);
                for time in [EventTime::EARLIEST, EventTime::LATEST] {
                    assert!(
                        profile.cycle_at(time, &zone).is_some(),
                        "{profile:?} {time}"
                    );
                }
            }
        }
    }

    #[test]
    fn quarters_and_years() {
        let at = |cycle| unit("UTC", (2024, 2, 29), 1, cycle, "2025-08-01T00:00:00Z");
        assert_eq!(
            at(Cycle::Quarter),
            "2025-05-29T00:00:00Z 2025-08-29T00:00:00Z"
        );
        assert_eq!(at(Cycle::Year), "2025-02-28T00:00:00Z 2026-02-28T00:00:00Z");
    }
}
