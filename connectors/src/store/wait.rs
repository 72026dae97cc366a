//! The runtime of all buckets of the process, with one thread: it only moves bytes.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

/// Waits, on a thread of a caller who blocks, for what the runtime brings.
pub(super) fn wait<F: Future>(future: F) -> io::Result<F::Output> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object-store")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    match runtime {
        Ok(runtime) => Ok(runtime.block_on(future)),
        Err(error) => Err(io::Error::other(error.clone())),
    }
}
