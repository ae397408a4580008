//! Consumers: streams of deliveries.

use std::collections::VecDeque;
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::Stream;
use hopmq_proto::{FieldTable, Value};

use crate::handles::channel::{Channel, ChannelCore};
use crate::state::{ConsumerEnd, ConsumerState, Queued, RequestKind, Start, Stock, register};
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
    pub fn argument<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
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
        let deadline = self.channel.deadline();
        let mut key = 0;
        let stock = Arc::<Stock>::default();
        let number = core.number;
        let sent = core.with_channel(|state| {
            self.arguments.validity()?;
            let tag: Arc<str> = match self.tag {
                Some(tag) => tag.into(),
                None => {
                    state.serial += 1;
                    format!("hopmq-{}", state.serial).into()
                }
            };
            let queue = state.queue_name(number, self.queue);
            state.recovery.order += 1;
            let start = Start {
                order: state.recovery.order,
                queue,
                no_local: self.no_local,
                exclusive: self.exclusive,
                arguments: self.arguments,
                prefetch: self.prefetch,
                granted: false,
                missing: !state.up,
                tried: 0,
            };
            key = state.consumers.insert(ConsumerState {
                channel: number,
                serial: core.serial,
                tag: Arc::clone(&tag),
                no_ack: self.no_ack,
                queue: VecDeque::new(),
                waker: None,
                end: None,
                dropped: false,
                stopped: false,
                stock: Arc::clone(&stock),
                start,
            });
            let request = state.insert_request(number, RequestKind::Consume(key), deadline);
            let sent = if state.up {
                state.send_consume(key, request)
            } else {
                if let Some(request) = state.requests.get_mut(request) {
                    // The request is sent on the next link.
                    request.sent = false;
                }
                Ok(())
            };
            if sent.is_err() {
                state.remove_request(request);
                state.consumers.remove(key);
            }
            sent.map(|()| (request, tag))
        });
        let (sent, tag) = match sent {
            Ok((request, tag)) => (Ok(request), tag),
            Err(error) => (Err(error), "".into()),
        };
        let shared = Arc::clone(core.shared());
        let (no_ack, timeout) = (self.no_ack, self.channel.timeout());
        Request::new(&shared, sent, move |_| {
            let taken = VecDeque::new();
            let epoch = core.end.epoch();
            let resumed = false;
            Ok(Consumer {
                channel: core,
                key,
                tag,
                no_ack,
                timeout,
                taken,
                taken_cost: 0,
                stock,
                epoch,
                resumed,
                ended: false,
            })
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
    channel: Arc<ChannelCore>,
    key: u64,
    tag: Arc<str>,
    no_ack: bool,
    timeout: Option<Duration>,
    /// Deliveries moved out of the shared state, to be yielded without its lock.
    taken: VecDeque<Queued>,
    /// The cost of `taken` when it was moved out of the shared state.
    taken_cost: usize,
    /// The number of deliveries left in `taken`, shared with a shutdown.
    stock: Arc<Stock>,
    /// The epoch of the channel when `taken` was filled.
    epoch: u32,
    /// The consumer was restored on a new link and has not yielded a delivery since.
    resumed: bool,
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
        let sent = self.channel.with_channel(|state| state.cancel_consumer(self.key, deadline));
        Request::plain(self.channel.shared(), sent)
    }

    /// Starts a consumer with the same settings on `channel`, for example on a [reopened](Channel::reopen) one after
    /// the broker closed the channel of this consumer.
    ///
    /// # Errors
    /// Those of [`Consume::start`].
    pub fn restart(&self, channel: &Channel) -> Request<Consumer> {
        let like = self.channel.shared().with(|state| {
            let start = &state.consumers.get_mut(self.key)?.start;
            Some((start.queue.clone(), start.prefetch, start.exclusive, start.no_local, start.arguments.clone()))
        });
        let (queue, prefetch, exclusive, no_local, arguments) = like.unwrap_or_default();
        let (no_ack, tag) = (self.no_ack, Some(&*self.tag));
        Consume { channel, queue: &queue, tag, prefetch, exclusive, no_ack, no_local, arguments }.start()
    }

    #[inline]
    fn hand_out(&mut self, delivery: Queued) -> Delivery {
        let resumed = std::mem::take(&mut self.resumed);
        Delivery::new(delivery.content, &self.channel, delivery.tag, self.epoch, self.no_ack).mark(resumed)
    }

    /// Returns undelivered messages to the queue because the connection shuts down.
    #[cold]
    fn give_back(&mut self) {
        let (key, untaken) = (self.key, std::mem::take(&mut self.taken));
        self.channel.shared().with(|state| state.give_back(key, &untaken));
        self.stock.set(0);
    }

    /// Takes the deliveries that have arrived, or reports how the consumer ended.
    fn refill(&mut self, waker: &Waker) -> Poll<Option<ConsumerEnd>> {
        let (key, cost) = (self.key, std::mem::take(&mut self.taken_cost));
        let taken = &mut self.taken;
        let (channel, epoch, resumed) = (&self.channel, &mut self.epoch, &mut self.resumed);
        let result = self.channel.shared().with_waiting(|state| {
            if *epoch != channel.end.epoch() {
                (*epoch, *resumed) = (channel.end.epoch(), true);
            }
            state.buffered = state.buffered.saturating_sub(cost);
            let consumer = state.consumers.get_mut(key)?;
            std::mem::swap(taken, &mut consumer.queue);
            if taken.is_empty() {
                if let Some(end) = &consumer.end {
                    return Some(Poll::Ready(Some(end.clone())));
                }
                register(&mut consumer.waker, waker, &mut state.spent);
                return Some(Poll::Pending);
            }
            Some(Poll::Ready(None))
        });
        self.taken_cost = self.taken.iter().map(Queued::cost).sum();
        self.stock.set(self.taken.len());
        result.unwrap_or(Poll::Ready(Some(ConsumerEnd::Cancelled)))
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        loop {
            if let Some(delivery) = self.taken.pop_front() {
                if !self.no_ack && self.epoch != self.channel.end.epoch() {
                    // The channel has moved to another link, so the broker redelivers these.
                    self.taken.clear();
                    self.stock.set(0);
                    continue;
                }
                if !self.stock.hand_out(self.taken.len()) {
                    self.taken.push_front(delivery);
                    self.give_back();
                    continue;
                }
                return Poll::Ready(Some(Ok(self.hand_out(delivery))));
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
        let (key, untaken) = (self.key, std::mem::take(&mut self.taken));
        let left: usize = untaken.iter().map(Queued::cost).sum();
        let handed_out = self.taken_cost.saturating_sub(left);
        self.channel.shared().with(|state| {
            state.buffered = state.buffered.saturating_sub(handed_out);
            state.drop_consumer(key, untaken);
            state.nudge = true;
        });
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("tag", &self.tag).finish_non_exhaustive()
    }
}
