//! Consumers, and what they have not taken yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use hopmq_proto::{Content, Time};

use super::{RequestKind, State};
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
}

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

    /// Cancels a consumer. The answer ends its stream.
    pub(crate) fn cancel_consumer(&mut self, key: u64, deadline: Time) -> Result<u64> {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return Err(Error::new(ErrorKind::Closed, "the consumer has ended"));
        };
        let (channel, tag) = (consumer.channel, Arc::clone(&consumer.tag));
        self.send_request(channel, RequestKind::Cancel(key), deadline, |proto, request| {
            proto.cancel(channel, &tag, Some(request))
        })
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
