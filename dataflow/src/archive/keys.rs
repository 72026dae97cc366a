//! The keys of archived lines: a line is text in the archive, and an adjustment of it must have its
//! identifier.

use millrace_connectors::archive::{ArchiveError, ArchivedLine};
use millrace_connectors::names::Names;
use millrace_operators::aggregate::Dimension;
use millrace_operators::domain::{LineKey, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Finds the keys of lines.
pub(crate) struct LineKeys<'a> {
    dimensions: &'a [Dimension],
    names: &'a Names,
    /// A line names a service by its id alone; its usage knows the type too.
    services: BTreeMap<Arc<str>, BTreeSet<ServiceKey>>,
}

impl<'a> LineKeys<'a> {
    /// Of lines of usage of these services.
    pub(crate) fn of(
        known: impl Iterator<Item = ServiceKey>,
        dimensions: &'a [Dimension],
        names: &'a Names,
    ) -> Self {
        let mut services: BTreeMap<Arc<str>, BTreeSet<ServiceKey>> = BTreeMap::new();
        if dimensions.contains(&Dimension::Service) {
            for service in known {
                let (_, id) = names.service(service);
                services.entry(id).or_default().insert(service);
            }
        }
        Self {
            dimensions,
            names,
            services,
        }
    }

    /// The key that a line had when it was billed.
    pub(crate) fn key(&self, line: &ArchivedLine) -> Result<LineKey, ArchiveError> {
        let names = self.names;
        let mut key = LineKey {
            account: names.enter_account(&line.account),
            unit_start: line.unit_start,
            unit_end: line.unit_end,
            item: names.enter(&line.item),
            currency: names.enter(&line.currency),
            dimensions: line.dimensions.iter().map(|_| 0).collect(),
        };
        let mut service = None;
        for (place, (text, dimension)) in line.dimensions.iter().zip(self.dimensions).enumerate() {
            let Some(text) = text else { continue };
            key.dimensions[place] = match dimension {
                Dimension::Service => {
                    service = Some((place, text));
                    0
                }
                Dimension::Subscription => names.enter_subscription(text).0,
                Dimension::Price => names.enter_price(text).0,
                Dimension::ServiceType | Dimension::Attribute(_) => names.enter(text).0,
            };
        }
        if let Some((place, id)) = service {
            let candidates = self.services.get(id.as_str()).into_iter().flatten();
            for candidate in candidates {
                key.dimensions[place] = candidate.0;
                if key.aggregate_id() == line.id {
                    break;
                }
            }
        }
        if key.aggregate_id() == line.id {
            return Ok(key);
        }
        Err(ArchiveError::Damaged {
            location: format!("line {}", line.id),
            detail: format!(
                "of account {:?} has another identifier than its text",
                line.account
            ),
        })
    }
}
