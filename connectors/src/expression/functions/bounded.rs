//! Functions of DataFusion whose result or effort grows with a number or text of the record, with a
//! bound: one record could otherwise take all memory, or all time, there is.

use super::super::evaluate::TEXT_BYTES_MAX;
use super::refused;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// The longest text that is compared.
const COMPARED_BYTES_MAX: i64 = 4_096;
/// The longest text that is made of others on the way to a result.
const JOINED_BYTES_MAX: i64 = 8 << 20;
/// The most bytes that texts of many records are made with at a time.
const BATCH_BYTES_MAX: i64 = 256 << 20;

/// The function, bounded where it needs a bound.
pub(super) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let growth = match function.name() {
        "repeat" => Growth::Times,
        "lpad" | "rpad" => Growth::Length,
        "levenshtein" => Growth::Compared,
        "replace" | "regexp_replace" => Growth::Replaced,
        "concat" | "concat_ws" => Growth::Joined,
        _ => return function,
    };
    let inner = function;
    Arc::new(ScalarUDF::from(Bounded { inner, growth }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    /// The second argument is how often the first is there.
    Times,
    /// The second argument is how long the result is.
    Length,
    /// The effort is the product of the lengths of both arguments.
    Compared,
    /// The third argument is in the result as often as the first may hold the second.
    Replaced,
    /// The result has all arguments, and what stands between them.
    Joined,
}

impl Bounded {
    fn too_long(&self, bytes: i64, most: i64) -> String {
        let name = self.inner.name();
        format!("{name} would make a text of {bytes} characters, and {most} are the most")
    }

    /// Looks for a row that the bound forbids, and for rows that together are too large.
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        if self.growth == Growth::Joined && held(args) <= JOINED_BYTES_MAX {
            return Ok(());
        }
        let columns = args.args.iter();
        let columns = columns.map(|value| value.to_array(args.number_rows));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let mut together = 0_i64;
        for row in 0..args.number_rows {
            together = together.saturating_add(self.made(&columns, row)?);
            if together > BATCH_BYTES_MAX && args.number_rows > 1 {
                return exec_err!("texts of {together} bytes at a time");
            }
        }
        Ok(())
    }

    /// Whether a number says how much there is of a text, however short that is.
    fn takes_a_number(&self) -> bool {
        matches!(self.growth, Growth::Times | Growth::Length)
    }

    /// The bytes of the text that is made for a row, at most; an error when they are too many.
    fn made(&self, columns: &[ArrayRef], row: usize) -> Result<i64> {
        let text = |index: usize| {
            columns
                .get(index)
                .map_or(Ok(0), |column| bytes(column, row))
        };
        let count = || columns.get(1).map_or(Ok(0), |column| number(column, row));
        let (made, most) = match self.growth {
            Growth::Compared => {
                let longest = text(0)?.max(text(1)?);
                if longest > COMPARED_BYTES_MAX {
                    return exec_err!(
                        "levenshtein of a text of {longest} bytes, and {COMPARED_BYTES_MAX} are the most"
                    );
                }
                return Ok(0);
            }
            Growth::Times => (text(0)?.saturating_mul(count()?), TEXT_BYTES_MAX),
            Growth::Length => (count()?, TEXT_BYTES_MAX),
            Growth::Joined => {
                let between = match self.inner.name() {
                    "concat_ws" => {
                        text(0)?.saturating_mul(i64::try_from(columns.len()).unwrap_or(0))
                    }
                    _ => 0,
                };
                let parts = (0..columns.len()).map(text).sum::<Result<i64>>()?;
                (parts.saturating_add(between), JOINED_BYTES_MAX)
            }
            Growth::Replaced => {
                // What is put in may hold each part of the text that it is put in for.
                let (all, each) = (text(0)?, text(2)?);
                let times = match self.inner.name() {
                    "replace" => all / text(1)?.max(1) + 1,
                    _ => all + 1,
                };
                let held = all.saturating_mul(2);
                (
                    times.saturating_mul(each).saturating_add(held),
                    JOINED_BYTES_MAX,
                )
            }
        };
        match made > most {
            true => exec_err!("{}", self.too_long(made, most)),
            false => Ok(made),
        }
    }
}

/// The bytes that all arguments have, in all rows.
fn held(args: &ScalarFunctionArgs) -> i64 {
    let bytes = |value: &ColumnarValue| match value {
        ColumnarValue::Array(values) => values
            .to_data()
            .get_slice_memory_size()
            .unwrap_or(usize::MAX),
        ColumnarValue::Scalar(value) => value.size().saturating_mul(args.number_rows),
    };
    let held = args.args.iter().map(bytes).fold(0, usize::saturating_add);
    i64::try_from(held.saturating_mul(args.args.len())).unwrap_or(i64::MAX)
}

/// The bytes of a text; none of one that is NULL.
fn bytes(texts: &ArrayRef, row: usize) -> Result<i64> {
    let length = match texts.data_type() {
        _ if texts.is_null(row) => 0,
        DataType::Utf8 => texts.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => texts.as_string::<i64>().value(row).len(),
        DataType::Utf8View => texts.as_string_view().value(row).len(),
        DataType::Null => 0,
        _ => texts.slice(row, 1).to_data().get_slice_memory_size()?,
    };
    Ok(i64::try_from(length).unwrap_or(i64::MAX))
}

fn number(numbers: &ArrayRef, row: usize) -> Result<i64> {
    let wide = cast(&numbers.slice(row, 1), &DataType::Int64)?;
    let wide = wide.as_primitive::<Int64Type>();
    Ok(if wide.is_null(0) { 0 } else { wide.value(0) })
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, kinds: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(kinds)
    }

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(kinds)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if self.takes_a_number()
            && let Some(Some(ScalarValue::Int64(Some(count)))) = args.scalar_arguments.get(1)
            && *count > TEXT_BYTES_MAX
        {
            let hint = format!("write a length of {TEXT_BYTES_MAX} at most");
            return Err(refused(self.too_long(*count, TEXT_BYTES_MAX), hint));
        }
        self.inner.inner().return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.inner().invoke_with_args(args)
    }
}
