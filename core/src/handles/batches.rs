//! Deliveries in batches.
//!
//! Owns the limits of the batches, and the alarm that ends the wait for more. In come the deliveries of a consumer; out
//! go batches, whose messages are read without a lock and settled together under one. It must never settle a delivery
//! that is not in the batch.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::fmt;
use std::ops::{Deref, Index};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::Stream;

use crate::handles::channel::ChannelCore;
use crate::handles::consumer::Consumer;
use crate::handles::delivery::{Delivery, Settled};
use crate::message::Message;
use crate::state::keys::RequestKey;
use crate::state::{ConsumerEnd, Queued};
#[cfg(doc)]
use crate::{Consume, ErrorKind};
use crate::{Request, Result};

/// A stream of batches of deliveries: created by [`Consumer::batches`].
///
/// A batch is whatever has arrived, within the limits; with [`Batches::wait`], the stream waits for more. It ends as
/// the [`Consumer`] does, after a last batch of what is left. Dropping it cancels the consumer, and undelivered
/// messages go back to the queue. Dropping the future of `next` loses no delivery.
///
/// The program holds the batches that it keeps, each of at most [`max_size`](Self::max_size) bytes, and the connection
/// up to `receive_limit` bytes of what comes next.
pub struct Batches {
    consumer: Consumer,
    max_count: usize,
    max_size: usize,
    /// How many deliveries can arrive before earlier ones are settled.
    prefetch: usize,
    wait: Duration,
    /// Stands for the end of the wait for more, while a batch is gathered.
    alarm: Option<RequestKey>,
    /// How the consumer ended, while the last batch is yielded.
    end: Option<ConsumerEnd>,
    ended: bool,
}

impl Batches {
    pub(crate) fn new(consumer: Consumer) -> Self {
        let max_size = consumer.channel.shared().limits.receive_limit;
        let prefetch = consumer.prefetch();
        let wait = Duration::ZERO;
        Self { consumer, max_count: usize::MAX, max_size, prefetch, wait, alarm: None, end: None, ended: false }
    }

    /// Sets how many deliveries a batch has at most, at least 1. The default is no limit but the prefetch: RabbitMQ
    /// sends no more than that before earlier deliveries are settled, so set [`Consume::prefetch`] to twice this number
    /// or more.
    #[must_use]
    pub fn max_count(mut self, count: usize) -> Self {
        self.max_count = count.max(1);
        self
    }

    /// Sets about how many bytes the messages of a batch take at most, unless a single one takes more. The default, and
    /// the most, is the `receive_limit` of [`Builder`](crate::Builder), 8 MiB.
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes.min(self.consumer.channel.shared().limits.receive_limit);
        self
    }

    /// Sets how long a batch may wait for more deliveries after its first, unless it is full before. The default is not
    /// at all.
    #[must_use]
    pub fn wait(mut self, time: Duration) -> Self {
        self.wait = time;
        self
    }

    /// Returns the consumer tag.
    pub fn tag(&self) -> &str {
        self.consumer.tag()
    }

    /// Cancels the consumer: see [`Consumer::cancel`]. Earlier deliveries can still be taken; then the stream ends.
    pub fn cancel(&self) -> Request<()> {
        self.consumer.cancel()
    }

    fn is_full(&self) -> bool {
        let taken = &self.consumer.taken;
        taken.queue.len() >= self.max_count.min(self.prefetch) || taken.queue_cost() >= self.max_size
    }

    /// Whether the wait for more is over. It begins with the first call.
    fn is_due(&mut self, context: &mut Context<'_>) -> bool {
        if self.wait.is_zero() {
            return true;
        }
        let core = &self.consumer.channel;
        let shared = core.shared();
        let wait = self.wait;
        let alarm = *self.alarm.get_or_insert_with(|| shared.set_alarm(&core.id, shared.clock.now() + wait));
        // The end of the channel ends the wait too.
        shared.poll_request(alarm, context.waker()).is_ready()
    }

    fn disarm(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            self.consumer.channel.shared().abandon(alarm);
        }
    }

    /// Takes a batch out of what has arrived; `None` if a shutdown returns it to the queue.
    fn take(&mut self) -> Option<Deliveries> {
        self.disarm();
        let taken = &mut self.consumer.taken;
        let mut queue = taken.split(self.max_count, self.max_size);
        if !self.consumer.stock.note_yield(taken.queue.len()) {
            queue.append(&mut taken.queue);
            taken.queue = queue;
            self.consumer.requeue_taken();
            return None;
        }
        let (epoch, resumed) = (taken.epoch, std::mem::take(&mut taken.resumed));
        let Consumer { channel, no_ack, .. } = &self.consumer;
        Some(Deliveries { channel: Arc::clone(channel), queue, epoch, no_ack: *no_ack, resumed })
    }
}

impl Stream for Batches {
    type Item = Result<Deliveries>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Deliveries>>> {
        let this = &mut *self;
        loop {
            if this.consumer.drop_stale() {
                this.disarm();
            }
            if !this.consumer.taken.queue.is_empty()
                && (this.is_full() || this.wait.is_zero() || this.end.is_some())
                && let Some(batch) = this.take()
            {
                return Poll::Ready(Some(Ok(batch)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            if let Some(end) = this.end.take() {
                this.ended = true;
                return Poll::Ready(match end {
                    ConsumerEnd::Cancelled => None,
                    ConsumerEnd::Failed(error) => Some(Err(error)),
                });
            }
            match this.consumer.refill(context.waker()) {
                Poll::Ready(None) => {}
                Poll::Ready(Some(end)) => this.end = Some(end),
                Poll::Pending if this.consumer.taken.queue.is_empty() => return Poll::Pending,
                Poll::Pending => match this.is_due(context).then(|| this.take()).flatten() {
                    Some(batch) => return Poll::Ready(Some(Ok(batch))),
                    None => return Poll::Pending,
                },
            }
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("consumer", &self.consumer).finish_non_exhaustive()
    }
}

/// Deliveries of one consumer, in their order: a batch of [`Batches`], never empty when it comes from there.
///
/// Reading them takes no lock and copies nothing. Settle all at once, the first ones, or, by iterating over the batch
/// itself, each on its own:
///
/// ```no_run
/// # fn is_paid(order: &hopmq::Message) -> bool { true }
/// # fn example(batch: hopmq::Deliveries) -> hopmq::Result<()> {
/// for delivery in batch {
///     match is_paid(&delivery) {
///         true => delivery.ack()?,
///         false => delivery.nack(true)?,
///     };
/// }
/// # Ok(())
/// # }
/// ```
///
/// Dropping a batch settles nothing: the broker keeps its messages unacknowledged until the channel closes.
#[must_use = "deliveries that are neither acked nor rejected stay with this channel until it closes"]
pub struct Deliveries {
    channel: Arc<ChannelCore>,
    queue: VecDeque<Queued>,
    /// The epoch of the channel when the messages were delivered.
    epoch: u32,
    no_ack: bool,
    resumed: bool,
}

impl Deliveries {
    /// Returns the number of deliveries.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns a delivery by its index.
    pub fn get(&self, index: usize) -> Option<DeliveryRef<'_>> {
        self.queue.get(index).map(|queued| DeliveryRef { queued })
    }

    /// Returns the deliveries in their order.
    pub fn iter(&self) -> DeliveriesIter<'_> {
        DeliveriesIter(self.queue.iter())
    }

    /// Returns whether the first delivery is the first of its consumer after the link to the broker was restored: see
    /// [`Delivery::resumed`].
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Returns the number of the link that the deliveries arrived on: see [`Delivery::link`].
    pub fn link(&self) -> u32 {
        self.epoch
    }

    /// Acknowledges all deliveries of the batch, and no other. If they are all that was unacknowledged up to the last
    /// of them, that takes one `basic.ack`.
    ///
    /// # Errors
    /// If channel or connection are closed, their error: the broker redelivers the messages. [`ErrorKind::Usage`] if
    /// some of the deliveries were already settled, by a `multiple` call on a later delivery or by `recover`; the
    /// others are settled, and the channel stays open.
    pub fn ack_all(mut self) -> Result<Settled> {
        self.ack_up_to(usize::MAX)
    }

    /// Acknowledges the first `count` deliveries, or all if there are fewer, and removes them from the batch: those of
    /// which the work is done, if the rest takes longer or failed.
    ///
    /// ```no_run
    /// # fn store(orders: &hopmq::Deliveries) -> usize { orders.len() }
    /// # fn example(mut batch: hopmq::Deliveries) -> hopmq::Result<()> {
    /// let stored = store(&batch);
    /// batch.ack_up_to(stored)?;
    /// batch.nack_all(true)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Deliveries::ack_all`].
    pub fn ack_up_to(&mut self, count: usize) -> Result<Settled> {
        self.settle(count, true, |proto, number, tags, count| {
            let (settled, result) = proto.ack_all(number, tags);
            *count = settled;
            result
        })
    }

    /// Rejects all deliveries of the batch: see [`Delivery::nack`].
    ///
    /// # Errors
    /// The errors of [`Deliveries::ack_all`].
    pub fn nack_all(mut self, requeue: bool) -> Result<Settled> {
        self.settle(usize::MAX, false, |proto, number, tags, count| {
            let mut first = Ok(());
            for tag in tags {
                match proto.nack(number, tag, false, requeue) {
                    Ok(()) => *count += 1,
                    Err(error) if first.is_ok() => first = Err(error),
                    Err(_) => {}
                }
            }
            first
        })
    }

    fn settle(
        &mut self,
        count: usize,
        is_ack: bool,
        action: impl FnOnce(
            &mut hopmq_proto::Connection,
            u16,
            TagsOf<'_>,
            &mut u64,
        ) -> std::result::Result<(), hopmq_proto::Error>,
    ) -> Result<Settled> {
        let first: VecDeque<Queued> = match count < self.queue.len() {
            true => self.queue.drain(..count).collect(),
            false => std::mem::take(&mut self.queue),
        };
        if self.no_ack || first.is_empty() {
            return Ok(Settled::NotNeeded);
        }
        let id = &self.channel.id;
        let tags = TagsOf(first.iter());
        let sent = self
            .channel
            .shared()
            .settle_any(id, self.epoch, is_ack, |proto, settled| action(proto, id.number, tags, settled))?;
        Ok(if sent { Settled::Sent } else { Settled::Stale })
    }
}

/// The tags of deliveries.
#[derive(Clone)]
struct TagsOf<'a>(vec_deque::Iter<'a, Queued>);

impl Iterator for TagsOf<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        self.0.next().map(|queued| queued.tag)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for TagsOf<'_> {
    fn next_back(&mut self) -> Option<u64> {
        self.0.next_back().map(|queued| queued.tag)
    }
}

impl ExactSizeIterator for TagsOf<'_> {}

impl Index<usize> for Deliveries {
    type Output = Message;

    fn index(&self, index: usize) -> &Message {
        &self.queue[index].message
    }
}

impl<'a> IntoIterator for &'a Deliveries {
    type Item = DeliveryRef<'a>;
    type IntoIter = DeliveriesIter<'a>;

    fn into_iter(self) -> DeliveriesIter<'a> {
        self.iter()
    }
}

impl IntoIterator for Deliveries {
    type Item = Delivery;
    type IntoIter = DeliveriesIntoIter;

    fn into_iter(self) -> DeliveriesIntoIter {
        DeliveriesIntoIter(self)
    }
}

impl fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A delivery of a batch.
#[derive(Clone, Copy)]
pub struct DeliveryRef<'a> {
    queued: &'a Queued,
}

impl DeliveryRef<'_> {
    /// Returns the delivery tag: the number of the delivery on its channel.
    pub fn delivery_tag(&self) -> u64 {
        self.queued.tag
    }

    /// Returns whether the broker has delivered the message before, to this consumer or another.
    pub fn redelivered(&self) -> bool {
        self.queued.message.content.redelivered()
    }
}

impl Deref for DeliveryRef<'_> {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.queued.message
    }
}

impl fmt::Debug for DeliveryRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryRef")
            .field("delivery_tag", &self.delivery_tag())
            .field("message", &self.queued.message)
            .finish()
    }
}

/// An iterator over the deliveries of a batch: see [`Deliveries::iter`].
#[derive(Clone, Debug)]
pub struct DeliveriesIter<'a>(vec_deque::Iter<'a, Queued>);

impl<'a> Iterator for DeliveriesIter<'a> {
    type Item = DeliveryRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<DeliveryRef<'a>> {
        self.0.next().map(|queued| DeliveryRef { queued })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for DeliveriesIter<'_> {}

/// An iterator that takes the deliveries out of a batch, to settle each on its own.
#[derive(Debug)]
pub struct DeliveriesIntoIter(Deliveries);

impl Iterator for DeliveriesIntoIter {
    type Item = Delivery;

    fn next(&mut self) -> Option<Delivery> {
        let Deliveries { channel, queue, epoch, no_ack, resumed } = &mut self.0;
        let Queued { tag, message } = queue.pop_front()?;
        Some(Delivery::new(message, channel, tag, *epoch, *no_ack).mark(std::mem::take(resumed)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl ExactSizeIterator for DeliveriesIntoIter {}
