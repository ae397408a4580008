use serde::de::DeserializeOwned;

use super::{FromDelivery, unreadable};
use crate::flow::Verdict;
use crate::incoming::Incoming;

/// The body, read from JSON.
///
/// A message with another content type, or whose body can't be read, goes to the dead letters with the place of the
/// error. A message without a content type is taken for JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<S, T: DeserializeOwned> FromDelivery<S> for Json<T> {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        if let Some(kind) = incoming.properties().content_type()
            && !is_json(kind)
        {
            return Err(unreadable("content-type", format!("the content type is {kind:?}, not application/json")));
        }
        serde_json::from_slice(incoming.body()).map(Self).map_err(|error| {
            let name = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
            unreadable("decode", format!("the body is not the JSON of {name}: {error}"))
        })
    }
}

/// `application/json`, or a type that ends in `+json` (RFC 6839), with or without parameters.
fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
        || kind.eq_ignore_ascii_case("text/json")
        || kind.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
}
