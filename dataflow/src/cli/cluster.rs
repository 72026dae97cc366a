//! `millrace cluster run`: the processes of a job on this machine, kept running.

use super::args::ClusterRunArgs;
use super::ending::{Exit, Refusal};
use crate::check::check;
use crate::cluster::{
    ClusterError, SECRET_FILE_VARIABLE, SECRET_VARIABLE, Supervisor, SupervisorError, draw_secret,
};
use crate::console::Console;
use crate::crash::end_process;
use crate::interrupt::EXIT_INTERRUPTED;
use crate::job::Job;
use crate::shown::shown_lines;
use clap::ValueEnum as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

pub(super) fn keep_running(
    args: &ClusterRunArgs,
    console: &mut Console<'_>,
) -> Result<Exit, Refusal> {
    // What a person must put right is not tried several times.
    let findings = check(&args.job);
    if findings.iter().any(|finding| finding.is_error()) {
        return Err(Refusal::Diagnostics(findings));
    }
    let (job, _) = Job::load(&args.job).map_err(Refusal::Diagnostics)?;
    let failed = |error: std::io::Error| Refusal::Message(error.to_string());
    let refused = |error: ClusterError| Refusal::Message(error.to_string());
    if let Some(tls) = args.tls.files().map_err(refused)? {
        tls.check(&Ipv4Addr::LOCALHOST.to_string())
            .map_err(refused)?;
    }
    let program = std::env::current_exe().map_err(failed)?;
    // Others on this machine see the ports, and not the environment of these processes.
    let secret = draw_secret().map_err(failed)?;
    let command = |process: usize, hostfile: &Path| {
        let mut command = Command::new(&program);
        command.args(arguments(args, job.metrics, process, hostfile));
        command.env(SECRET_VARIABLE, &secret);
        command.env_remove(SECRET_FILE_VARIABLE);
        // An interrupt from the terminal is for the supervisor, which asks process 0 for the end.
        command.process_group(0);
        command
    };
    let asked = Arc::new(AtomicU8::new(0));
    count_interrupts(&asked).map_err(failed)?;
    let talk = console.talk();
    let supervisor = Supervisor {
        processes: args.processes,
        attempts: args.attempts,
        command: &command,
        talk: &|text| talk.say(&format!("{}\n", shown_lines(text))),
        asked: &asked,
        ends_when_asked: args.watch,
    };
    match supervisor.run() {
        Ok(0) => Ok(Exit::Ok),
        Ok(_) => Ok(Exit::Findings),
        Err(error @ SupervisorError::Interrupted) => {
            end_process(&error.to_string(), EXIT_INTERRUPTED)
        }
        Err(error) => Err(Refusal::Message(error.to_string())),
    }
}

fn count_interrupts(asked: &Arc<AtomicU8>) -> std::io::Result<()> {
    let asked = Arc::clone(asked);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let count = move || {
        for _ in signals.forever() {
            asked.fetch_add(1, Ordering::Relaxed);
        }
    };
    let thread = std::thread::Builder::new().name("interrupt".to_owned());
    thread.spawn(count).map(|_| ())
}

/// The arguments of one process. Each serves its metrics on a port of its own, one further than the
/// process before.
fn arguments(
    args: &ClusterRunArgs,
    metrics: Option<SocketAddr>,
    process: usize,
    hostfile: &Path,
) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec!["run".into(), args.job.clone().into()];
    let mut say = |name: &str, value: OsString| words.extend([name.into(), value]);
    say("--processes", args.processes.to_string().into());
    say("--process", process.to_string().into());
    say("--hostfile", hostfile.into());
    say("--stuck-after", args.stuck_after.to_string().into());
    let form = args.output.to_possible_value();
    say(
        "--output",
        form.map_or_else(String::new, |form| form.get_name().to_owned())
            .into(),
    );
    if let Some(workers) = args.workers {
        say("--workers", workers.to_string().into());
    }
    let tls = &args.tls;
    let files = [
        ("--tls-cert", &tls.tls_cert),
        ("--tls-key", &tls.tls_key),
        ("--tls-ca", &tls.tls_ca),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            say(name, file.into());
        }
    }
    if let Some(out) = &args.out {
        say("--out", out.clone().into());
    }
    if let Some(mut address) = args.metrics.or(metrics) {
        let further = u16::try_from(process).unwrap_or(0);
        if address.port() != 0 {
            address.set_port(address.port().wrapping_add(further));
        }
        say("--metrics", address.to_string().into());
    }
    words.push("--supervised".into());
    if args.watch {
        words.push("--watch".into());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, ClusterCommand, Command, SummaryFormat};
    use clap::Parser as _;

    #[test]
    fn each_process_is_told_what_the_cluster_was() {
        let told = [
            "millrace",
            "cluster",
            "run",
            "job.yaml",
            "--processes",
            "3",
            "--workers",
            "2",
            "--watch",
            "--out",
            "there",
            "--output",
            "json",
            "--stuck-after",
            "7",
            "--tls-cert",
            "cert",
            "--tls-key",
            "key",
            "--tls-ca",
            "ca",
        ];
        let Command::Cluster {
            command: ClusterCommand::Run(args),
        } = Cli::try_parse_from(told).unwrap().command
        else {
            panic!("it is a cluster's run");
        };
        assert_eq!(args.attempts, 5);
        let metrics = Some("127.0.0.1:9090".parse().unwrap());
        let words = arguments(&args, metrics, 2, Path::new("hosts"));
        let words = [OsString::from("millrace")].into_iter().chain(words);
        let Command::Run(run) = Cli::try_parse_from(words).unwrap().command else {
            panic!("it is a run");
        };
        assert_eq!(run.job, Path::new("job.yaml"));
        assert_eq!((run.workers, run.watch), (Some(2), true));
        assert_eq!(run.out.as_deref(), Some(Path::new("there")));
        assert_eq!(run.output, SummaryFormat::Json);
        assert_eq!(run.metrics.unwrap().port(), 9092);
        let cluster = run.cluster;
        assert_eq!((cluster.processes, cluster.process), (Some(3), Some(2)));
        assert_eq!(cluster.hostfile.as_deref(), Some(Path::new("hosts")));
        assert_eq!((cluster.stuck_after, cluster.supervised), (7, true));
        let tls = [
            cluster.tls.tls_cert,
            cluster.tls.tls_key,
            cluster.tls.tls_ca,
        ];
        assert_eq!(tls, ["cert", "key", "ca"].map(|file| Some(file.into())));
    }
}
