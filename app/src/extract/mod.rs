//! Extractors: the arguments of handlers.
//!
//! Owns the step from a message to a typed value. It must never wait, so that one set of extractors serves async,
//! blocking and Python handlers.

mod deadline;
#[cfg(feature = "codec")]
mod out;
mod parts;
#[cfg(feature = "garde")]
mod valid;

pub use deadline::Deadline;
#[cfg(feature = "codec")]
pub use out::{Out, Publishes};
pub use parts::{Attempt, Bytes, FromHeader, FromRef, Header, HeaderName, Headers, State, Text};
#[cfg(feature = "garde")]
pub use valid::Valid;

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

    /// Reads the argument for `Option<Self>`: `None` if the message has nothing to read it from. What is there and
    /// can't be read fails as it does without `Option`. The default is never `None`.
    ///
    /// # Errors
    /// Those of [`from_delivery`](Self::from_delivery).
    fn from_delivery_if_present(incoming: &mut Incoming, state: &S) -> Result<Option<Self>, Verdict> {
        Self::from_delivery(incoming, state).map(Some)
    }
}

/// Returns the verdict about a message that can't be read.
pub(crate) fn unreadable(class: &'static str, text: impl Into<String>) -> Verdict {
    Verdict::Reject(Failure::new(class, text))
}

/// Takes the delivery: the handler settles it, and its outcome does not.
impl<S> FromDelivery<S> for Delivery {
    fn from_delivery(incoming: &mut Incoming, _: &S) -> Result<Self, Verdict> {
        let text = "two arguments of the handler take the delivery, or it belongs to a batch, which the app settles";
        incoming.take().ok_or_else(|| unreadable("extract", text))
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

/// `None` for a missing header, and for an empty body that is no text; anything else is read as without `Option`.
impl<S, T: FromDelivery<S>> FromDelivery<S> for Option<T> {
    fn from_delivery(incoming: &mut Incoming, state: &S) -> Result<Self, Verdict> {
        T::from_delivery_if_present(incoming, state)
    }
}
