//! Waiting for a future on the caller's thread, which leads the connection meanwhile.

pub(crate) use hopmq::{wait, wait_within};
