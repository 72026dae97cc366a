//! The schema registry: which Avro schema an id stands for.
//!
//! A schema never changes under its id, so what was found is kept for ever. A registry that does
//! not answer is asked again for [`TIMEOUT`]; an id that it does not know is the fault of the
//! message that names it.
//!
//! - **Not known** is what the registry says in its own words, [`NO_SCHEMA`]. A bare 404 may come from a
//!   proxy or a wrong path, and is no answer.
//! - **A registry lags** behind producers, so an id is asked for again for [`LAG`] before it is unknown.
//!   Then it is so for [`UNKNOWN`], whatever number of messages names it; behind that one look is enough.

use super::super::error::DecodeError;
use reqwest::{Client, StatusCode, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env::VarError;
use std::fmt;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How long a registry that does not answer is asked again.
const TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// How long an id that the registry does not know is asked for again.
const LAG: Duration = Duration::from_millis(if cfg!(test) { 400 } else { 5_000 });
/// How long an id stays unknown without being asked for.
const UNKNOWN: Duration = Duration::from_millis(if cfg!(test) { 1_000 } else { 30_000 });
/// The longest answer: a schema is a text that people write.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The registry's own codes: for no schema of an id, and for no subject, version or schema.
const NO_SCHEMA: RangeInclusive<u32> = 40403..=40403;
const NO_SUBJECT: RangeInclusive<u32> = 40401..=40403;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The URL of a schema registry; `https://user:password@host` logs in. `${NAME}` in it is taken from the
/// environment, so that secrets stay out of files: `https://${USER}:${PASSWORD}@host`.
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

    /// The URL with the values of the environment's variables. What stands before `@` may hold any
    /// characters; elsewhere a value is part of the URL as it is.
    ///
    /// # Errors
    /// That there is no such variable, or no end of its name.
    pub(super) fn resolved(
        &self,
        variable: impl Fn(&str) -> Result<String, VarError>,
    ) -> Result<Self, String> {
        let host = self.0.find("://").map_or(0, |at| at + 3);
        let path = self.0[host..].find('/').map(|at| host + at);
        let login_ends = self.0[..path.unwrap_or(self.0.len())]
            .rfind('@')
            .unwrap_or(0);
        let (mut url, mut rest) = (String::new(), self.0.as_str());
        while let Some((before, after)) = rest.split_once("${") {
            let at = self.0.len() - rest.len() + before.len();
            let (name, behind) = after
                .split_once('}')
                .ok_or("a `${` in it has no `}` behind the name")?;
            let value = variable(name).map_err(|_| {
                format!("the environment has no {name}; set it, or write the value itself")
            })?;
            url.push_str(before);
            match at < login_ends {
                true => url.push_str(&escaped(&value)),
                false => url.push_str(&value),
            }
            rest = behind;
        }
        url.push_str(rest);
        Ok(Self(url))
    }
}

/// A text of which no character means anything to a URL.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte.is_ascii_alphanumeric() {
            true => escaped.push(char::from(byte)),
            false => write!(escaped, "%{byte:02X}").expect("text takes any text"),
        }
        escaped
    })
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
    schemas: Mutex<BTreeMap<u32, Known>>,
}

/// What is known of an id.
enum Known {
    Schema(Schema),
    /// The registry knew nothing of it when it was asked.
    Unknown(Instant),
}

/// What the registry has under an id: the schema's JSON, or why it cannot be used.
pub(super) type Schema = Result<Arc<str>, String>;

/// What the registry says of what it does not have.
#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
}

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
        let written = url.shown();
        let url = url.resolved(|name| std::env::var(name));
        let url = url.map_err(|detail| DecodeError::Registry {
            url: written,
            detail,
        })?;
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
        let lag = match known().get(&id) {
            Some(Known::Schema(schema)) => return Ok(Some(schema.clone())),
            Some(Known::Unknown(asked)) if asked.elapsed() < UNKNOWN => return Ok(None),
            // It had its time.
            Some(Known::Unknown(_)) => Duration::ZERO,
            None => LAG,
        };
        let found = self.get(&format!("schemas/ids/{id}"), NO_SCHEMA, lag)?;
        let entry = match &found {
            Some(schema) => Known::Schema(schema.clone()),
            None => Known::Unknown(Instant::now()),
        };
        known().insert(id, entry);
        Ok(found)
    }

    /// The latest schema of a subject.
    pub(super) fn latest(&self, subject: &str) -> Result<Arc<str>, DecodeError> {
        let failed = |detail: String| DecodeError::Registry {
            url: self.shown.clone(),
            detail,
        };
        let path = format!("subjects/{subject}/versions/latest");
        self.get(&path, NO_SUBJECT, Duration::ZERO)?
            .ok_or_else(|| {
                failed(format!(
                    "it has no subject {subject:?}; register the schema, or name its `subject`"
                ))
            })?
            .map_err(|detail| failed(format!("the latest schema of {subject:?} {detail}")))
    }

    /// The schema at a path; nothing when the registry says one of the codes of `none`, and says so
    /// still after `lag`.
    fn get(
        &self,
        path: &str,
        none: RangeInclusive<u32>,
        lag: Duration,
    ) -> Result<Option<Schema>, DecodeError> {
        let deadline = Instant::now() + TIMEOUT;
        let mut refused: Option<Instant> = None;
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
                Ok((_, body)) if body.len() > ANSWER_BYTES_MAX => {
                    return Err(failed(format!(
                        "it answers with more than {ANSWER_BYTES_MAX} bytes, which no schema has; check \
                         the URL"
                    )));
                }
                Ok((StatusCode::OK, body)) => {
                    let answer = serde_json::from_slice::<Answer>(&body);
                    let answer = answer.map_err(|error| {
                        failed(format!("its answer is none of a schema registry: {error}"))
                    })?;
                    return Ok(Some(usable(answer)));
                }
                Ok((StatusCode::NOT_FOUND, body)) => {
                    let refusal = serde_json::from_slice::<Refusal>(&body).ok();
                    if refusal.is_some_and(|refusal| none.contains(&refusal.error_code)) {
                        let first = *refused.get_or_insert_with(Instant::now);
                        if first.elapsed() + pause >= lag {
                            return Ok(None);
                        }
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(PAUSE_MAX);
                        continue;
                    }
                    format!(
                        "it answers {}, but not as a registry does",
                        StatusCode::NOT_FOUND
                    )
                }
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

    /// What the registry answers; of an answer that is too long a part that is too long.
    async fn ask(&self, url: Url) -> Result<(StatusCode, Vec<u8>), String> {
        // The error's own text names the URL, password and all.
        let told = |error: reqwest::Error| {
            let error = error.without_url();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.unwrap_or_else(|| error.to_string())
        };
        let mut answer = self.client.get(url).send().await.map_err(told)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(told)? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        Ok((status, body))
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
