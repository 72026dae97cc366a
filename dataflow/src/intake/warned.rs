//! What was said of the configuration that is in force, and of what is not for its faults.

use millrace_connectors::diagnostic::Diagnostic;

/// Findings by what they are about: each is judged again on its own.
#[derive(Clone, Debug, Default)]
pub struct Warned {
    /// The job file.
    pub job: Vec<Diagnostic>,
    /// Mediation rules and the tables that they ask.
    pub rules: Vec<Diagnostic>,
    /// Catalog and accounts.
    pub reference: Vec<Diagnostic>,
    /// What files lack that rules read.
    pub files: Vec<Diagnostic>,
}

impl Warned {
    /// All of them, in the order of files and places.
    #[must_use]
    pub fn all(&self) -> Vec<Diagnostic> {
        let parts = [&self.job, &self.rules, &self.reference, &self.files];
        let mut all: Vec<Diagnostic> = parts.into_iter().flatten().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Those for which money may be wrong.
    #[must_use]
    pub fn about_money(&self) -> Vec<Diagnostic> {
        let mut all = self.all();
        all.retain(Diagnostic::is_about_money);
        all
    }
}
