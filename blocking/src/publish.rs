//! Publishing: one message, its properties, and what is to be known of its fate.

use std::time::Duration;

use hopmq::{Error, ErrorKind, FieldTable, Properties, Value};

use crate::Result;
use crate::forward::settings;
use crate::wait::{wait, wait_within};

/// A message to publish: made by [`Channel::publish`](crate::Channel::publish), sent by one of its last three methods.
///
/// | | returns | for |
/// | --- | --- | --- |
/// | [`send`](Publish::send) | when the message is taken into the output buffer | messages that may be lost |
/// | [`confirm`](Publish::confirm) | when the broker has taken care of it | messages that may not |
/// | [`confirm_later`](Publish::confirm_later) | when it is taken into the output buffer, with a [`Confirm`] to wait for later | the same, many at once |
///
/// All of them wait while more than 1 MiB (`high_water_mark` of [`Builder`](crate::Builder)) waits to be written, while
/// the broker blocks publishing, and while the channel's flow is stopped, up to the deadline of the handle. While there
/// is room, `send` and `confirm_later` neither wait nor allocate.
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
        /// Has the message come back if no queue takes it: as the error of its confirm, or to
        /// [`Channel::returns`](crate::Channel::returns).
        mandatory();
        /// Has the broker write the message to disk, if its queue is durable.
        persistent();
        /// The MIME type of the body.
        content_type(value: &str);
        /// The MIME encoding of the body: `gzip`, …
        content_encoding(value: &str);
        /// Adds a header.
        header<'v>(key: &str, value: impl Into<Value<'v>>);
        /// Sets the headers.
        headers(headers: &FieldTable);
        /// The priority in a priority queue: 0 to 255, of which a queue knows as many as it was declared with.
        priority(value: u8);
        /// What a reply belongs to.
        correlation_id(value: &str);
        /// The queue to send replies to.
        reply_to(value: &str);
        /// How long the message may wait in a queue, in whole milliseconds.
        expiration(value: Duration);
        /// The application's name for the message.
        message_id(value: &str);
        /// When it was made, in seconds since 1970.
        timestamp(seconds: u64);
        /// The application's name for the kind of message (the property `type`).
        kind(value: &str);
        /// The publishing user. RabbitMQ refuses any but the one that is logged in (406).
        user_id(value: &str);
        /// The publishing application.
        app_id(value: &str);
    }

    /// Sets all properties at once, in place of those set before. Nothing is copied: prepare them once, use them often.
    #[inline]
    pub fn properties<B: AsRef<[u8]>>(mut self, properties: &'a Properties<B>) -> Self {
        self.core = self.core.properties(properties);
        self
    }

    /// Sends the message, and knows nothing of its fate.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if route or properties can't be encoded, [`Timeout`](ErrorKind::Timeout) if there
    /// was no room in time, or why channel or connection are closed.
    #[inline]
    pub fn send(self) -> Result<()> {
        wait(self.core.send())
    }

    /// Sends the message and waits until the broker has taken care of it: it is in its queues, and on disk if it and
    /// they are durable.
    ///
    /// It waits for up to the `confirm_timeout` of [`Builder`](crate::Builder) (60 seconds), or for as long as
    /// [`Channel::within`](crate::Channel::within) says.
    ///
    /// # Errors
    /// As for [`Publish::send`], and [`Nacked`](ErrorKind::Nacked) if the broker could not,
    /// [`Returned`](ErrorKind::Returned) if the message was mandatory and no queue took it. If the time is over, with
    /// [`Timeout`](ErrorKind::Timeout), or if channel or connection end before the confirm has come, with their error:
    /// the broker may have the message or not. In a transaction: [`Usage`](ErrorKind::Usage).
    pub fn confirm(self) -> Result<()> {
        wait(self.core.confirm())
    }

    /// Sends the message, and returns its [`Confirm`] to wait for later, so that many are under way at once.
    ///
    /// # Errors
    /// As for [`Publish::send`]; those of the broker's answer are the [`Confirm`]'s.
    #[inline]
    pub fn confirm_later(self) -> Result<Confirm> {
        wait(self.core.confirm_later()).map(|core| Confirm { core, outcome: None })
    }
}

/// The broker's answer to one publish, to be waited for.
///
/// It can be waited for in any order with others, or never: then the message is sent all the same.
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
    /// Waits until the broker has taken care of the message, for up to the `confirm_timeout` of
    /// [`Builder`](crate::Builder) (60 seconds), or for as long as [`Channel::within`](crate::Channel::within) says.
    ///
    /// # Errors
    /// Those of [`Publish::confirm`].
    pub fn wait(self) -> Result<()> {
        match self.outcome {
            Some(outcome) => outcome,
            None => wait(self.core),
        }
    }

    /// The same for up to `limit`. After a [`Timeout`](ErrorKind::Timeout) it can be asked again, until the time of
    /// [`Confirm::wait`] is over.
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
    /// Those of [`Publish::confirm`].
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
