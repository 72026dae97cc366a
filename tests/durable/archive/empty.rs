//! Bill units that closed with nothing in them: fees, commitments and balances that come to them later are
//! billed as if everything had come at once. Equal to what a job without state and archive comes to are the
//! charges and the amount of each billing line.

use super::forget::lines;
use millrace::cli::Exit;
use millrace_tests::dice::Dice;
use millrace_tests::jobs::{Desk, Ended, millrace};
use millrace_tests::kills::variable;

const HISTORIES: u32 = 8;
const HEAD: &str = "id,kind,t,who,n\n";

const RULE: &str = "\
columns: { t: timestamp, n: bigint }
identity: [id]
service: who
time: t
charges: { n: n }
kind: kind
";

fn accounts(cycle: &str, from: &str) -> String {
    format!(
        "accounts:\n  - {{ id: acme, currency: USD, billing: {{ anniversary: 2026-01-01, cycle: {cycle} }} }}\n\
         \x20 - {{ id: beta, currency: USD }}\n\
         subscriptions:\n  - {{ id: s, account: acme, from: {from}, service_type: x, services: [a] }}\n\
         \x20 - {{ id: b, account: beta, from: 2026-04-01, service_type: x, services: [b] }}\n"
    )
}

/// A catalog with these plans, at 1 USD each.
fn catalog(plans: &str) -> String {
    format!("currency: USD\nprices: [{{ item: n, price: 1 }}]\n{plans}")
}

const QUARTERLY: &str = "plans: [{ commitments: [{ id: c, amount: 20, cycle: quarter }] }]\n";
const FEE: &str = "plans: [{ charges: [{ item: fee, amount: 10, when: arrears }] }]\n";

/// Plans that bill without usage, or that make a month depend on those before it.
const PLANS: [&str; 7] = [
    "",
    QUARTERLY,
    FEE,
    "plans: [{ charges: [{ item: fee, amount: 3, when: advance, cycle: quarter }], allowances: [{ id: f, units: 5, rollover_cycles: 2 }] }]\n",
    "plans: [{ commitments: [{ id: c, amount: 9 }], allowances: [{ id: q, units: 6, cycle: quarter }] }]\n",
    "plans: [{ from: 2026-05-01, commitments: [{ id: y, amount: 70, cycle: year }], accumulators: [{ id: t, cycle: year }] }]\n",
    "plans: [{ caps: [{ id: m, limit: 11, cycle: quarter }], allowances: [{ id: p, money: 4, rollover_cycles: 1 }], charges: [{ item: fee, amount: 2, when: arrears }] }]\n",
];

/// The job as of a day, with state and archive, and beside it the same from scratch.
fn as_of(desk: &Desk, day: &str) {
    let job = |out: &str| {
        format!(
            "name: j\ntime_zone: UTC\nclock: {day}\n\
             sources: [{{ name: src, platform: p, service_type: x, path: usage, mediation: rule.yaml }}]\n\
             catalog: [catalog.yaml]\naccounts: [accounts.yaml]\noutputs: {{ folder: {out} }}\n"
        )
    };
    let kept = "durability: { folder: state }\narchive: { folder: closed, after: 5d }\n";
    desk.write("job.yaml", job("out") + kept);
    desk.write("twin.yaml", job("twin"));
}

/// Runs both as of a day; they bill the same.
fn run(desk: &Desk, day: &str, what: &str) -> Ended {
    as_of(desk, day);
    let ran = desk.run();
    let bills = |exit| matches!(exit, Exit::Ok | Exit::Findings);
    assert!(bills(ran.exit), "{what} {day}: {}", ran.err);
    let twin = desk.at("twin.yaml").display().to_string();
    std::fs::remove_dir_all(desk.at("twin")).ok();
    let twin = millrace(&["run", &twin, "--output", "json"]);
    assert!(bills(twin.exit), "{what} {day}: {}", twin.err);
    assert_eq!(
        lines(desk, "out"),
        lines(desk, "twin"),
        "{what} {day}: {}",
        ran.err
    );
    ran
}

fn desk(plans: &str, usage: &[&str]) -> Desk {
    let desk = Desk::new(&[
        ("rule.yaml", RULE),
        ("catalog.yaml", &catalog(plans)),
        ("accounts.yaml", &accounts("month", "2026-04-01")),
    ]);
    desk.write("usage/a.csv", HEAD.to_owned() + &usage.join("\n") + "\n");
    desk
}

#[test]
fn a_shortfall_of_an_empty_month_is_billed_when_usage_before_it_is_taken_out() {
    for correction in ["1,void,,,\n", "1,amend,2026-04-04T10:00:00Z,a,5\n"] {
        let desk = desk(
            QUARTERLY,
            &[
                "1,usage,2026-04-03T10:00:00Z,a,12",
                "2,usage,2026-05-08T10:00:00Z,a,8",
            ],
        );
        // Nobody else has a line in June.
        let both = accounts("month", "2026-04-01");
        let others = |line: &&str| !line.contains("beta");
        let alone: Vec<&str> = both.lines().filter(others).collect();
        desk.write("accounts.yaml", alone.join("\n"));
        run(&desk, "2026-07-01", correction);
        desk.write("usage/b.csv", HEAD.to_owned() + correction);
        let ran = run(&desk, "2026-07-07", correction);
        assert_eq!(ran.totals(), ["20 USD"], "{}", ran.err);
        // Once.
        run(&desk, "2026-07-08", correction);
    }
}

#[test]
fn a_fee_or_commitment_that_comes_later_is_billed_in_empty_months_too() {
    let monthly = "plans: [{ commitments: [{ id: c, amount: 20 }] }]\n";
    let april = "1,usage,2026-04-03T10:00:00Z,a,12";
    let july = "2,usage,2026-07-18T10:00:00Z,a,9";
    for (plans, usage) in [
        (FEE, vec![april, july]),
        (monthly, vec![april, july]),
        // Nothing is archived at all before.
        (FEE, vec![july]),
    ] {
        let desk = desk("", &usage);
        run(&desk, "2026-07-20", plans);
        desk.write("catalog.yaml", catalog(plans));
        run(&desk, "2026-07-21", plans);
        desk.write("catalog.yaml", catalog(""));
        run(&desk, "2026-07-22", plans);
        desk.write("catalog.yaml", catalog(plans));
        // An earlier start brings months that were closed when nobody was in them.
        desk.write("accounts.yaml", accounts("month", "2026-02-10"));
        run(&desk, "2026-07-23", plans);
    }
}

#[test]
fn what_is_left_of_an_allowance_reaches_late_usage_of_an_empty_month() {
    let plans = "plans: [{ allowances: [{ id: q, units: 10, cycle: quarter }] }]\n";
    let desk = desk(
        plans,
        &[
            "1,usage,2026-04-03T10:00:00Z,a,8",
            "2,usage,2026-06-03T10:00:00Z,a,4",
        ],
    );
    run(&desk, "2026-07-20", "late");
    desk.write(
        "usage/b.csv",
        HEAD.to_owned() + "3,usage,2026-05-08T10:00:00Z,a,5\n",
    );
    let ran = run(&desk, "2026-07-21", "late");
    assert_eq!(ran.totals(), ["7 USD"], "{}", ran.err);
}

#[test]
fn stages_with_empty_months_come_to_what_a_run_from_scratch_does() {
    for history in 0..variable("HISTORIES", HISTORIES) {
        let mut dice = Dice(variable("SEED", 1).into());
        (0..history).for_each(|_| dice = Dice(dice.number()));
        let what = format!("history {history}");
        let cycle = ["month", "month", "quarter", "year"][dice.below(4)];
        let desk = desk(PLANS[dice.below(PLANS.len())], &[]);
        desk.write("accounts.yaml", accounts(cycle, "2026-04-01"));
        let mut known = 0;
        let days = [
            "2026-05-03",
            "2026-05-20",
            "2026-07-03",
            "2026-07-09",
            "2026-08-20",
            "2026-10-15",
            "2027-01-10",
        ];
        let mut told = String::new();
        for (step, day) in days.into_iter().enumerate() {
            if dice.one_in(3) && step > 0 {
                continue;
            }
            let mut rows = String::new();
            for _ in 0..dice.roll(3) {
                // Of any month up to the day: late ones of closed, empty months among them.
                let months = day[5..7].parse::<u64>().unwrap().max(5) - 4;
                let (month, on) = (4 + dice.roll(months), 1 + dice.roll(28));
                let who = ["a", "a", "b"][dice.below(3)];
                let n = 1 + dice.roll(12);
                if known > 0 && dice.one_in(3) {
                    let which = dice.roll(known);
                    rows += &match dice.one_in(2) {
                        true => format!("{which},void,,,\n"),
                        false => {
                            format!("{which},amend,2026-{month:02}-{on:02}T12:00:00Z,{who},{n}\n")
                        }
                    };
                } else {
                    rows += &format!("{known},usage,2026-{month:02}-{on:02}T12:00:00Z,{who},{n}\n");
                    known += 1;
                }
            }
            if !rows.is_empty() {
                desk.write(&format!("usage/s{step}.csv"), HEAD.to_owned() + &rows);
            }
            if dice.one_in(2) {
                let plans = PLANS[dice.below(PLANS.len())];
                desk.write("catalog.yaml", catalog(plans));
                told += plans;
            }
            if dice.one_in(6) {
                desk.write(
                    "accounts.yaml",
                    accounts(cycle, ["2026-02-10", "2026-05-10"][dice.below(2)]),
                );
                told += "moved start\n";
            }
            told += &format!("{day} {cycle}\n{rows}");
            run(&desk, day, &format!("{what}\n{told}"));
        }
    }
}
