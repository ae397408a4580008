//! Checks before a WebSocket opens: the client's address, the page's origin, and the limits.

pub(crate) mod account;
pub(crate) mod bucket;
pub(crate) mod files;
pub(crate) mod forwarded;
pub(crate) mod limits;
pub(crate) mod origin;
