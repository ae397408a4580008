use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hopmq::Time;

use super::Layer;
use crate::alarms::Sleep;
use crate::flow::Verdict;
use crate::handler::Slot;
use crate::incoming::Incoming;

/// Warns in the log while a handler is still running after some time, and again each time that the time has doubled: a
/// handler that never ends would be silent otherwise.
///
/// The warning names the queue, the routing key, the message id and the attempt. Nothing else happens: see
/// [`Timeout`](crate::Timeout) for ending a handler.
///
/// ```
/// use std::time::Duration;
/// use hopmq_app::{App, Queue, Slow};
///
/// let app = App::new(()).layer(Slow::after(Duration::from_secs(10))).route(Queue::new("orders"), || async {});
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Slow {
    after: Duration,
}

impl Slow {
    /// Returns a layer that warns after this time, twice this time, four times, …
    pub fn after(time: Duration) -> Self {
        Self { after: time.max(Duration::from_millis(1)) }
    }
}

impl<S, T: Slot<S> + 'static> Layer<S, T> for Slow {
    type Slot = Watched<T>;

    fn wrap(&self, inner: T) -> Watched<T> {
        Watched { inner, after: self.after, watch: None }
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Watched<T> {
    inner: T,
    after: Duration,
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    began: Time,
    next: Duration,
    sleep: Sleep,
}

impl<S, T: Slot<S>> Slot<S> for Watched<T> {
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
        let alarms = incoming.context().alarms();
        self.watch = Some(Watch { began: alarms.now(), next: self.after, sleep: alarms.sleep(self.after) });
        self.inner.start(incoming, state)
    }

    fn poll(&mut self, incoming: &mut Incoming, state: &S, task: &mut Context<'_>) -> Poll<Verdict> {
        if let Poll::Ready(verdict) = self.inner.poll(incoming, state, task) {
            self.watch = None;
            return Poll::Ready(verdict);
        }
        let Some(watch) = &mut self.watch else { return Poll::Pending };
        while Pin::new(&mut watch.sleep).poll(task).is_ready() {
            let running = incoming.context().alarms().now() - watch.began;
            tracing::warn!(
                queue = incoming.queue(),
                routing_key = incoming.routing_key(),
                message_id = incoming.properties().message_id().unwrap_or_default(),
                attempt = incoming.attempt(),
                ?running,
                "a handler is still running",
            );
            while watch.next <= running {
                watch.next *= 2;
            }
            watch.sleep = incoming.context().alarms().until(watch.began + watch.next);
        }
        Poll::Pending
    }

    fn clear(&mut self) {
        self.watch = None;
        self.inner.clear();
    }
}
