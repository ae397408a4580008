//! Layers: what wraps handlers and may change what happens with a message.
//!
//! Owns the slots around the slots of handlers. In come a message and the verdict of its handler; out goes the verdict
//! that counts. It must never settle or publish, and waits on the app's own timer only.

mod around;
mod budget;
mod concurrency;
mod endpoint;
mod rate;
mod slow;
mod timeout;
#[cfg(feature = "tower")]
mod tower;

pub use around::{Around, Next, around};
pub use budget::RetryBudget;
pub use concurrency::ConcurrencyLimit;
pub use endpoint::Running;
pub use rate::RateLimit;
pub use slow::Slow;
pub use timeout::Timeout;
#[cfg(feature = "tower")]
pub use tower::{Answer, Endpoint, Tower, tower};

use crate::handler::Slot;

/// Wraps the slots of handlers: for timeouts, limits, and everything else that decides about a message before or after
/// its handler. An [`Observer`](crate::Observer) is enough for what only looks.
///
/// A layer is asked for one slot for each message that may be handled at once; what all slots share is in the layer. A
/// slot that wants to wait before the handler runs returns `None` from [`Slot::start`] and starts the inner slot when
/// it is polled; [`Incoming::context`](crate::Incoming::context) has the app's timer. Panics of handlers pass through
/// layers as panics, and [`Slot::clear`] is called after them.
///
/// ```
/// use std::task::{Context, Poll};
/// use hopmq_app::{Ack, Incoming, Layer, Slot, Verdict};
///
/// /// Acknowledges messages that failed for the third time.
/// struct GiveUp;
///
/// struct GivingUp<T>(T);
///
/// impl<S, T: Slot<S> + 'static> Layer<S, T> for GiveUp {
///     type Slot = GivingUp<T>;
///
///     fn wrap(&self, inner: T) -> GivingUp<T> {
///         GivingUp(inner)
///     }
/// }
///
/// impl<S, T: Slot<S>> Slot<S> for GivingUp<T> {
///     fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
///         self.0.start(incoming, state)
///     }
///
///     fn poll(&mut self, incoming: &mut Incoming, state: &S, task: &mut Context<'_>) -> Poll<Verdict> {
///         self.0.poll(incoming, state, task).map(|verdict| match verdict {
///             Verdict::Retry(_) if incoming.attempt() >= 3 => Ack.into(),
///             other => other,
///         })
///     }
///
///     fn clear(&mut self) {
///         self.0.clear();
///     }
/// }
/// ```
pub trait Layer<S, T: Slot<S>> {
    /// The wrapped slot.
    type Slot: Slot<S> + 'static;

    /// Wraps one slot.
    fn wrap(&self, inner: T) -> Self::Slot;
}
