//! Layers: what wraps handlers and may change what happens with a message.

use crate::handler::Slot;

/// Wraps the slots of handlers: for timeouts, limits, and everything else that decides about a message before or after
/// its handler. An [`Observer`](crate::Observer) is enough for what only looks.
pub trait Layer<S, T: Slot<S>> {
    /// The wrapped slot.
    type Slot: Slot<S> + 'static;

    /// Wraps one slot.
    fn wrap(&self, inner: T) -> Self::Slot;
}
