//! What happens when an invariant of ours breaks: one clear line, and the whole process ends.
//!
//! A panic on one worker would leave the others waiting for it for ever, and a half-finished bill
//! looks like a bill; so nothing survives a panic.

use std::io::Write as _;
use std::panic::PanicHookInfo;

/// The exit code of a bug in millrace.
pub const EXIT_BUG: u8 = 101;

/// Makes every panic, on any thread, say what it is and end the process with [`EXIT_BUG`].
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let line = describe(panic, thread.name().unwrap_or("without a name"));
        // Nothing is left to do about a standard error that takes no text.
        writeln!(std::io::stderr(), "{line}").ok();
        std::process::exit(i32::from(EXIT_BUG));
    }));
}

fn describe(panic: &PanicHookInfo<'_>, thread: &str) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic
        .location()
        .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    say(&message.replace('\n', " "), &place, thread)
}

fn say(message: &str, place: &str, thread: &str) -> String {
    format!(
        "bug: {message}{place} (thread {thread}); this is a defect of millrace {}, not of your data: \
         nothing it wrote in this run can be relied on",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_one_line_that_says_where() {
        let line = say("a line left the range", " at rate.rs:7", "worker 1");
        assert!(line.starts_with("bug: a line left the range at rate.rs:7 (thread worker 1)"));
        assert!(!line.contains('\n'));
    }
}
