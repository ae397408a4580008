//! A received message: its method, properties and body.

use hopmq_proto::method::Method;
use hopmq_proto::{Properties, Value};

use super::transcript::shown;

/// A delivery, the reply to a get, or a returned message.
#[derive(Clone, Debug)]
pub struct Message {
    method: Vec<u8>,
    properties: Properties,
    /// The body.
    pub body: Vec<u8>,
}

impl Message {
    pub(super) fn new(method: Vec<u8>, header: &[u8], body: Vec<u8>) -> Self {
        let flags = u16::from_be_bytes([header[12], header[13]]);
        let properties = Properties::from_parts(flags, header[14..].to_vec());
        properties.check().expect("the broker's properties can be decoded");
        Self { method, properties, body }
    }

    /// Returns its method: `basic.deliver`, `basic.get-ok` or `basic.return`.
    pub fn method(&self) -> Method<'_> {
        Method::decode(&self.method).expect("the broker's methods can be decoded")
    }

    /// Returns the payload of its method, whose names need not be UTF-8.
    pub fn method_bytes(&self) -> &[u8] {
        &self.method
    }

    /// Returns its properties.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Returns its body as text, or the size of a body that is long or not UTF-8.
    pub fn text(&self) -> String {
        match std::str::from_utf8(&self.body) {
            Ok(text) if text.len() <= 100 => text.to_owned(),
            _ => format!("<{} bytes>", self.body.len()),
        }
    }

    /// Returns its delivery tag.
    pub fn tag(&self) -> u64 {
        match self.method() {
            Method::BasicDeliver(deliver) => deliver.delivery_tag,
            Method::BasicGetOk(get) => get.delivery_tag,
            other => panic!("{other:?} has no delivery tag"),
        }
    }

    /// Returns whether it is marked as redelivered.
    pub fn redelivered(&self) -> bool {
        match self.method() {
            Method::BasicDeliver(deliver) => deliver.redelivered,
            Method::BasicGetOk(get) => get.redelivered,
            other => panic!("{other:?} was not delivered"),
        }
    }

    /// Returns the value of a header, [shown](shown) with its type.
    pub fn header(&self, key: &str) -> Option<String> {
        let headers = self.properties.headers().expect("the headers were checked");
        headers.get(key).as_ref().map(shown)
    }

    /// Returns the tables of `x-death`, the last death first. The entries of each table are sorted.
    #[track_caller]
    pub fn deaths(&self) -> Vec<String> {
        let headers = self.properties.headers().expect("the headers were checked");
        let deaths = headers.get("x-death").and_then(|deaths| deaths.as_array()).expect("x-death is an array");
        let death = |death: Value<'_>| {
            let table = death.as_table().expect("a death is a table");
            let mut entries: Vec<_> = table.iter().map(|(key, value)| format!("{key}: {}", shown(&value))).collect();
            entries.sort();
            entries.join(", ")
        };
        deaths.iter().map(death).collect()
    }

    /// Returns the names of its headers, in order.
    pub fn header_names(&self) -> Vec<String> {
        let headers = self.properties.headers().expect("the headers were checked");
        headers.iter().map(|(key, _)| key.to_owned()).collect()
    }

    /// Returns the value of a header, if that is a number.
    #[track_caller]
    pub fn number(&self, key: &str) -> Option<i64> {
        let headers = self.properties.headers().expect("the headers were checked");
        headers.get(key).as_ref().and_then(Value::as_i64)
    }
}
