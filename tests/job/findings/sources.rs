//! Hints about the sources of a job, each by itself.

use super::*;

const INPUT: &str = "switch/voice/postpaid/input/a.csv";
const CONVENTION: &str = "    path: switch/voice/postpaid/input\n";
const NAMED: &str = "    platform: switch\n    service_type: voice\n    path: usage\n";
/// A source that reads a topic.
const TOPIC: &str = "    kafka: { brokers: \"127.0.0.1:9\", topics: [usage] }\n";

/// The job with other lines in place of the source's path.
fn path(lines: &str) -> Edit {
    put(JOB, JOB_TEXT.replace("    path: usage\n", lines))
}

/// The job with a line more, by which it writes what its source reads.
fn written(line: &str, named: &'static str) -> Case {
    Case::refused(named, "leave what is written out with `exclude: [").wrong(more(JOB, line))
}

/// The job with a line more in its source.
fn source(line: &str) -> Edit {
    path(&format!("    path: usage\n    {line}\n"))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = places();
    cases.extend(formats());
    cases.extend(changes());
    cases.extend(messages());
    cases.extend(fields());
    cases
}

/// The usage as JSON, whose records name their own fields.
const RECORDS: &str =
    "{\"id\":1,\"number\":\"n1\",\"at\":\"2026-03-10T00:00:00Z\",\"units\":3,\"zone\":\"far\"}
{\"id\":2,\"number\":\"n1\",\"at\":\"2026-03-20T00:00:00Z\",\"units\":4,\"zone\":\"far\"}
";

/// Fields that the rule reads and that no record has.
fn fields() -> Vec<Case> {
    let lacks = |billed, field, hint| {
        Case::doubtful(billed, field, hint)
            .wrong(path("    path: usage.jsonl\n"))
            .wrong(put("usage.jsonl", RECORDS))
    };
    let misspelled = "no record of \"usage.jsonl\" has the field \"unit\", did you mean \"units\"";
    let absent =
        "no record of \"usage.jsonl\" has the field \"level\"; its fields are at, id, number";
    let declared = "level: { type: text, may_be: absent }";
    vec![
        lacks(
            "0 USD",
            misspelled,
            "correct the name; if files may lack the field, declare it",
        )
        .wrong(swap(
            JOB,
            "columns: { units: bigint",
            "columns: { unit: bigint",
        ))
        .wrong(swap(JOB, "units: units", "units: \"coalesce(unit, 0)\""))
        .right(swap(
            JOB,
            "columns: { unit: bigint",
            "columns: { units: bigint",
        ))
        .right(swap(JOB, "coalesce(unit, 0)", "units")),
        lacks("7 USD", absent, declared)
            .wrong(swap(
                JOB,
                "attributes: { region:",
                "attributes: { level: level, region:",
            ))
            .right(swap(JOB, "columns: {", format!("columns: {{ {declared},"))),
        // Declared, it would make one record of two.
        lacks(
            "4 USD",
            "no record of \"usage.jsonl\" has the field \"Id\", did you mean \"id\"",
            "correct the name",
        )
        .wrong(swap(
            JOB,
            "identity: [id]",
            "identity: [\"coalesce(Id, 'none')\"]",
        ))
        .wrong(swap("usage.jsonl", "\"units\":3", "\"units\":4"))
        .wrong(swap("usage.jsonl", "2026-03-20", "2026-03-10"))
        .right(swap(JOB, "coalesce(Id, 'none')", "id"))
        .total("8 USD"),
    ]
}

fn places() -> Vec<Case> {
    let sources = JOB_TEXT.find("sources:").map_or("", |at| &JOB_TEXT[at..]);
    let kind = |kind: &str| format!("    record_type: {kind}\n    path: usage\n");
    let prepaid = || {
        Case::refused(
            "unknown record type \"prepaid\"",
            "add `record_type: postpaid`, or call the folder above `input` that",
        )
        .wrong(put("switch/voice/prepaid/input/a.csv", USAGE_TEXT))
        .wrong(put(
            JOB,
            JOB_TEXT.replace(NAMED, "    path: switch/voice/prepaid/input\n"),
        ))
    };
    let lacks = |key: &'static str, hint: &'static str| Case::refused(key, hint);
    let platform = || {
        lacks(
            "the source \"switch\" has no platform",
            "add `platform`, or keep the files in <platform>/<service type>/postpaid/input",
        )
        .wrong(swap(JOB, "    platform: switch\n", ""))
    };
    vec![
        Case::refused(
            "the platform \"../../../x\" cannot be the name of a folder",
            "write a short name without `/`",
        )
        .wrong(swap(JOB, "platform: switch", "platform: ../../../x"))
        .right(swap(JOB, "../../../x", "x")),
        Case::refused(
            "the service_type \"a/b\" cannot be the name of a folder",
            "write a short name without `/`",
        )
        .wrong(swap(JOB, "service_type: voice", "service_type: a/b"))
        .wrong(swap(ACCOUNTS, "service_type: voice", "service_type: a/b"))
        .right(swap(JOB, "a/b", "voice"))
        .right(swap(ACCOUNTS, "a/b", "voice")),
        written("outputs: { folder: usage/out }\n", "usage/out").right(swap(
            JOB,
            "usage/out",
            "out",
        )),
        written("outputs: { folder: usage/out }\n", "usage/out").right(swap(
            JOB,
            "path: usage",
            "path: usage\n    exclude: [\"out/**\"]",
        )),
        written(
            "archive: { folder: usage/closed/2026, after: 40d }\n",
            "usage/closed/2026",
        )
        .right(swap(JOB, "usage/closed/2026", "closed")),
        Case::refused(
            "reads what the job writes to \"./usage/../usage\", as `durability` says",
            "give what is written a folder of its own",
        )
        .wrong(more(JOB, "durability: { folder: ./usage/../usage }\n"))
        .right(swap(JOB, "./usage/../usage", "state")),
        Case::refused("the job has no source", "name at least one under `sources`")
            .wrong(put(
                JOB,
                JOB_TEXT
                    .replace(sources, "sources: []\n")
                    .replace("lookups:", "# lookups:"),
            ))
            .right(put(JOB, JOB_TEXT)),
        Case::refused(
            "reads from no one place",
            "give it either `path` or `kafka`",
        )
        .wrong(path(""))
        .right(put(JOB, JOB_TEXT)),
        Case::refused(
            "reads from no one place",
            "give it either `path` or `kafka`",
        )
        .wrong(source(TOPIC.trim()))
        .right(put(JOB, JOB_TEXT)),
        Case::refused("\"[a.csv\" is no pattern", "write names like `*.csv`")
            .wrong(source("include: [\"[a.csv\"]"))
            .right(swap(JOB, "[a.csv", "*.csv")),
        Case::refused(
            "the format of \"usage.dat\" cannot be told",
            "add `format: csv`",
        )
        .wrong(put("usage.dat", USAGE_TEXT))
        .wrong(path("    path: usage.dat\n"))
        .right(swap(
            JOB,
            "path: usage.dat",
            "path: usage.dat\n    format: csv",
        )),
        Case::refused(
            "`csv` is for CSV files",
            "leave it out, or correct the format",
        )
        .wrong(put(USAGE, USAGE_TEXT.replace(',', ";")))
        .wrong(source("format: jsonl\n    csv: { delimiter: ; }"))
        .right(swap(JOB, "jsonl", "csv")),
        platform().right(put(JOB, JOB_TEXT)),
        platform()
            .right(put(INPUT, USAGE_TEXT))
            .right(put(JOB, JOB_TEXT.replace(NAMED, CONVENTION))),
        lacks(
            "the source \"switch\" has no service_type",
            "add `service_type`",
        )
        .wrong(swap(JOB, "    service_type: voice\n", ""))
        .right(put(JOB, JOB_TEXT)),
        Case::refused(
            "unknown record type \"prepaid\"",
            "there is `postpaid` alone",
        )
        .wrong(path(&kind("prepaid")))
        .right(path(&kind("postpaid"))),
        prepaid().right(swap(
            JOB,
            "    path:",
            "    record_type: postpaid\n    path:",
        )),
        prepaid()
            .right(put(INPUT, USAGE_TEXT))
            .right(swap(JOB, "prepaid", "postpaid")),
    ]
}

/// How files are laid out.
fn formats() -> Vec<Case> {
    let semicolons = || put(USAGE, USAGE_TEXT.replace(',', ";"));
    vec![
        Case::refused("unknown format \"cvs\", did you mean \"csv\"?", "")
            .wrong(source("format: cvs"))
            .right(swap(JOB, "cvs", "csv")),
        Case::refused(
            "the format `csv` takes no \"delimter\"; did you mean \"delimiter\"?",
            "",
        )
        .wrong(semicolons())
        .wrong(source("format: { type: csv, delimter: ; }"))
        .right(swap(JOB, "delimter", "delimiter")),
        Case::refused(
            "the format `jsonl` takes no \"delimiter\"; that is for `csv`",
            "",
        )
        .wrong(semicolons())
        .wrong(source("format: { delimiter: ;, type: jsonl }"))
        .right(swap(JOB, "jsonl", "csv")),
        Case::refused(
            "`csv` says again how the files are laid out",
            "write all options of the files under `format`, and leave `csv` out",
        )
        .wrong(semicolons())
        .wrong(source(
            "format: { type: csv, delimiter: \",\" }\n    csv: { delimiter: ; }",
        ))
        .right(swap(JOB, "\",\" }\n    csv: { delimiter: ; }", "; }")),
        fixed(
            "the fields \"at\" (bytes 5 to 24) and \"units\" (bytes 24 to 26) overlap",
            "units: { start: 24, length: 3 }",
        )
        .right(swap(JOB, "start: 24, length: 3", "start: 25, length: 2")),
        fixed(
            "the field \"zone\" (bytes 27 to 29) ends behind its record, which has 28 bytes",
            "units: { start: 25, length: 2 }\n      length: 28",
        )
        .right(swap(JOB, "length: 28", "length: 29")),
    ]
}

/// Usage of fixed width, with the place of the units and what stands behind the fields.
fn fixed(message: &'static str, units: &str) -> Case {
    let layout = "    path: usage.dat
    format:
      type: fixed
      fields:
        id: { start: 1, length: 2 }
        number: { start: 3, length: 2 }
        at: { start: 5, length: 20 }
        zone: { start: 27, length: 3 }
        ";
    let usage = "1 n12026-03-10T00:00:00Z 3far\n2 n12026-03-20T00:00:00Z 4far\n";
    Case::refused(message, "")
        .wrong(put("usage.dat", usage))
        .wrong(path(&format!("{layout}{units}\n")))
}

/// Files that change, and files that move.
fn changes() -> Vec<Case> {
    let moving = |folder: &str| {
        JOB_TEXT.replace(
            "    path: usage\n",
            &format!("    path: {folder}\n    after: move\n"),
        )
    };
    let state = "durability: { folder: state }\n";
    let missing = || {
        Case::refused(
            "`missing` is about files that change",
            "write `on_change: amend` beside it, or leave it out",
        )
        .wrong(source("missing: void"))
    };
    let away = || {
        Case::remark(
            "files move away once they are read",
            "add `durability: { folder: state }`, or leave `after` out",
        )
        .wrong(put("input/a.csv", USAGE_TEXT))
        .wrong(put(JOB, moving("input")))
    };
    let unmoved = || {
        Case::refused(
            "\"usage\" is no folder that files can be moved out of",
            "a folder whose files move is called `input`; or leave `after` out",
        )
        .wrong(put(JOB, moving("usage") + state))
    };
    vec![
        missing().right(swap(
            JOB,
            "missing: void",
            "on_change: amend\n    missing: void",
        )),
        missing().right(put(JOB, JOB_TEXT)),
        // The files of the first run have moved, and it did not write down that it knows them.
        away()
            .right(put("input/a.csv", USAGE_TEXT))
            .right(more(JOB, state)),
        away()
            .right(put("input/a.csv", USAGE_TEXT))
            .right(swap(JOB, "    after: move\n", "")),
        unmoved().right(put("input/a.csv", USAGE_TEXT)).right(swap(
            JOB,
            "path: usage",
            "path: input",
        )),
        unmoved().right(swap(JOB, "    after: move\n", "")),
        Case::refused(
            "amends what changed, and its records have no identity",
            "name the fields that a record and its correction have in common in `identity`",
        )
        .wrong(source("on_change: amend"))
        .wrong(swap(JOB, "identity: [id]", "identity: position"))
        .right(swap(JOB, "identity: position", "identity: [id]")),
    ]
}

/// What is said of files of a source that reads topics.
fn messages() -> Vec<Case> {
    let of_files = |message: &'static str, hint: &'static str, line: &str| {
        Case::unrun(message, hint)
            .wrong(path(&format!("{TOPIC}    {line}\n")))
            .right(path(TOPIC))
    };
    vec![
        of_files(
            "`format` is for files",
            "how messages are laid out stands in `kafka: { format: … }`",
            "format: jsonl",
        ),
        of_files(
            "`csv` is for files",
            "leave it out; how messages are laid out",
            "csv: { delimiter: ; }",
        ),
        of_files(
            "`after` is for files",
            "leave it out; messages stay in their topics",
            "after: mark",
        ),
        of_files(
            "`include` is for files",
            "the messages that are usage are chosen with `where`",
            "include: [\"*.csv\"]",
        ),
        of_files("messages do not change", "leave it out", "on_change: amend"),
        Case::unrun("no topic is named", "write `topics: [usage]`")
            .wrong(path(&TOPIC.replace("[usage]", "[]")))
            .right(path(TOPIC)),
    ]
}
