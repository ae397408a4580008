//! Starting and ending consumers, taking their deliveries, and settling them.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Duration;

use hopmq_proto::method::basic;
use hopmq_proto::{Content, FieldTable, Quoted, SortedMap, Time};

use super::channel_setup::being_closed;
use super::channels::ChannelId;
use super::consumers::{ConsumerEnd, ConsumerState, Queued, Start, Stock};
use super::keys::{self, ConsumerKey, RequestKey};
use super::requests::{Reply, RequestKind};
use super::{Shared, State};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::sync::Arc;

/// Deliveries that a consumer may hold unacknowledged, unless it or its channel sets another number.
const DEFAULT_PREFETCH: u16 = 256;

/// What a consumer asks for.
pub(crate) struct ConsumerSettings<'a> {
    pub(crate) queue: &'a str,
    pub(crate) tag: Option<&'a str>,
    pub(crate) no_ack: bool,
    pub(crate) no_local: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: FieldTable,
    pub(crate) prefetch: Option<u16>,
}

/// A requested consumer.
pub(crate) struct Requested {
    pub(crate) request: RequestKey,
    pub(crate) consumer: ConsumerKey,
    pub(crate) tag: Arc<str>,
}

/// What a consumer's handle has taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) queue: VecDeque<Queued>,
    /// Bytes of `queue`, unless single deliveries were yielded from it.
    queue_cost: usize,
    /// Bytes of `queue` and of what was yielded from it since the last poll. They count as buffered.
    cost: usize,
    /// The channel's epoch when it was taken.
    pub(crate) epoch: u32,
    /// Whether the link was replaced, and no delivery of the new link was yielded yet.
    pub(crate) resumed: bool,
}

impl Taken {
    /// Returns nothing, of a channel in this epoch.
    pub(crate) fn new(epoch: u32) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Returns the bytes of the queue, from which no single delivery was yielded.
    #[inline]
    pub(crate) fn queue_cost(&self) -> usize {
        self.queue_cost
    }

    /// Removes the first deliveries: `count` at most, of `size` bytes at most, but one at least.
    pub(crate) fn split(&mut self, count: usize, size: usize) -> VecDeque<Queued> {
        if self.queue.len() <= count && self.queue_cost <= size {
            self.queue_cost = 0;
            return std::mem::take(&mut self.queue);
        }
        let mut cost = 0;
        let fits = |delivery: &&Queued| {
            cost += delivery.cost();
            cost <= size
        };
        let count = self.queue.iter().take(count).take_while(fits).count().max(1);
        // Moves the few, not the rest: the queue may be long.
        let first: VecDeque<Queued> = self.queue.drain(..count.min(self.queue.len())).collect();
        self.queue_cost -= first.iter().map(Queued::cost).sum::<usize>();
        first
    }

    /// Drops the deliveries, because the link that brought them is lost.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.queue_cost = 0;
    }

    /// Returns the bytes of what was yielded since the last call.
    fn release(&mut self) -> usize {
        if self.queue.is_empty() {
            self.queue_cost = 0;
        }
        let released = self.cost.saturating_sub(self.queue_cost);
        self.cost = self.queue_cost;
        released
    }

    /// Counts the deliveries from the index `from` on.
    fn count_from(&mut self, from: usize) {
        let added: usize = self.queue.range(from..).map(Queued::cost).sum();
        self.queue_cost += added;
        self.cost += added;
    }
}

impl Shared {
    /// Starts a consumer.
    pub(crate) fn start_consumer(
        &self,
        channel: &ChannelId,
        settings: ConsumerSettings<'_>,
        stock: &Arc<Stock>,
        deadline: Time,
    ) -> Result<Requested> {
        self.on_channel(channel, |state| {
            settings.arguments.validity()?;
            let number = channel.number;
            let queue = state.queue_name(number, settings.queue);
            let waits = !state.is_up() || state.awaited.reason(&queue).is_some();
            let tag = settings.tag.map_or_else(|| state.consumers.next_tag(), Into::into);
            let start = Start {
                order: state.requests.next_order(),
                queue,
                no_local: settings.no_local,
                exclusive: settings.exclusive,
                arguments: settings.arguments,
                prefetch: settings.prefetch,
                granted: false,
                missing: waits,
                tried: 0,
            };
            let place = (number, channel.serial);
            let consumer = ConsumerState::new(place, Arc::clone(&tag), settings.no_ack, Arc::clone(stock), start);
            let consumer = state.consumers.insert(consumer);
            let request = state.insert_request(number, RequestKind::Consume(consumer), deadline);
            state.consumers.get_mut(consumer).into_iter().for_each(|consumer| consumer.request = Some(request));
            if waits {
                // The request waits for a link, or for the queue.
                state.requests.get_mut(request).into_iter().for_each(|request| request.sent = false);
            } else if let Err(error) = state.send_consume(consumer, keys::number(request)) {
                state.remove_request(request);
                state.consumers.remove(consumer);
                return Err(error);
            }
            Ok(Requested { request, consumer, tag })
        })
    }

    /// Cancels a consumer. Returns the request.
    pub(crate) fn cancel_consumer(
        &self,
        channel: &ChannelId,
        consumer: ConsumerKey,
        deadline: Time,
    ) -> Result<RequestKey> {
        self.on_channel(channel, |state| state.cancel_consumer(consumer, deadline))
    }

    /// Cancels the consumer of a channel with this tag. Returns the request.
    pub(crate) fn cancel_consumer_by_tag(&self, channel: &ChannelId, tag: &str, deadline: Time) -> Result<RequestKey> {
        self.on_channel(channel, |state| {
            let Some(consumer) = state.consumers.find(channel.number, channel.serial, tag) else {
                let text = format!("the channel has no consumer with tag {}", Quoted(tag));
                return Err(Error::new(ErrorKind::Usage, text));
            };
            state.cancel_consumer(consumer, deadline)
        })
    }

    /// Returns how a consumer was started, if it is known.
    pub(crate) fn consumer_start(&self, consumer: ConsumerKey) -> Option<Start> {
        let state = self.lock();
        let start = &state.consumers.get(consumer)?.start;
        Some(Start { queue: state.ledger.current(&start.queue).to_owned(), ..start.clone() })
    }

    /// Returns how many unacknowledged deliveries a consumer may hold, as far as it is limited on its own.
    pub(crate) fn consumer_prefetch(&self, consumer: ConsumerKey) -> usize {
        let state = self.lock();
        let Some(consumer) = state.consumers.get(consumer).filter(|consumer| !consumer.no_ack) else {
            return usize::MAX;
        };
        let channel = state.channels.get(consumer.channel).and_then(|channel| channel.prefetch.each);
        match consumer.start.prefetch.or(channel).unwrap_or(DEFAULT_PREFETCH) {
            0 => usize::MAX,
            count => usize::from(count),
        }
    }

    /// Takes the deliveries of a consumer behind those that its handle has, or returns how the consumer ended. The
    /// future waits if there are none.
    pub(crate) fn poll_deliveries(
        &self,
        channel: &ChannelId,
        key: ConsumerKey,
        taken: &mut Taken,
        waker: &Waker,
    ) -> Poll<Option<ConsumerEnd>> {
        let mut released = taken.release();
        let mut known = taken.queue.len();
        let polled = self.with_flush(|state| {
            let no_ack = state.consumers.get(key).is_some_and(|consumer| consumer.no_ack);
            let epoch = channel.end.epoch();
            if taken.epoch != epoch {
                taken.epoch = epoch;
                taken.resumed = true;
                if !no_ack {
                    // The broker redelivers these.
                    taken.clear();
                    released += taken.release();
                    known = 0;
                }
            }
            state.consumers.release(released);
            let Some(consumer) = state.consumers.take(key, &mut taken.queue) else {
                return Poll::Ready(Some(ConsumerEnd::Cancelled));
            };
            if taken.queue.len() > known {
                return Poll::Ready(None);
            }
            if let Some(end) = consumer.end() {
                return Poll::Ready(Some(end.clone()));
            }
            state.wakers.register(&mut consumer.waker, waker);
            Poll::Pending
        });
        if polled.is_pending() {
            self.note_wait(waker);
        }
        taken.count_from(known);
        polled
    }

    /// Requeues the deliveries of `epoch` that a consumer's handle had taken and not yielded. The broker redelivers
    /// those of an earlier link, whose tags other deliveries have now.
    pub(crate) fn requeue_taken(&self, channel: &ChannelId, epoch: u32, untaken: &VecDeque<Queued>) {
        self.with(|state| {
            if epoch == channel.end.epoch() && state.channels.find(channel.number, channel.serial).is_some() {
                state.reject_all(channel.number, untaken);
            }
            state.driver.request();
        });
    }

    /// Cancels a consumer and requeues its deliveries, after the drop of its handle.
    pub(crate) fn drop_consumer(&self, channel: &ChannelId, consumer: ConsumerKey, taken: &mut Taken) {
        self.with(|state| {
            if taken.epoch != channel.end.epoch() {
                // The broker redelivers these, and their tags are those of other deliveries now.
                taken.clear();
            }
            let untaken = std::mem::take(&mut taken.queue);
            let left: usize = untaken.iter().map(Queued::cost).sum();
            state.consumers.release(taken.cost.saturating_sub(left));
            state.drop_consumer(consumer, untaken);
            state.driver.request();
        });
    }

    /// Settles a delivery of `epoch` by `action`. Returns false if the link of the delivery was lost, and
    /// with the link the right to settle the delivery.
    #[inline]
    pub(crate) fn settle(
        &self,
        channel: &ChannelId,
        epoch: u32,
        is_ack: bool,
        action: impl FnOnce(&mut hopmq_proto::Connection) -> Result<(), hopmq_proto::Error>,
    ) -> Result<bool> {
        self.settle_any(channel, epoch, is_ack, |proto, count| {
            action(proto)?;
            *count = 1;
            Ok(())
        })
    }

    /// Settles deliveries of `epoch` by `action`, which counts them, as [`Self::settle`] settles one.
    #[inline]
    pub(crate) fn settle_any(
        &self,
        channel: &ChannelId,
        epoch: u32,
        is_ack: bool,
        action: impl FnOnce(&mut hopmq_proto::Connection, &mut u64) -> Result<(), hopmq_proto::Error>,
    ) -> Result<bool> {
        self.with(|state| {
            if epoch != channel.end.epoch() {
                return Ok(false);
            }
            if state.channels.find(channel.number, channel.serial).is_none() {
                return Err(self.channel_reason(channel));
            }
            if state.lifecycle.is_close_sent() {
                return Err(being_closed());
            }
            let mut count = 0;
            let settled = action(&mut state.proto, &mut count);
            let counter = if is_ack { &mut state.stats.acked } else { &mut state.stats.rejected };
            *counter += count;
            if !state.settle_waiters.is_empty() {
                state.wake_settle_waiters();
            }
            match settled {
                Ok(()) => Ok(true),
                // The link may be over, and its loss not be handled yet.
                Err(_) if state.proto.is_closed() => Ok(false),
                Err(error) => Err(Error::new(ErrorKind::Usage, error.message())),
            }
        })
        // The call may have found that the connection belongs to another process.
        .and_then(|settled| if settled && self.is_ended() { Err(self.reason()) } else { Ok(settled) })
    }

    /// Cancels all consumers for a shutdown, and requeues their undelivered messages. Returns the requests.
    pub(crate) fn stop_consuming(&self, deadline: Time) -> Vec<RequestKey> {
        self.with(|state| state.stop_consuming(deadline))
    }

    /// Returns the number of yielded deliveries that are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.lock().unsettled()
    }
}

impl State {
    /// Queues a delivery for its consumer.
    #[inline]
    pub(super) fn deliver(&mut self, key: ConsumerKey, tag: u64, content: Content) {
        self.stats.delivered += 1;
        if let Some(channel) =
            self.consumers.deliver(key, Queued { tag, message: Message::from_content(content) }, &mut self.wakers)
        {
            // If the channel is closed, the broker has requeued the delivery.
            let _ = self.proto.reject(channel, tag, true);
        }
    }

    fn reject_all(&mut self, channel: u16, deliveries: &VecDeque<Queued>) {
        for delivery in deliveries {
            // It fails for a delivery that an earlier `multiple` settled.
            let _ = self.proto.reject(channel, delivery.tag, true);
        }
    }

    /// Cancels a consumer whose handle was dropped, and requeues its undelivered messages.
    pub(super) fn drop_consumer(&mut self, key: ConsumerKey, untaken: VecDeque<Queued>) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let channel = consumer.channel;
        let serial = consumer.serial;
        let no_ack = consumer.no_ack;
        let ended = consumer.has_ended();
        consumer.dropped = true;
        consumer.stock.set(0);
        self.wakers.discard(consumer.waker.take());
        self.consumers.release(untaken.iter().map(Queued::cost).sum());
        let queue = self.consumers.drain(key);
        // If the channel is closed, the broker has requeued the deliveries.
        if !no_ack && self.channels.find(channel, serial).is_some() {
            self.reject_all(channel, &untaken);
            self.reject_all(channel, &queue);
        }
        if ended {
            self.consumers.remove(key);
        } else if let Ok(request) = self.cancel_consumer(key, Time::from_epoch(Duration::MAX))
            && let Some(request) = self.requests.get_mut(request)
        {
            request.abandoned = true;
        }
    }

    /// Returns the number of yielded deliveries that are not settled.
    pub(super) fn unsettled(&self) -> usize {
        let mut untaken: SortedMap<u64, usize> = SortedMap::new();
        for (_, consumer) in self.consumers.iter().filter(|(_, consumer)| !consumer.no_ack) {
            if self.channels.get(consumer.channel).is_some_and(|channel| channel.serial == consumer.serial) {
                *untaken.or_default(consumer.channel.into()) += consumer.stock.left();
            }
        }
        let unsettled =
            |number| self.proto.unacked(number).saturating_sub(untaken.get(&u64::from(number)).copied().unwrap_or(0));
        self.channels.numbers().map(unsettled).sum()
    }

    fn stop_consuming(&mut self, deadline: Time) -> Vec<RequestKey> {
        let mut requests = Vec::new();
        for key in self.consumers.keys(|consumer| !consumer.has_ended() && !consumer.dropped) {
            let channel = self.consumers.get(key).map_or(0, |consumer| consumer.channel);
            let untaken = self.consumers.stop(key);
            self.reject_all(channel, &untaken);
            match self.cancel_consumer(key, deadline) {
                Ok(request) => requests.push(request),
                Err(error) => self.end_consumer(key, ConsumerEnd::Failed(error)),
            }
        }
        self.driver.request();
        requests
    }

    /// Wakes the futures that wait until all deliveries are settled, if they are.
    #[cold]
    pub(super) fn wake_settle_waiters(&mut self) {
        if self.unsettled() == 0 {
            self.settle_waiters.wake_all(&mut self.wakers);
        }
    }

    /// Sends the request that starts a consumer.
    pub(super) fn send_consume(&mut self, key: ConsumerKey, request: u64) -> Result<()> {
        let Some(consumer) = self.consumers.get(key) else { return Ok(()) };
        let number = consumer.channel;
        let start = &consumer.start;
        let method = basic::Consume {
            queue: &start.queue,
            consumer_tag: &consumer.tag,
            no_local: start.no_local,
            no_ack: consumer.no_ack,
            exclusive: start.exclusive,
            nowait: false,
            arguments: start.arguments.as_ref_table(),
        };
        let prefetch = self.channels.get(number).map(|channel| channel.prefetch).unwrap_or_default();
        // A prefetch counts unacknowledged deliveries, which a consumer without acknowledgements has none of.
        if !consumer.no_ack || start.prefetch.is_some() {
            let prefetch_count = start.prefetch.or(prefetch.each).unwrap_or(DEFAULT_PREFETCH);
            self.proto.request(number, &basic::Qos { prefetch_count, global: false }, None)?;
            if let Some(prefetch_count) = prefetch.shared {
                self.proto.request(number, &basic::Qos { prefetch_count, global: true }, None)?;
            }
        }
        Ok(self.proto.consume(number, &method, keys::number(key), Some(request))?)
    }

    /// Cancels a consumer. The answer ends its stream. Returns the request.
    pub(super) fn cancel_consumer(&mut self, key: ConsumerKey, deadline: Time) -> Result<RequestKey> {
        let Some(consumer) = self.consumers.get(key) else {
            return Err(Error::new(ErrorKind::Closed, "the consumer has ended"));
        };
        let channel = consumer.channel;
        let tag = Arc::clone(&consumer.tag);
        let method = basic::Cancel { consumer_tag: &tag, nowait: false };
        let request = self.request(channel, &method, RequestKind::Cancel(key), deadline)?;
        if !self.is_up() {
            // The consumer is on no link, and is not started on the next one.
            self.end_consumer(key, ConsumerEnd::Cancelled);
            self.settle_request(request, Ok(Reply::Done));
        }
        Ok(request)
    }

    pub(super) fn end_consumer(&mut self, key: ConsumerKey, end: ConsumerEnd) {
        let Some(consumer) = self.consumers.end(key, end) else { return };
        self.wakers.wake(&mut consumer.waker);
        let queue = consumer.start.queue.clone();
        if consumer.dropped {
            self.consumers.remove(key);
        }
        self.consumer_over(&queue);
    }

    /// Handles the end of a consumer of `queue`: the broker deletes an `auto_delete` queue with its last consumer.
    pub(super) fn consumer_over(&mut self, queue: &str) {
        if !self.consumers.consumes(queue) {
            self.ledger.consumers_gone(queue);
        }
    }
}
