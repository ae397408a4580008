//! The connection's handle.

use std::time::Duration;

use hopmq::{Error, FieldTable, Stats};

use crate::forward::{facts, requests};
use crate::wait::{wait, wait_within};
use crate::{Builder, Channel, Events, Result};

/// A connection to a broker.
///
/// Clones are handles of the same connection, to be used from any thread. It is closed by [`Connection::close`], which
/// waits until all is sent and confirmed. When its last handle is dropped, with its channels and what came from them,
/// what was accepted is sent and the connection is closed. That takes a few milliseconds, and where the broker or the
/// network is slow, up to the `close_timeout` of [`Builder`] (10 seconds) and five seconds more.
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

impl Connection {
    pub(crate) fn new(core: hopmq::Connection) -> Self {
        Self { core }
    }

    /// Connects to the broker of an AMQP URI: `amqp://user:password@host:port/vhost?heartbeat=10`. To set more than a
    /// URI can say, use [`Connection::builder`].
    ///
    /// # Errors
    /// Those of [`Builder::open`].
    pub fn open(uri: &str) -> Result<Self> {
        Self::builder().uri(uri).open()
    }

    /// Sets up a connection: see [`Builder`].
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A handle of the same connection, of which every call ends within `timeout`, and every call of the channels that
    /// it opens: see [`Channel::within`].
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
    /// [`Usage`](crate::ErrorKind::Usage) if all channel numbers are taken (2,047 with RabbitMQ's defaults); they are
    /// free again when channels close.
    pub fn channel(&self) -> Result<Channel> {
        wait(self.core.channel()).map(Channel::new)
    }

    requests! {
        /// Gives the broker a new secret for the same user, before the old one expires.
        ///
        /// # Errors
        /// 530 if the broker's authentication has no secrets that expire.
        update_secret(secret: &str, reason: &str) -> ();
        /// Closes the connection in order: what was accepted is sent, the broker's confirms of it are awaited for up
        /// to `close_timeout` (10 seconds; [`Builder`]), then the broker is told. All that waits in other threads ends
        /// with [`Closed`](crate::ErrorKind::Closed). Calling it again waits for the same.
        ///
        /// # Errors
        /// If not everything was written and confirmed in time: [`Timeout`](crate::ErrorKind::Timeout). If the
        /// connection had ended otherwise: why.
        close() -> ();
    }

    /// Ends the connection in order, within `deadline`: consumers are cancelled, what was handed out is waited for
    /// until other threads have settled it, what was published is confirmed, then it is closed. See
    /// [`hopmq::Connection::shutdown`].
    ///
    /// # Errors
    /// [`Timeout`](crate::ErrorKind::Timeout) if something was not finished in time: it says what. Those of
    /// [`Connection::close`].
    pub fn shutdown(&self, deadline: Duration) -> Result<()> {
        wait(self.core.shutdown(deadline))
    }

    /// Waits until the connection has ended, and tells the reason; of kind [`Closed`](crate::ErrorKind::Closed) if
    /// this program closed it.
    pub fn closed(&self) -> Error {
        wait(self.core.closed())
    }

    /// The same for up to `limit`; `None` if it is still open.
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

    /// What happens to the connection from now on: blocked, closed, and so on. See [`Events`].
    pub fn events(&self) -> Events {
        Events::new(self.core.events())
    }

    facts! {
        /// Whether it has not ended, as far as this side knows. It may be without a link to the broker at the moment.
        is_open() -> bool;
        /// Whether there is a link to the broker, as far as this side knows.
        is_connected() -> bool;
        /// What it has done so far.
        stats() -> Stats;
        /// What the broker says of itself: product, version, capabilities, …
        server_properties() -> FieldTable;
        /// The highest channel number that both sides agreed on.
        channel_max() -> u16;
        /// The largest frame that both sides agreed on, in bytes.
        frame_max() -> u32;
        /// The interval of heartbeats that both sides agreed on; zero if there are none.
        heartbeat() -> Duration;
    }
}
