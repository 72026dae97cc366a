//! The language reference: every example in it is run, and it leaves nothing out.
//!
//! A page is Markdown. In it
//!
//! - a block named like a file (```` ```yaml job.yaml ````) is that file. Files in front of the first
//!   heading of the second level are those of every section, the others are those of their section;
//! - a `console` block is commands and what they print: lines in order, `...` for any lines between. A
//!   command ends with 0 unless `# exit code 1` stands behind it;
//! - an `sql` block is an expression a line, and behind `--` its value, or `fails` and a part of why.

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use arrow::util::display::array_value_to_string;
use millrace::cli::Exit;
use millrace::schema::{FileKind, schema};
use millrace_connectors::decode::Format;
use millrace_connectors::expression::{Functions, Parsed};
use millrace_connectors::lookup::Lookups;
use millrace_connectors::times::TimeReading;
use millrace_operators::domain::Reason;
use millrace_tests::jobs::{Desk, millrace};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[test]
fn examples_do_what_they_say() {
    let mut told = Vec::new();
    let mut commands = 0;
    for (page, text) in pages() {
        for section in sections(&text) {
            commands += section.blocks.len();
            told.extend(
                section
                    .run()
                    .into_iter()
                    .map(|fault| format!("{page}, {}: {fault}", section.heading)),
            );
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n\n"));
    assert!(commands > 30, "the pages have few examples: {commands}");
}

#[test]
fn every_key_of_every_file_is_described() {
    let pages: Vec<(FileKind, &[&str])> = vec![
        (
            FileKind::Job,
            &["job.md", "formats.md", "mediation.md", "outputs.md"],
        ),
        (FileKind::Mediation, &["mediation.md"]),
        (FileKind::Catalog, &["catalog.md", "formats.md", "plans.md"]),
        (FileKind::Accounts, &["accounts.md", "formats.md"]),
    ];
    let mut missing = Vec::new();
    for (kind, names) in pages {
        let text: String = names.iter().map(|name| page(name)).collect();
        let described = words_of_code(&text);
        let mut keys = BTreeSet::new();
        let schema = serde_json::to_value(schema(kind)).unwrap();
        collect_keys(&schema, &mut keys);
        for key in keys {
            if !described.contains(key.as_str()) {
                missing.push(format!("{key:?} of a {} file in {names:?}", kind.name()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_function_is_described() {
    let text = page("functions.md");
    let described = words_of_code(&text);
    let functions = Functions::new(&Arc::new(Lookups::default()), &TimeReading::default());
    let missing: Vec<&str> = functions
        .names()
        .filter(|name| !described.contains(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_reason_is_described_with_its_hint() {
    let text = page("suspense.md");
    let rows: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| {
            format!(
                "| `{}` | {} | {:?} | {} |",
                reason.code(),
                reason.stage().name(),
                reason.severity(),
                reason.hint()
            )
        })
        .collect();
    let missing = rows.iter().filter(|row| !text.contains(row.as_str()));
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    assert!(
        missing.is_empty(),
        "rows that docs/suspense.md lacks:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_format_is_described() {
    let text = page("formats.md");
    let listed = |words: Vec<String>| match words.is_empty() {
        true => "none".to_owned(),
        false => format!("`{}`", words.join("`, `")),
    };
    let rows = Format::all().into_iter().map(|format| {
        let endings = format.endings.iter().map(|ending| format!(".{ending}"));
        format!(
            "| `{}` | {} | {} | {} | {} | {} |",
            format.name,
            format.title,
            format.reads(),
            listed(endings.collect()),
            format.about,
            listed(format.options())
        )
    });
    let missing: Vec<String> = rows.filter(|row| !text.contains(row.as_str())).collect();
    assert!(
        missing.is_empty(),
        "rows that docs/formats.md lacks:\n{}",
        missing.join("\n")
    );
}

/// The words of all that is set as code, in a line or in blocks.
fn words_of_code(text: &str) -> BTreeSet<&str> {
    let code = text.split('`').skip(1).step_by(2);
    let words = code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataflow/docs")
}

fn page(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn pages() -> Vec<(String, String)> {
    let entries = fs::read_dir(folder()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let text = page(&name);
            (name, text)
        })
        .collect()
}

fn collect_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| collect_keys(value, keys));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_keys(value, keys)),
        _ => {}
    }
}

/// A fenced block, and the line that it begins at.
struct Block {
    info: String,
    line: usize,
    lines: Vec<String>,
}

/// A section with the files that its examples have.
struct Section {
    heading: String,
    blocks: Vec<Block>,
}

fn sections(text: &str) -> Vec<Section> {
    let mut common: Vec<Block> = Vec::new();
    let mut sections: Vec<Section> = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some(block) = &mut open {
            if line.trim_end() == "```" {
                let block = open.take().expect("a block is open");
                match sections.last_mut() {
                    Some(section) => section.blocks.push(block),
                    None => common.push(block),
                }
            } else {
                block.lines.push(line.to_owned());
            }
        } else if let Some(info) = line.strip_prefix("```") {
            open = Some(Block {
                info: info.trim().to_owned(),
                line: number + 1,
                lines: Vec::new(),
            });
        } else if let Some(heading) = line.strip_prefix("## ") {
            sections.push(Section {
                heading: heading.to_owned(),
                blocks: Vec::new(),
            });
        }
    }
    assert!(open.is_none(), "a block does not end");
    for section in &mut sections {
        let shared = common.iter().map(|block| Block {
            info: block.info.clone(),
            line: block.line,
            lines: block.lines.clone(),
        });
        section.blocks.splice(0..0, shared.collect::<Vec<_>>());
    }
    sections
}

impl Section {
    /// Runs the examples; what is wrong with them.
    fn run(&self) -> Vec<String> {
        let desk = Desk::new(&[]);
        let mut faults = Vec::new();
        for block in &self.blocks {
            match block.info.split_once(' ') {
                Some((_, name)) => desk.write(name, block.lines.join("\n") + "\n"),
                None if block.info == "console" => faults.extend(run_commands(block, &desk)),
                None if block.info == "sql" => faults.extend(evaluate_all(block)),
                None => {}
            }
        }
        faults
    }
}

fn run_commands(block: &Block, desk: &Desk) -> Vec<String> {
    let mut faults = Vec::new();
    let mut lines = block.lines.iter().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ millrace ") else {
            faults.push(format!("line {}: no command: {line}", block.line));
            continue;
        };
        let (command, code) = match command.split_once("# exit code ") {
            Some((command, code)) => (command.trim(), code.trim()),
            None => (command.trim(), "0"),
        };
        let mut expected: Vec<String> = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
            expected.push(line.trim_end().to_owned());
        }
        let here = desk.at("");
        let arguments: Vec<String> = words(command)
            .into_iter()
            .map(|word| {
                let names_file = !word.starts_with('-') && desk.at(&word).exists();
                if names_file {
                    desk.at(&word).display().to_string()
                } else {
                    word
                }
            })
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = millrace(&arguments);
        let shown = format!("{}{}", ended.err, ended.out).replace(&here.display().to_string(), "");
        let ended = match ended.exit {
            Exit::Ok => "0",
            Exit::Findings => "1",
            Exit::Unusable => "2",
            Exit::Lost => "3",
            Exit::Bug => "101",
        };
        if ended != code || !agrees(&expected, &shown) {
            faults.push(format!(
                "line {}: `{command}` ended with {ended} instead of {code}, or printed otherwise:\n{shown}",
                block.line
            ));
        }
    }
    faults
}

/// Words of a command; what stands in double quotes is one.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

/// Whether the lines stand in the text, one behind the other; `...` is any lines between. How far apart
/// the words of a line stand is the affair of tables.
fn agrees(expected: &[String], shown: &str) -> bool {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = shown.lines().map(words).filter(|line| !line.is_empty());
    let mut skips = true;
    for line in expected.iter().map(|line| words(line)) {
        if line.is_empty() {
            continue;
        }
        if line == "..." {
            skips = true;
            continue;
        }
        let found = match skips {
            true => shown.any(|other| other == line),
            false => shown.next().as_deref() == Some(line.as_str()),
        };
        if !found {
            return false;
        }
        skips = false;
    }
    true
}

fn evaluate_all(block: &Block) -> Vec<String> {
    let one = |line: &String| {
        let (sql, wanted) = line.split_once("--").map(|(a, b)| (a.trim(), b.trim()))?;
        let found = evaluate(sql);
        let good = match (wanted.strip_prefix("fails"), &found) {
            (Some(why), Err(error)) => error.contains(why.trim_start_matches(':').trim()),
            (None, Ok(value)) => value == wanted,
            _ => false,
        };
        (!good).then(|| format!("line {}: `{sql}` is {found:?}, not {wanted}", block.line))
    };
    block.lines.iter().filter_map(one).collect()
}

/// The value of an expression without columns.
fn evaluate(sql: &str) -> Result<String, String> {
    let functions = Functions::new(&Arc::new(Lookups::default()), &TimeReading::default());
    let schema = Arc::new(Schema::empty());
    let parsed = Parsed::parse(sql).map_err(|error| format!("{error}; {}", error.hint))?;
    let planned = parsed.plan(&schema, &functions);
    let planned = planned.map_err(|error| format!("{error}; {}", error.hint))?;
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(schema, Vec::new(), &one_row).unwrap();
    let evaluated = planned.evaluate(&batch);
    match evaluated.failures.first() {
        Some(failure) => Err(failure.detail.clone()),
        None if evaluated.values.is_null(0) => Ok("NULL".to_owned()),
        None => array_value_to_string(&evaluated.values, 0).map_err(|error| error.to_string()),
    }
}
