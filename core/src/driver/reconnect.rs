//! What the driver does when an attempt to connect fails or the link is lost: it tries the next host, waits and tries
//! again, or ends the connection.

use std::task::{Context, Waker};
use std::time::Duration;

use hopmq_proto::{Elapsed, Time};
use tracing::{debug, info, warn};

use super::{Driver, Phase};
use crate::error::{Error, ErrorKind};
use crate::io::Transport;
use crate::io::connector::Connector;
use crate::io::timer::Timer;
use crate::state::events::Event;

impl<T: Transport, R: Timer, C: Connector<Transport = T>> Driver<T, R, C> {
    /// Handles the failure of an attempt, or the loss of the link.
    pub(super) fn handle_loss(&mut self, error: Error) {
        let now = self.shared.clock.now();
        let established = self.recovering.is_established();
        let (over, opened, closed) = {
            let state = self.shared.lock();
            let over = state.is_ended() || state.is_closing() || self.recovering.is_final();
            let closed = if state.has_unconfirmed() { None } else { state.close_without_link() };
            (over, state.is_link_open(), closed)
        };
        if let Some(closed) = closed
            && established
            && self.policy.enabled
        {
            // Nothing is left to do but to close: that needs no new link.
            return self.end(closed);
        }
        if over || error.kind() == ErrorKind::Closed {
            return self.end(error);
        }
        if !established {
            return self.handle_failed_connect(error, now);
        }
        if !self.policy.enabled {
            return self.end(error);
        }
        if let Phase::Linked(link) = &mut self.phase {
            link.take_last_output();
            let _ = link.poll_close(&mut Context::from_waker(Waker::noop()));
        }
        let worked = self.recovering.worked(now);
        let recovering = &mut self.recovering;
        self.shared.with_driver(|state| recovering.lose_link(state, &error, now));
        if !opened {
            return self.handle_failed_reconnect(error, now);
        }
        self.since = now;
        self.attempts = 0;
        self.forget_failures();
        self.refusals = 0;
        let delay = self.backoff.replace(worked);
        self.wait_for_attempt(delay, error, now);
    }

    /// Handles a failed attempt at one host before the first link was established.
    fn handle_failed_connect(&mut self, error: Error, now: Time) {
        self.note_failure(&error);
        let is_final = error.is_refusal() && error.kind() != ErrorKind::ConnectionClosed;
        if !is_final && self.attempt_at_once(now) {
            return;
        }
        let wait = self.policy.broker.filter(|_| self.connector.reconnects() && !error.is_refusal());
        if let Some(wait) = wait
            && now < self.since + wait
        {
            self.forget_failures();
            let delay = self.backoff.next().min(self.since + wait - now);
            debug!(%error, ?delay, "no host accepts the connection yet");
            self.phase = Phase::Waiting(now + delay);
            return;
        }
        let error = if self.failures.len() == 1 || is_final { error } else { self.all_failed(&error) };
        self.end(error);
    }

    /// Begins an attempt at another address of the same host, or at the next host of the present round.
    fn attempt_at_once(&mut self, now: Time) -> bool {
        if self.attempt_other_address(now) {
            return true;
        }
        self.failed_hosts += 1;
        let is_next = self.failed_hosts < self.connector.hosts();
        if is_next {
            self.attempt();
        }
        is_next
    }

    fn forget_failures(&mut self) {
        self.failures.clear();
        self.failed_hosts = 0;
    }

    fn note_failure(&mut self, error: &Error) {
        let host = self.connector.host();
        debug!(host, %error, "could not connect");
        self.failures.push(format!("{host}: {error}"));
    }

    fn all_failed(&self, last: &Error) -> Error {
        last.wrapped(last.kind(), format!("no host accepted the connection: {}", self.failures.join("; ")))
    }

    /// Handles a failed attempt to reconnect at one host.
    fn handle_failed_reconnect(&mut self, error: Error, now: Time) {
        self.note_failure(&error);
        if error.is_refusal() {
            self.refusals += 1;
        } else {
            self.refusals = 0;
            if self.attempt_at_once(now) {
                return;
            }
        }
        self.forget_failures();
        let attempts = self.attempts;
        if self.refusals > self.policy.refusals {
            return self.give_up(
                &error,
                format!("the broker refused the connection {} times in a row", self.refusals),
                now,
            );
        }
        if self.policy.attempts.is_some_and(|most| attempts / self.connector.hosts().max(1) as u32 >= most) {
            return self.give_up(&error, format!("{attempts} attempts to reconnect failed"), now);
        }
        let delay = self.backoff.next();
        self.wait_for_attempt(delay, error, now);
    }

    /// Waits for the next attempt.
    fn wait_for_attempt(&mut self, mut delay: Duration, error: Error, now: Time) {
        if let Some(total) = self.policy.total {
            let left = total.saturating_sub(now - self.since);
            if left.is_zero() {
                let why = format!("the connection could not be restored within {}", Elapsed(total));
                return self.give_up(&error, why, now);
            }
            delay = delay.min(left);
        }
        let attempt = self.attempts;
        info!(%error, ?delay, attempt, "reconnecting");
        if attempt > 0 {
            self.shared.with_driver(|state| state.emit(&Event::Retrying { attempt, delay, error }));
        }
        self.phase = Phase::Waiting(now + delay);
    }

    fn give_up(&mut self, error: &Error, why: String, now: Time) {
        let attempts = self.attempts;
        let outage = Elapsed(now - self.since);
        let text = format!("{why}, {outage} after the link to the broker was lost; last error: {error}");
        let error = error.wrapped(error.kind(), &text);
        warn!("{text}");
        self.shared.with_driver(|state| state.emit(&Event::GaveUp { attempts, error: error.clone() }));
        self.end(error);
    }
}
