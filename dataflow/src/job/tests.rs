//! Job files, and every way of getting them wrong.

use super::*;
use millrace_connectors::decode::Csv;
use std::fs;
use std::path::Path;

/// A folder with a job file and the files that it names.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

fn judged(folder: &tempfile::TempDir, text: &str) -> (Option<Job>, String) {
    let path = folder.path().join("job.yaml");
    let (job, findings) = Job::from_text(&path, text);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let shown = format!("{}:", path.display());
    (
        job,
        lines
            .join("\n")
            .replace(&shown, "")
            .replace("\n  hint: ", " | "),
    )
}

const GOOD: &str = "\
name: llm
time_zone: Europe/Prague
sources:
  - name: agents
    platform: proxy
    service_type: llm
    path: usage.csv.gz
    csv: { delimiter: ; }
    mediation: mediation.yaml
  - name: calls
    path: switch/voice/postpaid/input/
    format: jsonl
    mediation: mediation.yaml
lookups:
  teams: { file: teams.csv, key: session_id }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
billing: { aggregate_by: [service_type, price, model] }
outputs:
  folder: results
  suspense: { json: true }
metrics: { listen: 9090 }
";

const FILES: &[&str] = &[
    "usage.csv.gz",
    "mediation.yaml",
    "switch/voice/postpaid/input/a.jsonl",
    "teams.csv",
    "catalog.yaml",
    "accounts.yaml",
];

#[test]
fn a_job_is_what_its_file_says_and_defaults_for_the_rest() {
    let folder = folder(FILES);
    let (job, findings) = judged(&folder, GOOD);
    assert_eq!(findings, "");
    let job = job.unwrap();
    let [agents, calls] = job.sources.as_slice() else {
        panic!("{job:?}")
    };
    assert_eq!(agents.stream.to_string(), "proxy/llm/postpaid");
    let csv = Format::Csv(Csv {
        delimiter: ';',
        header: None,
    });
    assert_eq!(agents.format_of("usage.csv.gz"), Some(csv));
    assert_eq!(calls.stream.to_string(), "switch/voice/postpaid");
    assert_eq!(job.metrics, Some(SocketAddr::from(([127, 0, 0, 1], 9090))));
    assert_eq!(
        job.outputs.suspense,
        OutputForms {
            changes: true,
            snapshot: true,
            json: true,
            csv: Some(false),
        }
    );
    assert_eq!(
        job.outputs.ledger,
        OutputForms {
            changes: true,
            snapshot: true,
            json: false,
            csv: Some(false),
        }
    );
    assert!(job.keep_raw);
    assert_eq!(job.epoch_rows, EPOCH_ROWS_DEFAULT);
    let names = Names::default();
    let model = Dimension::Attribute(names.enter("model"));
    assert_eq!(
        job.dimensions(&names),
        [Dimension::ServiceType, Dimension::Price, model]
    );
}

#[test]
fn everything_wrong_with_a_job_is_said_at_once() {
    let folder = folder(&["usage.csv", "data.bin", "mediation.yaml", "catalog.yaml"]);
    let text = "\
name: llm
time_zone: Europe/Pragu
sources:
  - name: a
    platform: p
    path: usag.csv
    mediation: mediation.yaml
  - name: a
    platform: p
    service_type: s
    path: data.bin
    mediaton: mediation.yaml
    mediation: { where }
catalogue: [catalog.yaml]
catalog: [catalog.yaml, catalog.yaml, nowhere.yaml]
lookups: { t: { file: gs://bucket/t.csv, key: k } }
metrics: { listen: everywhere }
epoch: { rows: 0 }
outputs: { monetised: { jsn: true } }
";
    let (_, found) = judged(&folder, text);
    for expected in [
        "2:12: unknown time zone \"Europe/Pragu\" | did you mean \"Europe/Prague\"?",
        "4:11: the source \"a\" has no service_type",
        "6:11: there is no file or folder \"usag.csv\" | did you mean \"usage.csv\"?",
        "12:5: unknown key \"mediaton\" | did you mean \"mediation\"?",
        "14:1: unknown key \"catalogue\" | did you mean \"catalog\"?",
        "15:25: the file \"catalog.yaml\" is given twice",
        "15:39: there is no file or folder \"nowhere.yaml\"",
        "16:23: cannot open \"gs://bucket/t.csv\"",
        "17:20: not an address to listen on: \"everywhere\"",
        "18:16: an epoch has from 1 to 1048576 rows, not 0",
        "19:25: unknown key \"jsn\" | did you mean \"json\"?",
    ] {
        assert!(found.contains(expected), "{expected}\nis not in\n{found}");
    }
}

#[test]
fn sources_have_names_of_their_own_and_known_formats() {
    let folder = folder(&["data.bin", "mediation.yaml"]);
    let source =
        "{ name: a, platform: p, service_type: s, path: data.bin, mediation: mediation.yaml }";
    let text = format!("name: x\ntime_zone: UTC\nsources:\n  - {source}\n  - {source}\n");
    let (_, found) = judged(&folder, &text);
    assert!(
        found.contains("5:13: the source \"a\" is given twice; first in line 4"),
        "{found}"
    );
    assert!(
        found.contains("the format of \"data.bin\" cannot be told"),
        "{found}"
    );
    let (_, found) = judged(&folder, "name: x\ntime_zone: UTC\nsources: []\n");
    assert_eq!(
        found,
        "1:1: the job has no source | name at least one under `sources`"
    );
}

#[test]
fn a_missing_job_file_is_a_finding() {
    let (job, findings) = Job::judge(Path::new("no/such/job.yaml"));
    assert!(job.is_none());
    assert!(
        findings[0].message.contains("cannot read the job file"),
        "{findings:?}"
    );
}
