//! A message as it came: the method that brought it, its properties, its body.

use hopmq_proto::method::Method;
use hopmq_proto::{Properties, Value};

use super::transcript::shown;

/// A delivery, the answer to a get, or a returned message.
#[derive(Clone, Debug)]
pub struct Message {
    method: Vec<u8>,
    properties: Properties,
    /// What was published.
    pub body: Vec<u8>,
}

impl Message {
    pub(super) fn new(method: Vec<u8>, header: &[u8], body: Vec<u8>) -> Self {
        let flags = u16::from_be_bytes([header[12], header[13]]);
        let properties = Properties::from_parts(flags, header[14..].to_vec());
        properties.check().expect("the broker's properties can be decoded");
        Self { method, properties, body }
    }

    /// The method that brought it.
    pub fn method(&self) -> Method<'_> {
        Method::decode(&self.method).expect("the broker's methods can be decoded")
    }

    /// Its properties.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Its body as text; the size of one that is large.
    pub fn text(&self) -> String {
        match std::str::from_utf8(&self.body) {
            Ok(text) if text.len() <= 100 => text.to_owned(),
            _ => format!("<{} bytes>", self.body.len()),
        }
    }

    /// The number by which it is settled.
    pub fn tag(&self) -> u64 {
        match self.method() {
            Method::BasicDeliver(deliver) => deliver.delivery_tag,
            Method::BasicGetOk(get) => get.delivery_tag,
            other => panic!("{other:?} has no delivery tag"),
        }
    }

    /// Whether it was delivered before.
    pub fn redelivered(&self) -> bool {
        match self.method() {
            Method::BasicDeliver(deliver) => deliver.redelivered,
            Method::BasicGetOk(get) => get.redelivered,
            other => panic!("{other:?} was not delivered"),
        }
    }

    /// What a header says, [shown](shown) with its type.
    pub fn header(&self, key: &str) -> Option<String> {
        let headers = self.properties.headers().expect("they were checked");
        headers.get(key).as_ref().map(shown)
    }

    /// How it died, the last death first: each a table of `x-death`, its entries sorted, for their order means nothing.
    #[track_caller]
    pub fn deaths(&self) -> Vec<String> {
        let headers = self.properties.headers().expect("they were checked");
        let deaths = headers.get("x-death").and_then(|deaths| deaths.as_array()).expect("x-death is an array");
        let death = |death: Value<'_>| {
            let table = death.as_table().expect("a death is a table");
            let mut entries: Vec<_> = table.iter().map(|(key, value)| format!("{key}: {}", shown(&value))).collect();
            entries.sort();
            entries.join(", ")
        };
        deaths.iter().map(death).collect()
    }

    /// The names of its headers, in their order.
    pub fn header_names(&self) -> Vec<String> {
        let headers = self.properties.headers().expect("they were checked");
        headers.iter().map(|(key, _)| key.to_owned()).collect()
    }

    /// A header that is a number.
    #[track_caller]
    pub fn number(&self, key: &str) -> Option<i64> {
        let headers = self.properties.headers().expect("they were checked");
        headers.get(key).as_ref().and_then(Value::as_i64)
    }
}
