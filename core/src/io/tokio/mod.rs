//! Sockets and timers on tokio's reactor.

mod stream;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq_proto::Time;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::error::{Error, ErrorKind, Result};
use crate::io::connector::Connector;
use crate::io::dial::{AnyTransport, Host, Rotation, Target, unreachable};
use crate::io::race::Network;
use crate::io::timer::{Clock, Timer};
use stream::TokioIo;

impl Target {
    async fn connect_tokio_to(&self, host: &Host) -> Result<AnyTransport> {
        if self.scheme.is_unix() {
            return self.tokio_unix_socket().await;
        }
        let socket = self.socket(&TokioNetwork, host).await?;
        self.tune(&socket).map_err(|error| unreachable(&host.address, error))?;
        self.layer(&host.address, TokioIo(socket)).await
    }

    #[cfg(all(feature = "unix", unix))]
    async fn tokio_unix_socket(&self) -> Result<AnyTransport> {
        let path = &self.path;
        match tokio::net::UnixStream::connect(path).await {
            Ok(socket) => Ok(Box::new(TokioIo(socket))),
            Err(error) => Err(Error::with_source(ErrorKind::Io, format!("{path} can't be reached"), error)),
        }
    }

    #[cfg(not(all(feature = "unix", unix)))]
    async fn tokio_unix_socket(&self) -> Result<AnyTransport> {
        Err(Error::new(ErrorKind::Config, "amqp+unix:// is not compiled in: enable the feature `unix` of hopmq"))
    }
}

/// Sockets and timers on tokio's reactor.
struct TokioNetwork;

impl Network for TokioNetwork {
    type Socket = TcpStream;

    async fn unblock<T: Send + 'static>(
        &self,
        function: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        tokio::task::spawn_blocking(function).await?
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Connects to the hosts of a [`Builder`](crate::Builder) in turn, with tokio's sockets.
#[derive(Debug)]
pub struct TokioConnector {
    target: Target,
    rotation: Rotation,
}

impl TokioConnector {
    pub(crate) fn new(target: &Target) -> Self {
        Self { target: target.clone(), rotation: Rotation::new(target) }
    }

    fn connect_to(&self, host: Result<Host>) -> <Self as Connector>::Connecting {
        let target = self.target.clone();
        Box::pin(async move { target.connect_tokio_to(&host?).await })
    }
}

impl Connector for TokioConnector {
    type Transport = AnyTransport;
    type Connecting = Pin<Box<dyn Future<Output = Result<AnyTransport>> + Send>>;

    fn connect(&mut self) -> Self::Connecting {
        let host = self.rotation.advance();
        self.connect_to(host)
    }

    fn addresses_left(&self) -> usize {
        self.rotation.addresses_left()
    }

    fn connect_again(&mut self) -> Self::Connecting {
        let host = self.rotation.again();
        self.connect_to(host)
    }

    fn hosts(&self) -> usize {
        self.rotation.len()
    }

    fn host(&self) -> String {
        self.rotation.current()
    }
}

/// A timer on tokio's runtime.
#[derive(Debug)]
pub struct TokioTimer {
    epoch: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Default for TokioTimer {
    /// Creates a timer whose epoch is now.
    fn default() -> Self {
        Self { epoch: Instant::now(), sleep: None }
    }
}

impl Timer for TokioTimer {
    fn clock(&self) -> Clock {
        let epoch = self.epoch;
        Clock::new(move || Time::from_epoch(epoch.elapsed()))
    }

    fn poll_until(&mut self, deadline: Time, context: &mut Context<'_>) -> Poll<()> {
        // A deadline beyond the range of tokio's clock never comes.
        let Some(instant) = self.epoch.checked_add(deadline.since_epoch()) else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(instant)));
        if sleep.deadline() != instant {
            sleep.as_mut().reset(instant);
        }
        sleep.as_mut().poll(context)
    }
}
