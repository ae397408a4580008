//! Graceful shutdown: stop consuming, finish the work in progress, confirm the publishes, close.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq_proto::Time;
use tracing::debug;

use crate::state::{ConsumerEnd, RequestKind, Shared, State, register};
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
        let cancels = shared.with(|state| state.stop_consuming(end));
        debug!(consumers = cancels.len(), "shutting down");
        let mut settling = Settling { shared, cancels, key: None, alarm: None, end };
        let settled = poll_fn(|context| settling.poll(context)).await;
        drop(settling);
        let left = end - shared.clock.now();
        let in_hand = shared.with(State::in_hand);
        let closed = self.within(left).close().await;
        match (settled, closed) {
            (Err(_), Ok(()) | Err(_)) if in_hand > 0 => Err(Error::new(
                ErrorKind::Timeout,
                format!("{in_hand} deliveries were not settled before the deadline: the broker will redeliver them"),
            )),
            (_, closed) => closed,
        }
    }
}

impl State {
    /// Cancels all consumers and requeues undelivered messages. Returns the cancel requests.
    fn stop_consuming(&mut self, deadline: Time) -> Vec<u64> {
        let going = self.consumers.iter_mut().filter(|(_, consumer)| consumer.end.is_none() && !consumer.dropped);
        let keys: Vec<u64> = going.map(|(key, _)| key).collect();
        let mut requests = Vec::new();
        for key in keys {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            let (channel, no_ack) = (consumer.channel, consumer.no_ack);
            consumer.stopped = true;
            if !no_ack {
                consumer.stock.stop();
                for delivery in std::mem::take(&mut consumer.queue) {
                    self.buffered = self.buffered.saturating_sub(delivery.cost());
                    // Fails if the delivery was already settled by an earlier `multiple` ack.
                    let _ = self.proto.reject(channel, delivery.tag, true);
                }
            }
            match self.cancel_consumer(key, deadline) {
                Ok(request) => requests.push(request),
                Err(error) => self.end_consumer(key, ConsumerEnd::Failed(error)),
            }
        }
        self.nudge = true;
        requests
    }

    /// Wakes the waiting shutdowns once all deliveries are settled.
    #[cold]
    pub(crate) fn tell_settlers(&mut self) {
        if self.in_hand() == 0 {
            self.wakes.extend(self.settlers.iter_mut().filter_map(|(_, waker)| waker.take()));
        }
    }
}

/// A shutdown that waits until the consumers are cancelled and all deliveries are settled.
struct Settling<'a> {
    shared: &'a Shared,
    cancels: Vec<u64>,
    key: Option<u64>,
    alarm: Option<u64>,
    end: Time,
}

impl Settling<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let waker = context.waker();
        let Self { shared, cancels, key, alarm, end } = self;
        shared.with(|state| {
            // Losing the link cancels the consumers too. Requests that have ended are dropped from the list.
            cancels.retain(|request| state.poll_request(*request, waker).is_pending());
            if state.ended || cancels.is_empty() && state.in_hand() == 0 {
                return Poll::Ready(Ok(()));
            }
            let key = *key.get_or_insert_with(|| state.settlers.insert(None));
            if let Some(slot) = state.settlers.get_mut(key) {
                register(slot, waker, &mut state.spent);
            }
            let alarm = *alarm.get_or_insert_with(|| state.insert_request(0, RequestKind::Confirm, *end));
            state.poll_request(alarm, waker).map(|late| late.map(drop))
        })
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        let Self { shared, cancels, key, alarm, .. } = self;
        let waker = shared.with(|state| {
            cancels.iter().chain(alarm.iter()).for_each(|request| state.abandon(*request));
            key.and_then(|key| state.settlers.remove(key))
        });
        drop(waker);
    }
}
