//! Ending a connection: by this program, gracefully, or with an error.

use std::task::{Poll, Waker};
use std::time::Duration;

use hopmq_proto::{Time, code};

use super::channel_setup::being_closed;
use super::events::Event;
use super::keys::{RequestKey, WaiterKey};
use super::lifecycle::Closing;
use super::requests::RequestKind;
use super::{Shared, State};
use crate::error::{Error, ErrorKind, Result};

/// How long the last bytes of a connection may take to be written, and the broker to answer `connection.close`.
pub(crate) const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(2);

/// A shutdown that waits until consumers are cancelled and deliveries are settled.
#[derive(Debug)]
pub(crate) struct Settling {
    /// The requests that cancel the consumers.
    cancels: Vec<RequestKey>,
    key: Option<WaiterKey>,
    /// The request that stands for the deadline.
    alarm: Option<RequestKey>,
    deadline: Time,
}

impl Settling {
    pub(crate) fn new(cancels: Vec<RequestKey>, deadline: Time) -> Self {
        Self { cancels, key: None, alarm: None, deadline }
    }
}

impl Shared {
    /// Begins a graceful close: confirms are awaited until `deadline`, and all output may take until `flush` to be
    /// written. The first close counts.
    pub(crate) fn begin_close(&self, deadline: Time, flush: Time) {
        self.with(|state| {
            state.lifecycle.begin_close(deadline, flush);
            state.driver.request();
        });
    }

    /// Fails if the connection has ended or is being closed.
    pub(super) fn check_open(&self, state: &State) -> Result<()> {
        if state.lifecycle.is_ended() {
            return Err(self.reason());
        }
        if state.is_closing() { Err(being_closed()) } else { Ok(()) }
    }

    /// Ready when the connection has ended. `key` keeps the registration of the future.
    pub(crate) fn poll_ended(&self, key: &mut Option<WaiterKey>, waker: &Waker) -> Poll<()> {
        let polled = self.with(|state| {
            if state.lifecycle.is_ended() {
                return Poll::Ready(());
            }
            state.close_waiters.register(key, waker, &mut state.wakers);
            Poll::Pending
        });
        if polled.is_pending() {
            self.note_wait(waker);
        }
        polled
    }

    /// Handles the drop of a future that waited for the end of the connection.
    pub(crate) fn forget_close_waiter(&self, key: WaiterKey) {
        // The waker is dropped without the lock: see `Wakers`.
        let waker = self.with(|state| state.close_waiters.remove(key));
        drop(waker);
    }

    /// Ready when the consumers are cancelled and all deliveries are settled, or with the error of the deadline.
    pub(crate) fn poll_settled(&self, settling: &mut Settling, waker: &Waker) -> Poll<Result<()>> {
        let polled = self.with(|state| {
            // The outcome does not matter: a lost link cancels the consumers too.
            settling.cancels.retain(|request| state.poll_request(*request, waker).is_pending());
            if state.lifecycle.is_ended() || settling.cancels.is_empty() && state.unsettled() == 0 {
                return Poll::Ready(Ok(()));
            }
            state.settle_waiters.register(&mut settling.key, waker, &mut state.wakers);
            let deadline = settling.deadline;
            let alarm = *settling.alarm.get_or_insert_with(|| state.insert_request(0, RequestKind::Alarm, deadline));
            state.poll_request(alarm, waker).map(|late| late.map(drop))
        });
        if polled.is_pending() {
            self.note_wait(waker);
        }
        polled
    }

    /// Removes the requests of a shutdown that no longer waits.
    pub(crate) fn forget_settling(&self, settling: &Settling) {
        let waker = self.with(|state| {
            settling.cancels.iter().chain(&settling.alarm).for_each(|request| state.abandon(*request));
            settling.key.and_then(|key| state.settle_waiters.remove(key))
        });
        drop(waker);
    }
}

impl State {
    /// Continues a graceful close. An error ends the connection.
    pub(crate) fn tick_closing(&mut self, now: Time) -> Result<()> {
        let Some(closing) = self.lifecycle.closing() else { return Ok(()) };
        let publishes = self.outstanding.publishes();
        if !self.is_up() {
            // Restoring the link would only delay the close.
            return Err(self.closed(publishes, true));
        }
        let late = now >= closing.deadline();
        match closing {
            Closing::Confirming { flush, .. } if publishes == 0 || late => {
                self.lifecycle.close_sent(flush.max(now + LAST_BYTES_TIMEOUT), publishes);
                self.proto.close(code::REPLY_SUCCESS, "closed by the client");
                Ok(())
            }
            Closing::Sent { unconfirmed, flushed, .. } if late => Err(self.closed(unconfirmed, flushed)),
            Closing::Confirming { .. } | Closing::Sent { .. } => Ok(()),
        }
    }

    /// Notes that the driver has written all output that it took.
    pub(crate) fn note_flushed(&mut self, now: Time) {
        if self.proto.queued() == 0 {
            self.lifecycle.flushed(now + LAST_BYTES_TIMEOUT);
        }
    }

    /// Returns the error of a close that does not wait for a link. `None` if this program does not close the
    /// connection.
    pub(crate) fn close_without_link(&self) -> Option<Error> {
        self.is_closing().then(|| self.closed(self.outstanding.publishes(), true))
    }

    /// Handles the broker's `connection.close-ok`.
    pub(super) fn closed_by_program(&self) -> Error {
        let unconfirmed = match self.lifecycle.closing() {
            Some(Closing::Sent { unconfirmed, .. }) => unconfirmed,
            Some(Closing::Confirming { .. }) | None => 0,
        };
        self.closed(unconfirmed, true)
    }

    /// Returns the error of a connection that this program closed, with what was left unfinished.
    fn closed(&self, unconfirmed: usize, flushed: bool) -> Error {
        let closed = "the connection was closed by this program";
        let unfinished = match (unconfirmed, flushed) {
            (0, true) => return Error::new(ErrorKind::Closed, closed),
            (0, false) => "before all output could be written".to_owned(),
            (count, _) => format!("while {count} publishes were not confirmed in time"),
        };
        let comma = if unconfirmed > 0 { "," } else { "" };
        let blocked = self.blocking.describe();
        Error::new(ErrorKind::Timeout, format!("{closed}{comma} {unfinished}{blocked}"))
    }

    /// Ends the connection and everything on it with `error`.
    pub(crate) fn end_all(&mut self, error: &Error) {
        if !self.lifecycle.end() {
            return;
        }
        for number in self.channels.numbers() {
            self.end_channel(number, error);
        }
        self.fail_requests(None, error);
        self.close_waiters.wake_all(&mut self.wakers);
        self.settle_waiters.wake_all(&mut self.wakers);
        self.subscribers.end(Event::Closed { error: error.clone() }, &mut self.wakers);
    }
}
