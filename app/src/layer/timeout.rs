use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Layer;
use crate::alarms::Sleep;
use crate::flow::{Failure, Verdict};
use crate::handler::Slot;
use crate::incoming::Incoming;

/// Ends handlers that take too long: the handler's future is dropped, and the message is tried again as a failure of
/// the class `timeout`.
///
/// A function on a pool of threads ([`cpu`](crate::cpu), blocking handlers) can't be ended: it runs on, what it returns
/// is dropped, and its message may be handled a second time meanwhile.
///
/// ```
/// use std::time::Duration;
/// use hopmq_app::{App, Queue, Timeout};
///
/// let app = App::new(())
///     .layer(Timeout::after(Duration::from_secs(30)))
///     .route(Queue::new("orders"), || async {});
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    after: Duration,
}

impl Timeout {
    /// Returns a layer that ends handlers after this time. The time begins when the handler is called: what waits in a
    /// layer that was added before this one counts, and what waits in one that was added later does not.
    pub fn after(time: Duration) -> Self {
        Self { after: time }
    }
}

impl<S, T: Slot<S> + 'static> Layer<S, T> for Timeout {
    type Slot = Limited<T>;

    fn wrap(&self, inner: T) -> Limited<T> {
        Limited { inner, after: self.after, sleep: None }
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Limited<T> {
    inner: T,
    after: Duration,
    sleep: Option<Sleep>,
}

impl<S, T: Slot<S>> Slot<S> for Limited<T> {
    fn start(&mut self, incoming: &mut Incoming, state: &S) -> Option<Verdict> {
        self.sleep = Some(incoming.context().sleep(self.after));
        self.inner.start(incoming, state)
    }

    fn poll(&mut self, incoming: &mut Incoming, state: &S, task: &mut Context<'_>) -> Poll<Verdict> {
        if let Poll::Ready(verdict) = self.inner.poll(incoming, state, task) {
            self.sleep = None;
            return Poll::Ready(verdict);
        }
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        if Pin::new(sleep).poll(task).is_pending() {
            return Poll::Pending;
        }
        self.sleep = None;
        self.inner.clear();
        let text = format!("the handler did not end within {:?}", self.after);
        Poll::Ready(Verdict::Retry(Failure::new("timeout", text)))
    }

    fn clear(&mut self) {
        self.sleep = None;
        self.inner.clear();
    }
}
