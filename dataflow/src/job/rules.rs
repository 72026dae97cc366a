//! The mediation rules of a job and the tables that they look things up in, compiled: one set for
//! `check`, for a run, and for every time that a rule or a table is saved while the job runs.

use super::file::IdentityScope;
use super::{DIMENSIONS, Job, LookupPlan, RuleSource, SourcePlan};
use millrace_connectors::diagnostic::{Diagnostic, did_you_mean};
use millrace_connectors::lookup::{LookupTable, Lookups};
use millrace_connectors::mediate::lookups::{columns_looked_up, says_what_it_looks_up};
use millrace_connectors::mediate::{MediationPlan, MediationRule, Treatment};
use millrace_connectors::names::Names;
use millrace_connectors::reference::Vocabulary;
use millrace_connectors::reference::location::{is_local, read_text};
use millrace_connectors::reference::yaml::read;
use millrace_connectors::store::Store;
use millrace_connectors::stream::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The rules of a job that work, and all that was found wrong with the others.
#[derive(Debug)]
pub struct Rules {
    /// One plan per source, in the order of the job; `None` for a rule with an error.
    pub plans: Vec<Option<Arc<MediationPlan>>>,
    /// Errors and warnings.
    pub findings: Vec<Diagnostic>,
    /// What the rules call things, if all of them can be read.
    pub vocabulary: Option<Vocabulary>,
}

/// The rules of a job, all of which work.
#[derive(Debug)]
pub struct WorkingRules {
    /// One plan per source, in the order of the job.
    pub plans: Vec<Arc<MediationPlan>>,
    /// What they call things.
    pub vocabulary: Vocabulary,
    /// What somebody should look at nevertheless.
    pub warnings: Vec<Diagnostic>,
}

/// A rule and the file that it stands in.
struct Written {
    rule: MediationRule,
    file: String,
}

impl Job {
    /// The local files that rules and their lookup tables stand in: saving one calls for
    /// compiling the rules again.
    #[must_use]
    pub fn rule_files(&self) -> BTreeSet<std::path::PathBuf> {
        let rules = self
            .sources
            .iter()
            .filter_map(|source| match &source.mediation {
                RuleSource::File(path) => is_local(path).then(|| path.clone()),
                RuleSource::Inline(_) => None,
            });
        let local = |file: &String| {
            let store = Store::open(file, &self.folder).ok()?;
            store.local_path().map(std::path::Path::to_owned)
        };
        rules
            .chain(self.lookups.iter().filter_map(|lookup| local(&lookup.file)))
            .collect()
    }

    /// The file that the rule of a source stands in.
    #[must_use]
    pub fn rule_path<'j>(&'j self, source: &'j SourcePlan) -> &'j std::path::Path {
        match &source.mediation {
            RuleSource::File(path) => path,
            RuleSource::Inline(_) => &self.path,
        }
    }

    /// Compiles the rules as their files are now; texts are entered in `names`.
    ///
    /// # Errors
    /// All findings, when at least one is an error; whatever was in force stays.
    pub fn rules(&self, names: &Arc<Names>) -> Result<Vec<Arc<MediationPlan>>, Vec<Diagnostic>> {
        self.working_rules(names).map(|rules| rules.plans)
    }

    /// As [`Self::rules`], with what the rules call things, and what is said of them.
    ///
    /// # Errors
    /// As [`Self::rules`].
    pub fn working_rules(&self, names: &Arc<Names>) -> Result<WorkingRules, Vec<Diagnostic>> {
        let rules = self.judge_rules(names);
        let errors = rules.findings.iter().any(Diagnostic::is_error);
        match (rules.plans.into_iter().collect(), rules.vocabulary) {
            (Some(plans), Some(vocabulary)) if !errors => Ok(WorkingRules {
                plans,
                vocabulary,
                warnings: rules.findings,
            }),
            _ => Err(rules.findings),
        }
    }

    /// As many of the rules as work, with everything found wrong.
    #[must_use]
    pub fn judge_rules(&self, names: &Arc<Names>) -> Rules {
        let mut findings = Vec::new();
        let written: Vec<Option<Written>> = self
            .sources
            .iter()
            .map(|source| self.rule(source, &mut findings))
            .collect();
        let vocabulary = self.vocabulary(&written);
        if let Some(vocabulary) = &vocabulary {
            findings.extend(self.unknown_dimensions(vocabulary));
            findings.extend(self.idle_lookups(&written.iter().flatten().collect::<Vec<_>>()));
        }
        let (lookups, unloaded) = self.lookups(written.iter().flatten(), &mut findings);
        let lookups = Arc::new(lookups);
        let of_sources = self.sources.iter().zip(&written);
        let correctable = of_sources.filter(|(source, written)| {
            let decides = written
                .as_ref()
                .is_some_and(|written| written.rule.decides());
            source.corrections || source.amends || decides
        });
        let correctable: BTreeSet<StreamId> = correctable
            .map(|(source, _)| source.stream.clone())
            .collect();
        let mut plans = Vec::new();
        for (source, written) in self.sources.iter().zip(written) {
            let own = source.identity == Some(IdentityScope::Own);
            let treatment = Treatment {
                source: own.then(|| source.origin().to_owned()),
                corrects: source.corrections,
                correctable: correctable.contains(&source.stream),
            };
            // A rule that needs a table which could not be loaded has nothing wrong of its own.
            let whole = written.filter(|written| {
                !columns_looked_up(&written.rule)
                    .keys()
                    .any(|table| unloaded.contains(table))
            });
            let plan = whole
                .and_then(|written| self.plan(source, &written, &lookups, names, &mut findings));
            plans.push(plan.map(|plan| Arc::new(plan.treated(treatment))));
        }
        findings.extend(self.identities(&plans));
        findings.extend(self.scopes(&plans));
        findings.sort();
        findings.dedup();
        Rules {
            plans,
            findings,
            vocabulary,
        }
    }

    /// What the rules call things; nothing where one of them cannot be read.
    fn vocabulary(&self, written: &[Option<Written>]) -> Option<Vocabulary> {
        let types = self.sources.iter().map(|s| s.stream.service_type.as_str());
        if self.unread.sources || written.is_empty() || types.clone().any(str::is_empty) {
            return None;
        }
        let rules: Option<Vec<&Written>> = written.iter().map(Option::as_ref).collect();
        let rules = rules?.into_iter();
        let rules = rules.map(|written| (written.file.as_str(), &written.rule));
        Some(Vocabulary::of(types.zip(rules)))
    }

    /// What should separate billing lines, and is no attribute of any rule.
    fn unknown_dimensions(&self, vocabulary: &Vocabulary) -> Vec<Diagnostic> {
        let mut known = vocabulary.attributes();
        known.extend(DIMENSIONS);
        let file = self.path.display().to_string();
        let unknown = self.aggregate_by.iter().zip(&self.aggregate_places);
        let unknown = unknown.filter(|(name, _)| !known.contains(name.as_str()));
        let finding = |(name, place): (&String, &(u64, u64))| {
            let message = format!("no mediation rule defines the attribute \"{name}\"");
            let hint = match did_you_mean(name, known.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => {
                    let known: Vec<&str> = known.iter().copied().collect();
                    format!("lines are separated by one of {}", known.join(", "))
                }
            };
            Diagnostic::error(&file, *place, message).with_hint(hint)
        };
        unknown.map(finding).collect()
    }

    /// Lookup tables that no rule asks.
    fn idle_lookups(&self, rules: &[&Written]) -> Vec<Diagnostic> {
        let asked = rules
            .iter()
            .flat_map(|written| columns_looked_up(&written.rule).into_keys());
        let asked: BTreeSet<String> = asked.collect();
        let known = |table: &String| self.lookups.iter().any(|lookup| lookup.name == *table);
        let clear = rules
            .iter()
            .all(|written| says_what_it_looks_up(&written.rule));
        // A table that is asked by another name, or in another order, is not idle.
        if !clear || !asked.iter().all(known) {
            return Vec::new();
        }
        let file = self.path.display().to_string();
        let idle = self
            .lookups
            .iter()
            .filter(|lookup| !asked.contains(&lookup.name));
        let finding = |lookup: &LookupPlan| {
            let message = format!(
                "no mediation rule asks the lookup table \"{}\"",
                lookup.name
            );
            let hint = "leave it out, or ask it with `lookup()` in a rule";
            Diagnostic::advice(&file, lookup.place, message).with_hint(hint)
        };
        idle.map(finding).collect()
    }

    fn rule(&self, source: &SourcePlan, findings: &mut Vec<Diagnostic>) -> Option<Written> {
        let path = match &source.mediation {
            RuleSource::Inline(_) if !source.is_whole => return None,
            RuleSource::Inline(rule) => {
                let (rule, file) = ((**rule).clone(), self.path.display().to_string());
                return Some(Written { rule, file });
            }
            RuleSource::File(path) => path,
        };
        let file = path.display().to_string();
        match read_text(path, "the mediation rule") {
            Ok(text) => {
                let mut read = read::<MediationRule>(&file, &text);
                let sound = read.findings.is_empty();
                findings.append(&mut read.findings);
                read.value
                    .filter(|_| sound)
                    .map(|rule| Written { rule, file })
            }
            Err(finding) => {
                findings.push(finding);
                None
            }
        }
    }

    /// The tables with the columns that the rules ask for, and the names of those that could not be
    /// loaded.
    fn lookups<'w>(
        &self,
        rules: impl Iterator<Item = &'w Written>,
        findings: &mut Vec<Diagnostic>,
    ) -> (Lookups, BTreeSet<String>) {
        let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Written { rule, .. } in rules {
            for (table, mut columns) in columns_looked_up(rule) {
                asked.entry(table).or_default().append(&mut columns);
            }
        }
        let mut tables = Vec::new();
        let mut unloaded = self.unread.lookups.clone();
        let known = self.lookups.iter();
        for lookup in known.filter(|lookup| !self.unread.lookups.contains(&lookup.name)) {
            let columns: Vec<String> = asked
                .remove(&lookup.name)
                .unwrap_or_default()
                .into_iter()
                .collect();
            let loaded = Store::open(&lookup.file, &self.folder)
                .and_then(|store| Ok((store.list()?, store)))
                .map_err(|error| error.to_string())
                .and_then(|(files, store)| match files.as_slice() {
                    [file] => {
                        LookupTable::load(&store, file, &lookup.format, &lookup.key, &columns)
                            .map_err(|error| error.to_string())
                    }
                    _ => Err(format!("\"{}\" is not one file", lookup.file)),
                });
            match loaded {
                Ok(table) => tables.push((lookup.name.clone(), Arc::new(table))),
                Err(message) => {
                    let message = format!("the lookup table \"{}\": {message}", lookup.name);
                    let job = self.path.display().to_string();
                    findings.push(Diagnostic::error(&job, lookup.place, message));
                    unloaded.insert(lookup.name.clone());
                }
            }
        }
        (Lookups::new(tables), unloaded)
    }

    fn plan(
        &self,
        source: &SourcePlan,
        written: &Written,
        lookups: &Arc<Lookups>,
        names: &Arc<Names>,
        findings: &mut Vec<Diagnostic>,
    ) -> Option<MediationPlan> {
        let (rule, file) = (&written.rule, written.file.as_str());
        let stream = source.stream.clone();
        let names = Arc::clone(names);
        let compiled = MediationPlan::compile(stream, rule, file, lookups, names, &self.times);
        let plan = match compiled {
            Ok(plan) => plan,
            Err(mut faults) => {
                findings.append(&mut faults);
                return None;
            }
        };
        // Types of a typed format are known when a file is opened, not before.
        let typed = source
            .format_of(&source.path)
            .is_some_and(|format| format.is_typed());
        let sound = typed || self.type_checks(source, &plan, findings);
        // What a rule with an error does not read, it may read when that is mended.
        sound.then(|| {
            findings.extend_from_slice(plan.warnings());
            plan
        })
    }

    /// What is wrong with how the sources of a stream decide between records of one identity.
    fn identities(&self, plans: &[Option<Arc<MediationPlan>>]) -> Vec<Diagnostic> {
        let job = self.path.display().to_string();
        let mut findings = Vec::new();
        let known = self.sources.iter().zip(plans);
        let known: Vec<_> = known
            .filter_map(|(source, plan)| Some((source, plan.as_ref()?)))
            .filter(|(source, _)| has_stream(source))
            .collect();
        for (at, (source, plan)) in known.iter().enumerate() {
            if (source.corrections || source.amends) && !plan.has_identity() {
                let what = match source.corrections {
                    true => "has corrections",
                    false => "amends what changed",
                };
                let message = format!(
                    "the source \"{}\" {what}, and its records have no identity but their place",
                    source.name
                );
                let hint =
                    "name the fields that a record and its correction have in common in `identity`";
                findings.push(Diagnostic::error(&job, source.place, message).with_hint(hint));
            }
            let earlier = known[..at].iter().find(|(other, other_plan)| {
                other.stream == source.stream && other_plan.keep() != plan.keep()
            });
            if let Some((other, _)) = earlier {
                let message = format!(
                    "the sources \"{}\" and \"{}\" are of one stream, and keep different records of an identity",
                    other.name, source.name
                );
                let hint = "write the same `keep` or `version` in both rules, or give one another `platform`";
                findings.push(Diagnostic::error(&job, source.place, message).with_hint(hint));
            }
        }
        findings
    }

    /// What is wrong with whose the identities of several sources of one stream are.
    fn scopes(&self, plans: &[Option<Arc<MediationPlan>>]) -> Vec<Diagnostic> {
        let job = self.path.display().to_string();
        let mut findings = Vec::new();
        let known = self.sources.iter().zip(plans);
        // A place in a file is no other source's.
        let known: Vec<&SourcePlan> = known
            .filter(|(_, plan)| plan.as_ref().is_some_and(|plan| plan.has_identity()))
            .filter(|(source, _)| has_stream(source))
            .map(|(source, _)| source)
            .collect();
        for (at, source) in known.iter().enumerate() {
            let earlier = known[..at]
                .iter()
                .find(|other| other.stream == source.stream);
            let Some(other) = earlier else { continue };
            let (first, line) = (&other.name, other.place.0);
            let mut complain = |message: String, hint: &str| {
                findings.push(Diagnostic::error(&job, source.place, message).with_hint(hint));
            };
            if source.corrections || other.corrections {
                if [source.identity, other.identity].contains(&Some(IdentityScope::Own)) {
                    let message = format!(
                        "the sources \"{first}\" (line {line}) and \"{}\" correct one another, and \
                         identities are one source's own",
                        source.name
                    );
                    complain(message, "write `identity: shared` in both");
                }
                continue;
            }
            if source.identity.is_none() || other.identity.is_none() {
                let message = format!(
                    "the sources \"{first}\" (line {line}) and \"{}\" are of one stream, and do not \
                     say whether an equal id of the two is the same record",
                    source.name
                );
                let hint = "write in each source `identity: own` (each numbers its records itself: both \
                            are billed) or `identity: shared` (one record, whichever sends it: billed once)";
                complain(message, hint);
            } else if source.identity != other.identity {
                let message = format!(
                    "the sources \"{first}\" (line {line}) and \"{}\" are of one stream, and only one \
                     has identities of its own",
                    source.name
                );
                complain(
                    message,
                    "write the same `identity` in both, or give one another `platform`",
                );
            } else if source.identity == Some(IdentityScope::Shared)
                && source.kafka.is_none()
                && other.kafka.is_none()
                && source.path == other.path
                && source.chosen == other.chosen
            {
                let message = format!(
                    "the sources \"{first}\" (line {line}) and \"{}\" read the same files and share \
                     identities: all that the second reads would be duplicates",
                    source.name
                );
                let hint =
                    "write `identity: own` in both if each shall be billed, or leave one out";
                complain(message, hint);
            }
        }
        findings
    }

    fn type_checks(
        &self,
        source: &SourcePlan,
        plan: &MediationPlan,
        findings: &mut Vec<Diagnostic>,
    ) -> bool {
        // A folder whose files name their own format may hold typed ones.
        if source.format_of(&source.path).is_none() {
            return true;
        }
        plan.check_text()
            .map_err(|mut faults| findings.append(&mut faults))
            .is_ok()
    }
}

/// Whether the job says what its records are; where it does not, that is told.
fn has_stream(source: &SourcePlan) -> bool {
    !source.stream.platform.is_empty() && !source.stream.service_type.is_empty()
}
