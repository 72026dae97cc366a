//! YAML text to a tree whose every node knows its place and whose scalars are still the text that
//! was written: `0.10` is not a float here, and never becomes one.

use crate::diagnostic::Diagnostic;
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span};
use std::collections::BTreeMap;

/// Nesting that no file of ours comes near; deeper ones are refused before they cost a stack.
pub(super) const DEPTH_MAX: usize = 32;
/// Nodes that the aliases of one file may stand for, all together, and one more for each 64 bytes of text.
const ALIASED_NODES_MAX: usize = 1_000_000;

/// A node of a YAML document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Position among the nodes of the document: tells equal nodes apart.
    pub(super) id: usize,
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing, as it was written: empty, `~` or `null`.
    Null(String),
    /// Text, and whether it stands unquoted, so that `true` and `5` may be more than text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its id names the whole entry.
    pub(super) id: usize,
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) key: String,
    pub(super) value: Node,
}

impl Node {
    /// What a message calls it.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null(text) if text.is_empty() => "nothing".to_owned(),
            Kind::Null(text) => format!("{text}, which is nothing"),
            Kind::Scalar { text, .. } => {
                let short: String = text.chars().take(60).collect();
                format!(
                    "\"{short}\"{}",
                    if short.len() < text.len() { "…" } else { "" }
                )
            }
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }

    fn size(&self) -> usize {
        match &self.kind {
            Kind::Null(_) => 1,
            Kind::Scalar { text, .. } => 1 + text.len() / 64,
            Kind::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Kind::Map(entries) => {
                let size = |entry: &Entry| 1 + entry.key.len() / 64 + entry.value.size();
                1 + entries.iter().map(size).sum::<usize>()
            }
        }
    }

    pub(super) fn number(&mut self, next: &mut usize) {
        *next += 1;
        self.id = *next;
        match &mut self.kind {
            Kind::Null(_) | Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter_mut().for_each(|item| item.number(next)),
            Kind::Map(entries) => {
                for entry in entries {
                    *next += 1;
                    entry.id = *next;
                    entry.value.number(next);
                }
            }
        }
    }
}

/// The document of a file, with everything that can be said about its syntax. Without a document
/// there is at least one error.
pub(super) fn parse(file: &str, text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    let mut builder = Builder {
        file,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        aliased: 0,
        root: None,
    };
    let mut findings = Vec::new();
    let options = granit_parser::options! { emit_comments: false };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let place = place(error.marker().line(), error.marker().col());
                findings.push(Diagnostic::error(file, place, error.info()));
                return (None, findings);
            }
        };
        let event = match event {
            // The parser writes `~` where nothing is written.
            Event::Scalar(value, style, anchor, tag)
                if value == "~" && style == ScalarStyle::Plain && !stands_at(text, span, "~") =>
            {
                Event::Scalar("".into(), style, anchor, tag)
            }
            event => event,
        };
        if let Err(fatal) = builder.event(event, span, &mut findings) {
            findings.push(fatal);
            return (None, findings);
        }
    }
    // A file without a node is an empty mapping to its reader, which then misses what it needs.
    let empty = Node {
        id: 0,
        line: 1,
        column: 1,
        kind: Kind::Null(String::new()),
    };
    let mut root = builder.root.unwrap_or(empty);
    root.number(&mut 0);
    (Some(root), findings)
}

fn place(line: usize, column_from_0: usize) -> (u64, u64) {
    (
        u64::try_from(line).unwrap_or(0),
        u64::try_from(column_from_0).map_or(0, |c| c + 1),
    )
}

/// A collection that is not closed yet.
struct Open {
    anchor: usize,
    node: Node,
    /// The key whose value comes next, in a mapping.
    key: Option<(String, u64, u64)>,
}

struct Builder<'a> {
    file: &'a str,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    aliased: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn event(
        &mut self,
        event: Event<'_>,
        span: Span,
        findings: &mut Vec<Diagnostic>,
    ) -> Result<(), Diagnostic> {
        let (line, column) = place(span.start.line(), span.start.col());
        let node = |kind| Node {
            id: 0,
            line,
            column,
            kind,
        };
        if let Some(tag) = event.tag().filter(|tag| !is_known(tag)) {
            let message = format!(
                "the tag \"{}{}\" is not known here",
                tag.handle(),
                tag.suffix()
            );
            let hint = "leave the tag out, and quote what is to be taken as text";
            return Err(Diagnostic::error(self.file, (line, column), message).with_hint(hint));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let plain = style == ScalarStyle::Plain && !text_tag;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let text = text.into_owned();
                let kind = if null {
                    Kind::Null(text)
                } else {
                    Kind::Scalar { text, plain }
                };
                self.add(node(kind), anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(node(Kind::List(Vec::new())), anchor),
            Event::MappingStart(_, anchor, _) => self.open(node(Kind::Map(Vec::new())), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open {
                    anchor, mut node, ..
                }) => {
                    if let Kind::Map(entries) = &mut node.kind {
                        refuse_twins(self.file, entries, findings);
                    }
                    self.add(node, anchor)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let Some(target) = self.anchors.get(&anchor) else {
                    let message = "an alias inside the node that it names";
                    return Err(Diagnostic::error(self.file, (line, column), message));
                };
                self.aliased += target.size();
                if self.aliased > ALIASED_NODES_MAX {
                    let message = format!("aliases for more than {ALIASED_NODES_MAX} values");
                    return Err(Diagnostic::error(self.file, (line, column), message));
                }
                let copy = Node {
                    line,
                    column,
                    ..target.clone()
                };
                self.add(copy, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                let message = "a second document in the file";
                let hint = "write each document into a file of its own";
                Err(Diagnostic::error(self.file, (line, column), message).with_hint(hint))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(Diagnostic::error(
                self.file,
                (node.line, node.column),
                message,
            ));
        }
        self.open.push(Open {
            anchor,
            node,
            key: None,
        });
        Ok(())
    }

    /// Puts a finished node where it belongs: key, value, list item or root.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        let place = (node.line, node.column);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(entries), Some((key, line, column))) => {
                entries.push(Entry {
                    id: 0,
                    line,
                    column,
                    key,
                    value: node,
                });
            }
            (Kind::Map(_), None) => match node.kind {
                Kind::Scalar { text, plain: true } if text == "<<" => {
                    let message = "merge keys (`<<`) are not known here";
                    let hint = "write the keys out; an alias (`*name`) may stand for a whole value";
                    return Err(Diagnostic::error(self.file, place, message).with_hint(hint));
                }
                Kind::Scalar { text, .. } => open.key = Some((text, place.0, place.1)),
                Kind::Null(text) => open.key = Some((text, place.0, place.1)),
                Kind::List(_) | Kind::Map(_) => {
                    let message = "a key must be plain text";
                    return Err(Diagnostic::error(self.file, place, message));
                }
            },
            (Kind::Null(_) | Kind::Scalar { .. }, _) => {}
        }
        Ok(())
    }
}

/// Whether this is what is written at a place.
fn stands_at(text: &str, span: Span, written: &str) -> bool {
    match span.byte_range() {
        Some(range) => text.get(range) == Some(written),
        None => !span.is_empty(),
    }
}

/// Whether a tag says no more than what a value is taken for anyway.
fn is_known(tag: &granit_parser::Tag) -> bool {
    let plain = ["str", "int", "float", "bool", "null", "seq", "map"];
    plain.iter().any(|name| tag.is_yaml_core_schema_tag(name))
}

/// Keeps the first of the entries with one key and reports the others.
fn refuse_twins(file: &str, entries: &mut Vec<Entry>, findings: &mut Vec<Diagnostic>) {
    let mut first: BTreeMap<String, u64> = BTreeMap::new();
    entries.retain(|entry| {
        let Some(line) = first.get(&entry.key) else {
            first.insert(entry.key.clone(), entry.line);
            return true;
        };
        let message = format!(
            "the key \"{}\" is given twice; first in line {line}",
            entry.key
        );
        findings.push(Diagnostic::error(file, (entry.line, entry.column), message));
        false
    });
}
