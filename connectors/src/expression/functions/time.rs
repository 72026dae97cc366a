//! Instants from texts, days and numbers that name their unit.
//!
//! Whatever gives an instant here gives it in nanoseconds and shown in the tenant's zone, so that the
//! hour, the day and the month that date functions find in it are the tenant's.

use super::numbers::{check_exact, half_even, mantissas, power_of_ten};
use super::{argument_count, refused};
use crate::decode::quoted;
use crate::times::{Ambiguous, TimeError, TimeReader, TimeReading, Written, instants};
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, StringArray, TimestampNanosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampNanosecondType};
use datafusion_common::{DataFusionError, Result, ScalarValue, exec_datafusion_err, internal_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, lit,
};
use jiff::fmt::strtime::BrokenDownTime;
use millrace_operators::domain::Reason;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const HINT_UNIT: &str = "a number does not say its unit: write to_timestamp_seconds(x), \
                         to_timestamp_millis(x), to_timestamp_micros(x) or to_timestamp_nanos(x)";
const HINT_TEXT: &str = "declare the column as bigint, or decimal(20,6), in `columns`; a text that is a \
                         time is read by instant(text)";
const HINT_ZONE: &str = "write instant(x), instant(x, 'Europe/Prague'), or with a third argument \
                         'earlier', 'later' or 'suspend'";

/// Functions of DataFusion whose answers depend on UTC without saying so, and what to write instead.
pub(super) const HINTS_REFUSED: [(&str, &str); 5] = [
    (
        "date_bin",
        "it counts from UTC's midnight; write date_trunc('hour', x) or date_trunc('day', x), which \
         are the tenant's",
    ),
    (
        "to_local_time",
        "an instant stays one: date functions show it in the tenant's zone, and \
         `x AT TIME ZONE 'Europe/Prague'` in another",
    ),
    (
        "make_timestamp",
        "write instant(text), where the text is a date and a time",
    ),
    ("to_time", "write to_char(x, '%H:%M:%S')"),
    ("make_time", "write to_char(x, '%H:%M:%S')"),
];

pub(super) fn functions(times: &TimeReading) -> Vec<Arc<ScalarUDF>> {
    Kind::ALL
        .map(|kind| Arc::new(ScalarUDF::new_from_impl(TimeFunction::new(kind, times))))
        .to_vec()
}

/// The instant that a text or a day means in a zone; the tenant's unless named.
pub(in crate::expression) fn instant_of(
    expr: Expr,
    zone: Option<&str>,
    times: &TimeReading,
) -> Expr {
    let function = ScalarUDF::new_from_impl(TimeFunction::new(Kind::Instant, times));
    let mut arguments = vec![expr];
    arguments.extend(zone.map(lit));
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), arguments))
}

/// The day that a text means.
pub(in crate::expression) fn day_of(expr: Expr, times: &TimeReading) -> Expr {
    let function = ScalarUDF::new_from_impl(TimeFunction::new(Kind::ToDate, times));
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![expr]))
}

/// Whether a function is one of these.
pub(in crate::expression) fn is_time_function(name: &str) -> bool {
    Kind::ALL.iter().any(|kind| kind.name() == name)
}

/// A value that means no instant.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct TimeUnread {
    /// Why.
    pub reason: Reason,
    /// What was found.
    pub detail: String,
}

impl TimeUnread {
    fn of(error: &TimeError, shown: &str) -> DataFusionError {
        let reason = match error.reason() {
            // A text that an expression made is no field of the file.
            Reason::FieldUnparsable => Reason::RuleFailed,
            reason => reason,
        };
        let detail = error.detail(shown);
        DataFusionError::External(Box::new(Self { reason, detail }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Instant,
    ToTimestamp,
    Seconds,
    Millis,
    Micros,
    Nanos,
    FromUnixtime,
    ToDate,
    PlusSeconds,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Instant,
        Self::ToTimestamp,
        Self::Seconds,
        Self::Millis,
        Self::Micros,
        Self::Nanos,
        Self::FromUnixtime,
        Self::ToDate,
        Self::PlusSeconds,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::ToTimestamp => "to_timestamp",
            Self::Seconds => "to_timestamp_seconds",
            Self::Millis => "to_timestamp_millis",
            Self::Micros => "to_timestamp_micros",
            Self::Nanos => "to_timestamp_nanos",
            Self::FromUnixtime => "from_unixtime",
            Self::ToDate => "to_date",
            Self::PlusSeconds => "plus_seconds",
        }
    }

    /// Decimals of a second that one of its unit has, for functions of numbers.
    fn unit(self) -> Option<u32> {
        match self {
            Self::Seconds | Self::FromUnixtime => Some(0),
            Self::Millis => Some(3),
            Self::Micros => Some(6),
            Self::Nanos => Some(9),
            Self::Instant | Self::ToTimestamp | Self::ToDate | Self::PlusSeconds => None,
        }
    }
}

#[derive(Debug)]
struct TimeFunction {
    kind: Kind,
    times: TimeReading,
    signature: Signature,
}

impl PartialEq for TimeFunction {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.times == other.times
    }
}

impl Eq for TimeFunction {}

impl Hash for TimeFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.times.shown_in().hash(state);
    }
}

impl TimeFunction {
    fn new(kind: Kind, times: &TimeReading) -> Self {
        Self {
            kind,
            times: times.clone(),
            signature: Signature::variadic_any(Volatility::Immutable),
        }
    }

    /// Checks the first argument of a function that reads texts.
    fn check_readable(&self, found: &DataType) -> Result<()> {
        let name = self.kind.name();
        match found {
            DataType::Null | DataType::Date32 | DataType::Date64 => Ok(()),
            DataType::Timestamp(_, _) if self.kind == Kind::ToDate => Err(refused(
                format!("{name}(x) of an instant"),
                "write CAST(x AS DATE), the tenant's day",
            )),
            DataType::Timestamp(_, _) => Ok(()),
            kind if kind.is_string() => Ok(()),
            kind if kind.is_numeric() => Err(refused(format!("{name}(x) of a number"), HINT_UNIT)),
            kind => Err(refused(
                format!("{name}(x) of {kind}, where a text belongs"),
                "",
            )),
        }
    }

    /// The reading that the second and third argument of `instant` name.
    fn reading(&self, arguments: &[Option<String>]) -> Result<TimeReading> {
        let zone = match arguments.first() {
            None => None,
            Some(Some(name)) => {
                let zone = TimeReading::zone_named(name);
                Some(zone.map_err(|(message, hint)| refused(message, hint))?)
            }
            Some(None) => {
                return Err(refused(
                    "the zone of instant(x, zone) is no text",
                    HINT_ZONE,
                ));
            }
        };
        let ambiguous = match arguments.get(1) {
            None => None,
            Some(rule) => {
                let found = rule.as_deref().and_then(Ambiguous::of_name);
                Some(found.ok_or_else(|| {
                    refused("the rule of instant(x, zone, rule) is none", HINT_ZONE)
                })?)
            }
        };
        Ok(self.times.declared(zone, ambiguous))
    }

    fn read(&self, args: &ScalarFunctionArgs, values: &ArrayRef) -> Result<ArrayRef> {
        let constants: Vec<Option<String>> = args.args.iter().skip(1).map(constant_text).collect();
        match self.kind {
            Kind::ToDate => dates(values, &constants, &self.times),
            Kind::ToTimestamp if !constants.is_empty() => {
                let texts = arrow::compute::cast(values, &DataType::Utf8)?;
                formatted(texts.as_string::<i32>(), &constants, &self.times)
            }
            Kind::Instant => read(values, &self.reading(&constants)?),
            Kind::PlusSeconds => match args.args.get(1) {
                Some(seconds) => {
                    plus_seconds(values, &seconds.to_array(values.len())?, &self.times)
                }
                None => internal_err!("plus_seconds was planned with two arguments"),
            },
            _ => read(values, &self.times),
        }
    }
}

fn constant_text(value: &ColumnarValue) -> Option<String> {
    match value {
        ColumnarValue::Scalar(scalar) => scalar.try_as_str().flatten().map(str::to_owned),
        ColumnarValue::Array(_) => None,
    }
}

impl ScalarUDFImpl for TimeFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let name = self.kind.name();
        let Some(first) = args.arg_fields.first().map(|field| field.data_type()) else {
            return Err(refused(format!("{name}() has no argument"), ""));
        };
        let more = args.arg_fields.len() - 1;
        let constants = || {
            let constants = args.scalar_arguments.iter().skip(1);
            let text = |scalar: &Option<&ScalarValue>| {
                scalar.and_then(|scalar| scalar.try_as_str().flatten().map(str::to_owned))
            };
            constants.map(text).collect::<Vec<_>>()
        };
        match self.kind.unit() {
            None if self.kind == Kind::PlusSeconds => check_plus_seconds(&args, first)?,
            Some(_) if first.is_string() => {
                return Err(refused(format!("{name}(x) of a text"), HINT_TEXT));
            }
            Some(_) => {
                check_exact(first, &format!("{name}(x)"))?;
                argument_count(&args, 1, &format!("{name}(x)"))?;
            }
            None => self.check_readable(first)?,
        }
        if self.kind == Kind::Instant {
            if more > 2 {
                return Err(refused("instant has at most three arguments", HINT_ZONE));
            }
            self.reading(&constants())?;
        }
        let is_format = matches!(self.kind, Kind::ToTimestamp | Kind::ToDate);
        if is_format && constants().iter().any(Option::is_none) {
            let hint = "write it in single quotes, like '%d.%m.%Y %H:%M:%S'";
            return Err(refused(format!("a format of {name} is no text"), hint));
        }
        if is_format && more > 0 && !first.is_string() && !first.is_null() {
            return Err(refused(
                format!("{name} with a format, but not of a text"),
                "",
            ));
        }
        let kind = match self.kind {
            Kind::ToDate => DataType::Date32,
            _ => self.times.data_type(),
        };
        Ok(Arc::new(Field::new(name, kind, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(values) = args.args.first() else {
            return internal_err!("{} has no argument", self.name());
        };
        // A constant is read once and not once per row.
        let is_constant = args
            .args
            .iter()
            .all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let values = values.to_array(rows)?;
        let found = if values.data_type().is_null() {
            new_null_array(args.return_field.data_type(), rows)
        } else {
            match self.kind.unit() {
                Some(unit) => numbers(&values, unit, &self.times)?,
                None => self.read(&args, &values)?,
            }
        };
        Ok(if is_constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// The instants of texts, days or instants.
fn read(values: &ArrayRef, times: &TimeReading) -> Result<ArrayRef> {
    if !values.data_type().is_string() {
        let mut bad = None;
        let found = instants(values, times, |_, shown, error| {
            bad.get_or_insert(TimeUnread::of(&error, &shown));
        })?;
        return bad.map_or(Ok(found), Err);
    }
    let texts = arrow::compute::cast(values, &DataType::Utf8)?;
    let mut reader = TimeReader::new(times.clone());
    let read = texts.as_string::<i32>().iter().map(|text| {
        let instant = text.map(|text| {
            let instant = reader.instant(text);
            instant.map_err(|error| TimeUnread::of(&error, &quoted(text)))
        });
        instant.transpose()
    });
    let found = read.collect::<Result<TimestampNanosecondArray>>()?;
    Ok(Arc::new(found.with_data_type(times.data_type())))
}

/// The instants of texts in the first of these formats that each has.
fn formatted(
    texts: &StringArray,
    formats: &[Option<String>],
    times: &TimeReading,
) -> Result<ArrayRef> {
    let mut reader = TimeReader::new(times.clone());
    let formats: Vec<&str> = formats.iter().flatten().map(String::as_str).collect();
    let read = texts.iter().map(|text| {
        let Some(text) = text else {
            return Ok(None);
        };
        let written = formats.iter().find_map(|format| written(format, text));
        let written = written.ok_or_else(|| not_of_format(text, &formats))?;
        let instant = reader.written(&written);
        instant
            .map(Some)
            .map_err(|error| TimeUnread::of(&error, &quoted(text)))
    });
    let found = read.collect::<Result<TimestampNanosecondArray>>()?;
    Ok(Arc::new(found.with_data_type(times.data_type())))
}

fn not_of_format(text: &str, formats: &[&str]) -> DataFusionError {
    exec_datafusion_err!(
        "{} is not of the format {}",
        quoted(text),
        formats.join(" or ")
    )
}

/// What a text says in a format of strptime.
fn written(format: &str, text: &str) -> Option<Written> {
    let found = BrokenDownTime::parse(format, text).ok()?;
    // Seconds since 1970 are an instant by themselves.
    if let Some(instant) = found.timestamp() {
        return Some(Written {
            clock: instant.as_second(),
            nanos: u32::try_from(instant.subsec_nanosecond()).ok()?,
            offset: Some(0),
            is_date: false,
        });
    }
    let date = found.to_date().ok()?;
    let time = found.to_time();
    let is_date = time.is_err() && found.hour().is_none();
    let at = match is_date {
        true => date.at(0, 0, 0, 0),
        false => date.to_datetime(time.ok()?),
    };
    let as_utc = jiff::tz::Offset::UTC.to_timestamp(at).ok()?;
    Some(Written {
        clock: as_utc.as_second(),
        nanos: u32::try_from(as_utc.subsec_nanosecond()).ok()?,
        offset: found.offset().map(jiff::tz::Offset::seconds),
        is_date: is_date && found.offset().is_none(),
    })
}

/// The days of texts: a date as it stands, the tenant's day of a time.
fn dates(values: &ArrayRef, formats: &[Option<String>], times: &TimeReading) -> Result<ArrayRef> {
    if !values.data_type().is_string() {
        return Ok(arrow::compute::cast(values, &DataType::Date32)?);
    }
    let texts = arrow::compute::cast(values, &DataType::Utf8)?;
    let formats: Vec<&str> = formats.iter().flatten().map(String::as_str).collect();
    let mut reader = TimeReader::new(times.clone());
    let days = texts.as_string::<i32>().iter().map(|text| {
        let Some(text) = text else {
            return Ok(None);
        };
        let unread = |error: TimeError| TimeUnread::of(&error, &quoted(text));
        let written = if formats.is_empty() {
            Written::parse(text).map_err(|hint| unread(TimeError::Unparsable(hint)))?
        } else {
            let found = formats.iter().find_map(|format| written(format, text));
            found.ok_or_else(|| not_of_format(text, &formats))?
        };
        let clock = match written.offset {
            // Without an offset the day is the one that stands there.
            None => written.clock,
            Some(_) => {
                let instant = reader.written(&written).map_err(unread)?;
                let instant = jiff::Timestamp::from_nanosecond(i128::from(instant));
                let instant = instant.map_err(|_| unread(TimeError::OutOfRange))?;
                let shown = times.shown_zone().to_datetime(instant);
                let as_utc = jiff::tz::Offset::UTC.to_timestamp(shown);
                as_utc
                    .map_err(|_| unread(TimeError::OutOfRange))?
                    .as_second()
            }
        };
        let day = i32::try_from(clock.div_euclid(86_400));
        day.map(Some).map_err(|_| unread(TimeError::OutOfRange))
    });
    Ok(Arc::new(days.collect::<Result<Date32Array>>()?))
}

/// The instants of numbers of a unit.
fn numbers(values: &ArrayRef, unit: u32, times: &TimeReading) -> Result<ArrayRef> {
    let (values, scale) = mantissas(values)?;
    let below_nanos = (unit + scale).saturating_sub(9);
    let (up, down) = (
        10_i128.checked_pow(9_u32.saturating_sub(unit + scale)),
        10_i128.checked_pow(below_nanos),
    );
    let (Some(up), Some(down)) = (up, down) else {
        return Err(exec_datafusion_err!("a number of too many decimals"));
    };
    let found = values.iter().map(|value| {
        let Some(value) = value else {
            return Ok(None);
        };
        if value % down != 0 {
            return Err(exec_datafusion_err!(
                "an instant with digits below the nanosecond"
            ));
        }
        let nanos = (value / down).checked_mul(up);
        let nanos = nanos.and_then(|nanos| i64::try_from(nanos).ok());
        nanos.map(Some).ok_or_else(|| {
            let number = rust_number(value, scale);
            TimeUnread::of(&TimeError::OutOfRange, &number)
        })
    });
    let found = found.collect::<Result<TimestampNanosecondArray>>()?;
    Ok(Arc::new(found.with_data_type(times.data_type())))
}

fn rust_number(value: i128, scale: u32) -> String {
    match 10_i128.checked_pow(scale).filter(|_| scale > 0) {
        Some(one) => format!(
            "{}.{:0width$}",
            value / one,
            (value % one).unsigned_abs(),
            width = usize::try_from(scale).unwrap_or(0)
        ),
        None => value.to_string(),
    }
}

/// Whether a type is an instant as expressions have them: in nanoseconds and with a zone to be shown in.
pub(in crate::expression) fn is_instant(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(TimeUnit::Nanosecond, Some(_)))
}

fn check_plus_seconds(args: &ReturnFieldArgs<'_>, at: &DataType) -> Result<()> {
    let usage = "plus_seconds(instant, seconds)";
    argument_count(args, 2, usage)?;
    if !matches!(
        at,
        DataType::Timestamp(_, _) | DataType::Date32 | DataType::Null
    ) {
        return Err(refused(
            format!("the first argument of {usage} is no timestamp"),
            "declare the column as timestamp, or write to_timestamp_seconds(...), \
             TIMESTAMP '2026-08-01T00:00:00Z'",
        ));
    }
    args.arg_fields
        .get(1)
        .map_or(Ok(()), |seconds| check_exact(seconds.data_type(), usage))
}

fn plus_seconds(at: &ArrayRef, seconds: &ArrayRef, times: &TimeReading) -> Result<ArrayRef> {
    let at = read(at, times)?;
    let at = at.as_primitive::<TimestampNanosecondType>();
    let (seconds, scale) = mantissas(seconds)?;
    let (up, down) = if scale <= 9 {
        (power_of_ten(9 - scale)?, 1)
    } else {
        (1, power_of_ten(scale - 9)?)
    };
    let later = at.iter().zip(seconds.iter()).map(|pair| match pair {
        (Some(at), Some(seconds)) => seconds
            .checked_mul(up)
            .and_then(|nanos| half_even(nanos, down))
            .and_then(|nanos| i64::try_from(nanos).ok())
            .and_then(|nanos| at.checked_add(nanos))
            .map(Some)
            .ok_or_else(|| exec_datafusion_err!("an instant outside of the calendar")),
        _ => Ok(None),
    });
    let later = later.collect::<Result<TimestampNanosecondArray>>()?;
    Ok(Arc::new(later.with_data_type(times.data_type())))
}
