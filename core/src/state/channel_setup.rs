//! Opening, setting up and closing channels.

use hopmq_proto::method::{Encode, basic, channel, tx};
use hopmq_proto::{Time, code};

use super::channels::{ChannelId, Modes, Prefetch, Transaction};
use super::consumers::ConsumerEnd;
use super::keys::{self, RequestKey};
use super::ledger::Name;
use super::requests::{Reply, RequestKind};
use super::{Shared, State};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;

impl Shared {
    /// Runs `action` for a future that waits for the broker, if the channel is open and stays open.
    pub(super) fn on_channel<T>(&self, channel: &ChannelId, action: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.with_flush(|state| {
            if state.channels.find(channel.number, channel.serial).is_none() {
                return Err(self.channel_reason(channel));
            }
            if state.is_closing() {
                return Err(being_closed());
            }
            action(state)
        })
    }

    /// Returns why a channel is closed.
    pub(crate) fn channel_reason(&self, channel: &ChannelId) -> Error {
        channel.end.reason().unwrap_or_else(|| self.reason())
    }

    pub(crate) fn is_channel_open(&self, channel: &ChannelId) -> bool {
        self.lock().channels.find(channel.number, channel.serial).is_some()
    }

    /// Returns how a channel is set up, or was when it ended.
    pub(crate) fn modes(&self, channel: &ChannelId) -> Modes {
        let open = self.lock().channels.find(channel.number, channel.serial).map(|channel| channel.modes());
        open.or_else(|| channel.end.modes()).unwrap_or_default()
    }

    /// Opens a channel. Returns the request and the channel.
    pub(crate) fn open_channel(&self, modes: Modes, deadline: Time) -> Result<(RequestKey, ChannelId)> {
        self.with_flush(|state| {
            self.check_open(state)?;
            let Some(number) = state.free_channel() else {
                let max = state.channel_max;
                return Err(Error::new(ErrorKind::Usage, format!("all {max} channels of the connection are in use")));
            };
            let request = state.request(number, &channel::Open {}, RequestKind::OpenChannel, deadline)?;
            let channel = state.channels.insert(number, modes, state.republishes, request);
            if let Some(request) = state.requests.get_mut(request) {
                request.serial = channel.serial;
            }
            if state.is_up() {
                state.send_modes(number);
            }
            Ok((request, channel))
        })
    }

    /// Closes a channel. Returns the request.
    pub(crate) fn close_channel(&self, channel: &ChannelId, deadline: Time) -> Result<RequestKey> {
        self.on_channel(channel, |state| {
            let request = state.insert_request(0, RequestKind::Plain, deadline);
            let reply = Some(keys::number(request));
            if !state.is_up() {
                // The channel is not on a link, and will not be opened on the next one.
                state.settle_request(request, Ok(Reply::Done));
            } else if let Err(error) = state.proto.close_channel(channel.number, code::REPLY_SUCCESS, "", reply) {
                state.remove_request(request);
                return Err(error.into());
            }
            state.end_channel(channel.number, &closed_here());
            Ok(request)
        })
    }

    /// Closes a channel, if it is open, after the drop of its last handle.
    pub(crate) fn drop_channel(&self, channel: &ChannelId) {
        self.with(|state| {
            if state.channels.find(channel.number, channel.serial).is_some() {
                // Closing an open channel fails only if the connection has ended.
                let _ = state.close_channel(channel.number);
            }
        });
    }

    /// Sets a prefetch of a channel. Returns the request.
    pub(crate) fn set_prefetch(&self, channel: &ChannelId, qos: basic::Qos, deadline: Time) -> Result<RequestKey> {
        self.on_channel(channel, |state| {
            let number = channel.number;
            let Some(known) = state.channels.get_mut(number) else { return Err(self.channel_reason(channel)) };
            let slot = if qos.global { &mut known.prefetch.shared } else { &mut known.prefetch.each };
            *slot = Some(qos.prefetch_count);
            let prefetch = known.prefetch;
            let request = state.request(number, &qos, RequestKind::Plain, deadline)?;
            if !qos.global && state.is_up() {
                state.share_prefetch(number, prefetch)?;
            }
            Ok(request)
        })
    }

    /// Returns the name of a queue that the broker named, which follows the queue when the broker renames it.
    pub(crate) fn queue_name_of_broker(&self, name: &str) -> Option<Arc<Name>> {
        self.lock().ledger.name(name)
    }

    /// Makes a channel transactional. Returns the request.
    pub(crate) fn select_transaction(&self, channel: &ChannelId, deadline: Time) -> Result<RequestKey> {
        self.on_channel(channel, |state| {
            let request = state.request(channel.number, &tx::Select {}, RequestKind::Plain, deadline)?;
            if let Some(channel) = state.channels.get_mut(channel.number)
                && channel.transaction == Transaction::None
            {
                channel.transaction = Transaction::Going;
            }
            Ok(request)
        })
    }

    /// Commits a transaction, or rolls it back. Returns the request.
    pub(crate) fn end_transaction(
        &self,
        channel: &ChannelId,
        method: &impl Encode,
        commits: bool,
        deadline: Time,
    ) -> Result<RequestKey> {
        self.on_channel(channel, |state| {
            if let Some(channel) = state.channels.get_mut(channel.number)
                && channel.transaction == Transaction::Lost
            {
                channel.transaction = Transaction::Going;
                if commits {
                    return Err(transaction_lost());
                }
            }
            state.request(channel.number, method, RequestKind::Plain, deadline)
        })
    }
}

impl State {
    /// Returns a free channel number.
    fn free_channel(&self) -> Option<u16> {
        if self.is_up() { self.proto.free_channel() } else { self.channels.free_number(self.channel_max) }
    }

    /// Returns the name of a queue. An empty name stands for the queue that was declared last on the channel.
    pub(super) fn queue_name(&self, channel: u16, name: &str) -> String {
        match self.channels.get(channel) {
            Some(channel) if name.is_empty() => self.ledger.current(&channel.last_queue).to_owned(),
            _ => name.to_owned(),
        }
    }

    /// Closes a channel whose close no future awaits.
    pub(super) fn close_channel(&mut self, number: u16) -> Result<(), hopmq_proto::Error> {
        self.proto.close_channel(number, code::REPLY_SUCCESS, "", None)?;
        self.end_channel(number, &closed_here());
        Ok(())
    }

    /// Repeats the prefetch that all consumers of a channel share: RabbitMQ forgets it with each prefetch for single
    /// consumers.
    pub(super) fn share_prefetch(&mut self, channel: u16, prefetch: Prefetch) -> Result<()> {
        if let Some(prefetch_count) = prefetch.shared {
            self.proto.request(channel, &basic::Qos { prefetch_count, global: true }, None)?;
        }
        Ok(())
    }

    /// Ends a channel and everything on it with `error`.
    pub(super) fn end_channel(&mut self, number: u16, error: &Error) {
        let Some(mut channel) = self.channels.take(number) else { return };
        self.outstanding.remove(channel.confirms.unsettled());
        self.outstanding.release(channel.confirms.kept());
        channel.confirms.abort(&mut self.wakers);
        self.wakers.wake(channel.returns.waker());
        let modes = channel.modes();
        channel.end.set(error.clone(), modes, channel.confirms);
        self.fail_requests(Some(number), error);
        let mut queues = Vec::new();
        for key in self.consumers.of_channel(number) {
            if self.consumers.get(key).is_some_and(|consumer| !consumer.has_ended())
                && let Some(consumer) = self.consumers.end(key, ConsumerEnd::Failed(error.clone()))
            {
                queues.push(consumer.start.queue.clone());
                self.wakers.wake(&mut consumer.waker);
            }
        }
        self.consumers.remove_dropped(number);
        if !self.lifecycle.is_ended() {
            queues.iter().for_each(|queue| self.consumer_over(queue));
        }
    }
}

fn closed_here() -> Error {
    Error::new(ErrorKind::Closed, "this program closed the channel")
}

pub(super) fn being_closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closing: nothing more can be sent on it")
}

/// Returns the error of a transaction that can no longer be committed.
pub(super) fn transaction_lost() -> Error {
    let text = "the link to the broker was lost during the transaction, and nothing of it is committed: \
                repeat the whole transaction";
    Error::new(ErrorKind::OutcomeUnknown, text)
}
