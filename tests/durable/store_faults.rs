//! A store that fails, answers late, hides that it has done what it was asked, and does it after nobody
//! waits any more: what a job leaves in it is what it leaves in one that works.
//!
//! The server is the real one; faults are put between it and the wire. `MILLRACE_SEED` asks for other
//! faults.

use crate::object_store::{desk, process, run};
use crate::s3::SECRET;
use hyper::body::Incoming;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{rows, standing, totals};
use millrace_tests::kills::variable;
use s3s::service::S3Service;
use s3s::{Body, HttpError, HttpRequest, HttpResponse};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long the job waits for an answer.
const PATIENCE: &str = "400ms";
const RUNS: u32 = 9;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is refused.
    Refused,
    /// It is done, and called a failure.
    Hidden,
    /// It is done, and nobody is told.
    Silent,
    /// It is done late, when the job has given up waiting and perhaps asked again.
    Late,
    /// The answer is slow, but in time.
    Slow,
}

const FAULTS: [Fault; 5] = [
    Fault::Refused,
    Fault::Hidden,
    Fault::Silent,
    Fault::Late,
    Fault::Slow,
];

/// How many requests met each fault, in the order of [`FAULTS`].
type Met = Arc<Mutex<[u32; FAULTS.len()]>>;

#[derive(Clone)]
struct Server {
    store: S3Service,
    dice: Arc<Mutex<Dice>>,
    met: Met,
}

fn unavailable() -> HttpResponse {
    let mut response = HttpResponse::new(Body::empty());
    *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
    response
}

impl Server {
    fn fault(&self) -> Option<Fault> {
        let roll = self.dice.lock().unwrap().roll(40);
        let at = usize::try_from(roll).unwrap();
        let fault = FAULTS.get(at).copied()?;
        self.met.lock().unwrap()[at] += 1;
        Some(fault)
    }

    async fn answer(self, request: HttpRequest<Incoming>) -> Result<HttpResponse, HttpError> {
        let fault = self.fault();
        let mut request = request.map(Body::from);
        if fault == Some(Fault::Refused) {
            return Ok(unavailable());
        }
        // Whole before anything is done: who asks may hang up meanwhile.
        let body = request.body_mut().store_all_limited(1 << 30).await;
        *request.body_mut() = Body::from(body.map_err(HttpError::new)?);
        let pause = Duration::from_millis(match fault {
            Some(Fault::Late) => 700,
            Some(Fault::Slow) => 200,
            _ => 0,
        });
        let store = self.store;
        // A task of its own goes on when the connection is gone.
        let done = tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            store.call(request).await
        });
        let response = done.await.unwrap()?;
        match fault {
            Some(Fault::Hidden) => Ok(unavailable()),
            Some(Fault::Silent) => std::future::pending().await,
            _ => Ok(response),
        }
    }
}

/// Serves the buckets with faults, until the test's process ends.
fn serve(buckets: &Path, seed: u64, met: &Met) -> SocketAddr {
    let server = Server {
        store: crate::s3::store(buckets),
        dice: Arc::new(Mutex::new(Dice(seed))),
        met: Arc::clone(met),
    };
    crate::s3::serve_with(move |request| server.clone().answer(request))
}

#[test]
fn faults_of_the_store_neither_lose_nor_double() {
    let seed = u64::from(variable("MILLRACE_SEED", 1));
    let desk = desk();
    let sound = crate::s3::serve(&desk.at("buckets"));
    let undisturbed = run(&desk, "remote.yaml", sound, SECRET).summary();
    let met = Met::default();
    let server = serve(&desk.at("buckets"), seed, &met);
    let mut dice = Dice(seed);
    let (mut whole, mut gave_up, mut killed) = (0, 0, 0);
    let runs = variable("MILLRACE_KILLS", RUNS);
    let all_met = || met.lock().unwrap().iter().all(|met| *met > 0);
    for turn in 0..runs * 10 {
        if turn >= runs && all_met() {
            break;
        }
        let mut child = process(&desk, "durable.yaml", server, SECRET)
            .env("AWS_TIMEOUT", PATIENCE)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300 + dice.roll(2_500)));
        match child.try_wait().unwrap() {
            // A run that the store has disappointed too often says so and ends.
            Some(_)
                if std::fs::read_to_string(desk.at("durable.yaml.exit")).unwrap() == "Unusable" =>
            {
                let said = std::fs::read_to_string(desk.at("durable.yaml.err")).unwrap();
                assert!(said.contains("s3://usage/"), "seed {seed}: {said}");
                gave_up += 1;
            }
            Some(status) => {
                assert!(status.success(), "seed {seed}");
                whole += 1;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
            }
        }
    }
    // What was late is done by now.
    std::thread::sleep(Duration::from_secs(1));
    let last = run(&desk, "durable.yaml", sound, SECRET);
    let met = *met.lock().unwrap();
    println!(
        "{killed} kills, {gave_up} runs that gave up, {whole} runs to the end; {:?}; seed {seed}",
        FAULTS.iter().zip(met).collect::<Vec<_>>()
    );
    let last = last.summary();
    assert_eq!(totals(&last), totals(&undisturbed), "seed {seed}");
    assert_eq!(last["records"], undisturbed["records"], "seed {seed}");
    for output in ["monetised", "suspense", "aggregated", "raw_status"] {
        for kind in ["changes", "snapshot"] {
            let there = |folder: &str| {
                let folder = format!("buckets/usage/{folder}/{output}/{kind}");
                standing(rows(&desk.at(&folder)))
            };
            assert_eq!(
                there("durable"),
                there("out"),
                "seed {seed}: {output}/{kind}"
            );
        }
    }
    assert!(
        met.iter().all(|met| *met > 0),
        "a fault was never met: {met:?}"
    );
}
