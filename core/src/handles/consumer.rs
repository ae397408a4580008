//! Consumers: streams of deliveries.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;
use hopmq_proto::{FieldTable, IntoValue};

use crate::handles::batches::Batches;
use crate::handles::channel::{Channel, ChannelCore};
use crate::state::keys::ConsumerKey;
use crate::state::{ConsumerEnd, ConsumerSettings, Queued, Requested, Stock, Taken};
use crate::{Delivery, Request, Result};

/// The settings of a consumer: created by [`Channel::consume`], started by [`Consume::start`] or by awaiting it.
#[derive(Debug)]
#[must_use = "nothing is consumed before it is started or awaited"]
pub struct Consume<'a> {
    channel: &'a Channel,
    queue: &'a str,
    tag: Option<&'a str>,
    prefetch: Option<u16>,
    exclusive: bool,
    no_ack: bool,
    no_local: bool,
    arguments: FieldTable,
}

impl<'a> Consume<'a> {
    pub(crate) fn new(channel: &'a Channel, queue: &'a str) -> Self {
        Self {
            channel,
            queue,
            tag: None,
            prefetch: None,
            exclusive: false,
            no_ack: false,
            no_local: false,
            arguments: FieldTable::new(),
        }
    }

    /// Sets the consumer's tag, which the broker shows in its tools and which must be unique on the channel. The
    /// default is a generated tag.
    pub fn tag(mut self, tag: &'a str) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Sets how many unacknowledged deliveries the consumer may hold; 0 means no limit. The default is that of
    /// [`Channel::prefetch`], or 256 if that is not set. See RabbitMQ's page [Consumer
    /// Prefetch](https://www.rabbitmq.com/docs/consumer-prefetch).
    pub fn prefetch(mut self, count: u16) -> Self {
        self.prefetch = Some(count);
        self
    }

    /// Makes this the only consumer of the queue. Starting fails with 403 if the queue has another consumer.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Lets the broker consider messages acknowledged as soon as they are sent. This is fastest, but messages are lost
    /// when this program fails.
    pub fn no_ack(mut self) -> Self {
        self.no_ack = true;
        self
    }

    /// Excludes messages that this connection published itself. RabbitMQ ignores this setting.
    pub fn no_local(mut self) -> Self {
        self.no_local = true;
        self
    }

    /// Sets the priority (`x-priority`; default 0). Consumers of higher priority get messages first.
    pub fn priority(self, priority: i32) -> Self {
        self.argument("x-priority", priority)
    }

    /// Adds a consumer argument, such as `x-stream-offset`.
    pub fn argument(mut self, key: &str, value: impl IntoValue) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Starts the consumer, as awaiting the settings does.
    ///
    /// # Errors
    /// 404 if the queue does not exist, 403 if it is exclusive or the user may not read it, and so on. The broker then
    /// closes the channel.
    pub fn start(self) -> Request<Consumer> {
        let core = Arc::clone(self.channel.core());
        let stock = Arc::<Stock>::default();
        let no_ack = self.no_ack;
        let timeout = self.channel.timeout();
        let settings = ConsumerSettings {
            queue: self.queue,
            tag: self.tag,
            no_ack,
            no_local: self.no_local,
            exclusive: self.exclusive,
            arguments: self.arguments,
            prefetch: self.prefetch,
        };
        let requested = core.shared().start_consumer(&core.id, settings, &stock, self.channel.deadline());
        let (sent, key, tag) = match requested {
            Ok(Requested { request, consumer, tag }) => (Ok(request), consumer, tag),
            Err(error) => (Err(error), ConsumerKey::default(), "".into()),
        };
        let shared = Arc::clone(core.shared());
        Request::new(&shared, sent, move |_| {
            let taken = Taken::new(core.id.end.epoch());
            Ok(Consumer { channel: core, key, tag, no_ack, timeout, taken, stock, ended: false })
        })
    }
}

impl<'a> IntoFuture for Consume<'a> {
    type Output = Result<Consumer>;
    type IntoFuture = Request<Consumer>;

    fn into_future(self) -> Request<Consumer> {
        self.start()
    }
}

/// A stream of deliveries.
///
/// - After [`Consumer::cancel`], it yields the remaining deliveries and ends.
/// - If the broker cancels the consumer because its queue was deleted, it yields an error of kind
///   [`ConsumerCancelled`](crate::ErrorKind::ConsumerCancelled) and ends.
/// - If channel or connection end, it yields their error and ends.
///
/// While consumers leave more than 8 MiB of messages untaken (`receive_limit` of [`Builder`](crate::Builder)), the
/// connection stops reading, so a slow consumer does not exhaust the memory. Dropping the consumer cancels it, and
/// undelivered messages go back to the queue. Dropping the future of `next` loses no delivery.
pub struct Consumer {
    pub(super) channel: Arc<ChannelCore>,
    key: ConsumerKey,
    tag: Arc<str>,
    pub(super) no_ack: bool,
    timeout: Option<Duration>,
    /// Deliveries that were taken out of the shared state, so that yielding them needs no lock.
    pub(super) taken: Taken,
    /// The number of deliveries left in `taken`, for a shutdown.
    pub(super) stock: Arc<Stock>,
    ended: bool,
}

impl Consumer {
    /// Returns the consumer tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Cancels the consumer (`basic.cancel`, AMQP 0-9-1 section 1.8.3.5). Earlier deliveries can still be taken; then
    /// the stream ends.
    pub fn cancel(&self) -> Request<()> {
        let deadline = self.channel.shared().deadline(self.timeout);
        let sent = self.channel.shared().cancel_consumer(&self.channel.id, self.key, deadline);
        Request::plain(self.channel.shared(), sent)
    }

    /// Starts a consumer with the same settings on `channel`, for example on a [reopened](Channel::reopen) one after
    /// the broker closed the channel of this consumer.
    ///
    /// # Errors
    /// The errors of [`Consume::start`].
    pub fn restart(&self, channel: &Channel) -> Request<Consumer> {
        let Some(start) = self.channel.shared().consumer_start(self.key) else {
            return Consume { no_ack: self.no_ack, ..Consume::new(channel, "").tag(&self.tag) }.start();
        };
        Consume {
            channel,
            queue: &start.queue,
            tag: Some(&self.tag),
            prefetch: start.prefetch,
            exclusive: start.exclusive,
            no_ack: self.no_ack,
            no_local: start.no_local,
            arguments: start.arguments,
        }
        .start()
    }

    #[inline]
    fn wrap(&mut self, delivery: Queued) -> Delivery {
        let resumed = std::mem::take(&mut self.taken.resumed);
        Delivery::new(delivery.message, &self.channel, delivery.tag, self.taken.epoch, self.no_ack).mark(resumed)
    }

    /// Turns this into a stream of batches.
    ///
    /// ```no_run
    /// # async fn example(queue: hopmq::Queue) -> hopmq::Result<()> {
    /// use futures_lite::StreamExt;
    ///
    /// let mut batches = queue.consume().prefetch(2000).await?.batches().max_count(1000);
    /// while let Some(batch) = batches.try_next().await? {
    ///     println!("{} orders, the first is {}", batch.len(), batch[0].text());
    ///     batch.ack_all()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn batches(self) -> Batches {
        Batches::new(self)
    }

    /// Returns how many unacknowledged deliveries the consumer may hold.
    pub(super) fn prefetch(&self) -> usize {
        self.channel.shared().consumer_prefetch(self.key)
    }

    /// Drops what the handle has taken if the link that brought it is lost: the broker redelivers it.
    pub(super) fn drop_stale(&mut self) -> bool {
        let stale = !self.no_ack && self.taken.epoch != self.channel.id.end.epoch();
        if stale {
            self.taken.clear();
            self.stock.set(0);
        }
        stale
    }

    /// Returns undelivered messages to the queue because the connection shuts down.
    #[cold]
    pub(super) fn requeue_taken(&mut self) {
        let untaken = std::mem::take(&mut self.taken.queue);
        self.channel.shared().requeue_taken(&self.channel.id, self.taken.epoch, &untaken);
        self.stock.set(0);
    }

    /// Takes the deliveries that have arrived, or reports how the consumer ended.
    pub(super) fn refill(&mut self, waker: &Waker) -> Poll<Option<ConsumerEnd>> {
        let shared = self.channel.shared();
        let polled = shared.poll_deliveries(&self.channel.id, self.key, &mut self.taken, waker);
        self.stock.set(self.taken.queue.len());
        polled
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        loop {
            if let Some(delivery) = self.taken.queue.pop_front() {
                if self.drop_stale() {
                    continue;
                }
                if !self.stock.note_yield(self.taken.queue.len()) {
                    self.taken.queue.push_front(delivery);
                    self.requeue_taken();
                    continue;
                }
                return Poll::Ready(Some(Ok(self.wrap(delivery))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.refill(context.waker()) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(end)) => {
                    self.ended = true;
                    return Poll::Ready(match end {
                        ConsumerEnd::Cancelled => None,
                        ConsumerEnd::Failed(error) => Some(Err(error)),
                    });
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.channel.shared().drop_consumer(&self.channel.id, self.key, &mut self.taken);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("tag", &self.tag).finish_non_exhaustive()
    }
}
