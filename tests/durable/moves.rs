//! Files that leave the input folder of a bucket: what goes is what was read, whatever comes in its place
//! meanwhile.
//!
//! The server is the real one, which takes an object away whatever the condition is. Where it is to know the
//! condition, somebody before it looks.

use crate::durability::{calls, job};
use crate::object_store::run;
use crate::s3::{SECRET, serve, serve_with, store};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended};
use millrace_tests::kills::{CATALOG, MEDIATION, accounts};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A server that knows the condition.
#[derive(Clone)]
struct Conditional {
    store: S3Service,
    /// The same, for who looks.
    open: S3Service,
    /// What happens before the first object of an input folder is taken away.
    meanwhile: Meanwhile,
}

fn said(status: StatusCode) -> HttpResponse {
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = status;
    response
}

impl Conditional {
    async fn answer(self, request: HttpRequest<Incoming>) -> Result<HttpResponse, HttpError> {
        let condition = request.headers().get("if-match").cloned();
        if let (&Method::DELETE, Some(etag)) = (request.method(), condition) {
            let path = request.uri().path().to_owned();
            if path.contains("/input/")
                && let Some(happens) = self.meanwhile.lock().unwrap().take()
            {
                happens();
            }
            let head = Request::builder().method(Method::HEAD).uri(&path);
            let head = head.header("host", "localhost").body(Body::empty());
            let found = self.open.call(head.unwrap()).await?;
            if found.status() == StatusCode::NOT_FOUND {
                return Ok(said(StatusCode::NOT_FOUND));
            }
            if found.headers()["etag"] != etag {
                return Ok(said(StatusCode::PRECONDITION_FAILED));
            }
        }
        self.store.call(request.map(Body::from)).await
    }
}

fn serve_conditional(buckets: &Path, meanwhile: &Meanwhile) -> SocketAddr {
    let server = Conditional {
        store: store(buckets),
        open: S3ServiceBuilder::new(FileSystem::new(buckets).unwrap()).build(),
        meanwhile: Arc::clone(meanwhile),
    };
    serve_with(move |request| server.clone().answer(request))
}

struct World(Desk);

impl World {
    fn new() -> Self {
        let kept = "durability: { folder: 's3://moves/state', interval: 10ms }\noutputs: { folder: out }\n";
        let moving = job(kept).replace("path: usage", "path: 's3://moves/in/input', after: move");
        let desk = Desk::new(&[
            ("mediation.yaml", MEDIATION),
            ("catalog.yaml", CATALOG),
            ("accounts.yaml", &accounts()),
            ("job.yaml", &moving),
        ]);
        std::fs::create_dir_all(desk.at("buckets/moves")).unwrap();
        Self(desk)
    }

    fn put(&self, name: &str, content: &str) {
        self.0.write(&format!("buckets/moves/in/{name}"), content);
    }

    fn content(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.0.at(&format!("buckets/moves/in/{name}"))).ok()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let folder = self.0.at(&format!("buckets/moves/in/{folder}"));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[track_caller]
    fn run(&self, server: SocketAddr) -> Ended {
        let ended = run(&self.0, "job.yaml", server, SECRET);
        assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
        ended
    }
}

fn of(file: u32) -> String {
    calls(file, &mut Dice(u64::from(file) + 3))
}

#[test]
fn objects_leave_when_they_are_read() {
    let world = World::new();
    let server = serve_conditional(&world.0.at("buckets"), &Meanwhile::default());
    world.put("input/a.csv", &of(0));
    world.put("input/broken.parquet", "no Parquet");
    let first = world.run(server);
    assert_eq!(world.names("input"), [""; 0]);
    assert_eq!(world.names("processed"), ["a.csv"]);
    assert_eq!(world.names("failed"), ["broken.parquet"]);
    assert_eq!(world.content("processed/a.csv"), Some(of(0)));
    // Sent once more it is known, and takes no second place.
    world.put("input/a.csv", &of(0));
    assert_eq!(world.run(server).totals(), first.totals());
    assert_eq!(world.names("input"), [""; 0]);
    assert_eq!(world.names("processed"), ["a.csv"]);
    // Another of its name leaves it alone.
    world.put("input/a.csv", &of(1));
    world.run(server);
    assert_eq!(world.content("processed/a.csv"), Some(of(0)));
    assert_eq!(world.names("failed"), ["a.csv", "broken.parquet"]);
}

#[test]
fn what_comes_in_the_place_of_an_object_that_leaves_is_not_lost() {
    let world = World::new();
    let meanwhile = Meanwhile::default();
    let server = serve_conditional(&world.0.at("buckets"), &meanwhile);
    world.put("input/a.csv", &of(0));
    let place = world.0.at("buckets/moves/in/input/a.csv");
    // A run that is stopped before it takes the object away is stopped for as long as this takes.
    *meanwhile.lock().unwrap() = Some(Box::new(move || std::fs::write(place, of(1)).unwrap()));
    world.run(server);
    assert!(meanwhile.lock().unwrap().is_none(), "nothing left");
    assert_eq!(world.content("input/a.csv"), Some(of(1)));
    assert_eq!(world.content("processed/a.csv"), Some(of(0)));
}

#[test]
fn a_bucket_that_knows_no_condition_keeps_its_files() {
    let world = World::new();
    let server = serve(&world.0.at("buckets"));
    for name in ["input/a.csv", "input/b.csv"] {
        world.put(name, &of(0));
    }
    let ended = world.run(server);
    assert_eq!(world.names("input"), ["a.csv", "b.csv"]);
    assert_eq!(world.names("processed"), [""; 0]);
    let told = ended.err.matches("leave `after: move` out").count();
    assert_eq!(told, 1, "{}", ended.err);
}
