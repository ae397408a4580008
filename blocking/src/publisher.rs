//! A handle that publishes to one exchange and routing key.

use hopmq::{Body, Properties};

use crate::Publish;
use crate::forward::settings;

/// Publishes to one exchange with one routing key and the same properties each time, made by
/// [`Channel::publisher`](crate::Channel::publisher). Clones publish on the same channel, from any thread. A publisher
/// stays valid when the link to the broker is lost.
///
/// ```no_run
/// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
/// let orders = connection.channel()?.publisher("", "orders").persistent();
/// for shop in 0..4 {
///     let orders = orders.clone();
///     std::thread::spawn(move || orders.publish(format!("an order of shop {shop}")).confirm());
/// }
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Publisher {
    pub(crate) core: hopmq::Publisher,
}

impl Publisher {
    settings! {
        /// Has the broker return messages that no queue takes.
        mandatory();
        /// Has the broker write each message to disk, if its queue is durable.
        persistent();
        /// Sets the properties of each message that does not set its own.
        properties(properties: Properties);
    }

    /// Prepares to publish a message: see [`Publish`].
    pub fn publish<'a>(&'a self, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish(body) }
    }

    /// Prepares to publish a message with another routing key: see [`Publish`].
    pub fn publish_to<'a>(&'a self, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        Publish { core: self.core.publish_to(routing_key, body) }
    }
}
