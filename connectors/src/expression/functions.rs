//! The functions that expressions may call: DataFusion's text, pattern and date functions, and our
//! own for everything that makes a number.
//!
//! | function | gives |
//! | --- | --- |
//! | `divide(a, b, scale)` | a ÷ b, half to even at `scale` decimals |
//! | `round_half_even(x, scale)` | x at `scale` decimals |
//! | `ceil_units(x, block)` | how many blocks x starts |
//! | `decimal(x, scale)` | the decimal that a text or number is, exactly, or the row fails |
//! | `exact(column, scale)` | the decimal of a float column's shortest text, exactly, or the row fails |
//! | `plus_seconds(instant, seconds)` | the instant later |
//! | `instant(x [, zone [, rule]])` | the instant that a text or day means: the tenant's time or the zone's, unless it names an offset; the rule, `'earlier'`, `'later'` or `'suspend'`, is for hours that come twice or never |
//! | `to_timestamp(text [, formats...])` | the same of a text in one of these formats (`'%d.%m.%Y %H:%M'`) |
//! | `to_timestamp_seconds(x)`, `_millis`, `_micros`, `_nanos` | the instant so many after 1970 |
//! | `to_date(text [, formats...])` | the day that a text says; the tenant's where it names an offset |
//! | `lookup('table', 'column', key)` | the table's value; the row waits if the table lacks the key or the value |
//! | `lookup_or_null(...)` | the same, NULL if the table lacks the key or the value |
//! | `lookup_prefix('table', 'column', text)` | the value of the longest key that the text begins with |

mod arithmetic;
mod bounded;
mod conversion;
mod lookup;
mod numbers;
mod time;

pub(super) use arithmetic::{CheckedOp, checked};
pub use lookup::LookupMissing;
pub use time::TimeUnread;
pub(super) use time::{day_of, instant_of, is_instant, is_time_function};

use super::ExpressionError;
use crate::diagnostic::did_you_mean;
use crate::lookup::Lookups;
use crate::times::TimeReading;
use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, ReturnFieldArgs, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn exact_name() -> &'static str {
    conversion::EXACT
}

/// All functions that an expression may call.
pub struct Functions {
    by_name: BTreeMap<String, Arc<ScalarUDF>>,
    /// Functions that exist elsewhere but answer differently each time.
    unsteady: Vec<String>,
    times: TimeReading,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_name.keys()).finish()
    }
}

impl Functions {
    /// The functions, with lookups into these tables; times that name no offset are read as `times`
    /// says.
    #[must_use]
    pub fn new(lookups: &Arc<Lookups>, times: &TimeReading) -> Self {
        let mut by_name = BTreeMap::new();
        let mut unsteady = Vec::new();
        let own = [
            arithmetic::functions(),
            conversion::functions(),
            time::functions(times),
            lookup::functions(lookups),
        ];
        // Not `all_default_functions`: that is whatever the features of the whole build bring, and
        // would let in rounding that does not say how it rounds.
        let theirs = [
            datafusion_functions::core::functions(),
            datafusion_functions::string::functions(),
            datafusion_functions::unicode::functions(),
            datafusion_functions::regex::functions(),
            datafusion_functions::datetime::functions(),
        ];
        for function in theirs
            .into_iter()
            .chain(own)
            .flatten()
            .map(bounded::bounded)
        {
            let names = std::iter::once(function.name())
                .chain(function.aliases().iter().map(String::as_str));
            for name in names {
                if time::HINTS_REFUSED
                    .iter()
                    .any(|(refused, _)| *refused == name)
                {
                    continue;
                }
                if function.signature().volatility == Volatility::Immutable {
                    by_name.insert(name.to_owned(), Arc::clone(&function));
                } else {
                    unsteady.push(name.to_owned());
                }
            }
        }
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(CoreFunctionPlanner::default()),
            Arc::new(DatetimeFunctionPlanner),
            Arc::new(UnicodeFunctionPlanner),
        ];
        Self {
            by_name,
            unsteady,
            times: times.clone(),
            planners,
            options: ConfigOptions::new(),
        }
    }

    /// How times are read that name no offset.
    pub(super) fn times(&self) -> &TimeReading {
        &self.times
    }

    /// The names of all functions, aliases included, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Why there is no function of this name, as advice; `None` when there is.
    pub(super) fn refuse(&self, name: &str) -> Option<String> {
        if self.by_name.contains_key(name) {
            return None;
        }
        if self.unsteady.iter().any(|unsteady| unsteady == name) {
            let hint = "it answers differently each time, and the same records must give the same \
                        bill; use a column of the record";
            return Some(hint.to_owned());
        }
        if let Some((_, hint)) = time::HINTS_REFUSED
            .iter()
            .find(|(refused, _)| *refused == name)
        {
            return Some((*hint).to_owned());
        }
        let known = self.by_name.keys().map(String::as_str);
        let hint = match (did_you_mean(name, known), name) {
            (_, "round" | "ceil" | "floor" | "trunc") => {
                "write round_half_even(x, scale) or ceil_units(x, block)".to_owned()
            }
            (Some(known), _) => format!("did you mean {known}?"),
            (None, "sum" | "count" | "avg" | "min" | "max") => {
                "an expression sees one record; totals are made when usage is aggregated".to_owned()
            }
            (None, _) => "functions are DataFusion's for text, patterns and dates, and divide, \
                          round_half_even, ceil_units, decimal, exact, plus_seconds, lookup"
                .to_owned(),
        };
        Some(hint)
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("there is no table {name}; use lookup('table', 'column', key)")
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.by_name.get(&name.to_lowercase()).map(Arc::clone)
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// An error of planning that carries its own advice.
pub(super) fn refused(message: impl Into<String>, hint: impl Into<String>) -> DataFusionError {
    DataFusionError::External(Box::new(ExpressionError::new(message, hint)))
}

pub(super) fn refusal(error: &DataFusionError) -> Option<ExpressionError> {
    match error.find_root() {
        DataFusionError::External(external) => external.downcast_ref().cloned(),
        _ => None,
    }
}

/// The number of decimals that argument `index` asks for: a literal from 0 to 38.
fn literal_scale(args: &ReturnFieldArgs<'_>, index: usize, usage: &str) -> Result<i8> {
    let scale = match args.scalar_arguments.get(index).copied().flatten() {
        Some(ScalarValue::Int64(Some(scale))) => i8::try_from(*scale).ok(),
        _ => None,
    };
    scale
        .filter(|scale| (0..=38).contains(scale))
        .ok_or_else(|| {
            refused(
                format!("the scale of {usage} is not a number from 0 to 38"),
                "",
            )
        })
}

fn argument_count(args: &ReturnFieldArgs<'_>, count: usize, usage: &str) -> Result<()> {
    if args.arg_fields.len() == count {
        return Ok(());
    }
    let found = args.arg_fields.len();
    Err(refused(
        format!("{usage} takes {count} arguments, not {found}"),
        "",
    ))
}
