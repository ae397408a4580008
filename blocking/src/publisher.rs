//! A handle that publishes to one exchange and routing key.

use hopmq::{Body, Properties, PublishManyError, wait};

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

    /// Prepares to publish a message for each body of an iterator: see [`PublishMany`].
    pub fn publish_many<'a, I>(&'a self, bodies: I) -> PublishMany<'a, I::IntoIter>
    where
        I: IntoIterator<Item: Into<Body<'a>>>,
    {
        PublishMany { core: self.core.publish_many(bodies) }
    }
}

/// Messages to publish, one for each body of an iterator, made by [`Publisher::publish_many`] and sent by one of three
/// methods, which are those of [`Publish`]. It costs less than one call for each message.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let orders = channel.publisher("", "orders").persistent();
/// orders.publish_many(["soup", "bread", "tea"]).confirm()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is published before it is sent"]
pub struct PublishMany<'a, I> {
    core: hopmq::PublishMany<'a, I>,
}

impl<'a, I> PublishMany<'a, I>
where
    I: Iterator<Item: Into<Body<'a>>>,
{
    /// Sends the messages without asking for confirms. Returns their number.
    ///
    /// # Errors
    /// The errors of [`Publish::send`], for the first message that can't be sent. [`PublishManyError::sent`] says how
    /// many messages were sent before it; none is after it.
    pub fn send(self) -> Result<usize, PublishManyError> {
        wait(self.core.send())
    }

    /// Sends the messages and waits until the broker has confirmed all: see [`Publish::confirm`].
    ///
    /// # Errors
    /// [`PublishManyError`] if a message could not be sent, or the broker did not confirm it. The error names each such
    /// message and its reason; all others that were sent are confirmed.
    pub fn confirm(self) -> Result<(), PublishManyError> {
        wait(self.core.confirm())
    }

    /// Sends the messages, and returns their [`Confirms`] to wait for later, so that many batches are in flight at
    /// once.
    ///
    /// # Errors
    /// The errors of [`PublishMany::send`]; the broker's answers are the result of the [`Confirms`].
    pub fn confirm_later(self) -> Result<Confirms, PublishManyError> {
        wait(self.core.confirm_later()).map(|core| Confirms { core })
    }
}

/// The broker's confirms of many publishes, still to be waited for. The messages are sent also if it is dropped.
#[derive(Debug)]
#[must_use = "whether the broker has the messages is not known unless this is waited for"]
pub struct Confirms {
    core: hopmq::Confirms,
}

impl Confirms {
    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.core.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.core.is_empty()
    }

    /// Waits until the broker has confirmed all messages, for as long as [`Confirm::wait`](crate::Confirm::wait) does.
    ///
    /// # Errors
    /// [`PublishManyError`], which names each message that was not confirmed and its reason.
    pub fn wait(self) -> Result<(), PublishManyError> {
        wait(self.core)
    }
}
