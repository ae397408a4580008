//! Consumers, and what they have not taken yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use hopmq_proto::method::basic;
use hopmq_proto::{Content, FieldTable, Time};

use super::{Reply, RequestKind, State};
use crate::{Error, ErrorKind, Result};

/// What a consumer has not taken yet.
#[derive(Debug)]
pub(crate) struct ConsumerState {
    pub(crate) channel: u16,
    /// Which channel of that number.
    pub(crate) serial: u64,
    pub(crate) tag: Arc<str>,
    pub(crate) no_ack: bool,
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) waker: Option<Waker>,
    pub(crate) end: Option<ConsumerEnd>,
    /// Its handle is gone; what still comes goes back to the queue.
    pub(crate) dropped: bool,
    /// The program shuts down; what still comes goes back to the queue.
    pub(crate) stopped: bool,
    /// What its handle has of it.
    pub(crate) stock: Arc<Stock>,
    /// How to start it again.
    pub(crate) start: Start,
}

/// What a consumer's handle has taken and not handed out. It is counted without the lock.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    left: AtomicUsize,
    stopped: AtomicBool,
}

impl Stock {
    /// So much is left.
    #[inline]
    pub(crate) fn set(&self, left: usize) {
        self.left.store(left, Ordering::Relaxed);
    }

    /// One is to be handed out, and so much would be left. False if nothing may be handed out any more.
    #[inline]
    pub(crate) fn hand_out(&self, left: usize) -> bool {
        // It is counted before this looks. Whoever stops it has a request answered before they count, so that they see
        // what was handed out, or it is not.
        self.set(left);
        !self.stopped.load(Ordering::Relaxed)
    }

    /// Nothing is handed out from now on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// How a consumer was started.
#[derive(Debug)]
pub(crate) struct Start {
    /// Which one it is of all requests.
    pub(crate) order: u64,
    pub(crate) queue: String,
    pub(crate) no_local: bool,
    pub(crate) exclusive: bool,
    pub(crate) arguments: FieldTable,
    /// What it asked for itself.
    pub(crate) prefetch: Option<u16>,
    /// The broker has granted it.
    pub(crate) granted: bool,
    /// It is not there on the present link, or not yet.
    pub(crate) missing: bool,
    /// How often it could not be started on the present link.
    pub(crate) tried: u32,
}

/// Deliveries that a consumer may hold unacknowledged unless it says otherwise.
const DEFAULT_PREFETCH: u16 = 256;

/// How a consumer ended.
#[derive(Clone, Debug)]
pub(crate) enum ConsumerEnd {
    /// This side cancelled it.
    Cancelled,
    /// The broker cancelled it, or channel or connection ended.
    Failed(Error),
}

/// A delivery that waits for its consumer.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) tag: u64,
    pub(crate) content: Content,
}

impl Queued {
    /// Memory that it stands for, roughly.
    #[inline]
    pub(crate) fn cost(&self) -> usize {
        self.content.size() + 2 * size_of::<Self>()
    }
}

impl State {
    /// The handle of a consumer is gone: it is cancelled, and what it has not handed out goes back to the queue.
    pub(crate) fn drop_consumer(&mut self, key: u64, untaken: VecDeque<Queued>) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let (channel, serial, ended) = (consumer.channel, consumer.serial, consumer.end.is_some());
        let no_ack = consumer.no_ack;
        consumer.dropped = true;
        consumer.stock.set(0);
        self.spent.extend(consumer.waker.take());
        let queue = std::mem::take(&mut consumer.queue);
        // If the channel is gone, the broker has them back already.
        let rejects = !no_ack && self.channel(channel, serial).is_some();
        for delivery in untaken.iter().chain(&queue) {
            self.buffered = self.buffered.saturating_sub(delivery.cost());
            if rejects {
                // One that was settled with others before it needs no more.
                let _ = self.proto.reject(channel, delivery.tag, true);
            }
        }
        if ended {
            self.consumers.remove(key);
        } else if let Ok(request) = self.cancel_consumer(key, Time::from_epoch(Duration::MAX))
            && let Some(request) = self.requests.get_mut(request)
        {
            request.abandoned = true;
        }
    }

    /// Deliveries that were handed out and are not settled.
    pub(crate) fn in_hand(&mut self) -> usize {
        let mut untaken: HashMap<u16, usize> = HashMap::new();
        for (_, consumer) in self.consumers.iter_mut().filter(|(_, consumer)| !consumer.no_ack) {
            let channel = self.channels.get(usize::from(consumer.channel));
            if matches!(channel, Some(Some(channel)) if channel.serial == consumer.serial) {
                *untaken.entry(consumer.channel).or_default() += consumer.stock.left.load(Ordering::Relaxed);
            }
        }
        let proto = &self.proto;
        let in_hand = |number: u16| proto.unacked(number).saturating_sub(untaken.get(&number).copied().unwrap_or(0));
        (1..self.channels.len() as u16).map(in_hand).sum()
    }

    /// Gives back what a consumer had taken and not handed out.
    pub(crate) fn give_back(&mut self, key: u64, untaken: &VecDeque<Queued>) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let (channel, serial) = (consumer.channel, consumer.serial);
        if self.channel(channel, serial).is_some() {
            for delivery in untaken {
                // One that was settled with others before it needs no more.
                let _ = self.proto.reject(channel, delivery.tag, true);
            }
        }
        self.nudge = true;
    }

    /// Sends what starts a consumer, now that there is a link.
    pub(crate) fn send_consume(&mut self, key: u64, request: u64) -> Result<()> {
        let Some(consumer) = self.consumers.get_mut(key) else { return Ok(()) };
        let (number, start) = (consumer.channel, &consumer.start);
        let method = basic::Consume {
            queue: &start.queue,
            consumer_tag: &consumer.tag,
            no_local: start.no_local,
            no_ack: consumer.no_ack,
            exclusive: start.exclusive,
            nowait: false,
            arguments: start.arguments.as_ref_table(),
        };
        let channel = self.channels.get(usize::from(number)).and_then(Option::as_ref);
        let prefetch = channel.map(|channel| channel.prefetch).unwrap_or_default();
        // Without acknowledgements there is nothing that a prefetch could count.
        if !consumer.no_ack || start.prefetch.is_some() {
            let prefetch_count = start.prefetch.or(prefetch.each).unwrap_or(DEFAULT_PREFETCH);
            self.proto.request(number, &basic::Qos { prefetch_count, global: false }, None)?;
            if let Some(prefetch_count) = prefetch.shared {
                self.proto.request(number, &basic::Qos { prefetch_count, global: true }, None)?;
            }
        }
        Ok(self.proto.consume(number, &method, key, Some(request))?)
    }

    /// A consumer is over: the broker may delete its queue with it.
    pub(crate) fn consumer_over(&mut self, queue: &str) {
        let more = self.consumers.iter_mut().any(|(_, other)| other.start.queue == queue && other.end.is_none());
        if !more {
            self.recovery.ledger.consumers_gone(queue);
        }
    }

    /// Cancels a consumer. The answer ends its stream.
    pub(crate) fn cancel_consumer(&mut self, key: u64, deadline: Time) -> Result<u64> {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return Err(Error::new(ErrorKind::Closed, "the consumer has ended"));
        };
        let (channel, tag) = (consumer.channel, Arc::clone(&consumer.tag));
        let method = basic::Cancel { consumer_tag: &tag, nowait: false };
        let request = self.request(channel, &method, RequestKind::Cancel(key), deadline)?;
        if !self.up {
            // There is nothing to be cancelled, and it is not started again.
            self.end_consumer(key, ConsumerEnd::Cancelled);
            self.settle_request(request, Ok(Reply::Room));
        }
        Ok(request)
    }

    pub(super) fn forget_dropped_consumers(&mut self, number: u16) {
        let gone = |consumer: &ConsumerState| consumer.channel == number && consumer.dropped;
        let keys: Vec<u64> =
            self.consumers.iter_mut().filter(|(_, consumer)| gone(consumer)).map(|(key, _)| key).collect();
        for key in keys {
            self.consumers.remove(key);
        }
    }
}
