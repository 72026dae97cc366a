//! The endpoint that a job is watched through: `/metrics`, `/healthz`, `/readyz`.
//!
//! ```text
//!   monitor ── GET ──► a thread of its own ──► Metrics::text / Reading
//! ```
//!
//! It reads numbers and nothing else: it cannot slow a worker down. A connection is for one request, and
//! for ten seconds; there are no more than 64 of them, and the oldest makes room. So whoever
//! connects and says nothing takes neither the job's file descriptors nor the monitor's place. Requests
//! under way are answered when the job ends; the next are refused.

use crate::metrics::{Metrics, Reading};
use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// How long requests under way may take when the job ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a connection may take, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Until somebody is let in again when the system could not.
const BREATH: Duration = Duration::from_millis(50);

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
        Self::start_with(address, metrics, PATIENCE)
    }

    fn start_with(
        address: SocketAddr,
        metrics: Arc<Metrics>,
        patience: Duration,
    ) -> Result<Self, ServeError> {
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
                let visitors = Visitors {
                    listener,
                    patience,
                    under_way: VecDeque::new(),
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
                    axum::serve(visitors, routes(metrics)).with_graceful_shutdown(farewell);
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
        .layer(map_response(last))
        .with_state(metrics)
}

/// No other request comes behind an answer.
async fn last(mut answer: Response) -> Response {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

/// Lets in whoever connects, and shows out who stays too long.
struct Visitors {
    listener: tokio::net::TcpListener,
    patience: Duration,
    /// What ends a visit when it is dropped, the oldest first.
    under_way: VecDeque<oneshot::Sender<()>>,
}

impl axum::serve::Listener for Visitors {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        let (stream, from) = loop {
            match self.listener.accept().await {
                Ok(come) => break come,
                // It is gone again, or there are no file descriptors: others will give theirs back.
                Err(_) => sleep(BREATH).await,
            }
        };
        self.under_way.retain(|visit| !visit.is_closed());
        if self.under_way.len() >= CONNECTIONS {
            self.under_way.pop_front();
        }
        let (stays, shown_out) = oneshot::channel();
        self.under_way.push_back(stays);
        let visit = Visit {
            stream,
            shown_out,
            deadline: Box::pin(sleep(self.patience)),
            is_over: false,
        };
        (visit, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with a deadline.
struct Visit {
    stream: TcpStream,
    shown_out: oneshot::Receiver<()>,
    deadline: Pin<Box<Sleep>>,
    is_over: bool,
}

impl Visit {
    /// The stream, as long as the visit lasts; whoever waits for the stream waits for its end too.
    fn stream(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        self.is_over = self.is_over
            || self.deadline.as_mut().poll(cx).is_ready()
            || Pin::new(&mut self.shown_out).poll(cx).is_ready();
        match self.is_over {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream(cx)?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(cx)?.poll_shutdown(cx)
    }
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

    /// Whether the other end closes within a while.
    fn is_closed(mut stream: &TcpStream) -> bool {
        let patience = Some(Duration::from_secs(5));
        stream.set_read_timeout(patience).unwrap();
        match stream.read(&mut [0; 1]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn those_who_say_nothing_take_nobodys_place() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        // Longer than this test takes: nobody goes for having been there too long.
        let patience = Duration::from_secs(600);
        let endpoint = Endpoint::start_with(any, Metrics::new(), patience).unwrap();
        let address = endpoint.address();
        let connect = |_| TcpStream::connect(address).unwrap();
        let silent: Vec<TcpStream> = (0..3 * CONNECTIONS).map(connect).collect();
        assert!(ask(address, "/healthz").starts_with("HTTP/1.1 200"));
        let oldest = &silent[..2 * CONNECTIONS];
        assert!(oldest.iter().all(is_closed));
        // One that was answered may ask no more, so it does not stay either.
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
    }

    #[test]
    fn those_who_are_slow_have_one_deadline() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let patience = Duration::from_millis(500);
        let endpoint = Endpoint::start_with(any, Metrics::new(), patience).unwrap();
        let begun = std::time::Instant::now();
        let mut slow = TcpStream::connect(endpoint.address()).unwrap();
        write!(slow, "GET /healthz HTTP/1.1\r\nHost: ").unwrap();
        while slow.write_all(b"x").is_ok() {
            assert!(begun.elapsed() < 20 * patience, "a slow one is borne with");
            std::thread::sleep(patience / 10);
        }
    }
}
