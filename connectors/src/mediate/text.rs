//! The canonical text of typed values: one text per value, the same from every format.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, TimeUnit, TimestampNanosecondType};

/// Whether values of this type have a canonical text.
pub(super) fn has_text(kind: &DataType) -> bool {
    match kind {
        DataType::Null | DataType::Boolean | DataType::Date32 | DataType::Timestamp(_, _) => true,
        DataType::Decimal128(_, scale) => *scale >= 0,
        DataType::Dictionary(_, value) => value.is_string(),
        kind => kind.is_string() || kind.is_integer(),
    }
}

/// The values as text: decimals without trailing zeros, instants in RFC 3339 UTC with all their
/// digits, so that values
/// that are equal have equal texts.
pub(super) fn canonical(values: &ArrayRef) -> StringArray {
    match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().clone(),
        DataType::Decimal128(_, scale) => {
            let scale = usize::from(scale.unsigned_abs());
            let mut text = String::new();
            let values = values.as_primitive::<Decimal128Type>();
            values
                .iter()
                .map(|value| {
                    value.map(|value| {
                        decimal(value, scale, &mut text);
                        text.clone()
                    })
                })
                .collect()
        }
        DataType::Timestamp(_, zone) => {
            let nanos = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
            let Ok(values) = arrow::compute::cast(values, &nanos) else {
                return StringArray::new_null(values.len());
            };
            let values = values.as_primitive::<TimestampNanosecondType>();
            let instant = |nanos| jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok();
            values
                .iter()
                .map(|value| value.and_then(instant).map(|at| at.to_string()))
                .collect()
        }
        _ => match arrow::compute::cast(values, &DataType::Utf8) {
            Ok(text) => text.as_string::<i32>().clone(),
            Err(_) => StringArray::new_null(values.len()),
        },
    }
}

/// Writes `value · 10^-scale` without trailing zeros.
pub(super) fn decimal(value: i128, scale: usize, text: &mut String) {
    text.clear();
    if value < 0 {
        text.push('-');
    }
    let digits = text.len();
    text.push_str(&format!(
        "{:0>width$}",
        value.unsigned_abs(),
        width = scale + 1
    ));
    if scale > 0 {
        debug_assert!(
            text.len() > digits + scale,
            "there is a digit before the point"
        );
        text.insert(text.len() - scale, '.');
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int32Array, TimestampMillisecondArray};
    use std::sync::Arc;

    #[test]
    fn equal_values_have_equal_texts() {
        let decimals = |values: Vec<i128>, scale| -> ArrayRef {
            let array = Decimal128Array::from(values);
            Arc::new(array.with_precision_and_scale(20, scale).unwrap())
        };
        let texts = |values: ArrayRef| {
            canonical(&values)
                .iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            texts(decimals(vec![100, 0, -150, 5, 1_000_000], 2)),
            "1 0 -1.5 0.05 10000"
        );
        assert_eq!(texts(decimals(vec![10, 7], 0)), "10 7");
        assert_eq!(texts(Arc::new(Int32Array::from(vec![1, -2]))), "1 -2");
        let at = TimestampMillisecondArray::from(vec![0, 1500]).with_timezone("+02:00");
        assert_eq!(
            texts(Arc::new(at)),
            "1970-01-01T00:00:00Z 1970-01-01T00:00:01.5Z"
        );
    }
}
