//! The fence: what may not be planned, and arithmetic made exact.
//!
//! | DataFusion would | here |
//! | --- | --- |
//! | wrap integers that overflow | `+ - * %` and unary minus become checked; the row fails |
//! | truncate decimal division | `/` is refused: `divide` says how many decimals, `ceil_units` counts blocks |
//! | compute in binary floats | any float is refused, except a column inside `exact` |
//! | round in casts | casts that can lose digits are refused: `round_half_even`, `decimal`, `exact` |
//! | compare `'9' > '10'` as text | text against numbers is refused |

use super::ExpressionError;
use super::functions::{CheckedOp, checked, exact_name};
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::expr::{Between, InList};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

const HINT_TEXT: &str = "declare the column's type in `columns`, or convert it with \
                         decimal(column, scale)";
const HINT_DECIMAL: &str = "write decimal(text, scale), which is exact or fails for the row";
const HINT_ROUND: &str = "write round_half_even(x, decimals), which says how it rounds";
const HINT_FLOAT: &str = "declare the column as decimal(precision,scale); for a float column of a \
                          typed file write exact(column, scale)";

/// Looks for what is wrong whatever the types turn out to be, before types are made to match.
pub(super) fn check_as_written(
    expr: &Expr,
    schema: &DFSchema,
    sql: &str,
) -> Result<(), ExpressionError> {
    inspect(expr, |node| match node {
        Expr::BinaryExpr(BinaryExpr {
            op: Operator::Divide,
            ..
        }) => Err(ExpressionError::new(
            format!("`/` drops decimals without saying so, in `{sql}`"),
            "write divide(a, b, scale) to round half to even at so many decimals, or \
             ceil_units(a, block) to count started blocks",
        )),
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => not_mixed(left, right, schema, sql),
        Expr::Between(Between {
            expr, low, high, ..
        }) => {
            not_mixed(expr, low, schema, sql)?;
            not_mixed(expr, high, schema, sql)
        }
        Expr::InList(InList { expr, list, .. }) => list
            .iter()
            .try_for_each(|item| not_mixed(expr, item, schema, sql)),
        _ => Ok(()),
    })
}

/// Refuses text against numbers: `'9' > '10'` is true of text.
fn not_mixed(
    left: &Expr,
    right: &Expr,
    schema: &DFSchema,
    sql: &str,
) -> Result<(), ExpressionError> {
    let (Ok(l), Ok(r)) = (left.get_type(schema), right.get_type(schema)) else {
        return Ok(());
    };
    let mixed = (l.is_string() && r.is_numeric()) || (l.is_numeric() && r.is_string());
    if !mixed {
        return Ok(());
    }
    let (text, number) = if l.is_string() {
        (left, right)
    } else {
        (right, left)
    };
    let message = format!("`{text}` is text, `{number}` is a number, in `{sql}`");
    Err(ExpressionError::new(message, HINT_TEXT))
}

/// Looks for floats and lossy casts, written or implied.
pub(super) fn check_types(
    expr: &Expr,
    schema: &DFSchema,
    sql: &str,
) -> Result<(), ExpressionError> {
    inspect(expr, |node| {
        let Ok(found) = node.get_type(schema) else {
            return Ok(());
        };
        if found.is_floating() {
            let culprit = float_column(node, schema).unwrap_or(node);
            let message = format!("`{culprit}` is a binary float, in `{sql}`");
            return Err(ExpressionError::new(message, HINT_FLOAT));
        }
        let (inner, target) = match node {
            Expr::Cast(cast) => (&cast.expr, cast.field.data_type()),
            Expr::TryCast(cast) => (&cast.expr, cast.field.data_type()),
            _ => return Ok(()),
        };
        let Ok(source) = inner.get_type(schema) else {
            return Ok(());
        };
        match lossy(&source, target) {
            Some(hint) => {
                let message = format!("`{inner}` as {target} could lose digits, in `{sql}`");
                Err(ExpressionError::new(message, hint))
            }
            None => Ok(()),
        }
    })
}

/// The column that brings floats into an expression.
fn float_column<'e>(expr: &'e Expr, schema: &DFSchema) -> Option<&'e Expr> {
    let mut found = None;
    let visited = expr.apply(|node| {
        let is_float = node.get_type(schema).is_ok_and(|kind| kind.is_floating());
        if is_float && matches!(node, Expr::Column(_)) {
            found = Some(node);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor never fails");
    found
}

/// What to write instead of a cast that can lose digits.
fn lossy(source: &DataType, target: &DataType) -> Option<&'static str> {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    let scale = |kind: &DataType| match kind {
        Decimal32(_, s) | Decimal64(_, s) | Decimal128(_, s) | Decimal256(_, s) => Some(*s),
        kind if kind.is_integer() => Some(0),
        _ => None,
    };
    if target.is_floating() {
        return Some(HINT_FLOAT);
    }
    if source.is_string() && scale(target).is_some() && !target.is_integer() {
        return Some(HINT_DECIMAL);
    }
    match (scale(source), scale(target)) {
        (Some(from), Some(to)) if to < from => Some(HINT_ROUND),
        _ => None,
    }
}

/// Replaces arithmetic on whole numbers and decimals by its checked form. Done before constants are
/// folded, so that folding cannot wrap either.
pub(super) fn check_arithmetic(expr: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let is_number = |expr: &Expr| expr.get_type(schema).is_ok_and(|kind| kind.is_numeric());
    expr.transform_up(|node| match node {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if is_number(&left) && is_number(&right) =>
        {
            let checked_op = match op {
                Operator::Plus => CheckedOp::Add,
                Operator::Minus => CheckedOp::Subtract,
                Operator::Multiply => CheckedOp::Multiply,
                Operator::Modulo => CheckedOp::Remainder,
                _ => {
                    return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr {
                        left,
                        op,
                        right,
                    })));
                }
            };
            Ok(Transformed::yes(checked(checked_op, vec![*left, *right])))
        }
        Expr::Negative(inner) if is_number(&inner) => {
            Ok(Transformed::yes(checked(CheckedOp::Negate, vec![*inner])))
        }
        node => Ok(Transformed::no(node)),
    })
    .data()
}

/// Visits every node except the float column inside `exact`.
fn inspect(
    expr: &Expr,
    mut check: impl FnMut(&Expr) -> Result<(), ExpressionError>,
) -> Result<(), ExpressionError> {
    let mut found = Ok(());
    let visited = expr.apply(|node| {
        found = check(node);
        if found.is_err() {
            return Ok(TreeNodeRecursion::Stop);
        }
        if let Expr::ScalarFunction(call) = node
            && call.func.name() == exact_name()
            && matches!(call.args.first(), Some(Expr::Column(_)))
        {
            return Ok(TreeNodeRecursion::Jump);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "the visitor never fails");
    found
}
