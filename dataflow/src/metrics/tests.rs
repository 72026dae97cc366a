//! What a scrape says.

use super::*;
use millrace_operators::domain::Reason;
use millrace_operators::stats::NodeStats;

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find(|line| line.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[test]
fn a_scrape_has_fates_reasons_stages_and_a_residual_of_nothing() {
    let metrics = Metrics::new();
    let stats = GraphStats {
        dedup: Arc::new(NodeStats::default()),
        ..GraphStats::default()
    };
    stats.dedup.count(10, 9, 1);
    stats.rate.set_state(9, 640);
    stats.charge.set_groups(3, 12);
    metrics.watch_worker(stats.clone());
    metrics.watch_worker(stats);
    let counts = RecordCounts {
        received: 10,
        duplicate: 1,
        suspended: 2,
        monetised: 7,
        ..RecordCounts::default()
    };
    let reason = Reason::PriceNotFound;
    let reasons = ReasonCount {
        reason: reason.code(),
        stage: reason.stage().name(),
        records: 2,
        hint: reason.hint(),
        example: None,
        detail: None,
        subjects: Vec::new(),
    };
    metrics.set_records(counts, vec![reasons]);
    let text = metrics.text();
    for (name, expected) in [
        ("millrace_records_received_total", "10"),
        ("millrace_records{fate=\"suspended\"}", "2"),
        (
            "millrace_records_not_monetised{stage=\"rate\",reason=\"PRICE_NOT_FOUND\"}",
            "2",
        ),
        ("millrace_conservation_residual_records", "0"),
        ("millrace_stage_changes_in_total{stage=\"dedup\"}", "20"),
        ("millrace_state_bytes{stage=\"rate\"}", "1280"),
        ("millrace_balance_groups", "6"),
        ("millrace_buckets", "24"),
        ("millrace_build_info{version=", "1"),
    ] {
        let found = line(&text, name);
        assert!(found.ends_with(&format!(" {expected}")), "{found}");
    }
    assert!(text.ends_with("# EOF\n"));
    metrics.set_records(
        RecordCounts {
            received: 3,
            ..RecordCounts::default()
        },
        Vec::new(),
    );
    assert!(line(&metrics.text(), "millrace_conservation_residual_records").ends_with(" 3"));
}

#[test]
fn lag_is_what_is_bound_and_not_complete() {
    let metrics = Metrics::new();
    for worker in 0..2 {
        for epoch in 0..3 {
            metrics.epoch_bound(epoch);
            assert_eq!(
                metrics.read().epochs_bound,
                if worker == 0 { epoch + 1 } else { 3 }
            );
        }
    }
    metrics.complete_before(2);
    let text = metrics.text();
    assert!(line(&text, "millrace_frontier_lag_epochs").ends_with(" 1"));
    assert!(line(&text, "millrace_epochs_total").ends_with(" 2"));
    assert!(line(&text, "millrace_epoch_duration_seconds_count").ends_with(" 2"));
    // The end of the job: the frontier is past everything.
    metrics.complete_before(Epoch::MAX);
    assert!(line(&metrics.text(), "millrace_frontier_lag_epochs").ends_with(" 0"));
    assert_eq!(metrics.read().lag, Duration::ZERO);
}

#[test]
fn a_job_is_ready_when_it_has_reference_data_and_a_complete_epoch() {
    let metrics = Metrics::new();
    assert!(
        metrics
            .read()
            .ready()
            .unwrap_err()
            .contains("reference data")
    );
    metrics.reference_loaded();
    metrics.epoch_bound(0);
    assert!(metrics.read().ready().unwrap_err().contains("first epoch"));
    metrics.complete_before(1);
    assert_eq!(metrics.read().ready(), Ok(()));
    let stuck = Reading {
        lag: STUCK_AFTER * 2,
        ..metrics.read()
    };
    assert!(stuck.healthy().unwrap_err().contains("in flight for 120 s"));
    assert!(stuck.ready().is_err());
}
