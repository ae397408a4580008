//! Queues that the broker refused to restore and that are tried again: requests that name such a queue wait for it.
//!
//! Mostly these are exclusive queues, which the broker holds until it notices that the old link is gone. A request for
//! one of them would be refused (405), and the broker would close the channel and end its consumers.

use hopmq_proto::SortedMap;
use hopmq_proto::method::Method;

use super::State;
use crate::error::Error;

/// The awaited queues, with the broker's reasons.
#[derive(Debug, Default)]
pub(crate) struct Awaited(SortedMap<String, Error>);

impl Awaited {
    /// Returns why `queue` is not restored yet, if it is awaited.
    pub(super) fn reason(&self, queue: &str) -> Option<&Error> {
        self.0.get(queue)
    }
}

impl State {
    /// Sets the awaited queues, in place of the former ones.
    pub(crate) fn set_awaited(&mut self, queues: SortedMap<String, Error>) {
        self.awaited = Awaited(queues);
    }

    /// Returns the awaited queue that a request on `channel` names, and why the queue is not restored yet.
    pub(super) fn awaits(&self, channel: u16, payload: &[u8]) -> Option<(&str, &Error)> {
        if self.awaited.0.is_empty() {
            return None;
        }
        let queue = match Method::decode(payload).ok()? {
            Method::QueueDeclare(method) => method.queue,
            Method::QueueBind(method) => self.queue_or_last(channel, method.queue),
            Method::QueueUnbind(method) => self.queue_or_last(channel, method.queue),
            Method::QueuePurge(method) => self.queue_or_last(channel, method.queue),
            Method::QueueDelete(method) => self.queue_or_last(channel, method.queue),
            Method::BasicGet(method) => self.queue_or_last(channel, method.queue),
            _ => return None,
        };
        self.awaited.0.get_key_value(queue).map(|(queue, error)| (queue.as_str(), error))
    }

    /// Returns `queue`, or the queue that was declared last on the channel, for which an empty name stands.
    fn queue_or_last<'q>(&'q self, channel: u16, queue: &'q str) -> &'q str {
        match self.channels.get(channel) {
            Some(channel) if queue.is_empty() => channel.last_queue.as_str(),
            _ => queue,
        }
    }
}
