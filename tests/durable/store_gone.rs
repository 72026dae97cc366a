//! A store that goes away: emptied under a run, silent, or refusing; what is said of it, what is left in it,
//! and that a job can be started again.

use crate::cluster::Processes;
use crate::durability::{FEW, compare, few, received};
use crate::object_store::{desk, ended, job, process, run};
use crate::s3::{KEY, SECRET, serve, serve_with, store};
use hyper::body::Incoming;
use hyper::{Method, StatusCode};
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, totals};
use millrace_tests::kills::{command, start};
use s3s::service::S3Service;
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn state_that_is_emptied_under_a_run_is_told() {
    for takes_in_more in [false, true] {
        let desk = crate::durability::desk();
        desk.write("usage/calls-0.csv", few(0));
        let job = desk.at("job.yaml").display().to_string();
        let watching = start(&["run", &job, "--watch", "--workers", "1"]);
        let watching = Processes(vec![watching]);
        received(&desk, FEW);
        // The run may be about to make a file in it.
        while std::fs::remove_dir_all(desk.at("state")).is_err() {}
        if takes_in_more {
            desk.write("usage/calls-1.csv", few(1));
        }
        let (status, said) = watching.end("emptied").remove(0);
        assert!(!status.success(), "{said}");
        let says = "this run has committed, is gone: somebody has emptied the folder";
        assert!(said.contains(says), "{said}");
        assert!(said.contains("start the job again"), "{said}");
        // Which works.
        desk.write("usage/calls-2.csv", few(2));
        let again = desk.run();
        assert_eq!(again.exit, Exit::Findings, "{}", again.err);
        compare(&desk, 0);
    }
}

/// The buckets of a desk, behind a server that answers by `answer` where that answers.
fn serve_but<A>(
    desk: &Desk,
    answer: impl Fn(&HttpRequest<Incoming>) -> A + Clone + Send + 'static,
) -> SocketAddr
where
    A: Future<Output = Option<HttpResponse>> + Send + 'static,
{
    let store = store(&desk.at("buckets"));
    serve_with(move |request: HttpRequest<Incoming>| {
        let (told, store) = (answer(&request), S3Service::clone(&store));
        async move {
            match told.await {
                Some(told) => Ok::<_, HttpError>(told),
                None => store.call(request.map(Body::from)).await,
            }
        }
    })
}

fn response(status: StatusCode, body: &'static str) -> HttpResponse {
    let mut response = HttpResponse::new(Body::from(body.to_owned()));
    *response.status_mut() = status;
    response
}

#[test]
fn a_store_that_falls_silent_ends_a_run_by_one_deadline() {
    /// Of any store.
    const DEADLINE: Duration = Duration::from_secs(30);
    /// For all else that a run does.
    const REST: Duration = Duration::from_secs(25);
    let desk = desk();
    let input = "s3://usage/month/switch/voice/postpaid/input";
    desk.write("silent.yaml", job(input, "silent-out"));
    for file in 0..12 {
        let name = format!("buckets/usage/month/switch/voice/postpaid/input/c{file:02}.csv");
        // No content is like another: that would not be asked for.
        let record = format!("c{file},+1,2026-02-03T10:00:00Z,home,1\n");
        desk.write(&name, format!("id,number,at,zone,seconds\n{record}"));
    }
    // It lists what it has, takes connections ever after, and says nothing.
    let silent = Arc::new(AtomicBool::new(false));
    let server = serve_but(&desk, move |request| {
        let is_read = request.method() == Method::GET && request.uri().path().contains("input/");
        let is_silent = silent.fetch_or(is_read, Ordering::Relaxed) || is_read;
        async move {
            match is_silent {
                true => std::future::pending().await,
                false => None,
            }
        }
    });
    let begun = Instant::now();
    let mut job = process(&desk, "silent.yaml", server, SECRET);
    let ended = ended(&desk, "silent.yaml", job.env("AWS_TIMEOUT", "3s"));
    let took = begun.elapsed();
    assert!(took < DEADLINE + REST, "{took:?}: {}", ended.err);
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    let says = "the store has answered nothing for 30 s; check AWS_ENDPOINT_URL";
    assert!(ended.err.contains(says), "{}", ended.err);
    assert!(!ended.err.contains("send it again"), "{}", ended.err);
    // No file is passed over in silence.
    let files = ended.summary()["files"].as_array().unwrap().clone();
    assert_eq!(files.len(), 14, "{files:?}");
    let is_taken = |file: &Value| file["state"] == "loaded";
    assert!(!files.iter().any(is_taken), "{files:?}");
    // When the store speaks again, all is read.
    let server = serve(&desk.at("buckets"));
    let again = run(&desk, "silent.yaml", server, SECRET).summary();
    assert_eq!(again["records"]["received"], 8_013);
}

#[test]
fn a_question_to_a_silent_store_has_an_end() {
    let desk = desk();
    let sound = serve(&desk.at("buckets"));
    let ended = run(&desk, "remote.yaml", sound, SECRET);
    assert_eq!(ended.exit, Exit::Findings, "{}", ended.err);
    let silent = serve_but(&desk, |request| {
        let is_file = request.uri().path().ends_with(".parquet");
        async move {
            match is_file {
                true => std::future::pending().await,
                false => None,
            }
        }
    });
    let job = desk.at("remote.yaml").display().to_string();
    let begun = Instant::now();
    let asked = command(&["query", &job, "SELECT sum(amount) FROM aggregated"])
        .env("AWS_ENDPOINT_URL", format!("http://{silent}"))
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        // So that it is not the client that gives up first.
        .env("AWS_TIMEOUT", "20s")
        .output()
        .unwrap();
    let (said, took) = (String::from_utf8_lossy(&asked.stderr), begun.elapsed());
    assert!(!asked.status.success(), "{said}");
    let says = "the store has answered nothing for 30 s; check AWS_ENDPOINT_URL";
    assert!(said.contains(says), "{said}");
    assert!(took < Duration::from_secs(50), "{took:?}: {said}");
}

#[test]
fn uploads_that_are_given_up_are_aborted() {
    let desk = desk();
    let uploads = Arc::new(Mutex::new((0, 0, 0)));
    let count = Arc::clone(&uploads);
    let server = serve_but(&desk, move |request| {
        let query = request.uri().query().unwrap_or_default();
        let is_of = |word: &str| query.split('&').any(|part| part.starts_with(word));
        let mut uploads = count.lock().unwrap();
        let (begun, completed, aborted) = &mut *uploads;
        let mut refused = false;
        match *request.method() {
            Method::POST if is_of("uploads") => *begun += 1,
            Method::POST if is_of("uploadId") => *completed += 1,
            Method::DELETE if is_of("uploadId") => *aborted += 1,
            Method::PUT if is_of("partNumber") => {
                refused = request.uri().path().contains("monetised");
            }
            _ => {}
        }
        async move { refused.then(|| response(StatusCode::FORBIDDEN, "")) }
    });
    let ended = run(&desk, "remote.yaml", server, SECRET);
    assert_eq!(ended.exit, Exit::Unusable, "{}", ended.err);
    let (begun, completed, aborted) = *uploads.lock().unwrap();
    assert!(aborted > 0, "{begun} begun, {completed} completed");
    assert_eq!(begun, completed + aborted, "{aborted} aborted");
    // What a run does that nothing is refused is the same as ever.
    let sound = serve(&desk.at("buckets"));
    let local = run(&desk, "local.yaml", sound, SECRET).summary();
    let remote = run(&desk, "remote.yaml", sound, SECRET).summary();
    assert_eq!(totals(&remote), totals(&local));
}

/// What a store says to one whose clock is wrong; what it says of an object alone has no text.
fn skewed(request: &HttpRequest<Incoming>) -> HttpResponse {
    let says = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time \
                and the current time is too large.</Message></Error>";
    let is_of_an_object = request.method() == Method::HEAD;
    response(
        StatusCode::FORBIDDEN,
        if is_of_an_object { "" } else { says },
    )
}

#[test]
fn a_clock_that_is_wrong_is_said_to_be() {
    let desk = desk();
    let sound = serve(&desk.at("buckets"));
    assert_eq!(
        run(&desk, "durable.yaml", sound, SECRET).exit,
        Exit::Findings
    );
    let always = serve_but(&desk, |request| {
        let told = skewed(request);
        async move { Some(told) }
    });
    // The first that is refused is the description of an object.
    let later = serve_but(&desk, |request| {
        let query = request.uri().query().unwrap_or_default();
        let is_refused =
            request.method() == Method::HEAD || query.split('&').any(|part| part == "max-keys=1");
        let told = is_refused.then(|| skewed(request));
        async move { told }
    });
    for (job, server) in [
        ("remote.yaml", always),
        ("durable.yaml", always),
        ("durable.yaml", later),
    ] {
        let ended = run(&desk, job, server, SECRET);
        assert_eq!(ended.exit, Exit::Unusable, "{}", ended.err);
        assert!(
            ended.err.contains("the clock of this machine"),
            "{}",
            ended.err
        );
        assert!(!ended.err.contains("access denied"), "{}", ended.err);
    }
}

#[test]
fn no_instance_is_asked_for_keys_where_that_is_forbidden() {
    let desk = desk();
    let server = serve(&desk.at("buckets"));
    // Where an instance would be asked.
    let instance = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", instance.local_addr().unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for _ in instance.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut without = process(&desk, "remote.yaml", server, SECRET);
    without
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_METADATA_ENDPOINT", &address)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let refused = ended(&desk, "remote.yaml", &mut without);
    assert_eq!(refused.exit, Exit::Unusable, "{}", refused.err);
    let says = "AWS_EC2_METADATA_DISABLED says not to ask the instance";
    assert!(refused.err.contains(says), "{}", refused.err);
    // With keys of its own, a job asks nobody either, and does what the first was told to do.
    let mut with = process(&desk, "remote.yaml", server, SECRET);
    with.env("AWS_METADATA_ENDPOINT", &address)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let done = ended(&desk, "remote.yaml", &mut with);
    assert_eq!(done.exit, Exit::Findings, "{}", done.err);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}
