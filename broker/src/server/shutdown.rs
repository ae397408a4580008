//! The end of a broker: its connections are closed, and the clients that take part in that are waited for.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::Poll;
use std::time::Duration;

use super::Broker;

impl Broker {
    /// Shuts the broker down: accepts no more clients, closes all connections with 320, and waits until the clients
    /// have closed them as well, at most `within`. A client that sends and takes nothing for 300 ms is not waited for.
    /// All durable data is synced once the last [`Broker`] is dropped.
    pub async fn shut_down(self, within: Duration) {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.0.close_all();
        self.wait_until_empty(within).await;
    }

    /// Waits until all connections are closed, at most `within`.
    async fn wait_until_empty(&self, within: Duration) {
        let mut deadline = async_io::Timer::after(within);
        poll_fn(|context| {
            while self.tick() {}
            let mut state = self.0.shared.lock();
            if state.is_empty() {
                return Poll::Ready(());
            }
            state.wake_when_empty(context.waker());
            drop(state);
            Pin::new(&mut deadline).poll(context).map(drop)
        })
        .await;
    }
}
