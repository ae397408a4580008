//! Setting up a connection.

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hopmq_proto::{Config, FieldTable, Role, Value};

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

/// How to connect: made by [`Connection::builder`].
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
///     .name("order service")
///     .heartbeat(Duration::from_secs(10))
///     .open()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// Its last method says who drives the connection: a thread of HopMQ's
/// (`open`), a task of tokio (`open_tokio`), or you (`connect`, [`handshake`](Builder::handshake)).
#[derive(Clone)]
#[must_use = "nothing is connected before open() or one of its siblings"]
pub struct Builder {
    #[cfg(any(feature = "net", feature = "tokio"))]
    pub(crate) target: Target,
    /// The first setting that makes no sense: told when connecting.
    pub(crate) flaw: Option<Error>,
    pub(crate) credentials: Arc<dyn CredentialsProvider>,
    pub(crate) mechanisms: Vec<Arc<dyn Sasl>>,
    pub(crate) config: Config,
    pub(crate) limits: Limits,
    pub(crate) connect_timeout: Duration,
    pub(crate) recovery: Recovery,
    properties: FieldTable,
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
            },
            connect_timeout: Duration::from_secs(10),
            recovery: Recovery::new(),
            properties: FieldTable::new(),
        }
    }

    /// The virtual host. The default is `/`.
    pub fn vhost(mut self, vhost: &str) -> Self {
        self.config.vhost = vhost.to_owned();
        self
    }

    /// User name and password. The default is `guest` and `guest`, which RabbitMQ lets in from its own host only.
    pub fn credentials(self, username: &str, password: &str) -> Self {
        self.credentials_from(Credentials::new(username, password))
    }

    /// Where credentials come from that change, such as tokens: asked for each connection anew. A closure that
    /// returns a future will do.
    pub fn credentials_from(mut self, provider: impl CredentialsProvider + 'static) -> Self {
        self.credentials = Arc::new(provider);
        self
    }

    /// How to log in, in place of `PLAIN`: see [`sasl`](crate::auth::sasl). Called again, it adds a second choice, and so on.
    pub fn mechanism(mut self, mechanism: impl Sasl + 'static) -> Self {
        if self.mechanisms.len() == 1 && self.mechanisms[0].name() == Plain.name() {
            self.mechanisms.clear();
        }
        self.mechanisms.push(Arc::new(mechanism));
        self
    }

    /// A name for the broker's tools and logs. The default is the name of the program.
    pub fn name(self, name: &str) -> Self {
        self.client_property("connection_name", name)
    }

    /// Tells the broker something of this client; shown in its tools.
    pub fn client_property<'v>(mut self, key: &str, value: impl Into<Value<'v>>) -> Self {
        self.properties.insert(key, value);
        self
    }

    /// The interval of heartbeats, in whole seconds; zero switches them off. The default is the broker's: 60 seconds.
    /// A peer that is silent for two intervals is given up. Below 5 seconds, a busy network looks like a dead one
    /// (RabbitMQ's page [Heartbeats](https://www.rabbitmq.com/docs/heartbeats)).
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.config.heartbeat = Some(interval);
        self
    }

    /// The largest frame in bytes, at least 4,096. The default is 131,072, which is RabbitMQ's. Larger messages are
    /// sent in several frames.
    pub fn frame_max(mut self, bytes: u32) -> Self {
        if bytes != 0 && bytes < hopmq_proto::MIN_FRAME_MAX {
            self.flaw(Error::new(ErrorKind::Config, format!("frame_max {bytes} is below the least, 4096")));
        }
        self.config.frame_max = bytes;
        self
    }

    /// How many channels the connection may have. The default is 2,047, which is RabbitMQ's.
    pub fn channel_max(mut self, channels: u16) -> Self {
        self.config.channel_max = channels;
        self
    }

    /// How long connecting may take for each host: name resolution, TCP, TLS and the handshake together. The default
    /// is 10 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may wait for its answer, and a publish for room. The default is 30 seconds.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.limits.request_timeout = timeout;
        self
    }

    /// How long a publish may wait for its confirm, from when it is awaited on. The default is 60 seconds.
    pub fn confirm_timeout(mut self, timeout: Duration) -> Self {
        self.limits.confirm_timeout = timeout;
        self
    }

    /// How long [`Connection::close`] waits for confirms. The default is 10 seconds.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.limits.close_timeout = timeout;
        self
    }

    /// How long the broker may take no bytes from a full socket, before the connection is given up; a broker that has
    /// said that it blocks publishing may take longer. The default is 60 seconds.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.limits.write_timeout = timeout;
        self
    }

    /// Publishing waits while more bytes than this wait to be written. The default is 1 MiB.
    pub fn high_water_mark(mut self, bytes: usize) -> Self {
        self.limits.high_water = bytes.max(1);
        self
    }

    /// Reading stops while consumers have not taken more bytes than this; one read, of up to 1 MiB, may go beyond.
    /// While a request waits for its answer, which may lie behind more deliveries, it is eight times as much. As long
    /// as nothing is read, a broker that has gone is noticed only when a consumer takes something, or by a write that
    /// fails. The default is 8 MiB.
    pub fn receive_limit(mut self, bytes: usize) -> Self {
        self.limits.receive_limit = bytes;
        self
    }

    /// The largest message that is received, in bytes: a larger one ends the connection with 311. The default is
    /// 128 MiB, which is RabbitMQ's.
    pub fn max_message_size(mut self, bytes: u64) -> Self {
        self.config.message_max = bytes;
        self
    }

    /// What to do when the link to the broker is lost. The default is to come back: see [`Recovery`].
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        let broker = self.recovery.broker;
        self.recovery = Recovery { broker, ..recovery };
        self
    }

    /// Waits so long for a broker that can't be reached yet, instead of failing when no host lets us in at the first
    /// attempt. A broker that refuses us is not waited for.
    pub fn wait_for_broker(mut self, patience: Duration) -> Self {
        self.recovery.broker = Some(patience);
        self
    }

    pub(crate) fn flaw(&mut self, error: Error) {
        self.flaw.get_or_insert(error);
    }

    /// Logs in over anything that carries bytes, and returns the connection with its driver, which you spawn or poll.
    /// When the transport breaks, the connection ends: [`Builder::connect_with`] makes one that comes back.
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
    /// credentials, [`ErrorKind::ConnectionClosed`] with its code if it refuses the virtual host or anything else,
    /// [`ErrorKind::Protocol`] if it is no AMQP 0-9-1 broker.
    pub async fn handshake<T: Transport, R: Timer + Unpin>(
        &self,
        transport: T,
        timer: R,
    ) -> Result<(Connection, Driver<T, R>)> {
        self.connect_with(Once::new(transport), timer).await
    }

    /// Connects by a [`Connector`], which makes the transport for the first link and, when that is lost, for the next;
    /// and returns the connection with its driver, which you spawn or poll.
    ///
    /// Dropping the future ends the attempt.
    ///
    /// # Errors
    /// As for [`Builder::handshake`], and those of the connector.
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

/// What this client can do (RabbitMQ's page [Protocol Extensions](https://www.rabbitmq.com/docs/extensions)).
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
