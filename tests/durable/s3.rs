//! A real server of the S3 protocol on loopback, for the tests that need one.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as ConnectionBuilder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::Path;

pub(crate) const KEY: &str = "AKIDMILLRACE";
pub(crate) const SECRET: &str = "a secret of this test alone";

/// Serves a folder of buckets until the test's process ends.
pub(crate) fn serve(buckets: &Path) -> SocketAddr {
    let store = store(buckets);
    serve_with(move |request: HttpRequest<Incoming>| {
        let store = store.clone();
        async move { store.call(request.map(Body::from)).await }
    })
}

/// A folder of buckets, behind the protocol.
pub(crate) fn store(buckets: &Path) -> S3Service {
    let mut service = S3ServiceBuilder::new(FileSystem::new(buckets).unwrap());
    service.set_auth(SimpleAuth::from_single(KEY, SECRET));
    service.build()
}

/// Serves what `answer` says until the test's process ends.
pub(crate) fn serve_with<A>(
    answer: impl Fn(HttpRequest<Incoming>) -> A + Clone + Send + 'static,
) -> SocketAddr
where
    A: Future<Output = Result<HttpResponse, HttpError>> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let answer = service_fn(answer.clone());
                tokio::spawn(async move {
                    let builder = ConnectionBuilder::new(TokioExecutor::new());
                    // A client that hangs up early is no failure of the server.
                    builder
                        .serve_connection(TokioIo::new(socket), answer)
                        .await
                        .ok();
                });
            }
        });
    });
    address
}
