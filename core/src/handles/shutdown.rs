//! Graceful shutdown: stop consuming, finish the work in progress, confirm the publishes, close.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::debug;

use crate::state::{Settling, Shared};
use crate::{Connection, Error, ErrorKind, Result};

impl Connection {
    /// Shuts the connection down gracefully, within `deadline`.
    ///
    /// All consumers are cancelled, and undelivered messages go back to the queues. Then the method waits until the
    /// delivered messages are settled and all publishes are confirmed, and closes the connection. Publishing and
    /// settling are possible until then, so that work in progress can finish.
    ///
    /// ```no_run
    /// # async fn example(connection: hopmq::Connection) -> hopmq::Result<()> {
    /// # async fn sigterm() {}
    /// sigterm().await;
    /// connection.shutdown(std::time::Duration::from_secs(20)).await
    /// # }
    /// ```
    ///
    /// Dropping the future leaves the consumers cancelled and the connection open.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if deliveries were not settled in time; the connection is closed in this case too.
    /// Otherwise those of [`Connection::close`].
    pub async fn shutdown(&self, deadline: Duration) -> Result<()> {
        let shared = self.shared();
        let end = shared.clock.now() + deadline;
        let cancels = shared.stop_consuming(end);
        debug!(consumers = cancels.len(), "shutting down");
        let mut settling = Shutdown { shared, settling: Settling::new(cancels, end) };
        let settled = poll_fn(|context| settling.poll(context)).await;
        drop(settling);
        let left = end - shared.clock.now();
        let unsettled = shared.unsettled();
        let closed = self.within(left).close().await;
        match (settled, closed) {
            (Err(_), Ok(()) | Err(_)) if unsettled > 0 => Err(Error::new(
                ErrorKind::Timeout,
                format!("{unsettled} deliveries were not settled before the deadline: the broker will redeliver them"),
            )),
            (_, closed) => closed,
        }
    }
}

/// A future that waits until the consumers are cancelled and all deliveries are settled.
struct Shutdown<'a> {
    shared: &'a Shared,
    settling: Settling,
}

impl Shutdown<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.shared.poll_settled(&mut self.settling, context.waker())
    }
}

impl Drop for Shutdown<'_> {
    fn drop(&mut self) {
        self.shared.forget_settling(&self.settling);
    }
}
