//! Taking an object away on condition that it is what it was.
//!
//! `object_store` deletes whatever has a name by then, and what has come in the place of what was read would
//! be lost unread. So it signs the request, and the condition is put on it here; what sends it is the client
//! that it has made for its own requests, so proxies, timeouts and certificates are the same. A store that does
//! not know the condition takes the object away nevertheless; whether it does is asked before, with one of no
//! use.

use super::StoreError;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::Signer;
use reqwest::header::{HeaderValue, IF_MATCH};
use reqwest::{Method, StatusCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a signed request is of use.
const VALID: Duration = Duration::from_secs(60);
/// How often a request is made whose outcome is not known: one that was carried out finds nothing any more.
const ATTEMPTS: u32 = 3;

/// Connects stores as they connect themselves, and keeps the client made last: that for the objects, behind
/// those that ask for keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Client(Arc<Mutex<Option<HttpClient>>>);

impl Client {
    fn made(&self) -> Option<HttpClient> {
        let made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        made.clone()
    }
}

impl HttpConnector for Client {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(made.insert(client).clone())
    }
}

pub(super) struct Conditional {
    signer: Arc<dyn Signer>,
    /// Whether requests keep their signatures.
    signs: bool,
    client: Client,
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
    /// Of a store that `client` has connected.
    pub(super) fn of(signer: Arc<dyn Signer>, client: Client) -> Self {
        Self {
            signer,
            signs: true,
            client,
            able: Mutex::new(None),
        }
    }

    /// The same of a store that is asked without keys: of what `signer` says only the address is of use.
    pub(super) fn unsigned(signer: Arc<dyn Signer>, client: Client) -> Self {
        Self {
            signs: false,
            ..Self::of(signer, client)
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
        let client = self.client.made().ok_or_else(|| failed("no client"))?;
        let etag = HeaderValue::from_str(etag).map_err(failed)?;
        let mut attempt = 1;
        loop {
            let mut url = self.signer.signed_url(Method::DELETE, path, VALID).await?;
            if !self.signs {
                url.set_query(None);
            }
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.method_mut() = Method::DELETE;
            *request.uri_mut() = url.as_str().parse().map_err(failed)?;
            request.headers_mut().insert(IF_MATCH, etag.clone());
            let failure = match client.execute(request).await {
                Ok(answer) => match answer.status() {
                    status if status.is_success() => return Ok(Some(true)),
                    StatusCode::NOT_FOUND => return Ok(Some(true)),
                    StatusCode::PRECONDITION_FAILED => return Ok(Some(false)),
                    StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => {
                        return Ok(None);
                    }
                    status => failed(format!("Server returned non-2xx status code: {status}")),
                },
                Err(error) => failed(error),
            };
            if attempt == ATTEMPTS {
                return Err(failure);
            }
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            attempt += 1;
        }
    }
}
