//! SQL expressions over the columns of a batch, fenced for money.
//!
//! ```text
//!   text ─► parse ─► names known? ─► DataFusion plan ─► fence ─► checked arithmetic ─► physical
//! ```
//!
//! DataFusion evaluates whole batches in a few nanoseconds per row, but it is made for analytics: it
//! wraps integers, divides with truncation, rounds in casts and reads decimal literals as binary
//! floats. [`fence`] refuses or replaces each of these when the expression is planned, so nothing
//! that is planned can give a wrong number; what it can still do is fail for a row, and
//! [`Expression::evaluate`] finds exactly the rows that fail.
//!
//! - **Same input, same output:** functions that ask the clock or chance are not there.
//! - **No record can take all memory or time:** how deep an expression is, and how long a text it
//!   makes, has a bound ([`size`], `repeat`, `lpad`, `rpad`, `levenshtein`).
//! - **Columns are case-sensitive** and may be written as they stand in the file; a dotted path
//!   needs no quotes, and `a['b']` is the path `a.b`.

mod evaluate;
mod fence;
mod functions;
mod size;
mod undecided;
mod zones;

pub use evaluate::{Evaluated, RowFailure};
pub use functions::{Functions, LookupMissing, TimeUnread};
pub use undecided::{Decision, Inputs};
pub(crate) use undecided::{UndecidedRows, hanging, quoted_sql};

use crate::diagnostic::did_you_mean;
use crate::shield::shielded;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::parser::DFParser;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{self, Ident, visit_expressions, visit_expressions_mut};
use datafusion_sql::sqlparser::keywords::ALL_KEYWORDS;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What is wrong with an expression, before any record is read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong, quoting the part of the expression.
    pub message: String,
    /// What to write instead; may be empty.
    pub hint: String,
}

impl ExpressionError {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }

    fn of(error: &DataFusionError, sql: &str) -> Self {
        if let Some(refused) = functions::refusal(error) {
            return refused;
        }
        let text = error.strip_backtrace();
        let text = text
            .strip_prefix("Error during planning: ")
            .unwrap_or(&text);
        let first = text.lines().next().unwrap_or(text);
        if first.starts_with("Substring without") {
            return Self::new(
                format!("substr is told no place to begin in `{sql}`"),
                "write substr(text, start) or substr(text, start, length); the first character is 1",
            );
        }
        let plain = unmatched(first).unwrap_or(first);
        let wants_text = plain.contains("requires String");
        let hint = if wants_text {
            "CAST(x AS text) makes a text of it"
        } else {
            ""
        };
        Self::new(format!("{plain} in `{sql}`"), hint)
    }
}

/// An expression that has been parsed but not yet planned.
#[derive(Clone, Debug)]
pub struct Parsed {
    sql: String,
    tree: ast::Expr,
    columns: BTreeSet<String>,
}

impl Parsed {
    /// Parses one SQL expression.
    ///
    /// # Errors
    /// When the text is not an SQL expression.
    pub fn parse(sql: &str) -> Result<Self, ExpressionError> {
        size::check_text(sql)?;
        size::on_deep_stack(sql, || planning(sql, || Self::parse_any(sql)))
    }

    fn parse_any(sql: &str) -> Result<Self, ExpressionError> {
        let parsed = DFParser::parse_sql_into_expr(sql).map_err(|error| {
            let text = error.strip_backtrace();
            let text = text.strip_prefix("SQL error: ").unwrap_or(&text);
            let text = text.strip_prefix("ParserError(").unwrap_or(text);
            let text = text.strip_suffix(")").unwrap_or(text).trim_matches('"');
            let shown = size::beginning(sql);
            if text.contains("RecursionLimitExceeded") {
                return size::too_deep(&shown);
            }
            let hint = match word_of_sql(sql, text) {
                Some(word) => format!(
                    "`{word}` is a word of SQL; if a column has this name, it stands in double \
                     quotes within the expression: '\"{word}\"'"
                ),
                None => "write one SQL expression".to_owned(),
            };
            ExpressionError::new(format!("cannot parse `{shown}`: {text}"), hint)
        })?;
        if parsed.alias.is_some() {
            return Err(ExpressionError::new(
                format!("`{sql}` gives its value a name"),
                "leave out AS and what follows; the key in the file is the name",
            ));
        }
        let mut tree = parsed.expr;
        size::check_depth(&tree, sql)?;
        let mut columns = BTreeSet::new();
        let ControlFlow::<Infallible>::Continue(()) = visit_expressions_mut(&mut tree, |node| {
            if let Some(path) = path_of(node) {
                *node = ast::Expr::Identifier(Ident::with_quote('"', path));
            }
            ControlFlow::Continue(())
        });
        let ControlFlow::<Infallible>::Continue(()) = visit_expressions(&tree, |node| {
            if let ast::Expr::Identifier(name) = node {
                columns.insert(name.value.clone());
            }
            ControlFlow::Continue(())
        });
        Ok(Self {
            sql: sql.to_owned(),
            tree,
            columns,
        })
    }

    /// The columns that the expression reads.
    #[must_use]
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    /// The columns of which the expression says what stands in for an empty value.
    pub(crate) fn filled(&self) -> BTreeSet<String> {
        let mut filled = BTreeSet::new();
        let ControlFlow::<Infallible>::Continue(()) = visit_expressions(&self.tree, |node| {
            if let ast::Expr::Function(call) = node
                && ["coalesce", "nvl", "ifnull"].contains(&&*call.name.to_string().to_lowercase())
            {
                let ControlFlow::<Infallible>::Continue(()) = visit_expressions(call, |inner| {
                    if let ast::Expr::Identifier(name) = inner {
                        filled.insert(name.value.clone());
                    }
                    ControlFlow::Continue(())
                });
            }
            ControlFlow::Continue(())
        });
        filled
    }

    /// The text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }

    fn check_names(
        &self,
        schema: &SchemaRef,
        functions: &Functions,
    ) -> Result<(), ExpressionError> {
        for column in &self.columns {
            if schema.index_of(column).is_err() {
                let known = schema.fields().iter().map(|field| field.name().as_str());
                let hint = match did_you_mean(column, known.clone()) {
                    Some(name) => format!("did you mean {name:?}?"),
                    None => format!(
                        "the columns are {}; text stands in single quotes",
                        known.take(50).collect::<Vec<_>>().join(", ")
                    ),
                };
                let message = format!("unknown column {column:?} in `{}`", self.sql);
                return Err(ExpressionError::new(message, hint));
            }
        }
        let unknown = visit_expressions(&self.tree, |node| match node {
            ast::Expr::Function(call) => {
                let name = call.name.to_string().to_lowercase();
                match functions.refuse(&name) {
                    Some(hint) => ControlFlow::Break((name, hint)),
                    None => ControlFlow::Continue(()),
                }
            }
            _ => ControlFlow::Continue(()),
        });
        match unknown {
            ControlFlow::Break((name, hint)) => {
                let message = format!("no function {name:?} for `{}`", self.sql);
                Err(ExpressionError::new(message, hint))
            }
            ControlFlow::Continue(()) => Ok(()),
        }
    }

    /// Plans the expression over columns of known types.
    ///
    /// # Errors
    /// When it names what is not there, does not type-check, or could give an inexact number.
    pub fn plan(
        &self,
        schema: &SchemaRef,
        functions: &Functions,
    ) -> Result<Expression, ExpressionError> {
        size::on_deep_stack(&self.sql, || {
            planning(&self.sql, || {
                let (planning, checked) = self.checked(schema, functions)?;
                let expression = planning.simplified(checked)?;
                planning.physical(&expression)
            })
        })
    }

    /// Plans the expression, and how it answers fields that are empty.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn plan_decided(
        &self,
        schema: &SchemaRef,
        functions: &Functions,
        inputs: &Inputs,
    ) -> Result<(Expression, Decision), ExpressionError> {
        size::on_deep_stack(&self.sql, || {
            planning(&self.sql, || self.plan_both(schema, functions, inputs))
        })
    }

    fn plan_both(
        &self,
        schema: &SchemaRef,
        functions: &Functions,
        inputs: &Inputs,
    ) -> Result<(Expression, Decision), ExpressionError> {
        let (planning, checked) = self.checked(schema, functions)?;
        let decision = undecided::decide(self, &checked, inputs, |condition| {
            let simple = planning.simplifier.simplify(condition);
            planning.physical(&simple.map_err(|error| planning.failed(&error))?)
        })?;
        let expression = planning.simplified(checked)?;
        Ok((planning.physical(&expression)?, decision))
    }

    /// The expression typed and within the fence, its arithmetic checked.
    fn checked<'p>(
        &'p self,
        schema: &'p SchemaRef,
        functions: &Functions,
    ) -> Result<(Planning<'p>, Expr), ExpressionError> {
        self.check_names(schema, functions)?;
        let failed = |error: DataFusionError| ExpressionError::of(&error, &self.sql);
        let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(failed)?;
        let df_schema = Arc::new(df_schema);
        let options = ParserOptions::new()
            .with_parse_float_as_decimal(true)
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false);
        let planned = SqlToRel::new_with_options(functions, options)
            .sql_to_expr(self.tree.clone(), &df_schema, &mut PlannerContext::new())
            .map_err(failed)?;
        fence::check_as_written(&planned, &df_schema, &self.sql)?;
        let planned = zones::settle(planned, &df_schema, functions.times()).map_err(failed)?;

        let config = Arc::new(ConfigOptions::new());
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&df_schema))
            .with_config_options(Arc::clone(&config))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let typed = simplifier.coerce(planned, &df_schema).map_err(failed)?;
        fence::check_types(&typed, &df_schema, &self.sql)?;
        let typed = zones::settle_coerced(typed, &df_schema, functions.times()).map_err(failed)?;
        let checked = fence::check_arithmetic(typed, &df_schema).map_err(failed)?;
        let planning = Planning {
            sql: &self.sql,
            schema,
            df_schema,
            config,
            simplifier,
        };
        Ok((planning, checked))
    }
}

/// What of a planner's complaint about the arguments of a function is about them, of the many forms
/// that the function has.
fn unmatched(text: &str) -> Option<&str> {
    let (_, forms) = text.split_once("failed to match any signature, errors: ")?;
    let forms = forms.split("Error during planning: ");
    let forms = forms.filter(|form| !form.is_empty());
    let of_type = |form: &&str| form.contains("requires");
    let form = forms.clone().find(of_type).or(forms.last())?;
    let end = form.find(" (DataType").unwrap_or(form.len());
    Some(form[..end].trim_end_matches([',', '.']))
}

/// The path of a field that a node is another spelling of. There are no tables in an expression, so
/// `a.b` is always a field, as is `a['b']`.
fn path_of(node: &ast::Expr) -> Option<String> {
    match node {
        ast::Expr::CompoundIdentifier(parts) => {
            let path: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
            Some(path.join("."))
        }
        ast::Expr::CompoundFieldAccess { root, access_chain } => {
            let ast::Expr::Identifier(root) = root.as_ref() else {
                return None;
            };
            let mut path = root.value.clone();
            for access in access_chain {
                let name = match access {
                    ast::AccessExpr::Dot(ast::Expr::Identifier(name)) => &name.value,
                    ast::AccessExpr::Subscript(ast::Subscript::Index {
                        index: ast::Expr::Value(key),
                    }) => match &key.value {
                        ast::Value::SingleQuotedString(name) => name,
                        _ => return None,
                    },
                    _ => return None,
                };
                path.push('.');
                path.push_str(name);
            }
            Some(path)
        }
        // Elsewhere a function without parentheses; here whoever used the service.
        ast::Expr::Function(call)
            if matches!(call.args, ast::FunctionArguments::None)
                && call.name.to_string().eq_ignore_ascii_case("user") =>
        {
            Some(call.name.to_string())
        }
        _ => None,
    }
}

/// Words that are no columns unless they are quoted, wherever they stand.
const RESERVED: [&str; 4] = ["exists", "interval", "struct", "trim"];

/// The word at which parsing stopped, if a column of this name needs quotes.
fn word_of_sql<'t>(sql: &'t str, error: &'t str) -> Option<&'t str> {
    let is_keyword = |word: &&str| {
        let upper = word.to_ascii_uppercase();
        ALL_KEYWORDS.contains(&upper.as_str())
    };
    let found = error.split_once("found: ").map(|(_, rest)| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    let mut words = sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_reserved = |word: &&str| RESERVED.iter().any(|r| word.eq_ignore_ascii_case(r));
    found
        .filter(is_keyword)
        .filter(|word| *word != "EOF")
        .or_else(|| words.find(is_reserved))
}

/// What the last steps of planning need.
struct Planning<'p> {
    sql: &'p str,
    schema: &'p SchemaRef,
    df_schema: Arc<DFSchema>,
    config: Arc<ConfigOptions>,
    simplifier: ExprSimplifier,
}

impl Planning<'_> {
    fn failed(&self, error: &DataFusionError) -> ExpressionError {
        ExpressionError::of(error, self.sql)
    }

    fn simplified(&self, checked: Expr) -> Result<Expr, ExpressionError> {
        let simple = self.simplifier.simplify(checked);
        let simple = simple.map_err(|error| self.failed(&error))?;
        // Again, because some functions only turn into casts when they are simplified.
        fence::check_types(&simple, &self.df_schema, self.sql)?;
        zones::check(&simple, &self.df_schema, self.sql)?;
        Ok(simple)
    }

    fn physical(&self, simple: &Expr) -> Result<Expression, ExpressionError> {
        let mut properties = ExecutionProps::new();
        properties.config_options = Some(Arc::clone(&self.config));
        let context = PhysicalPlanningContext::default();
        let physical = create_physical_expr(simple, &self.df_schema, &properties, &context)
            .map_err(|error| self.failed(&error))?;
        let data_type = physical.data_type(self.schema);
        Ok(Expression {
            sql: self.sql.to_owned(),
            physical,
            data_type: data_type.map_err(|error| self.failed(&error))?,
        })
    }
}

/// Parses or plans behind the shield.
fn planning<T>(
    sql: &str,
    work: impl FnOnce() -> Result<T, ExpressionError>,
) -> Result<T, ExpressionError> {
    shielded(work).unwrap_or_else(|panicked| {
        let message = format!("`{sql}` cannot be planned: {}", panicked.message);
        Err(ExpressionError::new(message, "write it in another way"))
    })
}

/// An expression ready to be evaluated over batches of the schema that it was planned for.
#[derive(Clone, Debug)]
pub struct Expression {
    sql: String,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
}

impl Expression {
    /// The type of its values.
    #[must_use]
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// The text that it was planned from.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.sql
    }
}

#[cfg(test)]
mod tests;
