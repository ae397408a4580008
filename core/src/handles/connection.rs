//! The connection's handle.

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
use crate::state::{Modes, Shared};
use crate::{Builder, Error, ErrorKind, Request, Result, Stats};

/// A connection to a broker.
///
/// Clones are handles of the same connection, to be used from any task and thread. It is closed by
/// [`Connection::close`], which waits until all is sent and confirmed; when the last handle is dropped, with its
/// channels and what came from them, what was accepted is sent and the connection is closed without waiting.
#[derive(Clone)]
pub struct Connection {
    core: Arc<ConnectionCore>,
    timeout: Option<Duration>,
}

/// What all handles of a connection share; the driver has only the inside.
#[derive(Debug)]
pub(crate) struct ConnectionCore {
    pub(crate) shared: Arc<Shared>,
    /// Dropped after the closing has begun.
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

    /// Connects to the broker of an AMQP URI: `amqp://user:password@host:port/vhost?heartbeat=10`.
    ///
    /// It needs nothing of the caller's runtime: the connection is driven by a thread that all connections share. To
    /// drive it yourself, or to set more than a URI can say, use [`Connection::builder`].
    ///
    /// ```no_run
    /// # async fn example() -> hopmq::Result<()> {
    /// let connection = hopmq::Connection::open("amqp://guest:guest@localhost/%2f").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Builder::open`].
    #[cfg(feature = "net")]
    pub async fn open(uri: &str) -> Result<Self> {
        Self::builder().uri(uri).open().await
    }

    /// Sets up a connection: see [`Builder`].
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A handle of the same connection, of which every call ends within `timeout`, and every call of the channels that
    /// it opens: see [`Channel::within`].
    pub fn within(&self, timeout: Duration) -> Self {
        Self { core: Arc::clone(&self.core), timeout: Some(timeout) }
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if all channel numbers are taken (2,047 with RabbitMQ's defaults); they are free again
    /// when channels close.
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

    /// Gives the broker a new secret for the same user, before the old one expires (RabbitMQ's
    /// `connection.update-secret`; for OAuth 2 tokens).
    ///
    /// # Errors
    /// If the broker refuses the secret, it closes the connection. RabbitMQ takes any for users of its own database,
    /// whose passwords it doesn't change.
    pub fn update_secret(&self, secret: &str, reason: &str) -> Request<()> {
        let deadline = self.shared().deadline(self.timeout);
        let method = connection::UpdateSecret { new_secret: secret.as_bytes(), reason };
        let sent = self.shared().request_of_connection(&method, deadline);
        Request::plain(self.shared(), sent)
    }

    /// Closes the connection in order: what was accepted is sent, the broker's confirms of it are awaited for up to
    /// `close_timeout` (10 seconds; [`Builder`]), then the broker is told. All else that waits ends with
    /// [`ErrorKind::Closed`]. Calling it again waits for the same. The broker's answer is awaited for two seconds more.
    ///
    /// Dropping the future doesn't stop the closing.
    ///
    /// # Errors
    /// If not everything was written and confirmed in time: [`ErrorKind::Timeout`]. If the connection had ended
    /// otherwise: why.
    pub async fn close(&self) -> Result<()> {
        let timeout = self.timeout.unwrap_or(self.shared().limits.close_timeout);
        let deadline = self.shared().clock.now() + timeout;
        self.shared().begin_close(deadline, deadline);
        let error = self.closed().await;
        if error.kind() == ErrorKind::Closed { Ok(()) } else { Err(error) }
    }

    /// Resolves when the connection has ended, with the reason; of kind [`ErrorKind::Closed`] if this program closed
    /// it.
    pub async fn closed(&self) -> Error {
        let mut waiter = CloseWaiter { shared: self.shared(), key: None };
        poll_fn(|context| waiter.poll(context)).await;
        self.shared().reason()
    }

    /// Whether it has not ended, as far as this side knows. It may be without a link to the broker at the moment: see
    /// [`Connection::is_connected`].
    pub fn is_open(&self) -> bool {
        !self.shared().is_ended()
    }

    /// Whether there is a link to the broker, as far as this side knows, and all is as it was before the last outage.
    pub fn is_connected(&self) -> bool {
        self.shared().is_connected()
    }

    /// What happens to the connection from now on: blocked, closed, and so on.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(self.shared()))
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// What the broker says of itself: product, version, capabilities, …
    pub fn server_properties(&self) -> FieldTable {
        self.shared().server_properties()
    }

    /// The highest channel number that both sides agreed on.
    pub fn channel_max(&self) -> u16 {
        self.shared().tuning().channel_max
    }

    /// The largest frame that both sides agreed on, in bytes.
    pub fn frame_max(&self) -> u32 {
        self.shared().tuning().frame_max
    }

    /// The interval of heartbeats that both sides agreed on; zero if there are none.
    pub fn heartbeat(&self) -> Duration {
        self.shared().tuning().heartbeat
    }

    /// Keeps `companion` as long as there are handles of the connection, channels and deliveries included. It is
    /// dropped with the last of them, when the closing has begun: a guard that waits for the [`Driver`](crate::Driver)
    /// to end lets a program write its last messages before it exits.
    pub fn keep(&self, companion: impl Any + Send) {
        self.core.companions.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(companion));
    }
}

/// A future that waits for the end of the connection.
struct CloseWaiter<'a> {
    shared: &'a Shared,
    key: Option<u64>,
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
