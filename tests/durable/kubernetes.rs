//! The example for Kubernetes says the same everywhere, and its job can be run.

use millrace::cluster::{ClusterPlan, Place, SECRET_VARIABLE, Secret};
use millrace_tests::kills::command;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn example(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kubernetes");
    examples.join(name)
}

/// A file of the example, without its comments.
fn said(name: &str) -> String {
    let text = std::fs::read_to_string(example(name)).unwrap();
    let said = |line: &str| format!("{}\n", line.split(" #").next().unwrap_or_default());
    text.lines().map(said).collect()
}

/// What follows a word for the first time, up to the next space.
#[track_caller]
fn behind<'t>(text: &'t str, word: &str) -> &'t str {
    let (_, rest) = text.split_once(word).expect(word);
    rest.split_whitespace().next().expect(word)
}

#[test]
fn the_number_of_processes_is_the_same_everywhere() {
    let set = said("statefulset.yaml");
    let replicas: usize = behind(&set, "replicas:").parse().unwrap();
    let processes: usize = behind(&set, "--processes").parse().unwrap();
    assert_eq!(replicas, processes);
    let hosts = said("job/hosts");
    let hosts: Vec<&str> = hosts.lines().filter(|line| !line.is_empty()).collect();
    assert!(hosts.len() >= processes, "{hosts:?}");
    // Pods are named after their set and numbered, and found below the service without an address.
    let name = behind(&set, "name:");
    let service = behind(&set, "serviceName:");
    let port = behind(&set, "containerPort:");
    for (n, host) in hosts.iter().enumerate() {
        assert_eq!(*host, format!("{name}-{n}.{service}:{port}"));
    }
    // Such processes run with a secret alone; the README makes one.
    let place = Place {
        process: 0,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    };
    assert!(ClusterPlan::of(place, Duration::ZERO, Secret::default(), true, None).is_err());
    let secrets = std::fs::read_to_string(example("README.md")).unwrap();
    assert!(secrets.contains(&format!("--from-literal={SECRET_VARIABLE}=")));
    assert!(set.contains("secretRef: { name: millrace }"), "{set}");
    let services = said("services.yaml");
    assert!(services.contains(&format!("name: {service}\n")));
    assert!(services.contains(&format!("port: {port} ")), "{port}");
}

#[test]
fn its_job_is_sound_and_mounted_whole() {
    let job = example("job/job.yaml").display().to_string();
    let mut check = command(&["check", &job]);
    for secret in [
        "KAFKA_USERNAME",
        "KAFKA_PASSWORD",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
    ] {
        check.env(secret, "of-a-test");
    }
    let checked = check.output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");
    let mounted = self::said("kustomization.yaml");
    for file in std::fs::read_dir(example("job")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(
            mounted.contains(&format!("job/{name}")),
            "{name} is not mounted"
        );
    }
    let set = self::said("statefulset.yaml");
    assert!(set.contains("run /job/job.yaml") && set.contains("--hostfile /job/hosts"));
}
