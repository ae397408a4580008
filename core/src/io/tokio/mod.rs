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

use crate::error::Result;
#[cfg(all(feature = "unix", unix))]
use crate::io::dial::no_such_socket;
#[cfg(not(all(feature = "unix", unix)))]
use crate::io::dial::no_unix;
use crate::io::dial::{AnyTransport, Host, Target, unreachable};
use crate::io::race::Network;
use crate::io::timer::{Clock, Timer};
use stream::TokioIo;

impl Target {
    /// Connects to `host` with a socket on tokio's reactor.
    pub(crate) async fn connect_tokio_to(&self, host: &Host) -> Result<AnyTransport> {
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
        let socket = tokio::net::UnixStream::connect(path).await;
        Ok(Box::new(TokioIo(socket.map_err(|error| no_such_socket(path, error))?)))
    }

    #[cfg(not(all(feature = "unix", unix)))]
    async fn tokio_unix_socket(&self) -> Result<AnyTransport> {
        Err(no_unix())
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
