//! Processes that speak TLS with each other: the same bytes as ever, nothing that others on the way can
//! read, and no place for one whose certificate does not hold.

use crate::cluster::{Processes, hostfile, secretive};
use crate::durability::{compare, desk, few};
use crate::strangers::{Overheard, addresses, hosts_of, proxy, secretive_process};
use millrace::cli::Exit;
use millrace_tests::jobs::{Desk, millrace};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::sync::Arc;
use std::time::Duration;

/// A secret as people make it.
const SECRET: &str = "9d5f0e7a41c64b0c8a53e2f1b7d8c6a0";

/// Writes the certificate of a CA of its own, and what says so on the command line.
fn certificates(
    desk: &Desk,
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Vec<String> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    desk.write(&format!("{name}-ca"), ca.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(ca, key);
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &issuer).unwrap();
    desk.write(&format!("{name}-cert"), cert.pem());
    desk.write(&format!("{name}-key"), key.serialize_pem());
    desk.write("secret", SECRET);
    let at = |file: String| desk.at(&file).display().to_string();
    let words = [
        ("--secret-file", at("secret".to_owned())),
        ("--tls-cert", at(format!("{name}-cert"))),
        ("--tls-key", at(format!("{name}-key"))),
        ("--tls-ca", at(format!("{name}-ca"))),
    ];
    let words = words.into_iter();
    words
        .flat_map(|(name, file)| [name.to_owned(), file])
        .collect()
}

fn process(
    desk: &Desk,
    hosts: &str,
    processes: usize,
    n: usize,
    more: &[String],
) -> std::process::Child {
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    secretive_process(desk, hosts, processes, n, &more)
        .spawn()
        .unwrap()
}

/// Runs a process of three in this process.
fn here(desk: &Desk, hosts: &str, n: usize, more: &[String]) -> millrace_tests::jobs::Ended {
    let job = desk.at("job.yaml").display().to_string();
    let mut words = secretive(&job, hosts, (3, 1), n);
    words.extend(more.iter().cloned());
    millrace(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn only_those_of_the_ca_run_the_job() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    let good = certificates(&desk, "good", |_| {});
    let other = certificates(&desk, "other", |_| {});
    let old = certificates(&desk, "old", |params| {
        params.not_after = date_time_ymd(2020, 1, 1)
    });
    let hosts = hostfile(&desk, 3);
    let real = addresses(&hosts);
    let place = addresses(&hostfile(&desk, 1)).remove(0);
    let elsewhere = hosts_of(
        &desk,
        "elsewhere",
        &[real[0].clone(), real[1].clone(), place],
    );
    let (first, others) = std::thread::scope(|scope| {
        let first = scope.spawn(|| here(&desk, &hosts, 0, &good));
        let mut cluster = Processes(vec![process(&desk, &hosts, 3, 1, &good)]);
        // Somebody has a certificate of another CA, somebody has none, and somebody had one.
        for (words, says) in [
            (&other[..], "it has a certificate that no CA in"),
            (
                &other[..2],
                "it closed the connection without an answer; if one end speaks TLS",
            ),
            (&old[..], "old-cert has expired at 2020-01-01T00:00:00Z"),
        ] {
            let mut words = words.to_vec();
            words.extend(["--patience".to_owned(), "2".to_owned()]);
            let refused = here(&desk, &elsewhere, 2, &words);
            assert_eq!(refused.exit, Exit::Unusable, "{}", refused.err);
            assert!(refused.err.contains(says), "{says}: {}", refused.err);
        }
        cluster.0.push(process(&desk, &hosts, 3, 2, &good));
        let others = cluster.end("with certificates");
        (first.join().unwrap(), others)
    });
    for (status, said) in others {
        assert!(status.success(), "{said}");
    }
    assert!(
        matches!(first.exit, Exit::Ok | Exit::Findings),
        "{}",
        first.err
    );
    for says in [
        "which is of another CA than it has",
        "does not speak TLS; give all processes",
    ] {
        assert!(first.err.contains(says), "{says}: {}", first.err);
    }
    compare(&desk, 0);
}

#[test]
fn nobody_on_the_way_reads_what_processes_say() {
    // What processes say to each other: how a connection begins, and what was used.
    let secrets = [&b"millrace"[..], b"seconds"];
    let overheard = |with_tls: bool| {
        let desk = desk();
        desk.write("usage/calls.csv", few(0));
        let mut words = certificates(&desk, "good", |_| {});
        if !with_tls {
            words.truncate(2);
        }
        let hosts = hostfile(&desk, 2);
        let real = addresses(&hosts);
        let overheard = Arc::<Overheard>::default();
        let door = proxy(real[0].clone(), usize::MAX, &overheard);
        let watched = hosts_of(&desk, "watched", &[door, real[1].clone()]);
        let cluster = Processes(vec![
            process(&desk, &hosts, 2, 0, &words),
            process(&desk, &watched, 2, 1, &words),
        ]);
        for (status, said) in cluster.end("overheard") {
            assert!(status.success(), "{said}");
        }
        compare(&desk, 0);
        std::thread::sleep(Duration::from_millis(100));
        overheard.all.lock().unwrap().clone()
    };
    for (with_tls, readable) in [(false, true), (true, false)] {
        let overheard = overheard(with_tls);
        assert!(overheard.len() > 10_000, "{}", overheard.len());
        for secret in secrets {
            let is_read = overheard.windows(secret.len()).any(|word| word == secret);
            assert_eq!(is_read, readable, "{}", String::from_utf8_lossy(secret));
        }
    }
}

#[test]
fn half_of_the_files_is_refused() {
    let desk = desk();
    desk.write("usage/calls.csv", few(0));
    let words = certificates(&desk, "good", |_| {});
    let hosts = hostfile(&desk, 3);
    let refused = here(&desk, &hosts, 1, &words[..6]);
    assert_eq!(refused.exit, Exit::Unusable);
    assert!(
        refused
            .err
            .contains("give --tls-ca beside --tls-cert and --tls-key"),
        "{}",
        refused.err
    );
    let job = desk.at("job.yaml").display().to_string();
    let mut words: Vec<&str> = words[2..6].iter().map(String::as_str).collect();
    words.splice(0..0, ["cluster", "run", &job, "--processes", "2"]);
    let refused = millrace(&words);
    assert_eq!(refused.exit, Exit::Unusable);
    assert!(
        refused.err.contains("give --tls-ca beside"),
        "{}",
        refused.err
    );
}
