//! Extractors: the arguments of handlers.
//!
//! Owns the step from a message to a typed value. It must never wait, so that one set of extractors serves async,
//! blocking and Python handlers.

#[cfg(feature = "json")]
mod json;
mod out;
mod parts;

#[cfg(feature = "json")]
pub use json::Json;
pub use out::Out;
#[cfg(feature = "json")]
pub use out::Publishes;
pub use parts::{Attempt, Bytes, FromHeader, FromRef, Header, HeaderName, Headers, State, Text};

use hopmq::Delivery;

use crate::context::Context;
use crate::flow::{Failure, Verdict};
use crate::incoming::Incoming;

/// An argument of a handler.
#[diagnostic::on_unimplemented(
    message = "a handler can't take `{Self}`",
    label = "not an extractor",
    note = "for a JSON body of this type, write `Json(name): Json<{Self}>`; for the app's state, \
            `State(name): State<{Self}>`"
)]
pub trait FromDelivery<S>: Sized {
    /// Reads the argument from the message and the app's state.
    ///
    /// # Errors
    /// What must happen with the message: usually [`Verdict::Reject`], because it would fail the same way again.
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict>;
}

/// Returns the verdict about a message that can't be read.
pub(crate) fn unreadable(class: &'static str, text: impl Into<String>) -> Verdict {
    Verdict::Reject(Failure::new(class, text))
}

/// Takes the delivery: the handler settles it, and its outcome does not.
impl<S> FromDelivery<S> for Delivery {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        incoming.take().ok_or_else(|| unreadable("extract", "two arguments of the handler take the delivery"))
    }
}

impl<S> FromDelivery<S> for hopmq::Message {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        Ok(incoming.message().clone())
    }
}

impl<S> FromDelivery<S> for Context {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        Ok(incoming.context().clone())
    }
}

impl<S, T: FromDelivery<S>> FromDelivery<S> for Option<T> {
    /// `None` where the argument alone would reject the message.
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        Ok(T::from_delivery(incoming, state).ok())
    }
}
