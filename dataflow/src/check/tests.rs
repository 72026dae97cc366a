//! Jobs checked as a whole, from a folder of files.

mod names;

use super::*;
use std::fs;

const JOB: &str = "\
name: llm
time_zone: UTC
sources:
  - name: agents
    platform: proxy
    service_type: llm
    path: usage.csv
    mediation: mediation.yaml
lookups:
  teams: { file: teams.csv, key: session }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
";

const RULE: &str = "\
columns: { tokens: bigint, at: timestamp }
identity: [id]
service: lookup('teams', 'team', session)
time: at
attributes: { model: model }
charges: { tokens: tokens }
";

const FILES: &[(&str, &str)] = &[
    ("job.yaml", JOB),
    ("mediation.yaml", RULE),
    (
        "usage.csv",
        "id,session,model,tokens,at\n1,s,m,5,2026-01-01T00:00:00Z\n",
    ),
    ("teams.csv", "session,team\ns,acme\n"),
    (
        "catalog.yaml",
        "currency: USD\nprices: [{ item: tokens, price: 1 }]\n",
    ),
    ("accounts.yaml", "accounts: [{ id: acme, currency: USD }]\n"),
];

/// The findings about a sound job with one file replaced.
fn with(name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (file, sound) in FILES {
        fs::write(
            folder.path().join(file),
            if *file == name { text } else { sound },
        )
        .unwrap();
    }
    let findings = check(&folder.path().join("job.yaml"));
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    lines
        .join("\n")
        .replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_sound_job_has_no_findings() {
    assert_eq!(with("", ""), "");
    let inline: String = RULE.lines().map(|line| format!("      {line}\n")).collect();
    let job = JOB.replace(" mediation.yaml\n", &format!("\n{inline}"));
    assert_eq!(with("job.yaml", &job), "");
}

#[test]
fn rules_are_judged_where_they_stand() {
    let rule = RULE
        .replace("time: at", "time: att")
        .replace("tokens: tokens", "tokens: tokens / 3");
    let found = with("mediation.yaml", &rule);
    assert!(found.contains("mediation.yaml:6:"), "{found}");
    let found = with("mediation.yaml", &RULE.replace("time:", "tme:"));
    assert!(
        found.contains("mediation.yaml:4:1: unknown key \"tme\""),
        "{found}"
    );
    assert!(found.contains("did you mean \"time\"?"), "{found}");
    let inline: String = RULE.lines().map(|line| format!("      {line}\n")).collect();
    let inline = inline.replace("tokens: tokens }", "tokens: tokens / 3 }");
    let found = with(
        "job.yaml",
        &JOB.replace(" mediation.yaml\n", &format!("\n{inline}")),
    );
    assert!(found.starts_with("job.yaml:14:26: "), "{found}");
}

#[test]
fn lookups_and_columns_are_judged_against_their_files() {
    let found = with("mediation.yaml", &RULE.replace("'team'", "'taem'"));
    assert!(
        found.contains("job.yaml:10:18: the lookup table \"teams\""),
        "{found}"
    );
    assert!(found.contains("did you mean \"team\""), "{found}");
    let found = with("mediation.yaml", &RULE.replace("'teams'", "'tems'"));
    assert!(found.contains("mediation.yaml:3:10: "), "{found}");
    let found = with("usage.csv", "id,session,modell,tokens,at\n");
    assert!(
        found.contains("job.yaml:7:11: ") && found.contains("modell"),
        "{found}"
    );
}

#[test]
fn mistakes_in_all_files_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "job.yaml",
        &JOB.replace("UTC", "Utopia")
            .replace("teams.csv", "nowhere.csv"),
    );
    write("mediation.yaml", &RULE.replace("bigint", "biggint"));
    write("usage.csv", "");
    write(
        "catalog.yaml",
        "currency: USD\nprices: [{ item: tokens, price: -1 }]\n",
    );
    write("accounts.yaml", "acounts: []\n");
    let findings = check(&folder.path().join("job.yaml"));
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let told = told.join("\n");
    for expected in [
        "job.yaml:2:12: unknown time zone",
        "job.yaml:10:18: there is no file or folder \"nowhere.csv\"",
        "mediation.yaml:1:",
        "catalog.yaml:2:33: a price cannot be negative",
        "accounts.yaml:1:1: unknown key \"acounts\"",
    ] {
        assert!(told.contains(expected), "{expected}\nis not in\n{told}");
    }
}

#[test]
fn a_job_without_its_files_says_so_once_per_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.yaml"), JOB).unwrap();
    let findings = check(&folder.path().join("job.yaml"));
    let lines: Vec<u64> = findings.iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [7, 8, 10, 11, 12], "{findings:?}");
}

#[test]
fn a_source_of_topics_has_no_options_of_files() {
    let topics = [
        "    kafka: { brokers: 'localhost:1', topics: [usage] }\n",
        "    format: jsonl\n",
        "    csv: { delimiter: ; }\n",
        "    after: move\n",
    ];
    let job = JOB.replace("    path: usage.csv\n", &topics.concat());
    let found = with("job.yaml", &job);
    for (place, key) in [("8:13", "format"), ("9:10", "csv"), ("10:12", "after")] {
        let expected = format!(
            "job.yaml:{place}: `{key}` is for files, and the source reads topics\n  hint: "
        );
        assert!(found.contains(&expected), "{expected}\nis not in\n{found}");
    }
    assert!(!found.contains("moved"), "{found}");
}

#[test]
fn files_that_move_away_need_durable_state() {
    let job = JOB.replace("usage.csv", "in/input\n    after: move");
    let found = with("job.yaml", &job);
    let expected = "job.yaml:8:12: info: files move away once they are read";
    assert!(found.contains(expected), "{found}");
    let durable = format!("{job}durability: {{ folder: state }}\n");
    let found = with("job.yaml", &durable);
    assert!(!found.contains("files move away"), "{found}");
}

#[test]
fn local_files_may_be_urls_and_remote_ones_are_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in FILES {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let path = folder.path().join("job.yaml");
    let urls = JOB
        .replace("[catalog.yaml]", "['file://catalog.yaml']")
        .replace("mediation: ", "mediation: file://");
    fs::write(&path, &urls).unwrap();
    assert_eq!(check(&path), []);
    let watched = |text: &str| {
        let files = Job::from_text(&path, text).0.unwrap().rule_files();
        let names = files.iter().filter_map(|file| file.file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(watched(&urls), ["mediation.yaml", "teams.csv"]);
    let remote = urls.replace("file://mediation", "s3://b/mediation");
    assert_eq!(watched(&remote), ["teams.csv"]);
}

#[test]
fn expressions_over_fields_that_are_empty_are_pointed_at() {
    let usage = "id,session,model,tokens,cached,at\n\
                 1,s,m,5,2,2026-01-01T00:00:00Z\n\
                 2,s,,5,,2026-01-01T00:00:00Z\n\
                 ,s,,5,1,2026-01-01T00:00:00Z\n";
    let folder = tempfile::tempdir().unwrap();
    for (file, sound) in FILES {
        fs::write(folder.path().join(file), sound).unwrap();
    }
    fs::write(folder.path().join("usage.csv"), usage).unwrap();
    let found = |rule: &str| {
        fs::write(folder.path().join("mediation.yaml"), rule).unwrap();
        let findings = check(&folder.path().join("job.yaml"));
        assert!(findings.iter().all(|finding| !finding.is_error()));
        let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
        shown.join("\n")
    };
    let rule = RULE
        .replace("{ tokens: bigint", "{ tokens: bigint, cached: bigint")
        .replace("tokens: tokens }", "tokens: tokens - cached }");
    let told = found(&rule);
    for (line, said) in [
        (
            2,
            "identity: `id` is empty or absent, in 1 of the first 3 records of \"usage.csv\" (line 4 is one)",
        ),
        (
            6,
            "charges.tokens: `tokens - cached` hangs on cached, which is empty or absent, in 1 of",
        ),
    ] {
        let shown = told.lines().find(|shown| shown.contains(said));
        let shown = shown.unwrap_or_else(|| panic!("{said} is not in {told}"));
        assert!(
            shown.contains(&format!("mediation.yaml:{line}:")),
            "{shown}"
        );
    }
    assert!(
        !told.contains("attributes"),
        "a mere column may be empty: {told}"
    );
    let mended = rule
        .replace("[id]", "[id, at]")
        .replace("tokens - cached", "\"tokens - coalesce(cached, 0)\"")
        .replace(
            "{ tokens: bigint",
            "{ id: { may_be: empty }, tokens: bigint",
        );
    assert_eq!(found(&mended), "");
}
