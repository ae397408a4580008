//! The end of a broker: its connections are closed, and the clients that take part in that are waited for.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::PoisonError;
use std::task::Poll;
use std::time::Duration;

use super::Broker;

/// How long a client may neither send nor read before a shutdown does not wait for it any more.
const QUIET: Duration = Duration::from_millis(500);

impl Broker {
    /// Shuts the broker down: accepts no more clients, closes all connections with 320, and waits until they are
    /// closed, at most `within`. A client that neither sends nor reads for half a second, as one that is idle, is not
    /// waited for: the reason is in its socket. All durable data is synced once the last [`Broker`] is dropped.
    pub async fn shut_down(self, within: Duration) {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.close_all();
        let mut empty = pin!(self.wait_until_empty(within));
        let mut look = async_io::Timer::after(QUIET);
        poll_fn(|context| {
            while empty.as_mut().poll(context).is_pending() {
                if Pin::new(&mut look).poll(context).is_pending() {
                    return Poll::Pending;
                }
                if self.0.shared.lock().engine.is_quiet(self.clock().now(), QUIET) {
                    break;
                }
                look.set_after(QUIET / 10);
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Waits until all connections are closed, at most `within`.
    async fn wait_until_empty(&self, within: Duration) {
        let mut deadline = async_io::Timer::after(within);
        poll_fn(|context| {
            while self.tick() {}
            let mut state = self.0.shared.lock();
            if state.engine.session_count() == 0 {
                return Poll::Ready(());
            }
            state.wake_when_empty(context.waker());
            drop(state);
            Pin::new(&mut deadline).poll(context).map(drop)
        })
        .await;
    }
}
