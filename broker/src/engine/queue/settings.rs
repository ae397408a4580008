//! The arguments of a queue, validated and parsed once (RabbitMQ's page "Queues", optional arguments).
//!
//! It must never know how the queue applies them.

use std::time::Duration;

use hopmq_proto::{FieldTable, Value};

use crate::engine::name::Name;
use crate::engine::profile::Profile;
use crate::engine::queue::delayed_retry::DelayedRetry;
use crate::engine::values::type_name;

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

/// Why a declaration is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// An argument has an invalid value. The text is RabbitMQ's, in Erlang syntax.
    Value(&'static str, String),
    /// An argument has an invalid type.
    Type(&'static str, &'static str),
    /// Quorum queues do not support an argument.
    NotForQuorum(&'static str),
    /// Classic queues do not support an argument.
    NotForClassic(&'static str),
    /// Quorum queues do not support a property.
    Property(&'static str),
}

impl Invalid {
    /// Returns the text for the client.
    pub(crate) fn text(&self, queue: &str, vhost: &str) -> String {
        let resource = format_args!("queue '{queue}' in vhost '{vhost}'");
        match self {
            Self::Value(argument, why) => format!("invalid arg '{argument}' for {resource}: {why}"),
            Self::Type(argument, kind) => format!("invalid type '{kind}' for arg '{argument}' in {resource}"),
            Self::NotForQuorum(argument) => {
                format!("invalid arg '{argument}' for {resource} of queue type rabbit_quorum_queue")
            }
            Self::NotForClassic(argument) => {
                format!("invalid arg '{argument}' for {resource} of queue type rabbit_classic_queue")
            }
            Self::Property(property) => format!("invalid property '{property}' for {resource}"),
        }
    }
}

/// The longest time in milliseconds: the limit of an Erlang timer.
const LONGEST: i64 = 0xFFFF_FFFF;

impl Settings {
    /// Parses the arguments.
    pub(crate) fn of(arguments: &FieldTable, profile: Profile) -> Result<Self, Invalid> {
        let quorum = match text(arguments, "x-queue-type")? {
            None | Some("classic") => false,
            Some("quorum") => true,
            Some("stream") => {
                return invalid("x-queue-type", "this broker has no streams".to_owned());
            }
            Some(other) => return invalid("x-queue-type", format!("\"unsupported queue type '{other}'\"")),
        };
        match text(arguments, "x-queue-mode")? {
            None | Some("default" | "lazy") => {}
            Some(other) => return invalid("x-queue-mode", format!("\"unsupported queue mode '{other}'\"")),
        }
        let not_for_quorum = ["x-max-priority", "x-queue-mode"].into_iter();
        if quorum && let Some(argument) = not_for_quorum.into_iter().find(|name| arguments.contains_key(name)) {
            return Err(Invalid::NotForQuorum(argument));
        }
        let overflow = match text(arguments, "x-overflow")? {
            None | Some("drop-head") => Overflow::DropHead,
            Some("reject-publish") => Overflow::Reject,
            Some("reject-publish-dlx") => Overflow::RejectToDeadLetters,
            Some(_) => return invalid("x-overflow", "invalid_overflow".to_owned()),
        };
        let exchange = text(arguments, DEAD_LETTERS).map_err(|_| {
            let value = arguments.as_ref_table().get(DEAD_LETTERS).unwrap_or(Value::Void);
            Invalid::Type(DEAD_LETTERS, type_name(value))
        })?;
        let routing_key = text(arguments, "x-dead-letter-routing-key")?;
        if routing_key.is_some() && exchange.is_none() {
            return invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined".to_owned());
        }
        let dead_letters = exchange
            .map(|exchange| DeadLetters { exchange: exchange.into(), routing_key: routing_key.map(Name::from) });
        let max_priority = match number(arguments, "x-max-priority", 0)? {
            Some(above) if above > 255 => return invalid("x-max-priority", format!("{{max_value_exceeded,{above}}}")),
            other => other.map(|priority| priority as u8),
        };
        let milliseconds = |time: Option<u64>| time.map(Duration::from_millis);
        Ok(Self {
            quorum,
            ttl: milliseconds(time(arguments, "x-message-ttl", 0)?),
            expires: milliseconds(time(arguments, "x-expires", 1)?),
            max_length: number(arguments, "x-max-length", 0)?,
            max_bytes: number(arguments, "x-max-length-bytes", 0)?,
            overflow,
            dead_letters,
            max_priority,
            single_active: flag(arguments, "x-single-active-consumer")?.unwrap_or(false),
            delivery_limit: delivery_limit(arguments, quorum, profile)?,
            delayed_retry: DelayedRetry::of(arguments, quorum, profile)?,
            consumer_timeout: milliseconds(time(arguments, "x-consumer-timeout", 0)?),
        })
    }
}

const DEAD_LETTERS: &str = "x-dead-letter-exchange";

pub(super) fn invalid<T>(argument: &'static str, why: String) -> Result<T, Invalid> {
    Err(Invalid::Value(argument, why))
}

pub(super) fn text<'a>(arguments: &'a FieldTable, argument: &'static str) -> Result<Option<&'a str>, Invalid> {
    match arguments.as_ref_table().get(argument) {
        None => Ok(None),
        Some(Value::Str(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => invalid(argument, "not UTF-8".to_owned()),
        },
        Some(other) => invalid(argument, format!("{{unacceptable_type,{}}}", type_name(other))),
    }
}

fn flag(arguments: &FieldTable, argument: &'static str) -> Result<Option<bool>, Invalid> {
    match arguments.get(argument) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(other) => invalid(argument, format!("{{unacceptable_type,{}}}", type_name(other))),
    }
}

fn number(arguments: &FieldTable, argument: &'static str, least: i64) -> Result<Option<u64>, Invalid> {
    match arguments.get(argument) {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            Some(0) if least > 0 => invalid(argument, "{value_zero,0}".to_owned()),
            Some(number) if number < least => invalid(argument, format!("{{value_negative,{number}}}")),
            Some(number) => Ok(Some(number as u64)),
            None => invalid(argument, format!("\"expected integer, got {}\"", type_name(value))),
        },
    }
}

pub(super) fn time(arguments: &FieldTable, argument: &'static str, least: i64) -> Result<Option<u64>, Invalid> {
    match number(arguments, argument, least)? {
        Some(above) if above > LONGEST as u64 => invalid(argument, format!("{{value_too_large,{above}}}")),
        other => Ok(other),
    }
}

/// Returns how often a message may return to its queue.
fn delivery_limit(arguments: &FieldTable, quorum: bool, profile: Profile) -> Result<Option<u32>, Invalid> {
    const LIMIT: &str = "x-delivery-limit";
    if arguments.get(LIMIT).and_then(|value| value.as_i64()).is_some_and(|limit| limit < 0) {
        return Ok((!profile.has_unlimited()).then_some(0));
    }
    let limit = number(arguments, LIMIT, 0)?.map(|limit| limit.try_into().unwrap_or(u32::MAX));
    Ok(limit.or(if quorum { profile.delivery_limit() } else { None }))
}
