//! A connection in a process that inherited it by a fork, where no driver will ever move it.

use std::task::Waker;

use hopmq_proto::{Config, Role};

use super::{Shared, State};
use crate::error::Error;
use crate::policy::Recovery;
use crate::sync::{Mutex, MutexGuard, PoisonError, Weak};

impl Shared {
    fn foreign(&self) -> Error {
        self.process.error("this connection", "open another one")
    }

    /// Ends the connection in this process, which is not the connection's own. The connection of that process stays.
    #[cold]
    pub(crate) fn disown(&self) {
        let error = self.end(self.foreign());
        self.with_driver(|state| state.end_all(&error));
    }

    /// Called for a future that waits: its thread may lead the connection. In a process without the driver, the
    /// connection ends, which wakes the future. Returns whether an answer may have come meanwhile.
    #[inline]
    pub(super) fn note_wait(&self, waker: &Waker) -> bool {
        // A future that is polled without a waker does not wait yet.
        if !waker.will_wake(Waker::noop()) && !self.is_ended() && self.process.is_other() {
            self.disown();
            return false;
        }
        self.inline_driver.get().and_then(Weak::upgrade).is_some_and(|driver| driver.note_wait())
    }

    /// Takes the lock of a state that has ended, in place of the one that a thread of another process holds.
    #[cold]
    pub(super) fn lock_inherited(&self) -> MutexGuard<'_, State> {
        let error = self.end(self.foreign());
        let ended = || {
            let proto = hopmq_proto::Connection::new(Role::Client, Config::default());
            let mut state = State::new(proto, self.limits, &Recovery::off());
            state.end_all(&error);
            Mutex::new(state)
        };
        self.inherited.get_or_init(ended).lock().unwrap_or_else(PoisonError::into_inner)
    }
}
