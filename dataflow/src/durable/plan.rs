//! What state is of: the job, as far as another one could not go on from it.

use crate::job::{Job, SourcePlan};
use millrace_connectors::mediate::MediationPlan;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What must be equal for state to be of use: what identities, keys and lines are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The job's name.
    pub job: String,
    /// The tenant's time zone.
    pub time_zone: String,
    /// What separates billing lines.
    pub aggregate_by: Vec<String>,
    /// The sources, by their names then, with the streams that their records are of.
    pub sources: BTreeMap<String, String>,
    /// Which of the records of one identity holds, by source.
    #[serde(default)]
    pub precedence: BTreeMap<String, String>,
}

impl Plan {
    /// The plan of a job with these rules, one per source.
    #[must_use]
    pub fn of(job: &Job, rules: &[Arc<MediationPlan>]) -> Self {
        let source = |s: &SourcePlan| (s.origin().to_owned(), s.stream.to_string());
        let ruled = job.sources.iter().zip(rules);
        let precedence =
            ruled.map(|(source, rule)| (source.origin().to_owned(), rule.precedence()));
        Self {
            job: job.name.clone(),
            time_zone: job.zone.iana_name().unwrap_or("UTC").to_owned(),
            aggregate_by: job.aggregate_by.clone(),
            sources: job.sources.iter().map(source).collect(),
            precedence: precedence.collect(),
        }
    }

    /// What keeps state of `self` from being used for `job`, in words. A source may be added.
    pub(super) fn differs_from(&self, job: &Self) -> Option<String> {
        if self.job != job.job {
            return Some(format!("it is of job {:?}, not {:?}", self.job, job.job));
        }
        if self.time_zone != job.time_zone {
            let (old, new) = (&self.time_zone, &job.time_zone);
            return Some(format!("its time zone is {old}, not {new}"));
        }
        if self.aggregate_by != job.aggregate_by {
            let (old, new) = (&self.aggregate_by, &job.aggregate_by);
            return Some(format!("its lines are separated by {old:?}, not {new:?}"));
        }
        let mut ruled = self.precedence.iter();
        let ruled = ruled.find_map(|(name, old)| {
            let new = job.precedence.get(name).filter(|new| *new != old)?;
            Some(format!(
                "its source {name:?} has taken in records of which {old} holds, not {new} (put `keep` and \
                 `version` back as they were)"
            ))
        });
        let mut sources = self.sources.iter();
        let other = sources.find_map(|(name, stream)| match job.sources.get(name) {
            None => Some(format!(
                "it has read a source {name:?}, which the job has not (give it its name again, or write \
                 `was: {name:?}` at the source that reads on where it was)"
            )),
            Some(new) if new != stream => {
                Some(format!("its source {name:?} is of {stream}, not {new}"))
            }
            Some(_) => None,
        });
        other.or(ruled)
    }
}
