//! `millrace explain`: the life of one record, from its file to its billing line.
//!
//! ```text
//!  id ─► find_record: raw row, mediation        (the intake's own decoder and rule; of a job with durable state
//!         │                                       the journal, and the rule that the record was mediated by)
//!         └─► run::read: the job's dataflow, nothing written
//!               ├─► open ratings, balance group: what the record came to, and met
//!               └─► reference data ─► guide::explain, rate::explain: who lost, and why
//! ```
//!
//! Nothing is priced here. What the record came to is read from the graph, and winners among
//! subscriptions and prices are chosen by the kernels of their stages.

mod charges;
mod choices;
mod text;
mod usage;
mod versions;

pub use charges::{BalanceTold, ChargeTold, ImpactTold, LineTold, TierTold};
pub use choices::{GuideTold, ItemPriceTold, PriceTold, SubscriptionTold};
pub use usage::UsageTold;
pub use versions::VersionTold;

use crate::durable::{DurableError, Manifest, Restored};
use crate::error::RunError;
use crate::graph::Open;
use crate::intake::{
    Fields, KeptRecords, Mediation, NotTold, RawRecord, RuleTold, TableTold, find_record,
};
use crate::job::Job;
use crate::listener::Listener;
use crate::run::{Ended, read};
use charges::Charged;
use choices::Choices;
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::MediationPlan;
use millrace_connectors::names::Names;
use millrace_connectors::output::{SuspendedUsage, Texts, status_of};
use millrace_connectors::store::Store;
use millrace_operators::charge::{Explained, Group};
use millrace_operators::domain::{Bucket, Fate, Fault, Reason, RecordId, Suspense, Usage};
use millrace_operators::rate::Rating;
use serde::Serialize;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use usage::{Found, shown, usage_told};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct ExplainRequest {
    /// The record: see [`crate::intake::find_record`].
    pub record: String,
    /// Whether every price row that lost is listed, not only the nearest.
    pub all: bool,
    /// Worker threads; as many as there are processors unless given.
    pub workers: Option<usize>,
}

/// The life of a record.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// File and line, or row in a format without lines.
    pub record: String,
    /// The job's time zone, where that is not UTC, in which instants are told.
    #[serde(skip)]
    pub zone: Option<String>,
    /// `processed`, `pending` or `failed`, as in the raw status.
    pub status: &'static str,
    /// `MONETISED`, `IGNORED`, or the code of the reason why it is neither.
    pub code: &'static str,
    /// Why it is not monetised.
    pub reason: Option<ReasonTold>,
    /// The record as it stands in its file.
    pub raw: RawTold,
    /// By what it was mediated; nothing for a job without durable state, which mediates by what is in force.
    pub rule: Option<RuleTold>,
    /// What mediation makes of it; nothing for a record that it stopped or left out.
    pub usage: Option<UsageTold>,
    /// The record that holds instead, for one that shares its identity.
    pub duplicate_of: Option<String>,
    /// All records with its identity, and which of them holds; none where it is the only one.
    pub versions: Vec<VersionTold>,
    /// Where it is, if its bill unit is closed and archived: what it was charged is known there alone.
    pub archived: Option<String>,
    /// Where it goes, and why; nothing for a record that came to no stage behind mediation.
    pub guide: Option<GuideTold>,
    /// The price of each item, and why.
    pub prices: Vec<ItemPriceTold>,
    /// The balance group's buckets, before and after; only where it is charged in order.
    pub balances: Option<Vec<BalanceTold>>,
    /// What it is charged.
    pub charges: Vec<ChargeTold>,
}

/// Why a record is not monetised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonTold {
    /// The stable code.
    pub code: &'static str,
    /// Where it was found.
    pub stage: &'static str,
    /// What to do.
    pub hint: &'static str,
    /// The item at fault.
    pub item: Option<String>,
    /// The source field, or the rule's field, at fault.
    pub field: Option<String>,
    /// What was found.
    pub detail: Option<String>,
}

/// A raw record.
#[derive(Clone, Debug, Serialize)]
pub struct RawTold {
    /// The source.
    pub source: String,
    /// The file.
    pub file: String,
    /// Its number.
    pub file_number: u32,
    /// The row, counted from 0.
    pub row: u64,
    /// The line, counted from 1, where the format has lines.
    pub line: Option<u64>,
    /// Its fields.
    pub fields: Fields,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The job cannot be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The job has no such record.
    #[error("{0}")]
    Unknown(String),
    /// The graph has neither charge nor suspense of it, and conservation says that it has.
    #[error("the job's run has lost the record; this is a bug")]
    Lost,
}

/// Explains a record of the job at `path`. Nothing is written.
///
/// # Errors
/// When the job cannot be run, or has no such record.
pub fn explain(
    path: &Path,
    request: &ExplainRequest,
    listener: &Arc<dyn Listener>,
) -> Result<Explanation, ExplainError> {
    let configuration = |findings: Vec<Diagnostic>| RunError::Configuration(findings);
    let (job, _) = Job::load(path).map_err(configuration)?;
    let names = Arc::new(Names::default());
    let rules = job.rules(&names).map_err(configuration)?;
    let (state, raw) = found_raw(&job, &rules, &request.record)?;
    let mut told = Explanation::of_raw(&job, &raw);
    told.rule = state.as_ref().map(|state| state.rule_told(raw.record));
    match raw.mediation {
        Mediation::Unknown => {
            let ended = read(path, request.workers, listener, |_| ())?;
            told.unknown(raw.record, &ended, &job);
        }
        Mediation::Ignored => told.settle(Fate::Ignored),
        Mediation::Fault(fault) => {
            // Whether it was discarded only the job knows.
            let ended = match job.durability {
                Some(_) => Some(read(path, request.workers, listener, |_| ())?),
                None => None,
            };
            let stopped = ended.iter().flat_map(|ended| ended.board.stopped());
            let discarded = stopped.filter_map(|stopped| match stopped {
                SuspendedUsage::Fault(fault) => Some(fault),
                SuspendedUsage::Suspense(_) => None,
            });
            let mut discarded = discarded.filter(|f| f.reason == Reason::Discarded);
            let found = discarded.find(|discarded| discarded.record == fault.record);
            told.stopped(&found.unwrap_or(fault));
        }
        Mediation::Usage(usage) => {
            let wanted = usage.clone();
            let ended = read(path, request.workers, listener, move |open| {
                found(open, &wanted)
            })?;
            let read_again = |record: RecordId| {
                let id = format!("{}:{}", record.file().0, record.row());
                let found = match &state {
                    Some(state) => state.find(&job, &rules, &id).ok(),
                    None => find_record(&job, &rules, &id).ok(),
                };
                match found?.mediation {
                    Mediation::Usage(usage) => Some(usage),
                    Mediation::Fault(_) | Mediation::Ignored | Mediation::Unknown => None,
                }
            };
            told.rated(&usage, ended, request, &job, read_again)?;
        }
    }
    Ok(told)
}

/// How often state is read that changes meanwhile.
const READS: u32 = 5;

/// What the state of a job knows, if it has any, and the record.
fn found_raw(
    job: &Job,
    rules: &[Arc<MediationPlan>],
    id: &str,
) -> Result<(Option<KeptRecords>, RawRecord), ExplainError> {
    let Some(plan) = &job.durability else {
        let raw = find_record(job, rules, id).map_err(ExplainError::Unknown)?;
        return Ok((None, raw));
    };
    let store = Store::open(&plan.folder, &job.folder).map_err(RunError::from)?;
    let store = Arc::new(store);
    let newest = || Manifest::newest(&store).map_err(RunError::from);
    let attempt = |manifest: Option<Manifest>| {
        let Some(manifest) = manifest else {
            let raw = find_record(job, rules, id).map_err(ExplainError::Unknown)?;
            return Ok((None, raw));
        };
        let checked = manifest.check_job(&store, &job.name);
        checked.map_err(RunError::from)?;
        let store = Arc::clone(&store);
        let kept = KeptRecords::open(job, rules, Restored { store, manifest })?;
        let raw = kept.find(job, rules, id).map_err(|error| match error {
            NotTold::Durable(error) => ExplainError::Run(error.into()),
            NotTold::Unknown(message) => ExplainError::Unknown(message),
        })?;
        Ok((Some(kept), raw))
    };
    let mut manifest = newest()?;
    for _ in 1..READS {
        let commit = manifest.as_ref().map(|manifest| manifest.commit);
        let found = attempt(manifest);
        manifest = newest()?;
        match found {
            // A run beside this one has merged or forgotten what was to be read.
            Err(ExplainError::Run(RunError::Durable(DurableError::Damaged { .. })))
                if manifest.as_ref().map(|manifest| manifest.commit) != commit => {}
            found => return found,
        }
    }
    attempt(manifest)
}

/// What a worker holds of the record.
fn found(open: &Open, usage: &Usage) -> Found {
    let mut found = Found {
        in_order: in_order(open, usage),
        versions: open.identities.versions(usage.identity),
        ..Found::default()
    };
    let mut take = |rating: &Rating| {
        if rating.record() == usage.record {
            match rating {
                Rating::Charge(charge) => found.charges.push(*charge),
                Rating::Suspense(suspense) => found.suspense = Some(*suspense),
                Rating::Priced(priced) => found.priced = Some(priced.clone()),
            }
        }
        Ok::<(), Infallible>(())
    };
    let ratings = &open.ratings;
    match ratings.visit(|service| service == usage.service, &mut take) {
        Ok(()) => found,
        Err(never) => match never {},
    }
}

/// What a worker charged the record in order.
fn in_order(open: &Open, usage: &Usage) -> Option<(Explained, Vec<Bucket>)> {
    let read = |group: &Group| {
        let explained = group.explain(usage.time, usage.record)?;
        let shown = group.buckets().filter(|bucket| !bucket.kind.is_inner());
        Some((explained, shown.collect()))
    };
    let mut groups = open.charges.groups().into_iter();
    groups.find_map(|group| open.charges.with_group(group, read).flatten())
}

impl Found {
    fn merge(parts: Vec<Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            all.charges.extend(part.charges);
            all.suspense = all.suspense.or(part.suspense);
            all.priced = all.priced.or(part.priced);
            all.in_order = all.in_order.or(part.in_order);
            all.versions.extend(part.versions);
        }
        if let Some((explained, _)) = &all.in_order {
            all.suspense = all.suspense.or(explained.suspense);
            all.charges
                .extend(explained.items.iter().map(|(charge, _)| *charge));
        }
        all
    }

    fn fate(&self) -> Option<Fate> {
        let suspended = self.suspense.map(|suspense| Fate::of(suspense.reason));
        suspended.or_else(|| (!self.charges.is_empty()).then_some(Fate::Monetised))
    }
}

impl Explanation {
    fn of_raw(job: &Job, raw: &RawRecord) -> Self {
        let zone = job.zone.iana_name();
        let mut told = Self {
            record: raw.name.clone(),
            zone: zone.filter(|zone| *zone != "UTC").map(str::to_owned),
            status: "",
            code: "",
            reason: None,
            raw: RawTold {
                source: job.sources[raw.source].name.clone(),
                file: raw.file.clone(),
                file_number: raw.record.file().0,
                row: raw.record.row(),
                line: (raw.line > 0).then_some(raw.line),
                fields: raw.fields.clone(),
            },
            rule: None,
            usage: None,
            duplicate_of: None,
            versions: Vec::new(),
            archived: None,
            guide: None,
            prices: Vec::new(),
            balances: None,
            charges: Vec::new(),
        };
        told.settle(Fate::Ignored);
        told
    }

    fn settle(&mut self, fate: Fate) {
        (self.status, self.code) = status_of(fate);
    }

    /// A record of which the journal has no usage any more, or never had.
    fn unknown(&mut self, record: RecordId, ended: &Ended<()>, job: &Job) {
        let stopped = ended.board.stopped();
        let mut stopped = stopped.filter(|stopped| stopped.record() == record);
        match stopped.next() {
            Some(SuspendedUsage::Fault(fault)) => self.stopped(&fault),
            Some(SuspendedUsage::Suspense(outvoted)) => self.outvoted(&outvoted, &ended.texts),
            None if ended.closed.has(record) => self.is_archived(job),
            None => self.settle(Fate::Ignored),
        }
    }

    /// A record of whose identity another holds.
    fn outvoted(&mut self, outvoted: &Suspense, texts: &Texts) {
        self.duplicate_of = outvoted.original.map(|first| shown(first, texts));
        self.settle(Fate::of(outvoted.reason));
        self.reason = Some(reason_told(outvoted.reason, None));
    }

    /// A record of a closed bill unit.
    fn is_archived(&mut self, job: &Job) {
        self.settle(Fate::Monetised);
        self.archived = job.archive.as_ref().map(|archive| archive.folder.clone());
    }

    fn stopped(&mut self, fault: &Fault) {
        self.settle(Fate::of(fault.reason));
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        self.reason = Some(ReasonTold {
            field: given(&fault.field),
            detail: given(&fault.detail),
            ..reason_told(fault.reason, None)
        });
    }

    fn rated(
        &mut self,
        usage: &Usage,
        ended: Ended<Found>,
        request: &ExplainRequest,
        job: &Job,
        read_again: impl Fn(RecordId) -> Option<Usage>,
    ) -> Result<(), ExplainError> {
        let Ended {
            board,
            reference,
            texts,
            parts,
            closed,
            ..
        } = ended;
        let class = texts.names.class(usage.class).ok_or(ExplainError::Lost)?;
        self.usage = Some(usage_told(usage, &class, &texts.names));
        let mut found = Found::merge(parts);
        let versions = std::mem::take(&mut found.versions);
        self.versions = versions::told(versions, usage, read_again, &texts);
        if usage.is_passed_over() {
            self.usage = None;
            self.settle(Fate::Ignored);
            return Ok(());
        }
        if let Some(outvoted) = board.outvoted(usage.record) {
            self.outvoted(&outvoted, &texts);
            return Ok(());
        }
        if closed.has(usage.record) && found.fate().is_none() {
            self.is_archived(job);
            return Ok(());
        }
        self.settle(found.fate().ok_or(ExplainError::Lost)?);
        if let Some(suspense) = &found.suspense {
            let item = suspense.item.map(|item| texts.names.text(item).to_string());
            self.reason = Some(reason_told(suspense.reason, item));
        }
        let choices = Choices {
            texts: &texts,
            reference: &reference,
            class: &class,
            all: request.all,
        };
        let (guide, prices) = choices.told(usage);
        (self.guide, self.prices) = (Some(guide), prices);
        let mut ledger = Charged::new(&texts, &reference, &board, job);
        self.balances = ledger.balances(&found, usage);
        self.charges = ledger.charges(&found, &class);
        texts.names.check().map_err(RunError::from)?;
        Ok(())
    }
}

fn reason_told(reason: Reason, item: Option<String>) -> ReasonTold {
    ReasonTold {
        code: reason.code(),
        stage: reason.stage().name(),
        hint: reason.hint(),
        item,
        field: None,
        detail: None,
    }
}
