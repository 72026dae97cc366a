//! The last step: values become usage, guarded in the order of the reasons.

use super::cache::{Items, Traits};
use super::marks::{Marks, stops_void};
use super::plan::Planned;
use super::plan::QUANTITY_SCALE_MAX;
use super::text::{canonical, decimal};
use super::{Failure, Mediated, Mediator, Rows, Steps};
use crate::expression::{RowFailure, quoted_sql};
use crate::times::{TimeRange, TimeRules, instants};
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int64Array, StringArray, TimestampNanosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, TimestampNanosecondType};
use millrace_operators::domain::{
    ClassKey, EventTime, IdentityBuilder, Kind, Mark, Quantities, Reason, Usage, UsageClass,
};

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

/// The decimals of numbers of this type.
fn decimals(kind: &DataType) -> u8 {
    match kind {
        DataType::Decimal128(_, scale) => scale.unsigned_abs(),
        _ => 0,
    }
}

/// The longest text that usage is known by: each is kept, and stands in every output.
const NAME_BYTES_MAX: usize = 4_096;

/// The texts that usage of a chunk is known by, where one of them may be too long.
struct LongNames<'v>(Vec<(&'v str, &'v StringArray)>);

impl<'v> LongNames<'v> {
    fn among(texts: impl Iterator<Item = (&'v str, &'v StringArray)>) -> Self {
        let is_long = |(_, texts): &(&str, &StringArray)| {
            let ends = texts.value_offsets().windows(2);
            let lengths = ends.map(|ends| ends[1] - ends[0]);
            usize::try_from(lengths.max().unwrap_or(0)).is_ok_and(|most| most > NAME_BYTES_MAX)
        };
        Self(texts.filter(is_long).collect())
    }

    /// That a text of the row is too long.
    fn told(&self, row: usize) -> Option<Failure> {
        self.0.iter().find_map(|(field, texts)| {
            let length = text(texts, row)?.len();
            let detail = || format!("a text of {length} bytes, and {NAME_BYTES_MAX} are the most");
            (length > NAME_BYTES_MAX).then(|| failure(Reason::RuleFailed, field, detail()))
        })
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

/// A part of the identity of each row.
struct IdentityPart<'s> {
    planned: &'s Planned,
    texts: StringArray,
}

impl IdentityPart<'_> {
    /// That the part is empty in this row without being meant to be.
    fn missing(&self, row: usize) -> Option<Failure> {
        let decision = &self.planned.decision;
        let meant = match text(&self.texts, row) {
            None => decision.is_intended(),
            Some("") => decision.is_intended() || decision.fills_in(),
            Some(_) => return None,
        };
        let sql = quoted_sql(self.planned.expression.sql());
        let detail = format!("{sql} is empty, and what lacks a part of its identity has none");
        (!meant).then(|| failure(Reason::IdentityMissing, "identity", detail))
    }

    fn is_empty(&self, row: usize) -> bool {
        text(&self.texts, row).is_none_or(str::is_empty)
    }

    /// Makes the part one of an identity. A byte that no text has tells NULL from an empty text.
    fn enter(&self, row: usize, identity: &mut IdentityBuilder) {
        let text = text(&self.texts, row).map_or(&b"\xff"[..], str::as_bytes);
        identity.field(text);
    }
}

/// The parts of the identities of these rows; `None` when the position is the identity.
fn identity_parts<'s>(steps: &'s Steps, rows: &mut Rows) -> Option<Vec<IdentityPart<'s>>> {
    let part = |planned| IdentityPart {
        planned,
        texts: canonical(&rows.decided(planned, Reason::IdentityMissing)),
    };
    let fields = steps.identity.as_ref()?;
    Some(fields.iter().map(part).collect())
}

/// That a row has no identity.
fn unidentified(parts: &[IdentityPart<'_>], row: usize) -> Option<Failure> {
    let missing = parts.iter().find_map(|part| part.missing(row));
    let is_empty = || parts.iter().all(|part| part.is_empty(row));
    missing.or_else(|| {
        let detail = "all identity fields are empty".to_owned();
        is_empty().then(|| failure(Reason::IdentityMissing, "identity", detail))
    })
}

/// The values of a batch, as the guards ask for them.
struct Values<'s> {
    /// `None` when the position is the identity.
    identity: Option<Vec<IdentityPart<'s>>>,
    marks: Marks,
    service: &'s Planned,
    services: StringArray,
    instants: TimestampNanosecondArray,
    range: TimeRange,
    /// The raw columns that the event time is made of.
    time_columns: &'s [String],
    charges: Vec<Charge<'s>>,
}

/// The quantities of an item.
struct Charge<'s> {
    planned: &'s Planned,
    /// Decimals that the item has unless a quantity is too large for them.
    item_scale: u8,
    /// Decimals of the mantissas.
    scale: u8,
    mantissas: Mantissas,
}

/// What of a row the guards have let pass.
struct Passed<'v> {
    service: &'v str,
    time: EventTime,
    items: Items,
    quantities: Quantities,
    mark: Option<Box<Mark>>,
}

impl Mediator {
    /// Evaluates what is left of the rule, and turns each row into usage or a fault; does nothing, and says so,
    /// where that comes to too much at a time.
    pub(super) fn finish(&mut self, mut rows: Rows, out: &mut Mediated) -> bool {
        let values = Values::of(&self.steps, &self.times, &mut rows);
        let attributes: Vec<StringArray> = self
            .steps
            .attributes
            .iter()
            .map(|planned| canonical(&rows.decided_or_absent(planned, Reason::AttributeUndecided)))
            .collect();

        if rows.is_too_much {
            return false;
        }
        let fields = self.steps.attributes.iter().map(|planned| &*planned.field);
        let names = fields.zip(&attributes);
        let long_names = LongNames::among(names.chain([("service", &values.services)]));
        let mut failed = std::mem::take(&mut rows.failed);
        let mut traits: Vec<Option<&str>> = Vec::with_capacity(attributes.len());
        out.usage.reserve(rows.records.len());
        for (row, &record) in rows.records.iter().enumerate() {
            let passed = if failed.is_empty() {
                values.guard(&rows, row)
            } else {
                let found = failed.remove(&row);
                let found = found.filter(|failure| !values.takes_out(row) || stops_void(failure));
                first(found, || values.guard(&rows, row))
            };
            let passed = passed.and_then(|passed| long_names.told(row).map_or(Ok(passed), Err));
            let Passed {
                service,
                time,
                items,
                quantities,
                mark,
            } = match passed {
                Ok(passed) => passed,
                Err(failure) => {
                    out.faults.push(rows.fault(row, failure));
                    continue;
                }
            };
            self.identity.field(&self.stream_field);
            match &values.identity {
                Some(parts) => parts
                    .iter()
                    .for_each(|part| part.enter(row, &mut self.identity)),
                None => {
                    self.identity.field(&record.0.to_le_bytes());
                }
            }
            traits.clear();
            traits.extend(attributes.iter().map(|attribute| text(attribute, row)));
            let traits = Traits {
                attributes: &traits,
                items: &items,
            };
            out.usage.push(Usage {
                record,
                identity: self.identity.finish(),
                service: self
                    .services
                    .key(&self.stream.service_type, service, &self.names),
                class: self.classes.key(&traits, &self.names, &mut out.classes),
                time,
                quantities,
                mark,
            });
        }
        true
    }
}

impl Mediator {
    /// What rows that `where` passes over are to others of their identities: versions without usage. A row
    /// whose identity or mark cannot be told is none. Nothing at all where it comes to too much at a time.
    pub(super) fn passed_over(
        &mut self,
        mut rows: Rows,
        classes: &mut Vec<(ClassKey, UsageClass)>,
    ) -> Option<Vec<Usage>> {
        let Some(parts) = identity_parts(&self.steps, &mut rows) else {
            return Some(Vec::new());
        };
        let marks = Marks::of(self.steps.marking.as_ref(), &mut rows);
        if rows.is_too_much {
            return None;
        }
        let attributes = vec![None; self.steps.attributes.len()];
        let items = Items::default();
        let traits = Traits {
            attributes: &attributes,
            items: &items,
        };
        let mut versions = Vec::new();
        for (row, &record) in rows.records.iter().enumerate() {
            let failed = rows.failed.get(&row).is_some_and(stops_void);
            if failed || unidentified(&parts, row).is_some() {
                continue;
            }
            let Ok(Some(mut mark)) = marks.get(row) else {
                continue;
            };
            if mark.kind == Kind::Void {
                // To take a record out and to leave it without usage is the same.
                mark.kind = Kind::Amend;
            }
            self.identity.field(&self.stream_field);
            parts
                .iter()
                .for_each(|part| part.enter(row, &mut self.identity));
            versions.push(Usage {
                record,
                identity: self.identity.finish(),
                service: self
                    .services
                    .key(&self.stream.service_type, "", &self.names),
                class: self.classes.key(&traits, &self.names, classes),
                time: EventTime::EARLIEST,
                quantities: Quantities::new(),
                mark: Some(mark),
            });
        }
        Some(versions)
    }
}

fn takes_out(mark: Option<&Mark>) -> bool {
    mark.is_some_and(|mark| mark.kind == Kind::Void)
}

/// The failure that the guards ask for first: of those that the expressions found, and of their own.
fn first<'v>(
    found: Option<Failure>,
    guard: impl FnOnce() -> Result<Passed<'v>, Failure>,
) -> Result<Passed<'v>, Failure> {
    let Some(found) = found else {
        return guard();
    };
    // A time that could not be read is not there, but that is not what is wrong with it.
    let unread = matches!(found.reason, Reason::TimeAmbiguous | Reason::TimeOutOfRange);
    let follows = |other: &Failure| unread && other.reason == Reason::TimeMissing;
    match guard() {
        Err(other) if other.reason < found.reason && !follows(&other) => Err(other),
        _ => Err(found),
    }
}

impl<'s> Values<'s> {
    fn of(steps: &'s Steps, rules: &TimeRules, rows: &mut Rows) -> Self {
        let identity = identity_parts(steps, rows);
        let marks = Marks::of(steps.marking.as_ref(), rows);
        let services = canonical(&rows.decided(&steps.service, Reason::ServiceMissing));
        let times = rows.decided(&steps.time, Reason::TimeMissing);
        let instants = event_instants(steps, rules, &times, rows);
        let charges = steps.charges.iter().map(|charge| {
            let (planned, item_scale) = charge;
            // An item whose column is absent is absent itself.
            let values = rows.decided_or_absent(planned, Reason::QuantityMissing);
            Charge {
                planned,
                item_scale: *item_scale,
                scale: decimals(values.data_type()),
                mantissas: Mantissas::of(&values),
            }
        });
        Self {
            identity,
            marks,
            service: &steps.service,
            services,
            charges: charges.collect(),
            instants,
            range: rules.range,
            time_columns: &steps.time_columns,
        }
    }

    /// Asks the guards of a row, in the order of the reasons.
    fn guard(&self, rows: &Rows, row: usize) -> Result<Passed<'_>, Failure> {
        let parts = self.identity.as_ref();
        if let Some(missing) = parts.and_then(|parts| unidentified(parts, row)) {
            return Err(missing);
        }
        let mark = self.marks.get(row)?;
        let service = text(&self.services, row).filter(|id| !id.is_empty());
        if takes_out(mark.as_deref()) {
            // Nothing but the identity of what it takes out is read.
            let time = self.event_time(rows, row);
            return Ok(Passed {
                service: service.unwrap_or_default(),
                time: time.unwrap_or(EventTime::EARLIEST),
                items: Items::default(),
                quantities: Quantities::new(),
                mark,
            });
        }
        let service = service.ok_or_else(|| {
            let sql = quoted_sql(self.service.expression.sql());
            let detail = format!("the service id, {sql}, is empty or absent");
            failure(Reason::ServiceMissing, "service", detail)
        })?;
        let time = self.event_time(rows, row)?;
        let (items, quantities) = self.quantities(rows, row)?;
        Ok(Passed {
            service,
            time,
            items,
            quantities,
            mark,
        })
    }

    fn event_time(&self, rows: &Rows, row: usize) -> Result<EventTime, Failure> {
        if self.instants.is_null(row) {
            let detail = "the event time is empty or absent".to_owned();
            return Err(failure(Reason::TimeMissing, "time", detail));
        }
        // Nanoseconds order nothing in billing; they only tell records apart.
        let time = EventTime(self.instants.value(row).div_euclid(1_000));
        match self.range.refuse(time) {
            None => Ok(time),
            Some(why) => {
                let columns = self.time_columns.iter();
                let shown = columns.map(|column| format!("{column} {}, ", rows.shown(column, row)));
                let shown: String = shown.collect();
                let detail = format!("{shown}the event time is {time}, {why}");
                Err(failure(Reason::TimeOutOfRange, "time", detail))
            }
        }
    }

    /// Whether the row only takes another record out.
    fn takes_out(&self, row: usize) -> bool {
        let mark = self.marks.get(row);
        mark.is_ok_and(|mark| takes_out(mark.as_deref()))
    }

    /// The quantities that the row has, and of which items they are.
    fn quantities(&self, rows: &Rows, row: usize) -> Result<(Items, Quantities), Failure> {
        let (mut items, mut quantities) = (Items::default(), Quantities::new());
        // Negative comes before too large in the order of reasons, for whichever item.
        let mut too_large = None;
        for (position, charge) in self.charges.iter().enumerate() {
            let Some(mantissa) = charge.mantissas.get(row) else {
                continue;
            };
            if mantissa < 0 {
                return Err(charge.complaint(Reason::QuantityNegative, mantissa));
            }
            match held(mantissa, charge.scale) {
                Some((mantissa, scale)) => {
                    quantities.push(mantissa);
                    items.add(position, (scale != charge.item_scale).then_some(scale));
                }
                None if too_large.is_none() => {
                    too_large = Some(charge.complaint(Reason::QuantityOutOfRange, mantissa));
                }
                None => {}
            }
        }
        match too_large {
            Some(failure) => Err(failure),
            None if quantities.is_empty() => {
                let charges = self.charges.iter();
                let read = charges.flat_map(|charge| charge.planned.decision.reads());
                let mut detail = "no item of the rule has a value".to_owned();
                let empty = rows.empty(row, read);
                if !empty.is_empty() {
                    detail.push_str(&format!("; empty or absent: {}", empty.join(", ")));
                }
                Err(failure(Reason::QuantityMissing, "charges", detail))
            }
            None => Ok((items, quantities)),
        }
    }
}

impl Charge<'_> {
    fn complaint(&self, reason: Reason, mantissa: i128) -> Failure {
        let mut shown = String::new();
        decimal(mantissa, usize::from(self.scale), &mut shown);
        failure(
            reason,
            &self.planned.field,
            format!("the quantity is {shown}"),
        )
    }
}

/// A quantity as usage holds it, mantissa and scale. Zeros at the end count for nothing: they are
/// taken off as far as the quantity needs it. `None` when other digits would have to go.
fn held(mantissa: i128, scale: u8) -> Option<(i64, u8)> {
    let fits = |mantissa: i128| {
        i64::try_from(mantissa)
            .ok()
            .filter(|mantissa| mantissa.unsigned_abs() < QUANTITY_LIMIT)
    };
    let (mut mantissa, mut scale) = (mantissa, scale);
    loop {
        match fits(mantissa).filter(|_| scale <= QUANTITY_SCALE_MAX) {
            Some(mantissa) => return Some((mantissa, scale)),
            None if scale > 0 && mantissa % 10 == 0 => {
                mantissa /= 10;
                scale -= 1;
            }
            None => return None,
        }
    }
}

/// The instants of the event times: a day is its first.
fn event_instants(
    steps: &Steps,
    rules: &TimeRules,
    times: &ArrayRef,
    rows: &mut Rows,
) -> TimestampNanosecondArray {
    let mut unread = Vec::new();
    let found = instants(times, &rules.reading, |row, shown, error| {
        let (reason, detail) = (error.reason(), error.detail(&shown));
        unread.push(RowFailure {
            row,
            reason,
            detail,
        });
    });
    rows.fail(&steps.time, unread);
    let found = found.expect("timestamps and dates become instants");
    found.as_primitive::<TimestampNanosecondType>().clone()
}
