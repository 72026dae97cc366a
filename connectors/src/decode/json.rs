//! JSON records.

use super::assemble::Assembler;
use super::paths::{FieldPaths, KEY_COLUMN};
use super::slices::Records;
use super::split::Slice;

/// The fields that are asked for.
pub(super) struct JsonRecords {
    paths: FieldPaths,
    key_column: Option<usize>,
}

impl JsonRecords {
    /// Fields of these names.
    pub(super) fn new(names: &[String]) -> Self {
        Self {
            paths: FieldPaths::new(names),
            key_column: names.iter().position(|name| name == KEY_COLUMN),
        }
    }
}

impl Records for JsonRecords {
    const WHAT: &'static str = "JSON records";
    const NAMED: bool = true;

    fn record(&self, slice: &Slice, bytes: &[u8], assembler: &mut Assembler) {
        let key = slice.key.as_deref();
        let key = key.and_then(|key| Some((self.key_column?, key)));
        self.paths.record(bytes, slice.line, key, assembler);
    }
}
