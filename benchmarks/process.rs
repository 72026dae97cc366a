//! Jobs as processes of their own: they can be killed, and their processor time is theirs alone.
//!
//! The process is this binary again, which then does what the binary `millrace` does.

use crate::live::to_f64;
use millrace::cli::main_with;
use millrace::console::{Console, Surroundings, Talk};
use millrace::crash::end_process_on_panic;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{BufWriter, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the process is asked to do: the arguments of `millrace`, one a line.
const ARGUMENTS: &str = "MILLRACE_BENCHMARK_ARGUMENTS";
/// Clock ticks of a second, in which Linux counts processor time.
const TICKS: f64 = 100.0;
/// How long a job is looked at to see whether it rests, and the seconds of processor time that it then has at
/// most: it looks for saved files.
const REST: Duration = Duration::from_secs(5);
const AWAKE: f64 = 0.5;

/// Runs the command that the environment asks for, where it asks for one.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let arguments = std::env::var(ARGUMENTS).ok()?;
    end_process_on_panic();
    let mut out = BufWriter::new(stdout());
    let mut console = Console::new(&mut out, Talk::on(stderr()), Surroundings::of_process());
    let arguments = ["millrace"].into_iter().chain(arguments.split('\n'));
    Some(main_with(arguments.map(OsString::from), &mut console).into())
}

/// Seconds of processor time that a process has had, by its folder below `/proc`.
pub(crate) fn processor(process: &Path) -> f64 {
    seconds(process, 11)
}

/// The same of the children of this process that have ended.
fn processor_of_ended() -> f64 {
    seconds(Path::new("/proc/self"), 13)
}

fn seconds(process: &Path, field: usize) -> f64 {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(field).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    to_f64(ticks) / TICKS
}

/// Memory of a process in bytes, as the kernel counts it.
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) resident: u64,
    /// The most that ever was.
    pub(crate) peak: u64,
}

impl Memory {
    /// That of a process by its folder below `/proc`; nothing of one that has ended.
    fn of(process: &Path) -> Self {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kilobytes =
                line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kilobytes.unwrap_or(0) * 1024
        };
        Self {
            resident: bytes("VmRSS:"),
            peak: bytes("VmHWM:"),
        }
    }
}

/// A job that runs.
pub(crate) struct Process {
    child: Child,
    began: Instant,
    /// What it says of itself.
    told: PathBuf,
}

/// A job that has ended by itself.
pub(crate) struct Ended {
    pub(crate) elapsed: Duration,
    /// Seconds of processor time.
    pub(crate) processor: f64,
    /// What it printed as JSON.
    pub(crate) summary: serde_json::Value,
}

impl Process {
    /// Starts `millrace run` with a job and more arguments.
    pub(crate) fn run(job: &Path, workers: usize, more: &[&str]) -> Result<Self, Box<dyn Error>> {
        Self::start(Command::new(std::env::current_exe()?), job, workers, more)
    }

    /// Starts `millrace run --watch` with a job. Memory that it frees goes back to the system at once, so
    /// that what it has is what it needs.
    pub(crate) fn watch(job: &Path, workers: usize) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env("MIMALLOC_PURGE_DELAY", "0");
        Self::start(command, job, workers, &["--watch"])
    }

    /// Waits until the job has nothing to do any more, and tells its memory.
    pub(crate) fn at_rest(&mut self) -> Result<Memory, Box<dyn Error>> {
        let mut before = 0.0;
        loop {
            std::thread::sleep(REST);
            self.check()?;
            let now = self.processor();
            if now > 0.0 && now - before < AWAKE {
                return Ok(Memory::of(&self.folder()));
            }
            before = now;
        }
    }

    /// Its folder below `/proc`.
    fn folder(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }

    /// As [`Self::run`], with all threads on one processor.
    pub(crate) fn run_on_one_core(job: &Path, workers: usize) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", "0"])
            .arg(std::env::current_exe()?);
        Self::start(command, job, workers, &[])
    }

    fn start(
        mut command: Command,
        job: &Path,
        workers: usize,
        more: &[&str],
    ) -> Result<Self, Box<dyn Error>> {
        let told = job.with_extension("told");
        let (job, workers) = (job.display().to_string(), workers.to_string());
        let run = ["run", &job, "--workers", &workers, "--output", "json"];
        let arguments = [&run, more].concat().join("\n");
        let began = Instant::now();
        let child = command
            .env(ARGUMENTS, arguments)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&told)?)
            .spawn()?;
        Ok(Self { child, began, told })
    }

    /// When it was started.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Seconds of processor time that it has had.
    pub(crate) fn processor(&self) -> f64 {
        processor(&self.folder())
    }

    /// Fails when it has ended, though it should go on.
    pub(crate) fn check(&mut self) -> Result<(), Box<dyn Error>> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the job ended early: {status}").into()),
        }
    }

    /// Ends it as a failing machine would.
    pub(crate) fn kill(mut self) -> Result<(), Box<dyn Error>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets a watching job finish what it has.
    pub(crate) fn stop(self) -> Result<Ended, Box<dyn Error>> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        self.end()
    }

    /// Waits until it has ended; with the most memory that it was seen to have, in bytes.
    pub(crate) fn end_with_peak(self) -> Result<(Ended, u64), Box<dyn Error>> {
        let folder = self.folder();
        let over = Arc::new(AtomicBool::new(false));
        let watch = {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut peak = 0;
                while !over.load(Ordering::Relaxed) {
                    peak = peak.max(Memory::of(&folder).peak);
                    std::thread::sleep(Duration::from_millis(5));
                }
                peak
            })
        };
        let ended = self.end();
        over.store(true, Ordering::Relaxed);
        let peak = watch.join().map_err(|_| "the memory watch ends well")?;
        Ok((ended?, peak))
    }

    /// Waits until it has ended.
    pub(crate) fn end(self) -> Result<Ended, Box<dyn Error>> {
        let before = processor_of_ended();
        let ended = self.child.wait_with_output()?;
        let elapsed = self.began.elapsed();
        if !ended.status.success() {
            let told = fs::read_to_string(&self.told).unwrap_or_default();
            return Err(format!("the job ended with {}: {told}", ended.status).into());
        }
        Ok(Ended {
            elapsed,
            processor: processor_of_ended() - before,
            summary: serde_json::from_slice(&ended.stdout)?,
        })
    }
}
