//! Consumers, and the deliveries that they have not taken.

use std::collections::VecDeque;
use std::task::Waker;

use hopmq_proto::{FieldTable, SortedMap, SortedSet};
use slotmap::SlotMap;

use super::keys::{self, ConsumerKey, RequestKey};
use super::wakers::Wakers;
use crate::error::Error;
use crate::message::Message;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering};

/// The consumers of a connection, and the bytes that they have buffered.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    slots: SlotMap<ConsumerKey, ConsumerState>,
    /// By channel and tag.
    by_tag: SortedSet<(u16, Arc<str>, u64)>,
    /// Those that have not ended, by queue.
    live: SortedMap<String, SortedSet<u64>>,
    /// Bytes of deliveries that consumers have not taken.
    buffered: usize,
    /// Whether reading is paused, because the buffers of the consumers are full.
    paused: bool,
    /// The number of generated tags.
    tags: u64,
}

/// One consumer.
#[derive(Debug)]
pub(crate) struct ConsumerState {
    pub(super) channel: u16,
    /// The serial number of the channel.
    pub(super) serial: u64,
    pub(super) tag: Arc<str>,
    pub(super) no_ack: bool,
    queue: VecDeque<Queued>,
    pub(super) waker: Option<Waker>,
    end: Option<ConsumerEnd>,
    /// Whether the handle was dropped: further deliveries are requeued.
    pub(super) dropped: bool,
    /// Whether the program shuts down: further deliveries are requeued.
    stopped: bool,
    /// The deliveries that the handle has taken.
    pub(super) stock: Arc<Stock>,
    /// The request that started the consumer, or starts it.
    pub(super) request: Option<RequestKey>,
    /// How to start the consumer again.
    pub(super) start: Start,
}

/// The number of deliveries that a consumer's handle has taken and not yielded, counted without the lock.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    left: AtomicUsize,
    stopped: AtomicBool,
}

impl Stock {
    #[inline]
    pub(crate) fn set(&self, left: usize) {
        self.left.store(left, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Counts a delivery that is about to be yielded, after which `left` are left. Returns false if no further delivery
    /// may be yielded.
    #[inline]
    pub(crate) fn note_yield(&self, left: usize) -> bool {
        // Count before checking `stopped`. A shutdown waits for a reply between stopping and counting, so either the
        // shutdown counts this delivery, or this check sees that the shutdown has begun.
        self.set(left);
        !self.stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// How a consumer was started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// The number of the request in the order of all requests.
    pub(super) order: u64,
    pub(crate) queue: String,
    pub(crate) no_local: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: FieldTable,
    /// The prefetch of this consumer.
    pub(crate) prefetch: Option<u16>,
    /// Whether the broker has accepted the consumer.
    pub(super) granted: bool,
    /// Whether the consumer is not on the present link, or not yet.
    pub(super) missing: bool,
    /// How often the consumer could not be started on the present link.
    pub(super) tried: u32,
}

/// How a consumer ended.
#[derive(Clone, Debug)]
pub(crate) enum ConsumerEnd {
    /// The program cancelled the consumer.
    Cancelled,
    /// The broker cancelled the consumer, or channel or connection ended.
    Failed(Error),
}

/// A delivery that waits for its consumer.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) tag: u64,
    pub(crate) message: Message,
}

impl Queued {
    /// Returns roughly the memory that the delivery takes, in bytes.
    #[inline]
    pub(crate) fn cost(&self) -> usize {
        self.message.content.size() + 2 * size_of::<Self>()
    }
}

impl ConsumerState {
    /// Whether the broker had accepted the consumer, which is not on the present link, or not yet.
    pub(super) fn waits_for_restart(&self) -> bool {
        self.start.missing && self.start.granted && !self.has_ended()
    }

    /// Returns a consumer that has not been started.
    pub(super) fn new(
        (channel, serial): (u16, u64),
        tag: Arc<str>,
        no_ack: bool,
        stock: Arc<Stock>,
        start: Start,
    ) -> Self {
        Self {
            channel,
            serial,
            tag,
            no_ack,
            queue: VecDeque::new(),
            waker: None,
            end: None,
            dropped: false,
            stopped: false,
            stock,
            request: None,
            start,
        }
    }

    /// Returns how the consumer ended.
    pub(super) fn end(&self) -> Option<&ConsumerEnd> {
        self.end.as_ref()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether further deliveries are for the consumer.
    #[inline]
    fn takes(&self) -> bool {
        !self.dropped && !self.stopped
    }
}

impl Consumers {
    /// Returns a tag for a consumer without a name.
    pub(super) fn next_tag(&mut self) -> Arc<str> {
        self.tags += 1;
        format!("hopmq-{}", self.tags).into()
    }

    pub(super) fn insert(&mut self, consumer: ConsumerState) -> ConsumerKey {
        let place = (consumer.channel, Arc::clone(&consumer.tag));
        let queue = consumer.start.queue.clone();
        let key = self.slots.insert(consumer);
        self.by_tag.insert((place.0, place.1, keys::number(key)));
        self.live.or_default(queue).insert(keys::number(key));
        key
    }

    pub(super) fn remove(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.slots.remove(key) else { return };
        self.by_tag.remove(&(consumer.channel, consumer.tag, keys::number(key)));
        if consumer.end.is_none() {
            self.remove_live(&consumer.start.queue, key);
        }
    }

    fn remove_live(&mut self, queue: &str, key: ConsumerKey) {
        if let Some(live) = self.live.get_mut(queue) {
            live.remove(&keys::number(key));
            if live.is_empty() {
                self.live.remove(queue);
            }
        }
    }

    /// Notes how a consumer ended, unless it has ended before. Returns the consumer.
    pub(super) fn end(&mut self, key: ConsumerKey, end: ConsumerEnd) -> Option<&mut ConsumerState> {
        let consumer = self.slots.get_mut(key)?;
        if consumer.end.is_none() {
            consumer.end = Some(end);
            let queue = consumer.start.queue.clone();
            self.remove_live(&queue, key);
        }
        self.slots.get_mut(key)
    }

    /// Returns the consumers of a channel, and those of earlier channels of the same number whose handles exist.
    pub(super) fn of_channel(&self, channel: u16) -> Vec<ConsumerKey> {
        let all = self.by_tag.range_from(&(channel, Arc::from(""), 0)).take_while(|(of, ..)| *of == channel);
        all.map(|(.., number)| keys::of_number(*number)).collect()
    }

    /// Returns the consumer of a channel with a tag.
    pub(super) fn find(&self, channel: u16, serial: u64, tag: &str) -> Option<ConsumerKey> {
        let all = self.by_tag.range_from(&(channel, Arc::from(tag), 0));
        let mut all = all.take_while(|(of, known, _)| *of == channel && **known == *tag);
        let key = |number: u64| keys::of_number(number);
        let key = all.find(|(.., number)| self.slots.get(key(*number)).is_some_and(|known| known.serial == serial));
        key.map(|(.., number)| keys::of_number(*number))
    }

    /// Returns the consumers of a queue that have not ended.
    pub(super) fn of_queue(&self, queue: &str) -> Vec<ConsumerKey> {
        self.live.get(queue).into_iter().flat_map(SortedSet::iter).map(|number| keys::of_number(*number)).collect()
    }

    /// Whether a queue has a consumer that has not ended.
    pub(super) fn consumes(&self, queue: &str) -> bool {
        self.live.contains_key(queue)
    }

    /// Renames the queue of the consumers that have not ended.
    pub(super) fn rename_queue(&mut self, old: &str, new: &str) {
        let Some(moved) = self.live.remove(old) else { return };
        for number in moved.iter() {
            if let Some(consumer) = self.slots.get_mut(keys::of_number(*number)) {
                new.clone_into(&mut consumer.start.queue);
            }
        }
        self.live.or_default(new.to_owned()).extend(moved.iter().copied());
    }

    pub(super) fn get(&self, key: ConsumerKey) -> Option<&ConsumerState> {
        self.slots.get(key)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut ConsumerState> {
        self.slots.get_mut(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConsumerKey, &ConsumerState)> {
        self.slots.iter()
    }

    /// Whether futures wait for deliveries.
    pub(super) fn are_awaited(&self) -> bool {
        self.slots.values().any(|consumer| consumer.waker.is_some())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ConsumerKey, &mut ConsumerState)> {
        self.slots.iter_mut()
    }

    /// Returns the keys of the consumers that `wanted` is true for.
    pub(super) fn keys(&self, mut wanted: impl FnMut(&ConsumerState) -> bool) -> Vec<ConsumerKey> {
        self.slots.iter().filter(|(_, consumer)| wanted(consumer)).map(|(key, _)| key).collect()
    }

    /// Removes the consumers of a channel whose handles were dropped.
    pub(super) fn remove_dropped(&mut self, channel: u16) {
        for key in self.of_channel(channel) {
            if self.slots.get(key).is_some_and(|consumer| consumer.dropped) {
                self.remove(key);
            }
        }
    }

    /// Queues a delivery for its consumer. Returns the channel to reject it on, if the consumer takes no more.
    #[inline]
    pub(super) fn deliver(&mut self, key: ConsumerKey, delivery: Queued, wakers: &mut Wakers) -> Option<u16> {
        match self.slots.get_mut(key) {
            Some(consumer) if consumer.takes() => {
                self.buffered += delivery.cost();
                consumer.queue.push_back(delivery);
                wakers.wake(&mut consumer.waker);
                None
            }
            Some(consumer) if !consumer.no_ack => Some(consumer.channel),
            _ => None,
        }
    }

    /// Moves the deliveries of a consumer behind those in `taken`.
    #[inline]
    pub(super) fn take(&mut self, key: ConsumerKey, taken: &mut VecDeque<Queued>) -> Option<&mut ConsumerState> {
        let consumer = self.slots.get_mut(key)?;
        if taken.is_empty() {
            std::mem::swap(taken, &mut consumer.queue);
        } else {
            taken.append(&mut consumer.queue);
        }
        Some(consumer)
    }

    /// Removes and returns the buffered deliveries of a consumer.
    pub(super) fn drain(&mut self, key: ConsumerKey) -> VecDeque<Queued> {
        let Some(consumer) = self.slots.get_mut(key) else { return VecDeque::new() };
        let queue = std::mem::take(&mut consumer.queue);
        self.release(queue.iter().map(Queued::cost).sum());
        queue
    }

    /// Stops a consumer for a shutdown. Returns the deliveries to requeue.
    pub(super) fn stop(&mut self, key: ConsumerKey) -> VecDeque<Queued> {
        let Some(consumer) = self.slots.get_mut(key) else { return VecDeque::new() };
        consumer.stopped = true;
        if consumer.no_ack {
            return VecDeque::new();
        }
        consumer.stock.stop();
        self.drain(key)
    }

    /// Returns the bytes of deliveries that consumers have not taken.
    #[inline]
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    /// Subtracts taken bytes from the buffered ones.
    #[inline]
    pub(super) fn release(&mut self, bytes: usize) {
        self.buffered = self.buffered.saturating_sub(bytes);
    }

    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }
}
