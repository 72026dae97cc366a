//! Messages whose content is JSON: plain objects, and CloudEvents in both modes.

use super::super::assemble::Assembler;
use super::super::chunk::RawChunk;
use super::super::paths::{FieldPaths, Text, utf8, value_text};
use super::super::request::ColumnRequest;
use super::super::scalar::quoted;
use super::metadata::Metadata;
use crate::kafka::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_operators::domain::{FileId, Reason};
use std::borrow::Cow;

/// Attributes that every event may have, and columns are called by.
const CORE: [&str; 8] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
];
/// The first of [`CORE`], which every event must have.
const REQUIRED: usize = 4;
const CONTENT_TYPE: usize = 6;
const DATA: &str = "data";
const DATA_BASE64: &str = "data_base64";
/// What attributes are called in the headers of a message.
const PREFIX: &str = "ce_";

pub(super) struct TextMessages {
    assembler: Assembler,
    /// Where each column comes from.
    columns: Vec<Column>,
    /// The fields of the object, or of the event's data.
    fields: FieldPaths,
    /// The attributes of events; nothing for plain objects.
    envelope: Option<Envelope>,
}

enum Column {
    Metadata(Metadata),
    /// The position among the fields.
    Field(usize),
    /// The position among the attributes.
    Attribute(usize),
}

struct Envelope {
    attributes: Vec<String>,
    /// The attributes in their order, then the data in its two spellings.
    paths: FieldPaths,
}

/// An event, in whichever mode it came.
struct Event<'m> {
    attributes: Vec<Option<Cow<'m, str>>>,
    data: Option<Text<'m>>,
}

impl Event<'_> {
    fn into_owned(self) -> Event<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        let attributes = self.attributes.into_iter();
        Event {
            attributes: attributes.map(|text| text.map(owned)).collect(),
            data: self.data.map(|data| Text {
                text: owned(data.text),
                damaged: data.damaged,
            }),
        }
    }
}

impl TextMessages {
    pub(super) fn json(id: FileId, columns: &[ColumnRequest]) -> Self {
        let mut names = Vec::new();
        let column = |request: &ColumnRequest| match Metadata::of_column(&request.name) {
            Some(metadata) => Column::Metadata(metadata),
            None => {
                names.push(request.name.clone());
                Column::Field(names.len() - 1)
            }
        };
        Self {
            columns: columns.iter().map(column).collect(),
            fields: FieldPaths::new(&names),
            assembler: Assembler::new(id, columns),
            envelope: None,
        }
    }

    pub(super) fn events(id: FileId, columns: &[ColumnRequest]) -> Self {
        let mut names = Vec::new();
        let mut attributes: Vec<String> = CORE.iter().map(|name| (*name).to_owned()).collect();
        let column = |request: &ColumnRequest| {
            let name = request.name.as_str();
            if let Some(metadata) = Metadata::of_column(name) {
                return Column::Metadata(metadata);
            }
            let attribute = name.strip_prefix(PREFIX);
            if let Some(attribute) = attribute.or(CORE.contains(&name).then_some(name)) {
                let known = attributes.iter().position(|known| known == attribute);
                return Column::Attribute(known.unwrap_or_else(|| {
                    attributes.push(attribute.to_owned());
                    attributes.len() - 1
                }));
            }
            let path = name.strip_prefix("data.").unwrap_or(name);
            names.push(path.to_owned());
            Column::Field(names.len() - 1)
        };
        let columns_of = columns.iter().map(column).collect();
        let mut paths = attributes.clone();
        paths.extend([DATA.to_owned(), DATA_BASE64.to_owned()]);
        Self {
            columns: columns_of,
            fields: FieldPaths::new(&names),
            assembler: Assembler::new(id, columns),
            envelope: Some(Envelope {
                attributes,
                paths: FieldPaths::new(&paths),
            }),
        }
    }

    pub(super) fn push(&mut self, offset: u64, message: &Message<'_>) {
        self.assembler.seek(offset);
        match self.read(message) {
            Ok(true) => {}
            Ok(false) => {
                let detail = match message.key() {
                    Some(key) => format!("key {}", quoted(&String::from_utf8_lossy(key))),
                    None => "it has no key either".to_owned(),
                };
                self.assembler.set_aside(Reason::Tombstone, "", detail);
            }
            Err(detail) => self.assembler.reject(0, detail),
        }
    }

    /// Puts the message into the assembler as a row; `false` when there is nothing in it.
    fn read(&mut self, message: &Message<'_>) -> Result<bool, String> {
        let event = match &self.envelope {
            Some(envelope) => match envelope.open(message)? {
                Some(event) => event,
                None => return Ok(false),
            },
            None => match message.payload() {
                Some(payload) => Event {
                    attributes: Vec::new(),
                    data: Some(Text::of(payload)),
                },
                None => return Ok(false),
            },
        };
        let fields = match &event.data {
            Some(data) => data.find(&self.fields)?,
            None => Vec::new(),
        };
        let damaged = event.data.as_ref().is_some_and(|data| data.damaged);
        self.assembler.begin_row(0);
        for (place, column) in self.columns.iter().enumerate() {
            match column {
                Column::Field(slot) => {
                    let value = fields.get(*slot).copied().flatten();
                    self.assembler.json_value(place, value, damaged);
                }
                Column::Attribute(slot) => {
                    let value = event.attributes.get(*slot).and_then(Option::as_deref);
                    self.assembler.value(place, value);
                }
                Column::Metadata(metadata) => match metadata.text(message) {
                    Ok(text) => self.assembler.value(place, text.as_deref()),
                    Err(detail) => self.assembler.unreadable_value(place, detail),
                },
            }
        }
        self.assembler.end_row();
        Ok(true)
    }

    pub(super) fn finish(&mut self) -> Option<RawChunk> {
        let mut chunk = self.assembler.finish()?;
        chunk.lines = Vec::new(); // messages have none
        Some(chunk)
    }
}

impl Envelope {
    /// The event of a message; nothing for a tombstone.
    fn open<'m>(&self, message: &Message<'m>) -> Result<Option<Event<'m>>, String> {
        let content_type = message.header("content-type").map(utf8).transpose()?;
        // Types of content are the same in capitals.
        let kind = content_type.map(str::to_ascii_lowercase);
        let structured = kind.as_deref();
        let structured = structured.and_then(|kind| kind.strip_prefix("application/cloudevents"));
        let is_binary = structured.is_none() && message.header("ce_specversion").is_some();
        let event = match (structured, message.payload()) {
            (Some(kind), _) if !kind.is_empty() && !kind.starts_with(['+', ';']) => {
                return Err("it is a batch of events; send one event per message".to_owned());
            }
            (Some(kind), _) if kind.starts_with('+') && !kind.starts_with("+json") => {
                return Err(format!(
                    "its events are {}; only JSON can be read",
                    quoted(kind)
                ));
            }
            (_, payload) if is_binary => self.binary(message, content_type, payload)?,
            (_, Some(payload)) => self.structured(payload)?,
            (_, None) => return Ok(None),
        };
        self.check(&event)?;
        Ok(Some(event))
    }

    fn binary<'m>(
        &self,
        message: &Message<'m>,
        content_type: Option<&'m str>,
        payload: Option<&'m [u8]>,
    ) -> Result<Event<'m>, String> {
        let mut attributes = vec![None; self.attributes.len()];
        for (name, value) in message.headers() {
            let name = name.strip_prefix(PREFIX);
            let slot = name.and_then(|name| self.attributes.iter().position(|known| known == name));
            if let (Some(attribute), Some(value)) =
                (slot.and_then(|slot| attributes.get_mut(slot)), value)
            {
                *attribute = Some(Cow::Borrowed(utf8(value)?));
            }
        }
        if let Some(attribute) = attributes.get_mut(CONTENT_TYPE) {
            *attribute = content_type.map(Cow::Borrowed);
        }
        let data = payload.map(Text::of);
        Ok(Event { attributes, data })
    }

    fn structured<'m>(&self, payload: &'m [u8]) -> Result<Event<'m>, String> {
        let Text { text, damaged } = Text::of(payload);
        match text {
            Cow::Borrowed(text) => self.event(text, damaged),
            Cow::Owned(text) => self.event(&text, damaged).map(Event::into_owned),
        }
    }

    /// The event that a text spells, which may be `damaged` anywhere but in what is read of it.
    fn event<'m>(&self, payload: &'m str, damaged: bool) -> Result<Event<'m>, String> {
        let no_text = |text: &str| format!("{} is not UTF-8 text", quoted(text));
        let found = self.paths.find(payload);
        let found = found.map_err(|detail| if damaged { no_text(payload) } else { detail })?;
        let (attributes, data) = found
            .split_at_checked(self.attributes.len())
            .unwrap_or_default();
        let text = |value: &Option<&'m serde_json::value::RawValue>| match value {
            Some(value) if damaged && value.get().contains(char::REPLACEMENT_CHARACTER) => {
                Err(no_text(value.get()))
            }
            Some(value) => value_text(value).map_err(|error| format!("not a JSON text: {error}")),
            None => Ok(None),
        };
        let attributes: Vec<_> = attributes.iter().map(text).collect::<Result<_, _>>()?;
        let encoded = text(data.get(1).unwrap_or(&None))?;
        let data = data.first().copied().flatten();
        let data = data.map(serde_json::value::RawValue::get);
        let data = data.filter(|data| *data != "null");
        let data = match (data, encoded) {
            (Some(_), Some(_)) => return Err("it has both data and data_base64".to_owned()),
            (data, None) => data.map(|data| Text {
                text: Cow::Borrowed(data),
                damaged,
            }),
            (None, Some(encoded)) => {
                let kind = attributes.get(CONTENT_TYPE).and_then(Option::as_deref);
                if kind.is_some_and(|kind| !is_json(kind)) {
                    return Err("its data is in data_base64; only JSON data can be read".to_owned());
                }
                let decoded = STANDARD.decode(encoded.as_bytes());
                let decoded =
                    decoded.map_err(|error| format!("its data_base64 is no base64: {error}"))?;
                let Text { text, damaged } = Text::of(&decoded);
                Some(Text {
                    text: Cow::Owned(text.into_owned()),
                    damaged,
                })
            }
        };
        Ok(Event { attributes, data })
    }

    fn check(&self, event: &Event<'_>) -> Result<(), String> {
        let attribute = |slot: usize| event.attributes.get(slot).and_then(Option::as_deref);
        for (slot, name) in CORE.iter().enumerate().take(REQUIRED) {
            match attribute(slot) {
                None | Some("") => {
                    return Err(format!("it is no CloudEvent: it has no attribute {name:?}"));
                }
                Some(version) if slot == 0 && version != "1.0" => {
                    return Err(format!(
                        "its CloudEvents version is {}; only 1.0 can be read",
                        quoted(version)
                    ));
                }
                Some(_) => {}
            }
        }
        let kind = attribute(CONTENT_TYPE).filter(|_| event.data.is_some());
        match kind {
            Some(kind) if !is_json(kind) => Err(format!(
                "its data is {}; only JSON can be read",
                quoted(kind)
            )),
            _ => Ok(()),
        }
    }
}

/// Whether content of this type is JSON. An event that names no type has JSON in it.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or(kind).trim();
    let kind = kind.to_ascii_lowercase();
    kind.ends_with("/json") || kind.ends_with("+json")
}
