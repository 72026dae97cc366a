//! One reading of the numbers, as metric families.

use super::{Fates, Metrics, Reading};
use millrace_operators::stats::NodeReading;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use std::collections::BTreeMap;
use std::fmt::Error;

/// The numbers of one scrape: read once, so that they fit each other.
#[derive(Debug)]
pub(super) struct Exposition {
    reading: Reading,
    fates: Fates,
    nodes: BTreeMap<&'static str, NodeReading>,
}

impl Exposition {
    pub(super) fn of(metrics: &Metrics) -> Self {
        Self {
            reading: metrics.read(),
            fates: metrics.fates().clone(),
            nodes: metrics.nodes(),
        }
    }
}

type Label = [(&'static str, &'static str)];
type Series<V> = Vec<(Vec<(&'static str, &'static str)>, V)>;

/// Writes families, each with its series.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counters<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: Series<V>,
    ) -> Result<(), Error> {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
            } else {
                let mut metric = family.encode_family(&labels)?;
                metric.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn gauges<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: Series<V>,
    ) -> Result<(), Error> {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

/// A series without labels.
fn single<V>(value: V) -> Series<V> {
    vec![(Vec::new(), value)]
}

fn labelled<V>(labels: &Label, value: V) -> (Vec<(&'static str, &'static str)>, V) {
    (labels.to_vec(), value)
}

/// Gauges are signed; no count of ours reaches 2^63.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Exposition {
    fn records(&self, families: &mut Families<'_>) -> Result<(), Error> {
        let counts = self.fates.counts;
        families.counters(
            "records_received",
            "Records read from sources",
            single(counts.received),
        )?;
        let fates = [
            ("ignored", counts.ignored),
            ("duplicate", counts.duplicate),
            ("conflict", counts.conflict),
            ("superseded", counts.superseded),
            ("error", counts.error),
            ("suspended", counts.suspended),
            ("discarded", counts.discarded),
            ("monetised", counts.monetised),
        ];
        families.gauges(
            "records",
            "Records by what has become of them; they add up to the records received",
            fates
                .map(|(fate, count)| labelled(&[("fate", fate)], signed(count)))
                .to_vec(),
        )?;
        let reasons = self.fates.reasons.iter().map(|count| {
            let labels = [("stage", count.stage), ("reason", count.reason)];
            labelled(&labels, signed(count.records))
        });
        families.gauges(
            "records_not_monetised",
            "Records that are not monetised, by the stage that stopped them and why",
            reasons.collect(),
        )?;
        families.gauges(
            "conservation_residual_records",
            "Records received less records with a fate; anything but 0 is a defect",
            single(self.residual()),
        )
    }

    fn residual(&self) -> i64 {
        let counts = self.fates.counts;
        let settled = [
            counts.ignored,
            counts.duplicate,
            counts.conflict,
            counts.superseded,
            counts.error,
            counts.suspended,
            counts.discarded,
            counts.monetised,
        ];
        let settled = settled.into_iter().fold(0, u64::saturating_add);
        signed(counts.received).saturating_sub(signed(settled))
    }

    fn epochs(&self, families: &mut Families<'_>) -> Result<(), Error> {
        let reading = &self.reading;
        families.counters(
            "epochs",
            "Epochs published",
            single(reading.epochs_complete),
        )?;
        families.counters("epochs_bound", "Epochs begun", single(reading.epochs_bound))?;
        families.gauges(
            "frontier_lag_epochs",
            "Epochs begun and not yet published",
            single(signed(
                reading.epochs_bound.saturating_sub(reading.epochs_complete),
            )),
        )?;
        families.gauges(
            "frontier_lag_seconds",
            "Age of the oldest epoch that is not yet published",
            single(reading.lag.as_secs_f64()),
        )?;
        families.counters(
            "reference_changes",
            "Times that catalog, accounts, tables or rules were changed while the job ran",
            single(reading.reference_changes),
        )?;
        families.counters(
            "commits",
            "The newest commit of durable state, over all runs of the job",
            single(reading.commit.number),
        )?;
        families.gauges(
            "generation",
            "The run that commits; 0 without durable state",
            single(signed(reading.commit.generation)),
        )?;
        families.counters(
            "epochs_committed",
            "Epochs whose input and outputs are durable",
            single(reading.commit.live),
        )?;
        families.gauges(
            "uptime_seconds",
            "Time since the job began",
            single(reading.elapsed.as_secs_f64()),
        )
    }

    fn stages(&self, families: &mut Families<'_>) -> Result<(), Error> {
        let of = |get: fn(&NodeReading) -> u64| -> Series<u64> {
            let nodes = self.nodes.iter();
            nodes
                .map(|(stage, node)| labelled(&[("stage", stage)], get(node)))
                .collect()
        };
        let held = |get: fn(&NodeReading) -> u64| -> Series<i64> {
            of(get)
                .into_iter()
                .map(|(labels, value)| (labels, signed(value)))
                .collect()
        };
        families.counters(
            "stage_changes_in",
            "Changes that a stage received",
            of(|n| n.records_in),
        )?;
        families.counters(
            "stage_changes_out",
            "Changes that a stage sent",
            of(|n| n.records_out),
        )?;
        families.counters(
            "stage_changes_suspended",
            "Changes of suspense that a stage sent",
            of(|n| n.suspended),
        )?;
        families.counters(
            "records_rerated",
            "Records rated again because reference data changed",
            of(|n| n.rerated),
        )?;
        families.gauges(
            "state_records",
            "Records that a stage holds",
            held(|n| n.state_records),
        )?;
        families.gauges(
            "state_bytes",
            "Bytes that a stage holds",
            held(|n| n.state_bytes),
        )?;
        let of_charge = |get: fn(&NodeReading) -> u64| {
            let charge = self.nodes.get("charge").copied().unwrap_or_default();
            single(signed(get(&charge)))
        };
        families.gauges(
            "balance_groups",
            "Balance groups whose usage is charged in order",
            of_charge(|n| n.groups),
        )?;
        families.gauges(
            "buckets",
            "Buckets of balance groups: allowances, accumulators and caps, by period",
            of_charge(|n| n.buckets),
        )
    }
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut families = Families(encoder);
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        families.gauges(
            "build_info",
            "The version of millrace",
            vec![labelled(&build, 1_i64)],
        )?;
        self.records(&mut families)?;
        self.epochs(&mut families)?;
        self.stages(&mut families)
    }
}
