//! Findings as a terminal shows them: the line at fault with a caret below, as compilers do it.

use crate::shown::{shown, shown_lines};
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use millrace_connectors::diagnostic::Diagnostic;
use millrace_connectors::redact::redacted;
use millrace_operators::domain::Severity;
use std::collections::BTreeMap;
use std::ops::Range;

/// Files larger than this are not opened to show a line of them.
const EXCERPT_BYTES_MAX: u64 = 64 << 20;
/// A line longer than this says nothing on a terminal.
const EXCERPT_CHARS_MAX: usize = 240;

/// Whether a stream should be written to in colour: a terminal, and nobody minds.
#[must_use]
pub fn wants_colour(stream: &impl std::io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// All findings as text, each with its line where there is one.
#[must_use]
pub fn render(findings: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut files: BTreeMap<&str, Option<String>> = BTreeMap::new();
    let mut text = String::new();
    for finding in findings {
        let content = files
            .entry(&finding.file)
            .or_insert_with(|| content(&finding.file));
        let line = content
            .as_deref()
            .and_then(|content| line_of(content, finding.line));
        text.push_str(&one(&renderer, finding, line));
        text.push_str("\n\n");
    }
    text
}

fn content(file: &str) -> Option<String> {
    let small = std::fs::metadata(file).is_ok_and(|meta| meta.len() <= EXCERPT_BYTES_MAX);
    small.then(|| std::fs::read_to_string(file).ok()).flatten()
}

fn line_of(content: &str, line: u64) -> Option<&str> {
    let index = usize::try_from(line.checked_sub(1)?).ok()?;
    content
        .lines()
        .nth(index)
        .filter(|line| line.chars().count() <= EXCERPT_CHARS_MAX)
}

fn one(renderer: &Renderer, finding: &Diagnostic, line: Option<&str>) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let (message, hint) = (shown_lines(&finding.message), shown_lines(&finding.hint));
    let file = shown(&finding.file);
    // A line that would give the terminal orders, or has a login in it, is not shown.
    let line = line.filter(|line| shown(line) == *line && redacted(line) == *line);
    let mut group = level
        .primary_title(&*message)
        .elements(std::iter::empty::<Origin<'_>>());
    let number = usize::try_from(finding.line).unwrap_or(usize::MAX);
    match line {
        Some(line) if finding.column > 0 => {
            let snippet = Snippet::source(line)
                .line_start(number)
                .path(&*file)
                .annotation(AnnotationKind::Primary.span(value_at(line, finding.column)));
            group = group.element(snippet);
        }
        _ => {
            let mut origin = Origin::path(&*file);
            if finding.line > 0 {
                origin = origin.line(number);
            }
            if finding.line > 0 && finding.column > 0 {
                origin = origin.char_column(usize::try_from(finding.column).unwrap_or(usize::MAX));
            }
            group = group.element(origin);
        }
    }
    if !finding.hint.is_empty() {
        group = group.element(Level::HELP.message(&*hint));
    }
    renderer.render(&[group])
}

/// The bytes of the value that begins in a column: to its closing quote, or to the end of the word.
fn value_at(line: &str, column: u64) -> Range<usize> {
    let skip = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let start = line
        .char_indices()
        .nth(skip)
        .map_or(line.len(), |(at, _)| at);
    let value = &line[start..];
    let length = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(value.len(), |at| at + 2),
        Some('{' | '[' | '-') => 1,
        _ => {
            let ends = |c: char| matches!(c, ',' | '}' | ']' | '#');
            let to_key = value
                .find(": ")
                .or_else(|| value.strip_suffix(':').map(str::len));
            let end = value
                .find(ends)
                .unwrap_or(value.len())
                .min(to_key.unwrap_or(value.len()));
            value[..end].trim_end().len()
        }
    };
    start..start + length.max(usize::from(!value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_at_fault_is_shown_with_a_caret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.yaml");
        std::fs::write(&path, "name: x\ntime_zone: Europe/Pragu # home\n").unwrap();
        let file = path.display().to_string();
        let finding = Diagnostic::error(&file, (2, 12), "unknown time zone \"Europe/Pragu\"")
            .with_hint("did you mean \"Europe/Prague\"?");
        let text = render(&[finding], false);
        let expected = format!(
            "error: unknown time zone \"Europe/Pragu\"
 --> {file}:2:12
  |
2 | time_zone: Europe/Pragu # home
  |            ^^^^^^^^^^^^
  |
  = help: did you mean \"Europe/Prague\"?

"
        );
        assert_eq!(text, expected);
        assert!(render(&[Diagnostic::warning(&file, (1, 1), "x")], true).contains('\u{1b}'));
    }

    #[test]
    fn a_finding_without_a_line_still_names_its_file() {
        let text = render(
            &[Diagnostic::error("gone.yaml", (7, 0), "no such thing")],
            false,
        );
        assert!(
            text.contains("error: no such thing") && text.contains("gone.yaml:7"),
            "{text}"
        );
    }

    #[test]
    fn a_value_is_underlined_whole() {
        let underlined = |line: &str, column| line[value_at(line, column)].to_owned();
        assert_eq!(underlined("  - { item: t, price: -1 }", 23), "-");
        assert_eq!(underlined("  - { item: t, price: 1.5.1 }", 23), "1.5.1");
        assert_eq!(underlined("price: \"a, b\" # c", 8), "\"a, b\"");
        assert_eq!(underlined("prize: 1", 1), "prize");
        assert_eq!(underlined("prize:", 1), "prize");
        assert_eq!(underlined("é: ž", 4), "ž");
        assert_eq!(underlined("x", 9), "");
    }
}
