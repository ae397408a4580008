//! Setting up a connection.

use std::sync::Arc;
use std::time::Duration;

use hopmq::sasl::{Credentials, Sasl};
use hopmq::{Reactor, Value};

use crate::forward::settings;
use crate::{Connection, Recovery, Result, thread};

/// How to connect: made by [`Connection::builder`].
///
/// ```no_run
/// use std::time::Duration;
///
/// let connection = hopmq_blocking::Connection::builder()
///     .uri("amqp://localhost")
///     .hosts(["rabbit-1", "rabbit-2:5673"])
///     .credentials("shop", "secret")
///     .name("order service")
///     .heartbeat(Duration::from_secs(10))
///     .open()?;
/// # Ok::<(), hopmq_blocking::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is connected before open()"]
pub struct Builder {
    core: hopmq::Builder,
    close_timeout: Duration,
}

/// Core's default.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Builder {
    pub(crate) fn new() -> Self {
        Self { core: hopmq::Connection::builder(), close_timeout: CLOSE_TIMEOUT }.close_timeout(CLOSE_TIMEOUT)
    }

    settings! {
        /// Takes everything that an AMQP URI says: see [`hopmq::Builder::uri`].
        uri(uri: &str);
        /// The host, with or without a port: see [`hopmq::Builder::host`].
        host(host: &str);
        /// Several hosts, tried in turn: see [`hopmq::Builder::hosts`].
        hosts<'h>(hosts: impl IntoIterator<Item = &'h str>);
        /// The virtual host. The default is `/`.
        vhost(vhost: &str);
        /// User name and password. The default is `guest` and `guest`, which RabbitMQ lets in from its own host only.
        credentials(username: &str, password: &str);
        /// How to log in, in place of `PLAIN`: see [`hopmq::Builder::mechanism`].
        mechanism(mechanism: impl Sasl + 'static);
        /// A name for the broker's tools and logs. The default is the name of the program.
        name(name: &str);
        /// Tells the broker something of this client; shown in its tools.
        client_property<'v>(key: &str, value: impl Into<Value<'v>>);
        /// The interval of heartbeats, in whole seconds; zero switches them off. The default is the broker's: 60
        /// seconds. They are sent and heard whatever the program does meanwhile. See [`hopmq::Builder::heartbeat`].
        heartbeat(interval: Duration);
        /// The largest frame in bytes, at least 4,096. The default is 131,072.
        frame_max(bytes: u32);
        /// How many channels the connection may have. The default is 2,047.
        channel_max(channels: u16);
        /// How long connecting may take for each host. The default is 10 seconds.
        connect_timeout(timeout: Duration);
        /// How long a request may wait for its answer, and a publish for room. The default is 30 seconds.
        /// [`Connection::within`] sets it for some calls.
        request_timeout(timeout: Duration);
        /// How long a publish may wait for its confirm, from when it is waited for. The default is 60 seconds.
        confirm_timeout(timeout: Duration);
        /// How long the broker may take no bytes, before the connection is given up. The default is 60 seconds.
        write_timeout(timeout: Duration);
        /// How long TCP may wait for a sign that what was sent has arrived: see [`hopmq::Builder::tcp_user_timeout`].
        tcp_user_timeout(timeout: Duration);
        /// Publishing waits while more bytes than this wait to be written. The default is 1 MiB.
        high_water_mark(bytes: usize);
        /// Reading stops while consumers have not taken more bytes than this. The default is 8 MiB.
        receive_limit(bytes: usize);
        /// What to do when the link to the broker is lost. The default is to come back, with all that was declared: see
        /// [`Recovery`].
        recovery(recovery: Recovery);
        /// Waits so long for a broker that can't be reached yet, instead of failing at the first attempt.
        wait_for_broker(patience: Duration);
        /// The largest message that is received, in bytes. The default is 128 MiB.
        max_message_size(bytes: u64);
    }

    #[cfg(feature = "tls")]
    settings! {
        /// Connects by TLS, with these settings: see [`hopmq::Builder::tls`].
        tls(tls: hopmq::tls::Tls);
    }

    #[cfg(feature = "websocket")]
    settings! {
        /// The subprotocols to offer over a WebSocket: see [`hopmq::Builder::websocket_protocols`].
        websocket_protocols<'p>(protocols: impl IntoIterator<Item = &'p str>);
    }

    /// How long [`Connection::close`] waits for confirms, and the drop of the last handle for what was accepted to be
    /// written. The default is 10 seconds.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.core = self.core.close_timeout(timeout);
        self.close_timeout = timeout;
        self
    }

    /// Where credentials come from that change, such as tokens: asked for each host that is tried, and again before
    /// they expire, if [`Credentials`] say when. It is called on a thread of its own and may take its time, up to
    /// `connect_timeout`.
    ///
    /// ```no_run
    /// use hopmq_blocking::Connection;
    /// use hopmq_blocking::sasl::Credentials;
    ///
    /// # fn fetch_token() -> String { String::new() }
    /// let builder = Connection::builder().credentials_from(|| Ok(Credentials::new("", fetch_token())));
    /// ```
    pub fn credentials_from(mut self, provider: impl Fn() -> Result<Credentials> + Send + Sync + 'static) -> Self {
        let provider = Arc::new(provider);
        self.core = self.core.credentials_from(move || {
            let provider = Arc::clone(&provider);
            blocking::unblock(move || provider())
        });
        self
    }

    /// Connects, and starts the thread that drives the connection.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if a setting makes no sense, [`Io`](crate::ErrorKind::Io) or
    /// [`Tls`](crate::ErrorKind::Tls) if no host could be reached or the system has no more threads,
    /// [`Timeout`](crate::ErrorKind::Timeout) after `connect_timeout`,
    /// [`Authentication`](crate::ErrorKind::Authentication) if the broker refuses the credentials,
    /// [`ConnectionClosed`](crate::ErrorKind::ConnectionClosed) with its code if it refuses the virtual host or
    /// anything else, [`Protocol`](crate::ErrorKind::Protocol) if it is no AMQP 0-9-1 broker.
    pub fn open(&self) -> Result<Connection> {
        let mut reactor = Reactor::new()?;
        let handle = reactor.handle();
        let (core, driver) = reactor.block_on(self.core.connect_on(&handle))?;
        thread::drive(&core, reactor, driver.assisted(), self.close_timeout)?;
        Ok(Connection::new(core))
    }
}
