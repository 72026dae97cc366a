//! The schema registry: which Avro schema an id stands for.
//!
//! A schema never changes under its id, so what was found is kept for ever. A registry that does
//! not answer is asked again for [`TIMEOUT`]; an id that it does not know is the fault of the
//! message that names it.

use super::super::DecodeError;
use reqwest::{Client, StatusCode, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How long a registry that does not answer is asked again.
const TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The URL of a schema registry; `https://user:password@host` logs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegistryUrl(pub String);

impl RegistryUrl {
    /// The URL without what only the registry should see.
    #[must_use]
    pub fn shown(&self) -> String {
        match (self.0.split_once("://"), self.0.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
            (None, Some((_, host))) => format!("***@{host}"),
            _ => self.0.clone(),
        }
    }
}

impl fmt::Debug for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.shown())
    }
}

/// A client of a schema registry.
pub struct Registry {
    shown: String,
    base: Url,
    client: Client,
    runtime: Runtime,
    schemas: Mutex<BTreeMap<u32, Schema>>,
}

/// What the registry has under an id: the schema's JSON, or why it cannot be used.
pub(super) type Schema = Result<Arc<str>, String>;

/// An answer of the registry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<serde_json::Value>,
}

impl Registry {
    pub(super) fn new(url: &RegistryUrl) -> Result<Self, DecodeError> {
        let shown = url.shown();
        let failed = |detail: String| DecodeError::Registry {
            url: shown.clone(),
            detail,
        };
        let base = Url::parse(&format!("{}/", url.0.trim_end_matches('/')))
            .map_err(|error| failed(format!("it is no URL: {error}")))?;
        let client = Client::builder().timeout(Duration::from_secs(3)).build();
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            client: client.map_err(|error| failed(error.to_string()))?,
            runtime: runtime.map_err(|error| failed(error.to_string()))?,
            base,
            schemas: Mutex::default(),
            shown,
        })
    }

    /// The schema of an id; nothing when the registry does not know it.
    pub(super) fn schema(&self, id: u32) -> Result<Option<Schema>, DecodeError> {
        let known = || self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known().get(&id) {
            return Ok(Some(schema.clone()));
        }
        let found = self.get(&format!("schemas/ids/{id}"))?;
        if let Some(schema) = &found {
            known().insert(id, schema.clone());
        }
        Ok(found)
    }

    /// The latest schema of a subject.
    pub(super) fn latest(&self, subject: &str) -> Result<Arc<str>, DecodeError> {
        let failed = |detail: String| DecodeError::Registry {
            url: self.shown.clone(),
            detail,
        };
        self.get(&format!("subjects/{subject}/versions/latest"))?
            .ok_or_else(|| {
                failed(format!(
                    "it has no subject {subject:?}; register the schema, or name its `subject`"
                ))
            })?
            .map_err(|detail| failed(format!("the latest schema of {subject:?} {detail}")))
    }

    fn get(&self, path: &str) -> Result<Option<Schema>, DecodeError> {
        let deadline = Instant::now() + TIMEOUT;
        let failed = |detail: String| DecodeError::Registry {
            url: self.shown.clone(),
            detail,
        };
        let url = self
            .base
            .join(path)
            .map_err(|error| failed(error.to_string()))?;
        let mut pause = PAUSE_MIN;
        loop {
            let detail = match self.runtime.block_on(self.ask(url.clone())) {
                Ok((StatusCode::OK, body)) => {
                    let answer = serde_json::from_slice::<Answer>(&body);
                    let answer = answer.map_err(|error| {
                        failed(format!("its answer is none of a schema registry: {error}"))
                    })?;
                    return Ok(Some(usable(answer)));
                }
                Ok((StatusCode::NOT_FOUND, _)) => return Ok(None),
                Ok((status, _))
                    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS =>
                {
                    format!("it answers {status}")
                }
                Ok((status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _)) => {
                    return Err(failed(format!(
                        "it answers {status}; check user and password in the URL"
                    )));
                }
                Ok((status, _)) => {
                    return Err(failed(format!("it answers {status}; check the URL")));
                }
                Err(error) => error,
            };
            if Instant::now() + pause >= deadline {
                return Err(failed(format!(
                    "{detail}; check that it runs, and its address"
                )));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn ask(&self, url: Url) -> Result<(StatusCode, Vec<u8>), String> {
        // The error's own text names the URL, password and all.
        let told = |error: reqwest::Error| {
            let error = error.without_url();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.unwrap_or_else(|| error.to_string())
        };
        let answer = self.client.get(url).send().await.map_err(told)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(told)?;
        Ok((status, body.to_vec()))
    }
}

fn usable(answer: Answer) -> Schema {
    match answer.schema_type.as_deref() {
        None | Some("AVRO") if answer.references.is_empty() => Ok(Arc::from(answer.schema)),
        None | Some("AVRO") => Err("refers to other schemas, which cannot be read yet".to_owned()),
        Some(kind) => Err(format!("is of type {kind}, not AVRO")),
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("url", &self.shown)
            .finish_non_exhaustive()
    }
}
