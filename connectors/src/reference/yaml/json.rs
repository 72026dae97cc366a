//! JSON text to the tree that YAML becomes: numbers keep the text that was written, and a key that is
//! given twice is told.

use super::tree::{DEPTH_MAX, Entry, Kind, Node};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The members of an object, in order.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The tree of a JSON object, without its member `but`.
pub(super) fn parse(text: &[u8], but: Option<&str>) -> Result<Node, String> {
    let members: Members =
        serde_json::from_slice(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    let kept = members.0.into_iter();
    let kept = kept.filter(|(key, _)| Some(key.as_str()) != but);
    let mut root = object(kept, 1)?;
    root.number(&mut 0);
    Ok(root)
}

fn object(
    members: impl Iterator<Item = (String, Box<RawValue>)>,
    depth: usize,
) -> Result<Node, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for (key, value) in members {
        if entries.iter().any(|entry| entry.key == key) {
            return Err(format!("\"{key}\" is given twice"));
        }
        entries.push(Entry {
            id: 0,
            line: 0,
            column: 0,
            key,
            value: node(&value, depth)?,
        });
    }
    Ok(of(Kind::Map(entries)))
}

fn node(value: &RawValue, depth: usize) -> Result<Node, String> {
    if depth >= DEPTH_MAX {
        return Err(format!("it is nested more than {DEPTH_MAX} deep"));
    }
    let text = value.get();
    let failed = |error: serde_json::Error| error.to_string();
    let scalar = |text: String, plain| of(Kind::Scalar { text, plain });
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let members: Members = serde_json::from_str(text).map_err(failed)?;
            object(members.0.into_iter(), depth + 1)?
        }
        Some(b'[') => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(failed)?;
            let items = items.iter().map(|item| node(item, depth + 1));
            of(Kind::List(items.collect::<Result<_, _>>()?))
        }
        Some(b'"') => scalar(serde_json::from_str(text).map_err(failed)?, false),
        Some(b'n') | None => of(Kind::Null(text.to_owned())),
        Some(_) => scalar(text.to_owned(), true),
    })
}

fn of(kind: Kind) -> Node {
    Node {
        id: 0,
        line: 0,
        column: 0,
        kind,
    }
}
