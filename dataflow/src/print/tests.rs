//! Drawings of jobs.

use super::*;
use std::collections::BTreeSet;

const JOB: &str = "\
name: llm
time_zone: Europe/Prague
sources:
  - name: agents
    platform: proxy
    service_type: llm
    path: usage.csv
    mediation:
      columns: { tokens: bigint }
      where: tokens > 0
      identity: [id]
      service: team
      time: at
      attributes: { model: model }
      charges: { tokens: tokens }
lookups:
  teams: { file: teams.csv, key: id }
catalog: [catalog.yaml]
accounts: [accounts.yaml]
billing: { aggregate_by: [model] }
outputs: { folder: results, suspense: { changes: false } }
";

fn drawing() -> Drawing {
    let folder = tempfile::tempdir().unwrap();
    for file in ["usage.csv", "teams.csv", "catalog.yaml", "accounts.yaml"] {
        std::fs::write(folder.path().join(file), "").unwrap();
    }
    let (job, findings) = Job::from_text(&folder.path().join("job.yaml"), JOB);
    assert!(findings.is_empty(), "{findings:?}");
    Drawing::of(&job.unwrap())
}

#[test]
fn every_edge_joins_two_nodes_and_every_node_has_a_name_of_its_own() {
    let drawing = drawing();
    let names: BTreeSet<&str> = drawing
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    assert_eq!(names.len(), drawing.nodes.len());
    for edge in &drawing.edges {
        assert!(
            names.contains(&*edge.from) && names.contains(&*edge.to),
            "{edge:?}"
        );
    }
}

#[test]
fn text_says_what_this_job_does_at_each_node() {
    let text = drawing().text();
    for expected in [
        "job llm\n",
        "\nsource agents\n    stream     proxy/llm/postpaid\n    path       usage.csv\n",
        "    ──► decode agents (bytes)\n",
        "    where      tokens > 0\n    identity   id\n    attributes model\n    items      tokens\n",
        "\ntable teams\n    file       teams.csv\n    key        id\n    ──► mediate agents (rows)\n",
        "    lines by   account, bill unit, item, currency, model\n    time zone  Europe/Prague\n",
        "\ncatalog\n    files      catalog.yaml\n    ──► rate (prices)\n",
        "\nsuspense\n    files      results/suspense/snapshot/*.parquet\n",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
}

#[test]
fn dot_quotes_what_users_wrote() {
    let mut drawing = drawing();
    "a \"b\"".clone_into(&mut drawing.job);
    let dot = drawing.dot();
    assert!(dot.starts_with("digraph \"a \\\"b\\\"\" {"), "{dot}");
    assert!(
        dot.contains("\"dedup\" -> \"rate\" [label=\"unique usage\"];"),
        "{dot}"
    );
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
}
