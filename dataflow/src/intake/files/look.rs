//! What is found out of a file before it is read.

use crate::bundle::Bundle;
use millrace_connectors::decode::{Content, DecodeOptions, Decoder, Format};
use millrace_connectors::ledger::Sight;
use millrace_connectors::store::{FileMeta, Store};
use millrace_operators::domain::{FileId, RecordId};

/// A file of a source, looked into where its name and checksum do not tell what it is.
pub(super) struct Look<'a> {
    pub(super) store: &'a Store,
    pub(super) meta: &'a FileMeta,
    pub(super) format: Option<Format>,
}

impl Sight for Look<'_> {
    fn has_records(&self) -> bool {
        let Some(format) = &self.format else {
            return true;
        };
        if self.meta.size == 0 && !format.is_typed() {
            return false;
        }
        let options = DecodeOptions {
            chunk_rows: 1,
            ..DecodeOptions::default()
        };
        let decoder = Decoder::open(self.store, self.meta, FileId(0), format, &[], &options);
        // One that cannot be opened says so when it is read.
        decoder.map_or(true, |mut decoder| decoder.next_chunk().is_some())
    }

    fn begins_with(&self, content: &Content) -> bool {
        // One that cannot be read does not.
        content.begins(self.store, self.meta).unwrap_or(false)
    }
}

/// How a file is begun, and what a person should hear.
pub(in crate::intake) enum Begin {
    /// It is read.
    Read(Vec<String>),
    /// It is not read, or not yet.
    Refused(Vec<String>),
}

/// Where what is taken back goes.
pub(in crate::intake) struct TakeBack<'a> {
    pub(in crate::intake) bundle: &'a mut Bundle,
    /// Whether an output wants each ignored record.
    pub(in crate::intake) wants_ignored: bool,
    /// Whether a record can still be taken back.
    pub(in crate::intake) known: &'a dyn Fn(RecordId) -> bool,
}
