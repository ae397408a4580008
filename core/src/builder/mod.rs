//! The settings of a connection.

#[cfg(feature = "net")]
mod open;
#[cfg(feature = "tokio")]
mod open_tokio;
#[cfg(any(feature = "net", feature = "tokio"))]
mod target;

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hopmq_proto::{Config, Elapsed, FieldTable, IntoValue, LONGEST_HEARTBEAT, Role};

use crate::auth::sasl::{Credentials, CredentialsProvider, Plain, Sasl};
use crate::driver::{Driver, Login};
use crate::io::Transport;
use crate::io::connector::{Connector, Once};
#[cfg(any(feature = "net", feature = "tokio"))]
use crate::io::dial::Target;
use crate::io::timer::Timer;
use crate::policy::Recovery;
use crate::state::{Limits, Shared};
use crate::{Connection, Error, ErrorKind, Result};

/// The settings of a connection, created by [`Connection::builder`].
///
/// ```no_run
/// # #[cfg(feature = "net")]
/// # async fn example() -> hopmq::Result<()> {
/// use std::time::Duration;
///
/// let connection = hopmq::Connection::builder()
///     .uri("amqp://localhost")
///     .hosts(["rabbit-1", "rabbit-2:5673"])
///     .credentials("shop", "secret")
///     .connection_name("order service")
///     .heartbeat(Duration::from_secs(10))
///     .open()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// The last method decides what drives the connection: the thread of this crate (`open`), a tokio task (`open_tokio`),
/// or the caller (`connect`, [`handshake`](Builder::handshake)).
#[derive(Clone)]
#[must_use = "nothing is connected before open() or one of its siblings"]
pub struct Builder {
    #[cfg(any(feature = "net", feature = "tokio"))]
    pub(crate) target: Target,
    /// The first invalid setting, reported when connecting.
    pub(crate) flaw: Option<Error>,
    pub(crate) credentials: Arc<dyn CredentialsProvider>,
    pub(crate) mechanisms: Vec<Arc<dyn Sasl>>,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Duration,
    pub(crate) recovery: Recovery,
    properties: FieldTable,
}

impl Connection {
    /// Connects to the broker of an AMQP URI: `amqp://user:password@host:port/vhost?heartbeat=10`.
    ///
    /// A thread that all such connections share drives the connection, so this works on every runtime. To drive the
    /// connection yourself, or to set more than a URI can express, use [`Connection::builder`].
    ///
    /// ```no_run
    /// # async fn example() -> hopmq::Result<()> {
    /// let connection = hopmq::Connection::open("amqp://guest:guest@localhost/%2f").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The errors of [`Builder::open`].
    #[cfg(feature = "net")]
    pub async fn open(uri: &str) -> Result<Self> {
        Self::builder().uri(uri).open().await
    }

    /// Returns the default settings of a connection: see [`Builder`].
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(any(feature = "net", feature = "tokio"))]
            target: Target::default(),
            flaw: None,
            credentials: Arc::new(Credentials::default()),
            mechanisms: vec![Arc::new(Plain)],
            config: Config::default(),
            limits: Limits {
                request_timeout: Duration::from_secs(30),
                confirm_timeout: Duration::from_secs(60),
                close_timeout: Duration::from_secs(10),
                write_timeout: Duration::from_secs(60),
                high_water: 1024 * 1024,
                receive_limit: 8 * 1024 * 1024,
                spin: Duration::from_micros(50),
            },
            connect_timeout: Duration::from_secs(10),
            recovery: Recovery::new(),
            properties: FieldTable::new(),
        }
    }

    /// Sets the virtual host. The default is `/`.
    pub fn vhost(mut self, vhost: &str) -> Self {
        self.config.vhost = vhost.to_owned();
        self
    }

    /// Sets user name and password. The default is `guest` and `guest`, which RabbitMQ accepts only from its own host.
    pub fn credentials(self, username: &str, password: &str) -> Self {
        self.credentials_from(Credentials::new(username, password))
    }

    /// Sets a source of credentials that change, such as tokens. The source is asked again for each connection; it may
    /// be a closure that returns a future.
    pub fn credentials_from(mut self, provider: impl CredentialsProvider + 'static) -> Self {
        self.credentials = Arc::new(provider);
        self
    }

    /// Sets the SASL mechanism, `PLAIN` by default: see [`sasl`](crate::auth::sasl). Each further call adds a mechanism
    /// of lower preference.
    pub fn mechanism(mut self, mechanism: impl Sasl + 'static) -> Self {
        if self.mechanisms.len() == 1 && self.mechanisms[0].name() == Plain.name() {
            self.mechanisms.clear();
        }
        self.mechanisms.push(Arc::new(mechanism));
        self
    }

    /// Sets the connection name, which the broker shows in its tools and logs. The default is the name of the program.
    pub fn connection_name(self, name: &str) -> Self {
        self.client_property("connection_name", name)
    }

    /// Adds a client property, which the broker shows in its tools.
    pub fn client_property(mut self, key: &str, value: impl IntoValue) -> Self {
        self.properties.insert(key, value);
        self
    }

    /// Sets the heartbeat interval, rounded up to whole seconds; zero turns heartbeats off. The longest is 65,535
    /// seconds: with a longer one, connecting fails with [`ErrorKind::Config`]. The default is the broker's: 60
    /// seconds. A peer that sends nothing for two intervals is considered dead. Below 5 seconds, a busy network can
    /// look like a dead one (RabbitMQ's page [Heartbeats](https://www.rabbitmq.com/docs/heartbeats)).
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        if interval > LONGEST_HEARTBEAT {
            let interval = Elapsed(interval);
            let text = format!("a heartbeat interval of {interval} is too long: use 65535 seconds or less");
            self.flaw(Error::new(ErrorKind::Config, text));
        }
        self.config.heartbeat = Some(interval);
        self
    }

    /// Sets the largest frame in bytes, at least 4,096; RabbitMQ takes 8,192 or more since release 4.1. The default is
    /// 131,072, as in RabbitMQ. Larger messages are sent in several frames.
    pub fn frame_max(mut self, bytes: u32) -> Self {
        if bytes != 0 && bytes < hopmq_proto::MIN_FRAME_MAX {
            self.flaw(Error::new(ErrorKind::Config, format!("frame_max {bytes} is too small: use 4096 or more")));
        }
        self.config.frame_max = bytes;
        self
    }

    /// Sets the largest frame in bytes during the login, at least 4,096. The default is 8,192. A longer secret, such as
    /// a token with many claims, needs a higher limit here and at the broker: RabbitMQ's setting `initial_frame_max`
    /// is 4,096 before release 4.1, and 8,192 since (its page
    /// [Configuration](https://www.rabbitmq.com/docs/configure)).
    pub fn initial_frame_max(mut self, bytes: u32) -> Self {
        if bytes < hopmq_proto::MIN_FRAME_MAX {
            let text = format!("initial_frame_max {bytes} is too small: use 4096 or more");
            self.flaw(Error::new(ErrorKind::Config, text));
        }
        self.config.first_frame_max = bytes;
        self
    }

    /// Sets how many channels the connection may have. The default is 2,047, as in RabbitMQ.
    pub fn channel_max(mut self, channels: u16) -> Self {
        self.config.channel_max = channels;
        self
    }

    /// Sets how long connecting may take per host: name resolution, and TCP, TLS and handshake at all addresses of the
    /// host. The default is 10 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a request may wait for its reply, and a publish for buffer space. The default is 30 seconds.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.limits.request_timeout = timeout;
        self
    }

    /// Sets how long a publish may wait for its confirm, from the moment it is awaited. The default is 60 seconds.
    pub fn confirm_timeout(mut self, timeout: Duration) -> Self {
        self.limits.confirm_timeout = timeout;
        self
    }

    /// Sets how long [`Connection::close`] waits for confirms. The default is 10 seconds.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.limits.close_timeout = timeout;
        self
    }

    /// Sets how long a full socket may accept no bytes before the connection is considered dead. While the broker
    /// blocks publishing, the timeout does not apply. The default is 60 seconds.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.limits.write_timeout = timeout;
        self
    }

    /// Sets for how long a thread that waits for an answer of the broker tries to read it before it parks. The default
    /// is 50 microseconds; zero switches it off.
    ///
    /// On a fast network, this saves the time to wake the thread. It costs CPU: the thread is busy until the answer
    /// comes, though it lets other threads run in between. If answers take longer than this, the tries become rare:
    /// one in a thousand waits. It concerns connections of `open`, where a future that is polled may hold its
    /// executor's thread for this time, and those of `hopmq-blocking`.
    pub fn spin(mut self, limit: Duration) -> Self {
        self.limits.spin = limit;
        self
    }

    /// Sets how many bytes may wait to be written before publishing waits. The default is 1 MiB.
    pub fn high_water_mark(mut self, bytes: usize) -> Self {
        self.limits.high_water = bytes.max(1);
        self
    }

    /// Sets how many bytes of messages consumers may leave undelivered before reading stops. The default is 8 MiB.
    ///
    /// One read of up to 1 MiB may exceed the limit. While a request waits for its reply, the limit is eight times as
    /// high, because the reply may lie behind more deliveries. While nothing is read, a dead broker is noticed only
    /// when a consumer takes a delivery or when a write fails.
    pub fn receive_limit(mut self, bytes: usize) -> Self {
        self.limits.receive_limit = bytes;
        self
    }

    /// Sets the size of the largest message that is accepted, in bytes. A larger message ends the connection with 311.
    /// The default is 128 MiB, as in RabbitMQ.
    pub fn max_message_size(mut self, bytes: u64) -> Self {
        self.config.message_max = bytes;
        self
    }

    /// Sets what happens when the link to the broker is lost. By default the connection reconnects: see [`Recovery`].
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        let broker = self.recovery.broker;
        self.recovery = Recovery { broker, ..recovery };
        self
    }

    /// Keeps trying to connect for up to `timeout` while no host can be reached, instead of failing after the first
    /// attempt. If the broker refuses the connection, the error is returned at once.
    pub fn wait_for_broker(mut self, timeout: Duration) -> Self {
        self.recovery.broker = Some(timeout);
        self
    }

    pub(crate) fn flaw(&mut self, error: Error) {
        self.flaw.get_or_insert(error);
    }

    /// Logs in over any byte stream, and returns the connection with its driver, which the caller spawns or polls. When
    /// the transport breaks, the connection ends; [`Builder::connect_with`] creates one that reconnects.
    ///
    /// ```no_run
    /// # use hopmq::{Timer, Transport};
    /// # async fn example<P: Transport + Send + 'static, T: Timer + Unpin + Send + 'static>(
    /// #     pipe: P, timer: T,
    /// # ) -> hopmq::Result<()> {
    /// let (connection, driver) = hopmq::Connection::builder().handshake(pipe, timer).await?;
    /// std::thread::spawn(|| futures_lite::future::block_on(driver));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `connect_timeout`, [`ErrorKind::Authentication`] if the broker refuses the
    /// credentials, [`ErrorKind::ConnectionClosed`] with its code if the broker refuses the virtual host or anything
    /// else, [`ErrorKind::Protocol`] if the peer is not an AMQP 0-9-1 broker.
    pub async fn handshake<T: Transport, R: Timer + Unpin>(
        &self,
        transport: T,
        timer: R,
    ) -> Result<(Connection, Driver<T, R>)> {
        self.connect_with(Once::new(transport), timer).await
    }

    /// Connects with a [`Connector`], which makes the transport for the first link and for each later one, and returns
    /// the connection with its driver, which the caller spawns or polls.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// The errors of [`Builder::handshake`] and of the connector.
    pub async fn connect_with<C, R>(&self, connector: C, timer: R) -> Result<(Connection, Driver<C::Transport, R, C>)>
    where
        C: Connector + Unpin,
        R: Timer + Unpin,
    {
        if let Some(flaw) = &self.flaw {
            return Err(flaw.clone());
        }
        let proto = hopmq_proto::Connection::new(Role::Client, self.config.clone());
        let mut recovery = self.recovery.clone();
        recovery.enabled &= connector.reconnects();
        let shared = Shared::new(proto, timer.clock(), self.limits, &recovery);
        let login = Login {
            config: self.config.clone(),
            mechanisms: self.mechanisms.clone(),
            credentials: Arc::clone(&self.credentials),
            properties: self.client_properties(),
            connect_timeout: self.connect_timeout,
        };
        let mut driver = Driver::new(Arc::clone(&shared), timer, connector, login, recovery);
        poll_fn(|context| {
            let ended = Pin::new(&mut driver).poll(context).is_ready();
            if driver.is_established() {
                return Poll::Ready(Ok(()));
            }
            if ended || shared.is_ended() { Poll::Ready(Err(shared.reason())) } else { Poll::Pending }
        })
        .await?;
        Ok((Connection::new(shared), driver))
    }

    fn client_properties(&self) -> FieldTable {
        let capabilities: FieldTable = CAPABILITIES.iter().map(|name| (*name, true)).collect();
        let mut properties = FieldTable::new();
        properties.insert("product", "HopMQ");
        properties.insert("version", env!("CARGO_PKG_VERSION"));
        properties.insert("platform", "Rust");
        properties.insert("capabilities", &capabilities);
        #[cfg(not(target_family = "wasm"))]
        if let Some(program) = std::env::args_os().next()
            && let Some(name) = std::path::Path::new(&program).file_name()
        {
            properties.insert("connection_name", &*name.to_string_lossy());
        }
        for (key, value) in self.properties.iter() {
            properties.insert(key, value);
        }
        properties
    }
}

/// The capabilities of this client (RabbitMQ's page [Protocol Extensions](https://www.rabbitmq.com/docs/extensions)).
const CAPABILITIES: [&str; 8] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
];

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("vhost", &self.config.vhost)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
