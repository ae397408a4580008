//! Connection settings, and opening a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hopmq::sasl::{Credentials, Sasl};
use hopmq::{IntoValue, Reactor};

use crate::forward::settings;
use crate::{Connection, Error, ErrorKind, Recovery, Result, thread};

/// The settings of a connection, made by [`Connection::builder`] and used by [`Builder::open`].
///
/// ```no_run
/// use std::time::Duration;
///
/// let connection = hopmq_blocking::Connection::builder()
///     .uri("amqp://localhost")
///     .hosts(["rabbit-1", "rabbit-2:5673"])
///     .credentials("shop", "secret")
///     .connection_name("order service")
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

/// The default of `hopmq::Builder`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

impl Builder {
    pub(crate) fn new() -> Self {
        Self { core: hopmq::Connection::builder(), close_timeout: CLOSE_TIMEOUT }.close_timeout(CLOSE_TIMEOUT)
    }

    settings! {
        /// Applies every setting of an AMQP URI: see [`hopmq::Builder::uri`].
        uri(uri: &str);
        /// Sets the host, with or without a port: see [`hopmq::Builder::host`].
        host(host: &str);
        /// Sets several hosts, which are tried in turn: see [`hopmq::Builder::hosts`].
        hosts<'h>(hosts: impl IntoIterator<Item = &'h str>);
        /// Sets the resolver of host names, in place of the operating system's: see [`hopmq::Builder::resolver`].
        resolver(lookup: impl Fn(&str, u16) -> std::io::Result<Vec<SocketAddr>> + Send + Sync + 'static);
        /// Sets the virtual host. The default is `/`.
        vhost(vhost: &str);
        /// Sets user name and password. The default is `guest` and `guest`, which RabbitMQ accepts from its own host
        /// only.
        credentials(username: &str, password: &str);
        /// Sets the login mechanism, in place of `PLAIN`: see [`hopmq::Builder::mechanism`].
        mechanism(mechanism: impl Sasl + 'static);
        /// Sets the connection's name, which the broker's tools and logs show. The default is the name of the program.
        connection_name(name: &str);
        /// Adds a client property, which the broker's tools show.
        client_property(key: &str, value: impl IntoValue);
        /// Sets the heartbeat interval, in whole seconds; zero switches heartbeats off. The default is the broker's: 60
        /// seconds. The connection's own thread sends and checks heartbeats, so a busy program keeps its connection.
        /// See [`hopmq::Builder::heartbeat`].
        heartbeat(interval: Duration);
        /// Sets the largest frame in bytes, at least 4,096. The default is 131,072.
        frame_max(bytes: u32);
        /// Sets the largest frame in bytes during the login, for long secrets. The default is 8,192: see
        /// [`hopmq::Builder::initial_frame_max`].
        initial_frame_max(bytes: u32);
        /// Sets how many channels the connection may have open. The default is 2,047.
        channel_max(channels: u16);
        /// Sets how long connecting to each host may take. The default is 10 seconds.
        connect_timeout(timeout: Duration);
        /// Sets how long a request waits for its reply, and a publish for room in the output buffer. The default is 30
        /// seconds. [`Connection::within`] sets another limit for some calls.
        request_timeout(timeout: Duration);
        /// Sets how long a publish waits for its confirm, counted from the call that waits. The default is 60 seconds.
        confirm_timeout(timeout: Duration);
        /// Sets how long the broker may accept no bytes before the link counts as lost. The default is 60 seconds.
        write_timeout(timeout: Duration);
        /// Sets how long TCP waits until sent data is acknowledged: see [`hopmq::Builder::tcp_user_timeout`].
        tcp_user_timeout(timeout: Duration);
        /// Sets how many bytes may wait to be written; publishing waits above that. The default is 1 MiB.
        high_water_mark(bytes: usize);
        /// Sets how many bytes of deliveries may wait for consumers; reading stops above that. The default is 8 MiB.
        receive_limit(bytes: usize);
        /// Sets for how long a thread that waits for an answer tries to read it before it parks. The default is 50
        /// microseconds: see [`hopmq::Builder::spin`].
        spin(limit: Duration);
        /// Sets what happens when the link to the broker is lost. By default the connection reconnects automatically
        /// and restores what was declared: see [`Recovery`].
        recovery(recovery: Recovery);
        /// Retries the first connect for up to `limit` while the broker can't be reached, instead of failing at the
        /// first attempt.
        wait_for_broker(limit: Duration);
        /// Sets the largest message that is accepted from the broker, in bytes. The default is 128 MiB.
        max_message_size(bytes: u64);
    }

    #[cfg(feature = "tls")]
    settings! {
        /// Connects over TLS, with these settings: see [`hopmq::Builder::tls`].
        tls(tls: hopmq::tls::Tls);
    }

    #[cfg(feature = "websocket")]
    settings! {
        /// Sets the WebSocket subprotocols to offer: see [`hopmq::Builder::websocket_protocols`].
        websocket_protocols<'p>(protocols: impl IntoIterator<Item = &'p str>);
    }

    /// Sets how long [`Connection::close`] waits for confirms, and how long dropping the last handle waits until
    /// accepted messages are written. The default is 10 seconds.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.core = self.core.close_timeout(timeout);
        self.close_timeout = timeout;
        self
    }

    /// Sets a provider of credentials that change, such as tokens. It is called for each host that is tried, and again
    /// before the credentials expire, if [`Credentials`] say when. The provider runs on a thread of its own, so it may
    /// block, for up to `connect_timeout`.
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
            async move {
                let ran = hopmq::unblock(move || provider()).await;
                ran.unwrap_or_else(|error| {
                    Err(Error::with_source(ErrorKind::Io, "the provider of credentials could not run", error))
                })
            }
        });
        self
    }

    /// Connects, and starts the thread that drives the connection.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) if a setting is invalid, [`Io`](crate::ErrorKind::Io) or
    /// [`Tls`](crate::ErrorKind::Tls) if no host could be reached or no thread could be started,
    /// [`Timeout`](crate::ErrorKind::Timeout) after `connect_timeout`,
    /// [`Authentication`](crate::ErrorKind::Authentication) if the broker refuses the credentials,
    /// [`ConnectionClosed`](crate::ErrorKind::ConnectionClosed) with its code if it refuses the virtual host or
    /// anything else, [`Protocol`](crate::ErrorKind::Protocol) if the peer is no AMQP 0-9-1 broker.
    pub fn open(&self) -> Result<Connection> {
        let mut reactor = Reactor::new()?;
        let handle = reactor.handle();
        let (core, driver) = reactor.block_on(self.core.connect_on(&handle))?;
        thread::drive(&core, reactor, driver.assisted(), self.close_timeout)?;
        Ok(Connection::new(core))
    }
}
