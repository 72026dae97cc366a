//! When the value of an expression is not what its rule says: something that it needs is NULL.
//!
//! SQL answers an absent input with NULL, and NULL minus something is NULL: an analyst sees the gap, a
//! bill only misses the item. So a second, boolean expression is derived from each: *undecided* is
//! true for the rows whose value hangs on a field that is empty without being declared `may_be: empty`, on one
//! that cannot be read (`TRY_CAST('a lot' AS bigint)`), or on a NULL that the rule itself makes.
//!
//! A NULL that the rule itself makes (`nullif`, `lookup_or_null`, a `CASE` without `ELSE`, `NULL`) is *stated*:
//! the answer where it is the value itself, or is merely converted; anything else that needs it is undecided.
//!
//! | form | undecided when |
//! | --- | --- |
//! | a column | it is NULL, unless its emptiness is intended |
//! | a named value | its expression is |
//! | `TRY_CAST`, `regexp_match` and the like | they are NULL though their arguments are there |
//! | arithmetic, comparisons, functions | any argument is, or is NULL as stated |
//! | `concat`, `concat_ws`, `greatest`, `least` | any argument is; what is NULL as stated they skip |
//! | `AND`, `OR`, `IN`, `BETWEEN` | an argument is and the others do not decide it (`false AND NULL` is false) |
//! | `CASE` | a condition is that is reached, or is NULL as stated, or the value is that is chosen |
//! | `coalesce`, `nvl` | its last argument is, and all before it are NULL |
//! | `IS [NOT] NULL`, `IS TRUE` and the like, `IS [NOT] DISTINCT FROM`, `nullif` | never: they ask for NULL |
//!
//! A `CASE` whose condition is undecided goes on to its `ELSE` and has a value, but a guessed one.
//! Forms that ask for NULL pass a guess on; [`Undecided::may_guess`] says where that can be.
//!
//! - **Cost:** nothing for a batch whose columns in question hold no NULL, unless the expression needs what
//!   may be NULL all the same, see [`Decision::undecided`]; otherwise one more evaluation.

use super::evaluate::RowFailure;
use super::{Expression, Parsed};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
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

/// Functions whose value is there when their arguments are.
const TOTAL: &[&str] = &[
    "ceil_units",
    "character_length",
    "checked_add",
    "checked_multiply",
    "checked_negate",
    "checked_remainder",
    "checked_subtract",
    "contains",
    "date_part",
    "date_trunc",
    "divide",
    "ends_with",
    "initcap",
    "instant",
    "left",
    "lookup",
    "lookup_prefix",
    "octet_length",
    "plus_seconds",
    "regexp_like",
    "regexp_replace",
    "replace",
    "reverse",
    "right",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "to_char",
    "to_date",
    "to_unixtime",
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
    /// The parts of it that may be NULL without an empty column, and make it undecided then.
    parts: Vec<Part>,
    /// Whether a value inside a column can be absent, which the column does not show.
    looks_inside: bool,
    is_bare: bool,
    fills_in: bool,
    /// The same of a bare expression if all columns may be empty: what is left is what cannot be read.
    unread: Option<Box<Derived>>,
}

/// A part of an expression that may be NULL though its columns are there.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    /// When it is.
    when: Expr,
    /// As messages show it.
    shown: String,
}

/// The condition under which an expression is undecided.
#[derive(Clone, Debug, Default)]
struct Undecided {
    /// `None` when it never is.
    when: Option<Expr>,
    /// Whether it can have a value all the same.
    may_guess: bool,
    /// When the expression is NULL because the rule says so.
    stated: Option<Expr>,
}

/// How an expression answers input fields that are empty.
#[derive(Clone, Debug)]
pub struct Decision {
    derived: Derived,
    /// The condition, planned; `None` when the expression is never undecided.
    condition: Option<Expression>,
    /// When its parts are NULL, planned, and as messages show them.
    parts: Vec<(Expression, String)>,
    /// Of a bare expression: if all columns may be empty.
    unread: Option<Box<Self>>,
    /// Whether every column that it reads may be empty.
    intended: bool,
}

/// The rows of a batch for which an expression is undecided.
#[derive(Clone, Debug, Default)]
pub struct UndecidedRows {
    /// The rows, and what each lacks.
    pub rows: Vec<(usize, Lacking)>,
    /// Rows for which even that could not be found out.
    pub failures: Vec<RowFailure>,
}

/// What a row lacks that an expression needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Columns that are empty in it.
    pub(crate) empty: Vec<String>,
    /// Parts of the expression that are NULL though their columns are there.
    pub(crate) parts: Vec<String>,
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
        let needs_only_columns = !self.derived.looks_inside && self.parts.is_empty();
        if needs_only_columns && !nulls.iter().any(|(_, nulls)| has_null(nulls)) {
            return UndecidedRows::default();
        }
        let found = condition.evaluate(batch);
        let undecided = found.values.as_boolean();
        let is_true = |values: &BooleanArray, row: usize| values.is_valid(row) && values.value(row);
        let rows = (0..undecided.len()).filter(|row| is_true(undecided, *row));
        let rows: Vec<usize> = rows.collect();
        let parts = match rows.is_empty() {
            true => [].as_slice(),
            false => &self.parts,
        };
        let parts: Vec<(ArrayRef, &String)> = parts
            .iter()
            .map(|(when, shown)| (when.evaluate(batch).values, shown))
            .collect();
        let lacking = |row: usize| {
            let is_null =
                |nulls: &Option<NullBuffer>| nulls.as_ref().is_some_and(|n| n.is_null(row));
            let empty = nulls.iter().filter(|(_, nulls)| is_null(nulls));
            let mut empty: Vec<String> = empty.map(|(name, _)| (*name).clone()).collect();
            let parts = parts.iter();
            let parts = parts.filter(|(values, _)| is_true(values.as_boolean(), row));
            let parts: Vec<String> = parts.map(|(_, shown)| (*shown).clone()).collect();
            // What is absent inside a column does not show in it.
            if empty.is_empty() && parts.is_empty() {
                empty = self.derived.causes.iter().cloned().collect();
            }
            Lacking { empty, parts }
        };
        UndecidedRows {
            rows: rows.into_iter().map(|row| (row, lacking(row))).collect(),
            failures: found.failures,
        }
    }

    /// As [`Self::undecided`], where a bare expression may be absent as its column is: what is left of
    /// those are rows in which the column is there but cannot be read.
    #[must_use]
    pub fn undecided_or_unread(&self, batch: &RecordBatch) -> UndecidedRows {
        match &self.unread {
            Some(unread) => unread.undecided(batch),
            None => self.undecided(batch),
        }
    }

    /// Makes the conditions ready.
    fn plan<E>(
        derived: Derived,
        inputs: &Inputs,
        plan: &mut impl FnMut(Expr) -> Result<Expression, E>,
    ) -> Result<Self, E> {
        let condition = derived.undecided.when.clone().map(&mut *plan).transpose()?;
        let mut parts = Vec::with_capacity(derived.parts.len());
        for part in &derived.parts {
            parts.push((plan(part.when.clone())?, part.shown.clone()));
        }
        let unread = derived.unread.as_deref().cloned();
        let unread = unread.map(|unread| Self::plan(unread, inputs, plan));
        let intended = !derived.reads.is_empty() && derived.reads.is_subset(&inputs.intended);
        Ok(Self {
            condition,
            parts,
            unread: unread.transpose()?.map(Box::new),
            intended,
            derived,
        })
    }
}

/// Derives from a checked expression how it answers empty fields; `plan` makes the condition ready.
pub(super) fn decide<E>(
    parsed: &Parsed,
    checked: &Expr,
    inputs: &Inputs,
    mut plan: impl FnMut(Expr) -> Result<Expression, E>,
) -> Result<Decision, E> {
    let derive = |all_intended: bool| {
        let mut deriving = Deriving {
            inputs,
            all_intended,
            derived: Derived::default(),
        };
        let undecided = deriving.of(checked);
        let mut derived = deriving.derived;
        derived.undecided = bounded(undecided, checked, &derived);
        if derived.undecided.when.is_none() {
            derived.parts.clear();
        }
        derived
    };
    let mut derived = derive(false);
    derived.is_bare = is_bare(checked, inputs);
    derived.unread = derived.is_bare.then(|| Box::new(derive(true)));
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
    Decision::plan(derived, inputs, &mut plan)
}

/// A condition of bounded size: named values that use each other twice double it each time.
fn bounded(undecided: Undecided, whole: &Expr, derived: &Derived) -> Undecided {
    let mut nodes = NODES_MAX;
    let conditions = undecided.when.iter().chain(&undecided.stated);
    let mut are_small = conditions.map(|when| spend(when, LEVELS_MAX, &mut nodes));
    if are_small.all(|is_small| is_small) {
        return undecided;
    }
    let column = |name: &String| {
        Expr::Column(datafusion_common::Column::new_unqualified(name.clone())).is_null()
    };
    let columns = derived.causes.iter().map(column);
    let parts = derived.parts.iter().map(|part| part.when.clone());
    let mut any: Vec<Expr> = columns.chain(parts).collect();
    // In pairs, so that many conditions make few levels.
    while any.len() > 1 {
        let pairs = any.chunks(2);
        any = pairs
            .filter_map(|pair| disjunction(pair.to_vec()))
            .collect();
    }
    Undecided {
        when: any.pop(),
        may_guess: true,
        stated: undecided.stated.map(|_| whole.clone().is_null()),
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
    /// Whether the emptiness of every column is.
    all_intended: bool,
    derived: Derived,
}

impl Deriving<'_> {
    fn of(&mut self, expr: &Expr) -> Undecided {
        match expr {
            Expr::Column(column) => self.column(expr, &column.name),
            Expr::Literal(value, _) => Undecided {
                stated: value.is_null().then(|| lit(true)),
                ..Undecided::default()
            },
            Expr::Alias(alias) => self.of(&alias.expr),
            Expr::Cast(cast) => self.of(&cast.expr),
            Expr::TryCast(cast) => {
                let below = self.of(&cast.expr);
                self.or_unread(below, expr, &[&cast.expr])
            }
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
                if list
                    .iter()
                    .all(|item| matches!(item, Expr::Literal(value, _) if !value.is_null())) =>
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
            let named = match &named.unread {
                Some(unread) if self.all_intended => unread,
                _ => named,
            };
            self.derived.causes.extend(named.causes.iter().cloned());
            self.derived.looks_inside |= named.looks_inside;
            named.parts.iter().for_each(|part| self.part(part.clone()));
            return named.undecided.clone();
        }
        if self.is_intended(name) {
            return Undecided::default();
        }
        self.derived.causes.insert(name.to_owned());
        Undecided {
            when: Some(column.clone().is_null()),
            ..Undecided::default()
        }
    }

    fn is_intended(&self, column: &str) -> bool {
        self.all_intended || self.inputs.intended.contains(column)
    }

    fn part(&mut self, part: Part) {
        if !self.derived.parts.contains(&part) {
            self.derived.parts.push(part);
        }
    }

    /// As below, and undecided where the whole is NULL though its arguments are there.
    fn or_unread(&mut self, below: Undecided, whole: &Expr, args: &[&Expr]) -> Undecided {
        let Some(when) = null_of_its_own(whole, args) else {
            return below;
        };
        self.part(Part {
            when: when.clone(),
            shown: shown(whole),
        });
        Undecided {
            when: either(below.when.into_iter().chain([when])),
            ..below
        }
    }

    /// As what needs an expression takes it: a NULL is none of its answers, whoever says it.
    fn needed(&mut self, expr: &Expr) -> Undecided {
        let found = self.of(expr);
        let Some(stated) = found.stated else {
            return found;
        };
        self.part(Part {
            when: expr.clone().is_null(),
            shown: shown(expr),
        });
        Undecided {
            when: either(found.when.into_iter().chain([stated])),
            may_guess: found.may_guess,
            stated: None,
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
            ("nullif", [of, _]) => {
                let asked: Vec<Undecided> = parts.iter().map(|part| self.of(part)).collect();
                let first = asked.first().cloned().unwrap_or_default();
                let there = Some(of.clone().is_not_null());
                let any = either(there.into_iter().chain(first.when).chain(first.stated));
                let is_null = whole.clone().is_null();
                Undecided {
                    stated: conjunction(std::iter::once(is_null).chain(any)),
                    ..guessed(&asked, &parts)
                }
            }
            ("get_field", [Expr::Column(column), ..]) if self.is_intended(&column.name) => {
                Undecided::default()
            }
            ("get_field", [of, ..]) => {
                let below = self.of(of);
                self.derived.looks_inside = true;
                Undecided {
                    when: disjunction(below.when.into_iter().chain([whole.clone().is_null()])),
                    ..below
                }
            }
            ("lookup_or_null", _) => {
                let below = self.converted(&parts);
                let missing = null_of_its_own(whole, &parts);
                Undecided {
                    stated: either(below.stated.into_iter().chain(missing)),
                    ..below
                }
            }
            ("concat" | "concat_ws" | "greatest" | "least", _) => {
                let below = self.converted(&parts);
                let stated = below.stated.map(|any| [whole.clone().is_null(), any]);
                Undecided {
                    stated: stated.and_then(conjunction),
                    ..below
                }
            }
            (name, _) if CONVERSIONS.contains(&name) => self.converted(&parts),
            (name, _) if TOTAL.contains(&name) => self.strict(&parts),
            _ => {
                let below = self.strict(&parts);
                self.or_unread(below, whole, &parts)
            }
        }
    }

    /// Undecided as soon as any part is, and NULL as stated as soon as one is.
    fn converted(&mut self, parts: &[&Expr]) -> Undecided {
        let parts: Vec<Undecided> = parts.iter().map(|part| self.of(part)).collect();
        Undecided {
            stated: either(parts.iter().filter_map(|part| part.stated.clone())),
            ..any_of(parts)
        }
    }

    /// Undecided as soon as any part is, or is NULL.
    fn strict(&mut self, parts: &[&Expr]) -> Undecided {
        any_of(parts.iter().map(|part| self.needed(part)).collect())
    }

    /// Undecided where a part has a value that is guessed; an absent one is asked for.
    fn guesses(&mut self, parts: &[&Expr]) -> Undecided {
        let undecided: Vec<Undecided> = parts.iter().map(|part| self.of(part)).collect();
        guessed(&undecided, parts)
    }

    /// Undecided where a part is and the others leave the whole NULL.
    fn three_valued(&mut self, whole: &Expr, parts: &[&Expr]) -> Undecided {
        let undecided: Vec<Undecided> = parts.iter().map(|part| self.needed(part)).collect();
        let any = either(undecided.iter().filter_map(|part| part.when.clone()));
        let Some(any) = any else {
            return Undecided::default();
        };
        let guesses = guessed(&undecided, parts);
        // In this order: a part that the others leave nothing open for is not evaluated, and may fail.
        let open = conjunction([whole.clone().is_null(), any]);
        Undecided {
            when: either(open.into_iter().chain(guesses.when)),
            ..guesses
        }
    }

    fn case(&mut self, case: &Case) -> Undecided {
        let (mut any, mut states) = (false, false);
        let mut may_guess = false;
        let mut choices = Vec::with_capacity(case.when_then_expr.len());
        let mut stated = Vec::with_capacity(case.when_then_expr.len());
        for (when, then) in &case.when_then_expr {
            let when = match &case.expr {
                Some(operand) => operand.as_ref().clone().eq(when.as_ref().clone()),
                None => when.as_ref().clone(),
            };
            if let Some(undecided) = self.needed(&when).when {
                choices.push((Box::new(undecided), Box::new(lit(true))));
                (any, may_guess) = (true, true);
            }
            let value = self.of(then);
            any |= value.when.is_some();
            may_guess |= value.may_guess;
            states |= value.stated.is_some();
            let stated_here = value.stated.unwrap_or(lit(false));
            stated.push((Box::new(when.clone()), Box::new(stated_here)));
            choices.push((Box::new(when), Box::new(value.when.unwrap_or(lit(false)))));
        }
        let last = match &case.else_expr {
            Some(value) => self.of(value),
            // Without ELSE, NULL is what the rule says when all conditions are false.
            None => Undecided {
                stated: Some(lit(true)),
                ..Undecided::default()
            },
        };
        any |= last.when.is_some();
        may_guess |= last.may_guess;
        states |= last.stated.is_some();
        let choose = |choices: Vec<_>, last: Option<Expr>| {
            let last = Some(Box::new(last.unwrap_or(lit(false))));
            Expr::Case(Case::new(None, choices, last))
        };
        Undecided {
            when: any.then(|| choose(choices, last.when)),
            may_guess,
            stated: states.then(|| choose(stated, last.stated)),
        }
    }

    /// The first part that is there; all before it were asked for and absent.
    fn first_there(&mut self, parts: &[&Expr]) -> Undecided {
        let undecided: Vec<Undecided> = parts.iter().map(|part| self.of(part)).collect();
        let Some((last, others)) = undecided.split_last() else {
            return Undecided::default();
        };
        let may_guess = undecided.iter().any(|part| part.may_guess);
        let otherwise = |choices: Vec<_>, last: Option<Expr>| {
            let last = last.unwrap_or(lit(false));
            match choices.is_empty() {
                true => last,
                false => Expr::Case(Case::new(None, choices, Some(Box::new(last)))),
            }
        };
        let choices = |value: &dyn Fn(&Undecided) -> Option<Expr>| -> Vec<_> {
            let others = others.iter().zip(parts);
            let choice = others.map(|(undecided, part)| {
                let is_there = Box::new((*part).clone().is_not_null());
                (is_there, Box::new(value(undecided).unwrap_or(lit(false))))
            });
            choice.collect()
        };
        let guessed = |part: &Undecided| part.when.clone().filter(|_| part.may_guess);
        let any = last.when.is_some() || may_guess;
        let states = last.stated.is_some();
        Undecided {
            when: any.then(|| otherwise(choices(&guessed), last.when.clone())),
            may_guess,
            stated: states.then(|| otherwise(choices(&|_| None), last.stated.clone())),
        }
    }
}

/// Undecided as soon as any part is.
fn any_of(parts: Vec<Undecided>) -> Undecided {
    // Some functions skip NULL, so that their value is made without what is absent.
    Undecided {
        may_guess: parts.iter().any(|part| part.when.is_some()),
        when: either(parts.into_iter().filter_map(|part| part.when)),
        stated: None,
    }
}

/// Undecided where a part has a value that is guessed.
fn guessed(undecided: &[Undecided], parts: &[&Expr]) -> Undecided {
    let each = undecided.iter().zip(parts);
    let guesses: Vec<Expr> = each
        .filter_map(|(undecided, part)| guess(undecided, part))
        .collect();
    Undecided {
        may_guess: !guesses.is_empty(),
        when: either(guesses),
        stated: None,
    }
}

/// That an expression is NULL though its arguments are there.
fn null_of_its_own(whole: &Expr, args: &[&Expr]) -> Option<Expr> {
    let is_literal = |arg: &&&Expr| matches!(arg, Expr::Literal(_, _));
    let args = args.iter().filter(|arg| !is_literal(arg));
    let there = args.map(|arg| (*arg).clone().is_not_null());
    conjunction(std::iter::once(whole.clone().is_null()).chain(there))
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

/// A part of an expression as messages show it.
fn shown(part: &Expr) -> String {
    match part {
        Expr::Column(column) => column.name.clone(),
        Expr::Literal(value, _) if value.is_null() => "NULL".to_owned(),
        Expr::Literal(value, _) => match value.try_as_str().flatten() {
            Some(text) => format!("'{text}'"),
            None => value.to_string(),
        },
        Expr::Cast(cast) => shown(&cast.expr),
        Expr::TryCast(cast) => {
            let (of, target) = (shown(&cast.expr), cast.field.data_type());
            format!("TRY_CAST({of} AS {target})")
        }
        Expr::ScalarFunction(call) => {
            let args: Vec<String> = call.args.iter().map(shown).collect();
            format!("{}({})", call.func.name(), args.join(", "))
        }
        part => part.human_display().to_string(),
    }
}

/// That the value of an expression is not what its rule says, and why: fields of the record that are empty,
/// and parts of it that are NULL.
pub(crate) fn hanging(sql: &str, lacking: &Lacking) -> String {
    let verb = |count: usize, one: &'static str, several: &'static str| match count {
        1 => one,
        _ => several,
    };
    let empty = lacking.empty.join(", ");
    if empty == sql.trim_matches('"') {
        return format!("`{empty}` is empty or absent");
    }
    let mut why = Vec::new();
    if !empty.is_empty() {
        let are = verb(lacking.empty.len(), "is", "are");
        why.push(format!("on {empty}, which {are} empty or absent"));
    }
    if !lacking.parts.is_empty() {
        let parts: Vec<String> = lacking.parts.iter().map(|part| quoted_sql(part)).collect();
        let (parts, have) = (parts.join(", "), verb(parts.len(), "has", "have"));
        why.push(format!("on {parts}, which {have} no value"));
    }
    let sql = quoted_sql(sql);
    format!("{sql} hangs {}", why.join(", and "))
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
