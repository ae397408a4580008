//! Exchanges, bindings, and the queues that a message goes to.

mod addressed;
mod bindings;
pub(super) mod delayed;
mod destinations;
pub(super) mod exchange;
pub(super) mod headers;
#[cfg(test)]
mod naive;
mod nodes;
mod places;
pub(super) mod route;
mod topic;
pub(super) mod weighted;
mod words;

use super::table;
