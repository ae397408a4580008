//! What calls, replies and streams of answers look like on the wire, beside their bodies.

use std::time::Duration;

/// The header of a call that asks for a stream: how many answers the server may send ahead. A message of kind
/// [`CREDIT`](kind::CREDIT) has it too: how many more.
pub(super) const CREDIT: &str = "x-hopmq-credit";

/// How many answers of a stream may be untaken.
pub(super) const WINDOW: usize = 64;

/// After this time without a message, either end of a stream checks that the other end is there.
pub(super) const PROBE: Duration = Duration::from_secs(10);

/// The property `type` of the messages of a stream. A call has the name of its method there, a single reply nothing.
pub(super) mod kind {
    /// From the server: the stream has begun, and its `reply-to` and `message-id` lead back to the server.
    pub(in crate::rpc) const OPEN: &str = "open";
    /// From the server: one answer.
    pub(in crate::rpc) const ITEM: &str = "item";
    /// From the server: no answer follows; with a fault if the stream did not end by itself.
    pub(in crate::rpc) const END: &str = "end";
    /// From the client: the server may send more answers.
    pub(in crate::rpc) const CREDIT: &str = "credit";
    /// From the client: the answers are no longer taken.
    pub(in crate::rpc) const CANCEL: &str = "cancel";
}
