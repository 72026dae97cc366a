//! Where a job reads and where it writes: what it writes must not come back as usage.

use super::{ArchivePlan, DurabilityPlan, OutputPlan, SourcePlan};
use millrace_connectors::store::Store;
use std::path::{Component, Path, PathBuf};

/// Files like those that a job writes; a source that reads none of them reads nothing that it wrote.
const WRITTEN: [&str; 6] = [
    "aggregated/snapshot.csv",
    "aggregated/snapshot.jsonl",
    "aggregated/snapshot/part-00.parquet",
    "aggregated/changes/0.csv",
    "manifest/0.json",
    "raw/switch/voice/postpaid/0.parquet",
];

/// A place that a job writes to, and that one of its sources reads.
pub(super) struct Overlap {
    /// Which part of the job file says where.
    pub(super) key: &'static str,
    /// The place, as it is written.
    pub(super) written: String,
    /// The source.
    pub(super) source: String,
    /// Where the source's path stands in the job file.
    pub(super) place: (u64, u64),
    /// Where it is below that; empty where it is that.
    pub(super) below: String,
}

/// All of them, those of the first sources first.
pub(super) fn overlaps(
    folder: &Path,
    sources: &[SourcePlan],
    outputs: &OutputPlan,
    durability: Option<&DurabilityPlan>,
    archive: Option<&ArchivePlan>,
) -> Vec<Overlap> {
    let written = [
        Some(("outputs", &outputs.folder)),
        durability.map(|plan| ("durability", &plan.folder)),
        archive.map(|plan| ("archive", &plan.folder)),
    ];
    let mut overlaps = Vec::new();
    for source in sources {
        if source.kafka.is_some() || source.path.is_empty() {
            continue;
        }
        for (key, written) in written.iter().flatten() {
            let Some(below) = below(folder, &source.path, written) else {
                continue;
            };
            let name = |file: &&str| format!("{below}/{file}").trim_matches('/').to_owned();
            let mut names = WRITTEN.iter().map(name);
            if names.any(|name| source.chosen.has(&name)) {
                overlaps.push(Overlap {
                    key,
                    written: (*written).clone(),
                    source: source.name.clone(),
                    place: source.place,
                    below,
                });
            }
        }
    }
    overlaps
}

/// Where `written` is below a folder or bucket that is read; nothing where it is elsewhere.
fn below(folder: &Path, read: &str, written: &str) -> Option<String> {
    let local = |location: &str| match location.split_once("://") {
        None | Some(("file", _)) => {
            let store = Store::open(location, folder).ok()?;
            store.local_path().map(resolved)
        }
        Some(_) => None,
    };
    match (local(read), local(written)) {
        (Some(read), Some(written)) if !read.is_file() => {
            let below = written.strip_prefix(&read).ok()?;
            Some(below.to_str()?.to_owned())
        }
        (None, None) => {
            let below = written
                .trim_end_matches('/')
                .strip_prefix(read.trim_end_matches('/'))?;
            let below = below.strip_prefix('/').or(below.is_empty().then_some(""))?;
            Some(below.to_owned())
        }
        _ => None,
    }
}

/// The path without links and steps back, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                found.pop();
            }
            Component::CurDir => {}
            part => {
                found.push(part);
                found = found.canonicalize().unwrap_or(found);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_below_another_whatever_way_leads_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::create_dir_all(at.join("in/deep")).unwrap();
        std::fs::write(at.join("in/a.csv"), "").unwrap();
        std::os::unix::fs::symlink("in", at.join("link")).unwrap();
        for (read, written, expected) in [
            ("in", "in/out", Some("out")),
            ("in", "in", Some("")),
            ("in/", "./in/deep/../out", Some("out")),
            ("link", "in/out/x", Some("out/x")),
            ("in", "link/out", Some("out")),
            (".", "out", Some("out")),
            ("in", "out", None),
            ("in", "input", None),
            ("in/a.csv", "in/a.csv", None),
            ("s3://b/in", "s3://b/in/out", Some("out")),
            ("s3://b/in/", "s3://b/in", Some("")),
            ("s3://b/in", "s3://b/input", None),
            ("s3://b/in", "in", None),
        ] {
            let found = below(at, read, written);
            assert_eq!(found.as_deref(), expected, "{written} of {read}");
        }
    }
}
