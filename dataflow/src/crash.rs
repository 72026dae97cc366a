//! What happens when an invariant of ours breaks: one clear line, and the whole process ends.
//!
//! A panic on one worker would leave the others waiting for it for ever, and a half-finished bill
//! looks like a bill; so nothing survives a panic. The exception is a panic inside of a library that
//! reads a file for us, which is a finding about that file: see [`millrace_connectors::shield`].

mod crashes;

pub use crashes::{Crashes, Subject};

use crate::shown::shown;
use millrace_connectors::redact::redacted;
use millrace_connectors::shield::is_up;
use millrace_connectors::store::abort_uploads;
use std::io::Write as _;
use std::panic::PanicHookInfo;

/// The exit code of a process that has lost the others, or finds that nothing moves: start all again.
pub const EXIT_LOST: u8 = 3;

/// The exit code of a bug in millrace.
pub const EXIT_BUG: u8 = 101;

/// Ends the process with one line. What buckets have of objects that are being sent is taken away.
pub fn end_process(line: &str, code: u8) -> ! {
    // Nothing is left to do about a standard error that takes no text.
    writeln!(std::io::stderr(), "{}", shown(&redacted(line))).ok();
    abort_uploads();
    std::process::exit(i32::from(code))
}

/// Makes every panic, on any thread, say what it is and end the process with [`EXIT_BUG`].
pub fn end_process_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        if is_up() {
            return; // told with the file or row that it was about
        }
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        match lost(panic.payload_as_str().unwrap_or(""), thread) {
            Some(line) => end_process(&line, EXIT_LOST),
            None => {
                crashes::tell();
                end_process(&describe(panic, thread), EXIT_BUG)
            }
        }
    }));
}

/// What a panic says of a process that is gone, where it is one of those with which timely tells so.
fn lost(message: &str, thread: &str) -> Option<String> {
    // Its threads are named after the process at the other end; workers only find their queues broken.
    let other = thread.strip_prefix("timely:recv-");
    let other = other.or_else(|| thread.strip_prefix("timely:send-"));
    let broken = message.contains("MergeQueue poisoned");
    let whom = match other {
        Some(other) => format!("process {other}"),
        None if broken => "another process".to_owned(),
        None => return None,
    };
    let reason = message
        .rsplit_once("error: ")
        .map_or(message, |(_, reason)| reason);
    Some(format!(
        "lost {whom}: {reason}; this process ends too: start all of them again"
    ))
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
    fn a_process_that_is_gone_is_no_bug() {
        let message = "timely communication error: reading data: socket closed";
        let line = lost(message, "timely:recv-2").unwrap();
        assert!(
            line.starts_with("lost process 2: reading data: socket closed"),
            "{line}"
        );
        assert!(lost("MergeQueue poisoned.", "timely:work-0").is_some());
        assert_eq!(lost("a line left the range", "timely:work-0"), None);
    }

    #[test]
    fn a_bug_is_one_line_that_says_where() {
        let line = say("a line left the range", " at rate.rs:7", "worker 1");
        assert!(line.starts_with("bug: a line left the range at rate.rs:7 (thread worker 1)"));
        assert!(!line.contains('\n'));
    }
}
