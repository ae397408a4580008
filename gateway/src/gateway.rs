//! The gateway: construction, serving and shutdown.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::admission::forwarded::TrustedProxies;
use crate::admission::limits::Limits;
use crate::admission::origin::OriginPolicy;
use crate::auth::Auth;
use crate::config::{Config, ConfigError};
use crate::context::Context;
use crate::drain::{self, Drain, Phase};
use crate::http::{self, server};
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::upstream::{Dial, Upstreams};

/// A gateway. Clones are cheap and share everything.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use hopmq_gateway::{Config, Gateway};
///
/// let gateway = Gateway::new(Config::default())?;
/// let listener = tokio::net::TcpListener::bind(gateway.config().listen).await?;
/// gateway.serve(listener, async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Gateway {
    context: Arc<Context>,
}

/// Builds a [`Gateway`].
pub struct Builder {
    config: Config,
    upstreams: Vec<Box<dyn Dial>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Builder {
    /// Connects browsers to a broker by `dial` in place of `upstream.hosts`, for example to a broker in the same
    /// process. Each call adds a broker.
    #[must_use]
    pub fn upstream(mut self, dial: impl Dial + 'static) -> Self {
        self.upstreams.push(Box::new(dial));
        self
    }

    /// Checks the settings and reads the files that they name.
    ///
    /// # Errors
    /// [`ConfigError`] if a setting cannot be used.
    pub fn build(self) -> Result<Gateway, ConfigError> {
        let Self { config, upstreams } = self;
        config.check()?;
        Ok(Gateway {
            context: Arc::new(Context {
                origins: OriginPolicy::new(&config.origin),
                trusted_proxies: TrustedProxies::new(&config.proxy),
                upstreams: Upstreams::new(&config.upstream, upstreams)?,
                limits: Limits::new(config.limits.clone()),
                metrics: Metrics::default(),
                log_limit: LogLimit::default(),
                drain: Drain::new(),
                auth: Auth::new(&config)?.map(Arc::new),
                loopback_users: config.auth.loopback_users.clone().into(),
                config,
            }),
        })
    }
}

impl Gateway {
    /// Creates a gateway that connects to the `upstream.hosts` of the settings.
    ///
    /// # Errors
    /// [`ConfigError`] if a setting cannot be used.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::builder(config).build()
    }

    /// Returns a builder of a gateway with these settings.
    pub fn builder(config: Config) -> Builder {
        Builder { config, upstreams: Vec::new() }
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.context.config
    }

    /// Returns a router for another server. Every path accepts WebSockets. Requests must carry axum's
    /// `ConnectInfo<SocketAddr>`: without it, the client's address is unknown, and WebSockets are refused with 500.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.context))
    }

    /// Returns the number of open WebSockets.
    pub fn connections(&self) -> usize {
        self.context.limits.connections()
    }

    /// Serves until `stop` completes, and then closes all WebSockets as [`drain`](Self::drain) does.
    ///
    /// The caller binds `listener`, so its port is known before this is awaited; `admin` is bound here.
    ///
    /// # Errors
    /// [`io::Error`] if `admin` is set and its address cannot be bound.
    ///
    /// # Cancellation
    /// Dropping the future drops the listeners at once. Open WebSockets are closed within `drain.spread`, as long as
    /// the runtime lives.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        let context = &self.context;
        let admin = match context.config.admin {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
                io::Error::new(error.kind(), format!("admin: cannot listen on {address}: {error}"))
            })?),
            None => None,
        };
        let _drain_on_drop = DrainOnDrop(context);
        let (possible, wanted) = (context.limits.connections_max(), context.config.limits.connections);
        if possible < wanted {
            warn!(
                "the process may open too few files for limits.connections, {wanted}: it admits {possible}; \
                 raise ulimit -n"
            );
        }
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening for WebSockets");
        }
        let admin = async {
            match admin {
                Some(listener) => server::serve(context, listener, http::admin(Arc::clone(context))).await,
                None => std::future::pending().await,
            }
        };
        let serving = async {
            let keys = async {
                match &context.auth {
                    Some(auth) => auth.refresh().await,
                    None => std::future::pending().await,
                }
            };
            tokio::join!(server::serve(context, listener, self.router()), admin, context.upstreams.check(), keys);
        };
        let stopping = async {
            stop.await;
            self.drain().await;
        };
        tokio::select! {
            () = serving => {}
            () = stopping => {}
        }
        Ok(())
    }

    /// Closes all WebSockets, and refuses new ones from now on.
    ///
    /// Each browser gets `connection.close` 320 and the WebSocket close 1001 at a random time within `drain.spread`, or
    /// within 5 ms for each browser if that is sooner.
    /// WebSockets that are still open at `drain.deadline` are closed at once and dropped after
    /// `websocket.close_timeout`.
    pub async fn drain(&self) {
        let config = &self.context.config;
        let phase = &self.context.drain;
        let spread = config.drain.spread.0.min(drain::spread_for(self.connections()));
        phase.set(Phase::Draining { spread });
        info!(connections = self.connections(), "draining");
        if timeout(config.drain.deadline.0, self.all_closed()).await.is_err() {
            let connections = self.connections();
            warn!(connections, "drain.deadline has passed; closing the remaining connections");
            phase.set(Phase::Over);
            let _ = timeout(config.websocket.close_timeout.0, self.all_closed()).await;
        }
    }

    async fn all_closed(&self) {
        while self.connections() > 0 {
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Drains the sessions when the future of [`Gateway::serve`] is dropped.
struct DrainOnDrop<'a>(&'a Context);

impl Drop for DrainOnDrop<'_> {
    fn drop(&mut self) {
        if self.0.drain.is_serving() {
            self.0.drain.set(Phase::Draining { spread: self.0.config.drain.spread.0 });
        }
    }
}
