//! Small jobs whose bills were computed by hand: `by_hand.txt` has one after the other, each with its
//! total, its catalog, its accounts and its usage. A line `by hand` says how the total is computed, where it is
//! not plain.

use millrace::cli::Exit;
use millrace_tests::jobs::Desk;

const CASES: &str = include_str!("by_hand.txt");

const USAGE: &str = "t,svc,region,item,n\n";

/// One job of the file.
struct Case<'a> {
    name: &'a str,
    total: &'a str,
    zone: &'a str,
    clock: &'a str,
    catalog: &'a str,
    accounts: &'a str,
    usage: &'a str,
}

impl<'a> Case<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split("\n--- ");
        let head = parts.next().unwrap();
        let part = |name: &str, text: &'a str| text.strip_prefix(name).unwrap().trim_start();
        let given = |key: &str| head.lines().find_map(|line| line.strip_prefix(key));
        Self {
            name: head.lines().next().unwrap(),
            total: given("total ").unwrap(),
            zone: given("zone ").unwrap_or("UTC"),
            clock: given("clock ").unwrap_or("2026-04-01"),
            catalog: part("catalog", parts.next().unwrap()),
            accounts: part("accounts", parts.next().unwrap()),
            usage: part("usage", parts.next().unwrap()),
        }
    }

    fn job(&self) -> String {
        format!(
            "\
name: by-hand
time_zone: {}
clock: {}
sources:
  - name: gateway
    platform: gateway
    service_type: api
    path: usage.csv
    mediation:
      columns: {{ t: timestamp, n: \"decimal(18,6)\" }}
      identity: position
      service: svc
      time: t
      attributes: {{ region: region }}
      charges:
        calls: \"CASE WHEN item = 'calls' THEN n END\"
        data: \"CASE WHEN item = 'data' THEN n END\"
catalog: [catalog.yaml]
accounts: [accounts.yaml]
",
            self.zone, self.clock
        )
    }
}

#[test]
fn bills_are_what_they_come_to_by_hand() {
    let cases = CASES.split("=== ").skip(1).map(Case::read);
    for case in cases {
        let desk = Desk::new(&[
            ("job.yaml", &case.job()),
            (
                "catalog.yaml",
                &format!("currency: USD\n{}\n", case.catalog),
            ),
            ("accounts.yaml", case.accounts),
            ("usage.csv", &format!("{USAGE}{}\n", case.usage)),
        ]);
        let ended = desk.run();
        assert_eq!(ended.exit, Exit::Ok, "{}: {ended:?}", case.name);
        assert_eq!(ended.totals(), [case.total], "{}: {ended:?}", case.name);
    }
}
