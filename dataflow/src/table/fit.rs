//! Widths of columns, and texts wrapped to them without breaking a number.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A word need not be shown whole that is longer than this, unless it is a number.
const WORD_KEPT: usize = 14;
/// The border and the spaces that a cell stands between.
const CELL_FRAME: usize = 3;

/// How wide a column is, and may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    natural: usize,
    least: usize,
    spare: u8,
}

impl Measure {
    /// Of a column with these texts.
    pub(super) fn of<'a>(
        name: &str,
        number: bool,
        spare: u8,
        texts: impl Iterator<Item = &'a str>,
    ) -> Self {
        let header = name.split_whitespace().map(|word| word.width()).max();
        let mut measure = Self {
            natural: name.width(),
            least: header.unwrap_or(0),
            spare,
        };
        for text in texts {
            let width = text.width();
            measure.natural = measure.natural.max(width);
            let least = match number && is_numeric(text) {
                true => width,
                false => least(text),
            };
            measure.least = measure.least.max(least);
        }
        measure.least = measure.least.clamp(1, measure.natural.max(1));
        measure
    }
}

/// How a table is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// These columns, each so wide.
    Columns {
        shown: Vec<(usize, usize)>,
        left_out: Vec<usize>,
    },
    /// Not side by side.
    Stacked,
}

impl Layout {
    /// The widest layout within `limit`.
    pub(super) fn of(measures: &[Measure], limit: usize) -> Self {
        let mut shown: Vec<usize> = (0..measures.len()).collect();
        let mut left_out = Vec::new();
        let frame = |columns: usize| 1 + columns * CELL_FRAME;
        while frame(shown.len()) + shown.iter().map(|at| measures[*at].least).sum::<usize>() > limit
        {
            // Of columns that matter as little, the last goes first.
            let least = shown.iter().copied().filter(|at| measures[*at].spare > 0);
            let Some(gone) = least.max_by_key(|at| (measures[*at].spare, *at)) else {
                return Self::Stacked;
            };
            shown.retain(|at| *at != gone);
            left_out.push(gone);
        }
        left_out.sort_unstable();
        let room = limit.saturating_sub(frame(shown.len()));
        let widths = shared(measures, &shown, room);
        Self::Columns {
            shown: shown.into_iter().zip(widths).collect(),
            left_out,
        }
    }
}

/// Widths that fill the room: each column its least, and what is left to those that want most, so that
/// short columns are never wrapped for long ones.
fn shared(measures: &[Measure], shown: &[usize], room: usize) -> Vec<usize> {
    let mut widths: Vec<usize> = shown.iter().map(|at| measures[*at].least).collect();
    let mut left = room.saturating_sub(widths.iter().sum());
    loop {
        let wants = |at: usize| measures[shown[at]].natural > widths[at];
        let Some(narrow) = (0..shown.len())
            .filter(|at| wants(*at))
            .min_by_key(|at| widths[*at])
        else {
            return widths;
        };
        if left == 0 {
            return widths;
        }
        // Without a limit there is no need to go step by step.
        let step = match left > usize::MAX / 2 {
            true => measures[shown[narrow]].natural - widths[narrow],
            false => 1,
        };
        widths[narrow] += step;
        left -= step;
    }
}

/// The least width that a text can be wrapped to without breaking a number.
fn least(text: &str) -> usize {
    let words = text.split_whitespace();
    let needed = words.map(|word| {
        let (mut longest, mut run, mut before) = (0, 0, None);
        for c in word.chars() {
            let width = c.width().unwrap_or(0);
            run = match before {
                Some(before) if !may_break(before, c) => run + width,
                _ => width,
            };
            longest = longest.max(run);
            before = Some(c);
        }
        longest.max(word.width().min(WORD_KEPT))
    });
    needed.max().unwrap_or(0)
}

/// Whether a word may be broken between two characters: not inside a number, a date or a time.
fn may_break(before: char, after: char) -> bool {
    !(is_of_number(before) && is_of_number(after)) && after.width().unwrap_or(0) > 0
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '.' | ',' | ':' | '-' | '+' | 'T' | 'Z' | '%' | '…')
}

fn is_numeric(text: &str) -> bool {
    text.chars().all(|c| is_of_number(c) || c == ' ')
}

/// The lines of a text that are no wider than `width`. A number that is wider stands whole.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    if text.width() <= width {
        return vec![text.to_owned()];
    }
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_whitespace() {
        for (at, piece) in pieces(word, width).into_iter().enumerate() {
            let space = usize::from(at == 0 && used > 0);
            let wide = piece.width();
            if used > 0 && (at > 0 || used + space + wide > width) {
                lines.push(std::mem::take(&mut line));
                used = 0;
            } else if space > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(piece);
            used += wide;
        }
    }
    lines.push(line);
    lines
}

/// A word in pieces of at most `width`, broken behind a separator where there is one.
fn pieces(word: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while rest.width() > width {
        let (mut used, mut hard, mut soft) = (0, None, None);
        let mut before: Option<char> = None;
        for (at, c) in rest.char_indices() {
            if let Some(before) = before
                && may_break(before, c)
            {
                if used > width && hard.is_some() {
                    break;
                }
                hard = Some(at);
                if used <= width && matches!(before, '/' | '_' | '-' | '.' | ',' | ':' | '=') {
                    soft = Some(at);
                }
            }
            used += c.width().unwrap_or(0);
            if used > width && hard.is_some() {
                break;
            }
            before = Some(c);
        }
        // Broken behind a separator only where that does not leave most of the line empty.
        let soft = soft.filter(|at| rest[..*at].width() * 3 >= width);
        let Some(end) = soft.or(hard) else {
            break;
        };
        let (piece, more) = rest.split_at(end);
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}
