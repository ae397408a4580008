//! The gateway as a whole: what all sessions share, and its life from the first connection to the last goodbye.

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
use crate::drain::{Drain, Phase};
use crate::http::{self, server};
use crate::metrics::Metrics;
use crate::upstream::{Dial, Upstreams};

/// A gateway, ready to serve. Cheap to clone: all clones are one.
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

/// Puts a gateway together.
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
    /// Connects browsers to a broker by other means than `upstream.hosts`, for instance to one in this process.
    #[must_use]
    pub fn upstream(mut self, dial: impl Dial + 'static) -> Self {
        self.upstreams.push(Box::new(dial));
        self
    }

    /// Checks the settings and reads what they refer to.
    ///
    /// # Errors
    /// If a setting can't be used; the error names it.
    pub fn build(self) -> Result<Gateway, ConfigError> {
        let Self { config, upstreams } = self;
        config.check()?;
        Ok(Gateway {
            context: Arc::new(Context {
                origins: OriginPolicy::new(&config.origin),
                proxies: TrustedProxies::new(&config.proxy),
                upstreams: Upstreams::new(&config.upstream, upstreams)?,
                limits: Limits::new(config.limits.clone()),
                metrics: Metrics::default(),
                drain: Drain::new(),
                auth: Auth::new(&config)?.map(Arc::new),
                config,
            }),
        })
    }
}

impl Gateway {
    /// A gateway with these settings, whose `upstream.hosts` it connects to.
    ///
    /// # Errors
    /// If a setting can't be used; the error names it.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::builder(config).build()
    }

    /// Starts to put a gateway together.
    pub fn builder(config: Config) -> Builder {
        Builder { config, upstreams: Vec::new() }
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.context.config
    }

    /// The gateway as a part of another server: every path takes WebSockets. Each request must carry axum's
    /// `ConnectInfo<SocketAddr>`; without, nobody's address is known and all are refused.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.context))
    }

    /// Browsers that are connected.
    pub fn connections(&self) -> usize {
        self.context.limits.connections()
    }

    /// Serves until `stop` is done, then says goodbye to everybody, within `drain.deadline`. The program's own
    /// listeners are bound by the caller, so that their ports are known before this is awaited.
    ///
    /// # Errors
    /// If the address of `admin` can't be listened on.
    ///
    /// Dropping the future ends all at once, without a goodbye to those who are not served yet; WebSockets that are
    /// open are told within `drain.spread` as long as the runtime lives.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        let context = &self.context;
        let admin = match context.config.admin {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        let _dropped = Leave(context);
        if let Ok(address) = listener.local_addr() {
            info!(%address, "AMQP over WebSocket");
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

    /// Says goodbye to everybody who is connected and lets nobody in any more: each browser gets `connection.close`
    /// 320 and the WebSocket's 1001 at a moment of `drain.spread`, and what is left after `drain.deadline` is dropped.
    pub async fn drain(&self) {
        let (drain, metrics) = (&self.context.config.drain, &self.context.drain);
        metrics.set(Phase::Draining { spread: drain.spread.0 });
        info!(connections = self.connections(), "draining");
        if timeout(drain.deadline.0, self.empty()).await.is_err() {
            warn!(connections = self.connections(), "the deadline of draining has passed");
            metrics.set(Phase::Over);
            let _ = timeout(self.context.config.websocket.close_timeout.0, self.empty()).await;
        }
    }

    async fn empty(&self) {
        while self.connections() > 0 {
            sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Tells the sessions when serving was given up.
struct Leave<'a>(&'a Context);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.0.drain.is_serving() {
            self.0.drain.set(Phase::Draining { spread: self.0.config.drain.spread.0 });
        }
    }
}
