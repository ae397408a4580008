//! The connection's handle.

use std::time::Duration;

use hopmq::{Error, FieldTable, Stats, wait, wait_within};

use crate::forward::{getters, requests};
use crate::{Builder, Channel, Events, Result};

/// A connection to a broker.
///
/// Clones are handles of the same connection and may be used from any thread. [`Connection::close`] closes it, after
/// everything is sent and confirmed. When the last handle is dropped, its channels, consumers and deliveries included,
/// all accepted messages are sent and the connection is closed. That takes a few milliseconds, and where the broker or
/// the network is slow, up to the `close_timeout` of [`Builder`] (10 seconds) and five seconds more.
///
/// A lost link does not end the connection: the connection reconnects automatically, unless
/// [`Recovery::off`](crate::Recovery::off) is set.
///
/// ```no_run
/// use hopmq_blocking::Connection;
///
/// let connection = Connection::open("amqp://localhost")?;
/// let channel = connection.channel()?;
/// channel.publish("", "orders", "an order").persistent().confirm()?;
/// connection.close()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) core: hopmq::Connection,
}

/// The asynchronous handle of the same connection, for libraries that take one, such as `hopmq-app`.
impl AsRef<hopmq::Connection> for Connection {
    fn as_ref(&self) -> &hopmq::Connection {
        &self.core
    }
}

impl Connection {
    pub(crate) fn new(core: hopmq::Connection) -> Self {
        Self { core }
    }

    /// Connects to the broker of an AMQP URI: `amqp://user:password@host:port/vhost?heartbeat=10`. For settings that
    /// a URI can't express, use [`Connection::builder`].
    ///
    /// # Errors
    /// The errors of [`Builder::open`].
    pub fn open(uri: &str) -> Result<Self> {
        Self::builder().uri(uri).open()
    }

    /// Returns the settings of a new connection: see [`Builder`].
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Returns a handle of the same connection whose calls end within `timeout`; so do the calls of the channels that
    /// it opens. See [`Channel::within`].
    ///
    /// ```no_run
    /// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
    /// use std::time::Duration;
    ///
    /// let channel = connection.within(Duration::from_secs(2)).channel()?;
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    pub fn within(&self, timeout: Duration) -> Self {
        Self { core: self.core.within(timeout) }
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if all channel numbers are taken (2,047 with RabbitMQ's defaults); closing a
    /// channel frees its number.
    pub fn channel(&self) -> Result<Channel> {
        wait(self.core.channel()).map(Channel::new)
    }

    requests! {
        /// Sends the broker a new secret for the same user, before the old one expires.
        ///
        /// # Errors
        /// 530 if the broker's authentication backend knows no secrets that expire.
        update_secret(secret: &str, reason: &str) -> ();
        /// Closes the connection gracefully: all accepted messages are sent, their confirms are awaited for up to
        /// `close_timeout` (10 seconds; [`Builder`]), then the connection is closed. Calls that wait in other threads
        /// end with [`Closed`](crate::ErrorKind::Closed). A second call waits for the same close.
        ///
        /// # Errors
        /// [`Timeout`](crate::ErrorKind::Timeout) if not everything was written and confirmed in time. If the
        /// connection had already ended for another reason: that reason.
        close() -> ();
    }

    /// Shuts the connection down gracefully within `deadline`: cancels the consumers, waits until other threads have
    /// settled the deliveries they hold, awaits the confirms of published messages, then closes the connection. See
    /// [`hopmq::Connection::shutdown`].
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) if something was not finished in time: the message says what. Also the
    /// errors of [`Connection::close`].
    pub fn shutdown(&self, deadline: Duration) -> Result<()> {
        wait(self.core.shutdown(deadline))
    }

    /// Waits until the connection has ended and returns the reason, which is of kind
    /// [`Closed`](crate::ErrorKind::Closed) if this program closed it.
    pub fn closed(&self) -> Error {
        wait(self.core.closed())
    }

    /// Waits for up to `limit` until the connection has ended, and returns the reason; `None` if it is still open.
    ///
    /// ```no_run
    /// # let connection = hopmq_blocking::Connection::open("amqp://localhost")?;
    /// use std::time::Duration;
    ///
    /// if let Some(reason) = connection.closed_within(Duration::from_secs(60)) {
    ///     eprintln!("the connection is gone: {reason}");
    /// }
    /// # Ok::<(), hopmq_blocking::Error>(())
    /// ```
    pub fn closed_within(&self, limit: Duration) -> Option<Error> {
        wait_within(self.core.closed(), limit)
    }

    /// Returns an iterator over the connection's events from now on: blocked, lost, recovered, closed, … See
    /// [`Events`].
    pub fn events(&self) -> Events {
        Events::new(self.core.events())
    }

    getters! {
        /// Returns whether the connection has not ended, as far as this side knows. An open connection may be without
        /// a link to the broker while it reconnects.
        is_open() -> bool;
        /// Returns whether there is a link to the broker, as far as this side knows.
        is_connected() -> bool;
        /// Returns the connection's counters.
        stats() -> Stats;
        /// Returns the broker's properties: product, version, capabilities, …
        server_properties() -> FieldTable;
        /// Returns the negotiated highest channel number.
        channel_max() -> u16;
        /// Returns the negotiated largest frame, in bytes.
        frame_max() -> u32;
        /// Returns the negotiated heartbeat interval; zero if heartbeats are off.
        heartbeat() -> Duration;
    }
}
