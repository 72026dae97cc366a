//! Foreign text as a terminal may show it.
//!
//! Names of files, accounts and columns come from whoever sends usage. A terminal obeys escape
//! sequences and turns text around by characters that nobody sees, so such characters are written
//! out, as `\u{1b}`, before they are shown.

use std::borrow::Cow;

/// A text of one line: nothing in it moves the cursor, begins a line or changes what stands beside it.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    written_out(text, false)
}

/// A text of several lines, as [`shown`] but for its ends of lines.
#[must_use]
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    written_out(text, true)
}

/// JSON whose texts hold nothing that a terminal obeys; the same values to whoever reads it.
#[must_use]
pub fn shown_json(text: &str) -> Cow<'_, str> {
    // Ends of lines stand between values alone: inside texts the serialiser escapes them.
    if !text.chars().any(|c| c != '\n' && is_obeyed(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_obeyed(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    Cow::Owned(out)
}

fn written_out(text: &str, lines: bool) -> Cow<'_, str> {
    let passes = |c: char| (lines && c == '\n') || !is_obeyed(c);
    if text.chars().all(passes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if passes(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal does something else with the character than show it: controls, ends of lines and
/// paragraphs, marks of direction, and marks that have no width.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out() {
        let foreign = "a\u{1b}[31mb\u{202e}c\rd\u{9b}2Je\u{7f}\tf\u{200b}g\nh";
        let text = shown(foreign);
        assert!(text.chars().all(|c| !is_obeyed(c)), "{text:?}");
        assert!(
            text.starts_with("a\\u{1b}[31mb\\u{202e}c\\rd\\u{9b}"),
            "{text}"
        );
        assert!(text.ends_with("g\\nh"), "{text}");
        assert!(shown_lines(foreign).ends_with("g\nh"));
        assert!(matches!(shown("Žluťoučký kůň 価格"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_says_the_same_without_what_a_terminal_obeys() {
        let value = serde_json::json!({ "name": "a\u{1b}[2J\u{202e}\u{9b}\u{e0041}\n" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let safe = shown_json(&text);
        assert!(safe.chars().all(|c| c == '\n' || !is_obeyed(c)), "{safe:?}");
        let read: serde_json::Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(read, value);
    }
}
