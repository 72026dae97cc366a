//! What a job archives, and where.

use super::closing::Closing;
use crate::durable::Closed;
use crate::present::Present;
use millrace_connectors::archive::{Archive, ArchiveError, Manifest, StateMark, Terms};
use millrace_connectors::output::Texts;
use millrace_connectors::reference::Reference;
use millrace_connectors::store::Store;
use millrace_operators::domain::Period;
use std::sync::Arc;

/// What a job archives, and where.
#[derive(Clone, Debug)]
pub struct ArchiveSetting {
    /// Where.
    pub store: Arc<Store>,
    /// The job's name.
    pub job: String,
    /// The run among those of a job with durable state; nothing for other jobs.
    pub generation: Option<u64>,
    /// The tenant's time zone.
    pub zone: jiff::tz::TimeZone,
    /// How long after its end a bill unit is closed.
    pub after: jiff::Span,
    /// The present of the job, by which bill units close.
    pub present: Present,
    /// The text behind keys.
    pub texts: Texts,
    /// What was forgotten before.
    pub closed: Arc<Closed>,
    /// How far the state has come that is archived from, where the job has any.
    pub state: Option<StateMark>,
}

/// A shard of a period.
pub(super) type Slot = (Period, u64);

/// An archive has one job, one calendar and one way to add up.
pub(super) fn refuse_others(
    store: &Store,
    held: &Manifest,
    (job, zone, aggregate_by): (&str, &str, &[String]),
) -> Result<(), ArchiveError> {
    let said = |what: &str, theirs: &str, ours: &str| {
        (theirs != ours).then(|| format!("its {what} is {theirs}, not {ours}"))
    };
    let (theirs, by) = (held.aggregate_by.join(", "), aggregate_by.join(", "));
    let difference = said("job", &held.job, job)
        .or_else(|| said("time zone", &held.time_zone, zone))
        .or_else(|| said("billing.aggregate_by", &theirs, &by));
    match difference {
        None => Ok(()),
        Some(difference) => Err(ArchiveError::OtherJob {
            location: store.location().to_owned(),
            difference,
        }),
    }
}

impl ArchiveSetting {
    pub(super) fn refuse_others(&self, held: &Manifest) -> Result<(), ArchiveError> {
        let ours = self.terms(held.period, 0);
        let ours = (&*ours.job, &*ours.time_zone, &*ours.aggregate_by);
        refuse_others(&self.store, held, ours)
    }

    /// What is closed in the job's present, or was before.
    pub(super) fn closing(&self, reference: &Reference, archive: &Archive) -> Closing {
        let Present { at, closes } = self.present;
        Closing::new(reference, self.zone.clone(), self.after, at)
            .behind(&self.closed.units, archive.periods())
            .that_closes(closes)
    }

    /// What the manifest of a period says besides its files.
    pub(crate) fn terms(&self, period: Period, sequence: u32) -> Terms {
        let zone = self.zone.iana_name().unwrap_or("UTC").to_owned();
        let dimensions = self.texts.dimensions.iter();
        Terms {
            job: self.job.clone(),
            period,
            sequence,
            clock: self.present.at,
            state: self.state.clone(),
            time_zone: zone,
            aggregate_by: dimensions.map(|(name, _)| name.clone()).collect(),
        }
    }
}
