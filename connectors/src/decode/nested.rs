//! Values inside the columns of typed formats: fields of structs, entries of maps.
//!
//! A dotted path means the same as in JSON: `usage.input_tokens` is a field of the struct `usage`,
//! `tags.owner` the value of the key `owner` of the map `tags`.

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt64Array, make_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;

/// A step from a column to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into the field of a struct.
    Field(String),
    /// To the value of a key of a map.
    Key(String),
}

/// The way to a requested column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the file's columns it begins at.
    pub(super) root: usize,
    pub(super) steps: Vec<Step>,
    /// The type of the values there.
    pub(super) kind: DataType,
}

/// Finds a name among the columns: a column of this very name, or else a path into one.
pub(super) fn find(fields: &Fields, name: &str) -> Option<Place> {
    let whole = fields.iter().position(|field| field.name() == name);
    if let Some(root) = whole {
        let kind = fields.get(root)?.data_type().clone();
        let steps = Vec::new();
        return Some(Place { root, steps, kind });
    }
    cuts(name).find_map(|(first, rest)| {
        let root = fields.iter().position(|field| field.name() == first)?;
        let mut steps = Vec::new();
        let kind = descend(fields.get(root)?.data_type(), rest, &mut steps)?;
        Some(Place { root, steps, kind })
    })
}

/// The ways to cut a path in two, the longest first part first.
fn cuts(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let dots = path.rmatch_indices('.').map(|(dot, _)| dot);
    dots.map(|dot| (&path[..dot], &path[dot + 1..]))
}

fn descend(kind: &DataType, path: &str, steps: &mut Vec<Step>) -> Option<DataType> {
    match kind {
        DataType::Struct(fields) => {
            if let Some((_, field)) = fields.find(path) {
                steps.push(Step::Field(path.to_owned()));
                return Some(field.data_type().clone());
            }
            cuts(path).find_map(|(first, rest)| {
                let (_, field) = fields.find(first)?;
                let depth = steps.len();
                steps.push(Step::Field(first.to_owned()));
                let found = descend(field.data_type(), rest, steps);
                if found.is_none() {
                    steps.truncate(depth);
                }
                found
            })
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(entry) = entries.data_type() else {
                return None;
            };
            let [key, value] = [entry.first()?, entry.get(1)?];
            key.data_type().is_string().then(|| {
                steps.push(Step::Key(path.to_owned()));
                value.data_type().clone()
            })
        }
        _ => None,
    }
}

/// The names that can be asked for, fields of structs by their paths.
pub(super) fn names(fields: &Fields) -> Vec<String> {
    fn add(prefix: &str, fields: &Fields, names: &mut Vec<String>) {
        for field in fields {
            let name = format!("{prefix}{}", field.name());
            match field.data_type() {
                DataType::Struct(inner) => add(&format!("{name}."), inner, names),
                DataType::Map(_, _) => names.push(format!("{name}.<key>")),
                _ => names.push(name),
            }
        }
    }
    let mut found = Vec::new();
    add("", fields, &mut found);
    found
}

/// Whether more than one of the [`names`] of a file can be meant by a name.
pub(super) fn is_ambiguous(names: &[String], name: &str) -> bool {
    let meant = names
        .iter()
        .filter(|known| match known.strip_suffix("<key>") {
            Some(map) => name.strip_prefix(map).is_some_and(|key| !key.is_empty()),
            None => *known == name,
        });
    meant.count() > 1
}

/// The values at the end of a way, NULL where something on it is absent; `twice` hears of rows whose map
/// has a key twice.
pub(super) fn reach(
    column: &ArrayRef,
    steps: &[Step],
    mut twice: impl FnMut(usize, &str),
) -> Result<Reached, ArrowError> {
    let mut column = ArrayRef::clone(column);
    let mut maps = None;
    for step in steps {
        column = match step {
            Step::Field(name) => {
                let parent = column.as_struct();
                let place = parent
                    .fields()
                    .iter()
                    .position(|field| field.name() == name);
                child(
                    parent,
                    place.expect("the field was there when the file was opened"),
                )
            }
            Step::Key(key) => {
                let found = entries(&column, key, &mut twice)?;
                let values = take(column.as_map().values(), &found, None)?;
                let lacks = found.null_count() == found.len();
                maps = lacks.then(|| ArrayRef::clone(&column));
                values
            }
        };
    }
    let values = column;
    Ok(Reached { values, maps })
}

/// Values, and the maps that they were looked for in when none of these has the key.
pub(super) struct Reached {
    pub(super) values: ArrayRef,
    pub(super) maps: Option<ArrayRef>,
}

/// The keys of the first `rows` maps.
pub(super) fn keys(maps: &ArrayRef, rows: usize) -> Result<Vec<String>, ArrowError> {
    let maps = maps.slice(0, rows.min(maps.len()));
    let maps = maps.as_map();
    let keys = cast(maps.keys(), &DataType::Utf8)?;
    let keys = keys.as_string::<i32>();
    let offsets = maps.value_offsets();
    let ends = [offsets.first(), offsets.last()];
    let [first, last] = ends.map(|end| end.and_then(|end| usize::try_from(*end).ok()).unwrap_or(0));
    let known = (first..last).filter(|entry| keys.is_valid(*entry));
    Ok(known.map(|entry| keys.value(entry).to_owned()).collect())
}

/// The field of a struct, NULL where the struct is.
pub(super) fn child(parent: &StructArray, place: usize) -> ArrayRef {
    let child = parent.column(place);
    let nulls = NullBuffer::union(parent.nulls(), child.nulls());
    let child = child.to_data().into_builder().nulls(nulls);
    make_array(child.build().expect("only more values are NULL"))
}

/// The entry of a key of each map, NULL where the map has none.
fn entries(
    column: &ArrayRef,
    wanted: &str,
    twice: &mut impl FnMut(usize, &str),
) -> Result<UInt64Array, ArrowError> {
    let maps = column.as_map();
    let keys = cast(maps.keys(), &DataType::Utf8)?;
    let keys = keys.as_string::<i32>();
    let offsets = maps.value_offsets();
    let found: UInt64Array = (0..maps.len())
        .map(|row| {
            if maps.is_null(row) {
                return None;
            }
            let place = |row: usize| usize::try_from(*offsets.get(row)?).ok();
            let mut found = (place(row)?..place(row + 1)?)
                .filter(|entry| keys.is_valid(*entry) && keys.value(*entry) == wanted);
            let entry = found.next()?;
            if found.next().is_some() {
                twice(row, wanted);
            }
            u64::try_from(entry).ok()
        })
        .collect();
    Ok(found)
}
