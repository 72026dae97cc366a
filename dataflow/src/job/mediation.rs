//! A mediation rule in a job: a file of its own, which can be corrected while the job runs, or a
//! mapping in the job file.

use millrace_connectors::mediate::MediationRule;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;

/// A mediation rule, or the file that holds it.
#[derive(Clone, Debug, JsonSchema)]
#[serde(untagged)]
pub enum MediationEntry {
    /// The file, relative to the job file, or `s3://bucket/file`. A local one may be corrected while the
    /// job runs; one in a bucket is read when a run begins and is not watched.
    File(String),
    /// The rule itself.
    Inline(Box<MediationRule>),
}

impl<'de> Deserialize<'de> for MediationEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;

        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = MediationEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a mediation file, or a mediation rule")
            }

            fn visit_str<E: de::Error>(self, file: &str) -> Result<MediationEntry, E> {
                Ok(MediationEntry::File(file.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<MediationEntry, A::Error> {
                let rule = MediationRule::deserialize(MapAccessDeserializer::new(map))?;
                Ok(MediationEntry::Inline(Box::new(rule)))
            }
        }

        deserializer.deserialize_any(EntryVisitor)
    }
}
