//! The AMQP side of a session, without sockets or clocks.

pub(crate) mod encode;
pub(crate) mod framer;
pub(crate) mod policy_filter;
pub(crate) mod proxy;
pub(crate) mod verdict;
