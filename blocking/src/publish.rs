//! Publishing one message: its properties and its confirm.

use std::time::Duration;

use hopmq::{Error, ErrorKind, FieldTable, IntoValue, Properties, wait, wait_within};

use crate::Result;
use crate::forward::settings;

/// A message to publish, made by [`Channel::publish`](crate::Channel::publish) and sent by one of three methods:
///
/// | | returns | for |
/// | --- | --- | --- |
/// | [`send`](Publish::send) | when the message is in the output buffer | messages that may be lost |
/// | [`confirm`](Publish::confirm) | when the broker has confirmed it | messages that must not be lost |
/// | [`confirm_later`](Publish::confirm_later) | when the message is in the output buffer, with a [`Confirm`] to wait for later | many such messages at once |
///
/// All three wait while more than 1 MiB (`high_water_mark` of [`Builder`](crate::Builder)) waits to be written, while
/// the broker blocks publishing, while the channel's flow is stopped, and while the connection reconnects, up to the
/// deadline of the handle. While there is room, `send` and `confirm_later` neither wait nor allocate.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// channel.publish("shop", "order.new", r#"{"id":1}"#).content_type("application/json").persistent().confirm()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is published before it is sent"]
pub struct Publish<'a> {
    pub(crate) core: hopmq::Publish<'a>,
}

impl<'a> Publish<'a> {
    settings! {
        /// Has the broker return the message if no queue takes it: as the error of its confirm, or to
        /// [`Channel::returns`](crate::Channel::returns).
        mandatory();
        /// Marks the message as persistent: the broker writes it to disk, if its queue is durable.
        persistent();
        /// Sets the MIME type of the body.
        content_type(value: &str);
        /// Sets the MIME encoding of the body: `gzip`, …
        content_encoding(value: &str);
        /// Adds a header, which consumers read with `Delivery::headers`.
        header(key: &str, value: impl IntoValue);
        /// Sets all headers, in place of those set before.
        headers(headers: &FieldTable);
        /// Sets the priority for a priority queue: 0 to 255; the queue caps it at the maximum it was declared with.
        priority(value: u8);
        /// Sets the correlation ID, which tells to which request a reply belongs.
        correlation_id(value: &str);
        /// Sets the queue to send replies to.
        reply_to(value: &str);
        /// Sets how long the message may wait in a queue, in whole milliseconds.
        expiration(value: Duration);
        /// Sets the application's identifier of the message.
        message_id(value: &str);
        /// Sets when the message was made, in seconds since 1970.
        timestamp(seconds: u64);
        /// Sets the application's kind of message (the property `type`).
        kind(value: &str);
        /// Sets the publishing user. RabbitMQ refuses any but the one that is logged in (406).
        user_id(value: &str);
        /// Sets the publishing application.
        app_id(value: &str);
    }

    /// Sets all properties at once, in place of those set before. Nothing is copied, so that prepared properties can be
    /// used for many messages.
    #[inline]
    pub fn properties<B: AsRef<[u8]>>(mut self, properties: &'a Properties<B>) -> Self {
        self.core = self.core.properties(properties);
        self
    }

    /// Sends the message without asking for a confirm.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if route or properties can't be encoded, [`Timeout`](ErrorKind::Timeout) if there
    /// was no room in time, or the reason why channel or connection are closed.
    #[inline]
    pub fn send(self) -> Result<()> {
        wait(self.core.send())
    }

    /// Sends the message and waits until the broker has confirmed it: the message is in its queues, and on disk if the
    /// message is persistent and the queues are durable.
    ///
    /// The call waits for up to the `confirm_timeout` of [`Builder`](crate::Builder) (60 seconds), or for as long as
    /// [`Channel::within`](crate::Channel::within) says.
    ///
    /// # Errors
    /// The errors of [`Publish::send`]; [`Nacked`](ErrorKind::Nacked) if the broker could not store the message;
    /// [`Returned`](ErrorKind::Returned) if the message was mandatory and no queue took it; [`Usage`](ErrorKind::Usage)
    /// in a transaction. After [`Timeout`](ErrorKind::Timeout), or the error of a channel or connection that ended
    /// before the confirm came, the message may or may not have been stored.
    pub fn confirm(self) -> Result<()> {
        wait(self.core.confirm())
    }

    /// Sends the message, and returns its [`Confirm`] to wait for later, so that many messages are in flight at once.
    ///
    /// # Errors
    /// The errors of [`Publish::send`]; the broker's answer is the result of the [`Confirm`].
    #[inline]
    pub fn confirm_later(self) -> Result<Confirm> {
        wait(self.core.confirm_later()).map(|core| Confirm { core, outcome: None })
    }
}

/// The broker's confirm of one publish, still to be waited for.
///
/// Confirms may be waited for in any order. A message whose confirm is dropped is sent nevertheless.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let mut confirms = Vec::new();
/// for id in 0..1000 {
///     confirms.push(channel.publish("", "orders", format!("order {id}")).confirm_later()?);
/// }
/// for confirm in confirms {
///     confirm.wait()?;
/// }
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "whether the broker has the message is not known unless this is waited for"]
pub struct Confirm {
    core: hopmq::Confirm,
    /// The broker's answer, once it is known.
    outcome: Option<Result<()>>,
}

impl Confirm {
    /// Waits until the broker has confirmed the message, for up to the `confirm_timeout` of
    /// [`Builder`](crate::Builder) (60 seconds), or for as long as [`Channel::within`](crate::Channel::within) says.
    ///
    /// # Errors
    /// The errors of [`Publish::confirm`].
    pub fn wait(self) -> Result<()> {
        match self.outcome {
            Some(outcome) => outcome,
            None => wait(self.core),
        }
    }

    /// Waits for the confirm for up to `limit`. After a [`Timeout`](ErrorKind::Timeout) it may be called again, until
    /// the time of [`Confirm::wait`] is over.
    ///
    /// ```no_run
    /// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
    /// use std::time::Duration;
    ///
    /// let mut confirm = channel.publish("", "orders", "an order").confirm_later()?;
    /// while let Err(error) = confirm.wait_timeout(Duration::from_secs(1)) {
    ///     if !error.is_timeout() {
    ///         return Err(error);
    ///     }
    ///     println!("still waiting");
    /// }
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Publish::confirm`].
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<()> {
        if self.outcome.is_none() {
            self.outcome = wait_within(&mut self.core, limit);
        }
        self.outcome.clone().unwrap_or_else(|| Err(unconfirmed(limit)))
    }
}

fn unconfirmed(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("the broker did not confirm the message within {limit:?}"))
}
