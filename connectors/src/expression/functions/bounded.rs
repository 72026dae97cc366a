//! Functions of DataFusion whose result or effort grows with a number or text of the record, with a
//! bound: one record could otherwise take all memory, or all time, there is.

use super::refused;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// The longest text that one of these functions makes, and the longest that it compares.
const TEXT_BYTES_MAX: i64 = 65_536;
const COMPARED_BYTES_MAX: i64 = 4_096;

/// The function, bounded where it needs a bound.
pub(super) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let growth = match function.name() {
        "repeat" => Growth::Times,
        "lpad" | "rpad" => Growth::Length,
        "levenshtein" => Growth::Compared,
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
}

impl Bounded {
    fn too_long(&self, bytes: i64) -> String {
        let name = self.inner.name();
        format!("{name} would make a text of {bytes} characters, and {TEXT_BYTES_MAX} are the most")
    }

    /// Looks for a row that the bound forbids.
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let column = |index: usize| -> Result<Option<ArrayRef>> {
            let value = args.args.get(index);
            value
                .map(|value| value.to_array(args.number_rows))
                .transpose()
        };
        let (Some(first), Some(second)) = (column(0)?, column(1)?) else {
            return Ok(());
        };
        for row in 0..first.len().min(second.len()) {
            match self.growth {
                Growth::Compared => {
                    let longest = bytes(&first, row)?.max(bytes(&second, row)?);
                    if longest > COMPARED_BYTES_MAX {
                        return exec_err!(
                            "levenshtein of a text of {longest} bytes, and {COMPARED_BYTES_MAX} \
                             are the most"
                        );
                    }
                }
                growth => {
                    let count = number(&second, row)?;
                    let made = match growth {
                        Growth::Times => bytes(&first, row)?.saturating_mul(count),
                        _ => count,
                    };
                    if made > TEXT_BYTES_MAX {
                        return exec_err!("{}", self.too_long(made));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The bytes of a text; none of one that is NULL.
fn bytes(texts: &ArrayRef, row: usize) -> Result<i64> {
    let length = match texts.data_type() {
        _ if texts.is_null(row) => 0,
        DataType::Utf8 => texts.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => texts.as_string::<i64>().value(row).len(),
        DataType::Utf8View => texts.as_string_view().value(row).len(),
        DataType::Null => 0,
        kind => return exec_err!("{kind} is no text"),
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

    fn return_type(&self, kinds: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(kinds)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if self.growth != Growth::Compared
            && let Some(Some(ScalarValue::Int64(Some(count)))) = args.scalar_arguments.get(1)
            && *count > TEXT_BYTES_MAX
        {
            let hint = "a text of a record has a length that somebody can read";
            return Err(refused(self.too_long(*count), hint));
        }
        self.inner.inner().return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.inner().invoke_with_args(args)
    }
}
