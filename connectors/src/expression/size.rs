//! How large an expression may be. Planning and evaluation call themselves for every level of an
//! expression, and a stack that overflows ends the process; so what is too deep is refused when it is
//! parsed, on a stack that holds it.

use super::ExpressionError;
use datafusion_sql::sqlparser::ast::{self, Visit, Visitor};
use std::ops::ControlFlow;
use std::thread;

/// The longest text of an expression. A list of some thousand values is shorter.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The most levels: operators in a row, brackets and calls inside of each other.
const LEVELS_MAX: usize = 256;
/// What the deepest tree of a text of the longest length needs, which is only reserved, not used.
const STACK_BYTES: usize = 512 << 20;
/// Texts that are shorter are never deep enough to need that.
const SHORT_BYTES: usize = 160;

/// Refuses a text that is too long to be parsed.
pub(super) fn check_text(sql: &str) -> Result<(), ExpressionError> {
    if sql.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    let (beginning, length) = (beginning(sql), sql.len());
    Err(ExpressionError::new(
        format!(
            "an expression of {length} bytes, and {TEXT_BYTES_MAX} are the most: `{beginning}`"
        ),
        "put the values into a reference table and look them up with lookup_or_null",
    ))
}

/// Refuses a tree that is too deep to be planned.
pub(super) fn check_depth(tree: &ast::Expr, sql: &str) -> Result<(), ExpressionError> {
    let mut depth = Depth { now: 0, deepest: 0 };
    let ControlFlow::Continue(()) = tree.visit(&mut depth);
    if depth.deepest <= LEVELS_MAX {
        return Ok(());
    }
    let (beginning, levels) = (beginning(sql), depth.deepest);
    Err(ExpressionError::new(
        format!("an expression of {levels} levels, and {LEVELS_MAX} are the most: `{beginning}`"),
        "write `x in ('a', 'b')` instead of many `or`, put parts of a long sum into `let`, or look \
         the values up in a reference table with lookup_or_null",
    ))
}

/// What the parser calls too deep before there is a tree: brackets, calls, `not` and `case` count.
pub(super) fn too_deep(beginning: &str) -> ExpressionError {
    ExpressionError::new(
        format!("about 50 brackets or calls inside of each other are the most: `{beginning}`"),
        "put the inner parts into `let`",
    )
}

/// As much of an expression as a message shows of one that cannot be parsed.
pub(super) fn beginning(sql: &str) -> String {
    const CHARS_MAX: usize = 240;
    match sql.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{}...", &sql[..cut]),
        None => sql.to_owned(),
    }
}

/// Does some work on a stack that is deep enough for any text that may be parsed.
pub(super) fn on_deep_stack<T: Send>(
    sql: &str,
    work: impl FnOnce() -> Result<T, ExpressionError> + Send,
) -> Result<T, ExpressionError> {
    if sql.len() <= SHORT_BYTES {
        return work();
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        let begun = thread.spawn_scoped(scope, work);
        let begun = begun.map_err(|error| {
            ExpressionError::new(format!("no thread to plan `{sql}`: {error}"), "")
        })?;
        begun.join().unwrap_or_else(|_| {
            Err(ExpressionError::new(
                format!("the planner gave up on `{sql}`"),
                "write it in another way",
            ))
        })
    })
}

struct Depth {
    now: usize,
    deepest: usize,
}

impl Visitor for Depth {
    type Break = std::convert::Infallible;

    fn pre_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<Self::Break> {
        self.now += 1;
        self.deepest = self.deepest.max(self.now);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<Self::Break> {
        self.now -= 1;
        ControlFlow::Continue(())
    }
}
