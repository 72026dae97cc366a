//! A shield around libraries that read what others wrote.
//!
//! Readers of arrow, Parquet and Avro and the evaluation of expressions panic now and then on bytes
//! that nobody has foreseen. Behind the shield such a panic is an error like any other: one file or
//! one row is told, the others go on. A panic outside of the shield is a defect of ours and ends the
//! process; its hook asks [`is_up`] to tell the two apart.
//!
//! What the shield does not hold: a stack that overflows and memory that the system refuses end the
//! process at once. So depth is limited where an expression is parsed, and sizes that a file declares
//! are compared with its bytes before they are believed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A panic that the shield held, by its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its reader gave up on it ({message})")]
pub struct Panicked {
    /// What the panic said, in one line.
    pub message: String,
}

/// Does some work whose panic is an error. What the work has in its hands may be half changed
/// afterwards and must not be used again.
///
/// # Errors
/// When the work panics.
pub fn shielded<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let done = catch_unwind(AssertUnwindSafe(work));
    DEPTH.with(|depth| depth.set(depth.get() - 1));
    done.map_err(|payload| Panicked {
        message: said(&*payload),
    })
}

/// Whether a panic on this thread would be held.
#[must_use]
pub fn is_up() -> bool {
    DEPTH.with(Cell::get) > 0
}

fn said(payload: &(dyn Any + Send)) -> String {
    const CHARS_MAX: usize = 200;
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message").replace('\n', " ");
    text.chars().take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_behind_the_shield_is_an_error() {
        assert_eq!(shielded(|| 7), Ok(7));
        let held = shielded(|| {
            assert!(is_up());
            let inner = shielded(|| panic!("inner"));
            assert!(is_up() && inner.is_err());
            panic!("no\nvalue {}", 1)
        });
        assert_eq!(held.map(|()| 0).unwrap_err().message, "no value 1");
        assert!(!is_up());
    }
}
