//! The hints that stand in the sources, found by looking at their text: literals of at least two words that
//! are bound to a name that begins with `hint`, or are the last argument of a call that takes one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where findings about a configuration are made.
const SOURCES: [&str; 18] = [
    "connectors/src/decode/formats.rs",
    "connectors/src/decode/formats",
    "connectors/src/diagnostic.rs",
    "connectors/src/times.rs",
    "connectors/src/expression.rs",
    "connectors/src/expression",
    "connectors/src/mediate.rs",
    "connectors/src/mediate",
    "connectors/src/reference.rs",
    "connectors/src/reference",
    "dataflow/src/archive.rs",
    "dataflow/src/archive",
    "dataflow/src/check.rs",
    "dataflow/src/intake.rs",
    "dataflow/src/intake/change.rs",
    "dataflow/src/job.rs",
    "dataflow/src/job",
    "dataflow/src/present.rs",
];

/// Calls whose last argument is a hint.
const CALLS: [&str; 6] = [
    "with_hint",
    "complain",
    "refused",
    "refuse",
    "check",
    "interval",
];

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(String),
    Word(String),
    Sign(char),
}

/// Every hint, with the file that it stands in.
pub(super) fn hints() -> BTreeSet<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    SOURCES
        .iter()
        .for_each(|source| collect(&root.join(source), &mut files));
    let mut hints = BTreeSet::new();
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let tokens = tokens(source);
        let found = (0..tokens.len()).flat_map(|at| hints_at(&tokens, at));
        let found = found.filter(|text| text.contains(' ') && !fixed(text).is_empty());
        hints.extend(found.map(|hint| (name.clone(), hint)));
    }
    assert!(hints.len() > 100, "the sources have {} hints", hints.len());
    hints
}

/// Whether one of these is made from the literal: has its longest part without a value.
pub(super) fn is_among(literal: &str, told: &[String]) -> bool {
    let fixed = fixed(literal);
    told.iter().any(|told| told.contains(&fixed))
}

/// The longest part of a literal that is the same whatever values stand in it.
fn fixed(literal: &str) -> String {
    let plain = literal.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let parts = plain.split('{').enumerate().map(|(at, part)| match at {
        0 => part,
        _ => part.split_once('}').map_or("", |(_, rest)| rest),
    });
    let longest = parts.max_by_key(|part| part.len()).unwrap_or_default();
    let longest = longest.replace('\u{1}', "{").replace('\u{2}', "}");
    match longest.contains(|c: char| c.is_alphabetic()) {
        true => longest,
        false => String::new(),
    }
}

fn collect(place: &Path, files: &mut Vec<PathBuf>) {
    if place.is_file() {
        files.push(place.to_owned());
        return;
    }
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let of_tests = name == "tests" || name == "tests.rs";
        if !of_tests && (path.is_dir() || name.ends_with(".rs")) {
            collect(&path, files);
        }
    }
}

/// The literals of the hint that begins here, if one does.
fn hints_at(tokens: &[Token], at: usize) -> Vec<String> {
    let sign = |at: usize| match tokens.get(at) {
        Some(Token::Sign(sign)) => *sign,
        _ => ' ',
    };
    let Some(Token::Word(word)) = tokens.get(at) else {
        return Vec::new();
    };
    if takes_a_hint(tokens, at, word) && sign(at + 1) == '(' {
        let arguments = arguments(&tokens[at + 2..]);
        let last = arguments
            .last()
            .filter(|_| word == "with_hint" || arguments.len() > 1);
        return last.map_or_else(Vec::new, |last| texts(last));
    }
    let bound = matches!(sign(at + 1), '=' | ':') && !matches!(sign(at + 2), '=' | ':' | '>');
    if word.to_lowercase().starts_with("hint") && bound {
        return texts(statement(&tokens[at + 2..], sign(at + 1) == ':'));
    }
    Vec::new()
}

/// Whether a call of this name takes a hint; of those that others have, too, what stands before decides.
fn takes_a_hint(tokens: &[Token], at: usize, word: &str) -> bool {
    let of = |name: &str| {
        let before = &tokens[at.saturating_sub(3)..at];
        before.contains(&Token::Word(name.to_owned()))
    };
    match word {
        "error" => of("self"),
        "new" => of("ExpressionError") || of("Self") || of("Failure"),
        word => CALLS.contains(&word),
    }
}

fn texts(tokens: &[Token]) -> Vec<String> {
    let text = |token: &Token| match token {
        Token::Text(text) => Some(text.clone()),
        Token::Word(_) | Token::Sign(_) => None,
    };
    tokens.iter().filter_map(text).collect()
}

/// The arguments of a call, whose bracket is open.
fn arguments(tokens: &[Token]) -> Vec<&[Token]> {
    let (mut depth, mut begin, mut arguments) = (0_i32, 0, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') if depth == 0 => {
                arguments.push(&tokens[begin..at]);
                break;
            }
            Token::Sign(')' | ']' | '}') => depth -= 1,
            Token::Sign(',') if depth == 0 => {
                arguments.push(&tokens[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

/// What is bound to a name: up to the end of the statement, or of the field of a struct.
fn statement(tokens: &[Token], is_field: bool) -> &[Token] {
    let mut depth = 0_i32;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') if depth == 0 => return &tokens[..at],
            Token::Sign(')' | ']' | '}') => depth -= 1,
            Token::Sign(';') if depth == 0 => return &tokens[..at],
            Token::Sign(',') if depth == 0 && is_field => return &tokens[..at],
            _ => {}
        }
    }
    tokens
}

/// The words, texts and signs of a source without its comments.
fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if first == '"' {
            let (text, behind) = text(&rest[1..]);
            tokens.push(Token::Text(text));
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("r\"") {
            let (text, behind) = behind.split_once('"').unwrap_or((behind, ""));
            tokens.push(Token::Text(text.to_owned()));
            rest = behind;
        } else if let Some(behind) = character(rest) {
            rest = behind;
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            tokens.push(Token::Word(word.to_owned()));
            rest = behind;
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    tokens
}

/// A literal of text whose quote is open, and what is behind it.
fn text(source: &str) -> (String, &str) {
    let mut text = String::new();
    let mut rest = source.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => return (text, &source[at + 1..]),
            '\\' => match rest.next().map(|(_, escaped)| escaped) {
                // A line that goes on behind the spaces of the next one.
                Some('\n') => {
                    let behind = rest.as_str().trim_start();
                    let (more, behind) = self::text(behind);
                    return (text + &more, behind);
                }
                Some(escaped) => text.push(escaped),
                None => {}
            },
            c => text.push(c),
        }
    }
    (text, "")
}

/// What is behind a literal of one character, if it is one and no lifetime.
fn character(source: &str) -> Option<&str> {
    let mut chars = source.strip_prefix('\'')?.char_indices();
    let behind = &source[1..];
    match chars.next()?.1 {
        '\\' => {
            chars.next()?;
            let (at, _) = chars.find(|(_, c)| *c == '\'')?;
            Some(&behind[at + 1..])
        }
        _ => {
            let (at, quote) = chars.next()?;
            (quote == '\'').then(|| &behind[at + 1..])
        }
    }
}
