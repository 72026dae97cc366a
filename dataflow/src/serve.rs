//! The endpoint that a job is watched through: `/metrics`, `/healthz`, `/readyz`.
//!
//! ```text
//!   monitor ── GET ──► a thread of its own ──► Metrics::text / Reading
//! ```
//!
//! It reads numbers and nothing else: it cannot slow a worker down, and a request that hangs holds
//! nothing. Requests under way are answered when the job ends; the next are refused.

use crate::metrics::{Metrics, Reading};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// How long requests under way may take when the job ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the endpoint is not there.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process listens there.
    #[error(
        "cannot serve metrics on {0}: the port is taken; stop the other process, name another port, \
         or 0 for any that is free"
    )]
    Taken(SocketAddr),
    /// The system said no.
    #[error("cannot serve metrics on {0}: {1}")]
    Refused(SocketAddr, io::Error),
}

/// A running endpoint; it ends when it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Serves `metrics` on `address`; port 0 takes any that is free.
    ///
    /// # Errors
    /// When nothing can listen there.
    pub fn start(address: SocketAddr, metrics: Arc<Metrics>) -> Result<Self, ServeError> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ServeError::Taken(address),
            _ => ServeError::Refused(address, error),
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(refused)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                    return;
                };
                let (leave, left) = oneshot::channel::<()>();
                let farewell = async {
                    stopped.await.ok();
                    leave.send(()).ok();
                };
                let overdue = async {
                    left.await.ok();
                    tokio::time::sleep(FAREWELL).await;
                };
                let serving =
                    axum::serve(listener, routes(metrics)).with_graceful_shutdown(farewell);
                tokio::select! {
                    _ = serving => {}
                    () = overdue => {}
                }
            });
        };
        let thread = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(serve);
        let thread = thread.map_err(refused)?;
        Ok(Self {
            address: bound,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // The thread may have ended by itself; then nobody waits for the word.
        self.stop.take().map(|stop| stop.send(()).ok());
        self.thread.take().map(|thread| thread.join().ok());
    }
}

fn routes(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route(
            "/healthz",
            get(|State(m): State<Arc<Metrics>>| probe(m, Reading::healthy)),
        )
        .route(
            "/readyz",
            get(|State(m): State<Arc<Metrics>>| probe(m, Reading::ready)),
        )
        .with_state(metrics)
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], metrics.text())
}

async fn probe(
    metrics: Arc<Metrics>,
    judge: fn(&Reading) -> Result<(), String>,
) -> (StatusCode, String) {
    match judge(&metrics.read()) {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_job_can_be_watched_and_says_when_it_is_ready() {
        let metrics = Metrics::new();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::start(any, Arc::clone(&metrics)).unwrap();
        let address = endpoint.address();
        assert_ne!(address.port(), 0);
        assert!(ask(address, "/healthz").starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/readyz").starts_with("HTTP/1.1 503"));
        metrics.reference_loaded();
        metrics.epoch_bound(0);
        metrics.complete_before(1);
        assert!(ask(address, "/readyz").starts_with("HTTP/1.1 200"));
        let scraped = ask(address, "/metrics");
        assert!(scraped.contains("millrace_epochs_total 1"), "{scraped}");
        assert!(ask(address, "/nowhere").starts_with("HTTP/1.1 404"));

        let taken = Endpoint::start(address, metrics).unwrap_err();
        assert!(taken.to_string().contains("the port is taken"), "{taken}");
        drop(endpoint);
        assert!(TcpStream::connect(address).is_err());
    }
}
