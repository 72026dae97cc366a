//! The dataflow of a job as text and as DOT, from its plan, without running it.
//!
//! The drawing has the nodes of [`crate::graph`] with this job's sources, rules, reference files and
//! outputs around them; an edge says what flows along it. Text lists the nodes in the order of the
//! flow, each with where its results go.

use crate::job::file::OutputForms;
use crate::job::{Job, RuleSource};
use millrace_connectors::mediate::{IdentityRule, MediationRule};
use millrace_connectors::reference::{Section, yaml};
use std::fmt::Write as _;
use std::path::Path;

/// What a node is; its shape in DOT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Files that usage comes from.
    Source,
    /// Files that people and feeds keep: rules, catalog, accounts, tables.
    Reference,
    /// A step of the dataflow.
    Stage,
    /// Files that the job writes.
    Output,
}

/// A node of the drawing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Its name, unique in the drawing.
    pub name: String,
    /// What it does in this job: name and value.
    pub details: Vec<(&'static str, String)>,
}

/// What flows from one node to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// From this node.
    pub from: String,
    /// To that one.
    pub to: String,
    /// What flows.
    pub flow: &'static str,
}

/// The dataflow of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawing {
    /// The job's name.
    pub job: String,
    /// Nodes in the order of the flow.
    pub nodes: Vec<Node>,
    /// What connects them.
    pub edges: Vec<Edge>,
}

impl Drawing {
    /// Draws a job.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let mut drawing = Self {
            job: job.name.clone(),
            ..Self::default()
        };
        drawing.sources(job);
        drawing.stages(job);
        drawing.outputs(job);
        drawing
    }

    fn node(&mut self, kind: NodeKind, name: &str, details: Vec<(&'static str, String)>) {
        self.nodes.push(Node {
            kind,
            name: name.to_owned(),
            details,
        });
    }

    fn edge(&mut self, from: &str, to: &str, flow: &'static str) {
        self.edges.push(Edge {
            from: from.to_owned(),
            to: to.to_owned(),
            flow,
        });
    }

    fn sources(&mut self, job: &Job) {
        for lookup in &job.lookups {
            let details = vec![("file", lookup.file.clone()), ("key", lookup.key.clone())];
            self.node(
                NodeKind::Reference,
                &format!("table {}", lookup.name),
                details,
            );
        }
        for source in &job.sources {
            let (read, decode, mediate) = (
                format!("source {}", source.name),
                format!("decode {}", source.name),
                format!("mediate {}", source.name),
            );
            let mut details = vec![
                ("stream", source.stream.to_string()),
                match &source.kafka {
                    Some(kafka) => ("topics", kafka.topics.join(", ")),
                    None => ("path", source.path.clone()),
                },
            ];
            details.extend(
                source
                    .format_of(&source.path)
                    .map(|format| ("format", format.described())),
            );
            self.node(NodeKind::Source, &read, details);
            self.edge(&read, &decode, "bytes");
            self.node(
                NodeKind::Stage,
                &decode,
                vec![("does", "bytes to columns of raw records".to_owned())],
            );
            self.edge(&decode, &mediate, "raw records");
            self.edge(&decode, "suspense", "faults");
            if job.keep_raw {
                self.edge(&decode, "raw", "raw records");
            }
            self.node(
                NodeKind::Stage,
                &mediate,
                rule_details(&source.mediation, &job.folder),
            );
            for lookup in &job.lookups {
                self.edge(&format!("table {}", lookup.name), &mediate, "rows");
            }
            self.edge(&mediate, "dedup", "usage");
            self.edge(&mediate, "suspense", "faults");
            self.edge(&mediate, "tally", "fates");
        }
    }

    fn stages(&mut self, job: &Job) {
        let from = |paths: &[std::path::PathBuf], section: Section| {
            let shown: Vec<String> = paths.iter().map(|path| below(path, &job.folder)).collect();
            let mut details = vec![("files", shown.join(", "))];
            let topics = job.reference_topics.iter().filter(|t| t.section == section);
            let topics: Vec<&str> = topics.flat_map(|t| &t.topics).map(String::as_str).collect();
            if !topics.is_empty() {
                details.push(("topics", topics.join(", ")));
                details.retain(|(_, shown)| !shown.is_empty());
            }
            details
        };
        let catalogs = from(&job.catalogs, Section::Catalog);
        self.node(NodeKind::Reference, "catalog", catalogs);
        self.edge("catalog", "rate", "prices");
        self.edge("catalog", "activity", "plans");
        let accounts = from(&job.accounts, Section::Accounts);
        self.node(NodeKind::Reference, "accounts", accounts);
        self.edge("accounts", "guide", "accounts, subscriptions, services");
        self.edge("accounts", "activity", "accounts, subscriptions");
        let does = |text: &str| vec![("does", text.to_owned())];
        self.node(
            NodeKind::Stage,
            "dedup",
            does("keeps the first record of each identity"),
        );
        self.edge("dedup", "rate", "unique usage");
        self.edge("dedup", "suspense", "duplicates");
        self.node(
            NodeKind::Stage,
            "guide",
            does("service to subscription, account and price lists over time"),
        );
        self.edge("guide", "rate", "timelines");
        self.node(
            NodeKind::Stage,
            "rate",
            does("price in force at event time, most specific match, amount"),
        );
        self.edge("rate", "aggregate", "charges");
        self.edge("rate", "monetised", "charges");
        self.edge("rate", "suspense", "suspended usage");
        self.edge("rate", "charge", "priced usage of balance groups");
        self.edge("rate", "tally", "fates");
        self.node(
            NodeKind::Stage,
            "activity",
            does("plans and the clock to buckets, edges of periods, and charges without usage"),
        );
        self.edge("activity", "charge", "buckets, edges");
        self.edge("activity", "aggregate", "subscription charges");
        self.edge("activity", "subscription activity", "subscription charges");
        self.node(
            NodeKind::Stage,
            "charge",
            does("tiers, allowances, accumulators and caps, in order of event time"),
        );
        self.edge("charge", "aggregate", "charges, settled edges");
        self.edge("charge", "monetised", "charges");
        self.edge("charge", "impacts", "impacts");
        self.edge("charge", "balances", "values of buckets");
        self.edge("charge", "notices", "thresholds crossed");
        self.edge("charge", "suspense", "suspended usage");
        self.edge("charge", "tally", "fates");
        let mut lines = vec!["account", "bill unit", "item", "currency"];
        lines.extend(job.aggregate_by.iter().map(String::as_str));
        let zone = job.zone.iana_name().unwrap_or("UTC").to_owned();
        let details = vec![("lines by", lines.join(", ")), ("time zone", zone)];
        self.node(NodeKind::Stage, "aggregate", details);
        self.edge("aggregate", "aggregated", "billing lines");
        self.node(
            NodeKind::Stage,
            "tally",
            does("what became of the records of each file"),
        );
        self.edge("tally", "ledger", "counts");
        self.edge("tally", "raw_status", "fates");
    }

    fn outputs(&mut self, job: &Job) {
        let plan = &job.outputs;
        for (name, forms) in [
            ("suspense", plan.suspense),
            ("monetised", plan.monetised),
            ("impacts", plan.impacts),
            ("balances", plan.balances),
            ("notices", plan.notices),
            ("aggregated", plan.aggregated),
            ("raw_status", plan.raw_status),
            ("ledger", plan.ledger),
        ] {
            let details = vec![("files", files_of(&plan.folder, name, forms))];
            self.node(NodeKind::Output, name, details);
        }
        // The node that makes the activity has its name.
        let details = vec![("files", files_of(&plan.folder, "activity", plan.activity))];
        self.node(NodeKind::Output, "subscription activity", details);
        if job.keep_raw {
            let files = format!(
                "{}/raw/<platform>/<service type>/<record type>/*.parquet",
                plan.folder.trim_end_matches('/')
            );
            self.node(NodeKind::Output, "raw", vec![("files", files)]);
        }
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("job {}\n", self.job);
        for node in &self.nodes {
            writeln!(text, "\n{}", node.name).expect("writing to a string does not fail");
            for (name, value) in &node.details {
                writeln!(text, "    {name:<10} {value}")
                    .expect("writing to a string does not fail");
            }
            for edge in self.edges.iter().filter(|edge| edge.from == node.name) {
                writeln!(text, "    ──► {} ({})", edge.to, edge.flow)
                    .expect("writing to a string does not fail");
            }
        }
        text
    }

    /// As DOT, for Graphviz.
    #[must_use]
    pub fn dot(&self) -> String {
        let mut text = format!("digraph {} {{\n  rankdir=LR;\n", quoted(&self.job));
        for node in &self.nodes {
            let shape = match node.kind {
                NodeKind::Source => "folder",
                NodeKind::Reference => "note",
                NodeKind::Stage => "box",
                NodeKind::Output => "cylinder",
            };
            let details = node
                .details
                .iter()
                .map(|(name, value)| format!("{name}: {value}"));
            let label: Vec<String> = std::iter::once(node.name.clone()).chain(details).collect();
            writeln!(
                text,
                "  {} [shape={shape}, label={}];",
                quoted(&node.name),
                quoted(&label.join("\n"))
            )
            .expect("writing to a string does not fail");
        }
        for edge in &self.edges {
            let (from, to, flow) = (quoted(&edge.from), quoted(&edge.to), quoted(edge.flow));
            writeln!(text, "  {from} -> {to} [label={flow}];")
                .expect("writing to a string does not fail");
        }
        text.push_str("}\n");
        text
    }
}

/// Text as a DOT string.
fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}

fn below(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder)
        .unwrap_or(path)
        .display()
        .to_string()
}

/// What the rule says, as far as it can be read: judging it is the business of `check`.
fn rule_details(source: &RuleSource, folder: &Path) -> Vec<(&'static str, String)> {
    let (place, rule) = match source {
        RuleSource::Inline(rule) => ("in the job file".to_owned(), Some((**rule).clone())),
        RuleSource::File(path) => {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(path).ok();
            let rule = text.and_then(|text| yaml::read::<MediationRule>(&shown, &text).value);
            (below(path, folder), rule)
        }
    };
    let mut details = vec![("rule", place)];
    let Some(rule) = rule else { return details };
    if let Some(filter) = &rule.filter {
        details.push(("where", filter.value.clone()));
    }
    let identity = match &rule.identity {
        IdentityRule::Position => "position".to_owned(),
        IdentityRule::Fields(fields) => fields
            .iter()
            .map(|field| field.value.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    };
    details.push(("identity", identity));
    let names = |named: &[(String, _)]| {
        named
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !rule.attributes.0.is_empty() {
        details.push(("attributes", names(&rule.attributes.0)));
    }
    details.push(("items", names(&rule.charges.0)));
    details
}

fn files_of(folder: &str, name: &str, forms: OutputForms) -> String {
    let place = format!("{}/{name}", folder.trim_end_matches('/'));
    let forms = [
        (forms.changes, "changes/*.parquet"),
        (forms.snapshot, "snapshot/*.parquet"),
        (forms.json, "snapshot.jsonl"),
        (forms.is_csv(), "snapshot.csv"),
    ];
    let written = forms
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, file)| format!("{place}/{file}"));
    let written: Vec<String> = written.collect();
    if written.is_empty() {
        "none".to_owned()
    } else {
        written.join(", ")
    }
}

#[cfg(test)]
mod tests;
