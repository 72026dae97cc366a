//! Jobs, rules, catalogs and accounts: read, or told what is wrong with them.

use crate::harness::{folder, fuzz};
use millrace::job::Job;
use millrace_connectors::decode::text_schema;
use millrace_connectors::lookup::Lookups;
use millrace_connectors::mediate::{MediationPlan, MediationRule};
use millrace_connectors::names::Names;
use millrace_connectors::reference::ReferenceFiles;
use millrace_connectors::reference::yaml;
use millrace_connectors::stream::StreamId;
use millrace_connectors::times::TimeRules;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const WORDS: [&[u8]; 34] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b": ",
    b"- ",
    b"\n",
    b"\n  ",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"!!str ",
    b"|\n",
    b">-\n",
    b"'",
    b"\"",
    b"#",
    b"~",
    b"null",
    b".inf",
    b"1e999",
    b"-0",
    b"2026-02-30",
    b"0x1F",
    b"\t",
    b"\xEF\xBB\xBF",
    b"\0",
    b"[[[[[[[[[[[[[[[[[[[[",
    b"{a: {a: {a: {a: {a: ",
    b"? ",
    b"---\n",
    b"prices:\n",
    b"99999999999999999999999999999",
    b"0.0000000000000000000000000000000001",
];

/// Either there is a value or somebody is told.
fn judged<T>(file: &str, value: Option<T>, findings: usize) -> Option<T> {
    assert!(
        value.is_some() || findings > 0,
        "{file} is refused without a word"
    );
    value
}

#[test]
fn jobs_and_rules() {
    fuzz("jobs", &WORDS, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let (job, findings) = Job::from_text(Path::new("job.yaml"), &text);
        judged("job.yaml", job, findings.len());
        let read = yaml::read::<MediationRule>("mediation.yaml", &text);
        if let Some(rule) = judged("mediation.yaml", read.value, read.findings.len()) {
            let stream = StreamId::of_folder("a/b/c/input").unwrap();
            let (lookups, names) = (Arc::<Lookups>::default(), Arc::<Names>::default());
            let compiled = MediationPlan::compile(
                stream,
                &rule,
                "mediation.yaml",
                &lookups,
                names,
                &TimeRules::default(),
            );
            match compiled {
                Ok(plan) => {
                    if let Err(findings) = plan.mediator(&text_schema(plan.columns())) {
                        assert!(!findings.is_empty());
                    }
                }
                Err(findings) => assert!(!findings.is_empty()),
            }
        }
    });
}

#[test]
fn catalogs_and_accounts() {
    let folder = folder();
    let path = folder.path().join("reference.yaml");
    let none = folder.path().join("none.yaml");
    fs::write(&none, "{}\n").unwrap();
    let read = |catalog: &Path, accounts: &Path| {
        let (catalogs, accounts) = (vec![catalog.to_owned()], vec![accounts.to_owned()]);
        let zone = jiff::tz::TimeZone::UTC;
        let mut files = ReferenceFiles::new(catalogs, accounts, zone, Arc::<Names>::default());
        match files.load() {
            Ok(_) => {}
            Err(findings) => assert!(!findings.is_empty(), "refused without a word"),
        }
    };
    fuzz("reference", &WORDS, |bytes, _| {
        fs::write(&path, bytes).unwrap();
        read(&path, &none);
        read(&none, &path);
        read(&path, &path);
    });
}
