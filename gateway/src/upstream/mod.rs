//! The RabbitMQ hosts behind the gateway: their health, and connections to the least busy one.

mod dial;
mod proxy_protocol;
pub(crate) mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{interval, timeout};
use tracing::{debug, info, warn};

use crate::admission::files;
use crate::config::{self, ConfigError};
pub use dial::{Dial, Dialing, Io};

/// All hosts.
#[derive(Debug)]
pub(crate) struct Upstreams {
    hosts: Vec<Arc<Host>>,
    connect_timeout: Duration,
    check_interval: Duration,
    /// Whether any host was up when that was last looked at.
    was_any_up: AtomicBool,
}

struct Host {
    name: String,
    dial: Box<dyn Dial>,
    up: AtomicBool,
    connections: AtomicUsize,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.name).field("up", &self.up).finish_non_exhaustive()
    }
}

/// A connection to a host. The host counts it until it is dropped.
pub(crate) struct Stream {
    io: Box<dyn Io>,
    host: Arc<Host>,
}

/// No host can be reached. Browsers see the text, so it does not name the hosts; the log does.
#[derive(Debug)]
pub(crate) struct Unreachable;

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the gateway can reach no broker (1013); try again later")
    }
}

impl std::error::Error for Unreachable {}

impl Upstreams {
    /// Connects by `extra`, or to the hosts of the settings if `extra` is empty.
    pub(crate) fn new(config: &config::Upstream, extra: Vec<Box<dyn Dial>>) -> Result<Self, ConfigError> {
        let mut hosts: Vec<Box<dyn Dial>> = extra;
        if hosts.is_empty() {
            for (index, host) in config.hosts.iter().enumerate() {
                hosts.push(dial::dialer(index, host, config)?);
            }
        }
        let host = |dial: Box<dyn Dial>| {
            let name = dial.name().to_owned();
            Arc::new(Host { name, dial, up: AtomicBool::new(true), connections: AtomicUsize::new(0) })
        };
        Ok(Self {
            hosts: hosts.into_iter().map(host).collect(),
            connect_timeout: config.connect_timeout.0,
            check_interval: config.check_interval.0,
            was_any_up: AtomicBool::new(true),
        })
    }

    /// Connects to the host with the fewest connections; on failure, tries the others, those that seem down last.
    ///
    /// # Errors
    /// [`Unreachable`] if no host accepts the connection within `upstream.connect_timeout` each.
    pub(crate) async fn connect(&self, client: SocketAddr) -> Result<Stream, Unreachable> {
        let mut hosts: Vec<&Arc<Host>> = self.hosts.iter().collect();
        hosts.sort_by_key(|host| (!host.is_up(), host.connections.load(Ordering::Relaxed)));
        for host in hosts {
            match self.dial(host, host.dial.dial_for(client)).await {
                Ok(io) => {
                    host.connections.fetch_add(1, Ordering::Relaxed);
                    return Ok(Stream { io, host: Arc::clone(host) });
                }
                // The change of state is logged, and not each page that meets it.
                Err(error) => debug!(host = host.name, %error, "cannot connect to RabbitMQ"),
            }
        }
        Err(Unreachable)
    }

    async fn dial(&self, host: &Host, dialing: Dialing<'_>) -> io::Result<Box<dyn Io>> {
        let outcome = match timeout(self.connect_timeout, dialing).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {:?}", self.connect_timeout)))
            }
        };
        if let Err(error) = &outcome
            && files::are_exhausted(error)
        {
            // That says nothing about the host.
            debug!(host = host.name, %error, "cannot open a socket to RabbitMQ");
            return outcome;
        }
        let was_up = host.up.swap(outcome.is_ok(), Ordering::Relaxed);
        match &outcome {
            Ok(_) if !was_up => info!(host = host.name, "RabbitMQ is reachable again"),
            Err(error) if was_up => warn!(host = host.name, %error, "RabbitMQ is not reachable"),
            _ => {}
        }
        let any_up = self.any_up();
        match (self.was_any_up.swap(any_up, Ordering::Relaxed), any_up) {
            (true, false) => warn!("no RabbitMQ can be reached: pages are closed with 1013 until one can"),
            (false, true) => info!("pages can connect again"),
            _ => {}
        }
        outcome
    }

    /// Connects to each host every `upstream.check_interval` to learn whether it is up. Never completes.
    pub(crate) async fn check(&self) {
        let mut ticks = interval(self.check_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for host in &self.hosts {
                // RabbitMQ does not log connections that send nothing: load balancers check it in this way too.
                let _closed_at_once = self.dial(host, host.dial.dial()).await;
            }
        }
    }

    /// Whether any host is up.
    pub(crate) fn any_up(&self) -> bool {
        self.hosts.iter().any(|host| host.is_up())
    }

    /// Returns, for each host, its name, whether it is up, and the number of its connections.
    pub(crate) fn report<'a>(&'a self) -> Vec<(&'a str, bool, usize)> {
        let report = |host: &'a Arc<Host>| (host.name.as_str(), host.is_up(), host.connections.load(Ordering::Relaxed));
        self.hosts.iter().map(report).collect()
    }
}

impl Host {
    fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.host.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
