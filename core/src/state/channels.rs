//! Channels as the handles see them, and how each of them ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use hopmq_proto::method::basic;

use super::{ConsumerEnd, State};
use crate::state::confirms::Confirms;
use crate::{Error, ErrorKind, Result};

/// A channel, as long as it is open.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) serial: u64,
    pub(crate) end: Arc<ChannelEnd>,
    pub(crate) confirms: Confirms,
    pub(crate) returns: VecDeque<crate::Returned>,
    pub(crate) returns_waker: Option<Waker>,
    pub(crate) wants_returns: bool,
    pub(crate) prefetch: Prefetch,
    /// It confirms publishes.
    pub(crate) confirming: bool,
    pub(crate) transaction: Transaction,
    /// The queue that was declared last, for which an empty name stands.
    pub(crate) last_queue: String,
}

/// How a channel is set up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Modes {
    pub(crate) prefetch: Prefetch,
    pub(crate) confirming: bool,
    pub(crate) transactional: bool,
}

/// Whether a channel is transactional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Transaction {
    #[default]
    None,
    Going,
    /// What was not committed went with the link; the next commit says so.
    Lost,
}

/// What the program set for a channel by `basic.qos`, beside what single consumers ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prefetch {
    /// For each consumer that asks for nothing else.
    pub(crate) each: Option<u16>,
    /// For all consumers together.
    pub(crate) shared: Option<u16>,
}

/// Why a channel ended, and what became of its publishes: it outlives the channel in the hands of its users.
#[derive(Debug, Default)]
pub(crate) struct ChannelEnd {
    reason: OnceLock<Error>,
    /// How it was set up when it ended.
    modes: OnceLock<Modes>,
    /// How often the link was lost: what was delivered before is not for this link to settle.
    epoch: AtomicU32,
    confirms: Mutex<Option<Confirms>>,
}

impl ChannelState {
    /// How it is set up.
    pub(crate) fn modes(&self) -> Modes {
        Modes {
            prefetch: self.prefetch,
            confirming: self.confirming,
            transactional: self.transaction != Transaction::None,
        }
    }
}

impl State {
    /// The channel, if it is the same that the handle was made for.
    #[inline]
    pub(crate) fn channel(&mut self, number: u16, serial: u64) -> Option<&mut ChannelState> {
        match self.channels.get_mut(usize::from(number)) {
            Some(Some(channel)) if channel.serial == serial => Some(channel),
            _ => None,
        }
    }

    /// Closes a channel for which nobody waits.
    pub(crate) fn close_channel(&mut self, number: u16) -> Result<(), hopmq_proto::Error> {
        self.proto.close_channel(number, hopmq_proto::code::REPLY_SUCCESS, "", None)?;
        let closed = Error::new(ErrorKind::Closed, "the channel was closed by this program");
        self.end_channel(number, &closed);
        Ok(())
    }

    /// Repeats the prefetch that all consumers of a channel share: RabbitMQ forgets it whenever it is told one for
    /// each.
    pub(crate) fn share_prefetch(&mut self, channel: u16, prefetch: Prefetch) -> Result<()> {
        if let Some(prefetch_count) = prefetch.shared {
            self.proto.request(channel, &basic::Qos { prefetch_count, global: true }, None)?;
        }
        Ok(())
    }

    /// A channel is over: everybody on it learns why.
    pub(crate) fn end_channel(&mut self, number: u16, error: &Error) {
        let Some(Some(mut channel)) = self.channels.get_mut(usize::from(number)).map(Option::take) else { return };
        self.unconfirmed -= channel.confirms.unsettled();
        self.kept -= channel.confirms.kept();
        channel.confirms.journal = None;
        channel.confirms.abort(&mut self.wakes);
        self.wakes.extend(channel.returns_waker.take());
        let modes = channel.modes();
        channel.end.set(error.clone(), modes, channel.confirms);
        self.fail_requests(Some(number), error);
        let mut queues = Vec::new();
        for (_, consumer) in self.consumers.iter_mut() {
            if consumer.channel == number && consumer.end.is_none() {
                consumer.end = Some(ConsumerEnd::Failed(error.clone()));
                queues.push(consumer.start.queue.clone());
                self.wakes.extend(consumer.waker.take());
            }
        }
        self.forget_dropped_consumers(number);
        if !self.ended {
            queues.iter().for_each(|queue| self.consumer_over(queue));
        }
    }
}

impl ChannelEnd {
    fn set(&self, reason: Error, modes: Modes, confirms: Confirms) {
        // A channel ends once.
        let _ = self.modes.set(modes);
        *self.confirms.lock().unwrap_or_else(PoisonError::into_inner) = Some(confirms);
        let _ = self.reason.set(reason);
    }

    /// The channel's present link. It changes under the connection's lock.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// How the channel was set up, if it has ended.
    pub(crate) fn modes(&self) -> Option<Modes> {
        self.modes.get().copied()
    }

    /// Why the channel ended.
    pub(crate) fn reason(&self) -> Option<Error> {
        self.reason.get().cloned()
    }

    /// What became of a publish: its outcome if it was settled before the end, else the reason of the end.
    pub(crate) fn outcome(&self, tag: u64) -> Result<()> {
        let mut confirms = self.confirms.lock().unwrap_or_else(PoisonError::into_inner);
        match confirms.as_mut().and_then(|confirms| confirms.outcome(tag)) {
            Some(outcome) => outcome,
            None => Err(self.reason().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the channel is closed"))),
        }
    }
}
