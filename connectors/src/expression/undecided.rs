//! When an expression has no value of its own making: an input field that it needs is empty.
//!
//! SQL answers an absent input with NULL, and NULL minus something is NULL: an analyst sees the gap, a
//! bill only misses the item. So a second, boolean expression is derived from each: *undecided* is
//! true for the rows whose value hangs on a field that is empty without being declared `may_be: empty`.
//!
//! | form | undecided when |
//! | --- | --- |
//! | a column | it is NULL, unless its emptiness is intended |
//! | a named value | its expression is |
//! | arithmetic, comparisons, functions | any argument is |
//! | `AND`, `OR`, `IN`, `BETWEEN` | an argument is and the others do not decide it (`false AND NULL` is false) |
//! | `CASE` | a condition is that is reached, or the value that is chosen |
//! | `coalesce`, `nvl` | its last argument is, and all before it are NULL |
//! | `IS [NOT] NULL`, `IS TRUE` and the like, `IS [NOT] DISTINCT FROM`, `nullif` | never: they ask for NULL |
//!
//! A `CASE` whose condition is undecided goes on to its `ELSE` and has a value, but a guessed one.
//! Forms that ask for NULL pass a guess on; [`Undecided::may_guess`] says where that can be.
//!
//! - **Cost:** nothing for a batch whose columns in question hold no NULL, see
//!   [`Decision::undecided`]; otherwise one more evaluation.

use super::evaluate::RowFailure;
use super::{Expression, Parsed};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::expr::{Between, InList, ScalarFunction};
use datafusion_expr::utils::{conjunction, disjunction};
use datafusion_expr::{BinaryExpr, Case, Expr, Operator, lit};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes of a condition past which any empty field among its inputs makes an expression undecided.
const NODES_MAX: usize = 5_000;
/// Levels of a condition past which it is the same: evaluation calls itself for every level.
const LEVELS_MAX: usize = 400;
/// Characters of an expression that messages show.
const SQL_CHARS_MAX: usize = 80;

/// Functions that keep the emptiness of their only column: what they make of an absent value is
/// absent, just as the column itself.
const CONVERSIONS: &[&str] = &[
    "arrow_cast",
    "btrim",
    "coalesce",
    "decimal",
    "exact",
    "get_field",
    "ifnull",
    "lookup_or_null",
    "lower",
    "ltrim",
    "nullif",
    "nvl",
    "round_half_even",
    "rtrim",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "trim",
    "upper",
];

/// What is known of the columns that the expressions of a rule read.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Columns of the record whose emptiness is intended.
    intended: BTreeSet<String>,
    /// Values that the rule has named so far.
    named: BTreeMap<String, Derived>,
}

impl Inputs {
    /// Columns of the record, of which these may be empty.
    pub fn new(intended: impl IntoIterator<Item = String>) -> Self {
        Self {
            intended: intended.into_iter().collect(),
            named: BTreeMap::new(),
        }
    }

    /// The same where these columns may be empty, too.
    pub(crate) fn with(&self, intended: BTreeSet<String>) -> Self {
        let mut inputs = self.clone();
        inputs.intended.extend(intended);
        inputs
    }

    /// From now on the value of an expression has a name.
    pub fn name(&mut self, name: &str, decision: &Decision) {
        self.named.insert(name.to_owned(), decision.derived.clone());
    }
}

/// What is derived from an expression.
#[derive(Clone, Debug, Default)]
struct Derived {
    undecided: Undecided,
    /// The columns of the record whose emptiness makes it undecided.
    causes: BTreeSet<String>,
    /// The columns of the record that it reads, itself or through named values.
    reads: BTreeSet<String>,
    /// Whether a value inside a column can be absent, which the column does not show.
    looks_inside: bool,
    is_bare: bool,
    fills_in: bool,
}

/// The condition under which an expression is undecided.
#[derive(Clone, Debug, Default)]
struct Undecided {
    /// `None` when it never is.
    when: Option<Expr>,
    /// Whether it can have a value all the same.
    may_guess: bool,
}

/// How an expression answers input fields that are empty.
#[derive(Clone, Debug)]
pub struct Decision {
    derived: Derived,
    /// The condition, planned; `None` when the expression is never undecided.
    condition: Option<Expression>,
    /// Whether every column that it reads may be empty.
    intended: bool,
}

/// The rows of a batch for which an expression is undecided.
#[derive(Clone, Debug, Default)]
pub struct UndecidedRows {
    /// The rows, each with the columns that are empty in it.
    pub rows: Vec<(usize, Vec<String>)>,
    /// Rows for which even that could not be found out.
    pub failures: Vec<RowFailure>,
}

impl Decision {
    /// Whether the expression is a column or a mere conversion of one, which is absent when the column
    /// is.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.derived.is_bare
    }

    /// Whether the emptiness of every column that the expression reads is intended.
    #[must_use]
    pub fn is_intended(&self) -> bool {
        self.intended
    }

    /// Whether the expression itself says what stands for an absent value.
    #[must_use]
    pub fn fills_in(&self) -> bool {
        self.derived.fills_in
    }

    /// The columns of the record that the expression reads, itself or through named values.
    #[must_use]
    pub fn reads(&self) -> &BTreeSet<String> {
        &self.derived.reads
    }

    /// The rows of the batch for which the expression is undecided. The batch begins with the columns
    /// that the expression was planned for.
    #[must_use]
    pub fn undecided(&self, batch: &RecordBatch) -> UndecidedRows {
        let Some(condition) = &self.condition else {
            return UndecidedRows::default();
        };
        let nulls: Vec<(&String, Option<NullBuffer>)> = self
            .derived
            .causes
            .iter()
            .map(|name| {
                let column = batch.column_by_name(name);
                (name, column.and_then(|column| column.logical_nulls()))
            })
            .collect();
        let has_null =
            |nulls: &Option<NullBuffer>| nulls.as_ref().is_some_and(|n| n.null_count() > 0);
        if !self.derived.looks_inside && !nulls.iter().any(|(_, nulls)| has_null(nulls)) {
            return UndecidedRows::default();
        }
        let found = condition.evaluate(batch);
        let undecided = found.values.as_boolean();
        let rows =
            (0..undecided.len()).filter(|row| undecided.is_valid(*row) && undecided.value(*row));
        let empty = |row: usize| {
            let is_null =
                |nulls: &Option<NullBuffer>| nulls.as_ref().is_some_and(|n| n.is_null(row));
            let empty = nulls.iter().filter(|(_, nulls)| is_null(nulls));
            let empty: Vec<String> = empty.map(|(name, _)| (*name).clone()).collect();
            // What is absent inside a column does not show in it.
            if empty.is_empty() {
                return self.derived.causes.iter().cloned().collect();
            }
            empty
        };
        UndecidedRows {
            rows: rows.map(|row| (row, empty(row))).collect(),
            failures: found.failures,
        }
    }
}

/// Derives from a checked expression how it answers empty fields; `plan` makes the condition ready.
pub(super) fn decide<E>(
    parsed: &Parsed,
    checked: &Expr,
    inputs: &Inputs,
    plan: impl FnOnce(Expr) -> Result<Expression, E>,
) -> Result<Decision, E> {
    let mut deriving = Deriving {
        inputs,
        derived: Derived::default(),
    };
    let undecided = deriving.of(checked);
    let mut derived = deriving.derived;
    derived.undecided = bounded(undecided, &derived.causes);
    derived.is_bare = is_bare(checked, inputs);
    for column in parsed.columns() {
        match inputs.named.get(column) {
            Some(named) => {
                derived.reads.extend(named.reads.iter().cloned());
                derived.fills_in |= named.fills_in;
            }
            None => {
                derived.reads.insert(column.clone());
            }
        }
    }
    let intended = !derived.reads.is_empty() && derived.reads.is_subset(&inputs.intended);
    let condition = derived.undecided.when.clone().map(plan).transpose()?;
    Ok(Decision {
        derived,
        condition,
        intended,
    })
}

/// A condition of bounded size: named values that use each other twice double it each time.
fn bounded(undecided: Undecided, causes: &BTreeSet<String>) -> Undecided {
    let mut nodes = NODES_MAX;
    let is_small = |when: &Expr| spend(when, LEVELS_MAX, &mut nodes);
    if undecided.when.as_ref().is_none_or(is_small) {
        return undecided;
    }
    let column = |name: &String| {
        Expr::Column(datafusion_common::Column::new_unqualified(name.clone())).is_null()
    };
    Undecided {
        when: disjunction(causes.iter().map(column)),
        may_guess: true,
    }
}

/// Whether an expression has no more than so many levels and nodes; takes its nodes off.
fn spend(expr: &Expr, levels: usize, nodes: &mut usize) -> bool {
    if levels == 0 || *nodes == 0 {
        return false;
    }
    *nodes -= 1;
    let mut fits = true;
    let visited = expr.apply_children(|child| {
        fits = spend(child, levels - 1, nodes);
        Ok(if fits {
            TreeNodeRecursion::Continue
        } else {
            TreeNodeRecursion::Stop
        })
    });
    debug_assert!(visited.is_ok(), "the visitor never fails");
    fits
}

fn is_bare(expr: &Expr, inputs: &Inputs) -> bool {
    match expr {
        Expr::Column(column) => inputs
            .named
            .get(&column.name)
            .is_none_or(|named| named.is_bare),
        Expr::Alias(alias) => is_bare(&alias.expr, inputs),
        Expr::Cast(cast) => is_bare(&cast.expr, inputs),
        Expr::TryCast(cast) => is_bare(&cast.expr, inputs),
        Expr::ScalarFunction(call) if CONVERSIONS.contains(&call.func.name()) => {
            let is_literal = |arg: &Expr| matches!(arg, Expr::Literal(_, _));
            let mut converted = call.args.iter().filter(|arg| !is_literal(arg)).peekable();
            converted.peek().is_some() && converted.all(|arg| is_bare(arg, inputs))
        }
        _ => false,
    }
}

struct Deriving<'i> {
    inputs: &'i Inputs,
    derived: Derived,
}

impl Deriving<'_> {
    fn of(&mut self, expr: &Expr) -> Undecided {
        match expr {
            Expr::Column(column) => self.column(expr, &column.name),
            Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner) => self.guesses(&[inner.as_ref()]),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let parts = [left.as_ref(), right.as_ref()];
                match op {
                    Operator::IsDistinctFrom | Operator::IsNotDistinctFrom => self.guesses(&parts),
                    Operator::And | Operator::Or => self.three_valued(expr, &parts),
                    _ => self.strict(&parts),
                }
            }
            // Of plain values, nothing decides but what is looked for.
            Expr::InList(InList { expr: of, list, .. })
                if list.iter().all(|item| matches!(item, Expr::Literal(_, _))) =>
            {
                self.strict(&[of.as_ref()])
            }
            Expr::InList(InList { expr: of, list, .. }) => {
                let parts: Vec<&Expr> = std::iter::once(of.as_ref()).chain(list).collect();
                self.three_valued(expr, &parts)
            }
            Expr::Between(Between {
                expr: of,
                low,
                high,
                ..
            }) => self.three_valued(expr, &[of.as_ref(), low.as_ref(), high.as_ref()]),
            Expr::Case(case) => self.case(case),
            Expr::ScalarFunction(call) => self.function(expr, call),
            _ => {
                let mut parts = Vec::new();
                let visited = expr.apply_children(|child| {
                    parts.push(child);
                    Ok(TreeNodeRecursion::Continue)
                });
                debug_assert!(visited.is_ok(), "the visitor never fails");
                self.strict(&parts)
            }
        }
    }

    fn column(&mut self, column: &Expr, name: &str) -> Undecided {
        if let Some(named) = self.inputs.named.get(name) {
            self.derived.causes.extend(named.causes.iter().cloned());
            self.derived.looks_inside |= named.looks_inside;
            return named.undecided.clone();
        }
        if self.inputs.intended.contains(name) {
            return Undecided::default();
        }
        self.derived.causes.insert(name.to_owned());
        Undecided {
            when: Some(column.clone().is_null()),
            may_guess: false,
        }
    }

    fn function(&mut self, whole: &Expr, call: &ScalarFunction) -> Undecided {
        let parts: Vec<&Expr> = call.args.iter().collect();
        match (call.func.name(), call.args.as_slice()) {
            ("coalesce" | "nvl" | "ifnull", _) => {
                self.derived.fills_in = true;
                self.first_there(&parts)
            }
            ("nvl2", [asked, there, absent]) => {
                self.derived.fills_in = true;
                let choice = (
                    Box::new(asked.clone().is_not_null()),
                    Box::new(there.clone()),
                );
                self.case(&Case::new(
                    None,
                    vec![choice],
                    Some(Box::new(absent.clone())),
                ))
            }
            ("nullif", _) => self.guesses(&parts),
            ("get_field", [Expr::Column(column), ..])
                if self.inputs.intended.contains(&column.name) =>
            {
                Undecided::default()
            }
            ("get_field", [of, ..]) => {
                let below = self.of(of);
                self.derived.looks_inside = true;
                Undecided {
                    when: disjunction(below.when.into_iter().chain([whole.clone().is_null()])),
                    may_guess: below.may_guess,
                }
            }
            _ => self.strict(&parts),
        }
    }

    /// Undecided as soon as any part is.
    fn strict(&mut self, parts: &[&Expr]) -> Undecided {
        let parts: Vec<Undecided> = parts.iter().map(|part| self.of(part)).collect();
        // Some functions skip NULL, so that their value is made without what is absent.
        Undecided {
            may_guess: parts.iter().any(|part| part.when.is_some()),
            when: either(parts.into_iter().filter_map(|part| part.when)),
        }
    }

    /// Undecided where a part has a value that is guessed; an absent one is asked for.
    fn guesses(&mut self, parts: &[&Expr]) -> Undecided {
        let guesses: Vec<Expr> = parts
            .iter()
            .filter_map(|part| {
                let undecided = self.of(part);
                guess(&undecided, part)
            })
            .collect();
        Undecided {
            may_guess: !guesses.is_empty(),
            when: either(guesses),
        }
    }

    /// Undecided where a part is and the others leave the whole NULL.
    fn three_valued(&mut self, whole: &Expr, parts: &[&Expr]) -> Undecided {
        let undecided: Vec<Undecided> = parts.iter().map(|part| self.of(part)).collect();
        let any = either(undecided.iter().filter_map(|part| part.when.clone()));
        let Some(any) = any else {
            return Undecided::default();
        };
        let guesses: Vec<Expr> = undecided
            .iter()
            .zip(parts)
            .filter_map(|(undecided, part)| guess(undecided, part))
            .collect();
        let may_guess = !guesses.is_empty();
        let open = conjunction([any, whole.clone().is_null()]);
        Undecided {
            when: either(open.into_iter().chain(guesses)),
            may_guess,
        }
    }

    fn case(&mut self, case: &Case) -> Undecided {
        let mut any = false;
        let mut may_guess = false;
        let mut choices = Vec::with_capacity(case.when_then_expr.len());
        for (when, then) in &case.when_then_expr {
            let when = match &case.expr {
                Some(operand) => operand.as_ref().clone().eq(when.as_ref().clone()),
                None => when.as_ref().clone(),
            };
            if let Some(undecided) = self.of(&when).when {
                choices.push((Box::new(undecided), Box::new(lit(true))));
                (any, may_guess) = (true, true);
            }
            let value = self.of(then);
            any |= value.when.is_some();
            may_guess |= value.may_guess;
            choices.push((Box::new(when), Box::new(value.when.unwrap_or(lit(false)))));
        }
        let last = match &case.else_expr {
            Some(value) => self.of(value),
            // Without ELSE, NULL is what the rule says when all conditions are false.
            None => Undecided::default(),
        };
        any |= last.when.is_some();
        may_guess |= last.may_guess;
        if !any {
            return Undecided::default();
        }
        let last = Some(Box::new(last.when.unwrap_or(lit(false))));
        Undecided {
            when: Some(Expr::Case(Case::new(None, choices, last))),
            may_guess,
        }
    }

    /// The first part that is there; all before it were asked for and absent.
    fn first_there(&mut self, parts: &[&Expr]) -> Undecided {
        let undecided: Vec<Undecided> = parts.iter().map(|part| self.of(part)).collect();
        let Some((last, others)) = undecided.split_last() else {
            return Undecided::default();
        };
        let may_guess = undecided.iter().any(|part| part.may_guess);
        if last.when.is_none() && !may_guess {
            return Undecided::default();
        }
        let choices = others.iter().zip(parts).map(|(undecided, part)| {
            let guessed = undecided.when.clone().filter(|_| undecided.may_guess);
            (
                Box::new((*part).clone().is_not_null()),
                Box::new(guessed.unwrap_or(lit(false))),
            )
        });
        let last = Box::new(last.when.clone().unwrap_or(lit(false)));
        let choices: Vec<_> = choices.collect();
        Undecided {
            when: Some(if choices.is_empty() {
                *last
            } else {
                Expr::Case(Case::new(None, choices, Some(last)))
            }),
            may_guess,
        }
    }
}

/// The condition under which the value of `expr` is there, but guessed.
fn guess(undecided: &Undecided, expr: &Expr) -> Option<Expr> {
    let when = undecided.when.clone().filter(|_| undecided.may_guess)?;
    conjunction([when, expr.clone().is_not_null()])
}

/// Any of the conditions, each once.
fn either(conditions: impl IntoIterator<Item = Expr>) -> Option<Expr> {
    let mut distinct: Vec<Expr> = Vec::new();
    for condition in conditions {
        if !distinct.contains(&condition) {
            distinct.push(condition);
        }
    }
    disjunction(distinct)
}

/// That an expression has no value of its own making, and which fields of the record are why.
pub(crate) fn hanging(sql: &str, empty: &[String]) -> String {
    let verb = if empty.len() == 1 { "is" } else { "are" };
    let empty = empty.join(", ");
    if empty == sql.trim_matches('"') {
        return format!("`{empty}` is empty or absent");
    }
    let sql: String = quoted_sql(sql);
    format!("{sql} hangs on {empty}, which {verb} empty or absent")
}

/// An expression as messages show it, cut to a readable length.
pub(crate) fn quoted_sql(sql: &str) -> String {
    match sql.char_indices().nth(SQL_CHARS_MAX) {
        Some((cut, _)) => format!("`{}...`", &sql[..cut]),
        None => format!("`{sql}`"),
    }
}

#[cfg(test)]
mod tests;
