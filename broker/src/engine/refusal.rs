//! Refusals, with RabbitMQ's texts.
//!
//! Owns the texts, and whether a refusal ends the channel or the connection. It must never know the client.

use std::fmt::Display;

use hopmq_proto::code;

/// Why an operation is refused, and what that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) text: String,
    /// Whether the connection ends, instead of the channel alone.
    pub(crate) hard: bool,
}

impl Refusal {
    #[cold]
    fn new(number: u16, hard: bool, text: impl Display) -> Self {
        Self { code: number, hard, text: format!("{} - {text}", code::name(number)) }
    }

    /// 404
    pub(crate) fn not_found(text: impl Display) -> Self {
        Self::new(code::NOT_FOUND, false, text)
    }

    /// 404 for a queue
    pub(crate) fn no_queue(name: &str, vhost: &str) -> Self {
        Self::not_found(format_args!("no queue '{name}' in vhost '{vhost}'"))
    }

    /// 404 for an exchange
    pub(crate) fn no_exchange(name: &str, vhost: &str) -> Self {
        Self::not_found(format_args!("no exchange '{name}' in vhost '{vhost}'"))
    }

    /// 403
    pub(crate) fn access(text: impl Display) -> Self {
        Self::new(code::ACCESS_REFUSED, false, text)
    }

    /// 405
    pub(crate) fn locked(queue: &str, vhost: &str) -> Self {
        let text = format_args!(
            "cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally \
             declared on another connection or the exclusive property value does not match that of the original \
             declaration."
        );
        Self::new(code::RESOURCE_LOCKED, false, text)
    }

    /// 405 for `basic.get` on a quorum queue with a single active consumer
    pub(crate) fn no_get(queue: &str, vhost: &str) -> Self {
        let text = format_args!(
            "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. basic.get operations are not supported \
             by quorum queues with single active consumer"
        );
        Self::new(code::RESOURCE_LOCKED, false, text)
    }

    /// 406
    pub(crate) fn precondition(text: impl Display) -> Self {
        Self::new(code::PRECONDITION_FAILED, false, text)
    }

    /// 530
    pub(crate) fn not_allowed(text: impl Display) -> Self {
        Self::new(code::NOT_ALLOWED, true, text)
    }

    /// 506
    pub(crate) fn resource_error(text: impl Display) -> Self {
        Self::new(code::RESOURCE_ERROR, true, text)
    }

    /// 503
    pub(crate) fn command_invalid(text: impl Display) -> Self {
        Self::new(code::COMMAND_INVALID, true, text)
    }

    /// 540
    pub(crate) fn not_implemented(text: impl Display) -> Self {
        Self::new(code::NOT_IMPLEMENTED, true, text)
    }

    /// 541 for a message that can't be read from the store. It ends the channel only: other queues are not affected.
    pub(crate) fn unreadable(queue: &str, vhost: &str) -> Self {
        let text = format_args!(
            "the next message of queue '{queue}' in vhost '{vhost}' can't be read from the store. Its operator finds \
             the reason in the log of the broker."
        );
        Self { hard: false, ..Self::internal(text) }
    }

    /// 541
    pub(crate) fn internal(text: impl Display) -> Self {
        let mut refusal = Self::new(code::INTERNAL_ERROR, true, text);
        // RabbitMQ shortens long texts in this way.
        if refusal.text.len() > 255 {
            refusal.text.truncate(252);
            refusal.text.push_str("...");
        }
        refusal
    }

    /// 403 for a login
    pub(crate) fn login(text: impl Display) -> Self {
        Self::new(code::ACCESS_REFUSED, true, text)
    }
}
