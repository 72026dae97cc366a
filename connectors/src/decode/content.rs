//! What is remembered of a file of text, so that another that begins with it, or with which it begins, is
//! known by that.

use super::members::{Compression, Remark};
use super::{DecodeError, Format, decompress};
use crate::store::{FileMeta, Store};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// What was read of a file of text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Bytes up to the end of the last record, without compression.
    pub bytes: u64,
    /// The hash of these bytes.
    pub digest: String,
    /// Rows whose end does not depend on the end of the file. Those behind are read otherwise, perhaps,
    /// where more follows.
    pub settled: u64,
    /// Hashes of the bytes up to the end of the first 1, 2, 4, 8, … settled rows.
    pub heads: Vec<u64>,
}

impl Content {
    /// Whether the content of `file` begins with this one.
    ///
    /// # Errors
    /// When the file cannot be read. One that breaks off before is no error: it does not begin with it.
    pub fn begins(&self, store: &Store, file: &FileMeta) -> Result<bool, DecodeError> {
        let found = Self::digests(store, file, &[self.bytes])?;
        Ok(found.first() == Some(&self.digest))
    }

    /// The hashes of the beginnings of `file` of so many bytes, which ascend; of those only that it has.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn digests(
        store: &Store,
        file: &FileMeta,
        ascending: &[u64],
    ) -> Result<Vec<String>, DecodeError> {
        let mut input = plain(store, file)?;
        let mut hasher = blake3::Hasher::new();
        let mut digests = Vec::with_capacity(ascending.len());
        for bytes in ascending {
            let mut stretch = (&mut input).take(bytes.saturating_sub(hasher.count()));
            if hasher.update_reader(&mut stretch).is_err() || stretch.limit() > 0 {
                break;
            }
            digests.push(hasher.finalize().to_hex().to_string());
        }
        Ok(digests)
    }

    /// As the first of [`Self::heads`] of a longer file, for each way in which the only record of `file`,
    /// of which this is the content, may end there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn endings(&self, store: &Store, file: &FileMeta) -> Result<[u64; 3], DecodeError> {
        let mut hasher = blake3::Hasher::new();
        let mut beginning = plain(store, file)?.take(self.bytes);
        // One that breaks off here begins like none.
        hasher.update_reader(&mut beginning).ok();
        let endings: [&[u8]; 3] = [b"", b"\n", b"\r\n"];
        Ok(endings.map(|ending| head_of(hasher.clone().update(ending))))
    }
}

/// A hash as one of [`Content::heads`].
pub(super) fn head_of(hasher: &blake3::Hasher) -> u64 {
    let mut head = [0; 8];
    hasher.finalize_xof().fill(&mut head);
    u64::from_le_bytes(head)
}

/// Packed bytes that no two files begin with by chance.
const PACKED_BYTES_MIN: u64 = 64;

/// Whether `part`, of which no record was read, is `whole` cut short: all of it is the beginning of that,
/// packed or not, and is more than what files of a source begin with anyway.
#[must_use]
pub fn is_cut_of(part: (&Store, &FileMeta), whole: (&Store, &FileMeta), format: &Format) -> bool {
    let is_text = !matches!(format, Format::Parquet);
    let is_packed = |file: &FileMeta| Compression::of_name(&file.name).is_some() || !is_text;
    let beginning = |open: Open| {
        let (part, whole) = (open(part.0, part.1), open(whole.0, whole.1));
        part.ok()
            .zip(whole.ok())
            .map(|(part, whole)| common(part, whole))
    };
    if is_packed(part.1) {
        let packed = beginning(|store, file| Ok(store.read(file)?));
        let whole = packed.is_some_and(|(bytes, all, _)| all && bytes >= PACKED_BYTES_MIN);
        if whole || !is_text {
            return whole;
        }
    }
    let has_header = matches!(format, Format::Csv { header: None, .. });
    beginning(plain)
        .is_some_and(|(bytes, all, lines)| all && bytes > 0 && (lines > 0 || !has_header))
}

type Open = fn(&Store, &FileMeta) -> Result<Box<dyn Read + Send>, DecodeError>;

/// How many bytes of `part`, as far as it can be read, are the beginning of `whole`; whether all are; and how
/// many lines end before the last of them.
fn common(mut part: Box<dyn Read + Send>, mut whole: Box<dyn Read + Send>) -> (u64, bool, usize) {
    let (mut bytes, mut lines) = (0, 0);
    let mut ends_line = false;
    let (mut one, mut other) = ([0; 4096], [0; 4096]);
    loop {
        let Ok(read @ 1..) = part.read(&mut one) else {
            return (bytes, true, lines);
        };
        let (one, other) = (&one[..read], &mut other[..read]);
        if whole.read_exact(other).is_err() || one != other {
            return (bytes, false, lines);
        }
        lines += usize::from(ends_line)
            + one[..read - 1]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
        ends_line = one.last() == Some(&b'\n');
        bytes += u64::try_from(read).unwrap_or(0);
    }
}

fn plain(store: &Store, file: &FileMeta) -> Result<Box<dyn Read + Send>, DecodeError> {
    Ok(decompress(
        store.read(file)?,
        &file.name,
        &Remark::default(),
    ))
}
