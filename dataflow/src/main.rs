//! The binary `millrace`; everything it can do is in the library.

use millrace::allocator::settle_memory;
use millrace::cli::main_with;
use millrace::console::{Console, Surroundings, Talk};
use millrace::crash::end_process_on_panic;
use std::io::{BufWriter, stderr, stdout};
use std::process::ExitCode;

/// Workers, sources and sinks allocate and free small things from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    settle_memory();
    end_process_on_panic();
    // Standard error is not locked: a panic on another thread must be able to speak.
    let mut out = BufWriter::new(stdout());
    let mut console = Console::new(&mut out, Talk::on(stderr()), Surroundings::of_process());
    main_with(std::env::args_os(), &mut console).into()
}
