//! The driver: keeps a connection linked to the broker.
//!
//! Owns the connector, the timer, and the link while there is one. It connects, has the link move its bytes until it is
//! lost, waits, and connects again, until the connection is closed or given up. It needs no task but its own.

pub(crate) mod inline;
mod link;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hopmq_proto::{Config, FieldTable, Role, Time};
use tracing::{debug, info, warn};

use crate::auth::authenticator::Authenticator;
use crate::auth::refresh::Refresh;
use crate::auth::sasl::{Credentials, CredentialsProvider, Sasl};
use crate::io::Transport;
use crate::io::connector::{Connector, Once};
use crate::io::timer::Timer;
use crate::policy::Recovery;
use crate::recovery::backoff::Backoff;
use crate::state::events::Event;
use crate::state::{Shared, State};
use crate::{Error, ErrorKind, Result};
use link::{LAST_WORDS, Link};

/// Drives one connection: a future that ends when the connection does. Spawn it, or poll it beside your own work.
///
/// Nothing moves on the connection while it isn't polled, heartbeats neither. When the link to the broker is lost, it
/// is the one that connects again (see [`Recovery`]). Dropping it ends the connection at once, without a word to the
/// broker; every waiting future ends with [`ErrorKind::Io`].
#[must_use = "nothing moves on the connection unless its driver is polled"]
pub struct Driver<T: Transport, R: Timer, C: Connector<Transport = T> = Once<T>> {
    shared: Arc<Shared>,
    timer: R,
    connector: C,
    login: Login,
    recovery: Recovery,
    backoff: Backoff,
    /// Since when there was no link.
    since: Time,
    /// Attempts since then.
    attempts: u32,
    /// Why the hosts of the present round did not let us in.
    failures: Vec<String>,
    /// How often in a row the broker refused us.
    refusals: u32,
    phase: Phase<T, C::Connecting>,
}

/// What each attempt begins with.
pub(crate) struct Login {
    pub(crate) config: Config,
    pub(crate) mechanisms: Vec<Arc<dyn Sasl>>,
    pub(crate) credentials: Arc<dyn CredentialsProvider>,
    pub(crate) properties: FieldTable,
    pub(crate) connect_timeout: Duration,
}

enum Phase<T: Transport, F> {
    /// Until the next attempt.
    Waiting(Time),
    Connecting(Box<Connecting<F>>),
    Linked(Box<Link<T>>),
    /// The connection is over; the last bytes are flushed until the given moment.
    Ending(Box<Link<T>>, Time),
    Ended,
}

/// An attempt before its handshake.
struct Connecting<F> {
    deadline: Time,
    fetching: Option<Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>>,
    credentials: Option<Credentials>,
    connecting: Pin<Box<F>>,
}

impl<F> Connecting<F> {
    fn poll<T>(&mut self, context: &mut Context<'_>) -> Poll<Result<(T, Credentials)>>
    where
        F: Future<Output = Result<T>>,
    {
        if let Some(fetching) = &mut self.fetching {
            let Poll::Ready(fetched) = fetching.as_mut().poll(context) else { return Poll::Pending };
            self.fetching = None;
            self.credentials = Some(fetched?);
        }
        let Poll::Ready(connected) = self.connecting.as_mut().poll(context) else { return Poll::Pending };
        let missing = || Error::new(ErrorKind::Authentication, "no credentials are left");
        Poll::Ready(connected.and_then(|transport| Ok((transport, self.credentials.take().ok_or_else(missing)?))))
    }
}

impl<T: Transport, R: Timer, C: Connector<Transport = T>> Driver<T, R, C> {
    pub(crate) fn new(shared: Arc<Shared>, timer: R, connector: C, login: Login, recovery: Recovery) -> Self {
        let (since, backoff) = (shared.clock.now(), Backoff::new(&recovery));
        Self {
            shared,
            timer,
            connector,
            login,
            recovery,
            backoff,
            since,
            attempts: 0,
            failures: Vec::new(),
            refusals: 0,
            phase: Phase::Waiting(since),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Does `action` under the lock, and wakes outside of it.
    fn with<V>(&self, action: impl FnOnce(&mut State) -> V) -> V {
        let mut state = self.shared.lock();
        let value = action(&mut state);
        let (wakes, spent) = (std::mem::take(&mut state.wakes), std::mem::take(&mut state.spent));
        drop(state);
        drop(spent);
        wakes.into_iter().for_each(Waker::wake);
        value
    }

    /// Begins an attempt, at the next host.
    fn attempt(&mut self) {
        let now = self.shared.clock.now();
        self.attempts += 1;
        let connecting = Box::pin(self.connector.connect());
        let (host, attempt) = (self.connector.host(), self.attempts);
        debug!(host, attempt, "connecting");
        let provider = Arc::clone(&self.login.credentials);
        self.with(|state| {
            state.recovery.host.clone_from(&host);
            state.tell(&Event::Connecting { attempt, host });
        });
        self.phase = Phase::Connecting(Box::new(Connecting {
            deadline: now + self.login.connect_timeout,
            fetching: Some(Box::pin(async move { provider.fetch().await })),
            credentials: None,
            connecting,
        }));
    }

    /// There is a transport: the handshake follows.
    fn link(&mut self, transport: T, credentials: Credentials, deadline: Time) {
        let refresh = Refresh::new(Arc::clone(&self.login.credentials), &credentials, self.shared.clock.now());
        let authenticator = Authenticator {
            mechanisms: self.login.mechanisms.clone(),
            credentials: Some(credentials),
            properties: self.login.properties.clone(),
            chosen: None,
        };
        let proto = hopmq_proto::Connection::new(Role::Client, self.login.config.clone());
        let timeout = self.login.connect_timeout;
        let old = self.with(|state| {
            state.opened = false;
            state.stalled = false;
            state.recovery.handshake = Some((deadline, timeout));
            std::mem::replace(&mut state.proto, proto)
        });
        drop(old);
        let link = Link::new(Arc::clone(&self.shared), transport, authenticator, refresh);
        self.phase = Phase::Linked(Box::new(link));
    }

    /// Sleeps until `until`, or until something is due, or somebody closes the connection.
    fn idle(&mut self, until: Time, context: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            let now = self.shared.clock.now();
            let alarm = self.with(|state| {
                state.expire(now);
                if state.closing.is_some() {
                    return Err(crate::state::dispatch::closed_here(state.unconfirmed, true));
                }
                let alarm = state.deadlines.first().map_or(until, |(deadline, _)| until.min(*deadline));
                state.sleep(context.waker(), Some(alarm));
                Ok(alarm)
            })?;
            if now >= until {
                return Poll::Ready(Ok(()));
            }
            if self.timer.poll_until(alarm, context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// An attempt failed, or the link is lost.
    fn lost(&mut self, error: Error) {
        let now = self.shared.clock.now();
        let (established, over, opened, done, works) = {
            let state = self.shared.lock();
            let over = state.ended || state.closing.is_some() || state.recovery.is_final;
            let done = state.closing.is_some() && state.unconfirmed == 0;
            (state.recovery.established, over, state.opened, done, state.recovery.works)
        };
        if done && established && self.recovery.enabled {
            // Nobody would connect again only to say goodbye.
            return self.end(crate::state::dispatch::closed_here(0, true));
        }
        if over || error.kind() == ErrorKind::Closed {
            return self.end(error);
        }
        if !established {
            return self.refused(error, now);
        }
        if !self.recovery.enabled {
            return self.end(error);
        }
        if let Phase::Linked(link) = &mut self.phase {
            link.take_last_words();
            let _ = link.poll_close(&mut Context::from_waker(Waker::noop()));
        }
        self.with(|state| state.suspend(&error, now));
        if !opened {
            return self.failed(error, now);
        }
        self.since = now;
        self.attempts = 0;
        self.failures.clear();
        self.refusals = 0;
        let delay = self.backoff.replace(works.map_or(Duration::ZERO, |works| now - works));
        self.wait(delay, error, now);
    }

    /// The first connection failed at one host.
    fn refused(&mut self, error: Error, now: Time) {
        self.note_failure(&error);
        let hosts = self.connector.hosts();
        let is_final = error.is_refusal() && error.kind() != ErrorKind::ConnectionClosed;
        if !is_final && self.failures.len() < hosts {
            return self.attempt();
        }
        let patience = self.recovery.broker.filter(|_| self.connector.reconnects() && !error.is_refusal());
        if let Some(patience) = patience
            && now < self.since + patience
        {
            self.failures.clear();
            let delay = self.backoff.next().min(self.since + patience - now);
            debug!(%error, ?delay, "no broker yet");
            self.phase = Phase::Waiting(now + delay);
            return;
        }
        let error = if hosts == 1 || is_final { error } else { self.all_failed(&error) };
        self.end(error);
    }

    fn note_failure(&mut self, error: &Error) {
        let host = self.connector.host();
        debug!(host, %error, "could not connect");
        self.failures.push(format!("{host}: {error}"));
    }

    fn all_failed(&self, last: &Error) -> Error {
        let text = format!("no host let us in: {}", self.failures.join("; "));
        last.code().map_or_else(|| Error::new(last.kind(), &text), |code| Error::with_code(last.kind(), code, &text))
    }

    /// An attempt to come back failed at one host.
    fn failed(&mut self, error: Error, now: Time) {
        self.note_failure(&error);
        if error.is_refusal() {
            self.refusals += 1;
        } else {
            self.refusals = 0;
            if self.failures.len() < self.connector.hosts() {
                return self.attempt();
            }
        }
        self.failures.clear();
        let attempts = self.attempts;
        if self.refusals > self.recovery.refusals {
            return self.give_up(&error, format!("the broker refused us {} times in a row", self.refusals), now);
        }
        if self.recovery.attempts.is_some_and(|most| attempts / self.connector.hosts().max(1) as u32 >= most) {
            return self.give_up(&error, format!("{attempts} attempts to connect again failed"), now);
        }
        let delay = self.backoff.next();
        self.wait(delay, error, now);
    }

    /// Waits for the next attempt.
    fn wait(&mut self, mut delay: Duration, error: Error, now: Time) {
        if let Some(total) = self.recovery.total {
            let left = total.saturating_sub(now - self.since);
            if left.is_zero() {
                return self.give_up(&error, format!("there was no way to connect again within {total:?}"), now);
            }
            delay = delay.min(left);
        }
        let attempt = self.attempts;
        info!(%error, ?delay, attempt, "connecting again");
        if attempt > 0 {
            self.with(|state| state.tell(&Event::Retrying { attempt, delay, error }));
        }
        self.phase = Phase::Waiting(now + delay);
    }

    fn give_up(&mut self, error: &Error, why: String, now: Time) {
        let (attempts, time) = (self.attempts, now - self.since);
        let text = format!("{why}, {time:?} after the link to the broker was lost; the last time: {error}");
        let kind = error.kind();
        let error = error.code().map_or_else(|| Error::new(kind, &text), |code| Error::with_code(kind, code, &text));
        warn!("{text}");
        self.with(|state| state.tell(&Event::GaveUp { attempts, error: error.clone() }));
        self.end(error);
    }

    /// The connection is over: everybody learns why, and the last bytes are to be flushed.
    fn end(&mut self, error: Error) {
        let error = self.shared.end(error);
        debug!(%error, "connection ended");
        let now = self.shared.clock.now();
        self.with(|state| state.end_all(&error));
        self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Linked(mut link) => {
                link.take_last_words();
                Phase::Ending(link, now + LAST_WORDS)
            }
            _ => Phase::Ended,
        };
    }
}

impl<T, R, C> Future for Driver<T, R, C>
where
    T: Transport,
    R: Timer + Unpin,
    C: Connector<Transport = T> + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let error = match &mut this.phase {
                Phase::Linked(link) => match link.run(&mut this.timer, context) {
                    Poll::Ready(Err(error)) => error,
                    Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                },
                Phase::Waiting(until) => {
                    let until = *until;
                    match this.idle(until, context) {
                        Poll::Ready(Ok(())) => {
                            this.attempt();
                            continue;
                        }
                        Poll::Ready(Err(error)) => error,
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Phase::Connecting(connecting) => {
                    let deadline = connecting.deadline;
                    match connecting.poll(context) {
                        Poll::Ready(Ok((transport, credentials))) => {
                            this.link(transport, credentials, deadline);
                            continue;
                        }
                        Poll::Ready(Err(error)) => error,
                        Poll::Pending => {
                            let late = this.late();
                            match this.idle(deadline, context) {
                                Poll::Ready(Ok(())) => late,
                                Poll::Ready(Err(error)) => error,
                                Poll::Pending => return Poll::Pending,
                            }
                        }
                    }
                }
                Phase::Ending(link, until) => {
                    if link.poll_close(context).is_pending() && this.timer.poll_until(*until, context).is_pending() {
                        return Poll::Pending;
                    }
                    this.phase = Phase::Ended;
                    return Poll::Ready(());
                }
                Phase::Ended => return Poll::Ready(()),
            };
            this.lost(error);
        }
    }
}

impl<T: Transport, R: Timer, C: Connector<Transport = T>> Driver<T, R, C> {
    /// An attempt takes too long.
    fn late(&self) -> Error {
        let time = self.login.connect_timeout;
        let text = match &self.phase {
            Phase::Connecting(connecting) if connecting.fetching.is_some() => {
                format!("no credentials came from their provider within {time:?}")
            }
            _ => format!("{} did not let us in within {time:?}", self.connector.host()),
        };
        Error::new(ErrorKind::Timeout, text)
    }
}

impl<T: Transport, R: Timer, C: Connector<Transport = T>> Drop for Driver<T, R, C> {
    fn drop(&mut self) {
        if !matches!(self.phase, Phase::Ending(..) | Phase::Ended) {
            self.end(Error::new(ErrorKind::Io, "the connection's driver was dropped"));
        }
    }
}

impl<T: Transport, R: Timer, C: Connector<Transport = T>> std::fmt::Debug for Driver<T, R, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phase = match &self.phase {
            Phase::Waiting(_) => "waiting",
            Phase::Connecting(_) => "connecting",
            Phase::Linked(_) => "linked",
            Phase::Ending(..) => "ending",
            Phase::Ended => "ended",
        };
        f.debug_struct("Driver").field("phase", &phase).finish_non_exhaustive()
    }
}
