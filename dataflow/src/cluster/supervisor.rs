//! A cluster on this machine: starts the processes of a job, and starts them again.
//!
//! ```text
//!  supervisor ── starts ──► process 0 … P-1, ports on loopback
//!      └── one ends badly: ends all, waits, starts all; process 0 takes the next generation
//! ```
//!
//! The standard input of each process is a pipe from the supervisor: the line `end` asks it to end in
//! good order, and when the pipe closes the supervisor is gone, and the process with it.

use crate::crash::EXIT_LOST;
use crate::crash::end_process;
use std::io::{self, BufRead as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How often it looks after its processes.
const LOOK: Duration = Duration::from_millis(10);
/// The first wait before processes are started again; each is twice the one before.
const WAIT: Duration = Duration::from_millis(500);
/// The longest wait.
const WAIT_MOST: Duration = Duration::from_secs(60);
/// A run that lasted this long was no failed attempt.
const LASTED: Duration = Duration::from_secs(60);
/// How long the others may take to end after process 0 has.
const FAREWELL: Duration = Duration::from_secs(30);

/// What a process is asked on its standard input.
const END: &str = "end";

/// Why a supervisor gives up.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The system does not start a process, or give it a port.
    #[error("cannot start the processes: {0}")]
    Start(#[from] io::Error),
    /// They end badly again and again.
    #[error("{last}; given up after {attempts} attempts in a row")]
    Attempts {
        /// How the last one ended.
        last: String,
        /// How many there were.
        attempts: u32,
    },
    /// Somebody asked for the end twice, or of a job that ends by itself.
    #[error("interrupted; all processes are ended")]
    Interrupted,
}

/// How a job is kept running.
pub struct Supervisor<'a> {
    /// How many processes.
    pub processes: usize,
    /// How often in a row they may end badly.
    pub attempts: u32,
    /// The command of a process, which is told its number and the hostfile.
    pub command: &'a dyn Fn(usize, &Path) -> Command,
    /// Hears what happens.
    pub talk: &'a dyn Fn(&str),
    /// How often somebody asked for the end.
    pub asked: &'a AtomicU8,
    /// Whether a job that is asked for its end comes to one.
    pub ends_when_asked: bool,
}

impl Supervisor<'_> {
    /// Runs the job to its end, however often its processes must be started. Returns the exit code of
    /// process 0.
    ///
    /// # Errors
    /// When they end badly too often, or the end is asked for.
    pub fn run(&self) -> Result<i32, SupervisorError> {
        let mut failed = 0;
        loop {
            let begun = Instant::now();
            let last = match self.once()? {
                Outcome::Code(code) => return Ok(code),
                Outcome::Bad(last) => last,
            };
            if self.asked.load(Ordering::Relaxed) > 0 {
                return Err(SupervisorError::Interrupted);
            }
            failed = if begun.elapsed() >= LASTED {
                1
            } else {
                failed + 1
            };
            if failed >= self.attempts {
                let attempts = self.attempts;
                return Err(SupervisorError::Attempts { last, attempts });
            }
            let wait = back_off(failed);
            (self.talk)(&format!(
                "{last}; all processes are started again in {}.{} s (attempt {} of {})",
                wait.as_secs(),
                wait.subsec_millis() / 100,
                failed + 1,
                self.attempts
            ));
            let until = Instant::now() + wait;
            while Instant::now() < until {
                if self.asked.load(Ordering::Relaxed) > 0 {
                    return Err(SupervisorError::Interrupted);
                }
                std::thread::sleep(LOOK);
            }
        }
    }

    fn once(&self) -> Result<Outcome, SupervisorError> {
        let hostfile = Hostfile::on_free_ports(self.processes)?;
        let mut team = Team::default();
        for process in 0..self.processes {
            let mut command = (self.command)(process, &hostfile.0);
            team.0.push(command.stdin(Stdio::piped()).spawn()?);
        }
        let mut codes: Vec<Option<i32>> = vec![None; self.processes];
        let (mut asked, mut ended) = (0, None);
        loop {
            for (process, child) in team.0.iter_mut().enumerate() {
                let Some(status) = child.try_wait()? else {
                    continue;
                };
                match status.code() {
                    // Well, with or without findings.
                    Some(code @ (0 | 1)) => codes[process] = Some(code),
                    _ => return Ok(Outcome::Bad(describe(process, status))),
                }
            }
            if codes.iter().all(Option::is_some) {
                return Ok(Outcome::Code(codes[0].unwrap_or(0)));
            }
            if let Some(code) = codes[0] {
                let since = *ended.get_or_insert_with(Instant::now);
                if since.elapsed() > FAREWELL {
                    (self.talk)("process 0 has ended, others have not; they are ended");
                    return Ok(Outcome::Code(code));
                }
            }
            let told = self.asked.load(Ordering::Relaxed);
            if told > asked {
                if told > 1 || !self.ends_when_asked {
                    return Err(SupervisorError::Interrupted);
                }
                asked = told;
                // A process that is gone is noticed above.
                let pipe = team.0.first_mut().and_then(|child| child.stdin.as_mut());
                pipe.map(|pipe| writeln!(pipe, "{END}").and_then(|()| pipe.flush()).ok());
            }
            std::thread::sleep(LOOK);
        }
    }
}

enum Outcome {
    /// All ended well; what process 0 ended with.
    Code(i32),
    /// One did not, in words.
    Bad(String),
}

fn describe(process: usize, status: ExitStatus) -> String {
    // "exit status: 3", "signal: 9 (SIGKILL)"
    format!("process {process} ended badly ({status})")
}

fn back_off(failed: u32) -> Duration {
    let doubled = WAIT.checked_mul(1 << failed.saturating_sub(1).min(16));
    doubled.map_or(WAIT_MOST, |wait| wait.min(WAIT_MOST))
}

/// Processes that end with the supervisor's interest in them.
#[derive(Default)]
struct Team(Vec<Child>);

impl Drop for Team {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended needs no end.
            child.kill().ok();
        }
        for child in &mut self.0 {
            child.wait().ok();
        }
    }
}

/// A hostfile that is gone with its owner.
struct Hostfile(PathBuf);

impl Hostfile {
    fn on_free_ports(processes: usize) -> io::Result<Self> {
        let listeners: Vec<TcpListener> = (0..processes)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<io::Result<_>>()?;
        let mut text = String::new();
        for listener in &listeners {
            text.push_str(&format!("{}\n", listener.local_addr()?));
        }
        let number = listeners[0].local_addr()?.port();
        let name = format!("millrace-{}-{number}.hosts", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text)?;
        Ok(Self(path))
    }
}

impl Drop for Hostfile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// Does what the supervisor of this process asks on standard input: `end` when it wants the job to end;
/// ends the process when the supervisor is gone.
///
/// # Errors
/// When the system starts no thread.
pub fn obey_supervisor(end: impl Fn() + Send + 'static) -> io::Result<()> {
    let listen = move || {
        for line in io::stdin().lock().lines() {
            match line {
                Ok(line) if line == END => end(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        end_process("the supervisor is gone; this process ends too", EXIT_LOST);
    };
    let thread = std::thread::Builder::new().name("supervised".to_owned());
    thread.spawn(listen).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Runs shell scripts, which find their number in `$0` and the number of the attempt in a file.
    fn supervise(script: &str, attempts: u32, asked: u8) -> (Result<i32, SupervisorError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let command = |process: usize, hosts: &Path| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script, &process.to_string()]);
            command.current_dir(folder.path()).env("HOSTS", hosts);
            command
        };
        let said = Mutex::new(String::new());
        let talk = |text: &str| said.lock().unwrap().push_str(text);
        let ended = Supervisor {
            processes: 2,
            attempts,
            command: &command,
            talk: &talk,
            asked: &AtomicU8::new(asked),
            ends_when_asked: true,
        }
        .run();
        let said = said.lock().unwrap().clone();
        (ended, said)
    }

    #[test]
    fn the_code_of_process_0_is_the_jobs() {
        let (ended, said) = supervise("test $(wc -l < $HOSTS) = 2 && exit $((1 - $0))", 1, 0);
        assert_eq!((ended.unwrap(), said.as_str()), (1, ""));
    }

    #[test]
    fn all_are_started_again_when_one_ends_badly() {
        // The first time process 1 is killed, and process 0 would wait for ever.
        let script = "echo $0 >> tried; if [ $(wc -l < tried) -gt 2 ]; then exit 0; fi; \
                      if [ $0 = 1 ]; then kill -9 $$; fi; exec sleep 100";
        let (ended, said) = supervise(script, 3, 0);
        assert_eq!(ended.unwrap(), 0);
        assert!(said.contains("process 1 ended badly (signal: 9"), "{said}");
        assert!(said.contains("attempt 2 of 3"), "{said}");
    }

    #[test]
    fn attempts_are_limited() {
        let (ended, said) = supervise("exit 2", 2, 0);
        let said_last = ended.unwrap_err().to_string();
        assert!(said_last.contains("(exit status: 2)"), "{said_last}");
        assert!(said_last.contains("after 2 attempts"), "{said_last}");
        assert_eq!(said.matches("started again").count(), 1, "{said}");
        assert_eq!(back_off(1), WAIT);
        assert_eq!(back_off(3), WAIT * 4);
        assert_eq!(back_off(30), WAIT_MOST);
    }

    #[test]
    fn process_0_is_asked_for_the_end() {
        let script = "if [ $0 = 0 ]; then read line; test $line = end; else exit 0; fi";
        assert_eq!(supervise(script, 1, 1).0.unwrap(), 0);
        let (ended, _) = supervise("exec sleep 100", 1, 2);
        assert!(matches!(ended, Err(SupervisorError::Interrupted)));
    }
}
