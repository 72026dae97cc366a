//! The last step: values become usage, guarded in the order of the reasons.

use super::cache::Traits;
use super::marks::{Marks, stops_void};
use super::text::{canonical, decimal};
use super::{Failure, Mediated, Mediator, Rows};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int64Array, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use millrace_operators::domain::{EventTime, Kind, Quantities, Reason, Usage};

/// Quantities have up to 18 digits, so that they and their sums keep room.
const QUANTITY_LIMIT: u64 = 10_u64.pow(18);

/// The mantissas of an item.
enum Mantissas {
    Whole(Int64Array),
    Decimal(Decimal128Array),
}

impl Mantissas {
    fn of(values: &ArrayRef) -> Self {
        let wide = |target: &DataType| {
            // An item is a whole number or a decimal; both widen without loss, see the plan's check.
            let exact = CastOptions {
                safe: false,
                ..CastOptions::default()
            };
            cast_with_options(values, target, &exact).expect("whole numbers widen")
        };
        match values.data_type() {
            DataType::Decimal128(_, _) => {
                Self::Decimal(values.as_primitive::<Decimal128Type>().clone())
            }
            DataType::Int64 => Self::Whole(values.as_primitive::<Int64Type>().clone()),
            DataType::UInt64 => {
                let values = wide(&DataType::Decimal128(20, 0));
                Self::Decimal(values.as_primitive::<Decimal128Type>().clone())
            }
            _ => Self::Whole(wide(&DataType::Int64).as_primitive::<Int64Type>().clone()),
        }
    }

    fn get(&self, row: usize) -> Option<i128> {
        match self {
            Self::Whole(values) => values.is_valid(row).then(|| i128::from(values.value(row))),
            Self::Decimal(values) => values.is_valid(row).then(|| values.value(row)),
        }
    }
}

fn text(values: &StringArray, row: usize) -> Option<&str> {
    values.is_valid(row).then(|| values.value(row))
}

fn failure(reason: Reason, field: &str, detail: String) -> Failure {
    Failure {
        reason,
        field: field.to_owned(),
        detail,
    }
}

impl Mediator {
    /// Evaluates what is left of the rule, and turns each row into usage or a fault.
    pub(super) fn finish(&mut self, mut rows: Rows, out: &mut Mediated) {
        let identity: Option<Vec<StringArray>> = self.steps.identity.as_ref().map(|fields| {
            fields
                .iter()
                .map(|planned| canonical(&rows.values(planned)))
                .collect()
        });
        let services = canonical(&rows.values(&self.steps.service));
        let times = rows.values(&self.steps.time);
        let zone = match times.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        // What does not fit microseconds becomes NULL; what does not fit the range is caught below.
        let micros = DataType::Timestamp(TimeUnit::Microsecond, zone);
        let instants =
            arrow::compute::cast(&times, &micros).expect("timestamps and dates become instants");
        let instants = instants.as_primitive::<TimestampMicrosecondType>();
        let attributes: Vec<StringArray> = self
            .steps
            .attributes
            .iter()
            .map(|planned| canonical(&rows.values(planned)))
            .collect();
        let charges: Vec<Mantissas> = self
            .steps
            .charges
            .iter()
            .map(|(planned, _)| Mantissas::of(&rows.values(planned)))
            .collect();

        let marks = Marks::of(self.steps.marking.as_ref(), &mut rows);
        let mut failed = std::mem::take(&mut rows.failed);
        let mut values: Vec<Option<&str>> = Vec::with_capacity(attributes.len());
        out.usage.reserve(rows.records.len());
        for (row, &record) in rows.records.iter().enumerate() {
            let found = if failed.is_empty() {
                None
            } else {
                failed.remove(&row)
            };
            let mark = marks.get(row);
            let takes_out = matches!(&mark, Ok(Some(mark)) if mark.kind == Kind::Void);
            let found = found.filter(|failure| !takes_out || stops_void(failure));
            let usage = match found {
                Some(failure) => Err(failure),
                None => (|| {
                    if let Some(fields) = &identity {
                        let nothing = |field| text(field, row).is_none_or(str::is_empty);
                        if fields.iter().all(nothing) {
                            let detail = "all identity fields are empty".to_owned();
                            return Err(failure(Reason::IdentityMissing, "identity", detail));
                        }
                    }
                    let mark = mark?;
                    let service = text(&services, row).filter(|id| !id.is_empty());
                    let service = service.ok_or_else(|| {
                        failure(
                            Reason::ServiceMissing,
                            "service",
                            "the service id is empty".into(),
                        )
                    });
                    let time = event_time(&times, instants, row);
                    let (service, time, (items, quantities)) = match takes_out {
                        // Nothing but the identity of what it takes out is read.
                        true => (
                            service.unwrap_or_default(),
                            time.unwrap_or(EventTime::EARLIEST),
                            (0, Quantities::new()),
                        ),
                        false => (service?, time?, self.quantities(&charges, row)?),
                    };

                    self.identity.field(&self.stream_field);
                    match &identity {
                        // A byte that no text has tells NULL from an empty text.
                        Some(fields) => fields.iter().for_each(|field| {
                            let text = text(field, row).map_or(&b"\xff"[..], str::as_bytes);
                            self.identity.field(text);
                        }),
                        None => {
                            self.identity.field(&record.0.to_le_bytes());
                        }
                    }
                    values.clear();
                    values.extend(attributes.iter().map(|attribute| text(attribute, row)));
                    let traits = Traits {
                        attributes: &values,
                        items,
                    };
                    Ok(Usage {
                        record,
                        identity: self.identity.finish(),
                        service: self
                            .services
                            .key(&self.stream.service_type, service, &self.names),
                        class: self.classes.key(&traits, &self.names, &mut out.classes),
                        time,
                        quantities,
                        mark,
                    })
                })(),
            };
            match usage {
                Ok(usage) => out.usage.push(usage),
                Err(failure) => out.faults.push(rows.fault(row, failure)),
            }
        }
    }

    /// The quantities that the row has, and of which items they are.
    fn quantities(&self, charges: &[Mantissas], row: usize) -> Result<(u64, Quantities), Failure> {
        let (mut items, mut quantities) = (0_u64, Quantities::new());
        // Negative comes before too large in the order of reasons, for whichever item.
        let mut too_large = None;
        for (position, mantissas) in charges.iter().enumerate() {
            let Some(mantissa) = mantissas.get(row) else {
                continue;
            };
            items |= 1 << position;
            let complaint = |reason| {
                let (field, scale) = self
                    .steps
                    .charges
                    .get(position)
                    .map_or(("", 0), |(planned, scale)| (planned.field.as_str(), *scale));
                let mut shown = String::new();
                decimal(mantissa, usize::from(scale), &mut shown);
                failure(reason, field, format!("the quantity is {shown}"))
            };
            if mantissa < 0 {
                return Err(complaint(Reason::QuantityNegative));
            }
            match i64::try_from(mantissa)
                .ok()
                .filter(|m| m.unsigned_abs() < QUANTITY_LIMIT)
            {
                Some(mantissa) => quantities.push(mantissa),
                None if too_large.is_none() => {
                    too_large = Some(complaint(Reason::QuantityOutOfRange));
                }
                None => {}
            }
        }
        match too_large {
            Some(failure) => Err(failure),
            None if items == 0 => {
                let detail = "no item of the rule has a value".to_owned();
                Err(failure(Reason::QuantityMissing, "charges", detail))
            }
            None => Ok((items, quantities)),
        }
    }
}

fn event_time(
    times: &ArrayRef,
    instants: &arrow::array::TimestampMicrosecondArray,
    row: usize,
) -> Result<EventTime, Failure> {
    if times.is_null(row) {
        let detail = "the event time is empty".to_owned();
        return Err(failure(Reason::TimeMissing, "time", detail));
    }
    let time = instants
        .is_valid(row)
        .then(|| EventTime(instants.value(row)));
    time.filter(|time| (EventTime::EARLIEST..EventTime::LATEST).contains(time))
        .ok_or_else(|| {
            let detail = match time.and_then(EventTime::timestamp) {
                Some(time) => format!("the event time is {time}"),
                None => "the event time is outside of the calendar".to_owned(),
            };
            failure(Reason::TimeOutOfRange, "time", detail)
        })
}
