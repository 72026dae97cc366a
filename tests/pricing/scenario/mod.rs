//! The language of scenarios, and the report that answers them.

pub(crate) mod language;
pub(crate) mod report;
