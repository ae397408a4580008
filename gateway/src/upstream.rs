//! The RabbitMQs behind the gateway: which are there, and a connection to the one with the fewest.

mod dial;
pub(crate) mod tls;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{interval, timeout};
use tracing::{info, warn};

use crate::config::{self, ConfigError};
pub use dial::{Dial, Dialing, Io};

/// All hosts.
#[derive(Debug)]
pub(crate) struct Upstreams {
    hosts: Vec<Arc<Host>>,
    connect_timeout: Duration,
    check_interval: Duration,
}

struct Host {
    name: String,
    dial: Box<dyn Dial>,
    up: AtomicBool,
    connections: AtomicUsize,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("name", &self.name).field("up", &self.up).finish_non_exhaustive()
    }
}

/// A connection to a host, counted as long as it is there.
pub(crate) struct Stream {
    io: Box<dyn Io>,
    host: Arc<Host>,
}

impl Upstreams {
    pub(crate) fn new(config: &config::Upstream, extra: Vec<Box<dyn Dial>>) -> Result<Self, ConfigError> {
        let mut hosts: Vec<Box<dyn Dial>> = extra;
        if hosts.is_empty() {
            for host in &config.hosts {
                hosts.push(dial::dialer(host, config)?);
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
        })
    }

    /// Connects to a host that is up, the one with the fewest connections first; then to those that seem down.
    ///
    /// # Errors
    /// If none can be reached: why the last one could not.
    pub(crate) async fn connect(&self) -> Result<Stream, String> {
        let mut hosts: Vec<&Arc<Host>> = self.hosts.iter().collect();
        hosts.sort_by_key(|host| (!host.is_up(), host.connections.load(Ordering::Relaxed)));
        let mut why = "no RabbitMQ is configured".to_owned();
        for host in hosts {
            match self.dial(host).await {
                Ok(io) => {
                    host.connections.fetch_add(1, Ordering::Relaxed);
                    return Ok(Stream { io, host: Arc::clone(host) });
                }
                Err(error) => {
                    warn!(host = host.name, %error, "RabbitMQ can't be reached");
                    why = "no RabbitMQ can be reached at the moment".to_owned();
                }
            }
        }
        Err(why)
    }

    async fn dial(&self, host: &Host) -> io::Result<Box<dyn Io>> {
        let outcome = match timeout(self.connect_timeout, host.dial.dial()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long")),
        };
        let was_up = host.up.swap(outcome.is_ok(), Ordering::Relaxed);
        match &outcome {
            Ok(_) if !was_up => info!(host = host.name, "RabbitMQ is there again"),
            Err(error) if was_up => warn!(host = host.name, %error, "RabbitMQ can't be reached"),
            _ => {}
        }
        outcome
    }

    /// Asks all hosts again and again whether they are there.
    pub(crate) async fn check(&self) {
        let mut ticks = interval(self.check_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for host in &self.hosts {
                // RabbitMQ takes a connection that says nothing for a load balancer's question, and does not log it.
                let _closed_at_once = self.dial(host).await;
            }
        }
    }

    /// Whether any host is up.
    pub(crate) fn any_up(&self) -> bool {
        self.hosts.iter().any(|host| host.is_up())
    }

    /// Names, whether they are up, and connections.
    pub(crate) fn report(&self) -> Vec<(&str, bool, usize)> {
        let report = |host: &'_ Arc<Host>| (host.is_up(), host.connections.load(Ordering::Relaxed));
        self.hosts.iter().map(|host| (host.name.as_str(), report(host).0, report(host).1)).collect()
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
