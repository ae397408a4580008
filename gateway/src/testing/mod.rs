//! Whole conversations through the gateway's AMQP side, without sockets, for tests and for the fuzz target.

pub(crate) mod conversation;
#[cfg(test)]
pub(crate) mod logs;
mod oracle;
mod script;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

pub use script::converse;
