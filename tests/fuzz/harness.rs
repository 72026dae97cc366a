//! Makes inputs, and says which one failed.

use millrace_connectors::shield::is_up;
use millrace_tests::dice::Dice;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Inputs of a target unless `MILLRACE_FUZZ` says how many.
const INPUTS: u64 = 400;
/// An input that takes longer is as bad as one that never ends.
const LONGEST: Duration = Duration::from_secs(60);

/// One of the seeds, changed in one to four places.
fn mutated(random: &mut Dice, seeds: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = random.pick(seeds).clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + 1 + random.below(24)).min(bytes.len());
        match random.below(12) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 | 3 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *random.pick(&[0, 1, 0x7f, 0x80, 0xfe, 0xff, b'0', b'"', b'\n', b' ']);
                }
            }
            4 => drop(bytes.drain(at..end)),
            5 => bytes.truncate(at),
            6 => {
                let again = bytes.get(at..end).unwrap_or_default().to_vec();
                let place = random.below(bytes.len());
                bytes.splice(place..place, again);
            }
            7 => {
                let other = random.pick(seeds);
                let from = random.below(other.len());
                let to = (from + random.below(64)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            8 => {
                let extreme = [0, u64::MAX, 1 << 31, (1 << 31) - 1, 1 << 63, 1 << 40];
                let extreme = random.pick(&extreme).to_le_bytes();
                let width = *random.pick(&[2, 4, 8]);
                for (byte, new) in bytes.iter_mut().skip(at).zip(&extreme[..width]) {
                    *byte = *new;
                }
            }
            9 => {
                let byte = bytes.get(at).copied().unwrap_or(b'[');
                let many = 1 << random.below(13);
                bytes.splice(at..at, std::iter::repeat_n(byte, many));
            }
            _ => {
                let word = *random.pick(words);
                let end = if random.below(2) == 0 { at } else { end };
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
    bytes
}

/// How many inputs are asked for.
pub(crate) fn count() -> Option<u64> {
    number("MILLRACE_FUZZ")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub(crate) fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

/// A folder for files that are written once for each input: in memory, where the system has some for that.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Panics that the shield holds are what is tried here, and not worth a line each.
pub(crate) fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !is_up() {
                tell(panic);
            }
        }));
    });
}

/// Checks the files of the target's corpus as they are, and then mutated.
pub(crate) fn fuzz(target: &str, words: &[&[u8]], check: impl Fn(&[u8], &mut Dice)) {
    quiet();
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus(target))
        .unwrap_or_else(|error| panic!("no corpus of {target}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, seed) in paths.iter().zip(&seeds) {
        let check = || check(seed, &mut Dice(0));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            eprintln!("{target}: {} is at fault", path.display());
            resume_unwind(panic);
        }
    }
    let from = number("MILLRACE_FUZZ_FROM").unwrap_or(0);
    let count = count().unwrap_or(INPUTS);
    let watched = Watch::begin(target);
    for input in from..count {
        watched.now.store(input, Ordering::Relaxed);
        if count >= 20_000 && input % (count / 20) == 0 {
            eprintln!("{target}: {input} of {count}");
        }
        let name = target.bytes().fold(7, |sum: u64, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut random = Dice(name.wrapping_add(input.wrapping_mul(0x00D1_342F_5EED)));
        let bytes = mutated(&mut random, &seeds, words);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&bytes, &mut random))) {
            let kept = std::env::temp_dir().join(format!("millrace-fuzz-{target}-{input}"));
            fs::write(&kept, &bytes).unwrap();
            eprintln!(
                "{target}: input {input} is at fault; it is kept as {}",
                kept.display()
            );
            resume_unwind(panic);
        }
    }
}

/// Ends the process when one input takes for ever, and names it.
struct Watch {
    now: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn begin(target: &str) -> Self {
        let (now, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (watched, ends, target) = (Arc::clone(&now), Arc::clone(&over), target.to_owned());
        std::thread::spawn(move || {
            let (mut input, mut since) = (0, Instant::now());
            while !ends.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(500));
                let now = watched.load(Ordering::Relaxed);
                if now != input {
                    (input, since) = (now, Instant::now());
                } else if since.elapsed() > LONGEST {
                    eprintln!("{target}: input {input} takes longer than {LONGEST:?}");
                    std::process::abort();
                }
            }
        });
        Self { now, over }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
