//! Values in bodies: the trait of all formats, and what they share.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::BoxError;
use crate::extract::{Bytes, Text, unreadable};
use crate::flow::{Payload, Verdict};
use crate::incoming::Incoming;

/// A format of bodies, for both directions: [`Json`](crate::Json), `MsgPack`, `Cbor`, and these compressed (`Gzip`,
/// `Zstd`).
///
/// | format | feature | content types that are read; the first is written |
/// | --- | --- | --- |
/// | `Json` | `json` | `application/json`, `text/json`, `*/*+json` |
/// | `MsgPack` | `msgpack` | `application/msgpack`, `application/x-msgpack`, `application/vnd.msgpack`, `*/*+msgpack` |
/// | `Cbor` | `cbor` | `application/cbor`, `*/*+cbor` |
///
/// Parameters, as in `application/json; charset=utf-8`, and the case of letters make no difference. A message without a
/// content type is taken for what the handler reads.
///
/// A format of your own is a type with this trait, for [`Out`](crate::Out); its extractor is a type with
/// [`FromDelivery`](crate::FromDelivery).
pub trait Codec: 'static {
    /// What the format is called in errors.
    const NAME: &'static str;

    /// Returns whether bodies with this content type are read. It comes in lower case, without parameters.
    fn reads(content_type: &str) -> bool;

    /// Reads a value from a body.
    ///
    /// # Errors
    /// If the body is not in the format, ends early, has something behind the value, or holds another value.
    fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, BoxError>;

    /// Writes a value to a body.
    ///
    /// # Errors
    /// If the format has no place for the value, as JSON for a map whose keys are lists.
    fn write<T: Serialize + ?Sized>(value: &T) -> Result<Payload, BoxError>;
}

/// Stands for any value in the name of a format: `Json` alone, as in `Out<Receipt, Json>`, means `Json<Format>`. No
/// value of this type exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {}

/// What can be a body: the content of a [`Reply`](crate::Reply).
///
/// A value that implements `Serialize` is written as JSON. `MsgPack(value)` and `Cbor(value)` write it in another
/// format, `Gzip(…)` and `Zstd(…)` compress what they contain, [`Text`] and [`Bytes`] are sent as they are.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the body of a message",
    label = "not a body",
    note = "derive `serde::Serialize` for `{Self}`, or reply with `Text` or `Bytes`"
)]
pub trait IntoPayload {
    /// Writes the body.
    ///
    /// # Errors
    /// If the format has no place for the value.
    fn into_payload(self) -> Result<Payload, BoxError>;
}

#[cfg(feature = "json")]
impl<T: Serialize> IntoPayload for T {
    fn into_payload(self) -> Result<Payload, BoxError> {
        crate::Json::<Format>::write(&self)
    }
}

impl IntoPayload for Text {
    fn into_payload(self) -> Result<Payload, BoxError> {
        Ok(Payload::new(self.0, "text/plain; charset=utf-8"))
    }
}

impl IntoPayload for Bytes {
    fn into_payload(self) -> Result<Payload, BoxError> {
        Ok(Payload::new(self.0, "application/octet-stream"))
    }
}

/// Reads the value of a format's extractor.
pub(crate) fn extract<C: Codec, T: DeserializeOwned>(incoming: &mut Incoming) -> Result<T, Verdict> {
    if let Some(kind) = incoming.properties().content_type()
        && !C::reads(&essence(kind))
    {
        let text = format!("the content type is {kind:?}, and the handler reads {}", C::NAME);
        return Err(unreadable("content-type", text));
    }
    C::read(incoming.decoded_body()?).map_err(|error| {
        let name = std::any::type_name::<T>();
        let name = name.split('<').next().unwrap_or(name).rsplit("::").next().unwrap_or(name);
        unreadable("decode", format!("the body is not the {} of {name}: {error}", C::NAME))
    })
}

/// Reads the value of a format's extractor, unless the body is empty.
pub(super) fn extract_present<C: Codec, T: DeserializeOwned>(incoming: &mut Incoming) -> Result<Option<T>, Verdict> {
    if incoming.body().is_empty() { Ok(None) } else { extract::<C, T>(incoming).map(Some) }
}

/// Returns a content type in lower case, without parameters.
fn essence(kind: &str) -> Cow<'_, str> {
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.bytes().any(|byte| byte.is_ascii_uppercase()) { kind.to_ascii_lowercase().into() } else { kind.into() }
}

/// Makes the extractor of a format, and the body for a reply.
macro_rules! body {
    ($name:ident) => {
        impl<S, T: serde::de::DeserializeOwned> crate::extract::FromDelivery<S> for $name<T> {
            fn from_delivery(incoming: &mut crate::Incoming, _: &S) -> Result<Self, crate::Verdict> {
                crate::codec::typed::extract::<$name, T>(incoming).map(Self)
            }

            /// `None` for an empty body.
            fn from_delivery_if_present(incoming: &mut crate::Incoming, _: &S) -> Result<Option<Self>, crate::Verdict> {
                Ok(crate::codec::typed::extract_present::<$name, T>(incoming)?.map(Self))
            }
        }

        impl<T> std::ops::Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }

        impl<T> std::ops::DerefMut for $name<T> {
            fn deref_mut(&mut self) -> &mut T {
                &mut self.0
            }
        }

        impl<T: serde::Serialize> crate::codec::IntoPayload for $name<T> {
            fn into_payload(self) -> Result<crate::flow::Payload, crate::codec::BoxError> {
                <$name as crate::codec::Codec>::write(&self.0)
            }
        }
    };
}
pub(super) use body;
