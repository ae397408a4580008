//! The AMQP side of a session: splits bytes into frames and decides about each frame. Uses no sockets and no clock.

mod credentials;
pub(crate) mod encode;
pub(crate) mod framer;
pub(crate) mod policy_filter;
pub(crate) mod proxy;
mod temporary_queues;
#[cfg(test)]
mod tests;
pub(crate) mod verdict;
