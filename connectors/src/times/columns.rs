//! Typed columns of times: whatever unit and zone they have, they become instants.

use super::{TimeError, TimeReader, TimeReading};
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, PrimitiveArray, TimestampNanosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use std::sync::Arc;

/// The nanoseconds that stand for a time which 64 bits of them do not hold: the first there are, which no
/// usage has.
pub(crate) const OUTSIDE: i64 = i64::MIN;

/// The instants of a column of timestamps or dates. Times without a zone and days are read as `times`
/// says. A value that means no instant is NULL and told to `bad` by its row and as it is shown.
pub(crate) fn instants(
    column: &ArrayRef,
    times: &TimeReading,
    mut bad: impl FnMut(usize, String, TimeError),
) -> Result<ArrayRef, ArrowError> {
    let found = match column.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(_)) => {
            let values = column.as_primitive::<TimestampNanosecondType>().clone();
            return Ok(Arc::new(values.with_data_type(times.data_type())));
        }
        DataType::Timestamp(unit, zone) => (*unit, zone.is_some()),
        _ => {
            let days = cast(column, &DataType::Date32)?;
            return Ok(midnights(days.as_primitive::<Date32Type>(), times, bad));
        }
    };
    let (unit, is_instant) = found;
    let per_second: i64 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => super::NANOS,
    };
    let mut reader = TimeReader::new(times.clone());
    let mut instant = |value: i64| {
        if unit == TimeUnit::Nanosecond && value == OUTSIDE {
            return Err(TimeError::OutOfRange);
        }
        let seconds = value.div_euclid(per_second);
        let nanos = value.rem_euclid(per_second) * (super::NANOS / per_second);
        let nanos = u32::try_from(nanos).map_err(|_| TimeError::OutOfRange)?;
        match is_instant {
            true => super::nanoseconds(seconds, nanos),
            false => reader.local(seconds, nanos),
        }
    };
    // Timestamps of whatever unit are whole numbers of 64 bits.
    let values = cast(column, &DataType::Int64)?;
    let values = values.as_primitive::<Int64Type>();
    let mut found = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        let read = value.map(&mut instant).transpose();
        found.push(read.unwrap_or_else(|error| {
            bad(row, shown(value, unit), error);
            None
        }));
    }
    let found = TimestampNanosecondArray::from(found);
    Ok(Arc::new(found.with_data_type(times.data_type())))
}

fn midnights(
    days: &Date32Array,
    times: &TimeReading,
    mut bad: impl FnMut(usize, String, TimeError),
) -> ArrayRef {
    let mut reader = TimeReader::new(times.clone());
    let found: PrimitiveArray<TimestampNanosecondType> = days
        .iter()
        .enumerate()
        .map(|(row, day)| {
            let day = day?;
            let start = reader.midnight(i64::from(day));
            start
                .map_err(|error| bad(row, format!("day {day} since 1970"), error))
                .ok()
        })
        .collect();
    Arc::new(found.with_data_type(times.data_type()))
}

/// A time as its clock shows it, for messages.
fn shown(value: Option<i64>, unit: TimeUnit) -> String {
    let value = value.unwrap_or(0);
    if unit == TimeUnit::Nanosecond && value == OUTSIDE {
        return "a time of 96 bits".to_owned();
    }
    let instant = match unit {
        TimeUnit::Second => jiff::Timestamp::from_second(value),
        TimeUnit::Millisecond => jiff::Timestamp::from_millisecond(value),
        TimeUnit::Microsecond => jiff::Timestamp::from_microsecond(value),
        TimeUnit::Nanosecond => jiff::Timestamp::from_nanosecond(i128::from(value)),
    };
    match instant {
        Ok(instant) => jiff::tz::Offset::UTC.to_datetime(instant).to_string(),
        Err(_) => format!("{value} {unit:?}s since 1970"),
    }
}
