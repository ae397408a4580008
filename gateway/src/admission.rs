//! Checks before a WebSocket opens: the client's address, its origin, and the limits.

pub(crate) mod forwarded;
pub(crate) mod limits;
pub(crate) mod origin;
