//! One conversation through the gateway's AMQP side, without sockets, for tests and for the fuzz target.

pub(crate) mod conversation;
#[cfg(test)]
pub(crate) mod logs;
#[cfg(test)]
pub(crate) mod tokens;
