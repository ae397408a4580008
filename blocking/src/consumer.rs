//! Consumers: iterators over deliveries.

use std::time::Duration;

use hopmq::{Deliveries, Delivery, IntoValue, wait};

use crate::forward::settings;
use crate::next::{Next, next, next_within};
use crate::{Channel, Result};

/// The settings of a consumer, made by [`Channel::consume`](crate::Channel::consume), started by [`Consume::start`].
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let consumer = channel.consume("orders").tag("kitchen").prefetch(10).exclusive().start()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is consumed before start()"]
pub struct Consume<'a> {
    pub(crate) core: hopmq::Consume<'a>,
}

impl<'a> Consume<'a> {
    settings! {
        /// Names the consumer, for the broker's tools; the name must be unique on its channel. By default one is made
        /// up.
        tag(tag: &'a str);
        /// Sets how many unacknowledged deliveries the consumer may hold; 0 means no limit. The default is that of
        /// [`Channel::prefetch`](crate::Channel::prefetch), and 256 where that is not set.
        prefetch(count: u16);
        /// Asks for exclusive use of the queue; fails with 403 if the queue has another consumer.
        exclusive();
        /// Makes messages count as acknowledged when they are sent: fastest, but messages are lost if this program
        /// fails.
        no_ack();
        /// Excludes messages that this connection published. RabbitMQ ignores this.
        no_local();
        /// Sets the priority: consumers of higher priority get messages first (`x-priority`; the default is 0).
        priority(priority: i32);
        /// Adds an argument: `x-stream-offset`, …
        argument(key: &str, value: impl IntoValue);
    }

    /// Starts the consumer.
    ///
    /// # Errors
    /// 404 no such queue, 403 used exclusively or not permitted, and so on: these close the channel.
    pub fn start(self) -> Result<Consumer> {
        wait(self.core.start()).map(|core| Consumer { core })
    }
}

/// An iterator over deliveries, which waits for the next one without limit.
///
/// - After [`Consumer::cancel`], it yields the deliveries that had arrived and ends.
/// - If the broker cancels the consumer because the queue is gone, it yields an error of kind
///   [`ConsumerCancelled`](crate::ErrorKind::ConsumerCancelled) and ends.
/// - If the channel or the connection ends, it yields their error and ends.
///
/// While more than 8 MiB (`receive_limit` of [`Builder`](crate::Builder)) of deliveries wait to be taken, the
/// connection stops reading, so that memory stays bounded. Dropping the consumer cancels it; undelivered messages go
/// back to the queue.
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// for delivery in channel.consume("orders").prefetch(10).start()? {
///     let delivery = delivery?;
///     println!("{}", delivery.text());
///     delivery.ack()?;
/// }
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
pub struct Consumer {
    core: hopmq::Consumer,
}

impl Consumer {
    /// Returns the consumer's tag, the name by which the broker knows it.
    pub fn tag(&self) -> &str {
        self.core.tag()
    }

    /// Asks the broker to stop delivering (`basic.cancel`) and waits for its reply. The iterator still yields the
    /// deliveries that had arrived, then ends.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) if no reply comes in time, or the reason why channel, connection or
    /// consumer have ended.
    pub fn cancel(&self) -> Result<()> {
        wait(self.core.cancel())
    }

    /// Starts a consumer with the settings of this one on `channel`: see [`hopmq::Consumer::restart`].
    ///
    /// # Errors
    /// The errors of [`Consume::start`].
    pub fn restart(&self, channel: &Channel) -> Result<Self> {
        wait(self.core.restart(&channel.core)).map(|core| Self { core })
    }

    /// Waits for the next delivery for up to `limit`: see [`Next`].
    ///
    /// # Errors
    /// The error that the iterator would yield. The next call returns [`Next::Ended`].
    pub fn next_within(&mut self, limit: Duration) -> Result<Next<Delivery>> {
        match next_within(&mut self.core, limit) {
            Next::Item(delivery) => delivery.map(Next::Item),
            Next::Nothing => Ok(Next::Nothing),
            Next::Ended => Ok(Next::Ended),
        }
    }

    /// Returns the next delivery if it has arrived, without waiting.
    ///
    /// # Errors
    /// The errors of [`Consumer::next_within`].
    pub fn next_now(&mut self) -> Result<Next<Delivery>> {
        self.next_within(Duration::ZERO)
    }

    /// Returns an iterator that ends when the consumer has ended, or when no delivery has come for `limit`.
    ///
    /// ```no_run
    /// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
    /// use std::time::Duration;
    ///
    /// let mut consumer = channel.consume("orders").start()?;
    /// for delivery in consumer.iter_within(Duration::from_secs(5)) {
    ///     delivery?.ack()?;
    /// }
    /// println!("no order for five seconds");
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    pub fn iter_within(&mut self, limit: Duration) -> impl Iterator<Item = Result<Delivery>> + use<'_> {
        std::iter::from_fn(move || next_within(&mut self.core, limit).item())
    }
}

impl Consumer {
    /// Turns this into an iterator over batches.
    ///
    /// ```no_run
    /// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
    /// for batch in channel.consume("orders").prefetch(2000).start()?.batches().max_count(1000) {
    ///     let batch = batch?;
    ///     println!("{} orders, the first is {}", batch.len(), batch[0].text());
    ///     batch.ack_all()?;
    /// }
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    pub fn batches(self) -> Batches {
        Batches { core: self.core.batches() }
    }
}

impl Iterator for Consumer {
    type Item = Result<Delivery>;

    #[inline]
    fn next(&mut self) -> Option<Result<Delivery>> {
        next(&mut self.core)
    }
}

/// An iterator over batches of deliveries, made by [`Consumer::batches`], which waits for the next one without limit.
///
/// A batch is whatever has arrived, within the limits; with [`Batches::wait`], the iterator waits for more. It ends as
/// the [`Consumer`] does, after a last batch of what is left. Dropping it cancels the consumer; undelivered messages go
/// back to the queue.
#[derive(Debug)]
#[must_use]
pub struct Batches {
    core: hopmq::Batches,
}

impl Batches {
    settings! {
        /// Sets how many deliveries a batch has at most, at least 1: see [`hopmq::Batches::max_count`].
        max_count(count: usize);
        /// Sets about how many bytes the messages of a batch take at most: see [`hopmq::Batches::max_size`].
        max_size(bytes: usize);
        /// Sets how long a batch may wait for more deliveries after its first, unless it is full before. The default is
        /// not at all.
        wait(time: Duration);
    }

    /// Returns the consumer's tag, the name by which the broker knows it.
    pub fn tag(&self) -> &str {
        self.core.tag()
    }

    /// Asks the broker to stop delivering and waits for its reply: see [`Consumer::cancel`].
    ///
    /// # Errors
    /// The errors of [`Consumer::cancel`].
    pub fn cancel(&self) -> Result<()> {
        wait(self.core.cancel())
    }

    /// Waits for the next batch for up to `limit`: see [`Next`].
    ///
    /// # Errors
    /// The error that the iterator would yield. The next call returns [`Next::Ended`].
    pub fn next_within(&mut self, limit: Duration) -> Result<Next<Deliveries>> {
        match next_within(&mut self.core, limit) {
            Next::Item(batch) => batch.map(Next::Item),
            Next::Nothing => Ok(Next::Nothing),
            Next::Ended => Ok(Next::Ended),
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Deliveries>;

    #[inline]
    fn next(&mut self) -> Option<Result<Deliveries>> {
        next(&mut self.core)
    }
}
