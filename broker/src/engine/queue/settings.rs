//! The arguments of a queue, parsed once (RabbitMQ's page "Queues", optional arguments).
//!
//! [`arguments`](super::arguments) says which are valid. It must never know how the queue applies them.

use std::time::Duration;

use hopmq_proto::{FieldTable, Value};

use crate::engine::name::Name;
use crate::engine::profile::Profile;
use crate::engine::queue::arguments::{Invalid, QueueType, check_queue};
use crate::engine::queue::delayed_retry::DelayedRetry;

/// What happens to a message for a full queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The oldest message is dropped.
    #[default]
    DropHead,
    /// The new message is refused.
    Reject,
    /// The new message is refused, and becomes a dead letter.
    RejectToDeadLetters,
}

/// The target of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetters {
    pub(crate) exchange: Name,
    /// Replaces the routing keys of the messages.
    pub(crate) routing_key: Option<Name>,
    /// Whether a message stays in its queue until the queues that its dead letter is routed to have it.
    pub(crate) at_least_once: bool,
}

/// The settings of a queue. See the [module's documentation](self).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) quorum: bool,
    pub(crate) ttl: Option<Duration>,
    pub(crate) expires: Option<Duration>,
    pub(crate) max_length: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) dead_letters: Option<DeadLetters>,
    pub(crate) max_priority: Option<u8>,
    pub(crate) single_active: bool,
    pub(crate) delivery_limit: Option<u32>,
    pub(crate) delayed_retry: Option<DelayedRetry>,
    /// The time limit for settling a delivery; zero is none.
    pub(crate) consumer_timeout: Option<Duration>,
}

impl Settings {
    /// Checks the arguments.
    pub(crate) fn check(arguments: &FieldTable, profile: Profile) -> Result<(), Invalid> {
        check_queue(arguments, QueueType::of(arguments)?, profile)?;
        match text(arguments, EXCHANGE).is_none() && text(arguments, ROUTING_KEY).is_some() {
            true => Err(Invalid::Value(ROUTING_KEY, "routing_key_but_no_dlx_defined".to_owned())),
            false => Ok(()),
        }
    }

    /// Parses the arguments. Those that are invalid in this release are ignored.
    pub(crate) fn of(arguments: &FieldTable, profile: Profile) -> Self {
        let quorum = QueueType::of(arguments).unwrap_or_default() == QueueType::Quorum;
        let overflow = overflow(arguments, quorum);
        // RabbitMQ makes it at most once with any other overflow: a queue that drops messages can't keep them.
        let at_least_once = quorum && overflow == Overflow::Reject && asks_for_at_least_once(arguments);
        Self {
            quorum,
            ttl: time(arguments, "x-message-ttl"),
            expires: time(arguments, "x-expires"),
            max_length: number(arguments, "x-max-length"),
            max_bytes: number(arguments, "x-max-length-bytes"),
            overflow,
            dead_letters: text(arguments, EXCHANGE).map(|exchange| DeadLetters {
                exchange: exchange.into(),
                routing_key: text(arguments, ROUTING_KEY).map(Name::from),
                at_least_once,
            }),
            max_priority: number(arguments, "x-max-priority").map(|priority| priority.min(255) as u8),
            single_active: arguments.get("x-single-active-consumer") == Some(Value::Bool(true)),
            delivery_limit: delivery_limit(arguments, quorum, profile),
            delayed_retry: DelayedRetry::of(arguments, quorum, profile),
            consumer_timeout: time(arguments, "x-consumer-timeout"),
        }
    }

    /// Returns what of the arguments RabbitMQ takes but replaces, with what replaces it.
    pub(crate) fn replaced(&self, arguments: &FieldTable) -> Option<&'static str> {
        if self.quorum && text(arguments, "x-overflow") == Some("reject-publish-dlx") {
            return Some("a quorum queue has no overflow reject-publish-dlx: it drops the oldest messages");
        }
        let asked = asks_for_at_least_once(arguments);
        match &self.dead_letters {
            Some(dead_letters) if asked && !dead_letters.at_least_once => {
                Some("dead letters at least once need the overflow reject-publish: they are sent at most once")
            }
            None if asked => Some("dead letters at least once need x-dead-letter-exchange: there are none"),
            _ => None,
        }
    }
}

const EXCHANGE: &str = "x-dead-letter-exchange";
const ROUTING_KEY: &str = "x-dead-letter-routing-key";

fn asks_for_at_least_once(arguments: &FieldTable) -> bool {
    text(arguments, "x-dead-letter-strategy") == Some("at-least-once")
}

fn overflow(arguments: &FieldTable, quorum: bool) -> Overflow {
    match text(arguments, "x-overflow") {
        Some("reject-publish") => Overflow::Reject,
        Some("reject-publish-dlx") if !quorum => Overflow::RejectToDeadLetters,
        _ => Overflow::DropHead,
    }
}

pub(super) fn text<'a>(arguments: &'a FieldTable, argument: &str) -> Option<&'a str> {
    arguments.as_ref_table().get(argument).and_then(|value| value.as_str())
}

pub(super) fn number(arguments: &FieldTable, argument: &str) -> Option<u64> {
    arguments.get(argument).and_then(|value| value.as_i64()).and_then(|number| number.try_into().ok())
}

/// Returns a time that is given in milliseconds.
pub(super) fn time(arguments: &FieldTable, argument: &str) -> Option<Duration> {
    number(arguments, argument).map(Duration::from_millis)
}

/// Returns how often a message may return to its queue.
fn delivery_limit(arguments: &FieldTable, quorum: bool, profile: Profile) -> Option<u32> {
    if !quorum {
        return None;
    }
    match arguments.get("x-delivery-limit").and_then(|value| value.as_i64()) {
        None => profile.delivery_limit(),
        Some(..0) if profile.has_unlimited() => None,
        Some(limit) => Some(limit.clamp(0, u32::MAX.into()) as u32),
    }
}
