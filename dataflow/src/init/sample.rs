//! What the fields of a sample hold.

use arrow::array::{Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use millrace_connectors::decode::{ColumnRequest, DecodeOptions, Decoder, Format, fields_of};
use millrace_connectors::store::Store;
use millrace_operators::domain::FileId;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Different values of a field that are kept; of a field with more it is only known that it has more.
pub(super) const VALUES_KEPT: usize = 2_000;

/// A file, looked at whole.
pub(super) struct Sample {
    /// Where it is.
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) rows: u64,
    pub(super) fields: Vec<Field>,
}

/// A field of the records, and what its values have in common.
pub(super) struct Field {
    pub(super) name: String,
    /// A binary float.
    pub(super) float: bool,
    /// Records with a value.
    pub(super) filled: u64,
    /// Records without.
    pub(super) missing: u64,
    /// Different values, up to [`VALUES_KEPT`] and one.
    pub(super) values: BTreeSet<String>,
    /// All values are different.
    pub(super) distinct: bool,
    seen: BTreeSet<u64>,
    /// All are numbers: the most decimals.
    pub(super) decimals: Option<usize>,
    /// All are digits and no more.
    pub(super) whole: bool,
    pub(super) negative: bool,
    /// All are times as text: the first and the last, and whether each names its offset.
    pub(super) times: Option<Times>,
}

/// Times of a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) with_offset: bool,
    pub(super) days_only: bool,
}

/// Values that are remembered to know whether all are different.
const SEEN_MAX: usize = 1_000_000;

impl Sample {
    /// Reads the file at `path` to its end.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let path = std::fs::canonicalize(path).map_err(|error| error.to_string())?;
        let (folder, name) = path
            .parent()
            .zip(path.file_name().and_then(|name| name.to_str()))
            .filter(|_| path.is_file())
            .ok_or("it is no file")?;
        let format = Format::of_name(name).ok_or_else(|| {
            let endings = Format::all().into_iter().flat_map(|about| about.endings);
            let endings: Vec<String> = endings.map(|ending| format!(".{ending}")).collect();
            format!(
                "its format cannot be told from its name; end it with one of {} (and .gz or .zst)",
                endings.join(", ")
            )
        })?;
        let store = Store::open(&folder.display().to_string(), Path::new(""));
        let store = store.map_err(|error| error.to_string())?;
        let file = store.find(name).map_err(|error| error.to_string())?;
        let found = fields_of(&store, &file, format).map_err(|error| error.to_string())?;
        if found.names.is_empty() {
            return Err("no record of it has a field".to_owned());
        }
        let request = |name: &String| ColumnRequest::new(name, None);
        let columns: Vec<ColumnRequest> = found.names.iter().map(request).collect();
        let (options, id) = (DecodeOptions::default(), FileId::default());
        let decoder = Decoder::open(&store, &file, id, &found.format, &columns, &options);
        let mut decoder = decoder.map_err(|error| error.to_string())?;
        let field = |name: &String| Field::new(name, found.floats.contains(name));
        let mut sample = Self {
            path: path.clone(),
            format: found.format,
            rows: 0,
            fields: found.names.iter().map(field).collect(),
        };
        while let Some(chunk) = decoder.next_chunk() {
            sample
                .take(&chunk.batch)
                .map_err(|error| error.to_string())?;
        }
        match sample.rows {
            0 => Err("it has no record".to_owned()),
            _ => Ok(sample),
        }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), arrow::error::ArrowError> {
        let options = FormatOptions::default();
        for (field, column) in self.fields.iter_mut().zip(batch.columns()) {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
            for row in 0..batch.num_rows() {
                if column.is_null(row) {
                    field.missing += 1;
                } else {
                    field.enter(&formatter.value(row).to_string());
                }
            }
        }
        self.rows += u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        Ok(())
    }
}

impl Field {
    fn new(name: &str, float: bool) -> Self {
        Self {
            name: name.to_owned(),
            float,
            filled: 0,
            missing: 0,
            values: BTreeSet::new(),
            distinct: true,
            seen: BTreeSet::new(),
            decimals: Some(0),
            whole: true,
            negative: false,
            times: None,
        }
    }

    fn enter(&mut self, text: &str) {
        if text.trim().is_empty() {
            self.missing += 1;
            return;
        }
        let first = self.filled == 0;
        self.filled += 1;
        if self.values.len() <= VALUES_KEPT {
            self.values.insert(text.to_owned());
        }
        if self.distinct {
            let digest = digest_of(text);
            self.distinct = self.seen.len() < SEEN_MAX && self.seen.insert(digest);
        }
        self.decimals = self
            .decimals
            .zip(decimals(text))
            .map(|(most, here)| most.max(here));
        self.whole &= text.bytes().all(|byte| byte.is_ascii_digit());
        self.negative |= text.starts_with('-');
        if first || self.times.is_some() {
            self.times = time(text).map(|time| match self.times {
                Some(times) => Times {
                    first: times.first.min(time.first),
                    last: times.last.max(time.last),
                    with_offset: times.with_offset && time.with_offset,
                    days_only: times.days_only && time.days_only,
                },
                None => time,
            });
        }
    }
}

/// A digest that tells values apart; two that share one only make a field look like none that is unique.
fn digest_of(text: &str) -> u64 {
    let digest = blake3::hash(text.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// How many decimals a plain decimal number has.
fn decimals(text: &str) -> Option<usize> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = !whole.is_empty() && plain(whole) && plain(fraction);
    is_number.then(|| fraction.trim_end_matches('0').len())
}

fn time(text: &str) -> Option<Times> {
    let times = |at, with_offset, days_only| Times {
        first: at,
        last: at,
        with_offset,
        days_only,
    };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(times(at, true, false));
    }
    // A number is no date, whatever it looks like.
    if !text.contains('-') {
        return None;
    }
    let civil = text.parse::<DateTime>().ok()?;
    let at = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(times(at, false, !text.contains(':')))
}
