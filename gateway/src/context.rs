//! What all sessions share.

use std::fmt;
use std::sync::Arc;

use crate::admission::forwarded::TrustedProxies;
use crate::admission::limits::Limits;
use crate::admission::origin::OriginPolicy;
use crate::auth::Auth;
use crate::config::Config;
use crate::drain::Drain;
use crate::log_limit::LogLimit;
use crate::metrics::Metrics;
use crate::upstream::Upstreams;

/// What all sessions share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) origins: OriginPolicy,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) upstreams: Upstreams,
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Metrics,
    pub(crate) log_limit: LogLimit,
    pub(crate) drain: Drain,
    /// `None` if RabbitMQ authenticates all clients.
    pub(crate) auth: Option<Arc<Auth>>,
    /// `auth.loopback_users`
    pub(crate) loopback_users: Arc<[String]>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("config", &self.config).finish_non_exhaustive()
    }
}
