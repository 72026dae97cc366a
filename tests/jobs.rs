//! Jobs in folders of their own: files are written, the job is run, and what it wrote is read back.

use arrow::json::ArrayWriter;
use millrace::cli::{Exit, main_with};
use millrace::console::{Console, Surroundings, Talk};
use millrace_connectors::output::decimals_as_text;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A folder with a job, gone with its owner.
#[derive(Debug)]
pub struct Desk(tempfile::TempDir);

/// How a run ended, and what it printed on each stream.
#[derive(Debug)]
pub struct Ended {
    /// What the process would end with.
    pub exit: Exit,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// The summary that the run printed as JSON.
    ///
    /// # Panics
    /// When it printed none.
    #[must_use]
    pub fn summary(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The exact totals, `amount currency` each.
    #[must_use]
    pub fn totals(&self) -> Vec<String> {
        totals(&self.summary())
    }
}

/// The exact totals of a summary, `amount currency` each.
#[must_use]
pub fn totals(summary: &Value) -> Vec<String> {
    let total = |money: &Value| format!("{} {}", text(money, "amount"), text(money, "currency"));
    summary["totals"]
        .as_array()
        .into_iter()
        .flatten()
        .map(total)
        .collect()
}

/// An instant in seconds since 1970, as text.
///
/// # Panics
/// Behind the year 9999.
#[must_use]
pub fn instant(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).expect("an instant");
    jiff::Timestamp::from_second(seconds)
        .expect("an instant")
        .to_string()
}

/// A text of an object; empty where it has none.
#[must_use]
pub fn text<'v>(object: &'v Value, key: &str) -> &'v str {
    object[key].as_str().unwrap_or_default()
}

/// Runs the program with these arguments.
#[must_use]
pub fn millrace(arguments: &[&str]) -> Ended {
    millrace_in(Surroundings::default(), arguments)
}

/// Runs the program in surroundings that are not those of a test among others.
#[must_use]
pub fn millrace_in(surroundings: Surroundings, arguments: &[&str]) -> Ended {
    let mut out = Vec::new();
    let (talk, kept) = Talk::kept();
    let arguments = ["millrace"].iter().chain(arguments).map(OsString::from);
    let exit = main_with(arguments, &mut Console::new(&mut out, talk, surroundings));
    let err = kept.lock().map(|kept| kept.clone()).unwrap_or_default();
    let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended {
        exit,
        out: shown(out),
        err: shown(err),
    }
}

impl Desk {
    /// A folder with these files.
    ///
    /// # Panics
    /// When the system gives no folder.
    #[must_use]
    pub fn new(files: &[(&str, &str)]) -> Self {
        let desk = Self(tempfile::tempdir().expect("a folder for the test"));
        files
            .iter()
            .for_each(|(name, content)| desk.write(name, content));
        desk
    }

    /// The place of a file.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file as editors do: beside it first, then in its place at once.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let (path, begun) = (self.at(name), self.at(&format!("{name}.tmp")));
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
        fs::write(&begun, content).expect("a file");
        fs::rename(&begun, &path).expect("the same file system");
    }

    /// Runs `job.yaml` to its end on two workers.
    #[must_use]
    pub fn run(&self) -> Ended {
        let job = self.at("job.yaml").display().to_string();
        millrace(&["run", &job, "--workers", "2", "--output", "json"])
    }

    /// The rows of a snapshot of the folder `out`.
    #[must_use]
    pub fn snapshot(&self, output: &str) -> Vec<Value> {
        rows(&self.at(&format!("out/{output}/snapshot")))
    }
}

/// The rows of all Parquet files of a folder as JSON objects, file by file in the order of names;
/// none where there is no folder.
///
/// # Panics
/// When a file is not readable: it was written by the job.
#[must_use]
pub fn rows(folder: &Path) -> Vec<Value> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "parquet")
    });
    files.sort();
    let mut rows = Vec::new();
    for path in files {
        let file = fs::File::open(&path).expect("a file that was listed");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|file| file.build());
        for batch in reader.expect("a whole Parquet file") {
            let mut writer = ArrayWriter::new(Vec::new());
            // A test compares digits, never binary floats.
            let batch = decimals_as_text(&batch.expect("a readable batch")).expect("decimals");
            writer.write(&batch).expect("rows of plain types");
            writer.finish().expect("an array");
            let text = writer.into_inner();
            let more: Vec<Value> = serde_json::from_slice(&text).expect("an array of objects");
            rows.extend(more);
        }
    }
    rows
}

/// Makes sure that the same rows stand, and tells the first that do not.
///
/// # Panics
/// When they differ.
#[track_caller]
pub fn same_rows(ours: &BTreeMap<String, i64>, theirs: &BTreeMap<String, i64>, what: &str) {
    let only = |rows: &BTreeMap<String, i64>, others: &BTreeMap<String, i64>| {
        let only = rows.iter().filter(|(row, n)| others.get(*row) != Some(n));
        let only = only.take(4).map(|(row, n)| format!("{n} of {row}"));
        only.collect::<Vec<_>>().join("\n")
    };
    assert!(
        ours == theirs,
        "{what} differ; ours:\n{}\ntheirs:\n{}",
        only(ours, theirs),
        only(theirs, ours)
    );
}

/// What changes come to: each row with how often it stands. A snapshot's rows stand once each.
#[must_use]
pub fn standing(changes: Vec<Value>) -> BTreeMap<String, i64> {
    let mut standing = BTreeMap::new();
    for change in changes {
        let Value::Object(mut row) = change else {
            continue;
        };
        row.remove("epoch");
        let diff = row
            .remove("diff")
            .and_then(|diff| diff.as_i64())
            .unwrap_or(1);
        *standing.entry(Value::Object(row).to_string()).or_insert(0) += diff;
    }
    standing.retain(|_, count| *count != 0);
    standing
}
