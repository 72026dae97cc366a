//! The advice that goes with records that are not billed, followed to the letter: the money is right then.
//! A reason whose advice nobody follows fails here.

use millrace::cli::Exit;
use millrace_operators::domain::Reason;
use millrace_tests::jobs::{Desk, text};
use std::collections::BTreeSet;
use std::path::Path;

const JOB: &str = "\
name: calls
time_zone: Europe/Prague
clock: 2026-12-01
catalog: [catalog.yaml]
accounts: [accounts.yaml]
lookups: { zones: { file: zones.csv, key: zone } }
sources:
  - name: switch
    platform: switch
    service_type: voice
    path: usage
    mediation:
      columns: { units: bigint, at: timestamp }
      identity: [id]
      service: number
      time: at
      attributes: { region: \"lookup('zones', 'region', zone)\" }
      charges: { units: units }
";

const CATALOG: &str = "currency: USD\nprices: [{ item: units, price: 1 }]\n";

const ACCOUNTS: &str = "\
accounts:
  - { id: acme, currency: USD }
subscriptions:
  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-01-01 }
";

const ZONES: &str = "zone,region\nfar,abroad\n";

/// Three units that nothing is wrong with, before whatever is.
const HEAD: &str = "id,number,at,units,zone,seq\n1,n1,2026-10-10T00:00:00Z,3,far,1\n";

/// A source of corrections beside the first.
pub(crate) const CORRECTIONS: &str = "  - name: corrections
    platform: switch
    service_type: voice
    path: corrections
    corrections: true
    mediation:
      columns: { units: bigint, at: timestamp }
      identity: [id]
      kind: kind
      service: number
      time: at
      charges: { units: units }
";

/// What is written into a file: rows behind [`HEAD`], another text, or the text before with one part of
/// it replaced.
#[derive(Clone, Copy)]
enum Write {
    Rows(&'static str),
    Whole(&'static str),
    Replaced(&'static str, &'static str),
    More(&'static str),
}

type Writes = &'static [(&'static str, Write)];

/// A fault, and what the advice says to do.
struct Case {
    reason: Reason,
    /// What of the advice is followed.
    advice: &'static str,
    wrong: Writes,
    /// What is billed in spite of it.
    before: &'static str,
    advised: Writes,
    total: &'static str,
    /// Whether somebody should still look: the bad record stays where it is.
    stays: bool,
}

/// A case of one more row, which the advice makes right.
const fn row(reason: Reason, advice: &'static str, wrong: Writes, advised: Writes) -> Case {
    Case {
        reason,
        advice,
        wrong,
        before: "3 USD",
        advised,
        total: "7 USD",
        stays: false,
    }
}

use Write::{More, Replaced, Rows, Whole};

const USAGE: &str = "usage/a.csv";
const AGAIN: &str = "usage/b.csv";
const RULE: &str = "job.yaml";
pub(crate) const CORRECTED: &str = "corrections/c.csv";
const GOOD: &str = "2,n1,2026-10-11T00:00:00Z,4,far,1\n";

const CASES: &[Case] = &[
    Case {
        stays: true,
        ..row(
            Reason::RowUnreadable,
            "have the source send the row again in the declared format",
            &[(USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4\n"))],
            &[(
                AGAIN,
                Whole("id,number,at,units,zone,seq\n2,n1,2026-10-11T00:00:00Z,4,far,1\n"),
            )],
        )
    },
    Case {
        total: "7.5 USD",
        ..row(
            Reason::FieldUnparsable,
            "the column's type in the mediation rule",
            &[(USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4.5,far,1\n"))],
            &[(RULE, Replaced("units: bigint", "units: \"decimal(12,1)\""))],
        )
    },
    row(
        Reason::RuleFailed,
        "correct the expression in the mediation rule",
        &[
            (
                RULE,
                Replaced(
                    "charges: { units: units }",
                    "charges: { units: \"divide(units, seq - 1, 0)\" }",
                ),
            ),
            (
                RULE,
                Replaced("units: bigint", "units: bigint, seq: bigint"),
            ),
            (
                USAGE,
                Whole(
                    "id,number,at,units,zone,seq\n1,n1,2026-10-10T00:00:00Z,3,far,2\n2,n1,2026-10-11T00:00:00Z,4,far,1\n",
                ),
            ),
        ],
        &[(RULE, Replaced("divide(units, seq - 1, 0)", "units"))],
    ),
    row(
        Reason::LookupMissing,
        "add the row or its value to the reference table",
        &[(USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,near,1\n"))],
        &[("zones.csv", More("near,home\n"))],
    ),
    row(
        Reason::FilterUndecided,
        "say in `where` what an empty field means, with coalesce(field, value)",
        &[
            (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,far,\n")),
            (
                RULE,
                Replaced("      identity", "      where: seq = '1'\n      identity"),
            ),
        ],
        &[(RULE, Replaced("seq = '1'", "coalesce(seq, '1') = '1'"))],
    ),
    row(
        Reason::IdentityMissing,
        "name others in the mediation rule",
        &[(USAGE, Rows(",n1,2026-10-11T00:00:00Z,4,far,1\n"))],
        &[(RULE, Replaced("identity: [id]", "identity: [number, at]"))],
    ),
    row(
        Reason::ServiceMissing,
        "correct the `service` expression of the mediation rule",
        &[(USAGE, Rows("2,,2026-10-11T00:00:00Z,4,far,1\n"))],
        &[(
            RULE,
            Replaced("service: number", "service: coalesce(number, 'n1')"),
        )],
    ),
    row(
        Reason::TimeMissing,
        "or the source",
        &[(USAGE, Rows("2,n1,,4,far,1\n"))],
        &[(USAGE, Rows(GOOD))],
    ),
    row(
        Reason::TimeAmbiguous,
        "`columns: { at: { type: timestamp, ambiguous: earlier } }`",
        &[(USAGE, Rows("2,n1,2026-10-25T02:30:00,4,far,1\n"))],
        &[(
            RULE,
            Replaced(
                "at: timestamp",
                "at: { type: timestamp, ambiguous: earlier }",
            ),
        )],
    ),
    row(
        Reason::TimeOutOfRange,
        "widen `time: { earliest: <date>, ahead: <days> }` in the job",
        &[(USAGE, Rows("2,n1,2029-01-01T00:00:00Z,4,far,1\n"))],
        &[(RULE, More("time: { ahead: 2000d }\n"))],
    ),
    row(
        Reason::KindUnknown,
        "correct the `kind` expression of the mediation rule",
        &[
            (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,far,normal\n")),
            (
                RULE,
                Replaced(
                    "      identity",
                    "      kind: \"CASE WHEN seq = '1' THEN 'usage' ELSE seq END\"\n      identity",
                ),
            ),
        ],
        &[(RULE, Replaced("seq = '1'", "seq IN ('1', 'normal')"))],
    ),
    row(
        Reason::VersionMissing,
        "have the source fill the version",
        &[
            (USAGE, Rows("1,n1,2026-10-10T00:00:00Z,7,far,\n")),
            (
                RULE,
                Replaced(
                    "      identity",
                    "      version: seq\n      kind: \"case units when 7 then 'amend' else 'usage' end\"\n      identity",
                ),
            ),
            (
                RULE,
                Replaced("units: bigint", "units: bigint, seq: bigint"),
            ),
        ],
        &[(USAGE, Rows("1,n1,2026-10-10T00:00:00Z,7,far,2\n"))],
    ),
    row(
        Reason::AttributeUndecided,
        "say in `attributes` what an empty field means, with coalesce(field, value)",
        &[
            (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,far,\n")),
            (
                RULE,
                Replaced("attributes: {", "attributes: { seq: \"concat(seq, 'x')\","),
            ),
        ],
        &[(
            RULE,
            Replaced("concat(seq, 'x')", "concat(coalesce(seq, ''), 'x')"),
        )],
    ),
    Case {
        total: "3 USD",
        ..row(
            Reason::QuantityMissing,
            "say in `charges` what an empty field means, with coalesce(field, 0)",
            &[
                (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,,far,1\n")),
                (RULE, Replaced("units: units", "units: units * 1")),
            ],
            &[(RULE, Replaced("units * 1", "\"coalesce(units, 0) * 1\""))],
        )
    },
    row(
        Reason::QuantityOutOfRange,
        "let `charges` name the rounding: round_half_even(x, decimals)",
        &[
            (
                USAGE,
                Rows("2,n1,2026-10-11T00:00:00Z,4.00000000000001,far,1\n"),
            ),
            (RULE, Replaced("units: bigint", "units: \"decimal(20,14)\"")),
        ],
        &[(
            RULE,
            Replaced("units: units", "units: \"round_half_even(units, 6)\""),
        )],
    ),
    Case {
        total: "6 USD",
        ..row(
            Reason::Duplicate,
            "name more identity fields in the mediation rule",
            &[(USAGE, Rows("1,n1,2026-10-10T00:00:00Z,3,far,2\n"))],
            &[(RULE, Replaced("identity: [id]", "identity: [id, seq]"))],
        )
    },
    row(
        Reason::Conflict,
        "name more identity fields in the mediation rule",
        &[(USAGE, Rows("1,n1,2026-10-10T00:00:00Z,4,far,2\n"))],
        &[(RULE, Replaced("identity: [id]", "identity: [id, seq]"))],
    ),
    row(
        Reason::OriginalMissing,
        "send the record that it corrects",
        &[
            (RULE, More(CORRECTIONS)),
            (
                CORRECTED,
                Whole("id,number,at,units,kind\n2,n1,2026-10-11T00:00:00Z,4,amend\n"),
            ),
        ],
        &[(
            AGAIN,
            Whole("id,number,at,units,zone,seq\n2,n1,2026-10-11T00:00:00Z,9,far,1\n"),
        )],
    ),
    Case {
        before: "0 USD",
        total: "3 USD",
        ..row(
            Reason::Voided,
            "send the record again as a correction",
            &[
                (RULE, More(CORRECTIONS)),
                (
                    CORRECTED,
                    Whole("id,number,at,units,kind\n1,n1,2026-10-10T00:00:00Z,3,void\n"),
                ),
            ],
            &[(
                "corrections/d.csv",
                Whole("id,number,at,units,kind\n1,n1,2026-10-10T00:00:00Z,3,amend\n"),
            )],
        )
    },
    row(
        Reason::ServiceUnknown,
        "add the service to a subscription",
        &[(USAGE, Rows("2,n2,2026-10-11T00:00:00Z,4,far,1\n"))],
        &[("accounts.yaml", Replaced("[n1]", "[n1, n2]"))],
    ),
    row(
        Reason::ServiceNotEffective,
        "extend the subscription's validity to the time of usage",
        &[
            (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,far,1\n")),
            (
                "accounts.yaml",
                Replaced("from: 2026-01-01", "from: 2026-01-01, to: 2026-10-11"),
            ),
        ],
        &[(
            "accounts.yaml",
            Replaced("to: 2026-10-11", "to: 2026-11-01"),
        )],
    ),
    row(
        Reason::ServiceNotEffective,
        "or add the service to one that is valid there",
        &[
            (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,far,1\n")),
            (
                "accounts.yaml",
                Replaced("from: 2026-01-01", "from: 2026-01-01, to: 2026-10-11"),
            ),
        ],
        &[(
            "accounts.yaml",
            More(
                "  - { id: s2, account: acme, service_type: voice, services: [n1], from: 2026-10-11 }\n",
            ),
        )],
    ),
    row(
        Reason::SubscriptionUnknown,
        "add the subscription",
        &[
            (USAGE, Rows("2,n2,2026-10-11T00:00:00Z,4,far,1\n")),
            (
                "accounts.yaml",
                More(
                    "tables: [{ file: services.csv, services: [{ service_type: \"'voice'\", service: s, subscription: sub }] }]\n",
                ),
            ),
            ("services.csv", Whole("s,sub\nn2,s2\n")),
        ],
        &[(
            "accounts.yaml",
            Replaced(
                "tables:",
                "  - { id: s2, account: acme, from: 2026-01-01 }\ntables:",
            ),
        )],
    ),
    row(
        Reason::AccountUnknown,
        "add the account",
        &[
            (USAGE, Rows("2,n2,2026-10-11T00:00:00Z,4,far,1\n")),
            (
                "accounts.yaml",
                More(
                    "  - { id: s2, account: bolt, service_type: voice, services: [n2], from: 2026-01-01 }\n",
                ),
            ),
        ],
        &[(
            "accounts.yaml",
            Replaced(
                "accounts:\n",
                "accounts:\n  - { id: bolt, currency: USD }\n",
            ),
        )],
    ),
    Case {
        before: "0 USD",
        ..row(
            Reason::ServiceAmbiguous,
            "end one subscription before the other begins",
            &[
                (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,far,1\n")),
                (
                    "accounts.yaml",
                    More(
                        "  - { id: s2, account: acme, service_type: voice, services: [n1], from: 2026-10-01 }\n",
                    ),
                ),
            ],
            &[(
                "accounts.yaml",
                Replaced("from: 2026-01-01 }", "from: 2026-01-01, to: 2026-10-01 }"),
            )],
        )
    },
    row(
        Reason::SubscriptionNotActive,
        "reactivate the subscription for that time",
        &[
            (USAGE, Rows("2,n1,2026-10-11T00:00:00Z,4,far,1\n")),
            (
                "accounts.yaml",
                Replaced("from: 2026-01-01 }", "from: 2026-01-01, to: 2026-10-11 }"),
            ),
            (
                "accounts.yaml",
                More(
                    "  - { id: s1, account: acme, service_type: voice, services: [n1], from: 2026-10-10T22:00:00Z, status: inactive }\n",
                ),
            ),
        ],
        &[(
            "accounts.yaml",
            Replaced("status: inactive", "status: active"),
        )],
    ),
];

/// Reasons whose advice is followed by other tests, and those.
const ELSEWHERE: &[(Reason, &str, &str)] = &[
    (
        Reason::PriceNotFound,
        "job/advice.rs",
        "each_reason_of_rating_has_advice_that_leads_to_the_right_bill",
    ),
    (
        Reason::PriceNotEffective,
        "job/advice.rs",
        "each_reason_of_rating_has_advice_that_leads_to_the_right_bill",
    ),
    (
        Reason::PriceAmbiguous,
        "job/advice.rs",
        "each_reason_of_rating_has_advice_that_leads_to_the_right_bill",
    ),
    (
        Reason::CurrencyMismatch,
        "job/advice.rs",
        "each_reason_of_rating_has_advice_that_leads_to_the_right_bill",
    ),
    (
        Reason::AmountOutOfRange,
        "job/advice.rs",
        "each_reason_of_rating_has_advice_that_leads_to_the_right_bill",
    ),
    (
        Reason::TierReferenceMissing,
        "job/advice.rs",
        "each_reason_of_rating_has_advice_that_leads_to_the_right_bill",
    ),
    (
        Reason::QuantityNegative,
        "job/identity.rs",
        "usage_sent_by_mistake_is_taken_back_as_its_hint_says",
    ),
    (
        Reason::Discarded,
        "durable/discard.rs",
        "what_is_discarded_stays_so_until_it_is_put_back",
    ),
];

/// Reasons that ask for nothing, or for nothing that a job could do.
const NOTHING_TO_FOLLOW: &[(Reason, &str)] = &[
    (Reason::Superseded, "nothing"),
    (Reason::Amended, "nothing"),
    (Reason::Void, "nothing"),
    (Reason::PeriodClosed, "nothing"),
    (Reason::Tombstone, "nothing"),
    (Reason::FileUnreadable, ""),
    (Reason::BucketMissing, "a defect"),
];

impl Write {
    fn apply(self, before: &str) -> String {
        match self {
            Self::Rows(rows) => format!("{HEAD}{rows}"),
            Self::Whole(text) => text.to_owned(),
            Self::Replaced(part, by) => {
                assert!(before.contains(part), "{part} is not in\n{before}");
                before.replacen(part, by, 1)
            }
            Self::More(text) => format!("{before}{text}"),
        }
    }
}

fn write(desk: &Desk, writes: Writes) {
    for (file, write) in writes {
        let before = std::fs::read_to_string(desk.at(file)).unwrap_or_default();
        desk.write(file, write.apply(&before));
    }
}

fn follow(case: &Case) {
    let code = case.reason.code();
    assert!(
        case.reason.hint().contains(case.advice),
        "{code}: {}",
        case.reason.hint()
    );
    let desk = Desk::new(&[
        (RULE, JOB),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", ACCOUNTS),
        ("zones.csv", ZONES),
        (USAGE, HEAD),
    ]);
    write(&desk, case.wrong);
    let ended = desk.run();
    let summary = ended.summary();
    let reasons = summary["reasons"].as_array().unwrap();
    let told = reasons.iter().find(|told| text(told, "reason") == code);
    let told = told.unwrap_or_else(|| panic!("{code} is not told: {ended:?}"));
    assert_eq!(text(told, "hint"), case.reason.hint());
    let billed = match ended.totals().as_slice() {
        [] => "0 USD".to_owned(),
        totals => totals.join(", "),
    };
    assert_eq!(billed, case.before, "{code}: {ended:?}");
    write(&desk, case.advised);
    let ended = desk.run();
    assert_eq!(ended.totals(), [case.total], "{code}: {ended:?}");
    let exit = if case.stays { Exit::Findings } else { Exit::Ok };
    assert_eq!(ended.exit, exit, "{code}: {ended:?}");
}

#[test]
fn advice_followed_to_the_letter_leads_to_the_right_bill() {
    CASES.iter().for_each(follow);
}

#[test]
fn every_reason_has_its_advice_followed() {
    let here = CASES.iter().map(|case| case.reason);
    let elsewhere = ELSEWHERE.iter().map(|(reason, ..)| *reason);
    let nothing = NOTHING_TO_FOLLOW.iter().map(|(reason, _)| *reason);
    let followed: BTreeSet<Reason> = here.chain(elsewhere).chain(nothing).collect();
    for reason in Reason::ALL {
        assert!(
            followed.contains(reason),
            "{} has advice that no test follows",
            reason.code()
        );
    }
    for (_, file, test) in ELSEWHERE {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = std::fs::read_to_string(&file).unwrap();
        assert!(
            source.contains(&format!("fn {test}()")),
            "{} lacks {test}",
            file.display()
        );
    }
    for (reason, begins) in NOTHING_TO_FOLLOW {
        assert!(reason.hint().starts_with(begins), "{}", reason.hint());
    }
}
