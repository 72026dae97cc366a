//! Whether a file of which nothing could be read is another that was cut.

use super::content::plain;
use super::error::DecodeError;
use super::formats::Format;
use super::members::Compression;
use crate::store::{FileMeta, Store};
use std::io::Read;

/// Packed bytes that no two files begin with by chance.
const PACKED_BYTES_MIN: u64 = 64;

/// Whether `part`, of which no record was read, is `whole` cut short: all of it is the beginning of that,
/// packed or not, and is more than what files of a source begin with anyway.
#[must_use]
pub fn is_cut_of(part: (&Store, &FileMeta), whole: (&Store, &FileMeta), format: &Format) -> bool {
    let is_text = !format.is_typed();
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
    let has_header = format.has_header();
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
