//! Whether the footer of a Parquet file can be true, before anything is read or reserved by it.
//!
//! A damaged length in a footer makes a reader reserve more memory than there is, and a damaged offset
//! makes it read one column in the place of another. Both show in the footer itself: no list has more
//! entries than the footer has bytes, and the columns lie one behind the other, each in bytes of its
//! own and with as many values as its row group has rows. Nor do its columns nest deeper than a stack holds.

use super::window::RECORD_BYTES_MAX;
use crate::store::RandomAccess;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

const MAGIC: &[u8] = b"PAR1";
/// The length of the footer and the magic behind it.
const TAIL_BYTES: u64 = 8;
/// Deeper than any footer nests.
const DEPTH_MAX: u32 = 16;
/// Columns inside of each other.
const COLUMN_DEPTH_MAX: usize = 64;
/// Kinds of values in the compact encoding.
const NUMBER: u8 = 5;
const LIST: u8 = 9;
const STRUCTURE: u8 = 12;
/// The fields of a footer and of its columns, by their numbers.
const COLUMNS: u64 = 2;
const CHILDREN: u64 = 5;
/// Those of the header of a page.
const UNPACKED: u64 = 2;
const PACKED: u64 = 3;

/// The bytes of a footer, in the compact encoding of Thrift.
pub(super) struct Footer(Bytes);

impl Footer {
    pub(super) fn read(access: &RandomAccess) -> Result<Self, String> {
        let told = |error: parquet::errors::ParquetError| error.to_string();
        let length = access.len();
        let before = length
            .checked_sub(TAIL_BYTES)
            .filter(|before| *before >= 4)
            .ok_or_else(|| format!("it has {length} bytes"))?;
        let tail = access.get_bytes(before, 8).map_err(told)?;
        let Some((size, magic)) = tail.split_first_chunk::<4>() else {
            return Err("its last bytes are missing".to_owned());
        };
        if magic != MAGIC {
            return Err("it does not end like one; it may have been cut".to_owned());
        }
        let size = u64::from(u32::from_le_bytes(*size));
        let start = before
            .checked_sub(size)
            .ok_or_else(|| format!("its footer has {size} bytes and the file only {length}"))?;
        let size = usize::try_from(size).map_err(|error| error.to_string())?;
        access.get_bytes(start, size).map(Self).map_err(told)
    }

    /// Follows the structure of the footer, so that no list in it is longer than the footer, and no column
    /// deeper than readers follow it.
    pub(super) fn check(&self) -> Result<(), String> {
        let mut nesting = Nesting::default();
        let mut walk = Walk { rest: &self.0 };
        let walked = walk.fields(&mut |walk, number, kind| match (number, kind) {
            (COLUMNS, LIST) => {
                let (count, kind) = walk.list()?;
                (0..count).try_for_each(|_| nesting.column(walk, kind))
            }
            (_, kind) => walk.value(kind, 0),
        });
        walked
            .ok_or_else(|| "its footer breaks off or does not follow its own lengths".to_owned())?;
        if nesting.deepest > COLUMN_DEPTH_MAX {
            return Err(format!(
                "its columns stand more than {COLUMN_DEPTH_MAX} deep inside of each other"
            ));
        }
        Ok(())
    }
}

/// How deep columns stand inside of each other, each told with the number of those directly inside of it.
#[derive(Default)]
struct Nesting {
    /// How many are still to come of each that is open.
    open: Vec<u64>,
    deepest: usize,
}

impl Nesting {
    fn column(&mut self, walk: &mut Walk<'_>, kind: u8) -> Option<()> {
        if kind != STRUCTURE {
            return walk.value(kind, 0);
        }
        let mut children = 0;
        walk.fields(&mut |walk, number, kind| match (number, kind) {
            (CHILDREN, NUMBER) => {
                children = walk.number()?;
                Some(())
            }
            (_, kind) => walk.value(kind, 0),
        })?;
        while self.open.last() == Some(&0) {
            self.open.pop();
        }
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            self.open.push(children);
            self.deepest = self.deepest.max(self.open.len());
        }
        Some(())
    }
}

/// What the header of a page says of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageSizes {
    /// How many there are.
    pub(super) packed: u64,
    /// How many there are when they are unpacked.
    pub(super) unpacked: u64,
}

impl PageSizes {
    pub(super) fn of(header: &[u8]) -> Option<Self> {
        let (mut packed, mut unpacked) = (None, None);
        let mut walk = Walk { rest: header };
        walk.fields(&mut |walk, number, kind| match (number, kind) {
            (PACKED, NUMBER) => walk.number().map(|size| packed = Some(size)),
            (UNPACKED, NUMBER) => walk.number().map(|size| unpacked = Some(size)),
            (_, kind) => walk.value(kind, 0),
        })?;
        Some(Self {
            packed: packed?,
            unpacked: unpacked?,
        })
    }
}

/// Passes over values in the compact encoding.
struct Walk<'b> {
    rest: &'b [u8],
}

impl Walk<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A number that is not negative.
    fn number(&mut self) -> Option<u64> {
        let zigzag = self.varint()?;
        (zigzag & 1 == 0).then_some(zigzag >> 1)
    }

    /// How many values the list has that begins here, and their kind.
    fn list(&mut self) -> Option<(u64, u8)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        let fits = count <= u64::try_from(self.rest.len()).ok()?;
        fits.then_some((count, header & 0x0f))
    }

    /// Visits the fields of a structure by number and kind; the visitor passes over the value.
    fn fields(&mut self, visit: &mut dyn FnMut(&mut Self, u64, u8) -> Option<()>) -> Option<()> {
        let mut number = 0_u64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            number = match header >> 4 {
                0 => self.number()?, // of a field that is far from the one before
                step => number.checked_add(u64::from(step))?,
            };
            match header & 0x0f {
                1 | 2 => {} // true and false are told by the header
                kind => visit(self, number, kind)?,
            }
        }
    }

    fn structure(&mut self, depth: u32) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.fields(&mut |walk, _, kind| walk.value(kind, depth))
    }

    fn value(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            1..=3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.value(kind, depth + 1))
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                if count > u64::try_from(self.rest.len()).ok()? {
                    return None;
                }
                (0..count).try_for_each(|_| {
                    self.value(kinds >> 4, depth + 1)?;
                    self.value(kinds & 0x0f, depth + 1)
                })
            }
            STRUCTURE => self.structure(depth + 1),
            _ => None,
        }
    }
}

/// Whether the places and counts of a footer agree with each other and with the file.
pub(super) fn adds_up(metadata: &ParquetMetaData, length: u64) -> Result<(), String> {
    let mut places = Vec::new();
    let mut rows = 0_i64;
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let wrong = |what: &str| format!("its footer names {what} in row group {number}");
        if group.num_rows() < 0 {
            return Err(wrong("fewer than no rows"));
        }
        rows = rows
            .checked_add(group.num_rows())
            .ok_or_else(|| wrong("too many rows"))?;
        for column in group.columns() {
            let name = column.column_path().string();
            let flat = column.column_descr().max_rep_level() == 0;
            if flat && column.num_values() != group.num_rows() {
                let (values, rows) = (column.num_values(), group.num_rows());
                return Err(wrong(&format!(
                    "{values} values of {name:?} for {rows} rows"
                )));
            }
            if usize::try_from(column.column_descr().type_length())
                .is_ok_and(|length| length > RECORD_BYTES_MAX)
            {
                return Err(wrong(&format!(
                    "values of more than {RECORD_BYTES_MAX} bytes for {name:?}"
                )));
            }
            if group.num_rows() == 0 {
                continue;
            }
            let start = column.dictionary_page_offset();
            let start = start.filter(|start| *start > 0);
            let start = start.unwrap_or_else(|| column.data_page_offset());
            let place = u64::try_from(start).ok();
            let size = u64::try_from(column.compressed_size()).ok();
            let end = place
                .zip(size)
                .and_then(|(place, size)| place.checked_add(size));
            match (place, end) {
                (Some(place), Some(end)) if place >= 4 && end <= length && place < end => {
                    places.push((place, end, name));
                }
                _ => return Err(wrong(&format!("a place outside of the file for {name:?}"))),
            }
        }
    }
    if metadata.file_metadata().num_rows() != rows {
        let named = metadata.file_metadata().num_rows();
        return Err(format!(
            "its footer names {named} rows, and its row groups {rows}"
        ));
    }
    places.sort();
    let overlap = places.windows(2).find_map(|pair| match pair {
        [(_, end, first), (start, _, second)] if start < end => Some((first, second)),
        _ => None,
    });
    match overlap {
        Some((first, second)) => Err(format!(
            "its footer names one place for {first:?} and {second:?}"
        )),
        None => Ok(()),
    }
}
