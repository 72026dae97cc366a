//! A source of topics that has another name than it had.

use millrace::cli::Exit;
use millrace_tests::broker::{Broker, Sent};
use millrace_tests::jobs::Desk;
use millrace_tests::kills::{CATALOG, MEDIATION, accounts};

fn send(broker: &Broker, calls: &[(&str, u32)]) {
    let call = |(id, seconds): &(&str, u32)| {
        format!(
            r#"{{"id": "{id}", "number": "+1", "at": "2026-01-02T00:00:00Z", "seconds": {seconds}}}"#
        )
    };
    let calls: Vec<String> = calls.iter().map(call).collect();
    let sent: Vec<Sent<'_>> = calls
        .iter()
        .map(|call| Sent {
            key: "k",
            payload: Some(call.as_bytes()),
            ..Sent::default()
        })
        .collect();
    broker.send("renamed.usage", &sent);
}

#[test]
fn a_source_of_topics_that_had_another_name_goes_on() {
    let broker = Broker::shared();
    let address = broker.address();
    broker.create("renamed.usage", 2);
    let job = |name: &str, state: &str| {
        format!(
            "name: renamed\ntime_zone: UTC\nclock: 2026-01-10\nsources:\n  - name: {name}\n    platform: pbx\n    \
             service_type: voice\n    identity: own\n    \
             kafka: {{ brokers: '{address}', topics: [renamed.usage] }}\n    mediation: mediation.yaml\n\
             catalog: [catalog.yaml]\naccounts: [accounts.yaml]\ndurability: {{ folder: {state} }}\n"
        )
    };
    let desk = Desk::new(&[
        ("mediation.yaml", MEDIATION),
        ("catalog.yaml", CATALOG),
        ("accounts.yaml", &accounts()),
        ("job.yaml", &job("switch", "state")),
    ]);
    send(broker, &[("a", 60), ("b", 120), ("c", 7)]);
    let first = desk.run();
    assert_eq!(first.exit, Exit::Ok, "{}", first.err);
    desk.write("job.yaml", job("exchange\n    was: switch", "state"));
    let renamed = desk.run();
    assert_eq!(renamed.exit, Exit::Ok, "{}", renamed.err);
    assert_eq!(renamed.totals(), first.totals());
    // Nothing is read again, and what is sent again is known.
    send(broker, &[("a", 60), ("d", 30), ("d", 30)]);
    let more = desk.run();
    let records = &more.summary()["records"];
    assert_eq!(
        (&records["received"], &records["duplicate"]),
        (&6.into(), &2.into()),
        "{records}"
    );
    desk.write("job.yaml", job("exchange", "other"));
    assert_eq!(desk.run().totals(), more.totals());
}
