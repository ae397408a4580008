//! The driver: keeps a connection linked to the broker.
//!
//! Owns the connector, the timer, and the link while there is one. The driver connects, lets the link move its bytes
//! until the link is lost, and replaces the link (`reconnect`), until the connection ends. It is one future, and spawns
//! nothing.

pub(crate) mod inline;
// Without `net`, there is no reactor to lead.
#[cfg_attr(not(any(feature = "net", all(test, hopmq_shuttle))), expect(dead_code, reason = "only reactors are led"))]
pub(crate) mod lead;
mod link;
mod reconnect;
#[cfg(test)]
mod tests;
mod wire_trace;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq_proto::{Config, Elapsed, FieldTable, Role, Time};
use tracing::debug;

use crate::auth::authenticator::Authenticator;
use crate::auth::refresh::Refresh;
use crate::auth::sasl::{Credentials, CredentialsProvider, Sasl};
use crate::error::{Error, ErrorKind, Result};
use crate::io::Transport;
use crate::io::connector::{Connector, Once};
use crate::io::timer::{Clock, Timer};
use crate::policy::Recovery;
use crate::recovery::Recovering;
use crate::recovery::backoff::Backoff;
use crate::state::events::Event;
use crate::state::{LAST_BYTES_TIMEOUT, Shared};
use link::Link;

/// Drives one connection: a future that ends when the connection ends. Spawn the driver, or poll it beside your own
/// work.
///
/// Nothing is sent or received while the driver is not polled, not even heartbeats. When the link to the broker is
/// lost, the driver connects again (see [`Recovery`]). Dropping the driver ends the connection at once, without closing
/// it at the broker; every waiting future ends with [`ErrorKind::Io`].
#[must_use = "nothing moves on the connection unless its driver is polled"]
pub struct Driver<T: Transport, R: Timer, C: Connector<Transport = T> = Once<T>> {
    shared: Arc<Shared>,
    timer: R,
    connector: C,
    login: Login,
    policy: Recovery,
    recovering: Recovering,
    backoff: Backoff,
    /// When the link was lost, or the first attempt began.
    since: Time,
    /// Attempts to connect since `since`.
    attempts: u32,
    /// The deadline of all attempts at the present host.
    host_deadline: Time,
    /// How many hosts failed in the present round.
    failed_hosts: usize,
    /// The failures of the present round.
    failures: Vec<String>,
    /// How often in a row the broker refused the connection.
    refusals: u32,
    phase: Phase<T, C::Connecting>,
}

/// What each attempt to connect needs.
pub(crate) struct Login {
    pub(crate) config: Config,
    pub(crate) mechanisms: Vec<Arc<dyn Sasl>>,
    pub(crate) credentials: Arc<dyn CredentialsProvider>,
    pub(crate) properties: FieldTable,
    pub(crate) connect_timeout: Duration,
}

enum Phase<T: Transport, F> {
    /// The next attempt begins at the given time.
    Waiting(Time),
    Connecting(Box<Connecting<F>>),
    Linked(Box<Link<T>>),
    /// The connection has ended; the last bytes may be written until the given time.
    Ending(Box<Link<T>>, Time),
    Ended,
}

/// An attempt before its handshake.
struct Connecting<F> {
    began: Time,
    deadline: Time,
    /// Whether the attempt shares the host's time with the other addresses.
    shares: bool,
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

    /// Leaves time for the other addresses of the host, once the attempt has chosen its own.
    fn share_time(&mut self, addresses_left: usize, clock: &Clock) {
        if self.shares || addresses_left == 0 {
            return;
        }
        self.shares = true;
        let now = clock.now();
        let share = (self.deadline - now) / u32::try_from(addresses_left + 1).unwrap_or(u32::MAX);
        // In whole milliseconds, for errors that name the time.
        let time = (now + share - self.began).as_millis();
        self.deadline = self.began + Duration::from_millis(u64::try_from(time).unwrap_or(u64::MAX));
    }
}

impl<T: Transport, R: Timer, C: Connector<Transport = T>> Driver<T, R, C> {
    pub(crate) fn new(shared: Arc<Shared>, timer: R, connector: C, login: Login, policy: Recovery) -> Self {
        let since = shared.clock.now();
        let backoff = Backoff::new(&policy);
        Self {
            shared,
            timer,
            connector,
            login,
            recovering: Recovering::new(policy.clone()),
            policy,
            backoff,
            since,
            attempts: 0,
            host_deadline: since,
            failed_hosts: 0,
            failures: Vec::new(),
            refusals: 0,
            phase: Phase::Waiting(since),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether the first link has been established.
    pub(crate) fn is_established(&self) -> bool {
        self.recovering.is_established()
    }

    /// Begins an attempt at the next host.
    fn attempt(&mut self) {
        self.attempts += 1;
        self.host_deadline = self.shared.clock.now() + self.login.connect_timeout;
        let connecting = self.connector.connect();
        self.begin(connecting);
    }

    /// Begins another attempt at the same host, if it has other addresses and there is time left.
    fn attempt_other_address(&mut self, now: Time) -> bool {
        if self.connector.addresses_left() == 0 || now >= self.host_deadline {
            return false;
        }
        let connecting = self.connector.connect_again();
        self.begin(connecting);
        true
    }

    fn begin(&mut self, connecting: C::Connecting) {
        let host = self.connector.host();
        let attempt = self.attempts;
        debug!(host, attempt, "connecting");
        let provider = Arc::clone(&self.login.credentials);
        self.recovering.begin_attempt(&host);
        self.shared.with_driver(|state| state.emit(&Event::Connecting { attempt, host }));
        self.phase = Phase::Connecting(Box::new(Connecting {
            began: self.shared.clock.now(),
            deadline: self.host_deadline,
            shares: false,
            fetching: Some(Box::pin(async move { provider.fetch().await })),
            credentials: None,
            connecting: Box::pin(connecting),
        }));
    }

    /// Begins the handshake on a new transport.
    fn link(&mut self, transport: T, credentials: Credentials, began: Time, deadline: Time) {
        let refresh = Refresh::new(Arc::clone(&self.login.credentials), &credentials, self.shared.clock.now());
        let authenticator = Authenticator {
            mechanisms: self.login.mechanisms.clone(),
            credentials: Some(credentials),
            properties: self.login.properties.clone(),
            chosen: None,
            login: None,
            server_properties: None,
        };
        let proto = hopmq_proto::Connection::new(Role::Client, self.login.config.clone());
        self.recovering.begin_attempt(&self.connector.host());
        self.recovering.begin_handshake(deadline, deadline - began);
        let old = self.shared.with_driver(|state| state.begin_link(proto));
        drop(old);
        let host = self.recovering.host().to_owned();
        let link = Link::new(Arc::clone(&self.shared), transport, host, authenticator, refresh);
        self.phase = Phase::Linked(Box::new(link));
    }

    /// Sleeps until `until`. Fails if the program closes the connection meanwhile.
    fn idle(&mut self, until: Time, context: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            let now = self.shared.clock.now();
            let alarm = self.shared.with_driver(|state| {
                state.expire(now);
                if let Some(error) = state.close_without_link() {
                    return Err(error);
                }
                let alarm = state.next_request_deadline().map_or(until, |deadline| until.min(deadline));
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

    /// Ends the connection in a process that inherited it by a fork. The transport is forgotten: dropping it could
    /// write to the socket, or remove the socket from the event queue of the other process.
    fn disown(&mut self) {
        std::mem::forget(std::mem::replace(&mut self.phase, Phase::Ended));
        self.shared.disown();
    }

    /// Ends the connection and everything on it with `error`; the last bytes remain to be written.
    fn end(&mut self, error: Error) {
        let error = self.shared.end(error);
        debug!(%error, "connection ended");
        let now = self.shared.clock.now();
        self.shared.with_driver(|state| state.end_all(&error));
        self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Linked(mut link) => {
                link.take_last_output();
                Phase::Ending(link, now + LAST_BYTES_TIMEOUT)
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
        // A driver that handles poll is polled by them only in its own process, and its own thread is there.
        if !this.shared.is_polled_inline() && this.shared.process.is_other() {
            this.disown();
            return Poll::Ready(());
        }
        loop {
            let error = match &mut this.phase {
                Phase::Linked(link) => match link.run(&mut this.timer, &mut this.recovering, context) {
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
                    let polled = connecting.poll(context);
                    connecting.share_time(this.connector.addresses_left(), &this.shared.clock);
                    let (began, deadline) = (connecting.began, connecting.deadline);
                    match polled {
                        Poll::Ready(Ok((transport, credentials))) => {
                            this.link(transport, credentials, began, deadline);
                            continue;
                        }
                        Poll::Ready(Err(error)) => error,
                        Poll::Pending => {
                            let timeout = this.timeout_error();
                            match this.idle(deadline, context) {
                                Poll::Ready(Ok(())) => timeout,
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
            this.handle_loss(error);
        }
    }
}

impl<T: Transport, R: Timer, C: Connector<Transport = T>> Driver<T, R, C> {
    /// Returns the error of an attempt that takes too long.
    fn timeout_error(&self) -> Error {
        let (time, fetching) = match &self.phase {
            Phase::Connecting(connecting) => (connecting.deadline - connecting.began, connecting.fetching.is_some()),
            _ => (self.login.connect_timeout, false),
        };
        let time = Elapsed(time);
        let text = match fetching {
            true => format!("the provider returned no credentials within {time}"),
            false => format!("{} did not accept the connection within {time}", self.connector.host()),
        };
        Error::new(ErrorKind::Timeout, text)
    }
}

impl<T: Transport, R: Timer, C: Connector<Transport = T>> Drop for Driver<T, R, C> {
    fn drop(&mut self) {
        if self.shared.process.is_other() {
            self.disown();
        } else if !matches!(self.phase, Phase::Ending(..) | Phase::Ended) {
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
