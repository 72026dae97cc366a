//! What suspended records wait for: the item and its attributes, or the service, counted.
//!
//! A reason says what is wrong; what is to be mended is one price, or one service. Both are few, and where
//! they are not, those past a bound are only counted under their reason.

use millrace_connectors::output::Texts;
use millrace_operators::domain::{ClassKey, Name, Reason, RecordId, ServiceKey, Stage, Suspense};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Subjects that are told apart, of all reasons.
const SUBJECTS_MAX: usize = 10_000;
/// Subjects of a reason that are told.
const SUBJECTS_TOLD: usize = 10;
/// Examples kept per subject, for when the first are monetised.
const EXAMPLES_KEPT: usize = 8;

/// What records of one reason have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubjectCount {
    /// The item without a price, or that is at fault otherwise.
    pub item: Option<String>,
    /// The attributes of the records, where prices are missing.
    pub attributes: BTreeMap<String, String>,
    /// The service, where nobody pays for it.
    pub service: Option<String>,
    /// Records.
    pub records: u64,
    /// One of them, as `file row N`.
    pub example: Option<String>,
}

impl SubjectCount {
    /// In one line, without the count.
    #[must_use]
    pub fn told(&self) -> String {
        let attributes = self
            .attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let words = self.item.iter().chain(&self.service).cloned();
        words.chain(attributes).collect::<Vec<_>>().join(", ")
    }
}

/// What a suspended record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Service(ServiceKey),
    Item(Option<Name>, ClassKey),
}

#[derive(Debug, Default)]
struct Waiting {
    records: i64,
    examples: BTreeSet<RecordId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Subjects(BTreeMap<(Reason, Subject), Waiting>);

impl Subjects {
    /// Counts a suspended record that comes or goes.
    pub(super) fn change(&mut self, suspense: &Suspense, diff: isize) {
        let subject = match suspense.reason.stage() {
            Stage::Guide => Subject::Service(suspense.service),
            Stage::Rate | Stage::Charge => Subject::Item(suspense.item, suspense.class),
            Stage::Parse | Stage::Mediation | Stage::Dedup | Stage::Discard => return,
        };
        let key = (suspense.reason, subject);
        let is_full = self.0.len() >= SUBJECTS_MAX;
        if is_full && !self.0.contains_key(&key) {
            return;
        }
        let waiting = self.0.entry(key).or_default();
        waiting.records += i64::try_from(diff).unwrap_or(0);
        if diff < 0 {
            waiting.examples.remove(&suspense.record);
        } else {
            waiting.examples.insert(suspense.record);
            if waiting.examples.len() > EXAMPLES_KEPT {
                waiting.examples.pop_last();
            }
        }
        if waiting.records == 0 && waiting.examples.is_empty() {
            self.0.remove(&key);
        }
    }

    /// What the records of a reason are about, the most frequent first.
    pub(super) fn of(
        &self,
        reason: Reason,
        texts: &Texts,
        place: impl Fn(RecordId) -> String,
    ) -> Vec<SubjectCount> {
        let all = self.0.iter().filter(|((of, _), _)| *of == reason);
        let counted = all.filter_map(|((_, subject), waiting)| {
            let records = u64::try_from(waiting.records)
                .ok()
                .filter(|count| *count > 0)?;
            Some((
                std::cmp::Reverse(records),
                *subject,
                waiting.examples.first().copied(),
            ))
        });
        let mut counted: Vec<_> = counted.collect();
        counted.sort_unstable();
        counted.truncate(SUBJECTS_TOLD);
        let names = &texts.names;
        let told =
            |(std::cmp::Reverse(records), subject, example): (_, Subject, Option<RecordId>)| {
                let (item, attributes, service) = match subject {
                    Subject::Service(service) => (
                        None,
                        BTreeMap::new(),
                        Some(names.service(service).1.to_string()),
                    ),
                    Subject::Item(item, class) => {
                        let class = names.class(class);
                        let attributes = class.iter().flat_map(|class| &class.attributes);
                        let text = |name: Name| names.text(name).to_string();
                        let attributes =
                            attributes.map(|(name, value)| (text(*name), text(*value)));
                        (item.map(text), attributes.collect(), None)
                    }
                };
                SubjectCount {
                    item,
                    attributes,
                    service,
                    records,
                    example: example.map(&place),
                }
            };
        counted.into_iter().map(told).collect()
    }
}
