//! Hints about several sources of one job.

use super::*;

/// A second source, of the same stream unless a line says otherwise.
fn second(lines: &str) -> String {
    let source = JOB_TEXT.find("  - name").map_or("", |at| &JOB_TEXT[at..]);
    let source = source.replace("name: switch", "name: second");
    source.replace("    path: usage\n", &format!("    path: second\n{lines}"))
}

/// The job with a line in its first source, and a second source; which reads a record of one unit, and
/// one that the first has, too.
fn two(first: &str, lines: &str) -> Vec<Edit> {
    let job = JOB_TEXT.replace("    path: usage\n", &format!("    path: usage\n{first}"));
    let rows = "id,number,at,units,zone\n1,n1,2026-03-10T00:00:00Z,3,far\n9,n1,2026-03-11T00:00:00Z,1,far\n";
    vec![put("second/b.csv", rows), put(JOB, job + &second(lines))]
}

fn refused(message: &'static str, hint: &'static str, wrong: Vec<Edit>) -> Case {
    Case {
        wrong,
        ..Case::refused(message, hint)
    }
}

fn right(case: Case, advised: Vec<Edit>, total: &'static str) -> Case {
    Case {
        advised,
        total,
        ..case
    }
}

const OWN: &str = "    identity: own\n";
const SHARED: &str = "    identity: shared\n";
const ANOTHER: &str = "    platform: pbx\n";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = scopes();
    cases.extend(precedence());
    cases.extend(names());
    cases
}

/// Whose an identity is.
fn scopes() -> Vec<Case> {
    let unsaid = || {
        refused(
            "do not say whether an equal id",
            "`identity: own` (each numbers its records itself: both are billed) or `identity: shared` (one record",
            two("", ""),
        )
    };
    let one_sided = || {
        refused(
            "only one has identities of its own",
            "write the same `identity` in both, or give one another `platform`",
            two(OWN, SHARED),
        )
    };
    let same = || {
        let same = |scope: &str| {
            let both = JOB_TEXT.replace("    path: usage\n", &format!("    path: usage\n{scope}"));
            both + &second(scope).replace("path: second", "path: usage")
        };
        let case = refused(
            "read the same files and share identities",
            "write `identity: own` in both if each shall be billed, or leave one out",
            vec![put(JOB, same(SHARED))],
        );
        (case, put(JOB, same(OWN)))
    };
    let apart = second(SHARED).replace("platform: switch", "platform: pbx");
    let apart = JOB_TEXT.replace("    path: usage\n", &format!("    path: usage\n{OWN}")) + &apart;
    let corrections = "    corrections: true\n";
    let correcting = |scope: &str| two(scope, &format!("{corrections}{scope}"));
    vec![
        // Seven units and four; or seven and one, where the other three are those of the first.
        right(unsaid(), two(OWN, OWN), "11 USD"),
        right(unsaid(), two(SHARED, SHARED), "8 USD"),
        right(one_sided(), two(SHARED, SHARED), "8 USD"),
        one_sided().right(put(JOB, apart)).total("11 USD"),
        same().0.right(same().1).total("14 USD"),
        same().0.right(put(JOB, JOB_TEXT)),
        // The second amends the first record to one unit of its three.
        refused(
            "correct one another, and identities are one source's own",
            "write `identity: shared` in both",
            correcting(OWN),
        )
        .wrong(put(
            "second/b.csv",
            "id,number,at,units,zone\n1,n1,2026-03-10T00:00:00Z,1,far\n",
        ))
        .right(swap(JOB, "identity: own", "identity: shared"))
        .right(swap(JOB, "identity: own", "identity: shared"))
        .total("5 USD"),
    ]
}

/// Which record of an identity is kept.
fn precedence() -> Vec<Case> {
    let rule = "      identity: [id]\n";
    let keep = "      identity: [id]\n      keep: last\n";
    let wrong = || {
        let first = JOB_TEXT.replace("    path: usage\n", &format!("    path: usage\n{SHARED}"));
        let rows = "id,number,at,units,zone\n1,n1,2026-03-10T00:00:00Z,5,far\n";
        vec![
            put("second/b.csv", rows),
            put(JOB, first.replace(rule, keep) + &second(SHARED)),
        ]
    };
    let case = || {
        refused(
            "keep different records of an identity",
            "write the same `keep` or `version` in both rules, or give one another `platform`",
            wrong(),
        )
    };
    let first = JOB_TEXT.replace("    path: usage\n", &format!("    path: usage\n{SHARED}"));
    vec![
        // Of the first record the second source's five units hold: it is read last.
        case()
            .right(put(
                JOB,
                first.replace(rule, keep) + &second(SHARED).replace(rule, keep),
            ))
            .total("9 USD"),
        case()
            .right(put(
                JOB,
                first.replace(rule, keep)
                    + &second(SHARED).replace("platform: switch", "platform: pbx"),
            ))
            .total("12 USD"),
    ]
}

/// What sources are called, and were.
fn names() -> Vec<Case> {
    let same = JOB_TEXT.to_owned()
        + &second(ANOTHER)
            .replace("    platform: switch\n", "")
            .replace("name: second", "name: switch");
    let was = |first: &str, lines: &str| {
        let job = JOB_TEXT.replace("    path: usage\n", &format!("    path: usage\n{first}"));
        job + &second(&format!("{ANOTHER}{lines}")).replace("    platform: switch\n", "")
    };
    let rows = "id,number,at,units,zone\n9,n1,2026-03-11T00:00:00Z,1,far\n";
    let known = || {
        Case::refused(
            "are both known as \"switch\"",
            "leave `was` out at the other, or give a new source a name that none has had",
        )
        .wrong(put("second/b.csv", rows))
        .wrong(put(JOB, was("", "    was: switch\n")))
        .total("8 USD")
    };
    vec![
        Case::refused(
            "the source \"switch\" is given twice",
            "give each source its own name",
        )
        .wrong(put("second/b.csv", rows))
        .wrong(put(JOB, same.clone()))
        .right(put(JOB, was("", "")))
        .total("8 USD"),
        known().right(put(JOB, was("", ""))),
        known().right(swap(JOB, "name: switch", "name: fresh")),
    ]
}
