//! The handle of a connection.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq_proto::FieldTable;
use hopmq_proto::method::connection;

use crate::handles::channel::{Channel, ChannelCore};
use crate::handles::events::Events;
use crate::state::keys::WaiterKey;
use crate::state::{Modes, Shared};
use crate::{Error, ErrorKind, Request, Result, Stats};

/// A connection to a broker.
///
/// Clones are handles of the same connection and can be used from any task and thread. [`Connection::close`] closes the
/// connection after everything is sent and confirmed. When the last handle is dropped, including its channels,
/// consumers and deliveries, accepted messages are sent and the connection is closed in the background.
#[derive(Clone)]
pub struct Connection {
    core: Arc<ConnectionCore>,
    timeout: Option<Duration>,
}

/// The state that all handles of a connection share. The driver holds only `shared`.
#[derive(Debug)]
pub(crate) struct ConnectionCore {
    pub(crate) shared: Arc<Shared>,
    /// Dropped after the connection has begun to close.
    companions: Mutex<Vec<Box<dyn Any + Send>>>,
}

impl Drop for ConnectionCore {
    fn drop(&mut self) {
        let now = self.shared.clock.now();
        self.shared.begin_close(now, now + self.shared.limits.close_timeout);
    }
}

impl Connection {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self::from_core(Arc::new(ConnectionCore { shared, companions: Mutex::default() }), None)
    }

    pub(crate) fn from_core(core: Arc<ConnectionCore>, timeout: Option<Duration>) -> Self {
        Self { core, timeout }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.core.shared
    }

    /// Returns a handle of the same connection whose calls end within `timeout`, as do the calls of the channels that
    /// it opens: see [`Channel::within`].
    pub fn within(&self, timeout: Duration) -> Self {
        Self { core: Arc::clone(&self.core), timeout: Some(timeout) }
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if all channel numbers are in use (2,047 with RabbitMQ's defaults). A number is free again
    /// when its channel closes.
    pub fn channel(&self) -> Request<Channel> {
        self.open_channel(Modes::default())
    }

    pub(crate) fn open_channel(&self, modes: Modes) -> Request<Channel> {
        let shared = self.shared();
        let (sent, id) = match shared.open_channel(modes, shared.deadline(self.timeout)) {
            Ok((request, id)) => (Ok(request), Some(id)),
            Err(error) => (Err(error), None),
        };
        let connection = Arc::clone(&self.core);
        let timeout = self.timeout;
        Request::new(shared, sent, move |_| match id {
            Some(id) => Ok(Channel::new(ChannelCore { connection, id }, timeout)),
            None => Err(connection.shared.reason()),
        })
    }

    /// Gives the broker a new secret for the same user before the old one expires (RabbitMQ's
    /// `connection.update-secret`; for OAuth 2 tokens).
    ///
    /// # Errors
    /// If the broker refuses the secret, it closes the connection. For users of its own database, RabbitMQ accepts any
    /// secret and changes nothing.
    pub fn update_secret(&self, secret: &str, reason: &str) -> Request<()> {
        let deadline = self.shared().deadline(self.timeout);
        let method = connection::UpdateSecret { new_secret: secret.as_bytes(), reason };
        let sent = self.shared().request_of_connection(&method, deadline);
        Request::plain(self.shared(), sent)
    }

    /// Closes the connection after sending all accepted messages and waiting for their confirms.
    ///
    /// The wait for confirms takes at most [`close_timeout`](crate::Builder::close_timeout) (10 seconds), the wait for
    /// the broker's reply two seconds more. All other pending futures end with [`ErrorKind::Closed`]. A second call
    /// waits for the same close.
    ///
    /// Dropping the future does not stop the close.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if not everything was written and confirmed in time. If the connection had already ended
    /// for another reason, that reason.
    pub async fn close(&self) -> Result<()> {
        let timeout = self.timeout.unwrap_or(self.shared().limits.close_timeout);
        let deadline = self.shared().clock.now() + timeout;
        self.shared().begin_close(deadline, deadline);
        let error = self.closed().await;
        if error.kind() == ErrorKind::Closed { Ok(()) } else { Err(error) }
    }

    /// Waits until the connection has ended, and returns the reason: [`ErrorKind::Closed`] if this program closed the
    /// connection.
    pub async fn closed(&self) -> Error {
        let mut waiter = CloseWaiter { shared: self.shared(), key: None };
        poll_fn(|context| waiter.poll(context)).await;
        self.shared().reason()
    }

    /// Returns whether the connection has not ended, as far as this side knows. An open connection may be without a
    /// link to the broker at the moment: see [`Connection::is_connected`].
    pub fn is_open(&self) -> bool {
        !self.shared().is_ended()
    }

    /// Returns whether there is a link to the broker, as far as this side knows, and everything is restored on it.
    pub fn is_connected(&self) -> bool {
        self.shared().is_connected()
    }

    /// Returns a stream of the connection's future events: lost, recovered, blocked, closed, …
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(self.shared()))
    }

    /// Returns the counters of the connection so far.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Returns what the broker says about itself: product, version, capabilities, …
    pub fn server_properties(&self) -> FieldTable {
        self.shared().server_properties()
    }

    /// Returns the negotiated highest channel number.
    pub fn channel_max(&self) -> u16 {
        self.shared().tuning().channel_max
    }

    /// Returns the negotiated largest frame, in bytes.
    pub fn frame_max(&self) -> u32 {
        self.shared().tuning().frame_max
    }

    /// Returns the negotiated heartbeat interval; zero if heartbeats are off.
    pub fn heartbeat(&self) -> Duration {
        self.shared().tuning().heartbeat
    }

    /// Keeps `companion` alive as long as the connection has handles, including channels and deliveries.
    ///
    /// The companion is dropped after the last handle, when the close has begun. A guard that waits there for the
    /// [`Driver`](crate::Driver) to end lets a program write its last messages before it exits.
    pub fn keep(&self, companion: impl Any + Send) {
        self.core.companions.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(companion));
    }
}

/// A future that waits for the end of the connection.
struct CloseWaiter<'a> {
    shared: &'a Shared,
    key: Option<WaiterKey>,
}

impl CloseWaiter<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.poll_ended(&mut self.key, context.waker())
    }
}

impl Drop for CloseWaiter<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.shared.forget_close_waiter(key);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("open", &self.is_open()).finish_non_exhaustive()
    }
}
