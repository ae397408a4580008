//! A cloneable handle that publishes to one place.

use std::sync::Arc;

use hopmq_proto::{Body, Properties};

use crate::{Channel, Publish};

/// A cloneable handle that publishes to one exchange with one routing key and shared properties: created by
/// [`Channel::publisher`].
///
/// Clones publish on the same channel, from any task and thread, and their messages are batched into the same writes.
/// The handle stays usable when the connection reconnects.
///
/// ```no_run
/// # #[cfg(feature = "net")]
/// # async fn example(connection: hopmq::Connection) -> hopmq::Result<()> {
/// let orders = connection.channel().await?.publisher("", "orders").persistent();
/// for shop in 0..4 {
///     let orders = orders.clone();
///     std::thread::spawn(move || {
///         futures_lite::future::block_on(orders.publish(format!("an order of shop {shop}")).confirm())
///     });
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Publisher {
    channel: Channel,
    exchange: Arc<str>,
    routing_key: Arc<str>,
    mandatory: bool,
    properties: Arc<Properties>,
}

impl Publisher {
    pub(crate) fn new(channel: Channel, exchange: &str, routing_key: &str) -> Self {
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        Self { channel, exchange, routing_key, mandatory: false, properties: Arc::default() }
    }

    /// Makes the broker return messages that no queue takes: see [`Publish::mandatory`].
    #[must_use]
    pub fn mandatory(mut self) -> Self {
        self.mandatory = true;
        self
    }

    /// Makes the broker write each message to disk, if its queue is durable.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        let properties = Arc::unwrap_or_clone(self.properties).with_persistent();
        self.properties = Arc::new(properties);
        self
    }

    /// Sets the properties of each message that sets none of its own.
    #[must_use]
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = Arc::new(properties);
        self
    }

    /// Returns the channel that the messages are published on.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Publishes a message: see [`Publish`].
    #[inline]
    pub fn publish<'a>(&'a self, body: impl Into<Body<'a>>) -> Publish<'a> {
        self.publish_to(&self.routing_key, body)
    }

    /// Publishes a message with another routing key: see [`Publish`].
    #[inline]
    pub fn publish_to<'a>(&'a self, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        let publish = self.channel.publish(&self.exchange, routing_key, body).properties(&self.properties);
        if self.mandatory { publish.mandatory() } else { publish }
    }
}
