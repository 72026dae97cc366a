//! Whether the archive is the one that the state goes on from.
//!
//! What is archived is forgotten, so whoever adjusts it believes the archive. One that is empty, or an older
//! copy, would bill a late record alone in the place of everything that was billed before.
//!
//! ```text
//!  the state knows       the archive has
//!  ──────────────────────────────────────────────────────────────
//!  a period, up to n     it up to n or more, the same up to n      goes on; more is of a run that was cut off
//!                        less, or another                          refused: put it back
//!  anything              what was written from a later state       refused: put the state back
//!  anything              what was written without state            refused: archive anew
//!  (there is none)       what was written from state               refused: put `durability` back
//!                        what was written from another state       refused: put that state back
//! ```

use super::setting::refuse_others;
use crate::durable::{Closed, KnownPeriod, Manifest, Object};
use crate::error::RunError;
use crate::job::Job;
use millrace_connectors::archive::{Archive, ArchiveError, ArchivedPeriod};
use millrace_connectors::store::Store;
use std::sync::Arc;

/// What is said where the state has forgotten what a job does not name any more.
pub(crate) const UNNAMED: &str = "the state has forgotten closed bill units, and the job does not say any more where they \
                                  are archived; write `archive: { folder: … }` as it was";

/// How often the two are compared while a run under way moves on.
const LOOKS: u32 = 16;

/// What the state says is closed, by the object that says so: whoever needs it next need not decode it again.
pub(crate) type Compared = Option<(Object, Closed)>;

/// Compares the archive of a job with its newest commit, before a run takes over.
///
/// # Errors
/// When they do not go together, or the archive cannot be read.
pub(crate) fn compare(job: &Job, state: &Store) -> Result<Compared, RunError> {
    let newest = || Ok::<_, RunError>(Manifest::newest(state)?.unwrap_or_default());
    let mut manifest = newest()?;
    let mut compared = compare_with(job, state, &manifest);
    for _ in 1..LOOKS {
        // What a run under way has archived since is of a later commit.
        let now = newest()?;
        if compared.is_ok() || now.commit == manifest.commit {
            break;
        }
        manifest = now;
        compared = compare_with(job, state, &manifest);
    }
    compared
}

fn compare_with(job: &Job, state: &Store, manifest: &Manifest) -> Result<Compared, RunError> {
    // An object that is damaged, or that a run under way has replaced, is told by whoever takes over.
    let Ok(closed) = Closed::of(state, manifest) else {
        return Ok(None);
    };
    match &job.archive {
        None if closed.periods.is_empty() => {}
        None => return Err(RunError::Start(UNNAMED.to_owned())),
        Some(plan) => {
            let archive = Archive::of(Arc::new(Store::open(&plan.folder, &job.folder)?))?;
            let periods = archive.open_all()?;
            if let Some(newest) = periods.last() {
                let zone = job.zone.iana_name().unwrap_or("UTC");
                let ours = (job.name.as_str(), zone, job.aggregate_by.as_slice());
                refuse_others(archive.store(), newest.manifest(), ours)?;
            }
            check_periods(&archive, &periods, &closed, manifest)?;
        }
    }
    Ok(manifest.closed.clone().map(|object| (object, closed)))
}

/// Makes sure that the archive of a job without state is none's, before anything is written.
///
/// # Errors
/// When it was written from state, or cannot be read.
pub(crate) fn refuse_state(job: &Job) -> Result<(), RunError> {
    let Some(plan) = &job.archive else {
        return Ok(());
    };
    let archive = Archive::of(Arc::new(Store::open(&plan.folder, &job.folder)?))?;
    let Some(newest) = archive.periods().next_back() else {
        return Ok(());
    };
    let newest = archive.period(newest)?;
    let written = newest.written_from().flatten().next();
    written.map_or(Ok(()), |_| {
        let location = archive.store().location().to_owned();
        Err(ArchiveError::Stateful { location }.into())
    })
}

/// Makes sure that an archive has what the state knows, and nothing that state to come would know. A job
/// without state has nothing to compare.
///
/// # Errors
/// When it has not, or cannot be read.
pub(super) fn check(
    archive: &Archive,
    closed: &Closed,
    state: &Manifest,
) -> Result<(), ArchiveError> {
    check_periods(archive, &archive.open_all()?, closed, state)
}

fn check_periods(
    archive: &Archive,
    periods: &[ArchivedPeriod],
    closed: &Closed,
    state: &Manifest,
) -> Result<(), ArchiveError> {
    let location = || archive.store().location().to_owned();
    let refused = |lacking: String| {
        let location = location();
        Err(ArchiveError::Lacks { location, lacking })
    };
    for (period, KnownPeriod { sequence, .. }) in &closed.periods {
        match archive.sequence(*period) {
            None => return refused(format!("it has nothing of {period}")),
            Some(last) if last < *sequence => {
                let lacking = format!("it has {period} up to adjustment {last}, not {sequence}");
                return refused(lacking);
            }
            Some(_) => {}
        }
    }
    for period in periods {
        let bounds = period.period();
        let known = closed.periods.get(&bounds);
        if known.is_some_and(|known| period.digest(known.sequence) != known.digest) {
            return refused(format!("{bounds} is not what was archived"));
        }
        for written in period.written_from() {
            let Some(written) = written else {
                return Err(ArchiveError::Stateless {
                    location: location(),
                    period: bounds,
                });
            };
            if written.name != state.state {
                let location = location();
                return Err(ArchiveError::OtherState { location });
            }
            if written.live > state.live {
                return Err(ArchiveError::Ahead {
                    location: location(),
                    archived: written.live,
                    live: state.live,
                });
            }
        }
        archive.check_files(period)?;
    }
    Ok(())
}
