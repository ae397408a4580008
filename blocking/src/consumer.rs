//! Consumers: iterators of deliveries.

use std::time::Duration;

use hopmq::{Delivery, Value};

use crate::forward::settings;
use crate::next::{Next, next, next_within};
use crate::wait::wait;
use crate::{Channel, Result};

/// A consumer to be: made by [`Channel::consume`](crate::Channel::consume), started by [`Consume::start`].
///
/// ```no_run
/// # let channel = hopmq_blocking::Connection::open("amqp://localhost")?.channel()?;
/// let consumer = channel.consume("orders").tag("kitchen").prefetch(10).exclusive().start()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is consumed before it is started"]
pub struct Consume<'a> {
    pub(crate) core: hopmq::Consume<'a>,
}

impl<'a> Consume<'a> {
    settings! {
        /// Names the consumer, for the broker's tools; unique on its channel. Without it, a name is made.
        tag(tag: &'a str);
        /// How many deliveries it may hold unacknowledged; 0 is without limit. The default is that of
        /// [`Channel::prefetch`](crate::Channel::prefetch), and 256 where that is not set.
        prefetch(count: u16);
        /// Lets nobody else consume from the queue; fails with 403 if somebody does.
        exclusive();
        /// Takes messages as acknowledged when they are sent: fastest, and lossy when this program fails.
        no_ack();
        /// Asks for no messages that this connection published itself. RabbitMQ ignores it.
        no_local();
        /// Consumers of higher priority get messages first (`x-priority`; the default is 0).
        priority(priority: i32);
        /// Adds an argument of the broker's: `x-stream-offset`, …
        argument<'v>(key: &str, value: impl Into<Value<'v>>);
    }

    /// Starts it.
    ///
    /// # Errors
    /// 404 no such queue, 403 exclusively used or not permitted, and so on: they close the channel.
    pub fn start(self) -> Result<Consumer> {
        wait(self.core.start()).map(|core| Consumer { core })
    }
}

/// An iterator of deliveries, which waits for the next one as long as it takes.
///
/// - After [`Consumer::cancel`], it yields what was delivered and ends.
/// - If the broker cancels it because the queue is gone, it yields an error of kind
///   [`ConsumerCancelled`](crate::ErrorKind::ConsumerCancelled) and ends.
/// - If channel or connection end, it yields their error and ends.
///
/// A consumer that takes nothing makes its connection stop reading when it holds 8 MiB
/// (`receive_limit` of [`Builder`](crate::Builder)), instead of filling the memory. Dropping it cancels it; what it has
/// not handed out goes back to the queue.
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
    /// The name that the broker knows it by.
    pub fn tag(&self) -> &str {
        self.core.tag()
    }

    /// Asks the broker to stop (`basic.cancel`), and waits for its answer. What was delivered before can still be
    /// taken; then the iterator ends.
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) if the answer does not come in time, or why channel, connection or
    /// consumer have ended.
    pub fn cancel(&self) -> Result<()> {
        wait(self.core.cancel())
    }

    /// Starts another consumer like this one on `channel`: see [`hopmq::Consumer::restart`].
    ///
    /// # Errors
    /// Those of [`Consume::start`].
    pub fn restart(&self, channel: &Channel) -> Result<Self> {
        wait(self.core.restart(&channel.core)).map(|core| Self { core })
    }

    /// Waits for the next delivery for up to `limit`: see [`Next`].
    ///
    /// # Errors
    /// Where the iterator would yield one. After it: [`Next::Ended`].
    pub fn next_within(&mut self, limit: Duration) -> Result<Next<Delivery>> {
        match next_within(&mut self.core, limit) {
            Next::Item(delivery) => delivery.map(Next::Item),
            Next::Nothing => Ok(Next::Nothing),
            Next::Ended => Ok(Next::Ended),
        }
    }

    /// The next delivery if it is there already.
    ///
    /// # Errors
    /// As for [`Consumer::next_within`].
    pub fn next_now(&mut self) -> Result<Next<Delivery>> {
        self.next_within(Duration::ZERO)
    }

    /// An iterator that ends when the consumer has ended, or when nothing has come for `limit`.
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

impl Iterator for Consumer {
    type Item = Result<Delivery>;

    #[inline]
    fn next(&mut self) -> Option<Result<Delivery>> {
        next(&mut self.core)
    }
}
