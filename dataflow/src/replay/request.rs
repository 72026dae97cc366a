//! What a replay is asked for, judged against the archive.

use jiff::tz::TimeZone;
use millrace_connectors::archive::{Archive, ArchiveError, ArchivedPeriod};
use millrace_connectors::diagnostic::{Diagnostic, did_you_mean};
use millrace_connectors::names::Names;
use millrace_connectors::reference::{Reference, ReferenceFiles, moment};
use millrace_operators::domain::{EventTime, Period};
use millrace_operators::epoch::SHARDS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn workers(asked: Option<usize>) -> Result<usize, ReplayError> {
    let most = usize::try_from(SHARDS).unwrap_or(1);
    match asked {
        Some(asked) if !(1..=most).contains(&asked) => {
            let message = format!("a replay has from 1 to {most} workers, not {asked}");
            Err(ReplayError::Request(message))
        }
        Some(asked) => Ok(asked),
        None => Ok(std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(most)),
    }
}

/// The periods that are asked for.
pub(super) fn periods(
    request: &ReplayRequest,
    archive: &Archive,
    zone: &TimeZone,
) -> Result<Vec<ArchivedPeriod>, ReplayError> {
    let date = |text: &Option<String>, open: EventTime| match text {
        None => Ok(open),
        Some(text) => moment(text, zone).ok_or_else(|| {
            let hint = "write a date, 2026-03-31, or an instant, 2026-03-31T12:00:00Z";
            ReplayError::Request(format!("\"{text}\" is no instant; {hint}"))
        }),
    };
    let from = date(&request.from, EventTime::MIN)?;
    let to = date(&request.to, EventTime::MAX)?;
    let range = Period::new(from, to)
        .ok_or_else(|| ReplayError::Request("--from must be before --to".to_owned()))?;
    let wanted: Vec<Period> = archive
        .periods()
        .filter(|period| period.overlaps(range))
        .collect();
    if wanted.is_empty() {
        let (first, last) = (archive.periods().next(), archive.periods().next_back());
        let held = first.zip(last);
        let held = held.map(|(first, last)| format!("{} to {}", first.start(), last.end()));
        let held = held.unwrap_or_default();
        let message = format!("the archive has no closed period in {range}; it has {held}");
        return Err(ReplayError::Request(message));
    }
    let opened = wanted.into_iter().map(|period| Ok(archive.period(period)?));
    opened.collect()
}

/// The accounts that are asked for; nothing for all. Every one must be in one of the periods.
pub(super) fn asked(
    request: &ReplayRequest,
    periods: &[ArchivedPeriod],
) -> Result<Option<BTreeSet<String>>, ReplayError> {
    if request.names.is_empty() {
        return Ok(None);
    }
    for name in &request.names {
        let mut found = false;
        for period in periods {
            found = found || period.find(name)?.is_some();
        }
        if !found {
            let mut known = BTreeSet::new();
            for period in periods {
                for shard in period.shards() {
                    known.extend(period.accounts(shard)?.into_keys());
                }
            }
            let hint = match did_you_mean(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("; did you mean \"{meant}\"?"),
                None if Path::new(name).is_file() => {
                    "; a file is given by --accounts-file".to_owned()
                }
                None => String::new(),
            };
            let message = format!("the archived periods have no account \"{name}\"{hint}");
            return Err(ReplayError::Request(message));
        }
    }
    Ok(Some(request.names.iter().cloned().collect()))
}

/// What is given in the place of what the archive keeps.
pub(super) struct Given {
    pub(super) catalog: Option<Reference>,
    pub(super) accounts: Option<Reference>,
}

impl Given {
    /// Reads the files; everything wrong with them is told at once.
    pub(super) fn load(
        request: &ReplayRequest,
        zone: &TimeZone,
        names: &Arc<Names>,
    ) -> Result<Self, ReplayError> {
        let load = |catalogs: &[PathBuf], accounts: &[PathBuf]| {
            let (catalogs, accounts) = (catalogs.to_vec(), accounts.to_vec());
            let mut files =
                ReferenceFiles::new(catalogs, accounts, zone.clone(), Arc::clone(names));
            let loaded = files.load().map_err(ReplayError::Configuration)?;
            Ok::<Reference, ReplayError>(loaded.reference)
        };
        let (catalogs, accounts) = (&request.catalogs, &request.accounts);
        Ok(match (catalogs.is_empty(), accounts.is_empty()) {
            (true, true) => Self {
                catalog: None,
                accounts: None,
            },
            (false, true) => Self {
                catalog: Some(load(catalogs, &[])?),
                accounts: None,
            },
            (true, false) => Self {
                catalog: None,
                accounts: Some(load(&[], accounts)?),
            },
            (false, false) => {
                let both = load(catalogs, accounts)?;
                Self {
                    catalog: Some(both.clone()),
                    accounts: Some(both),
                }
            }
        })
    }

    /// The reference data of a period, as far as the accounts of `shards` need it.
    pub(super) fn over(
        &self,
        period: &ArchivedPeriod,
        shards: Option<&BTreeSet<u64>>,
        names: &Names,
    ) -> Result<Reference, ArchiveError> {
        let mut reference = match (&self.catalog, &self.accounts) {
            (Some(_), Some(accounts)) => accounts.clone(),
            _ => period.reference(shards, names)?,
        };
        if let Some(catalog) = &self.catalog {
            reference.prices.clone_from(&catalog.prices);
            reference.plans.clone_from(&catalog.plans);
        }
        if let Some(accounts) = &self.accounts {
            reference.accounts.clone_from(&accounts.accounts);
            reference.subscriptions.clone_from(&accounts.subscriptions);
            reference.services.clone_from(&accounts.services);
        }
        reference.name_groups(names);
        Ok(reference)
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct ReplayRequest {
    /// The archive: a folder or a URL.
    pub archive: String,
    /// Catalog files; what the archive keeps of them unless given.
    pub catalogs: Vec<PathBuf>,
    /// Accounts files; what the archive keeps of them unless given.
    pub accounts: Vec<PathBuf>,
    /// Periods that end after this date or instant; all unless given.
    pub from: Option<String>,
    /// Periods that begin before this date or instant; all unless given.
    pub to: Option<String>,
    /// The accounts; all unless given.
    pub names: Vec<String>,
    /// Worker threads; as many as there are processors unless given.
    pub workers: Option<usize>,
}

/// Why there is no replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The catalog or the accounts do not hold.
    #[error("the configuration has {} errors", .0.iter().filter(|finding| finding.is_error()).count())]
    Configuration(Vec<Diagnostic>),
    /// The archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What is asked for does not fit the archive.
    #[error("{0}")]
    Request(String),
}
