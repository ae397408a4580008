//! Exchanges, bindings, and the queues that a message goes to.

mod bindings;
pub(super) mod delayed;
pub(super) mod exchange;
pub(super) mod headers;
pub(super) mod route;
mod topic;
pub(super) mod weighted;
