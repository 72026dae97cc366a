//! Conversions to decimals, exact or failing for the row.

use super::numbers::{check_exact, decimals, mantissas, power_of_ten};
use super::{argument_count, literal_scale, refused};
use crate::decode::{quoted, scalar};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float16Type, Float32Type, Float64Type};
use datafusion_common::{Result, exec_datafusion_err, internal_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

pub(super) const EXACT: &str = "exact";
const DECIMAL: &str = "decimal";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    [DECIMAL, EXACT]
        .map(|name| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(ScalarUDF::new_from_impl(ToDecimal { name, signature }))
        })
        .to_vec()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToDecimal {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for ToDecimal {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let usage = if self.name == EXACT {
            "exact(column, scale)"
        } else {
            "decimal(x, scale)"
        };
        argument_count(&args, 2, usage)?;
        let found = args.arg_fields.first().map(|field| field.data_type());
        match found {
            Some(kind) if kind.is_floating() && self.name == EXACT => {}
            Some(kind) if kind.is_floating() => {
                return Err(refused(
                    format!("{usage} of a binary float"),
                    "write exact(column, scale)",
                ));
            }
            Some(kind) if kind.is_string() => {}
            Some(kind) => check_exact(kind, usage)?,
            None => {}
        }
        let kind = DataType::Decimal128(38, literal_scale(&args, 1, usage)?);
        Ok(Arc::new(Field::new(self.name, kind, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Decimal128(_, scale) = *args.return_field.data_type() else {
            return internal_err!("{} was planned for another type", self.name);
        };
        let Some(values) = args.args.first() else {
            return internal_err!("{} has other arguments than it was planned for", self.name);
        };
        let values = values.to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(Arc::new(to_decimals(&values, scale)?)))
    }
}

type Float16 = <Float16Type as ArrowPrimitiveType>::Native;

/// The shortest text that gives the float back; its own text is that of the wider float.
fn shortest(float: Float16) -> String {
    let wide = float.to_f32();
    let text = (0..6).map(|digits| format!("{wide:.digits$e}"));
    let mut same = text.filter(|text| {
        text.parse()
            .is_ok_and(|read: f32| Float16::from_f32(read) == float)
    });
    same.next().unwrap_or_else(|| format!("{wide:e}"))
}

fn to_decimals(values: &ArrayRef, scale: i8) -> Result<Decimal128Array> {
    let parse = |text: &str| {
        scalar::decimal(text, 38, scale.unsigned_abs())
            .map(Some)
            .ok_or_else(|| {
                exec_datafusion_err!(
                    "{} is not a decimal of at most {scale} decimals",
                    quoted(text)
                )
            })
    };
    match values.data_type() {
        // The shortest text that gives the float back is the number that somebody wrote.
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>().iter();
            decimals(
                values.map(|x| x.map_or(Ok(None), |x| parse(&format!("{x:e}")))),
                scale,
            )
        }
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>().iter();
            decimals(
                values.map(|x| x.map_or(Ok(None), |x| parse(&format!("{x:e}")))),
                scale,
            )
        }
        DataType::Float16 => {
            let values = values.as_primitive::<Float16Type>().iter();
            decimals(
                values.map(|x| x.map_or(Ok(None), |x| parse(&shortest(x)))),
                scale,
            )
        }
        kind if kind.is_string() => {
            let text = arrow::compute::cast(values, &DataType::Utf8)?;
            let values = text.as_string::<i32>().iter();
            decimals(values.map(|text| text.map_or(Ok(None), parse)), scale)
        }
        _ => {
            let (values, from) = mantissas(values)?;
            let to = u32::from(scale.unsigned_abs());
            let (up, down) = if to >= from {
                (power_of_ten(to - from)?, 1)
            } else {
                (1, power_of_ten(from - to)?)
            };
            let exact = |x: i128| {
                (x % down == 0)
                    .then(|| (x / down).checked_mul(up))
                    .flatten()
            };
            let values = values.iter().map(|x| match x {
                Some(x) => exact(x).map(Some).ok_or_else(|| {
                    exec_datafusion_err!("a number of more than {scale} decimals or 38 digits")
                }),
                None => Ok(None),
            });
            decimals(values, scale)
        }
    }
}
