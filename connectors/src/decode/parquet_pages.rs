//! Hands the pages of a Parquet file to its reader, after a look at what they claim.
//!
//! A page says how many bytes and values it has before anybody has seen them, and a reader makes room for
//! as much: a damaged number ends the process. So no page is unpacked that says more than its bytes can
//! account for, and no values are decoded whose count does not fit the page.
//!
//! Times of 96 bits reach millions of years, and a reader makes nanoseconds of 64 bits of them without a
//! look: one outside of 1677 to 2262 would come out as another time. In its place stands [`OUTSIDE`], which
//! is told for its row.

use super::parquet_layout::PageSizes;
use crate::store::RandomAccess;
use crate::times::OUTSIDE;
use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes that a page has when it is unpacked.
const PAGE_BYTES_MAX: u64 = 1 << 30;
/// The most that it has, for each byte that it was packed into.
const EXPANSION_MAX: u64 = 2_000;
/// What it may have however few bytes it was packed into.
const PAGE_BYTES_FREE: u64 = 64 << 20;
/// The most values of a page whose texts are counted by their own encoding, and of the pages of a column of
/// lists that are read at a time behind the first, which may have [`LISTED_MAX`].
const VALUES_MAX: u64 = 1 << 24;
const LISTED_MAX: u64 = 1 << 28;

/// Bytes of a time of 96 bits: nanoseconds of the day, then the Julian day.
const INT96_BYTES: usize = 12;
const NANOS_OF_DAY: i128 = 86_400_000_000_000;
/// The Julian day of 1970-01-01.
const EPOCH_DAY: i128 = 2_440_588;

/// The pages of some row groups of a file.
pub(super) struct Pages {
    pub(super) access: RandomAccess,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) groups: Vec<usize>,
    pub(super) values: Values,
}

/// Counts values of columns of lists, of which a few rows may have any number.
#[derive(Clone, Default)]
pub(super) struct Values(Arc<AtomicU64>);

impl Values {
    /// Begins to count anew, before rows are read.
    pub(super) fn renew(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, count: u64) -> Result<()> {
        if self.0.fetch_add(count, Ordering::Relaxed) > VALUES_MAX || count > LISTED_MAX {
            return Err(damaged(format!(
                "a few of its rows have more than {VALUES_MAX} values"
            )));
        }
        Ok(())
    }
}

fn damaged(detail: String) -> ParquetError {
    ParquetError::General(detail)
}

impl RowGroups for Pages {
    fn num_rows(&self) -> usize {
        let rows = self.row_groups().map(RowGroupMetaData::num_rows);
        rows.filter_map(|rows| usize::try_from(rows).ok()).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        Ok(Box::new(Chunks {
            access: self.access.clone(),
            metadata: Arc::clone(&self.metadata),
            groups: self.groups.clone().into_iter(),
            column,
            values: self.values.clone(),
        }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        let all = self.metadata.row_groups();
        Box::new(self.groups.iter().filter_map(|group| all.get(*group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of a column, row group after row group.
struct Chunks {
    access: RandomAccess,
    metadata: Arc<ParquetMetaData>,
    groups: std::vec::IntoIter<usize>,
    column: usize,
    values: Values,
}

impl Iterator for Chunks {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.metadata.row_groups().get(self.groups.next()?)?;
        let chunk = group.columns().get(self.column)?;
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let access = Measured {
            access: self.access.clone(),
            header: Arc::default(),
        };
        let pages = SerializedPageReader::new(Arc::new(access), chunk, rows, None);
        let kind = chunk.column_descr_ptr();
        let values = self.values.clone();
        Some(pages.map(|pages| {
            let checked: Box<dyn PageReader> = Box::new(Checked {
                pages,
                kind,
                values,
            });
            checked
        }))
    }
}

impl PageIterator for Chunks {}

/// Reads pages that say no more than their bytes can account for.
struct Measured {
    access: RandomAccess,
    /// The header of the page whose bytes are read next.
    header: Arc<Mutex<Vec<u8>>>,
}

impl Length for Measured {
    fn len(&self) -> u64 {
        self.access.len()
    }
}

impl ChunkReader for Measured {
    type T = Noted;

    fn get_read(&self, start: u64) -> Result<Noted> {
        Ok(Noted {
            input: self.access.get_read(start)?,
            header: Arc::clone(&self.header),
            begun: false,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let sizes = PageSizes::of(&self.header.lock().unwrap_or_else(PoisonError::into_inner));
        let sizes = sizes.ok_or_else(|| damaged("a page has no sizes".to_owned()))?;
        let most = sizes.packed.saturating_mul(EXPANSION_MAX);
        if sizes.unpacked > most.clamp(PAGE_BYTES_FREE, PAGE_BYTES_MAX) {
            let PageSizes { packed, unpacked } = sizes;
            return Err(damaged(format!(
                "a page of {packed} bytes says that it has {unpacked} when it is unpacked"
            )));
        }
        self.access.get_bytes(start, length)
    }
}

/// Keeps what is read, which is the header of a page.
struct Noted {
    input: Box<dyn Read>,
    header: Arc<Mutex<Vec<u8>>>,
    begun: bool,
}

impl Read for Noted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let mut header = self.header.lock().unwrap_or_else(PoisonError::into_inner);
        // The header of a page that was looked at before is not read again.
        if !std::mem::replace(&mut self.begun, true) {
            header.clear();
        }
        header.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Hands on pages whose counts fit their bytes.
struct Checked {
    pages: SerializedPageReader<Measured>,
    kind: ColumnDescPtr,
    values: Values,
}

impl Checked {
    fn check(&self, page: &Page) -> Result<()> {
        let count = u64::from(page.num_values());
        if let Page::DictionaryPage { buf, .. } = page {
            let bytes = u64::try_from(buf.len()).unwrap_or(u64::MAX);
            let least = count.saturating_mul(self.least_width());
            return match least > bytes.saturating_mul(8) {
                true => Err(damaged(format!(
                    "a dictionary of {bytes} bytes says that it has {count} values"
                ))),
                false => Ok(()),
            };
        }
        if self.kind.max_rep_level() > 0 {
            self.values.add(count)?;
        }
        let lists = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
            Encoding::DELTA_BYTE_ARRAY => 2,
            _ => return Ok(()),
        };
        let mut lengths = Lengths {
            rest: self.content(page).unwrap_or_default(),
        };
        for _ in 0..lists {
            let fits = lengths.pass(count.min(VALUES_MAX));
            fits.ok_or_else(|| {
                damaged(format!(
                    "a page of {count} values does not say how long so many texts are"
                ))
            })?;
        }
        Ok(())
    }

    /// A page of times of 96 bits, with [`OUTSIDE`] where nanoseconds of 64 bits do not hold them.
    fn within_range(&self, page: Page) -> Page {
        let holds_times = matches!(page, Page::DictionaryPage { .. })
            || matches!(page.encoding(), Encoding::PLAIN);
        let times = self.content(&page).filter(|_| holds_times);
        let times = times.unwrap_or_default();
        let mut each = times.chunks_exact(INT96_BYTES);
        if each.all(|time| nanoseconds(time).is_some()) {
            return page;
        }
        let levels = page.buffer().len() - times.len();
        let mut bytes = page.buffer().to_vec();
        let times = bytes.get_mut(levels..).unwrap_or_default();
        for time in times.chunks_exact_mut(INT96_BYTES) {
            if nanoseconds(time).is_none() {
                time.copy_from_slice(&time_of(OUTSIDE));
            }
        }
        with_buffer(page, Bytes::from(bytes))
    }

    /// The fewest bits that a value of a dictionary has.
    fn least_width(&self) -> u64 {
        match self.kind.physical_type() {
            Type::BOOLEAN => 1,
            Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 32,
            Type::INT64 | Type::DOUBLE => 64,
            Type::INT96 => 96,
            Type::FIXED_LEN_BYTE_ARRAY => {
                let bytes = u64::try_from(self.kind.type_length()).unwrap_or(0);
                bytes.max(1).saturating_mul(8)
            }
        }
    }

    /// The values of a page, behind the levels that say which rows have them.
    fn content<'p>(&self, page: &'p Page) -> Option<&'p [u8]> {
        match page {
            Page::DataPage {
                buf,
                num_values,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => {
                let mut rest: &[u8] = buf;
                for (level, encoding) in [
                    (self.kind.max_rep_level(), rep_level_encoding),
                    (self.kind.max_def_level(), def_level_encoding),
                ] {
                    if level > 0 {
                        rest = behind_levels(rest, level, *encoding, *num_values)?;
                    }
                }
                Some(rest)
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let levels = def_levels_byte_len.checked_add(*rep_levels_byte_len)?;
                buf.get(usize::try_from(levels).ok()?..)
            }
            Page::DictionaryPage { buf, .. } => Some(buf),
        }
    }
}

/// The nanoseconds since 1970 of a time of 96 bits; nothing where 64 bits do not hold them.
fn nanoseconds(time: &[u8]) -> Option<i64> {
    let (of_day, day) = time.split_first_chunk::<8>()?;
    let day = i32::from_le_bytes(*day.first_chunk::<4>()?);
    let of_day = i64::from_le_bytes(*of_day);
    let all = (i128::from(day) - EPOCH_DAY) * NANOS_OF_DAY + i128::from(of_day);
    i64::try_from(all).ok()
}

/// The time of 96 bits of these nanoseconds since 1970.
fn time_of(nanos: i64) -> [u8; INT96_BYTES] {
    let (nanos, mut time) = (i128::from(nanos), [0; INT96_BYTES]);
    let day = nanos.div_euclid(NANOS_OF_DAY) + EPOCH_DAY;
    let of_day = nanos.rem_euclid(NANOS_OF_DAY);
    let (head, tail) = time.split_at_mut(8);
    head.copy_from_slice(&of_day.to_le_bytes()[..8]);
    tail.copy_from_slice(&day.to_le_bytes()[..4]);
    time
}

/// The page with other bytes in it, of the same number.
fn with_buffer(mut page: Page, bytes: Bytes) -> Page {
    match &mut page {
        Page::DataPage { buf, .. }
        | Page::DataPageV2 { buf, .. }
        | Page::DictionaryPage { buf, .. } => *buf = bytes,
    }
    page
}

fn behind_levels(bytes: &[u8], level: i16, encoding: Encoding, count: u32) -> Option<&[u8]> {
    if encoding == Encoding::RLE {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        return rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..);
    }
    // Packed in as many bits as the highest level has.
    let bits = u64::from(count) * u64::from(i16::BITS - level.leading_zeros());
    bytes.get(usize::try_from(bits.div_ceil(8)).ok()?..)
}

impl PageReader for Checked {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(match self.kind.physical_type() {
            Type::INT96 => page.map(|page| self.within_range(page)),
            _ => page,
        })
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for Checked {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// Passes over whole numbers in the encoding `DELTA_BINARY_PACKED`, whose beginning says how many they are.
struct Lengths<'b> {
    rest: &'b [u8],
}

impl Lengths<'_> {
    /// Passes over one list of numbers, if it has no more than `most`.
    fn pass(&mut self, most: u64) -> Option<()> {
        let block = self.varint()?;
        let parts = self.varint()?;
        let count = self.varint()?;
        self.varint()?; // the first number
        let in_part = block.checked_div(parts)?;
        if count > most || block == 0 {
            return None;
        }
        let mut left = count.saturating_sub(1);
        while left > 0 {
            self.varint()?; // what is added to all differences of the block
            let widths;
            (widths, self.rest) = self.rest.split_at_checked(usize::try_from(parts).ok()?)?;
            let mut bytes = 0_u64;
            for width in widths {
                if left > 0 {
                    let bits = u64::from(*width).checked_mul(in_part)?;
                    bytes = bytes.checked_add(bits / 8)?;
                }
                left = left.saturating_sub(in_part);
            }
            // The last block need not be padded.
            let bytes = usize::try_from(bytes).ok()?.min(self.rest.len());
            self.rest = self.rest.get(bytes..)?;
        }
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
