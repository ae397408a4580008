//! Operations that a policy denies.

use std::fmt;

/// An operation that a policy denies. The text continues a sentence that begins with the subject: `may not …`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Publish {
        exchange: String,
        routing_key: String,
    },
    MessageTooLarge {
        size: u64,
        limit: u64,
    },
    /// The header `CC` or `BCC` is not a list of texts, so its routing keys cannot be checked.
    Header {
        name: String,
    },
    /// The replies would reach a queue that the bearer may not use.
    ReplyTo {
        queue: String,
    },
    /// The property `user-id` is not the RabbitMQ user.
    UserId {
        user: String,
    },
    /// Dead letters or unroutable messages would reach the exchange with routing keys that are not known in advance.
    Forward {
        exchange: String,
    },
    Bind {
        exchange: String,
        key: String,
    },
    Queue {
        verb: &'static str,
        name: String,
    },
    /// The name is empty, and no queue was declared on the channel.
    QueueNotDeclared {
        verb: &'static str,
    },
    /// A queue with a name from RabbitMQ must be exclusive and allowed by `temporary_queues`.
    TemporaryQueue,
    TooManyTemporaryQueues {
        limit: usize,
    },
    Exchange {
        verb: &'static str,
        name: String,
    },
    /// An argument that names an exchange or a routing key is not a text, so it cannot be checked.
    Argument {
        name: String,
    },
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { exchange, routing_key } => {
                write!(f, "may not publish to {} with the routing key '{routing_key}'", ExchangeName(exchange))
            }
            Self::MessageTooLarge { size, limit } => {
                write!(f, "may not publish {size} bytes in one message; the limit is {limit}")
            }
            Self::Header { name } => write!(f, "may not publish with a header {name} that is not a list of texts"),
            Self::ReplyTo { queue } => write!(f, "may not ask for replies in queue '{queue}' (reply-to)"),
            Self::UserId { user } => write!(f, "may not publish with the user-id '{user}'"),
            Self::Forward { exchange } => {
                write!(f, "may not forward messages to {} with any routing key", ExchangeName(exchange))
            }
            Self::Bind { exchange, key } => {
                write!(f, "may not bind to {} with the key '{key}'", ExchangeName(exchange))
            }
            Self::Queue { verb, name } if name.is_empty() => write!(f, "may not {verb} a queue without a name"),
            Self::Queue { verb, name } => write!(f, "may not {verb} queue '{name}'"),
            Self::QueueNotDeclared { verb } => {
                write!(f, "may not {verb} a queue without a name before one is declared on the channel")
            }
            Self::TemporaryQueue => f.write_str(
                "may not declare a queue with a name from RabbitMQ unless it is exclusive and temporary_queues is set",
            ),
            Self::TooManyTemporaryQueues { limit } => {
                write!(f, "may not have more than {limit} temporary queues at a time (limits.temporary_queues)")
            }
            Self::Exchange { verb, name } => write!(f, "may not {verb} {}", ExchangeName(name)),
            Self::Argument { name } => write!(f, "may not declare with an argument {name} that is not a text"),
        }
    }
}

impl std::error::Error for Denied {}

struct ExchangeName<'a>(&'a str);

impl fmt::Display for ExchangeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("the default exchange"),
            name => write!(f, "exchange '{name}'"),
        }
    }
}
