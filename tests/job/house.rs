//! The files of a crate import each other in no circle of more than two.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules whose files still do.
const LEFT: &[&str] = &[
    "connectors::decode",
    "connectors::expression",
    "connectors::mediate",
    "operators::charge",
];

/// A file: what it defines, and what it takes from others, each with the name that it has here.
#[derive(Default)]
struct File {
    defines: BTreeSet<String>,
    uses: Vec<(Vec<String>, String, bool)>,
    paths: Vec<Vec<String>>,
}

type Files = BTreeMap<Vec<String>, File>;

/// Names and the signs between them, without comments and what stands in quotes.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let raw = rest.trim_start_matches("r#").trim_start_matches('r');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(quoted) = rest.strip_prefix("r#\"") {
            3 + quoted.find("\"#").map_or(0, |end| end + 2)
        } else if first == '"' || (first == 'r' && raw.starts_with('"')) {
            let begin = rest.find('"').unwrap_or(0) + 1;
            let mut escaped = false;
            let end = rest[begin..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            begin + end.map_or(0, |end| end + 1)
        } else if ["'\"'", "'\\\"'"]
            .iter()
            .any(|quoted| rest.starts_with(quoted))
        {
            rest[1..].find('\'').map_or(1, |end| end + 2)
        } else if is_name(first) {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            end
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length.max(1)..];
    }
    tokens
}

/// The paths of an import from `at` on, behind `before`; returns where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    found: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            Some("::") => at += 1,
            Some("as") => {
                found.push((path, tokens[at + 1].clone()));
                return at + 2;
            }
            Some("," | "}" | ";") | None => {
                let name = path.last().cloned().unwrap_or_default();
                found.push((path, name));
                return at;
            }
            Some("self") if !path.is_empty() => at += 1,
            Some(name) => {
                path.push(name.to_owned());
                at += 1;
            }
        }
    }
}

fn read(text: &str) -> File {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let (tokens, mut file, mut at) = (tokens(text), File::default(), 0);
    while at < tokens.len() {
        let word = tokens[at].as_str();
        let next = tokens.get(at + 1).cloned().unwrap_or_default();
        match word {
            // `+ use<'a>` captures, and imports nothing.
            "use" if next != "<" => {
                let mut found = Vec::new();
                let public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                at = tree(&tokens, at + 1, &[], &mut found);
                let found = found.into_iter();
                file.uses
                    .extend(found.map(|(path, name)| (path, name, public)));
                continue;
            }
            "struct" | "enum" | "fn" | "trait" | "type" | "const" | "static" | "macro_rules" => {
                let name = if next == "!" {
                    tokens[at + 2].clone()
                } else {
                    next
                };
                file.defines.insert(name);
            }
            // A visibility is no import.
            "in" if at > 1 && tokens[at - 2] == "pub" => {
                while tokens[at] != ")" {
                    at += 1;
                }
            }
            _ if next == "::" && (at == 0 || tokens[at - 1] != "::") => {
                let mut path = vec![tokens[at].clone()];
                while tokens.get(at + 1).is_some_and(|sign| sign == "::") {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                file.paths.push(path);
            }
            _ => {}
        }
        at += 1;
    }
    file
}

fn collect(folder: &Path, module: &[String], files: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "tests" || name == "main" {
            continue;
        }
        let mut of = module.to_vec();
        if name != "mod" && name != "lib" {
            of.push(name);
        }
        if path.is_dir() {
            collect(&path, &of, files);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.insert(of, read(&std::fs::read_to_string(path).unwrap()));
        }
    }
}

/// The file that a path leads to from a file, through what others hand on.
fn resolve(files: &Files, from: &[String], path: &[String], deep: usize) -> Option<Vec<String>> {
    let begin = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "self" => [from, &path[1..]].concat(),
        "super" => {
            let ups = path.iter().take_while(|word| *word == "super").count();
            [&from[..from.len().checked_sub(ups)?], &path[ups..]].concat()
        }
        child if files.contains_key(&[from, &[child.to_owned()]].concat()) => [from, path].concat(),
        _ => return None,
    };
    let of = (0..=begin.len())
        .rev()
        .find(|n| files.contains_key(&begin[..*n]))?;
    let (module, rest) = begin.split_at(of);
    let file = &files[module];
    let Some(name) = rest.first().filter(|name| !file.defines.contains(*name)) else {
        return Some(module.to_vec());
    };
    let handed = file.uses.iter().find(|(_, here, _)| here == name);
    let handed = handed.filter(|_| deep < 8);
    let further = handed.and_then(|(path, ..)| resolve(files, module, path, deep + 1));
    Some(further.unwrap_or_else(|| module.to_vec()))
}

/// The files that each file imports.
fn arrows(files: &Files) -> BTreeMap<&[String], BTreeSet<Vec<String>>> {
    let imports = |(from, file): (&'_ Vec<String>, &'_ File)| {
        let local = |path: &[String]| {
            let used = file.uses.iter().find(|(_, here, _)| *here == path[0]);
            used.map(|(used, ..)| [used.as_slice(), &path[1..]].concat())
        };
        // What a file hands on of its children is theirs.
        let handed = |(path, _, public): &(Vec<String>, String, bool)| {
            let own = !["crate", "super"].contains(&path[0].as_str());
            (!(*public && own)).then(|| path.clone())
        };
        let uses = file.uses.iter().filter_map(handed);
        let inline = file
            .paths
            .iter()
            .map(|path| local(path).unwrap_or_else(|| path.clone()));
        let found = uses.chain(inline);
        let found = found.filter_map(|path| resolve(files, from, &path, 0));
        found.filter(|to| to != from && !to.is_empty()).collect()
    };
    files
        .iter()
        .map(|(from, file)| (from.as_slice(), imports((from, file))))
        .collect()
}

fn circles(files: &Files) -> BTreeSet<Vec<String>> {
    let arrows = arrows(files);
    let reached = |from: &[String]| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_vec()]);
        while let Some(at) = next.pop() {
            for to in &arrows[at.as_slice()] {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&[String], BTreeSet<Vec<String>>> = files
        .keys()
        .map(|from| (from.as_slice(), reached(from)))
        .collect();
    let circle = |from: &[String]| -> Vec<String> {
        let members = reached[from]
            .iter()
            .filter(|to| reached[to.as_slice()].contains(from));
        members.map(|member| member.join("::")).collect()
    };
    let circles = files.keys().map(|from| circle(from));
    circles.filter(|circle| circle.len() > 2).collect()
}

#[test]
fn no_circle_of_imports_has_more_than_two_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut left, mut wrong) = (BTreeSet::new(), Vec::new());
    for name in ["operators", "connectors", "dataflow"] {
        let mut files = Files::new();
        collect(&root.join(name).join("src"), &[], &mut files);
        assert!(files.len() > 50, "{name} has {} files", files.len());
        for circle in circles(&files) {
            let of = |known: &&&str| {
                let module = known
                    .strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix("::"));
                module.is_some_and(|module| circle.iter().all(|file| file.starts_with(module)))
            };
            match LEFT.iter().find(of) {
                Some(known) => drop(left.insert(*known)),
                None => wrong.push(format!("{name}: {}", circle.join(", "))),
            }
        }
    }
    assert!(wrong.is_empty(), "files that import each other: {wrong:#?}");
    let settled: Vec<_> = LEFT
        .iter()
        .filter(|known| !left.contains(**known))
        .collect();
    assert!(settled.is_empty(), "no circle any more in {settled:?}");
}

#[test]
fn a_circle_is_found_through_what_is_handed_on() {
    let file = |module: &str, text: &str| {
        let module = module.split("::").map(str::to_owned);
        (module.filter(|word| !word.is_empty()).collect(), read(text))
    };
    let files = |last: &str| {
        Files::from([
            file("", "mod a; mod b;"),
            file(
                "a",
                "mod in_a; pub use in_a::Thing; // use crate::b::Other;",
            ),
            file(
                "a::in_a",
                "use crate::b::{self, Other as Renamed}; pub struct Thing; const S: &str = \"use crate::c::X;\";",
            ),
            file("b", "pub struct Other; fn f() { crate::c::g() }"),
            file("c", last),
        ])
    };
    assert_eq!(circles(&files("pub fn g() {}")), BTreeSet::new());
    let found = circles(&files("use crate::a::Thing; pub fn g() {}"));
    let circle = ["a::in_a", "b", "c"].map(str::to_owned).to_vec();
    assert_eq!(found, BTreeSet::from([circle]));
}
