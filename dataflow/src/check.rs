//! `millrace check`: everything that can be told about a job before a record is read.
//!
//! The job file, its catalog and accounts, its mediation rules and lookup tables are all judged,
//! each as far as it can be without the others, so that one look finds every mistake.

use crate::archive::never_archived;
use crate::job::{Chosen, Job, SourcePlan};
use millrace_connectors::decode::{DecodeOptions, Decoder};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::mediate::{Mediated, MediationPlan};
use millrace_connectors::names::Names;
use millrace_connectors::reference::location::is_local;
use millrace_connectors::store::{FileMeta, Listing, Store, Unread};
use millrace_operators::domain::{Fault, FileId, Reason};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Rows of a source's first file that are looked at for fields that are empty.
const FIRST_ROWS: usize = 1_000;
/// As many rows again are looked at so often, in search of a field that none of the first has; of a file that
/// has more only the run tells.
const MORE_CHUNKS: usize = 1_000;

/// All findings about the job file at `path` and the files that it names, sorted by file and place.
#[must_use]
pub fn check(path: &Path) -> Vec<Diagnostic> {
    let (job, mut findings) = Job::judge(path);
    if let Some(job) = job {
        let names = Arc::new(Names::default());
        let rules = job.judge_rules(&names);
        let mut inside = rules.findings;
        let mut files = job.reference_files(Arc::clone(&names));
        files.foretell();
        if let Some(vocabulary) = rules.vocabulary {
            files.know(vocabulary);
        }
        inside.extend(match job.reference_topics.is_empty() {
            // Rows of a file that the job failed to name would be missed by the others.
            _ if job.unread.reference => Vec::new(),
            true => match files.load() {
                Ok(loaded) => {
                    let mut warnings = loaded.warnings;
                    warnings.extend(never_archived(&job, &loaded.reference, &names));
                    warnings
                }
                Err(found) => found,
            },
            // Brokers are not asked, and files need not agree without what they have.
            false => match files.read_alone() {
                Ok(mut warnings) => {
                    warnings.extend(files.unmet_alone());
                    warnings
                }
                Err(found) => found,
            },
        });
        // What the job file says of a place, a missing file above all, is not said again.
        let told: BTreeSet<_> = findings
            .iter()
            .map(|f| (f.file.clone(), f.line, f.column))
            .collect();
        findings.extend(inside.into_iter().filter(|f| {
            let file = Path::new(&f.file);
            let missing = f.line == 0 && is_local(file) && !file.exists();
            !missing && !told.contains(&(f.file.clone(), f.line, f.column))
        }));
        for (source, plan) in job.sources.iter().zip(&rules.plans) {
            if let Some(plan) = plan
                && source.kafka.is_none()
                && !source.path.is_empty()
                && source.is_laid_out
            {
                findings.extend(look_at(&job, source, plan));
            }
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// What the files of a source tell, without a look at more than the first. Nothing is asked of remote stores.
fn look_at(job: &Job, source: &SourcePlan, plan: &MediationPlan) -> Vec<Diagnostic> {
    let job_file = job.path.display().to_string();
    let Ok(store) = Store::open(&source.path, &job.folder) else {
        return Vec::new();
    };
    if !store.local_path().is_some_and(Path::exists) {
        return Vec::new();
    }
    let Listing { files, unread } = match store.look() {
        Ok(listing) => listing,
        Err(error) => {
            return vec![Diagnostic::error(
                &job_file,
                source.place,
                error.to_string(),
            )];
        }
    };
    let unread = unread
        .into_iter()
        .filter(|file| source.chosen.has(&file.name));
    let unread = unread.map(|Unread { name, problem }| {
        let message = format!("{name:?} is not read: {problem}");
        Diagnostic::warning(&job_file, source.place, message)
    });
    let first = files.into_iter().find(|file| source.chosen.has(&file.name));
    let mut findings: Vec<Diagnostic> = unread.collect();
    findings.extend(first_file(job, source, plan, &store, first));
    findings
}

/// What the first file of a source tells: whether it has the columns that the rule reads, in types
/// that the rule can use, and whether expressions hang on fields that are empty in its first rows.
fn first_file(
    job: &Job,
    source: &SourcePlan,
    plan: &MediationPlan,
    store: &Store,
    file: Option<FileMeta>,
) -> Vec<Diagnostic> {
    let job_file = job.path.display().to_string();
    let fault = |message: String| vec![Diagnostic::error(&job_file, source.place, message)];
    let Some(file) = file else {
        let message = match source.chosen == Chosen::default() {
            true => format!("there is no file in \"{}\" yet", source.path),
            false => format!(
                "there is no file in \"{}\" yet that `include` and `exclude` choose",
                source.path
            ),
        };
        return vec![Diagnostic::advice(&job_file, source.place, message)];
    };
    let Some(format) = source.format_of(&file.name) else {
        if store.local_path().is_some_and(Path::is_file) {
            // The job has told it of its one file.
            return Vec::new();
        }
        return fault(format!(
            "the format of \"{}\" cannot be told from its name; give the source a `format`, or leave such \
             files out with `exclude`",
            file.name
        ));
    };
    let options = DecodeOptions {
        chunk_rows: FIRST_ROWS,
        ..DecodeOptions::default()
    };
    let opened = Decoder::open(store, &file, FileId(0), &format, plan.columns(), &options);
    let mut decoder = match opened {
        Ok(decoder) => decoder,
        Err(error) => return fault(error.to_string()),
    };
    let mut mediator = match plan.mediator(decoder.schema()) {
        Ok(mediator) => mediator,
        Err(findings) => return findings,
    };
    let mut mediated = Mediated::default();
    if let Some(chunk) = decoder.next_chunk() {
        mediator.mediate(&chunk, FileId(0), &mut mediated);
    }
    let mut findings = empty_fields(&file.name, plan, &mediated);
    // A field that is rare may come later.
    let mut chooses = mediated.chooses();
    let mut lacks = Vec::new();
    for _ in 0..MORE_CHUNKS {
        if decoder.unmet().is_empty() {
            break;
        }
        let Some(chunk) = decoder.next_chunk() else {
            lacks = plan.misses(decoder.unmet(), chooses);
            break;
        };
        if !chooses {
            mediated.clear();
            mediator.mediate(&chunk, FileId(0), &mut mediated);
            chooses = mediated.chooses();
        }
    }
    // What hangs on a field that no record has is told with it.
    let named = lacks.iter().map(|unmet| format!("`{}`", unmet.field));
    let named: Vec<String> = named.collect();
    findings.retain(|finding| !named.iter().any(|name| finding.message.contains(name)));
    let told = lacks.iter();
    findings.extend(told.filter_map(|unmet| plan.tell_unmet(&file.name, unmet)));
    findings
}

/// Expressions that hang on fields which are empty in the first rows of a file, each once.
fn empty_fields(file: &str, plan: &MediationPlan, mediated: &Mediated) -> Vec<Diagnostic> {
    let mut found: BTreeMap<(&str, Reason), (u64, &Fault)> = BTreeMap::new();
    let hanging = mediated.faults.iter().filter(|fault| hangs(fault));
    for fault in hanging {
        let (count, _) = found
            .entry((fault.field.as_str(), fault.reason))
            .or_insert((0, fault));
        *count += 1;
    }
    let received = mediated.received;
    let warning = |((field, reason), (count, fault)): ((&str, Reason), (u64, &Fault))| {
        let (yaml, place) = plan.place_of(field, &fault.detail);
        let row = match fault.line {
            0 => format!("row {}", fault.record.row()),
            line => format!("line {line}"),
        };
        let message = format!(
            "{field}: {}, in {count} of the first {received} records of {file:?} ({row} is one)",
            fault.detail
        );
        Diagnostic::warning(yaml, place, message).with_hint(reason.hint())
    };
    found.into_iter().map(warning).collect()
}

/// Whether a record was set aside because an expression hangs on a field that is empty.
fn hangs(fault: &Fault) -> bool {
    match fault.reason {
        Reason::FilterUndecided
        | Reason::IdentityMissing
        | Reason::ServiceMissing
        | Reason::TimeMissing
        | Reason::AttributeUndecided => true,
        // Of records without any item, their fields are not at fault.
        Reason::QuantityMissing => fault.field != "charges",
        _ => false,
    }
}

#[cfg(test)]
mod tests;
