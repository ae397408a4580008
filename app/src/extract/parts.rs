use std::ops::Deref;
use std::sync::Arc;

use hopmq::{FieldTable, Value};

use super::{FromDelivery, unreadable};
use crate::flow::Verdict;
use crate::incoming::Incoming;

/// The app's state, or a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

/// A part of the app's state that a handler can take by [`State`].
///
/// ```
/// use hopmq_app::{FromRef, State};
///
/// #[derive(Clone)]
/// struct Shop {
///     name: String,
/// }
///
/// struct Name(String);
///
/// impl FromRef<Shop> for Name {
///     fn from_ref(shop: &Shop) -> Self {
///         Self(shop.name.clone())
///     }
/// }
///
/// async fn on_order(State(shop): State<Shop>, State(name): State<Name>) {
///     assert_eq!(shop.name, name.0);
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the state `{S}` has no part `{Self}`",
    label = "not a part of the state",
    note = "write `impl hopmq_app::FromRef<{S}> for {Self}`, or take the whole state: `State(name): State<{S}>`"
)]
pub trait FromRef<S> {
    /// Takes the part out of the state.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}

impl<S, T: FromRef<S>> FromDelivery<S> for State<T> {
    fn from_delivery(_: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        Ok(Self(T::from_ref(state)))
    }
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The body as bytes, of any content type; decompressed if its content encoding says so. [`Message`](hopmq::Message)
/// has it as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub bytes::Bytes);

impl<S> FromDelivery<S> for Bytes {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        incoming.decoded_body_bytes().map(Self)
    }
}

/// The body, of any content type, which must be UTF-8; decompressed if its content encoding says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl<S> FromDelivery<S> for Text {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        let text = std::str::from_utf8(incoming.decoded_body()?);
        text.map(|text| Self(text.to_owned()))
            .map_err(|error| unreadable("decode", format!("the body is no text: {error}")))
    }
}

/// The attempt that this is, beginning with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt(pub u32);

impl<S> FromDelivery<S> for Attempt {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        Ok(Self(incoming.attempt()))
    }
}

/// All headers; empty if the message has none.
#[derive(Clone, Debug)]
pub struct Headers(pub FieldTable);

impl<S> FromDelivery<S> for Headers {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        let headers = incoming.headers().map_err(|error| unreadable("headers", error.to_string()))?;
        Ok(Self(headers.to_owned_table()))
    }
}

/// One header, by its type.
///
/// ```
/// use hopmq_app::{Header, HeaderName};
///
/// struct User;
///
/// impl HeaderName for User {
///     const NAME: &'static str = "x-user";
///     type Value = i64;
/// }
///
/// async fn on_order(user: Header<User>, parent: Option<Header<User>>) {
///     println!("an order of user {}", user.0);
/// }
/// ```
///
/// A message without the header, or with a value of another type, goes to the dead letters. `Option<Header<…>>` is
/// `None` for a message without the header only: a value of another type is a mistake of the sender, also where no
/// value is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<N: HeaderName>(pub N::Value);

/// The name and the type of a header.
pub trait HeaderName {
    /// The name.
    const NAME: &'static str;
    /// The type of the value.
    type Value: FromHeader;
}

/// A type that a header can have.
pub trait FromHeader: Sized {
    /// What a value of this type is called in an error.
    const KIND: &'static str;

    /// Reads the value, or returns `None` if it has another type or does not fit.
    fn from_header(value: Value<'_>) -> Option<Self>;
}

impl<S, N: HeaderName> FromDelivery<S> for Header<N> {
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        Self::from_delivery_if_present(incoming, state)?
            .ok_or_else(|| unreadable("header", format!("the header {:?} is missing", N::NAME)))
    }

    fn from_delivery_if_present(incoming: &mut Incoming, _: &S) -> Result<Option<Self>, Verdict> {
        let name = N::NAME;
        let Some(value) = incoming.header(name) else { return Ok(None) };
        let Some(read) = N::Value::from_header(value) else {
            let text = format!("the header {name:?} is {value:?}, not {}", N::Value::KIND);
            return Err(unreadable("header", text));
        };
        Ok(Some(Self(read)))
    }
}

macro_rules! from_headers {
    ($($kind:ty: $name:literal = $read:expr;)*) => {$(
        impl FromHeader for $kind {
            const KIND: &'static str = $name;

            fn from_header(value: Value<'_>) -> Option<Self> {
                ($read)(&value)
            }
        }
    )*};
}

from_headers! {
    bool: "a boolean" = Value::as_bool;
    i64: "an integer of 64 bits" = Value::as_i64;
    i32: "an integer of 32 bits" = |value: &Value<'_>| value.as_i64()?.try_into().ok();
    u64: "an integer of at least 0" = |value: &Value<'_>| value.as_i64()?.try_into().ok();
    u32: "an integer of 0 to 4,294,967,295" = |value: &Value<'_>| value.as_i64()?.try_into().ok();
    f64: "a number" = Value::as_f64;
    String: "a text" = |value: &Value<'_>| value.as_str().map(str::to_owned);
    Arc<str>: "a text" = |value: &Value<'_>| value.as_str().map(Into::into);
    Vec<u8>: "a text or bytes" = |value: &Value<'_>| value.as_bytes().map(<[u8]>::to_vec);
}
