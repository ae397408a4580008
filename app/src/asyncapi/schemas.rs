use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};

const PATH: &str = "/components/schemas";

/// A type of messages, as far as the document needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    name: fn() -> Cow<'static, str>,
    id: fn() -> Cow<'static, str>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

/// The types of the messages of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payloads {
    pub(crate) received: Vec<Payload>,
    pub(crate) replies: Vec<Payload>,
}

/// Whether the app reads or writes a message: the JSON of a type may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Received,
    Sent,
}

/// The schemas of all types of a document.
pub(super) struct Schemas {
    /// The named schemas, for `components`.
    pub(super) definitions: Map<String, Value>,
    /// The schema of each type, usually a reference to a named one.
    payloads: HashMap<(Direction, Cow<'static, str>), Value>,
}

impl Payload {
    pub(crate) fn of<T: JsonSchema>() -> Self {
        Self { name: T::schema_name, id: T::schema_id, schema: SchemaGenerator::subschema_for::<T> }
    }

    pub(super) fn name(self) -> Cow<'static, str> {
        (self.name)()
    }
}

impl Schemas {
    pub(super) fn new(all: impl IntoIterator<Item = (Direction, Payload)>) -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = PATH.into();
            settings.meta_schema = None;
        });
        let mut read = settings.clone().for_deserialize().into_generator();
        let mut written = settings.for_serialize().into_generator();
        let mut payloads = HashMap::new();
        for (direction, payload) in all {
            let generator = match direction {
                Direction::Received => &mut read,
                Direction::Sent => &mut written,
            };
            let mut schema = (payload.schema)(generator);
            generator.transforms_mut().for_each(|transform| transform.transform(&mut schema));
            payloads.insert((direction, (payload.id)()), schema.into());
        }
        let (read, written) = (read.take_definitions(true), written.take_definitions(true));
        let mut schemas = Self { definitions: Map::new(), payloads };
        let mut taken = BTreeSet::new();
        let read_names: BTreeMap<_, _> = read.keys().map(|name| (name.clone(), id(name, &mut taken))).collect();
        // A type that is read otherwise than it is written has two schemas, and so has what refers to it.
        let differ = written.iter().any(|(name, schema)| read.get(name).is_some_and(|other| other != schema));
        let written_names: BTreeMap<_, _> = written
            .keys()
            .map(|name| match read_names.get(name) {
                Some(shared) if !differ => (name.clone(), shared.clone()),
                Some(_) => (name.clone(), id(&format!("{name}_sent"), &mut taken)),
                None => (name.clone(), id(name, &mut taken)),
            })
            .collect();
        schemas.add(Direction::Received, read, &read_names);
        schemas.add(Direction::Sent, written, &written_names);
        schemas
    }

    fn add(&mut self, direction: Direction, definitions: Map<String, Value>, names: &BTreeMap<String, String>) {
        for (name, mut schema) in definitions {
            rename(&mut schema, names);
            self.definitions.insert(names[&name].clone(), schema);
        }
        for (_, schema) in self.payloads.iter_mut().filter(|((of, _), _)| *of == direction) {
            rename(schema, names);
        }
    }

    /// Returns the schema of a message.
    pub(super) fn of(&self, direction: Direction, payload: Payload) -> &Value {
        &self.payloads[&(direction, (payload.id)())]
    }
}

/// Returns a key that tools can use as a name, and that is not in `taken`: AsyncAPI allows letters, digits, `_`, `-`
/// and `.` in components, and JSON pointers to such keys need no escapes.
pub(super) fn id(name: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() || character == '-' { character } else { '_' };
    let name: String = if name.is_empty() { "_".to_owned() } else { name.chars().map(plain).collect() };
    let mut candidate = name.clone();
    let mut number = 1;
    while !taken.insert(candidate.clone()) {
        number += 1;
        candidate = format!("{name}_{number}");
    }
    candidate
}

/// Makes references point at the new names.
fn rename(schema: &mut Value, names: &BTreeMap<String, String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix('#').and_then(|path| path.strip_prefix(PATH))
                && let Some(new) = names.get(&decoded(name.trim_start_matches('/')))
            {
                *reference = format!("#{PATH}/{new}");
            }
            object.values_mut().for_each(|value| rename(value, names));
        }
        Value::Array(array) => array.iter_mut().for_each(|value| rename(value, names)),
        _ => {}
    }
}

/// Decodes a name in the fragment of a URI (RFC 3986) that is a JSON pointer (RFC 6901).
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('%') {
        let code = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(code) = code else { break };
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(code);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_ids_that_differ() {
        let mut taken = BTreeSet::new();
        let ids: Vec<_> = ["a.b", "a_b", "a/b c", "Größe", "", "a.b"].iter().map(|name| id(name, &mut taken)).collect();
        assert_eq!(ids, ["a_b", "a_b_2", "a_b_c", "Gr__e", "_", "a_b_3"]);
    }

    #[test]
    fn names_in_references_are_decoded() {
        assert_eq!(decoded("Page%20%3Cnew%3E~1a~0b"), "Page <new>/a~b");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz"), "%zz");
    }
}
