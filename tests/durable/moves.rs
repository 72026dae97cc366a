//! Files that leave the input folder of a bucket: what goes is what was read, whatever comes in its place
//! meanwhile.
//!
//! The server is the real one, which takes an object away whatever the condition is. Where it is to know the
//! condition, somebody before it looks.

use crate::durability::{calls, job};
use crate::object_store::{ended, process, run};
use crate::s3::{SECRET, serve, serve_with, store};
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, StatusCode};
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

/// A server that knows the condition, and the requests with it that it was asked for.
#[derive(Clone)]
struct Asked {
    server: Conditional,
    conditional: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Asked {
    /// Of a store that wants no signatures, or those of its key.
    fn of(buckets: &Path, wants_signatures: bool) -> Self {
        let open = S3ServiceBuilder::new(FileSystem::new(buckets).unwrap()).build();
        let server = Conditional {
            store: match wants_signatures {
                true => store(buckets),
                false => open.clone(),
            },
            open,
            meanwhile: Meanwhile::default(),
        };
        Self {
            server,
            conditional: Arc::default(),
        }
    }

    fn serve(&self) -> SocketAddr {
        let asked = self.clone();
        serve_with(move |request: HttpRequest<Incoming>| {
            if request.headers().contains_key("if-match") {
                let told = (request.uri().to_string(), request.headers().clone());
                asked.conditional.lock().unwrap().push(told);
            }
            asked.server.clone().answer(request)
        })
    }

    /// The requests, of which there are some: the question, and one a file.
    fn told(&self) -> Vec<(String, HeaderMap)> {
        let told = self.conditional.lock().unwrap().clone();
        assert!(told.len() >= 2, "{told:?}");
        told
    }
}

#[test]
fn what_takes_objects_away_goes_the_way_of_all_other_requests() {
    let world = World::new();
    world.put("input/a.csv", &of(0));
    let asked = Asked::of(&world.0.at("buckets"), true);
    let server = asked.serve();
    let mut command = process(&world.0, "job.yaml", server, SECRET);
    // There is no such host: whoever does not ask the proxy reaches nobody.
    command
        .env("AWS_ENDPOINT_URL", "http://buckets.invalid")
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_PROXY_URL", format!("http://{server}"))
        .env("AWS_USER_AGENT", "of this test")
        .env("AWS_REGION", "eu-north-1")
        .env("AWS_SESSION_TOKEN", "a-session");
    let ended = ended(&world.0, "job.yaml", &mut command);
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    assert_eq!(world.names("input"), [""; 0], "{}", ended.err);
    assert_eq!(world.names("processed"), ["a.csv"]);
    for (url, headers) in asked.told() {
        assert!(url.starts_with("http://buckets.invalid/moves/"), "{url}");
        assert!(url.contains("X-Amz-Security-Token=a-session"), "{url}");
        assert!(url.contains("%2Feu-north-1%2Fs3%2F"), "{url}");
        assert_eq!(headers["user-agent"], "of this test");
    }
}

#[test]
fn what_takes_objects_away_is_signed_by_nobody_where_nothing_is() {
    let world = World::new();
    world.put("input/a.csv", &of(0));
    let asked = Asked::of(&world.0.at("buckets"), false);
    let mut command = process(&world.0, "job.yaml", asked.serve(), SECRET);
    command
        .env("AWS_SKIP_SIGNATURE", "true")
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    let ended = ended(&world.0, "job.yaml", &mut command);
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    assert_eq!(world.names("input"), [""; 0], "{}", ended.err);
    assert_eq!(world.names("processed"), ["a.csv"]);
    for (url, _) in asked.told() {
        assert!(!url.contains("X-Amz"), "{url}");
    }
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
