//! Ending in order, in one call: nothing new is taken in, what is in hand is finished, what was published is confirmed.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::debug;

use crate::state::{Settling, Shared};
use crate::{Connection, Error, ErrorKind, Result};

impl Connection {
    /// Ends the connection in order, within `deadline`: consumers are cancelled, and what they had not handed out goes
    /// back to the queues; what was handed out is waited for until it is settled; what was published is sent and its
    /// confirms are awaited; then the connection is closed. Publishing and settling go on until then, so that work in
    /// hand can be finished.
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
    /// [`ErrorKind::Timeout`] if something was not finished in time: it says what. The connection is closed all the
    /// same. Those of [`Connection::close`].
    pub async fn shutdown(&self, deadline: Duration) -> Result<()> {
        let shared = self.shared();
        let end = shared.clock.now() + deadline;
        let cancels = shared.stop_consuming(end);
        debug!(consumers = cancels.len(), "shutting down");
        let mut settling = Shutdown { shared, settling: Settling::new(cancels, end) };
        let settled = poll_fn(|context| settling.poll(context)).await;
        drop(settling);
        let left = end - shared.clock.now();
        let in_hand = shared.in_hand();
        let closed = self.within(left).close().await;
        match (settled, closed) {
            (Err(_), Ok(()) | Err(_)) if in_hand > 0 => Err(Error::new(
                ErrorKind::Timeout,
                format!(
                    "shut down while {in_hand} deliveries were not settled in time: the broker delivers them again"
                ),
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
