//! When the handles wake the driver.

use std::task::Waker;
use std::time::Duration;

use hopmq_proto::Time;

use super::wakers::Wakers;

/// The waker of the sleeping driver, and the reasons to wake the driver.
#[derive(Debug, Default)]
pub(crate) struct DriverWakeup {
    /// The driver's waker while it sleeps.
    waker: Option<Waker>,
    /// When the driver's timer wakes it.
    alarm: Time,
    /// Whether the driver must be woken even without output.
    requested: bool,
    /// Whether the transport is full: more output is no reason to wake the driver.
    stalled: bool,
    /// Whether handles may poll the driver on their own threads.
    polled_inline: bool,
}

impl DriverWakeup {
    /// Requests that the driver is woken when the lock is released.
    #[inline]
    pub(super) fn request(&mut self) {
        self.requested = true;
    }

    /// Requests that the driver is woken if it would sleep past `deadline`.
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

    /// Takes the driver's waker, if the driver sleeps and must write, read, or do what was requested.
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
