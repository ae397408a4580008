//! A login on its way: waits for its turn, then for its verification.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_executor::Task;

use super::{Logins, Source, Ticket, Turn};
use crate::clock::Alarm;
use crate::engine::Claim;
use crate::server::passwords;
use crate::server::shared::Shared;

/// A login whose password must be verified. Dropping it cancels that.
pub(in crate::server) struct Attempt {
    shared: Arc<Shared>,
    pub(in crate::server) claim: Claim,
    ticket: Ticket,
    alarm: Alarm,
    verification: Option<Task<bool>>,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Outcome {
    /// Whether the password is right.
    Verified(bool),
    /// It could not be verified in time.
    Late,
}

impl Attempt {
    pub(in crate::server) fn new(shared: &Arc<Shared>, source: Option<Source>, claim: Claim) -> Self {
        let (right, wrong) = (shared.mac_key.digest(None, &claim), shared.mac_key.digest(source, &claim));
        let now = shared.clock.now();
        let ticket = with(shared, |logins, wakes| {
            let login = logins.login(source, &claim.user, right, wrong);
            logins.enter(now, login, wakes)
        });
        Self { alarm: shared.clock.alarm(), shared: Arc::clone(shared), claim, ticket, verification: None }
    }

    pub(in crate::server) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        while self.verification.is_none() {
            let now = self.shared.clock.now();
            match with(&self.shared, |logins, wakes| logins.turn(now, self.ticket, context.waker(), wakes)) {
                Turn::Known(holds) => return Poll::Ready(Outcome::Verified(holds)),
                Turn::Late => return Poll::Ready(Outcome::Late),
                Turn::Wait(until) => {
                    if self.alarm.poll_until(until, context).is_pending() {
                        return Poll::Pending;
                    }
                }
                Turn::Verify => {
                    let cost = self.shared.lock().hash_cost();
                    let claim = &self.claim;
                    if self.shared.by_hand {
                        let holds = passwords::fits(&claim.password, claim.hash.as_deref(), &claim.kinds, cost);
                        return Poll::Ready(self.finish(holds));
                    }
                    self.verification = Some(passwords::check(claim.clone(), cost));
                }
            }
        }
        match &mut self.verification {
            Some(verification) => Pin::new(verification).poll(context).map(|holds| self.finish(holds)),
            None => Poll::Pending,
        }
    }

    fn finish(&self, holds: bool) -> Outcome {
        let now = self.shared.clock.now();
        self.shared.logins().finish(now, self.ticket, holds);
        Outcome::Verified(holds)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        with(&self.shared, |logins, wakes| logins.end(now, self.ticket, wakes));
    }
}

/// Changes the logins, and wakes those that are affected, without the lock.
fn with<T>(shared: &Shared, change: impl FnOnce(&mut Logins, &mut Vec<Waker>) -> T) -> T {
    let mut wakes = Vec::new();
    let result = change(&mut shared.logins(), &mut wakes);
    wakes.into_iter().for_each(Waker::wake);
    result
}
