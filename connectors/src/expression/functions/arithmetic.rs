//! Arithmetic that is exact, or says how it rounds, or fails for the row.

use super::numbers::{check_exact, decimals, half_even, mantissas, power_of_ten};
use super::{argument_count, literal_scale};
use arrow::array::{Array, ArrayRef, AsArray, Datum, Int64Array};
use arrow::compute::kernels::numeric::{add, mul, neg, rem, sub};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, exec_datafusion_err, exec_err, internal_err};
use datafusion_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use std::sync::Arc;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    [
        Rounding::Divide,
        Rounding::RoundHalfEven,
        Rounding::CeilUnits,
    ]
    .map(|kind| {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(RoundingFunction {
            kind,
            signature,
        }))
    })
    .to_vec()
}

/// An operator that fails where DataFusion's would wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CheckedOp {
    Add,
    Subtract,
    Multiply,
    Remainder,
    Negate,
}

/// The checked form of an operator over these arguments, whose types already match.
pub(crate) fn checked(op: CheckedOp, args: Vec<Expr>) -> Expr {
    let signature = Signature::variadic_any(Volatility::Immutable);
    ScalarUDF::new_from_impl(Checked { op, signature }).call(args)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: CheckedOp,
    signature: Signature,
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.op {
            CheckedOp::Add => "checked_add",
            CheckedOp::Subtract => "checked_subtract",
            CheckedOp::Multiply => "checked_multiply",
            CheckedOp::Remainder => "checked_remainder",
            CheckedOp::Negate => "checked_negate",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let operator = match self.op {
            CheckedOp::Add => Operator::Plus,
            CheckedOp::Subtract => Operator::Minus,
            CheckedOp::Multiply => Operator::Multiply,
            CheckedOp::Remainder => Operator::Modulo,
            CheckedOp::Negate => {
                return match args {
                    [kind] => Ok(kind.clone()),
                    _ => internal_err!("negation has one argument"),
                };
            }
        };
        match args {
            [left, right] => BinaryTypeCoercer::new(left, &operator, right).get_result_type(),
            _ => internal_err!("arithmetic has two arguments"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let data = args.args.iter().map(datum).collect::<Result<Vec<_>>>()?;
        let values = match (self.op, data.as_slice()) {
            (CheckedOp::Add, [left, right]) => add(left.as_ref(), right.as_ref())?,
            (CheckedOp::Subtract, [left, right]) => sub(left.as_ref(), right.as_ref())?,
            (CheckedOp::Multiply, [left, right]) => mul(left.as_ref(), right.as_ref())?,
            (CheckedOp::Remainder, [left, right]) => rem(left.as_ref(), right.as_ref())?,
            (CheckedOp::Negate, [value]) => neg(value.as_ref().get().0)?,
            _ => {
                return internal_err!(
                    "{} has other arguments than it was planned for",
                    self.name()
                );
            }
        };
        let values = with_type(values, args.return_field.data_type())?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &values, 0,
            )?));
        }
        Ok(ColumnarValue::Array(values))
    }
}

fn datum(value: &ColumnarValue) -> Result<Box<dyn Datum>> {
    Ok(match value {
        ColumnarValue::Array(array) => Box::new(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => Box::new(scalar.to_scalar()?),
    })
}

/// The values under the type that was planned; a value of more digits than it has is an overflow.
fn with_type(values: ArrayRef, planned: &DataType) -> Result<ArrayRef> {
    if let DataType::Decimal128(precision, scale) = planned
        && let DataType::Decimal128(found, found_scale) = values.data_type()
        && found_scale == scale
    {
        let values = values.as_primitive::<Decimal128Type>();
        // Sums and products of fewer digits cannot reach the next power of ten.
        if *precision == 38 || found > precision {
            values.validate_decimal_precision(*precision)?;
        }
        let values = values
            .clone()
            .with_precision_and_scale(*precision, *scale)?;
        return Ok(Arc::new(values));
    }
    if values.data_type() == planned {
        return Ok(values);
    }
    internal_err!(
        "arithmetic gave {} instead of {planned}",
        values.data_type()
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rounding {
    Divide,
    RoundHalfEven,
    CeilUnits,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct RoundingFunction {
    kind: Rounding,
    signature: Signature,
}

impl RoundingFunction {
    fn usage(&self) -> &'static str {
        match self.kind {
            Rounding::Divide => "divide(a, b, scale)",
            Rounding::RoundHalfEven => "round_half_even(x, scale)",
            Rounding::CeilUnits => "ceil_units(x, block)",
        }
    }
}

impl ScalarUDFImpl for RoundingFunction {
    fn name(&self) -> &str {
        match self.kind {
            Rounding::Divide => "divide",
            Rounding::RoundHalfEven => "round_half_even",
            Rounding::CeilUnits => "ceil_units",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type depends on the arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let usage = self.usage();
        let kind = |index: usize| args.arg_fields.get(index).map(|field| field.data_type());
        let number = |index: usize| kind(index).map_or(Ok(()), |kind| check_exact(kind, usage));
        let data_type = match self.kind {
            Rounding::Divide => {
                argument_count(&args, 3, usage)?;
                number(0)?;
                number(1)?;
                DataType::Decimal128(38, literal_scale(&args, 2, usage)?)
            }
            Rounding::RoundHalfEven => {
                argument_count(&args, 2, usage)?;
                number(0)?;
                DataType::Decimal128(38, literal_scale(&args, 1, usage)?)
            }
            Rounding::CeilUnits => {
                argument_count(&args, 2, usage)?;
                number(0)?;
                number(1)?;
                DataType::Int64
            }
        };
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let arrays: Vec<ArrayRef> = arrays
            .into_iter()
            .map(|array| {
                let value = ColumnarValue::Array(array);
                value.into_array(rows)
            })
            .collect::<Result<_>>()?;
        let scale = match args.return_field.data_type() {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        };
        let values: ArrayRef = match (self.kind, arrays.as_slice()) {
            (Rounding::Divide, [a, b, _]) => Arc::new(divide(a, b, scale)?),
            (Rounding::RoundHalfEven, [x, _]) => Arc::new(round_half_even(x, scale)?),
            (Rounding::CeilUnits, [x, block]) => Arc::new(ceil_units(x, block)?),
            _ => {
                return internal_err!(
                    "{} has other arguments than it was planned for",
                    self.name()
                );
            }
        };
        Ok(ColumnarValue::Array(values))
    }
}

fn too_long() -> datafusion_common::DataFusionError {
    exec_datafusion_err!("a result needs more than 38 digits")
}

fn divide(a: &ArrayRef, b: &ArrayRef, scale: i8) -> Result<arrow::array::Decimal128Array> {
    let ((a, a_scale), (b, b_scale)) = (mantissas(a)?, mantissas(b)?);
    let wanted = u32::from(scale.unsigned_abs()) + b_scale;
    // a·10^-as / (b·10^-bs) at `scale` = a·10^(scale + bs - as) / b
    let (up, down) = if wanted >= a_scale {
        (power_of_ten(wanted - a_scale)?, 1)
    } else {
        (1, power_of_ten(a_scale - wanted)?)
    };
    let quotients = a.iter().zip(b.iter()).map(|pair| match pair {
        (Some(_), Some(0)) => exec_err!("division by zero"),
        (Some(a), Some(b)) => a
            .checked_mul(up)
            .and_then(|a| half_even(a, b.checked_mul(down)?))
            .map(Some)
            .ok_or_else(too_long),
        _ => Ok(None),
    });
    decimals(quotients, scale)
}

fn round_half_even(x: &ArrayRef, scale: i8) -> Result<arrow::array::Decimal128Array> {
    let (x, from) = mantissas(x)?;
    let to = u32::from(scale.unsigned_abs());
    let (up, down) = if to >= from {
        (power_of_ten(to - from)?, 1)
    } else {
        (1, power_of_ten(from - to)?)
    };
    let rounded = x.iter().map(|x| match x {
        Some(x) => x
            .checked_mul(up)
            .and_then(|x| half_even(x, down))
            .map(Some)
            .ok_or_else(too_long),
        None => Ok(None),
    });
    decimals(rounded, scale)
}

fn ceil_units(x: &ArrayRef, block: &ArrayRef) -> Result<Int64Array> {
    let ((x, x_scale), (block, block_scale)) = (mantissas(x)?, mantissas(block)?);
    let common = x_scale.max(block_scale);
    let (x_up, block_up) = (
        power_of_ten(common - x_scale)?,
        power_of_ten(common - block_scale)?,
    );
    x.iter()
        .zip(block.iter())
        .map(|pair| match pair {
            (Some(_), Some(block)) if block <= 0 => exec_err!("a block of {block} units"),
            (Some(x), Some(block)) => {
                let units = x
                    .checked_mul(x_up)
                    .zip(block.checked_mul(block_up))
                    .and_then(|(x, block)| {
                        // A negative quantity is a negative one of blocks: towards zero, a small one would
                        // be nothing, and nobody would be told that it is negative.
                        let whole = x.checked_div(block)?;
                        let started = x.checked_rem(block)?.signum();
                        i64::try_from(whole.checked_add(started)?).ok()
                    });
                units
                    .map(Some)
                    .ok_or_else(|| exec_datafusion_err!("more units than 64 bits hold"))
            }
            _ => Ok(None),
        })
        .collect()
}
