//! The reader who knows what is meant: strict about every rule of a format, and with no opinion of its
//! own about what breaks one.

use crate::Identity;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Decimals of a bill.
const SCALE: usize = 12;

/// What a file comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An amount, in units of 10^-12.
    Bill(i128),
    /// Nobody can say: somebody must be told.
    Told,
    /// Telling and billing are both right.
    Either,
}

/// The columns that a bill depends on.
pub(crate) const COLUMNS: [&str; 6] = ["id", "number", "at", "zone", "n", "m"];

/// A record as its texts, in the order of [`COLUMNS`]; nothing for what is absent.
pub(crate) type Texts = [Option<String>; 6];

/// What records come to together.
pub(crate) fn bill(records: &[Texts], identity: Identity) -> Verdict {
    let mut met = BTreeMap::new();
    let mut sum = 0_i128;
    let mut either = false;
    for record in records {
        let [id, number, at, zone, n, m] = record.each_ref().map(Option::as_deref);
        // An item without a quantity is none that the record has; it must have one.
        let (Some(number), Some(at), true) = (number, at, n.or(m).is_some()) else {
            return Verdict::Told;
        };
        let time = match instant(at) {
            Time::Known(time) => time,
            Time::Odd => {
                either = true;
                continue;
            }
            Time::None => return Verdict::Told,
        };
        let price = match zone {
            Some("home") => 2_500,
            Some("far") => 3,
            // The price of the other item asks for no zone.
            _ if n.is_none() => 0,
            _ => return Verdict::Told,
        };
        let known = ["+4201", "+4202", "+4203"].contains(&number);
        let quantity = |text: Option<&str>, scale| match text {
            Some(text) => decimal(text, scale).map(Some),
            None => Some(None),
        };
        let (Some(n), Some(m), true) = (quantity(n, 4), quantity(m, 0), known) else {
            return Verdict::Told;
        };
        let fits = |quantity: &i128| (0..10_i128.pow(18)).contains(quantity);
        if !n.iter().chain(&m).all(fits) {
            return Verdict::Told;
        }
        let key = match (identity, id) {
            (Identity::Position, _) => None,
            (_, None) => return Verdict::Told,
            (Identity::Id, Some(id)) => Some((id, "")),
            (Identity::IdAndZone, Some(id)) => match zone {
                Some(zone) => Some((id, zone)),
                None => return Verdict::Told,
            },
        };
        if let Some(key) = key {
            let content = (number.to_owned(), time, zone.map(str::to_owned), n, m);
            match met.insert(key, content.clone()) {
                Some(before) if before == content => continue,
                Some(_) => return Verdict::Told,
                None => {}
            }
        }
        // A quantity has 4 decimals and the price of one 4 more.
        sum += n.unwrap_or(0) * price * 10_000 + m.unwrap_or(0) * 2 * 10_i128.pow(12);
    }
    if either {
        Verdict::Either
    } else {
        Verdict::Bill(sum)
    }
}

/// A decimal text at `scale`, when it is one that loses nothing there.
fn decimal(text: &str, scale: usize) -> Option<i128> {
    let text = text.trim();
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (digits, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let all = all.trim_start_matches('0');
    if all.is_empty() {
        return Some(0);
    }
    let places = i64::try_from(fraction.len()).ok()? - exponent;
    let shift = i64::try_from(scale).ok()? - places;
    let mantissa = match shift {
        0..=40 => format!("{all}{}", "0".repeat(usize::try_from(shift).ok()?)),
        -400..0 => {
            let cut = all.len().checked_sub(usize::try_from(-shift).ok()?)?;
            let (kept, lost) = all.split_at(cut);
            if lost.bytes().any(|byte| byte != b'0') {
                return None;
            }
            kept.to_owned()
        }
        _ => return None,
    };
    // A column of decimal(18,4) has no more digits.
    if mantissa.len() > 19 {
        return None;
    }
    mantissa.parse::<i128>().ok().map(|value| sign * value)
}

/// A decimal of at most [`SCALE`] decimals in units of the last.
pub(crate) fn scaled(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let zeros = SCALE.checked_sub(fraction.len())?;
    format!("{whole}{fraction}{}", "0".repeat(zeros))
        .parse()
        .ok()
}

enum Time {
    /// An instant, in a form in which equal ones are equal.
    Known(String),
    /// One that a careful reader may doubt.
    Odd,
    None,
}

/// Only instants of 2026 in full seconds and UTC are beyond doubt.
fn instant(text: &str) -> Time {
    let shape = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text
                .bytes()
                .zip(shape.bytes())
                .all(|(byte, like)| match like {
                    b'9' => byte.is_ascii_digit(),
                    like => byte == like,
                })
    };
    let two = |at: usize| text[at..at + 2].parse::<u32>().unwrap_or(99);
    if shape(text, "9999-99-99T99:99:99Z") {
        let real = (1..=12).contains(&two(5)) && two(11) < 24 && two(14) < 60 && two(17) < 60;
        let real = real && (1..=28).contains(&two(8));
        return match real {
            true if text.starts_with("2026-0") => Time::Known(text.to_owned()),
            _ => Time::Odd,
        };
    }
    // Any other text with a date in front may be a time, for one who reads more than this.
    let begins = text.trim();
    match begins.len() >= 10 && begins.is_char_boundary(10) && shape(&begins[..10], "9999-99-99") {
        true => Time::Odd,
        false => Time::None,
    }
}

/// Whether a bill depends on a column: where positions count, ids do not.
fn reads(identity: Identity, column: usize) -> bool {
    column > 0 || identity != Identity::Position
}

/// A file as text, with [`char::REPLACEMENT_CHARACTER`] for bytes that are none: what is read must not
/// hold one, and what nobody reads may.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes))
}

/// Whether a text was one before it was read.
fn is_text(text: &str) -> bool {
    !text.contains(char::REPLACEMENT_CHARACTER)
}

/// The records of a CSV file, by RFC 4180; nothing when it breaks a rule.
pub(crate) fn csv(bytes: &[u8], identity: Identity) -> Option<Vec<Texts>> {
    let text = text_of(bytes);
    if text.contains('\0') {
        return None;
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.peek() {
        if matches!(first, '\n' | '\r') {
            chars.next();
            continue;
        }
        // A mark before a row is no data: files are put behind each other.
        chars.next_if_eq(&'\u{feff}');
        let mut row = Vec::new();
        loop {
            let mut field = String::new();
            if chars.next_if_eq(&'"').is_some() {
                loop {
                    match chars.next()? {
                        '"' if chars.next_if_eq(&'"').is_some() => field.push('"'),
                        '"' => break,
                        inside => field.push(inside),
                    }
                }
            } else {
                while let Some(plain) = chars.next_if(|c| !matches!(c, ',' | '\n' | '\r' | '"')) {
                    field.push(plain);
                }
            }
            row.push(field);
            match chars.next() {
                Some(',') => {}
                Some('\n' | '\r') | None => break,
                Some(_) => return None,
            }
        }
        rows.push(row);
    }
    let mut rows = rows.into_iter();
    let Some(header) = rows.next() else {
        return Some(Vec::new());
    };
    let mut places = Vec::new();
    for name in COLUMNS {
        let mut found = (0..header.len()).filter(|at| header[*at].trim() == name);
        let place = found.next();
        let column = places.len();
        if reads(identity, column) && (place.is_none() || found.next().is_some()) {
            return None;
        }
        places.push(place);
    }
    let read = |row: &[String]| {
        let places = places.iter().enumerate();
        let mut read = places.filter(|(column, _)| reads(identity, *column));
        read.all(|(_, place)| place.is_none_or(|place| is_text(&row[place])))
    };
    rows.map(|row| {
        (row.len() == header.len() && read(&row)).then(|| {
            std::array::from_fn(|column| {
                let field = places[column].map(|place| &row[place]);
                field.filter(|field| !field.is_empty()).cloned()
            })
        })
    })
    .collect()
}

/// Bytes of each field of a file of fixed width.
pub(crate) const FIELD_BYTES: usize = 24;
/// Bytes of its records, which have a note behind their fields.
const RECORD_BYTES: usize = 6 * FIELD_BYTES + 9;

/// The records of a file of fixed width; nothing when it breaks a rule.
pub(crate) fn fixed(bytes: &[u8], identity: Identity) -> Option<Vec<Texts>> {
    let mut records = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        // A mark before a row is no data: files are put behind each other.
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        if line.len() != RECORD_BYTES {
            return None;
        }
        let mut record: Texts = Default::default();
        for (column, field) in line.chunks(FIELD_BYTES).take(COLUMNS.len()).enumerate() {
            if reads(identity, column) {
                let text = std::str::from_utf8(field).ok()?;
                let text = text.trim_matches(' ');
                if text.contains('\0') {
                    return None;
                }
                record[column] = (!text.is_empty()).then(|| text.to_owned());
            }
        }
        records.push(record);
    }
    Some(records)
}

/// The records of JSON lines; nothing when it breaks a rule.
pub(crate) fn json_lines(bytes: &[u8], identity: Identity) -> Option<Vec<Texts>> {
    let text = text_of(bytes);
    let lines = text
        .split('\n')
        .filter(|line| !line.trim_ascii().is_empty());
    lines
        .map(|line| {
            let mut json = Json { rest: line };
            let record = json.record(identity)?;
            json.blank();
            json.rest.is_empty().then_some(record)
        })
        .collect()
}

/// The records of a JSON array, or of the entries of an object; nothing when it breaks a rule.
pub(crate) fn json(bytes: &[u8], identity: Identity) -> Option<Vec<Texts>> {
    let text = text_of(bytes);
    let mut json = Json { rest: &text };
    json.blank();
    if json.rest.is_empty() {
        return Some(Vec::new());
    }
    let entries = json.rest.starts_with('{');
    let (open, close) = if entries { ('{', '}') } else { ('[', ']') };
    let mut records = Vec::new();
    json.list(open, close, |json| {
        if entries {
            json.string()?;
            json.symbol(':')?;
        }
        records.push(json.record(identity)?);
        Some(())
    })?;
    json.blank();
    json.rest.is_empty().then_some(records)
}

/// Reads JSON by its grammar.
struct Json<'j> {
    rest: &'j str,
}

impl<'j> Json<'j> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn symbol(&mut self, symbol: char) -> Option<()> {
        self.blank();
        self.rest = self.rest.strip_prefix(symbol)?;
        Some(())
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        mut element: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.symbol(open)?;
        if self.symbol(close).is_some() {
            return Some(());
        }
        loop {
            element(self)?;
            if self.symbol(',').is_none() {
                return self.symbol(close);
            }
        }
    }

    /// An object as a record: the last of several equal fields, and nothing for different ones.
    fn record(&mut self, identity: Identity) -> Option<Texts> {
        let mut record: Texts = Default::default();
        let mut met: [Option<&str>; 6] = [None; 6];
        self.list('{', '}', |json| {
            let name = json.string()?;
            json.symbol(':')?;
            let (raw, text) = json.value()?;
            if let Some(column) = COLUMNS.iter().position(|known| *known == name)
                && reads(identity, column)
            {
                if met[column].is_some_and(|before| before != raw) || !is_text(raw) {
                    return None;
                }
                met[column] = Some(raw);
                record[column] = text.filter(|text| !text.is_empty());
            }
            Some(())
        })?;
        Some(record)
    }

    /// A value as it stands, and as the text of a column.
    fn value(&mut self) -> Option<(&'j str, Option<String>)> {
        self.blank();
        let before = self.rest;
        let text = match before.chars().next()? {
            '"' => Some(self.string()?),
            '{' => {
                self.list('{', '}', |json| {
                    json.string()?;
                    json.symbol(':')?;
                    json.value().map(drop)
                })?;
                None
            }
            '[' => {
                self.list('[', ']', |json| json.value().map(drop))?;
                None
            }
            _ => {
                for word in ["null", "true", "false"] {
                    if let Some(rest) = before.strip_prefix(word) {
                        self.rest = rest;
                        let raw = &before[..word.len()];
                        return Some((raw, (word != "null").then(|| raw.to_owned())));
                    }
                }
                self.number()?;
                None
            }
        };
        let raw = &before[..before.len() - self.rest.len()];
        Some((raw, Some(text.unwrap_or_else(|| raw.to_owned()))))
    }

    fn digits(&mut self) -> Option<()> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < self.rest.len()).then(|| self.rest = rest)
    }

    fn number(&mut self) -> Option<()> {
        self.rest = self.rest.strip_prefix('-').unwrap_or(self.rest);
        match self.rest.strip_prefix('0') {
            Some(rest) => self.rest = rest,
            None => self.digits()?,
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            self.digits()?;
        }
        if let Some(rest) = self.rest.strip_prefix(['e', 'E']) {
            self.rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
            self.digits()?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        self.symbol('"')?;
        let mut text = String::new();
        loop {
            let first = self.rest.chars().next()?;
            self.rest = &self.rest[first.len_utf8()..];
            match first {
                '"' => return Some(text),
                '\\' => {
                    let escape = self.rest.chars().next()?;
                    self.rest = &self.rest[escape.len_utf8()..];
                    text.push(match escape {
                        '"' | '\\' | '/' => escape,
                        'b' => '\u{8}',
                        'f' => '\u{c}',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'u' => self.unit().and_then(char::from_u32)?,
                        _ => return None,
                    });
                }
                control if control < ' ' => return None,
                plain => text.push(plain),
            }
        }
    }

    /// Four hexadecimal digits; halves of pairs are beyond this reader, and no file has them.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.rest = &self.rest[4..];
        hex.then(|| u32::from_str_radix(digits, 16).ok())?
    }
}
