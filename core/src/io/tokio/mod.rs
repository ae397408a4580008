//! Sockets and timers on tokio's reactor.

mod stream;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hopmq_proto::Time;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::error::{Error, ErrorKind, Result};
use crate::io::connector::Connector;
use crate::io::dial::{AnyTransport, Rotation, Target, unreachable};
use crate::io::timer::{Clock, Timer};
use crate::uri::Address;
use stream::TokioIo;

impl Target {
    async fn connect_tokio_to(&self, address: Address) -> Result<AnyTransport> {
        if self.scheme.is_unix() {
            return self.tokio_unix_socket().await;
        }
        let socket = TcpStream::connect((address.host.as_str(), address.port)).await;
        let socket = socket.map_err(|error| unreachable(&address, error))?;
        socket.set_nodelay(true).map_err(|error| unreachable(&address, error))?;
        self.tune(&socket).map_err(|error| unreachable(&address, error))?;
        self.layer(&address, TokioIo(socket)).await
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
}

impl Connector for TokioConnector {
    type Transport = AnyTransport;
    type Connecting = Pin<Box<dyn Future<Output = Result<AnyTransport>> + Send>>;

    fn connect(&mut self) -> Self::Connecting {
        let target = self.target.clone();
        let address = self.rotation.advance();
        Box::pin(async move { target.connect_tokio_to(address?).await })
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
