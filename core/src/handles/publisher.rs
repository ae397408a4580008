//! A cloneable handle that publishes to one place.

use std::sync::Arc;

use hopmq_proto::{Body, Prepared, Properties, Route};

use crate::handles::publish_many::PublishMany;
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
///
/// Exchange, routing key and properties are encoded once, so this publishes faster than [`Channel::publish`].
#[derive(Clone, Debug)]
pub struct Publisher {
    channel: Channel,
    exchange: Arc<str>,
    routing_key: Arc<str>,
    mandatory: bool,
    properties: Arc<Properties>,
    /// All of these, encoded once; `None` if they can't be encoded, which each publish then says.
    prepared: Option<Arc<Prepared>>,
}

impl Publisher {
    pub(crate) fn new(channel: Channel, exchange: &str, routing_key: &str) -> Self {
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        let properties = Arc::default();
        Self { channel, exchange, routing_key, mandatory: false, properties, prepared: None }.prepare()
    }

    fn prepare(mut self) -> Self {
        let route = Route { exchange: &self.exchange, routing_key: &self.routing_key, mandatory: self.mandatory };
        self.prepared = Prepared::new(route, self.properties.as_ref_properties()).ok().map(Arc::new);
        self
    }

    /// Makes the broker return messages that no queue takes: see [`Publish::mandatory`].
    #[must_use]
    pub fn mandatory(mut self) -> Self {
        self.mandatory = true;
        self.prepare()
    }

    /// Makes the broker write each message to disk, if its queue is durable.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        let properties = Arc::unwrap_or_clone(self.properties).with_persistent();
        self.properties = Arc::new(properties);
        self.prepare()
    }

    /// Sets the properties of each message that sets none of its own.
    #[must_use]
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = Arc::new(properties);
        self.prepare()
    }

    /// Returns the channel that the messages are published on.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns what the messages have in common.
    pub(crate) fn parts(&self) -> (Route<'_>, Properties<&[u8]>, Option<&Arc<Prepared>>) {
        let route = Route { exchange: &self.exchange, routing_key: &self.routing_key, mandatory: self.mandatory };
        (route, self.properties.as_ref_properties(), self.prepared.as_ref())
    }

    /// Publishes a message: see [`Publish`].
    #[inline]
    pub fn publish<'a>(&'a self, body: impl Into<Body<'a>>) -> Publish<'a> {
        let publish = self.publish_to(&self.routing_key, body);
        match &self.prepared {
            Some(prepared) => publish.encoded_as(prepared),
            None => publish,
        }
    }

    /// Publishes a message for each body of an iterator: see [`PublishMany`].
    ///
    /// ```no_run
    /// # async fn example(orders: hopmq::Publisher, lines: Vec<String>) -> hopmq::Result<()> {
    /// orders.publish_many(&lines).confirm().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_many<'a, I>(&'a self, bodies: I) -> PublishMany<'a, I::IntoIter>
    where
        I: IntoIterator<Item: Into<Body<'a>>>,
    {
        PublishMany::new(self, bodies.into_iter())
    }

    /// Publishes a message with another routing key: see [`Publish`].
    #[inline]
    pub fn publish_to<'a>(&'a self, routing_key: &'a str, body: impl Into<Body<'a>>) -> Publish<'a> {
        let publish = self.channel.publish(&self.exchange, routing_key, body).properties(&self.properties);
        if self.mandatory { publish.mandatory() } else { publish }
    }
}
