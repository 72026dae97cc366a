//! Jobs run from files, as the command line runs them, with nobody to talk to.

use millrace::interrupt::Stop;
use millrace::listener::{ChangeReport, Listener};
use millrace::metrics::Metrics;
use millrace::report::Summary;
use millrace::run::{RunOptions, run};
use millrace_connectors::diagnostic::Diagnostic;
use std::path::Path;
use std::sync::Arc;

/// Tests look at results, not at what is said on the way.
struct Unheard;

impl Listener for Unheard {
    fn message(&self, _: &str) {}
    fn warned(&self, _: &[Diagnostic]) {}
    fn rejected(&self, _: &[Diagnostic]) {}
    fn changed(&self, _: &ChangeReport) {}
    fn settled(&self) {}
}

/// Runs the job at `path` to its end, its outputs under `out`.
///
/// # Panics
/// When the job cannot run: the test has then failed.
#[must_use]
pub(crate) fn run_quietly(path: &Path, workers: usize, out: &Path) -> Summary {
    let options = RunOptions {
        workers: Some(workers),
        out: Some(out.to_owned()),
        ..RunOptions::default()
    };
    let listener: Arc<dyn Listener> = Arc::new(Unheard);
    run(path, &options, &Metrics::new(), &listener, &Stop::default())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
