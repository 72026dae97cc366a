//! The binary `millrace`; everything it can do is in the library.

use millrace::cli::main_with;
use millrace::console::{Console, Surroundings};
use millrace::crash::end_process_on_panic;
use std::io::{BufWriter, stderr, stdout};
use std::process::ExitCode;

/// Workers, sources and sinks allocate and free small things from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    end_process_on_panic();
    // Neither stream is locked: a panic on another thread must be able to speak.
    let (mut out, mut err) = (BufWriter::new(stdout()), stderr());
    let mut console = Console::new(&mut out, &mut err, Surroundings::of_process());
    main_with(std::env::args_os(), &mut console).into()
}
