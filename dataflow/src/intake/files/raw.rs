//! Raw records as they are kept: one file for each of the sources.
//!
//! Where epochs are made durable, a file is written under a hidden name, and takes its place behind the
//! commit that knows what it is of: another run may give the number of its source file to another.

use super::opened::SourceFile;
use crate::durable::{STAGE, Staged};
use crate::job::SourcePlan;
use crate::outputs::RAW;
use millrace_connectors::decode::{DecodeOptions, Decoder, Format, RawChunk};
use millrace_connectors::mediate::MediationPlan;
use millrace_connectors::raw::{RawError, RawSource, RawWriter, open_archive};
use millrace_connectors::store::{FileMeta, NewFile, Store};
use millrace_operators::domain::{FileId, Usage};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
pub(in crate::intake) struct RawFolder {
    keeps: bool,
    store: Arc<Store>,
    /// What the names of this run have in them, where it makes its epochs durable.
    tag: Option<String>,
    /// Files begun.
    begun: Cell<u64>,
    /// The hidden names of those that this run wrote; they are in their places once they are committed.
    hidden: BTreeMap<FileId, String>,
    /// Those that no commit has yet.
    staged: Vec<Staged>,
    /// What tells that raw records are what was written: the money of a corrected rule is made of them.
    digests: BTreeMap<FileId, String>,
    /// Those that no commit has yet.
    fresh: BTreeMap<FileId, String>,
}

/// The raw records of a file being read.
pub(in crate::intake) struct RawFile {
    writer: RawWriter<NewFile>,
    spot: Staged,
}

impl RawFile {
    /// Adds the records of a chunk, and what mediation made of them.
    pub(in crate::intake) fn write(
        &mut self,
        chunk: &RawChunk,
        usage: &[Usage],
    ) -> Result<(), RawError> {
        self.writer.write(chunk, usage)
    }
}

impl RawFolder {
    pub(in crate::intake) fn of(keeps: bool, store: Arc<Store>, tag: Option<String>) -> Self {
        Self {
            keeps,
            store,
            tag,
            begun: Cell::new(0),
            hidden: BTreeMap::new(),
            staged: Vec::new(),
            digests: BTreeMap::new(),
            fresh: BTreeMap::new(),
        }
    }

    /// What the names of this run have in them, where it makes its epochs durable.
    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Whether the records of files of a format are kept. Typed files are read again where they lie.
    pub(super) fn keeps(&self, format: &Format) -> bool {
        self.keeps && !format.is_typed()
    }

    /// Begins the raw records of a file.
    pub(super) fn create(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        checksum: String,
        format: Format,
    ) -> Result<RawFile, String> {
        let place = place_of(file.id, source);
        let staged = match &self.tag {
            // A file that has grown is read again.
            Some(tag) => {
                let number = self.begun.replace(self.begun.get() + 1);
                format!("{STAGE}/{tag}-raw-{:08}-{number}.parquet", file.id.0)
            }
            None => place.clone(),
        };
        let sink = self.store.create(&staged);
        let sink = sink.map_err(|error| error.to_string())?;
        let raw = RawSource {
            file: file.id,
            name: file.meta.name.clone(),
            checksum,
            format,
        };
        Ok(RawFile {
            writer: RawWriter::new(raw, sink.digesting()),
            spot: Staged {
                staged,
                place,
                waiting: None,
            },
        })
    }

    /// The raw records of a file are complete.
    pub(super) fn finish(&mut self, id: FileId, raw: RawFile) -> Result<(), String> {
        let RawFile { writer, spot } = raw;
        let sink = writer.finish().map_err(|error| error.to_string())?;
        let digest = sink.digest();
        sink.finish().map_err(|error| error.to_string())?;
        if let Some(digest) = digest {
            self.digests.insert(id, digest.clone());
            self.fresh.insert(id, digest);
        }
        if self.tag.is_some() {
            self.hidden.insert(id, spot.staged.clone());
            self.staged.push(spot);
        }
        Ok(())
    }

    /// The files that are complete and in no commit yet.
    pub(super) fn take(&mut self) -> Vec<Staged> {
        std::mem::take(&mut self.staged)
    }

    /// Their digests.
    pub(super) fn take_digests(&mut self) -> BTreeMap<FileId, String> {
        std::mem::take(&mut self.fresh)
    }

    /// Learns the digests of what an earlier run kept.
    pub(super) fn know(&mut self, digests: BTreeMap<FileId, String>) {
        self.digests.extend(digests);
    }

    /// Opens the raw records of a file that was read, to be mediated again.
    pub(super) fn open(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
        rule: &MediationPlan,
        options: &DecodeOptions,
    ) -> Result<Decoder, String> {
        let open = |name: &str| {
            let archive = self.whole(file.id, name)?;
            let opened = open_archive(&self.store, &archive, rule.columns(), options);
            Ok(opened.map_err(|error| error.to_string())?.1)
        };
        // It leaves its hidden name when it is committed, perhaps just now.
        let hidden = self.hidden.get(&file.id).and_then(|name| open(name).ok());
        hidden.map_or_else(|| open(&place_of(file.id, source)), Ok)
    }

    /// Where the raw records of a file are that an earlier run kept.
    pub(super) fn of_file(
        &self,
        file: &SourceFile,
        source: &SourcePlan,
    ) -> Result<(Arc<Store>, FileMeta), String> {
        if !self.keeps {
            return Err("raw records are not kept".to_owned());
        }
        let kept = self.whole(file.id, &place_of(file.id, source))?;
        Ok((Arc::clone(&self.store), kept))
    }

    /// A file of raw records, found to be what was written.
    fn whole(&self, id: FileId, name: &str) -> Result<FileMeta, String> {
        let archive = self.store.find(name).map_err(|error| error.to_string())?;
        let digest = self.store.digest(&archive);
        let digest = digest.map_err(|error| error.to_string())?;
        match self.digests.get(&id).is_some_and(|told| *told != digest) {
            true => Err(format!(
                "{:?} is damaged: its digest does not match",
                archive.location
            )),
            false => Ok(archive),
        }
    }
}

fn place_of(id: FileId, source: &SourcePlan) -> String {
    format!("{RAW}/{}/{:08}.parquet", source.stream, id.0)
}
