//! The open channels, and how each channel ended.

use std::collections::VecDeque;
use std::task::Waker;

use super::confirms::Confirms;
use super::keys::RequestKey;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Returned;
use crate::sync::{Arc, AtomicU32, Mutex, OnceLock, Ordering, PoisonError};

/// The open channels, by number.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    list: Vec<Option<ChannelState>>,
    /// The serial number of the channel that was opened last.
    serial: u64,
}

/// A channel's number, with a serial number that tells it from earlier channels of the same number.
#[derive(Debug)]
pub(crate) struct ChannelId {
    pub(crate) number: u16,
    pub(crate) serial: u64,
    pub(crate) end: Arc<ChannelEnd>,
}

/// An open channel.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(super) serial: u64,
    pub(super) end: Arc<ChannelEnd>,
    pub(super) confirms: Confirms,
    pub(super) returns: Returns,
    pub(super) prefetch: Prefetch,
    /// Whether the channel is in confirm mode.
    pub(super) confirming: bool,
    pub(super) transaction: Transaction,
    /// A name of the queue that was declared last, which an empty queue name stands for.
    pub(super) last_queue: String,
    /// The request that opened the channel, or opens it.
    pub(super) request: RequestKey,
}

/// Returned messages for [`Channel::returns`](crate::Channel::returns).
#[derive(Debug, Default)]
pub(crate) struct Returns {
    messages: VecDeque<Returned>,
    waker: Option<Waker>,
    wanted: bool,
}

/// Returned messages that a channel keeps for [`Channel::returns`](crate::Channel::returns).
const MAX_RETURNS: usize = 1024;

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
    /// The link was lost with an uncommitted transaction; the next commit fails.
    Lost,
}

/// The prefetch of a channel by `basic.qos`, apart from the prefetch of single consumers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Prefetch {
    /// For each consumer without a prefetch of its own.
    pub(crate) each: Option<u16>,
    /// For all consumers together.
    pub(crate) shared: Option<u16>,
}

/// Why a channel ended, and the outcomes of its publishes. The channel's handles keep it after the channel's end.
#[derive(Debug, Default)]
pub(crate) struct ChannelEnd {
    reason: OnceLock<Error>,
    /// How the channel was set up when it ended.
    modes: OnceLock<Modes>,
    /// How often the link was lost. A delivery of an earlier epoch can no longer be settled.
    epoch: AtomicU32,
    confirms: Mutex<Option<Confirms>>,
}

impl Channels {
    #[inline]
    pub(super) fn get(&self, number: u16) -> Option<&ChannelState> {
        self.list.get(usize::from(number)).and_then(Option::as_ref)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u16) -> Option<&mut ChannelState> {
        self.list.get_mut(usize::from(number)).and_then(Option::as_mut)
    }

    /// Returns the channel of this number, if it is the one with this serial number.
    #[inline]
    pub(super) fn find(&mut self, number: u16, serial: u64) -> Option<&mut ChannelState> {
        self.get_mut(number).filter(|channel| channel.serial == serial)
    }

    pub(super) fn is_open(&self, number: u16) -> bool {
        self.get(number).is_some()
    }

    /// Returns the numbers that channels have or had.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        (1..self.list.len()).map(|number| number as u16)
    }

    /// Returns the lowest number up to `max` that no channel has.
    pub(super) fn free_number(&self, max: u16) -> Option<u16> {
        (1..=max).find(|number| !self.is_open(*number))
    }

    /// Inserts a channel. Publishes are kept to publish them again if `republishes`.
    pub(super) fn insert(&mut self, number: u16, modes: Modes, republishes: bool, request: RequestKey) -> ChannelId {
        self.serial += 1;
        let index = usize::from(number);
        if index >= self.list.len() {
            self.list.resize_with(index + 1, || None);
        }
        let end = Arc::<ChannelEnd>::default();
        self.list[index] = Some(ChannelState {
            serial: self.serial,
            end: Arc::clone(&end),
            confirms: Confirms::new(republishes),
            returns: Returns::default(),
            prefetch: modes.prefetch,
            confirming: modes.confirming,
            transaction: if modes.transactional { Transaction::Going } else { Transaction::None },
            last_queue: String::new(),
            request,
        });
        ChannelId { number, serial: self.serial, end }
    }

    /// Removes a channel.
    pub(super) fn take(&mut self, number: u16) -> Option<ChannelState> {
        self.list.get_mut(usize::from(number)).and_then(Option::take)
    }
}

impl ChannelState {
    /// Returns how the channel is set up.
    pub(super) fn modes(&self) -> Modes {
        Modes {
            prefetch: self.prefetch,
            confirming: self.confirming,
            transactional: self.transaction != Transaction::None,
        }
    }
}

impl Returns {
    /// Notes that a stream takes the messages from now on.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Keeps a message. Returns whether it displaced the oldest one.
    pub(super) fn push(&mut self, returned: Returned) -> bool {
        let is_full = self.messages.len() == MAX_RETURNS;
        if is_full {
            self.messages.pop_front();
        }
        self.messages.push_back(returned);
        is_full
    }

    pub(super) fn pop(&mut self) -> Option<Returned> {
        self.messages.pop_front()
    }

    pub(super) fn waker(&mut self) -> &mut Option<Waker> {
        &mut self.waker
    }
}

impl ChannelEnd {
    pub(super) fn set(&self, reason: Error, modes: Modes, confirms: Confirms) {
        // A channel ends once.
        let _ = self.modes.set(modes);
        *self.confirms.lock().unwrap_or_else(PoisonError::into_inner) = Some(confirms);
        let _ = self.reason.set(reason);
    }

    /// Returns the number of the channel's present link. It changes under the connection's lock.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how the channel was set up, if it has ended.
    pub(super) fn modes(&self) -> Option<Modes> {
        self.modes.get().copied()
    }

    /// Returns why the channel ended.
    pub(super) fn reason(&self) -> Option<Error> {
        self.reason.get().cloned()
    }

    /// Returns the outcome of a publish: its own if it was settled before the channel's end, else why the channel
    /// ended.
    pub(super) fn outcome(&self, tag: u64) -> Result<()> {
        let mut confirms = self.confirms.lock().unwrap_or_else(PoisonError::into_inner);
        match confirms.as_mut().and_then(|confirms| confirms.outcome(tag)) {
            Some(outcome) => outcome,
            None => Err(self.reason().unwrap_or_else(|| Error::new(ErrorKind::Closed, "the channel is closed"))),
        }
    }
}
