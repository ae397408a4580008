//! When the handles wake the driver.

use std::task::Waker;
use std::time::Duration;

use hopmq_proto::Time;

use super::wakers::Wakers;

/// The sleeping driver, and what it must be woken for.
#[derive(Debug, Default)]
pub(crate) struct DriverWakeup {
    /// The driver's waker while it sleeps.
    waker: Option<Waker>,
    /// When the driver's timer wakes it.
    alarm: Time,
    /// The driver must be woken even if nothing waits to be written.
    requested: bool,
    /// The transport is full: more output is no reason to wake the driver.
    stalled: bool,
    /// Handles may poll the driver on their own threads.
    polled_inline: bool,
}

impl DriverWakeup {
    /// Has the driver woken when the lock is released.
    #[inline]
    pub(super) fn request(&mut self) {
        self.requested = true;
    }

    /// Has the driver woken if it would sleep past `deadline`.
    #[inline]
    pub(super) fn request_before(&mut self, deadline: Time) {
        self.requested |= deadline < self.alarm;
    }

    /// Whether the driver was requested and has not slept since.
    pub(super) fn is_requested(&self) -> bool {
        self.requested
    }

    /// Stores the waker of the driver, which sleeps until `alarm`, or until it is woken if there is none.
    pub(super) fn sleep(&mut self, waker: &Waker, alarm: Option<Time>, wakers: &mut Wakers) {
        wakers.register(&mut self.waker, waker);
        self.alarm = alarm.unwrap_or(Time::from_epoch(Duration::MAX));
        self.requested = false;
    }

    /// Takes the driver's waker, if the driver sleeps and has something to do: to write, to read, or what was
    /// requested.
    #[inline]
    pub(super) fn take(&mut self, writes: bool, reads: bool) -> Option<Waker> {
        if self.requested || (writes && !self.stalled) || reads { self.waker.take() } else { None }
    }

    pub(super) fn set_stalled(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    pub(super) fn set_polled_inline(&mut self) {
        self.polled_inline = true;
    }

    #[inline]
    pub(super) fn is_polled_inline(&self) -> bool {
        self.polled_inline
    }
}
