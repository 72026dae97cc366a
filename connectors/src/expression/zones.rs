//! Times in expressions: every cast that would read or show one as UTC means the tenant's zone instead.
//!
//! | written | means |
//! | --- | --- |
//! | `TIMESTAMP '2026-08-01 10:00:00'`, `CAST(text AS TIMESTAMP)` | the tenant's time, unless it names an offset |
//! | `CAST(text AS TIMESTAMP) AT TIME ZONE 'Asia/Tokyo'` | Tokyo's time, unless it names an offset |
//! | `CAST(day AS TIMESTAMP)`, a day compared with an instant | the tenant's midnight |
//! | `at AT TIME ZONE 'Asia/Tokyo'` | the same instant, whose hour and day are Tokyo's |
//! | `extract(hour from at)`, `date_trunc('day', at)`, `CAST(at AS DATE)` | the tenant's hour and day |
//!
//! What would still be a time without a zone is refused when it is planned.

use super::ExpressionError;
use super::functions::{day_of, instant_of, is_instant, is_time_function};
use crate::times::TimeReading;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::expr::{Cast, TryCast};
use datafusion_expr::{Expr, ExprSchemable};

/// Gives casts from and to times their meaning.
pub(super) fn settle(
    expr: Expr,
    schema: &DFSchema,
    times: &TimeReading,
) -> Result<Expr, DataFusionError> {
    expr.transform_down(|node| {
        let Some((inner, target, is_try)) = cast_of(&node) else {
            return Ok(Transformed::no(node));
        };
        let Ok(source) = inner.get_type(schema) else {
            return Ok(Transformed::no(node));
        };
        let replaced = match (&source, &target) {
            (source, DataType::Timestamp(_, zone)) if is_read(source) && !is_try => {
                let named = zone.as_deref().filter(|zone| *zone != times.shown_in());
                Some(instant_of(inner.clone(), named, times))
            }
            // `CAST(text AS TIMESTAMP) AT TIME ZONE 'X'`: the text is of that zone.
            (DataType::Timestamp(_, None), DataType::Timestamp(_, Some(zone))) => {
                let text = cast_of(inner)
                    .filter(|(text, _, _)| text.get_type(schema).is_ok_and(|kind| is_read(&kind)));
                text.map(|(text, _, _)| instant_of(text.clone(), Some(zone.as_ref()), times))
            }
            (source, DataType::Timestamp(TimeUnit::Nanosecond, None)) if is_instant(source) => {
                Some(inner.clone())
            }
            (source, DataType::Date32) if source.is_string() && !is_try => {
                Some(day_of(inner.clone(), times))
            }
            _ => None,
        };
        Ok(match replaced {
            Some(replaced) => Transformed::yes(replaced),
            None => Transformed::no(node),
        })
    })
    .data()
}

/// Makes the type that coercion wants of an instant that [`settle`] made in its place.
pub(super) fn settle_coerced(
    expr: Expr,
    schema: &DFSchema,
    times: &TimeReading,
) -> Result<Expr, DataFusionError> {
    expr.transform_up(|node| {
        let Some((inner, target, _)) = cast_of(&node) else {
            return Ok(Transformed::no(node));
        };
        let source = inner.get_type(schema)?;
        let DataType::Timestamp(_, zone) = &target else {
            return Ok(Transformed::no(node));
        };
        if !is_read(&source) {
            return Ok(Transformed::no(node));
        }
        let named = zone.as_deref().filter(|zone| *zone != times.shown_in());
        let instant = instant_of(inner.clone(), named, times);
        Ok(Transformed::yes(match named.is_some() {
            true => Expr::Cast(Cast::new(Box::new(instant), target.clone())),
            false => instant,
        }))
    })
    .data()
}

fn cast_of(node: &Expr) -> Option<(&Expr, DataType, bool)> {
    match node {
        Expr::Cast(Cast { expr, field }) => Some((expr, field.data_type().clone(), false)),
        Expr::TryCast(TryCast { expr, field }) => Some((expr, field.data_type().clone(), true)),
        _ => None,
    }
}

/// Whether an instant is read from values of this type.
fn is_read(kind: &DataType) -> bool {
    kind.is_string() || matches!(kind, DataType::Date32 | DataType::Date64)
}

/// What to write instead of a number of a time, whose unit only the file knows.
fn number_hint(kind: &DataType) -> Option<&'static str> {
    let hint = match kind {
        DataType::Timestamp(_, _) => {
            "write to_unixtime(x), the seconds since 1970, or to_char(x, '%Y%m%d')"
        }
        DataType::Duration(_) => {
            "write to_unixtime(end) - to_unixtime(start), the seconds between two instants; a column of \
             durations is to come as a number"
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            "write date_part('hour', x) * 3600 + date_part('minute', x) * 60 + date_part('second', x), the \
             seconds since midnight"
        }
        _ => return None,
    };
    Some(hint)
}

/// Looks for times without a zone, and for casts that would guess a unit or a zone.
pub(super) fn check(expr: &Expr, schema: &DFSchema, sql: &str) -> Result<(), ExpressionError> {
    let mut nodes = Vec::new();
    let visited = expr.apply(|node| {
        nodes.push(node);
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor never fails");
    // What is inside comes first: the cause, and not what follows from it.
    let mut nodes = nodes.into_iter().rev();
    nodes.try_for_each(|node| check_node(node, schema, sql))
}

fn check_node(node: &Expr, schema: &DFSchema, sql: &str) -> Result<(), ExpressionError> {
    let refused = |message: String, hint: &str| Err(ExpressionError::new(message, hint));
    if let Some((inner, target, _)) = cast_of(node)
        && let Ok(source) = inner.get_type(schema)
    {
        let is_time = |kind: &DataType| matches!(kind, DataType::Timestamp(_, _));
        if is_time(&target) && source.is_numeric() {
            let hint = "a number does not say its unit: write to_timestamp_seconds(x), \
                        to_timestamp_millis(x), to_timestamp_micros(x) or to_timestamp_nanos(x)";
            return refused(format!("`{inner}` is a number, in `{sql}`"), hint);
        }
        if is_time(&target) && is_read(&source) {
            let hint = "write instant(x), or CAST(x AS TIMESTAMP)";
            return refused(format!("`{inner}` is read as a time, in `{sql}`"), hint);
        }
        if target.is_numeric()
            && let Some(hint) = number_hint(&source)
        {
            return refused(format!("`{inner}` as a number, in `{sql}`"), hint);
        }
        if is_instant(&source) && is_time(&target) && !is_instant(&target) {
            let hint = "write date_trunc('second', x), which stays an instant";
            return refused(format!("`{inner}` as {target}, in `{sql}`"), hint);
        }
    }
    if let Expr::ScalarFunction(call) = node
        && call.func.name() == "to_unixtime"
        && let Some(kind) = call.args.first().and_then(|x| x.get_type(schema).ok())
        && is_read(&kind)
    {
        if kind.is_string() {
            let hint = "write to_unixtime(instant(text))";
            return refused(format!("to_unixtime of a text, in `{sql}`"), hint);
        }
        let hint = "write to_unixtime(instant(day)), the midnight of the tenant's zone";
        return refused(format!("to_unixtime of a day, in `{sql}`"), hint);
    }
    // A constant that is still a call could not be read.
    if let Expr::ScalarFunction(call) = node
        && is_time_function(call.func.name())
        && call.args.iter().all(|arg| matches!(arg, Expr::Literal(..)))
    {
        let shown: Vec<String> = call.args.iter().map(|arg| format!("{arg}")).collect();
        let message = format!("{} is no instant, in `{sql}`", shown.join(", "));
        let hint = "write a time with its offset, like '2026-08-01T00:00:00Z'; without one it is the \
                    tenant's, and must come once in its zone";
        return refused(message, hint);
    }
    match node.get_type(schema) {
        Ok(DataType::Timestamp(_, None)) => {
            let hint = "write instant(x), the tenant's time, or instant(x, 'Europe/Prague')";
            refused(
                format!("`{node}` is a time without a zone, in `{sql}`"),
                hint,
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
