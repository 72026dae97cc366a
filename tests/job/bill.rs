//! The bills of the examples, computed a second time.
//!
//! `bill.py` reads the usage and the price list as they are published, writes the rules again in SQL
//! and lets DuckDB add up in decimals; what depends on order is a loop in `plans.py`. Neither shares
//! anything with the engine. Every line of a job's
//! aggregated usage must have the same quantity and amount, to the last decimal, and the monetised
//! records must add up to their lines. Python and network access are only needed here: DuckDB is
//! installed once, into a virtual environment inside the cargo target folder.

use crate::quiet::run_quietly;
use millrace::report::Summary;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Releases that the comparison was written for.
const DUCKDB: &str = "duckdb>=1.1,<3";

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// What a job comes to, and the folder of its outputs.
struct Ran {
    summary: Summary,
    out: TempDir,
}

fn ran(job: &str, workers: usize) -> Ran {
    let out = tempfile::tempdir().unwrap();
    let summary = run_quietly(&examples().join(job), workers, out.path());
    assert!(summary.ties_out, "{summary:?}");
    Ran { summary, out }
}

/// The Python that has DuckDB.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bill-python");
        let python = environment.join("bin/python");
        let has_duckdb = |python: &Path| {
            let asked = Command::new(python).args(["-c", "import duckdb"]).output();
            asked.is_ok_and(|output| output.status.success())
        };
        if !has_duckdb(&python) {
            let made = Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&environment)
                .output();
            must(
                made,
                "make a virtual environment",
                "install python3 with its venv module",
            );
            let install = [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                DUCKDB,
            ];
            let installed = Command::new(&python).args(install).output();
            must(
                installed,
                "install DuckDB with pip",
                "the package index must be reachable once",
            );
        }
        python
    })
}

fn must(ended: std::io::Result<Output>, what: &str, hint: &str) {
    match ended {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!(
            "the second computation of the bill cannot {what}; {hint}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => {
            panic!("the second computation of the bill cannot {what}: {error}; {hint}")
        }
    }
}

/// Bills by the rules of `bill` and compares with the job's outputs.
fn compare(bill: &str, out: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("job/bill.py");
    Command::new(python())
        .arg(script)
        .arg(bill)
        .arg(examples())
        .arg(out)
        .output()
        .unwrap()
}

/// Runs the job, compares its lines, and holds its summary against the totals of the comparison and
/// those that the example's README states.
fn check(bill: &str, job: &str, total: &str, items: &[(&str, &str)]) {
    let Ran { summary, out } = ran(job, 2);
    let compared = compare(bill, out.path());
    let text = String::from_utf8_lossy(&compared.stdout);
    let problem = String::from_utf8_lossy(&compared.stderr);
    assert!(compared.status.success(), "{bill} differs\n{text}{problem}");

    let again: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(again["total"], total);
    assert_eq!(again["lines"], summary.lines);
    let totals: Vec<&str> = summary
        .totals
        .iter()
        .map(|money| money.amount.as_str())
        .collect();
    assert_eq!(totals, [total]);
    let stated: BTreeMap<&str, &str> = items.iter().copied().collect();
    let found: BTreeMap<&str, &str> = summary
        .items
        .iter()
        .map(|item| (&*item.name, &*item.money.amount))
        .collect();
    assert_eq!(found, stated);
    assert_eq!(again["items"], serde_json::to_value(&stated).unwrap());
}

#[test]
fn the_main_job_is_billed_to_the_last_decimal() {
    check(
        "llm",
        "llm/job.yaml",
        "2897.0761824",
        &[
            ("input_tokens", "715.923196"),
            ("cached_tokens", "1870.9276864"),
            ("output_tokens", "310.2253"),
        ],
    );
}

#[test]
fn copies_of_a_call_are_dropped_and_the_first_is_billed() {
    check(
        "double-recorded",
        "llm/double-recorded.yaml",
        "1008.6425095",
        &[
            ("input_tokens", "280.998449"),
            ("cached_tokens", "591.826368"),
            ("output_tokens", "135.8176925"),
        ],
    );
}

#[test]
fn under_an_identity_of_places_every_row_is_billed() {
    check(
        "double-recorded-every-row",
        "llm/double-recorded-every-row.yaml",
        "1719.3842239",
        &[
            ("input_tokens", "283.057094"),
            ("cached_tokens", "1188.3373824"),
            ("output_tokens", "247.9897475"),
        ],
    );
}

#[test]
fn versions_agreements_and_lists_are_billed_to_the_last_decimal() {
    check(
        "llm-volume",
        "llm-volume/job.yaml",
        "51.72986814",
        &[
            ("input_tokens", "34.69060455"),
            ("output_tokens", "13.57186359"),
            ("requests", "3.4674"),
        ],
    );
}

#[test]
fn plans_are_billed_to_the_last_decimal() {
    check(
        "subscriptions",
        "subscriptions/job.yaml",
        "103.16814985285714285695",
        &[
            ("input_tokens", "12.09272480285714285695"),
            ("output_tokens", "7.56277445"),
            ("seat", "81"),
            ("commitment", "2.4"),
            ("minimum", "0.1126506"),
        ],
    );
}

#[test]
fn the_comparison_notices_another_bill() {
    let every_row = ran("llm/double-recorded-every-row.yaml", 1);
    let compared = compare("double-recorded", every_row.out.path());
    let told = String::from_utf8_lossy(&compared.stderr);
    assert!(
        !compared.status.success() && told.contains("lines differ"),
        "{told}"
    );
}
