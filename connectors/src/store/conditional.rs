//! Taking an object away on condition that it is what it was.
//!
//! `object_store` deletes whatever has a name by then, and what has come in the place of what was read would
//! be lost unread. So it signs the request, and the condition is put on it here. A store that does not know
//! the condition takes the object away nevertheless; whether it does is asked before, with one of no use.

use super::StoreError;
use object_store::path::Path;
use object_store::signer::Signer;
use reqwest::header::IF_MATCH;
use reqwest::{Client, Method, StatusCode};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

/// How long a signed request is of use.
const VALID: Duration = Duration::from_secs(60);
/// How often a request is made whose outcome is not known: one that was carried out finds nothing any more.
const ATTEMPTS: u32 = 3;
/// What sends the requests of this process, from the first on.
static CLIENT: LazyLock<reqwest::Result<Client>> = LazyLock::new(|| Client::builder().build());

pub(super) struct Conditional {
    signer: Arc<dyn Signer>,
    /// Whether the store knows the condition, once it was asked.
    able: Mutex<Option<bool>>,
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic {
        store: "S3",
        source: source.into(),
    }
}

impl Conditional {
    pub(super) fn of(signer: Arc<dyn Signer>) -> Self {
        Self {
            signer,
            able: Mutex::new(None),
        }
    }

    /// Whether the store knows the condition.
    pub(super) fn is_able(
        &self,
        ask: impl FnOnce() -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        // What is asked for may fail, and is asked for again then.
        let mut able = self.able.lock().unwrap_or_else(PoisonError::into_inner);
        match *able {
            Some(able) => Ok(able),
            None => Ok(*able.insert(ask()?)),
        }
    }

    /// Takes the object away if it has this etag. Says whether none is left; nothing where the store does
    /// not take such a request.
    pub(super) async fn remove(
        &self,
        path: &Path,
        etag: &str,
    ) -> object_store::Result<Option<bool>> {
        let client = CLIENT.as_ref().map_err(|error| failed(error.to_string()))?;
        let mut attempt = 1;
        loop {
            let url = self.signer.signed_url(Method::DELETE, path, VALID).await?;
            let request = client.delete(url).header(IF_MATCH, etag).send();
            let failure = match request.await {
                Ok(answer) => match answer.status() {
                    status if status.is_success() => return Ok(Some(true)),
                    StatusCode::NOT_FOUND => return Ok(Some(true)),
                    StatusCode::PRECONDITION_FAILED => return Ok(Some(false)),
                    StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => {
                        return Ok(None);
                    }
                    status => failed(format!("Server returned non-2xx status code: {status}")),
                },
                Err(error) => failed(error.without_url()),
            };
            if attempt == ATTEMPTS {
                return Err(failure);
            }
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            attempt += 1;
        }
    }
}
